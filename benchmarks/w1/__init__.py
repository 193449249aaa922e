"""W1: training a multilayer perceptron."""
