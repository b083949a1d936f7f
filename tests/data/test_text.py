"""Text to model: prepared once, read as rows; splits by document, and every byte of what is held out accounted for."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from ripstop.batch import IGNORE, StreamPlan
from ripstop.config import ConfigError
from ripstop.data import DATA, text, text_source
from ripstop.data.text import TextConfig, token_bytes
from ripstop.data.tokenizer import BOS, EOS, PAD

N_DOCUMENTS = 400
BLOCK = 32


def document(n: int) -> str:
    """Of 1 to 60 words, some with letters of two bytes; none like another."""
    words = ("häuser", "the", "walks\n\n", "on", "…")
    return f"Nr {n}:\n" + " ".join(words[(n * i) % 5] for i in range(1 + n * 7 % 60)).strip()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "text.jsonl"
    path.write_text("".join(json.dumps({"text": document(n)}) + "\n" for n in range(N_DOCUMENTS)))
    return path


def config(file: Path, **changes: Any) -> TextConfig:
    values = {
        "source": {"path": str(file)}, "tokenizer": {"kind": "bpe", "vocab_size": 300}, "block_size": BLOCK,
        "held_out_share": 0.1,
    }  # fmt: skip
    return TextConfig.parse(values | changes, "data")


@pytest.fixture(scope="module")
def data(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    config(source).prepare(folder)
    return folder


def texts_of(config: TextConfig, data: Path, split: Any) -> list[str]:
    """The documents again, from their rows; in a short block a long one is in pieces."""
    tokenizer = config.load_tokenizer(data)
    return [tokenizer.decode(piece.tolist()) for piece in config.pieces(data, split)]


def test_it_is_found_by_its_kind(source: Path) -> None:
    assert isinstance(DATA.parse({"kind": "text"}), TextConfig)
    assert config(source).id.startswith("text-") and config(source).id != config(source, isolate=False).id


def test_every_document_is_in_one_split(source: Path, tmp_path: Path) -> None:
    long = config(source, block_size=1024)
    long.prepare(tmp_path)
    found = {split: texts_of(long, tmp_path, split) for split in ("train", "valid", "test")}
    assert sorted(text for split in found.values() for text in split) == sorted(map(document, range(N_DOCUMENTS)))
    for split, texts in found.items():
        assert all(text_source.split_of(text, 0.1) == split for text in texts)
    assert sorted(long.held_out_texts(tmp_path, "valid")) == sorted(found["valid"])


def test_the_counts_say_what_there_is(source: Path, data: Path) -> None:
    made = config(source)
    found = made.verify(data)
    assert found["vocab_size"] == len(made.load_tokenizer(data)) <= 300
    assert sum(split["documents"] for split in found["splits"].values()) == N_DOCUMENTS
    assert sum(split["bytes"] for split in found["splits"].values()) == sum(
        len(document(n).encode()) for n in range(N_DOCUMENTS)
    )
    for split, counts in found["splits"].items():
        batch = text.batch_of(made.rows(data, split)[torch.arange(counts["rows"]).numpy()])
        assert batch.n_targets == counts["tokens"]
        assert int((batch.targets_BT == EOS).sum()) == counts["documents"]
        assert counts["padding"] == pytest.approx(1 - batch.n_targets / batch.n_tokens)
        assert counts["pieces"] == len(made.pieces(data, split))
    assert found["splits"]["train"]["padding"] < 0.01
    assert found["origin"] == {"path": str(made.source.path), "column": "text", "text_document": "document"}  # type: ignore[union-attr]


@pytest.mark.parametrize("tokenizer", [{"kind": "bpe", "vocab_size": 300}, {"kind": "bytes"}])
def test_bytes_of_what_is_held_out(source: Path, tmp_path: Path, tokenizer: dict[str, Any]) -> None:
    """Each target stands for the bytes of its token; the space that the tokenizer adds is none of the text's."""
    made = config(source, tokenizer=tokenizer)
    made.prepare(tmp_path)
    for split in ("valid", "test"):
        total = 0
        for batch, bytes_BT in made.held_out_bytes(tmp_path, split, 128):
            assert batch.tokens_BT.shape == bytes_BT.shape and len(batch.tokens_BT) <= 4
            assert int(bytes_BT[(batch.targets_BT == EOS) | (batch.targets_BT == IGNORE)].sum()) == 0
            total += int(bytes_BT.sum())
        wanted = sum(len(text.encode()) for text in made.held_out_texts(tmp_path, split))
        assert total == wanted == made.n_bytes(tmp_path, split) > 0
    sizes = token_bytes(tmp_path / "tokenizer.json")
    ids = made.load_tokenizer(tmp_path).encode(document(3))
    assert sizes[PAD] == sizes[BOS] == sizes[EOS] == 0
    assert sum(sizes[i] for i in ids) == len(document(3).encode()) + 1


def test_held_out_rows_are_read_once_and_isolated(source: Path, data: Path) -> None:
    made = config(source, isolate=False)
    rows = torch.cat([batch.targets_BT for batch in made.held_out(data, "test", 100)])
    assert len(rows) == config(source).verify(data)["splits"]["test"]["rows"]
    several = [batch for batch in made.held_out(data, "test", 100) if int(batch.segments_BT.max()) > 1]  # type: ignore[union-attr]
    assert several
    assert all(torch.equal(a.targets_BT, b.targets_BT) for a, b in zip(
        made.validation(data, StreamPlan(1, 100, 1, 0)), made.held_out(data, "valid", 100), strict=True
    ))  # fmt: skip
    with pytest.raises(ConfigError, match="tokens_per_batch: 31 does not hold a row of 32 tokens; raise it"):
        next(made.held_out(data, "test", 31))


