"""The assembled paper, results/<scale>/paper, and what readers see of it, paper/, against what the numbers make of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from ripstop.claims.verdicts import Judged
from ripstop.files import read_text
from ripstop.paper.assemble import CLAIMS_TABLE, CONTENTS, PDF, generated
from ripstop.paper.numbers import StudyNumbers
from ripstop.provenance import file_sha256
from ripstop.verify.differences import file_differences, json_differences, text_differences
from ripstop.why.paper import Paper

GIVE = "the numbers give"
OF_THEIR_TIME = ("Commit & ", "Versions & ")
"""Rows that say where a paper was assembled: true then, and other ones now."""


def check_assembled(
    folder: Path, studies: Sequence[StudyNumbers], judged: Sequence[Judged], sources: Paper, paper: Path
) -> list[str]:
    """numbers.tex, claims.tex, claims.json and appendix.tex in `folder`.

    studies: in the order of the paper. sources: what is behind their numbers. paper: the folder of the paper's text.
    """
    told = []
    for name, text in generated(studies, judged, sources, paper).items():
        file = folder / name
        if not file.is_file():
            told.append(f"{file}: no such file; assemble the paper again")
        elif file.suffix == ".json":
            told += json_differences(file, text, GIVE, ("reason",))
        else:
            told += text_differences(file, text, GIVE, OF_THEIR_TIME)
    return told


def check_published(paper: Path, scale: str, claims_table: str, printed: Mapping[str, Path]) -> tuple[list[str], str]:
    """Mismatches in `paper`, and why it was not looked at, "" where it was.

    claims_table: text that the table of claims should have. printed: name below the folder -> a file printed again.
    """
    contents = paper / CONTENTS
    if not contents.is_file():
        if not (paper / "tables").is_dir():
            return [], f"nothing is published in {paper}"
        return [f"{contents}: no such file, though there are tables; `python -m ripstop publish` writes it"], ""
    try:
        listed = json.loads(read_text(contents))
        of, digests = str(listed["scale"]), {str(name): str(digest) for name, digest in listed["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return [f"{contents}: not a list of what was published; publish the paper again"], ""
    if of != scale:
        return [], f"{paper} shows scale {of}, which is verified with --scale {of}"
    told = text_differences(paper / CLAIMS_TABLE, claims_table, GIVE) if CLAIMS_TABLE in digests else []
    for name in printed:
        if name not in digests:
            told.append(f"{contents}: does not list {name}, which the studies have; publish the paper again")
    for name, digest in digests.items():
        file = paper / name
        if not file.is_file():
            if name != PDF:
                told.append(f"{file}: no such file, though {contents.name} lists it")
            continue
        before = len(told)
        if name in printed:
            compare = _told(file, read_text(printed[name])) if file.suffix in (".tex", ".json") else None
            told += file_differences(file, printed[name], "the records give") if compare is None else compare
        if len(told) == before and name != CLAIMS_TABLE and file_sha256(file) != digest:
            told.append(f"{file}: its SHA-256 is {file_sha256(file)[:16]}, {contents.name} says {digest[:16]}")
    return told, ""


def _told(file: Path, wanted: str) -> list[str]:
    return (json_differences if file.suffix == ".json" else text_differences)(file, wanted, "the records give")
