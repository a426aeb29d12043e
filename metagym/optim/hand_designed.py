"""The hand-designed update rules: what a learned optimiser has to beat.

Each is a few lines, batched over problems. Momentum rules follow torch.optim.SGD's conventions
(no dampening; NAG in Sutskever's form, where the iterate is the look-ahead point).

Lecture topic: learning to optimise, the rules designed by hand.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from metagym.errors import InvalidArgumentError
from metagym.optim.arrays import dot, ratio, scale
from metagym.optim.base import UpdateRule


class SGD(UpdateRule):
    """Gradient descent (Robbins and Monro 1951), Δx = -lr g.

    Args:
        lr: the learning rate.
    """

    name = "sgd"

    def __init__(self, lr: float = 0.02) -> None:
        super().__init__(lr=lr)
        self.lr = lr

    def update(self, loss: np.ndarray, gradient: Any, last_update: Any) -> Any:
        return -self.lr * gradient


class Momentum(UpdateRule):
    """Heavy ball (Polyak 1964), Δx = -lr g + m Δx', with the last step Δx'.

    Args:
        lr: the learning rate.
        momentum: m, how much of the last step goes into the next one.
    """

    name = "momentum"

    def __init__(self, lr: float = 0.03, momentum: float = 0.8) -> None:
        super().__init__(lr=lr, momentum=momentum)
        self.lr, self.momentum = lr, momentum

    def update(self, loss: np.ndarray, gradient: Any, last_update: Any) -> Any:
        return -self.lr * gradient + self.momentum * last_update


class NAG(UpdateRule):
    """Nesterov's (1983) accelerated gradient: v = m v + g, Δx = -lr (g + m v).

    Args:
        lr: the learning rate.
        momentum: m, how much of the velocity v stays.
    """

    name = "nag"

    def __init__(self, lr: float = 0.01, momentum: float = 0.9) -> None:
        super().__init__(lr=lr, momentum=momentum)
        self.lr, self.momentum = lr, momentum

    def update(self, loss: np.ndarray, gradient: Any, last_update: Any) -> Any:
        velocity = self._get("velocity", gradient)
        velocity *= self.momentum
        velocity += gradient
        return -self.lr * (gradient + self.momentum * velocity)


class RMSprop(UpdateRule):
    """RMSprop (Tieleman and Hinton 2012), Δx = -lr g / (sqrt(v) + eps).

    v = decay v + (1 - decay) g² is a running mean of each coordinate's squared gradients.

    Args:
        lr: the learning rate.
        decay: of the mean v.
        eps: keeps the step finite where gradients vanish.
    """

    name = "rmsprop"

    def __init__(self, lr: float = 0.05, decay: float = 0.99, eps: float = 1e-8) -> None:
        super().__init__(lr=lr, decay=decay, eps=eps)
        self.lr, self.decay, self.eps = lr, decay, eps

    def update(self, loss: np.ndarray, gradient: Any, last_update: Any) -> Any:
        square = self._get("square", gradient)
        square *= self.decay
        square += (1 - self.decay) * gradient**2
        return -self.lr * gradient / (square**0.5 + self.eps)


class Adam(UpdateRule):
    """Adam (Kingma and Ba 2015), Δx = -lr m̂ / (sqrt(v̂) + eps).

    m = beta1 m + (1 - beta1) g and v = beta2 v + (1 - beta2) g² are running means of each
    coordinate's gradients and their squares; both begin at 0, which m̂ = m / (1 - beta1^t) and
    v̂ = v / (1 - beta2^t) correct for at step t.

    Args:
        lr: the learning rate.
        beta1: decay of the mean m.
        beta2: decay of the mean square v.
        eps: keeps the step finite where gradients vanish.
    """

    name = "adam"

    def __init__(
        self, lr: float = 0.5, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8
    ) -> None:
        super().__init__(lr=lr, beta1=beta1, beta2=beta2, eps=eps)
        self.lr, self.beta1, self.beta2, self.eps = lr, beta1, beta2, eps

    def update(self, loss: np.ndarray, gradient: Any, last_update: Any) -> Any:
        mean, square = self._get("mean_gradient", gradient), self._get("square", gradient)
        mean *= self.beta1
        mean += (1 - self.beta1) * gradient
        square *= self.beta2
        square += (1 - self.beta2) * gradient**2
        count = self._count(loss)
        root = scale((1 - self.beta2**count) ** -0.5, square**0.5)
        return -self.lr * scale(1 / (1 - self.beta1**count), mean) / (root + self.eps)


class BarzilaiBorwein(UpdateRule):
    """Barzilai and Borwein (1988), Δx = -s g with a secant step size s.

    Δx' is the last step and Δg the change of the gradient over it.

    Args:
        lr: the first step size, and the fallback where the curvature is not positive.
        variant: 1 for s = Δx'Δx' / Δx'Δg (the long step), 2 for s = Δx'Δg / Δg'Δg.
        growth: safeguard: s grows by at most this factor a step; None for the plain rule.
    """

    name = "barzilai_borwein"

    def __init__(self, lr: float = 0.02, variant: int = 1, growth: float | None = None) -> None:
        if variant not in (1, 2):
            raise InvalidArgumentError(f"variant={variant!r} has to be 1 or 2.")
        super().__init__(lr=lr, variant=variant, growth=growth)
        self.lr, self.variant, self.growth = lr, variant, growth

    def update(self, loss: np.ndarray, gradient: Any, last_update: Any) -> Any:
        change = gradient - self._get("gradient", gradient)
        self.state["gradient"] = gradient * 1
        along = dot(last_update, change)
        if self.variant == 1:
            step = ratio(dot(last_update, last_update), along)
        else:
            step = ratio(along, dot(change, change))
        first = self._count(loss) == 1
        step = np.where((step > 0) & ~first, step, self.lr)
        if self.growth is not None:
            last = self._get("step", step)
            step = np.where(last > 0, np.minimum(step, self.growth * last), step)
            self.state["step"] = step.copy()
        return -scale(step, gradient)


class LBFGS(UpdateRule):
    """Limited-memory BFGS (Nocedal 1980) without line search: Δx = -lr H g, first step -lr0 g.

    H approximates the inverse Hessian by the BFGS formula, over the last pairs of a step and the
    change of the gradient along it, from a multiple of the identity that the newest pair sets.
    Pairs of non-positive curvature are left out. On a deterministic quadratic it is nearly exact;
    with minibatch noise it is not meant to work.

    Args:
        lr: the step along -H g.
        first_lr: the first step size, before there is a pair.
        memory: number of pairs.
        max_step: a step of a larger Euclidean norm (in x) is shortened to it.
    """

    name = "lbfgs"

    def __init__(
        self, lr: float = 1.0, first_lr: float = 0.02, memory: int = 10, max_step: float = 10.0
    ) -> None:
        super().__init__(lr=lr, first_lr=first_lr, memory=memory, max_step=max_step)
        self.lr, self.first_lr, self.memory, self.max_step = lr, first_lr, memory, max_step

    def update(self, loss: np.ndarray, gradient: Any, last_update: Any) -> Any:
        change = gradient - self._get("gradient", gradient)
        self.state["gradient"] = gradient * 1
        first = self._count(loss) == 1
        slots = [self._get(f"{kind}{i}", gradient) for i in range(self.memory) for kind in "sy"]
        pairs = list(zip(slots[::2], slots[1::2], strict=True))
        curvature = dot(last_update, change)
        usable = ~first & (curvature > 1e-10 * dot(last_update, last_update))
        oldest = pairs.pop(0)
        oldest[0][:], oldest[1][:] = scale(usable, last_update), scale(usable, change)
        pairs.append(oldest)
        for i, (s, y) in enumerate(pairs):
            self.state[f"s{i}"], self.state[f"y{i}"] = s, y
        return self._two_loops(gradient, pairs)

    def _two_loops(self, gradient: Any, pairs: list[tuple[Any, Any]]) -> Any:
        q = gradient * 1
        weights = []
        for s, y in reversed(pairs):
            rho = ratio(np.ones(len(q)), dot(s, y))
            alpha = rho * dot(s, q)
            q = q - scale(alpha, y)
            weights.append((rho, alpha))
        gamma = np.zeros(len(q))
        for s, y in pairs:  # the newest pair that is there
            gamma = np.where(dot(s, y) > 0, ratio(dot(s, y), dot(y, y)), gamma)
        none = gamma <= 0
        r = scale(np.where(none, self.first_lr / self.lr, gamma), q)
        for (s, y), (rho, alpha) in zip(pairs, reversed(weights), strict=True):
            r = r + scale(alpha - rho * dot(y, r), s)
        step = -self.lr * r
        length = dot(step, step) ** 0.5
        return scale(np.minimum(1.0, ratio(np.full(len(q), self.max_step), length, 1.0)), step)
