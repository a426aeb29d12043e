"""Texts, language models of recurrent cells, and their rewards."""

from __future__ import annotations

import dataclasses
import importlib.machinery
import importlib.util
import itertools
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes, load_iris, load_wine

from metagym.architectures import make_evaluator
from metagym.architectures.cache import ResultCache
from metagym.architectures.enas_rnn import ENASRecurrent
from metagym.architectures.language import (
    DEFAULT_SETTINGS,
    LanguageModelEvaluator,
    LanguageRecord,
    LanguageSettings,
)
from metagym.architectures.language_modules import (
    LanguageModel,
    count_parameters,
    perplexity,
    solve_width,
)
from metagym.architectures.recurrent_modules import RecurrentCell, baseline
from metagym.architectures.recurrent_tree import FIGURE_5, LSTM, RecurrentTree
from metagym.errors import DataError, InvalidArgumentError
from metagym.tasks import load_ptb, load_sklearn, load_text, make_text

SPACE = RecurrentTree(2)
TINY = LanguageSettings(width=6, embedding=4, batch_size=4, steps=8, learning_rate=0.02)
# What comes next follows from the last two letters: "ab" alternates with "ba".
PATTERN = "abba" * 200


@pytest.fixture(scope="module")
def text():
    return make_text(PATTERN, PATTERN[:200], PATTERN[2:300])


class Constant(RecurrentCell):
    """Puts out zeros, or the value given, whatever it reads."""

    states = 1
    value = 0.0

    def __init__(self, inputs, width):
        super().__init__(inputs, width)
        self.scale = torch.nn.Parameter(torch.tensor(self.value))

    def forward(self, x, state=None):
        out = self.scale * torch.ones(*x.shape[:2], self.width)
        return out, (out[-1],)


class NotANumber(Constant):
    value = math.nan


class NoMemory(Constant):
    def forward(self, x, state=None):
        raise torch.OutOfMemoryError("out of memory")


# -- texts ---------------------------------------------------------------------------------------


def test_characters_and_words():
    parts = ("a cat \n a hat", "a  bat", "the cat")
    letters = make_text(*parts)
    assert letters.symbols == ("<unk>", "\n", " ", "a", "c", "h", "t")
    assert [letters.symbols[i] for i in letters.train] == list("a cat\na hat")
    assert [letters.symbols[i] for i in letters.validation] == ["a", " ", " ", "<unk>", "a", "t"]
    words = make_text(*parts, level="word")
    assert words.symbols == ("<unk>", "<eos>", "a", "cat", "hat")
    assert words.train.tolist() == [2, 3, 1, 2, 4, 1]
    assert words.test.tolist() == [0, 3, 1]
    frequent = make_text(*parts, level="word", min_count=2)
    assert frequent.symbols == ("<unk>", "<eos>", "a")
    assert frequent.train.tolist() == [2, 0, 1, 2, 0, 1]


def test_the_digest_changes_with_every_part():
    parts = ["one two", "two one", "two"]
    digests = {make_text(*parts).digest, make_text(*parts, level="word").digest}
    for i in range(3):
        changed = [part + " one" * (i == j) for j, part in enumerate(parts)]
        digests.add(make_text(*changed).digest)
    assert len(digests) == 5
    assert make_text(*parts).digest in digests


