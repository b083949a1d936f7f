"""Text from a model: greedy, sampled or by beam search; the prompt is read once, then one token at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from pydantic import Field, model_validator
from torch import Tensor

from ripstop.config import ConfigError, Strict
from ripstop.mixers.base import reorder_state
from ripstop.models.base import Model

PAD = 0


class GenerationConfig(Strict):
    """A temperature of 0 takes the most likely token, or the most likely beam. `eos` ends a row and is not returned."""

    max_new_tokens: int = Field(ge=1, le=1_000_000)
    temperature: float = Field(0.0, ge=0)
    top_k: int = Field(0, ge=0, description="sample from the k most likely tokens; 0: from all")
    top_p: float = Field(1.0, gt=0, le=1, description="sample from the fewest tokens with this probability together")
    beam_size: int = Field(1, ge=1, le=1024)
    length_penalty: float = Field(0.6, ge=0, le=10, description="alpha of the beams' length penalty; 0: the sum of log p")
    eos: int | None = Field(None, ge=0)

    @model_validator(mode="after")
    def _one_way(self) -> GenerationConfig:
        if self.temperature == 0 and (self.top_k or self.top_p < 1):
            raise ValueError("top_k and top_p choose what is sampled; set a temperature above 0, or remove them")
        if self.temperature > 0 and self.beam_size > 1:
            raise ValueError("beam search does not sample; set temperature: 0 or beam_size: 1")
        return self


@torch.inference_mode()
def generate(
    model: Model,
    prompts: Sequence[Tensor | Sequence[int]],
    config: GenerationConfig,
    *,
    sources: Sequence[Tensor | Sequence[int]] | None = None,
    generator: torch.Generator | None = None,
) -> list[list[int]]:
    """The new tokens of every prompt, without the prompt and without `eos`, in the prompts' order.

    Prompts of one length are read and continued together, so that no padding enters a state; the more lengths there are,
    the smaller the batches. sources: one a prompt, for a model that reads them.
    generator: of the samples, on the model's device; none given: torch's own. The same state of it and the same prompts in
    the same order give the same texts. It serves one length after the other, the shortest first, so a sampled text depends
    on what else is asked for; a greedy one or that of a beam does not.
    """
    texts: list[list[int]] = [[] for _ in prompts]
    for group in groups(prompts, sources, next(model.parameters()).device):
        found = sample(model, group, config, generator) if config.beam_size == 1 else beam_search(model, group, config)
        for index, text in zip(group.indices, found, strict=True):
            texts[index] = text
    return texts


class Group(NamedTuple):
    """Prompts of one length, by their indices among all; their sources end in padding where they differ in length."""

    indices: list[int]
    tokens_BT: Tensor
    source_BS: Tensor | None
    source_segments_BS: Tensor | None

    def read(self, model: Model, max_new_tokens: int) -> tuple[Tensor, Any]:
        """Logits (B, V) and state after the prompts, with room for what is to come."""
        n_rows, length = self.tokens_BT.shape
        state = model.init_state(n_rows, length + max_new_tokens, self.source_BS, self.source_segments_BS)
        return model.prefill(self.tokens_BT, state)


def groups(
    prompts: Sequence[Tensor | Sequence[int]], sources: Sequence[Tensor | Sequence[int]] | None, device: torch.device
) -> list[Group]:
    """The prompts by rising length. `ConfigError` where one is empty, or sources are not one each."""
    if sources is not None and len(sources) != len(prompts):
        raise ConfigError(f"generate: {len(prompts)} prompts have {len(sources)} sources; give one each")
    by_length: dict[int, list[int]] = {}
    for index, prompt in enumerate(prompts):
        by_length.setdefault(len(prompt), []).append(index)
    if 0 in by_length:
        raise ConfigError("generate: a prompt is empty; give every prompt at least one token")
    found = []
    for _, indices in sorted(by_length.items()):
        tokens_BT, _ = padded([prompts[i] for i in indices], device)
        source = (None, None) if sources is None else padded([sources[i] for i in indices], device)
        found.append(Group(indices, tokens_BT, *source))
    return found


def padded(rows: Sequence[Tensor | Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor | None]:
    """(B, T) token ids with PAD behind the ends, and their segments, None where no row is shorter than another."""
    lengths = [len(row) for row in rows]
    tokens_BT = torch.full((len(rows), max(1, *lengths)), PAD)
    for row_T, row in zip(tokens_BT, rows, strict=True):
        row_T[: len(row)] = torch.as_tensor(row)
    n_time = tokens_BT.shape[1]
    if min(lengths) == n_time:
        return tokens_BT.to(device), None
    return tokens_BT.to(device), (torch.arange(n_time) < torch.tensor(lengths).unsqueeze(1)).long().to(device)


def sample(model: Model, group: Group, config: GenerationConfig, generator: torch.Generator | None) -> list[list[int]]:
    """Greedy or sampled tokens. Rows that are done leave the batch."""
    logits_BV, state = group.read(model, config.max_new_tokens)
    texts: list[list[int]] = [[] for _ in group.indices]
    rows = list(range(len(texts)))  # those that go on, in the order of the batch
    while True:
        tokens_B = choose(logits_BV, config, generator)
        kept: list[int] = []
        for i, (row, token) in enumerate(zip(rows, tokens_B.tolist(), strict=True)):
            if token != config.eos:
                texts[row].append(token)
                if len(texts[row]) < config.max_new_tokens:
                    kept.append(i)
        if not kept:
            return texts
        if len(kept) < len(rows):
            index_B = torch.tensor(kept, device=tokens_B.device)
            rows, tokens_B, state = [rows[i] for i in kept], tokens_B[index_B], reorder_state(state, index_B)
        logits_BV, state = model.step(tokens_B, state)


def choose(logits_BV: Tensor, config: GenerationConfig, generator: torch.Generator | None) -> Tensor:
    """One token a row: the most likely, or a draw from `probabilities`."""
    if config.temperature == 0:
        return logits_BV.argmax(-1)
    return torch.multinomial(probabilities(logits_BV, config), 1, generator=generator).squeeze(1)


def probabilities(logits_BV: Tensor, config: GenerationConfig) -> Tensor:
    """What is sampled from: softmax(logits / temperature), cut to top_k, then to top_p, each time normalised again.

    top_p keeps the most likely tokens up to and with the one that reaches the sum (arXiv 1904.09751, section 3.1).
    """
    logits_BV = logits_BV.to(torch.promote_types(logits_BV.dtype, torch.float32))
    # Below the highest first: divided by a temperature near zero that would be infinite.
    p_BV = ((logits_BV - logits_BV.amax(-1, keepdim=True)) / config.temperature).softmax(-1)
    sorted_BV, order_BV = torch.sort(p_BV, dim=-1, descending=True, stable=True)
    if config.top_k:
        sorted_BV[:, config.top_k :] = 0
        sorted_BV = sorted_BV / sorted_BV.sum(-1, keepdim=True)
    if config.top_p < 1:
        before_BV = sorted_BV.cumsum(-1) - sorted_BV
        sorted_BV = sorted_BV.masked_fill(before_BV >= config.top_p, 0)
        sorted_BV = sorted_BV / sorted_BV.sum(-1, keepdim=True)
    return torch.zeros_like(p_BV).scatter(1, order_BV, sorted_BV)


def length_penalty(n_tokens: int, alpha: float) -> float:
    """((5 + n) / 6)^alpha, by which a hypothesis's log-probability is divided (GNMT, arXiv 1609.08144, Eq. 14)."""
    return ((5 + n_tokens) / 6) ** alpha


