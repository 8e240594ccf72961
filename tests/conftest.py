"""Every test runs on the CPU, with one cache of compiled programs for all processes and runs."""

import contextlib
import gc
import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from compare.capture import heap

# Before any framework is imported, by a test or by a process that a test starts.
if os.environ.get("DIPTYCH_DEVICE") != "cuda":  # `make cuda` sets it
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ.setdefault("OMP_NUM_THREADS", "1")
home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(home / "diptych" / "xla"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
os.environ.pop("DIPTYCH_TRACEBACK", None)
heap.one()

PATIENT = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}  # no test is timed
settings.register_profile("default", max_examples=6, derandomize=True, **PATIENT)
settings.register_profile("fuzz", max_examples=100, print_blob=True, **PATIENT)
settings.load_profile("default")

LARGE = 3 << 29  # bytes: 1.5 GiB
# What the helpers assert is told like what a test asserts.
pytest.register_assert_rewrite("tests.toys", "tests.differences", "tests.linalg", "tests.weights")


def pytest_collection_finish():
    """What is loaded by now stays: the collections after every check pass over it."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    """Every test draws the same numbers, whatever its process ran before."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(autouse=True, scope="module")
def freed():
    """Compiled programs are kept for a file of tests, not for the whole run."""
    yield
    _free()


@pytest.fixture(autouse=True)
def small():
    """And not even for a file where they have grown large; CUDA's own libraries always are."""
    yield
    if os.environ.get("DIPTYCH_DEVICE") == "cuda":
        return
    with contextlib.suppress(OSError):  # no Linux
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        if pages * os.sysconf("SC_PAGE_SIZE") > LARGE:
            _free()


@pytest.fixture(scope="session")
def normal():
    """The draws of `tests.arrays`: `normal(seed, *shape)`, whatever other tests drew."""
    from tests import arrays

    return arrays.normal


def _free() -> None:
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()
    if "torch._dynamo" in sys.modules:
        sys.modules["torch._dynamo"].reset()
    gc.collect()
    heap.trim()
