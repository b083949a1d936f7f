"""What attention has read: keys and values with their positions, and masks that follow positions alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ripstop.config import ConfigError

ATTENTION = {"full_attention": False, "sliding_attention": True}
"""Kinds of layers whose masks we can write, and whether they see a window alone."""
Windows = dict[str, int | None] | int | None
"""How far back layers see, in tokens, the own one counted: of each kind of layer where a model has several, else of all.
None: to the beginning."""


@dataclass(frozen=True)
class KeyValues:
    """What attention reads of M tokens: keys and values (G, M, K) of each layer, rotated for the positions they stand at."""

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]

    def __len__(self) -> int:
        """M, the number of tokens that they stand for."""
        return self.keys[0].shape[-2]


class Past(NamedTuple):
    """Keys and values (B, G, S, K) of each layer, the position of each of the S places, and whether it holds a token.

    A place is seen by the tokens at its own and later positions, wherever it stands among the S.
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    positions_BS: Tensor
    valid_BS: Tensor

    def expand(self, batch_size: int) -> Past:
        """The past of one row as that of each of `batch_size` rows, without copies."""
        one = self.positions_BS.shape[0]
        assert one == 1, f"a past of {one} rows cannot be expanded"
        keys = tuple(k.expand(batch_size, -1, -1, -1) for k in self.keys)
        values = tuple(v.expand(batch_size, -1, -1, -1) for v in self.values)
        return Past(keys, values, self.positions_BS.expand(batch_size, -1), self.valid_BS.expand(batch_size, -1))


def windows(name: str, config: Any) -> Windows:
    """Of a model's configuration; `ConfigError` where it has layers whose masks we cannot write."""
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ())
    unknown = sorted(kinds - ATTENTION.keys())
    if unknown:
        raise ConfigError(
            f"{name}: has layers of kind {unknown[0]!r}; choose a model whose layers are full or sliding attention"
        )
    if "sliding_attention" not in kinds:
        return None if kinds else window
    return {kind: window if ATTENTION[kind] else None for kind in kinds}


def masks(
    windows: Windows, positions_BT: Tensor, positions_BS: Tensor, valid_BS: Tensor, dtype: torch.dtype
) -> Tensor | dict[str, Tensor]:
    """What is added to the scores (B, 1, T, S) of queries at `positions_BT`: of each kind of layer, or one for all."""
    distance_BTS = positions_BT[:, :, None] - positions_BS[:, None]
    seen_BTS = valid_BS[:, None] & (distance_BTS >= 0)

    def added(window: int | None) -> Tensor:
        seen = seen_BTS if window is None else seen_BTS & (distance_BTS < window)
        mask_BTS = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
        return mask_BTS.masked_fill_(~seen, torch.finfo(dtype).min)[:, None]  # not -inf: padding sees nothing, which is NaN

    if isinstance(windows, dict):
        return {kind: added(window) for kind, window in windows.items()}
    return added(windows)


def as_cache(past: Past | None) -> Any:
    """`past` as transformers keeps it, every layer whole: our masks know of windows, so none drops what it would not see."""
    from transformers.cache_utils import DynamicCache, DynamicLayer

    cache = DynamicCache()
    if past is not None:
        for keys, values in zip(past.keys, past.values, strict=True):
            layer = DynamicLayer()
            layer.lazy_initialization(keys, values)
            layer.keys, layer.values = keys, values  # not by update, which would copy them
            cache.layers.append(layer)
    return cache
