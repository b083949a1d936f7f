"""Hybrid ratios: the layers by hand, and what every ratio keeps to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ripstop.config import ConfigError
from ripstop.models.ratio import DEFAULT_RATIO, attention_positions, hybrid_pattern


@pytest.mark.parametrize(
    ("n_layers", "ratio", "positions"),
    [
        (16, "1:15", [8]),
        (16, "1:7", [4, 12]),
        (16, "1:3", [2, 6, 10, 14]),
        (4, "1:3", [2]),
        (4, "1:1", [1, 3]),
        (4, "3:1", [0, 2, 3]),
        (4, "1:0", [0, 1, 2, 3]),
        (4, "0:1", []),
        (6, "1:7", [3]),
        (12, "1:7", [3, 9]),  # half a layer counts as one
        (24, "1:7", [4, 12, 20]),
        (1, "1:7", [0]),
    ],
)
def test_positions_by_hand(n_layers: int, ratio: str, positions: list[int]) -> None:
    assert attention_positions(n_layers, ratio) == positions


def test_the_default_is_one_to_seven() -> None:
    assert DEFAULT_RATIO == "1:7" and attention_positions(32) == [4, 12, 20, 28]


@given(st.integers(1, 200), st.integers(0, 20), st.integers(0, 20))
def test_layers_exist_once_spread_evenly_and_as_many_as_asked(n_layers: int, attention: int, mamba2: int) -> None:
    if not attention + mamba2:
        return
    found = attention_positions(n_layers, f"{attention}:{mamba2}")
    assert found == sorted(set(found)) and all(0 <= i < n_layers for i in found)
    wanted = n_layers * attention / (attention + mamba2)
    assert abs(len(found) - wanted) <= 0.5 or (len(found) == 1 and 0 < wanted < 0.5)
    gaps = {b - a for a, b in zip(found, found[1:], strict=False)}
    assert not gaps or max(gaps) - min(gaps) <= 1
    assert hybrid_pattern(n_layers, f"{attention}:{mamba2}").count("A") == len(found)


@pytest.mark.parametrize("ratio", ["", "1", "1:", "1:7:1", "-1:7", "0:0", "a:b", "1.5:7", "12345:1"])
def test_what_is_no_ratio(ratio: str) -> None:
    with pytest.raises(ConfigError, match="is no ratio of attention to Mamba-2 layers; write it as in 1:7"):
        attention_positions(4, ratio)


def test_a_decoder_without_layers() -> None:
    with pytest.raises(ConfigError, match="a decoder of 0 layers has none"):
        attention_positions(0)
