"""Language models of equal size: what one architecture's mixers have more or less of, the width of its mlp makes up for."""

from __future__ import annotations

from ripstop.config import ConfigError
from ripstop.models.decoder_only import DecoderOnlyConfig

TOLERANCE = 0.02
"""By how much of them the parameters may differ at last."""


def block_parameters(model: DecoderOnlyConfig) -> int:
    """Parameters without embedding and head, which architectures of one width share."""
    parts = model.params_by_part(1)
    return sum(parts.values()) - parts["embedding"] - parts["head"]


def with_parameters_of(model: DecoderOnlyConfig, other: DecoderOnlyConfig) -> DecoderOnlyConfig:
    """`model` with the mlp's width at which its blocks have as many parameters as those of `other`, as near as can be.

    `ConfigError` where they have no mlp, or differ by more than `TOLERANCE` all the same.
    """
    if model.mlp is None:
        raise ConfigError("mlp: is none, and its width is what makes models equal in parameters; give the model an mlp")
    mlp, wanted = model.mlp, block_parameters(other)
    narrow, wider = (block_parameters(model.replace(mlp=mlp.replace(d_mlp=width))) for width in (1, 2))
    width = max(1, 1 + round((wanted - narrow) / (wider - narrow)))
    found = model.replace(mlp=mlp.replace(d_mlp=width))
    n = block_parameters(found)
    if abs(n - wanted) > TOLERANCE * wanted:
        raise ConfigError(
            f"pattern {model.pattern!r} has {n} parameters in its blocks with an mlp of width {width}, and {other.pattern!r} "
            f"has {wanted}: they differ by more than {TOLERANCE:.0%}; widen the mlp of the model, or change the mixers"
        )
    return found
