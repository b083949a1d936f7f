"""Prompts of different lengths as one padded batch: embeddings, positions, what is padding, and what stands in the cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ripstop.config import ConfigError
from ripstop.frozen.base import FrozenLM
from ripstop.frozen.cache import KeyValues, Past
from ripstop.frozen.prompt import Prompt

Side = Literal["left", "right"]


class Assembled(NamedTuple):
    """A batch for `FrozenLM.read`. last_BT: where each row's prompt ends, the place that predicts what comes next.
    length_B: positions taken, prefix and keys and values included."""

    x_BTD: Tensor
    positions_BT: Tensor
    valid_BT: Tensor
    past: Past | None
    last_BT: Tensor
    length_B: Tensor


def assemble(
    lm: FrozenLM, prefix_ids: Sequence[int], prompts: Sequence[Prompt], answers: Sequence[list[int]], padding: Side = "left"
) -> Assembled:
    """Each prompt with the tokens of its answer behind it, after the prefix.

    Keys and values that a prompt holds stand in the cache behind the prefix, at the positions that are theirs in the prompt:
    masks go by positions. Differentiable in every soft piece.
    """
    if not prompts:
        raise ConfigError("prompts: there are none; give one at least")
    prefix = lm.prefix(prefix_ids)
    rows = [_Row(lm, len(prefix_ids), prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
    longest = max(len(row.positions) for row in rows)
    most = max(row.length for row in rows)
    if lm.max_positions is not None and most > lm.max_positions:
        raise ConfigError(
            f"{lm.name}: a prompt of {most} tokens is longer than its {lm.max_positions}; shorten the documents or shots"
        )
    x, positions, valid, last = [], [], [], []
    for row in rows:
        pad = longest - len(row.positions)
        before, after = (pad, 0) if padding == "left" else (0, pad)
        x.append(torch.nn.functional.pad(row.x_TD, (0, 0, before, after)))
        positions.append([0] * before + row.positions + [0] * after)
        valid.append([False] * before + [True] * len(row.positions) + [False] * after)
        last.append([n == before + row.last for n in range(longest)])
    device = lm.device
    return Assembled(
        torch.stack(x),
        torch.tensor(positions, device=device),
        torch.tensor(valid, device=device),
        _with_key_values(lm, None if prefix is None else prefix.expand(len(rows)), rows),
        torch.tensor(last, device=device),
        torch.tensor([row.length for row in rows], device=device),
    )


class _Row:
    """One prompt with its answer: what is read of it, and at which positions."""

    def __init__(self, lm: FrozenLM, start: int, prompt: Prompt, answer: list[int]):
        self.key_values: KeyValues | None = None
        self.key_values_at = 0
        self.positions: list[int] = []
        read, position = [], start
        for piece in [*prompt.pieces, answer]:
            n = len(piece)
            if isinstance(piece, KeyValues):
                if self.key_values is not None:
                    raise ConfigError("prompt: holds keys and values twice; give them in one piece")
                self.key_values, self.key_values_at = piece, position
            else:
                read.append(_embedded(lm, piece))
                self.positions += range(position, position + n)
            if piece is not answer:
                self.last = len(self.positions) - 1
            position += n
        self.length = position
        self.x_TD = torch.cat(read)


def _embedded(lm: FrozenLM, piece: list[int] | Tensor) -> Tensor:
    if isinstance(piece, list):
        return lm.embed(piece)
    if piece.dim() != 2 or piece.shape[1] != lm.width:
        raise ConfigError(
            f"{lm.name}: a soft prompt of shape {tuple(piece.shape)} is not (M, {lm.width}); give its own embeddings"
        )
    return piece.to(lm.device, lm.dtype)


def _with_key_values(lm: FrozenLM, past: Past | None, rows: Sequence[_Row]) -> Past | None:
    """The past with each row's keys and values behind it, padded to the longest."""
    given = [row.key_values for row in rows if row.key_values is not None]
    if not given:
        return past
    longest = max(map(len, given))
    device = lm.device
    positions_BM = torch.zeros(len(rows), longest, dtype=torch.long, device=device)
    valid_BM = torch.zeros(len(rows), longest, dtype=torch.bool, device=device)
    for n, row in enumerate(rows):
        if row.key_values is not None:
            m = len(row.key_values)
            positions_BM[n, :m] = row.key_values_at + torch.arange(m, device=device)
            valid_BM[n, :m] = True
    both = []
    for which in ("keys", "values"):
        layers = []
        for layer in range(lm.n_layers):
            like = getattr(given[0], which)[layer]
            padded = [
                _padded(None if row.key_values is None else getattr(row.key_values, which)[layer], like, longest)
                for row in rows
            ]
            after = torch.stack(padded).to(lm.dtype)
            layers.append(after if past is None else _behind(getattr(past, which)[layer], after))
        both.append(tuple(layers))
    if past is not None:
        positions_BM, valid_BM = torch.cat([past.positions_BS, positions_BM], 1), torch.cat([past.valid_BS, valid_BM], 1)
    return Past(both[0], both[1], positions_BM, valid_BM)


def _behind(past_BGSK: Tensor, after_BGMK: Tensor) -> Tensor:
    return torch.cat([past_BGSK, after_BGMK.to(past_BGSK.device)], 2)  # each layer may be on a device of its own


def _padded(piece_GMK: Tensor | None, like_GMK: Tensor, length: int) -> Tensor:
    if piece_GMK is None:
        return torch.zeros_like(like_GMK[:, :1]).expand(-1, length, -1)
    return torch.nn.functional.pad(piece_GMK, (0, 0, 0, length - piece_GMK.shape[1]))
