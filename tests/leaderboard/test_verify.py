"""A row that is run again: equal, within noise, or not reproduced."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from metagym.errors import InvalidArgumentError
from metagym.evaluation import Result, statistics
from metagym.leaderboard import Row
from metagym.leaderboard import run as run_module
from metagym.leaderboard.child import TOO_SLOW, ChildError
from metagym.leaderboard.comparison import compare_rows
from metagym.leaderboard.rows import Entry, Failure, RowError
from metagym.leaderboard.verify import verify_row

TASKS, SEEDS = ("wide", "narrow"), range(10, 15)


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
    for agent in ('os:system:command="exit"', "greedy:Mine"):
        row = dataclasses.replace(make_row("adam"), agent=agent)
        with pytest.raises(InvalidArgumentError, match=r"runs any code it has; add --trust"):
            verify_row(row, suite, progress=False)


def fail(row: Row, error: str, *places: tuple[str, int]) -> Row:
    """The row with failures in place of results."""
    return dataclasses.replace(
        row, results=tuple(e for e in row.results if (e.task, e.seed) not in places),
        failures=tuple(Failure(*place, error, 1.0) for place in places),
    )  # fmt: skip


def test_what_failed_has_to_fail_again_unless_it_was_too_slow(make_row, suite):
    failing = make_row("tests.leaderboard.agents:Raises")
    assert verdicts(failing, suite) == {"wide": "equal", "narrow": "equal"}
    honest = make_row("adam")
    claimed = fail(honest, "it broke", ("narrow", 12), *(("wide", seed) for seed in SEEDS))
    wide, narrow = verify_row(claimed, suite, progress=False)
    assert wide.verdict == narrow.verdict == "not reproduced"
    assert narrow.differing == ("seed 12",) and len(wide.differing) == 5
    (sampled,) = verify_row(claimed, suite, progress=False, tasks=1)
    assert sampled.task == "narrow"  # a task without results says little
    slow = fail(
        honest, "not through after 9 s", ("narrow", 12), *(("wide", seed) for seed in SEEDS)
    )
    assert verdicts(slow, suite) == {"narrow": "equal"}  # and the other is not tried


def test_a_row_of_what_was_too_slow_cannot_be_verified(make_row, suite):
    row = make_row("tests.leaderboard.agents:Raises")
    failures = [dataclasses.replace(f, error="not through after 9 s") for f in row.failures]
    with pytest.raises(InvalidArgumentError, match="every run was too slow"):
        verify_row(dataclasses.replace(row, failures=tuple(failures)), suite, trust=True)


def test_variants_of_what_was_too_slow_were_too_slow(make_row, suite, toy, monkeypatch):
    def call(work, jobs, seconds, workers):
        for job in jobs:
            slow = (job.task.name, job.seed) == ("narrow", 10)
            yield job, ChildError(f"{TOO_SLOW} 9 s") if slow else work(job), 0.5

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "call_in_children", call)
        row = make_row("toy")
    assert [f.task for f in row.failures] == ["narrow", "wide"]
    assert verdicts(row, suite) == {"wide": "equal", "narrow": "equal"}


def test_another_version_of_a_class_is_not_reproduced(make_row, suite):
    row = make_row("tests.leaderboard.agents:Still")
    entries = []
    for entry in row.results:
        config = {**entry.result.agent_config, "source": "0" * 64}
        result = dataclasses.replace(entry.result, agent_config=config)
        entries.append(dataclasses.replace(entry, result=result))
    other = dataclasses.replace(row, results=tuple(entries))
    checks = verify_row(other, suite, trust=True, progress=False)
    assert {check.differing for check in checks} == {("agent_config.source",)}


@pytest.mark.parametrize("runs", [[0], [0, 1], [0, 1, 2], range(5)])
@pytest.mark.parametrize("retrained", [True, False])
def test_one_lie_of_any_size_among_equal_scores_is_caught(runs, retrained):
    truth = noise((1, 5, 12))
    for lie in (1e-4, 1.0, 1000.0, 1e300):
        forged = truth.copy()
        forged[:, runs, 0] -= lie
        assert caught(forged, truth, retrained=retrained)


@pytest.mark.parametrize("retrained", [True, False])
def test_one_enormous_lie_among_noise_does_not_hide_itself(retrained):
    forged, truth = noise((1, 5, 12), seed=3), noise((1, 5, 12), seed=4)
    assert not caught(forged, truth, retrained=retrained)
    forged[:, :, 0] -= 1000
    assert caught(forged, truth, retrained=retrained)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_forged_runs_of_a_training_that_is_never_the_same_are_caught(count):
    def trainings(seed):
        return noise((1, 5, 1), seed) + noise((1, 5, 12), seed + 10)

    forged, truth = trainings(1), trainings(2)
    assert not caught(forged, truth, retrained=True)
    forged[:, :count] -= 20
    assert caught(forged, truth, retrained=True)


def test_a_small_shift_of_all_scores_is_more_than_noise():
    """It is a third of the spread over the tasks, which both runs have met."""
    met = 3 * noise((1, 5, 12))
    claimed, new = met + noise((1, 5, 12), 1), met + noise((1, 5, 12), 2)
    assert not caught(claimed, new)
    assert caught(claimed - 1, new)


@pytest.mark.parametrize("retrained", [True, False])
def test_of_honest_noise_hardly_anything_is_called_forged(retrained):
    """In 5 % of the rows, one of 3 tasks is; the bound is that plus 3 standard errors."""
    alarms = [
        caught(noise((3, 5, 6), seed), noise((3, 5, 6), 1000 + seed), retrained=retrained)
        for seed in range(60)
    ]
    assert np.mean(alarms) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 60)


def test_ties_that_few_possible_scores_have_by_chance_are_noise():
    """Shares of 25 right answers: some pairs are equal; if nearly all are, the rest is forged."""
    claimed, new = (
        np.random.default_rng(seed).binomial(25, 0.6, (1, 5, 10)) / 25 for seed in (1, 2)
    )
    assert 0 < (claimed == new).sum() < 20
    assert not caught(claimed, new)
    forged = new.copy()
    forged[:, :, 0] += 0.04
    assert caught(forged, new)


def test_a_result_without_a_counterpart_is_not_reproduced(make_row, suite):
    row = make_row("adam")

    def relabel(entry):
        return dataclasses.replace(entry, seed=entry.seed + 5)

    relabelled = dataclasses.replace(row, results=tuple(map(relabel, row.results)))
    (check,) = compare_rows(relabelled, row, ["wide"], retrained=False)
    assert check.verdict == "not reproduced" and {"seed 10", "seed 15"} <= set(check.differing)
    with pytest.raises(RowError, match=r"unfinished, it lacks wide seed 10"):
        verify_row(relabelled, suite, progress=False)
    with pytest.raises(RowError, match=r"more than once wide seed 14"):
        verify_row(dataclasses.replace(row, results=(*row.results, row.results[-1])), suite)
    swapped = [dataclasses.replace(entry, seed=24 - entry.seed) for entry in row.results]
    checks = compare_rows(dataclasses.replace(row, results=tuple(swapped)), row, TASKS,
                          retrained=False)  # fmt: skip
    assert {check.verdict for check in checks} == {"not reproduced"}


def test_what_was_too_slow_in_the_row_is_left_out():
    row = made(noise((1, 5, 6)))
    failure = Failure("0", 4, f"{TOO_SLOW} 60 s", 1.0)
    row = dataclasses.replace(row, results=row.results[:4], failures=(failure,))
    whole = made(noise((1, 5, 6)))
    for again in (row, whole):
        (check,) = compare_rows(row, again, ["0"], retrained=False)
        assert (check.verdict, check.errors) == ("equal", ())
    (check,) = compare_rows(whole, row, ["0"], retrained=False)
    assert (check.verdict, check.errors) == ("not reproduced", (failure.error,))


FORGERIES = {
    "privileged": {"privileged": True},
    "agent": {"agent": "another"},
    "agent_config.lr": {"agent_config": {"lr": 0.2, "seconds": 1.0}},
    "training.steps": {"training": {"steps": 1, "seconds": 5.0}},
    "env_steps": {"env_steps": 3},
}


@pytest.mark.parametrize("field", FORGERIES)
@pytest.mark.parametrize("noisy", [True, False])
@pytest.mark.parametrize("retrained", [True, False])
def test_a_field_beside_the_scores_is_forged(field, noisy, retrained):
    truth = made(noise((1, 5, 6)))
    row = made(noise((1, 5, 6), seed=1), **FORGERIES[field]) if noisy else made(
        noise((1, 5, 6)), **FORGERIES[field]
    )  # fmt: skip
    (check,) = compare_rows(row, truth, ["0"], retrained=retrained)
    assert (check.verdict, check.differing) == ("not reproduced", (field,))


@pytest.mark.parametrize("field", ["lengths", "returns", "extras.steps_to_target"])
@pytest.mark.parametrize("noisy", [True, False])
def test_what_episodes_tell_beside_their_scores_is_forged(field, noisy):
    def with_times(seed, shift):
        values = (50 + noise((6,), seed + 5) - shift).tolist()
        name = field.rpartition(".")[2]
        more = {"extras": {name: values}} if field != name else {name: values}
        scale = {"env_steps": round(sum(values))} if field == "lengths" else {}
        return made(noise((1, 5, 6), seed), **more, **scale)

    for shift in (0, 20):
        row, truth = with_times(int(noisy), shift), with_times(0, 0)
        (check,) = compare_rows(row, truth, ["0"], retrained=False)
        assert (field in check.differing) == (shift > 0)


def test_clocks_machines_and_the_luck_of_a_training_may_differ():
    def results(seed, **more):
        training = {"steps": 1000 + seed, "seconds": seed, "torch": str(seed), "best": seed}
        config = {"lr": 0.1, "weights": f"{seed:064}", "training": training}
        return made(noise((1, 5, 6), seed), training=training, agent_config=config, **more)

    there = {"wall_time_s": 9.0, "device": "gpu", "versions": {"numpy": "3"}, "git_commit": "abc"}
    (check,) = compare_rows(results(1, **there), results(0), ["0"], retrained=True)
    assert (check.verdict, check.differing) == ("within noise", ())
    (check,) = compare_rows(results(1, **there), results(0), ["0"], retrained=False)
    assert {"agent_config.weights", "training.steps"} <= set(check.differing)
    (check,) = compare_rows(made(noise((1, 5, 6)), **there), made(noise((1, 5, 6))), ["0"],
                            retrained=False)  # fmt: skip
    assert check.verdict == "equal"


def noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def made(scores: np.ndarray, **fields) -> Row:
    """A row of these scores [tasks, runs, scores]; the tasks are "0", "1", and so on."""

    def result(values: np.ndarray, seed: int) -> Result:
        known = {
            "env_id": "X-v0", "env_kwargs": {}, "split": "test", "agent": "made", "seed": seed,
            "agent_config": {"lr": 0.1, "seconds": 2.0}, "privileged": False, "curves": None,
            "training": {"steps": 1000, "seconds": 2.0}, "num_envs": 2, "metric": "loss",
            "minimize": True, "scores": values.tolist(), "mean": float(values.mean()),
            "iqm": float(statistics.iqm(values)), "interval": (0.0, 0.0),
            "iqm_interval": (0.0, 0.0), "returns": values.tolist(), "lengths": [7] * len(values),
            "extras": {}, "env_steps": 7 * len(values), "wall_time_s": 1.0, "finished": True,
            "command": "", "git_commit": None, "git_dirty": None, "versions": {}, "device": "cpu",
        }  # fmt: skip
        return Result(**{**known, **fields})

    return Row("tiny-v0", "", "made", "made", results=tuple(
        Entry(str(task), seed, result(values, seed))
        for task, runs in enumerate(scores) for seed, values in enumerate(runs)
    ))  # fmt: skip


def caught(claimed: np.ndarray, new: np.ndarray, *, retrained: bool = False) -> bool:
    """Whether a task of a row of ``claimed`` is called not reproduced by one of ``new``."""
    tasks = [str(task) for task in range(len(claimed))]
    checks = compare_rows(made(claimed), made(new), tasks, retrained=retrained)
    return any(check.verdict == "not reproduced" for check in checks)


def test_environments_of_other_modules_need_trust(suite, tmp_path, here, monkeypatch):
    """Before anything of theirs is imported; a suite lies beside the rows that somebody sends."""
    monkeypatch.chdir(tmp_path)
    Path("theirs.py").write_text("open('was-imported', 'w')")
    row = run_module.run_suite("random", suite, "out", progress=False)
    tasks = tuple(dataclasses.replace(task, env_id=f"theirs:{task.env_id}") for task in suite.tasks)
    theirs = dataclasses.replace(suite, tasks=tasks)
    row = dataclasses.replace(row, suite_digest=theirs.digest)
    with pytest.raises(InvalidArgumentError, match=r"theirs:LearnToOptimize-v0.*--trust"):
        verify_row(row, theirs)
    assert not Path("was-imported").exists()
