"""ArchitectureSearchTrial-v0: a whole architecture search is one episode.

RL² (Duan et al. 2016) on the searches of NAS-Bench-201 (Dong & Yang 2020): an agent that keeps its
memory from one architecture to the next, and is paid for the best, learns how to search.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

from metagym.architectures import PAD, Evaluation, Evaluator, SearchSpace, make_evaluator
from metagym.architectures.trials import SMALLEST, Rarity, draw_orders, draw_seeds
from metagym.core.batch import ALL
from metagym.core.single import SingleEnv
from metagym.core.task import Task
from metagym.core.trial import InnerEpisodesEnv
from metagym.errors import (
    InvalidArgumentError,
    check_above_zero,
    check_bool,
    check_choice,
    check_kwargs,
    check_positive,
    reject_unknown_kwargs,
)

REWARDS = ("improvement", "rarity", "validation")
SCORES = ("raw", "rank")
SHUFFLES = ("none", "tokens", "places")
REWARD_BOUND = 10.0  # rewards and validation scores are shown to agents up to this


class ArchitectureSearchTrialVectorEnv(InnerEpisodesEnv):
    """
    ## Description

    n architectures, one after the other, each written token by token and scored on validation
    data. The return is what the best of them is worth: an agent that remembers what it tried can
    learn to search.

    ## Action Space

    `Discrete(V)`: the next token of the current architecture; `info["action_mask"]` and
    `action_masks()` say which may come next. A masked token ends the architecture: it is worth 0,
    costs nothing, and counts as one of the n.

    ## Observation Space

    `Box((2 · S + V + 2,), float32)` with S = length · V + 2.

    | index | meaning | range |
    |---|---|---|
    | 0 … S-3 | the state s: the tokens so far, each one-hot | {0, 1} |
    | S-2 | the validation score of the architecture finished last, 0 before one is; with `scores="rank"` its rank among the trial's architectures up to it, (worse ones + half the equal ones, itself included) / all | [0, 10] |
    | S-1 | the share of the budget that is left | [0, 1] |
    | S … S+V-1 | the previous action, one-hot | {0, 1} |
    | S+V | the previous reward; with `scores="rank"` 1 where it brought a new best | [0, 10] |
    | S+V+1 | done: 1 where the previous step ended an architecture | {0, 1} |
    | S+V+2 … 2·S+V+1 | the state s' that it ended in, all its tokens and its score; else 0 | [0, 10] |

    `env.unwrapped.layout.split(observation)` gives the blocks by name.

    ## Rewards

    - `"improvement"` (default): by how much the architecture is better than the best before it, or
      0; the return is the best validation score.
    - `"validation"`: the validation score of every architecture.
    - `"rarity"`: by how much the best has become rarer: the growth of log10 of how many random
      architectures it takes to find one as good. Its steps stay of one size where those of
      accuracies become tiny. It needs a table to count in: 10,000 random architectures of it.

    What an agent is shown with `scores="rank"` does not depend on the reward or on the scale of the
    scores, so that what it learned on one table it can do on another.

    ## Starting State

    No architecture, and no token of the first.

    ## Task Distribution

    A task is the `seed` with which all of a trial's architectures are trained, so that one that is
    written twice scores the same, and `operations` [length, V]: what each token means at each
    place. With `shuffle="places"` every trial has a random order of its own at every place, so that
    what a token is worth has to be found out for each; with `"tokens"` there is one order for all
    places. With `"none"` tokens are what they are: there is one table in all trials, and an agent
    may learn it by heart. Splits share neither orders nor seeds (see
    `metagym.architectures.trials`). `reset(options={"task": task})` sets both.

    ## Episode End

    An inner episode is an architecture; it ends with its last token or with a masked one.

    ### Termination

    After n architectures, or with the one that would cost more than is left of `budget_seconds`,
    which does not count: the budget defines the task. With `free_duplicates=True` after n different
    ones, or 2 · n in all.

    ### Truncation

    Never.

    ## Information

    | key | when | meaning |
    |---|---|---|
    | `action_mask` | always | 1 for each token that may come next, int8 [V] |
    | `inner_episode` | always after the first step | how many architectures have been written |
    | `invalid_action` | every step | whether it was a masked token |
    | `validation` | every step | of the architecture that this step ended; else 0 |
    | `best_validation` | every step | the best so far; 0 before there is one |
    | `cost` | every step | simulated seconds spent so far |
    | `task` | reset | `seed` and `operations` |
    | `architecture` | end | the best by validation, in the notation of its literature |
    | `score` | end | its test score where there is one, else its validation score |
    | `inner_returns`, `inner_lengths` | end | of each architecture, [n] (or [2 · n]) |

    ## Arguments

    | name | type | default | meaning |
    |---|---|---|---|
    | `num_envs` | int | `1` | rows of the batch (`gym.make_vec` only) |
    | `evaluator` | str or Evaluator | `"digits201"` | a name of `metagym.architectures.EVALUATORS` or an evaluator of your own |
    | `space` | str, SearchSpace or None | `None` | for evaluators that score any space |
    | `space_kwargs` | dict or None | `None` | arguments of the space, where it is a name |
    | `evaluator_kwargs` | dict or None | `None` | further arguments of the evaluator |
    | `n` | int | `32` | architectures of a trial |
    | `budget_seconds` | float or None | `None` | what they may cost together; None is no limit |
    | `free_duplicates` | bool | `False` | an architecture that is isomorphic to one before it costs nothing, is none of the n, and scores what the first of its kind did |
    | `reward` | str | `"improvement"` | `"improvement"`, `"rarity"` or `"validation"` |
    | `scores` | str | `"raw"` | how agents are shown scores: `"raw"` or `"rank"` |
    | `shuffle` | str | `"none"` | `"none"`, `"tokens"` or `"places"`: tokens mean something else in every trial; for spaces where every token may come anywhere |
    | `split` | str | `"train"` | `"train"`, `"validation"` or `"test"` |
    | `autoreset_mode` | AutoresetMode or str | `AutoresetMode.NEXT_STEP` | what follows the end of an episode (`gym.make_vec` only) |
    | `render_mode` | str or None | `None` | `"rgb_array"`: the architecture being written, and the best |

    ## Registered Configurations

    | id | arguments |
    |---|---|
    | `ArchitectureSearchTrial-v0` | `shuffle="tokens"` |

    ## References

    - Y. Duan et al. RL²: fast reinforcement learning via slow reinforcement learning.
      arXiv:1611.02779, 2016.
    - X. Dong, Y. Yang. NAS-Bench-201: extending the scope of reproducible neural architecture
      search. ICLR 2020.

    ## Version History

    - v0: first version.
    """  # noqa: E501

    score_name = "test score of the best"
    _state_names = (
        *InnerEpisodesEnv._state_names,
        "_tokens", "_written", "_last", "_best", "_best_test", "_best_tokens", "_cost", "_spent",
        "_seen", "_evaluated", "_validations", "_improved",
    )  # fmt: skip

    def __init__(
        self,
        num_envs: int = 1,
        *,
        evaluator: str | Evaluator = "digits201",
        space: str | SearchSpace | None = None,
        space_kwargs: dict[str, Any] | None = None,
        evaluator_kwargs: dict[str, Any] | None = None,
        n: int = 32,
        budget_seconds: float | None = None,
        free_duplicates: bool = False,
        reward: str = "improvement",
        scores: str = "raw",
        shuffle: str = "none",
        split: str = "train",
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        **unknown: Any,
    ) -> None:
        reject_unknown_kwargs(type(self), unknown)
        arguments = check_kwargs("evaluator_kwargs", evaluator_kwargs)
        space_kwargs = check_kwargs("space_kwargs", space_kwargs)
        self.evaluator = make_evaluator(evaluator, space, space_kwargs, **arguments)
        self.space, self.n = self.evaluator.space, check_positive("n", n)
        self.budget_seconds = (
            None if budget_seconds is None else check_above_zero("budget_seconds", budget_seconds)
        )
        self.free_duplicates = check_bool("free_duplicates", free_duplicates)
        self.reward = check_choice("reward", reward, REWARDS)
        self.scores = check_choice("scores", scores, SCORES)
        self.shuffle = check_choice("shuffle", shuffle, SHUFFLES)
        self._rarity = Rarity(self.evaluator) if self.reward == "rarity" else None
        self._vocabulary = len(self.space.vocabulary)
        everywhere = self.space.mask(self.space.empty(1)).all()
        if self.shuffle != "none" and not (everywhere and self._vocabulary >= SMALLEST):
            raise InvalidArgumentError(
                f"shuffle={shuffle!r} needs a space of {SMALLEST} tokens or more, each of which "
                f"may come anywhere; the space {self.space.name!r} is none. Use shuffle='none'."
            )
        size = self.space.length * self._vocabulary
        high = np.append(np.ones(size), [REWARD_BOUND, 1.0])
        super().__init__(
            num_envs,
            episodes=2 * self.n if self.free_duplicates else self.n,
            state_space=gym.spaces.Box(np.zeros(size + 2, np.float32), high.astype(np.float32)),
            action_space=gym.spaces.Discrete(self._vocabulary),
            reward_range=(0.0, REWARD_BOUND),
            split=split,
            autoreset_mode=autoreset_mode,
            render_mode=render_mode,
        )
        self._tokens = self.space.empty(self.num_envs)  # of the current architecture
        self._written = np.zeros(self.num_envs, dtype=np.int64)  # how many they are
        self._last, self._best, self._best_test, self._cost = np.zeros((4, self.num_envs))
        self._best_tokens = self.space.empty(self.num_envs)
        self._spent = np.zeros(self.num_envs, dtype=bool)  # whose seconds are
        # Where duplicates are free: what the first of each kind was worth, by canonical key.
        self._seen: list[dict[str, tuple[float, float]]] = [{} for _ in range(self.num_envs)]
        self._evaluated = np.zeros(self.num_envs, dtype=np.int64)  # architectures paid for
        self._validations = np.zeros((self.num_envs, self.episodes))  # of all, for their ranks
        self._improved = np.zeros(self.num_envs, dtype=bool)  # whose last step brought a new best

    @property
    def trial_length(self) -> int:
        """The most steps that a trial can take."""
        return self.episodes * self.space.length

    def action_masks(self) -> np.ndarray:
        """Which token may come next, bool [num_envs, V]; all where a trial is over."""
        allowed = self.space.mask(self._tokens)
        return allowed | self._terminated[:, None]

    def _sample_tasks(self, rng: np.random.Generator, n: int) -> Task:
        task = {"seed": draw_seeds(rng, n, self.split)}
        length, size = self.space.length, self._vocabulary
        orders = np.arange(size)[None, None]
        if self.shuffle != "none":
            places = length if self.shuffle == "places" else 1
            orders = draw_orders(rng, n * places, size, self.split).reshape(n, places, size)
        task["operations"] = np.array(np.broadcast_to(orders, (n, length, size)))
        return task

    def _check_task_values(self, task: Task) -> None:
        if (np.sort(task["operations"], axis=2) != np.arange(self._vocabulary)).any():
            raise InvalidArgumentError(
                f"options['task']['operations'] has to hold each of 0 … {self._vocabulary - 1} "
                "once at every place."
            )

    def _start(self, rows: Any) -> None:
        for values in (self._last, self._best, self._best_test, self._cost):
            values[rows] = 0.0
        self._best_tokens[rows] = PAD
        self._spent[rows] = False
        self._evaluated[rows] = 0
        for row in self._every_row[rows]:
            self._seen[row] = {}
        super()._start(rows)

    def _start_episode(self, rows: Any) -> None:
        self._tokens[rows] = PAD
        self._written[rows] = 0

    def _inner_step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        running = ~self._terminated  # nothing is evaluated for rows that wait for a reset
        legal = self.space.mask(self._tokens)[self._every_row, actions] & running
        written = np.flatnonzero(legal)
        place = self._written[written]
        meant = self._task["operations"][written, place, actions[written]]
        self._tokens[written, place] = meant
        self._written += legal
        complete = legal & self.space.finished(self._tokens)
        rewards, validation = np.zeros(self.num_envs), np.zeros(self.num_envs)
        self._improved[:] = False
        if len(rows := np.flatnonzero(complete)):
            rows, found = self._paid(rows)
            validation[rows] = found.reward
            better = found.reward > self._best[rows]
            rewards[rows] = self._rewards(found.reward, self._best[rows])
            best = rows[better]
            self._improved[best] = True
            self._best[best], self._best_tokens[best] = found.reward[better], self._tokens[best]
            self._best_test[best] = found.test[better]
        ended = complete | (running & ~legal)
        self._last = np.where(ended, self._worth(ended, validation), self._last)
        self._evaluated += running & ~legal
        info = {
            "validation": validation, "best_validation": self._best.copy(),
            "cost": self._cost.copy(), "invalid_action": running & ~legal,
        }  # fmt: skip
        return rewards, ended, info

    def _rewards(self, found: np.ndarray, best: np.ndarray) -> np.ndarray:
        """What architectures that score ``found`` earn where ``best`` is the best so far."""
        if self.reward == "validation":
            return found
        if self._rarity is not None:
            found, best = self._rarity(found), self._rarity(best)
        return np.maximum(found - best, 0.0)

    def _worth(self, ended: np.ndarray, validation: np.ndarray) -> np.ndarray:
        """What agents are shown as the scores of the architectures that have ``ended``."""
        if self.scores == "raw":
            return validation
        rows = np.flatnonzero(ended)
        last, now = validation[rows], self._episode[rows]
        self._validations[rows, now] = last
        known = np.arange(self.episodes) <= now[:, None]
        others = self._validations[rows]
        worse = ((others < last[:, None]) & known).sum(axis=1)
        equal = ((others == last[:, None]) & known).sum(axis=1)
        ranks = np.zeros(self.num_envs)
        ranks[rows] = (worse + 0.5 * equal) / (now + 1)
        return ranks

    def _show(self, actions: np.ndarray, rewards: np.ndarray, ended: np.ndarray | float) -> None:
        super()._show(actions, rewards if self.scores == "raw" else self._improved, ended)

    def _paid(self, rows: np.ndarray) -> tuple[np.ndarray, Evaluation]:
        """Those of ``rows`` whose architecture the budget covers, evaluated."""
        found = self.evaluator.evaluate(self._tokens[rows], self._task["seed"][rows])
        found = Evaluation(*(values.copy() for values in found))
        new = np.ones(len(rows), dtype=bool)
        if self.free_duplicates:
            for i, row in enumerate(rows):
                key = self.space.canonical(self._tokens[row])
                new[i] = key not in self._seen[row]
                first = self._seen[row].setdefault(key, (found.reward[i], found.test[i]))
                found.reward[i], found.test[i] = first
        total = self._cost[rows] + found.cost * new
        covered = total <= (np.inf if self.budget_seconds is None else self.budget_seconds)
        self._spent[rows[~covered]] = True
        self._cost[rows[covered]] = total[covered]
        self._evaluated[rows[covered & new]] += 1
        return rows[covered], Evaluation(*(values[covered] for values in found))

    def _advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        rewards, terminated, info = super()._advance(actions)
        over = terminated | self._spent | (self._evaluated >= self.n)
        info["action_mask"] = (self.space.mask(self._tokens) | over[:, None]).astype(np.int8)
        return rewards, over, info

    def _start_info(self) -> dict[str, np.ndarray]:
        return {"action_mask": self.space.mask(self._tokens).astype(np.int8)}

    def _states(self, rows: Any = ALL) -> np.ndarray:
        tokens = self._tokens[rows]
        # What is shown are the agent's own tokens, whatever they mean.
        own = np.argsort(self._task["operations"][rows], axis=2)
        written = np.where(tokens == PAD, 0, tokens)
        shown = np.take_along_axis(own, written[..., None], axis=2)[..., 0]
        one_hot = (shown[..., None] == np.arange(self._vocabulary)) & (tokens != PAD)[..., None]
        left = 1.0 - self._evaluated[rows] / self.n
        if self.budget_seconds is not None:
            left = np.minimum(left, 1.0 - self._cost[rows] / self.budget_seconds)
        numbers = np.stack([np.clip(self._last[rows], 0.0, REWARD_BOUND), left.clip(0.0)], axis=1)
        return np.concatenate([one_hot.reshape(len(tokens), -1), numbers], axis=1)

    def _end_info(self) -> dict[str, np.ndarray]:
        tested = self.evaluator.test_name is not None
        return {
            **super()._end_info(),
            "architecture": self.space.strings(self._best_tokens),
            "score": self._best_test if tested else self._best,
        }

    def close_extras(self, **kwargs: Any) -> None:
        """End the evaluator's workers, if it has any."""
        self.evaluator.close()

    def _render_row(self, row: int) -> np.ndarray:
        from metagym.rendering.graphs import draw_graph  # pillow is slow to import

        over, written = bool(self._terminated[row]), int(self._evaluated[row])
        tokens = self._best_tokens[row] if over else self._tokens[row]
        title = f"architecture {written + 1} of {self.n}, best so far {self._best[row]:.4f}"
        if over:
            title = f"the best of {written}: {self._best[row]:.4f}"
        return draw_graph(self.space.graph(tokens), title, self.space.to_string(tokens))


class ArchitectureSearchTrialEnv(SingleEnv):
    batched = ArchitectureSearchTrialVectorEnv

    def action_masks(self) -> np.ndarray:
        """Which token may come next, bool [V]."""
        masks: np.ndarray = self._batch.action_masks()[0]  # type: ignore[attr-defined]
        return masks
