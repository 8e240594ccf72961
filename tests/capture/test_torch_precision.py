"""Full float32 or TF32: what is asked for is set while a run computes, whatever was set before."""

import subprocess
import sys

import pytest
import torch

from compare import Array, Twin
from compare.ladder.pair import Pair

HOMES = "cuda.matmul cudnn.conv cudnn.rnn mkldnn.matmul mkldnn.conv mkldnn.rnn".split()
USERS = {
    "as it comes": "",
    "the older switches": "torch.backends.cuda.matmul.allow_tf32 = True",
    "bfloat16 products": "torch.set_float32_matmul_precision('medium')",
    "the newer switches": "torch.backends.cuda.matmul.fp32_precision = 'tf32'",
    "of one kind": "torch.backends.cudnn.conv.fp32_precision = 'ieee'",
    "of every backend": "torch.backends.fp32_precision = 'tf32'",
}
PROGRAM = """
import operator
import torch
from compare.capture.torch_precision import multiplied

homes = [operator.attrgetter(name)(torch.backends) for name in {homes}]
states = lambda: [home.fp32_precision for home in homes]
{user}
before = states()
older = torch.get_float32_matmul_precision if "{user}".startswith("torch.set") else states
before_that = older()
for tf32 in (False, True):
    try:
        with multiplied(tf32):
            assert states() == ["tf32" if tf32 else "ieee"] * 3 + ["ieee"] * 3, states()
            assert torch.backends.cuda.matmul.allow_tf32 is torch.backends.cudnn.allow_tf32 is tf32
            assert torch.get_float32_matmul_precision() == ("high" if tf32 else "highest")
            with torch.backends.cudnn.flags(enabled=False):
                pass  # as LSTMs with dropout want it
            raise KeyError
    except KeyError:
        assert states() == before and older() == before_that, states()
"""


@pytest.mark.parametrize("user", USERS)
def test_both_sets_of_switches(user: str):
    """In a process of its own: a contradiction of the two is not to be taken back."""
    program = PROGRAM.format(homes=HOMES, user=USERS[user])
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("backend", ["torch:cpu", "torch:cpu+compile"])
@pytest.mark.parametrize("precision", ["highest", "default"])
def test_a_check_hands_its_precision_on(precision: str, backend: str):
    """Forward and backward, recorded or not."""
    seen = []

    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            seen.append(torch.backends.cuda.matmul.fp32_precision)
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, gradient):  # pyrefly: ignore[bad-override]
            seen.append(torch.backends.cuda.matmul.fp32_precision)
            return 2 * ctx.saved_tensors[0] * gradient

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(3, 2)

        @torch.compiler.disable
        def forward(self, x):
            return Square.apply(self.linear(x))

    twin = Twin(torch=Model, jax=lambda x: x, inputs={"x": Array((4, 3))})
    pair = Pair(twin, steps=1, precision=precision)
    seen.clear()
    sections = list(pair.run(backend, "float32").sections())
    assert sections[-1].stage == "final"
    assert set(seen) == {"tf32" if precision == "default" else "ieee"}
    assert len(seen) >= 6
