"""Files: whole or not at all, readable by whom the user lets, durable, and one sentence for what a disk refuses."""

from __future__ import annotations

import ast
import errno
import os
import resource
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ripstop.config import ConfigError
from ripstop.files import cache_folder, read_text, replacing, scratch_folder, sentence, write_if_different, write_text

ROOT = Path(__file__).parents[1]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def small_files() -> Iterator[int]:
    """No file may grow beyond this many bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield 4096
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_device_or_a_pipe_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError) as error:
        write_text(tmp_path / "pipe", "text")
    assert sentence(error.value) == f"{tmp_path}/pipe: something of that name is there already; move it away"
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode) and names(tmp_path) == ["pipe"]


def test_half_of_a_character_is_told_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "f.txt").write_text("old")
    with pytest.raises(
        ConfigError, match=r"f.txt: cannot be written, a text holds '.ud83d', half of a .* behind 'new '; correct"
    ):
        write_text(tmp_path / "f.txt", "new \ud83d")
    assert (tmp_path / "f.txt").read_text() == "old" and names(tmp_path) == ["f.txt"]


def test_a_file_takes_its_place_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "f.txt"
    write_text(path, "old\n")
    with replacing(path) as temporary:
        assert temporary.parent.parent == path.parent and temporary.name == "f.txt" and list(temporary.parent.iterdir())
        temporary.write_text("new\n", encoding="utf-8")
        assert path.read_text(encoding="utf-8") == "old\n"
    assert path.read_text(encoding="utf-8") == "new\n"
    assert names(path.parent) == ["f.txt"]


@pytest.mark.parametrize("error", [RuntimeError("x"), KeyboardInterrupt(), SystemExit(1), OSError("x")])
def test_what_fails_leaves_the_old_file_and_no_temporary(error: BaseException, tmp_path: Path) -> None:
    path = tmp_path / "f.txt"
    write_text(path, "old")
    with pytest.raises(type(error)) as caught, replacing(path) as temporary:
        temporary.write_bytes(b"half")
        raise error
    assert caught.value is error
    assert path.read_bytes() == b"old" and names(tmp_path) == ["f.txt"]


KILLED = """
import os, signal, sys
from pathlib import Path
from ripstop.files import replacing, scratch_folder
path = Path(sys.argv[2])
with (replacing if sys.argv[1] == "file" else scratch_folder)(path) as temporary:
    (temporary if temporary.is_file() else temporary / "half.txt").write_text("half")
    print((temporary.parent if temporary.is_file() else temporary).name, flush=True)
    os.kill(os.getpid(), signal.SIGKILL) if sys.argv[3] == "kill" else sys.stdin.read()
