"""swa_mla: what each arm changes and nothing else, equal parameters, how much is run, and what would not be comparable."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ripstop import params, studies, yaml_file
from ripstop.config import ConfigError
from ripstop.data.text import TextConfig
from ripstop.mixers.mla import MlaConfig
from ripstop.mixers.sliding_window import SlidingWindowConfig
from ripstop.models import pattern as patterns
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.models.equal_parameters import block_parameters
from ripstop.runs import Run
from ripstop.studies.base import runs

FILE = Path(__file__).parents[2] / "params.yaml"
SCALES = ("smoke", "cpu", "h100")
BASE = {"sweep": "architecture", "architecture": "swa_mla"}
STARTS = 2.5
"""Seconds of CPU that a process takes to start."""


BLOCK = """
seeds: [0, 1, 2]
data: {kind: text, source: embedded, tokenizer: {kind: bpe, vocab_size: 500}, block_size: 256}
model:
  kind: decoder_only
  d_model: 64
  pattern: (SSL)2
  mixers:
    S: {kind: sliding_window, n_heads: 2, window_size: 32, sink_size: 4}
    L: {kind: mla, n_heads: 2, kv_lora_rank: 32, qk_nope_head_dim: 16, qk_rope_head_dim: 16, v_head_dim: 32}
    A: {kind: attention, n_heads: 2}
    M: {kind: mamba2, d_state: 16, head_dim: 32}
  mlp: {activation: swiglu, d_mlp: 128}
architectures: {sliding_window: S6, mla: L6, attention: A6, mamba2_attention: (MMA)2}
sweeps: {window: [16, 64], sink: [0, 1], cycle: [SL, SSSSSL], rank: [16], isolation: true}
training: {steps: 80, tokens_per_step: 2048, lr: 6.0e-3}
optimizers:
  steps: 60
  validate_every: 5
  seed: 100
  arms:
    adamw: {optimizer: {kind: adamw}, lr: [3.0e-3, 6.0e-3, 1.2e-2]}
    lion: {optimizer: {kind: lion}, lr: [5.0e-4, 1.0e-3, 2.0e-3]}
    muon: {optimizer: {kind: muon}, lr: [3.0e-3, 6.0e-3, 1.2e-2]}
stability: {steps: 30, validate_every: 10, lr: [1.0e-2, 3.0e-2, 1.0e-1], sinks: [0, 4]}
evaluation:
  bits: {positions: [0, 16, 32, 64, 128], past: 64}
  without_sinks: {positions: [0, 16, 32, 64, 128], past: 64}
  state: {seq_len: 2048}
