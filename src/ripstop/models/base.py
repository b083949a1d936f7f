"""What every model offers: logits for a batch, and the same again by prefill and step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NoReturn

import torch
from pydantic import model_validator
from torch import Tensor, nn

from ripstop.batch import DataInfo, TokenBatch
from ripstop.config import ConfigError, Strict
from ripstop.models import presets


class Model(nn.Module):
    """Token ids in, logits out.

    A model may stand on frozen parts (`requires_grad` False): they are neither trained nor saved, and `frozen_base` says
    which weights they hold.
    """

    frozen_base: str = ""
    """Identity of the frozen weights, such as a name and a digest; "" where there are none."""

    def forward(self, batch: TokenBatch, at_BT: Tensor | None = None) -> Tensor:
        """Logits (B, T, V); with a boolean mask `at_BT` at its N positions alone, (N, V), which saves the head work."""
        _missing(self, "forward(self, batch, at_BT)")

    def blocks(self) -> list[nn.Module]:
        """The repeated units, members of the outermost `nn.ModuleList`s: what activation checkpointing recomputes and
        `torch.compile` compiles one by one."""
        return list(_listed(self))

    def init_state(
        self, batch_size: int, max_len: int, source_BS: Tensor | None = None, source_segments_BS: Tensor | None = None
    ) -> Any:
        """Empty past with room for `max_len` tokens; an encoder-decoder reads its source here."""
        _missing(self, "init_state(self, batch_size, max_len, source_BS, source_segments_BS)")

    def prefill(self, tokens_BT: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Read a chunk of the prompt. Logits after its last token, (B, V). The given state is consumed."""
        _missing(self, "prefill(self, tokens_BT, state)")

    def step(self, tokens_B: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Read one token. Logits (B, V). The given state is consumed."""
        _missing(self, "step(self, tokens_B, state)")

    def trained_state(self) -> dict[str, Tensor]:
        """What a training changes, by name: parameters with `requires_grad`, and persistent buffers but for those of frozen
        parts. What is shared stands once, under its first name. The tensors are the model's own, not copies."""
        frozen = {id(buffer) for buffer in _frozen_buffers(self)}
        found: dict[int, str] = {}
        state: dict[str, Tensor] = {}
        for name, tensor in self.state_dict(keep_vars=True).items():
            trained = tensor.requires_grad if isinstance(tensor, nn.Parameter) else id(tensor) not in frozen
            if trained and found.setdefault(id(tensor), name) == name:
                state[name] = tensor.detach()
        return state

    def load_trained(self, state: Mapping[str, Tensor], frozen_base: str | None = None) -> None:
        """Take over what `trained_state` of an equal model returned; all of it or nothing.

        frozen_base: that of the model which `state` was trained in, where it is known. `ConfigError` names the keys that
        are missing, unknown or of another shape, or both bases where they differ.
        """
        if frozen_base is not None and frozen_base != self.frozen_base:
            raise ConfigError(
                f"weights: trained on the frozen base {frozen_base!r}, and this model stands on {self.frozen_base!r}; "
                "give the base that they were trained on, or train again"
            )
        own = self.trained_state()
        shapes = {name: (tuple(state[name].shape), tuple(own[name].shape)) for name in own if name in state}
        wrong = [
            *_keys("missing", (name for name in own if name not in state)),
            *_keys("unknown", (name for name in state if name not in own)),
            *_keys("of another shape", (f"{name} {a}, not {b}" for name, (a, b) in shapes.items() if a != b)),
        ]
        if wrong:
            raise ConfigError(f"weights: {'; '.join(wrong)}; they are of another architecture, train this one again")
        self.load_state_dict(dict(state), strict=False)


MOST_PARAMETERS = 10**12
"""Of a model; more can only be a slip of the finger, and would fill any memory."""
MOST_STATE = 10**11
"""Bytes of state that one sequence holds; no accelerator has as many."""


class ModelConfig(Strict):
    """An architecture. Subclasses add `kind: Literal[...]` and implement what raises here.

    `preset: <name>` stands for the values of `presets.PRESETS`, with the keys beside it laid over them.
    What does not fit together (heads and width, letters and mixers) is an error of the configuration, not of `build`: a
    subclass's last validator calls `check_size`.
    """

    kind: str

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, values: Any) -> Any:
        return presets.resolve(values) if isinstance(values, Mapping) else values

    def check_size(self) -> None:
        """`ConfigError` where the model could not be held anywhere. Counts without the vocabulary, which the data brings."""
        parts = self.params_by_part(1)
        if sum(parts.values()) > MOST_PARAMETERS:
            largest = max(parts, key=lambda part: parts[part])
            raise ConfigError(f"the model would have more than 10^12 parameters, most of them in its {largest}; lower d_model")
        if self.state_bytes(1) > MOST_STATE:
            raise ConfigError("the state of one sequence would take more than 10^11 bytes; lower d_state or d_model")

    def build(self, data: DataInfo) -> Model:
        """The model for the data at hand, freshly drawn."""
        _missing(self, "build(self, data)")

    def layout(self) -> dict[str, Any]:
        """What the settings come to: patterns written out, positions derived. Printed at the start of a run."""
        _missing(self, "layout(self)")

    def params_by_part(self, vocab_size: int) -> dict[str, int]:
        """Parameters of each part of the built model; the head's are 0 where it is tied."""
        _missing(self, "params_by_part(self, vocab_size)")

    def num_params(self, vocab_size: int) -> int:
        """Parameters of the built model, tied ones once."""
        return sum(self.params_by_part(vocab_size).values())

    @property
    def reads_source(self) -> bool:
        """Whether the built model needs a source beside its tokens."""
        return False

    @property
    def takes_source(self) -> bool:
        """Whether it can be given data with a source, which a blind decoder does not read."""
        return self.reads_source

    def flops_per_token(self, vocab_size: int, seq_len: int, source_len: int | None = None) -> int:
        """Forward FLOPs per (target) token at length `seq_len`, a mean over the sequence; multiply-adds count as 2.

        source_len: of the source, where the model reads one; none given: `seq_len`.
        """
        _missing(self, "flops_per_token(self, vocab_size, seq_len, source_len)")

    def batch_flops(self, vocab_size: int, batch: Any) -> int:
        """Forward FLOPs of one batch, its source included, and logits at its targets alone, as the objectives ask for.

        Padding counts like any token, since it is multiplied like any; so do pairs of tokens in different documents of a
        row, though the kernel for packed documents leaves them out.
        """
        _missing(self, "batch_flops(self, vocab_size, batch)")

    def state_bytes(self, seq_len: int, dtype: torch.dtype = torch.bfloat16, source_len: int | None = None) -> int:
        """Bytes of state that one sequence holds after `seq_len` tokens, with room for no more.

        source_len: as in `flops_per_token`.
        """
        _missing(self, "state_bytes(self, seq_len, dtype, source_len)")


def _listed(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        yield from child if isinstance(child, nn.ModuleList) else _listed(child)


def _frozen_buffers(module: nn.Module, trains: bool = True) -> Iterator[Tensor]:
    """Buffers that belong to frozen parts: the smallest module around them that has parameters trains none of these."""
    parameters = list(module.parameters())
    trains = any(p.requires_grad for p in parameters) if parameters else trains
    if not trains:
        yield from module.buffers(recurse=False)
    for child in module.children():
        yield from _frozen_buffers(child, trains)


def _keys(what: str, names: Iterable[str], shown: int = 4) -> Iterator[str]:
    """`missing: a, b and 7 more`, or nothing where there are no names."""
    every = list(names)
    if every:
        yield f"{what}: {', '.join(every[:shown])}{f' and {len(every) - shown} more' if len(every) > shown else ''}"


def _missing(owner: Model | ModelConfig, method: str) -> NoReturn:
    what = "model" if isinstance(owner, Model) else "configuration of a model"
    raise NotImplementedError(f"{type(owner).__name__}: a {what} has to define {method}")