def test_a_file_is_cut_between_lines(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("\n".join(f"line {i % 2}" for i in range(20)), encoding="utf-8")
    text = load_text(path, level="word", shares=(0.5, 0.25))
    assert [len(part) for part in (text.train, text.validation, text.test)] == [30, 15, 15]


def test_bad_texts_are_data_errors(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        load_text(tmp_path / "none.txt")
    path = tmp_path / "text.txt"
    path.write_bytes(b"caf\xe9 " * 10)
    with pytest.raises(DataError, match="UTF-8"):
        load_text(path)
    path.write_text("one line")
    with pytest.raises(DataError, match=r"train part .* fewer than two"):
        load_text(path)
    with pytest.raises(InvalidArgumentError, match="shares"):
        load_text(path, shares=(0.5, 0.5))
    with pytest.raises(InvalidArgumentError, match="Did you mean 'word'"):
        make_text("ab", "ab", "ab", level="words")


def test_scikit_learns_descriptions():
    """Every paragraph of what scikit-learn itself shows is in one of the parts."""
    text = load_sklearn()
    parts = [
        "".join(text.symbols[number] for number in part)
        for part in (text.train, text.validation, text.test)
    ]
    for load in (load_iris, load_wine, load_diabetes):
        description = "\n".join(line.strip() for line in load().DESCR.strip().splitlines())
        known = "".join(c if c in text.symbols else "<unk>" for c in description)
        for paragraph in known.split("\n\n"):
            assert any(paragraph.strip() in part for part in parts)
    sizes = np.array([len(part) for part in parts]) / sum(map(len, parts))
    np.testing.assert_allclose(sizes, [5 / 7, 1 / 7, 1 / 7], atol=0.05)
    assert sum(map(len, parts)) > 30_000
    assert text.digest == load_sklearn().digest != load_sklearn("word").digest
    assert (text.validation == 0).mean() < 0.01


def test_a_scikit_learn_without_descriptions(tmp_path, monkeypatch):
    package = importlib.machinery.ModuleSpec("sklearn", None, is_package=True)
    package.submodule_search_locations.append(str(tmp_path))
    for found in (None, package):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name, found=found: found)
        with pytest.raises(DataError, match="no descriptions"):
            load_sklearn()
    (tmp_path / "datasets" / "descr").mkdir(parents=True)
    for i in range(7, 0, -1):
        (tmp_path / "datasets" / "descr" / f"{i}.rst").write_text(f"\nno {i}\n")
    text = load_sklearn("word")  # in the order of their names
    assert text.symbols == ("<unk>", "1", "2", "3", "4", "5", "<eos>", "no")
    assert len(text.train) == 5 * 3 + 4  # and four empty lines between paragraphs
    assert text.validation.tolist() == text.test.tolist() == [7, 0, 6]


def test_where_the_treebank_is_looked_for(tmp_path, monkeypatch):
    monkeypatch.delenv("METAGYM_DATA", raising=False)
    with pytest.raises(DataError, match="Set METAGYM_DATA"):
        load_ptb()
    with pytest.raises(DataError, match=r"no ptb\.valid\.txt"):
        load_ptb(tmp_path)
    (tmp_path / "ptb").mkdir()
    (tmp_path / "ptb" / "ptb.valid.txt").write_text(" a b \n b c \n")
    with pytest.raises(DataError, match=r"ptb\.test\.txt cannot be read"):
        load_ptb(tmp_path)
    (tmp_path / "ptb" / "ptb.test.txt").write_text(" a \n b \n c \n c \n")
    monkeypatch.setenv("METAGYM_DATA", str(tmp_path))
    text = load_ptb(level="word")
    assert text.symbols == ("<unk>", "<eos>", "a", "b", "c")
    assert (text.validation.tolist(), text.test.tolist()) == ([2, 1, 3, 1], [4, 1, 4, 1])


def test_the_real_treebank():
    beside = Path(__file__).parents[3] / "shared" / "data"
    folder = Path(os.environ.get("METAGYM_DATA", beside))
    if not (folder / "ptb").is_dir():
        pytest.skip(f"no Penn Treebank in {folder}; set METAGYM_DATA")
    text = load_ptb(folder, level="word")
    # What every paper says of these files: 3,370 and 3,761 sentences of 73,760 and 82,430 words.
    assert len(text.train) == 73760
    assert len(text.validation) + len(text.test) == 82430
    assert (text.train == text.symbols.index("<eos>")).sum() == 3370
    letters = load_ptb(folder)
    assert len(letters.symbols) == 51
    assert 15 < letters.unigram_perplexity() < 25


# -- models --------------------------------------------------------------------------------------


def test_perplexity_against_single_symbols(text):
    """One column, one symbol at a time, the probabilities multiplied by hand."""
    torch.manual_seed(0)
    model = LanguageModel(baseline("gru"), len(text.symbols), 5, 4)
    symbols = torch.from_numpy(text.test[:40].copy())
    state, total = None, 0.0
    with torch.no_grad():
        for now, following in itertools.pairwise(symbols):
            logits, state = model(now[None, None], state)
            total -= float(torch.log_softmax(logits[0, 0], dim=0)[following])
    for steps in (1, 7, 39, 100):
        assert perplexity(model, symbols[:, None], steps) == pytest.approx(math.exp(total / 39))


def test_tied_weights_are_one_tensor(text):
    model = LanguageModel(baseline("rnn"), 9, 5)
    assert model.softmax.weight is model.embedding.weight
    counted = sum(parameter.numel() for parameter in model.parameters())
    assert count_parameters(baseline("rnn"), 9, 5) == counted == 9 * 5 + 9 + 5 * (5 + 5 + 2)


@pytest.mark.parametrize("parameters", [300, 5000, 200_000])
def test_the_width_is_the_nearest(parameters):
    def count(width):
        return count_parameters(baseline("lstm"), 50, width, 32)

    width = solve_width(count, parameters)
    best = min(range(1, 400), key=lambda w: abs(count(w) - parameters))
    assert width == best


def test_large_children_agree_within_one_percent(text):
    settings = dataclasses.replace(TINY, width=None, parameters=200_000, max_parameters=1)
    evaluator = LanguageModelEvaluator(RecurrentTree(), text, settings)
    sizes = [evaluator.record(RecurrentTree().from_string(LSTM)).parameters]
    sizes += [evaluator.fit(kind, baseline(kind)).parameters for kind in ("rnn", "gru", "lstm")]
    assert all(abs(size / 200_000 - 1) < 0.01 for size in sizes)


# -- training ------------------------------------------------------------------------------------


def test_what_only_memory_can_tell_is_learnt(text):
    """Letter frequencies give a perplexity of 2, the pattern one of nearly 1."""
    settings = dataclasses.replace(TINY, epochs=12)
    evaluator = LanguageModelEvaluator(SPACE, text, settings)
    assert evaluator.constant == pytest.approx(text.unigram_perplexity() ** 2)
    assert evaluator.constant == pytest.approx(4, rel=0.01)
    lstm = evaluator.fit("lstm", baseline("lstm"))
    assert lstm.status == "trained" and lstm.validation_perplexity < 1.1
    assert lstm.validation_perplexity == min(lstm.curve) and len(lstm.curve) == 12
    assert lstm.test_perplexity < 1.1
    blind = evaluator.fit("blind", Constant)
    assert blind.validation_perplexity == pytest.approx(2, rel=0.01)
    assert evaluator.score(blind.validation_perplexity) == pytest.approx(1, rel=0.02)


@pytest.mark.parametrize(
    ("space", "cell"), [(SPACE, FIGURE_5), (ENASRecurrent(2), "0 0 1")], ids=["tree", "enas"]
)
def test_found_cells_learn(space, cell, text):
    settings = dataclasses.replace(TINY, epochs=8, width=16, learning_rate=0.05)
    evaluator = LanguageModelEvaluator(space, text, settings)
    result = evaluator.evaluate(space.from_string(cell)[None])
    assert result.reward.shape == result.test.shape == result.cost.shape == (1,)
    assert result.reward[0] > 1.5 and result.test[0] > 1.5 and result.cost[0] > 0
    (record,) = evaluator.records.values()
    assert result.reward[0] == evaluator.constant / record.validation_perplexity**2


def test_plain_gradient_descent_learns(text):
    settings = dataclasses.replace(TINY, epochs=6, optimizer="sgd", learning_rate=2.0)
    record = LanguageModelEvaluator(SPACE, text, settings).fit("gru", baseline("gru"))
    assert record.validation_perplexity < 1.7


def same(one, two):
    return dataclasses.replace(one, seconds=0) == dataclasses.replace(two, seconds=0)


def test_results_follow_from_architecture_and_seed(text):
    tokens = SPACE.sample(np.random.default_rng(0), 3)

    def records(order, seed=0):
        torch.manual_seed(int(order[0]))  # must not matter
        evaluator = LanguageModelEvaluator(SPACE, text, TINY, seed=seed)
        evaluator.evaluate(tokens[list(order)])
        return evaluator.records

    before = torch.get_rng_state()
    one, two, other = records([0, 1, 2]), records([2, 0, 1]), records([0, 1, 2], seed=1)
    torch.set_rng_state(before)
    assert one.keys() == two.keys() == other.keys()
    assert all(same(one[key], two[key]) for key in one)
    assert not any(same(one[key], other[key]) for key in one)


def test_training_leaves_torchs_generator_and_threads_alone(text):
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    LanguageModelEvaluator(SPACE, text, TINY).fit("rnn", baseline("rnn"))
    assert torch.equal(torch.get_rng_state(), before) and torch.get_num_threads() == threads


def test_isomorphic_cells_are_trained_once(text):
    left = "add tanh, mult relu / add sigmoid / inject add tanh / cell 0 1"
    right = "mult relu, add tanh / add sigmoid / inject add tanh / cell 1 0"
    alone = LanguageModelEvaluator(SPACE, text, TINY)
    alone.record(SPACE.from_string(right))
    evaluator = LanguageModelEvaluator(SPACE, text, TINY)
    rows = np.stack([SPACE.from_string(left), SPACE.from_string(right)])
    result = evaluator.evaluate(rows)
    assert len(evaluator.records) == 1 and result.reward[0] == result.reward[1]
    (one,), (two,) = alone.records.values(), evaluator.records.values()
    assert same(one, two)


@pytest.mark.parametrize(
    ("cell", "changes", "status"),
    [
        (NotANumber, {}, "diverged"),
        (Constant, {"learning_rate": 1e30, "optimizer": "sgd", "clip": 1e30}, "diverged"),
        (NoMemory, {}, "out of memory"),
        (Constant, {"max_parameters": 10}, "too many parameters"),
        (Constant, {"max_seconds": 1e-9}, "too slow"),
    ],
)
def test_failures_are_records_and_score_0(cell, changes, status, text, tmp_path):
    settings = dataclasses.replace(TINY, epochs=2, **changes)
    evaluator = LanguageModelEvaluator(SPACE, text, settings, cache=tmp_path / "cache.db")
    record = evaluator.fit("cell", cell)
    assert record.status == status
    assert record.validation_perplexity is None and record.test_perplexity is None
    assert evaluator.score(record.validation_perplexity) == 0
    again = LanguageModelEvaluator(SPACE, text, settings, cache=tmp_path / "cache.db")
    assert again.fit("cell", pytest.fail) == record


@pytest.mark.parametrize(
    "message",
    ["DefaultCPUAllocator: not enough memory", "DefaultCPUAllocator: can't allocate memory",
     "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"],
)  # fmt: skip
def test_memory_runs_out_in_many_words(message, text):
    class Full(Constant):
        def forward(self, x, state=None):
            raise RuntimeError(message)

    record = LanguageModelEvaluator(SPACE, text, TINY).fit("full", Full)
    assert record.status == "out of memory"


def test_a_failed_architecture_scores_0(text):
    settings = dataclasses.replace(TINY, max_parameters=10)
    evaluator = LanguageModelEvaluator(SPACE, text, settings)
    result = evaluator.evaluate(SPACE.sample(np.random.default_rng(0), 2))
    assert result.reward.tolist() == result.test.tolist() == [0, 0]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_what_is_no_failure_of_the_child_passes(error, text):
    class Broken(Constant):
        def forward(self, x, state=None):
            raise error("a bug, or Ctrl-C")

    evaluator = LanguageModelEvaluator(SPACE, text, TINY)
    with pytest.raises(error):
        evaluator.fit("broken", Broken)
    assert not evaluator.records


def test_limits_of_symbols(text):
    one_epoch = LanguageModelEvaluator(SPACE, text, TINY).fit("rnn", baseline("rnn"))
    columns = len(text.train) // 4
    assert one_epoch.symbols == 4 * (columns - 1)
    settings = dataclasses.replace(TINY, epochs=3, max_symbols=100)
    part = LanguageModelEvaluator(SPACE, text, settings).fit("rnn", baseline("rnn"))
    assert part.symbols == 128 and len(part.curve) == 1  # whole windows of 8 × 4
    settings = dataclasses.replace(TINY, epochs=3, max_symbols=1000, max_evaluation_symbols=20)
    more = LanguageModelEvaluator(SPACE, text, settings).fit("rnn", baseline("rnn"))
    assert 1000 <= more.symbols < 1032 and len(more.curve) == 2


def test_the_cache_keeps_records(text, tmp_path):
    cache = ResultCache(tmp_path / "cache.db")
    evaluator = LanguageModelEvaluator(SPACE, text, TINY, cache=cache)
    tokens = SPACE.sample(np.random.default_rng(0), 2)
    first = evaluator.evaluate(tokens)
    again = LanguageModelEvaluator(SPACE, text, TINY, cache=cache)
    np.testing.assert_array_equal(again.evaluate(tokens), first)  # the seconds too
    assert again.records == evaluator.records
    stored = cache.get(evaluator.fingerprint, next(iter(evaluator.records)))
    assert LanguageRecord(**json.loads(json.dumps(stored))).status == "trained"


def test_the_fingerprint_changes_with_what_changes_results(text):
    other = make_text(PATTERN + "a", PATTERN, PATTERN)
    evaluators = [
        LanguageModelEvaluator(SPACE, text, TINY),
        LanguageModelEvaluator(SPACE, text, TINY, seed=1),
        LanguageModelEvaluator(SPACE, other, TINY),
        LanguageModelEvaluator(SPACE, text, dataclasses.replace(TINY, clip=2.0)),
    ]
    assert len({evaluator.fingerprint for evaluator in evaluators}) == 4
    scaled = LanguageModelEvaluator(SPACE, text, TINY, constant=80.0)
    assert scaled.fingerprint == evaluators[0].fingerprint  # the same perplexities
    assert scaled.score(4.0) == 5.0


@pytest.mark.parametrize(
    "changes",
    [
        {"width": None}, {"parameters": 10}, {"optimizer": "adams"}, {"learning_rate": 0.0},
        {"learning_rate": math.nan}, {"epochs": 0}, {"max_symbols": 0}, {"max_seconds": -1.0},
        {"clip": math.inf}, {"max_parameters": 1.5},
    ],
)  # fmt: skip
def test_settings_that_cannot_work(changes):
    with pytest.raises(InvalidArgumentError, match=next(iter(changes))):
        dataclasses.replace(TINY, **changes)


def test_arguments_that_cannot_work(text):
    for space in (3, "recurrents"):
        with pytest.raises(InvalidArgumentError, match=f"space={space!r} is not one of"):
            LanguageModelEvaluator(space, text, TINY)
    with pytest.raises(InvalidArgumentError, match=r"'chain' is not one of recurrent .*'train'"):
        make_evaluator("language", "chain")
    for change in ({"device": "foo"}, {"device": "cuda:99"}, {"tied": "no"}, {"bias": 1}):
        with pytest.raises(InvalidArgumentError, match=next(iter(change))):
            LanguageModelEvaluator(SPACE, text, dataclasses.asdict(TINY) | change)
    with pytest.raises(InvalidArgumentError, match="seed='a'"):
        LanguageModelEvaluator(SPACE, text, TINY, seed="a")
    with pytest.raises(InvalidArgumentError, match="settings=3"):
        LanguageModelEvaluator(SPACE, text, 3)
    assert LanguageModelEvaluator("enas_recurrent", text, TINY).space.name == "enas_recurrent"


def test_a_constant_that_cannot_work(text):
    with pytest.raises(InvalidArgumentError, match="constant=0"):
        LanguageModelEvaluator(SPACE, text, TINY, constant=0)


def test_the_default_needs_no_files_and_learns(monkeypatch):
    monkeypatch.delenv("METAGYM_DATA", raising=False)
    evaluator = make_evaluator("language", "recurrent")
    assert evaluator.settings == DEFAULT_SETTINGS
    assert evaluator.text.digest == load_sklearn().digest
    record = evaluator.fit("lstm", baseline("lstm"))
    assert evaluator.score(record.validation_perplexity) > 2  # 1 is what frequencies give
    assert record.symbols <= 100_000


def test_texts_and_settings_may_be_named(tmp_path, monkeypatch):
    path = tmp_path / "mine.txt"
    path.write_text("a b a b\n" * 50)
    evaluator = make_evaluator("language", "recurrent", text=path, settings={"parameters": 900})
    assert evaluator.text.symbols == ("<unk>", "\n", " ", "a", "b")
    assert evaluator.settings == LanguageSettings(parameters=900)
    words = make_evaluator("language", "enas_recurrent", text=path, level="word")
    assert words.text.symbols == ("<unk>", "<eos>", "a", "b")
    assert words.settings == DEFAULT_SETTINGS
    (tmp_path / "ptb.valid.txt").write_text("a b\n" * 9)
    (tmp_path / "ptb.test.txt").write_text("b a\n" * 9)
    folder = make_evaluator("language", "recurrent", text=tmp_path).text
    monkeypatch.setenv("METAGYM_DATA", str(tmp_path))
    named = make_evaluator("language", "recurrent", text="ptb").text
    assert len(folder.train) == 35 and named.digest == folder.digest
    for wrong in ("sklern", None, tmp_path / "none.txt"):
        with pytest.raises(InvalidArgumentError, match="'sklearn', 'ptb'"):
            make_evaluator("language", "recurrent", text=wrong)
    with pytest.raises(InvalidArgumentError, match="Did you mean 'sklearn'"):
        make_evaluator("language", "recurrent", text="sklern")
    with pytest.raises(InvalidArgumentError, match="Did you mean 'epochs'"):
        make_evaluator("language", "recurrent", text=path, settings={"epoch": 3})
