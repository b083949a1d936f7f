"""Which parameters of a model are matrices that multiply vectors, and which projections are stacked in one of them."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from ripstop.layers.cross_attention import CrossAttention
from ripstop.layers.embedding import Readout
from ripstop.layers.mlp import Mlp
from ripstop.mixers.heads import HeadsMixer
from ripstop.mixers.mamba2 import Mamba2


def projections(model: nn.Module) -> dict[Tensor, list[int]]:
    """The trainable weight of each linear layer, in the model's order, with the rows of the projections stacked in it.

    Tables of vectors are none: not the embedding, nor the head, tied or not. A module whose linear layers hold more than
    one projection has `stacked_rows`: from the layer's name to the rows of each, in their order. (Those of before this
    stand below: a method of theirs would make every earlier training stale.)
    """
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    tables |= {id(m.head.weight) for m in model.modules() if isinstance(m, Readout)}
    found: dict[Tensor, list[int]] = {
        m.weight: [m.weight.shape[0]]
        for m in model.modules()
        if isinstance(m, nn.Linear) and m.weight.requires_grad and id(m.weight) not in tables
    }
    for module in model.modules():
        for name, rows in _stacked(module).items():
            layer = module.get_submodule(name)
            assert isinstance(layer, nn.Linear), f"{type(module).__name__}.stacked_rows: {name} is no linear layer"
            if sum(rows) != layer.out_features:
                raise ValueError(f"{type(module).__name__}.stacked_rows: {name} has {layer.out_features} rows, not {sum(rows)}")
            if layer.weight in found:
                found[layer.weight] = rows
    return found


def _stacked(module: nn.Module) -> dict[str, list[int]]:
    """Each head of queries, keys and values; gate and input of an mlp; what enters a recurrence by different ways."""
    own: Callable[[], dict[str, list[int]]] | None = getattr(module, "stacked_rows", None)
    if own is not None:
        return own()
    if isinstance(module, HeadsMixer):
        return {"qkv_proj": [module.head_dim] * (module.qkv_proj.weight.shape[0] // module.head_dim)}
    if isinstance(module, CrossAttention):
        layers = {"q_proj": module.q_proj, "kv_proj": module.kv_proj}
        return {name: [module.head_dim] * (layer.weight.shape[0] // module.head_dim) for name, layer in layers.items()}
    if isinstance(module, Mlp) and module.gated:
        return {"in_proj": [module.in_proj.weight.shape[0] // 2] * 2}
    if isinstance(module, Mamba2):
        head, groups = module.config.head_dim, module.config.n_groups
        z_and_x, b_and_c = [head] * (2 * module.n_heads), [module.config.d_state] * (2 * groups)
        return {"in_proj": [*z_and_x, *b_and_c, module.n_heads]}
    return {}
