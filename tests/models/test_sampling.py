"""A prompt continued token by token: as recomputation gives it, by the stated distribution, at the cost of a step."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import pytest
import torch
from models.architectures import ALL, VOCAB, build
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ripstop.batch import TokenBatch, Vocabulary
from ripstop.config import ConfigError
from ripstop.models.base import Model
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.models.generate import GenerationConfig, generate
from ripstop.models.sampling import Prompted

LANGUAGE_MODELS = [name for name in ALL if isinstance(ALL[name], DecoderOnlyConfig)]
CYCLE = DecoderOnlyConfig.parse(
    {
        "d_model": 16,
        "pattern": "SL",
        "mixers": {
            "S": {"kind": "sliding_window", "n_heads": 2, "window_size": 5, "sink_size": 1},
            "L": {
                "kind": "mla",
                "n_heads": 2,
                "kv_lora_rank": 8,
                "qk_nope_head_dim": 4,
                "qk_rope_head_dim": 4,
                "v_head_dim": 4,
            },
        },
    },
    "c",
)
PROMPT = [3, 1, 4, 1, 5]


def logits(model: Model, tokens_T: list[int]) -> Tensor:
    """(V,), after all of them, computed from nothing."""
    x_BT = torch.tensor([tokens_T])
    with torch.no_grad():
        return model(TokenBatch(x_BT, x_BT))[0, -1]


@pytest.mark.parametrize("name", [*LANGUAGE_MODELS, "cycle"])
def test_greedy_is_the_argmax_of_repeated_forwards(name: str) -> None:
    """Past the window, too; and twice the same from one prompt, whose state the first continuation must not change."""
    model = build(ALL.get(name, CYCLE))
    prompted = Prompted(model, PROMPT, 12)
    config = GenerationConfig(max_new_tokens=12)
    wanted: list[int] = []
    for _ in range(12):
        wanted.append(int(logits(model, PROMPT + wanted).argmax()))
    assert list(prompted.tokens(config)) == wanted == list(prompted.tokens(config))
    assert generate(model, [PROMPT], config) == [wanted]
    eos = wanted[-1]
    stopped = list(prompted.tokens(config.replace(eos=eos)))
    assert stopped == wanted[: wanted.index(eos)]


def test_tokens_come_before_the_next_is_computed() -> None:
    """No step but those whose tokens were taken."""
    model, steps = build(CYCLE), []
    step = model.step

    def counting(tokens_B: Tensor, state: object) -> object:
        steps.append(int(tokens_B))
        return step(tokens_B, state)

    model.step = counting  # type: ignore[method-assign]
    tokens = Prompted(model, PROMPT, 9).tokens(GenerationConfig(max_new_tokens=9))
    first = next(tokens)
    assert steps == []
    found = [first, *islice(tokens, 3)]
    assert steps == found[:3]
    rest = list(tokens)
    assert steps == [*found, *rest][:-1]


class Table(Model):
    """Logits that depend on the last token alone: row t of the table is what follows token t."""

    def __init__(self, logits_VV: list[list[float]]):
        super().__init__()
        self.table = torch.nn.Parameter(torch.tensor(logits_VV))

    def init_state(self, batch_size: int, max_len: int, source_BS: object = None, source_segments_BS: object = None) -> tuple:
        return ()

    def prefill(self, tokens_BT: Tensor, state: tuple) -> tuple[Tensor, tuple]:
        return self.table[tokens_BT[:, -1]], state

    def step(self, tokens_B: Tensor, state: tuple) -> tuple[Tensor, tuple]:
        return self.table[tokens_B], state


# Row 0: p = 1/2, 1/4, 1/8, 1/8. Row 1: certain of 2. Row 2: certain of 3, the end. Whoever goes on behind 3 meets 0.
LN2 = 0.6931471805599453
SURE = 1e4
TABLE = [[0.0, -LN2, -2 * LN2, -2 * LN2], [0, 0, SURE, 0], [0, 0, 0, SURE], [SURE, 0, 0, 0]]


@pytest.mark.parametrize(
    ("settings", "p"),
    [
        ({"temperature": 1.0}, [1 / 2, 1 / 4, 1 / 8, 1 / 8]),
        ({"temperature": 0.5}, [16 / 22, 4 / 22, 1 / 22, 1 / 22]),
        ({"temperature": 2.0}, [0.3694, 0.2612, 0.1847, 0.1847]),
        ({"temperature": 1.0, "top_k": 2}, [2 / 3, 1 / 3, 0, 0]),
        ({"temperature": 1.0, "top_p": 0.75}, [2 / 3, 1 / 3, 0, 0]),
        ({"temperature": 1.0, "top_p": 0.8}, [4 / 7, 2 / 7, 1 / 7, 0]),
        ({"temperature": 1.0, "top_k": 3, "top_p": 0.6}, [2 / 3, 1 / 3, 0, 0]),
    ],
)
def test_samples_follow_the_distribution_worked_out_by_hand(settings: dict, p: list[float]) -> None:
    """4,000 first tokens of the four: chi-squared below 16.3, which one of a thousand seeds would pass (3 degrees)."""
    prompted, n = Prompted(Table(TABLE), [3, 0], 1), 4000
    config = GenerationConfig(max_new_tokens=1, **settings)
    generator = torch.Generator().manual_seed(0)
    counts = Counter(token for _ in range(n) for token in prompted.tokens(config, generator))
    assert all(counts[token] == 0 for token in range(4) if p[token] == 0)
    assert sum((counts[token] - n * share) ** 2 / (n * share) for token, share in enumerate(p) if share) < 16.3


def test_a_text_ends_at_its_end() -> None:
    prompted = Prompted(Table(TABLE), [1], 8)
    config = GenerationConfig(max_new_tokens=8, temperature=1.0, eos=3)
    assert list(prompted.tokens(config)) == [2]
    assert list(prompted.tokens(config.replace(eos=None)))[:3] == [2, 3, 0]
    assert list(prompted.tokens(config.replace(max_new_tokens=1))) == [2]


def test_a_seed_gives_its_text_again() -> None:
    """Also where what is said hangs on the past, whose ring the texts before have written over."""
    model = build(CYCLE)
    with torch.no_grad():
        for block in model.blocks():
            for weight in block.residual_outputs():
                weight.mul_(100)
        model.readout.norm.weight.mul_(20)
    prompted, config = Prompted(model, PROMPT, 20), GenerationConfig(max_new_tokens=20, temperature=1.0)
    texts = [list(prompted.tokens(config, torch.Generator().manual_seed(seed))) for seed in (0, 1, 0)]
    assert texts[0] == texts[2] != texts[1] and all(0 <= token < VOCAB for token in texts[0])


def test_a_token_costs_a_window_what_it_did_before() -> None:
    """FLOPs of a step, counted: the same 10 and 60 tokens behind the prompt once the window is full, and no second prefill."""
    mixers = {"S": CYCLE.mixers["S"].replace(backend="reference")}
    model = CYCLE.replace(pattern="S", mixers=mixers).build(Vocabulary(VOCAB))
    tokens = Prompted(model, PROMPT, 80).tokens(GenerationConfig(max_new_tokens=80))
    costs = []
    for _ in range(70):
        with FlopCounterMode(display=False) as counter:
            next(tokens)
        costs.append(counter.get_total_flops())
    assert costs[10] == costs[60] > 0 and costs[0] == 0


def test_what_cannot_be_continued() -> None:
    with pytest.raises(ConfigError, match="a prompt is empty"):
        Prompted(build(CYCLE), [], 3)
    prompted = Prompted(build(CYCLE), PROMPT, 3)
    with pytest.raises(ConfigError, match="there is no beam, and the state has room for 3 tokens"):
        list(prompted.tokens(GenerationConfig(max_new_tokens=4)))
    with pytest.raises(ConfigError, match="there is no beam"):
        list(prompted.tokens(GenerationConfig(max_new_tokens=2, beam_size=2)))
