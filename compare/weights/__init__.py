"""Weights: which tensor of one side is which of the other, and how they are kept in files.

`build.build` makes the audited bijection, a `map.WeightMap`, which carries weights, gradients and
optimizer state (`optim`) over and back. `torch_files` and `flax_files` read and write checkpoints,
`convert.convert` turns one framework's into the other's.
"""
