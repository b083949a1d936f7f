"""Parts that read what other parts leave: the plan says what comes first, and refuses what nothing makes."""

from __future__ import annotations

from pathlib import Path

import pytest

from ripstop import params, yaml_file
from ripstop.config import ConfigError
from ripstop.evaluation.derived import DerivedConfig
from ripstop.files import write_text
from ripstop.plan import Plan, plan

ROOT = Path(__file__).parents[2]
STUDY = "hybrid_ratio"
BASELINE = "ratio-0_ablation-none"
LONGER = "ratio-1_3_ablation-trained_longer_seed-0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped parameters of hybrid_ratio alone."""
    root = tmp_path_factory.mktemp("derived")
    values = yaml_file.mapping(ROOT / "params.yaml")
    write_text(root / "params.yaml", yaml_file.dump(values | {"studies": {STUDY: values["studies"][STUDY]}}))
    for path in (ROOT / "workflow/scales").glob("*.yaml"):
        overlay = {key: block for key, block in yaml_file.mapping(path).items() if key == STUDY}
        write_text(root / "workflow/scales" / path.name, yaml_file.dump(overlay))
    write_text(root / f"paper/sections/{STUDY}.tex", "")
    return root


@pytest.fixture(autouse=True)
def cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIPSTOP_CACHE", str(folder / "cache"))


def made(folder: Path, *overrides: str) -> Plan:
    return plan(
        params.load(folder / "params.yaml", [f"studies.{STUDY}.evaluation.{one}" for one in overrides], "smoke"), folder
    )


def test_the_plan_says_what_a_part_reads(folder: Path) -> None:
    """Also when it is remembered."""
    for _ in range(2):
        runs = made(folder, "comet={}").runs[STUDY]
        reads = {(run, name): part.reads for run, job in runs.items() for name, part in job.parts.items() if part.reads}
        measured = [run for run, job in runs.items() if "quality" in job.parts]
        own = [f"{run}/parts/translation" for run in measured]
        baseline = f"{BASELINE}_seed-0/parts/translation"
        assert len(measured) == 3
        assert reads == {
            **{(run, "quality"): list(dict.fromkeys([mine, baseline])) for run, mine in zip(measured, own, strict=True)},
            **{(run, "comet"): [mine] for run, mine in zip(measured, own, strict=True)},
            (LONGER, "samples"): [f"{LONGER}/parts/translation"],
        }
        parts = runs[measured[0]].parts
        assert (parts["comet"].environment, parts["quality"].environment) == ("comet", "main")


def test_what_no_run_measures_cannot_be_read(folder: Path) -> None:
    with pytest.raises(ConfigError, match="evaluation.quality reads ratio-00_ablation-none_seed-0/parts/translation, which no"):
        made(folder, f"quality.against=[{BASELINE}, ratio-00_ablation-none]")
    with pytest.raises(ConfigError, match="evaluation.comet.translation: 'translations' translates nothing; write translation"):
        made(folder, "comet={translation: translations}")


def test_settings_of_a_derived_part_move_that_part_alone(folder: Path) -> None:
    first, second = made(folder), made(folder, "quality.n_bootstrap=99")
    moved = {name for name in first.files if first.files[name] != second.files[name]}
    assert moved and all(name.endswith("/quality.yaml") for name in moved)


def test_a_part_that_says_nothing_of_what_it_reads_is_a_mistake() -> None:
    with pytest.raises(TypeError, match="has to define reads"):
        DerivedConfig(kind="x").reads(None)
