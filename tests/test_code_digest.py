"""Code digests follow numbers: edits of a copy of this very package that must make a stage stale, and that must not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ripstop import code_digest, provenance
from ripstop.stage_files import CHOOSE, EVALUATE, TRAIN

SOURCE = Path(__file__).parents[1] / "src" / "ripstop"
MODULES = [
    "ripstop.data.mqar",
    "ripstop.models.decoder_only",
    "ripstop.mixers.mamba2",
    "ripstop.training.objectives.cross_entropy",
    "ripstop.training.optimizers.adamw",
]
RECALL = ["ripstop.data.mqar", "ripstop.models.decoder_only", "ripstop.mixers.mamba2", "ripstop.evaluation.recall"]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package that may be edited."""
    root = tmp_path / "ripstop"
    shutil.copytree(SOURCE, root, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(provenance, "PACKAGE", root)
    code_digest._read.cache_clear()
    yield root
    code_digest._read.cache_clear()


def digests(cuda: bool = False) -> dict[str, str]:
    """Of a Mamba-2 run on MQAR: of its training, of its recall, of its data, and of the choice of its settings."""
    code_digest._read.cache_clear()
    return {
        "train": code_digest.code_digest([*MODULES, *TRAIN], cuda),
        "evaluate": code_digest.code_digest([*RECALL, *EVALUATE], cuda),
        "prepare": code_digest.code_digest(["ripstop.data.mqar"]),
        "choose": code_digest.code_digest(CHOOSE),
    }


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text, f"{path} no longer holds {old!r}: give this test another edit"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def stale_after(change, cuda: bool = False) -> set[str]:
    before = digests(cuda)
    change()
    return {stage for stage, digest in digests(cuda).items() if digest != before[stage]}


BOTH = {"train", "evaluate"}
ALL = {"train", "evaluate", "prepare"}

MOVES = {
    "the state's decay loses its sign": ("ops/state_space_chunked.py", "s = (dt * (A_H", "s = (dt * (-A_H", BOTH),
    "the recurrence": ("ops/state_space.py", "torch.exp(dt_BH * A_H)", "torch.exp(A_H)", BOTH),
    "the norm's default epsilon": ("ops/normalize.py", "eps: float = 1e-5", "eps: float = 1e-6", BOTH),
    "the initial range of a mixer": ("mixers/mamba2.py", "(1.0, 16.0)", "(1.0, 8.0)", BOTH),
    "the objective": ("training/objectives/cross_entropy.py", "F.cross_entropy(", "2 * F.cross_entropy(", {"train"}),
    "the learning rate's schedule": ("training/schedule.py", "math.cos(math.pi * progress)", "math.cos(progress)", {"train"}),
    "clipping": ("training/distributed/strategy.py", "clip_grad_norm_(", "clip_grad_value_(", {"train"}),
    "which positions have a target": ("batch.py", "self.targets_BT != IGNORE", "self.targets_BT > 0", ALL),
    "how pairs are drawn": ("data/mqar.py", "FIRST_KEY = 10", "FIRST_KEY = 11", ALL),
    "a control": ("evaluation/controls.py", "masked_fill(~inside_BS, 2.0)", "masked_fill(inside_BS, 2.0)", {"evaluate"}),
    "what is right": ("evaluation/recall.py", ".argmax(-1)", ".argmin(-1)", {"evaluate"}),
    "which candidate is chosen": ("choices.py", "index(min(losses))", "index(max(losses))", BOTH | {"choose"}),
    "how a stack is initialised": ("models/stack.py", "** -0.5", "** -1.0", BOTH),
}  # fmt: skip

STAYS = {
    "a comment": ("ops/state_space.py", "import torch\n", "import torch\n\n# said once more\n"),
    "a docstring": ("mixers/mamba2.py", '"""Mamba-2 (arXiv', '"""The mixer Mamba-2 (arXiv'),
    "layout": ("ops/normalize.py", "(x_BTD.dtype, torch.float32)", "(\n        x_BTD.dtype,\n        torch.float32\n    )"),
    "a reworded error": ("data/mqar.py", "raise it, or lower data.num_pairs", "raise it or take fewer pairs"),
    "an error that a function returns": ("models/decoder_only.py", "reads no source", "has no use for a source"),
    "what is printed": ("training/trainer.py", "starting at step 0", "beginning at step 0"),
    "an annotation": ("ops/normalize.py", "eps: float = 1e-5) -> Tensor", "eps: float = 1e-5) -> torch.Tensor"),
    "what a setting is for": ("training/config.py", 'description="largest gradient', 'description="the largest gradient'),
    "a column of the heartbeat": ("training/monitor.py", "tokens_per_second", "tokens_a_second"),
    "how checkpoints are named": ("training/checkpoint.py", "step-", "at-"),
    "how files are written": ("files.py", "os.replace", "os.rename"),
    "a new option of reporting": ("training/reporting.py", "(Strict):", "(Strict):\n    loud: bool = False\n"),
    "an adapter to a CUDA kernel": ("kernels/adapters/mamba_ssm.py", "SMALLEST_CHUNK = 16", "SMALLEST_CHUNK = 32"),
    "a CUDA kernel": ("kernels/triton/block_selection.py", "MOST_TILES = 64", "MOST_TILES = 32"),
    "another mixer": ("mixers/sliding_window.py", "position_T < self.sink_size", "position_T <= self.sink_size"),
    "what an operation notes of its reads": ("kernels/state_space.py", 'reads.note("ssd", 0, state_BHPN)', "reads.wrote()"),
    "how reads are counted where nobody asks": ("kernels/reads.py", "found.tokens += tokens", "found.tokens += 2 * tokens"),
    "another study": ("studies/hybrid_ratio.py", '"ratio": ratio', '"share": ratio'),
    "a table of the paper": ("paper/tables.py", "STACKED_FROM = 5", "STACKED_FROM = 6"),
}  # fmt: skip


@pytest.mark.parametrize("name", MOVES)
def test_what_can_move_a_number_makes_its_stages_stale(package: Path, name: str) -> None:
    path, old, new, stages = MOVES[name]
    assert stale_after(lambda: edit(package / path, old, new)) == stages


@pytest.mark.parametrize("name", STAYS)
def test_what_cannot_move_a_number_makes_nothing_stale(package: Path, name: str) -> None:
    path, old, new = STAYS[name]
    assert stale_after(lambda: edit(package / path, old, new)) == set()


def test_a_new_mixer_with_a_kernel_of_its_own_makes_nothing_stale(package: Path) -> None:
    def add() -> None:
        (package / "ops" / "fresh.py").write_text("def fresh(x):\n    return x\n")
        (package / "kernels" / "fresh.py").write_text("from ripstop.ops.fresh import fresh\n")
        (package / "kernels" / "adapters" / "fresh.py").write_text("import fresh_kernels\n")
        (package / "mixers" / "fresh.py").write_text("from ripstop.kernels import fresh\n")

    assert stale_after(add) == set()
    assert stale_after(lambda: (package / "mixers" / "other.py").write_text("X = 1\n"), cuda=True) == set()


def test_an_adapter_counts_where_it_may_run(package: Path) -> None:
    def change() -> None:
        edit(package / "kernels/adapters/mamba_ssm.py", "SMALLEST_CHUNK = 16", "SMALLEST_CHUNK = 32")

    assert stale_after(change, cuda=True) == {"train", "evaluate"}


NOTES = "import torch\nfrom ripstop.kernels import backend, reads\n\n\ndef f(x):\n    reads.note('a', 1, x)\n    return x\n"
"""An operation that says what it reads."""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    reads.note('a', 1, x)\n", ""),
        ("note('a', 1, x)", "wrote(x, x)"),
        ("backend, reads\n\n\ndef f(x):\n    reads.note('a', 1, x)", "backend\n\n\ndef f(x):"),
        ("import backend, reads", "import backend\nfrom ripstop.kernels import reads"),
    ],
)
def test_notes_of_reads_move_nothing_and_what_asks_them_depends_on_them(package: Path, old: str, new: str) -> None:
    module = package / "kernels" / "fresh.py"
    module.write_text(NOTES)

    def found() -> tuple[str, set[str]]:
        code_digest._read.cache_clear()
        return code_digest.code_digest(["ripstop.kernels.fresh"]), code_digest.closure(["ripstop.kernels.fresh"])

    before = found()
    assert "ripstop.kernels.reads" not in before[1]
    edit(module, old, new)
    assert found() == before
    asks = NOTES.replace("return x", "return reads.n_bytes(x)")
    module.write_text(asks)
    asked = found()
    assert asked[0] != before[0] and "ripstop.kernels.reads" in asked[1]
    edit(package / "kernels" / "reads.py", "found.tokens += tokens", "found.tokens += 2 * tokens")
    assert found()[0] != asked[0]
    module.write_text(asks.replace("    reads.note('a', 1, x)\n", ""))
    assert found()[0] not in (before[0], asked[0])


