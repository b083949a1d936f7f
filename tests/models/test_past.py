"""A state made as after so many tokens has the sizes and counts of one that has read them, and steps from there."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from contract import CASES, D_MODEL, Case
from models.architectures import ALL, build, tokens
from torch import Tensor

from ripstop.mixers.attention import Attention, AttentionConfig
from ripstop.mixers.base import filled_bytes, held_bytes
from ripstop.models.base import Model, ModelConfig
from ripstop.models.decoder_only import DecoderOnly, DecoderOnlyConfig
from ripstop.models.past import CHUNK, drawn, past


def shape(state: Any) -> Any:
    """A state with the sizes of its tensors in their place."""
    if isinstance(state, Tensor):
        return tuple(state.shape), state.dtype
    if isinstance(state, list | tuple):
        return [type(state), *map(shape, state)]
    return state


def tensors(state: Any) -> list[Tensor]:
    if isinstance(state, Tensor):
        return [state]
    return [t for part in state for t in tensors(part)] if isinstance(state, list | tuple) else []


def one_layer(case: Case) -> ModelConfig:
    return DecoderOnlyConfig(d_model=D_MODEL, pattern="X", mixers={"X": case.config()})


CAUSAL = [case for case in CASES if case.config().is_causal]
CONFIGS = {f"{case.kind}-{case.name}": one_layer(case) for case in CAUSAL} | ALL


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(("n_tokens", "n_source"), [(1, 1), (4, 9), (23, 2), (40, 40)])
def test_it_is_shaped_like_one_that_was_read(name: str, n_tokens: int, n_source: int) -> None:
    config, room = CONFIGS[name], 3
    model = build(config)
    source_BS = tokens(1, n_source) if config.reads_source else None
    with torch.inference_mode():
        read = model.prefill(tokens(1, n_tokens), model.init_state(1, n_tokens + room, source_BS))[1]
        made = past(model, n_tokens, room, n_source if config.reads_source else None)
        assert shape(made) == shape(read)
        assert (filled_bytes(made), held_bytes(made)) == (filled_bytes(read), held_bytes(read))
        for _ in range(room):
            logits, made = model.step(tokens(1), made)
            _, read = model.step(tokens(1), read)
            assert shape(made) == shape(read) and logits.isfinite().all()


@pytest.mark.parametrize("name", CONFIGS)
def test_after_nothing_it_is_as_at_the_start(name: str) -> None:
    config = CONFIGS[name]
    model, n_source = build(config), 5 if config.reads_source else None
    source_BS = None if n_source is None else tokens(1, 5)
    with torch.inference_mode():
        assert shape(past(model, 0, 2, n_source)) == shape(model.init_state(1, 2, source_BS))


def test_its_numbers_are_drawn() -> None:
    model = build(ALL["encoder_decoder-hybrid"])
    with torch.inference_mode():
        found = [t for t in tensors(past(model, 30, 1, 7)) if t.numel() > 20 and t.is_floating_point()]
    assert len(found) >= 8
    for tensor in found:
        assert tensor.abs().max() <= 1 and tensor.abs().max() > 0.5 and tensor.std() > 0.3


def test_a_long_tensor_is_drawn_to_its_end() -> None:
    tensor = torch.zeros(2, CHUNK // 2 + 3, 2)
    assert drawn(tensor) is tensor
    assert (tensor != 0).float().mean() > 0.999 and tensor.view(-1)[-1] != 0
    assert torch.equal(drawn(torch.arange(3)), torch.arange(3)) and drawn(torch.zeros(0)).numel() == 0 and drawn(None) is None


class Emits(NamedTuple):
    """Keys, and one more of every four of them."""

    k: Tensor
    length: int
    n_blocks: int


class Emitting(Attention):
    def init_state(self, batch_size: int, max_len: int) -> Any:
        return Emits(torch.zeros(batch_size, max_len, 3), 0, 0)


class Counting(Emitting):
    def after(self, state: Emits, n_tokens: int) -> Emits:
        return state._replace(length=n_tokens, n_blocks=n_tokens // 4)


def with_mixer(kind: type[Attention]) -> DecoderOnly:
    model = build(ALL["decoder_only-attention"])
    assert isinstance(model, DecoderOnly)
    for block in model.decoder.blocks:
        block.mixer = kind(AttentionConfig(), 24)
    return model


def test_a_mixer_whose_state_counts_apart_says_how() -> None:
    with pytest.raises(TypeError, match=r"Emitting: its state counts n_blocks; give the mixer after\(state, n_tokens\)"):
        past(with_mixer(Emitting), 22)
    for made in past(with_mixer(Counting), 22, 5):
        assert (made.mixer.length, made.mixer.n_blocks, made.mixer.k.shape[1]) == (22, 5, 27) and made.mixer.k.any()


def test_other_models_have_no_past() -> None:
    with pytest.raises(TypeError, match="Model: a past is made for DecoderOnly and EncoderDecoder"):
        past(Model(), 3)
