"""Gains: how a policy of two numbers becomes an optimiser of any dimension.

A policy that chose every coordinate of Δx would have to be trained anew for every dimension, and
its exploration noise, independent in every coordinate, would drown the direction it should
learn. A ``GainRule`` explores where an optimiser has its freedom: it turns the history into
scale-free features, lets the policy choose gains, and combines the directions that the history
offers with them. The environment's action stays Δx; the rule with its trained policy is an
``UpdateRule`` like every other.

Write g for the gradient, p for the last step, y for the change of the gradient over it, and L
for the largest curvature |y|/|p| met so far (at the start |g|^2 / 2f, a lower bound of it where
f >= 0). Then Δx = -s e^α g + β p with the step size s = 1/L. Features and step do not change with
the scale of f (a factor) or of x, and those of a whole problem do not know the dimension.

Minibatch noise makes secants useless. Two other steps are for that: Polyak's s = 2f / |g|^2, and
the direction of RMSprop, g over the root of its mean square, coordinate by coordinate, whose
length is in units of x.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from metagym.errors import InvalidArgumentError, check_choice
from metagym.optim.arrays import dot, ratio, scale
from metagym.optim.base import UpdateRule

Policy = Callable[[np.ndarray], np.ndarray]

# Of a whole problem; ' marks what was one step ago.
FEATURES = (
    "log f'/f", "log |g'|/|g|", "cos(g, p)", "cos(g, g')", "cos(y, p)", "cos(g, y)",
    "log |y|/L|p|", "log py/Lpp", "sign py", "line error gp/py", "log L|p|/|g|",
    "log smallest py/Lpp", "log gg/2Lf", "log g'Hg'/Lg'g'", "exp(-t/10)", "exp(-t/50)",
    "log best f/f", "mean log f'/f", "gain α'", "gain β'",
)  # fmt: skip
# What one coordinate adds in a coordinatewise rule; rms is over the coordinates.
COORDINATE_FEATURES = ("g/rms g", "p/rms p", "y/rms y", "gain α'", "gain β'")
NUM_GAINS = 2
BOUND = 3.0  # of every feature


class GainRule(UpdateRule):
    """Δx = -s e^α g + β p, with α = 0.5 + 2.5 a0 and β = 0.5 + 0.7 a1.

    The policy maps features to gains a in [-1, 1]; a policy of zeros is the rule's own untrained
    control (``policy=None``).

    Args:
        per: ``"problem"``: two gains for all coordinates, features [B, 20]; ``"coordinate"``: two
            gains for each, features [B, d, 25], by one policy that all coordinates share.
        step_size: what s is: ``"curvature"``, 1/L; ``"polyak"``, 2f / |g|^2; or ``"rms"``:
            Δx = -e^α g / sqrt(mean g^2) + β p with α = 3 a0 - 0.5, so that the learning rate is
            in [0.03, 12]; the mean is RMSprop's (0.99), corrected at the start as Adam's.
        memory: L forgets: each step it is the larger of the newest curvature and ``memory`` times
            its last value. 1 remembers for ever; minibatch noise wants less.
        policy: gains [..., 2] for features [..., F] (float32).
    """

    name = "gains"

    def __init__(
        self,
        per: str = "problem",
        step_size: str = "curvature",
        memory: float = 1.0,
        policy: Policy | None = None,
    ) -> None:
        check_choice("per", per, ("problem", "coordinate"))
        check_choice("step_size", step_size, ("curvature", "polyak", "rms"))
        if not 0.0 <= memory <= 1.0:
            raise InvalidArgumentError(f"memory={memory!r} has to lie in [0, 1].")
        super().__init__(per=per, step_size=step_size, memory=memory)
        self.per, self.step_size, self.memory, self.policy = per, step_size, memory, policy
        self._vectors: dict[str, Any] = {}

    def feature_shape(self, dim: int) -> tuple[int, ...]:
        """The shape of one problem's features."""
        if self.per == "problem":
            return (len(FEATURES),)
        return (dim, len(FEATURES) + len(COORDINATE_FEATURES))

    def gain_shape(self, dim: int) -> tuple[int, ...]:
        """The shape of one problem's gains."""
        return (NUM_GAINS,) if self.per == "problem" else (dim, NUM_GAINS)

    def update(self, loss: np.ndarray, gradient: Any, last_update: Any) -> Any:
        features = self.observe(loss, gradient, last_update)
        if self.policy is None:
            return self.combine(np.zeros((*features.shape[:-1], NUM_GAINS)))
        return self.combine(self.policy(features))

    def observe(self, loss: np.ndarray, gradient: Any, last_update: Any) -> np.ndarray:
        """Take in a new iterate; returns its features (float32, in [-3, 3])."""
        change = gradient - self._get("gradient", gradient)
        self.state["gradient"] = gradient * 1
        self._vectors = {"g": gradient * 1, "p": last_update * 1, "y": change}
        features = self._problem_features(loss)
        if self.step_size == "rms":
            square = self._get("square", gradient)
            square *= 0.99
            square += 0.01 * gradient**2
            root = scale((1 - 0.99 ** self.state["count"]) ** -0.5, square**0.5)
            self._vectors["direction"] = gradient / (root + 1e-8)
        if self.per == "coordinate":
            features = self._coordinate_features(features)
        return np.clip(features, -BOUND, BOUND).astype(np.float32)

    def combine(self, gains: np.ndarray) -> Any:
        """Δx [B, d] for gains in [-1, 1], at the iterate seen last."""
        gains = np.clip(gains, -1.0, 1.0).astype(np.float64)
        if self.step_size == "rms":
            a = np.exp(3.0 * gains[..., 0] - 0.5)
        else:
            inverse = self.state["largest" if self.step_size == "curvature" else "polyak"]
            if self.per == "coordinate":
                inverse = inverse[:, None]
            a = ratio(np.exp(0.5 + 2.5 * gains[..., 0]), inverse)
        b = 0.5 + 0.7 * gains[..., 1]
        self.state["gains"] = gains
        g, p = self._vectors["direction" if self.step_size == "rms" else "g"], self._vectors["p"]
        if self.per == "problem":
            self.state["a"], self.state["b"] = a, b
            return scale(-a, g) + scale(b, p)
        self.state["a"], self.state["b"] = a.mean(axis=1), b.mean(axis=1)
        if isinstance(g, np.ndarray):
            return b.astype(g.dtype) * p - a.astype(g.dtype) * g
        return g.new_tensor(b) * p - g.new_tensor(a) * g

    def scale_last_step(self, factor: float) -> None:
        """The features of the next step ask what the last one was made of."""
        for name in ("a", "b"):
            self.state[name] = self.state[name] * factor

    def restart(
        self, mask: np.ndarray, loss: np.ndarray, gradient: Any, last_update: Any
    ) -> np.ndarray:
        """Forget the rows of ``mask`` and observe their first iterate; the others do not notice.

        Returns:
            The features of all rows; only those of ``mask`` mean anything.
        """
        before = {**self.state, **self._vectors}
        before = {name: value * 1 for name, value in before.items()}
        self.reset(mask)
        features = self.observe(loss, gradient, last_update)
        if not mask.all():
            for name, value in [*self.state.items(), *self._vectors.items()]:
                if name in before:
                    value[~mask] = before[name][~mask]
        return features

    def _problem_features(self, loss: np.ndarray) -> np.ndarray:
        """[B, 20] from inner products alone: this is all that a long vector is read for."""
        g, p, y = (self._vectors[name] for name in "gpy")
        gg, pp, yy = dot(g, g), dot(p, p), dot(y, y)
        gp, gy, py = dot(g, p), dot(g, y), dot(p, y)
        first = self._count(loss) == 1
        since = np.where(first, 0.0, 1.0)  # switches off what compares with a step ago
        last_gg, last_gy = self._get("gg", gg), self._get("gy", gy)
        a, b = self._get("a", gg), self._get("b", gg)
        between = (last_gg + gg - yy) / 2  # g'g, from |g - g'|^2
        # p = -a g' + b p' and Hp' = y' tell the curvature along the last gradient.
        along_last = ratio(b * last_gy - (between - last_gg), a * last_gg)

        curvature, along = since * ratio(yy, pp) ** 0.5, since * ratio(py, pp)
        polyak = ratio(gg, 2 * np.abs(loss))
        largest, smallest = self._get("largest", gg), self._get("smallest", gg)
        newest = np.where(largest > 0, curvature, polyak)  # polyak until there is a secant
        largest[:] = np.maximum(self.memory * largest, newest)
        known = np.where(smallest > 0, smallest, np.inf)
        smallest[:] = np.where(along > 0, np.minimum(known, along), smallest)

        last_loss, best, mean = (self._get(name, gg) for name in ("loss", "best", "mean"))
        progress = since * _log_ratio(last_loss, loss)
        best[:] = np.where(first, loss, np.minimum(best, loss))
        mean[:] = since * (0.9 * mean + 0.1 * progress)
        gains = self._get("gains", np.zeros(self._gains_shape(gg)))
        if self.per == "coordinate":
            gains = gains.mean(axis=1)
        columns = [
            progress / 2, since * _log_ratio(last_gg, gg) / 4, _cosine(gp, gg, pp),
            _cosine(between, last_gg, gg), _cosine(py, pp, yy), since * _cosine(gy, gg, yy),
            _log_ratio(curvature, largest) / 4, _log_ratio(along, largest) / 4, np.sign(along),
            np.tanh(ratio(gp, since * py)), _log_ratio(pp**0.5 * largest, gg**0.5) / 4,
            _log_ratio(smallest, largest) / 4, _log_ratio(polyak, largest) / 4,
            _log_ratio(along_last, largest) / 4, np.exp(-self.state["count"] / 10),
            np.exp(-self.state["count"] / 50), _log_ratio(best, loss) / 4, mean,
            gains[:, 0], gains[:, 1],
        ]  # fmt: skip
        self.state["gg"], self.state["gy"], self.state["polyak"] = gg, since * gy, polyak
        last_loss[:] = loss
        return np.stack(columns, axis=1)

    def _coordinate_features(self, features: np.ndarray) -> np.ndarray:
        """[B, d, 25]: every coordinate sees the problem's features and its own entries."""
        entries = []
        for name in "gpy":
            vector = self._vectors[name]
            if not isinstance(vector, np.ndarray):
                vector = vector.detach().double().cpu().numpy()
            rms = np.sqrt(np.mean(np.square(vector), axis=1, keepdims=True))
            entries.append(ratio(vector, np.broadcast_to(rms, vector.shape)))
        gains = self.state["gains"]
        shared = np.broadcast_to(features[:, None], (*entries[0].shape, features.shape[1]))
        own = np.stack([*entries, gains[..., 0], gains[..., 1]], axis=2)
        return np.concatenate([shared, own], axis=2)

    def _gains_shape(self, gg: np.ndarray) -> tuple[int, ...]:
        return (len(gg), *self.gain_shape(self._vectors["g"].shape[1]))


def _log_ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """log(a / b) in [-12, 12]; -12 where a <= 0, and 0 where b is 0."""
    return np.log(np.clip(ratio(a, b, 1.0), np.exp(-12.0), np.exp(12.0)))


def _cosine(ab: np.ndarray, aa: np.ndarray, bb: np.ndarray) -> np.ndarray:
    return np.clip(ratio(ab, np.sqrt(aa * bb)), -1.0, 1.0)
