"""Text from a model: greedy, sampled or by beam search; the prompt is read once, then one token at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pydantic import Field, model_validator
from torch import Tensor

from ripstop.config import ConfigError, Strict
from ripstop.mixers.base import reorder_state
from ripstop.models.base import Model

PAD = 0


class GenerationConfig(Strict):
    """A temperature of 0 takes the most likely token, or the most likely beam. `eos` ends a row and is not returned."""

    max_new_tokens: int = Field(ge=1)
    temperature: float = Field(0.0, ge=0)
    top_k: int = Field(0, ge=0, description="sample from the k most likely tokens; 0: from all")
    top_p: float = Field(1.0, gt=0, le=1, description="sample from the fewest tokens with this probability together")
    beam_size: int = Field(1, ge=1)
    length_penalty: float = Field(0.6, ge=0, description="alpha of the beams' length penalty; 0: the sum of log p")
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
    """The new tokens of every prompt, without the prompt and without `eos`.

    Prompts of any length go together: all are read up to the end of the shortest, the rest token by token, so that
    no padding enters a state. sources: one a prompt, for a model that reads them. generator: of the samples, on the
    model's device.
    """
    if not prompts:
        return []
    rows = Prompts(model, prompts, sources)
    if config.beam_size > 1:
        return beam_search(model, rows, config)
    return sample(model, rows, config, generator)


class Prompts:
    """Prompts and sources as padded tensors on the model's device."""

    def __init__(
        self,
        model: Model,
        prompts: Sequence[Tensor | Sequence[int]],
        sources: Sequence[Tensor | Sequence[int]] | None,
    ):
        self.device = next(model.parameters()).device
        self.tokens_BT, self.length_B = padded(prompts, self.device)
        self.shortest = int(self.length_B.min())
        if self.shortest == 0:
            raise ConfigError("generate: a prompt is empty; give every prompt at least one token")
        self.source_BS = self.source_segments_BS = None
        if sources is not None:
            if len(sources) != len(prompts):
                raise ConfigError(f"generate: {len(prompts)} prompts have {len(sources)} sources; give one each")
            self.source_BS, source_length_B = padded(sources, self.device)
            if int(source_length_B.min()) < self.source_BS.shape[1]:
                position_S = torch.arange(self.source_BS.shape[1], device=self.device)
                self.source_segments_BS = (position_S < source_length_B.unsqueeze(1)).long()

    def read(self, model: Model, max_new_tokens: int) -> tuple[Tensor, Any]:
        """Logits (B, V) and state after the tokens that all prompts have, with room for what is to come."""
        n_rows, longest = self.tokens_BT.shape
        state = model.init_state(n_rows, longest + max_new_tokens, self.source_BS, self.source_segments_BS)
        return model.prefill(self.tokens_BT[:, : self.shortest], state)


