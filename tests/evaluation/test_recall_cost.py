"""recall_cost: the same values as the parts that it joins, and bytes in rows of each number of pairs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ripstop.config import ConfigError
from ripstop.data.mqar import MqarConfig
from ripstop.evaluation.base import Subject
from ripstop.evaluation.recall import RecallConfig
from ripstop.evaluation.recall_cost import RecallCostConfig
from ripstop.files import write_text
from ripstop.mixers.sliding_window import SlidingWindowConfig
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.runs import Run
from ripstop.training.config import TrainingConfig
from ripstop.training.train import train

MODEL = DecoderOnlyConfig(d_model=8, pattern="W", mixers={"W": SlidingWindowConfig(n_heads=1, window_size=10)})


def made(model: object = MODEL, validate_every: int = 1) -> Run:
    data = MqarConfig(n_keys=8, n_values=8, num_pairs=[2, 4], test_pairs=[2, 4], n_test=8, n_valid=2)
    training = TrainingConfig(steps=2, tokens_per_step=64, lr=0.01, validate_every=validate_every)
    return Run.parse(
        {"study": "s", "scale": "cpu", "name": "r", "seed": 0, "factors": {}, "data": data, "model": model,
         "training": training, "evaluation": {"recall_cost": RecallCostConfig()}}, "run",
    )  # fmt: skip


def test_it_measures_what_its_parts_do_and_bytes_in_rows_of_each_number_of_pairs(tmp_path: Path) -> None:
    run, folder, data = made(), tmp_path / "runs" / "r", tmp_path / "data"
    for file, text in run.files().items():
        write_text(folder / file, text)
    write_text(folder / "train.code", "c\n")
    run.data.prepare(data)
    train(folder, data)
    subject = Subject(run, folder, data, tmp_path / "out", torch.device("cpu"))
    with torch.inference_mode():
        found = list(run.evaluation["recall_cost"].measure(subject))
        recall = list(RecallConfig(controls=["own", "wrong"]).measure(subject))
    assert found[: len(recall)] == recall
    values = {(m.metric, m.slice.get("num_pairs")): (m.value, m.slice) for m in found}
    # a row of 2 pairs has 8 tokens, one of 4 has 14; a window of 10 holds and reads keys and values of 8 numbers in 4 bytes
    for num_pairs, tokens, kept in ((2, 8, 8), (4, 14, 10)):
        wanted = (kept * 2 * 8 * 4, {"num_pairs": num_pairs, "context": tokens})
        assert values["state_bytes", num_pairs] == values["bytes_read", num_pairs] == wanted
    assert values["parameters", None] == (2 * 26 * 8 + 4 * 8 * 8 + 2 * 8, {})
    assert [m.slice["step"] for m in found if m.metric == "held_out_accuracy"] == [1, 2]


def test_what_it_cannot_measure_is_refused_before_anything_trains() -> None:
    with pytest.raises(ConfigError, match="validate_every is 0, so there is no learning curve"):
        RecallCostConfig().check(made(validate_every=0))
    RecallCostConfig().check(made())
