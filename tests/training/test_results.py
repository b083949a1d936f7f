"""Results of a training: removed together or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from training.tiny import TinyModel

from ripstop.config import ConfigError
from ripstop.models.weights import load_weights
from ripstop.training.results import remove_results, write_results


@pytest.mark.parametrize("name", ["model.safetensors", "training.json", "metrics.jsonl"])
def test_a_folder_in_the_place_of_a_file_loses_nothing(tmp_path: Path, name: str) -> None:
    names = {"model.safetensors", "training.json", "metrics.jsonl"}
    for other in names - {name}:
        (tmp_path / other).write_text("a night of training", encoding="utf-8")
    (tmp_path / name).mkdir()
    with pytest.raises(ConfigError, match=f"{name}: this is a folder"):
        remove_results(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == names


def test_the_rows_stay_and_what_kills_left_goes(tmp_path: Path) -> None:
    for name in ("model.safetensors", "training.json", "metrics.jsonl"):
        (tmp_path / name).write_text("x", encoding="utf-8")
        (tmp_path / f".new-{name}-01234567").mkdir()
    remove_results(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_the_same_weights_are_the_same_file(tmp_path: Path) -> None:
    model, metadata = TinyModel(8), {key: f'{key} ä " \n' for key in "abcdefghij"}
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        write_results(tmp_path / name, model, {}, metadata)
    for file in ("model.safetensors", "training.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes()
    load_weights(model, tmp_path / "one/model.safetensors")
