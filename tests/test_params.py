"""params.yaml and its overlays: what is laid over what, what the shipped files resolve to, and how mistakes are named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ripstop import params, studies, yaml_file
from ripstop.config import ConfigError
from ripstop.models.accounting import describe
from ripstop.studies.base import runs as runs_of

ROOT = Path(__file__).parents[1]
FILE = ROOT / "params.yaml"
SCALES = ["smoke", "cpu", "h100"]
BLOCK = {"a": {"b": 1, "c": [1, 2, 3]}, "d": 4, "arms": {"x": "M", "y": "A", "z": "W"}}


def lay_out(folder: Path, text: str | None = None, **overlays: str) -> Path:
    """params.yaml (the shipped one, or `text`) with these overlays beside it."""
    file = folder / "params.yaml"
    file.write_text(FILE.read_text(encoding="utf-8") if text is None else text, encoding="utf-8")
    scales = folder / params.OVERLAYS
    scales.mkdir(parents=True)
    for name, content in overlays.items():
        (scales / f"{name}.yaml").write_text(content, encoding="utf-8")
    return file


def resolve(overlay: dict, *overrides: str, scale: str = "big") -> dict:
    """What study `s` resolves to at `scale`, where scale `big` lays `overlay` over it."""
    values = {"scale": scale, "studies": {"s": BLOCK}}
    return params.parse(values, overlays={"big": {"s": overlay}}, overrides=overrides).study("s", scale)


@pytest.mark.parametrize("scale", SCALES)
def test_every_study_resolves_at_every_scale(scale: str) -> None:
    loaded = params.load(FILE, scale=scale)
    assert loaded.scales == ["cpu", "h100", "smoke"]
    assert set(loaded.studies) == set(studies.names())
    for name in loaded.studies:
        study = studies.load(name)
        runs = list(runs_of(study, loaded.study(name, scale), scale, name))
        assert runs
        assert len({run.name for run in runs}) == len(runs)
        for run in runs:
            assert run.study == name and run.scale == scale
            assert not set(run.name) & set("=,/ "), "a wildcard that Slurm could not read back"


def test_the_models_of_the_full_scale_can_be_accounted_for() -> None:
    loaded = params.load(FILE, scale="h100")
    for name in loaded.studies:
        study = studies.load(name)
        run = next(runs_of(study, loaded.study(name, "h100"), "h100", name))
        assert describe(run.model, 1000, 512)


def test_the_shipped_scales_lay_over_what_they_say() -> None:
    loaded = params.load(FILE)
    small, full = ({name: loaded.study(name, scale) for name in ("mqar_cliff", "hybrid_ratio")} for scale in ("smoke", "h100"))
    # `all` lays data of kind mqar over the recall studies alone, and a study's own block over `all`
    assert small["mqar_cliff"]["data"]["num_pairs"] == [2, 4, 8] and small["mqar_cliff"]["training"]["steps"] == 20
    assert "num_pairs" not in small["hybrid_ratio"]["data"] and small["hybrid_ratio"]["training"]["steps"] == 8
    assert small["hybrid_ratio"]["data"] == {
        "kind": "documents",
        "source": "bible",
        "tokenizer": {"kind": "bpe", "vocab_size": 500},
        "max_tokens": 64,
        "token_vectors": 32,
        "long": {"max_tokens": 96, "share": 0.0},
        "held_out_documents": 20,
    }
    assert (full["mqar_cliff"]["d_model"], full["hybrid_ratio"]["d_model"]) == (256, 768)
    # keys that a study's block does not name, and its Params have
    assert all(values["compute"] == {"device": "cuda"} for values in full.values())
    assert all(values["training"]["precision"] == "bf16" for values in full.values())
    assert full["mqar_cliff"]["training"]["lr"] == 0.001 and full["mqar_cliff"]["seeds"] == [0, 1, 2, 3, 4]


def test_an_overlay_changes_its_keys_and_no_others() -> None:
    assert resolve({}, scale="cpu") == resolve({}) == BLOCK
    laid = resolve({"a": {"c": [9]}, "arms": {"w": "MM"}, "e": {"f": 1}})
    assert laid == {"a": {"b": 1, "c": [9]}, "d": 4, "arms": BLOCK["arms"] | {"w": "MM"}, "e": {"f": 1}}
    assert BLOCK["arms"] == {"x": "M", "y": "A", "z": "W"}, "the block itself must stay"


def test_another_kind_replaces_the_mapping() -> None:
    before = {"mixer": {"kind": "mamba2", "d_state": 16}, "n": 1}
    assert params.lay(before, {"mixer": {"d_state": 8}})["mixer"] == {"kind": "mamba2", "d_state": 8}
    assert params.lay(before, {"mixer": {"kind": "mamba2", "d_state": 8}})["mixer"] == {"kind": "mamba2", "d_state": 8}
    assert params.lay(before, {"mixer": {"kind": "attention"}}) == {"mixer": {"kind": "attention"}, "n": 1}


def test_an_arm_is_dropped_before_the_overlay_is_laid() -> None:
    assert resolve({"drop": ["arms.y", "a.b"], "d": 5}) == {"a": {"c": [1, 2, 3]}, "d": 5, "arms": {"x": "M", "z": "W"}}
    assert resolve({"drop": ["a"], "a": {"n": 1}})["a"] == {"n": 1}
    assert "y" in BLOCK["arms"]
    assert resolve({"drop": ["arms.y"]}, scale="cpu") == BLOCK


def test_what_a_study_s_own_block_drops_no_scale_has() -> None:
    values = {"scale": "cpu", "studies": {"s": BLOCK | {"drop": ["arms.y", "d"]}}}
    loaded = params.parse(values, overlays={"big": {"s": {"drop": ["arms.z"]}}})
    assert loaded.study("s", "cpu") == {"a": BLOCK["a"], "arms": {"x": "M", "z": "W"}}
    assert loaded.study("s", "big")["arms"] == {"x": "M"}
    assert (loaded.dropped("s", "cpu"), loaded.dropped("s", "big")) == (["arms.y", "d"], ["arms.y", "d", "arms.z"])


@pytest.mark.parametrize(
    ("paths", "told"),
    [
        ("[arms.yy]", "s.drop: arms.yy: there is no such key; did you mean 'arms.y'"),
        ("[arm.y]", "s.drop: arm.y: there is no such key; did you mean 'arms'"),
        ("[d.x]", "s.drop: d.x: there is no such key"),
        ("arms.y", r"s.drop: needs a list of paths such as \[patterns.mamba2\]"),
        ("[1]", "s.drop: needs a list of paths"),
        ("{a: 1}", "s.drop: needs a list of paths"),
    ],
)
def test_what_cannot_be_dropped_is_named(paths: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        resolve({"drop": yaml_file.parse(paths, "test")})


def test_the_command_line_drops_too() -> None:
    """What it drops is neither trained nor missed by what prints it."""
    item = "studies.mqar_cliff.drop=[patterns.attention]"
    loaded = params.load(FILE, [item, "studies.mqar_cliff.patterns.new=MM"], "smoke")
    assert set(loaded.study("mqar_cliff", "cpu")["patterns"]) - set(loaded.study("mqar_cliff", "smoke")["patterns"]) == {
        "attention"
    }
    assert loaded.study("mqar_cliff", "smoke")["patterns"]["new"] == "MM"
    assert loaded.dropped("mqar_cliff", "smoke") == ["patterns.attention"]
    assert loaded.dropped("mqar_cliff", "cpu") == loaded.dropped("blind_start", "smoke") == []
    told = r"--set studies.s.drop: arms.yy: there is no such key; did you mean 'arms.y'\?"
    with pytest.raises(ConfigError, match=told):
        resolve({}, "studies.s.drop=[arms.yy]")
    with pytest.raises(
        ConfigError, match=r"--set studies.s.drop: needs a list of paths such as \[patterns.mamba2\] \(got 'a'\)"
    ):
        resolve({}, "studies.s.drop=a")


def test_overrides_have_the_last_word_at_the_scale_in_force_and_at_no_other() -> None:
    loaded = params.load(FILE, ["studies.mqar_cliff.seeds=[5, 6]", "studies.mqar_cliff.training.lr=2e-3"], "smoke")
    assert loaded.study("mqar_cliff", "smoke")["seeds"] == [5, 6]
    assert loaded.study("mqar_cliff", "smoke")["training"]["lr"] == 0.002
    assert loaded.study("mqar_cliff", "cpu")["seeds"] == [0, 1, 2, 3, 4]
    assert loaded.study("blind_start", "smoke")["seeds"] == [0]


def test_overrides_set_items_of_lists_and_keys_that_the_block_does_not_name() -> None:
    items = ["studies.d_state_scaling.shapes[1].0=6", "studies.d_state_scaling.steps.0=77"]
    loaded = params.load(FILE, [*items, "studies.d_state_scaling.reporting.tensorboard=true"])
    values = loaded.study("d_state_scaling", "cpu")
    assert values["shapes"][:3] == [[4, 2], [6, 2], [16, 2]]
    assert values["steps"] == [77, 600]
    assert values["reporting"] == {"tensorboard": True}


def test_scale_by_file_by_override_and_by_argument(tmp_path: Path) -> None:
    file = lay_out(tmp_path, "scale: 'cpu'  # quoted, with a comment\nstudies: {s: {a: 1}}\n", big="{}", small="{}")
    assert params.load(file).scale == "cpu"
    assert params.load(file, ["scale=big"]).scale == "big"
    assert params.load(file, ["scale=big"], "small").scale == "small"


def test_a_study_needs_no_overlay_and_an_overlay_needs_no_study(tmp_path: Path) -> None:
    file = lay_out(tmp_path, "scale: cpu\nstudies: {s: {a: 1}, t: {a: 2}}\n", big="t: {a: 3}", small="{}")
    loaded = params.load(file)
    assert [loaded.study("s", scale) for scale in loaded.scales] == [{"a": 1}] * 3
    assert [loaded.study("t", scale) for scale in ("cpu", "big", "small")] == [{"a": 2}, {"a": 3}, {"a": 2}]
    assert params.load(lay_out(tmp_path / "..", "scale: cpu\nstudies: {s: {a: 1}}\n")).scales == ["cpu"]


def test_anchors_in_an_overlay_do_not_tie_values_together(tmp_path: Path) -> None:
    file = lay_out(tmp_path, "scale: big\nstudies: {s: {}, t: {}}\n", big="s: {v: &v {n: [1]}}\nt: {v: *v}\n")
    loaded = params.load(file, ["studies.s.v.n.0=2"])
    assert (loaded.study("s", "big"), loaded.study("t", "big")) == ({"v": {"n": [2]}}, {"v": {"n": [1]}})


def test_foreign_files_beside_the_overlays_are_left_alone(tmp_path: Path) -> None:
    file = lay_out(tmp_path, big="mqar_cliff: {seeds: [9]}\n")
    for name in (".DS_Store", "notes.txt", "big.yaml~", ".big.yaml.swp", "._big.yaml"):
        (file.parent / params.OVERLAYS / name).write_bytes(b"\x00\xff: [")
    (file.parent / params.OVERLAYS / "old").mkdir()
    assert params.load(file).scales == ["cpu", "big"]


def test_line_ends_and_a_byte_order_mark_do_not_matter(tmp_path: Path) -> None:
    file = lay_out(tmp_path)
    before = params.load(file)
    file.write_bytes(b"\xef\xbb\xbf" + FILE.read_bytes().replace(b"\n", b"\r\n"))
    assert params.load(file) == before


OVERLAYS = {
    "all: {trainning: {steps: 1}}": r"big.yaml: all.trainning: no study has this; did you mean 'training'\?",
    "all: {training: {stepz: 1}}": r"big.yaml: all.training.stepz: no study has this; did you mean 'steps'\?",
    "all: {training: {steps: 1, optimizer: {bettas: 1}}}": r"all.training.optimizer.bettas: .*did you mean 'betas'\?",
    "all: {mixers: {Q: {d_state: 1}}}": r"big.yaml: all.mixers.Q: no study has this; there is: ",
    "all: {data: {kind: mqarr}}": r"big.yaml: all.data.kind: mqarr: no study has this; did you mean 'mqar'\?",
}


@pytest.mark.parametrize(("text", "told"), OVERLAYS.items())
def test_what_all_lays_over_no_study_is_an_error(text: str, told: str, tmp_path: Path) -> None:
    loaded = params.load(lay_out(tmp_path, big=text))
    for name in loaded.studies:
        assert loaded.study(name, "cpu")
        with pytest.raises(ConfigError, match=told):
            loaded.study(name, "big")


def test_all_reaches_through_kinds_and_mappings_to_what_a_study_has(tmp_path: Path) -> None:
    overlay = "all: {mixers: {M: {d_state: 8}, A: {d_conv: 2}, B: {mixer: {d_conv: 3}}}, mlp: {expand: 3}, n_cross_heads: 4}"
    loaded = params.load(lay_out(tmp_path, big=overlay), scale="big")
    cliff, blind, ratio = (loaded.study(name, "big") for name in ("mqar_cliff", "blind_start", "hybrid_ratio"))
    assert cliff["mixers"]["M"] == {"kind": "mamba2", "d_state": 8, "head_dim": 32}
    assert cliff["mixers"]["A"] == {"kind": "attention", "n_heads": 1, "d_conv": 2}
    assert "B" not in cliff["mixers"] and "A" not in blind["mixers"]
    assert blind["mixers"]["B"]["mixer"] == {"kind": "mamba2", "d_state": 16, "head_dim": 32, "d_conv": 3}
    assert ratio["mlp"] == {"activation": "swiglu", "expand": 3}
    assert "mlp" not in blind and "n_cross_heads" not in cliff
    assert (blind["n_cross_heads"], ratio["n_cross_heads"]) == (4, 4)


def test_all_leaves_alone_what_this_scale_drops(tmp_path: Path) -> None:
    overlay = "all: {mixers: {W: {window_size: 8}}}\nmqar_cliff: {drop: [mixers.W, patterns.sliding_window]}"
    values = params.load(lay_out(tmp_path, big=overlay)).study("mqar_cliff", "big")
    assert set(values["mixers"]) == {"M", "T", "D", "K", "A", "C"} and "sliding_window" not in values["patterns"]


FILES = {
    "": "params.yaml: is empty",
    "# nothing\n": "params.yaml: is empty",
    "[]": r"params.yaml: needs a mapping, key: value on each line \(got \[\]\)",
    "text": "params.yaml: needs a mapping",
    "studies: {s: {}}": "params.yaml: scale: missing, add it",
    "scale: cpu": "params.yaml: studies: missing, add it",
    "scale: cpu\nstudies: {}": "params.yaml: studies: there is none",
    "scale: cpu\nstudies:": r"params.yaml:2: studies: has no value; write one, or null",
    "scale: cpu\nstudies: {s: }": r"params.yaml:2: studies.s: has no value; write one, or null",
    "scale: cpu\nstudies: {s: [1]}": r"params.yaml: studies.s: needs a mapping \(got \[1\]\)",
    "scale: cpu\nstudies: {s: {a: 1}, s: {a: 2}}": "params.yaml:2: studies: the key 's' stands twice, first in line 2",
    "scale: cpu\nstudies:\n  s: {a: 1}\nscale: cpu": "params.yaml:4: the key 'scale' stands twice, first in line 1",
    "scale: cpu\nstudies: {'s; rm -rf .': {a: 1}}": r"params.yaml: studies: 's; rm -rf .' is no name",
    "scale: cpu\nstudies: {../evil: {a: 1}}": r"params.yaml: studies: '../evil' is no name",
    "scale: cpu\nstudies: {S: {a: 1}}": "params.yaml: studies: 'S' is no name; write a small letter",
    "scale: cpu\nstudies: {paper: {a: 1}}": "params.yaml: studies: a study cannot be called 'paper'",
    "scale: cpu\nstudies: {all: {a: 1}}": "params.yaml: studies: a study cannot be called 'all'",
    "scale: cpu\nstudies: {s: {arms: {'a b': M}}}": "params.yaml: studies.s.arms: 'a b' is no name",
    "scale: cpu\nstudies: {s: {arms: {'x}y': M}}}": "params.yaml: studies.s.arms: 'x}y' is no name",
    "scale: cpu\nstudies: {s: {5: M}}": r"params.yaml:2: studies.s: the key 5 is no text; put it in quotes",
    "scale: 'x; touch P; y'\nstudies: {s: {a: 1}}": r"params.yaml: scale 'x; touch P; y' does not exist; there is: cpu",
    "scale: ../../evil\nstudies: {s: {a: 1}}": r"params.yaml: scale '../../evil' does not exist",
    "scale: cpuu\nstudies: {s: {a: 1}}": r"params.yaml: scale 'cpuu' does not exist; did you mean 'cpu'\?",
    "scale: 1\nstudies: {s: {a: 1}}": r"params.yaml: scale: needs text; put it in quotes \(got 1\)",
    "scale: true\nstudies: {s: {a: 1}}": r"params.yaml: scale: needs text; put it in quotes \(got True\)",
    "__use_yte__: true\nscale: cpu\nstudies: {s: {a: 1}}": "params.yaml: __use_yte__: unknown key",
    "scale: cpu\nstudys: {s: {a: 1}}": r"params.yaml: studys: unknown key; did you mean 'studies'\?",
    "scale: cpu\nstudies: {s: {a: 1}}\nscales: {}": "params.yaml: scales: an overlay stands in a file of its own",
    "scale: cpu\nstudies: {s: {a: '${nope}'}}": r"params.yaml: studies.s.a: '\${nope}' would be interpolated",
    "scale: cpu\nstudies: {s: {a: ['${oc.env:HOME}']}}": r"params.yaml: studies.s.a.0: '\${oc.env:HOME}' would be",
    "scale: ${nope}\nstudies: {s: {a: 1}}": r"params.yaml: scale '\${nope}' does not exist",
    "scale: cpu\nstudies: {s: {a: !!python/name:os.system 1}}": "params.yaml:2: studies.s.a: the tag .* is not read",
    "scale: cpu\nstudies: {s: [": "params.yaml:2: not YAML",
    "scale: cpu\nstudies:\n\ts: {a: 1}": "params.yaml:3: not YAML: a tab stands where only spaces may",
    "scale: cpu\n---\nstudies: {s: {a: 1}}": "params.yaml:2: a second document starts",
    "a: " + "[" * 10_000: "params.yaml:1: .*nested more than 50 levels deep",
}


@pytest.mark.parametrize(("text", "told"), FILES.items(), ids=[str(n) for n in range(len(FILES))])
def test_a_mistake_in_the_file_is_one_sentence(text: str, told: str, tmp_path: Path) -> None:
    file = lay_out(tmp_path, text)
    with pytest.raises(ConfigError, match=told) as caught:
        params.load(file)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


SCALE_FILES = {
    ("big", ""): "big.yaml: is empty",
    ("big", "[1]"): "big.yaml: needs a mapping",
    ("big", "mqar_clif: {seeds: [0]}"): r"big.yaml: mqar_clif: no such study; did you mean 'mqar_cliff'\?",
    ("big", "mqar_cliff: [0]"): r"big.yaml: mqar_cliff: needs a mapping, what this scale lays over the study \(got \[0\]\)",
    ("big", "mqar_cliff:"): r"big.yaml:1: mqar_cliff: has no value",
    ("big", "all: {drop: [seeds]}"): "big.yaml: all.drop: a study drops in its own block",
    ("big", "mqar_cliff: {drop: seeds}"): "big.yaml: mqar_cliff.drop: needs a list of paths",
    ("big", "mqar_cliff: {patterns: {'x;y': M}}"): "big.yaml: mqar_cliff.patterns: 'x;y' is no name",
    ("big", "mqar_cliff: {d_model: '${x}'}"): "big.yaml: mqar_cliff.d_model: .* would be interpolated",
    ("big", "mqar_cliff: {seeds: [0], seeds: [1]}"): "big.yaml:1: mqar_cliff: the key 'seeds' stands twice",
    ("big", "all: {<<: {a: 1}}"): "big.yaml:1: all: the merge key << is not YAML 1.2",
    ("cpu", "{}"): "cpu.yaml: scale cpu is what params.yaml holds",
    ("Big one", "{}"): "Big one.yaml: 'Big one' is no name",
    ("metrics", "{}"): "metrics.yaml: a scale cannot be called 'metrics'",
    ("records", "{}"): "records.yaml: a scale cannot be called 'records'",
}


@pytest.mark.parametrize(("named", "told"), SCALE_FILES.items(), ids=[str(n) for n in range(len(SCALE_FILES))])
def test_a_mistake_in_an_overlay_is_told_at_every_scale(named: tuple[str, str], told: str, tmp_path: Path) -> None:
    name, text = named
    file = lay_out(tmp_path, **{name: text})
    with pytest.raises(ConfigError, match=told) as caught:
        params.load(file, scale="cpu")
    assert "\n" not in str(caught.value)


def test_an_overlay_with_another_suffix_is_named(tmp_path: Path) -> None:
    file = lay_out(tmp_path)
    (file.parent / params.OVERLAYS / "big.yml").write_text("{}")
    with pytest.raises(ConfigError, match=r"big.yml: an overlay's file ends in .yaml; rename it to big.yaml"):
        params.load(file)


def test_a_scale_without_a_file_is_named(tmp_path: Path) -> None:
    file = lay_out(tmp_path, big="{}")
    with pytest.raises(ConfigError, match=r"params.yaml: scale 'bug' does not exist; did you mean 'big'\?"):
        params.load(file, scale="bug")
    loaded = params.load(file)
    with pytest.raises(ConfigError, match=r"scale 'bug' does not exist"):
        loaded.study("mqar_cliff", "bug")
    with pytest.raises(ConfigError, match=r"study 'mqar_clif' does not exist; did you mean 'mqar_cliff'\?"):
        loaded.study("mqar_clif", "big")


OVERRIDES = {
    "studies.mqar_clif.seeds=[0]": r"--set studies.mqar_clif.seeds=\[0\]: .* has no studies.mqar_clif; did you mean 'mqar_cl",
    "study.mqar_cliff.seeds=[0]": r"has no study; did you mean 'studies'",
    "scales.smoke.mqar_cliff.seeds=[0]": r"has no scales; did you mean 'scale'",
    "new=1": r"has no new; there is: scale, studies",
    "studies.new={}": r"has no studies.new; there is: ",
    "studies.mqar_cliff": r"write it as key=value, such as training.steps=10",
    "=1": r"write it as key=value",
    "studies..seeds=1": r"write it as key=value",
    "studies.mqar_cliff.seeds=": r"--set studies.mqar_cliff.seeds=: is empty",
    "studies.mqar_cliff.seeds=[0": r"--set studies.mqar_cliff.seeds=\[0:1: not YAML",
    "studies.mqar_cliff.seeds.7=1": r"has no studies.mqar_cliff.seeds.7; the list has items 0 to 4",
    "studies.mqar_cliff.seeds.x=1": r"has no studies.mqar_cliff.seeds.x; the list has items 0 to 4",
    "studies.mqar_cliff.seeds[-1]=1": r"has no studies.mqar_cliff.seeds\[-1\]|no name",
    "studies.mqar_cliff.d_model.x=1": r"studies.mqar_cliff.d_model of .*params.yaml is 32 and holds no keys",
    "studies.mqar_cliff.patterns.a b=M": r"studies.mqar_cliff.patterns: 'a b' is no name",
    "studies.mqar_cliff.d_model=${nope}": r"studies.mqar_cliff.d_model: '\${nope}' would be interpolated",
    "studies.mqar_cliff=[1]": r"studies.mqar_cliff: needs a mapping \(got \[1\]\)",
    "studies=5": r"studies: needs a mapping \(got 5\)",
    "scale=x; touch P": r"scale 'x; touch P' does not exist",
    "scale=[smoke]": r"scale: needs text; put it in quotes \(got \['smoke'\]\)",
}


@pytest.mark.parametrize(("override", "told"), OVERRIDES.items())
def test_a_wrong_override_is_named(override: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        params.load(FILE, [override])
    assert "\n" not in str(caught.value)


ABSURD = {
    "seeds=[]": "seeds",
    "seeds=[0.5]": "seeds.0: needs a whole number",
    "seeds=[true]": "seeds.0: needs a whole number",
    "seeds=['0']": "seeds.0: needs a whole number",
    "seeds=[yes, no]": r"seeds.0: needs a whole number \(got 'yes'\)",
    "seeds=[1:30]": r"seeds.0: needs a whole number \(got '1:30'\)",
    "seeds=3": "seeds: needs a list",
    "training.lr=.inf": "training.lr: needs a finite number",
    "training.lr=.nan": "training.lr: needs a finite number",
    "training.lr='1e-3'": "training.lr: needs a number",
    "training.tokens_per_step=0": "training.tokens_per_step: ",
    "training.tokens_per_step=1000000000": r"training.tokens_per_step: input should be less than or equal to 67108864",
    "training.tokens_per_step=8388608": "training: tokens_per_step asks for batches of 8388608 tokens, .* raise accumulation",
    "training.steps=1e3": "training.steps: needs a whole number",
    "training.stepz=3": r"training.stepz: unknown key; did you mean 'steps'\?",
    "trainin.steps=3": r"trainin: unknown key; did you mean 'training'\?",
    "data.n_test=null": "data.n_test: needs a whole number",
    "patterns={}": "patterns",
    "patterns.mamba2=5": "patterns.mamba2: needs text; put it in quotes",
    "mixers.M.d_stat=3": r"mixers.M.d_stat: unknown key; did you mean 'd_state'\?",
    "mixers.M.kind=mamba22": r"mixers.M: unknown kind 'mamba22'; did you mean 'mamba2'\?",
    "mixers.M.d_state='16'": "mixers.M.d_state: needs a whole number",
    **{
        f"{key}=1000000000": f"{key}: input should be less than or equal to"
        for key in (
            "d_model",
            "mixers.M.d_state",
            "mixers.M.d_conv",
            "mixers.M.expand",
            "mixers.M.head_dim",
            "mixers.M.n_groups",
            "mixers.M.chunk_size",
            "mixers.A.n_heads",
            "mixers.A.n_kv_heads",
            "mixers.A.head_dim",
            "mixers.C.d_conv",
            "mixers.W.window_size",
            "mixers.W.sink_size",
            "data.n_keys",
            "data.n_values",
            "data.n_test",
            "data.n_valid",
            "training.accumulation",
        )
    },
}


@pytest.mark.parametrize(("override", "told"), ABSURD.items())
def test_an_absurd_value_names_file_study_and_key(override: str, told: str) -> None:
    loaded = params.load(FILE, [f"studies.mqar_cliff.{override}"])
    where = loaded.where("mqar_cliff", "cpu")
    with pytest.raises(ConfigError, match=rf"params.yaml: studies.mqar_cliff.{told}") as caught:
        studies.load("mqar_cliff").Params.parse(loaded.study("mqar_cliff", "cpu"), where)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("shapes", "told"),
    [
        ("[[4, 0]]", "shapes.0.1: input should be greater than or equal to 1"),
        ("[[4, 2], [1000000000, 2]]", "shapes.1.0: input should be less than or equal to 65536"),
        ("[[4, 2, 1]]", "shapes.0: "),
        ("[[4, 2], 4]", "shapes.1: needs a list"),
    ],
)
def test_a_wrong_shape_of_the_state_names_its_place(shapes: str, told: str) -> None:
    loaded = params.load(FILE, [f"studies.d_state_scaling.shapes={shapes}"])
    with pytest.raises(ConfigError, match=f"params.yaml: studies.d_state_scaling.{told}"):
        list(
            runs_of(
                studies.load("d_state_scaling"),
                loaded.study("d_state_scaling", "cpu"),
                "cpu",
                loaded.file + ": studies.d_state_scaling",
            )
        )


def test_more_tokens_than_fit_at_once_are_read_in_more_batches() -> None:
    """The full scale reads 393,728 tokens in one batch; 2^26 need 16 batches of 2^22."""
    block = params.load(FILE).study("mqar_cliff", "cpu")
    for tokens, accumulation in ((393_728, 1), (2**22, 1), (2**26, 16)):
        told = {"steps": 1, "lr": 0.1, "tokens_per_step": tokens, "accumulation": accumulation}
        assert studies.load("mqar_cliff").Params.parse(block | {"training": told}, "").training.tokens_per_step == tokens
    with pytest.raises(ConfigError, match="batches of 4473924 tokens"):
        studies.load("mqar_cliff").Params.parse(block | {"training": told | {"accumulation": 15}}, "")


def test_messages_name_the_overlay_too_where_there_is_one() -> None:
    loaded = params.load(FILE)
    assert loaded.where("mqar_cliff", "cpu") == f"{FILE}: studies.mqar_cliff"
    assert loaded.where("s", "h100") == f"{FILE} and {ROOT / 'workflow/scales/h100.yaml'}: studies.s"


def test_010_is_ten_and_a_name_in_quotes_is_a_name() -> None:
    loaded = params.load(FILE, ["studies.mqar_cliff.seeds=[010]", "studies.mqar_cliff.patterns={yes: M}"])
    values = studies.load("mqar_cliff").Params.parse(loaded.study("mqar_cliff", "cpu"), "test")
    assert (values.seeds, values.patterns) == ([10], {"yes": "M"})


def test_a_missing_or_broken_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"params.yaml: no such file; run from the root of the repository or pass --params"):
        params.load(tmp_path / "params.yaml")
    with pytest.raises(ConfigError, match="this is a folder, not a file"):
        params.load(tmp_path)
    (tmp_path / "params.yaml").write_bytes(b"scale: cpu\nstudies: {s: {a: \xff}}")
    with pytest.raises(ConfigError, match="params.yaml:2: not UTF-8 text"):
        params.load(tmp_path / "params.yaml")


def test_the_schemas_accept_the_files_and_refuse_a_wrong_key() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema, overlay = json.loads(params.schema()), json.loads(params.schema(overlay=True))
    values = yaml_file.mapping(FILE)
    jsonschema.validate(values, schema)
    for path in (ROOT / params.OVERLAYS).glob("*.yaml"):
        jsonschema.validate(yaml_file.mapping(path), overlay)
    values["studies"]["mqar_cliff"]["seedz"] = [0]
    with pytest.raises(jsonschema.ValidationError, match="seedz"):
        jsonschema.validate(values, schema)
    with pytest.raises(jsonschema.ValidationError, match="stepz"):
        jsonschema.validate({"mqar_cliff": {"training": {"stepz": 1}}}, overlay)
