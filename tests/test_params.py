"""params.yaml: the shipped file parses at every scale, overlays and overrides do what they say, mistakes are named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ripstop import params, studies
from ripstop.config import ConfigError
from ripstop.models.accounting import describe

ROOT = Path(__file__).parents[1]
FILE = ROOT / "params.yaml"
SCALES = ["smoke", "cpu", "h100"]


@pytest.mark.parametrize("scale", SCALES)
def test_every_study_resolves_at_every_scale(scale: str) -> None:
    loaded = params.load(FILE, scale=scale)
    assert set(loaded.studies) == set(studies.names())
    for name in loaded.studies:
        study = studies.load(name)
        runs = list(study.runs(study.Params.parse(loaded.study(name, scale), name), scale))
        assert runs
        assert len({run.name for run in runs}) == len(runs)
        for run in runs:
            assert run.study == name and run.scale == scale
            assert not set(run.name) & set("=,/ "), "a wildcard that Slurm could not read back"


def test_the_models_of_the_full_scale_can_be_accounted_for() -> None:
    loaded = params.load(FILE, scale="h100")
    for name in loaded.studies:
        study = studies.load(name)
        run = next(iter(study.runs(study.Params.parse(loaded.study(name, "h100"), name), "h100")))
        assert describe(run.model, 1000, 512)


def test_the_schema_in_the_repository_is_the_current_one() -> None:
    shipped = ROOT / "workflow" / "schemas" / "params.schema.json"
    assert shipped.read_text() == params.schema(), "run `python -m ripstop schema --out workflow/schemas/params.schema.json`"


def test_the_schema_accepts_the_file_and_refuses_a_wrong_key() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(params.schema())
    values = params.load(FILE).model_dump(mode="json")
    jsonschema.validate(values, schema)
    values["studies"]["mqar_cliff"]["seedz"] = [0]
    with pytest.raises(jsonschema.ValidationError, match="seedz"):
        jsonschema.validate(values, schema)


def test_an_overlay_changes_its_keys_and_no_others() -> None:
    block = {"a": {"b": 1, "c": [1, 2, 3]}, "d": 4}
    loaded = params.parse({"scale": "big", "studies": {"s": block}, "scales": {"big": {"s": {"a": {"c": [9]}}}}})
    assert loaded.study("s", "cpu") == block
    assert loaded.study("s", "big") == {"a": {"b": 1, "c": [9]}, "d": 4}


def test_overrides_are_read_as_yaml() -> None:
    loaded = params.load(FILE, ["studies.mqar_cliff.seeds=[5, 6]", "studies.mqar_cliff.training.lr=2.0e-3"])
    assert loaded.study("mqar_cliff", "cpu")["seeds"] == [5, 6]
    assert loaded.study("mqar_cliff", "cpu")["training"]["lr"] == 0.002


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("studies.mqar_clif.seeds=[0]", "did you mean 'mqar_cliff'"),
        ("studies.mqar_cliff", "write it as key.subkey=value"),
        ("scales.smok.mqar_cliff.seeds=[0]", "did you mean 'smoke'"),
    ],
)
def test_a_wrong_override_is_named(override: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        params.load(FILE, [override])


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"scale": "cpuu", "studies": {}, "scales": {}}, "scale 'cpuu' does not exist; did you mean 'cpu'"),
        ({"scale": "cpu", "studies": {"s": {}}, "scales": {"x": {"t": {}}}}, "scales.x.t: no such study"),
        ({"scale": "cpu", "study": {}, "scales": {}}, "study: unknown key; did you mean 'studies'"),
    ],
)
def test_mistakes_in_the_file_are_named(values: dict, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        params.parse(values)


def test_a_missing_or_broken_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        params.load(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("a: [1, 2\n")
    with pytest.raises(ConfigError, match="not YAML") as caught:
        params.load(tmp_path / "params.yaml")
    assert "\n" not in str(caught.value)
