"""Unpooling: torch's own, over (N, C, ...) or (C, ...). jax: channels last.

An index outside of the result is a RuntimeError. jax: the value is left out. Where indices occur
twice, as those of overlapping windows may, the last value stays, and the gradient of the place goes
to all of them. jax: so here; `x.at[i].set` alone would hand it to the one that stayed.
"""

from torch.nn.functional import max_unpool1d, max_unpool2d, max_unpool3d

__all__ = ["max_unpool1d", "max_unpool2d", "max_unpool3d"]
