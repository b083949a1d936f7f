"""What is known of a paper of one scale: who prints what, which claims there are, and the records behind all of it."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ripstop.config import ConfigError
from ripstop.files import read_text
from ripstop.origins import TRAIN, origins_file, read_origins
from ripstop.provenance import digest

SOURCES, CLAIMS = "sources.json", "claims.json"
Sources = Mapping[str, Any]


class Paper:
    """Files of results/<scale>, where they are, else what was published in paper/sources, as in an archive of the paper.

    sources: each study's sources.json, in place of those.
    """

    def __init__(self, scale: str, root: Path = Path(), sources: Sequence[Path] = ()):
        self.scale, self._root, self._sources = scale, root, sources

    @property
    def results(self) -> Path:
        """The folder of the scale."""
        return self._root / "results" / self.scale

    @functools.cached_property
    def studies(self) -> dict[str, Sources]:
        """Study -> its sources.json."""
        published = self._root / "paper" / "sources"
        lying = [*sorted(self.results.glob(f"*/paper/{SOURCES}")), *sorted(published.glob("*.json"))]
        files = self._sources or lying
        found: dict[str, Sources] = {}
        for file in files:
            if file.name != CLAIMS:
                sources = _json(file, "render the study again", lambda c: (c["study"], c["scale"], c["numbers"], c["behind"]))
                if sources["scale"] == self.scale:
                    found.setdefault(sources["study"], sources)
        if not found:
            raise ConfigError(
                f"{self.results}: nothing is printed at scale {self.scale}; run `snakemake paper/tables` at this scale, or "
                "give another one with --scale"
            )
        return found

    @property
    def claims(self) -> dict[str, dict[str, Any]]:
        """Claim -> what `assemble` says of it; none where no paper of this scale was assembled."""
        return {row["id"]: row for row in self._judged["claims"]}

    @property
    def failed_controls(self) -> list[str]:
        """Ids of the controls that do not hold."""
        return [failed["id"] for failed in self._judged["failed_controls"]]

    @functools.cached_property
    def _judged(self) -> dict[str, Any]:
        folders = self.results / "paper", self._root / "paper" / "sources"
        for file in (folder / CLAIMS for folder in folders):
            if file.is_file():
                found = _json(file, "assemble the paper again", lambda c: [row["verdict"] for row in c["claims"]])
                if found["scale"] == self.scale:
                    return dict(found)
        return {"claims": [], "failed_controls": []}

    def numbers(self) -> dict[str, tuple[str, str]]:
        """`study.name` -> (study, name)."""
        return {f"{study}.{name}": (study, name) for study, sources in self.studies.items() for name in sources["numbers"]}

    def printed(self, kind: str) -> dict[str, str]:
        """Name -> study, of `figures` or `tables`."""
        return {name: study for study, sources in self.studies.items() for name in sources[kind]}

    @functools.cache  # noqa: B019 - there is one paper a command
    def records(self, study: str, wanted: str) -> list[dict[str, Any]]:
        """The records of a study, which have to be those that it was printed from. wanted: their digest."""
        file = self.records_file(study)
        text = read_text(file, "restore it with git, or collect the study's records")
        if digest(text) != wanted:
            raise ConfigError(f"{file}: these are not the records that were printed; render the study again")
        return [json.loads(line) for line in text.split("\n") if line]

    @functools.cache  # noqa: B019
    def placed(self, study: str) -> list[tuple[dict[str, Any], tuple[int, int]]]:
        """The records that a study was printed from, those that it reads among them, each with the numbers of its run and its
        kind in the study's sources.json."""
        sources = self.studies[study]
        runs = {(one["study"], one["run"]): number for number, one in enumerate(sources["runs"])}
        kinds = {_kind(one["study"], one): number for number, one in enumerate(sources["kinds"])}
        return [
            (record, (runs[read, record["run"]], kinds[_kind(read, record)]))
            for read in dict.fromkeys(one["study"] for one in sources["runs"])
            for record in self.records(read, sources["records"][read])
        ]

    @functools.cache  # noqa: B019
    def origins(self, study: str) -> dict[str, Any]:
        """Run -> where its records come from; none where that was not kept."""
        file = origins_file(self.records_file(study))
        return read_origins(file) if file.is_file() else {}

    def records_file(self, study: str) -> Path:
        return self._root / "results" / "records" / self.scale / f"{study}.jsonl.gz"


def stood_on(run: Mapping[str, Any]) -> dict[str, Any]:
    """What the training of a run stood on, else its first stage: commit, device, versions; empty where that was not kept."""
    stages: Mapping[str, dict[str, Any]] = run.get("stages") or {}
    return stages.get(TRAIN) or next(iter(stages.values()), {})


def _kind(study: str, of: dict[str, Any]) -> tuple[Any, ...]:
    return study, of["part"], of["metric"], tuple(sorted((key, _text(value)) for key, value in of["slice"].items()))


def _text(value: Any) -> str:
    """A number that is whole is told in either way."""
    return str(float(value)) if isinstance(value, int | float) else str(value)


def _json(file: Path, remedy: str, check: Callable[[Any], object]) -> Any:
    try:
        found = json.loads(read_text(file))
        check(found)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{file}: not what was printed, it was damaged or edited; {remedy}") from None
    return found
