"""hybrid_ratio: every ablation changes what its name says and nothing else."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest

from ripstop import params
from ripstop.config import ConfigError
from ripstop.runs import Run
from ripstop.studies import hybrid_ratio
from ripstop.studies.base import runs

FILE = Path(__file__).parents[2] / "params.yaml"


@functools.cache
def block(scale: str) -> dict[str, Any]:
    return params.load(FILE).study("hybrid_ratio", scale)


@functools.cache
def grid(scale: str = "cpu") -> dict[tuple[str, str], Run]:
    return changed(scale)


TRANSLATED = ("translation", "quality", "context", "pronouns", "cost")
"""Parts that measure arms of the ratios alone."""


def changed(scale: str = "cpu", **changes: Any) -> dict[tuple[str, str], Run]:
    """(ratio, ablation) -> the run of the first seed."""
    found: dict[tuple[str, str], Run] = {}
    for run in runs(hybrid_ratio, block(scale) | changes, scale, "test"):
        found.setdefault((str(run.factors["ratio"]), str(run.factors["ablation"])), run)
    return found


def values(run: Run) -> dict[str, Any]:
    return run.model_dump(mode="json")


def differences(one: Any, other: Any, path: str = "") -> set[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        return {d for key in one | other for d in differences(one.get(key), other.get(key), f"{path}.{key}".lstrip("."))}
    return set() if one == other else {path}


CHANGED = {
    "encoder_unidirectional": {"model.encoder_pattern", "model.mixers"},
    "decoder_mamba3": {"model.mixers.M"},
    "decoder_gated_delta": {"model.mixers.M"},
    "decoder_kda": {"model.mixers.M"},
    "sentences": {"data.concatenate_probability"},
    "cat_random": {"data.concatenate"},
    "cross_attention_first": {"model.cross_attention_positions"},
    "cross_attention_alternate": {"model.cross_attention_positions"},
    "start_plain": {"model.start"},
    "start_lookup": {"model.start"},
    "long_windows": {"data.long.share"},
    "trained_longer": {"training.steps", "factors.steps"},
}


@pytest.mark.parametrize("ablation", CHANGED)
@pytest.mark.parametrize("scale", ["cpu", "h100"])
def test_an_ablation_changes_one_thing(scale: str, ablation: str) -> None:
    made = grid(scale)
    ratio = next(ratio for ratio, name in made if name == ablation)
    unchanged, run = made[ratio, "unchanged"], made[ratio, ablation]
    found = {d for d in differences(values(unchanged), values(run)) if d.split(".")[0] not in ("name", "evaluation")}
    found -= {"factors.ablation"}
    if ablation == "encoder_unidirectional":  # the letters that it does not use are no part of the run
        found = {".".join(d.split(".")[:2]) for d in found}
    if ablation.startswith("decoder"):
        found = {".".join(d.split(".")[:3]) for d in found}
    assert found == CHANGED[ablation]


def test_an_encoder_in_one_direction_is_causal_throughout() -> None:
    for scale in ("cpu", "h100"):
        made = grid(scale)
        (run,) = [run for (_, name), run in made.items() if name == "encoder_unidirectional"]
        layers = run.model.layout()["encoder"]
        assert all(values(run)["model"]["mixers"][letter].get("causal", True) for letter in layers) and "B" not in layers


def test_unchanged_differs_from_its_ratio_in_steps_alone() -> None:
    made = grid()
    unchanged, whole = made["1_3", "unchanged"], made["1_3", "none"]
    found = differences(values(whole), values(unchanged)) - {"name", "factors.ablation"}
    assert {d.split(".")[0] for d in found} == {"training", "evaluation"} and "training.steps" in found
    assert set(unchanged.evaluation) == {"likelihood", "long_windows", "overlap"}
    assert set(whole.evaluation) == {"likelihood", *TRANSLATED}


def test_which_seeds_train_an_arm() -> None:
    found: dict[str, set[int]] = {}
    for run in runs(hybrid_ratio, block("cpu"), "cpu", "test"):
        found.setdefault(str(run.factors["ablation"]), set()).add(run.seed)
    thrice = {"none", "unchanged", "start_plain", "start_lookup", "decoder_mamba3", "decoder_gated_delta", "decoder_kda"}
    assert found == {name: {0, 1, 2} if name in thrice else {0} for name in found} and len(found) == 14


def test_which_parts_measure_an_arm() -> None:
    ablations = block("cpu")["ablations"]
    made = changed(ablations=ablations | {"parts": None, "own_parts": []})
    assert set(made["0", "none"].evaluation) == set(made["1_3", "sentences"].evaluation) == {
        "likelihood", "long_windows", "overlap", "samples", *TRANSLATED
    }  # fmt: skip
    assert set(grid()["1_3", "sentences"].evaluation) == {"likelihood"}
    assert set(grid()["1_3", "long_windows"].evaluation) == {"likelihood", "long_windows"}
    longer = grid()["1_3", "trained_longer"]
    assert set(longer.evaluation) == {"likelihood", "translation", "samples"}
    assert (
        longer.training is not None and longer.training.steps == longer.factors["steps"] > 3 * block("cpu")["training"]["steps"]
    )


def test_ratios_have_the_same_start_data_and_encoder() -> None:
    whole = [values(run)["model"] | values(run)["data"] for (_, name), run in grid().items() if name == "none"]
    assert len(whole) == 5
    for key in ("start", "encoder_pattern", "cross_attention_positions", "max_tokens", "share_embeddings"):
        assert len({str(run[key]) for run in whole}) == 1
    assert [start["kind"] for start in whole[0]["start"]] == ["token_vectors", "lookup"]


def test_what_does_not_fit() -> None:
    ablations = block("cpu")["ablations"]
    with pytest.raises(ConfigError, match="test: ablations.ratio: '1_9' is no key of patterns"):
        changed(ablations=ablations | {"ratio": "1_9"})
    with pytest.raises(ConfigError, match="add one without changes, which they are compared with"):
        changed(ablations=ablations | {"arms": {k: v for k, v in ablations["arms"].items() if k != "unchanged"}})
    with pytest.raises(ConfigError, match="parts: 'likelyhood' is no part of the evaluation; did you mean 'likelihood'"):
        changed(ablations=ablations | {"parts": ["likelyhood"]})
    with pytest.raises(ConfigError, match="seeds: 7 is none of the study's, which are 0"):
        changed(ablations=ablations | {"seeds": [7]})
    with pytest.raises(ConfigError, match="set it to d_model, which is 64"):
        changed(data=block("cpu")["data"] | {"token_vectors": 32})
    arms = ablations["arms"] | {"other": {"mixers": {"Z": {"kind": "mamba2"}}}}
    with pytest.raises(
        ConfigError, match=r"ablations\.arms\.other\.mixers\.Z: no layer of 'BE' or 'MMAM' has it; there is: A, B, E, M"
    ):
        changed(ablations=ablations | {"arms": arms})
    arms = ablations["arms"] | {"other": {"data": {"max_token": 64}}}
    with pytest.raises(ConfigError, match=r"ablations\.arms\.other\.data: max_token: unknown key; did you mean 'max_tokens'"):
        changed(ablations=ablations | {"arms": arms})


LOOKUP = {"kind": "lookup"}


@pytest.mark.parametrize(
    ("where", "value", "twice"),
    [
        ("start", [{"kind": "token_vectors"}, LOOKUP, {"kind": "lookup", "gain": 0.5}], "lookup"),
        ("evaluation.likelihood.controls", ["own", "wrong", "shuffled", "own"], "own"),
        ("evaluation.long_windows.controls", ["wrong", "wrong"], "wrong"),
        ("evaluation.quality.against", ["ratio-0_ablation-none"] * 2, "ratio-0_ablation-none"),
        ("evaluation.context.contexts", ["own", "none", "none"], "none"),
        ("evaluation.pronouns.contexts", ["own", "wrong", "none", "wrong"], "wrong"),
        ("ablations.parts", ["likelihood", "likelihood"], "likelihood"),
        ("ablations.own_parts", ["overlap", "overlap"], "overlap"),
        ("ablations.arms.start_lookup.start", [LOOKUP, LOOKUP], "lookup"),
        ("ablations.arms.sentences.parts", ["likelihood", "likelihood"], "likelihood"),
    ],
)
def test_what_a_list_names_twice(where: str, value: list[Any], twice: str) -> None:
    first, _, rest = where.partition(".")
    with pytest.raises(ConfigError, match=f"test: {where}: names {twice} twice; name each once"):
        changed(**{first: laid(block("cpu")[first], rest.split("."), value) if rest else value})


@pytest.mark.parametrize("where", ["ablations.seeds", "ablations.arms.unchanged.seeds"])
def test_a_seed_stands_once(where: str) -> None:
    with pytest.raises(ConfigError, match=rf"test: {where}: \[1, 2, 1\] names a seed twice; name each once"):
        changed(ablations=laid(block("cpu")["ablations"], where.split(".")[1:], [1, 2, 1]))


def laid(values: dict[str, Any], keys: list[str], value: Any) -> dict[str, Any]:
    """The same mapping with one value replaced."""
    return values | {keys[0]: laid(values[keys[0]], keys[1:], value) if keys[1:] else value}


def test_a_part_of_one_arm_that_there_is_not() -> None:
    """It would leave nothing out, and every arm would measure what one should."""
    with pytest.raises(ConfigError, match=r"ablations\.own_parts: 'overlaps' is no part; did you mean 'overlap'"):
        changed(ablations=block("cpu")["ablations"] | {"own_parts": ["overlaps"]})


def test_a_home_that_there_is_not() -> None:
    evaluation, nobody = block("cpu")["evaluation"], "~no_such_user/x"
    with pytest.raises(ConfigError, match="evaluation.comet.model: '~no_such_user/x' cannot be looked for .*; correct it"):
        changed(evaluation=evaluation | {"comet": {"model": nobody}})
    with pytest.raises(ConfigError, match="data.source.lines: '~no_such_user/x' cannot be looked for .*; correct it"):
        changed(data=block("cpu")["data"] | {"source": {"lines": nobody}})
    with pytest.raises(ConfigError, match="evaluation.comet.translation: 'context' translates nothing"):
        changed(evaluation=evaluation | {"comet": {"translation": "context"}})


def test_what_a_ratio_is_called() -> None:
    patterns = block("cpu")["patterns"]
    for ratio, pattern, share, name in (("0", "MMAM", "25%", "0%"), ("all", "AAAM", "75%", "100%")):
        with pytest.raises(
            ConfigError, match=f"patterns.{ratio}: '{pattern}' has {share} of attention layers, and {name} by its"
        ):
            changed(patterns=patterns | {ratio: pattern})


def test_splits_and_languages_differ(tmp_path: Path) -> None:
    """Else what is trained on is tested on, or a text is its own translation."""
    data, local = block("cpu")["data"], {"path": str(tmp_path)}
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.jsonl").touch()
    changed(data=data | {"source": local})
    for source in (local, {"lines": str(tmp_path)}):
        with pytest.raises(
            ConfigError, match=r"data\.source\.splits: train, valid, train names one twice; train, valid and test"
        ):
            changed(data=data | {"source": source | {"splits": {"test": "train"}}})
    with pytest.raises(ConfigError, match=r"data\.source\.columns: text, text names one twice; each language has its own"):
        changed(data=data | {"source": local | {"columns": {"en": "text", "de": "text"}}})


@pytest.mark.parametrize(
    ("part", "settings", "said"),
    [
        ("quality", {"against": []}, "quality.against: lacks ratio-0_ablation-none, which the paper compares with"),
        ("context", {"contexts": ["own"]}, "context.contexts: lacks none, which the paper prints"),
        ("pronouns", {"contexts": ["own", "shuffled"]}, "pronouns.contexts: lacks wrong, none, which the paper prints"),
        ("quality", {"translation": "likelihood"}, "quality.translation: 'likelihood' translates nothing; write translation"),
    ],
)
def test_what_is_printed_is_measured(part: str, settings: dict[str, Any], said: str) -> None:
    evaluation = block("cpu")["evaluation"]
    with pytest.raises(ConfigError, match=said):
        changed(evaluation=evaluation | {part: evaluation[part] | settings})
    changed(evaluation=evaluation | {part: None})


@pytest.mark.parametrize(
    ("arm", "parts", "lacks"),
    [
        ("unchanged", ["likelihood"], "long_windows, overlap"),
        ("sentences", ["overlap"], "likelihood"),
        ("trained_longer", ["likelihood"], "translation, samples"),
    ],
)
def test_what_is_printed_of_an_ablation_is_measured(arm: str, parts: list[str], lacks: str) -> None:
    ablations = block("cpu")["ablations"]
    arms = ablations["arms"] | {arm: ablations["arms"][arm] | {"parts": parts}}
    with pytest.raises(ConfigError, match=f"ablations.arms.{arm}.parts: lacks {lacks}, which the paper prints"):
        changed(ablations=ablations | {"arms": arms})
