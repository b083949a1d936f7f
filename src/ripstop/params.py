"""params.yaml: one block of values per study, overlays per scale, resolved to each study's own strict parameters."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ripstop.config import ConfigError, Strict, nearest

DEFAULT_SCALE = "cpu"
"""The scale whose values are the studies' own blocks; it has no overlay."""


class Params(Strict):
    """The file as it stands: `scale` is the one in force, `scales.<scale>.<study>` is laid over `studies.<study>`."""

    scale: str
    studies: dict[str, dict[str, Any]]
    scales: dict[str, dict[str, dict[str, Any]]]

    def check(self, where: str) -> None:
        """`ConfigError` where the scale, or a study of an overlay, does not exist."""
        known = [DEFAULT_SCALE, *self.scales]
        if self.scale not in known:
            raise ConfigError(f"{where}: scale {self.scale!r} does not exist{nearest(self.scale, known)}")
        for scale, overlays in self.scales.items():
            for study in overlays:
                if study not in self.studies:
                    raise ConfigError(f"{where}: scales.{scale}.{study}: no such study{nearest(study, list(self.studies))}")

    def study(self, study: str, scale: str) -> dict[str, Any]:
        """The study's values at `scale`: its block with the overlay laid over it, key by key."""
        if study not in self.studies:
            raise ConfigError(f"study {study!r} does not exist{nearest(study, list(self.studies))}")
        merged = OmegaConf.merge(self.studies[study], self.scales.get(scale, {}).get(study, {}))
        return OmegaConf.to_container(merged, resolve=True)  # type: ignore[return-value]


def load(path: Path, overrides: Sequence[str] = (), scale: str | None = None) -> Params:
    """Read params.yaml. `overrides` are dotted (`studies.mqar_cliff.seeds=[0,1]`); each must name a key that exists."""
    try:
        values = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; run from the root of the repository or pass --params") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: needs the keys scale, studies and scales")
    values = override(values, overrides, str(path))
    return parse(values | ({"scale": scale} if scale else {}), str(path))


def parse(values: Mapping[str, Any], where: str = "params.yaml") -> Params:
    """Params from a mapping, checked."""
    params = Params.parse(dict(values), where)
    params.check(where)
    return params


def override(values: Mapping[str, Any], overrides: Sequence[str], where: str) -> dict[str, Any]:
    """`values` with each `a.b=v` laid over; a path whose parent does not exist names the nearest one that does."""
    result = OmegaConf.create(dict(values))
    for item in overrides:
        path, equals, text = item.partition("=")
        if not equals or not path:
            raise ConfigError(f"--set {item}: write it as key.subkey=value")
        _check_path(OmegaConf.to_container(result), path.split("."), item, where)
        try:
            OmegaConf.update(result, path, yaml.safe_load(text))
        except (OmegaConfBaseException, yaml.YAMLError) as error:
            raise ConfigError(f"--set {item}: {' '.join(str(error).split())}") from None
    return OmegaConf.to_container(result, resolve=True)  # type: ignore[return-value]


def schema() -> str:
    """JSON schema of params.yaml, for editors and for Snakemake's own validation."""
    from ripstop import studies  # imports torch: the studies hold the mixers' configurations

    blocks: dict[str, Any] = {}
    overlays: dict[str, Any] = {}
    definitions: dict[str, Any] = {"blocks": {}, "overlays": {}}
    for name in studies.names():
        model = studies.load(name).Params
        for kind, schemas in (("blocks", blocks), ("overlays", overlays)):
            # Two studies may have models of one name, so each study's definitions stand in a place of their own.
            found = model.model_json_schema(ref_template=f"#/$defs/{kind}/{name}/{{model}}")
            found = found if kind == "blocks" else _partial(found)
            definitions[kind][name] = found.pop("$defs", {})
            schemas[name] = found
    overlay = {"type": "object", "properties": overlays, "additionalProperties": False}
    return (
        json.dumps(
            {
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "title": "ripstop params.yaml",
                "type": "object",
                "required": ["scale", "studies", "scales"],
                "additionalProperties": False,
                "properties": {
                    "scale": {"type": "string"},
                    "studies": {"type": "object", "properties": blocks, "additionalProperties": False},
                    "scales": {"type": "object", "additionalProperties": overlay},
                },
                "$defs": definitions,
            },
            indent=1,
        )
        + "\n"
    )


def _partial(schema: Any) -> Any:
    """A schema in which nothing is required: an overlay gives only what differs."""
    if isinstance(schema, dict):
        return {key: _partial(value) for key, value in schema.items() if key != "required"}
    return [_partial(value) for value in schema] if isinstance(schema, list) else schema


def _check_path(values: Any, path: list[str], item: str, where: str) -> None:
    """The parents of an override must exist; the last key may be new where its parent is a mapping (an overlay)."""
    for depth, key in enumerate(path[:-1]):
        if not isinstance(values, Mapping) or key not in values:
            keys = [str(k) for k in values] if isinstance(values, Mapping) else []
            raise ConfigError(f"--set {item}: {where} has no {'.'.join(path[: depth + 1])}{nearest(key, keys)}")
        values = values[key]
