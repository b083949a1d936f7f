"""The plan: which files a change of parameters moves, that looking writes nothing, and that every mistake is told at once."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from ripstop import accept, accepted, params, provenance, prune, studies, yaml_file
from ripstop.config import ConfigError
from ripstop.files import write_text
from ripstop.plan import Plan, plan
from ripstop.runs import Run
from ripstop.studies.base import runs
from ripstop.training.lock import Lock

ROOT = Path(__file__).parents[1]
STUDY = "mqar_cliff"
TWO_SEEDS = f"studies.{STUDY}.seeds=[0, 1]"


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Plans are remembered in a cache of the test's own."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("RIPSTOP_CACHE", str(folder))
    return folder


def make(root: Path, *overrides: str, scale: str = "smoke") -> Plan:
    """The plan of the shipped parameters, which keep their one study mqar_cliff."""
    lay_out(root)
    return plan(params.load(root / "params.yaml", overrides, scale), root)


def lay_out(root: Path) -> None:
    """params.yaml and its overlays with one study."""
    if (root / "params.yaml").exists():
        return
    values = yaml_file.mapping(ROOT / "params.yaml")
    write_text(root / "params.yaml", yaml_file.dump(values | {"studies": {STUDY: values["studies"][STUDY]}}))
    for path in (ROOT / "workflow/scales").glob("*.yaml"):
        overlay = {key: block for key, block in yaml_file.mapping(path).items() if key in ("all", STUDY)}
        write_text(root / "workflow/scales" / path.name, yaml_file.dump(overlay))
    write_text(root / f"paper/sections/{STUDY}.tex", "")


def contents(root: Path) -> dict[str, tuple[bytes, int]]:
    return {str(p.relative_to(root)): (p.read_bytes(), p.stat().st_mtime_ns) for p in root.rglob("*") if p.is_file()}


def moved(before: Plan, after: Plan) -> set[str]:
    """Files of both plans whose text differs."""
    return {name for name in before.files.keys() & after.files.keys() if before.files[name] != after.files[name]}


def test_every_run_has_its_input_files_and_they_load(tmp_path: Path) -> None:
    grid = make(tmp_path)
    grid.write(root=tmp_path)
    for name, job in grid.runs[STUDY].items():
        folder = tmp_path / "results" / "smoke"
        run = Run.load(folder / STUDY / "runs" / name, parts=list(job.parts))
        assert (run.name, run.data.id, run.scale, set(run.evaluation)) == (name, job.data, "smoke", set(job.parts))
        assert (folder / "data" / job.data / "prepare.code").is_file()


def test_planning_writes_nothing_into_the_tree(tmp_path: Path) -> None:
    lay_out(tmp_path)
    before = contents(tmp_path)
    grid = make(tmp_path)
    prune.strangers(grid, tmp_path)
    with pytest.raises(ConfigError):
        make(tmp_path, f"studies.{STUDY}.seeds=[true]")
    assert contents(tmp_path) == before


def test_writing_a_plan_again_touches_nothing(tmp_path: Path) -> None:
    make(tmp_path).write(root=tmp_path)
    before = contents(tmp_path)
    make(tmp_path).write(root=tmp_path)
    assert contents(tmp_path) == before


def test_a_stage_writes_the_files_that_it_names_and_no_others(tmp_path: Path) -> None:
    grid = make(tmp_path)
    first, second = sorted(name for name in grid.files if name.endswith("config.yaml"))[:2]
    grid.write([first], root=tmp_path)
    assert [path for path in grid.folder(tmp_path).rglob("*") if path.is_file()] == [grid.folder(tmp_path) / first]
    grid.write([second], root=tmp_path)
    assert (grid.folder(tmp_path) / second).read_text(encoding="utf-8") == grid.files[second]


MODEL = ["layers.norms.rms_norm", "mixers.attention", "mixers.mamba2", "models.decoder_only"]
TRAINING = ["training.config", "training.objectives.cross_entropy", "training.optimizers.adamw", "training.train"]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_each_digest_is_of_the_modules_that_its_stage_uses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    """The digest's place is taken by what it would be of."""

    def named(modules: Iterable[str], cuda: bool = False) -> str:
        return " ".join(["with adapters:"] * cuda + sorted({module.removeprefix("ripstop.") for module in modules}))

    monkeypatch.setattr("ripstop.stage_files._digest", named)
    grid = make(tmp_path, f"studies.{STUDY}.compute.device={device}")
    home = f"{STUDY}/runs/architecture-mamba2_attention_seed-0"
    begins = ["with adapters:"] if device == "cuda" else []
    for name, modules in {
        "train": ["data.mqar", *MODEL, *TRAINING],
        "recall": ["data.mqar", "evaluation.evaluate", "evaluation.recall", *MODEL],
        "state_size": ["data.mqar", "evaluation.evaluate", "evaluation.state_size", *MODEL],
        "learning_curve": ["data.mqar", "evaluation.evaluate", "evaluation.learning_curve", *MODEL],
    }.items():
        assert grid.files[f"{home}/{name}.code"] == " ".join([*begins, *modules]) + "\n"
    assert grid.files[f"data/{grid.data[0]}/prepare.code"] == "data.mqar\n"
    assert grid.files[f"{STUDY}/paper.code"].startswith(f"paper.render paper.studies.{STUDY} records ")
    assert grid.files["paper.code"].startswith("paper.assemble ")


