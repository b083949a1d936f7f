"""Whether a training was stable: by the held-out losses that it measured on its way."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from ripstop.config import ConfigError
from ripstop.data.text import TextConfig
from ripstop.data.tokenizer import BOS, PAD
from ripstop.evaluation.base import PartConfig, Subject
from ripstop.evaluation.bits_per_byte import check_text
from ripstop.evaluation.kneser_ney import KneserNey
from ripstop.files import read_text
from ripstop.records import Measurement

if TYPE_CHECKING:
    from ripstop.runs import Run


class StabilityConfig(PartConfig):
    """A training is unstable where its last held-out loss is not below that of a unigram model, so that it has learnt nothing
    from contexts; or where it has lost `lost` nats per token on the lowest that it had reached. One whose loss is not finite
    has no records but that it diverged, since `training.on_divergence` has to be `record`.
    """

    kind: Literal["stability"] = "stability"
    lost: float = Field(0.5, gt=0)
    unigram_tokens: int = Field(2**20, ge=1, le=2**32, description="counted on the first rows to train on that hold so many")

    def check(self, run: Run) -> None:
        check_text(run)
        if run.training is None or not run.training.validate_every:
            raise ConfigError("training.validate_every is 0, so that no held-out loss says how the training went; set it")
        if run.training.on_divergence != "record":
            raise ConfigError("training.on_divergence: is fail, and a training that diverges is an outcome here; set record")

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        path = subject.folder / "training.json"
        rows: list[dict[str, Any]] = json.loads(read_text(path))["validation"]
        if not rows:
            raise ConfigError(f"{path}: the training measured nothing on held-out data; delete it and train again")
        losses, n = [float(row["loss"]) for row in rows], int(rows[-1]["n"])
        unigram = self._unigram_loss(subject)
        yield Measurement("unigram_loss", unigram, "nats", n)
        yield Measurement("lowest_held_out_loss", min(losses), "nats", n)
        yield Measurement("last_held_out_loss", losses[-1], "nats", n)
        yield Measurement("unstable", int(is_unstable(losses, unigram, self.lost)), "count", 1, {"lost": self.lost})

    def _unigram_loss(self, subject: Subject) -> float:
        """Nats per token of the split that trainings are validated on."""
        data = subject.run.data
        assert isinstance(data, TextConfig)
        train = data.pieces(subject.data, "train", self.unigram_tokens)
        model = KneserNey(train, 1, data.vocab_size(subject.data), BOS, never=[PAD])
        return -float(np.log(model.probabilities(data.pieces(subject.data, "valid"))).mean())


def is_unstable(losses: Sequence[float], unigram: float, lost: float) -> bool:
    """By the held-out losses in the order in which they were measured."""
    last = losses[-1]
    return not math.isfinite(last) or last >= unigram or last - min(losses) > lost