"""


def shipped(scale: str) -> list[Run]:
    return list(runs(studies.load("swa_mla"), params.load(FILE, scale=scale).study("swa_mla", scale), scale, "swa_mla"))


def grid(**changes: Any) -> list[Run]:
    """Of the block above, whatever params.yaml says. changes: dotted keys, with __ for the dots."""
    values: dict[str, Any] = yaml_file.parse(BLOCK, "block")
    for key, value in changes.items():
        *outer, last = key.split("__")
        block = values
        for name in outer:
            block = block.setdefault(name, {})
        block[last] = value
    return list(runs(studies.load("swa_mla"), values, "cpu", "swa_mla"))


def model_of(run: Run) -> DecoderOnlyConfig:
    assert isinstance(run.model, DecoderOnlyConfig)
    return run.model


def having(made: list[Run], **factors: Any) -> list[Run]:
    return [run for run in made if all(run.factors.get(key) == value for key, value in factors.items())]


@pytest.mark.parametrize("scale", SCALES)
def test_every_model_has_the_parameters_of_the_base(scale: str) -> None:
    made = shipped(scale)
    assert len({run.name for run in made}) == len(made)
    wanted = block_parameters(model_of(having(made, **BASE)[0]))
    for run in made:
        if run.factors["sweep"] != "size":
            assert block_parameters(model_of(run)) == pytest.approx(wanted, rel=0.02), run.name
            assert model_of(run).mixers.keys() == set(patterns.parse(model_of(run).pattern)), "it depends on no other mixer"


def test_a_sweep_changes_one_thing() -> None:
    made = grid()
    base = having(made, **BASE)[0]
    own = {key: base.factors[key] for key in ("window", "sink", "cycle", "rank", "isolation")}
    assert own == {"window": 32, "sink": 4, "cycle": "SSL", "rank": 32, "isolation": "on"}
    assert base.factors["latent_share"] == pytest.approx(1 / 3)
    settings = {"window": "window_size", "sink": "sink_size", "rank": "kv_lora_rank"}
    kinds = {"window": SlidingWindowConfig, "sink": SlidingWindowConfig, "rank": MlaConfig}
    for sweep, setting in settings.items():
        for run in having(made, sweep=sweep):
            for letter, mixer in model_of(run).mixers.items():
                before = model_of(base).mixers[letter]
                value = run.factors[sweep]
                assert mixer == (before.replace(**{setting: value}) if isinstance(mixer, kinds[sweep]) else before)
            assert (run.training, run.data) == (base.training, base.data)
            assert model_of(run).pattern == model_of(base).pattern
    assert {run.factors["window"] for run in having(made, sweep="window")} == {16, 64}
    assert {run.factors["sink"] for run in having(made, sweep="sink")} == {0, 1}
    cycles = {run.factors["cycle"]: run for run in having(made, sweep="cycle")}
    assert {cycle: patterns.parse(model_of(run).pattern) for cycle, run in cycles.items()} == {
        "SL": "SLSLSL", "SSSSSL": "SSSSSL"
    }  # fmt: skip
    assert [cycles[name].factors["latent_share"] for name in ("SL", "SSSSSL")] == [0.5, pytest.approx(1 / 6)]
    packed = having(made, sweep="isolation")[0]
    assert isinstance(packed.data, TextConfig) and isinstance(base.data, TextConfig)
    assert packed.model == base.model and packed.data == base.data.replace(isolate=False) != base.data


def test_the_base_s_own_value_is_no_second_arm() -> None:
    made = grid(sweeps={"window": [16, 32, 64], "sink": [0, 4], "cycle": ["SSL", "SL"], "rank": [32, 16]})
    assert {run.factors["window"] for run in having(made, sweep="window")} == {16, 64}
    assert {run.factors["cycle"] for run in having(made, sweep="cycle")} == {"SL"}


def test_each_optimizer_chooses_among_as_many_rates_with_another_seed() -> None:
    made = grid()
    for name in ("adamw", "lion", "muon"):
        mine = having(made, sweep="optimizers", optimizer=name)
        tried, results = ([run for run in mine if bool(run.settings) is own] for own in (True, False))
        assert len(tried) == 3 and len({run.settings["training.lr"] for run in tried}) == 3
        assert {run.seed for run in tried} == {100} and not {100} & {run.seed for run in made if not run.settings}
        for run in (*tried, *results):
            assert run.training is not None and run.training.optimizer.kind == name
            assert run.training.steps == 60 and run.choice == f"sweep-optimizers_optimizer-{name}"
        assert [list(run.evaluation) for run in (*tried, *results)] == [[]] * 3 + [["curve"]] * 3
    others = [run for run in made if run.factors["sweep"] != "optimizers"]
    assert {(run.choice, len(run.settings)) for run in others} == {("", 0)}


def test_high_rates_are_tried_with_and_without_a_sink_and_may_diverge() -> None:
    made = grid()
    risky = having(made, sweep="stability")
    tried = {(run.factors["sink"], run.factors["lr"], run.seed) for run in risky}
    assert tried == {(sink, lr, seed) for sink in (0, 4) for lr in (0.01, 0.03, 0.1) for seed in (0, 1, 2)}
    for run in made:
        if run.training is not None and not run.settings:
            assert run.training.on_divergence == ("record" if run in risky else "fail")
    for run in risky:
        assert run.training is not None and run.training.lr == run.factors["lr"] and list(run.evaluation) == ["stability"]
        windows = [mixer for mixer in model_of(run).stack.mixers if isinstance(mixer, SlidingWindowConfig)]
        assert {mixer.sink_size for mixer in windows} == {run.factors["sink"]}


def test_the_baseline_is_measured_once_and_what_no_seed_moves_too() -> None:
    made = grid()
    (baseline,) = having(made, sweep="baseline")
    assert baseline.training is None and list(baseline.evaluation) == ["ngram", "ngram_valid"]
    n = Counter(part for run in made for part in run.evaluation)
    assert n["ngram"] == n["ngram_valid"] == n["samples"] == 1 and n["without_sinks"] == 3
    stated = [tuple(run.factors.items()) for run in made if "state" in run.evaluation]
    assert len(stated) == len(set(stated)) == 5 + 2 + 2 + 1


def test_processes_alone_take_less_than_half_of_the_budget() -> None:
    """22 core-minutes are for everything: what they are for is training."""
    made = shipped("cpu")
    n_processes = sum(run.training is not None for run in made) + sum(len(run.evaluation) for run in made)
    assert n_processes * STARTS < 22 * 60 / 2
    assert all(len({run.seed for run in having(made, **{k: v for k, v in one.factors.items()})}) >= 3
               for one in made if one.factors["sweep"] != "baseline" and not one.settings)  # fmt: skip


def test_the_full_scale_is_a_preset_and_one_size_larger() -> None:
    made = shipped("h100")
    base = having(made, **BASE)[0]
    assert base.model.num_params(50257) == 150_055_936 and base.data.longest_row.total >= 2048
    (size,) = {run.model.num_params(50257) for run in having(made, sweep="size")}
    assert size == 398_922_752


POSITIONS, LATER = {"positions": [0, 32, 64], "past": 64}, {"positions": [0, 64], "past": 64}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architectures__swa_mla": "S6"}, "architectures.swa_mla: is the base, whose pattern is model.pattern; remove it"),
        ({"model__pattern": "S6"}, "model.pattern: 'S6' has 1 kinds of sliding_window and 0 of mla layers"),
        ({"model__mixers__S__sink_size": 0}, "model.mixers: the sliding_window has no sink, which is dropped and swept; set"),
        ({"sweeps__window": [16, 128]}, "sweeps.window: 64 is not among [16, 128], and the paper compares it; add it"),
        ({"sweeps__rank": [8]}, "sweeps.rank: 16 is not among [8], and the paper compares it; add it"),
        ({"sweeps__sink": [1]}, "sweeps.sink: 0 is not among [1], and the paper compares it; add it"),
        ({"sweeps__cycle": ["SSSSSL"]}, "sweeps.cycle: none has more latent layers than the base's SSL; add one"),
        ({"sweeps__cycle": ["SLLL"]}, "sweeps.cycle: SLLL does not repeat to the model's 6 layers; take one that does"),
        ({"evaluation__bits": {"positions": [0, 32]}}, "evaluation.bits.past: is None, and the past begins behind"),
        ({"evaluation__bits": {"positions": [0, 32], "past": 32}}, "evaluation.bits.past: is 32, and the past begins behind"),
        ({"evaluation__bits": POSITIONS}, "evaluation.without_sinks.positions: differs from that of evaluation.bits"),
        (
            {"evaluation__bits": LATER, "evaluation__without_sinks": LATER},
            "evaluation.bits.positions: 32 is not among them, where sinks begin to matter; add it",
        ),
        ({"evaluation__ngram_valid": {"kind": "ngram"}}, "evaluation.ngram: has the split of evaluation.bits, test, and"),
        ({"evaluation__ngram__orders": [1, 2]}, "evaluation.ngram_valid.orders: differ from those of ngram, which are chosen"),
        ({"evaluation__state": {}}, "evaluation.state.seq_len: is not given, and the paper names the context of a state"),
        ({"optimizers__seed": 1}, "optimizers.seed: 1 is one of `seeds`; choose on another one"),
        ({"optimizers__arms__lion__lr": [0.1]}, "optimizers.arms: learning rates to choose from are adamw 3, lion 1, muon"),
        ({"stability__sinks": [0, 2]}, "stability.sinks: 4 is not among [0, 2], and is compared; add it"),
        ({"stability__lr": [0.1, 0.01]}, "stability: lr must rise without repeats, and is [0.1, 0.01]"),
        ({"stability__seeds": [7]}, "seeds: 7 is none of the study's, which are 0, 1, 2"),
        ({"preset": "swa_mla_smal"}, "model: preset 'swa_mla_smal' does not exist; did you mean 'swa_mla_small'?"),
        ({"sizes": {"base": "swa_mla_bas"}}, "sizes.base: preset 'swa_mla_bas' does not exist; did you mean 'swa_mla_base'?"),
        ({"model__mlp": None}, "mlp: is none, and its width is what makes models equal in parameters; give the model an mlp"),
        ({"model__mlp__d_mlp": 8}, "pattern '(MMA)2' has "),
    ],
)  # fmt: skip
def test_what_would_not_be_measured_or_compared_is_one_sentence(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        grid(**changes)
    assert str(error.value).startswith(f"swa_mla: {message}") and "\n" not in str(error.value)


def test_a_scale_without_optimizers_high_rates_and_sweeps_stands() -> None:
    made = grid(optimizers=None, stability=None, sweeps={})
    assert {run.factors["sweep"] for run in made} == {"architecture", "baseline"}
