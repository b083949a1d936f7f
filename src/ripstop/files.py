"""Text in, whole or refused; files out, whole or not at all. A text whose name ends in .gz is compressed on the disk."""

from __future__ import annotations

import errno
import fcntl
import gzip
import json
import os
import re
import secrets
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ripstop.config import ConfigError

MOVES_NO_NUMBER = "it moves bytes that others made"

COMPRESSED = ".gz"
REMEDIES = {
    errno.EACCES: "permission is denied; change the permissions, or choose another folder",
    errno.EDQUOT: "your quota of disk space is used up; free some space and run the command again",
    errno.EEXIST: "something of that name is there already; move it away",
    errno.EFBIG: "the file would be larger than the limit allows (`ulimit -f`); raise the limit",
    errno.EIO: "the disk reports an error; check it before you go on",
    errno.EISDIR: "this is a folder, not a file; move it away",
    errno.EMFILE: "too many files are open; raise the limit (`ulimit -n`)",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    errno.ENOENT: "no such file",
    errno.ENOSPC: "the disk is full; free some space and run the command again",
    errno.ENOTDIR: "a part of this path is a file, not a folder; move it away",
    errno.EPERM: "this is not permitted; change the permissions, or choose another folder",
    errno.EROFS: "the disk is read-only; choose another folder, or mount it so that it can be written",
}


def sentence(error: OSError) -> str:
    """One sentence for what a disk refused: which file, why, what to do."""
    why = REMEDIES.get(error.errno or 0) or error.strerror or str(error) or type(error).__name__
    return f"{error.filename}: {why}" if error.filename else why


def read_text(path: Path, hint: str = "") -> str:
    """The text of a UTF-8 file, lines ended by newlines alone, without a byte-order mark.

    `ConfigError` where it cannot be read. hint: what to do where there is no such file.
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file" + (f"; {hint}" if hint else "")) from None
    except OSError as error:
        raise ConfigError(sentence(_named(error, path))) from None
    if Path(path).suffix == COMPRESSED:
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error):
            raise ConfigError(f"{path}: is damaged, or no gzip; restore it with git, or make it again") from None
    return decoded(data, str(path)).replace("\r\n", "\n").replace("\r", "\n")


def read_object(path: Path, otherwise: str) -> dict[str, Any]:
    """The JSON object that a file holds; `ConfigError` with `otherwise`, what it is not and the remedy, where it holds none."""
    try:
        found = json.loads(read_text(path))
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        found = None
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: {otherwise}")
    return found


def object_if_any(path: Path) -> dict[str, Any]:
    """The JSON object that a file holds; an empty one where it holds none, is not there, or is being written."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def decoded(data: bytes, where: str) -> str:
    """The text that UTF-8 bytes are, without a byte-order mark; `ConfigError` names the line, counted by newlines, of what is
    none."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{where}:{line}: not UTF-8 text; save the file as UTF-8") from None
    if "\0" in text:  # so UTF-16 without its mark looks, which is no error in UTF-8
        line = text.count("\n", 0, text.index("\0")) + 1
        raise ConfigError(f"{where}:{line}: holds a zero byte, which no text has; save the file as UTF-8")
    return text


@contextmanager
def replacing(path: Path, durable: bool = True) -> Iterator[Path]:
    """A temporary path of the same name in a folder beside `path`; it takes its place when the block ends well, and is removed
    when it does not, with whatever else the writer left in that folder.

    The file has the permissions that the user's umask gives. What the disk refuses is an `OSError` with the name of `path`.
    What a process that was killed left of the same file is removed.
    durable: the file is on the disk before it is seen under its name, so that a power cut leaves the old or the new one.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file() and not path.is_dir():  # a device or a pipe would be gone
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        with scratch_folder(path) as scratch:
            temporary = scratch / path.name
            temporary.touch(exist_ok=False)
            permissions = temporary.stat().st_mode
            yield temporary
            if temporary.stat().st_mode != permissions:  # safetensors makes a file of its own, for its owner alone
                temporary.chmod(permissions)
            if durable:
                sync(temporary)
            os.replace(temporary, path)
            if durable:
                sync(path.parent)
    except BaseException as error:
        refused = _refusal(error, path)
        if refused is not None:
            raise refused from error
        raise


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """An empty folder beside `path`, where what belongs there is made first; gone when the block ends.

    What a process that was killed left of the same is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_left(path)
    temporary = path.with_name(f"{_beginning(path)}{secrets.token_hex(4)}")
    held = _held(temporary)
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(held)


def write_text(path: Path, text: str, durable: bool = True) -> None:
    """Write `text` as UTF-8 with its newlines as they are, whole or not at all.

    `ConfigError` where it holds half of a character: JSON can spell one (`\\ud800`), and UTF-8 cannot.
    """
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"{path}: cannot be written, {halved(error)}") from None
    if Path(path).suffix == COMPRESSED:
        data = gzip.compress(data, mtime=0)  # no time stamp: the same text gives the same bytes
    with replacing(path, durable) as temporary:
        temporary.write_bytes(data)


def halved(error: UnicodeEncodeError) -> str:
    """Of a text that is no Unicode: what it holds, where, and what to do."""
    before, half = error.object[max(0, error.start - 30) : error.start], error.object[error.start]
    return f"a text holds {half!a}, half of a character or a byte that is no UTF-8, behind {before!a}; correct the text"


def write_if_different(path: Path, text: str) -> bool:
    """Write `text` only where the file does not hold it yet, so that an unchanged input keeps its time stamp.

    Not durable: what a power cut took is not what the file should hold, and is written again. Waiting for the disk costs
    milliseconds a file, and a plan writes hundreds.
    """
    if path.is_file() and path.read_bytes() == text.encode():
        return False
    write_text(path, text, durable=False)
    return True


def remove_left(path: Path) -> None:
    """What stands beside `path` for it and is held by nobody: a process was killed while it wrote."""
    pattern = re.compile(re.escape(_beginning(path)) + "[0-9a-f]{8}")
    for left in [entry for entry in path.parent.iterdir() if pattern.fullmatch(entry.name)]:
        with suppress(OSError):  # held, gone by now, or not ours to remove: it is in nobody's way
            handle = os.open(left, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left)
            finally:
                os.close(handle)


def sync(path: Path) -> None:
    """Wait until the disk holds the file, or the folder's entries."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def cache_folder() -> Path | None:
    """The user's folder for what can be made again: RIPSTOP_CACHE, or where a cache belongs; None without a home."""
    if os.environ.get("RIPSTOP_CACHE"):
        return Path(os.environ["RIPSTOP_CACHE"])
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.environ.get("HOME", ""), ".cache")
    return Path(base, "ripstop") if os.path.isabs(base) else None


