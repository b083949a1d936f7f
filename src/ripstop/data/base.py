"""What every data source offers: prepare once into a folder, then stream training batches from it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from ripstop.batch import BatchStream, DataInfo, StreamPlan, Vocabulary
from ripstop.config import Strict


class DataConfig(Strict):
    """A data source. Subclasses add `kind: Literal[...]` and implement what raises here."""

    kind: str

    @property
    def id(self) -> str:
        """Name of its folder: the kind and a digest of every setting, so that runs with the same data share it."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return f"{self.kind}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    def prepare(self, out: Path) -> None:
        """Write everything that training and evaluation read into `out`; `data.json`, the last file, describes it.

        data.json holds at least `vocab_size` and `sha256` (of the data's content, not of file names or times).
        """
        raise NotImplementedError

    def vocab_size(self, data: Path) -> int:
        """Number of token ids, read from the prepared folder."""
        raise NotImplementedError

    def info(self, data: Path) -> DataInfo:
        """What a model is told about the prepared folder that it is built for."""
        return Vocabulary(self.vocab_size(data))

    def stream(self, data: Path, plan: StreamPlan) -> BatchStream:
        """Endless training batches, a function of `plan` and the position alone."""
        raise NotImplementedError
