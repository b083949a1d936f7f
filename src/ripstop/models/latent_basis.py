"""Where a latent space starts: the directions of one model's table of embeddings, and the map from them to another model's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ripstop.frozen.base import FrozenLM

MOST_ROWS = 16_384
"""Of a table: as many tokens, at equal distances, tell its directions as well as all of them would."""
RIDGE = 1e-3
"""Of the mean eigenvalue: keeps directions that few shared tokens have from being blown up."""
LEAST_SHARED = 64
"""Tokens that both vocabularies must have before one is mapped on the other."""


def embeddings(lm: FrozenLM, ids_N: Tensor) -> Tensor:
    """(N, D) of tokens, float32, in units of the RMS of the model's table."""
    return lm.embed(ids_N).float() / lm.embedding_rms


class LatentBasis(NamedTuple):
    """What embeddings e are to a latent space: z = directions^T (e - mean). All in units of the RMS of the model's table.

    mean_D: what all embeddings share, which no wire needs to carry. It is 45 % of the mean square of SmolLM2-135M's: it would
    decide the norm of a wire, and the scale of a group of its numbers. directions_DZ: orthonormal columns, the largest variance
    first; of more than D the others are 0.
    """

    mean_D: Tensor
    directions_DZ: Tensor


def principal_basis(lm: FrozenLM, n: int) -> LatentBasis:
    """The n principal directions of the table of embeddings. The entry of largest magnitude of each is positive."""
    mean_D, rows_ND = _centred(lm)
    _, vectors_DD = torch.linalg.eigh((rows_ND.T @ rows_ND).double() / len(rows_ND))
    basis_DN = vectors_DD.flip(1)[:, :n]
    largest_N = basis_DN.gather(0, basis_DN.abs().argmax(0, keepdim=True)).squeeze(0)
    basis_DN = (basis_DN * largest_N.sign()).float()
    return LatentBasis(mean_D, torch.nn.functional.pad(basis_DN, (0, n - basis_DN.shape[1])))


def _centred(lm: FrozenLM) -> tuple[Tensor, Tensor]:
    """Mean (D,) of the table's rows, and some of them without it."""
    ids_N = torch.arange(0, lm.vocab_size, max(1, -(-lm.vocab_size // MOST_ROWS)))
    rows_ND = embeddings(lm, ids_N)
    mean_D = rows_ND.mean(0)
    return mean_D, rows_ND - mean_D


def shared_tokens(a: FrozenLM, b: FrozenLM) -> tuple[Tensor, Tensor]:
    """Ids (N,) in `a` and in `b` of the tokens that both have: pieces of ASCII text, compared with their leading space."""
    of_a, of_b = _spelled(a.tokenizer.get_vocab()), _spelled(b.tokenizer.get_vocab())
    both = sorted(of_a.keys() & of_b.keys())
    return torch.tensor([of_a[piece] for piece in both]), torch.tensor([of_b[piece] for piece in both])


def map_between(a: FrozenLM, b: FrozenLM, basis: LatentBasis) -> tuple[Tensor | None, Tensor]:
    """(Z, D of b) and (D of b): least squares from what tokens are in the latent space of `a` to what they are in `b`, less the
    mean of all embeddings of `b`; and that mean. None in place of the map where the vocabularies share too few tokens.
    """
    mean_D = _centred(b)[0]
    ids_a, ids_b = shared_tokens(a, b)
    if len(ids_a) < LEAST_SHARED:
        return None, mean_D
    x_NZ = ((embeddings(a, ids_a) - basis.mean_D) @ basis.directions_DZ).double()
    y_ND = (embeddings(b, ids_b) - mean_D).double().to(x_NZ.device)
    gram_ZZ = x_NZ.T @ x_NZ
    ridge = RIDGE * gram_ZZ.diagonal().mean()
    map_ZD = torch.linalg.solve(gram_ZZ + ridge * torch.eye(len(gram_ZZ), device=gram_ZZ.device), x_NZ.T @ y_ND)
    return map_ZD.float(), mean_D


SPACES = str.maketrans({"Ġ": " ", "▁": " "})
"""What byte-level BPE and SentencePiece write for a space."""


def _spelled(vocabulary: Mapping[str, int]) -> dict[str, int]:
    pieces = ((piece.translate(SPACES), i) for piece, i in sorted(vocabulary.items()))
    return {piece: i for piece, i in pieces if piece.isascii() and piece.isprintable()}