def test_another_thing_called_reads_is_no_counter(package: Path) -> None:
    module = package / "other.py"
    module.write_text("def f(reads):\n    reads.append(1)\n    return reads\n")
    code_digest._read.cache_clear()
    before = code_digest.code_digest(["ripstop.other"])
    edit(module, "    reads.append(1)\n", "")
    code_digest._read.cache_clear()
    assert code_digest.code_digest(["ripstop.other"]) != before


def test_what_counts_reads_depends_on_the_counter(package: Path) -> None:
    assert "ripstop.kernels.reads" in code_digest.closure(["ripstop.evaluation.decode_bytes"])
    assert "ripstop.kernels.reads" not in code_digest.closure([*MODULES, *TRAIN, *RECALL, *EVALUATE])


def test_data_depends_on_no_training_option(package: Path) -> None:
    found = code_digest.closure(["ripstop.data.mqar", "ripstop.data.documents"])
    assert not [module for module in found if module.startswith("ripstop.training")]


def test_every_exempt_module_gives_a_reason_and_none_computes(package: Path) -> None:
    exempt = code_digest.exempt_modules()
    assert all(len(reason.split()) >= 2 for reason in exempt.values())
    computes = ("ripstop.ops", "ripstop.kernels", "ripstop.mixers", "ripstop.layers", "ripstop.models", "ripstop.data")
    assert {module for module in exempt if module.startswith(computes)} == {"ripstop.models.presets"}


