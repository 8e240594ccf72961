"""The report: its page is whole, safe and small, and its lines on a terminal are as promised."""

import copy
import io
import json
import re
import time
from html.parser import HTMLParser

import pytest
from rich.console import Console

from compare.ladder.verdict import DIVERGED, INCONCLUSIVE, NOT_APPLICABLE, SAME
from compare.report import console, figures, html, plots, terminal
from compare.report.report import Report
from compare.report.view import STAGES

VERSIONS = {"diptych": "0.1.0", "jax": "0.10.2", "flax": "0.12.8", "torch": "2.13.0+cpu"}
ENVIRONMENT = {"versions": VERSIONS, "python": "3.11.7", "seed": 0, "matmul": "highest"}
COMPARED = ("4 tensors", "3 layers, 2 modes", "4 + 1 + 3 tensors", "4 params, 8 states", "10 steps")
NASTY = """<script>alert("x")</script>' onload='"""


def stage(name, what, verdict=SAME, **changed):
    return {
        "name": name,
        "verdict": verdict,
        "what": what,
        "compared": 8,
        "worst": 0.0 if name == "weights" else 2.7e-15,
        "worst_tensor": "eval/layer/conv1",
        "limit": 0.0 if name == "weights" else 1e-9,
        "f32_worst": None if name in ("weights", "trajectory") else 0.41,
        "zeros": 0,
        "findings": [],
    } | changed


def layer(name, line, **changed):
    return {
        "mode": "train",
        "torch": name,
        "jax": name.replace(".", "/"),
        "kind": "Conv2d",
        "torch_source": f"torchref/cnn/net.py:{line}",
        "jax_source": f"jaxnn/cnn/net.py:{line + 2}",
        "paired": "name",
        "shape": [8, 6, 28, 28],
        "eval": 7.4e-17,
        "train": 7.4e-17,
        "gradient": 4.4e-16,
        "f32": 0.16,
        "verdict": SAME,
    } | changed


def twin(name="cnn/lenet:LeNet", layers=3, leaves=4, steps=10, **changed):
    return {
        "name": name,
        "verdict": SAME,
        "backends": ["torch:cpu", "xla:cpu"],
        "reference": "torch:cpu",
        "optimizer": "adam",
        "coverage": {
            "leaves": leaves,
            "moved": leaves,
            "buffers": 2,
            "skipped": [],
            "torch_only": [],
            "jax_only": [],
            "lifted": [],
        },
        "stages": [stage(*pair) for pair in zip(STAGES, COMPARED, strict=True)],
        "layers": [layer(f"layer{i // 30}.{i}.conv{i}", i) for i in range(layers)],
        "parameters": [
            {
                "torch": f"layer{i // 30}.{i}.conv{i}.weight",
                "jax": f"layer{i // 30}/{i}/conv{i}/kernel",
                "shape": [512, 2048, 1, 1],
                "gradient": 1.5e-15,
                "f32": 0.12,
                "zero": False,
                "verdict": SAME,
            }
            for i in range(leaves)
        ],
        "trajectory": [
            {
                "step": i + 1,
                "phase": "train",
                "torch_loss": 2.3 - i / 10,
                "jax_loss": 2.3 - i / 10,
                "worst": 3e-16 * (i + 1),
            }
            for i in range(steps)
        ],
        "origin": None,
        "cause": None,
    } | changed


def diverged(name="cnn/lenet:LeNet", layers=3, at=1, **changed):
    """A twin whose layer `at` is the first that differs."""
    entry = twin(name, layers) | {"verdict": DIVERGED}
    for row in entry["layers"]:
        row |= {"gradient": 1e-4, "verdict": DIVERGED}
    for row in entry["layers"][at:]:
        row |= {"eval": 2.6e-4, "train": 2.6e-4}
    row = entry["layers"][at]
    entry["stages"][1] |= {
        "verdict": DIVERGED,
        "worst": 2.6e-4,
        "findings": ["eval/out: 1.6e-04 of 1.0e-09 allowed; worst at [0]: torch 1, jax 2"]
        + [
            f"eval/layer/{r['torch']}: 2.6e-04 of 1.0e-09 allowed; worst at [0]: torch 1, jax 2"
            for r in entry["layers"][at:][:20]
        ],
    }
    entry["origin"] = {
        "stage": "forward",
        "torch": row["torch"],
        "jax": row["jax"],
        "between": None,
        "difference": 2.6e-4,
        "replayed": None,
        "torch_source": row["torch_source"],
        "jax_source": row["jax_source"],
    }
    return entry | changed


