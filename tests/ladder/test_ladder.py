"""The ladder's rungs where there is nothing to compare: functions, integers, no gradients."""

import jax
import jax.numpy as jnp
import pytest

from compare import Array, Twin
from compare.ladder import verdict as V
from tests import toys
from tests.toys import climb


def test_functions_have_no_weights_and_that_is_no_pass():
    result = climb(Twin(torch=toys.plain_torch, jax=toys.plain_jax, inputs={"x": Array((3, 4))}))
    stages = {name: stage.verdict for name, stage in result.stages.items()}
    assert stages == {
        "weights": V.NOT_APPLICABLE,
        "forward": V.SAME,
        "gradients": V.SAME,
        "step": V.NOT_APPLICABLE,
        "trajectory": V.NOT_APPLICABLE,
    }
    assert result.verdict == V.SAME


def test_integers_alone_have_no_gradients():
    twin = Twin(
        torch=lambda x: x.argmax(-1), jax=lambda x: jnp.argmax(x, -1), inputs={"x": Array((3, 4))}
    )
    result = climb(twin)
    assert result.stages["forward"].verdict == V.SAME
    assert result.stages["gradients"].verdict in (V.NOT_APPLICABLE, V.INCONCLUSIVE)


@pytest.mark.parametrize(
    ("theirs", "verdict"),
    [(jax.lax.stop_gradient, V.NOT_APPLICABLE), (lambda x: x, V.DIVERGED)],
)
def test_a_gradient_of_what_pytorch_cannot_differentiate_is_a_difference(theirs, verdict):
    """Unless it is zero."""
    twin = Twin(
        torch=lambda x: 2 * x.detach(),
        jax=lambda x: 2 * theirs(x),
        inputs={"x": Array((4, 3))},
    )
    assert climb(twin).stages["gradients"].verdict == verdict
