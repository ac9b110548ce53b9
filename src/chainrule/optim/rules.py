"""The optimizers: each is one short rule from p and g = ∂L/∂p to the new p and its state.

The formulas and default numbers are PyTorch's. η is `lr`; λ is `weight_decay`, which adds λ·p to g
(in AdamW it shrinks p instead). Every optimizer takes the parameters as `Optimizer` says.
"""

from __future__ import annotations

from typing import Any

from .optimizer import Number, Optimizer
from .update import decayed


class SGD(Optimizer):
    """p ← p - η·g. Robbins & Monro 1951.

    >>> import chainrule as cr
    >>> w = cr.Parameter([1.0])
    >>> (w * w).sum().backward()
    >>> cr.optim.SGD([w], lr=0.25).step()
    >>> w.item()
    0.5
    """

    def __init__(self, parameters: Any, lr: Any = 1e-3, *, weight_decay: Any = 0.0) -> None:
        super().__init__(parameters, lr=lr, weight_decay=weight_decay)

    @staticmethod
    def rule(xp: Any, p: Any, g: Any, lr: Any, weight_decay: Any) -> tuple[Any, ...]:
        return (p - lr * decayed(g, p, weight_decay),)


class Momentum(Optimizer):
    """v ← μ·v + g; p ← p - η·v. Polyak 1964.

    >>> import chainrule as cr
    >>> w = cr.Parameter([1.0])
    >>> optimizer = cr.optim.Momentum([w], lr=0.125, momentum=0.5)
    >>> for _ in range(2):
    ...     optimizer.zero_grad()
    ...     (w * w).sum().backward()
    ...     optimizer.step()
    >>> w.item()
    0.4375
    """

    slots = ("velocity",)
    momentum = Number()

    def __init__(
        self, parameters: Any, lr: Any = 1e-3, momentum: Any = 0.9, *, weight_decay: Any = 0.0
    ) -> None:
        super().__init__(parameters, lr=lr, momentum=momentum, weight_decay=weight_decay)

    @staticmethod
    def rule(
        xp: Any, p: Any, g: Any, v: Any, lr: Any, momentum: Any, weight_decay: Any
    ) -> tuple[Any, ...]:
        v = momentum * v + decayed(g, p, weight_decay)
        return p - lr * v, v


class Nesterov(Momentum):
    """v ← μ·v + g; p ← p - η·(g + μ·v). Nesterov 1983, as in Sutskever et al. 2013.

    >>> import chainrule as cr
    >>> w = cr.Parameter([1.0])
    >>> (w * w).sum().backward()
    >>> cr.optim.Nesterov([w], lr=0.125, momentum=0.5).step()
    >>> w.item()
    0.625
    """

    @staticmethod
    def rule(
        xp: Any, p: Any, g: Any, v: Any, lr: Any, momentum: Any, weight_decay: Any
    ) -> tuple[Any, ...]:
        g = decayed(g, p, weight_decay)
        v = momentum * v + g
        return p - lr * (g + momentum * v), v


class AdaGrad(Optimizer):
    """s ← s + g²; p ← p - η·g/(√s + ε). Duchi, Hazan & Singer 2011.

    >>> import chainrule as cr
    >>> w = cr.Parameter([1.0])
    >>> (w * w).sum().backward()
    >>> cr.optim.AdaGrad([w], lr=0.25).step()
    >>> w.item()
    0.75
    """

    slots = ("squares",)
    eps = Number()

    def __init__(
        self, parameters: Any, lr: Any = 1e-2, *, eps: Any = 1e-10, weight_decay: Any = 0.0
    ) -> None:
        super().__init__(parameters, lr=lr, eps=eps, weight_decay=weight_decay)

    @staticmethod
    def rule(
        xp: Any, p: Any, g: Any, s: Any, lr: Any, eps: Any, weight_decay: Any
    ) -> tuple[Any, ...]:
        g = decayed(g, p, weight_decay)
        s = s + g * g
        return p - lr * g / (xp.sqrt(s) + eps), s


