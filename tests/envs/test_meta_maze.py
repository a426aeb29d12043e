"""MetaMaze-v0: dynamics and view against a second, slow implementation; lists; bad input."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from hypothesis import given, settings
from hypothesis import strategies as st

from metagym.core.task import SPLITS
from metagym.envs.meta_maze import MetaMazeVectorEnv
from metagym.errors import DataError, InvalidActionError, InvalidArgumentError
from metagym.evaluation import check_vector_env
from metagym.mazes.grid import generate_mazes
from metagym.mazes.lists import frozen_mazes, save_mazes
from metagym.mazes.view import view_codes, views, window

STEPS = ((-1, 0), (0, 1), (1, 0), (0, -1))
CORRIDOR = """
#######
#.....#
#.###.#
#.#...#
#.#.###
#.#...#
#######
"""


def _walls(picture):
    return np.array([[tile == "#" for tile in line] for line in picture.split()])


def _all_views(walls, target):
    """[poses, 3, 5, 5] of one maze."""
    codes = view_codes(walls[None], np.array([target]))[0]
    return views(codes).reshape(-1, 3, 5, 5)


def _slow_view(walls, target, row, column, heading):
    """The view by its definition: walk ahead, look to both sides, see what is next to a room."""
    size = (len(walls) - 1) // 2
    forward, right = np.array(STEPS[heading]), np.array(STEPS[(heading + 1) % 4])
    seen = {(0, 0)}
    for ahead in range(3):
        if ahead and (ahead - 1, 0) in seen:
            tile = 2 * np.array([row, column]) + 1 + (2 * ahead - 1) * forward
            if not walls[tuple(tile)]:
                seen.add((ahead, 0))
        for side in (-1, 1):
            if (ahead, 0) in seen:
                tile = 2 * np.array([row, column]) + 1 + 2 * ahead * forward + side * right
                if not walls[tuple(tile)]:
                    seen.add((ahead, side))
    view = np.zeros((3, 5, 5), np.float32)
    for ahead, side in seen:
        for i in (-1, 0, 1):
            for j in (-1, 0, 1):
                y, x = 4 - (2 * ahead + i), 2 + 2 * side + j
                if 0 <= y < 5 and 0 <= x < 5:
                    tile = 2 * np.array([row, column]) + 1
                    tile = tile + (2 * ahead + i) * forward + (2 * side + j) * right
                    view[0 if walls[tuple(tile)] else 1, y, x] = 1.0
        room = np.array([row, column]) + ahead * forward + side * right
        assert (room >= 0).all() and (room < size).all()
        if tuple(room) == tuple(target):
            view[2, 4 - 2 * ahead, 2 + 2 * side] = 1.0
    return view


# -- the view --------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(size=st.integers(3, 9), seed=st.integers(0, 10**6))
def test_the_view_is_what_its_definition_says(size, seed):
    rng = np.random.default_rng(seed)
    maze = generate_mazes(size, 1, rng)
    fast = _all_views(maze["walls"][0], maze["target"][0])
    for pose in rng.choice(4 * size * size, 12, replace=False):
        row, column, heading = np.unravel_index(pose, (size, size, 4))
        slow = _slow_view(maze["walls"][0], maze["target"][0], row, column, heading)
        np.testing.assert_array_equal(fast[pose], slow)


def test_a_view_that_was_drawn_by_hand():
    # From the middle of the west side, looking north: up the corridor and around its corner.
    view = _all_views(_walls(CORRIDOR), (0, 1))[4 * 3]
    marks = {(0, 0, 0): " ", (1, 0, 0): "#", (0, 1, 0): ".", (0, 1, 1): "T"}
    lines = ["".join(marks[tuple(pixel)] for pixel in line) for line in view.transpose(1, 2, 0)]
    assert lines == ["     ", " ####", " #..T", " #.##", " #.# "]


@settings(max_examples=15, deadline=None)
@given(size=st.integers(3, 8), seed=st.integers(0, 10**6), turns=st.integers(1, 3))
def test_turning_the_world_and_the_agent_changes_no_view(size, seed, turns):
    maze = generate_mazes(size, 1, np.random.default_rng(seed))
    walls, target = maze["walls"][0], maze["target"][0]
    rooms = np.arange(size * size).reshape(size, size)
    turned_rooms = np.rot90(rooms, -turns)  # clockwise, as headings count
    turned_target = np.argwhere(turned_rooms == target @ [size, 1])[0]
    views_before = _all_views(walls, target)
    views_after = _all_views(np.rot90(walls, -turns).copy(), turned_target)
    for place, room in enumerate(turned_rooms.ravel()):
        for heading in range(4):
            np.testing.assert_array_equal(
                views_after[4 * place + (heading + turns) % 4], views_before[4 * room + heading]
            )


def test_what_is_seen_is_there():
    maze = frozen_mazes(9, "train")
    for walls, target in zip(maze["walls"][:5], maze["target"][:5], strict=True):
        wall, way, goal = _all_views(walls, target).swapaxes(0, 1)
        assert not (wall * way).any()
        assert (goal <= way).all()
        tiles = np.append(walls.ravel(), True)[window(9)]  # outside counts as wall
        assert tiles[wall > 0].all()
        assert not tiles[way > 0].any()
        assert (way[:, 4, 2] == 1).all()  # the agent's own room


# -- the dynamics ----------------------------------------------------------------------------------


def _slow_trial(task, actions, n, inner_horizon):
    """What every step of a trial should tell, one step at a time."""
    start, target, walls = task["start"], tuple(task["target"]), task["walls"]
    row, column, heading = start
    step, episode = 0, 0
    for action in actions:
        bump = False
        if action == 0:
            down, right = STEPS[heading]
            bump = walls[2 * row + 1 + down, 2 * column + 1 + right]
            if not bump:
                row, column = row + down, column + right
        else:
            heading = (heading + (-1 if action == 1 else 1)) % 4
        step += 1
        success = (row, column) == target
        ended = success or step == inner_horizon
        led_to = _slow_view(walls, target, row, column, heading) if ended else np.zeros((3, 5, 5))
        if ended:
            episode, step = episode + 1, 0
            if episode < n:
                row, column, heading = start
        yield {
            "reward": -0.04 - 0.001 * bump + success,
            "success": success,
            "done": float(ended),
            "episode": episode,
            "state": _slow_view(walls, target, row, column, heading),
            "final": led_to,
            "over": episode == n,
        }
        if episode == n:
            return


@pytest.mark.parametrize(("size", "seed"), [(3, 0), (3, 1), (4, 2), (5, 3)])
def test_trials_are_those_of_a_slow_implementation(size, seed):
    env = gym.make("MetaMaze-v0", size=size, n=3, inner_horizon=40, split="validation").unwrapped
    observation, info = env.reset(seed=seed)
    task = {name: values.copy() for name, values in info["task"].items()}
    shown = env.layout.split(observation)
    np.testing.assert_array_equal(
        shown.state.reshape(3, 5, 5), _slow_view(task["walls"], task["target"], *task["start"])
    )
    assert not observation[75:].any()
    actions = np.random.default_rng(seed).choice(3, 200, p=(0.6, 0.2, 0.2))
    returns, lengths, found = np.zeros(3), np.zeros(3, dtype=int), np.zeros(3, dtype=bool)
    episode = 0
    for action, expected in zip(actions, _slow_trial(task, actions, 3, 40), strict=False):
        observation, reward, terminated, truncated, info = env.step(action)
        shown = env.layout.split(observation)
        assert reward == pytest.approx(expected["reward"])
        assert shown.reward == pytest.approx(expected["reward"])
        assert shown.done == expected["done"]
        np.testing.assert_array_equal(shown.action, np.eye(3)[action])
        np.testing.assert_array_equal(shown.state.reshape(3, 5, 5), expected["state"])
        np.testing.assert_array_equal(shown.final.reshape(3, 5, 5), expected["final"])
        assert info["success"] == expected["success"]
        assert info["inner_episode"] == expected["episode"]
        assert (terminated, truncated) == (expected["over"], False)
        returns[episode] += reward
        lengths[episode] += 1
        found[episode] |= expected["success"]
        episode = expected["episode"]
    assert terminated
    np.testing.assert_allclose(info["inner_returns"], returns)
    np.testing.assert_array_equal(info["inner_lengths"], lengths)
    np.testing.assert_array_equal(info["inner_success"], found)
    assert info["score"] == pytest.approx(returns.sum())


def test_a_time_limit_is_told_as_done_and_is_no_success():
    env = MetaMazeVectorEnv(64, inner_horizon=7, autoreset_mode="Disabled")
    env.reset(seed=0)
    left = np.ones(64, dtype=np.int64)
    for step in range(1, 15):
        observations, _, terminated, truncated, infos = env.step(left)
        done = env.layout.split(observations).done
        assert (done == (step % 7 == 0)).all()
        assert not infos["success"].any() and not truncated.any()
        assert (infos["inner_episode"] == step // 7).all()
        assert (terminated == (step == 14)).all()
    np.testing.assert_array_equal(infos["inner_lengths"], np.full((64, 2), 7))
    assert not infos["inner_success"].any()
    np.testing.assert_allclose(infos["score"], -14 * 0.04)


@pytest.mark.parametrize(
    ("size", "horizon"), [(3, 250), (5, 250), (6, 500), (9, 1000), (10, 1000), (15, 2250)]
)
def test_horizons(size, horizon):
    env = MetaMazeVectorEnv(1, size=size, n=3)
    assert env.inner_horizon == horizon
    assert env.trial_length == 3 * horizon


def test_some_random_walks_find_the_target_and_most_do_not():
    env = MetaMazeVectorEnv(1000, n=1, split="test", autoreset_mode="Disabled")
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(250):
        env.step(rng.integers(0, 3, 1000))
    assert 0.25 < env._inner_success.mean() < 0.45


KINDS = [{}, {"observation": "image"}, {"size": 9}, {"size": 3, "n": 1}]


@pytest.mark.parametrize("kwargs", KINDS, ids=str)
@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_a_batch_keeps_its_promises(kwargs, mode):
    kwargs = {"inner_horizon": 5, **kwargs}
    env = gym.make_vec("MetaMaze-v0", num_envs=3, autoreset_mode=mode, **kwargs)
    check_vector_env(env, steps=25, make_single=lambda: gym.make("MetaMaze-v0", **kwargs).unwrapped)


@pytest.mark.parametrize("kwargs", KINDS, ids=str)
def test_a_single_environment_passes_gymnasiums_check(kwargs):
    env = gym.make("MetaMaze-v0", inner_horizon=5, **kwargs).unwrapped
    check_env(env, skip_render_check=True)


def test_the_image_holds_the_blocks_of_the_flat_observation():
    flat, image = (
        gym.make_vec("MetaMaze-v0", num_envs=4, inner_horizon=6, observation=kind)
        for kind in ("flat", "image")
    )
    observations = [env.reset(seed=0)[0] for env in (flat, image)]
    rng = np.random.default_rng(0)
    ends = 0
    for _ in range(30):
        shown = flat.unwrapped.layout.split(observations[0])
        planes = observations[1]
        assert planes.shape == (4, 11, 5, 5)
        np.testing.assert_array_equal(planes[:, :3].reshape(4, -1), shown.state)
        np.testing.assert_array_equal(planes[:, 8:].reshape(4, -1), shown.final)
        numbers = np.column_stack([shown.action, shown.reward, shown.done])
        expected = np.broadcast_to(numbers[..., None, None], (4, 5, 5, 5))
        np.testing.assert_array_equal(planes[:, 3:8], expected)
        ends += int(shown.final.any())
        actions = rng.integers(0, 3, 4)
        observations = [env.step(actions)[0] for env in (flat, image)]
    assert ends > 0


def test_a_copy_of_the_state_goes_on_in_the_same_way():
    envs = [MetaMazeVectorEnv(5, inner_horizon=9) for _ in range(2)]
    rng = np.random.default_rng(0)
    envs[0].reset(seed=0)
    for _ in range(13):
        envs[0].step(rng.integers(0, 3, 5))
    envs[1].reset(seed=1)
    envs[1].set_state(envs[0].get_state())
    for _ in range(30):
        actions = rng.integers(0, 3, 5)
        (a, *_), (b, *_) = (env.step(actions) for env in envs)
        np.testing.assert_array_equal(a, b)


# -- tasks -----------------------------------------------------------------------------------------


def _keys(task, rows):
    return {b"".join(task[k][i].tobytes() for k in ("walls", "start", "target")) for i in rows}


@pytest.mark.parametrize("split", SPLITS)
def test_a_thousand_rows_are_the_whole_list_and_more_come_again(split):
    env = gym.make_vec("MetaMaze-v0", num_envs=1300, split=split)
    _, infos = env.reset(seed=0)
    listed = _keys(frozen_mazes(5, split), range(1000))
    assert _keys(infos["task"], range(1000)) == listed
    rest = _keys(infos["task"], range(1000, 1300))
    assert len(rest) == 300 and rest <= listed


def test_ones_own_mazes(tmp_path):
    rng = np.random.default_rng(0)
    mine = {split: generate_mazes(4, 2, rng) for split in SPLITS}
    path = tmp_path / "mine.npz"
    save_mazes(path, mine)
    for place in (path, str(path)):
        env = gym.make_vec("MetaMaze-v0", num_envs=2, size=4, mazes=place, split="test")
        _, infos = env.reset(seed=0)
        assert _keys(infos["task"], range(2)) == _keys(mine["test"], range(2))
    with pytest.raises(DataError, match="4 × 4 rooms, not of 5 × 5"):
        gym.make("MetaMaze-v0", mazes=path)
    with pytest.raises(DataError, match="no list of mazes at"):
        gym.make("MetaMaze-v0", mazes=tmp_path / "other.npz")


def test_a_given_task_is_played_and_a_bad_one_refused():
    env = gym.make("MetaMaze-v0", size=3).unwrapped
    task = {"walls": _walls(CORRIDOR), "start": np.array([2, 0, 0]), "target": np.array([2, 2])}
    _, info = env.reset(seed=0, options={"task": task})
    np.testing.assert_array_equal(info["task"]["walls"], task["walls"])
    way = [0, 0, 2, 0, 0, 2, 0, 2, 0, 1, 0, 1, 0]
    for action in way:
        *_, info = env.step(action)
    assert info["success"] and info["inner_episode"] == 1
    with pytest.raises(InvalidArgumentError, match="maze 0: its start is its target"):
        env.reset(options={"task": {**task, "start": np.array([2, 2, 0])}})
    with pytest.raises(InvalidArgumentError, match="shape"):
        env.reset(options={"task": {**task, "walls": np.ones((1, 5, 5), dtype=bool)}})


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"size": 2}, "size=2 has to be from 3 to 15"),
        ({"size": 16}, "size=16"),
        ({"size": 5.0}, "size=5.0"),
        ({"n": 0}, "n=0"),
        ({"inner_horizon": 0}, "inner_horizon=0"),
        ({"observation": "imge"}, "Did you mean 'image'"),
        ({"split": "tset"}, "Did you mean 'test'"),
        ({"maze": "x"}, "no argument 'maze'. Did you mean 'mazes'"),
    ],
)
def test_bad_arguments_are_typed_errors(kwargs, message):
    with pytest.raises(InvalidArgumentError, match=message):
        MetaMazeVectorEnv(2, **kwargs)


def test_bad_actions_are_typed_errors():
    env = MetaMazeVectorEnv(2)
    env.reset(seed=0)
    for actions in ([0, 3], [0.0, 1.0], [0, 1, 2], [-1, 0]):
        with pytest.raises(InvalidActionError):
            env.step(np.array(actions))


def test_augmented_mazes_keep_their_layouts_and_draw_the_rest_anew():
    frozen = {walls.tobytes() for walls in frozen_mazes(5, "train")["walls"]}
    env = gym.make_vec("MetaMaze-v0", 1000, augment=True)
    places = []
    for _ in range(2):
        task = env.reset(seed=None if places else 0)[1]["task"]
        assert {walls.tobytes() for walls in task["walls"]} == frozen
        assert not (task["start"][:, :2] == task["target"]).all(axis=1).any()
        places.append({walls.tobytes(): tuple(start) for walls, start in zip(
            task["walls"], task["start"], strict=True)})  # fmt: skip
    same = np.mean([places[0][walls] == places[1][walls] for walls in frozen])
    assert same < 0.05  # 1 in 100 by chance
    with pytest.raises(InvalidArgumentError, match="augment='no'"):
        gym.make("MetaMaze-v0", augment="no")
