"""Adapters by hand: what calibration makes of vectors, and where the first soft prompt of a model starts."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from models.soft_prompts import Info, questions, soft_prompt
from torch.testing import assert_close

from ripstop.frozen.base import Sizes
from ripstop.models.adapter import AdapterConfig, Calibration, EmbeddingAdapter
from ripstop.models.latent_basis import embeddings
from ripstop.models.words_lost import candidates, words_lost

SIZES = Sizes(24, 2, 2, 1, 12, vocab_size=300, n_params=1, tied=False)
DOCUMENTS = [question.document for question in questions(3)]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIPSTOP_CACHE", str(tmp_path / "cache"))


def read(calibrate: Calibration) -> tuple[torch.Tensor, torch.Tensor]:
    """Before and after calibration to the RMS 2, of 3 documents whose 4 vectors are of very different lengths."""
    torch.manual_seed(0)
    adapter = AdapterConfig(calibrate=calibrate).build(4, 16, SIZES)
    assert isinstance(adapter, EmbeddingAdapter)
    z_BMZ = torch.randn(3, 4, 16) * torch.logspace(-1, 1, 12).view(3, 4, 1)
    with torch.no_grad():
        return z_BMZ @ adapter.linear.weight.T, adapter(z_BMZ, 2.0)


def test_each_vector_has_the_models_rms() -> None:
    y_BMD, x_BMD = read("vector")
    assert_close(x_BMD, 2 * y_BMD / y_BMD.square().mean(-1, keepdim=True).sqrt(), rtol=1e-4, atol=1e-4)


def test_all_vectors_of_an_example_have_it_together_and_keep_their_lengths() -> None:
    y_BMD, x_BMD = read("example")
    assert_close(x_BMD, 2 * y_BMD / y_BMD.square().mean((1, 2), keepdim=True).sqrt(), rtol=1e-4, atol=1e-4)


def test_without_calibration_only_the_unit_is_the_models() -> None:
    y_BMD, x_BMD = read("none")
    assert_close(x_BMD, 2 * y_BMD)


def test_a_wire_of_zeros_starts_as_the_mean_embedding_of_each_model() -> None:
    model = soft_prompt(two=True, adapter={"calibrate": "none"}).build(Info()).eval()
    for name, lm in model.lms.items():
        mean_D = lm.embed(torch.arange(lm.vocab_size)).mean(0)
        with torch.no_grad():
            (x_MD,) = model.embeddings(torch.zeros(1, 4, 16), name)
        assert_close(x_MD, mean_D.expand(4, -1), rtol=1e-3, atol=1e-4)


def test_words_of_many_documents_count_less() -> None:
    """By 1 / sqrt(1 + n), n the documents to train on with that token, however often it stands in one."""
    model = soft_prompt().build(Info()).eval()
    lm = model.lms["one"]
    n = Counter(token for text in Info().training_documents() for token in set(lm.words(text)))
    rarity_V = torch.tensor([(1 + n[token]) ** -0.5 for token in range(lm.vocab_size)])
    assert len(set(rarity_V.tolist())) > 3
    ids = [torch.tensor(lm.words(text)) for text in DOCUMENTS]
    with torch.no_grad():
        z_BMZ = model.wire(DOCUMENTS)
        expected_B = words_lost(model.embeddings(z_BMZ, "one"), ids, embeddings(lm, candidates(ids)), rarity_V, 3)
        assert_close(model.words_lost(z_BMZ, DOCUMENTS, "one", 3), expected_B)
