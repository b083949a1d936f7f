"""Packages of introductions and trivia in the format of the real ones, small, in a cache of their own."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from ripstop.data import introductions, trivia


def wiki_wheel(path: Path, articles: Sequence[Mapping[str, Any]]) -> Path:
    rows = {a["title"]: {"topic": "", "description": "", **a} for a in articles}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(introductions.MEMBER, json.dumps(rows))
    return path


def trivia_archive(path: Path, lists: Mapping[str, Mapping[str, Any]]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name in trivia.LISTS:
            data = yaml.safe_dump(dict(lists.get(name, {})), sort_keys=False, allow_unicode=True).encode()
            member = tarfile.TarInfo(f"Red-Trivia-1.1.1/redbot/ext/trivia/lists/{name}.yaml")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


PLACES = ("north", "south", "east", "west")


def town(n: int) -> dict[str, str]:
    name = f"Town{chr(97 + n // 26)}{chr(97 + n % 26)}"
    size = f"It has a population of {1 + n},100."
    river = f"The river Amber flows through it to {'far ' * (n % 7)}Lake Blue."
    text = f"{name} is a town in the {PLACES[n % 4]}. {size} {river} Its bridge over the Amber was built in {1500 + n}."
    return {"title": name, "extract": text, "description": f"Town number {n}", "topic": "Geography"}


TOWNS = [town(n) for n in range(80)]


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with 80 towns, and one trivia question on Townaa, the first of them."""
    cache = tmp_path / "cache"
    cache.mkdir()
    monkeypatch.setenv("RIPSTOP_CACHE", str(cache))
    wheel = wiki_wheel(cache / "tiny-1.0-py3-none-any.whl", TOWNS)
    archive = trivia_archive(cache / "tiny-1.0.tar.gz", {"general": {"Where is Townaa?": ["In the North", "north"]}})
    for module, name, file in ((introductions, "WIKI", wheel), (trivia, "RED_TRIVIA", archive)):
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        tiny = type(getattr(module, name))("tiny", "1.0", file.name, digest, "public domain", "a test")
        monkeypatch.setattr(module, name, tiny)
    curated = tmp_path / "trivia.csv"
    curated.write_text("list,number,title\ngeneral,1,Townaa\n")
    monkeypatch.setattr(trivia, "CURATED", curated)
    return cache
