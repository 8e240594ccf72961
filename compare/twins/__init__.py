"""One file per architecture: the twins that join `jaxnn` and `torchref`."""
