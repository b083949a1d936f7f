"""YAML as version 1.2 reads it: one strict reader, overrides from the command line, and a writer that it reads back.

The core schema of YAML 1.2: 010 is ten, 1e-3 is a number, and yes, no, on, off and 1:30 are text. Refused, with file and
line: a key that stands twice (the last would win silently), is no text or has no value (null is written out), tags, merge
keys, several documents, and what is nested or repeated (by aliases) beyond reason.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ripstop.config import ConfigError, nearest, shown
from ripstop.files import read_text

MOVES_NO_NUMBER = "it reads values, which stand resolved in the files that the stages read"

QUICK: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's parser, which takes a tenth of the time; its events are the same."""
DEEPEST = 50
MOST_VALUES = 200_000

WORDS: dict[str, Any] = {word: None for word in ("", "~", "null", "Null", "NULL")}
WORDS |= {word: word.lower() == "true" for word in ("true", "True", "TRUE", "false", "False", "FALSE")}
INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


def load(path: Path, hint: str = "") -> Any:
    """The value that a file holds; `ConfigError` where it cannot be read. hint: what to do where there is no such file."""
    return parse(read_text(path, hint), str(path))


def mapping(path: Path, hint: str = "") -> dict[str, Any]:
    """The mapping that a file holds."""
    values = load(path, hint)
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: needs a mapping, key: value on each line (got {shown(values)})")
    return values


def parse(text: str, where: str) -> Any:
    """The value of one YAML document. `where` is the file that messages name."""
    try:
        return _Reader(text, where, QUICK).read()
    except yaml.YAMLError:  # PyYAML's own parser names lines that help more
        return _Reader(text, where, yaml.SafeLoader).read_or_explain()


