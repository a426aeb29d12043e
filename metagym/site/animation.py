"""An episode as a small animation: what an agent does in an environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv
from PIL import Image

from metagym.core import Agent
from metagym.loading import load_agent

LARGEST = 200_000  # bytes
MOST_FRAMES = 48


class Demo(NamedTuple):
    """Who plays an environment's animation: the agent's name, its arguments and which steps."""

    agent: str
    env_kwargs: dict[str, Any]
    every: int = 1


class _Zero:
    """The zero action, which in LearningRateControl is a sensible optimiser."""

    name = "the zero action"

    def bind(self, env: VectorEnv) -> None:
        space: Any = env.action_space
        self._action = np.zeros(space.shape, space.dtype)

    def reset(self, mask: np.ndarray) -> None:
        """Nothing to forget."""

    def act(self, observations: np.ndarray, action_masks: np.ndarray | None = None) -> np.ndarray:
        return self._action.copy()


# By id; random actions where nothing is said.
DEMOS: dict[str, Demo] = {
    "LearnToOptimize-v0": Demo("quadratics", {"dim": 2, "horizon": 40}, every=2),
    "LearningRateControl-v0": Demo("", {"dim": 2, "horizon": 40}, every=2),
    "BlackBoxOptimize-v0": Demo("one_plus_one_es", {"dim": 2, "horizon": 60}, every=3),
    "MetaBandit-v0": Demo("gittins", {}),
    "MetaTabularMDP-v0": Demo("psrl", {"n": 4}, every=3),
    "MetaMaze-v0": Demo("nearest_frontier", {}),
    "MetaNavigation2D-v0": Demo("trilateration", {}),
    "ArchitectureSearchTrial-v0": Demo("random", {"n": 6}),
}


def animate(env_id: str, path: Path, seed: int = 1) -> str:
    """Write the animation of one test episode to ``path`` (WebP, at most 200 kB).

    Args:
        env_id: the environment.
        path: the file.
        seed: of the episode.

    Returns:
        Who plays.
    """
    demo = DEMOS.get(env_id, Demo("random", {}))
    agent: Any = load_agent(demo.agent, env_id) if demo.agent else _Zero()
    with_frames: dict[str, Any] = {
        "render_mode": "rgb_array", "autoreset_mode": "Disabled", "split": "test",
    }  # fmt: skip
    env = gym.make_vec(env_id, 1, **demo.env_kwargs, **with_frames)
    try:
        _save(_play(agent, env, demo.every, seed), path, env.metadata["render_fps"])
    finally:
        env.close()
    return str(agent.name)


# -- the inside --------------------------------------------------------------------------------


def _play(agent: Agent, env: VectorEnv, every: int, seed: int) -> list[Image.Image]:
    """Frames of the start, of every so many steps and of the end."""
    if hasattr(agent, "bind"):
        agent.bind(env)
    observations, _ = env.reset(seed=seed)
    agent.reset(np.ones(1, dtype=bool))
    base: Any = env.unwrapped
    frames, over, step = [_frame(env)], False, 0
    while not over:
        masks = base.action_masks() if hasattr(base, "action_masks") else None
        observations, _, terminated, truncated, _ = env.step(agent.act(observations, masks))
        over, step = bool(terminated[0] or truncated[0]), step + 1
        if over or step % every == 0:
            frames.append(_frame(env))
    if len(frames) > MOST_FRAMES:
        kept = np.linspace(0, len(frames) - 1, MOST_FRAMES).round().astype(int)
        frames = [frames[i] for i in kept]
    return frames


def _frame(env: VectorEnv) -> Image.Image:
    drawn: Any = env.render()
    return Image.fromarray(np.asarray(drawn[0]))


def _save(frames: list[Image.Image], path: Path, fps: int) -> None:
    """Animated WebP that rests on its last frame, smaller and smaller until it is small enough."""
    pause = max(1000 // fps, 120)
    for width, quality in ((800, 70), (640, 60), (480, 50), (320, 40)):
        height = round(frames[0].height * width / frames[0].width)
        small = [frame.resize((width, height), Image.Resampling.LANCZOS) for frame in frames]
        small[0].save(
            path, save_all=True, append_images=small[1:], loop=0, quality=quality,
            duration=[pause] * (len(small) - 1) + [2500],
        )  # fmt: skip
        if path.stat().st_size <= LARGEST:
            return
