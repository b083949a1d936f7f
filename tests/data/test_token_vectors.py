"""Token vectors: translations lie close, the windows alone decide, and the numbers are those of a dense decomposition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from ripstop.config import ConfigError
from ripstop.data import token_vectors as module
from ripstop.data.batching import Sequences
from ripstop.data.token_vectors import ParallelVocabulary, save_token_vectors, token_vectors
from ripstop.data.tokenizer import BOS, EOS

V, D, FIRST = 60, 8, 3


def corpus(n: int = 400, seed: int = 0) -> tuple[Sequences, Sequences]:
    """Token i of the source is translated as token 62 - i; the last four tokens never occur."""
    generator = np.random.default_rng(seed)
    rows = [generator.integers(FIRST, V - 4, generator.integers(3, 9)).tolist() for _ in range(n)]
    return Sequences.of([*row, EOS] for row in rows), Sequences.of([BOS, *(V + 2 - t for t in row), EOS] for row in rows)


def test_a_token_is_nearest_to_its_translation() -> None:
    source_VD, target_VD = token_vectors(*corpus(), V, 24)
    nearest = (source_VD @ target_VD.T)[FIRST : V - 4].argmax(1)
    translations = V + 2 - torch.arange(FIRST, V - 4)
    assert (nearest == translations).float().mean() > 0.9


def test_shapes_and_scale() -> None:
    source_VD, target_VD = token_vectors(*corpus(), V, D)
    for vectors_VD in (source_VD, target_VD):
        assert vectors_VD.shape == (V, D) and vectors_VD.dtype == torch.float32
        assert_close(vectors_VD.norm(dim=1), torch.full((V,), D**0.5))
    # Axes carry the same: none is the important one.
    assert (torch.cat([source_VD, target_VD]).square().mean(0) - 1).abs().max() < 0.9


def test_the_same_windows_give_the_same_and_no_random_state_moves() -> None:
    torch.manual_seed(1)
    first, state = token_vectors(*corpus(), V, D), torch.get_rng_state()
    torch.manual_seed(2)
    second = token_vectors(*corpus(), V, D)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)
    other = token_vectors(*corpus(seed=1), V, D)
    assert not torch.equal(first[0], other[0])


def test_similarities_are_those_of_a_dense_decomposition() -> None:
    """By the textbook: counts, logarithm, rows of length one, all singular vectors, the first left out."""
    source, target = corpus()
    counts = np.zeros((len(source), 2 * V))
    for i in range(len(source)):
        for side, tokens in enumerate((source[i], target[i])):
            for token in tokens:
                if token >= FIRST:
                    counts[i, token + side * V] += 1
    entries = np.where(counts > 0, 1 + np.log(np.maximum(counts, 1)), 0)
    entries /= np.linalg.norm(entries, axis=1, keepdims=True)
    _, s, vt = np.linalg.svd(entries, full_matrices=False)
    dense = vt[1 : D + 1].T * s[1 : D + 1] ** 0.5
    seen = counts.sum(0) > 0
    dense = dense[seen] / np.linalg.norm(dense[seen], axis=1, keepdims=True) * D**0.5
    found = torch.cat(token_vectors(source, target, V, D))[torch.from_numpy(seen)].double().numpy()
    # Two bases of one space: the similarities agree, where neighbouring singular values are far enough apart.
    assert np.abs(found @ found.T - dense @ dense.T).mean() < 0.05 * D


def test_specials_count_for_nothing() -> None:
    """Windows that differ in BOS and EOS alone give the same vectors."""
    source, target = corpus()
    bare = [Sequences.of([t for t in row if t >= FIRST] for row in side) for side in (source, target)]
    for one, other in zip(token_vectors(source, target, V, D), token_vectors(*bare, V, D), strict=True):
        assert torch.equal(one, other)


def test_of_many_windows_evenly_spaced_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = corpus(400)
    third = [Sequences.of(side[i * 400 // 133] for i in range(133)) for side in (source, target)]
    expected = token_vectors(*third, V, D)
    monkeypatch.setattr(module, "MOST_WINDOWS", 133)
    for one, other in zip(token_vectors(source, target, V, D), expected, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(("n", "width"), [(20, D), (400, 100)])
def test_too_few_windows_or_tokens(n: int, width: int) -> None:
    with pytest.raises(ConfigError, match=r"data\.token_vectors: .* directions need .* training windows .* lower it"):
        token_vectors(*corpus(n), V, width)


def test_saved_and_read(tmp_path: Path) -> None:
    vectors = token_vectors(*corpus(), V, D)
    save_token_vectors(tmp_path / "vectors.safetensors", vectors)
    known = ParallelVocabulary(V, tmp_path / "vectors.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(known.token_vectors(D), vectors, strict=True))
    with pytest.raises(ConfigError, match=r"data\.token_vectors: 8 is not the model's d_model, which is 16"):
        known.token_vectors(16)
    save_token_vectors(tmp_path / "vectors.safetensors", None)
    with pytest.raises(ConfigError, match=r"data\.token_vectors: the data has none; set it to the model's d_model"):
        known.token_vectors(D)
