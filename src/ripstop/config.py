"""Strict configuration: frozen models, errors that name the key and the nearest right one, and `kind` look-up."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import pkgutil
import re
import reprlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError, core_schema

MOVES_NO_NUMBER = "it checks values, which stand resolved in the files that the stages read"

NAME = re.compile(r"[a-z][a-z0-9_]*")
"""Studies and scales: they become folders, shell words, wildcards and modules."""
ARM = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]*")
"""Arms of a comparison: they become parts of a run's name."""


class ConfigError(ValueError):
    """Input that cannot be used. The message is one sentence: where, which key, what to do."""


class TrainingError(RuntimeError):
    """A training that cannot go on: a loss that is not finite, a full disk. One sentence that says what to do."""


def _take_lists_for_tuples(schema: Any) -> None:
    """In a core schema: YAML has no tuples. Strictness of what they hold stays."""
    if isinstance(schema, dict):
        if schema.get("type") == "tuple":
            schema["strict"] = False
        for value in schema.values():
            _take_lists_for_tuples(value)
    elif isinstance(schema, list):
        for value in schema:
            _take_lists_for_tuples(value)


class Strict(BaseModel):
    """Base of every configuration: frozen; an unknown key, or a value of another type, is an error.

    A number is no text and text no number, 2.0 is no whole number, true is no 1, and no number is infinite or NaN. A list
    does for a tuple, and a whole number for one with a fraction.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=True)

    @classmethod
    def parse(cls, values: Any, where: str) -> Self:
        """Validate `values`; on failure raise one `ConfigError` that names `where` and each bad key."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise explain(error, where) from None

    def replace(self, **changes: Any) -> Self:
        """A copy with these fields changed, validated as a whole; `ConfigError` where it does not hold."""
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return self.parse(fields | changes, "")

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Pydantic's own, which does not validate what it changes: only for copies without a change."""
        if update:
            raise TypeError(f"model_copy(update=...) skips validation; write {type(self).__name__}.replace(...)")
        return super().model_copy(deep=deep)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        schema = handler(source)
        _take_lists_for_tuples(schema)
        return schema

    @model_validator(mode="wrap")
    @classmethod
    def _name_the_nearest_key(cls, values: Any, handler: Callable[[Any], Self]) -> Self:
        try:
            return handler(values)
        except ValidationError as error:
            mistakes = error.errors()
            if not any(_is_unknown_here(mistake) for mistake in mistakes):
                raise
            raise ValidationError.from_exception_data(cls.__name__, [_with_nearest(e, cls) for e in mistakes]) from None


class Kinds:
    """Configurations found by their `kind`: module `package.<kind>` defines the one `Strict` class with that kind.

    A new kind is a new file; there is no list to extend, so adding one changes no code below the others.
    Used as an annotation, `Annotated[Strict, Kinds("ripstop.mixers")]` parses a mapping to the class its `kind` names.
    """

    def __init__(self, package: str):
        self.package = package
        self._found: dict[str, type[Strict]] = {}

    def names(self) -> list[str]:
        """Every kind of the package, sorted: the modules whose text says `kind: Literal["<their name>"]`. Imports none."""
        found = importlib.util.find_spec(self.package)
        assert found is not None and found.submodule_search_locations is not None, f"no package {self.package}"
        return sorted(
            module.name
            for folder in found.submodule_search_locations
            for module in pkgutil.iter_modules([folder])
            if _says_its_kind(Path(folder, module.name, "__init__.py") if module.ispkg else Path(folder, f"{module.name}.py"))
        )

    def config(self, kind: str) -> type[Strict]:
        """The configuration class of `kind`; `ConfigError` names the nearest kind where there is none."""
        if isinstance(kind, str) and kind in self._found:
            return self._found[kind]
        if not isinstance(kind, str) or kind not in self.names():
            raise ConfigError(f"unknown kind {shown(kind)}{nearest(str(kind), self.names())}")
        module = importlib.import_module(f"{self.package}.{kind}")
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, Strict) and value.__module__ == module.__name__:
                field = value.model_fields.get("kind")
                if field is not None and field.default == kind:
                    self._found[kind] = value
                    return value
        raise ConfigError(f'{module.__file__}: no configuration has `kind: Literal["{kind}"] = "{kind}"`; add it')

    def parse(self, values: Any, where: str = "") -> Strict:
        """A configuration from a mapping with `kind`, or the configuration itself; `ConfigError` that names `where`."""
        try:
            return self._validate(values)
        except ValidationError as error:
            raise explain(error, where or values["kind"]) from None
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}" if where else str(error)) from None

    def __iter__(self) -> Iterator[type[Strict]]:
        return (self.config(name) for name in self.names())

    def _validate(self, values: Any) -> Strict:
        if isinstance(values, Strict):
            return values
        if not isinstance(values, Mapping) or "kind" not in values:
            raise ConfigError(f"needs a mapping with a 'kind', one of: {', '.join(self.names())}")
        return self.config(values["kind"]).model_validate(values)  # pydantic puts the path to here before its errors

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self._validate,
            serialization=core_schema.plain_serializer_function_ser_schema(lambda c: c.model_dump(mode="json")),
        )

    def __get_pydantic_json_schema__(self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler) -> dict:
        # Only the names: each kind's own keys are checked by pydantic, whose messages are better.
        return {"type": "object", "required": ["kind"], "properties": {"kind": {"enum": self.names()}}}


