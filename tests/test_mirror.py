"""The mirror: the two trees have the same files, names, order and signatures, and stay apart."""

import ast
import functools
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FRAMEWORKS = {"torch", "torchvision", "jax", "jaxlib", "flax", "optax", "chex", "orbax"}
# Who imports what. `compare` alone may import both, and a framework only inside a function, so
# that a bundle can be read and a report written with neither; in the folders `LOADING` a file is
# loaded for one side, and may import that side's framework as it is loaded.
LOADING = ("capture/", "study/demo/")
FORBIDDEN = {
    "jaxnn": {"torch", "torchvision", "torchref", "compare"},
    "torchref": {"jax", "jaxlib", "flax", "optax", "chex", "torchvision", "jaxnn", "compare"},
    "compare": {"torchvision"},
}


def files(package: str) -> list[str]:
    """The relative paths X of a tree's modules."""
    folder = ROOT / package
    found = (p.relative_to(folder).with_suffix("").as_posix() for p in folder.rglob("*.py"))
    return sorted(found)


def rooms(package: str) -> list[str]:
    return [path for path in files(package) if not path.endswith("__init__")]


ROOMS = rooms("torchref")


def imports(tree: ast.AST) -> list[tuple[str, int]]:
    """The top-level packages that a piece of a file imports, with their lines."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name.partition(".")[0], node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append(((node.module or "").partition(".")[0], node.lineno))
    return found


def module_level(tree: ast.Module) -> list[tuple[str, int]]:
    """The same, of what runs when the file is loaded: outside functions and type checking."""

    class Loaded(ast.NodeTransformer):
        def skip(self, node):
            return None

        visit_FunctionDef = visit_AsyncFunctionDef = visit_Lambda = skip

        def visit_If(self, node):
            return None if "TYPE_CHECKING" in ast.unparse(node.test) else self.generic_visit(node)

    return imports(Loaded().visit(tree))


@functools.cache
def load(package: str, room: str):
    return importlib.import_module(f"{package}.{room.replace('/', '.')}")


def public() -> list[tuple[str, str]]:
    """Room and name of everything in an `__all__`, read without importing it."""
    found = []
    for room in ROOMS:
        tree = ast.parse((ROOT / "torchref" / f"{room}.py").read_text())
        for node in tree.body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                found += [(room, name) for name in ast.literal_eval(node.value)]
    return found


def parameters(given) -> dict[str, object]:
    """Keyword -> default (or `empty`) of a constructor or function, in order.

    Left out is what only one side has: Linen's own two fields, and what a training step gets of the
    state, which PyTorch keeps in models and optimizers.
    """
    holders = {"Module", "Optimizer", "TrainState"}
    return {
        name: parameter.default
        for name, parameter in inspect.signature(given).parameters.items()
        if not (isinstance(given, type) and name in {"parent", "name"})
        and holders.isdisjoint(base.__name__ for base in _bases(parameter.annotation))
    }


def _bases(annotation) -> tuple[type, ...]:
    return annotation.__mro__ if isinstance(annotation, type) else ()


def here(package: str, given) -> bool:
    """Whether a tree defines something itself, and does not pass on the framework's."""
    return getattr(given, "__module__", "").partition(".")[0] == package


def test_the_trees_have_the_same_files():
    assert files("jaxnn") == files("torchref")


def test_every_file_has_twins():
    from compare.study.blocks import RUN_BY

    twins = set(rooms("compare/twins"))
    assert twins <= set(ROOMS)
    assert set(ROOMS) - twins == set(RUN_BY)


def test_every_twin_file_names_what_it_joins():
    from compare.discover import catalogue

    catalogued = catalogue()
    named = {name.partition(":")[0] for name in catalogued}
    assert named == set(rooms("compare/twins")), "a twin file without a Twin"
    for name, twin in catalogued.items():
        if twin.torch is None:
            room, _, own = name.partition(":")
            assert (room, twin.of or own) in public(), name


@pytest.mark.parametrize("room", ROOMS)
def test_public_names_and_their_order(room):
    ours, theirs = load("torchref", room), load("jaxnn", room)
    assert ours.__all__ == theirs.__all__
    assert ours.__all__, "an empty __all__"
    for module in (ours, theirs):
        lines = [
            inspect.getsourcelines(getattr(module, name))[1]
            for name in module.__all__
            if getattr(getattr(module, name), "__module__", None) == module.__name__
        ]
        assert lines == sorted(lines), f"{module.__name__} is not in the order of its __all__"


@pytest.mark.parametrize(("room", "name"), public())
def test_signatures(room, name):
    ours, theirs = getattr(load("torchref", room), name), getattr(load("jaxnn", room), name)
    if not here("torchref", ours):
        # The framework's own: what the mirror takes, that takes, with the same defaults.
        known = {} if inspect.isbuiltin(ours) else parameters(ours)  # C functions have no signature
        shared = known.keys() & parameters(theirs).keys()
        if not shared:
            pytest.skip("torch's own function shows no keyword that could be compared")
        for keyword in shared:
            assert known[keyword] == parameters(theirs)[keyword], keyword
        return
    assert list(parameters(ours).items()) == list(parameters(theirs).items())


@pytest.mark.parametrize(("room", "name"), public())
def test_docstrings(room, name):
    for package in ("torchref", "jaxnn"):
        given = getattr(load(package, room), name)
        text = given.__doc__ or ""
        assert text.strip(), f"{package}/{room}.py: {name} has no docstring"
        # Linen and dataclasses write a signature where there is none.
        written = isinstance(given, type) and text.startswith(f"{name}(")
        assert not written, f"{package}/{room}.py: {name} has no docstring"


@pytest.mark.parametrize("package", ["torchref", "jaxnn", "compare"])
def test_every_module_has_a_docstring(package):
    for path in files(package):
        text = (ROOT / package / f"{path}.py").read_text()
        assert ast.get_docstring(ast.parse(text)), f"{package}/{path}.py"


@pytest.mark.parametrize("package", list(FORBIDDEN))
def test_import_rules(package):
    broken = []
    for path in files(package):
        tree = ast.parse((ROOT / package / f"{path}.py").read_text())
        for name, line in imports(tree):
            if name in FORBIDDEN[package]:
                broken.append(f"{package}/{path}.py:{line} imports {name}")
        if package == "compare":
            lazily = set(FRAMEWORKS) | {"jaxnn", "torchref"}
            if path.startswith(LOADING):
                sides = ({"torch"}, {"jax", "jaxlib", "flax", "optax", "chex"})
                loaded = {name for name, _ in module_level(tree)}
                if all(loaded & side for side in sides):
                    broken.append(f"{package}/{path}.py imports both frameworks")
                lazily = {"jaxnn", "torchref"}
            for name, line in module_level(tree):
                if name in lazily:
                    broken.append(f"{package}/{path}.py:{line} imports {name} as it is loaded")
    assert not broken, "\n".join(broken)


def test_the_rest_of_compare_loads_no_framework():
    """The same by doing it: what is loaded through another module counts, too."""
    names = [
        f"compare.{path.replace('/', '.')}".removesuffix(".__init__")
        for path in files("compare")
        if path.endswith("/__init__") or not path.startswith(LOADING)
    ]
    names = [name for name in names if not name.endswith("__main__")]
    code = (
        "import importlib, sys\n"
        f"for name in {names!r}:\n"
        "    importlib.import_module(name)\n"
        f"print(*sorted({FRAMEWORKS!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
