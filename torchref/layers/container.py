"""Containers: torch's own.

`torch.nn.Sequential` names its children '0', '1', ...; activations are modules (`nn.ReLU()`) and so
take up an index without owning parameters. It takes the layers as positional arguments, jaxnn's
takes one tuple; a module that occurs twice is shared here, and copied there.
"""

from torch.nn import Sequential

__all__ = ["Sequential"]
