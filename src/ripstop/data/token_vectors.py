"""Token vectors from aligned texts: tokens of two languages that occur in the same windows get similar ones.

Cross-language latent semantic indexing (Landauer and Littman 1990; Dumais et al. 1997): a row for each training window, a
column for each token of either side, 1 + log(count) as entries, rows of length one. The right singular vectors behind the
first, which only counts, are the tokens' vectors. There is no weight for rare tokens, no alignment of words and no other
text than the training windows. It is close to pretraining all the same: who compares with it says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from ripstop.config import ConfigError
from ripstop.data.batching import Sequences, load_tensors
from ripstop.data.tokenizer import SPECIALS
from ripstop.files import replacing

OVERSAMPLING, ITERATIONS = 32, 4
"""Of the randomised SVD (Halko et al. 2011)."""
SEED = 0
MOST_WINDOWS = 2**19
"""Rows of the matrix; of more windows, these many at equal distances."""
SCALING = 0.25
"""Power of the eigenvalues (squared singular values) that scales the directions: their root's root."""


@dataclass(frozen=True)
class ParallelVocabulary:
    """What a model is told of parallel data: the number of token ids, and vectors that its tables may start from."""

    vocab_size: int
    path: Path

    def token_vectors(self, width: int) -> tuple[Tensor, Tensor]:
        """(V, D) of the source's tokens and of the target's; their entries have a mean square of 1.

        `ConfigError` where the data was prepared without them, or with another width.
        """
        tensors = load_tensors(self.path)
        if not tensors:
            raise ConfigError(f"data.token_vectors: the data has none; set it to the model's d_model, which is {width}")
        source_VD, target_VD = tensors["source"], tensors["target"]
        found = source_VD.shape[1]
        if found != width:
            raise ConfigError(f"data.token_vectors: {found} is not the model's d_model, which is {width}; make them equal")
        return source_VD, target_VD


def save_token_vectors(path: Path, vectors: tuple[Tensor, Tensor] | None) -> None:
    """One safetensors file with `source` and `target`, or with nothing."""
    tensors = {} if vectors is None else {name: v.contiguous() for name, v in zip(("source", "target"), vectors, strict=True)}
    with replacing(path) as temporary:
        save_file(tensors, temporary)


def token_vectors(source: Sequences, target: Sequences, vocab_size: int, width: int) -> tuple[Tensor, Tensor]:
    """(V, D) float32 of the source's tokens and of the target's, each vector of length sqrt(D).

    A function of the windows alone. Tokens that never occur, and the special ones, are drawn from a normal distribution.
    `ConfigError` where there are fewer windows or tokens than directions.
    """
    counts = _counts(source, target, vocab_size)
    n_directions = width + 1 + OVERSAMPLING
    if min(counts.shape) < n_directions:
        raise ConfigError(
            f"data.token_vectors: {width} directions need {n_directions} training windows and as many tokens, and there are "
            f"{counts.shape[0]} and {counts.shape[1]}; lower it, or leave it out"
        )
    seen = torch.zeros(2 * vocab_size, dtype=torch.bool)
    seen[counts.indices()[1]] = True
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        _, singular_values, directions = torch.svd_lowrank(counts, n_directions, ITERATIONS)
        vectors = directions[:, 1 : width + 1] * singular_values[1 : width + 1] ** (2 * SCALING)
        vectors[~seen] = torch.randn(int((~seen).sum()), width)
        vectors = vectors / vectors.norm(dim=1, keepdim=True).clamp(min=1e-6) * width**0.5
        # The axes are ordered by importance, and no layer wants that: heads and states would get unequal shares.
        vectors = vectors @ torch.linalg.qr(torch.randn(width, width))[0]
    return vectors[:vocab_size], vectors[vocab_size:]


def _counts(source: Sequences, target: Sequences, vocab_size: int) -> Tensor:
    """Sparse (windows, 2 V): 1 + log of how often the token stands in the window, each row divided by its length."""
    n_windows, n_columns = len(source), 2 * vocab_size
    windows, columns = [], []
    for side, texts in enumerate((source, target)):
        windows.append(torch.repeat_interleave(torch.arange(n_windows), torch.from_numpy(np.copy(texts.lengths))))
        columns.append(texts.tokens.long() + side * vocab_size)
    window, column = torch.cat(windows), torch.cat(columns)
    kept = column % vocab_size >= len(SPECIALS)
    if n_windows > MOST_WINDOWS:
        chosen = torch.zeros(n_windows, dtype=torch.bool)
        chosen[torch.arange(MOST_WINDOWS) * n_windows // MOST_WINDOWS] = True
        kept &= chosen[window]
        window = (chosen.cumsum(0) - 1)[window]
        n_windows = MOST_WINDOWS
    cells, counts = torch.unique(window[kept] * n_columns + column[kept], return_counts=True)
    window, column = cells // n_columns, cells % n_columns
    entries = 1 + counts.float().log()
    lengths = torch.zeros(n_windows).index_add_(0, window, entries**2).sqrt()
    entries = entries / lengths[window]
    cells, shape = torch.stack([window, column]), (n_windows, n_columns)
    return torch.sparse_coo_tensor(cells, entries, shape, check_invariants=True).coalesce()
