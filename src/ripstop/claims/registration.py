"""Registration that git proves: whether the criterion of a claim stood in a commit before the results that decided it.

A claim is *registered* where all of these hold, at the scale in question, for the digest of its present criterion
(id, role, measure, criterion, needs; the wording of the statement may improve):

* the commit at hand (HEAD) holds it in the registry of claims;
* every parent of the first commit that holds the deciding results holds it. A version of results/metrics/<scale>/<study>.json
  holds them where it agrees with the present one in every number that both have. Results that are not committed yet come
  after HEAD;
* every commit at which a run of its studies was made (`commit` of the records, which training.json says) is in the history
  of HEAD and holds it;
* the same is true of every control that it needs.

It is *exploratory* where one of the first three speaks against it, and its *registration is unknown* where git cannot be
asked: no repository, a shallow clone, a commit that is not in it, runs that do not know theirs.

Only the order of commits is used, never a date: git lets anyone write any date, but the digest of a commit covers those
before it. What this proves: whoever published the results had published, or at least committed, the criterion before. What
it cannot prove: that nobody looked at results before committing the criterion and made or committed them (again) later;
that `commit` in training.json is true; that the number of that name was computed in the same way then (the code of the
printers is in git too, for who wants to look); that history was not rewritten as a whole, unless someone else kept a copy.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ripstop.claims.registry import Claim, stood
from ripstop.release.released import drawn_at

Status = Literal["registered", "exploratory", "registration unknown"]
ORDER: tuple[Status, ...] = ("registered", "registration unknown", "exploratory")
"""From the best to the worst: a claim is no better than its controls."""
REVISION = re.compile(r"[0-9A-Za-z][\w./-]*")


@dataclass(frozen=True)
class Registration:
    """since: the first commit that held the criterion, "" where none does or git cannot be asked. reason: half a sentence."""

    status: Status
    reason: str
    since: str = ""


@dataclass(frozen=True)
class Evidence:
    """The results of a study. metrics: name -> value as results/metrics keeps them. commits: at which its runs were made."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    commits: Sequence[str] = ()


def register(
    claims: Sequence[Claim], measured: Iterable[str], registry: Path, scale: str, evidence: Mapping[str, Evidence]
) -> dict[str, Registration]:
    """What git says of each claim in `measured` (ids). evidence: study -> its results."""
    history = History(registry)
    alone = {claim.id: _alone(claim, history, scale, evidence) for claim in claims}
    found = {}
    for claim in (claim for claim in claims if claim.id in set(measured)):
        worst, of = alone[claim.id], ""
        for name in claim.needs:
            if ORDER.index(alone[name].status) > ORDER.index(worst.status):
                worst, of = alone[name], f"of its control {name}: "
        found[claim.id] = Registration(worst.status, of + worst.reason, alone[claim.id].since)
    return found


def _alone(claim: Claim, history: History, scale: str, evidence: Mapping[str, Evidence]) -> Registration:
    """Leaving aside the controls that the claim needs."""
    if history.unknown:
        return Registration("registration unknown", history.unknown)
    wanted = (claim.digest, scale)
    if wanted not in history.stood("HEAD"):
        return Registration("exploratory", "the criterion is not committed as it stands")
    since = history.since(*wanted)
    unknown = ""
    for study in claim.studies:
        results = evidence.get(study, Evidence())
        against, not_known = _of_study(study, results, wanted, history)
        if against:
            return Registration("exploratory", against, since)
        unknown = unknown or not_known
    if unknown:
        return Registration("registration unknown", unknown, since)
    return Registration("registered", f"the criterion stands since {since[:12]}, before the results", since)


def _of_study(study: str, results: Evidence, wanted: tuple[str, str], history: History) -> tuple[str, str]:
    """What speaks against a registration, and what is not known; half a sentence each, "" for nothing."""
    unknown = "" if results.commits else f"the records of {study} do not say at which commit its runs were made"
    for commit in results.commits:
        made = history.resolve(commit.removesuffix("-dirty"))
        if not made:
            unknown = f"a run of {study} was made at {commit or 'an unknown commit'}, which is not in the history at hand"
        elif wanted not in history.stood(made):
            return f"a run of {study} was made at {made[:12]}, where the criterion did not stand", ""
    published = history.first_with(f"results/metrics/{wanted[1]}/{study}.json", results.metrics)
    before = history.parents(published) if published else ["HEAD"]
    if not before or not all(wanted in history.stood(parent) for parent in before):
        return f"results of {study} stand since {published[:12]}, and the criterion in no commit before it", ""
    return "", unknown


