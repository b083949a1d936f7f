"""params.yaml: a block of values a study. workflow/scales/<scale>.yaml: what another scale lays over them.

    all: {training: {precision: bf16}}      # over every study that has such a key
    mqar_cliff:                             # over this study, key by key; a list replaces a list
      drop: [patterns.sliding_window]       # first takes out what this scale does not have (in params.yaml: no scale)
      mixers: {M: {d_state: 64}}

Both are data: a value stands as it is written, nothing is computed or looked up in it.
"""

from __future__ import annotations

import copy
import json
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import TypeAdapter

from ripstop import yaml_file
from ripstop.config import ARM, ConfigError, Kinds, Strict, check_name, nearest, shown
from ripstop.files import sentence

MOVES_NO_NUMBER = "what it resolves stands in the files that the stages read"

DEFAULT_SCALE = "cpu"
"""The scale whose values are the studies' own blocks; it has no overlay."""
OVERLAYS = Path("workflow", "scales")
"""Folder of the overlays, beside params.yaml."""
ALL, DROP = "all", "drop"
TAKEN_STUDIES = {ALL, "base", "benchmarks", "data", "logs", "paper"}
"""What lies beside the studies in results/<scale>, or means something else in an overlay."""
TAKEN_SCALES = {"free", "logs", "metrics", "records"}
HINT = "run from the root of the repository or pass --params"


class File(Strict):
    """params.yaml as it stands."""

    scale: str
    studies: dict[str, dict[str, Any]]


class Params(Strict):
    """The parameters of every study at every scale.

    scale: the one in force.
    overlays: scale -> what its file lays over the studies.
    overrides: `studies.<study>.<key>=<value>` of the command line, laid over the studies at the scale in force.
    """

    scale: str
    studies: dict[str, dict[str, Any]]
    overlays: dict[str, dict[str, dict[str, Any]]] = {}
    overrides: list[str] = []
    file: str = "params.yaml"

    @property
    def scales(self) -> list[str]:
        """Every scale, the default one first."""
        return [DEFAULT_SCALE, *self.overlays]

    def where(self, study: str, scale: str) -> str:
        """Which files, and which block of them, messages about the study at `scale` name."""
        overlay = f" and {_overlay_file(self.file, scale)}" if scale in self.overlays else ""
        return f"{self.file}{overlay}: studies.{study}"

    def study(self, study: str, scale: str) -> dict[str, Any]:
        """The study's values at `scale`, resolved; `ConfigError` where an overlay names what nothing has.

        Its block, without what it and the overlay drop, then the overlay's `all`, then the overlay's own block of the study,
        then the overrides of the command line, of which `drop` takes out last.
        """
        if study not in self.studies:
            raise ConfigError(f"{self.file}: study {study!r} does not exist{nearest(study, list(self.studies))}")
        if scale not in self.scales:
            raise ConfigError(f"{self.file}: scale {scale!r} does not exist{nearest(scale, self.scales)}")
        values = copy.deepcopy(self.studies[study])
        overlay = self.overlays.get(scale, {})
        where = _overlay_file(self.file, scale)
        block = dict(overlay.get(study, {}))
        for path in _drops(values.pop(DROP, []), f"{self.file}: studies.{study}"):
            _drop(values, path, f"{self.file}: studies.{study}")
        for path in _drops(block.pop(DROP, []), f"{where}: {study}"):
            _drop(values, path, f"{where}: {study}")
        if ALL in overlay:
            values = self._with_all(overlay[ALL], study, values, where)
        values = lay(values, block)
        if scale == self.scale:
            mine = [item for item in self.overrides if _keys_of(item)[1] == study]
            values = yaml_file.override({"studies": {study: values}}, mine, self.file, fixed=2)["studies"][study]
            for path in _drops(values.pop(DROP, []), f"--set studies.{study}"):
                _drop(values, path, f"--set studies.{study}")
        return values

    def dropped(self, study: str, scale: str) -> list[str]:
        """The paths that the study's block, its overlay, or the command line takes out at `scale`."""
        mine = [item for item in self.overrides if _keys_of(item)[1:] == [study, DROP] and scale == self.scale]
        told = yaml_file.override({"studies": {study: {}}}, mine, self.file, fixed=2)["studies"][study]
        blocks = (self.studies[study], self.overlays.get(scale, {}).get(study, {}), told)
        return [path for block in blocks for path in _drops(block.get(DROP, []), study)]

    def _with_all(self, overlay: Mapping[str, Any], study: str, values: dict[str, Any], where: str) -> dict[str, Any]:
        """`values` with what of `overlay` this study has. What no study at all has is an error."""
        from ripstop import studies  # imports torch: the studies say which keys they have

        seen = _Laying()
        for name, block in self.studies.items():
            seen.over(block, overlay, studies.load(name).Params)
        for path, known in seen.unknown.items():
            if path not in seen.used:
                key = path.rpartition(".")[2].removeprefix("kind: ")
                raise ConfigError(f"{where}: {ALL}.{path}: no study has this{nearest(key, sorted(known))}")
        return _Laying().over(values, overlay, studies.load(study).Params)


