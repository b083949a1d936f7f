"""Runs that questions are asked of: tiny random frozen models, and questions of a file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ripstop.data.question import Question
from ripstop.data.questions import QuestionsConfig
from ripstop.evaluation.base import PartConfig, Subject
from ripstop.models.soft_prompt import SoftPrompt, SoftPromptConfig
from ripstop.records import Measurement
from ripstop.runs import Run

TOWNS = ("Ulm", "Jena", "Kiel", "Bonn", "Mainz", "Trier", "Worms", "Passau")
RIVERS = ("Elbe", "Oder", "Isar", "Ruhr", "Main", "Saar", "Lahn", "Inn")
LLAMA: dict[str, Any] = {"kind": "random", "width": 32, "n_layers": 2}
GEMMA: dict[str, Any] = {**LLAMA, "architecture": "gemma", "seed": 1, "merges": 40, "width": 24}


@dataclass(frozen=True)
class Asked:
    """A prepared run that trains nothing."""

    data: QuestionsConfig
    folder: Path

    @property
    def questions(self) -> list[Question]:
        return self.data.questions(self.folder, "test")

    def subject(self, part: PartConfig, out: Path, compressor: str = "mean_pool", two: bool = False) -> Subject:
        out.mkdir(parents=True, exist_ok=True)
        run = Run(
            study="latent_compression",
            scale="cpu",
            name=f"compressor-{compressor}_seed-0",
            seed=0,
            factors={"compressor": compressor},
            data=self.data,
            model=soft_prompt(compressor, two),
            training=None,
            evaluation={"answers": part},
        )
        run.check()
        torch.manual_seed(0)
        return Subject(run, self.folder.parent / "runs" / run.name, self.folder, out, torch.device("cpu"))

    def measured(self, part: PartConfig, out: Path, compressor: str = "mean_pool", two: bool = False) -> list[Measurement]:
        with torch.inference_mode():
            return list(part.measure(self.subject(part, out, compressor, two)))


def soft_prompt(compressor: str, two: bool = False) -> SoftPromptConfig:
    values: dict[str, Any] = {
        "frozen": {"first": LLAMA} | ({"second": GEMMA} if two else {}),
        "compressor": {"kind": compressor},
        "n_vectors": 4,
        "d_z": 16,
        "prompt": {"n_shots": 1},
    }
    if compressor not in ("constant", "byte_resampler"):
        values |= {"features_of": "first", "feature_layer": 1}
    return SoftPromptConfig.parse(values, "model")


def built(asked: Asked, compressor: str = "mean_pool", two: bool = False) -> SoftPrompt:
    """The model that a part of such a run builds."""
    torch.manual_seed(0)
    with torch.inference_mode():
        model = soft_prompt(compressor, two).build(asked.data.info(asked.folder)).eval()
    assert isinstance(model, SoftPrompt)
    return model


def prepared(folder: Path) -> Asked:
    """Articles on towns by rivers: two questions on each, whose answers stand at the beginning and at the end."""
    for name, offset, n in (("train", 0, 20), ("valid", 1, 2), ("test", 3, 5)):
        articles = []
        for i in range(n):
            town, river = TOWNS[(i + offset) % 8], RIVERS[(3 * i + offset) % 8]
            text = f"{town} ({name} {i}) is an old town that lies on the river {river}."
            asked = [
                {
                    "id": f"{name}-{i}-{what}",
                    "question": f"Which {what}?",
                    "answers": [{"text": a, "answer_start": text.index(a)}],
                }
                for what, a in (("town", town), ("river", river))
            ]
            articles.append({"title": f"{name} {i}", "paragraphs": [{"context": text, "qas": asked}]})
        (folder / f"{name}.json").write_text(json.dumps({"data": articles}))
    source = {"train": str(folder / "train.json"), "valid": str(folder / "valid.json"), "test": str(folder / "test.json")}
    data = QuestionsConfig.parse({"source": source, "max_words": 40}, "data")
    data.prepare(folder / "data")
    return Asked(data, folder / "data")
