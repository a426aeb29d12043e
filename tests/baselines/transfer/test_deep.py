"""Deep transfer methods: what each has to learn, and what it must not touch."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from metagym.baselines.transfer.deep import DeepConfig
from metagym.baselines.transfer.deep_methods import (
    DEEP_METHODS,
    deep_method_class,
    make_deep_method,
)
from metagym.baselines.transfer.deep_weighted import ImportanceWeighted, WeightedConfig, odds
from metagym.errors import DataError, InvalidArgumentError, MetagymError
from metagym.tasks.domains import gaussians

SMALL = {"hidden": (16,), "batch": 16, "iterations": 60, "rate": 1e-2}
BRIEF = {**SMALL, "iterations": 5}


def shortened(name, **fields):
    """A method that is trained in a moment."""
    known = {"pretraining": fields.get("iterations", SMALL["iterations"])}
    has = hasattr(deep_method_class(name).Config(), "pretraining")
    return make_deep_method(name, device="cpu", **(known if has else {}), **{**SMALL, **fields})


def fitted(name, pair, **fields):
    return shortened(name, **fields).fit(pair.X, pair.y, pair.Xt, pair.yt)


@pytest.fixture(scope="module")
def pair():
    """Two domains that are one, nearly: whatever learns at all learns it."""
    return gaussians(shift=0.3, examples=120, noise=0.3)


@pytest.fixture(scope="module")
def apart():
    """Classes by the first feature in both domains; the second tells the domains apart."""
    rng = np.random.default_rng(0)

    def draw(offset):
        y = np.arange(200) % 2
        return np.stack([2.0 * y - 1 + 0.3 * rng.normal(size=200),
                         offset + 0.5 * rng.normal(size=200)], axis=1), y  # fmt: skip

    return draw(-1.0), draw(1.0)


@pytest.mark.parametrize("name", DEEP_METHODS)
def test_every_method_learns_and_has_the_face(name, pair):
    before = torch.random.get_rng_state()
    method = fitted(name, pair, **({"iterations": 300} if name == "dann" else {}))
    torch.testing.assert_close(torch.random.get_rng_state(), before)  # no global generator
    assert method.score(pair.X_test, pair.y_test) > 0.9
    chances = method.predict_proba(pair.X_test)
    np.testing.assert_allclose(chances.sum(1), 1.0)
    np.testing.assert_array_equal(method.classes_[chances.argmax(1)], method.predict(pair.X_test))
    assert method.transform(pair.X_test).shape == (len(pair.X_test), 16)
    again = clone(method)
    assert again.get_params() == method.get_params() and not hasattr(again, "network_")
    with pytest.raises(NotFittedError):
        again.predict(pair.X_test)


@pytest.mark.parametrize("name", ["dann", "l2_sp", "importance_weighted"])
def test_the_seed_decides(name, pair):
    one, same, other = (
        fitted(name, pair, seed=seed, **BRIEF).predict_proba(pair.X_test) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize(
    "labels", [np.array(["cat", "dog", "eel", "fox"]), np.array([-3, 7, 8, 100])]
)
def test_labels_of_any_kind(labels, pair):
    method = shortened("transfer_joint").fit(
        pair.X, labels[pair.y], pair.Xt, labels[pair.yt]
    )  # fmt: skip
    assert (method.predict(pair.X_test) == labels[pair.y_test]).mean() > 0.9


def test_source_only_looks_at_nothing_of_the_target(pair):
    one = fitted("source_only", pair, **BRIEF)
    other = shortened("source_only", **BRIEF).fit(pair.X, pair.y, pair.Xt[::-1] + 9.0)
    np.testing.assert_array_equal(one.predict_proba(pair.X), other.predict_proba(pair.X))


def test_target_only_looks_at_nothing_of_the_source_but_its_classes(pair):
    one = fitted("target_only", pair, **BRIEF)
    other = shortened("target_only", **BRIEF).fit(100.0 * pair.X + 7.0, pair.y, pair.Xt, pair.yt)
    np.testing.assert_array_equal(one.predict_proba(pair.Xt), other.predict_proba(pair.Xt))
    np.testing.assert_allclose(one.network_.shift.numpy(), pair.Xt.mean(0), rtol=1e-5)


@pytest.mark.parametrize("name", ["dann", "deep_coral", "deep_mmd"])
def test_alignment_looks_at_labels_only_if_asked(name, pair):
    wrong = (pair.yt + 1) % 4
    blind = [
        shortened(name, **BRIEF).fit(pair.X, pair.y, pair.Xt, yt).predict_proba(pair.X)
        for yt in (None, pair.yt, wrong)
    ]
    np.testing.assert_array_equal(blind[0], blind[1])
    np.testing.assert_array_equal(blind[0], blind[2])
    seeing = shortened(name, label_weight=1.0, **BRIEF)
    assert not np.array_equal(
        seeing.fit(pair.X, pair.y, pair.Xt, wrong).predict_proba(pair.X), blind[0]
    )
    with pytest.raises(InvalidArgumentError, match="yt"):
        seeing.fit(pair.X, pair.y, pair.Xt)


def test_alignment_without_strength_is_source_only(pair):
    """The same weights and the same loss; only minibatches differ, so both converge alike."""
    found = fitted("deep_coral", pair, strength=0.0)
    assert found.score(pair.X, pair.y) > 0.97


def test_dann_domains_become_one(apart):
    """At strength 0 the head only watches what source-only learns; at 1 it is fooled."""
    (x, y), (xt, yt) = apart
    domain = np.repeat([0, 1], 200)
    found, gap = {}, {}
    for strength in (0.0, 1.0):
        method = shortened("dann", strength=strength, iterations=400, batch=64, weight_decay=1e-2)
        method.fit(x, y, xt)
        features = method.transform(np.concatenate([x, xt]))
        guesses = method.model_.parts["domain"](torch.from_numpy(features)).numpy()
        found[strength] = ((guesses > 0) == domain).mean()
        source, target = features[:200], features[200:]
        between = np.linalg.norm(source.mean(0) - target.mean(0))
        gap[strength] = between / np.linalg.norm(source[y == 0].mean(0) - source[y == 1].mean(0))
    assert found[0.0] > 0.9 and abs(found[1.0] - 0.5) < 0.2
    assert gap[1.0] < 0.6 * gap[0.0]
    assert method.score(xt, yt) > 0.97


def test_coral_makes_covariances_alike(pair):
    wide = pair.Xt * np.array([3.0, 1.0])
    far = {}
    for strength in (0.0, 10.0):
        method = shortened("deep_coral", strength=strength, layer="features")
        method.fit(pair.X, pair.y, wide)
        a, b = (np.cov(method.transform(x).T) for x in (pair.X, wide))
        far[strength] = np.square(a - b).sum() / np.square(a).sum()
    assert far[10.0] < 0.5 * far[0.0]


def test_alpha_of_joint_has_two_ends(pair):
    """α = 1 takes no notice of the target's labels, α = 0 none of the source's."""
    wrong = (pair.yt + 1) % 4
    first = [
        shortened("transfer_joint", alpha=1.0, **BRIEF).fit(pair.X, pair.y, pair.Xt, yt)
        for yt in (pair.yt, wrong)
    ]
    np.testing.assert_array_equal(*(m.predict_proba(pair.X) for m in first))
    last = [
        shortened("transfer_joint", alpha=0.0, **BRIEF).fit(pair.X, y, pair.Xt, pair.yt)
        for y in (pair.y, (pair.y + 1) % 4)
    ]
    np.testing.assert_array_equal(*(m.predict_proba(pair.X) for m in last))


# -- fine-tuning -------------------------------------------------------------------------------


def weights(method):
    return {name: value.clone() for name, value in method.network_.state_dict().items()}


def test_tuned_layers(pair):
    source = weights(fitted("source_only", pair))
    tuned = weights(fitted("transfer_fine_tuning", pair, tuned_layers=1, tuning_rate=0.1))
    for name, value in source.items():
        assert torch.equal(value, tuned[name]) != name.startswith("head"), name
    every = weights(fitted("transfer_fine_tuning", pair, tuning_rate=0.1))
    assert not torch.equal(source["blocks.0.1.weight"], every["blocks.0.1.weight"])


def test_l2_sp_stays_with_the_source_the_more_it_pulls(pair):
    wrong = (pair.yt + 1) % 4  # labels that pull away
    source = weights(fitted("source_only", pair))
    far = []
    for pull in (0.0, 1.0, 100.0, 1e6):
        # Plain gradient descent on so stiff a penalty needs a rate below 2 / pull.
        method = shortened("l2_sp", pull=pull, optimizer="adam", tuning_rate=1e-3)
        found = weights(method.fit(pair.X, pair.y, pair.Xt, wrong))
        far.append(max(float((found[n] - source[n]).abs().max()) for n in source))
    assert far == sorted(far, reverse=True)
    assert far[0] > 0.02 and far[-1] < 2e-3


def test_a_new_head_is_new_and_its_decay_counts(pair):
    kept = fitted("transfer_fine_tuning", pair, new_head=False, tuning_rate=1e-9)
    new = fitted("transfer_fine_tuning", pair, new_head=True, tuning_rate=1e-9)
    assert kept.score(pair.X, pair.y) > 0.95 > new.score(pair.X, pair.y)
    torch.testing.assert_close(weights(kept)["blocks.0.1.weight"],
                               weights(new)["blocks.0.1.weight"])  # fmt: skip
    sizes = [
        float(weights(fitted("l2_sp", pair, new_head=True, head_decay=decay, pull=0.0,
                             tuning_rate=1e-2))["head.weight"].norm())
        for decay in (0.0, 10.0)
    ]  # fmt: skip
    assert sizes[1] < 0.7 * sizes[0]


def test_start_takes_the_place_of_pretraining(pair, tmp_path):
    whole = fitted("transfer_fine_tuning", pair)
    source = shortened("source_only").set_params(out=tmp_path / "source")
    source.fit(pair.X, pair.y, pair.Xt)
    short = fitted("transfer_fine_tuning", pair, start=str(tmp_path / "source"))
    assert short.training_["iterations"] == 60 and whole.training_["iterations"] == 120
    # The minibatches on the target are others: the generator starts anew.
    assert short.score(pair.X_test, pair.y_test) > 0.9
    torch.testing.assert_close(
        weights(fitted("transfer_fine_tuning", pair, start=str(tmp_path / "source"),
                       tuned_layers=1))["blocks.0.1.weight"],
        weights(source)["blocks.0.1.weight"],
    )  # fmt: skip
    with pytest.raises(MetagymError, match="another network"):
        fitted("transfer_fine_tuning", pair, start=str(tmp_path / "source"), hidden=(8,))


# -- importance weights ------------------------------------------------------------------------


class FixedRatio:
    """The contract of a ratio estimator, and the classes' own weights."""

    def fit(self, X, Xt):
        self.seen = len(X), len(Xt)
        return self

    def weights(self, X):
        return np.where(X[:, 0] > 0, 3.0, 1.0)