def load(path: Path, overrides: Sequence[str] = (), scale: str | None = None) -> Params:
    """Read params.yaml and the overlays beside it.

    overrides: dotted (`studies.mqar_cliff.seeds=[0,1]`), typed as YAML; the study must exist.
    scale: in place of the file's own.
    """
    path = Path(path)
    deep = [item for item in overrides if len(_keys_of(item)) > 2]
    base = yaml_file.override(
        yaml_file.mapping(path, HINT), [item for item in overrides if item not in deep], str(path), fixed=2
    )
    base |= {} if scale is None else {"scale": scale}
    overlays = read_overlays(path.parent / OVERLAYS)
    parse(yaml_file.override(base, deep, str(path), fixed=2), str(path), overlays)
    return parse(base, str(path), overlays, deep)


def parse(
    values: Mapping[str, Any],
    where: str = "params.yaml",
    overlays: Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
) -> Params:
    """Params from mappings, checked as far as that goes without the studies' own code."""
    if "scales" in values:
        raise ConfigError(f"{where}: scales: an overlay stands in a file of its own, {OVERLAYS}/<scale>.yaml; move it there")
    file = File.parse(dict(values), where)
    for study, block in file.studies.items():
        _check_study_name(study, f"{where}: studies")
        _check_data(block, f"{where}: studies.{study}")
    if not file.studies:
        raise ConfigError(f"{where}: studies: there is none; add one, or restore the file with git")
    params = Params(
        scale=file.scale, studies=file.studies, overlays=dict(overlays or {}), overrides=list(overrides), file=where
    )
    for scale, overlay in params.overlays.items():
        for study in overlay:
            if study != ALL and study not in params.studies:
                known = [*params.studies, ALL]
                raise ConfigError(f"{_overlay_file(where, scale)}: {study}: no such study{nearest(study, known)}")
    if params.scale not in params.scales:
        raise ConfigError(f"{where}: scale {shown(params.scale)} does not exist{nearest(params.scale, params.scales)}")
    return params


