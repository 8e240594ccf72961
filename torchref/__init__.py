"""The architectures in PyTorch."""
