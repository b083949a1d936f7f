"""Small runs that share one job of a cluster: which trainings and parts of evaluations go together.

A job of a cluster costs its scheduler, and two starts of Snakemake, more than the smallest runs take. `resources.group` says
how many runs of a study share one, which does them one after another. No group waits for another one in a circle: there are
candidates for a choice; runs, with the parts of their evaluation that read no other part; and parts that read those.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ripstop.runs import Run

MOVES_NO_NUMBER = "says which jobs follow one another on one machine"


def job_groups(study: str, runs: Sequence[Run], reads: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """A run, for its training, or `<run>/parts/<part>` -> its group, of those that have no job of their own.

    reads: every part of the study -> those that it reads. A part that is measured alone on its machine is in no group.
    """
    alike: dict[tuple[str, str, int], list[list[str]]] = defaultdict(list)
    for run in runs:
        size = run.resources.group
        if size == 1 or run.n_processes > 1:
            continue
        parts = [f"{run.name}/parts/{name}" for name, part in run.evaluation.items() if not part.exclusive]
        first = [run.name, *(part for part in parts if not reads[part])]
        alike["candidates" if run.settings else "runs", run.data.id, size].append(first)
        for part in parts:
            if reads[part] and not any(reads[other] for other in reads[part]):
                alike["reading", run.data.id, size].append([part])
    groups: dict[str, str] = {}
    for (kind, data, size), members in alike.items():
        n_groups = math.ceil(len(members) / size)
        for number, member in enumerate(members):  # neighbours, which take alike long, into different ones
            groups |= dict.fromkeys(member, f"{study}-{kind}-{data}-{number % n_groups}")
    return groups