def dump(values: Any) -> str:
    """YAML that `parse` reads back to the same value, and a reader of YAML 1.1 too."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def parse_dumped(text: str) -> Any:
    """The value of what `dump` wrote, by libyaml, which is many times as quick as `parse`; `ValueError` where it is no YAML."""
    reader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
    try:
        return reader.get_single_data()
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None
    finally:
        reader.dispose()


def override(values: Mapping[str, Any], overrides: Sequence[str], where: str, fixed: int = 1) -> dict[str, Any]:
    """A copy of `values` with each `a.b=v` laid over; `v` is YAML, and `a.0=v` or `a[0]=v` sets an item of a list.

    The first `fixed` keys of a path must exist: a message names the nearest. What lies deeper is made where it is missing,
    for the configuration that reads it to judge.
    """
    result: dict[str, Any] = copy.deepcopy(dict(values))
    for item in overrides:
        path, equals, text = item.partition("=")
        at = keys(path)
        if not equals or not all(at):
            raise ConfigError(f"--set {item}: write it as key=value, such as training.steps=10")
        value = parse(text, f"--set {item}")
        holder: Any = result
        for depth, key in enumerate(at[:-1]):
            _check_key(holder, at[: depth + 1], depth < fixed, item, where)
            if isinstance(holder, list):
                holder = holder[int(key)]
            else:
                if holder.get(key) is None:
                    holder[key] = {}
                holder = holder[key]
        _check_key(holder, at, len(at) <= fixed, item, where)
        holder[int(at[-1]) if isinstance(holder, list) else at[-1]] = value
    return result


def keys(path: str) -> list[str]:
    """The keys of a path as it stands in an override: `a.b[0]` is a, b, 0."""
    return re.sub(r"\[(\d+)\]", r".\1", path.strip()).split(".")


def _check_key(holder: Any, at: list[str], must_exist: bool, item: str, where: str) -> None:
    """The last of `keys` can be looked up, or set, in `holder`."""
    key, path = at[-1], ".".join(at)
    if isinstance(holder, list):
        if not key.isdecimal() or int(key) >= len(holder):
            raise ConfigError(f"--set {item}: {where} has no {path}; the list has items 0 to {len(holder) - 1}")
    elif not isinstance(holder, dict):
        raise ConfigError(f"--set {item}: {'.'.join(at[:-1])} of {where} is {shown(holder)} and holds no keys")
    elif must_exist and key not in holder:
        raise ConfigError(f"--set {item}: {where} has no {path}{nearest(key, list(holder))}")


class _Reader:
    """From PyYAML's events to values. PyYAML's own constructors follow YAML 1.1 and let the last of two keys win."""

    def __init__(self, text: str, where: str, parser: Any):
        self._text, self._where = text, where
        # Any: the stubs know neither which events have an anchor nor that each has a mark
        self._events: Iterator[Any] = yaml.parse(text, Loader=parser)
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._path: list[str] = []
        self._count = 0

    def read(self) -> Any:
        next(self._events)  # the start of the stream
        start = next(self._events)
        if isinstance(start, yaml.StreamEndEvent):
            raise ConfigError(f"{self._where}: is empty")
        if start.version not in (None, (1, 2)):
            raise self._error(start, "%YAML names another version than 1.2; remove the line")
        first = next(self._events)
        if isinstance(first, yaml.ScalarEvent) and not first.style and not first.value and not first.tag:
            raise ConfigError(f"{self._where}: is empty")
        value = self._value(first)
        next(self._events)  # the end of the document
        after = next(self._events)
        if not isinstance(after, yaml.StreamEndEvent):
            raise self._error(after, "a second document starts (---); keep one")
        return value

    def read_or_explain(self) -> Any:
        """`ConfigError` with file, line and reason where it is no YAML."""
        try:
            return self.read()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = f":{mark.line + 1}" if mark else ""
            raise ConfigError(f"{self._where}{line}: not YAML: {_problem(error)}") from None
        except yaml.reader.ReaderError as error:
            line = str(self._text.count("\n", 0, error.position) + 1)
            raise ConfigError(f"{self._where}:{line}: not YAML: the character {error.character:#x} is not text") from None

    def _value(self, event: Any) -> Any:
        if getattr(event, "tag", None) is not None:
            raise self._error(event, f"the tag {event.tag} is not read; write the value without it")
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise self._error(event, f"*{event.anchor} refers to nothing that stands before it")
            value, size = self._anchors[event.anchor]
            self._counted(event, size)
            return copy.deepcopy(value)  # nobody who changes one place changes the other
        before = self._count
        self._counted(event, 1)
        if isinstance(event, yaml.ScalarEvent):
            value = event.value if event.style else self._plain(event)
        else:
            if len(self._path) >= DEEPEST:
                raise self._error(event, f"nested more than {DEEPEST} levels deep")
            value = self._mapping() if isinstance(event, yaml.MappingStartEvent) else self._sequence()
        if event.anchor is not None:
            self._anchors[event.anchor] = value, self._count - before
        return value

    def _counted(self, event: Any, n: int) -> None:
        self._count += n
        if self._count > MOST_VALUES:
            raise self._error(event, f"more than {MOST_VALUES} values, aliases written out")

    def _sequence(self) -> list[Any]:
        values: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            self._path.append(str(len(values)))
            values.append(self._value(event))
            self._path.pop()
        return values

    def _mapping(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        lines: dict[str, int] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._key(event)
            if key in values:
                raise self._error(event, f"the key {shown(key)} stands twice, first in line {lines[key]}; remove one")
            lines[key] = event.start_mark.line + 1
            self._path.append(key)
            held = next(self._events)
            if isinstance(held, yaml.ScalarEvent) and not held.style and not held.value and held.tag is None:
                raise self._error(event, "has no value; write one, or null")
            values[key] = self._value(held)
            self._path.pop()
        return values

    def _key(self, event: Any) -> str:
        if isinstance(event, yaml.ScalarEvent) and not event.style and event.value == "<<":
            raise self._error(event, "the merge key << is not YAML 1.2; write the values out")
        if isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            raise self._error(event, "a key is a list or a mapping; write text (a value that starts with { or [ needs quotes)")
        key = self._value(event)
        if not isinstance(key, str):
            written = "an empty key" if key is None and not getattr(event, "value", "") else f"the key {shown(key)} is no text"
            raise self._error(event, f"{written}; put it in quotes")
        return key

    def _plain(self, event: Any) -> Any:
        text = event.value
        if text in WORDS:
            return WORDS[text]
        if INT.fullmatch(text):
            try:
                return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
            except ValueError:
                raise self._error(event, f"a number of {len(text)} digits") from None
        return float(re.sub(r"\.(?=[iInN])", "", text)) if FLOAT.fullmatch(text) else text

    def _error(self, event: Any, problem: str) -> ConfigError:
        at = ".".join(self._path)
        return ConfigError(f"{self._where}:{event.start_mark.line + 1}: {f'{shown_path(at)}: ' if at else ''}{problem}")


def shown_path(path: str) -> str:
    """The path, its middle left out where it is long."""
    return path if len(path) <= 100 else f"{path[:60]}...{path[-30:]}"


def _problem(error: yaml.MarkedYAMLError) -> str:
    """PyYAML's words in one line."""
    problem = " ".join(str(error.problem or error.context or error).split())
    if "'\\t'" in problem:
        return "a tab stands where only spaces may; replace it"
    if problem.startswith("mapping values are not allowed"):
        return "a second colon in one line, or a line indented too far; put text that holds ': ' in quotes"
    return problem


class _Dumper(yaml.SafeDumper):
    """Quotes every text that YAML 1.1 or 1.2 would take for something else, and writes repeated values out."""

    yaml_implicit_resolvers = {key: list(value) for key, value in yaml.SafeDumper.yaml_implicit_resolvers.items()}

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # Ends of lines in YAML 1.1 and not in 1.2; within single quotes a reader folds them to a space.
    style = '"' if re.search("[\x85\u2028\u2029]", text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)
_Dumper.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(rf"^(?:{INT.pattern})$"), list("-+0123456789"))
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(rf"^(?:{FLOAT.pattern})$"), list("-+0123456789."))
