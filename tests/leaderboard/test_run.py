"""Runs of a suite: they go on, keep what went well, and each kind of agent plays."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from stable_baselines3 import PPO

from metagym.agents.optimizers import tuned_hyperparameters
from metagym.baselines.few_shot import Reptile
from metagym.baselines.few_shot.train import load_method
from metagym.errors import CheckpointError, InvalidArgumentError
from metagym.evaluation import evaluate
from metagym.evaluation.suites import Suite, make_suite
from metagym.files import alone_in
from metagym.leaderboard import Row, RowError
from metagym.leaderboard import run as run_module
from metagym.leaderboard.child import ChildError
from metagym.leaderboard.play import is_foreign, shown
from metagym.leaderboard.run import run_suite
from metagym.leaderboard.submission import find_problems
from metagym.leaderboard.summary import training_cost
from metagym.leaderboard.texts import fault_of_agent
from metagym.leaderboard.tuning import FIELD_DEFAULTS
from metagym.leaderboard.verify import verify_row
from metagym.loading import load_agent
from metagym.rl.sb3 import SB3VecEnv
from tests.leaderboard.few_shot_methods import Average

STILL = "tests.leaderboard.agents:Still"


def run(agent, suite, out, **options) -> Row:
    return run_suite(agent, suite, out, progress=False, **options)


# -- in processes --------------------------------------------------------------------------------


def test_bad_agents_fail_task_by_task_and_the_rest_is_kept(suite, tmp_path):
    errors = {
        "Raises": "ZeroDivisionError: by a bug of mine (agents.py, line",
        "Quits": "the process ended with exit code 3",
        "Hangs": "not through after 1 s",
        "NaNs": "not a number",
    }
    for name, error in errors.items():
        row = run(
            f"tests.leaderboard.agents:{name}", suite, tmp_path / name, tasks=["narrow"],
            seeds=[10], time_limit=1.0 if name == "Hangs" else 60.0,
        )  # fmt: skip
        assert [(f.task, f.seed) for f in row.failures] == [("narrow", 10)]
        assert error in row.failures[0].error.replace("NaN", "not a number")
        assert Row.load(tmp_path / name / "row.json") == row
    good = run(STILL, suite, tmp_path / "good", tasks=["narrow"], seeds=[10])
    task = suite.task("narrow")
    same = evaluate(load_agent(STILL), task.env_id, "test", 12, 10, group=2, **task.kwargs)
    assert good.results[0].result.scores == same.scores


# -- going on ------------------------------------------------------------------------------------


def test_a_run_goes_on_where_it_was_cut_short_and_tries_failures_again(
    suite, tmp_path, monkeypatch
):
    calls = []

    def call(work, jobs, seconds, workers):
        for job in jobs:
            calls.append((job.task.name, job.seed))
            if len(calls) == 4:
                raise KeyboardInterrupt
            yield job, ChildError("bad luck") if len(calls) == 2 else work(job), 0.5

    monkeypatch.setattr(run_module, "call_in_children", call)
    with pytest.raises(KeyboardInterrupt):
        run(STILL, suite, tmp_path / "out", note="by us")
    cut = Row.load(tmp_path / "out" / "row.json")
    assert [entry.seed for entry in cut.results] == [10, 12]
    assert [(f.seed, f.error) for f in cut.failures] == [(11, "bad luck")]
    row = run(STILL, suite, tmp_path / "out", note="by us")
    assert calls[4:6] == [("narrow", 11), ("narrow", 13)] and len(calls) == 12
    assert row.results[:2] == cut.results and not row.failures and len(row.results) == 10
    assert (
        row.command
        == f"metagym leaderboard run {STILL} tiny-v0.json --out runs/tests.leaderboard.agents-still"
    )
    row.scores(suite)


def test_the_folder_of_another_run_is_refused(suite, tuned_suite, tmp_path, here):
    run(STILL, suite, tmp_path / "out", tasks=["narrow"], seeds=[10])
    with pytest.raises(RowError, match=r"has agent 'tests.*go on with the same"):
        run("random", suite, tmp_path / "out")
    with pytest.raises(RowError, match="has suite_digest"):
        run(STILL, dataclasses.replace(suite, time_limit=1.0), tmp_path / "out")
    (tmp_path / "mine").mkdir()
    with pytest.raises(InvalidArgumentError, match=r"mine exists .* no row\.json to go on from"):
        run(STILL, suite, tmp_path / "mine")


def test_two_runs_do_not_write_to_one_folder(suite, tmp_path, here):
    pytest.importorskip("fcntl", reason="no locks on this system")
    first = run(STILL, suite, tmp_path / "out", tasks=["narrow"], seeds=[10])
    with (
        alone_in(tmp_path / "out"),
        pytest.raises(InvalidArgumentError, match="Another process is at work in"),
    ):
        run(STILL, suite, tmp_path / "out")
    assert Row.load(tmp_path / "out" / "row.json") == first


@pytest.mark.parametrize(
    ("agent", "options", "message"),
    [
        ("pppo", {}, "no agent 'pppo'. Did you mean 'ppo'"),
        ("ppo:steps=3", {}, "the suite says how long; leave 'steps' out"),
        ("ppo:learning_rte=1", {}, "Did you mean 'learning_rate'"),
        ("adam:lrr=1", {}, "Did you mean 'lr'"),
        ("", {}, "There is no agent ''"),
        (STILL, {"url": "example.org"}, "url: its url 'example.org' does not look like https"),
        (STILL, {"tasks": ["norrow"]}, "Did you mean 'narrow'"),
        (STILL, {"seeds": [3]}, "seeds 10, 11, 12, 13, 14; 3 is none"),
        (STILL, {"time_limit": 0.0}, "time_limit=0.0"),
        (STILL, {"workers": 0}, "workers"),
        (STILL, {"ruleset": "self-tuning"}, "has no rulesets"),
        (STILL, {"space": {"lr": [1]}}, "belongs to --ruleset external-tuning"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_written(
    agent, options, message, suite, tmp_path
):
    with pytest.raises(InvalidArgumentError, match=message):
        run(agent, suite, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


# -- kinds of agents -----------------------------------------------------------------------------


def test_what_trains_is_trained_for_each_seed_but_not_on_variants(suite, tmp_path, here, toy):
    row = run("toy", suite, tmp_path / "out", seeds=[10, 12])
    trained = {(e.task, e.seed): e.result.training for e in row.results}
    assert not row.failures
    assert [trained["narrow", seed]["seed"] for seed in (10, 12)] == [0, 2]
    assert trained["narrow", 10]["steps"] == suite.task("narrow").training_steps
    assert trained["wide", 12] == trained["narrow", 12] and trained["wide", 12]["task"] == "narrow"
    folders = [path.name for path in (tmp_path / "out" / "checkpoints").iterdir()]
    assert folders == ["narrow"]

    again = run(str(tmp_path / "out" / "checkpoints"), suite, tmp_path / "again", seeds=[10, 12])
    assert [e.result.scores for e in again.results] == [e.result.scores for e in row.results]
    gone = run(str(tmp_path / "out" / "checkpoints"), suite, tmp_path / "gone", seeds=[11])
    assert "holds no checkpoint for narrow" in gone.failures[0].error


def test_paths_of_agents_are_shown_from_the_working_folder(suite, tmp_path, here, toy, monkeypatch):
    run("toy", suite, tmp_path / "work" / "runs" / "a", seeds=[10])
    checkpoints = tmp_path / "work" / "runs" / "a" / "checkpoints"
    for folder, agent, text in (
        ("work", str(checkpoints), "runs/a/checkpoints"),
        ("work/runs", "./a/checkpoints/", "a/checkpoints"),
        ("work/runs/a", "checkpoints", "./checkpoints"),
        ("work/runs/a/checkpoints", str(checkpoints), "./checkpoints"),
        ("work/runs/a/checkpoints", "../../a/checkpoints", "./checkpoints"),
    ):
        monkeypatch.chdir(tmp_path / folder)
        assert shown(agent) == text and fault_of_agent(text) == ""
    row = run(str(checkpoints), suite, tmp_path / "again", seeds=[10, 11])
    assert (row.agent, row.name) == ("./checkpoints", "checkpoints") and len(row.results) == 2
    assert row.failures[0].error.startswith("./checkpoints holds no checkpoint for narrow")
    assert row.results[0].result.command == row.command
    assert str(tmp_path) not in row.to_json()


def test_a_class_is_named_by_the_text_of_its_file(suite, tmp_path, here, monkeypatch):
    path = tmp_path / "greedy.py"
    path.write_text("from tests.leaderboard.agents import Still\nclass Mine(Still):\n    pass\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    row = run("greedy:Mine:step=0.5", suite, tmp_path / "out", seeds=[10])
    monkeypatch.delitem(sys.modules, "greedy")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert [entry.result.agent_config["source"] for entry in row.results] == [digest] * 2
    adam = run("adam", suite, tmp_path / "adam", seeds=[10])  # beside a folder of its name
    assert adam.agent == "adam" and "source" not in adam.results[0].result.agent_config


@pytest.mark.parametrize("agent", ["greedy:Mine", "maml:X", "my.mod:Cls:depth=3", "adam:lr=1:X"])
def test_a_colon_before_the_arguments_names_somebodys_module(agent):
    assert is_foreign(agent)


@pytest.mark.parametrize("agent", ["adam:lr=0.5", "adam", "ppo:discount=0.9,epochs=2", "runs/a"])
def test_names_of_ours_and_paths_name_no_module(agent):
    assert not is_foreign(agent)


def test_what_trains_takes_settings_of_its_own(suite, tmp_path, here, toy):
    row = run("toy:size=0.25", suite, tmp_path / "out", tasks=["narrow"], seeds=[10])
    config = tmp_path / "out" / "checkpoints" / "narrow" / "seed10" / "config.json"
    assert json.loads(config.read_text())["size"] == 0.25
    assert row.agent == row.name == "toy:size=0.25" and row.results[0].result.training


def test_a_variant_needs_what_was_learned_for_its_base(suite, tmp_path, here, toy):
    row = run("toy", suite, tmp_path / "out", tasks=["wide"], seeds=[10])
    assert "plays it as it learned narrow, which has no result" in row.failures[0].error


@pytest.fixture
def waves() -> Suite:
    few_shot = make_suite("few-shot-v0")
    task = few_shot.task("sinusoid_5_shot")
    short = dataclasses.replace(task, episodes=20, group=4, training_steps=2)
    return Suite("waves-v0", "Sinusoids.", (short,), few_shot.seeds)


def test_few_shot_methods_are_trained_and_scores_grouped(waves, tmp_path, here):
    row = run("reptile", waves, tmp_path / "out")
    result = row.results[1].result
    assert result.training["seed"] == 1 and result.training["task"] == "sinusoid_5_shot"
    assert len(result.scores) == 5 and result.group == 4 and result.seed == 1
    assert result.mean == pytest.approx(np.mean(result.scores))
    read = Row.from_json(row.to_json())
    # The tree may be dirty here; nothing else keeps the row from a board.
    assert all(problem.startswith("git_") for problem in find_problems(read, suite=waves))
    for agent, error in (("random", "acts in environments"), ("rl2", "learns environments")):
        failed = run(agent, waves, tmp_path / agent, seeds=[1])
        assert error in failed.failures[0].error


def test_few_shot_methods_of_others_are_trained_like_ours(waves, tmp_path, here):
    """The class is imported where the row's agent names it, and never because a file does."""
    agent = "tests.leaderboard.few_shot_methods:Average:start=3.0"
    row = run(agent, waves, tmp_path / "out", seeds=[0, 1])
    assert not row.failures
    for number, entry in enumerate(row.results):
        training, config = entry.result.training, entry.result.agent_config
        assert training["seed"] == number and training["task"] == "sinusoid_5_shot"
        assert entry.result.agent == "average" and config["start"] == 3.0
        assert len(config["weights"]) == len(config["source"]) == 64
    checkpoint = tmp_path / "out" / "checkpoints" / "sinusoid_5_shot" / "seed0"
    assert 2.9 < load_method(checkpoint, of=Average).scale < 3.0  # two steps towards 0.8 or so
    with pytest.raises(CheckpointError, match=r"'average'.*One of yours is loaded with of=Class"):
        load_method(checkpoint)
    with pytest.raises(CheckpointError, match="of 'average', not of 'reptile'"):
        load_method(checkpoint, of=Reptile)
    failed = run(str(tmp_path / "out" / "checkpoints"), waves, tmp_path / "folder", seeds=[0])
    assert "no few-shot method of metagym's" in failed.failures[0].error
    for name, error in (
        ("Maml", "'maml'; it needs one that nothing of metagym has"),
        ("Nameless", "'matching_fce'; it needs one"),
        ("NoConfig", "needs a Config, a dataclass"),
        ("OptimizerOfItsOwn", "cannot have optimizer; the training loop has"),
        ("NoMethod", "is no subclass of"),
        ("Avrage", "Did you mean 'Average'"),
        ("Average:begin=3", "one of .*start"),
    ):
        agent = f"tests.leaderboard.few_shot_methods:{name}"
        failed = run(agent, waves, tmp_path / name, seeds=[0])
        assert re.search(error, failed.failures[0].error)


