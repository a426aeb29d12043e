"""Agents of a third party, good and bad; the processes of a run import them by name."""

from __future__ import annotations

import os
import time

import numpy as np


class Still:
    """Steps of a fixed length, 0 by default: it plays every LearnToOptimize environment."""

    name = "still"

    def __init__(self, step: float = 0.0) -> None:
        self.step, self.config = step, {"step": step}

    def bind(self, env) -> None:
        self.shape = env.action_space.shape

    def reset(self, mask) -> None:
        pass

    def act(self, observations, action_masks=None):
        return np.full(self.shape, self.step, np.float32)


class Raises(Still):
    def act(self, observations, action_masks=None):
        raise ZeroDivisionError("by   a\nbug of mine")


class Quits(Still):
    def act(self, observations, action_masks=None):
        os._exit(3)


class Hangs(Still):
    def act(self, observations, action_masks=None):
        time.sleep(60)


class NaNs(Still):
    def act(self, observations, action_masks=None):
        return np.full(self.shape, np.nan, np.float32)


class Unseeded(Still):
    """Random steps, other ones every time."""

    def act(self, observations, action_masks=None):
        return np.random.default_rng().uniform(-1, 1, self.shape).astype(np.float32)


class Sees(Still):
    """An oracle, as it says itself."""

    privileged = True

    def __init__(self, step: float = 0.125) -> None:
        super().__init__(step)

    def observe_task(self, task, mask) -> None:
        pass
