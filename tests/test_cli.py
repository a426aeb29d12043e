"""The command: what it prints and writes, and one line with exit code 2 for every bad input."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import types
from dataclasses import dataclass

import numpy as np
import pytest

from metagym import cli, loading
from metagym.checkpoint import load_checkpoint, save_checkpoint
from metagym.evaluation import Result
from metagym.registration import ENVIRONMENTS
from metagym.tasks import TASKS
from metagym.tasks.domains import DOMAINS
from metagym.tasks.multitask import TASK_SETS

ENV = "LearnToOptimize-v0"
SMALL = ["--episodes", "4", "--env-kwargs", '{"dim": 2, "horizon": 3}']


@dataclass(frozen=True)
class Config:
    """A toy that remembers how it was trained.

    Args:
        lr: learning rate.
        layers: widths.
        steps: unless the command line says how long.
    """

    lr: float = 0.1
    layers: tuple[int, ...] = (4, 4)
    steps: int = 1000


class Toy:
    name = "toy"

    def bind(self, env) -> None:
        self.shape = env.action_space.shape

    def reset(self, mask) -> None:
        pass

    def act(self, observations, action_masks=None):
        return np.zeros(self.shape, np.float32)


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    """A trainable agent called toy, whose training is interrupted at lr=13."""
    module = types.ModuleType("toy_trainer")
    module.calls = []

    def train(env_id, out, config, **options):
        module.calls.append((env_id, config, options))
        saved = {"agent": "toy", "env_id": env_id, "env_kwargs": options["env_kwargs"]}
        saved["config"] = {"lr": config.lr, "layers": list(config.layers)}
        save_checkpoint(out, saved, {"w": np.ones(1)})
        if config.lr == 13:
            raise KeyboardInterrupt
        return out

    vars(module).update(Config=Config, train=train, load=lambda folder: Toy())
    monkeypatch.setitem(sys.modules, "toy_trainer", module)
    monkeypatch.setitem(loading.TRAINED, "toy", "toy_trainer")
    return module


def fails(capsys, argv, code=2) -> str:
    """Run ``argv``, which has to fail with one line on stderr, and return the line."""
    with pytest.raises(SystemExit) as stop:
        cli.main([str(part) for part in argv])
    out, err = capsys.readouterr()
    assert stop.value.code == code
    assert out == ""
    assert err.startswith("metagym: ") and err.count("\n") == 1 and "Traceback" not in err
    return err


# -- what works --------------------------------------------------------------------------------


def test_envs_lists_every_id_once_and_then_the_names_of_tasks(capsys):
    cli.main(["envs"])
    ids, *tables = capsys.readouterr().out.rstrip().split("\n\n")
    lines = ids.splitlines()
    assert [line.split()[0] for line in lines] == [row.id for row in ENVIRONMENTS]
    assert all(row.summary in line for row, line in zip(ENVIRONMENTS, lines, strict=True))
    names = [table.splitlines()[1].strip().split(", ") for table in tables]
    assert names == [list(TASKS), list(TASK_SETS), list(DOMAINS)]
    for table, tasks in zip(tables, names, strict=True):  # its example is one
        method, example = table.splitlines()[0].rstrip(":").split()[-2:]
        assert method in loading.SUPERVISED and example in tasks


def test_evaluate_prints_a_table_and_writes_a_result(capsys, tmp_path):
    path = tmp_path / "result.json"
    cli.main(["evaluate", "random", ENV, *SMALL, "--seed", "3", "--json", str(path)])
    result = Result.load(path)
    assert (result.seed, len(result.scores), result.split) == (3, 4, "test")
    assert result.env_kwargs == {"dim": 2, "horizon": 3}
    out = capsys.readouterr().out
    assert "smaller is better" in out
    printed = re.search(r"random +(\S+) \[", out)
    assert printed and float(printed[1]) == pytest.approx(result.mean, abs=0.05)


def test_compare_takes_agents_and_environments_in_any_order(capsys, tmp_path):
    png, path = tmp_path / "curves.png", tmp_path / "all.json"
    other = "LearnToOptimizeSphere-v0"
    argv = ["compare", "adam", "random", ENV, other, *SMALL, "--json", str(path), "--png", str(png)]
    cli.main(argv)
    first, second = json.loads(path.read_text())
    assert (first["env_id"], second["env_id"], first["reference"]) == (ENV, other, "adam")
    assert [result["agent"] for result in first["results"]] == ["adam", "random"]
    assert png.read_bytes().startswith(b"\x89PNG")
    out = capsys.readouterr().out
    assert "minus adam" in out and "P(win)" in out


def test_train_then_evaluate_then_resume(capsys, tmp_path, toy):
    out = tmp_path / "runs" / "toy"
    kwargs = ["--env-kwargs", '{"dim": 2}']
    cli.main(["train", "toy", ENV, "--out", str(out), "--lr", "0.5", "--steps", "9", *kwargs])
    env_id, config, options = toy.calls[0]
    assert (env_id, config) == (ENV, Config(lr=0.5))
    assert options == {
        "seed": 0, "steps": 9, "seconds": None, "resume": False, "env_kwargs": {"dim": 2},
        "progress": True,
    }  # fmt: skip
    assert f"metagym evaluate {out} {ENV}" in capsys.readouterr().out
    cli.main(["evaluate", str(out), ENV, *SMALL])
    assert "toy" in capsys.readouterr().out
    # The environment and the settings of the checkpoint hold, but for what is given anew.
    cli.main(["train", "toy", ENV, "--out", str(out), "--resume", "--layers", "8"])
    _, config, options = toy.calls[1]
    assert config == Config(lr=0.5, layers=(8,))
    assert options["resume"] and options["env_kwargs"] == {"dim": 2}


def test_ctrl_c_says_how_to_go_on(capsys, tmp_path):
    out = tmp_path / "toy"
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", "toy", ENV, "--out", str(out), "--lr", "13"])
    assert stop.value.code == 130
    err = capsys.readouterr().err
    assert f"metagym train toy {ENV} --out {out} --lr 13 --resume" in err
    assert load_checkpoint(out).config["agent"] == "toy"


def test_help_shows_the_agents_settings(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", "toy", "--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert out.count("--steps") == 1
    for part in ("--lr", "learning rate", "--layers", "widths", "--seconds", "ENV"):
        assert part in out


def test_help_of_methods_that_learn_from_tasks_speaks_of_tasks(capsys):
    with pytest.raises(SystemExit):
        cli.main(["train", "maml", "--help"])
    out = capsys.readouterr().out
    assert "environment" not in out
    for part in ("name of the tasks", "arguments of the tasks", "steps of the optimiser"):
        assert part in " ".join(out.replace("│", " ").split())


def test_few_shot_methods_train_and_are_judged_on_the_same_tasks(capsys, tmp_path):
    out = str(tmp_path / "run")
    train = ["--out", out, "--steps", "2", "--hidden", "8", "--meta-batch", "2", "--network", "mlp"]
    kwargs = ["--env-kwargs", '{"ways": 3, "shots": 2, "queries": 3}']
    cli.main(["train", "fine_tuning", "digits", *train, *kwargs])
    told = re.search(r"Next: metagym (.*)", capsys.readouterr().out)[1].split()
    path = tmp_path / "result.json"
    cli.main([*told, "--episodes", "4", "--json", str(path)])
    result = Result.load(path)
    assert result.env_kwargs == {"ways": 3, "shots": 2, "queries": 3}
    assert result.lengths == [6] * 4 and result.agent_config["classes"] > 3
    capsys.readouterr()
    cli.main(["train", "fine_tuning", "DIGITS", "--out", out, "--steps", "3", "--resume"])
    assert load_checkpoint(out).config["training"]["iteration"] == 3
    capsys.readouterr()
    again = ["train", "fine_tuning", "digits", "--out", out, "--steps", "4", "--resume"]
    assert "optimizer='adam'" in fails(capsys, [*again, "--optimizer", "sgd"])
    assert "resume it there" in fails(capsys, [*again[:2], "glyphs", *again[3:]])


def test_the_installed_command_is_quick_to_list_because_it_loads_no_torch():
    code = (
        "import sys; from metagym.cli import main; main(['envs']); "
        "assert not {'torch', 'sklearn', 'stable_baselines3', 'scipy', 'matplotlib'} "
        "& set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


# -- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ('{"problem": "quadratics"}', "Did you mean 'quadratic'"),
        ('{"reward": "negative_los"}', "Did you mean 'negative_loss'"),
        ('{"dim": 0}', "dim=0"),
        ('{"dim": -3}', "dim=-3"),
        ('{"horizon": 0}', "horizon=0"),
        ('{"horizon": -1}', "horizon=-1"),
        ('{"history": 0}', "history=0"),
        ('{"history": -25}', "history=-25"),
        ('{"dimension": 3}', "Did you mean 'dim'"),
        ("{dim: 3}", "is no JSON"),
        ("[3]", "JSON object"),
    ],
)
def test_bad_arguments_of_the_environment(capsys, tmp_path, kwargs, message):
    out = tmp_path / "out"
    for argv in (
        ["evaluate", "random", ENV, "--json", out],
        ["compare", "random", ENV, "--png", out],
        ["train", "toy", ENV, "--out", out],
    ):
        assert message in fails(capsys, [*argv, "--env-kwargs", kwargs])
    assert not out.exists()


def test_bad_names(capsys, tmp_path):
    out = ["--out", tmp_path / "out"]
    for argv, message in [
        (["evaluate", "random", ENV, "--split", "tset"], "Did you mean 'test'"),
        (["evaluate", "random", ENV, "--episodes", "0"], "episodes=0"),
        (["evaluate", "random", "LearnToOptimise-v0"], "Did you mean: `LearnToOptimize`"),
        (["evaluate", "random", "LearnToOptimize-v9"], "v9"),
        (["evaluate", "adm", ENV], "Did you mean 'adam'"),
        (["evaluate", "nothing:Agent", ENV], "cannot import nothing"),
        (["compare", "random"], "environments []"),
        (["compare", ENV], "agents []"),
        (["train", "toi", ENV, *out], "Did you mean 'toy'"),
        (["train", "toy", "LearnToOptimise-v0", *out], "Did you mean: `LearnToOptimize`"),
        (["train", "toy", ENV, *out, "--steps", "0"], "--steps 0"),
        (["train", "--seed", "1", *out, "toy", ENV], "Name the agent first"),
    ]:
        assert message in fails(capsys, argv)
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten(capsys, tmp_path, toy):
    folder, file, empty = tmp_path / "run", tmp_path / "file", tmp_path / "empty"
    save_checkpoint(folder, {"agent": "toy", "env_id": ENV, "env_kwargs": {}}, {})
    before = (folder / "config.json").read_bytes()
    file.write_text("precious")
    empty.mkdir()
    for path in (folder, file, empty):
        line = fails(capsys, ["train", "toy", ENV, "--out", path])
        assert f"--out {path} exists" in line and "--resume" in line
    assert "--json" in fails(capsys, ["evaluate", "random", ENV, "--json", file])
    assert "--json" in fails(capsys, ["compare", "random", ENV, "--json", file])
    assert "--png" in fails(capsys, ["compare", "random", ENV, "--png", file])
    assert (folder / "config.json").read_bytes() == before
    assert file.read_text() == "precious"
    assert list(empty.iterdir()) == [] and toy.calls == []


def test_checkpoints_that_do_not_fit(capsys, tmp_path, toy):
    good = {"agent": "toy", "env_id": ENV, "env_kwargs": {"dim": 2}}
    run = save_checkpoint(tmp_path / "run", good, {"w": np.ones(3)})
    other = save_checkpoint(tmp_path / "other", good | {"agent": "ppo"}, {})
    newer = save_checkpoint(tmp_path / "newer", good | {"env_id": "LearnToOptimize-v1"}, {})
    corrupt = save_checkpoint(tmp_path / "corrupt", good, {"w": np.ones(3)})
    (corrupt / "weights.safetensors").write_bytes(b"\x00" * 20)
    resume = ["--resume", "--out"]
    for argv, message in [
        (["evaluate", tmp_path / "none", ENV], "is no folder"),
        (["evaluate", corrupt, ENV], "damaged"),
        (["evaluate", newer, ENV], "trained on LearnToOptimize-v1"),
        (["compare", "random", newer, ENV], "trained on LearnToOptimize-v1"),
        (["train", "toy", ENV, *resume, tmp_path / "none"], "is no folder"),
        (["train", "toy", ENV, *resume, corrupt], "damaged"),
        (["train", "toy", ENV, *resume, other], "of the agent 'ppo', not of 'toy'"),
        (["train", "toy", ENV, *resume, newer], "trained on LearnToOptimize-v1"),
        (["train", "toy", "LearnToOptimizeSphere-v0", *resume, run], "resume it there"),
        (["train", "toy", ENV, *resume, run, "--env-kwargs", '{"dim": 3}'], "leave them out"),
    ]:
        assert message in fails(capsys, argv)
    assert toy.calls == []


def test_data_that_is_missing_or_truncated(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("METAGYM_DATA", str(tmp_path))
    kwargs = '{"problem": "digits_net", "problem_kwargs": {"dataset": "mnist"}}'
    argv = ["evaluate", "random", ENV, "--episodes", "2", "--env-kwargs", kwargs]
    assert str(tmp_path) in fails(capsys, argv)
    for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte",
                 "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"):  # fmt: skip
        (tmp_path / name).write_bytes(b"\x00\x00\x08\x03\x00\x00\x00")
    assert "truncated" in fails(capsys, argv)


def test_no_traceback_from_a_process_of_its_own(tmp_path):
    argv = ["evaluate", "random", ENV, "--env-kwargs", '{"dim": 0}']
    code = f"from metagym.cli import main; main({argv!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("metagym: error: dim=0") and done.stderr.count("\n") == 1
