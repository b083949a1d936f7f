"""Matrix products in 8-bit floating point by torchao, on GPUs that are made for it."""

from __future__ import annotations

import torch
from torch import nn

from ripstop.config import ConfigError
from ripstop.models.base import Model

CAPABILITY = (9, 0)
"""Hopper."""
MULTIPLE = 16
"""What both sizes of a weight have to be a multiple of, for cuBLAS' products."""


def has_fp8(device: torch.device) -> bool:
    """Whether the device multiplies 8-bit floats."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= CAPABILITY


def in_use(precision: str, device: torch.device) -> str:
    """The precision that a training on `device` has: `fp8_or_bf16` is fp8 where there is fp8, else bf16.

    `ConfigError` where fp8 is asked for and the device has none.
    """
    if precision == "fp8_or_bf16":
        return "fp8" if has_fp8(device) else "bf16"
    if precision == "fp8" and not has_fp8(device):
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else "a CPU"
        raise ConfigError(
            f"training.precision: fp8 needs a GPU of compute capability {CAPABILITY[0]}.{CAPABILITY[1]} (H100, H200) or newer, "
            f"and this is {name}; set it to 'bf16', or to 'fp8_or_bf16', which takes fp8 only where there is fp8"
        )
    return precision


def use_fp8(model: Model, emulate: bool = False) -> list[str]:
    """Let the linear layers inside the blocks of `model` multiply in fp8, and return their names.

    Parameters, their names and their gradients stay as they are: float32, of which every product makes float8_e4m3fn numbers
    with one scale a tensor (gradients: float8_e5m2), as torchao does by default. Embedding and head, which a tied table
    shares, and weights whose sizes are no multiples of 16, stay in bf16. emulate: with products of the same rounded numbers
    in float32, for a machine without fp8. `ConfigError` where torchao is missing or no layer is left.
    """
    try:
        from torchao.float8 import Float8LinearConfig, convert_to_float8_training
    except ImportError as error:
        raise ConfigError(
            f"training.precision: fp8 needs torchao, which cannot be imported ({error}); "
            "install it with `pip install -c constraints.txt torchao`, or set precision to 'bf16'"
        ) from None
    chosen = {id(module) for block in model.blocks() for module in block.modules() if _fits(module)}
    names = [name for name, module in model.named_modules() if id(module) in chosen]
    if not names:
        raise ConfigError(
            f"training.precision: no weight of the model has sizes that are multiples of {MULTIPLE}, which fp8 needs; "
            "set it to 'bf16', or change the sizes"
        )
    config = Float8LinearConfig(emulate=emulate)
    convert_to_float8_training(model, module_filter_fn=lambda module, name: id(module) in chosen, config=config)
    return names


def _fits(module: nn.Module) -> bool:
    return type(module) is nn.Linear and module.in_features % MULTIPLE == 0 and module.out_features % MULTIPLE == 0
