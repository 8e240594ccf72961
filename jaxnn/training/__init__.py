"""Losses, optimizers and the steps that use them."""
