"""The mixer of natively sparse attention: project, compress, select, attend in three branches, and gate."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ripstop.kernels import attention, reads, sparse_attention
from ripstop.mixers.heads import HeadsMixer
from ripstop.mixers.nsa import trace
from ripstop.mixers.nsa.compression import Compression
from ripstop.mixers.nsa.state import SparseState
from ripstop.mixers.nsa.teaching.base import Selection
from ripstop.ops.compressed_attention import select
from ripstop.ops.rotary import rotate
from ripstop.ops.segments import Segments, without_padding
from ripstop.ops.sparse_attention import Documents, compressed_starts, position_of

if TYPE_CHECKING:
    from ripstop.mixers.nsa import NSAConfig


class Heads(NamedTuple):
    """Queries (B, T, H, K), keys and values (B, S, G, K) of one branch."""

    q: Tensor
    k: Tensor
    v: Tensor


class NativeSparseAttention(HeadsMixer):
    """Queries are shared by the branches, rotated in those that know positions; keys and values are each branch's own."""

    def __init__(self, config: NSAConfig, d_model: int):
        super().__init__(config, d_model, config.backend)
        self.rotated, self.blocks, self.window_size = config.rope, config.blocks, config.window_size
        self.backend, self.teaching, self.gate = config.backend, config.teaching, config.gate
        sizes = (config.compress_block, config.compress_stride, self.n_kv_heads, self.head_dim)
        self.compression = Compression(config.phi, *sizes)
        self.gate_in = nn.Linear(d_model, config.d_gate)
        self.gate_out = nn.Linear(config.d_gate, len(trace.BRANCHES) * self.n_heads)
        nn.init.zeros_(self.gate_out.weight)  # every branch weighs the same at first
        nn.init.zeros_(self.gate_out.bias)

    def forward(self, x_BTD: Tensor, segments: Segments | None = None) -> Tensor:
        x_BTD = without_padding(x_BTD, segments)
        qkv = self.qkv_proj(x_BTD)
        if self.conv1d is not None:
            qkv = self.conv1d(qkv, None, segments)
        position = torch.arange(x_BTD.shape[1], device=x_BTD.device) if segments is None else segments.position_BT
        compressed, selected, window = self._branches(qkv, position)
        documents = Documents.of(segments)
        starts = None if documents is None else compressed_starts(documents, self.blocks)
        # Room behind the text for blocks that no query sees: never none or one of them, which a compiler would tell apart.
        fill = self.blocks.compress_block + self.blocks.compress_stride - 1
        k, v = (F.pad(x, (0, 0, 0, 0, 0, fill)) for x in (compressed.k, compressed.v))
        k, v = self.compression(k, v, starts)
        y_window = sparse_attention.window_attention(self.backend, *window, self.window_size, segments)
        y_BTD = self._attend(x_BTD, Heads(compressed.q, k, v), selected, y_window, 0, segments)
        return without_padding(y_BTD, segments)

    def init_state(self, batch_size: int, max_len: int) -> SparseState:
        n_compressed, n_recent = self.blocks.n_compressed(max_len), min(max_len, self.blocks.compress_block - 1)
        compressed_k, compressed_v, conv = self.empty_past(batch_size, n_compressed)
        recent_k, recent_v, _ = self.empty_past(batch_size, n_recent)
        selected_k, selected_v, _ = self.empty_past(batch_size, max_len)
        window_k, window_v, _ = self.empty_past(batch_size, min(max_len, self.window_size))
        pairs = (compressed_k, compressed_v, recent_k, recent_v, selected_k, selected_v, window_k, window_v)
        return SparseState(*pairs, conv, 0, 0)

    def after(self, state: SparseState, n_tokens: int) -> SparseState:
        """An empty state with its counts as after `n_tokens` tokens, and the contents that it has."""
        return state._replace(n_compressed=self.blocks.n_compressed(n_tokens), length=n_tokens)

    def prefill(self, x_BTD: Tensor, state: SparseState) -> tuple[Tensor, SparseState]:
        n_new = x_BTD.shape[1]
        if n_new == 0:
            return x_BTD, state
        state, compressed, selected, window = self._taken_in(x_BTD, state)
        # The window of the first new token, in order, before the new ones.
        old_k, old_v = state.ordered_window(min(state.length, self.window_size - 1))
        k, v = torch.cat([old_k.to(window.k.dtype), window.k], 1), torch.cat([old_v.to(window.v.dtype), window.v], 1)
        first = state.length + n_new - k.shape[1]
        y_window = sparse_attention.window_attention(self.backend, window.q, k, v, self.window_size, None, first)
        y_BTD = self._attend(x_BTD, compressed, selected, y_window, state.length)
        return y_BTD, state.with_window(window.k, window.v)._replace(length=state.length + n_new)

    def step(self, x_BD: Tensor, state: SparseState) -> tuple[Tensor, SparseState]:
        x_B1D = x_BD.unsqueeze(1)
        state, compressed, selected, window = self._taken_in(x_B1D, state)
        n_past, state = state.length, state.with_window(window.k, window.v)._replace(length=state.length + 1)
        # What the ring holds now is exactly what this token sees.
        held = state.filled()
        backend = sparse_attention.beside(self.backend)
        reads.of("window")
        y_window = attention.attention(backend, window.q, held.window_k, held.window_v, causal=False)
        return self._attend(x_B1D, compressed, selected, y_window, n_past).squeeze(1), state

    def _branches(self, qkv: Tensor, position: Tensor) -> tuple[Heads, Heads, Heads]:
        n_kv = self.n_kv_heads
        q, *kv = qkv.unflatten(-1, (-1, self.head_dim)).split([self.n_heads, *[n_kv] * (2 * len(trace.BRANCHES))], 2)
        rotated_q = q if self.rope_base is None else rotate(q, position, self.rope_base)

        def branch(i: int) -> Heads:
            k, v = kv[2 * i : 2 * i + 2]
            if trace.BRANCHES[i] not in self.rotated or self.rope_base is None:
                return Heads(q, k, v)
            return Heads(rotated_q, rotate(k, position, self.rope_base), v)

        return branch(0), branch(1), branch(2)

    def _taken_in(self, x_BTD: Tensor, state: SparseState) -> tuple[SparseState, Heads, Heads, Heads]:
        """The state with new tokens everywhere but in the window and the count, and the branches: the queries of the new tokens
        with all that there is of compressed and selected keys, and with the new keys of the window."""
        end = state.length + x_BTD.shape[1]
        if end > state.room:
            raise ValueError(f"the state has room for {state.room} tokens, {end} are needed: raise max_len")
        qkv = self.qkv_proj(x_BTD)
        conv = state.conv
        if self.conv1d is not None:
            qkv, conv = self.conv1d.prefill(qkv, conv)
        compressed, selected, window = self._branches(qkv, torch.arange(state.length, end, device=qkv.device))
        reads.note("recent", 0, *state.recent())
        recent = [
            torch.cat([old.to(new.dtype), new], 1)
            for old, new in zip(state.recent(), (compressed.k, compressed.v), strict=True)
        ]  # fmt: skip
        # The next block begins here; what lies before is in the blocks that there are.
        begin = state.n_compressed * self.blocks.compress_stride - (end - recent[0].shape[1])
        state = state.with_compressed(*self.compression(recent[0][:, begin:], recent[1][:, begin:]))
        state = state.with_recent(*recent).with_selected(selected.k, selected.v)._replace(conv=conv)
        n_compressed = slice(state.n_compressed)
        compressed = Heads(compressed.q, state.compressed_k[:, n_compressed], state.compressed_v[:, n_compressed])
        return state, compressed, Heads(selected.q, state.selected_k[:, :end], state.selected_v[:, :end]), window

    def _attend(
        self, x_BTD: Tensor, compressed: Heads, selected: Heads, y_window: Tensor, n_past: int, segments: Segments | None = None
    ) -> Tensor:
        """The three branches, gated and summed. -> (B, T, D)."""
        documents, intervention = Documents.of(segments), trace.intervention()
        y_compressed, ids, importance = sparse_attention.compress_and_select(
            self.backend, *compressed, self.blocks, n_past, documents
        )  # fmt: skip
        if intervention is not None and intervention.select != "scores":
            ids = self._chosen_otherwise(intervention, ids, importance, n_past, documents)
        selection = Selection(self.backend, *selected, compressed, ids, importance, self.blocks, n_past, segments)
        y_selected, loss = self.teaching.attend(selection, self.training)
        gates_BTH3 = self.gate_out(F.silu(self.gate_in(x_BTD))).unflatten(-1, (self.n_heads, len(trace.BRANCHES)))
        gates_BTH3 = gates_BTH3.softmax(-1) if self.gate == "softmax" else gates_BTH3.sigmoid()
        trace.note(ids, gates_BTH3, loss)
        if intervention is not None and intervention.drop:
            gates_BTH3 = gates_BTH3 * gates_BTH3.new_tensor([branch not in intervention.drop for branch in trace.BRANCHES])
        n_keys = n_past + x_BTD.shape[1]
        return self.combine(sparse_attention.gated_sum(self.backend, n_keys, gates_BTH3, y_compressed, y_selected, y_window))

    def _chosen_otherwise(
        self, how: trace.Intervention, ids_BTGn: Tensor, importance_BTGn: Tensor, n_past: int, documents: Documents | None
    ) -> Tensor:
        """As many blocks, the forced ones among them; the others at random, or the oracle's before those that were selected."""
        (n_batch, n_time, n_groups, _), device = ids_BTGn.shape, ids_BTGn.device
        n_blocks = self.blocks.n_selectable(n_past + n_time)
        if how.blocks_BM is None:
            goes_by = trace.random_importance((n_batch, n_groups, n_time, n_blocks), device)
        else:
            goes_by = importance_BTGn.new_zeros(n_batch, n_time, n_groups, n_blocks + 1)
            goes_by = goes_by.scatter(-1, ids_BTGn.long() % (n_blocks + 1), importance_BTGn)[..., :n_blocks].transpose(1, 2)
            named = (how.blocks_BM.unsqueeze(2) == torch.arange(n_blocks, device=device)).any(1)
            goes_by = goes_by.masked_fill(named[:, None, None], torch.finfo(torch.float32).max)
        own = position_of(n_time, n_past, documents, device) // self.blocks.select_block
        chosen = select(goes_by, self.blocks, own).transpose(1, 2)
        return chosen.masked_fill(chosen == n_blocks, -1).to(ids_BTGn.dtype)
