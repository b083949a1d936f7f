"""Models: token ids in, logits out. `MODELS` finds them by `kind`, or by the `preset` that brings one."""

from collections.abc import Mapping
from typing import Any

from ripstop.config import Kinds, Strict
from ripstop.models import presets


class _Models(Kinds):
    def _validate(self, values: Any) -> Strict:
        return super()._validate(presets.resolve(values) if isinstance(values, Mapping) else values)


MODELS = _Models(__name__)