def test_weights_from_outside(pair):
    config = WeightedConfig(**BRIEF)
    by_ratio = ImportanceWeighted(config, ratio=FixedRatio(), device="cpu")
    by_ratio.fit(pair.X, pair.y, pair.Xt)
    given = ImportanceWeighted(config, device="cpu").fit(
        pair.X, pair.y, pair.Xt, sample_weight=FixedRatio().weights(pair.X)
    )
    np.testing.assert_array_equal(by_ratio.weights_, given.weights_)
    np.testing.assert_array_equal(by_ratio.predict_proba(pair.X), given.predict_proba(pair.X))
    wanted = FixedRatio().weights(pair.X)
    np.testing.assert_allclose(given.weights_, wanted / wanted.mean(), rtol=1e-6)
    assert given.effective_size_ == pytest.approx(
        wanted.sum() ** 2 / np.square(wanted).sum(), rel=1e-5
    )
    assert given.training_["iterations"] == 5  # no pretraining
    flat = ImportanceWeighted(WeightedConfig(flattening=0.0, **BRIEF), ratio=FixedRatio())
    np.testing.assert_allclose(flat.fit(pair.X, pair.y, pair.Xt).weights_, 1.0)


def test_an_example_of_weight_0_teaches_nothing(pair):
    weight = (pair.y < 2).astype(float)
    config = WeightedConfig(**SMALL)
    method = ImportanceWeighted(config, device="cpu")
    method.fit(pair.X, pair.y, pair.Xt, sample_weight=weight)
    assert set(method.predict(pair.X)) <= {0, 1}


