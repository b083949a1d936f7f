"""The contrastive test of pronouns: does a model prefer the right one of er, sie and es, and does it owe that to the context?

An item counts where the reference is more likely than *every* variant with its pronoun swapped; a tie is wrong (Müller et al.
2018). Likelihood is the sum over the sentence's tokens, which differ by the pronoun alone. Beside the accuracy stand what
always choosing "es" gives, and the same model without a context and after a wrong one (`passages.py`): the first differs by
gender and distance, so that a curve over distances is read balanced over genders or beside that line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from ripstop.config import ConfigError
from ripstop.data.base import file_digest
from ripstop.data.batching import evenly
from ripstop.data.documents import DocumentsConfig
from ripstop.data.tokenizer import Tokenizer
from ripstop.evaluation.base import Group, PartConfig, Subject
from ripstop.evaluation.context import check_window
from ripstop.evaluation.passages import Context, Passage, contexts, row, scores
from ripstop.evaluation.pronoun_items import LIST, Item, contrapro, distances, embedded
from ripstop.files import write_text
from ripstop.models.base import Model
from ripstop.records import Measurement, Scalar

if TYPE_CHECKING:
    from ripstop.runs import Run

BALANCED, ALL = "balanced", "all"
"""In place of a gender: the mean of the three accuracies, and the share of all items."""


class PronounsConfig(PartConfig):
    """Accuracy by gender, antecedent distance and context, on our own list or on ContraPro.

    contrapro: its JSON; none given: our list. documents: its folder of documents, without which there is no context.
    most_distance: those beyond are one group.
    sha256: of the list; found by itself, so that another list repeats this part.
    """

    kind: Literal["pronouns"] = "pronouns"
    group: ClassVar[Group] = "context"
    contexts: list[Context] = Field(["own", "shuffled", "wrong", "none"], min_length=1)
    contrapro: str | None = None
    documents: str | None = None
    n_items: int | None = Field(None, ge=1, description="of them, spread evenly; none given: all")
    most_distance: int = Field(1, ge=0)
    max_tokens: int | None = Field(None, ge=8, description="of a window on each side; none given: the data's max_tokens")
    tokens_per_batch: int = Field(8192, ge=1, le=2**22, description="tokens read at once, padding and source included")
    sha256: str = ""
    files: ClassVar[tuple[str, ...]] = ("pronouns.jsonl",)

    @model_validator(mode="before")
    @classmethod
    def _of_the_list(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or values.get("sha256"):
            return values
        return {**values, "sha256": _digest(Path(values.get("contrapro") or LIST))}

    def local_files(self) -> list[Path]:
        """What a plan has to look at again when it changes."""
        return [LIST if self.contrapro is None else Path(self.contrapro)]

    def check(self, run: Run) -> None:
        check_window(run, self.max_tokens, self.tokens_per_batch)
        if isinstance(run.data, DocumentsConfig) and run.data.direction != "en-de":
            raise ConfigError("pronouns needs data of direction en-de; remove this part")
        if self.documents is not None and self.contrapro is None:
            raise ConfigError("documents: belong to ContraPro; name its JSON as `contrapro`, or leave both out")
        if self.contrapro is not None and self.documents is None and set(self.contexts) != {"none"}:
            raise ConfigError(
                "documents: missing, without it ContraPro has no context; name the folder, or set contexts: [none]"
            )

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        model, data = subject.model(), subject.run.data
        assert isinstance(data, DocumentsConfig)
        items, max_tokens = self._items(), self.max_tokens or data.max_tokens
        found = [(item, p) for item, p in zip(items, encoded(items, data.load_tokenizer(subject.data)), strict=True)]
        fitting = [(item, p) for item, p in found if p.fits(max_tokens)]
        if not fitting:
            raise ConfigError(f"max_tokens: no sentence of the list fits into {max_tokens}; raise it")
        items, passages = [item for item, _ in fitting], [p for _, p in fitting]
        yield Measurement("pronouns_too_long", len(found) - len(fitting), "count", len(found))
        right: dict[Context, Tensor] = {}
        lines = []
        for context in self.contexts:
            nats = likelihoods(model, passages, context, max_tokens, self.tokens_per_batch)
            right[context] = torch.tensor([correct(values) for values in nats])
            lines += [{"context": context, "item": i, "nats": values} for i, values in enumerate(nats)]
        write_text(subject.out / self.files[0], "".join(json.dumps(line) + "\n" for line in lines))
        yield from accuracies(items, right, self.most_distance)
        reached = torch.tensor([len(p.context(max_tokens)) >= item.distance for item, p in fitting])
        for distance, members in distances(items, self.most_distance):
            share = reached[members].double().mean().item()
            yield Measurement("antecedent_in_window", share, "fraction", len(members), {"distance": distance})

    def _items(self) -> list[Item]:
        (path,) = self.local_files()
        if _digest(path) != self.sha256:
            raise ConfigError(f"{path}: changed after the plan was made; run `python -m ripstop plan --write`")
        folder = None if self.documents is None else Path(self.documents)
        items = embedded() if self.contrapro is None else contrapro(path, folder)
        return items if self.n_items is None else evenly(items, self.n_items)


def encoded(items: Sequence[Item], tokenizer: Tokenizer) -> list[Passage]:
    """The items as passages of token ids."""
    texts = dict.fromkeys(
        text for item in items for text in [*(t for pair in item.before for t in pair), item.source, *item.targets]
    )
    ids = dict(zip(texts, tokenizer.encode_batch(list(texts)), strict=True))
    return [
        Passage(item.document, [(ids[a], ids[b]) for a, b in item.before], ids[item.source], [ids[t] for t in item.targets])
        for item in items
    ]


def likelihoods(
    model: Model, passages: Sequence[Passage], context: Context, max_tokens: int, tokens_per_batch: int
) -> list[list[float]]:
    """Of each passage the negative log-likelihood of every target, in nats, the reference first."""
    before = contexts(context, passages, max_tokens)
    rows = [row(p, target, pairs) for p, pairs in zip(passages, before, strict=True) for target in p.targets]
    nats, _ = scores(model, rows, tokens_per_batch)
    return [part.tolist() for part in nats.split([len(p.targets) for p in passages])]


def correct(nats: Sequence[float]) -> bool:
    """Whether the first is more likely than every other.

    >>> correct([1.0, 2.0, 3.0]), correct([1.0, 2.0, 1.0]), correct([2.0, 1.0, 3.0])
    (True, False, False)
    """
    return all(nats[0] < other for other in nats[1:])


def accuracies(items: Sequence[Item], right: Mapping[Context, Tensor], most_distance: int) -> Iterator[Measurement]:
    """By context, distance and gender, and of always choosing "es" by distance."""
    es = torch.tensor([item.gender == "n" for item in items])
    for distance, members in distances(items, most_distance):
        genders = {g: [i for i in members if items[i].gender == g] for g in "mfn"}
        for context, hits in right.items():
            for gender, value, n in _by_gender(hits, genders, members):
                where: dict[str, Scalar] = {"context": context, "distance": distance, "gender": gender}
                yield Measurement("pronoun_accuracy", value, "fraction", n, where)
        for gender, value, n in _by_gender(es, genders, members):
            if gender in (BALANCED, ALL):
                yield Measurement("always_es_accuracy", value, "fraction", n, {"distance": distance, "gender": gender})


def _by_gender(hits: Tensor, genders: Mapping[str, list[int]], members: list[int]) -> Iterator[tuple[str, float, int]]:
    """Gender, accuracy and number of items; balanced only where there are all three."""
    means = {gender: hits[of].double().mean().item() for gender, of in genders.items() if of}
    yield from ((gender, value, len(genders[gender])) for gender, value in means.items())
    if len(means) == len(genders):
        yield BALANCED, sum(means.values()) / len(means), len(members)
    yield ALL, hits[members].double().mean().item(), len(members)


def _digest(path: Path) -> str:
    try:
        return file_digest(path)
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); name ContraPro's JSON, or leave `contrapro` out"
        ) from None
