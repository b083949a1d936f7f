"""Strict configuration: frozen models, errors that name the key and the nearest right one, and `kind` look-up."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from typing import Any, Self, get_args

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic_core import core_schema


class ConfigError(ValueError):
    """Input that cannot be used. The message is one sentence: where, which key, what to do."""


class Strict(BaseModel):
    """Base of every configuration: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, validate_default=True)

    @classmethod
    def parse(cls, values: Any, where: str) -> Self:
        """Validate `values`; on failure raise one `ConfigError` that names `where` and each bad key."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise explain(error, where, cls) from None


class Kinds:
    """Configurations found by their `kind`: module `package.<kind>` defines the one `Strict` class with that kind.

    A new kind is a new file; there is no list to extend, so adding one changes no code below the others.
    Used as an annotation, `Annotated[Strict, Kinds("ripstop.mixers")]` parses a mapping to the class its `kind` names.
    """

    def __init__(self, package: str):
        self.package = package

    def names(self) -> list[str]:
        """Every kind of the package, sorted. Imports all of its modules."""
        path = importlib.import_module(self.package).__path__
        modules = (m.name for m in pkgutil.iter_modules(path))
        return sorted(name for name in modules if self._find(name) is not None)

    def config(self, kind: str) -> type[Strict]:
        """The configuration class of `kind`; `ConfigError` names the nearest kind where there is none."""
        found = self._find(kind) if isinstance(kind, str) and kind.isidentifier() else None
        if found is None:
            raise ConfigError(f"unknown kind {kind!r}{nearest(str(kind), self.names())}")
        return found

    def parse(self, values: Any) -> Strict:
        """A configuration from a mapping with `kind`, or the configuration itself."""
        if isinstance(values, Strict):
            return values
        if not isinstance(values, Mapping) or "kind" not in values:
            raise ConfigError(f"needs a mapping with a 'kind', one of: {', '.join(self.names())}")
        return self.config(values["kind"]).parse(values, str(values["kind"]))

    def __iter__(self) -> Iterator[type[Strict]]:
        return (self.config(name) for name in self.names())

    def _find(self, kind: str) -> type[Strict] | None:
        name = f"{self.package}.{kind}"
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name == name:
                return None
            raise
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, Strict) and value.__module__ == name:
                field = value.model_fields.get("kind")
                if field is not None and field.default == kind:
                    return value
        return None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.parse,
            serialization=core_schema.plain_serializer_function_ser_schema(lambda c: c.model_dump(mode="json")),
        )

    def __get_pydantic_json_schema__(self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler) -> dict:
        # Only the names: each kind's own keys are checked by pydantic, whose messages are better.
        return {"type": "object", "required": ["kind"], "properties": {"kind": {"enum": self.names()}}}


def nearest(word: str, words: list[str]) -> str:
    """`; did you mean 'x'?`, or the list of what there is."""
    close = difflib.get_close_matches(word, words, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; there is: {', '.join(words)}"


def walk(config: Any) -> Iterator[Strict]:
    """Every configuration object inside `config`, itself first."""
    if isinstance(config, Strict):
        yield config
        for name in type(config).model_fields:
            yield from walk(getattr(config, name))
    elif isinstance(config, Mapping):
        for value in config.values():
            yield from walk(value)
    elif isinstance(config, list | tuple):
        for value in config:
            yield from walk(value)


def explain(error: ValidationError, where: str, cls: type[Strict] | None = None) -> ConfigError:
    """The mistakes of a validation as one `ConfigError`. `cls`, where known, is searched for the nearest right key."""
    return ConfigError("; ".join(_sentence(cls, where, e) for e in error.errors()))


def _sentence(cls: type[Strict] | None, where: str, error: Any) -> str:
    location = [str(part) for part in error["loc"]]
    # "params.yaml: studies.x" goes on with a dot, a bare file name with a colon
    key = (".".join([where, *location]) if ": " in where else f"{where}: {'.'.join(location)}").rstrip(": ")
    if error["type"] == "extra_forbidden":
        owner = _model_at(cls, location[:-1])
        return f"{key}: unknown key{nearest(location[-1], sorted(owner.model_fields)) if owner else ''}"
    if error["type"] == "missing":
        return f"{key}: missing, add it"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error":
        return f"{key}: {message}"
    return f"{key}: {message[0].lower()}{message[1:]} (got {error['input']!r})"


def _model_at(cls: Any, location: list[str]) -> type[Strict] | None:
    """The model class that holds the keys at `location` below `cls`, where one can be told."""
    for part in location:
        fields = getattr(cls, "model_fields", None)
        if fields is None or part not in fields:
            continue  # an index or a mapping's key: the class found so far still holds
        cls = next((c for c in _classes(fields[part].annotation)), None)
    return cls if isinstance(cls, type) and issubclass(cls, Strict) else None


def _classes(annotation: Any) -> Iterator[type[Strict]]:
    if isinstance(annotation, type) and issubclass(annotation, Strict):
        yield annotation
    for argument in get_args(annotation):
        yield from _classes(argument)
