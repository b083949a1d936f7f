"""What every data source offers: prepare once into a folder, then stream training batches from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

from safetensors import SafetensorError

from ripstop.batch import BatchStream, DataInfo, StreamPlan, TokenBatch, Vocabulary
from ripstop.config import ConfigError, Strict
from ripstop.files import write_text

HeldOut = Literal["valid", "test"]
DESCRIPTION = "data.json"
OWN_DIGEST = "sha256_of_the_above"
"""Key of data.json: the digest of all its others."""


class RowLength(NamedTuple):
    """How many tokens of one row a model reads: as its (decoder's) inputs, and of the source, None without one."""

    tokens: int
    source: int | None = None

    @property
    def total(self) -> int:
        return self.tokens + (self.source or 0)


class DataConfig(Strict):
    """A data source. Subclasses add `kind: Literal[...]` and define what raises here.

    files: what `write` leaves in the folder.
    held_out_splits: those that `held_out` yields, none where the kind has no rows to score by likelihood.
    """

    kind: str
    files: ClassVar[tuple[str, ...]] = ()
    held_out_splits: ClassVar[tuple[HeldOut, ...]] = ()

    @property
    def id(self) -> str:
        """Name of its folder: the kind and a digest of every setting, so that runs with the same data share it."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return f"{self.kind}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    @property
    def longest_row(self) -> RowLength:
        """The longest row of a test, known from the settings alone."""
        raise self._lacks("longest_row")

    def local_files(self) -> list[Path]:
        """The user's own files that `prepare` reads, so that the data is stale when one of them changes.

        `ConfigError` where one is missing.
        """
        return []

    def check(self, plan: StreamPlan) -> None:
        """`ConfigError` where the settings cannot feed this training. Reads nothing; called when the plan is made."""
        needed = self.longest_row.total
        if plan.tokens_per_batch < needed:
            raise ConfigError(
                f"training.tokens_per_step: a batch of {plan.tokens_per_batch} tokens does not hold the longest row, which "
                f"takes {needed}; raise it, or make the rows of the data shorter"
            )

    def prepare(self, out: Path) -> None:
        """Write everything that training and evaluation read into `out`, and last `data.json`, which describes it.

        data.json holds `id`, `vocab_size`, `sha256` (of the data's content, not of file names, times or code), the
        sha256 of each of `files`, of each local file that was read, and of what stands in data.json itself. A folder
        without it is not prepared: an earlier one goes first, so that a preparation that is stopped leaves nothing that
        looks complete.
        """
        local = self.local_files()
        with disk_errors(out):
            (out / DESCRIPTION).unlink(missing_ok=True)
            for name in (DESCRIPTION, *self.files):
                for leftover in out.glob(f".{name}.*"):  # of a preparation that was killed
                    leftover.unlink()
            before = {path.name: file_digest(path) for path in local}
            content = self.write(out)
            for path in local:
                if file_digest(path) != before[path.name]:
                    raise ConfigError(
                        f"{path}: another file of the data is called {path.name} too; rename one of them"
                        if [other.name for other in local].count(path.name) > 1
                        else f"{path}: changed while the data was prepared; prepare it again"
                    )
            description = {
                "kind": self.kind,
                "id": self.id,
                **content,
                "files": {name: file_digest(out / name) for name in self.files},
                "local_files": before,
            }
            description |= {OWN_DIGEST: _content_digest(description)}
            write_text(out / DESCRIPTION, json.dumps(description, indent=2, ensure_ascii=False) + "\n")

    def write(self, out: Path) -> dict[str, Any]:
        """Write `files` into `out`; what data.json says of them, at least `vocab_size` and `sha256`."""
        raise self._lacks("write")

    def description(self, data: Path) -> dict[str, Any]:
        """The data.json of a prepared folder; `ConfigError` where there is none or it is not one."""
        path = data / DESCRIPTION
        again = f"`python -m ripstop prepare {data}`"
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ConfigError(f"{path}: no such file; the data is not prepared, run {again}") from None
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigError(f"{path}: cannot be read ({one_line(error)}); run {again}") from None
        if not isinstance(found, dict) or not isinstance(found.get("files"), dict) or not _is_count(found.get("vocab_size")):
            raise ConfigError(f"{path}: does not describe prepared data; run {again}")
        return found

    def verify(self, data: Path) -> dict[str, Any]:
        """The description of a prepared folder that is this configuration's, each file as it was written.

        `ConfigError` names the first that is not: other data, a damaged or missing file, a local file that was edited.
        """
        found = self.description(data)
        again = f"run `python -m ripstop prepare {data}`"
        if found.get("id") != self.id:
            raise ConfigError(f"{data}: holds the data {found.get('id')}, and {self.id} is asked for; name the folder of that")
        if found.get(OWN_DIGEST) != _content_digest(found):
            raise ConfigError(f"{data / DESCRIPTION}: is not as it was written, it was edited; {again}")
        for name in self.files:
            path = data / name
            try:
                digest = file_digest(path)
            except OSError as error:
                raise ConfigError(f"{path}: cannot be read ({error.strerror}); {again}") from None
            if digest != found["files"].get(name):
                raise ConfigError(f"{path}: is not the file that {DESCRIPTION} describes, it was damaged or edited; {again}")
        for path in self.local_files():
            with disk_errors(path):
                if file_digest(path) != found.get("local_files", {}).get(path.name):
                    raise ConfigError(f"{path}: was edited after the data in {data} was prepared from it; {again}")
        return found

    def vocab_size(self, data: Path) -> int:
        """Number of token ids, read from the prepared folder."""
        return self.description(data)["vocab_size"]

    def info(self, data: Path) -> DataInfo:
        """What a model is told about the prepared folder that it is built for."""
        return Vocabulary(self.vocab_size(data))

    def stream(self, data: Path, plan: StreamPlan) -> BatchStream:
        """Endless training batches, a function of `plan` and the position alone."""
        raise self._lacks("stream")

    def validation(self, data: Path, plan: StreamPlan) -> Iterable[TokenBatch]:
        """Batches for the loss on rows that are neither trained on nor tested; the same ones at every call."""
        raise self._lacks("validation")

    def held_out(self, data: Path, split: HeldOut, tokens_per_batch: int) -> Iterator[TokenBatch]:
        """Every row of a held-out split once."""
        raise self._lacks("held_out")

    def _lacks(self, what: str) -> TypeError:
        return TypeError(f"{type(self).__name__}: a data source has to define {what}")


def file_digest(path: Path) -> str:
    """SHA-256 of the file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _content_digest(description: dict[str, Any]) -> str:
    """SHA-256 of a description without the digest that it holds of itself, in hex."""
    told = {key: value for key, value in description.items() if key != OWN_DIGEST}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def one_line(error: BaseException) -> str:
    """What an error says, or its name where it says nothing: the first line, without a full stop."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """What the disk refuses below `path`, as one sentence."""
    try:
        yield
    except OSError as error:
        reason = f"{error.filename or path}: {error.strerror or one_line(error)}"
        raise ConfigError(f"{reason}; free some space or mend the permissions, then run again") from error
    except SafetensorError as error:
        raise ConfigError(f"{path}: cannot be written ({one_line(error)}); free some space, then run again") from error


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