SAMPLE = """
import torch
class A(torch.nn.Module):
    width: int = 3
    async def wait(self): pass
    def f(self, x, *, y=(), **more):
        empty = []
        def inner(): return f"{x!r:>{y}} {x:.2f}{y}", f"", f"{x:}", "", ["a", ""]
        return lambda: inner()
"""


def test_every_version_of_python_gives_the_same_digest() -> None:
    """Syntax trees of 3.12 and 3.13 have fields, or leave some out, that those of 3.11 do not."""
    assert code_digest._taken_apart(SAMPLE.encode())[2] == "697d2d6ef8c89995"


def test_a_move_of_an_import_counts_and_its_order_does_not(package: Path) -> None:
    (package / "one.py").write_text("def f(x):\n    return x\n")
    (package / "two.py").write_text("def f(x):\n    return 2 * x\n")
    top = package / "top.py"
    top.write_text("import ripstop.one\nimport ripstop.two\nfrom ripstop.one import f\n")

    def digest() -> str:
        code_digest._read.cache_clear()
        return code_digest.code_digest(["ripstop.top"])

    before = digest()
    top.write_text("from ripstop.one import f\nimport ripstop.two\nimport ripstop.one\n")
    assert digest() == before
    top.write_text("import ripstop.one\nimport ripstop.two\nfrom ripstop.two import f\n")
    assert digest() != before
