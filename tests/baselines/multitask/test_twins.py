"""Gains over single-task twins: pairing, intervals that cover, results and tables."""

from __future__ import annotations

import numpy as np
import pytest

from metagym.baselines.multitask.data import TaskData
from metagym.baselines.multitask.network import make_learner
from metagym.baselines.multitask.train import TrainConfig, train_multitask
from metagym.baselines.multitask.twins import Gains, gain_estimate, train_twins
from metagym.errors import InvalidArgumentError
from metagym.evaluation.results import Result
from metagym.tasks.multitask import make_task_set

CONFIG = TrainConfig(steps=120, batch=16, learning_rate=0.01, device="cpu")


def _pair(sets, seed, architecture="hard", widths=(16,)):
    kwargs = {"widths": widths}
    learner = make_learner(sets.train, architecture, architecture_kwargs=kwargs, seed=seed)
    train_multitask(learner, sets.train, sets.validation, config=CONFIG, seed=seed)
    return learner, train_twins(learner, sets.train, sets.validation, CONFIG, seed=seed)


def test_twins_share_nothing_and_are_as_wide():
    sets = make_task_set("related", tasks=3, similarity=1.0, train=10, features=8)
    learner, twins = _pair(sets, seed=0)
    assert twins.architecture.name == "single"
    assert twins.architecture.shared_parameters() == []
    assert twins.architecture.config.widths == learner.architecture.config.widths == (16,)
    # A task's twin does not know of the others: change their labels, and it stays the same.
    other = [sets.train[0], *(TaskData(t.name, t.kind, t.x, -t.y) for t in sets.train[1:])]
    again = train_twins(learner, other, None, CONFIG, seed=0)
    x = sets.test[0].x
    np.testing.assert_array_equal(again.predict("task 0", x), twins.predict("task 0", x))
    assert not np.array_equal(again.predict("task 1", x), twins.predict("task 1", x))


def test_twins_are_as_deep_as_the_way_through_several_parts():
    sets = make_task_set("related", train=5)
    for name, kwargs, widths in (
        ("multi_source", {"widths": (8,), "trunk_widths": (6, 5)}, (8, 6, 5)),
        ("mmoe", {"widths": (8, 7), "tower_widths": (6,)}, (8, 7, 6)),
        ("shared_private", {"widths": (8, 7)}, (8, 7)),
    ):
        learner = make_learner(sets.train, name, architecture_kwargs=kwargs)
        twins = train_twins(learner, sets.train, config=TrainConfig(steps=1, device="cpu"))
        assert twins.architecture.config.widths == widths


def test_sharing_helps_the_same_task_and_hurts_opposite_ones():
    """A trunk of four units: unrelated tasks fight for it, one task in four parts fills it."""
    gains = {}
    for similarity in (1.0, 0.0):
        sets = [
            make_task_set("related", tasks=4, similarity=similarity, train=12, features=8,
                          test=200, seed=seed)
            for seed in range(3)
        ]  # fmt: skip
        pairs = [_pair(made, seed, widths=(4,)) for seed, made in enumerate(sets)]
        learners, twins = zip(*pairs, strict=True)
        gains[similarity] = Gains.of(learners, twins, [made.test for made in sets])
    assert gains[1.0].gain().low > 0
    assert gains[0.0].gain().value < gains[1.0].gain().low
    assert not gains[1.0].crossed


def test_a_network_gains_nothing_over_itself():
    sets = make_task_set("digits_three", train=30)
    _, twins = _pair(sets, seed=0)
    gains = Gains.of([twins, twins], [twins, twins], [sets.test] * 2)
    assert gains.crossed
    assert gains.groups == (0, 0, 0)
    for name in gains.kinds:
        assert gains.gain(name) == (0, 0, 0)
        assert gains.ours[name].mean() == pytest.approx(twins.score(sets.test)[name])


def test_results_hold_the_gain_of_each_task_and_survive_their_json():
    sets = make_task_set("mixed", train=20)
    learner, twins = _pair(sets, seed=0)
    gains = Gains.of([learner] * 2, [twins] * 2, [sets.test] * 2)
    results = gains.results("hard, uniform", "mixed", {"train": 20})
    assert [r.env_kwargs["task"] for r in results] == ["breast cancer", "diabetes"]
    assert [r.metric.split(" over")[0] for r in results] == ["gain in accuracy", "gain in R²"]
    for result, name in zip(results, gains.kinds, strict=True):
        assert Result.from_json(result.to_json()) == result
        ours, twin = learner.score(sets.test)[name], twins.score(sets.test)[name]
        assert result.mean == pytest.approx(ours - twin)
        assert result.extras["score"] == pytest.approx([ours] * 2)
        assert result.interval == gains.gain(name)[1:]
    table = gains.table()
    assert "| breast cancer (accuracy) |" in table
    assert "mean" not in table  # of accuracies and R²: no such thing


# -- the interval ------------------------------------------------------------------------------


def test_with_one_level_the_interval_is_the_usual_one():
    rng = np.random.default_rng(0)
    examples, seeds = rng.normal(size=400), rng.normal(size=40)
    width = 2 * 1.96 * examples.std() / np.sqrt(400)
    found = gain_estimate([examples[None]])
    assert found.high - found.low == pytest.approx(width, rel=0.1)
    width = 2 * 1.96 * seeds.std() / np.sqrt(40)
    for crossed in (True, False):
        found = gain_estimate([np.repeat(seeds[:, None], 50, axis=1)], crossed=crossed)
        assert found.high - found.low == pytest.approx(width, rel=0.1)
        assert found.value == pytest.approx(seeds.mean())


def test_examples_that_seeds_or_tasks_share_do_not_average_out():
    """What all seeds find hard stays in the interval; drawn anew for each it would shrink."""
    examples = np.random.default_rng(0).normal(size=(1, 300)).repeat(10, 0)

    def width(*tasks, **kwargs):
        found = gain_estimate(tasks, **kwargs)
        return found.high - found.low

    assert width(examples, crossed=True) > 2.5 * width(examples, crossed=False)
    shared = width(*[examples] * 4, groups=(0, 0, 0, 0))
    assert shared == pytest.approx(width(examples), rel=0.05)
    assert shared > 1.7 * width(*[examples] * 4)


def test_intervals_cover_the_truth():
    """Seed, example and residual effects; 95 % of intervals should hold 0, fewer with 8 seeds."""
    rng, hits = np.random.default_rng(0), 0
    for trial in range(60):
        x = rng.normal(size=(8, 1)) + rng.normal(size=(1, 60)) * 3 + rng.normal(size=(8, 60))
        found = gain_estimate([x], seed=trial)
        hits += found.low <= 0 <= found.high
    assert hits >= 50


@pytest.mark.parametrize(
    ("differences", "words"),
    [
        ([], "same seeds"),
        ([np.zeros(3)], "\\(3,\\)"),
        ([np.zeros((2, 3)), np.zeros((3, 3))], "same seeds"),
        ([np.zeros((2, 0))], "same seeds"),
        ([np.full((2, 3), np.nan)], "not finite"),
    ],
)
def test_bad_differences_are_named(differences, words):
    with pytest.raises(InvalidArgumentError, match=words):
        gain_estimate(differences)


def test_seeds_with_other_numbers_of_examples_are_refused():
    task = TaskData("a", "binary", np.zeros((2, 1)), [0, 1])
    scores = [{"a": np.zeros(2)}, {"a": np.zeros(3)}]
    with pytest.raises(InvalidArgumentError, match="as many test examples"):
        Gains.from_scores(scores, scores, [task], False)
