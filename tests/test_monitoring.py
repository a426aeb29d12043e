"""Event files are read back; the progress bar follows its budget."""

from __future__ import annotations

import time

import numpy as np
import pytest
from matplotlib.figure import Figure

from metagym.errors import DataError
from metagym.monitoring import RunLogger, progress_bar, read_scalars


def test_scalars_come_back_with_sb3s_tags(tmp_path):
    with RunLogger(tmp_path, {}) as logger:
        logger.scalars({"train/loss": 0.5, "train/entropy_loss": -1.0}, 10)
        logger.scalar("train/loss", 0.25, 20)
        logger.rollout(np.array([1.0, 3.0]), np.array([5, 7]), 100, diverged=np.array([0, 1]))
        logger.rollout(np.array([]), np.array([]), 300)
    charts = read_scalars(tmp_path)
    assert charts["train/loss"] == [(10, 0.5), (20, 0.25)]
    assert charts["rollout/ep_rew_mean"] == [(100, 2.0)]
    assert charts["rollout/ep_len_mean"] == [(100, 6.0)]
    assert charts["rollout/diverged"] == [(100, 0.5)]
    ((step, fps),) = charts["time/fps"]
    assert step == 300 and fps > 0


def test_a_resumed_run_replaces_what_came_after_its_checkpoint(tmp_path):
    with RunLogger(tmp_path, {}) as logger:
        for step in (1, 2, 3):
            logger.scalar("train/loss", step, step)
    time.sleep(1.0)  # event files are read in the order of their names, which hold the second
    with RunLogger(tmp_path, {}, resume_step=2) as logger:
        logger.scalar("train/loss", 30.0, 3)
    assert read_scalars(tmp_path)["train/loss"] == [(1, 1.0), (2, 2.0), (3, 30.0)]


@pytest.mark.usefixtures("painted_figures")
def test_hyperparameters_and_figures_are_in_the_file(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    drawing = Figure(figsize=(2, 1), dpi=50)
    drawing.subplots().plot([1, 2])
    with RunLogger(tmp_path, {"learning_rate": 3e-4}) as logger:
        logger.figure("eval/curves", drawing, 7)
    events = EventAccumulator(str(tmp_path)).Reload()
    (text,) = events.Tensors("hyperparameters/text_summary")
    assert b"|learning_rate|0.0003|" in text.tensor_proto.string_val[0]
    (image,) = events.Images("eval/curves")
    assert (image.step, image.width, image.height) == (7, 100, 50)


def test_a_folder_without_events_is_a_typed_error(tmp_path):
    with pytest.raises(DataError, match="no TensorBoard event file"):
        read_scalars(tmp_path)


@pytest.mark.parametrize("budget", [{"steps": 100}, {"seconds": 5.0}, {}])
def test_progress_bar_goes_to_stderr_only_when_shown(capsys, budget):
    for shown in (True, False):
        with progress_bar("ppo", shown=shown, **budget) as update:
            update(50, "reward -1.5")
        out, err = capsys.readouterr()
        assert out == ""
        assert ("ppo" in err and "50 steps" in err) is shown
        assert ("100%" in err) is (shown and bool(budget))
    if budget:
        with pytest.raises(KeyboardInterrupt), progress_bar("ppo", **budget) as update:
            update(50)
            raise KeyboardInterrupt
        assert "100%" not in capsys.readouterr().err
