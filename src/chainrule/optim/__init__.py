"""Optimizers, schedules of the rate, clipping of gradients, and averages of weights.

>>> import chainrule as cr
>>> model = cr.nn.Linear(1, 1)
>>> optimizer = cr.optim.SGD(model, lr=0.5)
>>> x = cr.linspace(-1, 1, 8).reshape(8, 1)
>>> for _ in range(100):
...     optimizer.zero_grad()
...     cr.nn.mean_squared_error(model(x), 3 * x).backward()
...     optimizer.step()
>>> round(model.weight.item(), 4)
3.0
"""

from .average import Average
from .clipping import clip_by_norm, clip_by_value
from .optimizer import Group, Optimizer, groups
from .rules import SGD, AdaGrad, Adam, AdamW, Momentum, Nesterov, RMSProp
from .schedules import Plateau, Schedule, constant, cosine, linear, step, warmup

__all__ = [  # noqa: RUF022 - in the order of sorted()
    "AdaGrad", "Adam", "AdamW", "Average", "Group", "Momentum", "Nesterov", "Optimizer", "Plateau",
    "RMSProp", "SGD", "Schedule", "clip_by_norm", "clip_by_value", "constant", "cosine", "groups",
    "linear", "step", "warmup",
]  # fmt: skip
