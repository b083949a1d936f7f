"""What sparse attention selects: the blocks of each token, how often by part of the sequence, and what luck would come to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ripstop.batch import TokenBatch
from ripstop.config import ConfigError
from ripstop.mixers.nsa import NSAConfig
from ripstop.mixers.nsa.trace import BRANCHES, Trace, tracing
from ripstop.models.base import Model, ModelConfig
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.records import Measurement, Scalar


def sparse_layers(config: ModelConfig) -> list[NSAConfig]:
    """The layers of a decoder that select blocks, in order."""
    if not isinstance(config, DecoderOnlyConfig):
        raise ConfigError(f"what is selected is looked at in a decoder_only, and this model is {config.kind}")
    return [mixer for mixer in config.stack.mixers if isinstance(mixer, NSAConfig)]


def look(model: Model, batch: TokenBatch) -> Trace:
    """What every sparse layer does when the model reads the batch whole."""
    with tracing() as trace, torch.inference_mode():
        model(batch, torch.zeros_like(batch.asked_BT))
    return trace


def selected(ids_BTGn: Tensor, select_block: int) -> Tensor:
    """Bool, (B, T, G, M): which of the M blocks of the sequence each token selected."""
    n_blocks = -(-ids_BTGn.shape[1] // select_block)
    return _marked(ids_BTGn, ids_BTGn, n_blocks)


def shares(ids_BTGn: Tensor, select_block: int, n_parts: int) -> Tensor:
    """(n_parts, n_parts): of the tokens in a part of the sequence, the share that selected a block which begins in another;
    a mean over rows and groups. The parts are equally long, but for rounding."""
    n_time = ids_BTGn.shape[1]
    if n_time < n_parts:
        raise ConfigError(f"a sequence of {n_time} tokens has no {n_parts} parts; look at fewer, or at a longer one")
    chosen_BTGP = _marked(ids_BTGn, ids_BTGn * select_block * n_parts // n_time, n_parts)
    part_T = torch.arange(n_time, device=ids_BTGn.device) * n_parts // n_time
    return torch.stack([chosen_BTGP[:, part_T == part].double().mean((0, 1, 2)) for part in range(n_parts)])


def random_recall(mixer: NSAConfig, place: Tensor, n_read: Tensor) -> Tensor:
    """Probability that a random selection reads the block of `place`, when the last of `n_read` tokens asks.

    The first `n_first` and last `n_local` blocks always are read; the rest of the `n_selected` falls on the others alike.
    """
    block, n_blocks = place // mixer.select_block, (n_read - 1) // mixer.select_block + 1
    n_forced = n_blocks.clamp(max=mixer.n_first + mixer.n_local)
    forced = (block < mixer.n_first) | (block >= n_blocks - mixer.n_local)
    share = (mixer.n_selected - n_forced) / (n_blocks - n_forced).clamp(min=1)
    return torch.where(forced, 1.0, share.double().clamp(0, 1))


def pictured(trace: Trace, sparse: Sequence[NSAConfig], n_parts: int) -> Iterator[Measurement]:
    """The mean gate of each branch and layer; and the shares of each layer, but for parts that lie in the future."""
    for number, (layer, mixer) in enumerate(zip(trace.layers, sparse, strict=True)):
        n_time = layer.ids_BTGn.shape[1]
        for branch, gate in zip(BRANCHES, layer.gates.tolist(), strict=True):
            yield Measurement("gate", gate, "fraction", n_time, {"layer": number, "branch": branch})
        for query, share_P in enumerate(shares(layer.ids_BTGn, mixer.select_block, n_parts).tolist()):
            for key, share in enumerate(share_P[: query + 1]):
                place: dict[str, Scalar] = {"layer": number, "query_part": query, "key_part": key}
                yield Measurement("selected_share", share, "fraction", n_time, place)


def _marked(ids_BTGn: Tensor, column_BTGn: Tensor, n_columns: int) -> Tensor:
    """Bool, (B, T, G, n_columns): the columns that are named; where an id is -1 nothing is."""
    column_BTGn = torch.where(ids_BTGn < 0, n_columns, column_BTGn)
    marked = torch.zeros(*ids_BTGn.shape[:3], n_columns + 1, dtype=torch.bool, device=ids_BTGn.device)
    return marked.scatter_(3, column_BTGn, True)[..., :n_columns]
