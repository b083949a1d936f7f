"""Texts under tiny frozen models: they come back exactly, in the bits of the cross-entropy."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
import torch
from tokenizers.normalizers import Lowercase

from ripstop.config import ConfigError
from ripstop.frozen import arithmetic
from ripstop.frozen.arithmetic import GRID, PRECISION, compress, cross_entropy, decompress, frequencies
from ripstop.frozen.base import FrozenLM
from ripstop.frozen.random import RandomConfig

TEXTS = (
    "",
    "a",
    "The river runs through the old town, and the bridge is the oldest of the country.\n",
    "Größenwahn in Łódź: 3 € für ein Ølebrød – „schön“!\r\n\tÀ bientôt…",
    "東京 мир שלום مرحبا 👩‍👩‍👧 🇪🇺 e\u0301 \u200b\ufeff \U0010ffff",
    "<eos> is written out, <bos><|im_end|>.",
    " leading and trailing  spaces   ",
)


@pytest.fixture(scope="module", params=["llama", "gemma"])
def lm(request: pytest.FixtureRequest) -> FrozenLM:
    architecture = request.param
    merges = {"llama": 0, "gemma": 60}[architecture]
    return RandomConfig(architecture=architecture, merges=merges, seed=3, width=16).build(architecture)


@pytest.fixture
def short(lm: FrozenLM) -> Iterator[FrozenLM]:
    """The same with 16 positions."""
    before, lm.max_positions = lm.max_positions, 16
    yield lm
    lm.max_positions = before


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_texts_come_back_in_the_bits_of_the_cross_entropy(lm: FrozenLM, text: str) -> None:
    data = compress(lm, text)
    assert decompress(lm, data) == text
    expected = cross_entropy(lm, text)
    assert expected - 0.01 * expected - 1 <= 8 * len(data) <= expected * 1.01 + 2 + 8


def test_the_cross_entropy_is_that_of_one_plain_pass(lm: FrozenLM) -> None:
    text = TEXTS[3]
    ids = [*lm.bos, *lm.encode(text), min(lm.eos)]
    assert len(lm.bos) == 1, "the model below sees what the coder sees"
    with torch.no_grad():
        logits_TV = lm.model(input_ids=torch.tensor([ids])).logits[0].double()
    expected = torch.nn.functional.cross_entropy(logits_TV[:-1], torch.tensor(ids[1:]), reduction="sum") / math.log(2)
    assert cross_entropy(lm, text) == pytest.approx(float(expected), rel=1e-4)


def test_a_model_that_expects_a_text_needs_few_bits_for_it(lm: FrozenLM) -> None:
    # What the model itself would write, token by token, against other bytes of the same number.
    printable = [i for i in range(lm.vocab_size) if lm.decode([i]).isascii() and lm.encode(lm.decode([i])) == [i]]
    ids = list(lm.bos)
    with torch.no_grad():
        for _ in range(30):
            logits_V = lm.model(input_ids=torch.tensor([ids])).logits[0, -1]
            ids.append(max(printable, key=logits_V.tolist().__getitem__))
    likely = lm.decode(ids[len(lm.bos) :])
    assert decompress(lm, compress(lm, likely)) == likely
    other = "qz" * (len(likely) // 2)
    assert len(compress(lm, likely)) / len(likely) < 0.7 * len(compress(lm, other)) / len(other)


def test_a_text_that_is_longer_than_the_model_reads(short: FrozenLM) -> None:
    text = TEXTS[2]
    assert len(short.encode(text)) > 16 + 8, "read anew at least twice"
    data = compress(short, text)
    assert decompress(short, data) == text
    assert 8 * len(data) == pytest.approx(cross_entropy(short, text), rel=0.01, abs=10)


def test_what_takes_next_to_no_bits_is_filled_up(lm: FrozenLM, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "of the"
    shorter = compress(lm, text)
    n_tokens = len(lm.encode(text))
    monkeypatch.setattr(arithmetic, "TOKENS_PER_BYTE", Fraction(n_tokens, len(shorter) + 3))
    assert compress(lm, text) == shorter + bytes(3)
    assert decompress(lm, shorter + bytes(3)) == text
    for other in (shorter, shorter + bytes(2), shorter + bytes(4)):
        with pytest.raises(ConfigError, match="is damaged"):
            decompress(lm, other)


def test_what_another_model_made_is_refused() -> None:
    one, other = (RandomConfig(seed=seed, width=16).build(f"seed {seed}") for seed in (1, 2))
    data = compress(one, TEXTS[2])
    with pytest.raises(ConfigError, match="no text under seed 2 .*another model"):
        decompress(other, data)


def test_damage_that_shows_is_refused(lm: FrozenLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arithmetic, "TOKENS_PER_BYTE", 4)  # a model that begins to repeat itself is left sooner
    data = compress(lm, "Łódź, 3 €")
    for other in (data + b"\0", data + b"\x80", data[:-2], data[:1], b"", bytes([data[0] ^ 128]) + data[1:]):
        with pytest.raises(ConfigError, match="is damaged"):
            decompress(lm, other)


def test_frequencies_by_hand() -> None:
    logits_V = torch.tensor([0.0, -math.inf, -1.0, -0.001, -100.0])  # -0.001 is nearest to 0 on the grid
    found = frequencies(logits_V)
    spare, whole = (1 << PRECISION) - 5, 1 << PRECISION
    weights = [whole, 0, int(whole / math.e), whole, 0]
    assert found.tolist() == [1 + weight * spare // sum(weights) for weight in weights]
    assert found.dtype == np.int64


def test_frequencies_are_the_probabilities() -> None:
    logits_V = torch.randn(500, generator=torch.Generator().manual_seed(0)).mul(3 * 1024).round() / 1024  # + 8 is exact
    found = torch.from_numpy(frequencies(logits_V)).double()
    probabilities_V = logits_V.double().softmax(0)
    assert (1 << PRECISION) - 1000 < int(found.sum()) <= 1 << PRECISION and int(found.min()) >= 1
    lost = (probabilities_V * (probabilities_V / (found / found.sum())).log()).sum()
    assert 0 <= float(lost) < 2 * (1 / GRID) ** 2 / 24 + 500 / 2**PRECISION
    assert np.array_equal(frequencies(logits_V + 8), found.numpy()), "only differences count"


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(ConfigError, match="not finite"):
        frequencies(torch.tensor([0.0, bad, 1.0]))
    with pytest.raises(ConfigError, match="not finite"):
        frequencies(torch.full((3,), -math.inf))


def test_a_text_that_its_tokens_do_not_give_back_is_refused() -> None:
    lm = RandomConfig(width=16).build("lower")
    lm.tokenizer.backend_tokenizer.normalizer = Lowercase()
    assert decompress(lm, compress(lm, "low")) == "low"
    with pytest.raises(ConfigError, match="lower: its tokenizer does not give this text back .'Up'."):
        compress(lm, "Up")


def test_a_model_without_a_first_token_begins_after_the_end_of_another_text() -> None:
    lm = RandomConfig(width=16).build("plain")
    lm.bos = []
    data = compress(lm, "Łódź")
    assert decompress(lm, data) == "Łódź"
    lm.bos = [min(lm.eos)]
    assert compress(lm, "Łódź") == data


def test_a_model_without_an_end_is_refused() -> None:
    lm = RandomConfig(width=16).build("endless")
    lm.eos = frozenset()
    with pytest.raises(ConfigError, match="endless: has no end of text"):
        compress(lm, "a")
