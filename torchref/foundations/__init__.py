"""The first networks: a perceptron, a multilayer perceptron, and backpropagation by hand."""
