"""The rendered studies of one scale become one paper: its numbers, claims, appendix, tables and figures in one folder."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path

from ripstop import provenance
from ripstop.accepted import Accepted
from ripstop.claims import registry
from ripstop.claims.printing import claims_json, claims_tex
from ripstop.claims.recorded import recorded_verdicts, settled
from ripstop.claims.registration import Evidence
from ripstop.claims.verdicts import Judged, registered, verdicts
from ripstop.config import ConfigError
from ripstop.files import read_text, replacing, write_text
from ripstop.paper.appendix import appendix_tex
from ripstop.paper.numbers import (
    FILE,
    SECTIONS,
    StudyNumbers,
    by_study,
    check_tex,
    metric_values,
    numbers_tex,
    read_studies,
    uncommented,
    without_others,
)
from ripstop.paper.sources import FILE as SOURCES_FILE
from ripstop.paper.sources import FOLDER as SOURCES
from ripstop.paper.tables import table_files
from ripstop.release.released import drawn_at
from ripstop.why.paper import Paper

CONTENTS = "contents.json"
"""Lists what `assemble` made, or `publish` copied, with digests: that alone is published, and that alone may be removed."""
PARTS = ("numbers.tex", "claims.tex", "claims.json", "appendix.tex")
"""What `generated` makes."""
CLAIMS_TABLE = "tables/claims.tex"
CLAIMS_SOURCE = f"{SOURCES}/claims.json"
PDF = "main.pdf"


def assemble(
    folders: Sequence[Path], scale: str, out: Path, text: Path, scales: Collection[str], root: Path = Path()
) -> list[str]:
    """Write what the paper of `scale` needs besides its text below `out`; the files written, relative to it.

    folders: where the studies were rendered, in the order of the paper's sections.
    text: the folder of the paper's own main.tex, sections/ and claims.yaml. A number, figure or table that the text names
        and that does not exist is an error; so is a study without its section.
    scales: every scale there is, for the claims.
    root: of the checkout, whose results/records say where the runs come from.
    """
    studies = read_studies([folder / FILE for folder in folders], scale)
    _check_text(text, studies)
    judged = judge_all(studies, text / "claims.yaml", scale, scales)
    copies = _copies(folders, studies)
    sources = Paper(scale, root, [folder / SOURCES_FILE for folder in folders])
    texts = generated(studies, judged, sources, text)
    contents = [*texts, *copies]
    for name in set(_contents(out)) - set(contents):
        (out / name).unlink(missing_ok=True)
    for name, content in texts.items():
        write_text(out / name, content)
    for name, file in copies.items():
        _copy(file, out / name)
    _write_contents(out, scale, contents, commit=provenance.commit())
    return contents


def generated(studies: Sequence[StudyNumbers], judged: Sequence[Judged], sources: Paper, text: Path) -> dict[str, str]:
    """File name -> text of what stands beside tables and figures.

    sources: what is behind the numbers of these studies. text: the folder of main.tex and sections/.
    """
    scale, names = sources.scale, [study.study for study in studies]
    said = {str(path.relative_to(text)): without_others(uncommented(path), names) for path in _texts(text, studies)}
    return {
        "numbers.tex": numbers_tex(studies, _provenance(studies, scale)),
        "claims.tex": claims_tex(judged, scale, by_study(studies)),
        "claims.json": claims_json(judged, scale, {study.study: study.commits for study in studies}),
        "appendix.tex": appendix_tex(sources, judged, said),
    }


def judge_all(studies: Sequence[StudyNumbers], claims: Path, scale: str, scales: Collection[str]) -> list[Judged]:
    """Every claim with its verdict and what git says of its criterion."""
    found = verdicts(registry.load(claims, scales), by_study(studies), scale)
    evidence = {study.study: Evidence(metric_values(study.numbers), study.commits) for study in studies}
    judged = registered(found, claims, scale, evidence)
    if drawn_at(claims.parents[1]):
        judged, _ = settled(judged, recorded_verdicts(claims.with_name("verdicts.json"), scale))
    return judged


def publish(assembled: Path, out: Path) -> list[str]:
    """Copy what a reader of `out` (paper/) sees: tables with that of the claims, figures, what is behind them and behind the
    numbers, and the PDF where there is one.

    Their digests stand in `contents.json`. Returns a sentence for each file in their folders that was
    not among them; they stay.
    """
    contents = _contents(assembled)
    if not contents:
        raise ConfigError(f"{assembled / CONTENTS}: no such file, or it is damaged; `python -m ripstop assemble` writes it")
    copies = {name: assembled / name for name in contents if name not in PARTS}
    copies[CLAIMS_TABLE] = assembled / "claims.tex"
    copies[CLAIMS_SOURCE] = assembled / "claims.json"
    if (assembled / PDF).is_file():
        copies[PDF] = assembled / PDF
    for name, file in copies.items():
        _copy(file, out / name)
    _write_contents(out, json.loads(read_text(assembled / CONTENTS))["scale"], list(copies))
    lying = [path for folder in ("tables", "figures", SOURCES) for path in sorted((out / folder).glob("[!.]*"))]
    strangers = [path for path in lying if str(path.relative_to(out)) not in copies]
    return [f"{path} is not of this paper; delete it if it is an old one" for path in strangers]


def _check_text(text: Path, studies: Sequence[StudyNumbers]) -> None:
    texts = _texts(text, studies)
    for path in texts:
        if not path.is_file():
            raise ConfigError(f"{path}: no such file; the paper needs it: add it, or restore it with git")
    complaints = check_tex(texts, studies)
    if complaints:
        raise ConfigError("; ".join(complaints))


def _texts(text: Path, studies: Sequence[StudyNumbers]) -> list[Path]:
    """The files of the paper's text, those of studies that are not in it left out."""
    return [text / "main.tex", *(text / SECTIONS / f"{study.study}.tex" for study in studies)]


