"""What frozen models weigh is known before they are there."""

from __future__ import annotations

from typing import Any

import pytest

from ripstop.frozen import FROZEN
from ripstop.frozen.base import FrozenConfig

RANDOM = {
    "llama": {"width": 24, "n_heads": 4, "n_kv_heads": 2, "n_layers": 3, "merges": 150},
    "gemma": {"width": 16, "n_heads": 2, "n_layers": 2, "merges": 40},
}


def config(**values: Any) -> FrozenConfig:
    found = FROZEN.parse(values)
    assert isinstance(found, FrozenConfig)
    return found


@pytest.mark.parametrize("architecture", RANDOM)
def test_sizes_of_random_models(architecture: str) -> None:
    found = config(kind="random", architecture=architecture, **RANDOM[architecture])
    assert found.sizes() == found.build("one").sizes


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.parametrize("model", ["smollm2_135m", "gemma3_270m"])
def test_sizes_of_models_in_packages(model: str) -> None:
    found = config(kind="package", model=model)
    assert found.sizes() == found.build("one").sizes


def test_what_is_on_a_hub_has_no_size_before_it_is_there() -> None:
    assert config(kind="hub", path="nobody/nothing").sizes() is None