def test_one_more_seed_adds_runs_and_moves_no_other(tmp_path: Path) -> None:
    before, after = (
        make(tmp_path, f"studies.{STUDY}.seeds=[0]", scale="cpu"),
        make(tmp_path, f"studies.{STUDY}.seeds=[0, 77]", scale="cpu"),
    )
    assert not moved(before, after)
    assert {name.split("/")[2].rpartition("_")[2] for name in after.files.keys() - before.files.keys()} == {"seed-77"}


@pytest.mark.parametrize(
    ("key", "value", "files"),
    [
        ("training.lr", "0.5", {"config.yaml"}),
        ("compute.threads", "2", {"config.yaml"}),
        ("reporting.log_every", "7", {"reporting.yaml"}),
        ("evaluation.recall.controls", "[own]", {"recall.yaml"}),
        ("resources.mem_mb", "123456", set()),
        ("resources.runtime", "5", set()),
    ],
)
def test_a_setting_moves_the_files_of_its_own_stage(tmp_path: Path, key: str, value: str, files: set[str]) -> None:
    before, after = make(tmp_path), make(tmp_path, f"studies.{STUDY}.{key}={value}", scale="smoke")
    assert {Path(name).name for name in moved(before, after)} == files
    assert before.data == after.data


def test_a_setting_of_the_data_is_other_data(tmp_path: Path) -> None:
    before, after = make(tmp_path, scale="cpu"), make(tmp_path, f"studies.{STUDY}.data.test_seed=9", scale="cpu")
    assert set(before.data).isdisjoint(after.data)


def test_resources_come_from_the_run_and_not_from_the_name_of_the_scale(tmp_path: Path) -> None:
    jobs = make(tmp_path, f"studies.{STUDY}.compute.device=cuda", f"studies.{STUDY}.resources.mem_mb=777", scale="cpu").runs[
        STUDY
    ]
    assert {(job.gpus, job.mem_mb, job.threads) for job in jobs.values()} == {(1, 777, 1)}
    assert {job.gpus for job in make(tmp_path, scale="cpu").runs[STUDY].values()} == {0}
    assert {job.gpus for job in make(tmp_path, scale="h100").runs[STUDY].values()} == {1}
    asked = make(tmp_path, f"studies.{STUDY}.resources.gpus=3", scale="cpu").runs[STUDY]
    assert {job.gpus for job in asked.values()} == {3}


def test_the_longest_training_has_the_most_work(tmp_path: Path) -> None:
    short, long = (make(tmp_path, f"studies.{STUDY}.training.steps={n}", scale="cpu").runs[STUDY] for n in (10, 20))
    assert all(2 * short[name].work == long[name].work > 0 for name in short if "candidate" not in name)
    deeper = make(tmp_path, f"studies.{STUDY}.patterns.attention=AAAAAA", scale="cpu").runs[STUDY]
    plain = make(tmp_path, scale="cpu").runs[STUDY]
    assert deeper["architecture-attention_seed-0"].work > 2 * plain["architecture-attention_seed-0"].work


