"""Whole networks, each a short function that puts public layers together."""

from jaxnodes.models.convolutional import cnn as cnn
from jaxnodes.models.forecasting import forecaster as forecaster
from jaxnodes.models.masked_tokens import MaskedIds as MaskedIds
from jaxnodes.models.masked_tokens import mask_tokens as mask_tokens
from jaxnodes.models.mobile import EFFICIENTNETS as EFFICIENTNETS
from jaxnodes.models.mobile import EfficientNetScaling as EfficientNetScaling
from jaxnodes.models.mobile import efficientnet as efficientnet
from jaxnodes.models.perceptrons import linear as linear
from jaxnodes.models.perceptrons import mlp as mlp
from jaxnodes.models.residual import resnet as resnet
from jaxnodes.models.sampling import generate as generate
from jaxnodes.models.transformers import bert as bert
from jaxnodes.models.transformers import gpt as gpt
