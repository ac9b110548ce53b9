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
from .attention import MultiHeadAttention, scaled_dot_product_attention
from .convolution import (
    Conv1d,
    Conv2d,
    ConvTranspose1d,
    ConvTranspose2d,
    conv1d,
    conv2d,
    conv_transpose1d,
    conv_transpose2d,
)
from .init import he_normal, he_uniform, xavier_normal, xavier_uniform
from .layers import Embedding, Linear, Maxout, Residual, Sequential, flatten
from .losses import (
    accuracy,
    binary_cross_entropy,
    binary_hinge,
    hinge,
    huber,
    kl_divergence,
    mean_absolute_error,
    mean_squared_error,
    negative_log_likelihood,
    softmax_cross_entropy,
    squared_hinge,
    summed_squared_error,
)
from .module import Module
from .normalization import (
    BatchNorm,
    GroupNorm,
    LayerNorm,
    RMSNorm,
    batch_norm,
    group_norm,
    layer_norm,
    rms_norm,
)
from .penalties import l1_penalty, l2_penalty
from .pooling import (
    AvgPool1d,
    AvgPool2d,
    MaxPool1d,
    MaxPool2d,
    avg_pool1d,
    avg_pool2d,
    global_avg_pool,
    global_max_pool,
    max_pool1d,
    max_pool2d,
)
from .recurrent import GRU, LSTM, RNN
from .regularization import Dropout, dropout

__all__ = [  # noqa: RUF022 - in the order of sorted()
    "AvgPool1d", "AvgPool2d", "BatchNorm", "Conv1d", "Conv2d", "ConvTranspose1d", "ConvTranspose2d",
    "Dropout", "Embedding", "GRU", "GroupNorm", "LSTM", "LayerNorm", "Linear", "MaxPool1d",
    "MaxPool2d", "Maxout", "Module", "MultiHeadAttention", "Parameter", "RMSNorm", "RNN",
    "Residual", "Sequential", "accuracy", "avg_pool1d", "avg_pool2d", "batch_norm",
    "binary_cross_entropy", "binary_hinge", "conv1d", "conv2d", "conv_transpose1d",
    "conv_transpose2d", "dropout", "elu", "flatten", "gelu", "global_avg_pool", "global_max_pool",
    "group_norm", "he_normal", "he_uniform", "hinge", "huber", "init", "kl_divergence",
    "l1_penalty", "l2_penalty", "layer_norm", "leaky_relu", "log_softmax", "max_pool1d",
    "max_pool2d", "maxout", "mean_absolute_error", "mean_squared_error", "negative_log_likelihood",
    "relu", "rms_norm", "scaled_dot_product_attention", "sigmoid", "silu", "softmax",
    "softmax_cross_entropy", "softplus", "squared_hinge", "summed_squared_error", "tanh",
    "xavier_normal", "xavier_uniform",
]  # fmt: skip
