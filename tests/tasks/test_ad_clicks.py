"""Browsing and ad clicks: the truth is what is drawn, and similarity is what it says."""

from __future__ import annotations

import numpy as np
import pytest

from metagym.errors import InvalidArgumentError
from metagym.tasks.ad_clicks import AdClicks, expected_log_loss


def test_pure_function_of_the_generator() -> None:
    drawn = []
    for _ in range(2):
        rng = np.random.default_rng(3)
        drawn.append([domain.sample(20, rng) for domain in AdClicks().domains(rng)])
    for one, other in zip(*drawn, strict=True):
        for first, second in zip(one, other, strict=True):
            np.testing.assert_array_equal(first, second)


def test_features_and_rates() -> None:
    rng = np.random.default_rng(0)
    for domain, rate in zip(AdClicks().domains(rng), (0.5, 0.1), strict=True):
        visits = domain.sample(40_000, rng)
        assert visits.x.shape == (40_000, 45)
        for columns in (slice(0, 20), slice(20, 40)):
            assert (visits.x[:, columns].sum(axis=1) == 1.0).all()
            shares = visits.x[:, columns].mean(axis=0)
            np.testing.assert_allclose(shares, shares[0] / np.arange(1, 21), atol=0.01)
        assert abs(visits.y.mean() - rate) < 0.02
        order = np.argsort(visits.probability).reshape(20, -1)
        p = visits.probability[order]
        error = (visits.y[order] - p).mean(axis=1)
        assert (np.abs(error) < 4 * np.sqrt((p * (1 - p)).sum(axis=1)) / order.shape[1]).all()


@pytest.mark.parametrize("similarity", [-1.0, 0.0, 0.6, 1.0])
def test_similarity_is_the_correlation_of_coefficients(similarity: float) -> None:
    tasks = AdClicks(segments=500, publishers=500, similarity=similarity, strength=0.5)
    source, target = tasks.domains(np.random.default_rng(0))
    assert np.corrcoef(source.weights, target.weights)[0, 1] == pytest.approx(similarity, abs=0.05)
    assert target.weights.std() == pytest.approx(0.5, rel=0.05)
    if similarity == 1.0:
        np.testing.assert_array_equal(source.weights, target.weights)


def test_expected_log_loss() -> None:
    rng = np.random.default_rng(0)
    p, q = rng.random(5), rng.random(5)
    by_hand = np.mean([-a * np.log(b) - (1 - a) * np.log(1 - b) for a, b in zip(p, q, strict=True)])
    assert expected_log_loss(q, p) == pytest.approx(by_hand)
    assert expected_log_loss(p, p) < expected_log_loss(q, p)
    assert expected_log_loss(np.array([1.0, 0.0]), np.array([1.0, 0.0])) == 0.0
    with pytest.raises(InvalidArgumentError, match="belong together"):
        expected_log_loss(p, q[:3])
    with pytest.raises(InvalidArgumentError, match="between 0 and 1"):
        expected_log_loss(p + 1, q)


@pytest.mark.parametrize(
    "wrong",
    [
        {"segments": 0}, {"publishers": 1.5}, {"interests": -1}, {"similarity": 1.1},
        {"strength": 0.0}, {"rarity": -1.0}, {"read_rate": 0.0}, {"click_rate": 1.0},
    ],
)  # fmt: skip
def test_settings_that_cannot_be(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidArgumentError, match=next(iter(wrong))):
        AdClicks(**wrong)  # type: ignore[arg-type]