def padded(rows: Sequence[Tensor | Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """(B, T) token ids with PAD behind the ends, and lengths (B,)."""
    length_B = torch.tensor([len(row) for row in rows])
    tokens_BT = torch.full((len(rows), max(1, int(length_B.max()))), PAD)
    for row_T, row in zip(tokens_BT, rows, strict=True):
        row_T[: len(row)] = torch.as_tensor(row)
    return tokens_BT.to(device), length_B.to(device)


def sample(model: Model, rows: Prompts, config: GenerationConfig, generator: torch.Generator | None) -> list[list[int]]:
    """Greedy or sampled tokens. Rows that are done leave the batch."""
    logits_BV, state = rows.read(model, config.max_new_tokens)
    texts: list[list[int]] = [[] for _ in rows.length_B]
    row_B = torch.arange(len(texts), device=rows.device)  # row of `texts` that each row of the batch belongs to
    position = rows.shortest
    while True:
        forced_B = position < rows.length_B[row_B]
        tokens_B = choose(logits_BV, config, generator)
        if position < rows.tokens_BT.shape[1]:
            tokens_B = torch.where(forced_B, rows.tokens_BT[row_B, position], tokens_B)
        kept: list[int] = []
        for i, (row, token, forced) in enumerate(zip(row_B.tolist(), tokens_B.tolist(), forced_B.tolist(), strict=True)):
            ended = not forced and token == config.eos
            if not forced and not ended:
                texts[row].append(token)
            if not ended and len(texts[row]) < config.max_new_tokens:
                kept.append(i)
        if not kept:
            return texts
        if len(kept) < len(row_B):
            index_B = torch.tensor(kept, device=rows.device)
            row_B, tokens_B, state = row_B[index_B], tokens_B[index_B], reorder_state(state, index_B)
        logits_BV, state = model.step(tokens_B, state)
        position += 1


def choose(logits_BV: Tensor, config: GenerationConfig, generator: torch.Generator | None) -> Tensor:
    """One token a row: the most likely, or a draw from `probabilities`."""
    if config.temperature == 0:
        return logits_BV.argmax(-1)
    return torch.multinomial(probabilities(logits_BV, config), 1, generator=generator).squeeze(1)


def probabilities(logits_BV: Tensor, config: GenerationConfig) -> Tensor:
    """What is sampled from: softmax(logits / temperature), cut to top_k, then to top_p, each time normalised again.

    top_p keeps the most likely tokens up to and with the one that reaches the sum (arXiv 1904.09751, section 3.1).
    """
    p_BV = (logits_BV.to(torch.promote_types(logits_BV.dtype, torch.float32)) / config.temperature).softmax(-1)
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


def beam_search(model: Model, rows: Prompts, config: GenerationConfig) -> list[list[int]]:
    """The text with the highest log-probability over length penalty among `beam_size` beams a prompt.

    Beams that take `eos` while among the best are finished; others fill the beam. A prompt is done when no beam can
    overtake its best finished one, and leaves the batch. With as many beams as there are texts, all are searched.
    """
    n_beams = config.beam_size
    logits, state = rows.read(model, config.max_new_tokens)
    n_rows, n_vocab = logits.shape
    copies = torch.arange(n_rows, device=rows.device).repeat_interleave(n_beams)
    logits, state = logits[copies], reorder_state(state, copies)
    finished = [Hypotheses(config) for _ in range(n_rows)]
    texts: list[list[list[int]]] = [[[] for _ in range(n_beams)] for _ in range(n_rows)]
    # Copies of one prompt are the same beam: only the first is alive until they part.
    log_p_RK = torch.full((n_rows, n_beams), float("-inf"), dtype=torch.float64, device=rows.device)
    log_p_RK[:, 0] = 0
    live = list(range(n_rows))
    position, lengths = rows.shortest, rows.length_B.tolist()
    while True:
        step_p = logits.double().log_softmax(-1).view(len(live), n_beams, n_vocab)
        total = (log_p_RK.unsqueeze(2) + step_p).flatten(1)
        top_p, top_index = total.topk(min(2 * n_beams, total.shape[1]), 1)
        parents: list[int] = []
        tokens: list[int] = []
        beams: list[list[float]] = []
        still: list[int] = []
        for i, row in enumerate(live):
            if position < lengths[row]:
                beam = [(log_p, k, int(rows.tokens_BT[row, position])) for k, log_p in enumerate(log_p_RK[i].tolist())]
            else:
                candidates = zip(top_p[i].tolist(), (divmod(c, n_vocab) for c in top_index[i].tolist()), strict=True)
                beam = _continue([(p, k, token) for p, (k, token) in candidates], texts[row], finished[row], config)
                if not beam or finished[row].beats(beam[0][0]):
                    continue
                texts[row] = [texts[row][k] + [token] for _, k, token in beam]
            # Too few candidates: the beam is filled with dead copies.
            beam += [(float("-inf"), beam[0][1], beam[0][2])] * (n_beams - len(beam))
            texts[row] += [texts[row][0]] * (n_beams - len(texts[row]))
            still.append(row)
            parents += [i * n_beams + k for _, k, _ in beam]
            tokens += [token for _, _, token in beam]
            beams.append([log_p for log_p, _, _ in beam])
        if not still:
            return [hypotheses.best[0][1] for hypotheses in finished]
        live = still
        log_p_RK = torch.tensor(beams, dtype=torch.float64, device=rows.device)
        state = reorder_state(state, torch.tensor(parents, device=rows.device))
        logits, state = model.step(torch.tensor(tokens, device=rows.device), state)
        position += 1


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
