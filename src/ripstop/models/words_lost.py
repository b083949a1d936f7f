"""How much of a document's words its soft prompt has lost: each word should be near one of the vectors.

A bag of words: the candidates are all words of the batch's documents, a vector's distribution over them is the softmax of its
cosines with their embeddings, and of each word of a document counts the sum of its probabilities over the M vectors. Rare words
count more: most words of a text are in every text. It asks the frozen model's table of embeddings alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

TEMPERATURE = 0.07
"""Of the cosines: as in contrastive learning (arXiv 1805.01978)."""


def words_lost(soft_BMD: Tensor, documents: Sequence[Tensor], table_CD: Tensor, rarity_V: Tensor, lead: int) -> Tensor:
    """(B,): the mean over the different words of each document of -log(sum over the vectors of their probability), weighted.

    documents: token ids (T,) of each. table_CD: embeddings of `candidates(documents)`, in its order. rarity_V: weight of each
    token. lead: so many different words at the beginning of a document count twice.
    """
    ids_C = candidates(documents)
    log_p_BMC = (F.normalize(soft_BMD.float(), dim=-1) @ F.normalize(table_CD.float(), dim=-1).T / TEMPERATURE).log_softmax(-1)
    found_BC = log_p_BMC.logsumexp(1)
    weight_BC = torch.stack([_weights(ids, ids_C, lead) for ids in documents]) * rarity_V[ids_C]
    weight_BC = weight_BC.to(found_BC.device)
    return -(weight_BC * found_BC).sum(1) / weight_BC.sum(1)


def candidates(documents: Sequence[Tensor]) -> Tensor:
    """The different tokens (C,) of all documents, in the order of their ids."""
    return torch.cat(list(documents)).unique()


def _weights(ids_T: Tensor, ids_C: Tensor, lead: int) -> Tensor:
    """(C,): 1 for every token of the document, 2 for the first `lead` different ones, 0 for the others."""
    place_C = torch.full((len(ids_C),), len(ids_T), device=ids_C.device)
    at_T = torch.searchsorted(ids_C, ids_T)
    place_C = place_C.scatter_reduce(0, at_T, torch.arange(len(ids_T), device=ids_C.device), "amin")
    stands_C = place_C < len(ids_T)
    order_C = place_C.argsort(stable=True).argsort()
    return stands_C.float() + (stands_C & (order_C < lead))
