"""Hybrid ratios: how many layers of a decoder attend, and which."""

from __future__ import annotations

import re

from ripstop.config import ConfigError, shown

DEFAULT_RATIO = "1:7"
"""Attention to Mamba-2 layers: in the middle of the region in which language models lie (Lieber et al. 2024, Jamba)."""


def attention_positions(n_layers: int, ratio: str = DEFAULT_RATIO) -> list[int]:
    """The layers that attend, in the middle of equal parts of the decoder; at least one where the ratio has any.

    ratio: attention to Mamba-2 layers, such as "1:7"; "0:1" is none and "1:0" all.

    >>> attention_positions(16), attention_positions(16, "1:3"), attention_positions(4, "3:1"), attention_positions(6)
    ([4, 12], [2, 6, 10, 14], [0, 2, 3], [3])
    """
    n_attention = _n_attention(n_layers, ratio)
    return [(2 * i + 1) * n_layers // (2 * n_attention) for i in range(n_attention)]


def hybrid_pattern(n_layers: int, ratio: str = DEFAULT_RATIO) -> str:
    """The pattern with `A` at those layers and `M` at all others.

    >>> hybrid_pattern(8, "1:7"), hybrid_pattern(4, "1:1"), hybrid_pattern(3, "0:1")
    ('MMMMAMMM', 'MAMA', 'MMM')
    """
    attends = set(attention_positions(n_layers, ratio))
    return "".join("A" if i in attends else "M" for i in range(n_layers))


def _n_attention(n_layers: int, ratio: str) -> int:
    found = re.fullmatch(r"(\d{1,4}):(\d{1,4})", ratio)
    if n_layers < 1:
        raise ConfigError(f"attention_positions: a decoder of {n_layers} layers has none; give at least 1")
    if found is None or not any(int(part) for part in found.groups()):
        raise ConfigError(f"ratio {shown(ratio)} is no ratio of attention to Mamba-2 layers; write it as in 1:7")
    attention, mamba2 = map(int, found.groups())
    if not attention:
        return 0
    # Half a layer counts as one.
    return max(1, (2 * n_layers * attention + attention + mamba2) // (2 * (attention + mamba2)))
