"""Answers to prompts: their logits, their likelihood, and what a frozen model writes by itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ripstop.config import ConfigError, Strict
from ripstop.frozen.assembly import Side, assemble
from ripstop.frozen.base import FrozenLM
from ripstop.frozen.prompt import Prompt, PromptBuilder


@dataclass(frozen=True)
class Scored:
    """An answer, teacher-forced: minus its log-likelihood in nats, its tokens (what ends it included), and whether the first
    and all of them are the most likely ones."""

    nll: float
    n_tokens: int
    first: bool
    all: bool


class DecodingConfig(Strict):
    """How an answer is written: greedily, unless there is a temperature.

    ban_end: the first so many tokens cannot end the answer. top_p and seed act where the temperature is above 0.
    """

    max_new_tokens: int = Field(16, ge=1)
    temperature: float = Field(0.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    ban_end: int = Field(0, ge=0)
    seed: int = Field(0, ge=0)


def answer_logits(
    lm: FrozenLM,
    builder: PromptBuilder,
    prompts: Sequence[Prompt],
    answers: Sequence[list[int]],
    n_first: int | None = None,
    padding: Side = "left",
) -> list[Tensor]:
    """Logits (n_i, V) in float32 at the tokens of each answer (its first `n_first`), teacher-forced, in one batch.

    Differentiable in the soft pieces. The prefix is read once for all batches; logits are made at these places alone.
    """
    answers = [answer[:n_first] for answer in answers]
    if not all(answers):
        raise ConfigError("answers: one has no tokens; leave that question out")
    batch = assemble(lm, builder.prefix_ids, prompts, [answer[:-1] for answer in answers], padding)
    # a row's tokens are contiguous: what comes after the end of the prompt is its answer
    at_BT = batch.valid_BT & (batch.last_BT.long().cumsum(1) > 0)
    logits_NV, _ = lm.read(batch.x_BTD, batch.positions_BT, batch.valid_BT, batch.past, at_BT)
    return list(logits_NV.split([len(answer) for answer in answers]))


@torch.no_grad()
def score(
    lm: FrozenLM, builder: PromptBuilder, prompts: Sequence[Prompt], answers: Sequence[list[int]], batch_size: int = 8
) -> list[Scored]:
    """Likelihood of each answer after its prompt."""
    scored: dict[int, Scored] = {}
    lengths = [len(prompt) + len(answer) for prompt, answer in zip(prompts, answers, strict=True)]
    for rows in _batches(lengths, batch_size):
        logits = answer_logits(lm, builder, [prompts[n] for n in rows], [answers[n] for n in rows])
        for n, logits_AV in zip(rows, logits, strict=True):
            target_A = torch.tensor(answers[n], device=logits_AV.device)
            nll = torch.nn.functional.cross_entropy(logits_AV, target_A, reduction="sum")
            best_A = logits_AV.argmax(-1) == target_A
            scored[n] = Scored(float(nll), len(answers[n]), bool(best_A[0]), bool(best_A.all()))
    return [scored[n] for n in range(len(prompts))]


@torch.no_grad()
def generate(
    lm: FrozenLM, builder: PromptBuilder, prompts: Sequence[Prompt], options: DecodingConfig | None = None, batch_size: int = 8
) -> list[str]:
    """What the model answers, to the end of its line or turn, without outer spaces. Greedy unless `options` say otherwise.

    With a temperature each row draws by itself, from the seed and its number, so that batches change nothing.
    """
    options = options or DecodingConfig()
    written: dict[int, str] = {}
    for rows in _batches([len(prompt) for prompt in prompts], batch_size):
        ids = _write(lm, builder, [prompts[n] for n in rows], options, rows)
        written |= {n: lm.decode(row).split("\n")[0].strip() for n, row in zip(rows, ids, strict=True)}
    return [written[n] for n in range(len(prompts))]


def log_likelihoods(
    lm: FrozenLM, builder: PromptBuilder, prompts: Sequence[Prompt], candidates: Sequence[Sequence[str]], batch_size: int = 8
) -> list[list[float]]:
    """Log-likelihood in nats of each candidate answer to each prompt, its end included.

    Several models, whatever their tokens, are asked jointly by adding theirs: text is what they have in common.
    """
    flat = [(prompt, builder.answer_ids(text)) for prompt, texts in zip(prompts, candidates, strict=True) for text in texts]
    scored = (
        iter(score(lm, builder, [prompt for prompt, _ in flat], [ids for _, ids in flat], batch_size)) if flat else iter(())
    )
    return [[-next(scored).nll for _ in texts] for texts in candidates]


def jointly_best(candidates: Sequence[str], *log_likelihoods_of_models: Sequence[float]) -> str:
    """The candidate with the highest sum of the models' log-likelihoods; of equal ones the first."""
    sums = [sum(each) for each in zip(*log_likelihoods_of_models, strict=True)]
    return max(zip(candidates, sums, strict=True), key=lambda pair: pair[1])[0]


def _batches(lengths: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Numbers of rows in batches of similar lengths, the longest first, so that a lack of memory shows at once."""
    order = sorted(range(len(lengths)), key=lambda n: -lengths[n])
    yield from (order[n : n + batch_size] for n in range(0, len(order), batch_size))


def _write(
    lm: FrozenLM, builder: PromptBuilder, prompts: Sequence[Prompt], options: DecodingConfig, numbers: Sequence[int]
) -> list[list[int]]:
    """New ids of each row, without what ends them."""
    batch = assemble(lm, builder.prefix_ids, prompts, [[] for _ in prompts])
    ends = sorted({*lm.eos, *lm.newlines, *builder.answer_ids("")[-1:]})
    x_BTD, positions_BT, valid_BT, past = batch.x_BTD, batch.positions_BT, batch.valid_BT, batch.past
    at_BT: Tensor | None = batch.last_BT
    generators = [_generator(options.seed, n) for n in numbers]
    written: list[list[int]] = [[] for _ in prompts]
    going = [True] * len(prompts)
    for n in range(options.max_new_tokens):
        logits_BV, past = lm.read(x_BTD, positions_BT, valid_BT, past, at_BT, keep=True)
        if n < options.ban_end:
            logits_BV[:, ends] = -torch.inf
        ids = _choose(logits_BV, options, generators)
        going = [g and i not in ends for g, i in zip(going, ids, strict=True)]
        for row, g, i in zip(written, going, ids, strict=True):
            row += [i] if g else []
        if not any(going):
            break
        x_BTD = lm.embed([[i] for i in ids])
        positions_BT, valid_BT, at_BT = batch.length_B[:, None] + n, torch.ones_like(x_BTD[..., 0], dtype=torch.bool), None
    return written


def _generator(seed: int, number: int) -> torch.Generator:
    """Draws of one row. Mixed into 32 bits, since torch's generator on the CPU heeds no more of a seed."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence([seed, number]).generate_state(1)[0]))


def _choose(logits_BV: Tensor, options: DecodingConfig, generators: Sequence[torch.Generator]) -> list[int]:
    """The next token of each row."""
    if options.temperature == 0:
        return logits_BV.argmax(-1).tolist()
    from transformers import TopPLogitsWarper

    probabilities_BV = TopPLogitsWarper(options.top_p)(None, logits_BV / options.temperature).softmax(-1).cpu()
    return [int(torch.multinomial(p_V, 1, generator=g)) for p_V, g in zip(probabilities_BV, generators, strict=True)]
