"""The rates after each of ten metrics that fall, and then do not."""

from compare import Array
from compare.twins import functions, in_torch

METRICS = (3.0, 2.0, 1.5, 1.6, 1.7, 1.55, 1.4, 1.5, 1.6, 1.7)


@functions("training/plateau", scale=Array(()))
def plateau(module, scale):
    options = {"patience": 1, "factor": 0.5, "cooldown": 1}
    return {"reduce_lr_on_plateau": reduced(module, scale, options)}


def reduced(module, scale, options):
    """The rates times `scale`, which says on which device."""
    if in_torch(module):
        import torch

        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=0.3)
        scheduler, found = module.reduce_lr_on_plateau(optimizer, **options), []
        for metric in METRICS:
            scheduler.step(metric)
            found.append(optimizer.param_groups[0]["lr"])
        return scale * scale.new_tensor(found)
    import jax
    import jax.numpy as jnp

    scheduler = module.reduce_lr_on_plateau(0.3, **options)

    def step(state, metric):
        state = scheduler.update(state, metrics=metric)
        return state, state.lr

    return scale * jax.lax.scan(step, scheduler.init(), jnp.asarray(METRICS))[1]
