"""The architectures in Flax Linen, optax and JAX."""