def test_odds_of_gaussians_are_the_ratio():
    """N(1, 1) over N(0, 1) is exp(x − 1/2), which the logistic model contains."""
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=(20_000, 1)), rng.normal(1.0, size=(10_000, 1))
    found = odds(source, target, penalty=1.0, seed=0)
    middle = np.abs(source[:, 0]) < 1.5
    truth = np.exp(source[:, 0] - 0.5)
    np.testing.assert_allclose(found[middle], truth[middle], rtol=0.12)


def test_one_example_has_odds():
    assert np.isfinite(odds(np.zeros((1, 2)), np.ones((3, 2)), 1.0, 0)).all()


# -- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DEEP_METHODS)
def test_bad_input_is_refused(name, pair):
    method = shortened(name, **BRIEF)
    hole = pair.X.copy()
    hole[3, 1] = np.nan
    for arguments, error, said in (
        ((pair.X, pair.y), InvalidArgumentError, "target"),
        ((pair.X, np.zeros(len(pair.y)), pair.Xt, pair.yt), InvalidArgumentError, "two of them"),
        ((hole, pair.y, pair.Xt, pair.yt), DataError, r"X\[3, 1\] is nan"),
        ((pair.X, pair.y, hole, pair.yt), DataError, r"Xt\[3, 1\] is nan"),
        ((pair.X, pair.y, pair.Xt[:0], pair.yt), InvalidArgumentError, "at least one"),
        ((pair.X, pair.y, pair.Xt[:, :1], pair.yt), InvalidArgumentError, "features"),
        ((pair.X, pair.y, pair.Xt, [17]), InvalidArgumentError, "17"),
    ):
        with pytest.raises(error, match=said):
            method.fit(*arguments)
    if method.needs_labels:
        with pytest.raises(InvalidArgumentError, match="yt"):
            method.fit(pair.X, pair.y, pair.Xt)


