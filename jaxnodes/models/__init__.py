"""Whole networks, each a short function that puts public layers together."""

from jaxnodes.models.convolutional import cnn as cnn
from jaxnodes.models.perceptrons import linear as linear
from jaxnodes.models.perceptrons import mlp as mlp