def _beginning(path: Path) -> str:
    """Of the name of a folder for what becomes `path`. Cut, so that it can be made for every name that can be written."""
    return f".new-{path.name[:32]}-"


def _held(folder: Path) -> int:
    """Make it, and hold a lock on it, which the kernel takes back when this process ends, however it ends."""
    while True:
        folder.mkdir()
        try:
            handle = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            continue  # another process took it for left between our two calls
        with suppress(OSError):  # a file system without locks: then nothing is taken for left
            fcntl.flock(handle, fcntl.LOCK_EX)
        if folder.exists():
            return handle
        os.close(handle)  # as before


def _refusal(error: BaseException, path: Path) -> OSError | None:
    """The error as one about `path`, where it is the disk's and names no other file."""
    if isinstance(error, OSError):
        ours = error.filename is None or _beginning(path) in os.fsdecode(error.filename)
        return _named(error, path) if ours else _parent(error, path)
    # Writers in Rust (safetensors) and C++ (torch.save) have errors of their own, which name the number in their text.
    number = re.search(r"\(os error (\d+)\)", str(error)) if isinstance(error, Exception) else None
    return OSError(int(number[1]), os.strerror(int(number[1])), str(path)) if number else None


def _parent(error: OSError, path: Path) -> OSError | None:
    """`mkdir` says that a file exists where a folder has to be: then that is no folder."""
    blocking = Path(os.fsdecode(error.filename))
    if isinstance(error, FileExistsError | NotADirectoryError) and blocking in path.parents:
        return OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    return None


def _named(error: OSError, path: Path) -> OSError:
    return OSError(error.errno, error.strerror or str(error), str(path)) if error.errno else error