class History:
    """What git knows of the files of one repository.

    unknown: why it cannot be asked, "" where it can.
    """

    def __init__(self, registry: Path):
        self._folder = registry.parent
        self._held: dict[str, set[tuple[str, str]]] = {}
        self.unknown = self._why_not()
        if not self.unknown:
            prefix = self._git("rev-parse", "--show-prefix").strip()
            log = self._git("log", "--topo-order", "--follow", "--format=%H", "--name-only", "--", registry.name)
            words = [line for line in log.split("\n") if line]
            self._versions = [(commit, name) for commit, name in zip(words[::2], words[1::2], strict=False)]
            self._names = list(dict.fromkeys([prefix + registry.name, *(name for _, name in self._versions)]))

    def stood(self, commit: str) -> set[tuple[str, str]]:
        """(digest, scale) of the criteria that the registry, under any name that it had, holds at a commit."""
        if commit not in self._held:
            texts = zip(self._names, self._contents([f"{commit}:{name}" for name in self._names]), strict=True)
            self._held[commit] = next((stood(text, f"{commit}:{name}") for name, text in texts if text), set())
        return self._held[commit]

    def since(self, digest: str, scale: str) -> str:
        """The first commit whose registry held the criterion."""
        return next((commit for commit, _ in reversed(self._versions) if (digest, scale) in self.stood(commit)), "")

    def parents(self, commit: str) -> list[str]:
        return self._git("rev-parse", f"{commit}^@").split()

    def resolve(self, revision: str) -> str:
        """The commit in the history of HEAD that is meant; "" where there is none."""
        if not REVISION.fullmatch(revision):
            return ""
        found = self._git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}").strip()
        return found if found and self._git("merge-base", found, "HEAD").strip() == found else ""

    def first_with(self, path: str, metrics: Mapping[str, float]) -> str:
        """The first commit in which the metrics at `path` agree with these wherever both have a number; "" for none."""
        commits = self._git("log", "--topo-order", "--reverse", "--format=%H", "--", f":(top){path}").split()
        for commit, text in zip(commits, self._contents([f"{commit}:{path}" for commit in commits]), strict=True):
            try:
                before = json.loads(text)
                both = before.keys() & metrics.keys()
            except (ValueError, AttributeError):
                continue
            if both and all(before[name] == metrics[name] for name in both):
                return commit
        return ""

    def _why_not(self) -> str:
        if drawn_at(self._folder.resolve().parent):
            return "a released archive has no history"
        try:
            asked = self._asked("rev-parse", "--is-inside-work-tree")
        except OSError:
            return "git is not installed"
        if asked.stdout.strip() != "true":
            said = " ".join(asked.stderr.split()).removeprefix("fatal: ")
            return f"git says: {said}" if said else "this is no work tree of git"
        if not self._git("rev-parse", "--verify", "--quiet", "HEAD").strip():
            return "the repository has no commit"
        if self._git("rev-parse", "--is-shallow-repository").strip() != "false":
            return "the clone is shallow; `git fetch --unshallow` gets its history"
        return ""

    def _git(self, *arguments: str) -> str:
        """Standard output; nothing where git refuses."""
        return self._asked(*arguments).stdout

    def _asked(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["git", "-C", str(self._folder), "-c", "core.quotePath=false", *arguments]
        return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", errors="replace")

    def _contents(self, objects: Sequence[str]) -> list[str]:
        """The texts of `commit:path`; "" where there is none. One process for all."""
        if not objects:
            return []
        command = ["git", "-C", str(self._folder), "cat-file", "--batch"]
        rest = subprocess.run(command, input="\n".join(objects).encode() + b"\n", capture_output=True).stdout
        texts = []
        for _ in objects:
            head, _, rest = rest.partition(b"\n")
            if head.endswith(b" missing") or b" blob " not in head:
                texts.append("")
                continue
            size = int(head.rsplit(b" ", 1)[1])
            texts.append(rest[:size].decode("utf-8", errors="replace"))
            rest = rest[size + 1 :]
        return texts
