"""A row that is run again: equal, within noise, or not reproduced."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from metagym.errors import InvalidArgumentError
from metagym.evaluation import statistics
from metagym.leaderboard import Row
from metagym.leaderboard.verify import compare_rows, verify_row

TASKS = ("wide", "narrow")


def forge(row: Row, change, where=lambda entry: True) -> Row:
    """The row with other scores, and all that is computed from them right."""

    def forged(entry):
        scores = np.array([change(score) for score in entry.result.scores])
        result = dataclasses.replace(
            entry.result, scores=scores.tolist(), mean=float(scores.mean()),
            iqm=float(statistics.iqm(scores)),
        )  # fmt: skip
        return dataclasses.replace(entry, result=result)

    return dataclasses.replace(
        row, results=tuple(forged(e) if where(e) else e for e in row.results)
    )


def verdicts(row: Row, suite, **options) -> dict[str, str]:
    checks = verify_row(row, suite, trust=True, progress=False, **options)
    return {check.task: check.verdict for check in checks}


def test_an_honest_row_is_equal(make_row, suite):
    row = make_row("adam")
    assert verdicts(row, suite) == {"wide": "equal", "narrow": "equal"}


def test_a_forged_score_is_caught_also_in_one_run_of_one_task(make_row, suite):
    row = make_row("adam")
    Row.from_json(forge(row, lambda score: score - 0.05).to_json())  # the file looks right
    everywhere = forge(row, lambda score: score - 0.05)
    assert set(verdicts(everywhere, suite).values()) == {"not reproduced"}
    once = forge(row, lambda score: score - 0.05, lambda e: (e.task, e.seed) == ("narrow", 12))
    assert verdicts(once, suite) == {"wide": "equal", "narrow": "not reproduced"}


def test_an_agent_that_is_never_the_same_is_not_equal(make_row, suite):
    row = make_row("tests.leaderboard.agents:Unseeded")
    assert "equal" not in verdicts(row, suite).values()


def test_what_was_trained_is_trained_again_or_taken_from_its_checkpoints(
    make_row, suite, toy, tmp_path
):
    row = make_row("toy")
    assert set(verdicts(row, suite).values()) == {"equal"}
    (checkpoints,) = tmp_path.glob("run-*/checkpoints")
    assert set(verdicts(row, suite, agent=str(checkpoints)).values()) == {"equal"}


def test_tuned_rows_are_tuned_again(tuned_suite, suite, tmp_path, here):
    from metagym.leaderboard.run import run_suite

    row = run_suite(
        "sgd", tuned_suite, tmp_path / "out", ruleset="external-tuning", progress=False,
        space={"lr": [0.01, 0.02]},
    )  # fmt: skip
    assert set(verdicts(row, tuned_suite).values()) == {"equal"}


def test_a_sample_of_the_tasks_is_drawn_by_its_seed(make_row, suite):
    row = make_row("random")
    drawn = [tuple(verdicts(row, suite, tasks=1, seed=seed)) for seed in range(4)]
    assert set(drawn) <= {("wide",), ("narrow",)}
    assert tuple(verdicts(row, suite, tasks=1, seed=0)) == drawn[0]
    assert tuple(verdicts(row, suite, tasks=9)) == TASKS


def test_an_agent_that_fails_here_is_not_reproduced(make_row, suite):
    row = make_row("adam")
    checks = verify_row(row, suite, agent="tests.leaderboard.agents:Raises", progress=False)
    assert {check.verdict for check in checks} == {"not reproduced"}
    assert all("ZeroDivisionError" in check.errors[0] for check in checks)


def test_a_row_cannot_have_code_run_that_nobody_trusts(make_row, suite):
    row = dataclasses.replace(make_row("adam"), agent='os:system:command="exit"')
    with pytest.raises(InvalidArgumentError, match=r"runs any code it has; add --trust"):
        verify_row(row, suite, progress=False)


def test_a_row_of_failures_cannot_be_verified(make_row, suite):
    row = make_row("tests.leaderboard.agents:Raises")
    with pytest.raises(InvalidArgumentError, match="no results that could be compared"):
        verify_row(row, suite, trust=True, progress=False)


@pytest.mark.parametrize("retrained", [True, False])
def test_of_honest_noise_hardly_anything_is_called_forged(make_row, retrained):
    """Two runs of one random agent; and forged ones, of which nearly all are caught."""
    row, rng = make_row("adam"), np.random.default_rng(0)

    def is_caught(shift: float) -> bool:
        forged = forge(row, lambda score: rng.normal() + shift)
        again = forge(row, lambda score: rng.normal())
        checks = compare_rows(forged, again, TASKS, retrained=retrained)
        return any(check.verdict == "not reproduced" for check in checks)

    assert np.mean([is_caught(0.0) for _ in range(50)]) <= 0.12  # 5 % by construction
    assert np.mean([is_caught(3.0) for _ in range(20)]) >= 0.95
