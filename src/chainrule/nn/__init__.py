"""Networks: modules, layers, activations, losses, penalties and first values.

>>> import chainrule as cr
>>> model = cr.nn.Sequential(cr.nn.Linear(2, 16), cr.nn.relu, cr.nn.Linear(16, 1))
>>> loss = cr.nn.mean_squared_error(model(cr.ones((4, 2))), cr.zeros((4,)))
>>> loss.backward()
>>> model[0].weight.grad.shape
(2, 16)
"""

from ..ops import Parameter, log_softmax, relu, sigmoid, softmax, softplus, tanh
from . import init
from .activations import elu, gelu, leaky_relu, maxout, silu
from .init import he_normal, he_uniform, xavier_normal, xavier_uniform
from .layers import Linear, Sequential
from .losses import (
    accuracy,
    binary_hinge,
    hinge,
    l1_penalty,
    l2_penalty,
    mean_squared_error,
    softmax_cross_entropy,
    summed_squared_error,
)
from .module import Module

__all__ = [
    "Linear", "Module", "Parameter", "Sequential", "accuracy", "binary_hinge", "elu", "gelu",
    "he_normal", "he_uniform", "hinge", "init", "l1_penalty", "l2_penalty", "leaky_relu",
    "log_softmax", "maxout", "mean_squared_error", "relu", "sigmoid", "silu", "softmax",
    "softmax_cross_entropy", "softplus", "summed_squared_error", "tanh", "xavier_normal",
    "xavier_uniform",
]  # fmt: skip
