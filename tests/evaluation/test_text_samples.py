"""The part `text_samples`: picked by place, drawn by a seed, kept as a file, with the bits of what was written."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from ripstop.batch import TokenBatch
from ripstop.config import ConfigError
from ripstop.data.text import TextConfig
from ripstop.data.tokenizer import BOS, EOS
from ripstop.evaluation.base import Subject
from ripstop.evaluation.text_samples import FILE, TextSamplesConfig, bits_of
from ripstop.models.base import Model
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.runs import Run

MODEL = {"d_model": 16, "pattern": "A", "mixers": {"A": {"kind": "attention", "n_heads": 2}}, "embedding_std": 0.5}


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    texts = [f"{n} went to the sea " + "and so " * (n % 3) for n in range(60)]
    (tmp_path / "text.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    values = {"source": {"path": str(tmp_path / "text.jsonl")}, "tokenizer": {"kind": "bytes"}, "block_size": 64}
    data = TextConfig.parse({**values, "held_out_share": 0.2}, "data")
    run = Run(
        study="s", scale="cpu", name="r", seed=0, factors={}, data=data, model=DecoderOnlyConfig.parse(MODEL, "model"),
        training=None,
    )  # fmt: skip
    data.prepare(tmp_path)
    (tmp_path / "out").mkdir()
    return Subject(run, tmp_path, tmp_path, tmp_path / "out", torch.device("cpu"))


def drawn(subject: Subject, **settings: Any) -> list[Any]:
    torch.manual_seed(0)
    generation = {"max_new_tokens": 6, "temperature": 1.0}
    part = TextSamplesConfig.parse({"n": 3, "prompt_tokens": 10, "generation": generation} | settings, "part")
    part.check(subject.run)
    with torch.inference_mode():
        return list(part.measure(subject))


def test_prompts_are_documents_at_equal_distances_and_the_file_has_the_texts(subject: Subject) -> None:
    found = drawn(subject)
    data = subject.run.data
    assert isinstance(data, TextConfig)
    tokenizer = data.load_tokenizer(subject.data)
    texts = [tokenizer.decode(ids.tolist()) for ids in data.pieces(subject.data, "test")]
    assert sorted(texts) == sorted(text.strip() for text in data.held_out_texts(subject.data, "test"))
    wanted = [texts[i * len(texts) // 3] for i in range(3)]
    assert [one.slice["sample"] for one in found] == [0, 1, 2]
    # a byte is a token; the tokenizer puts a space before a text
    assert [one.slice["prompt"] for one in found] == [text[:9].strip() for text in wanted]
    assert [one.slice["reference"] for one in found] == [" ".join(text[9:15].split()) for text in wanted]
    assert [json.loads(line) for line in (subject.out / FILE).read_text().splitlines()] == [one.slice for one in found]
    assert all(one.metric == "sample_bits_per_token" and 1 <= one.n <= 6 and one.value > 0 for one in found)


def test_the_seed_alone_decides_what_is_drawn(subject: Subject) -> None:
    first, again, other = drawn(subject), drawn(subject), drawn(subject, seed=1)
    assert first == again and [one.slice["continuation"] for one in first] != [one.slice["continuation"] for one in other]
    assert [one.slice["prompt"] for one in first] == [one.slice["prompt"] for one in other]


def test_bits_are_those_of_the_text_alone(subject: Subject) -> None:
    model = subject.run.model.build(subject.run.data.info(subject.data))
    prompt, text = [BOS, 7, 9], [11, 13, EOS]
    with torch.inference_mode():
        logits = model(TokenBatch(torch.tensor([[*prompt, *text[:-1]]]), torch.zeros(1, 5, dtype=torch.int64)))
        bits, n = bits_of(model, prompt, text, torch.device("cpu"))
    nats = sum(float(F.cross_entropy(logits[0, at], torch.tensor(token))) for at, token in zip((2, 3, 4), text, strict=True))
    assert n == 3 and bits == pytest.approx(nats / math.log(2), rel=1e-5)


def test_a_text_ends_with_its_document(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that likes EOS the best: nothing is written, and the end alone is paid for."""
    built = Subject.model

    def ends(self: Subject, changes: Any = None) -> Model:
        model = built(self, changes)
        model.readout.register_forward_hook(lambda *given: given[-1].index_fill(-1, torch.tensor([EOS]), 50.0))  # type: ignore[union-attr]
        return model

    monkeypatch.setattr(Subject, "model", ends)
    for one in drawn(subject):
        assert (one.slice["continuation"], one.n) == ("", 1) and one.value == pytest.approx(0, abs=1e-6)


def test_what_cannot_be_sampled(subject: Subject) -> None:
    with pytest.raises(ConfigError, match="prompt_tokens: 64 leave nothing of a held-out row of 64 tokens; lower it"):
        TextSamplesConfig(prompt_tokens=64).check(subject.run)
    with pytest.raises(ConfigError, match="no held-out document has more than 60 tokens; lower it"):
        drawn(subject, prompt_tokens=60)
    with pytest.raises(ConfigError, match=r"generation\.eos is 9, and a document of this data ends with 2; remove it"):
        TextSamplesConfig.parse({"generation": {"max_new_tokens": 4, "eos": 9}}, "part")
