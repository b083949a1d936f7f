"""What lies in a wire, asked without a language model: how many directions it uses, and which words a linear probe finds.

The probe is a ridge regression from the whole wire to whether a word stands in the document, for the words that a middling
number of documents has; it is fitted on wires of the training split and scored on those of the test split by the area under the
ROC curve, 0.5 being chance, which the same probe with other documents' wires has to come to.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ripstop.config import ConfigError
from ripstop.data.batching import evenly
from ripstop.data.question import Question, texts
from ripstop.data.questions import QuestionsConfig
from ripstop.evaluation.answers import wires
from ripstop.evaluation.asking import check_asked
from ripstop.evaluation.base import PartConfig, Subject
from ripstop.models.soft_prompt import SoftPrompt
from ripstop.records import Measurement

if TYPE_CHECKING:
    from ripstop.runs import Run

Floats = NDArray[np.float64]
WORD = re.compile(r"\w+")
EXPLAINED = (0.5, 0.9, 0.99)


class WireProbeConfig(PartConfig):
    """n_documents: of each split, spread evenly. n_words: those probed, with the document frequencies nearest to a half; rarer
    than `least` and commoner than one minus it they are left out. ridge: of the standardised wires' variance."""

    kind: Literal["wire_probe"] = "wire_probe"
    n_documents: int = Field(200, ge=4)
    n_words: int = Field(50, ge=1)
    least: float = Field(0.05, gt=0, lt=0.5)
    ridge: float = Field(1.0, gt=0)
    batch_size: int = Field(16, ge=1)

    def check(self, run: Run) -> None:
        check_asked(run)

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        model, data = subject.model(), subject.run.data
        assert isinstance(model, SoftPrompt) and isinstance(data, QuestionsConfig)
        splits = [_one_a_document(data.questions(subject.data, split)) for split in ("train", "test")]
        train, test = (evenly(questions, self.n_documents) for questions in splits)
        z_train, z_test = (
            wires(model, questions, self.batch_size).flatten(1).double().cpu().numpy() for questions in (train, test)
        )
        yield from spectrum(z_train)
        documents, held_out = texts(train), texts(test)
        words = middling_words(documents, self.n_words, self.least)
        for wire, z in (("own", z_test), ("wrong", np.roll(z_test, 1, axis=0))):
            scores = probe(z_train, present(documents, words), z, present(held_out, words), self.ridge)
            if not scores:
                raise ConfigError("n_documents: no word stands in some test documents and not in others; raise it")
            yield Measurement("probe_auc", sum(scores) / len(scores), "fraction", len(scores), {"wire": wire})


def spectrum(z_DZ: Floats) -> Iterator[Measurement]:
    """The number of principal directions that hold so much of the wires' variance, of min(documents, numbers of a wire)."""
    variances = np.linalg.svd(z_DZ - z_DZ.mean(0), compute_uv=False) ** 2
    if variances.sum() > 0:
        held = np.cumsum(variances) / variances.sum()
        for share in EXPLAINED:
            n = int(np.searchsorted(held, share - 1e-12)) + 1
            yield Measurement("wire_directions", min(n, len(variances)), "count", len(z_DZ), {"explained": share})


def probe(z: Floats, labels: Floats, z_test: Floats, labels_test: Floats, ridge: float) -> list[float]:
    """The area under the ROC curve of each label that the test has both values of. labels: (D, W), 0 or 1."""
    mean, std = z.mean(0), z.std(0) + 1e-8
    x, x_test = (z - mean) / std, (z_test - mean) / std
    # By the kernel, since a wire has more numbers than there are documents.
    weights = np.linalg.solve(x @ x.T + ridge * x.shape[1] * np.eye(len(x)), labels - labels.mean(0))
    scores = x_test @ (x.T @ weights)
    both = [i for i in range(labels.shape[1]) if 0 < labels_test[:, i].sum() < len(labels_test)]
    return [area_under_roc(scores[:, i], labels_test[:, i]) for i in both]


def area_under_roc(scores: Floats, labels: Floats) -> float:
    """The chance that one that has the label scores above one that has not; a tie counts half (Mann and Whitney 1947)."""
    above = scores[labels > 0][:, None] - scores[labels == 0][None]
    return float((above > 0).mean() + (above == 0).mean() / 2)


def middling_words(documents: Sequence[str], n: int, least: float) -> list[str]:
    """The words whose document frequency is nearest to a half, in that order."""
    counts = Counter(word for document in documents for word in set(WORD.findall(document.lower())))
    shares = {word: count / len(documents) for word, count in counts.items()}
    inside = [word for word, share in shares.items() if least <= share <= 1 - least]
    return sorted(inside, key=lambda word: (abs(shares[word] - 0.5), word))[:n]


def present(documents: Sequence[str], words: Sequence[str]) -> Floats:
    """Which word stands in which document, (D, W)."""
    found = [set(WORD.findall(document.lower())) for document in documents]
    return np.array([[float(word in those) for word in words] for those in found]).reshape(len(documents), len(words))


def _one_a_document(questions: Sequence[Question]) -> list[Question]:
    return list({question.document: question for question in reversed(questions)}.values())[::-1]
