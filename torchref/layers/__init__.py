"""The layers of torch.nn that `jaxnn.layers` reproduces."""