def test_the_stream_and_its_isolation(source: Path, data: Path) -> None:
    plan = StreamPlan(steps=3, tokens_per_step=200, accumulation=2, seed=5)
    apart, together = (config(source, isolate=isolate).stream(data, plan) for isolate in (True, False))
    for _ in range(5):
        one, other = next(apart), next(together)
        assert one.tokens_BT.shape == (3, BLOCK), "as many rows as a batch of the accumulation holds"
        assert torch.equal(one.tokens_BT, other.tokens_BT) and torch.equal(one.targets_BT, other.targets_BT)
        assert one.segments_BT is not None and other.segments_BT is not None
        assert torch.equal((one.tokens_BT == BOS).cumsum(1) * (one.segments_BT > 0), one.segments_BT)
        assert torch.equal(other.segments_BT, (one.segments_BT > 0).long())
    with pytest.raises(ConfigError, match="a batch of 31 tokens does not hold the longest row, which takes 32"):
        config(source).check(StreamPlan(1, 31, 1, 0))
    with pytest.raises(ConfigError, match="a batch of 32 tokens does not hold the longest row, which takes 64"):
        config(source, held_out_block_size=64).check(StreamPlan(1, 32, 1, 0))


def test_the_same_text_gives_the_same_data(source: Path, data: Path, tmp_path: Path) -> None:
    config(source).prepare(tmp_path)
    assert (tmp_path / "data.json").read_bytes() == (data / "data.json").read_bytes()
    other = tmp_path / "other.jsonl"
    other.write_text(source.read_text().replace("Nr 17:", "Nr 71:"))
    config(other).prepare(tmp_path / "other")
    assert json.loads((tmp_path / "other" / "data.json").read_text())["sha256"] != config(source).verify(data)["sha256"]


def test_limits(source: Path, tmp_path: Path) -> None:
    made = config(source, train_tokens=3000, held_out_documents=2)
    made.prepare(tmp_path)
    splits = made.verify(tmp_path)["splits"]
    assert 3000 <= splits["train"]["tokens"] < 3200
    assert splits["valid"]["documents"] == splits["test"]["documents"] == 2
    with pytest.raises(ConfigError, match=r"no document is in split 'valid', of \d+ in all; give it more .+ raise data\.held_"):
        config(source, held_out_share=1e-9).prepare(tmp_path / "other")
    few = tmp_path / "few.txt"
    few.write_text("one document\n\nand another one\n")  # the digests of both, and of the whole file, train on none or all
    with pytest.raises(ConfigError, match=r"no document is in split .+, of 1 in all; .+ is one document unless data\.source"):
        config(few, held_out_share=0.4).prepare(tmp_path / "few")
    assert not (tmp_path / "other" / "data.json").exists() and not list((tmp_path / "other").glob("*.rows"))


def test_less_to_train_on_holds_the_same_out(source: Path, data: Path, tmp_path: Path) -> None:
    config(source, train_tokens=3000).prepare(tmp_path)
    for split in ("valid", "test"):
        assert (tmp_path / f"{split}.jsonl").read_bytes() == (data / f"{split}.jsonl").read_bytes()


def test_a_tokenizer_learns_from_the_first_documents(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And all of them are encoded all the same, in their order."""
    monkeypatch.setattr(text, "TOKENIZER_BYTES", 3000)
    monkeypatch.setattr(text, "AT_ONCE", 7)
    made = config(source, block_size=1024, tokenizer={"kind": "bpe", "vocab_size": 600})
    made.prepare(tmp_path)
    splits = made.verify(tmp_path)["splits"]
    assert sum(split["documents"] for split in splits.values()) == N_DOCUMENTS
    texts = [made.load_tokenizer(tmp_path).decode(piece.tolist()) for piece in made.pieces(tmp_path, "train")]
    assert sorted(texts) == sorted(d for d in map(document, range(N_DOCUMENTS)) if text_source.split_of(d, 0.1) == "train")
    head = list(islice(text._first_bytes(iter([("train", "ab"), ("test", "x" * 50), ("train", "cd"), ("train", "e")]), 4), 9))
    assert head == [("train", "ab"), ("test", "x" * 50), ("train", "cd")]


def test_a_stalled_stream_fails_or_falls_back_on_request(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is no such dataset here, which ends like a stream that stalled."""
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    hub = {"hub": str(source.parent / "nothing"), "timeout": 60.0}
    with pytest.raises(ConfigError, match="cannot be read after 0 rows"):
        config(source, source=hub).prepare(tmp_path / "fails")
    assert not (tmp_path / "fails" / "data.json").exists()
    few = [text_source.TextDocument(document(n)) for n in range(100)]
    monkeypatch.setattr(text_source, "embedded", lambda source: iter(few))
    made = config(source, source=hub | {"on_stall": "embedded"})
    made.prepare(tmp_path / "falls")
    said = capsys.readouterr().out
    assert "cannot be read after 0 rows" in said and "the text of the packages takes its place" in said
    origin = made.verify(tmp_path / "falls")["origin"]
    assert origin["instead_of"]["hub"] == hub["hub"] and "cannot be read" in origin["because"]
    assert sum(split["documents"] for split in made.verify(tmp_path / "falls")["splits"].values()) == 100
