"""The part `samples`: picked by place, in order, each with its own score."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from evaluation.translated_runs import BAD, GOOD, lay_out, prepared, run_of, translations
from sacrebleu import sentence_chrf

from ripstop.config import ConfigError
from ripstop.data.mqar import MqarConfig
from ripstop.evaluation.base import Subject
from ripstop.evaluation.samples import SamplesConfig


def test_every_second_translation_with_its_score(tmp_path: Path) -> None:
    data, folder = prepared(tmp_path)
    run = run_of(data, "0", SamplesConfig(n=3))
    lay_out(tmp_path / run.name, translations([f"{text}\u2028now" for text in BAD]))
    (part,) = run.evaluation.values()
    assert part.reads(run) == ["ratio-0_seed-0/parts/translation"]
    found = list(part.measure(Subject(run, tmp_path / run.name, folder, tmp_path / "out", torch.device("cpu"))))
    assert [m.slice["sample"] for m in found] == [0, 1, 2]
    assert [m.slice["hypothesis"] for m in found] == [f"{BAD[i]} now" for i in (0, 2, 4)]
    assert [m.slice["reference"] for m in found] == [GOOD[i] for i in (0, 2, 4)]
    wanted = [sentence_chrf(f"{BAD[i]} now", [GOOD[i]], word_order=2).score for i in (0, 2, 4)]
    assert [m.value for m in found] == pytest.approx(wanted) and len(set(wanted)) == 3


def test_it_reads_translations_alone() -> None:
    with pytest.raises(ConfigError, match="needs data of kind documents, and the run's is mqar"):
        SamplesConfig().check(run_of(MqarConfig(n_keys=4, n_values=4, num_pairs=[2]), "0", SamplesConfig()))