def test_bad_weights_are_refused(pair):
    method = ImportanceWeighted(WeightedConfig(**BRIEF), device="cpu")
    negative = np.ones(len(pair.X))
    negative[2] = -1.0
    with pytest.raises(InvalidArgumentError, match=r"sample_weight\[2\] is -1"):
        method.fit(pair.X, pair.y, pair.Xt, sample_weight=negative)
    with pytest.raises(InvalidArgumentError, match="not both"):
        ImportanceWeighted(ratio=FixedRatio()).fit(
            pair.X, pair.y, pair.Xt, sample_weight=np.ones(len(pair.X))
        )


@pytest.mark.parametrize(
    ("name", "fields", "said"),
    [
        ("danm", {}, "Did you mean 'dann'"),
        ("dann", {"strengh": 1.0}, "Did you mean 'strength'"),
        ("dann", {"strength": -1.0}, "strength"),
        ("dann", {"rate": 0.0}, "rate"),
        ("dann", {"schedule": "step"}, "schedule"),
        ("dann", {"gamma": 0.0}, "gamma"),
        ("deep_coral", {"layer": "pixels"}, "layer"),
        ("transfer_joint", {"alpha": 1.5}, "alpha"),
        ("l2_sp", {"pull": float("inf")}, "pull"),
        ("transfer_fine_tuning", {"tuned_layers": 0}, "tuned_layers"),
        ("importance_weighted", {"flattening": 2.0}, "flattening"),
        ("source_only", {"iterations": 0}, "iterations"),
    ],
)
def test_bad_settings(name, fields, said):
    with pytest.raises(InvalidArgumentError, match=said):
        make_deep_method(name, **fields)


def test_other_misuse(pair):
    with pytest.raises(InvalidArgumentError, match="DANNConfig"):
        deep_method_class("dann")(DeepConfig()).fit(pair.X, pair.y, pair.Xt)
    method = fitted("source_only", pair, **BRIEF)
    with pytest.raises(InvalidArgumentError, match="3 features"):
        method.predict(np.zeros((2, 3)))
    with pytest.raises(InvalidArgumentError, match="diverged"):
        fitted("source_only", pair, optimizer="sgd", rate=1e12)
    with pytest.raises(InvalidArgumentError, match="resume"):
        make_deep_method("dann", resume=True).fit(pair.X, pair.y, pair.Xt)
