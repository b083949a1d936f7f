"""The command `loader`: batches of prepared data without a model, the same whoever reads them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ripstop import loader, yaml_file
from ripstop.__main__ import app
from ripstop.config import ConfigError
from ripstop.data import DATA
from ripstop.data.base import DataConfig


def prepared(folder: Path, values: dict) -> Path:
    config = DATA.parse(values)
    assert isinstance(config, DataConfig)
    (folder / "config.yaml").write_text(yaml_file.dump(config.model_dump(mode="json")))
    config.prepare(folder)
    return folder


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    texts = [f"{n} says " + "abc " * (n % 17) for n in range(80)]
    (folder / "text.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    source = {"path": str(folder / "text.jsonl")}
    tokenizer = {"kind": "bytes"}
    return prepared(folder, {"kind": "text", "source": source, "tokenizer": tokenizer, "block_size": 80, "held_out_share": 0.1})


def test_the_same_batches_whoever_reads_them(text: Path) -> None:
    one, two = (loader.read(text, 800, 6, workers=workers) for workers in (0, 2))
    assert one.n_batches == 6 and one.n_tokens == 4800 and one.sha256 == two.sha256 == loader.read(text, 800, 6).sha256
    assert one.state == {"tokens": 4800} and 0 <= one.n_padding < 480 and one.n_documents >= 60
    assert loader.read(text, 800, 6, seed=1).sha256 != one.sha256
    halves = [loader.read(text, 800, 6, rank=rank, ranks=2) for rank in (0, 1)]
    assert sum(half.n_tokens for half in halves) == 4800 and halves[0].state == halves[1].state == one.state
    assert sum(half.n_padding for half in halves) == one.n_padding
    assert "6 batches with 4,800 tokens of " in str(one) and "position {'tokens': 4800}" in str(one)


def test_the_command(text: Path) -> None:
    result = CliRunner().invoke(app, ["loader", str(text), "--tokens-per-step", "800", "--batches", "3", "--workers", "1"])
    assert result.exit_code == 0 and "3 batches with 2,400 tokens" in result.stdout and "tokens/s" in result.stdout


def test_other_data_is_read_as_it_is(tmp_path: Path) -> None:
    folder = prepared(tmp_path, {"kind": "mqar", "n_keys": 8, "n_values": 8, "num_pairs": [2, 4], "n_test": 8})
    found = loader.read(folder, 256, 3)
    assert found.n_batches == 3 and 0 < found.n_tokens <= 768 and found.n_padding == 0
    with pytest.raises(ConfigError, match="data of kind mqar is read by one process; leave out --workers and --ranks"):
        loader.read(folder, 256, 3, ranks=2)


def test_what_cannot_be_read(text: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a batch of 79 tokens does not hold the longest row, which takes 80"):
        loader.read(text, 79, 3)
    with pytest.raises(ConfigError, match=r"config\.yaml: no such file"):
        loader.read(tmp_path, 800, 3)
