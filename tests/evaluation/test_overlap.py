"""The overlap of train and test, on texts whose overlap is known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from ripstop.config import ConfigError
from ripstop.data.documents import DocumentsConfig
from ripstop.data.vocabulary import VocabularyConfig
from ripstop.evaluation.base import Subject
from ripstop.evaluation.overlap import OverlapConfig
from ripstop.models.translator import TranslatorConfig
from ripstop.runs import Run

MODEL = TranslatorConfig.parse(
    {"d_model": 8, "encoder_pattern": "E", "decoder_pattern": "A", "n_cross_heads": 1, "cross_attention_positions": [0],
     "mixers": {"E": {"kind": "attention", "n_heads": 1, "causal": False}, "A": {"kind": "attention", "n_heads": 1}}},
    "model",
)  # fmt: skip


def test_pairs_that_stand_in_training(tmp_path: Path) -> None:
    """Of five test pairs two are trained on, one of them too long for any window; one shares its source alone."""
    texts = {
        "train": [("a b", "x y"), ("c", "z"), ("long " * 9, "lang " * 9)],
        "valid": [("a b", "x y"), ("new", "neu")],
        "test": [("a b", "x y"), ("c", "other"), ("long " * 9, "lang " * 9), ("d", "d"), ("e", "")],
    }
    for split, pairs in texts.items():
        row = {"document": "1", "en": [a for a, _ in pairs], "de": [b for _, b in pairs]}
        (tmp_path / f"{split}.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(row | {"en": ["q"], "de": [split]}) + "\n")
    data = DocumentsConfig.parse({"source": {"path": str(tmp_path)}, "tokenizer": {"kind": "bytes"}, "max_tokens": 30}, "data")
    data.prepare(tmp_path / "data")
    run = Run(study="s", scale="cpu", name="r", seed=0, factors={}, data=data, model=MODEL, training=None)
    subject = Subject(run, tmp_path, tmp_path / "data", tmp_path, torch.device("cpu"))
    valid, test = OverlapConfig().measure(subject)
    assert (valid.metric, valid.unit, valid.slice, valid.n) == ("also_in_train", "fraction", {"split": "valid"}, 3)
    assert valid.value == pytest.approx(1 / 3)
    assert (test.slice, test.n) == ({"split": "test"}, 5)
    assert test.value == pytest.approx(2 / 5)


def test_other_data_is_refused() -> None:
    run = Run.model_construct(data=VocabularyConfig(n_ids=8))
    with pytest.raises(
        ConfigError, match="overlap needs data of kind documents, and the run's is vocabulary; remove this part"
    ):
        OverlapConfig().check(run)
