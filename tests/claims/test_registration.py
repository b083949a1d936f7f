"""What git proves of a criterion, in repositories made by hand."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from claims.made_up import claim

from ripstop.claims.registration import Evidence, Registration, register
from ripstop.claims.registry import Claim

STUDY = "mqar_cliff"
METRICS = {"recall_hybrid_max_pairs": 0.7, "chance": 0.1}


class Repository:
    """One file of claims, one of metrics, and the commits of both."""

    def __init__(self, root: Path):
        self.root, self.registry = root, root / "paper/claims.yaml"
        self.registry.parent.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *arguments: str) -> str:
        who = ["-c", "user.name=made up", "-c", "user.email=made@up", "-c", "commit.gpgsign=false"]
        command = ["git", *who, *arguments]
        return subprocess.run(command, cwd=self.root, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self, message: str = "x") -> str:
        self.git("add", "-A")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        return self.git("rev-parse", "--short=12", "HEAD")

    def claims(self, *claims: Claim) -> str:
        values = [c.model_dump(mode="json", exclude_none=True) for c in claims]
        self.registry.write_text(yaml.safe_dump({"claims": values}))
        return self.commit()

    def results(self, scale: str = "cpu", **metrics: float) -> str:
        path = self.root / f"results/metrics/{scale}/{STUDY}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(METRICS | metrics))
        return self.commit()

    def ask(self, *claims: Claim, commits: Any = (), scale: str = "cpu", **metrics: float) -> Registration:
        """Of the last claim."""
        evidence = {STUDY: Evidence(METRICS | metrics, commits)}
        return register(claims, [claims[-1].id], self.registry, scale, evidence)[claims[-1].id]


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository")


A = claim("a", above=0.5)
MOVED = claim("a", above=0.4)


def test_registered_where_the_criterion_came_before_runs_and_results(repository):
    first = repository.claims(A)
    made = repository.commit("code")
    assert repository.ask(A, commits=[made]).status == "registered", "before the results are committed"
    repository.results()
    found = repository.ask(A, commits=[made])
    assert (found.status, found.since[:12]) == ("registered", first)
    assert found.reason == f"the criterion stands since {first}, before the results"
    assert repository.ask(A, commits=[f"{made}-dirty"]).status == "registered"
    assert repository.ask(A.replace(statement="Better said."), commits=[made]).status == "registered"
    repository.claims(A, claim("later"))
    assert repository.ask(A, commits=[made]).status == "registered", "another claim moves nothing"


def test_a_moved_criterion_is_exploratory(repository):
    repository.claims(A)
    made = repository.commit("code")
    published = repository.results()
    repository.claims(MOVED)
    assert repository.ask(MOVED, commits=[made]).status == "exploratory"
    later = repository.commit("code again")
    found = repository.ask(MOVED, commits=[later])
    assert found.reason == f"results of mqar_cliff stand since {published}, and the criterion in no commit before it"


def test_a_criterion_that_was_moved_and_moved_back_is_exploratory_for_what_was_made_between(repository):
    """The criterion has to stand where the run was made; that it once stood is not enough."""
    repository.claims(A)
    repository.claims(MOVED)
    made = repository.commit("code")
    repository.claims(A)
    found = repository.ask(A, commits=[made])
    assert (found.status, found.reason) == (
        "exploratory",
        f"a run of mqar_cliff was made at {made}, where the criterion did not stand",
    )


def test_a_new_number_in_the_metrics_makes_no_new_results(repository):
    """Else a criterion could be moved after the results, and registered by touching the file of metrics."""
    repository.claims(A)
    published = repository.results()
    repository.claims(MOVED)
    repository.results(capacity_mamba2=3.0)
    found = repository.ask(MOVED, commits=[repository.commit("code")], capacity_mamba2=3.0)
    assert found.status == "exploratory" and published in found.reason


def test_new_runs_decide_anew(repository):
    repository.claims(A)
    repository.results()
    repository.claims(MOVED)
    made = repository.commit("code")
    repository.results(recall_hybrid_max_pairs=0.8)
    found = repository.ask(MOVED, commits=[made], recall_hybrid_max_pairs=0.8)
    assert found.status == "registered"
    old = repository.git("rev-parse", "HEAD~4")
    assert repository.ask(MOVED, commits=[made, old], recall_hybrid_max_pairs=0.8).status == "exploratory", (
        "an old seed is in it"
    )


def test_criterion_and_results_in_one_commit_are_exploratory(repository):
    repository.registry.write_text(yaml.safe_dump({"claims": [A.model_dump(mode="json", exclude_none=True)]}))
    published = repository.results()
    found = repository.ask(A, commits=[published])
    assert (found.status, published in found.reason) == ("exploratory", True)


@pytest.mark.parametrize("committed", [False, True])
def test_a_criterion_that_is_not_committed_is_exploratory(committed, repository):
    made = repository.claims(claim("other"), *([A] if committed else []))
    repository.registry.write_text(yaml.safe_dump({"claims": [MOVED.model_dump(mode="json", exclude_none=True)]}))
    found = repository.ask(MOVED, commits=[made])
    assert (found.status, found.reason) == ("exploratory", "the criterion is not committed as it stands")


def test_a_scale_is_registered_by_itself(repository):
    repository.claims(A)
    made = repository.commit("code")
    repository.results()
    both = A.replace(scales=["cpu", "h100"])
    repository.claims(both)
    assert repository.ask(both, commits=[made]).status == "registered"
    assert repository.ask(both, commits=[made], scale="h100").status == "exploratory"
    assert repository.ask(both, commits=[repository.commit("code")], scale="h100").status == "registered"


def test_a_claim_is_no_better_than_its_controls(repository):
    control, needs = claim("c", role="control", above=0.9), claim("a", needs=("c",))
    repository.claims(control, needs)
    made = repository.commit("code")
    assert repository.ask(control, needs, commits=[made]).status == "registered"
    loose = claim("c", role="control", above=0.1)
    repository.claims(loose, needs)
    found = repository.ask(loose, needs, commits=[made])
    assert found.status == "exploratory" and found.reason.startswith("of its control c: a run of mqar_cliff was made at")


@pytest.mark.parametrize("unknown", ["", "unknown", "0123456789ab", "--all", "HEAD;x", "main:paper"])
def test_runs_that_do_not_know_their_commit_leave_it_unknown(unknown, repository):
    made = repository.claims(A)
    found = repository.ask(A, commits=[made, unknown])
    assert found.status == "registration unknown"
    assert (
        found.reason == f"a run of mqar_cliff was made at {unknown or 'an unknown commit'}, which is not in the history at hand"
    )
    assert repository.ask(A).reason == "the records of mqar_cliff do not say at which commit its runs were made"


def test_a_commit_of_another_branch_is_not_in_the_history(repository):
    repository.claims(A)
    repository.git("checkout", "--quiet", "-b", "side")
    side = repository.commit("side")
    repository.git("checkout", "--quiet", "main")
    repository.commit("main")
    assert repository.ask(A, commits=[side]).status == "registration unknown"
    repository.git("merge", "--quiet", "--no-edit", "side")
    assert repository.ask(A, commits=[side]).status == "registered"


def test_a_registry_that_was_renamed_keeps_its_history(repository):
    first = repository.claims(A)
    made = repository.commit("code")
    repository.git("mv", "paper/claims.yaml", "paper/registry.yaml")
    repository.commit("renamed")
    repository.registry = repository.root / "paper/registry.yaml"
    found = repository.ask(A, commits=[made])
    assert (found.status, found.since[:12]) == ("registered", first)


def test_old_and_broken_versions_of_the_registry_are_passed_over(repository):
    for text in ("claims: [", "claims:\n- {id: a, number: x}\n", "\x00", ""):
        repository.registry.write_text(text)
        repository.commit("old")
    made = repository.claims(A)
    assert repository.ask(A, commits=[made]).status == "registered"


def test_what_git_itself_refuses_is_told_in_its_words(repository, monkeypatch):
    """As in a container, whose user does not own the checkout that is mounted."""
    repository.claims(A)
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    found = repository.ask(A)
    assert found.status == "registration unknown" and "\n" not in found.reason
    assert "dubious ownership" in found.reason and "git config --global --add safe.directory" in found.reason


def test_where_git_cannot_be_asked_it_says_why(repository, tmp_path, monkeypatch):
    repository.registry.write_text("claims: []")
    assert repository.ask(A).reason == "the repository has no commit"
    repository.claims(A)
    made = repository.commit("code")
    subprocess.run(["git", "clone", "--quiet", "--depth=1", f"file://{repository.root}", str(tmp_path / "shallow")], check=True)
    repository.registry = tmp_path / "shallow/paper/claims.yaml"
    found = repository.ask(A, commits=[made])
    assert found == Registration("registration unknown", "the clone is shallow; `git fetch --unshallow` gets its history")
    repository.registry = tmp_path / "claims.yaml"
    assert repository.ask(A).reason.startswith("git says: not a git repository")
    monkeypatch.setenv("PATH", "")
    assert repository.ask(A) == Registration("registration unknown", "git is not installed")
