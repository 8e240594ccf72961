"""One update of L-BFGS, four steps down a bent valley."""

from compare import Array
from compare.twins import functions, in_torch
from compare.twins.training import constant


@functions("training/second_order", start=Array((5,)))
def second_order(module, start):
    options = {"lr": 0.1, "max_iter": 4, "history_size": 2}
    (start,) = constant(module, start)

    def valley(x):
        return (x * x).sum() + ((x[1:] - x[:-1] ** 2) ** 2).sum()

    if in_torch(module):
        import torch

        x = torch.nn.Parameter(start.clone())
        optimizer = module.lbfgs([x], **options)

        def closure():
            optimizer.zero_grad()
            loss = valley(x)
            loss.backward()
            return loss

        optimizer.step(closure)
        return {"lbfgs": x.detach()}
    import jax

    loss, gradient = jax.value_and_grad(valley)(start)
    optimizer = module.lbfgs(**options)
    state = optimizer.init(start)
    moved, _ = optimizer.update(gradient, state, start, value=loss, value_fn=valley)
    return {"lbfgs": start + moved}
