"""Runs whose translations were made: what the parts that read them find, without a training."""

from __future__ import annotations

import json
from pathlib import Path

from ripstop.data.base import DataConfig
from ripstop.data.documents import DocumentsConfig
from ripstop.data.tokenizer import BytesConfig
from ripstop.evaluation.base import PartConfig
from ripstop.evaluation.translated import Translation, write_translations
from ripstop.mixers.attention import AttentionConfig
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.records import Measurement, Record, write_records
from ripstop.runs import Run

NAMES = ["David", "Zion", "Juda", "Israel", "Aaron", "Jakob"]
GOOD = [f"{name} geht dort hin und her" for name in NAMES]
BAD = [f"{name} geht da weg" for name in NAMES[:3]] + ["er geht dort hin"] * 3


def prepared(folder: Path) -> tuple[DocumentsConfig, Path]:
    """Documents in which a name and a verb stand in every sentence; the last name stands in no training text."""
    (folder / "corpus").mkdir()
    for split, n in (("train", 40), ("valid", 4), ("test", 6)):
        lines = []
        for i in range(n):
            name, verb = NAMES[i % (len(NAMES) - (split == "train"))], f"v{'abcdefgh'[i % 8]}"
            lines.append({"document": f"{split} {i}", "en": [f"{name} {verb}s him"], "de": [f"{name} {verb}t ihn"]})
        (folder / "corpus" / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    values = {"source": {"path": str(folder / "corpus")}, "tokenizer": BytesConfig().model_dump(), "max_tokens": 64}
    config = DocumentsConfig.parse(values, "d")
    config.prepare(folder / "data")
    return config, folder / "data"


def run_of(config: DataConfig, ratio: str, part: PartConfig, seed: int = 0) -> Run:
    """A run without a training; what translates in it was elsewhere."""
    return Run(
        study="hybrid_ratio",
        scale="cpu",
        name=f"ratio-{ratio}_seed-{seed}",
        seed=seed,
        factors={"ratio": ratio},
        data=config,
        model=DecoderOnlyConfig(d_model=8, pattern="A", mixers={"A": AttentionConfig(n_heads=1)}),
        training=None,
        evaluation={part.kind: part},
    )


def translations(hypotheses: list[str]) -> list[Translation]:
    return [Translation("d", f"{NAMES[i]} goes", text, GOOD[i]) for i, text in enumerate(hypotheses)]


def lay_out(folder: Path, made: list[Translation], model: str = "") -> None:
    """What the part `translation` of a run would leave."""
    write_translations(folder / "parts/translation", made)
    known = {"study": "hybrid_ratio", "run": folder.name, "scale": "cpu", "seed": 0, "factors": {}, "part": "translation"}
    known |= {"code": "c", "config": "c", "data": "d", "model": model, "device": "cpu"}
    record = Record.of(Measurement("bleu", 1.0, "points", 1), "t", **known)
    write_records(folder / "parts/translation/records.jsonl", [record])
