"""What of a study's results this checkout would make again as they are.

The files that the plan writes travel with the results: an output is current where those that it depends on are the plan's.
"""

from __future__ import annotations

import functools
from pathlib import Path

from ripstop.origins import origins_file
from ripstop.plan import Plan


class Restored:
    """The results of one study, as they lie there.

    current: paths that Snakemake may take for current. stale: those that it may not. drawn: whether all is, paper included.
    """

    def __init__(self, grid: Plan, name: str):
        self.name, self._grid, self._jobs = name, grid, grid.runs[name]
        self._trained, self._measured = functools.cache(self._is_trained), functools.cache(self._is_measured)
        home, told = grid.folder() / name, {}
        for choice in grid.choices[name]:
            told[home / f"choices/{choice}.json"] = self._is_chosen(choice)
        for run, job in self._jobs.items():
            if job.trains:
                told[home / f"runs/{run}/model.safetensors"] = self._trained(run)
            told |= {home / f"runs/{run}/parts/{part}": self._measured(run, part) for part in job.parts}
        self.current = [str(path) for path, fine in told.items() if fine]
        self.stale = [str(path) for path, fine in told.items() if not fine]
        kept = [Path("results/metrics") / grid.scale / f"{name}{suffix}" for suffix in (".json", ".csv")]
        kept += [Path("results/records") / grid.scale / f"{one}.jsonl.gz" for one in (name, *grid.reads[name])]
        kept.append(origins_file(Path("results/records") / grid.scale / f"{name}.jsonl.gz"))
        self.drawn = not self.stale and self._planned("paper.code") and all(p.exists() for p in [*kept, home / "paper"])

    def _planned(self, *names: str, data: str = "") -> bool:
        """Whether the plan's files `names` of the study, or of its data, are those that lie there."""
        wanted = [f"data/{data}/{name}" if data else f"{self.name}/{name}" for name in names]
        return all(_text(self._grid.folder() / name) == self._grid.files[name] for name in wanted if name in self._grid.files)

    def _is_trained(self, run: str) -> bool:
        job, home = self._jobs[run], f"runs/{run}"
        made = [f"data/{job.data}/data.json"]
        made += [f"{self.name}/{home}/{file}" for file in ("model.safetensors", "training.json") if job.trains]
        return (
            all((self._grid.folder() / name).is_file() for name in made)
            and self._planned("config.yaml", "prepare.code", "local.json", data=job.data)
            and self._planned(f"{home}/config.yaml", *([f"{home}/train.code"] if job.trains else []))
            and (not job.choice or self._is_chosen(job.choice))
        )

    def _is_chosen(self, choice: str) -> bool:
        file = self._grid.folder() / self.name / f"choices/{choice}.json"
        return (
            file.is_file() and self._planned("choose.code") and all(map(self._trained, self._grid.choices[self.name][choice]))
        )

    def _is_measured(self, run: str, part: str) -> bool:
        home = f"runs/{run}"
        read = [path.split("/parts/") for path in self._jobs[run].parts[part].reads]
        return (
            (self._grid.folder() / self.name / home / "parts" / part).is_dir()
            and self._planned(f"{home}/{part}.yaml", f"{home}/{part}.code")
            and self._trained(run)
            and all(self._measured(*one) for one in read)
        )


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
