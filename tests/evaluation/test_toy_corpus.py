"""A language that can be learnt in seconds, through the whole of hybrid_ratio: what is trained translates, and what is scored
is the trained model, on the test split, under the control that the record names.

Every word of the source has one translation, in the same place. The validation split is translated by another dictionary, so
that whoever scores it by mistake finds a model that knows nothing.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from ripstop.data.documents import DocumentsConfig
from ripstop.evaluation.base import Subject
from ripstop.evaluation.evaluate import evaluate
from ripstop.records import Record, read_records
from ripstop.runs import Run
from ripstop.studies import hybrid_ratio
from ripstop.studies.base import runs
from ripstop.training.train import train

WORDS = [consonant + vowel for consonant in "bdfgkl" for vowel in "ao"]
TRANSLATIONS = {word: f"{word[::-1].upper()}x" for word in WORDS}
FALSE_FRIENDS = {word: TRANSLATIONS[other] for word, other in zip(WORDS, WORDS[1:] + WORDS[:1], strict=True)}

PARAMS: dict[str, Any] = {
    "seeds": [0],
    "d_model": 32,
    "n_cross_heads": 1,
    "mlp": None,
    "encoder_pattern": "B",
    "patterns": {"0": "M"},
    "mixers": {
        "B": {"kind": "bidirectional", "mixer": {"kind": "mamba2", "d_state": 16, "head_dim": 16}},
        "M": {"kind": "mamba2", "d_state": 16, "head_dim": 16},
    },
    "cross_attention_positions": [0],
    "training": {"steps": 220, "tokens_per_step": 384, "lr": 1e-2},
    "evaluation": {
        "likelihood": {"tokens_per_batch": 256},
        "translation": {"n_translations": 24, "generation": {"max_new_tokens": 8, "eos": 2}},
    },
}


def write_corpus(folder: Path) -> None:
    generator = random.Random(0)
    folder.mkdir()
    for split, n_documents in (("train", 600), ("valid", 16), ("test", 30)):
        dictionary = FALSE_FRIENDS if split == "valid" else TRANSLATIONS
        with (folder / f"{split}.jsonl").open("w", encoding="utf-8") as file:
            for i in range(n_documents):
                words = generator.sample(WORDS, 4)
                pieces = [words[: generator.randint(1, 2)], words[2 : 2 + generator.randint(1, 2)]]
                row = {
                    "document": f"{split} {i}",
                    "en": [" ".join(piece) for piece in pieces],
                    "de": [" ".join(dictionary[word] for word in piece) for piece in pieces],
                }
                file.write(json.dumps(row) + "\n")


@dataclass(frozen=True)
class Trained:
    """A run that was prepared, trained and evaluated as the workflow does it."""

    run: Run
    folder: Path
    data: Path
    records: list[Record]

    def subject(self, **changes: Any) -> Subject:
        return Subject(self.run.replace(**changes), self.folder, self.data, self.folder, torch.device("cpu"))

    def value(self, metric: str, **where: Any) -> float:
        (record,) = [r for r in self.records if r.metric == metric and where.items() <= r.slice.items()]
        return record.value


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    root = tmp_path_factory.mktemp("toy")
    write_corpus(root / "corpus")
    data = {"kind": "documents", "source": {"path": str(root / "corpus")}, "max_tokens": 8}
    data["tokenizer"] = {"kind": "bpe", "vocab_size": 400}
    (run,) = runs(hybrid_ratio, PARAMS | {"data": data}, "cpu", "toy")
    folder, prepared = root / run.name, root / "data"
    folder.mkdir()
    for name, text in run.files().items():
        (folder / name).write_text(text, encoding="utf-8")
    for stage in ("train", *run.evaluation):
        (folder / f"{stage}.code").write_text("digest\n", encoding="utf-8")
    run.data.prepare(prepared)
    train(folder, prepared)
    records = [record for part in run.evaluation for record in read_records(evaluate(folder, prepared, part))]
    return Trained(run, folder, prepared, records)


@pytest.fixture(scope="module")
def data(trained: Trained) -> DocumentsConfig:
    assert isinstance(trained.run.data, DocumentsConfig)
    return trained.run.data


def translated(trained: Trained) -> list[dict[str, str]]:
    part = trained.run.evaluation["translation"]
    path = trained.folder / "parts/translation" / part.files[0]
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_it_translates(trained: Trained) -> None:
    assert trained.value("bleu") > 40 and trained.value("chrf++") > 60
    assert trained.value("length_ratio") == pytest.approx(1, abs=0.2)
    lines = translated(trained)
    words = [pair for t in lines for pair in zip(t["hypothesis"].split(), t["source"].split(), strict=False)]
    assert sum(hypothesis == TRANSLATIONS[source] for hypothesis, source in words) > 0.7 * len(words)


def test_what_is_scored_was_trained(trained: Trained) -> None:
    """The same parts on the model as it is built: a loss near that of guessing, and no word right."""
    fresh = trained.subject(training=None)
    likelihood, translation = (trained.run.evaluation[part] for part in ("likelihood", "translation"))
    with torch.inference_mode():
        losses = {m.slice["control"]: m.value for m in likelihood.measure(fresh)}
        scores = {m.metric: m.value for m in translation.measure(fresh)}
    assert losses["own"] > 5 > 1 > trained.value("loss", control="own")
    assert scores["bleu"] < 5 < 40 < trained.value("bleu")


def test_the_score_is_owed_to_the_own_source(trained: Trained) -> None:
    own, wrong, shuffled = (trained.value("loss", control=control) for control in ("own", "wrong", "shuffled"))
    assert wrong > own + 2 and shuffled > own + 0.5


def test_the_wrong_source_is_the_one_of_the_row_before(trained: Trained, data: DocumentsConfig) -> None:
    """The losses of the record, computed here from the trained model and the prepared rows."""
    model = trained.subject().model()
    totals, n_targets = {"own": 0.0, "wrong": 0.0}, 0
    for batch in data.held_out(trained.data, "test", 256):
        assert len(batch.source_BS.unique(dim=0)) == len(batch.source_BS)
        rolled = type(batch)(
            batch.tokens_BT,
            batch.targets_BT,
            batch.segments_BT,
            batch.source_BS.roll(1, 0),
            batch.source_segments_BS.roll(1, 0),
        )
        for control, read in (("own", batch), ("wrong", rolled)):
            with torch.inference_mode():
                logits_NV = model(read, read.asked_BT)
            totals[control] += float(F.cross_entropy(logits_NV, read.targets_BT[read.asked_BT], reduction="sum"))
        n_targets += batch.n_targets
    for control, total in totals.items():
        assert trained.value("loss", control=control) == pytest.approx(total / n_targets, rel=1e-4)


def test_it_is_the_test_split_that_is_scored(trained: Trained, data: DocumentsConfig) -> None:
    """By what was read, by how much, and by the loss: the validation split speaks another language."""
    windows = data.test_windows(trained.data, "test")
    counts = data.description(trained.data)["splits"]
    (record,) = [r for r in trained.records if r.metric == "loss" and r.slice["control"] == "own"]
    assert record.n == counts["test"]["target_tokens"] != counts["valid"]["target_tokens"]
    assert record.slice["split"] == "test"
    lines = translated(trained)
    assert [(t["source"], t["reference"]) for t in lines] == [(w.source_text, w.target_text) for w in spread(windows, 24)]
    assert all(t["document"].startswith("test") for t in lines)
    with torch.inference_mode():
        mistaken = {
            m.slice["control"]: m.value
            for m in trained.run.evaluation["likelihood"].replace(split="valid").measure(trained.subject())
        }
    assert mistaken["own"] > record.value + 2


def spread(windows: list[Any], n: int) -> Iterator[Any]:
    """`n` of them, evenly."""
    return (windows[i * len(windows) // n] for i in range(n))