class Hypotheses:
    """The best finished beams of one prompt."""

    def __init__(self, config: GenerationConfig):
        self.config = config
        self.best: list[tuple[float, list[int]]] = []

    def add(self, log_p: float, n_tokens: int, text: list[int]) -> None:
        """A finished text of `n_tokens`, its `eos` counted."""
        self.best.append((log_p / length_penalty(n_tokens, self.config.length_penalty), text))
        self.best.sort(key=lambda scored: -scored[0])
        del self.best[self.config.beam_size :]

    def beats(self, log_p: float) -> bool:
        """Whether no continuation of a beam with `log_p` can score higher: it only loses, at most the penalty grows."""
        longest = length_penalty(self.config.max_new_tokens, self.config.length_penalty)
        return bool(self.best) and self.best[0][0] >= log_p / longest


def beam_search(model: Model, group: Group, config: GenerationConfig) -> list[list[int]]:
    """The text with the highest log-probability over length penalty among `beam_size` beams a prompt.

    Beams that take `eos` while among the best are finished; others fill the beam. A prompt is done when no beam can
    overtake its best finished one, and leaves the batch. With as many beams as there are texts, all are searched.
    """
    n_beams = config.beam_size
    logits, state = group.read(model, config.max_new_tokens)
    (n_rows, n_vocab), device = logits.shape, logits.device
    copies = torch.arange(n_rows, device=device).repeat_interleave(n_beams)
    logits, state = logits[copies], reorder_state(state, copies)
    finished = [Hypotheses(config) for _ in range(n_rows)]
    texts: list[list[list[int]]] = [[[] for _ in range(n_beams)] for _ in range(n_rows)]
    # Copies of one prompt are the same beam: only the first is alive until they part.
    log_p_RM = torch.full((n_rows, n_beams), float("-inf"), dtype=torch.float64, device=device)
    log_p_RM[:, 0] = 0
    live = list(range(n_rows))
    while True:
        step_p = logits.double().log_softmax(-1).view(len(live), n_beams, n_vocab)
        total = (log_p_RM.unsqueeze(2) + step_p).flatten(1)
        top_p, top_index = total.topk(min(2 * n_beams, total.shape[1]), 1)
        parents: list[int] = []
        tokens: list[int] = []
        beams: list[list[float]] = []
        still: list[int] = []
        for i, row in enumerate(live):
            candidates = zip(top_p[i].tolist(), (divmod(c, n_vocab) for c in top_index[i].tolist()), strict=True)
            beam = _continue([(p, k, token) for p, (k, token) in candidates], texts[row], finished[row], config)
            if not beam or finished[row].beats(beam[0][0]):
                continue
            # Too few candidates: the beam is filled with dead copies.
            beam += [(float("-inf"), beam[0][1], beam[0][2])] * (n_beams - len(beam))
            texts[row] = [texts[row][k] + [token] for _, k, token in beam]
            still.append(row)
            parents += [i * n_beams + k for _, k, _ in beam]
            tokens += [token for _, _, token in beam]
            beams.append([log_p for log_p, _, _ in beam])
        if not still:
            return [hypotheses.best[0][1] for hypotheses in finished]
        live = still
        log_p_RM = torch.tensor(beams, dtype=torch.float64, device=device)
        state = reorder_state(state, torch.tensor(parents, device=device))
        logits, state = model.step(torch.tensor(tokens, device=device), state)


def _continue(
    candidates: list[tuple[float, int, int]], texts: list[list[int]], finished: Hypotheses, config: GenerationConfig
) -> list[tuple[float, int, int]]:
    """The beams (log-probability, parent, token) that go on, best first; those that end before them join `finished`."""
    beam: list[tuple[float, int, int]] = []
    n_tokens = len(texts[0]) + 1
    for log_p, k, token in candidates:
        if log_p == float("-inf") or len(beam) == config.beam_size:
            break
        if token == config.eos:
            finished.add(log_p, n_tokens, texts[k])
        elif n_tokens == config.max_new_tokens:
            finished.add(log_p, n_tokens, texts[k] + [token])
        else:
            beam.append((log_p, k, token))
    return beam