def read_overlays(folder: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """Scale -> its overlay, of every YAML file in `folder`; other files are left alone."""
    found = {}
    try:
        paths = sorted(folder.iterdir()) if folder.is_dir() else []
    except OSError as error:
        raise ConfigError(sentence(error)) from None
    for path in paths:
        if path.name.startswith(".") or path.suffix not in (".yaml", ".yml"):
            continue
        _check_scale_name(path)
        overlay = yaml_file.mapping(path)
        for study, block in overlay.items():
            where = f"{path}: {study}"
            if not isinstance(block, dict):
                raise ConfigError(f"{where}: needs a mapping, what this scale lays over the study (got {shown(block)})")
            if study == ALL and DROP in block:
                raise ConfigError(f"{where}.{DROP}: a study drops in its own block; move it there")
            _drops(block.get(DROP, []), where)
            _check_data(block, where)
        found[path.stem] = overlay
    return found


def lay(values: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """`values` with `overlay` laid over, key by key. A list replaces a list, another `kind` the whole mapping."""
    result = dict(values)
    for key, value in overlay.items():
        before = result.get(key)
        merges = isinstance(before, Mapping) and isinstance(value, Mapping) and _same_kind(before, value)
        result[key] = lay(before, value) if merges else copy.deepcopy(value)  # type: ignore[arg-type]
    return result


def schema(overlay: bool = False) -> str:
    """JSON schema of params.yaml, or of an overlay, for editors. What decides is the studies' own configuration."""
    from ripstop import studies  # imports torch: the studies hold the mixers' configurations

    blocks: dict[str, Any] = {}
    definitions: dict[str, Any] = {}
    for name in studies.names():
        # Two studies may have models of one name, so each study's definitions stand in a place of their own.
        found = studies.load(name).Params.model_json_schema(ref_template=f"#/$defs/{name}/{{model}}")
        definitions[name] = found.pop("$defs", {})
        blocks[name] = found
    closed = {"type": "object", "additionalProperties": False}
    if overlay:
        blocks = {name: _partial(block) for name, block in blocks.items()}
        for block in blocks.values():
            block["properties"][DROP] = {"type": "array", "items": {"type": "string"}}
        whole = closed | {"properties": {ALL: {"type": "object"}, **blocks}}
        definitions = _partial(definitions)
    else:
        properties = {"scale": {"type": "string"}, "studies": closed | {"properties": blocks}}
        whole = closed | {"required": ["scale", "studies"], "properties": properties}
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "ripstop parameters"}
    return json.dumps(head | whole | {"$defs": definitions}, indent=1) + "\n"


def _partial(schema: Any) -> Any:
    """A schema in which nothing is required: an overlay gives only what differs."""
    if isinstance(schema, dict):
        return {key: _partial(value) for key, value in schema.items() if key != "required"}
    return [_partial(value) for value in schema] if isinstance(schema, list) else schema


class _Laying:
    """Lays an overlay over the keys that a study has.

    unknown: path -> the keys that stand there instead, of each path that some study does not have.
    used: the paths that some study has.
    """

    def __init__(self) -> None:
        self.unknown: dict[str, set[str]] = {}
        self.used: set[str] = set()

    def over(self, values: Mapping[str, Any], overlay: Mapping[str, Any], annotation: Any, path: str = "") -> dict[str, Any]:
        """`values`, which `annotation` describes, with what of `overlay` they have."""
        result = dict(values)
        known = dict(_keys(annotation, values))
        for key, value in overlay.items():
            here = f"{path}.{key}" if path else key
            before = result.get(key)
            below = before if isinstance(before, Mapping) else {}
            if key not in known:
                self.unknown.setdefault(here, set()).update(known)
            elif not isinstance(value, Mapping):
                self.used.add(here)
                result[key] = copy.deepcopy(value)
            elif not _same_kind(below, value):
                self.unknown.setdefault(f"{here}.kind: {value['kind']}", set()).add(str(below["kind"]))
            else:
                self.used |= {here, f"{here}.kind: {value.get('kind')}"}
                laid = self.over(below, value, known[key], here)
                if laid:
                    result[key] = laid
        return result


def _keys(annotation: Any, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The keys that a value of this type can have, each with the type below it. values: what stands there now."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        kinds = next((part for part in arguments[1:] if isinstance(part, Kinds)), None)
        known = kinds is not None and values.get("kind") in kinds.names()
        yield from _keys(kinds.config(values["kind"]) if kinds and known else arguments[0], values)
    elif origin in (types.UnionType, typing.Union):
        for choice in arguments:
            yield from _keys(choice, values) if choice is not type(None) else ()
    elif isinstance(annotation, type) and issubclass(annotation, Strict):
        for name, field in annotation.model_fields.items():
            yield name, Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
    elif origin is dict:
        for key in values:
            yield key, arguments[1]
    else:
        for key in values:
            yield key, None


def _same_kind(before: Mapping[str, Any], value: Mapping[str, Any]) -> bool:
    return "kind" not in value or before.get("kind", value["kind"]) == value["kind"]


def _drops(paths: Any, where: str) -> list[str]:
    try:
        return TypeAdapter(list[str]).validate_python(paths, strict=True)
    except ValueError:
        raise ConfigError(f"{where}.{DROP}: needs a list of paths such as [patterns.mamba2] (got {shown(paths)})") from None


def _drop(values: dict[str, Any], path: str, where: str) -> None:
    """Take what stands at `path` out of `values`; it must be there."""
    *parents, last = path.split(".")
    holder: Any = values
    for depth, key in enumerate([*parents, last]):
        if not isinstance(holder, dict) or key not in holder:
            known = [".".join([*parents[:depth], k]) for k in holder] if isinstance(holder, dict) else []
            raise ConfigError(f"{where}.{DROP}: {path}: there is no such key{nearest(path, known)}")
        if depth < len(parents):
            holder[key] = copy.copy(holder[key])
            holder = holder[key]
    del holder[last]


def _keys_of(override: str) -> list[str]:
    """The keys of `a.b[0]=v`."""
    return yaml_file.keys(override.partition("=")[0])


def _check_data(values: Any, where: str) -> None:
    """Keys are names, which become parts of files and of commands, and text is text."""
    if isinstance(values, dict):
        for key, value in values.items():
            if not ARM.fullmatch(key):
                raise ConfigError(f"{where}: {shown(key)} is no name; write a letter or digit, then letters, digits or _")
            _check_data(value, f"{where}.{key}")
    elif isinstance(values, list):
        for item, value in enumerate(values):
            _check_data(value, f"{where}.{item}")
    elif isinstance(values, str) and "${" in values:
        raise ConfigError(f"{where}: {shown(values)} would be interpolated, which is not done here; write the value itself")


def _check_study_name(study: str, where: str) -> None:
    check_name(study, where)
    if study in TAKEN_STUDIES:
        raise ConfigError(f"{where}: a study cannot be called {study!r}, which names something else; rename it")


def _check_scale_name(path: Path) -> None:
    if path.suffix == ".yml":
        raise ConfigError(f"{path}: an overlay's file ends in .yaml; rename it to {path.stem}.yaml")
    check_name(path.stem, str(path))
    if path.stem == DEFAULT_SCALE:
        raise ConfigError(f"{path}: scale {DEFAULT_SCALE} is what params.yaml holds; write its values there")
    if path.stem in TAKEN_SCALES:
        raise ConfigError(f"{path}: a scale cannot be called {path.stem!r}, which names something else; rename it")


def _overlay_file(file: str, scale: str) -> str:
    return str(Path(file).parent / OVERLAYS / f"{scale}.yaml")
