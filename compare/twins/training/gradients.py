"""Gradients clipped by value and by norm."""

from compare import Array
from compare.twins import functions, in_torch
from compare.twins.training import constant


@functions("training/gradients", g=Array((3, 4)))
def gradients(module, g):
    return {
        "clip_grad_value": clipped(module, "clip_grad_value", g, 0.3),
        "clip_grad_norm": clipped(module, "clip_grad_norm", g, 1.0),
        "in the 3-norm": clipped(module, "clip_grad_norm", g, 1.0, norm_type=3.0),
    }


def clipped(module, name, gradient, limit, **keywords):
    """A gradient after the clip; torch changes it in place."""
    clip = getattr(module, name)
    (gradient,) = constant(module, gradient)
    if in_torch(module):
        import torch

        parameter = torch.nn.Parameter(torch.zeros_like(gradient))
        parameter.grad = gradient.clone()
        clip([parameter], limit, **keywords)
        return parameter.grad
    transformation = clip(limit, **keywords)
    return transformation.update(gradient, transformation.init(gradient))[0]
