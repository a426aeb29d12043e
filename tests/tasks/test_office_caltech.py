"""Office + Caltech from .mat files: the real ones, and small and broken ones made here."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from metagym.errors import DataError, InvalidArgumentError
from metagym.tasks.office_caltech import (
    DOMAINS,
    FEATURES,
    load_domain,
    load_office_caltech,
    read_domain,
)

DATA = Path(os.environ.get("METAGYM_DATA") or Path(__file__).parents[3] / "shared" / "data")
needs_data = pytest.mark.skipif(
    not (DATA / "office_caltech").is_dir(), reason="the files of Office and Caltech are not here"
)


def content(n=12, **changed):
    rng = np.random.default_rng(0)
    made = {
        "fts": rng.integers(0, 9, (n, FEATURES), dtype=np.uint8),
        "labels": (np.arange(n, dtype=np.uint8) % 10 + 1)[:, None],
    }
    return made | changed


def write(path, **changed):
    path.parent.mkdir(parents=True, exist_ok=True)
    made = {name: x for name, x in content(**changed).items() if x is not None}
    savemat(path, made, do_compression=True)
    return path


@pytest.mark.parametrize("below", ["", "office_caltech"])
def test_small_files_in_the_usual_layout(tmp_path, below, monkeypatch):
    for number, name in enumerate(DOMAINS):
        write(tmp_path / below / f"{name}_SURF_L10.mat", n=10 + number)
    monkeypatch.setenv("METAGYM_DATA", str(tmp_path))
    domains = load_office_caltech()
    assert tuple(domains) == DOMAINS
    for number, domain in enumerate(domains.values()):
        wanted = content(n=10 + number)
        np.testing.assert_array_equal(domain.features, wanted["fts"])
        assert domain.features.dtype == np.float64
        np.testing.assert_array_equal(domain.labels, wanted["labels"].ravel().astype(int) - 1)


@needs_data
def test_the_real_files():
    domains = load_office_caltech(DATA)
    assert [len(x.labels) for x in domains.values()] == [958, 1123, 157, 295]
    for domain in domains.values():
        assert domain.features.shape == (len(domain.labels), FEATURES)
        np.testing.assert_array_equal(np.unique(domain.labels), np.arange(10))
    np.testing.assert_array_equal(load_domain("dslr", DATA).features, domains["dslr"].features)


@needs_data
def test_the_published_numbers_of_nearest_neighbours():
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.preprocessing import Normalizer

    from metagym.baselines.transfer.adapted import DomainAdapted
    from metagym.baselines.transfer.alignment import DomainStandardizer
    from metagym.baselines.transfer.features import Chain
    from metagym.baselines.transfer.subspace import TCA

    source, target = (load_domain(name, DATA) for name in ("amazon", "caltech"))
    z = [Normalizer("l1"), DomainStandardizer()]
    for steps, printed in [(z, 26.00), ([*z, TCA(100)], 37.76), ([*z, Normalizer(), TCA()], 40.07)]:
        model = DomainAdapted(Chain(steps), KNeighborsClassifier(1))
        accuracy = model.fit(*source, Xt=target.features).score(*target)
        assert round(100 * accuracy, 2) == printed


def test_missing_files_and_names(tmp_path, monkeypatch):
    monkeypatch.delenv("METAGYM_DATA", raising=False)
    with pytest.raises(DataError, match="METAGYM_DATA"):
        load_office_caltech()
    with pytest.raises(DataError, match=r"no amazon_SURF_L10\.mat"):
        load_office_caltech(tmp_path)
    with pytest.raises(InvalidArgumentError, match="Did you mean 'webcam'"):
        load_domain("webcamera", tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        read_domain(tmp_path / "none.mat")
    with pytest.raises(DataError, match="cannot be read"):
        read_domain(tmp_path)


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"fts": None}, "no variable 'fts'"),
        ({"labels": None}, "no variable 'labels'"),
        ({"fts": np.ones((12, 5))}, "examples × 800"),
        ({"fts": np.ones((0, FEATURES))}, "examples × 800"),
        ({"fts": np.full((12, FEATURES), np.nan)}, "no finite number"),
        ({"fts": np.full((12, FEATURES), -1.0)}, "negative"),
        ({"fts": "a text"}, "not an array of numbers"),
        ({"fts": {"a": 1}}, "not an array of numbers"),
        ({"fts": np.ones((12, FEATURES)) * 1j}, "not an array of numbers"),
        ({"labels": np.ones((11, 1))}, "do not fit 12"),
        ({"labels": np.ones((3, 4))}, "do not fit 12"),
        ({"labels": np.zeros((12, 1))}, "from 1 to 10"),
        ({"labels": np.full((12, 1), 1.5)}, "from 1 to 10"),
    ],
)
def test_files_of_something_else(tmp_path, changed, match):
    with pytest.raises(DataError, match=match):
        read_domain(write(tmp_path / "x.mat", **changed))


@pytest.mark.parametrize("junk", [b"", b"MATLAB", b"\x89HDF\r\n\x1a\n" + bytes(600), bytes(5000)])
def test_no_mat_files(tmp_path, junk):
    (tmp_path / "x.mat").write_bytes(junk)
    with pytest.raises(DataError):
        read_domain(tmp_path / "x.mat")


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(where=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255), cut=st.booleans())
@pytest.mark.filterwarnings("ignore")
def test_damaged_files_are_refused_or_still_what_they_have_to_be(tmp_path, where, byte, cut):
    path = write(tmp_path / "x.mat")
    whole = bytearray(path.read_bytes())
    at = int(where * len(whole))
    path.write_bytes(whole[:at] if cut else whole[:at] + bytes([byte]) + whole[at + 1 :])
    try:
        domain = read_domain(path)
    except DataError:
        return
    assert domain.features.shape == (len(domain.labels), FEATURES)
    assert domain.labels.min() >= 0 and domain.labels.max() < 10


def test_a_file_far_too_large_is_not_read(tmp_path):
    with (tmp_path / "x.mat").open("wb") as file:
        file.truncate(30_000_000)
    with pytest.raises(DataError, match="30000000 bytes"):
        read_domain(tmp_path / "x.mat")
