"""The loss on long windows: of exactly these rows, under each control, and refused where there are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from ripstop.config import ConfigError
from ripstop.data.documents import DocumentsConfig
from ripstop.evaluation.base import Subject
from ripstop.evaluation.controls import applied
from ripstop.evaluation.long_windows import LongWindowsConfig
from ripstop.models.translator import TranslatorConfig
from ripstop.runs import Run

MODEL = {
    "d_model": 16,
    "encoder_pattern": "E",
    "decoder_pattern": "M",
    "mixers": {
        "E": {"kind": "attention", "n_heads": 2, "causal": False},
        "M": {"kind": "mamba2", "d_state": 4, "head_dim": 8},
    },
    "n_cross_heads": 2,
    "cross_attention_positions": [0],
    "embedding_std": 0.5,
}


def run(folder: Path, **data: Any) -> Run:
    values = {"source": {"path": str(folder)}, "tokenizer": {"kind": "bytes"}, "max_tokens": 20}
    return Run(
        study="s", scale="cpu", name="r", seed=0, factors={},
        data=DocumentsConfig.parse(values | {"long": {"max_tokens": 60, "share": 0.0}} | data, "data"),
        model=TranslatorConfig.parse(MODEL, "model"), training=None,
    )  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    for split in ("train", "valid", "test"):
        pieces = [[f"{split[:2]}{d} {i} abc" for i in range(9)] for d in range(4)]
        rows = [{"document": str(d), "en": row, "de": [text.upper() for text in row]} for d, row in enumerate(pieces)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_every_long_window_is_scored_under_each_control(corpus: Path, tmp_path: Path) -> None:
    mine = run(corpus)
    assert isinstance(mine.data, DocumentsConfig)
    mine.data.prepare(tmp_path)
    torch.manual_seed(0)
    subject = Subject(mine, tmp_path, tmp_path, tmp_path, torch.device("cpu"))
    part = LongWindowsConfig(controls=["own", "wrong", "shuffled"], tokens_per_batch=400)
    with torch.inference_mode():
        torch.manual_seed(1)
        measured = list(part.measure(subject))
        torch.manual_seed(1)
        model = subject.model()
        for one, control in zip(measured, part.controls, strict=True):
            losses = []
            for batch in applied(control, mine.data.held_out_long(tmp_path, "test", 400)):
                losses += F.cross_entropy(model(batch).transpose(1, 2), batch.targets_BT, reduction="none")[
                    batch.asked_BT
                ].tolist()
            assert (one.metric, one.unit, one.slice) == ("long_window_loss", "nats", {"control": control})
            assert one.n == len(losses) and one.value == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    assert len({one.value for one in measured}) == 3
    texts = sum(len(" ".join(row["de"]).encode()) for row in map(json.loads, (corpus / "test.jsonl").read_text().splitlines()))
    assert measured[0].n > texts  # every byte, and an end for each window


def test_what_it_refuses(corpus: Path) -> None:
    LongWindowsConfig(tokens_per_batch=240).check(run(corpus))
    with pytest.raises(ConfigError, match="tokens_per_batch: 239 does not hold two of the longest rows, that is 240; raise it"):
        LongWindowsConfig(tokens_per_batch=239).check(run(corpus))
    with pytest.raises(ConfigError, match=r"long_windows needs data of kind documents that has some; set data\.long"):
        LongWindowsConfig().check(run(corpus, long=None))
