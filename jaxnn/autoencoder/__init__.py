"""Autoencoders: dense, tied, denoising, sparse, contractive, convolutional and variational."""
