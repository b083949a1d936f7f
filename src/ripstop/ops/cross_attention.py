"""Cross-attention: queries of one sequence over the keys of another, each seeing what a mask allows, some nothing.

q_BTHK queries; k_BSGK and v_BSGP, shared by H / G query heads each. seen: bool, (B, 1, T or 1, S); None where all see all. A
query that sees nothing gets zero. -> (B, T, H, P).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ripstop.ops.segments import Segments
from ripstop.ops.softmax_attention import attention_reference, sdpa


class Laid(NamedTuple):
    """A mask for kernels that take sequences of any length instead: sequences of queries laid end to end, and beside each
    the keys that it sees.

    key_index: their places in all rows of keys, B * S, laid end to end. key_offsets: int32, where each sequence's keys begin
    in it, and its length at the end. query_offsets: the same of the queries; None: each row is one sequence.
    """

    key_index: Tensor
    key_offsets: Tensor
    query_offsets: Tensor | None

    @classmethod
    def of(cls, source: Segments, segments: Segments | None) -> Laid:
        """Document n of the queries sees document n of the source; without documents, each row sees what is no padding."""
        numbers_BS = source.numbers_BT
        if segments is None:
            row = torch.arange(numbers_BS.shape[0], device=numbers_BS.device)
            seen = numbers_BS != 0
        else:
            begin = segments.offsets[:-1].long()
            row = begin // segments.numbers_BT.shape[1]
            number = segments.numbers_BT.flatten()[begin].unsqueeze(1)
            seen = (numbers_BS[row] == number) & (number != 0)  # (sequences, S)
        sequence, place = seen.nonzero().unbind(1)
        key_offsets = F.pad(seen.sum(1).cumsum(0), (1, 0)).to(torch.int32)
        return cls(row[sequence] * numbers_BS.shape[1] + place, key_offsets, None if segments is None else segments.offsets)


def cross_attention_reference(q_BTHK: Tensor, k_BSGK: Tensor, v_BSGP: Tensor, seen: Tensor | None) -> Tensor:
    """softmax(q k^T / sqrt(K)) v over what is seen."""
    if seen is None:
        seen = torch.ones(q_BTHK.shape[1], k_BSGK.shape[1], dtype=torch.bool, device=q_BTHK.device)
        return attention_reference(q_BTHK, k_BSGK, v_BSGP, seen)
    return _cleared(attention_reference(q_BTHK, k_BSGK, v_BSGP, seen | ~seen.any(-1, keepdim=True)), seen)


def cross_attention(q_BTHK: Tensor, k_BSGK: Tensor, v_BSGP: Tensor, seen: Tensor | None) -> Tensor:
    """The same by `scaled_dot_product_attention`."""
    if seen is None:
        return sdpa(q_BTHK, k_BSGK, v_BSGP, None)
    # A softmax over nothing is NaN in some of SDPA's kernels: such a query looks everywhere, and is then cleared.
    return _cleared(sdpa(q_BTHK, k_BSGK, v_BSGP, seen | ~seen.any(-1, keepdim=True)), seen)


def _cleared(y_BTHP: Tensor, seen: Tensor) -> Tensor:
    return torch.where(seen.any(-1, keepdim=True).transpose(1, 2), y_BTHP, y_BTHP.new_zeros(()))
