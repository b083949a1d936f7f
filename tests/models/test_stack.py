"""Stack: what is drawn smaller, and by how much; bits of a model that were drawn before stay."""

from __future__ import annotations

import hashlib
import math
from typing import Literal

import pytest
import torch
from models.architectures import ALL, MIXERS, VOCAB, decoder_only, encoder_decoder
from torch import Tensor, nn

from ripstop.batch import Vocabulary
from ripstop.config import ConfigError
from ripstop.layers.block import Block
from ripstop.layers.norms.rms_norm import RMSNormConfig
from ripstop.mixers import MIXERS as KINDS
from ripstop.mixers.base import Mixer, MixerConfig
from ripstop.mixers.bidirectional import Bidirectional, BidirectionalConfig
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.models.stack import Stack, StackPlan


def as_drawn(plan: StackPlan) -> nn.ModuleList:
    """The blocks before their outputs are made smaller, by the generator's state at hand."""
    return nn.ModuleList(
        Block(
            plan.d_model,
            mixer.build(plan.d_model),
            plan.cross_attention[i].build(plan.d_model) if i in plan.cross_attention else None,
            None if plan.mlp is None else plan.mlp.build(plan.d_model),
            plan.norm,
        )
        for i, mixer in enumerate(plan.mixers)
    )


def made_smaller(plan: StackPlan) -> tuple[set[str], float]:
    """Names of the parameters that the stack scales, and the one factor."""
    torch.manual_seed(0)
    before = dict(as_drawn(plan).named_parameters())
    torch.manual_seed(0)
    after = dict(Stack(plan).blocks.named_parameters())
    assert before.keys() == after.keys()
    scaled = {name for name in before if not torch.equal(before[name], after[name])}
    factors = torch.cat([(after[name] / before[name]).flatten() for name in scaled])
    assert factors.max() - factors.min() < 1e-6
    return scaled, factors.mean().item()


@pytest.mark.parametrize(
    ("plan", "n_terms", "names"),
    [
        (decoder_only("recurrent").stack, 2, ["0.mixer.out_proj", "1.mixer.out_proj"]),
        (
            decoder_only("hybrid").stack,
            8,
            [f"{i}.{part}.out_proj" for i in range(4) for part in ("mixer", "mlp")],
        ),
        (
            encoder_decoder("hybrid").decoder,
            8,
            [f"{i}.{part}.out_proj" for i in range(3) for part in ("mixer", "mlp")]
            + ["0.cross_attention.out_proj", "2.cross_attention.out_proj"],
        ),
        (
            encoder_decoder("hybrid").encoder,  # BBEE with mlps: two scans of each B
            2 * 2 + 2 + 4,
            [f"{i}.mixer.{scan}.out_proj" for i in (0, 1) for scan in ("ahead", "back")]
            + [f"{i}.mixer.out_proj" for i in (2, 3)]
            + [f"{i}.mlp.out_proj" for i in range(4)],
        ),
        (encoder_decoder("first").encoder, 3, ["0.mixer.ahead.out_proj", "0.mixer.back.out_proj", "1.mixer.out_proj"]),
    ],
)
def test_what_writes_to_the_residual_stream_is_scaled_once_and_nothing_else(
    plan: StackPlan, n_terms: int, names: list[str]
) -> None:
    scaled, factor = made_smaller(plan)
    assert scaled == {f"{name}.weight" for name in names}
    assert factor == pytest.approx(1 / math.sqrt(n_terms), rel=1e-5)


class OddConfig(MixerConfig):
    """A mixer whose output is called otherwise, beside a decoy that is called like one."""

    kind: Literal["odd"] = "odd"

    def build(self, d_model: int) -> Odd:
        return Odd(d_model)


class Odd(Mixer):
    def __init__(self, d_model: int):
        super().__init__()
        self.out_proj = nn.Linear(d_model, d_model, bias=False)
        self.leave = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x_BTD: Tensor, segments: object = None) -> Tensor:
        return self.leave(self.out_proj(x_BTD).tanh())

    def residual_outputs(self) -> list[Tensor]:
        return [self.leave.weight]


class TwiceConfig(MixerConfig):
    """Both ways of both ways, and one scan more: three terms."""

    kind: Literal["twice"] = "twice"

    def build(self, d_model: int) -> Bidirectional:
        scan = BidirectionalConfig.parse(MIXERS["B"], "B")
        outer = scan.build(d_model)
        outer.ahead = scan.build(d_model)
        return outer


class SharedConfig(MixerConfig):
    """Two terms through one weight."""

    kind: Literal["shared"] = "shared"

    def build(self, d_model: int) -> Shared:
        return Shared(d_model)


