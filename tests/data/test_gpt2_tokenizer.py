"""GPT-2's tokenizer behind our special ids: its own tokens in its own order, from a file of the same format."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from ripstop.config import ConfigError
from ripstop.data.gpt2_tokenizer import Gpt2Config
from ripstop.data.tokenizer import BOS, EOS, PAD, Tokenizer

TEXT = "the house of the hunter, the hare of the house ü"


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As GPT-2's: bytes, merges, and one special token at the end."""
    inner = tokenizers.Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner.train_from_iterator([TEXT] * 3, trainers.BpeTrainer(vocab_size=270, initial_alphabet=alphabet, show_progress=False))
    inner.add_special_tokens(["<|endoftext|>"])
    described = json.loads(inner.to_str())
    described["model"]["vocab"]["<|endoftext|>"] = inner.token_to_id("<|endoftext|>")  # it stands there, too
    path = tmp_path_factory.mktemp("gpt2") / "tokenizer.json"
    path.write_text(json.dumps(described))
    return path


def test_tokens_are_theirs_three_further(theirs: Path, tmp_path: Path) -> None:
    original = tokenizers.Tokenizer.from_file(str(theirs))
    tokenizer = Gpt2Config(path=str(theirs)).train(())
    assert len(tokenizer) == original.get_vocab_size() - 1 + 3
    for text in (TEXT, "unseen words\n\n  and space", "<pad><eos> is text"):
        ids = tokenizer.encode(text)
        assert ids == [number + 3 for number in original.encode(f" {text}").ids]
        assert not {PAD, BOS, EOS} & set(ids) and tokenizer.decode(ids) == text
    tokenizer.save(tmp_path / "tokenizer.json")
    assert Tokenizer.load(tmp_path / "tokenizer.json").encode(TEXT) == tokenizer.encode(TEXT)
    ended = tokenizer.encode("a<|endoftext|>b")
    assert tokenizer.decode(ended) == "a<|endoftext|>b" and max(ended) < len(tokenizer)


def test_what_is_no_such_tokenizer(theirs: Path, tmp_path: Path) -> None:
    described = json.loads(theirs.read_text())
    del described["model"]["vocab"]["!"]
    described["model"]["merges"] = []
    (tmp_path / "lacks.json").write_text(json.dumps(described))
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(ConfigError, match=r"lacks\.json' is no byte-level BPE, which has a token for every byte; name one"):
        Gpt2Config(path=str(tmp_path / "lacks.json")).train(())
    with pytest.raises(ConfigError, match=r"data\.tokenizer\.path: '.+broken\.json' cannot be loaded \(.+\); name a local"):
        Gpt2Config(path=str(tmp_path / "broken.json")).train(())
