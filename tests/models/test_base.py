"""What every model offers, held to by every small architecture: forward = prefill = step, rows and documents apart."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from models.architectures import ALL, VOCAB, build, encoder_decoder, tokens
from torch import Tensor
from torch.testing import assert_close

from ripstop.batch import TokenBatch, Vocabulary
from ripstop.config import ConfigError
from ripstop.mixers.base import filled_bytes, held_bytes, reorder_state
from ripstop.models.base import Model, ModelConfig
from ripstop.models.decoder_only import DecoderOnlyConfig

B, T, S = 3, 13, 11
EXACT = {"rtol": 1e-9, "atol": 1e-9}


@pytest.fixture(params=ALL)
def config(request: pytest.FixtureRequest) -> ModelConfig:
    return ALL[request.param]


@pytest.fixture
def model(config: ModelConfig) -> Model:
    return build(config)


@pytest.fixture
def batch(config: ModelConfig) -> TokenBatch:
    """Whole rows; an encoder-decoder's sources have different lengths."""
    x_BT = tokens(B, T)
    if isinstance(config, DecoderOnlyConfig):
        return TokenBatch(x_BT, x_BT)
    return TokenBatch(x_BT, x_BT, source_BS=tokens(B, S, seed=1), source_segments_BS=lengths(S, [S, 4, 7]))


def lengths(n: int, wanted: list[int]) -> Tensor:
    return (torch.arange(n) < torch.tensor(wanted).unsqueeze(1)).long()


def past(model: Model, batch: TokenBatch, max_len: int = T) -> object:
    return model.init_state(len(batch.tokens_BT), max_len, batch.source_BS, batch.source_segments_BS)


@pytest.mark.parametrize("chunks", [[T], [1], [6], [4, 1, 5]])
def test_prefill_and_step_give_the_logits_of_forward(model: Model, batch: TokenBatch, chunks: list[int]) -> None:
    expected_BTV = model(batch)
    state, position = past(model, batch), 0
    for n in chunks:
        logits_BV, state = model.prefill(batch.tokens_BT[:, position : position + n], state)
        position += n
        assert_close(logits_BV, expected_BTV[:, position - 1], **EXACT)
    for t in range(position, T):
        logits_BV, state = model.step(batch.tokens_BT[:, t], state)
        assert_close(logits_BV, expected_BTV[:, t], **EXACT)


def test_gradients_of_prefill_are_those_of_forward(model: Model, batch: TokenBatch) -> None:
    def gradients(logits_BV: Tensor) -> list[Tensor]:
        wanted = torch.autograd.grad(logits_BV.square().sum(), list(model.parameters()), allow_unused=True)
        return [torch.zeros(()) if g is None else g for g in wanted]

    logits_BV, _ = model.prefill(batch.tokens_BT, past(model, batch))
    for ours, theirs in zip(gradients(logits_BV), gradients(model(batch)[:, -1]), strict=True):
        assert_close(ours, theirs, rtol=1e-8, atol=1e-8)


def test_nothing_is_read_from_the_future(model: Model, batch: TokenBatch) -> None:
    changed_BT = batch.tokens_BT.clone()
    changed_BT[:, 7] = changed_BT[:, 7] % (VOCAB - 1) + 1
    before, after = model(batch), model(replace(batch, tokens_BT=changed_BT))
    assert_close(before[:, :7], after[:, :7], rtol=0, atol=0)
    assert (before[:, 7] - after[:, 7]).abs().amax(-1).min() > 1e-6


def test_chosen_positions_have_the_logits_of_all(model: Model, batch: TokenBatch) -> None:
    at_BT = torch.rand(B, T, generator=torch.Generator().manual_seed(0)) < 0.3
    assert_close(model(batch, at_BT), model(batch)[at_BT], **EXACT)


def test_rows_are_independent(model: Model, batch: TokenBatch) -> None:
    alone = [replace(batch, **{k: v[i : i + 1] for k, v in tensors(batch).items()}) for i in range(B)]
    assert_close(model(batch), torch.cat([model(row) for row in alone]), **EXACT)


def test_reordering_the_state_reorders_the_batch(model: Model, batch: TokenBatch) -> None:
    index_B = torch.tensor([2, 0, 0, 1, 2])
    _, state = model.prefill(batch.tokens_BT[:, :6], past(model, batch))
    _, wanted = model.prefill(batch.tokens_BT[index_B, :6], past(model, select(batch, index_B)))
    state = reorder_state(state, index_B)
    for t in range(6, 9):
        ours, state = model.step(batch.tokens_BT[index_B, t], state)
        theirs, wanted = model.step(batch.tokens_BT[index_B, t], wanted)
        assert_close(ours, theirs, **EXACT)


def test_gradients_reach_every_parameter(model: Model, batch: TokenBatch) -> None:
    model(batch).square().sum().backward()
    dead = [name for name, p in model.named_parameters() if p.grad is None or not (p.grad != 0).any()]
    assert dead == []