class RMSProp(Optimizer):
    """s ← ρ·s + (1 - ρ)·g²; p ← p - η·g/(√s + ε), ρ = `decay`. Tieleman & Hinton 2012.

    >>> import chainrule as cr
    >>> w = cr.Parameter([1.0])
    >>> (w * w).sum().backward()
    >>> cr.optim.RMSProp([w], lr=0.25, decay=0.75).step()
    >>> round(w.item(), 6)
    0.5
    """

    slots = ("squares",)
    decay, eps = Number(), Number()

    def __init__(
        self, parameters: Any, lr: Any = 1e-2, decay: Any = 0.99, *, eps: Any = 1e-8,
        weight_decay: Any = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(parameters, lr=lr, decay=decay, eps=eps, weight_decay=weight_decay)

    @staticmethod
    def coefficients(t: Any, *numbers: Any) -> tuple[Any, ...]:
        lr, decay, eps, weight_decay = numbers
        return lr, 1 - decay, eps, weight_decay

    @staticmethod
    def rule(
        xp: Any, p: Any, g: Any, s: Any, lr: Any, gain: Any, eps: Any, weight_decay: Any
    ) -> tuple[Any, ...]:
        g = decayed(g, p, weight_decay)
        s = (1 - gain) * s + gain * (g * g)  # s + gain·(g² - s) would lose g² where gain is 1
        return p - lr * g / (xp.sqrt(s) + eps), s


class Adam(Optimizer):
    """m ← β₁·m + (1-β₁)·g; s ← β₂·s + (1-β₂)·g²; p ← p - η·m̂/(√ŝ + ε).

    m̂ = m/(1-β₁ᵗ) and ŝ = s/(1-β₂ᵗ) at the t-th step of the parameter. Kingma & Ba 2015; computed
    in the order of the end of their section 2, with the corrections in the rate and in ε.

    >>> import chainrule as cr
    >>> w = cr.Parameter([1.0])
    >>> (w * w).sum().backward()
    >>> cr.optim.Adam([w], lr=0.25).step()
    >>> round(w.item(), 6)
    0.75
    """

    slots = ("mean", "squares")
    counted = True
    beta1, beta2, eps = Number(), Number(), Number()

    def __init__(
        self, parameters: Any, lr: Any = 1e-3, beta1: Any = 0.9, beta2: Any = 0.999, *,
        eps: Any = 1e-8, weight_decay: Any = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(
            parameters, lr=lr, beta1=beta1, beta2=beta2, eps=eps, weight_decay=weight_decay
        )

    @staticmethod
    def coefficients(t: Any, *numbers: Any) -> tuple[Any, ...]:
        lr, beta1, beta2, eps, weight_decay = numbers
        root = (1 - beta2**t) ** 0.5
        return lr * root / (1 - beta1**t), 1 - beta1, 1 - beta2, eps * root, weight_decay

    @staticmethod
    def rule(
        xp: Any, p: Any, g: Any, m: Any, s: Any, rate: Any, gain1: Any, gain2: Any, eps: Any,
        weight_decay: Any,
    ) -> tuple[Any, ...]:  # fmt: skip
        g = decayed(g, p, weight_decay)
        m = (1 - gain1) * m + gain1 * g
        s = (1 - gain2) * s + gain2 * (g * g)
        return p - rate * (m / (xp.sqrt(s) + eps)), m, s


class AdamW(Adam):
    """As Adam, with p ← (1 - η·λ)·p before the step instead of λ·p in g.

    Loshchilov & Hutter 2019.

    >>> import chainrule as cr
    >>> w = cr.Parameter([1.0])
    >>> (w * w).sum().backward()
    >>> cr.optim.AdamW([w], lr=0.25, weight_decay=1.0).step()
    >>> round(w.item(), 6)
    0.5
    """

    def __init__(
        self, parameters: Any, lr: Any = 1e-3, beta1: Any = 0.9, beta2: Any = 0.999, *,
        eps: Any = 1e-8, weight_decay: Any = 1e-2,
    ) -> None:  # fmt: skip
        super().__init__(parameters, lr, beta1, beta2, eps=eps, weight_decay=weight_decay)

    @staticmethod
    def coefficients(t: Any, *numbers: Any) -> tuple[Any, ...]:
        lr, beta1, beta2, eps, weight_decay = numbers
        root = (1 - beta2**t) ** 0.5
        return lr * root / (1 - beta1**t), 1 - beta1, 1 - beta2, eps * root, 1 - lr * weight_decay

    @staticmethod
    def rule(
        xp: Any, p: Any, g: Any, m: Any, s: Any, rate: Any, gain1: Any, gain2: Any, eps: Any,
        shrink: Any,
    ) -> tuple[Any, ...]:  # fmt: skip
        p, m, s = Adam.rule(xp, shrink * p, g, m, s, rate, gain1, gain2, eps, 0.0)
        return p, m, s


__all__ = ["SGD", "AdaGrad", "Adam", "AdamW", "Momentum", "Nesterov", "RMSProp"]
