"""NeuralArchitectureSearch-v0: an agent writes an architecture, token by token.

The setting of Zoph & Le (2017), Neural architecture search with reinforcement learning.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

from metagym.architectures import PAD, Evaluator, SearchSpace, make_evaluator
from metagym.architectures.trials import Rarity, draw_seeds
from metagym.core.batch import ALL, BatchedEnv
from metagym.core.single import SingleEnv
from metagym.core.task import Task
from metagym.errors import check_choice, check_kwargs, reject_unknown_kwargs

REWARDS = ("validation_accuracy", "rarity")


class NeuralArchitectureSearchVectorEnv(BatchedEnv):
    """
    ## Description

    The state is a partial architecture, an action is its next token, and the reward, when the last
    token is written, is how well a network of that architecture does on validation data.

    The default scores in microseconds: `digits201` is a table of all 15,625 cells of the
    NAS-Bench-201 space, trained for real on scikit-learn's digits. `nasbench201` reads the original
    table, and `train` and `language` train every architecture when it is asked for.

    ## Action Space

    `Discrete(V)`: the next token, `env.unwrapped.space.vocabulary` says what each means. Which may
    come next is in `info["action_mask"]` (int8, for `action_space.sample(mask)`) and in
    `action_masks()` (bool, which sb3-contrib's MaskablePPO asks for). A token that is masked ends
    the episode with reward 0.

    ## Observation Space

    `MultiDiscrete([V + 2] * (length + 1))`, int64: a start token, the tokens written, and padding.

    | index | meaning | range |
    |---|---|---|
    | 0 | START, always V + 1 | {V + 1} |
    | 1 … length | the tokens in order; PAD = V for those to come | 0 … V |

    ## Rewards

    0, and at the end what the evaluator says: the validation accuracy as a fraction for images, c /
    perplexity² for language (`env.unwrapped.evaluator.reward_name` says it in words). 0 after a
    masked token. `reward="rarity"` makes of it log10 of how many random architectures it takes to
    find one as good, counted among 10,000 of a table: one step of it is as hard to take at the top
    as at the bottom.

    ## Starting State

    No token.

    ## Task Distribution

    There is one space and one data set; what differs is luck. A task is the `seed` with which the
    architecture is trained: where a table holds several trainings, the seed picks one. The seeds of
    a split have one remainder of 3, so that each split of `digits201`, which has three trainings of
    everything, has one for itself. `reset(options={"task": {"seed": seeds}})` sets any.

    ## Episode End

    ### Termination

    With the last token of an architecture, or with a masked token.

    ### Truncation

    Never.

    ## Information

    | key | when | meaning |
    |---|---|---|
    | `architecture` | always | the string so far, in the notation of its literature |
    | `action_mask` | always | 1 for each token that may come next, int8 [V]; all 1 when the episode is over |
    | `task` | reset | `seed` |
    | `invalid_action` | end | whether a masked token ended the episode |
    | `validation` | end | what the evaluator says of validation data, whatever the reward is; or 0 |
    | `test` | end | the test score; an agent must not see it. Only where the evaluator has one |
    | `cost` | end | seconds of training that the evaluation stands for |
    | `score` | end | the test score where there is one, else the reward; 0 for no architecture |

    ## Arguments

    | name | type | default | meaning |
    |---|---|---|---|
    | `num_envs` | int | `1` | rows of the batch (`gym.make_vec` only) |
    | `evaluator` | str or Evaluator | `"digits201"` | a name of `metagym.architectures.EVALUATORS` or an evaluator of your own |
    | `space` | str, SearchSpace or None | `None` | a name of `metagym.architectures.SPACES` or a space of your own, for evaluators that score any; a table has its own |
    | `space_kwargs` | dict or None | `None` | arguments of the space, where it is a name |
    | `evaluator_kwargs` | dict or None | `None` | further arguments of the evaluator |
    | `reward` | str | `"validation_accuracy"` | `"validation_accuracy"` or `"rarity"` |
    | `split` | str | `"train"` | `"train"`, `"validation"` or `"test"` |
    | `autoreset_mode` | AutoresetMode or str | `AutoresetMode.NEXT_STEP` | what follows the end of an episode (`gym.make_vec` only) |
    | `render_mode` | str or None | `None` | `"rgb_array"`: the graph as it grows; `"ansi"`: the same in words |

    ## Registered Configurations

    | id | arguments |
    |---|---|
    | `NeuralArchitectureSearch-v0` | the defaults |
    | `ChainSearch-v0` | `evaluator="train", space="chain"`: convolutional chains, trained on digits |
    | `NASNetSearch-v0` | `evaluator="train", space="nasnet"`: normal and reduction cells, trained on digits |
    | `RecurrentCellSearch-v0` | `evaluator="language", space="recurrent"`: recurrent cells as trees, trained on text |
    | `ENASCellSearch-v0` | `evaluator="language", space="enas_recurrent"`: recurrent cells as graphs of 12 nodes |

    ## References

    - B. Zoph, Q. Le. Neural architecture search with reinforcement learning. ICLR 2017.
    - X. Dong, Y. Yang. NAS-Bench-201: extending the scope of reproducible neural architecture
      search. ICLR 2020.

    ## Version History

    - v0: first version.
    """  # noqa: E501

    metadata: dict[str, Any] = {"render_modes": ["rgb_array", "ansi"], "render_fps": 4}  # noqa: RUF012
    score_name = "test score"
    _state_names = ("_tokens", "_allowed", "_invalid", "_validation", "_test", "_cost")

    def __init__(
        self,
        num_envs: int = 1,
        *,
        evaluator: str | Evaluator = "digits201",
        space: str | SearchSpace | None = None,
        space_kwargs: dict[str, Any] | None = None,
        evaluator_kwargs: dict[str, Any] | None = None,
        reward: str = "validation_accuracy",
        split: str = "train",
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        **unknown: Any,
    ) -> None:
        reject_unknown_kwargs(type(self), unknown)
        arguments = check_kwargs("evaluator_kwargs", evaluator_kwargs)
        space_kwargs = check_kwargs("space_kwargs", space_kwargs)
        self.evaluator = make_evaluator(evaluator, space, space_kwargs, **arguments)
        self.space = self.evaluator.space
        self.reward = check_choice("reward", reward, REWARDS)
        self._rarity = Rarity(self.evaluator) if reward == "rarity" else None
        self.pad, self.start = len(self.space.vocabulary), len(self.space.vocabulary) + 1
        super().__init__(
            num_envs,
            single_observation_space=gym.spaces.MultiDiscrete(
                np.full(self.space.length + 1, self.pad + 2)
            ),
            single_action_space=gym.spaces.Discrete(len(self.space.vocabulary)),
            horizon=None,
            split=split,
            autoreset_mode=autoreset_mode,
            render_mode=render_mode,
        )
        self._every_row = np.arange(self.num_envs)
        self._tokens = self.space.empty(self.num_envs)
        self._first_mask = self.space.mask(self.space.empty(1))[0]
        self._allowed = np.tile(self._first_mask, (self.num_envs, 1))
        self._invalid = np.zeros(self.num_envs, dtype=bool)
        self._validation, self._test, self._cost = np.zeros((3, self.num_envs))

    def action_masks(self) -> np.ndarray:
        """Which token may come next, bool [num_envs, V]."""
        return self._allowed.copy()

    def _sample_tasks(self, rng: np.random.Generator, n: int) -> Task:
        return {"seed": draw_seeds(rng, n, self.split)}

    def _start(self, rows: Any) -> None:
        self._tokens[rows] = PAD
        self._allowed[rows] = self._first_mask
        self._invalid[rows] = False
        for values in (self._validation, self._test, self._cost):
            values[rows] = 0.0

    def _advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        running = ~self._terminated  # nothing is evaluated for rows that wait for a reset
        legal = self._allowed[self._every_row, actions]
        written = np.flatnonzero(running & legal)
        self._tokens[written, self._elapsed[written]] = actions[written]
        self._invalid |= running & ~legal
        allowed = self.space.mask(self._tokens)
        complete = ~allowed.any(axis=1)
        rewards = np.zeros(self.num_envs)
        if len(rows := np.flatnonzero(running & legal & complete)):
            found = self.evaluator.evaluate(self._tokens[rows], self._task["seed"][rows])
            self._validation[rows], self._cost[rows] = found.reward, found.cost
            self._test[rows] = 0.0 if self.evaluator.test_name is None else found.test
            rewards[rows] = self._rarity(found.reward) if self._rarity else found.reward
        over = complete | self._invalid
        self._allowed = allowed | over[:, None]
        return rewards, over, self._start_info()

    def _observe(self, rows: Any = ALL) -> np.ndarray:
        tokens = self._tokens[rows]
        observations = np.empty((len(tokens), self.space.length + 1), dtype=np.int64)
        observations[:, 0] = self.start
        observations[:, 1:] = np.where(tokens == PAD, self.pad, tokens)
        return observations

    def _start_info(self) -> dict[str, np.ndarray]:
        return {
            "architecture": self.space.strings(self._tokens),
            "action_mask": self._allowed.astype(np.int8),
        }

    def _end_info(self) -> dict[str, np.ndarray]:
        info = {
            "invalid_action": self._invalid,
            "validation": self._validation,
            "cost": self._cost,
            "score": self._validation,
        }
        if self.evaluator.test_name is not None:
            info["test"] = info["score"] = self._test
        return info

    def close_extras(self, **kwargs: Any) -> None:
        """End the evaluator's workers, if it has any."""
        self.evaluator.close()

    def _render_row(self, row: int) -> Any:
        from metagym.rendering.graphs import describe_graph, draw_graph  # pillow is slow to import

        graph = self.space.graph(self._tokens[row])
        if self.render_mode == "ansi":
            return describe_graph(graph)
        title = f"{self._elapsed[row]} tokens"
        if self._terminated[row]:
            title = "no architecture: a masked token" if self._invalid[row] else (
                f"{self.evaluator.reward_name} {self._validation[row]:.4f}"
            )  # fmt: skip
        return draw_graph(graph, title, self.space.to_string(self._tokens[row]))


class NeuralArchitectureSearchEnv(SingleEnv):
    batched = NeuralArchitectureSearchVectorEnv

    def action_masks(self) -> np.ndarray:
        """Which token may come next, bool [V]."""
        masks: np.ndarray = self._batch.action_masks()[0]  # type: ignore[attr-defined]
        return masks
