"""What a translator makes of the sentences before: the loss of a piece after its own context, a shuffled, a wrong one and none.

The loss without a context minus that with it is the conditional cross-mutual information of Fernandes et al. 2021 ("Measuring
and Increasing Context Usage in Context-Aware Machine Translation", Eq. 3), here of one model that has learnt both, in nats
per target token. It is a difference of two records, paired by run; its interval over documents is one of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field
from sacrebleu.metrics import CHRF

from ripstop.config import ConfigError
from ripstop.data.batching import evenly
from ripstop.data.documents import DocumentsConfig
from ripstop.data.hub import Document
from ripstop.data.tokenizer import BOS, EOS, Tokenizer
from ripstop.evaluation.base import Group, PartConfig, Subject
from ripstop.evaluation.passages import Context, Pair, Passage, contexts, row, scores
from ripstop.files import write_text
from ripstop.models.base import Model
from ripstop.models.generate import GenerationConfig, generate
from ripstop.records import Measurement

if TYPE_CHECKING:
    from ripstop.runs import Run

BOOTSTRAP_SEED = 12345


class ContextConfig(PartConfig):
    """The loss of `n_pieces` pieces of the test split that have a context, spread evenly, under each of `contexts`.

    n_translations: of these pieces, translated after each context, whose target side is the reference's, as it is scored.
    """

    kind: Literal["context"] = "context"
    group: ClassVar[Group] = "context"
    contexts: list[Context] = Field(["own", "shuffled", "wrong", "none"], min_length=1)
    n_pieces: int = Field(300, ge=1)
    max_tokens: int | None = Field(None, ge=8, description="of a window on each side; none given: the data's max_tokens")
    tokens_per_batch: int = Field(8192, ge=1, le=2**22, description="tokens read at once, padding and source included")
    n_bootstrap: int = Field(1000, ge=1, description="resamples of documents")
    n_translations: int = Field(0, ge=0, description="0: none are made, and no chrF++")
    generation: GenerationConfig | None = Field(None, description="of the translations")
    files: ClassVar[tuple[str, ...]] = ("context.jsonl",)

    def check(self, run: Run) -> None:
        check_window(run, self.max_tokens, self.tokens_per_batch)
        if self.n_translations and (self.generation is None or self.generation.eos != EOS):
            raise ConfigError(f"generation: n_translations needs one, with eos: {EOS}; add it")

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        model, data = subject.model(), subject.run.data
        assert isinstance(data, DocumentsConfig)
        tokenizer, max_tokens = data.load_tokenizer(subject.data), self.max_tokens or data.max_tokens
        found = passages(data.documents("test"), tokenizer)
        whole = [p for p in found if p.fits(max_tokens) and p.context(max_tokens)]
        if not whole:
            raise ConfigError(f"max_tokens: no piece of the test split and one before it fit into {max_tokens}; raise it")
        chosen = evenly(whole, self.n_pieces)
        losses = {context: piece_losses(model, chosen, context, max_tokens, self.tokens_per_batch) for context in self.contexts}
        lines = [{"context": context, **loss._asdict()} for context, given in losses.items() for loss in given]
        write_text(subject.out / self.files[0], "".join(json.dumps(line) + "\n" for line in lines))
        for context, given in losses.items():
            n = sum(loss.tokens for loss in given)
            yield Measurement("context_loss", sum(loss.nats for loss in given) / n, "nats", n, {"context": context})
            if context != "none" and "none" in losses:
                half = half_interval(losses["none"], given, self.n_bootstrap)
                n_documents = len({loss.document for loss in given})
                yield Measurement("cxmi_half_interval", half, "nats", n_documents, {"context": context})
        yield from self._translated(model, chosen, tokenizer, max_tokens)

    def _translated(
        self, model: Model, chosen: Sequence[Passage], tokenizer: Tokenizer, max_tokens: int
    ) -> Iterator[Measurement]:
        if not self.n_translations or self.generation is None:
            return
        translated = evenly(chosen, self.n_translations)
        references = [tokenizer.decode(passage.targets[0]) for passage in translated]
        for context in self.contexts:
            outputs = _outputs(model, translated, contexts(context, translated, max_tokens), self.generation)
            score = CHRF(word_order=2).corpus_score([tokenizer.decode(ids) for ids in outputs], [references]).score
            yield Measurement("context_chrf++", min(score, 100.0), "points", len(translated), {"context": context})


class PieceLoss(NamedTuple):
    """Of one piece under one context."""

    document: str
    nats: float
    tokens: int


def piece_losses(
    model: Model, passages: Sequence[Passage], context: Context, max_tokens: int, tokens_per_batch: int
) -> list[PieceLoss]:
    """The loss of each passage's first target after the context."""
    before = contexts(context, passages, max_tokens)
    rows = [row(passage, passage.targets[0], pairs) for passage, pairs in zip(passages, before, strict=True)]
    nats, counts = scores(model, rows, tokens_per_batch)
    return [
        PieceLoss(p.document, *loss) for p, loss in zip(passages, zip(nats.tolist(), counts.tolist(), strict=True), strict=True)
    ]


def half_interval(without: Sequence[PieceLoss], given: Sequence[PieceLoss], n_bootstrap: int) -> float:
    """Half the width of the 95 % interval of the loss without a context minus that with one, resampling whole documents."""
    places = {document: i for i, document in enumerate(dict.fromkeys(loss.document for loss in given))}
    gained, tokens = np.zeros(len(places)), np.zeros(len(places))
    for a, b in zip(without, given, strict=True):
        gained[places[b.document]] += a.nats - b.nats
        tokens[places[b.document]] += b.tokens
    drawn = np.random.default_rng(BOOTSTRAP_SEED).integers(len(places), size=(n_bootstrap, len(places)))
    low, high = np.quantile(gained[drawn].sum(1) / tokens[drawn].sum(1), [0.025, 0.975])
    return float(high - low) / 2


def passages(documents: Sequence[Document], tokenizer: Tokenizer) -> Iterator[Passage]:
    """Every piece of the documents that has both sides, with those before it. A gap is a border: nothing is read across it."""
    for number, document in enumerate(documents):
        sources, targets = tokenizer.encode_batch(document.source), tokenizer.encode_batch(document.target)
        before: list[Pair] = []
        for source, target in zip(sources, targets, strict=True):
            if source and target:
                yield Passage(f"{number} {document.id}", tuple(before), source, [target])
                before.append((source, target))
            else:
                before = []


def check_window(run: Run, max_tokens: int | None, tokens_per_batch: int) -> None:
    """`ConfigError` where the run's data has no documents, or a batch does not hold a window."""
    if not isinstance(run.data, DocumentsConfig):
        raise ConfigError(f"passages are read from data of kind documents, and the run's is {run.data.kind}; remove this part")
    needed = 2 * (max_tokens or run.data.max_tokens)
    if tokens_per_batch < needed:
        raise ConfigError(f"tokens_per_batch: {tokens_per_batch} does not hold a window, which takes {needed}; raise it")


def _outputs(
    model: Model, passages: Sequence[Passage], before: Sequence[Sequence[Pair]], generation: GenerationConfig
) -> list[list[int]]:
    """The translation of each passage's piece; what stands before it is given on both sides."""
    rows = [row(passage, [], pairs) for passage, pairs in zip(passages, before, strict=True)]
    device = next(model.parameters()).device
    prompts = [[BOS, *one.target[: one.start]] for one in rows]
    generator = torch.Generator(device).manual_seed(0)  # of a configuration that samples
    return generate(model, prompts, generation, sources=[one.source for one in rows], generator=generator)
