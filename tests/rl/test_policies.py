"""SharedMLPPolicy against the distribution it stands for, and the network below it."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import nn

from metagym.rl.networks import MLP, to_arrays
from metagym.rl.policies import SharedMLPPolicy

CASES = {"problem": ((5,), (2,)), "coordinate": ((3, 5), (3, 2))}


def make(case: str, dim: int = 3) -> SharedMLPPolicy:
    observed, acted = CASES[case]
    if case == "coordinate":
        observed, acted = (dim, 5), (dim, 2)
    torch.manual_seed(0)
    policy = SharedMLPPolicy(
        gym.spaces.Box(-3.0, 3.0, observed), gym.spaces.Box(-1.0, 1.0, acted),
        lambda _: 1e-3, hidden=(6,), critic_hidden=(7,), log_std_init=-0.7,
    )  # fmt: skip
    for parameter in policy.parameters():  # away from the start, where means are nearly 0
        nn.init.normal_(parameter, std=0.5)
    return policy


@pytest.mark.parametrize("case", CASES)
def test_probabilities_are_those_of_independent_gaussians(case: str) -> None:
    policy = make(case)
    observations = torch.randn(4, *CASES[case][0])
    actions, values, log_prob = policy(observations)
    assert actions.shape == (4, *CASES[case][1]) and values.shape == (4, 1)
    normal = torch.distributions.Normal(policy.actor(observations), policy.log_std.exp())
    expected = normal.log_prob(actions).flatten(1).sum(1)
    torch.testing.assert_close(log_prob, expected)
    # As SB3's buffer hands them back: flat.
    again, repeated, entropy = policy.evaluate_actions(observations, actions.flatten(1))
    torch.testing.assert_close(again, values)
    torch.testing.assert_close(repeated, expected)
    torch.testing.assert_close(entropy, normal.entropy().flatten(1).sum(1))
    torch.testing.assert_close(policy.predict_values(observations), values)


@pytest.mark.parametrize("case", CASES)
def test_deterministic_actions_are_the_means(case: str) -> None:
    policy = make(case)
    observations = np.random.default_rng(0).standard_normal((4, *CASES[case][0]))
    observations = observations.clip(-3, 3).astype(np.float32)
    actions, _ = policy.predict(observations, deterministic=True)
    with torch.no_grad():
        means = policy.actor(torch.tensor(observations)).numpy()
    np.testing.assert_allclose(actions, means.clip(-1, 1), rtol=1e-6)


def test_samples_have_the_stated_spread() -> None:
    policy = make("problem")
    observations = torch.zeros(4000, 5)
    actions = policy(observations)[0]
    torch.testing.assert_close(actions.std(0), policy.log_std.exp(), rtol=0.1, atol=0.0)


def test_discrete_actions_are_drawn_from_the_logits() -> None:
    torch.manual_seed(0)
    policy = SharedMLPPolicy(
        gym.spaces.Box(-3.0, 3.0, (5,)), gym.spaces.Discrete(4), lambda _: 1e-3, hidden=(6,)
    )
    assert "log_std" not in policy.state_dict()
    for parameter in policy.parameters():
        nn.init.normal_(parameter, std=0.5)
    observations = torch.randn(1, 5).expand(8000, 5)
    actions, values, log_prob = policy(observations)
    assert actions.shape == (8000,) and values.shape == (8000, 1)
    expected = policy.actor(observations).log_softmax(1)
    torch.testing.assert_close(log_prob, expected[torch.arange(8000), actions])
    shares = torch.bincount(actions, minlength=4) / 8000
    torch.testing.assert_close(shares, expected[0].exp(), rtol=0.0, atol=0.02)
    _, repeated, entropy = policy.evaluate_actions(observations, actions)
    torch.testing.assert_close(repeated, log_prob)
    torch.testing.assert_close(entropy, -(expected.exp() * expected).sum(1))
    best, _ = policy.predict(observations[:3].numpy(), deterministic=True)
    assert (best == int(expected[0].argmax())).all()


def test_coordinates_share_the_actor_and_any_number_of_them_will_do() -> None:
    small, large = make("coordinate", 3), make("coordinate", 8)
    large.load_state_dict(small.state_dict())
    observations = torch.randn(4, 8, 5)
    means = large.get_distribution(observations).mode().reshape(4, 8, 2)
    torch.testing.assert_close(
        small.get_distribution(observations[:, 2:5]).mode().reshape(4, 3, 2), means[:, 2:5]
    )
    order = torch.randperm(8)
    torch.testing.assert_close(
        large.predict_values(observations[:, order]), large.predict_values(observations)
    )


def test_every_parameter_is_trained_and_learns() -> None:
    policy = make("coordinate")
    trained = {id(p) for group in policy.optimizer.param_groups for p in group["params"]}
    assert trained == {id(p) for p in policy.parameters()}
    observations, actions = torch.randn(4, 3, 5), torch.randn(4, 6)
    values, log_prob, _ = policy.evaluate_actions(observations, actions)
    (values.sum() + log_prob.sum()).backward()  # type: ignore[no-untyped-call]
    for name, parameter in policy.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_the_network_starts_as_ppo_wants_it() -> None:
    torch.manual_seed(0)
    network = MLP((6, 16, 2), output_gain=0.01)
    first, last = (p.detach() for p in network.parameters() if p.ndim == 2)
    torch.testing.assert_close(first.T @ first, 2 * torch.eye(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(last @ last.T, 1e-4 * torch.eye(2), atol=1e-8, rtol=0)
    assert network(torch.randn(100, 6)).abs().max() < 0.1


def test_arrays_are_copies_with_short_names() -> None:
    network = MLP((3, 4, 2))
    arrays = to_arrays(network, "actor")
    assert list(arrays) == ["actor.0.weight", "actor.0.bias", "actor.1.weight", "actor.1.bias"]
    before = arrays["actor.0.weight"].copy()
    with torch.no_grad():
        next(network.parameters()).add_(1.0)
    np.testing.assert_array_equal(arrays["actor.0.weight"], before)
