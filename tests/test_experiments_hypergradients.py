"""experiments/hypergradients.py in miniature: runs agree, costs are counted, work is kept."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from metagym.baselines.learned_optimizers.hypergradient import (
    Hyperparameters,
    differentiate_training,
)
from metagym.errors import InvalidArgumentError

FOLDER = Path(__file__).parent.parent / "experiments"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("hypergradients", FOLDER / "hypergradients.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tiny(script, tmp_path):
    return script.Config(
        out=tmp_path, seeds=(0, 1), steps=6, meta_steps=3, meta_lr=0.3, examples=100, batch=10,
        width=4, unseen=2,
    )  # fmt: skip


def test_it_runs_counts_its_costs_and_does_no_work_twice(script, tiny, capsys, monkeypatch):
    content = script.main(tiny)
    cost = content["cost"]
    assert cost["hyperparameters"] == 2 * 6 + 2 * 4 and cost["states"] <= 2 * 3 + 2
    searched = len(script.grid()) + math.ceil(3 * cost["hypergradient"] / cost["run"])
    for found in content["results"]:
        assert len(found[script.RANDOM]["values"]) == searched
        assert len(found[script.GRID]["values"]) == len(script.grid())
        for method in (
            script.GRID,
            script.RANDOM,
            script.PLAIN,
            script.REFINED,
        ):  # the best that it met
            values = found[method]["values"]
            assert found[method]["validation"] == pytest.approx(min(values), rel=1e-4)
        assert found[script.PLAIN]["validation"] < found[script.START]["validation"]
        begun = found[script.REFINED]["values"][0]
        assert begun == pytest.approx(found[script.GRID]["validation"], rel=1e-3)
        assert len(set(found[script.GRID]["rates"])) == 1 < len(set(found[script.PLAIN]["rates"]))
    table = (tiny.out / "table.md").read_text()
    assert table.strip() in capsys.readouterr().out
    assert all(f"| {method} | " in table for method in script.METHODS)
    assert (tiny.out / "hypergradients.png").stat().st_size > 10_000
    assert json.loads((tiny.out / "results.json").read_text()) == content

    monkeypatch.setattr(script, "run_seed", None)  # nothing is left to do
    monkeypatch.setattr(script, "measure", None)
    assert script.main(tiny) == content and (tiny.out / "table.md").read_text() == table


def test_all_three_ways_to_train_agree(script, tiny):
    digits = script.Digits(0, tiny)
    generator = torch.Generator().manual_seed(0)
    initial, order = digits.run(0)
    given = Hyperparameters(
        **{
            name: value + 0.3 * torch.randn(value.shape, generator=generator)
            for name, value in Hyperparameters.constant(initial, 6, rate=1.0, decay=0.01)
            .tensors()
            .items()
        }
    )
    one = script.train_one(digits, given, 0)
    train_loss, validation_loss, start = script.objective(digits, lambda i: i)
    exact = differentiate_training(train_loss, validation_loss, start(0), given)
    other, other_order = digits.run(1)
    both = script.train_many(
        digits, given, {k: torch.stack([initial[k], other[k]]) for k in initial},
        torch.stack([order, other_order]),
    )  # fmt: skip
    stacked = Hyperparameters(**{k: torch.stack([v, v + 0.1]) for k, v in given.tensors().items()})
    candidates = script.train_many(digits, stacked, initial, order)
    for name, value in one.items():
        torch.testing.assert_close(exact.parameters[name], value)
        torch.testing.assert_close(both[name][0], value)
        torch.testing.assert_close(candidates[name][0], value)
        assert not torch.allclose(both[name][1], value)
        assert not torch.allclose(candidates[name][1], value)
    again = differentiate_training(train_loss, validation_loss, start(1), given)
    for name, value in again.parameters.items():  # with the minibatches of run 1
        torch.testing.assert_close(both[name][1], value)


def test_candidates_are_chosen_by_validation_and_diverged_ones_never(script, tiny):
    digits = script.Digits(1, tiny)
    constants = np.array([[1e30, 0.5, 1.0, 1e-4], [1e-9, 0.5, 0.5, 1e-4], [0.5, 0.9, 1.0, 1e-2]])
    best, values = script.by_candidates(digits, tiny, constants)
    initial = digits.run(0)[0]
    losses = []
    for rate, momentum, scale, decay in constants[1:]:
        given = Hyperparameters.constant(
            initial, 6, rate=rate, momentum=momentum, scale=scale, decay=decay
        )
        losses.append(float(script.loss(script.train_one(digits, given, 0), digits.validation)))
    assert values == pytest.approx([script.WORST, *losses], rel=1e-4)
    chosen = constants[1 + int(np.argmin(losses))]
    assert float(best.log_rates[0].exp()) == pytest.approx(chosen[0], rel=1e-4)


def test_constants_are_in_range(script):
    found = script.drawn(np.random.default_rng(0), 2000)
    assert found.shape == (2000, 4) and (found > 0.0).all() and (found[:, 1] < 1.0).all()
    assert np.median(found[:, 0]) == pytest.approx(math.sqrt(0.03 * 30.0), rel=0.2)
    assert np.median(1.0 - found[:, 1]) == pytest.approx(0.1, rel=0.2)
    assert len(np.unique(script.grid(), axis=0)) == len(script.RATES) * len(script.MOMENTA)


def test_splits_and_runs(script, tiny):
    digits = script.Digits(0, tiny)
    sets = [digits.train, digits.validation, digits.test]
    assert [len(y) for _, y in sets] == [100, 100, 1597]
    images = [{row.numpy().tobytes() for row in x} for x, _ in sets]
    assert not images[0] & images[1] and not images[0] & images[2] and not images[1] & images[2]
    (first, order), (same, same_order), (_, other) = (digits.run(n) for n in (0, 0, 1))
    assert torch.equal(order, same_order) and not torch.equal(order, other)
    assert all(torch.equal(first[k], same[k]) for k in first)
    with pytest.raises(InvalidArgumentError, match="examples=899"):
        script.Digits(0, script.Config(examples=899))
