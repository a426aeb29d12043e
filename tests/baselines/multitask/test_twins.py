"""Gains over single-task twins: pairing, intervals that cover, results and tables."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from metagym.baselines.multitask import twins as twins_module
from metagym.baselines.multitask.data import TaskData
from metagym.baselines.multitask.network import make_learner
from metagym.baselines.multitask.sampling import TaskBatches
from metagym.baselines.multitask.saving import load_learner
from metagym.baselines.multitask.train import TrainConfig, train_multitask
from metagym.baselines.multitask.twins import Gains, gain_estimate, train_twins
from metagym.errors import InvalidArgumentError
from metagym.evaluation.results import Result
from metagym.tasks.multitask import make_task_set

CONFIG = TrainConfig(steps=120, batch=16, learning_rate=0.01, device="cpu")


def _pair(sets, seed, widths=(16,), config=CONFIG):
    learner = make_learner(sets.train, architecture_kwargs={"widths": widths}, seed=seed)
    train_multitask(learner, sets.train, sets.validation, config=config, seed=seed)
    return learner, train_twins(learner, sets.train, sets.validation, config=config, seed=seed)


def _record(twins, entry="step"):
    return [twin.training_record[entry] for twin in twins.learners.values()]


def test_twins_are_tied_by_nothing_and_are_as_wide():
    """Neither early stopping nor clipping of a twin may depend on another's task."""
    sets = make_task_set("related", tasks=3, train=10, features=8)
    learner, twins = _pair(sets, seed=0)
    for twin in twins.learners.values():
        assert twin.architecture.config.widths == learner.architecture.config.widths == (16,)
    config = dataclasses.replace(CONFIG, patience=2, eval_every=5, max_grad_norm=0.1)
    twins = train_twins(learner, sets.train, sets.validation, config=config)
    assert len(set(_record(twins))) > 1  # each stops for itself
    turned = [
        [part[0], *(dataclasses.replace(task, y=-9 * task.y[::-1]) for task in part[1:])]
        for part in sets[:2]
    ]
    again = train_twins(learner, *turned, config=config)
    assert _record(again)[0] == _record(twins)[0]
    found, same = again.example_scores(sets.test), twins.example_scores(sets.test)
    np.testing.assert_array_equal(found["task 0"], same["task 0"])
    assert not np.array_equal(found["task 1"], same["task 1"])
    # Nor does it matter whether there are others.
    (alone,) = train_twins(
        learner, *(part[:1] for part in sets[:2]), config=config
    ).learners.values()
    np.testing.assert_array_equal(alone.example_scores(sets.test[:1])["task 0"], same["task 0"])


def test_twins_take_as_many_steps_as_the_network_gives_a_task():
    sets = make_task_set("related", tasks=4, train=5)
    learner = make_learner(sets.train)
    assert _record(train_twins(learner, sets.train, config=CONFIG, steps=6)) == [6] * 4
    config = dataclasses.replace(CONFIG, steps=10, tasks_per_step=2)
    assert _record(train_twins(learner, sets.train, config=config)) == [5] * 4
    # The share of a step-by-step draw, which is even.
    batches = TaskBatches([5] * 4, 5, tasks_per_step=2)
    taken = np.sum([[len(rows) > 0 for rows in batches.next()] for _ in range(1000)], axis=0)
    np.testing.assert_allclose(taken, 500, rtol=0.15)


def test_twins_are_saved_one_by_one_and_go_on(tmp_path, monkeypatch):
    sets = make_task_set("related", tasks=3, train=10)
    learner, config = make_learner(sets.train), dataclasses.replace(CONFIG, steps=4)
    whole = train_twins(learner, sets.train, config=config)
    original = twins_module.train_multitask

    def broken(twin, tasks, *arguments, **kwargs):
        if tasks[0].name == "task 1":
            raise KeyboardInterrupt
        return original(twin, tasks, *arguments, **kwargs)

    monkeypatch.setattr(twins_module, "train_multitask", broken)
    with pytest.raises(KeyboardInterrupt):
        train_twins(learner, sets.train, out=tmp_path, config=config)
    assert [path.name for path in tmp_path.iterdir()] == ["task0"]
    monkeypatch.undo()
    again = train_twins(learner, sets.train, out=tmp_path, config=config, resume=True)
    assert load_learner(tmp_path / "task2", "cpu").names == ("task 2",)
    found, expected = again.example_scores(sets.test), whole.example_scores(sets.test)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])
    with pytest.raises(InvalidArgumentError, match="Did you mean 'task 2'"):
        again.example_scores([dataclasses.replace(sets.test[0], name="task 22")])


