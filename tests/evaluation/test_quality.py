"""The part `quality`: what it reads, against which baseline, and that what does not belong together is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from ripstop.config import ConfigError
from ripstop.data.documents import DocumentsConfig
from ripstop.data.mqar import MqarConfig
from ripstop.data.tokenizer import BytesConfig
from ripstop.evaluation.base import Subject
from ripstop.evaluation.corpus_scores import paired_bootstrap
from ripstop.evaluation.quality import QualityConfig
from ripstop.evaluation.translated import Translation, write_translations
from ripstop.mixers.attention import AttentionConfig
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.records import Measurement, Record, write_records
from ripstop.runs import Run

NAMES = ["David", "Zion", "Juda", "Israel", "Aaron", "Jakob"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[DocumentsConfig, Path]:
    """Documents in which a name and a verb stand in every sentence."""
    folder = tmp_path_factory.mktemp("quality")
    (folder / "corpus").mkdir()
    for split, n in (("train", 40), ("valid", 4), ("test", 6)):
        lines = []
        for i in range(n):
            name, verb = NAMES[i % (len(NAMES) - (split == "train"))], f"v{'abcdefgh'[i % 8]}"
            lines.append({"document": f"{split} {i}", "en": [f"{name} {verb}s him"], "de": [f"{name} {verb}t ihn"]})
        (folder / "corpus" / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = DocumentsConfig.parse(
        {"source": {"path": str(folder / "corpus")}, "tokenizer": BytesConfig().model_dump(), "max_tokens": 64}, "d"
    )
    config.prepare(folder / "data")
    return config, folder / "data"


def run_of(config: DocumentsConfig | MqarConfig, ratio: str, seed: int = 0, **settings: object) -> Run:
    return Run(
        study="hybrid_ratio",
        scale="cpu",
        name=f"ratio-{ratio}_seed-{seed}",
        seed=seed,
        factors={"ratio": ratio},
        data=config,
        model=DecoderOnlyConfig(d_model=8, pattern="A", mixers={"A": AttentionConfig(n_heads=1)}),
        training=None,
        evaluation={"quality": QualityConfig.parse(settings, "q")},
    )


def lay_out(folder: Path, hypotheses: list[str], model: str = "") -> None:
    """What the part `translation` of a run would leave."""
    part = folder / "parts/translation"
    made = [
        Translation("d", f"{NAMES[i]} goes", text, f"{NAMES[i]} geht dort hin und her") for i, text in enumerate(hypotheses)
    ]
    write_translations(part, made)
    known = {"study": "hybrid_ratio", "run": folder.name, "scale": "cpu", "seed": 0, "factors": {}, "part": "translation"}
    known |= {"code": "c", "config": "c", "data": "d", "model": model, "device": "cpu"}
    write_records(part / "records.jsonl", [Record.of(Measurement("bleu", 1.0, "points", 1), "t", **known)])


def measured(run: Run, root: Path, data: Path) -> dict[tuple, float]:
    subject = Subject(run, root / run.name, data, root / "out", torch.device("cpu"))
    found = run.evaluation["quality"].measure(subject)
    return {(m.metric, *m.slice.values()): m.value for m in found}


GOOD = [f"{name} geht dort hin und her" for name in NAMES]
BAD = [f"{name} geht da weg" for name in NAMES[:3]] + ["er geht dort hin"] * 3


def test_it_reads_its_own_translations_and_those_of_the_baselines(data: tuple[DocumentsConfig, Path]) -> None:
    run = run_of(data[0], "1_7", seed=3, against=["ratio-0", "ratio-1_7", "ratio-all"])
    assert run.evaluation["quality"].reads(run) == [f"ratio-{ratio}_seed-3/parts/translation" for ratio in ("1_7", "0", "all")]
    with pytest.raises(ConfigError, match="needs data of kind documents, and the run's is mqar"):
        QualityConfig().check(run_of(MqarConfig(n_keys=4, n_values=4, num_pairs=[2]), "0"))


def test_p_values_and_recall(data: tuple[DocumentsConfig, Path], tmp_path: Path) -> None:
    lay_out(tmp_path / "ratio-0_seed-0", BAD)
    lay_out(tmp_path / "ratio-all_seed-0", GOOD)
    settings = {"against": ["ratio-0", "ratio-all"], "n_bootstrap": 50}
    of_all = measured(run_of(data[0], "all", **settings), tmp_path, data[1])
    of_none = measured(run_of(data[0], "0", **settings), tmp_path, data[1])
    both = [[Translation("d", f"{NAMES[i]} goes", text, GOOD[i]) for i, text in enumerate(texts)] for texts in (BAD, GOOD)]
    wanted = paired_bootstrap(*both, 50)
    assert {key: value for key, value in of_all.items() if "p_value" in key[0]} == {
        (f"{metric}_p_value", "ratio-0"): value for metric, value in wanted.items()
    }
    assert {key for key in of_none if "p_value" in key[0]} == {(f"{m}_p_value", "ratio-all") for m in ("bleu", "chrf++")}
    # five names of training, eight times each; Jakob stands in the test alone
    assert of_all["entity_recall", "all"] == 1 and of_none["entity_recall", "all"] == 3 / 6
    assert (of_none["entity_recall", "1-9"], of_none["entity_recall", "0"]) == (3 / 5, 0)
    assert of_all["segments",] == 6


def test_what_does_not_belong_together_is_refused(data: tuple[DocumentsConfig, Path], tmp_path: Path) -> None:
    run = run_of(data[0], "0", against=["ratio-all"])
    folder = tmp_path / run.name
    with pytest.raises(ConfigError, match="ratio-0_seed-0/parts/translation: no records.*--part translation` first"):
        measured(run, tmp_path, data[1])
    lay_out(folder, BAD, model="other")
    with pytest.raises(ConfigError, match="was measured on another model"):
        measured(run, tmp_path, data[1])
    lay_out(folder, BAD)
    lay_out(tmp_path / "ratio-all_seed-0", GOOD[:-1])
    with pytest.raises(ConfigError, match="quality.against: ratio-all: the baseline translated other segments"):
        measured(run, tmp_path, data[1])
    (folder / "training.json").write_text("[]")
    with pytest.raises(ConfigError, match="training.json: not a report"):
        measured(run, tmp_path, data[1])