class Shared(Odd):
    def residual_outputs(self) -> list[Tensor]:
        return [self.leave.weight, self.leave.weight]


@pytest.mark.parametrize(
    ("config", "n_terms", "names"),
    [
        (OddConfig(), 1, ["leave"]),
        (TwiceConfig(), 3, ["ahead.ahead.out_proj", "ahead.back.out_proj", "back.out_proj"]),
        (SharedConfig(), 2, ["leave"]),
    ],
)
def test_a_mixer_says_what_it_ends_in(config: MixerConfig, n_terms: int, names: list[str]) -> None:
    attention = KINDS.parse(MIXERS["A"])
    scaled, factor = made_smaller(StackPlan(24, (config, attention), None, RMSNormConfig()))
    assert scaled == {f"0.mixer.{name}.weight" for name in names} | {"1.mixer.out_proj.weight"}
    assert factor == pytest.approx((n_terms + 1) ** -0.5, rel=1e-5)


def test_a_mixer_that_ends_in_nothing_known_is_named() -> None:
    class Nameless(Mixer):
        pass

    with pytest.raises(TypeError, match=r"Nameless: has no out_proj; return the weights .* from residual_outputs\(\)"):
        Nameless().residual_outputs()


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("recurrent", "4cfdac0f873d6459"),
        ("hybrid", "d31d85208896fff1"),
        ("attention", "fbbb572e2b03e013"),
    ],
)
def test_the_bits_of_a_draw_stay(name: str, digest: str) -> None:
    """Every matrix that is drawn uniformly, bit for bit as at commit 3469aad. (Tables and rates go through a logarithm or a
    cosine, whose last bit is the processor's: their sums stand instead.)"""
    torch.manual_seed(5)
    model = ALL[f"decoder_only-{name}"].build(Vocabulary(VOCAB))
    drawn, sums = hashlib.sha256(), 0.0
    for path, weight in model.named_parameters():
        if path.startswith(("embedding", "readout")) or path.endswith(("dt_bias", "A_log")):
            sums += weight.double().abs().sum().item()
        else:
            drawn.update(path.encode() + weight.detach().numpy().tobytes())
    assert drawn.hexdigest()[:16] == digest
    assert sums == pytest.approx(SUMS[name], rel=1e-5)


SUMS = {"recurrent": 103.628473, "hybrid": 65.406032, "attention": 45.373973}


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_plain_is_as_drawn_and_depth_divides_by_the_root_of_the_terms(depth: int) -> None:
    """Bit for bit as drawn, and the quotient to the last digit; through the models' configuration. A layer adds one term."""
    config = DecoderOnlyConfig(d_model=24, pattern=f"X{depth}", mixers={"X": KINDS.parse(MIXERS["M"])})
    drawn = {}
    for start in ("plain", "depth"):
        torch.manual_seed(7)
        drawn[start] = dict(config.replace(residual_init=start).stack.build().named_parameters())
    torch.manual_seed(7)
    by_hand = dict(as_drawn(config.stack).named_parameters(prefix="blocks"))
    scaled = {f"blocks.{layer}.mixer.out_proj.weight" for layer in range(depth)}
    assert by_hand.keys() == drawn["plain"].keys() == drawn["depth"].keys() > scaled
    for name, weight in by_hand.items():
        assert torch.equal(drawn["plain"][name], weight), name
        wanted = weight / math.sqrt(depth) if name in scaled else weight
        torch.testing.assert_close(drawn["depth"][name], wanted, rtol=2e-7 if name in scaled else 0, atol=0)
    assert config.residual_init == "depth"


def test_a_shared_weight_is_divided_once_or_not_at_all() -> None:
    drawn = {}
    for start in ("plain", "depth"):
        torch.manual_seed(1)
        drawn[start] = Stack(StackPlan(24, (SharedConfig(),), None, RMSNormConfig(), residual_init=start))
    leave = [stack.get_parameter("blocks.0.mixer.leave.weight") for stack in drawn.values()]
    torch.testing.assert_close(leave[1], leave[0] / math.sqrt(2), rtol=2e-7, atol=0)  # two terms through one weight


@pytest.mark.parametrize("half", ["encoder", "decoder"])
def test_both_halves_of_a_translator_start_as_told(half: str) -> None:
    config = encoder_decoder("hybrid")
    assert getattr(config, half).residual_init == "depth"
    plan = getattr(config.replace(residual_init="plain"), half)
    torch.manual_seed(0)
    before = dict(as_drawn(plan).named_parameters())
    torch.manual_seed(0)
    after = dict(Stack(plan).blocks.named_parameters())
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_another_start_names_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match="residual_init: input should be 'depth' or 'plain'"):
        decoder_only("recurrent").replace(residual_init="depths")