def test_twins_are_as_deep_as_the_way_through_several_parts():
    sets = make_task_set("related", train=5)
    for name, kwargs, widths in (
        ("multi_source", {"widths": (8,), "trunk_widths": (6, 5)}, (8, 6, 5)),
        ("mmoe", {"widths": (8, 7), "tower_widths": (6,)}, (8, 7, 6)),
        ("shared_private", {"widths": (8, 7)}, (8, 7)),
    ):
        learner = make_learner(sets.train, name, architecture_kwargs=kwargs)
        twins = train_twins(learner, sets.train, config=TrainConfig(steps=1, device="cpu"))
        assert {x.architecture.config.widths for x in twins.learners.values()} == {widths}


def test_sharing_helps_the_same_task_and_hurts_opposite_ones():
    """A trunk of four units: unrelated tasks fight for it, one task in three parts fills it."""
    gains, config = {}, dataclasses.replace(CONFIG, steps=60, learning_rate=0.02)
    for similarity in (1.0, 0.0):
        sets = [
            make_task_set("related", tasks=3, similarity=similarity, train=12, features=8,
                          test=200, seed=seed)
            for seed in range(2)
        ]  # fmt: skip
        pairs = [_pair(made, seed, (4,), config) for seed, made in enumerate(sets)]
        learners, twins = zip(*pairs, strict=True)
        gains[similarity] = Gains.of(learners, twins, [made.test for made in sets])
    assert gains[1.0].gain().low > 0
    assert gains[0.0].gain().value < gains[1.0].gain().low
    assert not gains[1.0].crossed


def test_a_network_gains_nothing_over_itself():
    sets = make_task_set("digits_three", train=30)
    learner, twins = _pair(sets, seed=0)
    gains = Gains.of([twins, twins], [twins, twins], [sets.test] * 2)
    assert gains.crossed
    assert gains.groups == (0, 0, 0)
    for name in gains.kinds:
        assert gains.gain(name) == (0, 0, 0)
    gains = Gains.of([learner], [twins], [sets.test])
    for name in gains.kinds:
        assert gains.ours[name].mean() == pytest.approx(learner.score(sets.test)[name])


def test_results_hold_the_gain_of_each_task_and_survive_their_json():
    sets = make_task_set("mixed", train=20)
    learner, twins = _pair(sets, seed=0)
    gains = Gains.of([learner] * 2, [twins] * 2, [sets.test] * 2)
    results = gains.results("hard, uniform", (3, 5), "mixed", {"train": 20})
    assert [r.env_kwargs["task"] for r in results] == ["breast cancer", "diabetes"]
    assert [r.metric.split(" over")[0] for r in results] == ["gain in accuracy", "gain in R²"]
    for k, (result, name) in enumerate(zip(results, gains.kinds, strict=True)):
        assert Result.from_json(result.to_json()) == result
        ours, twin = (
            learner.score(sets.test)[name],
            twins.learners[name].score(sets.test[k : k + 1])[name],
        )
        assert (result.seed, result.extras["seed"]) == (3, [3, 5])
        assert result.mean == pytest.approx(ours - twin)
        assert result.extras["score"] == pytest.approx([ours] * 2)
        assert result.interval == gains.gain(name)[1:]
    table = gains.table()
    assert "| breast cancer (accuracy) |" in table
    assert "mean" not in table  # of accuracies and R²: no such thing
    with pytest.raises(InvalidArgumentError, match="'diabetes' \\(R²\\)"):
        gains.gain()
    with pytest.raises(InvalidArgumentError, match="scores of 2 seeds, not of \\[3\\]"):
        gains.results("hard, uniform", [3], "mixed")


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
