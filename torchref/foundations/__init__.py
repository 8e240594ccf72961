"""The first networks: a perceptron and a multilayer perceptron."""
