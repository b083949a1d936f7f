"""The part `quality`: what it reads, against which baseline, and that what does not belong together is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from evaluation.translated_runs import BAD, GOOD, lay_out, prepared, run_of, translations

from ripstop.config import ConfigError
from ripstop.data.documents import DocumentsConfig
from ripstop.data.mqar import MqarConfig
from ripstop.evaluation.base import Subject
from ripstop.evaluation.corpus_scores import paired_bootstrap
from ripstop.evaluation.quality import QualityConfig
from ripstop.runs import Run

Data = tuple[DocumentsConfig, Path]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return prepared(tmp_path_factory.mktemp("quality"))


def quality_of(data: Data, ratio: str, seed: int = 0, **settings: object) -> Run:
    return run_of(data[0], ratio, QualityConfig.parse(settings, "q"), seed)


def measured(run: Run, root: Path, data: Path) -> dict[tuple, float]:
    subject = Subject(run, root / run.name, data, root / "out", torch.device("cpu"))
    found = run.evaluation["quality"].measure(subject)
    return {(m.metric, *m.slice.values()): m.value for m in found}


def test_it_reads_its_own_translations_and_those_of_the_baselines(data: Data) -> None:
    run = quality_of(data, "1_7", seed=3, against=["ratio-0", "ratio-1_7", "ratio-all"])
    assert run.evaluation["quality"].reads(run) == [f"ratio-{ratio}_seed-3/parts/translation" for ratio in ("1_7", "0", "all")]
    with pytest.raises(ConfigError, match="needs data of kind documents, and the run's is mqar"):
        QualityConfig().check(run_of(MqarConfig(n_keys=4, n_values=4, num_pairs=[2]), "0", QualityConfig()))


def test_p_values_and_recall(data: Data, tmp_path: Path) -> None:
    lay_out(tmp_path / "ratio-0_seed-0", translations(BAD))
    lay_out(tmp_path / "ratio-all_seed-0", translations(GOOD))
    settings = {"against": ["ratio-0", "ratio-all"], "n_bootstrap": 50}
    of_all = measured(quality_of(data, "all", **settings), tmp_path, data[1])
    of_none = measured(quality_of(data, "0", **settings), tmp_path, data[1])
    wanted = paired_bootstrap(translations(BAD), translations(GOOD), 50)
    assert {key: value for key, value in of_all.items() if "p_value" in key[0]} == {
        (f"{metric}_p_value", "ratio-0"): value for metric, value in wanted.items()
    }
    assert {key for key in of_none if "p_value" in key[0]} == {(f"{m}_p_value", "ratio-all") for m in ("bleu", "chrf++")}
    # five names of training, eight times each; Jakob stands in the test alone
    assert of_all["entity_recall", "all"] == 1 and of_none["entity_recall", "all"] == 3 / 6
    assert (of_none["entity_recall", "1-9"], of_none["entity_recall", "0"]) == (3 / 5, 0)
    assert of_all["segments",] == 6


def test_what_does_not_belong_together_is_refused(data: Data, tmp_path: Path) -> None:
    run = quality_of(data, "0", against=["ratio-all"])
    folder = tmp_path / run.name
    with pytest.raises(ConfigError, match="ratio-0_seed-0/parts/translation: no records.*--part translation` first"):
        measured(run, tmp_path, data[1])
    lay_out(folder, translations(BAD), model="other")
    with pytest.raises(ConfigError, match="was measured on another model"):
        measured(run, tmp_path, data[1])
    lay_out(folder, translations(BAD))
    lay_out(tmp_path / "ratio-all_seed-0", translations(GOOD[:-1]))
    with pytest.raises(ConfigError, match="quality.against: ratio-all: the baseline translated other segments"):
        measured(run, tmp_path, data[1])
    (folder / "training.json").write_text("[]")
    with pytest.raises(ConfigError, match="training.json: not a report"):
        measured(run, tmp_path, data[1])
