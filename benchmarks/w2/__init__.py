"""W2: training a small convolutional network."""