def cell():
    """A function without parameters or layers."""
    rungs = [
        stage(n, "outputs, 2 modes")
        if n in ("forward", "gradients")
        else stage(n, "", NOT_APPLICABLE, worst=None, limit=None, f32_worst=None, worst_tensor=None)
        for n in STAGES
    ]
    return twin("rnn/gru:gru_cell", 0, 0, 0, stages=rungs)


def odd():
    """Values that are not finite, or not there."""
    entry = diverged("odd", worst=None)
    entry["layers"][0] |= {
        "eval": None,
        "train": "nan",
        "gradient": "inf",
        "f32": None,
        "kind": None,
    }
    entry["layers"][1] |= {"torch_source": None, "eval": "inf", "gradient": 0.0}
    entry["stages"][1] |= {"worst": "inf", "f32_worst": "nan", "limit": None}
    entry["trajectory"][3] |= {"torch_loss": "nan", "jax_loss": "inf", "worst": "inf"}
    return entry


def gan():
    """Two phases that alternate."""
    entry = twin("gan/dcgan:DCGAN", 12)
    for i, row in enumerate(entry["layers"]):
        row["mode"] = "train.d" if i < 8 else "train.g"
    for i, row in enumerate(entry["trajectory"]):
        row |= {"phase": f"train.{'dg'[i % 2]}", "step": i // 2 + 1}
    return entry


def report(*twins, **changed):
    verdicts = [t["verdict"] for t in twins]
    verdict = next((v for v in (DIVERGED, INCONCLUSIVE) if v in verdicts), SAME)
    run = {"started": "2026-11-23T03:01:03+0000", "seconds": 11.84}
    return {
        "schema": 1,
        "verdict": verdict,
        "twins": list(twins),
        "skipped": [],
        "environment": ENVIRONMENT,
        "run": run,
    } | changed


SKIPPED = [{"backend": "torch:cuda", "reason": "torch finds no CUDA device"}]
UNSURE = twin("unsure", verdict=INCONCLUSIVE)
UNSURE["stages"][4] |= {"verdict": INCONCLUSIVE, "findings": ["the parameters moved by 1e-5 only"]}

REPORTS = {
    "same": report(twin()),
    "many": report(*(twin(f"cnn/n{i}:N") for i in range(8)), skipped=SKIPPED),
    "backends": report(twin(), twin(backends=["torch:cpu", "torch:cpu+compile"])),
    "diverged": report(twin(), diverged(), UNSURE),
    "function": report(cell()),
    "odd": report(odd()),
    "gan": report(gan()),
    "bare": report({"name": "bare", "verdict": SAME}),
    "empty": report(verdict=INCONCLUSIVE),
    "nothing": {},
}


class Page(HTMLParser):
    """Elements, attributes, identifiers, links and text of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.ids, self.links, self.text = [], [], [], ""
        self.attributes = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        self.ids += [v for k, v in attrs if k == "id"]
        self.links += [v for k, v in attrs if k == "href"]

    def handle_data(self, data):
        self.text += data


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("name", REPORTS)
def test_page_is_whole_and_self_contained(name):
    given = REPORTS[name]
    before = copy.deepcopy(given)
    page = html.render(json.loads(json.dumps(given)))
    assert given == before
    assert page.startswith("<!DOCTYPE html>")
    assert not re.search(r"https?://|\bsrc=|url\(|@import|<script|<link|<iframe|javascript:", page)
    seen = Page(page)
    assert not {"script", "link", "img", "iframe", "object", "form"} & set(seen.tags)
    assert len(set(seen.ids)) == len(seen.ids)
    assert {link.removeprefix("#") for link in seen.links} <= set(seen.ids)
    assert ("name", "viewport") in seen.attributes
    assert seen.tags.count("h1") == 1
    for entry in given.get("twins", ()):
        assert entry["name"] in seen.text
        for rung in entry.get("stages", ()):
            assert rung["name"] in seen.text
            assert rung["what"] in seen.text
        for row in entry.get("layers", []) + entry.get("parameters", []):
            assert row["torch"] in seen.text
            assert row["jax"] in seen.text
    for skipped in given.get("skipped", ()):
        assert skipped["reason"] in seen.text


def test_page_escapes_what_users_name():
    entry = diverged(NASTY)
    for row in entry["layers"]:
        row |= {"torch": NASTY + row["torch"], "jax": NASTY, "kind": NASTY, "jax_source": NASTY}
    entry["origin"]["torch"] = entry["layers"][1]["torch"]
    entry["stages"][1]["findings"] = [NASTY]
    entry["stages"][1]["what"] = NASTY
    entry["stages"][1]["worst_tensor"] = NASTY
    entry["parameters"][0] |= {"torch": NASTY, "shape": [NASTY]}
    entry["coverage"]["skipped"] = [NASTY]
    entry["cause"] = {"code": NASTY, "title": NASTY, "confirmed": True, "fix": NASTY, "after": 0.0}
    entry["trajectory"][0]["phase"] = NASTY
    given = report(entry, skipped=[{"backend": NASTY, "reason": NASTY}])
    given["environment"] = {"versions": {NASTY: NASTY}, NASTY: NASTY, "captured": {NASTY: [NASTY]}}
    given["run"] |= {"command": NASTY, "started": NASTY}
    page = html.render(given)
    assert "<script" not in page
    seen = Page(page)
    assert "script" not in seen.tags
    assert not [key for key, _ in seen.attributes if key.startswith("on")]
    assert seen.text.count(NASTY) > 15


def test_a_diverged_page_leads_to_the_origin():
    page = html.render(REPORTS["diverged"])
    seen = Page(page)
    assert seen.text.index("layer 2 of 3") < seen.text.index("Each twin")
    assert "#t2o" in seen.links
    row = page[page.index('id="t2o"') :].partition("<tr")[0]
    assert "layer0.1.conv1" in row
    assert "ORIGIN" in row
    before = page[: page.index('id="t2o"')].rpartition("<tbody>")[2]
    assert '<tr class="b"><td>1<' in before
    assert "the output of the one before it agrees" in seen.text
    for word in (
        "torchref/cnn/net.py:1",
        "jaxnn/cnn/net.py:3",
        "2.6e-04",
        "Of 3 twins, 1 diverges",
    ):
        assert word in seen.text
    assert "the parameters moved by 1e-5 only" in seen.text
    opened = re.findall(r'<details class="twin" id="(t\d)" open>', page)
    assert opened == ["t1", "t2", "t3"]
    assert re.findall(r'id="t(\d)" open', html.render(REPORTS["many"])) == []


@pytest.mark.parametrize(
    ("value", "difference", "limit", "ratio"),
    [
        (None, "-", "-", "-"),
        (0.0, "0", "0", "0"),
        (2.7e-15, "2.7e-15", "2.7e-15", "0.0"),
        (1e-9, "1.0e-09", "1e-09", "0.0"),
        (0.41, "4.1e-01", "4.1e-01", "0.4"),
        (0.999, "1.0e+00", "1e+00", "0.99"),
        (1.001, "1.0e+00", "1e+00", "1.01"),
        (2213.0, "2.2e+03", "2.2e+03", "2.2e+03"),
        ("inf", "inf", "inf", "inf"),
        ("nan", "nan", "nan", "nan"),
        ("-inf", "-inf", "-inf", "-inf"),
        ("?", "-", "-", "-"),
        (True, "-", "-", "-"),
    ],
)
def test_figures(value, difference, limit, ratio):
    assert figures.difference(value) == difference
    assert figures.limit(value) == limit
    assert figures.ratio(value) == ratio


def test_plots_hold_every_point():
    entry = odd()
    outputs, gradients = plots.depth(entry["layers"], 1)
    assert outputs.origin
    assert "inf" in dict(outputs.y).values()
    assert "0" in dict(gradients.y).values()
    assert [path.count("h0") for _, path in outputs.series] == [3, 2]
    assert [path.count("h0") for _, path in gradients.series] == [3]
    losses, steps = plots.trajectory(entry["trajectory"], ("PyTorch", "JAX"))
    assert [path.count("h0") for _, path in losses.series] == [0, 9]
    assert [path.count("h0") for _, path in steps.series] == [0, 10]
    assert not plots.depth([], None)
    assert not plots.trajectory([], ("PyTorch", "JAX"))
    long = plots.depth([layer(f"{i}", i) for i in range(5000)], None)
    assert all(0 < path.count("h0") <= plots.MOST for plot in long for _, path in plot.series)


RESNETS = {18: (60, 62), 34: (110, 110), 50: (175, 161), 101: (346, 314), 152: (516, 467)}


def forty():
    deep = [twin(f"cnn/resnet:resnet{n}", *size) for n, size in RESNETS.items()]
    return deep + [twin(f"room/file{i}:Twin", 30, 30) for i in range(35)]


@pytest.mark.parametrize(
    ("entries", "complete"),
    [
        (forty(), True),
        ([t | {"backends": ["torch:cpu", f"b{i}"]} for i in range(6) for t in forty()], False),
        ([diverged(f"cnn/n{i}:resnet152", 516, 200) for i in range(40)], False),
        ([diverged(f"n{i}", 3, 1, worst="x" * 100) for i in range(1000)], False),
    ],
    ids=["forty", "every backend", "all diverged", "thousands"],
)
def test_a_page_stays_below_a_megabyte(entries, complete):
    started = time.perf_counter()
    page = html.render(report(*entries))
    assert time.perf_counter() - started < 60
    assert len(page.encode()) <= 1_000_000
    seen = Page(page)
    assert {link.removeprefix("#") for link in seen.links} <= set(seen.ids)
    assert (page.count("report.json.</b>") + page.count("keep this page small") == 0) == complete
    if entries[0]["verdict"] == DIVERGED:
        assert page.count('<b class="diverged">ORIGIN</b>') >= 5


def test_a_failure_is_complete_in_one_line():
    short, long = diverged(), diverged("n" * 300)
    del short["stages"][1]["findings"][0]
    assert Report([twin(), short]).first_line() == (
        "DIVERGED cnn/lenet:LeNet forward: eval/layer/layer0.1.conv1: 2.6e-04 of 1.0e-09 allowed; "
        "worst at [0]: torch 1, jax 2"
    )
    for entry in (short, long, odd(), UNSURE):
        line = Report([twin(), entry]).first_line()
        assert len(line) <= 120
        assert line.startswith(entry["verdict"])
        assert "\n" not in line
    with pytest.raises(AssertionError, match=r"^DIVERGED"):
        Report([short]).raise_for_verdict()
    assert Report([short], run={}).to_html() == html.render(Report([short], run={}).to_dict())


# The terminal.


def said(*twins, color="auto", file=None, **changed):
    """What a check prints."""
    file = file or io.StringIO()
    out = terminal.make_console(color, file=file)
    given = report(*twins, **changed)
    console.header(out, given["environment"])
    for entry in given["twins"]:
        console.entry(out, entry)
    console.summary(out, given)
    return file.getvalue()


def squeezed(text):
    return [" ".join(line.split()) for line in text.splitlines()]


def test_what_is_said_of_a_twin_that_is_the_same():
    assert squeezed(said(twin(), skipped=SKIPPED)) == [
        "diptych 0.1.0 jax 0.10.2 flax 0.12.8 torch 2.13.0 cpu seed 0 matmul highest",
        "cnn/lenet:LeNet jaxnn.cnn.lenet <-> torchref.cnn.lenet",
        "stage compared float64 worst limit float32 worst/allowed verdict",
        "weights 4 tensors 0 0 - SAME",
        "forward 3 layers, 2 modes 2.7e-15 1e-09 0.4 SAME",
        "gradients 4 + 1 + 3 tensors 2.7e-15 1e-09 0.4 SAME",
        "step 4 params, 8 states 2.7e-15 1e-09 0.4 SAME adam",
        "trajectory 10 steps 2.7e-15 1e-09 - SAME",
        "coverage 4/4 leaves moved the loss; 2 buffers compared; 0 skipped",
        "skipped torch:cuda: torch finds no CUDA device",
        "SAME 1 twin, 5 stages, 11.8 s",
    ]


def test_what_is_said_of_a_twin_that_diverged():
    cause = {"code": "ACT-01", "title": "GELU variant", "confirmed": True, "after": 4.4e-16}
    cause |= {"torch_source": "a.py:1", "jax_source": "b.py:2", "fix": "jax.nn.gelu(x, False)"}
    text = squeezed(said(twin("other"), diverged(layers=30, cause=cause), UNSURE))
    at = text.index("origin layer 2 of 30 differs by 2.6e-04, the first in order of execution")
    size = "2.6e-04 of 1.0e-09 allowed; worst at [0]: torch 1, jax 2"
    assert text[at + 1 : at + 9] == [
        "torch layer0.1.conv1 torchref/cnn/net.py:1",
        "jax layer0/1/conv1 jaxnn/cnn/net.py:3",
        "cause ACT-01 GELU variant, confirmed: 2.6e-04 -> 4.4e-16 when changed",
        "torch a.py:1",
        "jax b.py:2",
        "fix jax.nn.gelu(x, False)",
        f"forward eval/layer/layer0.1.conv1: {size}",
        "eval/out: 1.6e-04 of 1.0e-09 allowed; worst at [0]: torch 1, jax 2",
    ]
    assert "and 16 more" in text
    assert text[-3:] == [
        "DIVERGED cnn/lenet:LeNet forward",
        "INCONCLUSIVE unsure trajectory",
        "DIVERGED 3 twins, 15 stages, 1 diverged, 1 inconclusive, 11.8 s",
    ]


def test_what_is_said_of_a_function():
    text = squeezed(said(cell()))
    assert "weights - - - - n/a" in text
    assert "coverage no parameters; 2 buffers compared; 0 skipped" in text
    assert text[-1] == "SAME 1 twin, 2 stages, 3 n/a, 11.8 s"


@pytest.mark.parametrize("name", REPORTS)
def test_terminal_lines_are_plain_when_piped(name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    text = said(*REPORTS[name].get("twins", ()))
    assert all(c.isprintable() or c == "\n" for c in text)
    assert text.endswith("\n")
    assert [line for line in text.splitlines() if line != line.rstrip()] == []
    monkeypatch.setenv("COLUMNS", "200")
    assert said(*REPORTS[name].get("twins", ())) == text


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("color", "file", "variable", "coloured"),
    [
        ("auto", io.StringIO, "", False),
        ("auto", Terminal, "", True),
        ("auto", Terminal, "1", False),
        ("never", Terminal, "", False),
        ("always", io.StringIO, "", True),
        ("always", io.StringIO, "1", True),
    ],
)
def test_colour(color, file, variable, coloured, monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", variable)
    text = said(diverged(), color=color, file=file())
    assert ("\x1b[" in text) == coloured
    bare = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert bare == said(diverged(), color="never")


def test_names_cannot_command_the_terminal():
    text = said(diverged("[red]x\x1b]0;owned\x07\x1b[31m\nnew"))
    assert "[red]x" in text
    assert "\x1b" not in text
    assert "\x07" not in text


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_progress_shows_on_a_terminal_and_leaves_nothing(error):
    file, out = Terminal(), io.StringIO()
    bar = Console(file=file, force_terminal=True, width=100, _environ={"TERM": "xterm"})
    try:
        with terminal.Progress(3, console=bar, delay=0) as progress:
            progress.update("cnn/[b]lenet", "float64 forward")
            time.sleep(0.6)
            console.entry(terminal.make_console(file=out), twin())
            progress.advance()
            time.sleep(0.6)
            if error:
                raise error
    except KeyboardInterrupt:
        pass
    text = file.getvalue()
    assert "cnn/[b]lenet float64 forward" in " ".join(text.split())
    assert re.search(r"1/3\S* twins", re.sub(r"\x1b\[[0-9;?]*\w", "", text))
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") > 0  # the cursor is back
    assert text.rstrip("\r\n").endswith("\x1b[2K")  # the line is empty again
    assert out.getvalue().startswith("cnn/lenet:LeNet")
    assert not terminal._shown


@pytest.mark.parametrize("options", [{"enabled": False}, {"delay": 60}, {}])
def test_progress_is_silent_otherwise(options, capfd):
    with terminal.Progress(3, **options) as progress:
        progress.update("a", "b")
        progress.advance()
    assert capfd.readouterr() == ("", "")
