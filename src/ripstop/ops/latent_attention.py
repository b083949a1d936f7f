"""Multi-head latent attention of DeepSeek-V2 (arXiv 2405.04434): by definition, expanded, and absorbed.

All heads' keys and values are linear maps of one latent vector a token, c_t, beside one key that carries the position, k^R_t,
and is the same for all heads (section 2.1, whole in appendix C):

    k_t,h = [W^UK_h c_t; k^R_t]    v_t,h = W^UV_h c_t    o_t,h = sum_s softmax_s(q_t,h . k_s,h * scale) v_s,h

Expanded, keys and values are made, and attention is like any other: many queries share the work. Absorbed, W^UK goes to the
query and W^UV behind the sum, so that a step reads the latents themselves, as one key that all heads share:

    q . W^UK c = (W^UK^T q) . c    sum_s p_s W^UV c_s = W^UV sum_s p_s c_s

q_BTHK: the part without a position, then the rotated one. cache_BSr: c, then k^R; in the state as here.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ripstop.ops import softmax_attention
from ripstop.ops.segments import Segments


class Up(NamedTuple):
    """From a latent to a head's key without a position and, behind it, to its value: W^UK and W^UV, (H, width + P, r)."""

    weight_HCr: Tensor
    width: int

    @property
    def key_HKr(self) -> Tensor:
        return self.weight_HCr[:, : self.width]

    @property
    def value_HPr(self) -> Tensor:
        return self.weight_HCr[:, self.width :]

    @property
    def value_width(self) -> int:
        return self.weight_HCr.shape[1] - self.width


def latent_attention_reference(
    q_BTHK: Tensor, cache_BSr: Tensor, up: Up, scale: float, segments: Segments | None = None
) -> Tensor:
    """By definition, with every product written out. The queries are the last T of the S tokens. -> (B, T, H, P)."""
    n_queries, n_heads, n_keys = q_BTHK.shape[1], q_BTHK.shape[2], cache_BSr.shape[1]
    latent_BSr, rotary_BSK = _parts(cache_BSr, up)
    k_BSHK = torch.einsum("hkr,bsr->bshk", up.key_HKr, latent_BSr)
    v_BSHP = torch.einsum("hpr,bsr->bshp", up.value_HPr, latent_BSr)
    rotary_BSHK = rotary_BSK.unsqueeze(2).expand(-1, -1, n_heads, -1)
    seen = softmax_attention.visible(n_queries, n_keys, True, segments, device=q_BTHK.device)
    return softmax_attention.attention_reference(q_BTHK, torch.cat([k_BSHK, rotary_BSHK], -1), v_BSHP, seen, scale)


def expand(cache_BSr: Tensor, up: Up) -> tuple[Tensor, Tensor]:
    """Keys and values of all heads, (B, S, H, K) and (B, S, H, P), by one product."""
    latent_BSr, rotary_BSK = _parts(cache_BSr, up)
    n_heads = up.weight_HCr.shape[0]
    both_BSHC = F.linear(latent_BSr, up.weight_HCr.flatten(0, 1)).unflatten(-1, (n_heads, -1))
    k_BSHK, v_BSHP = both_BSHC.split([up.width, up.value_width], -1)
    rotary_BSHK = rotary_BSK.to(k_BSHK.dtype).unsqueeze(2).expand(-1, -1, n_heads, -1)
    return torch.cat([k_BSHK, rotary_BSHK], -1), v_BSHP


def expanded(q_BTHK: Tensor, cache_BSr: Tensor, up: Up, scale: float, segments: Segments | None = None) -> Tensor:
    """The same over expanded keys and values. -> (B, T, H, P)."""
    k_BSHK, v_BSHP = expand(cache_BSr, up)
    return softmax_attention.attention(q_BTHK, k_BSHK, v_BSHP, True, segments, scale)


def absorbed(q_BHK: Tensor, cache_BSr: Tensor, up: Up, scale: float) -> Tensor:
    """The same of one query, which is the last of the S tokens and sees them all: no key and no value is made. -> (B, H, P).

    The heads take the place of queries, since they share the key: plain products, which read the cache where it lies.
    """
    q_BHK, rotary_BHK = q_BHK.split([up.width, q_BHK.shape[2] - up.width], -1)
    q_BHr = torch.cat([torch.einsum("bhk,hkr->bhr", q_BHK, up.key_HKr), rotary_BHK], -1)
    cache_BSr = cache_BSr.to(q_BHr.dtype)
    scores_BHS = q_BHr @ cache_BSr.transpose(1, 2)
    precise = torch.promote_types(scores_BHS.dtype, torch.float32)
    weights_BHS = (scores_BHS.to(precise) * scale).softmax(-1).to(q_BHr.dtype)
    latent_BSr, _ = _parts(cache_BSr, up)
    return torch.einsum("bhr,hpr->bhp", weights_BHS @ latent_BSr, up.value_HPr)


def _parts(cache_BSr: Tensor, up: Up) -> tuple[Tensor, Tensor]:
    """The latents, (B, S, r), and the rotary keys, (B, S, K)."""
    rank = up.weight_HCr.shape[2]
    return cache_BSr[..., :rank], cache_BSr[..., rank:]