def _copies(folders: Sequence[Path], studies: Sequence[StudyNumbers]) -> dict[str, Path]:
    """Name below the paper's folder -> the file of a study that goes there."""
    found: dict[str, Path] = {}
    for folder, study in zip(folders, studies, strict=True):
        names = [*table_files(study.tables), *(f"figures/{figure}.pdf" for figure in study.figures)]
        for name, file in [*zip(names, names, strict=True), (f"{SOURCES}/{study.study}.json", SOURCES_FILE)]:
            if name in found or name == CLAIMS_TABLE:
                raise ConfigError(f"{folder / name}: another study has a file of that name; rename one")
            if not (folder / file).is_file():
                raise ConfigError(f"{folder / file}: no such file, though {folder / FILE} lists it; render {study.study} again")
            found[name] = folder / file
    return found


def _provenance(studies: Sequence[StudyNumbers], scale: str) -> list[tuple[str, str]]:
    return [
        ("Scale", scale),
        ("Runs", ", ".join(f"{s.study} {s.n_runs}" for s in studies)),
        ("Devices", ", ".join(sorted({device for s in studies for device in s.devices}))),
        ("Commit", provenance.commit()),
        ("Versions", ", ".join(f"{name} {version}" for name, version in provenance.versions().items())),
        *(("Accepted", sentence) for sentence in Accepted.read().sentences(scale)),
    ]


def _contents(folder: Path) -> list[str]:
    """What an earlier `assemble` wrote there; nothing where that cannot be told, or where a name leads elsewhere."""
    try:
        names = json.loads(read_text(folder / CONTENTS))["files"]
        inside = [name for name in names if not Path(name).is_absolute() and ".." not in Path(name).parts]
    except (ConfigError, ValueError, TypeError, KeyError):
        return []
    return inside if len(inside) == len(names) else []


def _write_contents(folder: Path, scale: str, names: Sequence[str], **more: str) -> None:
    files = {name: provenance.file_sha256(folder / name) for name in names}
    write_text(folder / CONTENTS, json.dumps({"scale": scale, **more, "files": files}, indent=1) + "\n")


def _copy(file: Path, target: Path) -> None:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}; assemble the paper again") from None
    with replacing(target) as temporary:
        temporary.write_bytes(content)
