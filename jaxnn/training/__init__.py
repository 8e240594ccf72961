"""Losses, regularisers, optimizers, the steps that use them and the loops around these."""
