"""L-BFGS: Newton's direction from the last differences of gradients, without a Hessian.

`step(closure)` calls the closure, which clears the gradients, computes the loss and its gradients,
up to `max_eval` times. jax: `update(..., value=loss, value_fn=params -> loss)`, without torch's
`line_search_fn`.
"""

from torch.optim import LBFGS as lbfgs

__all__ = ["lbfgs"]
