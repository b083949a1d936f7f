"""From a study's block to its runs: hand-worked grids."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ripstop import params, studies
from ripstop.config import ConfigError
from ripstop.data.mqar import MqarConfig
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.models.encoder_decoder import EncoderDecoderConfig
from ripstop.runs import Run
from ripstop.studies import base
from ripstop.studies.base import Arm, StudyParams, runs
from ripstop.training.config import TrainingConfig

FILE = Path(__file__).parents[2] / "params.yaml"


def grid(name: str, **changes: Any) -> list[Run]:
    """The runs of the shipped block of scale cpu with `changes`, nothing to choose, at a scale of another name."""
    values = params.load(FILE).study(name, "cpu") | {"choice": None} | changes
    return list(runs(studies.load(name), values, "large", "test"))


def choosing(**changes: Any) -> dict[str, Any]:
    """A choice among two learning rates and two ways to start."""
    settings = {"training": {"lr": [0.5, 1e-6]}, "model": {"residual_init": ["plain", "depth"]}}
    return {"seed": 77, "settings": settings} | changes


def training_of(run: Run) -> TrainingConfig:
    assert run.training is not None
    return run.training


def test_every_arm_meets_every_seed_and_has_its_own_settings() -> None:
    made = grid("d_state_scaling", seeds=[3, 8], shapes=[[4, 2], [16, 1]], steps=[10, 20], d_model=32, pattern="MM")
    # two layers x expand x 32 x d_state: 2*2*32*4 = 512 and 2*1*32*16 = 1024
    wanted = [
        (f"d_state-{d_state}_expand-{expand}_steps-{steps}_seed-{seed}", seed, steps, d_state, expand, state)
        for d_state, expand, state in ((4, 2, 512), (16, 1, 1024))
        for steps in (10, 20)
        for seed in (3, 8)
    ]
    found = []
    for run in made:
        assert run.training is not None and isinstance(run.model, DecoderOnlyConfig)
        mixer: Any = run.model.mixers["M"]
        found.append((run.name, run.seed, run.training.steps, mixer.d_state, mixer.expand, run.factors["state_elements"]))
        assert {key: run.factors[key] for key in ("d_state", "expand", "steps")} == {
            "d_state": mixer.d_state,
            "expand": mixer.expand,
            "steps": run.training.steps,
        }
    assert found == wanted
    assert {(run.study, run.scale) for run in made} == {("d_state_scaling", "large")}


def test_an_arm_may_have_data_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    study = studies.load("mqar_cliff")
    arms, own = study.arms, MqarConfig(num_pairs=[2])

    def with_data(params: Any) -> Iterator[Arm]:
        for arm in arms(params):
            yield replace(arm, data=own) if arm.factors["architecture"] == "attention" else arm

    monkeypatch.setattr(study, "arms", with_data)
    found = {str(run.factors["architecture"]): run.data for run in grid("mqar_cliff", seeds=[0])}
    assert found.pop("attention") == own
    assert found and all(data.id != own.id for data in found.values())


def test_an_architecture_records_the_one_d_state_that_it_has() -> None:
    made = grid("mqar_cliff", seeds=[5], patterns={"both": "MA", "none": "AA"})
    assert [(run.name, run.factors) for run in made] == [
        ("architecture-both_seed-5", {"architecture": "both", "d_state": 16}),
        ("architecture-none_seed-5", {"architecture": "none"}),
    ]


def test_a_decoder_sees_its_source_where_its_arm_says() -> None:
    positions = {"second": {"cross_attention": [1]}, "mean": {"cross_attention": [], "source_summary": "mean"}}
    made = grid("blind_start", seeds=[0], positions=positions, steps=[7])
    models = [run.model for run in made if isinstance(run.model, EncoderDecoderConfig)]
    assert [(m.cross_attention_positions, m.source_summary) for m in models] == [([1], "none"), ([], "mean")]
    assert [run.name for run in made] == ["positions-second_steps-7_seed-0", "positions-mean_steps-7_seed-0"]
    assert {run.training.steps for run in made if run.training} == {7}


def test_a_ratio_records_its_share_of_attention() -> None:
    patterns = {"some": "MMAM", "all": "AAAA"}
    made = grid("hybrid_ratio", seeds=[0], patterns=patterns, cross_attention_positions=[0], ablations=None)
    assert [run.factors for run in made] == [
        {"ratio": "some", "ablation": "none", "attention_share": 0.25},
        {"ratio": "all", "ablation": "none", "attention_share": 1.0},
    ]
    assert [run.model.decoder_pattern for run in made if isinstance(run.model, EncoderDecoderConfig)] == ["MMAM", "AAAA"]


def test_depths_meet_both_starts() -> None:
    made = grid("residual_init", seeds=[4], depths=[1, 3])
    assert [(run.name, run.factors) for run in made] == [
        (f"depth-{depth}_start-{start}_seed-4", {"depth": depth, "start": start})
        for depth in (1, 3)
        for start in ("depth", "plain")
    ]
    models = [run.model for run in made if isinstance(run.model, DecoderOnlyConfig)]
    assert [(m.pattern, len(m.stack.mixers), m.stack.residual_init) for m in models] == [
        ("X1", 1, "depth"), ("X1", 1, "plain"), ("X3", 3, "depth"), ("X3", 3, "plain")
    ]  # fmt: skip


def test_shapes_and_positions_are_recorded() -> None:
    assert [run.factors["shape"] for run in grid("d_state_scaling", seeds=[0], shapes=[[4, 2], [16, 1]], steps=[5])] == [
        "4x2",
        "16x1",
    ]
    positions = {"two": {"cross_attention": [0, 3]}, "rule": {"cross_attention": "adaptive"}, "blind": {"cross_attention": []}}
    rule = {"d_state": 8, "num_pairs": 128}
    made = grid("blind_start", seeds=[0], positions=positions, steps=[5], adaptive=rule)
    assert [run.factors["cross_layers"] for run in made] == [2, 2, 0]  # the rule gives layers 0 and 3


def test_candidates_are_all_combinations_with_a_seed_of_their_own() -> None:
    """Two arms of two seeds, four candidates an arm: 4 + 2 + 4 + 2 runs."""
    told = training_of(grid("residual_init")[0])
    made = grid("residual_init", seeds=[0, 1], depths=[2], choice=choosing())
    tried = [(0.5, "plain"), (0.5, "depth"), (1e-6, "plain"), (1e-6, "depth")]
    names = []
    for start in ("depth", "plain"):
        names += [f"depth-2_start-{start}_candidate-{number}_seed-77" for number in range(4)]
        names += [f"depth-2_start-{start}_seed-{seed}" for seed in (0, 1)]
    assert [run.name for run in made] == names
    for run in made:
        start, number = run.factors["start"], run.factors.get("candidate")
        assert run.choice == f"depth-2_start-{start}"
        if isinstance(number, int):
            lr, init = tried[number]
            assert run.settings == {"training.lr": lr, "model.residual_init": init}
            assert run.factors == {"depth": 2, "start": start, "candidate": number}
            assert (run.seed, run.evaluation) == (77, {})
            assert training_of(run) == told.replace(lr=lr, on_divergence="record")
            assert isinstance(run.model, DecoderOnlyConfig) and run.model.residual_init == init
        else:
            assert (run.settings, run.seed) == ({}, int(run.name[-1]))
            assert set(run.evaluation) == {"recall", "learning_curve"}
            assert training_of(run) == told and run.factors == {"depth": 2, "start": start}
            assert isinstance(run.model, DecoderOnlyConfig) and run.model.residual_init == start


def test_nothing_to_choose_changes_nothing() -> None:
    assert {(run.choice, len(run.settings)) for run in grid("residual_init")} == {("", 0)}


def test_an_arm_has_a_choice_of_its_own_where_others_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    study = studies.load("residual_init")
    plain = study.arms
    own = base.ChoiceParams(seed=77, settings={"training": {"lr": [0.5, 0.25]}}, steps=9)

    def arms(params: Any) -> Iterator[Arm]:
        for arm in plain(params):
            yield replace(arm, choice=own) if arm.factors["start"] == "plain" else arm

    monkeypatch.setattr(study, "arms", arms)
    made = grid("residual_init", seeds=[0], depths=[1])
    told = {run.name: (run.seed, run.choice, run.settings, training_of(run).steps) for run in made}
    steps = training_of(made[0]).steps
    assert told == {
        "depth-1_start-depth_seed-0": (0, "", {}, steps),
        "depth-1_start-plain_candidate-0_seed-77": (77, "depth-1_start-plain", {"training.lr": 0.5}, 9),
        "depth-1_start-plain_candidate-1_seed-77": (77, "depth-1_start-plain", {"training.lr": 0.25}, 9),
        "depth-1_start-plain_seed-0": (0, "depth-1_start-plain", {}, steps),
    }


def test_arms_that_differ_in_steps_share_a_choice() -> None:
    made = grid("d_state_scaling", seeds=[5], shapes=[[4, 2], [8, 1]], steps=[10, 20], choice=choosing(steps=7))
    names = [run.name for run in made]
    for shape in ("d_state-4_expand-2", "d_state-8_expand-1"):
        mine = [run for run in made if run.name.startswith(shape)]
        assert {run.choice for run in mine} == {shape}
        assert [run.name for run in mine if run.settings] == [f"{shape}_candidate-{number}_seed-77" for number in range(4)]
        assert {training_of(run).steps for run in mine if run.settings} == {7}
        assert [training_of(run).steps for run in mine if not run.settings] == [10, 20]
    assert len(names) == len(set(names)) == 2 * (4 + 2)
    long = grid("d_state_scaling", seeds=[5], shapes=[[4, 2]], steps=[10], choice=choosing())
    told = params.load(FILE).study("d_state_scaling", "cpu")["training"]["steps"]
    assert {training_of(run).steps for run in long if run.settings} == {told} != {10}, "where choice.steps says nothing"


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        (choosing(seed=1), r"test: choice\.seed: 1 is one of `seeds`; choose on another one"),
        (choosing(seed=-1), r"choice\.seed: input should be greater than or equal to 0"),
        (choosing(steps=0), r"choice\.steps"),
        (choosing(sed=3), r"choice\.sed: unknown key; did you mean 'seed'"),
        (choosing(settings={}), r"choice\.settings: names no setting to choose"),
        (choosing(settings={"training": {}}), r"choice\.settings: names no setting to choose"),
        (choosing(settings={"training": {"lr": []}}), r"choice\.settings: training\.lr is \[\]; give it a list of values"),
        (choosing(settings={"training": {"lr": 0.1}}), r"choice\.settings: training\.lr is 0\.1; give it a list of values"),
        (choosing(settings={"training": {"lr": [[1]]}}), r"choice\.settings: training\.lr is \[\[1\]\]; give it a list"),
        (choosing(settings={"training": {"lr": [1, 1.0]}}), r"choice\.settings: training\.lr: \[1, 1\.0\] names a value twice"),
        (choosing(settings={"data": {"n_keys": [8]}}), r"choice\.settings\.data: input should be 'training' or 'model'"),
        (
            choosing(settings={"training": {"lrr": [1]}}),
            r"test: choice\.settings: training\.lrr: unknown key; did you mean 'lr'",
        ),
        (
            choosing(settings={"training": {"lr": [0.1, 0]}}),
            r"test: choice\.settings: training\.lr: .*greater than 0 \(got 0\)",
        ),
        (choosing(settings={"training": {"lr": ["x"]}}), r"test: choice\.settings: training\.lr: needs a number \(got 'x'\)"),
        (
            choosing(settings={"model": {"norm": {"epss": [1]}}}),
            r"choice\.settings: model\.norm\.epss: unknown key; did you mean",
        ),
        (choosing(settings={"training": {"lr": {"x": [1]}}}), r"test: choice\.settings: .*training\.lr of the run is"),
    ],
)
def test_a_choice_that_cannot_be_made_is_one_sentence_that_names_its_key(choice: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told) as error:
        grid("residual_init", seeds=[0, 1], choice=choice)
    assert str(error.value).count("choice.settings") <= 1 and str(error.value).startswith("test")


def test_a_choice_needs_a_held_out_loss() -> None:
    training = params.load(FILE).study("residual_init", "cpu")["training"] | {"validate_every": 0}
    with pytest.raises(
        ConfigError, match=r"test: choice needs training\.validate_every above 0, since the held-out loss decides"
    ):
        grid("residual_init", training=training, choice=choosing(), evaluation={"learning_curve": None})
    silent = {"training": {"validate_every": [10, 0]}}
    with pytest.raises(ConfigError, match=r"test: choice needs training\.validate_every above 0"):
        grid("residual_init", choice=choosing(settings=silent))


class Weaving(ModuleType):
    """A study of these arms."""

    class Params(StudyParams):
        evaluation: dict[str, Any] = {}

    def __init__(self, *arms: Arm):
        super().__init__("studies.weaving")
        self.arms = lambda params: iter(arms)


VALUES = {
    "seeds": [0],
    "data": {"kind": "mqar", "n_keys": 8, "n_values": 8, "num_pairs": [2], "n_test": 4},
    "training": {"steps": 10, "tokens_per_step": 64, "lr": 0.1, "validate_every": 5},
}
MODEL = DecoderOnlyConfig.parse({"d_model": 8, "pattern": "A", "mixers": {"A": {"kind": "attention", "n_heads": 1}}}, "test")


def weave(*arms: Arm) -> list[Run]:
    choice = choosing(settings={"training": {"lr": [0.2, 0.3]}})
    return list(runs(Weaving(*arms), VALUES | {"choice": choice}, "cpu", "test"))


def test_candidates_are_trained_as_their_arm_is() -> None:
    """With its own data and training; steps are the choice's, and what is tried has the last word."""
    data = MqarConfig.parse(VALUES["data"] | {"n_keys": 16}, "test")
    training = {"steps": 99, "clip": 0.25, "lr": 0.7}
    candidates = [run for run in weave(Arm({"a": 1}, MODEL, data=data, training=training, derived={"b": 2})) if run.settings]
    assert [training_of(run).lr for run in candidates] == [0.2, 0.3]
    assert {(training_of(run).steps, training_of(run).clip) for run in candidates} == {(10, 0.25)}
    assert {run.data.id for run in candidates} == {data.id}