def test_rows_of_few_shot_methods_of_others_verify_with_trust(waves, tmp_path, here):
    agent = "tests.leaderboard.few_shot_methods:Average"
    row = run(agent, waves, tmp_path / "out")
    assert all(problem.startswith("git_") for problem in find_problems(row, suite=waves))
    with pytest.raises(InvalidArgumentError, match="add --trust"):
        verify_row(row, waves)
    (check,) = verify_row(row, waves, trust=True, progress=False)
    assert check.verdict == "equal"
    kept = str(tmp_path / "out" / "checkpoints")  # which spares the training
    (check,) = verify_row(row, waves, agent=kept, trust=True, progress=False)
    assert check.verdict == "equal"
    (check,) = verify_row(row, waves, agent=kept, progress=False)
    assert check.verdict == "not reproduced"  # nobody said that the class may be imported


def test_a_path_with_a_colon_is_a_path(suite, waves, tmp_path, here, toy, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trained = run("toy", suite, "out", seeds=[10])
    Path("out/checkpoints").rename("10:30")
    again = run("10:30", suite, "again", seeds=[10])
    assert again.results[0].result.scores == trained.results[0].result.scores
    run("reptile", waves, "waves", seeds=[0])
    Path("waves/checkpoints").rename("os:getcwd")
    assert not run("os:getcwd", waves, "played", seeds=[0]).failures


def test_files_of_the_working_folder_take_the_place_of_no_module(suite, tmp_path):
    """As of the console script, which does not look there either, unless a class is asked for."""
    (tmp_path / "torch.py").write_text("open('was-imported', 'w')")
    code = (
        "import sys, dataclasses; sys.path[:] = [p for p in sys.path if p]\n"
        "from metagym.evaluation.suites import Suite\n"
        "from metagym.leaderboard.run import run_suite\n"
        f"suite = Suite.from_json({suite.to_json()!r})\n"
        "row = run_suite('random', suite, 'out', seeds=[10], tasks=['narrow'], progress=False)\n"
        "assert not row.failures, row.failures"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=300)
    assert not (tmp_path / "was-imported").exists()


def test_zip_files_of_sb3_need_trust_and_act_as_their_model(suite, tmp_path, here):
    import gymnasium as gym

    task = suite.task("narrow")
    env = SB3VecEnv(gym.make_vec(task.env_id, 2, autoreset_mode="SameStep", **task.kwargs))
    model = PPO("MlpPolicy", env, n_steps=4, batch_size=4, n_epochs=1, device="cpu", seed=3)
    model.learn(8)
    model.save(tmp_path / "narrow.zip")
    row = run(str(tmp_path / "narrow.zip"), suite, tmp_path / "out", seeds=[10], trust=True)
    result = row.results[0].result

    class Model:
        def reset(self, mask):
            pass

        def act(self, observations, action_masks=None):
            return model.predict(observations, deterministic=True)[0]

    expected = evaluate(Model(), task.env_id, "test", 12, 10, group=2, **task.kwargs)
    assert result.scores == expected.scores
    assert result.training == {"steps": 8, "seed": 3}
    assert "observation_space" in row.failures[0].error  # of the variant, which is wider

    folder = run(str(tmp_path), suite, tmp_path / "folder", seeds=[10], trust=True)
    assert folder.results[0].result.scores == expected.scores
    for untrusted in (tmp_path / "narrow.zip", tmp_path):
        with pytest.raises(InvalidArgumentError, match="add --trust if you trust them"):
            run(str(untrusted), suite, tmp_path / "wary", seeds=[10])
    assert not (tmp_path / "wary").exists()
    (tmp_path / "bad.zip").write_bytes(b"no zip")
    bad = run(str(tmp_path / "bad.zip"), suite, tmp_path / "bad", seeds=[10], trust=True)
    assert "cannot be loaded" in bad.failures[0].error


# -- rulesets ------------------------------------------------------------------------------------


def test_self_tuning_takes_one_setting_and_not_the_tuned_one(tuned_suite, tmp_path, here):
    row = run("adam", tuned_suite, tmp_path / "out", ruleset="self-tuning", seeds=[10])
    assert row.name == "adam, self-tuning" and row.agent == "adam"
    for entry in row.results:
        config = entry.result.agent_config
        assert FIELD_DEFAULTS["adam"].items() <= config.items()
        assert config["lr"] != tuned_hyperparameters("LearnToOptimize-v0")["adam"]["lr"]
        assert config.get("tuned_for") is None


def test_external_tuning_scores_the_best_trial_of_the_train_split(tuned_suite, tmp_path, here):
    space = {"step": [0.0, 1.0, -1.0, 0.5, "wrong"]}
    row = run(
        STILL, tuned_suite, tmp_path / "out", ruleset="external-tuning", space=space,
        seeds=[10, 11, 12],
    )  # fmt: skip
    assert not row.failures
    tried = set()
    for entry in row.results[:3]:
        tuning = entry.result.agent_config["tuning"]
        assert tuning["space"] == space and len(tuning["trials"]) == 3
        scores = {t["setting"]["step"]: t["score"] for t in tuning["trials"] if "score" in t}
        best = min(scores, key=scores.get)
        assert tuning["chosen"] == {"step": best}
        assert entry.result.agent_config["step"] == best
        task = tuned_suite.task("narrow")
        train = evaluate(
            load_agent(f"{STILL}:step={best}"), task.env_id, "train", 12, entry.seed, group=2,
            **task.kwargs,
        )  # fmt: skip
        assert scores[best] == train.mean
        tried.add(json.dumps(tuning["trials"]))
    assert len(tried) == 3  # every run draws its own
    chosen = [e.result.agent_config["step"] for e in row.results]
    assert chosen[3:] == chosen[:3]  # the variant is played as its base was tuned
    assert "tuning" not in row.results[3].result.agent_config


def test_what_trains_is_tuned_by_training(tuned_suite, tmp_path, here, toy):
    row = run(
        "toy", tuned_suite, tmp_path / "out", ruleset="external-tuning", seeds=[10],
        space={"size": [0.0, 0.5]},
    )  # fmt: skip
    entry = row.results[0]
    tuning = entry.result.agent_config["tuning"]
    assert len(tuning["trials"]) == 2 and tuning["steps"] > 2 * 1000
    folder = tmp_path / "out" / "checkpoints" / "narrow"
    assert [path.name for path in folder.iterdir()] == ["seed10"]
    config = json.loads((folder / "seed10" / "config.json").read_text())
    assert config["size"] == tuning["chosen"]["size"]
    cost = dataclasses.replace(row, results=row.results[:1])
    assert training_cost(cost, tuned_suite)["steps"] == tuning["steps"]


@pytest.mark.parametrize(
    ("agent", "options", "message"),
    [
        ("adam", {}, "ruleset=None is not one of 'self-tuning', 'external-tuning'"),
        (STILL, {"ruleset": "external-tuning"}, "needs --space"),
        (STILL, {"ruleset": "external-tuning", "space": {"lr": 1}}, "has to be a list"),
        ("adam:lr=0.3", {"ruleset": "self-tuning"}, "Under self-tuning adam has the field's"),
    ],
)
def test_rulesets_are_chosen_and_have_a_space(agent, options, message, tuned_suite, tmp_path):
    with pytest.raises(InvalidArgumentError, match=message):
        run(agent, tuned_suite, tmp_path / "out", **options)


def test_a_space_that_nothing_can_be_scored_with_is_a_failure(tuned_suite, tmp_path, here):
    row = run(
        STILL, tuned_suite, tmp_path / "out", ruleset="external-tuning", seeds=[10],
        space={"stepp": [1.0]},
    )  # fmt: skip
    assert "None of the 1 settings could be scored; the first" in row.failures[0].error
