"""Tokenizers lose nothing, are made the same way twice, and join word by word."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from ripstop.config import ConfigError
from ripstop.data.tokenizer import BOS, EOS, PAD, BpeConfig, BytesConfig, Tokenizer, TokenizerConfig

TEXTS = ["Im Anfang schuf Gott die Himmel und die Erde.", "In the beginning God created the heavens and the earth."] * 3
TOKENIZERS = {"bpe": BpeConfig(vocab_size=320).train(TEXTS), "bytes": BytesConfig().train(TEXTS)}
anyone = pytest.mark.parametrize("kind", list(TOKENIZERS))


@anyone
@given(text=st.text())
def test_round_trip(kind: str, text: str) -> None:
    tokenizer = TOKENIZERS[kind]
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode([BOS, *ids, EOS, PAD, PAD]) == text
    assert not {PAD, BOS, EOS} & set(ids)


@anyone
@given(words=st.lists(st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1), min_size=2, max_size=5))
def test_pieces_join_by_spaces(kind: str, words: list[str]) -> None:
    tokenizer = TOKENIZERS[kind]
    assert sum(tokenizer.encode_batch(words), []) == tokenizer.encode(" ".join(words))


@anyone
def test_text_that_spells_a_special_token_stays_text(kind: str, tmp_path: Path) -> None:
    TOKENIZERS[kind].save(tmp_path / "tokenizer.json")
    for tokenizer in (TOKENIZERS[kind], Tokenizer.load(tmp_path / "tokenizer.json")):
        assert EOS not in tokenizer.encode("the <eos> <pad>")
        assert tokenizer.decode(tokenizer.encode("the <eos> <pad>")) == "the <eos> <pad>"


def test_bytes_are_one_token_each() -> None:
    assert len(TOKENIZERS["bytes"]) == 3 + 256
    assert len(TOKENIZERS["bytes"].encode("Söhne")) == len(" Söhne".encode())
    assert TOKENIZERS["bytes"].encode("") == []


def test_bpe_learns_words_and_counts_its_vocabulary(tmp_path: Path) -> None:
    tokenizer = TOKENIZERS["bpe"]
    assert len(tokenizer) == 320
    assert len(tokenizer.encode("the heavens")) < len("the heavens")
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    assert loaded.encode_batch(TEXTS) == tokenizer.encode_batch(TEXTS)
    assert len(loaded) == 320


def test_training_is_deterministic_over_processes_and_threads(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from ripstop.data.tokenizer import BpeConfig\n"
        "texts = [' '.join(str(i * j % 97) for j in range(20)) for i in range(200)]\n"
        "BpeConfig(vocab_size=400).train(texts).save(Path(sys.argv[1]))"
    )
    for parallel in ("true", "false"):
        environment = os.environ | {"TOKENIZERS_PARALLELISM": parallel}
        subprocess.run([sys.executable, "-c", program, str(tmp_path / parallel)], env=environment, check=True)
    assert (tmp_path / "true").read_bytes() == (tmp_path / "false").read_bytes()


def test_configuration() -> None:
    adapter = TypeAdapter(TokenizerConfig)
    assert adapter.validate_python({"kind": "bytes"}) == BytesConfig()
    assert adapter.validate_python({"kind": "bpe", "vocab_size": 300}) == BpeConfig(vocab_size=300)
    with pytest.raises(ConfigError, match="vocab_size"):
        BpeConfig.parse({"vocab_size": 100}, "data.tokenizer")
    with pytest.raises(ConfigError, match="no such file"):
        Tokenizer.load(Path("nowhere.json"))
