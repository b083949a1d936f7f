"""Every translator of hybrid_ratio generates, with its state, token for token what recomputing everything gives.

Greedy and with four beams, of sources of unequal lengths in one batch, where some texts end early and others never.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from models.architectures import build, tokens
from torch import Tensor

from ripstop import params
from ripstop.batch import TokenBatch
from ripstop.models.base import Model
from ripstop.models.encoder_decoder import EncoderDecoderConfig
from ripstop.models.generate import GenerationConfig, generate, length_penalty

ROOT = Path(__file__).parents[2]
PATTERNS = ("MMMM", "MMAM", "MAMA", "AMAA", "AAAA")
ENCODERS = ("BE", "EE")
VOCAB = 23
BOS = 1
LONGEST = 7
SOURCES = [tokens(n, seed=n, vocab_size=VOCAB) for n in (3, 8, 5, 1, 11)]
PROMPTS = [[BOS], [BOS], [BOS, 9], [BOS, 4], [BOS]]


@pytest.fixture(scope="module")
def mixers() -> dict[str, object]:
    """Those of the study."""
    return dict(params.load(ROOT / "params.yaml").study("hybrid_ratio", "cpu")["mixers"])


def translator(mixers: dict[str, object], encoder: str, decoder: str) -> Model:
    """Of random weights, flat enough that the end has its chance at every length."""
    values = {"d_model": 32, "encoder_pattern": encoder, "decoder_pattern": decoder, "n_cross_heads": 2}
    values |= {"mixers": {letter: mixers[letter] for letter in {*encoder, *decoder}}, "share_embeddings": False}
    values |= {"mlp": {"activation": "swiglu", "expand": 2}, "cross_attention_positions": [0, 1, 2, 3]}
    model = build(EncoderDecoderConfig.parse(values, "t"), vocab_size=VOCAB)
    with torch.no_grad():
        model.readout.norm.weight.mul_(0.3)
    return model


def ending(texts: list[list[int]]) -> int:
    """A token that ends some of the texts, and not at once."""
    return min(sorted({token for text in texts for token in text}), key=lambda t: abs(2 - sum(t in text[1:] for text in texts)))


def log_p(model: Model, texts: list[list[int]], source_S: Tensor) -> Tensor:
    """Log-probabilities after texts of one length, each computed from its first token on, (B, V)."""
    x_BT = torch.tensor(texts)
    batch = TokenBatch(x_BT, x_BT, source_BS=source_S.repeat(len(texts), 1))
    with torch.inference_mode():
        return model(batch)[:, -1].log_softmax(-1)


def greedy(model: Model, prompt: list[int], source_S: Tensor, eos: int) -> list[int]:
    text: list[int] = []
    while len(text) < LONGEST and (token := int(log_p(model, [prompt + text], source_S).argmax())) != eos:
        text.append(token)
    return text


def beam_search(model: Model, prompt: list[int], source_S: Tensor, eos: int, n_beams: int, alpha: float) -> list[int]:
    """As it is told: of all continuations the best, one after the other, end or go on, until the beam is full."""
    beams: list[tuple[float, list[int]]] = [(0.0, [])]
    finished: list[tuple[float, list[int]]] = []
    while beams:
        step_BV = log_p(model, [prompt + text for _, text in beams], source_S)
        found = [(p + float(step_BV[k, token]), text, token) for k, (p, text) in enumerate(beams) for token in range(VOCAB)]
        beams = []
        for p, text, token in sorted(found, key=lambda continuation: -continuation[0]):
            if len(beams) == n_beams:
                break
            whole = [*text, token]
            if token == eos or len(whole) == LONGEST:
                finished.append((p / length_penalty(len(whole), alpha), text if token == eos else whole))
            else:
                beams.append((p, whole))
        if finished and beams and max(finished)[0] >= beams[0][0] / length_penalty(LONGEST, alpha):
            break
    return max(finished, key=lambda scored: scored[0])[1]


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_state_equals_recomputation(mixers: dict[str, object], encoder: str, pattern: str) -> None:
    model = translator(mixers, encoder, pattern)
    eos = ending(generate(model, PROMPTS, GenerationConfig(max_new_tokens=LONGEST), sources=SOURCES))
    settings = GenerationConfig(max_new_tokens=LONGEST, eos=eos)
    rows = list(zip(PROMPTS, SOURCES, strict=True))
    assert generate(model, PROMPTS, settings, sources=SOURCES) == [greedy(model, *row, eos) for row in rows]
    settings = settings.replace(beam_size=4)
    wanted = [beam_search(model, *row, eos, 4, settings.length_penalty) for row in rows]
    assert generate(model, PROMPTS, settings, sources=SOURCES) == wanted


def test_the_texts_differ_in_length_and_beams_from_greedy(mixers: dict[str, object]) -> None:
    """Or little would be shown above."""
    lengths, differ = set(), 0
    for pattern in PATTERNS:
        model = translator(mixers, "BE", pattern)
        free = generate(model, PROMPTS, GenerationConfig(max_new_tokens=LONGEST), sources=SOURCES)
        eos = ending(free)
        found = [
            generate(model, PROMPTS, GenerationConfig(max_new_tokens=LONGEST, eos=eos, beam_size=n), sources=SOURCES)
            for n in (1, 4)
        ]
        lengths |= {len(text) for texts in found for text in texts}
        differ += sum(one != other for one, other in zip(*found, strict=True))
    assert len(lengths) >= 4 and LONGEST in lengths and differ >= 5