"""


def writer(kind: str, path: Path, end: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", KILLED, kind, str(path), end]
    there = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.Popen(command, env=there, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_process_left_goes_and_what_a_living_one_writes_stays(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "out.pdf"
    with writer(kind, path, "kill") as killed:
        assert killed.wait() == -signal.SIGKILL
    left = names(tmp_path)
    assert len(left) == 1 and left[0].startswith(".new-out.pdf-")
    foreign = [".new-out.pdf-notes", ".new-other.pdf-01234567", ".new-out.pdf-0123456"]
    for name in foreign:
        (tmp_path / name).write_text("mine")
    with writer(kind, path, "wait") as living:
        assert living.stdout is not None and living.stdin is not None
        name = living.stdout.readline().strip()
        assert names(tmp_path) == sorted([name, *foreign])
        with scratch_folder(path):
            write_text(path, "whole")
            assert name in names(tmp_path)
        living.stdin.close()
        assert living.wait() == 0
    assert names(tmp_path) == sorted(["out.pdf", *foreign])


def test_a_folder_that_another_process_takes_for_left_as_it_is_made_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open
    taken: list[Path] = []

    def take_first(path: str | Path, flags: int, *rest: int, **more: int) -> int:
        if not taken and Path(path).name.startswith(".new-"):
            taken.append(Path(path))
            taken[0].rmdir()
        return opened(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", take_first)
    write_text(tmp_path / "f.txt", "whole")
    assert taken and names(tmp_path) == ["f.txt"]


def test_a_writer_that_makes_its_own_file_anew_is_fine(tmp_path: Path) -> None:
    with replacing(tmp_path / "f") as temporary:
        temporary.unlink()
        temporary.write_bytes(b"again")
    assert (tmp_path / "f").read_bytes() == b"again"
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "f") as temporary:
        temporary.unlink()
    assert (tmp_path / "f").read_bytes() == b"again" and names(tmp_path) == ["f"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600), (0o000, 0o666)])
def test_permissions_are_what_the_umask_gives(umask: int, mode: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        write_text(tmp_path / "f", "x")
        write_if_different(tmp_path / "g", "x")
    finally:
        os.umask(before)
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "fg"} == {mode}


def test_a_link_is_replaced_and_what_it_points_to_stays(tmp_path: Path) -> None:
    """A cache of results (DVC's) may be linked to; writing through the link would change what is cached."""
    (tmp_path / "cached").write_bytes(b"old")
    (tmp_path / "f").symlink_to("cached")
    write_text(tmp_path / "f", "new")
    assert (tmp_path / "cached").read_bytes() == b"old" and not (tmp_path / "f").is_symlink()


def test_the_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of system calls, which no test without a power cut can see otherwise."""
    told: list[tuple[str, str]] = []
    opened: dict[int, str] = {}
    real_open, real_fsync, real_replace = os.open, os.fsync, os.replace

    def opening(path: str, flags: int, *arguments: int) -> int:
        handle = real_open(path, flags, *arguments)
        opened[handle] = "folder" if os.path.isdir(path) else "file"
        return handle

    def syncing(handle: int) -> None:
        size = os.fstat(handle).st_size
        told.append(("sync", opened[handle] + (f" of {size}" if opened[handle] == "file" else "")))
        real_fsync(handle)

    def replaced(source: Path, target: Path) -> None:
        told.append(("replace", Path(target).name))
        real_replace(source, target)

    monkeypatch.setattr(os, "open", opening)
    monkeypatch.setattr(os, "fsync", syncing)
    monkeypatch.setattr(os, "replace", replaced)
    write_text(tmp_path / "f", "four")
    assert told == [("sync", "file of 4"), ("replace", "f"), ("sync", "folder")]
    told.clear()
    write_if_different(tmp_path / "g", "can be made again")
    assert told == [("replace", "g")]


def test_no_handle_stays_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for n in range(20):
        write_text(tmp_path / f"{n}", "x")
    assert len(os.listdir("/proc/self/fd")) == before


def test_text_is_utf_8_with_the_newlines_it_has(tmp_path: Path) -> None:
    write_text(tmp_path / "f", "ü\n\r\n\u2028")
    assert (tmp_path / "f").read_bytes() == b"\xc3\xbc\n\r\n\xe2\x80\xa8"


def test_the_same_text_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "f"
    assert write_if_different(path, "ü\n") is True
    os.utime(path, ns=(1, 1))
    assert write_if_different(path, "ü\n") is False and path.stat().st_mtime_ns == 1
    assert write_if_different(path, "u\n") is True and path.stat().st_mtime_ns != 1
    path.write_bytes(b"a\r\nb")  # other bytes are another text, also where a reader would not see it
    assert write_if_different(path, "a\nb") is True and path.read_bytes() == b"a\nb"
    path.write_bytes(b"\xff")
    assert write_if_different(path, "a") is True


def test_the_same_text_compressed_is_the_same_file_whenever_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / "a.gz", tmp_path / "b.gz"]
    for path, now in zip(paths, (1e9, 2e9), strict=True):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        write_text(path, "a text\n")
    assert paths[0].read_bytes() == paths[1].read_bytes() and read_text(paths[0]) == "a text\n"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"a\nb\n", "a\nb\n"),
        (b"\xef\xbb\xbfa\r\nb\rc", "a\nb\nc"),
        ("ü\u2028\x85".encode(), "ü\u2028\x85"),
        (b"", ""),
    ],
)
def test_text_is_read_without_marks_and_foreign_newlines(data: bytes, text: str, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(data)
    assert read_text(tmp_path / "f") == text


def test_what_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"/f: no such file$"):
        read_text(tmp_path / "f")
    with pytest.raises(ConfigError, match=r"/f: no such file; make it first$"):
        read_text(tmp_path / "f", "make it first")
    with pytest.raises(ConfigError, match=r"this is a folder, not a file; move it away$"):
        read_text(tmp_path)
    (tmp_path / "f").write_bytes(b"a\nb\n\xe4rger\n")
    with pytest.raises(ConfigError, match=r"/f:3: not UTF-8 text; save the file as UTF-8$"):
        read_text(tmp_path / "f")
    with pytest.raises(ConfigError, match="a part of this path is a file, not a folder"):
        read_text(tmp_path / "f" / "g")
    with pytest.raises(ConfigError, match="the name is too long"):
        read_text(tmp_path / ("x" * 300))
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ConfigError, match="/loop: Too many levels of symbolic links"):
        read_text(tmp_path / "loop")


def test_a_full_disk_is_one_sentence_about_the_file(small_files: int, tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    write_text(path, "old")
    with pytest.raises(OSError) as caught:
        write_text(path, "x" * (small_files + 1))
    assert sentence(caught.value) == f"{path}: the file would be larger than the limit allows (`ulimit -f`); raise the limit"
    assert path.read_bytes() == b"old" and names(tmp_path) == ["f.json"]


def test_a_full_disk_under_safetensors_is_an_error_of_the_disk(small_files: int, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    path = tmp_path / "model.safetensors"
    with pytest.raises(OSError) as caught, replacing(path) as temporary:
        save_file({"w": torch.zeros(small_files)}, temporary)
    assert caught.value.errno == errno.EFBIG and caught.value.filename == str(path)
    assert names(tmp_path) == []


def test_a_file_where_a_folder_has_to_be_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "parts").write_text("")
    with pytest.raises(OSError) as caught:
        (tmp_path / "parts").mkdir()
    assert sentence(caught.value) == f"{tmp_path / 'parts'}: something of that name is there already; move it away"


def test_a_full_and_a_read_only_file_system_are_one_sentence(tmp_path: Path) -> None:
    """In a file system of 64 KiB that only a process of its own sees."""
    script = (
        f"import sys\nsys.path.insert(0, {str(ROOT / 'src')!r})\nfrom pathlib import Path\n"
        "from ripstop.files import sentence, write_text\n"
        "write_text(Path('small/f'), 'old')\n"
        "try:\n    write_text(Path('small/f'), 'x' * 200_000)\n"
        "except OSError as error:\n    print(sentence(error))\n"
        "import subprocess; subprocess.run(['mount', '-o', 'remount,ro', 'small'], check=True)\n"
        "try:\n    write_text(Path('small/f'), 'x')\n"
        "except OSError as error:\n    print(sentence(error))\n"
        "print(sorted(p.name for p in Path('small').iterdir()), Path('small/f').read_text())\n"
    )
    (tmp_path / "small").mkdir()
    inner = f'mount -t tmpfs -o size=64k none small && exec {sys.executable} -c "$1"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", inner, "sh", script]
    if os.geteuid() == 0:
        command = ["unshare", "--mount", *command[4:]]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    if "Operation not permitted" in done.stderr or "Permission denied" in done.stderr:
        pytest.skip("no file system may be mounted here")
    full, read_only, left = done.stdout.splitlines()
    assert full == "small/f: the disk is full; free some space and run the command again"
    assert read_only == "small/f: the disk is read-only; choose another folder, or mount it so that it can be written"
    assert left == "['f'] old"


def test_a_folder_that_is_a_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "results").write_bytes(b"mine")
    for path in (tmp_path / "results" / "f", tmp_path / "results" / "cpu" / "f"):
        with pytest.raises(OSError) as caught:
            write_text(path, "x")
        assert sentence(caught.value) == f"{path}: a part of this path is a file, not a folder; move it away"
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError) as caught:
        write_text(tmp_path / "folder", "x")
    assert sentence(caught.value) == f"{tmp_path / 'folder'}: this is a folder, not a file; move it away"
    assert names(tmp_path) == ["folder", "results"] and (tmp_path / "results").read_bytes() == b"mine"


def test_a_folder_that_may_not_be_written_is_one_sentence() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:  # tmp_path lies in folders that nobody else may enter
        folder = Path(name)
        folder.chmod(0o555)
        root = os.geteuid() == 0
        try:
            if root:  # who may write everywhere
                os.seteuid(65534)
            with pytest.raises(PermissionError) as caught:
                write_text(folder / "f", "x")
        finally:
            if root:
                os.seteuid(0)
        assert sentence(caught.value).startswith(f"{folder / 'f'}: permission is denied; ")
        assert names(folder) == []


def test_an_error_about_another_file_keeps_its_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught, replacing(tmp_path / "f"):
        (tmp_path / "other").read_bytes()
    assert caught.value.filename == str(tmp_path / "other")


@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENOENT]
)
def test_every_refusal_says_which_file_why_and_what_to_do(number: int) -> None:
    said = sentence(OSError(number, os.strerror(number), "f.txt"))
    assert said.startswith("f.txt: ") and "\n" not in said and said != f"f.txt: {os.strerror(number)}"


def test_errors_without_a_number_say_what_they_can() -> None:
    assert sentence(OSError("no route to host")) == "no route to host"
    assert sentence(OSError()) == "OSError"
    assert sentence(OSError(errno.ELOOP, "Too many levels", "f")) == "f: Too many levels"


def test_the_cache_is_the_user_s(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RIPSTOP_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    assert cache_folder() is None
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "ripstop"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert cache_folder() == tmp_path / "x" / "ripstop"
    monkeypatch.setenv("RIPSTOP_CACHE", str(tmp_path / "y"))
    assert cache_folder() == tmp_path / "y"


def test_every_file_is_opened_with_an_encoding() -> None:
    """A locale must not decide how text is read: every call that opens text names its encoding, or reads bytes."""
    bare = []
    for path in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if not isinstance(node, ast.Call) or any(word.arg == "encoding" for word in node.keywords):
                continue
            method, owner = getattr(node.func, "attr", None), getattr(getattr(node.func, "value", None), "id", None)
            reads = method == "read_text" and not node.args  # of a Path; `files.read_text` has the path as an argument
            writes = method == "write_text" and len(node.args) == 1
            opens = "open" in (method, getattr(node.func, "id", None)) and owner not in (
                "os",
                "webbrowser",
                "tarfile",
                "wheel",
            )  # archives give bytes
            binary = any(isinstance(a, ast.Constant) and "b" in str(a.value) for a in node.args)
            if reads or writes or (opens and not binary):
                bare.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert bare == []
