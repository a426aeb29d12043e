"""Self-taught features: bases that are found again, codes that solve their problem."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from metagym.baselines.transfer.adapted import DomainAdapted
from metagym.baselines.transfer.self_taught import SelfTaught
from metagym.errors import InvalidArgumentError

RNG = np.random.default_rng(0)
BASES = np.linalg.qr(RNG.normal(size=(8, 8)))[0][:4]


def examples(n, seed):
    """Few of four bases each, and a little noise."""
    rng = np.random.default_rng(seed)
    codes = rng.normal(size=(n, 4)) * 2.0 * (rng.random((n, 4)) < 0.25)
    return codes @ BASES + rng.normal(size=(n, 8)) * 0.02, codes


@pytest.fixture(scope="module")
def fitted():
    return SelfTaught(8, sparsity=1.0, max_iter=15).fit(examples(400, 1)[0])


def test_the_bases_behind_the_examples_are_found(fitted):
    likeness = np.abs(fitted.dictionary_ @ BASES.T)  # [found, true]
    assert (likeness.max(axis=0) > 0.97).all()
    assert len(set(likeness.argmax(axis=0))) == 4
    assert (np.linalg.norm(fitted.dictionary_, axis=1) <= 1.0 + 1e-6).all()


@pytest.mark.parametrize("sparsity", [0.05, 0.8])
def test_codes_solve_the_equation_of_the_paper(sparsity):
    learner = SelfTaught(6, sparsity=sparsity, max_iter=5).fit(examples(200, 1)[0])
    X = examples(30, 2)[0]
    codes, bases = learner.transform(X), learner.dictionary_
    # The conditions of optimality of ‖x − aB‖² + β‖a‖₁.
    slope = 2.0 * (codes @ bases - X) @ bases.T
    np.testing.assert_allclose(
        slope[codes != 0], -sparsity * np.sign(codes[codes != 0]), atol=0.02 * max(1, sparsity)
    )
    assert (np.abs(slope[codes == 0]) <= sparsity + 0.02).all()


def test_more_sparsity_leaves_fewer_codes():
    X = examples(200, 1)[0]
    used = [
        np.mean(SelfTaught(6, sparsity=beta, max_iter=2).fit(X).transform(X) != 0)
        for beta in (0.02, 0.5, 3.0)
    ]
    assert used[0] > used[1] > used[2]


def test_few_labels_of_the_target_are_enough_with_the_features():
    X, Xt = examples(400, 1)[0], examples(300, 5)[0]
    # Whether one of the bases is in use at all: not linear in what is seen.
    yt = (np.abs(examples(300, 5)[1][:, 0]) > 0).astype(int)
    model = DomainAdapted(SelfTaught(4, sparsity=0.05, max_iter=10), LogisticRegression())
    model.fit(X, None, Xt=Xt, yt=yt[:40])
    assert model.features_.transform(Xt).shape == (300, 4)
    np.testing.assert_array_equal(model.classes_, [0, 1])
    by_hand = LogisticRegression().fit(model.features_.transform(Xt[:40]), yt[:40])
    np.testing.assert_array_equal(model.predict(Xt), by_hand.predict(model.features_.transform(Xt)))


def test_it_is_a_transformer_of_a_pipeline_too(fitted):
    X = examples(50, 3)[0]
    y = (X[:, 0] > 0).astype(int)
    pipeline = make_pipeline(SelfTaught(4, max_iter=1), LogisticRegression()).fit(X, y)
    assert pipeline.predict(X).shape == (50,)
    again = clone(fitted).fit(examples(400, 1)[0])
    np.testing.assert_array_equal(again.transform(X), fitted.transform(X))


def test_bad_input():
    X = examples(20, 1)[0]
    for bad, match in [
        ({"n_components": 0}, "n_components=0"),
        ({"sparsity": 0.0}, "sparsity=0.0"),
        ({"max_iter": 1.5}, "max_iter=1.5"),
    ]:
        with pytest.raises(InvalidArgumentError, match=match):
            SelfTaught(**bad).fit(X)
    with pytest.raises(InvalidArgumentError, match="8 features and the target 3"):
        SelfTaught(2).fit(X, Xt=X[:, :3])
