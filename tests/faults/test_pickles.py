"""Nothing that lies in a results folder is ever run: a pickle that would is refused, and nothing else reads pickles."""

from __future__ import annotations

import ast
import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from ripstop.training import checkpoint_file
from ripstop.training.checkpoint import Checkpoints
from ripstop.training.checkpoint_file import DIGITS
from ripstop.training.distributed import checkpoint_folder
from ripstop.training.distributed.ranks import ALONE

pytestmark = [
    pytest.mark.filterwarnings("ignore:Detected pickle protocol"),
    pytest.mark.filterwarnings("ignore:torch.distributed is disabled"),
]
SOURCE = Path(__file__).parents[2] / "src/ripstop"
IDENTITY = {"code": "c0de"}


class Trap:
    """Who unpickles it makes the folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.folder),)


class Hidden:
    """The same by a name behind one that is allowed: `os` inside torch's own module."""

    def __init__(self, folder: Path):
        self.folder = folder

    def bytes(self) -> bytes:
        module, name = "torch.distributed.checkpoint.filesystem", "os.mkdir"
        push = b"".join(b"\x8c" + bytes([len(text)]) + text.encode() for text in (module, name))
        return b"\x80\x04" + push + b"\x93\x8c" + bytes([len(str(self.folder))]) + str(self.folder).encode() + b"\x85R."


def named(path: Path) -> Path:
    """The planted checkpoint under the name that its content has: whoever planted it can do so, too."""
    return path.rename(path.with_name(f"step-00000009-{checkpoint_file.digest(path)[:DIGITS]}.pt"))


@pytest.mark.parametrize("form", ["torch.save", "pickle", "old torch.save"])
def test_a_malicious_checkpoint_runs_nothing_and_the_older_one_is_taken(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints", IDENTITY, keep=3)
    checkpoints.save(4, {"a": torch.zeros(3)})
    planted, trap = tmp_path / "checkpoints/planted", tmp_path / "sprung"
    content = {"identity": IDENTITY, "settings": {}, "step": 9, "state": Trap(trap)}
    if form == "pickle":
        planted.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, planted, _use_new_zipfile_serialization=form == "torch.save")
    planted = named(planted)
    found = Checkpoints(tmp_path / "checkpoints", IDENTITY, keep=3).load()
    assert found is not None and found[0] == 4 and not trap.exists()
    assert f"{planted}: cannot be read (" in capsys.readouterr().out
    torch.load(planted, weights_only=False) if form != "pickle" else pickle.loads(planted.read_bytes())
    assert trap.exists()  # so it was a trap


@pytest.mark.parametrize("hidden", [False, True])
def test_a_malicious_index_of_a_checkpoint_in_parts_runs_nothing(
    hidden: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Though its digest stands in the manifest, and the manifest's in the folder's name."""
    content = {"identity": IDENTITY, "settings": {}, "step": 9, "state": {"a": torch.zeros(300)}}
    folder, trap = tmp_path / "step", tmp_path / "sprung"
    checkpoint_folder.write(folder, content, ALONE)
    index = Hidden(trap).bytes() if hidden else pickle.dumps(Trap(trap))
    (folder / ".metadata").write_bytes(index)
    manifest = folder / "manifest.json"
    digests = json.loads(manifest.read_text(encoding="utf-8"))
    manifest.write_text(json.dumps(digests | {".metadata": checkpoint_file.digest(folder / ".metadata")}), encoding="utf-8")
    planted = folder.rename(folder.with_name(f"step-9-{checkpoint_file.digest(manifest)[:DIGITS]}"))
    assert checkpoint_folder.read(planted) is None and not trap.exists()
    assert f"{planted}: cannot be read (.metadata names " in capsys.readouterr().out
    with pytest.raises(pickle.UnpicklingError, match="is no part of an index"):
        checkpoint_folder.filled(content, planted, None, ALONE)
    pickle.loads(index)
    assert trap.exists()


def test_a_malicious_numpy_file_in_the_place_of_tensors_runs_nothing(tmp_path: Path) -> None:
    from ripstop.config import ConfigError
    from ripstop.data.batching import load_tensors

    np.save(tmp_path / "a.npy", np.array([Trap(tmp_path / "sprung")], dtype=object), allow_pickle=True)
    shutil.move(tmp_path / "a.npy", tmp_path / "test.safetensors")
    with pytest.raises(ConfigError, match=r"test\.safetensors: cannot be read"):
        load_tensors(tmp_path / "test.safetensors")
    assert not (tmp_path / "sprung").exists()


def calls(tree: ast.AST) -> list[tuple[str, dict[str, ast.expr]]]:
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [(ast.unparse(node.func), {word.arg: word.value for word in node.keywords if word.arg}) for node in found]


def test_nothing_else_reads_what_can_run() -> None:
    """`torch.load` by weights alone, no pickle but the index of parts with its own list of names, no `eval`."""
    readers = {"pickle.load", "pickle.loads", "np.load", "numpy.load", "marshal.loads", "eval", "exec", "yaml.load"}
    for path in SOURCE.rglob("*.py"):
        tree = ast.parse(path.read_bytes())
        imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        assert "pickle" not in imported or path.name == "part_reader.py", path
        for name, options in calls(tree):
            assert name not in readers, path
            if name == "torch.load":
                assert ast.unparse(options["weights_only"]) == "True", path
            told = [ast.unparse(options[name]) for name in ("allow_pickle", "trust_remote_code") if name in options]
            assert set(told) <= {"False"}, path
