"""Entries and reports as a check makes them, and odd ones."""

import io

from compare.ladder.verdict import DIVERGED, INCONCLUSIVE, NOT_APPLICABLE, SAME
from compare.report import console, terminal
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
            "rounded": [],
            "notes": [],
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
    entry["stages"][2] |= {"numerics": {NASTY: "inf", "bfloat16": []}}
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
