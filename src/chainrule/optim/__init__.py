"""Optimizers: SGD, Momentum, Nesterov, AdaGrad, RMSProp, Adam, AdamW.

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

from .optimizer import Group, Optimizer, groups
from .rules import SGD, AdaGrad, Adam, AdamW, Momentum, Nesterov, RMSProp

__all__ = [  # noqa: RUF022 - in the order of sorted()
    "AdaGrad", "Adam", "AdamW", "Group", "Momentum", "Nesterov", "Optimizer", "RMSProp", "SGD",
    "groups",
]  # fmt: skip
