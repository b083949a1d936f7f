"""latent_compression: which arms there are, what measures them, and what is printed and would not be measured."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from ripstop import params, studies
from ripstop.config import ConfigError
from ripstop.evaluation.answer_gaps import AnswerGapsConfig
from ripstop.models.soft_prompt import SoftPromptConfig
from ripstop.runs import Run
from ripstop.studies.base import runs

FILE = Path(__file__).parents[2] / "params.yaml"
SCALES = ("smoke", "cpu", "h100")
HEADLINE = ("pointer", "mean_pool")


def grid(scale: str = "cpu", **changes: Any) -> list[Run]:
    """changes: dotted keys, with __ for the dots."""
    values = deepcopy(params.load(FILE, scale=scale).study("latent_compression", scale))
    for key, value in changes.items():
        *outer, last = key.split("__")
        block = values
        for name in outer:
            block = block.setdefault(name, {})
        block[last] = value
    return list(runs(studies.load("latent_compression"), values, scale, "latent_compression"))


def arm(run: Run) -> tuple[Any, ...]:
    return tuple(run.factors[name] for name in ("source", "compressor", "n_vectors", "readers"))


def model(run: Run) -> SoftPromptConfig:
    assert isinstance(run.model, SoftPromptConfig)
    return run.model


def test_the_headline_has_every_seed_and_the_others_the_first() -> None:
    found: dict[tuple[Any, ...], set[int]] = {}
    for run in grid():
        found.setdefault(arm(run), set()).add(run.seed)
    several = {name for name, seeds in found.items() if len(seeds) > 1}
    assert several == {("main", name, 8, "first") for name in HEADLINE}
    assert all(found[name] == {0, 1, 2} for name in several)
    assert {name[1] for name in found} == {
        *HEADLINE, "pointer_narrow", "pointer_from_pieces", "feature_resampler", "byte_resampler", "constant", "text"
    }  # fmt: skip
    assert {name[3] for name in found if name[1] == "pointer"} == {"first", "second", "both"}


@pytest.mark.parametrize("scale", SCALES)
def test_the_text_trains_nothing_and_reads_by_both_models(scale: str) -> None:
    for run in grid(scale):
        text = run.factors["compressor"] == "text"
        assert (run.training is None) == text
        names = {"first": ["first"], "second": ["second"], "both": ["first", "second"]}[str(run.factors["readers"])]
        assert list(model(run).frozen) == names
        assert model(run).n_vectors == run.factors["n_vectors"]
        reads = model(run).compressor.reads
        assert model(run).features_of == (names[0] if reads == "features" else None)


def test_what_measures_an_arm() -> None:
    made = {(*arm(run)[1::2], run.seed): set(run.evaluation) for run in grid()}
    usual = {"answers", "gaps"}
    whole = usual | {"checks", "gaps_more", "probe"}
    assert made["pointer", "first", 0] == made["mean_pool", "first", 0] == whole
    assert made["pointer", "first", 1] == made["byte_resampler", "first", 0] == made["pointer", "second", 0] == usual
    assert made["pointer_narrow", "first", 0] == usual | {"checks", "gaps_more"}
    assert made["pointer", "both", 0] == usual | {"shared"}
    assert made["constant", "first", 0] == {"answers"}
    assert made["text", "both", 0] == {"text", "ceiling"}


@pytest.mark.parametrize("scale", SCALES)
def test_what_a_part_reads_is_measured(scale: str) -> None:
    made = grid(scale)
    there = {f"{run.name}/parts/{part}" for run in made for part in run.evaluation}
    gaps = [(run, part) for run in made for part in run.evaluation.values() if isinstance(part, AnswerGapsConfig)]
    read = {place for run, part in gaps for place in part.reads(run)}
    assert read and read <= there


def test_more_vectors_and_other_questions_are_trained_for_the_headline_and_the_constant_wire() -> None:
    other = {"kind": "questions", "source": "introductions", "n_test": 5}
    made = grid(n_vectors=[8, 16], sources={"other": other})
    assert {arm(run)[1] for run in made if run.factors["n_vectors"] == 16} == {*HEADLINE, "constant", "text"}
    beside = [run for run in made if run.factors["source"] == "other"]
    assert {arm(run)[1:] for run in beside} == {(name, 8, "first") for name in (*HEADLINE, "constant")} | {("text", 8, "both")}
    assert all(run.data.n_test == 5 for run in beside) and {run.seed for run in beside} == {0}  # type: ignore[attr-defined]
    assert {run.seed for run in made if run.factors["n_vectors"] == 16} == {0}


def test_a_variant_is_its_compressor_with_other_settings() -> None:
    changed = {"soft_prompt": {"adapter": {"output": "key_values"}, "bits": "int4"}}
    changed["training"] = {"steps": 7, "objective": {"kind": "answers"}}
    made = {arm(run): run for run in grid(variants__other={"compressor": "pointer", **changed}) if run.seed == 0}
    run, plain = made["main", "other", 8, "first"], made["main", "pointer", 8, "first"]
    assert (model(run).adapter.output, model(run).bits) == ("key_values", "int4")
    assert model(run).replace(adapter=model(plain).adapter, bits=None) == model(plain)
    assert (
        run.training is not None
        and plain.training is not None
        and (run.training == plain.training.replace(**changed["training"]))
    )
    assert set(run.evaluation) == {"answers", "gaps"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"evaluation__answers__prompts": ["own"]}, "evaluation.answers.prompts: lacks wrong, which the paper prints; add it"),
        ({"evaluation__answers__written": []}, "evaluation.answers.written: lacks own, which the paper prints; add it"),
        (
            {"evaluation__checks__prompts": ["beside"]},
            "evaluation.checks.prompts: lacks shuffled, zero, random, swapped, which",
        ),
        ({"evaluation__checks__formats": ["int8"]}, "evaluation.checks.formats: lacks fp16, int6, int4, which"),
        (
            {"evaluation__gaps__over": ["wrong"]},
            "evaluation.gaps.over: lacks closed, cut_tokens, text, constant, pointer, mean_pool",
        ),
        ({"evaluation__gaps_more__gaps": []}, "evaluation.gaps_more.gaps: lacks text, ceiling"),
        ({"evaluation__text__written": False}, "evaluation.text.written: is false, and the paper prints EM and F1"),
        ({"evaluation__answers__written": ["own", "beside"]}, "evaluation.answers: written: answers are not asked with beside"),
        ({"frozen": {"first": {"kind": "random"}}}, "frozen: names first; name two models, first and second"),
        ({"compressors": {"pointer": {"kind": "pointer"}}}, "compressors: has no mean_pool, which the paper compares with"),
        ({"variants__text": {"compressor": "pointer"}}, "variants: text is another arm's name; choose another one"),
        ({"variants__x": {"compressor": "pinter"}}, "variants.x.compressor: there is no pinter; did you mean 'pointer'?"),
        ({"n_vectors": [8, 8]}, "n_vectors: [8, 8] names one twice; name each once"),
        ({"variants": {}}, "variants: has no pointer_narrow, whose wire takes fewer bytes than a text; there is none; add it"),
        ({"variants__pointer_narrow__parts": []}, "evaluation.variants.pointer_narrow.parts: lacks checks, gaps_more, which"),
        (
            {"evaluation__text__sizes": [64]},
            "evaluation.text.sizes: lacks 288, the bytes of pointer_narrow's wire in int4, which the paper compares with text",
        ),
        (
            {"evaluation__gaps__runs__constant": "source-{sauce}_seed-0"},
            "evaluation.gaps: 'source-{sauce}_seed-0' names no run ('sauce'); braces hold one of source, compressor",
        ),
        (
            {"evaluation__gaps__runs__constant": "source-{source.x}_seed-0"},
            "evaluation.gaps: 'source-{source.x}_seed-0' names no run (",
        ),
        ({"evaluation__gaps__runs__constant": "source-{source[x]}"}, "evaluation.gaps: 'source-{source[x]}' names no run ("),
        ({"evaluation__gaps__text": None}, "evaluation.gaps: text: is not given, and closed is one of its arms; name the run"),
        (
            {"evaluation__gaps_more__over": ["zero", "random", "formats", "cut_bytes", "beside", "shufled"]},
            "evaluation.gaps_more: over: 'shufled' is nothing to compare with; did you mean 'shuffled'?",
        ),
        (
            {"evaluation__text__n_decoded": 100},
            "evaluation.text: n_decoded: 100 of 3 coded documents cannot be decoded; lower it",
        ),
        ({"compressors__text": {"kind": "constant"}}, "compressors: text is what the run without a wire is called; choose"),
        (
            {"compressors__constant": {"kind": "pointer"}},
            "compressors.constant: a pointer reads features; choose a kind that re",
        ),
        (
            {"compressors__pointer": {"kind": "constant"}},
            "compressors.pointer: a constant reads nothing; choose a kind that re",
        ),
        ({"soft_prompt__n_vectors": 9}, "soft_prompt.n_vectors: the arms of the study say it; leave it out"),
        (
            {"variants__x": {"compressor": "pointer", "soft_prompt": {"n_vectors": 9}}},
            "variants.x.soft_prompt.n_vectors: the arms of the study say it; leave it out",
        ),
        (
            {"variants__x": {"compressor": "pointer", "soft_prompt": {"d_z": 0}}},
            "variants.x.soft_prompt: d_z: input should be greater than or equal to 1 (got 0)",
        ),
        (
            {"variants__x": {"compressor": "pointer", "training": {"lrr": 1}}},
            "variants.x.training: lrr: unknown key; did you mean 'lr'?",
        ),
        (
            {"training__objective": {"kind": "cross_entropy"}},
            "training.objective: cross_entropy trains no soft_prompt; use kind",
        ),
        (
            {
                "variants__x": {
                    "compressor": "pointer",
                    "soft_prompt": {"adapter": {"output": "key_values"}},
                    "training": {"objective": {"kind": "answers", "pretrain": 0.5}},
                }
            },
            "training.objective: reconstructs soft embeddings, and model.adapter.output is key_values; set its pretrain a",
        ),
        (
            {"soft_prompt__feature_layer": 30},
            "soft_prompt.feature_layer: 30 is no layer of first, whose last one is 29; lower it",
        ),
        (
            {"soft_prompt__feature_layer": 18},
            "soft_prompt.feature_layer: 18 is no layer of second, whose last one is 17; lower it",
        ),
        (
            {"evaluation__ceiling__readers": ["third"]},
            "evaluation.ceiling.readers: ['third'] is not one or more of first, second;",
        ),
        ({"evaluation__ceiling__readers": []}, "evaluation.ceiling.readers: [] is not one or more of first, second; correct"),
    ],
)
def test_what_is_printed_and_would_not_be_measured_is_one_sentence(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        grid(**changes)
    assert str(error.value).startswith(f"latent_compression: {message}") and "\n" not in str(error.value)
