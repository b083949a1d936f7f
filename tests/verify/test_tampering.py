"""Every way of tampering that we could think of is named, with its file, key and both values."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from verify import tree

from ripstop.files import read_text, write_text
from ripstop.provenance import file_sha256
from ripstop.verify.verify import verify

Tamper = Callable[[Path], None]
RUN = "results/cpu/tide/runs/arm-mamba2_seed-0"
OTHER = "results/cpu/tide/runs/arm-mamba2_seed-1"
RECORDS = "results/records/cpu/tide.jsonl.gz"
ORIGINS = "results/records/cpu/tide.runs.json"


def text(file: str, old: str, new: str, count: int = 1) -> Tamper:
    """Replaces `old`, which has to be there."""

    def change(root: Path) -> None:
        content = read_text(root / file)
        assert old in content, content
        write_text(root / file, content.replace(old, new, count))

    return change


def values(file: str, *path: str | int, to: object) -> Tamper:
    """Sets a value of a JSON file."""

    def change(root: Path) -> None:
        content = json.loads((root / file).read_text())
        holder = content
        for key in path[:-1]:
            holder = holder[key]
        assert holder[path[-1]] != to
        holder[path[-1]] = to
        (root / file).write_text(json.dumps(content, indent=1) + "\n")

    return change


def claim(name: str, **changes: object) -> Tamper:
    """Changes keys of a claim in the registry."""

    def change(root: Path) -> None:
        file = root / "paper/claims.yaml"
        claims = yaml.safe_load(file.read_text())["claims"]
        (found,) = (c for c in claims if c["id"] == name)
        found |= changes
        tree.write_claims(root, claims)

    return change


def copy(source: str, target: str) -> Tamper:
    return lambda root: shutil.copy(root / source, root / target) and None


def all_of(*tampers: Tamper) -> Tamper:
    def change(root: Path) -> None:
        for tamper in tampers:
            tamper(root)

    return change


def lines(file: str, change_lines: Callable[[list[str]], list[str]]) -> Tamper:
    return lambda root: write_text(root / file, "".join(change_lines(read_text(root / file).splitlines(True))))


def drop_claim(root: Path) -> None:
    tree.write_claims(root, [c for c in tree.CLAIMS if c["id"] != "mamba2_recalls"])


def drop_claim_and_its_record(root: Path) -> None:
    drop_claim(root)
    file = root / "paper/verdicts.json"
    content = json.loads(file.read_text())
    del content["cpu"]["mamba2_recalls"]
    file.write_text(json.dumps(content))


def add_claim(root: Path) -> None:
    tree.write_claims(root, [*tree.CLAIMS, tree.claim("late", "tide.recall_mamba2", above=0.4)])


def drop_a_seed(root: Path) -> None:
    shutil.rmtree(root / OTHER)
    lines(RECORDS, lambda found: [line for line in found if "arm-mamba2_seed-1" not in line])(root)


def value_of_another_seed(root: Path) -> None:
    file = root / RECORDS
    records = [json.loads(line) for line in read_text(file).splitlines()]
    own = {r["seed"]: r for r in records if r["factors"]["arm"] == "mamba2" and r["slice"]["control"] == "own"}
    own[1]["value"] = own[0]["value"]
    write_text(file, "".join(json.dumps(r) + "\n" for r in records))


def figure_with_its_digest(root: Path) -> None:
    copy("paper/figures/ebb.pdf", "paper/figures/tide.pdf")(root)
    values("paper/contents.json", "files", "figures/tide.pdf", to=file_sha256(root / "paper/figures/ebb.pdf"))(root)


VALUE = '"value":0.5,'
ROW = r"mamba2 & 0.505 {[}0.500, 0.510{]}"
TAMPERINGS: dict[str, tuple[Tamper, str]] = {
    # name: what is done, a sentence (of those) that names it
    "moved threshold": (
        claim("mamba2_recalls", criterion={"above": 0.4}),
        r"paper/verdicts.json: claim mamba2_recalls was recorded as refuted by another criterion .* digest \w+, that of .* \w+",
    ),
    "flipped direction": (
        claim("window_forgets", criterion={"above": 0.1}),
        "claim window_forgets was recorded as supported by another criterion than it has now",
    ),
    "another measure": (
        claim("mamba2_recalls", measure="tide.recall_attention"),
        "claim mamba2_recalls was recorded as refuted by another criterion than it has now",
    ),
    "removed needs": (
        claim("window_forgets", needs=[]),
        "claim window_forgets was recorded as supported by another criterion than it has now",
    ),
    "a control made a claim": (
        all_of(claim("wrong_gives_nothing", role="claim"), claim("tide_is_ebb", needs=[])),
        "claim wrong_gives_nothing was recorded as supported by another criterion than it has now",
    ),
    "reworded statement": (
        claim("mamba2_recalls", statement="Mamba-2 recalls nothing."),
        r"paper/tables/claims.tex: line \d+ reads 'Statement of mamba2.*', the numbers give 'Mamba-2 recalls nothing",
    ),
    "relabelled origin": (
        claim("mamba2_recalls", origin="Arora et al. 2024"),
        "results/cpu/paper/claims.json: claims.mamba2_recalls.origin is \"hypothesis\", the numbers give \"Arora et al. 2024\"",
    ),
    "dropped claim": (drop_claim, "claim mamba2_recalls was recorded as refuted and is no longer in the registry"),
    "dropped claim with its record": (
        drop_claim_and_its_record,
        r"paper/tables/claims.tex: line \d+ \(claims.total\) reads '.*\{3\}\{3\}', the numbers give '.*\{2\}\{2\}'",
    ),
    "claim added after the results": (
        add_claim,
        r"paper/verdicts.json: claim late is not recorded and is now supported: .* is 0.505 .*, the criterion is > 0.4",
    ),
    "edited record": (
        text(RECORDS, VALUE, '"value":0.95,'),
        f"{RECORDS}: accuracy of arm-mamba2_seed-0, part recall, where control is own: value is 0.95, the part has 0.5",
    ),
    "edited record of a part": (
        text(f"{RUN}/parts/recall/records.jsonl", VALUE, '"value":0.95,'),
        f"{RECORDS}: accuracy of arm-mamba2_seed-0, part recall, where control is own: value is 0.5, the part has 0.95",
    ),
    "record edited in both places": (
        all_of(*(text(file, VALUE, '"value":0.95,') for file in (RECORDS, f"{RUN}/parts/recall/records.jsonl"))),
        r"results/metrics/cpu/tide.json: recall_mamba2 is 0.505, the records give 0.73",
    ),
    "deleted record": (
        lines(RECORDS, lambda found: found[1:]),
        rf"{RECORDS}: accuracy of .* is missing, the part has",
    ),
    "duplicated record": (
        lines(RECORDS, lambda found: [*found, found[0]]),
        rf"{RECORDS}:13: accuracy of .* stands already in {RECORDS}:1",
    ),
    "deleted record of a part": (
        lines(f"{RUN}/parts/recall/records.jsonl", lambda found: found[:1]),
        f"{RUN}/parts/recall/records.jsonl: holds 1 records where another seed has 2",
    ),
    "record of another scale": (
        text(RECORDS, '"scale":"cpu"', '"scale":"h100"'),
        f"{RECORDS}: mixes the scales cpu, h100",
    ),
    "every record of another scale": (
        text(f"{RUN}/parts/recall/records.jsonl", '"scale":"cpu"', '"scale":"h100"', 9),
        f'{RUN}/parts/recall/records.jsonl: scale is "h100", the files of the run say "cpu"',
    ),
    "record of another study": (
        lines(RECORDS, lambda found: [found[0].replace('"study":"tide"', '"study":"ebb"'), *found[1:]]),
        f"{RECORDS}: holds records of ebb, not only of tide",
    ),
    "records of another study's run": (
        copy(f"{RUN.replace('tide', 'ebb')}/parts/recall/records.jsonl", f"{RUN}/parts/recall/records.jsonl"),
        f'{RUN}/parts/recall/records.jsonl: study is "ebb", the files of the run say "tide"',
    ),
    "another seed's records": (
        copy(f"{OTHER}/parts/recall/records.jsonl", f"{RUN}/parts/recall/records.jsonl"),
        f'{RUN}/parts/recall/records.jsonl: run is "arm-mamba2_seed-1", the files of the run say "arm-mamba2_seed-0"',
    ),
    "another seed's value": (
        value_of_another_seed,
        f"{RECORDS}: accuracy of arm-mamba2_seed-1, part recall, where control is own: value is 0.5, the part has 0.51",
    ),
    "dropped seed": (drop_a_seed, f"{RECORDS}: holds no record of the run arm-mamba2_seed-1, which the grid has"),
    "changed count of a record": (
        text(f"{RUN}/parts/recall/records.jsonl", '"n":10', '"n":10000', 9),
        f"{RECORDS}: .* n is 10, the part has 10000",
    ),
    "records of other code": (
        text(f"{RUN}/parts/recall/records.jsonl", '"code":"c0de2"', '"code":"beef"', 9),
        f'{RUN}/parts/recall/records.jsonl: code is "beef", the files of the run say "c0de2"',
    ),
    "replaced model": (
        copy(f"{OTHER}/model.safetensors", f"{RUN}/model.safetensors"),
        rf"{RUN}/model.safetensors: its SHA-256 is \w+, training.json says \w+",
    ),
    "replaced model and report": (
        all_of(
            copy(f"{OTHER}/model.safetensors", f"{RUN}/model.safetensors"),
            copy(f"{OTHER}/training.json", f"{RUN}/training.json"),
        ),
        rf'{RUN}/parts/recall/records.jsonl: model is "\w+", the files of the run say "\w+"',
    ),
    "edited outcome of a training": (
        values(f"{RUN}/training.json", "outcome", to="diverged"),
        f'{RUN}/training.json: outcome is "diverged", the run allows only "finished"',
    ),
    "edited commit of a training": (
        values(f"{RUN}/training.json", "commit", to="0123456789ab"),
        rf'{RUN}/parts/recall/records.jsonl: commit is "\w+", the files of the run say "0123456789ab"',
    ),
    "edited configuration of a run": (
        text(f"{RUN}/config.yaml", "seed: 0", "seed: 7"),
        rf"{RUN}/training.json: identity.configuration is \w+, that of the file beside it is \w+",
    ),
    "edited settings of a part": (
        text(f"{RUN}/recall.yaml", "recall", "recall_at_once"),
        rf'{RUN}/parts/recall/records.jsonl: config is "\w+", the files of the run say "\w+"',
    ),
    "other data": (
        text("results/cpu/data/d/data.json", "{}", "{ }"),
        rf"{RUN}/training.json: identity.data is \w+, that of the file beside it is \w+",
    ),
    "retyped number in the paper": (
        text("results/cpu/paper/numbers.tex", "{0.505}", "{0.905}"),
        r"results/cpu/paper/numbers.tex: line \d+ \(\w+.recall_mamba2\) reads '.*0.905.*', the numbers give '.*0.505",
    ),
    "retyped number in the appendix": (
        text("results/cpu/paper/appendix.tex", "0.505 {[}0.500", "0.905 {[}0.500"),
        r"results/cpu/paper/appendix.tex: line \d+ \(number.\w+.recall_mamba2\) reads '.*0.905.*', the numbers give '.*0.505",
    ),
    "fewer records behind a number in the appendix": (
        text("results/cpu/paper/appendix.tex", "; 2 records of 2 runs", "; 20 records of 2 runs"),
        r"results/cpu/paper/appendix.tex: line \d+ \(number.ebb.\w+\) reads '.*20 records.*', the numbers give '.*; 2 records",
    ),
    "an entry taken out of the appendix": (
        lines("results/cpu/paper/appendix.tex", lambda found: [line for line in found if "tide.recall_window}" not in line]),
        r"results/cpu/paper/appendix.tex: line \d+ .*the numbers give '.*number.tide.recall_window",
    ),
    "deleted appendix": (
        lambda root: (root / "results/cpu/paper/appendix.tex").unlink(),
        "results/cpu/paper/appendix.tex: no such file; assemble the paper again",
    ),
    "another commit of the runs in the appendix": (
        text("results/cpu/paper/appendix.tex", "runs; commit ", "runs; commit beef"),
        r"results/cpu/paper/appendix.tex: line \d+ reads '.*commit beef.*', the numbers give ",
    ),
    "retyped verdict in the paper": (
        text("results/cpu/paper/claims.tex", "& refuted", "& supported"),
        r"results/cpu/paper/claims.tex: line \d+ reads '.* supported .*', the numbers give '.* refuted",
    ),
    "retyped count of verdicts": (
        text("results/cpu/paper/claims.tex", "{claims.supported}{2}{2}", "{claims.supported}{3}{3}"),
        r"results/cpu/paper/claims.tex: line \d+ \(claims.supported\) reads '.*\{3\}\{3\}', the numbers give '.*\{2\}\{2\}'",
    ),
    "retyped verdict as published": (
        text("paper/tables/claims.tex", "& refuted", "& supported"),
        r"paper/tables/claims.tex: line \d+ reads '.* supported .*', the numbers give '.* refuted",
    ),
    "edited cell of a table": (
        text("paper/tables/tide.tex", ROW, ROW.replace("0.505", "0.905")),
        r"paper/tables/tide.tex: line \d+ reads 'mamba2 & 0.905.*', the records give 'mamba2 & 0.505",
    ),
    "edited cell of a printed table": (
        text("results/cpu/tide/paper/tables/tide.tex", ROW, ROW.replace("0.505", "0.905")),
        r"results/cpu/tide/paper/tables/tide.tex: line \d+ reads 'mamba2 & 0.905.*', the records give 'mamba2 & 0.505",
    ),
    "swapped interval": (
        values("results/cpu/tide/paper/numbers.json", "numbers", "recall_mamba2", "low", to=0.2),
        r"results/cpu/tide/paper/numbers.json: numbers.recall_mamba2.low is 0.2, the records give 0.5",
    ),
    "changed number of runs": (
        values("results/cpu/tide/paper/numbers.json", "numbers", "recall_mamba2", "n", to=20),
        r"results/cpu/tide/paper/numbers.json: numbers.recall_mamba2.n is 20, the records give 2",
    ),
    "changed unit": (
        values("results/cpu/tide/paper/numbers.json", "numbers", "recall_mamba2", "unit", to="points"),
        r'results/cpu/tide/paper/numbers.json: numbers.recall_mamba2.unit is "points", the records give "fraction"',
    ),
    "edited metrics": (
        values("results/metrics/cpu/tide.json", "recall_mamba2", to=0.905),
        r"results/metrics/cpu/tide.json: recall_mamba2 is 0.905, the records give 0.505",
    ),
    "edited curves": (
        text("results/metrics/cpu/tide.csv", "tide,2,0.505", "tide,2,0.905"),
        r"results/metrics/cpu/tide.csv: line \d+ reads 'tide,2,0.905,.*', the records give 'tide,2,0.505,",
    ),
    "deleted metrics": (
        lambda root: (root / "results/metrics/cpu/tide.json").unlink(),
        "results/metrics/cpu/tide.json: no such file; render tide again",
    ),
    "a run taken from behind a number": (
        text("results/cpu/tide/paper/sources.json", '"runs": [2, 3]', '"runs": [2]'),
        r"results/cpu/tide/paper/sources.json: behind.\d+.runs is \[2\], the records give \[2, 3\]",
    ),
    "another method of a number": (
        text("results/cpu/tide/paper/sources.json", "mean_interval: Mean over seeds", "fit: Fitted to all seeds"),
        r"results/cpu/tide/paper/sources.json: methods.\d+ is \"fit: Fitted to all seeds.*, the records give \"mean_interval",
    ),
    "another kind behind a number, as published": (
        text("paper/sources/tide.json", '{"control": "own"}', '{"control": "wrong"}'),
        r"paper/sources/tide.json: kinds.\d+.slice.control is \"wrong\", the records give \"own\"",
    ),
    "deleted sources": (
        lambda root: (root / "results/cpu/tide/paper/sources.json").unlink(),
        "results/cpu/tide/paper/sources.json: no such file; render tide again",
    ),
    "another configuration of a run": (
        text(ORIGINS, "arm-mamba2_seed-0/config.yaml", "arm-mamba2_seed-1/config.yaml"),
        rf"{ORIGINS}: runs.arm-mamba2_seed-0.config.path is .*seed-1/.*, the runs give .*seed-0/",
    ),
    "another commit of the runs": (
        lines(ORIGINS, lambda found: [re.sub(r'"commit": "\w+"', '"commit": "beef"', line) for line in found]),
        rf"{ORIGINS}: commit of \S+, part recall, is 'beef', its records say '\w+'",
    ),
    "other versions of the runs": (
        text(ORIGINS, '"device": "cpu"', '"device": "cpu", "versions": {"torch": "0.1"}'),
        rf"{ORIGINS}: stood_on.\d+.versions is .*, the runs give none",
    ),
    "deleted origins of the runs": (
        lambda root: (root / ORIGINS).unlink(),
        f"{ORIGINS}: no such file; `python -m ripstop collect` writes it",
    ),
    "edited recorded verdict": (
        values("paper/verdicts.json", "cpu", "mamba2_recalls", "verdict", to="supported"),
        "claim mamba2_recalls was recorded as supported and is now refuted: tide.recall_mamba2 is 0.505",
    ),
    "edited recorded number": (
        values("paper/verdicts.json", "cpu", "mamba2_recalls", "value", to=0.9),
        "paper/verdicts.json: mamba2_recalls.value is 0.9, the numbers give 0.505",
    ),
    "edited digest of a criterion": (
        values("paper/verdicts.json", "cpu", "mamba2_recalls", "criterion", to="0123456789abcdef"),
        r"claim mamba2_recalls was recorded as refuted by another criterion .* digest 0123456789abcdef, that of the registry",
    ),
    "removed digest of a criterion": (
        text("paper/verdicts.json", '"criterion": ', '"criterium": ', 99),
        r"paper/verdicts.json: mamba2_recalls.criterion is missing, the registry gives \w+",
    ),
    "edited registration": (
        values("paper/verdicts.json", "cpu", "mamba2_recalls", "registration", to="exploratory"),
        'mamba2_recalls.registration is "exploratory", the numbers give "registered"',
    ),
    "edited commits of a verdict": (
        values("paper/verdicts.json", "cpu", "mamba2_recalls", "commits", "tide", to=[]),
        r'mamba2_recalls.commits.tide is \[\], the numbers give \["',
    ),
    "edited claims.json": (
        text("results/cpu/paper/claims.json", '"verdict": "refuted"', '"verdict": "supported"'),
        'results/cpu/paper/claims.json: claims.mamba2_recalls.verdict is "supported", the numbers give "refuted"',
    ),
    "registration retyped in the paper": (
        text("results/cpu/paper/claims.tex", "registered", "exploratory", 99),
        r"results/cpu/paper/claims.tex: line \d+ .*reads '.*exploratory.*', the numbers give '.*registered",
    ),
    "another study's figure": (
        copy("paper/figures/ebb.pdf", "paper/figures/tide.pdf"),
        r"paper/figures/tide.pdf: its SHA-256 is \w+, the records give \w+",
    ),
    "another study's figure and its digest": (
        figure_with_its_digest,
        r"paper/figures/tide.pdf: its SHA-256 is \w+, the records give \w+",
    ),
    "another study's printed figure": (
        copy("results/cpu/ebb/paper/figures/ebb.pdf", "results/cpu/tide/paper/figures/tide.pdf"),
        r"results/cpu/tide/paper/figures/tide.pdf: its SHA-256 is \w+, the records give \w+",
    ),
    "deleted figure": (lambda root: (root / "paper/figures/tide.pdf").unlink(), "paper/figures/tide.pdf: no such file"),
    "deleted list of what is published": (
        lambda root: (root / "paper/contents.json").unlink(),
        "paper/contents.json: no such file, though there are tables",
    ),
}  # fmt: skip


def test_an_untouched_checkout_agrees(made: Path) -> None:
    status, said = tree.verified(made)
    assert status == 0 and said.endswith("everything that was checked agrees\n")
    assert tree.git(made, "status", "--porcelain") == ""
    assert len(TAMPERINGS) > 20


def test_a_closed_standard_output_costs_no_verdict(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert verify(tree.plan(), tree.SCALES, made / "paper/claims.yaml", made / "paper/verdicts.json", root=made) == 0


@pytest.mark.parametrize("name", TAMPERINGS)
def test_is_named(name: str, checkout: Path) -> None:
    tamper, sentence = TAMPERINGS[name]
    tamper(checkout)
    found = tree.mismatches(checkout)
    assert any(re.search(sentence, line) for line in found), "\n".join(found)


ON_A_CLONE: dict[str, str] = {
    name: TAMPERINGS[name][1]
    for name in (
        "edited curves", "edited metrics", "deleted metrics", "edited cell of a table",
        "another study's figure and its digest", "edited recorded number", "edited commits of a verdict",
        "duplicated record", "record of another scale", "record of another study",
    )
} | {
    "edited record": r"results/metrics/cpu/tide.json: recall_mamba2 is 0.505, the records give 0.73",
    "deleted record": r"results/metrics/cpu/tide.json: recall_attention is 0.975, the records give 0.98",
}  # fmt: skip
"""A tampering of what git keeps -> the sentence that names it where nothing else is there."""


def clone(made: Path, folder: Path) -> Path:
    tree.git(folder, "clone", "--quiet", str(made), "clone")
    return folder / "clone"


def test_a_fresh_clone_agrees(made: Path, tmp_path: Path) -> None:
    """All that is printed is printed again from the records in git, where nothing else is there."""
    status, said = tree.verified(clone(made, tmp_path))
    assert status == 0, said
    assert "tide: the runs are not here, so its records are taken as git has them" in said
    assert "registered" in said and "registration unknown" not in said and "held against metrics" not in said


@pytest.mark.parametrize("name", ON_A_CLONE)
def test_is_named_on_a_fresh_clone(name: str, made: Path, tmp_path: Path) -> None:
    root = clone(made, tmp_path)
    TAMPERINGS[name][0](root)
    found = tree.mismatches(root)
    assert any(re.search(ON_A_CLONE[name], line) for line in found), "\n".join(found)


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-9], lambda data: b"\x1f" + data, lambda data: data[:30] + b"?" + data[31:]]
)
def test_damaged_records_are_named(damage: Callable[[bytes], bytes], checkout: Path) -> None:
    (checkout / RECORDS).write_bytes(damage((checkout / RECORDS).read_bytes()))
    assert f"{RECORDS}: is damaged, or no gzip; restore it with git, or make it again" in tree.mismatches(checkout)


WITHOUT_RECORDS: dict[str, str] = {
    "moved threshold": "claim mamba2_recalls was recorded as refuted by another criterion",
    "removed needs": "claim window_forgets was recorded as supported by another criterion",
    "dropped claim": "claim mamba2_recalls was recorded as refuted and is no longer in the registry",
    "edited metrics": r"verdicts.json: mamba2_recalls.value is 0.505, results/metrics/cpu/tide.json has 0.905",
    "edited recorded verdict": "claim mamba2_recalls was recorded as supported and is now refuted",
    "edited recorded number": r"mamba2_recalls.value is 0.9, results/metrics/cpu/tide.json has 0.505",
    "edited digest of a criterion": "claim mamba2_recalls was recorded as refuted by another criterion",
    "edited registration": 'mamba2_recalls.registration is "exploratory", the numbers give "registered"',
    "retyped verdict as published": r"tables/claims.tex: line \d+ reads '.* supported .*', the numbers give '.* refuted",
    "edited cell of a table": r"paper/tables/tide.tex: its SHA-256 is \w+, contents.json says \w+",
    "another study's figure": r"paper/figures/tide.pdf: its SHA-256 is \w+, contents.json says \w+",
}
"""A tampering of a clone where git keeps no records yet -> the sentence that names it."""


def without_records(made: Path, folder: Path) -> Path:
    root = clone(made, folder)
    shutil.rmtree(root / "results/records")
    return root


def test_a_clone_without_records_agrees(made: Path, tmp_path: Path) -> None:
    status, said = tree.verified(without_records(made, tmp_path))
    assert status == 0, said
    assert f"{RECORDS}: not here, so the recorded verdicts of tide are held against metrics" in said
    assert "registered" in said and "registration unknown" not in said


@pytest.mark.parametrize("name", WITHOUT_RECORDS)
def test_is_named_without_records(name: str, made: Path, tmp_path: Path) -> None:
    root = without_records(made, tmp_path)
    TAMPERINGS[name][0](root)
    found = tree.mismatches(root)
    assert any(re.search(WITHOUT_RECORDS[name], line) for line in found), "\n".join(found)
