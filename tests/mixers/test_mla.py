"""Latent attention against transformers' module with the same weights, its numbers by hand, and what a step of it reads."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ripstop.batch import Vocabulary
from ripstop.config import ConfigError
from ripstop.kernels import reads
from ripstop.mixers.attention import AttentionConfig
from ripstop.mixers.base import filled_bytes, held_bytes
from ripstop.mixers.mla import Mla, MlaConfig
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.models.past import past
from ripstop.ops.segments import Segments

D_MODEL = 24
SIZES: dict[str, Any] = {"n_heads": 3, "kv_lora_rank": 10, "qk_nope_head_dim": 6, "qk_rope_head_dim": 8, "v_head_dim": 5}
YARN: dict[str, Any] = {"kind": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "mscale_all_dim": 0.707}
SCALINGS: dict[str, dict[str, Any] | None] = {"plain": None, "linear": {"kind": "linear", "factor": 3.0}, "yarn": YARN}
NAMES = {"q_a_norm": "q_a_layernorm", "kv_a_proj": "kv_a_proj_with_mqa", "kv_a_norm": "kv_a_layernorm", "out_proj": "o_proj"}


def built(**values: Any) -> Mla:
    torch.manual_seed(3)
    mixer = MlaConfig.parse(SIZES | values, "mla").build(D_MODEL)
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return mixer


class Peer:
    """transformers' attention layer of DeepSeek-V3 with our weights. interleaved: its pairs are neighbours, so that the rows
    which make rotary numbers are given to it in another order."""

    def __init__(self, ours: Mla, interleaved: bool):
        from transformers import DeepseekV3Config
        from transformers.models.deepseek_v3 import modeling_deepseek_v3 as theirs

        config, scaling = ours.config, ours.config.rope_scaling
        rope: dict[str, Any] = {"rope_type": "default", "rope_theta": config.rope_base}
        if scaling is not None:
            rope |= {"rope_type": scaling.kind} | scaling.model_dump(exclude={"kind"})
        if "mscale_all_dim" in rope:
            rope["mscale"] = rope["mscale_all_dim"]  # as in their checkpoints: nothing is left to cosine and sine
        self.config = DeepseekV3Config(
            hidden_size=D_MODEL,
            num_attention_heads=config.n_heads,
            num_key_value_heads=config.n_heads,
            kv_lora_rank=config.kv_lora_rank,
            q_lora_rank=config.q_lora_rank or None,
            qk_nope_head_dim=config.qk_nope_head_dim,
            qk_rope_head_dim=config.qk_rope_head_dim,
            v_head_dim=config.v_head_dim,
            rope_parameters=rope,
            rope_interleave=interleaved,
            attention_bias=False,
            attn_implementation="eager",
        )
        self.layer: nn.Module = theirs.DeepseekV3Attention(self.config, 0)
        self.rotary = theirs.DeepseekV3RotaryEmbedding(self.config)
        weights = {self.name(name, bool(config.q_lora_rank)): weight for name, weight in ours.state_dict().items()}
        if interleaved:
            for name, n_heads in (("q_proj", config.n_heads), ("q_b_proj", config.n_heads), ("kv_a_proj_with_mqa", 1)):
                if f"{name}.weight" in weights:
                    weights[f"{name}.weight"] = self.neighbours(weights[f"{name}.weight"], n_heads, config.qk_rope_head_dim)
        self.layer.load_state_dict(weights)  # strict: every name and shape is the same
        self.layer.to(ours.out_proj.weight.dtype)

    @staticmethod
    def name(ours: str, has_latent_queries: bool) -> str:
        module, _, rest = ours.partition(".")
        module = "q_b_proj" if module == "q_proj" and has_latent_queries else NAMES.get(module, module)
        return f"{module}.{rest}"

    @staticmethod
    def neighbours(weight: Tensor, n_heads: int, width: int) -> Tensor:
        """Of the last `width` rows of every head: k and k + width / 2 beside each other."""
        heads = weight.unflatten(0, (n_heads, -1))
        rotary = heads[:, -width:].unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)
        return torch.cat([heads[:, :-width], rotary], 1).flatten(0, 1)

    def __call__(self, x_BTD: Tensor, first: int = 0, cache: Any = None) -> Tensor:
        n_new = x_BTD.shape[1]
        position = torch.arange(first, first + n_new)
        mask = torch.full((n_new, first + n_new), float("-inf"), dtype=x_BTD.dtype).triu(first + 1)
        angles = self.rotary(x_BTD, position.unsqueeze(0))
        return self.layer(x_BTD, position_embeddings=angles, attention_mask=mask, past_key_values=cache)[0]


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("q_lora_rank", [0, 7])
@pytest.mark.parametrize("scaling", SCALINGS)
def test_equals_transformers_module(scaling: str, q_lora_rank: int, interleaved: bool) -> None:
    """The whole sequence with its gradients; then prefill and decoding with the peer's own cache. 37 tokens, past YaRN's 16."""
    from transformers import DynamicCache

    ours = built(q_lora_rank=q_lora_rank, rope_scaling=SCALINGS[scaling]).double()
    peer, near = Peer(ours, interleaved), {"rtol": 1e-5, "atol": 1e-5}  # its norms and angles are in float32
    x_BTD = torch.randn(2, 37, D_MODEL, dtype=torch.float64, requires_grad=True)
    y_ours, y_peer = ours(x_BTD), peer(x_BTD)
    torch.testing.assert_close(y_ours, y_peer, **near)
    dy = torch.randn_like(y_ours)
    (got,), (wanted,) = torch.autograd.grad(y_ours, x_BTD, dy), torch.autograd.grad(y_peer, x_BTD, dy)
    torch.testing.assert_close(got, wanted, **near)

    cache = DynamicCache(config=peer.config)
    with torch.no_grad():
        y_ours, state = ours.prefill(x_BTD[:, :30], ours.init_state(2, 37))
        torch.testing.assert_close(y_ours, peer(x_BTD[:, :30], 0, cache), **near)
        for t in range(30, 37):
            y_BD, state = ours.step(x_BTD[:, t], state)
            torch.testing.assert_close(y_BD, peer(x_BTD[:, t : t + 1], t, cache)[:, 0], **near)


def test_numbers_by_hand() -> None:
    """By the defaults, at width 2048 with 16 heads."""
    config = MlaConfig(n_heads=16)
    weights = 2048 * 16 * 192 + 2048 * 320 + 256 * 16 * 256 + 16 * 128 * 2048
    assert config.num_params(2048) == weights + 256
    assert config.state_bytes(2048, 7) == 7 * 320 * 2 and config.state_bytes(2048, 7, torch.float32) == 7 * 320 * 4
    # Token t sees t of 7: 28 pairs, 192 products for a score and 128 for a value in each of 16 heads.
    assert config.flops_per_token(2048, 7) == 2 * weights + 2 * 16 * (192 + 128) * 28 // 7
    assert config.scale == 192**-0.5
    queries = MlaConfig(n_heads=16, q_lora_rank=512)
    assert queries.num_params(2048) == config.num_params(2048) - 2048 * 3072 + 2048 * 512 + 512 * 3072 + 512


@pytest.mark.parametrize("context", [1, 40, 4096])
def test_a_step_reads_the_latent_and_the_rotary_key_alone(context: int) -> None:
    """256 + 64 numbers a token and layer, where 16 heads of keys and values would be 5,120; three layers, float32."""
    mixers = {"L": MlaConfig(n_heads=16), "A": AttentionConfig(n_heads=16, head_dim=160)}
    counted = {}
    for letter in mixers:
        model = DecoderOnlyConfig(d_model=16, pattern=f"{letter}3", mixers=mixers).build(Vocabulary(5))
        with torch.inference_mode():
            state = past(model, context - 1)
            with reads.counting() as counted[letter]:
                model.step(torch.zeros(1, dtype=torch.int64), state)
    latent = counted["L"]
    assert (latent.tokens, latent.bytes, latent.written) == (3 * context, 3 * context * 320 * 4, 3 * 320 * 4)
    assert set(latent.branches) == {"latent"}
    assert counted["A"].bytes == 16 * latent.bytes == 3 * context * 5120 * 4


def test_the_state_is_measured() -> None:
    config = MlaConfig.parse(SIZES, "mla")
    mixer = config.build(D_MODEL).bfloat16()
    with torch.no_grad():
        _, state = mixer.prefill(torch.randn(2, 11, D_MODEL).bfloat16(), mixer.init_state(2, 20))
    assert filled_bytes(state) == 2 * config.state_bytes(D_MODEL, 11) == 2 * 11 * 18 * 2
    assert held_bytes(state) == 2 * config.state_bytes(D_MODEL, 20)


@pytest.mark.parametrize("backend", ["reference", "torch"])
@pytest.mark.parametrize("n_time", [2, 13, 64])
@pytest.mark.parametrize("q_lora_rank", [0, 9])
def test_it_costs_what_torch_counts(q_lora_rank: int, n_time: int, backend: str) -> None:
    """Equal, but for the half of the causal scores that plain products compute in vain."""
    config = MlaConfig.parse(SIZES | {"q_lora_rank": q_lora_rank, "backend": backend}, "mla")
    mixer, x_BTD = config.build(D_MODEL), torch.randn(2, n_time, D_MODEL)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        mixer(x_BTD)
    vain = 2 * 3 * (14 + 5) * (n_time**2 - n_time * (n_time + 1) // 2)
    assert counter.get_total_flops() == 2 * (n_time * config.flops_per_token(D_MODEL, n_time) + vain)


def test_decoding_far_past_the_length_of_training_is_recomputation() -> None:
    """Steps to 300 tokens equal the whole sequence at once, in float32 too."""
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-4)):
        mixer, x_BTD = built(rope_scaling=YARN).to(dtype), torch.randn(1, 300, D_MODEL, dtype=dtype)
        with torch.no_grad():
            state, outputs = mixer.init_state(1, 300), []
            for t in range(300):
                y_BD, state = mixer.step(x_BTD[:, t], state)
                outputs.append(y_BD)
            torch.testing.assert_close(torch.stack(outputs, 1), mixer(x_BTD), rtol=tolerance, atol=tolerance)


def test_it_is_blind_to_where_a_document_begins_and_tells_the_order_of_its_past() -> None:
    mixer = built().double()
    x_BTD = torch.randn(1, 9, D_MODEL, dtype=torch.float64)
    shifted = torch.cat([torch.randn(1, 31, D_MODEL, dtype=torch.float64), x_BTD], 1)
    segments = Segments.of((torch.arange(40) >= 31).long().unsqueeze(0) + 1)
    torch.testing.assert_close(mixer(shifted, segments)[:, 31:], mixer(x_BTD))
    swapped = mixer(x_BTD[:, [1, 0, 2, 3, 4, 5, 6, 7, 8]])[:, -1]
    assert not torch.allclose(swapped, mixer(x_BTD)[:, -1], atol=1e-6), "the order of the past is not told"


def test_decoding_writes_in_place_and_training_does_not() -> None:
    mixer, x_BD = built(), torch.randn(1, D_MODEL)
    state = mixer.init_state(1, 4)
    with torch.no_grad():
        _, after = mixer.step(x_BD, state)
    assert after.cache.data_ptr() == state.cache.data_ptr() and held_bytes(after) == held_bytes(state)
    _, after = mixer.step(x_BD, state)
    assert after.cache.data_ptr() != state.cache.data_ptr()


def test_a_full_state_says_so() -> None:
    mixer = built()
    with pytest.raises(ValueError, match="room for 4 tokens, 5 are needed"):
        mixer.prefill(torch.randn(1, 5, D_MODEL), mixer.init_state(1, 4))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"qk_rope_head_dim": 7}, "mla: qk_rope_head_dim: input should be a multiple of 2"),
        ({"kv_lora_rank": 0}, "mla: kv_lora_rank"),
        ({"rope_scaling": {"kind": "ntk"}}, "unknown kind 'ntk'"),
        ({"rope_scaling": {"kind": "linear"}}, "factor: missing, add it"),
        ({"kv_lora_rnak": 3}, "did you mean 'kv_lora_rank'?"),
        ({"backend": "flash_attn"}, "latent_attention cannot run (needs a CUDA device)"),
    ],
)
def test_what_does_not_fit_is_one_clear_sentence(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        MlaConfig.parse(SIZES | values, "mla").build(D_MODEL)(torch.randn(1, 2, D_MODEL))
    assert message in str(error.value)


@pytest.mark.gpu
@pytest.mark.parametrize("packed", [False, True])
def test_flash_attn_with_values_narrower_than_keys(packed: bool) -> None:
    """On CUDA in bfloat16: its padded values against the reference's, forward and gradient."""
    pytest.importorskip("flash_attn")
    sizes = {"n_heads": 4, "kv_lora_rank": 32, "qk_nope_head_dim": 32, "qk_rope_head_dim": 16, "v_head_dim": 32}
    fast, slow = (MlaConfig.parse(sizes | {"backend": b}, "mla").build(64).cuda() for b in ("flash_attn", "reference"))
    fast.load_state_dict(slow.state_dict())
    numbers = torch.ones(2, 100, dtype=torch.int64, device="cuda")
    numbers[:, 37:] = 2
    segments = Segments.of(numbers) if packed else None
    x_BTD = torch.randn(2, 100, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    y_fast, y_slow = fast.bfloat16()(x_BTD, segments), slow.float()(x_BTD.float(), segments)
    assert (y_fast.float() - y_slow).norm() < 0.02 * y_slow.norm()
    got, wanted = (torch.autograd.grad(y.sum(), x_BTD)[0].float() for y in (y_fast, y_slow))
    assert (got - wanted).norm() < 0.03 * wanted.norm()
