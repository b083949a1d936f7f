"""What a step reads by formula is what is counted, for every architecture; and what a mixer may say of itself."""

from __future__ import annotations

import pytest
import torch
from models.architectures import ALL, VOCAB, build, tokens

from ripstop.config import ConfigError
from ripstop.kernels import reads
from ripstop.mixers.attention import AttentionConfig
from ripstop.models.base import ModelConfig
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.models.encoder_decoder import EncoderDecoderConfig
from ripstop.models.past import past
from ripstop.models.reading import decoder, read_bytes, step_parameters


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_formula_is_what_a_step_is_handed(name: str, dtype: torch.dtype) -> None:
    config = ALL[name]
    model = build(config).to(dtype)
    for own, source in ((1, 3), (4, 1), (7, 30), (41, 8)):
        n_source = source if config.reads_source else None
        with torch.inference_mode():
            state = past(model, own - 1, n_source=n_source)
            with reads.counting() as counted:
                model.step(tokens(1), state)
        assert counted.bytes == read_bytes(config, own, dtype, n_source) > 0


class Sparse(AttentionConfig):
    """Reads every fourth key."""

    def read_bytes(self, d_model: int, seq_len: int, dtype: torch.dtype = torch.bfloat16) -> int:
        return self.past_bytes(d_model, seq_len // 4, dtype)


def test_a_mixer_that_reads_part_of_its_state_says_so() -> None:
    """Two of its layers and one of attention; 2 x 24 numbers of 2 bytes a key."""
    mixers = {"S": Sparse(), "A": AttentionConfig()}
    config = DecoderOnlyConfig(d_model=24, pattern="SAS", mixers=mixers)
    assert read_bytes(config, 40, torch.bfloat16) == (10 + 40 + 10) * 48 * 2
    seq2seq = EncoderDecoderConfig(
        d_model=24,
        encoder_pattern="A",
        decoder_pattern="SA",
        mixers=mixers | {"A": AttentionConfig()},
        cross_attention_positions=[1],
    )
    assert read_bytes(seq2seq, 40, torch.float32, 5) == (10 + 40 + 5) * 48 * 4


def test_the_parameters_of_a_step() -> None:
    """Two of attention with 4 x 24 x 24 weights each, their norms, the last one, and a head; then a tied one."""
    config = DecoderOnlyConfig(d_model=24, pattern="AA", mixers={"A": AttentionConfig()})
    assert step_parameters(config, VOCAB) == 2 * (4 * 24 * 24 + 24) + 24 + VOCAB * 24
    assert step_parameters(config.replace(tie_embeddings=True), VOCAB) == step_parameters(config, VOCAB)
    seq2seq = ALL["encoder_decoder-first"]
    held = {name: p.numel() for name, p in build(seq2seq).named_parameters()}
    wanted = sum(n for name, n in held.items() if name.startswith(("decoder.", "readout.")))
    assert step_parameters(seq2seq, VOCAB) == wanted < sum(held.values())


def test_other_models_have_no_such_step() -> None:
    class Other(ModelConfig):
        kind: str = "other"

    with pytest.raises(ConfigError, match="model other is no decoder whose steps can be counted"):
        decoder(Other())
