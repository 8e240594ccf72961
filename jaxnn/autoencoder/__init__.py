"""Autoencoders: the variational autoencoder, dense and convolutional."""