@pytest.mark.parametrize(
    "changes",
    [{"model": MODEL.replace(d_model=16)}, {"training": {"clip": 0.5}}, {"data": MqarConfig.parse(VALUES["data"], "t")}],
)
def test_arms_that_share_a_choice_are_one_model(changes: dict[str, Any]) -> None:
    first = Arm({"a": 1}, MODEL, chooses={"all": 1})
    assert len(weave(first, Arm({"a": 2}, MODEL, training={"steps": 5}, chooses={"all": 1}))) == 2 + 1 + 1
    other = Arm(**{"factors": {"a": 2}, "model": MODEL, "chooses": {"all": 1}, **changes})
    with pytest.raises(ConfigError, match=r"test: two arms choose as all-1 and differ in more than training\.steps"):
        weave(first, other)


def test_models_that_have_one_candidate_share_its_choice() -> None:
    wide, wider = MODEL.replace(d_model=16), MODEL.replace(d_model=32)
    made = weave(*(Arm({"a": n}, model, chooses={}, candidate=wide) for n, model in enumerate((MODEL, wide, wider))))
    assert [run.model for run in made if run.settings] == [wide, wide]
    assert [run.model for run in made if not run.settings] == [MODEL, wide, wider]
    with pytest.raises(ConfigError, match=r"two arms choose as all and differ in more than training\.steps"):
        weave(Arm({"a": 1}, MODEL, chooses={}, candidate=wide), Arm({"a": 2}, MODEL, chooses={}, candidate=wider))


def test_all_arms_may_share_one_choice() -> None:
    made = weave(*(Arm({"a": n}, MODEL, chooses={}) for n in (1, 2)))
    assert [run.name for run in made] == ["candidate-0_seed-77", "candidate-1_seed-77", "a-1_seed-0", "a-2_seed-0"]
    assert {run.choice for run in made} == {"all"}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"a": {"b": ["x", "y", "x"]}}, "a.b: names x twice; name each once"),
        ({"a": [{"c": ["x", "x"]}]}, "a.c: names x twice; name each once"),
        ({"a": [{"kind": "k", "n": 1}, {"kind": "k", "n": 2}]}, "a: names k twice; name each once"),
    ],
)
def test_a_list_names_each_thing_once(value: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        base._each_once(value)
    assert str(caught.value) == said


def test_amounts_may_be_equal() -> None:
    base._each_once({"betas": [0.9, 0.9], "rows": [1, 1], "a": [{"n": 1}, {"n": 2}], "b": {"x": "y", "z": "y"}})
