"""COMET: a learned metric of translations (Rei et al. 2020, 2022), in an environment of its own (envs/comet).

A learned number is worth what its checks say. A translation that equals its reference has to score highest at every length,
above what was translated and above another segment's reference, else the score is recorded as not valid; and segments that
the encoder cuts off are counted. Where the package or the model cannot be had, what is recorded is why, and no number.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from ripstop.config import NAME, ConfigError
from ripstop.data.base import file_digest, one_line
from ripstop.evaluation.base import Subject
from ripstop.evaluation.corpus_scores import length_bucket
from ripstop.evaluation.derived import DerivedConfig, left_at, place
from ripstop.evaluation.translated import TRANSLATIONS, Translation, read_translations
from ripstop.records import Measurement, Scalar

if TYPE_CHECKING:
    from ripstop.runs import Run

PACKAGE = "unbabel-comet"
CHECKPOINT = Path("checkpoints/model.ckpt")
ROUNDING = 1e-5
"""By how much the score of one text may differ between two batches."""


class CometConfig(DerivedConfig):
    """model: a local path, which begins with /, ./, ../ or ~, to a checkpoint or its folder, or a name on the hub."""

    kind: Literal["comet"] = "comet"
    model: str = Field("Unbabel/wmt22-comet-da", min_length=1)
    translation: str = Field("translation", pattern=rf"^{NAME.pattern}$", description="the part whose translations are read")
    batch_size: int = Field(16, ge=1)
    environment: ClassVar[str] = "comet"

    def reads(self, run: Run) -> list[str]:
        return [place(run, self.translation)]

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        translations = read_translations(left_at(subject, place(subject.run, self.translation)) / TRANSLATIONS)
        try:
            checkpoint = _checkpoint(self.model)
            metric = _loaded(checkpoint)
        except _AbsentError as absent:
            print(f"COMET is not run: {absent}", flush=True)
            yield Measurement("comet_not_run", 1, "count", len(translations), {"why": str(absent)})
            return
        known: dict[str, Scalar] = {"comet_model": _name(self.model), "comet_version": version(PACKAGE)}
        known["comet_sha256"] = file_digest(checkpoint)[:16]
        n_truncated = sum(is_truncated(metric, translation) for translation in translations)
        print(f"{n_truncated} of {len(translations)} segments were truncated by COMET's encoder", flush=True)
        yield Measurement("comet_truncated", n_truncated, "count", len(translations), known)
        gpus = int(subject.device.type == "cuda")
        yield from judged(translations, score(metric, translations, self.batch_size, gpus), known)


class _AbsentError(Exception):
    """What COMET needs and is not there."""


def score(metric: Any, translations: Sequence[Translation], batch_size: int, gpus: int) -> dict[str, list[float]]:
    """The score of each segment, of what was translated ("own"), of its reference ("identity") and of the next segment's
    reference ("wrong")."""
    after = [*translations[1:], *translations[:1]]
    texts = {
        "own": [t.hypothesis for t in translations],
        "identity": [t.reference for t in translations],
        "wrong": [t.reference for t in after],
    }
    samples = [
        {"src": t.source, "mt": text, "ref": t.reference}
        for written in texts.values()
        for t, text in zip(translations, written, strict=True)
    ]
    scores = metric.predict(samples, batch_size=batch_size, gpus=gpus, progress_bar=False, num_workers=0)["scores"]
    n = len(translations)
    return {name: [float(s) for s in scores[i * n : (i + 1) * n]] for i, name in enumerate(texts)}


def judged(
    translations: Sequence[Translation], scores: Mapping[str, Sequence[float]], known: Mapping[str, Scalar]
) -> Iterator[Measurement]:
    """The mean score, those of each bucket of source length, and whether identity scores highest in each."""
    n = len(translations)
    yield Measurement("comet", sum(scores["own"]) / n, "score", n, dict(known))
    buckets: dict[str, list[int]] = {}
    for i in sorted(range(n), key=lambda i: len(translations[i].source.split())):
        buckets.setdefault(length_bucket(len(translations[i].source.split())), []).append(i)
    valid = True
    for bucket, places in buckets.items():
        mean = {name: sum(values[i] for i in places) / len(places) for name, values in scores.items()}
        for name, metric in (("own", "comet_by_length"), ("identity", "comet_identity"), ("wrong", "comet_wrong")):
            yield Measurement(metric, mean[name], "score", len(places), {**known, "source_words": bucket})
        valid &= mean["identity"] >= mean["own"] - ROUNDING
        if any(translations[i].reference != translations[(i + 1) % n].reference for i in places):
            valid &= mean["identity"] > mean["wrong"] + ROUNDING
    yield Measurement("comet_valid", int(valid), "count", n, dict(known))


def is_truncated(metric: Any, translation: Translation) -> bool:
    """Whether the encoder cuts off one of the three texts: it reads `max_positions - 2` tokens of each."""
    texts = [translation.source, translation.hypothesis, translation.reference]
    return any(len(ids) > metric.encoder.max_positions - 2 for ids in metric.encoder.tokenizer(texts)["input_ids"])


def _checkpoint(model: str) -> Path:
    """The file of the model, fetched from the hub where it is a name there."""
    if importlib.util.find_spec("comet") is None:
        raise _AbsentError(f"{PACKAGE} is not installed")
    if _is_path(model):
        path = Path(model).expanduser()
        found = path / CHECKPOINT if path.is_dir() else path
        if not found.is_file():
            raise _AbsentError(f"there is no model at {model}")
        return found
    import comet

    try:
        return Path(comet.download_model(model))
    except Exception as error:  # whatever a hub, a network and two download routines raise
        raise _AbsentError(f"the model {model} cannot be fetched ({_first_words(error)})") from None


def _loaded(checkpoint: Path) -> Any:
    import comet

    try:
        metric = comet.load_from_checkpoint(str(checkpoint))
    except OSError as error:  # its encoder's tokenizer and configuration are apart from it
        raise _AbsentError(f"the encoder of {checkpoint.name} cannot be fetched ({_first_words(error)})") from None
    except Exception as error:  # a pickle of any class that is none
        raise ConfigError(f"{checkpoint}: not a checkpoint of COMET ({one_line(error)}); name another model") from None
    if not metric.requires_references():
        raise ConfigError(f"{checkpoint}: reads no references, so its scores cannot be checked by them; name another model")
    return metric


def _is_path(model: str) -> bool:
    return model.startswith(("/", "./", "../", "~"))


def _name(model: str) -> str:
    """What a table calls the model: the name on the hub, or the folder or file."""
    return Path(model).name if _is_path(model) else model


def _first_words(error: Exception) -> str:
    """The beginning of what a library says, short enough for a note under a table, without a path of this machine."""
    said = one_line(error).strip("'\"")
    return " ".join(word for word in said.split() if not word.startswith("/"))[:120]