def test_every_mistake_of_every_scale_is_told_at_once(tmp_path: Path) -> None:
    lay_out(tmp_path)
    h100 = tmp_path / "workflow/scales/h100.yaml"
    values = yaml_file.mapping(h100)
    values[STUDY]["trainning"] = {"steps": 1}
    write_text(h100, yaml_file.dump(values))
    with pytest.raises(ConfigError) as told:
        make(tmp_path, f"studies.{STUDY}.mixers.A.n_heads=0", f"studies.{STUDY}.data.n_test=1", scale="cpu")
    assert "trainning" in str(told.value) and "did you mean 'training'" in str(told.value)
    assert "n_heads" in str(told.value) and "n_test" in str(told.value)
    assert STUDY in str(told.value)


def test_a_mistake_in_a_study_s_own_block_is_told_once(tmp_path: Path) -> None:
    lay_out(tmp_path)
    text = (tmp_path / "params.yaml").read_text()
    write_text(tmp_path / "params.yaml", text.replace("curriculum: 0.6", "curriculum: 60%"))
    with pytest.raises(ConfigError) as told:
        make(tmp_path)
    assert str(told.value).count("curriculum") == 1


def test_an_arm_that_the_paper_names_and_that_is_not_there_is_told_before_anything_trains(tmp_path: Path) -> None:
    lay_out(tmp_path)
    text = (tmp_path / "params.yaml").read_text()
    write_text(tmp_path / "params.yaml", text.replace("attention_conv: CC", "attention_cnv: CC"))
    with pytest.raises(ConfigError, match=r"architecture 'attention_conv'.*did you mean 'attention_cnv'"):
        make(tmp_path, scale="cpu")
    dropped = text.replace("    d_model: 32\n", "    d_model: 32\n    drop: [patterns.attention_conv]\n", 1)
    write_text(tmp_path / "params.yaml", dropped)
    assert "architecture=attention_conv" in make(tmp_path, scale="cpu").dropped[STUDY]


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("training.tokens_per_step=8", "tokens_per_step"),
        ("evaluation.recall.controls=[wrng]", "wrng"),
        ("mixers.A.n_heads=5", "n_heads"),
        ("patterns.mamba2=MQ", "'Q'"),
        ("seeds=[0, 0]", "twice"),
        ("seeds=[-1]", "seeds"),
        ("training.steps=0", "steps"),
        ("evaluation.recal={}", "recall"),
        ("data.layout=seq2seq", "data: has a source, and model decoder_only reads none"),
        ("mixers.M={kind: mamba2, d_state: 65536, expand: 65536}", r"studies.mqar_cliff: .*state .* more than 10\^11 bytes"),
    ],
)
def test_what_cannot_run_is_told_before_anything_runs(tmp_path: Path, override: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as error:
        make(tmp_path, f"studies.{STUDY}.{override}", scale="cpu")
    assert STUDY in str(error.value)


def test_a_model_and_its_data_agree_on_a_source(tmp_path: Path) -> None:
    """A decoder that sees nothing of its source is a baseline on data that has one."""
    values = yaml_file.mapping(ROOT / "params.yaml")["studies"]["blind_start"]
    made = {run.factors["positions"]: run for run in runs(studies.load("blind_start"), values, "cpu", "")}
    blind, sees = made["none"], made["layer_0"]
    assert not blind.model.reads_source and sees.model.reads_source
    decoder = values["data"] | {"layout": "decoder"}
    with pytest.raises(ConfigError, match="data: has no source, and model encoder_decoder reads one"):
        sees.replace(data=decoder).check()
    for run in (blind.replace(data=decoder), blind, sees):
        run.check()


@pytest.mark.parametrize("scale", ["cpu", "smoke"])
def test_a_study_without_a_section_is_told_before_anything_trains(tmp_path: Path, scale: str) -> None:
    make(tmp_path, scale=scale)
    path = tmp_path / f"paper/sections/{STUDY}.tex"
    path.unlink()
    with pytest.raises(ConfigError, match=f"{path}: no such file; the paper has a section for every study: add it, or"):
        make(tmp_path, scale=scale)


def test_what_a_study_that_is_read_dropped_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what a printer names: it is refused otherwise."""
    monkeypatch.setattr("ripstop.paper.studies.reads", lambda study: (STUDY,))
    drop = f"studies.{STUDY}.drop=[patterns.attention_conv, mixers.C]"
    grid = make(tmp_path, drop, f"studies.{STUDY}.evaluation.state_size=null")
    mine = ["architecture=attention_conv", "part=state_size"]
    assert grid.dropped == {STUDY: [*mine, *(f"{STUDY}/{item}" for item in mine)]}


def test_torch_is_not_imported_when_nothing_changed(tmp_path: Path) -> None:
    make(tmp_path)
    script = (
        "import sys; from pathlib import Path; from ripstop import params; from ripstop.plan import plan; "
        "root = Path(sys.argv[1]); plan(params.load(root / 'params.yaml', scale='smoke'), root); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path)]).returncode == 0


def test_the_memory_is_of_one_state_of_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = make(tmp_path)
    asked: list[str] = []

    def resolved(*_: object) -> Plan:
        asked.append("again")
        return wanted

    monkeypatch.setattr("ripstop.plan._resolve", resolved)
    assert make(tmp_path) == wanted and not asked
    monkeypatch.setattr(provenance, "source_key", lambda: "another line of code")
    assert make(tmp_path) == wanted and asked == ["again"]


def test_the_memory_follows_local_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = tmp_path / "train.jsonl"
    held.write_text("one")
    monkeypatch.setattr("ripstop.data.mqar.MqarConfig.local_files", lambda self: [held], raising=False)
    grid = make(tmp_path)
    name = f"data/{grid.data[0]}/local.json"
    for text in ("one", "two and three"):
        held.write_text(text)
        assert json.loads(make(tmp_path).files[name]) == {str(held): hashlib.sha256(text.encode()).hexdigest()}


def test_a_local_file_that_is_not_there_is_told_with_the_run_that_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(self: object) -> list[Path]:
        raise ConfigError("data.source: x.json is no file; correct it")

    monkeypatch.setattr("ripstop.data.mqar.MqarConfig.local_files", missing, raising=False)
    with pytest.raises(ConfigError, match=rf"studies.{STUDY}: \S+_seed-\d+: data.source: x.json is no file; correct it$"):
        make(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"local": {}}', '{"local": {}, "runs": {"a": {"b": {}}}}'])
def test_a_damaged_memory_is_made_again(tmp_path: Path, cache: Path, content: str) -> None:
    wanted = make(tmp_path)
    for memo in (cache / "plans").iterdir():
        memo.write_text(content)
    assert make(tmp_path) == wanted


def test_what_left_the_grid_is_named_and_removed_only_when_told(tmp_path: Path) -> None:
    both = make(tmp_path, f"studies.{STUDY}.seeds=[0, 1]", scale="cpu")
    both.write(root=tmp_path)
    runs = tmp_path / "results" / "cpu" / STUDY / "runs"
    (runs / "my notes").mkdir()
    (runs / "my notes" / "train.code").write_text("mine\n")
    copy = runs / "kept_architecture-mamba2"
    copy.mkdir()
    for file in next(runs.glob("architecture-mamba2_seed-1")).iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    fewer = make(tmp_path, f"studies.{STUDY}.seeds=[0]", scale="cpu")
    named = prune.strangers(fewer, tmp_path)
    assert {path.name for path in named} == {name for name in both.runs[STUDY] if name.endswith("seed-1")}
    assert all(path.is_dir() for path in named)
    prune.prune(fewer, tmp_path)
    assert {path.name for path in runs.iterdir()} == {*fewer.runs[STUDY], "my notes", copy.name}


def test_prune_knows_old_data_and_leaves_copies_links_and_what_is_broken(tmp_path: Path) -> None:
    make(tmp_path, TWO_SEEDS).write(root=tmp_path)
    folder = tmp_path / "results" / "smoke"
    old = next((folder / "data").iterdir())
    shutil.copytree(old, folder / "data" / "mqar-mine")
    shutil.copytree(old, folder / "data" / "mqar-00000000")
    write_text(folder / "data" / "mqar-00000000" / "config.yaml", "kind: [")
    run = next((folder / STUDY / "runs").glob("*_seed-1"))
    run.rename(tmp_path / "scratch")
    run.symlink_to(tmp_path / "scratch")
    other = make(tmp_path, f"studies.{STUDY}.data.n_test=32", f"studies.{STUDY}.seeds=[0]")
    named = prune.strangers(other, tmp_path)
    assert old in named and run not in named
    assert {path.name for path in named if path.parent.name == "data"} == {old.name}


def test_prune_removes_nothing_while_one_of_them_is_trained(tmp_path: Path) -> None:
    make(tmp_path, TWO_SEEDS).write(root=tmp_path)
    fewer = make(tmp_path, f"studies.{STUDY}.seeds=[0]")
    named = prune.strangers(fewer, tmp_path)
    with Lock(named[-1] / "training.lock"), pytest.raises(ConfigError, match="in use by process"):
        prune.prune(fewer, tmp_path)
    assert all((path / "config.yaml").is_file() for path in named)


def trained(root: Path, grid: Plan, code: str) -> None:
    """Results as a training and an evaluation with `code` would leave them, as far as their digests go."""
    grid.write(root=root)
    for name, job in grid.runs[STUDY].items():
        folder = grid.folder(root) / STUDY / "runs" / name
        write_text(folder / "training.json", json.dumps({"identity": {"code": code}}))
        for part in job.parts:
            write_text(folder / "parts" / part / "records.jsonl", json.dumps({"code": code}) + "\n")


def test_accepted_results_keep_the_digest_that_they_were_made_with(tmp_path: Path) -> None:
    grid = make(tmp_path)
    trained(tmp_path, grid, "0123456789abcdef")
    with pytest.raises(ConfigError, match="--reason"):
        accept.accept(grid, [STUDY], "  ", tmp_path)
    added = accept.accept(grid, [STUDY], "only a name changed", tmp_path)
    assert {entry.stage for entry in added} == {"train", "recall", "learning_curve", "state_size"}
    assert all(entry.reason == "only a name changed" and entry.commit and entry.date for entry in added)
    after = make(tmp_path)
    codes = {Path(name).name: text for name, text in after.files.items() if name.endswith(".code") and "/runs/" in name}
    assert set(codes.values()) == {"0123456789abcdef\n"}
    assert "only a name changed" in " ".join(after.accepted)
    assert accept.accept(after, [STUDY], "again", tmp_path) == []


def test_other_parameters_are_not_accepted(tmp_path: Path) -> None:
    trained(tmp_path, make(tmp_path, scale="cpu"), "0123456789abcdef")
    grid = make(tmp_path, f"studies.{STUDY}.training.clip=0.5", scale="cpu")
    assert accept.accept(grid, [STUDY], "hoping", tmp_path) == []
    of_a_part = make(tmp_path, f"studies.{STUDY}.evaluation.recall.controls=[own]", scale="cpu")
    added = accept.accept(of_a_part, [STUDY], "recall is another one", tmp_path)
    assert {entry.stage for entry in added} == {"train", "learning_curve", "state_size"}


def test_results_of_two_codes_are_not_taken_for_one(tmp_path: Path) -> None:
    grid = make(tmp_path, TWO_SEEDS)
    trained(tmp_path, grid, "0123456789abcdef")
    first = next(iter(grid.runs[STUDY]))
    folder = grid.folder(tmp_path) / STUDY / "runs" / first
    write_text(folder / "training.json", json.dumps({"identity": {"code": "fedcba9876543210"}}))
    same = [name for name in grid.runs[STUDY] if name.rpartition("_")[0] == first.rpartition("_")[0]]
    assert len(same) > 1
    with pytest.raises(ConfigError, match="different code"):
        accept.accept(grid, [STUDY], "mixed", tmp_path)
    assert not (tmp_path / accepted.FILE).exists()


@pytest.mark.parametrize("content", ["{", "{}", '[{"made": 1}]', "[" * 100_000], ids=["cut", "mapping", "keys", "deep"])
def test_a_damaged_list_of_what_was_accepted_is_named(tmp_path: Path, content: str) -> None:
    lay_out(tmp_path)
    write_text(tmp_path / accepted.FILE, content)
    with pytest.raises(ConfigError, match=r"accepted\.json"):
        make(tmp_path)


def test_a_digest_accepted_twice_leads_to_the_first() -> None:
    def table(*pairs: tuple[str, str]) -> accepted.Accepted:
        names = {"scale": "cpu", "study": "s", "stage": "train", "reason": "r", "date": "d", "commit": "c"}
        rows = [names | {"made": made, "now": now} for made, now in pairs]
        return accepted.Accepted([accepted.Acceptance.parse(row, "test") for row in rows])

    found = table(("a", "b"), ("b", "c"))
    assert found.origin("c") == found.origin("b") == found.origin("a") == "a"
    assert found.origin("z") == "z"
    table(("a", "b"), ("b", "a")).origin("a")  # a circle ends


CHOICE = f"studies.{STUDY}.choice={{seed: 50, settings: {{training: {{lr: [0.1, 0.2]}}}}}}"


def test_a_choice_has_its_candidates_and_its_runs(tmp_path: Path) -> None:
    grid, before = make(tmp_path, CHOICE), make(tmp_path)
    finals = before.runs[STUDY]
    arms = {name.rpartition("_")[0] for name in finals}
    assert grid.choices == {STUDY: {arm: [f"{arm}_candidate-{n}_seed-50" for n in (0, 1)] for arm in arms}}
    candidates = {name for named in grid.choices[STUDY].values() for name in named}
    assert grid.runs[STUDY].keys() == finals.keys() | candidates and candidates.isdisjoint(finals)
    for name, job in grid.runs[STUDY].items():
        if name in candidates:
            assert (job.choice, job.parts, job.trains) == ("", {}, True)
        else:
            assert job.choice == name.rpartition("_")[0] and job.parts == finals[name].parts
    assert grid.files[f"{STUDY}/choose.code"].strip()
    assert f"{STUDY}/choose.code" not in before.files and before.choices == {STUDY: {}}
    assert {job.choice for job in finals.values()} == {""}


def test_what_is_offered_moves_the_candidates_alone(tmp_path: Path) -> None:
    """Another value is another candidate; the runs that follow the choice hear of it from the choice's file."""
    before, after = make(tmp_path, CHOICE), make(tmp_path, CHOICE.replace("0.2", "0.3"))
    assert {(name.split("/")[2].split("_")[-2], Path(name).name) for name in moved(before, after)} == {
        ("candidate-1", "config.yaml")
    }
    assert before.files.keys() == after.files.keys()
    more = make(tmp_path, CHOICE.replace("0.2", "0.2, 0.3"))
    assert not moved(before, more)
    assert {name.split("/")[2].split("_")[-2] for name in more.files.keys() - before.files.keys()} == {"candidate-2"}


def test_candidates_are_no_results(tmp_path: Path) -> None:
    """They are planned, kept by prune, and read by no part of an evaluation."""
    grid = make(tmp_path, CHOICE)
    grid.write(root=tmp_path)
    assert not prune.strangers(grid, tmp_path)
    assert {path.name.split("_")[-2] for path in prune.strangers(make(tmp_path), tmp_path)} == {"candidate-0", "candidate-1"}
    for arm, named in grid.choices[STUDY].items():
        for number, name in enumerate(named):
            run = Run.load(grid.folder(tmp_path) / STUDY / "runs" / name)
            assert (run.choice, run.settings, run.evaluation) == (arm, {"training.lr": 0.1 * (number + 1)}, {})


def test_a_plan_with_choices_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = make(tmp_path, CHOICE)
    monkeypatch.setattr("ripstop.plan._resolve", lambda *_: pytest.fail("it was forgotten"))
    assert make(tmp_path, CHOICE) == wanted and wanted.choices[STUDY]


def test_the_code_that_chooses_is_the_choices_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ripstop.stage_files._digest", lambda modules, cuda: " ".join(sorted(modules)))
    assert make(tmp_path, CHOICE).files[f"{STUDY}/choose.code"] == "ripstop.choices\n"