def test_padding_behind_a_row_changes_nothing(model: Model, batch: TokenBatch) -> None:
    expected_BTV = model(batch)
    for fill in (0, VOCAB - 1):
        x_BT = torch.cat([batch.tokens_BT, torch.full((B, 4), fill)], 1)
        segments_BT = lengths(T + 4, [T] * B)
        logits_BTV = model(replace(batch, tokens_BT=x_BT, targets_BT=x_BT, segments_BT=segments_BT))
        assert_close(logits_BTV[:, :T], expected_BTV, **EXACT)
        assert logits_BTV.isfinite().all()


def test_packed_documents_are_documents_alone(config: ModelConfig, model: Model) -> None:
    """Two documents a row, with padding between and behind, and as many sources in as many segments."""
    first, second, source_1, source_2 = (tokens(1, n, seed=n) for n in (5, 7, 4, 6))
    pad = torch.zeros(1, 2, dtype=torch.int64)
    is_sequence_to_sequence = not isinstance(config, DecoderOnlyConfig)

    def batch(x_BT: Tensor, segments_BT: Tensor | None, source: Tensor, source_segments: Tensor | None) -> TokenBatch:
        if is_sequence_to_sequence:
            return TokenBatch(x_BT, x_BT, segments_BT, source, source_segments)
        return TokenBatch(x_BT, x_BT, segments_BT)

    def numbers(*counts: tuple[int, int]) -> Tensor:
        return torch.tensor([[number for number, count in counts for _ in range(count)]])

    packed = model(
        batch(
            torch.cat([first, pad, second, pad], 1),
            numbers((1, 5), (0, 2), (2, 7), (0, 2)),
            torch.cat([source_1, source_2, pad], 1),
            numbers((1, 4), (2, 6), (0, 2)),
        )
    )
    assert_close(packed[:, :5], model(batch(first, None, source_1, None)), **EXACT)
    assert_close(packed[:, 7:14], model(batch(second, None, source_2, None)), **EXACT)
    assert packed.isfinite().all()


def test_parameters_are_as_many_as_the_config_says(config: ModelConfig, model: Model) -> None:
    assert config.num_params(VOCAB) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("n_source", [None, 1, S, 40])
def test_the_state_weighs_what_the_config_says(config: ModelConfig, model: Model, n_source: int | None) -> None:
    """With a source of any length beside 13 tokens; none given: as long as they are."""
    batch = TokenBatch(tokens(2, T), tokens(2, T))
    if config.kind == "encoder_decoder":
        batch = replace(batch, source_BS=tokens(2, n_source or T))
    _, state = model.prefill(batch.tokens_BT, past(model, batch))
    assert 2 * config.state_bytes(T, torch.float64, n_source) == held_bytes(state)
    reads = config.kind == "encoder_decoder" and ALL["encoder_decoder-blind"] != config
    assert config.reads_source == reads


def test_room_for_tokens_to_come_is_held_and_not_filled(config: ModelConfig, model: Model, batch: TokenBatch) -> None:
    """What is filled is what the formula says of the tokens so far; with no more room, it is all that is held."""
    batch = replace(batch, source_segments_BS=None)  # whose mask the formula leaves out
    n_source = None if batch.source_BS is None else S
    for n in (1, 6, T):
        _, state = model.prefill(batch.tokens_BT[:, :n], past(model, batch, max_len=50))
        assert filled_bytes(state) == B * config.state_bytes(n, torch.float64, n_source)
        assert held_bytes(state) == B * config.state_bytes(50, torch.float64, n_source)


def test_a_missing_method_is_named() -> None:
    class Unfinished(ModelConfig):
        kind: str = "unfinished"

    config, half = Unfinished(), Model()
    with pytest.raises(NotImplementedError, match=r"Unfinished: a configuration of a model has to define build\(self, data\)"):
        config.build(Vocabulary(3))
    with pytest.raises(NotImplementedError, match=r"Unfinished: .* has to define batch_flops\(self, vocab_size, batch\)"):
        config.batch_flops(3, None)
    with pytest.raises(NotImplementedError, match=r"Model: a model has to define step\(self, tokens_B, state\)"):
        half.step(torch.zeros(1), None)


def test_state_without_a_token_has_no_logits(model: Model, batch: TokenBatch) -> None:
    with pytest.raises(ValueError, match="at least one"):
        model.prefill(batch.tokens_BT[:, :0], past(model, batch))


def test_config_survives_its_file(config: ModelConfig) -> None:
    again = type(config).parse(config.model_dump(mode="json"), "again")
    assert again == config
    assert again.layout() == config.layout()


def test_a_config_error_names_the_key() -> None:
    with pytest.raises(ConfigError, match=r"d_modle: unknown key; did you mean 'd_model'\?$"):
        DecoderOnlyConfig.parse({"d_model": 8, "d_modle": 8, "pattern": "A", "mixers": {"A": {"kind": "attention"}}}, "run")
    values = encoder_decoder("first").model_dump()
    with pytest.raises(ConfigError, match=r"source_summary: .*'none' or 'mean'"):
        type(encoder_decoder("first")).parse(values | {"source_summary": "max"}, "run")


def tensors(batch: TokenBatch) -> dict[str, Tensor]:
    return {name: value for name, value in vars(batch).items() if isinstance(value, Tensor)}


def select(batch: TokenBatch, index_B: Tensor) -> TokenBatch:
    return replace(batch, **{name: value[index_B] for name, value in tensors(batch).items()})