def nearest(word: str, words: list[str]) -> str:
    """`; did you mean 'x'?`, or the list of what there is."""
    close = difflib.get_close_matches(word, words, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; there is: {', '.join(words)}" if words else "; there is none"


def check_name(name: Any, where: str) -> None:
    """`ConfigError` unless `name` can name a study or a scale."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ConfigError(f"{where}: {shown(name)} is no name; write a small letter, then small letters, digits or _")


def _check_arm(name: str) -> str:
    if not ARM.fullmatch(name):
        raise ValueError(f"{shown(name)} is no name of an arm; write a letter or digit, then letters, digits or _")
    return name


ArmName = Annotated[str, AfterValidator(_check_arm)]
"""Key of a mapping that names the arms of a comparison."""

Size = Annotated[int, Field(ge=1, le=2**16)]
"""A width of a model, or how many heads, groups or states it has: beyond 65,536 it can only be a slip of the finger, and
would fill any memory."""


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


def shown(value: Any) -> str:
    """`repr` in one short line, whatever the value is."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = 60
    text = short.repr(value)
    return text if len(text) <= 120 else f"{text[:80]}...{text[-30:]}"


def explain(error: ValidationError, where: str) -> ConfigError:
    """The mistakes of a validation as one `ConfigError`, each with its key and the nearest right one."""
    told: dict[str, list[str]] = {}
    for mistake in error.errors():
        # "params.yaml: studies.x" goes on with a dot, a bare file name with a colon
        location = ".".join(str(part) for part in mistake["loc"] if not _names_a_choice(part))
        key = f"{where}.{location}" if ": " in where and location else ": ".join(filter(None, (where, location)))
        told.setdefault(key, []).append(_message(mistake))
    sentences = [": ".join(filter(None, (key, ", or ".join(dict.fromkeys(messages))))) for key, messages in told.items()]
    if len(sentences) > MOST_SENTENCES:
        sentences = [*sentences[:MOST_SENTENCES], f"and {len(sentences) - MOST_SENTENCES} more mistakes"]
    return ConfigError(" ".join("; ".join(sentences).split()))


MOST_SENTENCES = 20
MESSAGES = {
    "bool_type": "needs true or false",
    "dict_type": "needs a mapping",
    "extra_forbidden": "unknown key",
    "finite_number": "needs a finite number",
    "float_type": "needs a number",
    "int_type": "needs a whole number",
    "list_type": "needs a list",
    "missing": "missing, add it",
    "model_attributes_type": "needs a mapping",
    "model_type": "needs a mapping",
    "string_type": "needs text; put it in quotes",
    "tuple_type": "needs a list",
}


def _message(mistake: Any) -> str:
    kind, message = mistake["type"], mistake["msg"].removeprefix("Value error, ")
    if kind in ("missing", "unknown_key", "extra_forbidden", "value_error"):
        return MESSAGES.get(kind, message)
    return f"{MESSAGES.get(kind) or message[0].lower() + message[1:]} (got {shown(mistake['input'])})"


def _names_a_choice(part: int | str) -> bool:
    """A part of pydantic's location that names one choice of several types (`list[int]`), not a key."""
    return isinstance(part, str) and ("[" in part or part in ("bool", "float", "int", "str"))


def _is_unknown_here(mistake: Any) -> bool:
    return mistake["type"] == "extra_forbidden" and len(mistake["loc"]) == 1


def _with_nearest(mistake: Any, cls: type[Strict]) -> InitErrorDetails:
    """The mistake again, and where it is a key that `cls` does not have, with the nearest that it has."""
    kind, location, message = mistake["type"], mistake["loc"], mistake["msg"]
    if _is_unknown_here(mistake):
        return _custom("unknown_key", f"unknown key{nearest(str(location[0]), sorted(cls.model_fields))}", mistake)
    if kind in ("unknown_key", "value_error"):
        return _custom(kind, message.removeprefix("Value error, "), mistake)
    return InitErrorDetails(type=kind, loc=location, input=mistake["input"], ctx=mistake.get("ctx", {}))


def _custom(kind: str, message: str, mistake: Any) -> InitErrorDetails:
    # The message is an argument and not the template, in which braces would be taken for placeholders.
    error = PydanticCustomError(kind, "{message}", {"message": message})
    return InitErrorDetails(type=error, loc=mistake["loc"], input=mistake["input"])


def _says_its_kind(path: Path) -> bool:
    kind = path.parent.name if path.name == "__init__.py" else path.stem
    return re.search(rf'^    kind: Literal\["{kind}"\]', path.read_text(encoding="utf-8"), flags=re.M) is not None
