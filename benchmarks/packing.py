"""Training tokens/s of the translator: windows in rows of their own and packed, and the Marian of transformers beside it.

    OMP_NUM_THREADS=1 python benchmarks/packing.py [--out benchmarks/results/packing.json] [--repeats 12] [--scale cpu]

One process, in turns: a whole update each (forward, backward, clipping, AdamW), so that what else the machine does meets all
alike. Marian has the translator's widths, layers, heads and tables, trains on the same unpacked batches, and computes in the
same number format. Tokens are those of the texts, without padding. CPU time is compared on a CPU, wall time on a GPU.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ripstop import params, provenance
from ripstop.batch import StreamPlan, TokenBatch
from ripstop.data.documents import DocumentsConfig
from ripstop.files import write_text
from ripstop.models.pattern import parse
from ripstop.models.translator import TranslatorConfig
from ripstop.runs import Run
from ripstop.studies import hybrid_ratio
from ripstop.studies.base import runs
from ripstop.training.precision import prepare_device

HERE = Path(__file__).resolve().parents[1]
Loss = Callable[[TokenBatch], Tensor]


def real_tokens(batch: TokenBatch) -> int:
    assert batch.segments_BT is not None and batch.source_segments_BS is not None
    return int((batch.segments_BT != 0).sum() + (batch.source_segments_BS != 0).sum())


def ours(model: nn.Module) -> Loss:
    def loss(batch: TokenBatch) -> Tensor:
        asked_BT = batch.asked_BT
        return F.cross_entropy(model(batch, asked_BT).float(), batch.targets_BT[asked_BT])

    return loss


def marian(config: TranslatorConfig, vocab_size: int) -> nn.Module:
    """transformers' Marian of the same widths, layers and tables, without dropout."""
    from transformers import MarianConfig, MarianMTModel

    d_mlp = 0 if config.mlp is None else round(1.5 * config.mlp.width(config.d_model))  # ours has a gate beside
    layers = len(config.encoder_layers), len(parse(config.decoder_pattern))
    return MarianMTModel(
        MarianConfig(
            vocab_size=vocab_size, decoder_vocab_size=vocab_size, d_model=config.d_model,
            encoder_layers=layers[0], decoder_layers=layers[1],
            encoder_attention_heads=config.n_cross_heads, decoder_attention_heads=config.n_cross_heads,
            encoder_ffn_dim=d_mlp, decoder_ffn_dim=d_mlp, share_encoder_decoder_embeddings=config.share_embeddings,
            tie_word_embeddings=config.tie_embeddings, activation_function="swish", dropout=0.0, attention_dropout=0.0,
            max_position_embeddings=4096, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
            forced_eos_token_id=None, use_cache=False,
        )
    )  # fmt: skip


def theirs(model: nn.Module) -> Loss:
    def loss(batch: TokenBatch) -> Tensor:
        assert batch.segments_BT is not None and batch.source_segments_BS is not None
        return model(
            input_ids=batch.source_BS, attention_mask=batch.source_segments_BS, decoder_input_ids=batch.tokens_BT,
            decoder_attention_mask=batch.segments_BT, labels=batch.targets_BT, use_cache=False,
        ).loss  # fmt: skip

    return loss


class Trained:
    """A model and its batches; `turn` is one update."""

    def __init__(self, name: str, model: nn.Module, loss: Loss, batches: list[TokenBatch], device: torch.device, bf16: bool):
        self.name, self.model, self.loss, self.device, self.bf16 = name, model.to(device).train(), loss, device, bf16
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, fused=True)
        self.batches = [(real_tokens(batch), batch.n_tokens, batch.to(device)) for batch in batches]
        self.speeds: list[float] = []

    def turn(self, number: int, kept: bool) -> None:
        real, _, batch = self.batches[number % len(self.batches)]
        start = self._clock()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            loss = self.loss(batch)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        if kept:
            self.speeds.append(real / (self._clock() - start))

    def _clock(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time()

    def row(self) -> dict[str, Any]:
        read, real = (sum(b[i] for b in self.batches) for i in (1, 0))
        return {
            "name": self.name,
            "parameters": sum(p.numel() for p in self.model.parameters() if p.requires_grad),
            "tokens_per_s": statistics.median(self.speeds),
            "padding": 1 - real / read,
            "rows": [len(b[2].tokens_BT) for b in self.batches],
        }


def a_run(scale: str) -> Run:
    file = HERE / "params.yaml"
    values = params.load(file).study("hybrid_ratio", scale)
    ratio = values["ablations"]["ratio"]
    made = runs(hybrid_ratio, values, scale, str(file))
    return next(run for run in made if (run.factors["ratio"], run.factors["ablation"]) == (ratio, "none"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="write the figures as JSON here")
    parser.add_argument("--repeats", type=int, default=12, help="measured updates of each")
    parser.add_argument("--scale", default="cpu")
    parser.add_argument("--rows", type=int, default=4, help="packed rows of a batch")
    arguments = parser.parse_args()
    run = a_run(arguments.scale)
    data, config, training = run.data, run.model, run.training
    assert isinstance(data, DocumentsConfig) and isinstance(config, TranslatorConfig) and training is not None
    device, bf16 = prepare_device(run.compute, training.precision), training.precision == "bf16"
    tokens = training.tokens_per_step // training.accumulation
    capacity = max(data.max_tokens, tokens // (2 * arguments.rows))
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder)
        plain = data.replace(long=None, token_vectors=None)
        plain.prepare(prepared)
        plan = StreamPlan(1, tokens, 1, 0)
        streams = {"rows of their own": plain.stream(prepared, plan)}
        streams["packed"] = plain.replace(pack=capacity).stream(prepared, plan)
        batches = {name: [next(stream) for _ in range(arguments.repeats)] for name, stream in streams.items()}
        info = plain.info(prepared)
    made: list[Trained] = []
    for name, found in batches.items():
        torch.manual_seed(0)
        model = config.replace(start=[]).build(info)
        made.append(Trained(name, model, ours(model), found, device, bf16))
    reason = None if importlib.util.find_spec("transformers") else "transformers is not installed: pip install transformers"
    if reason is None:
        torch.manual_seed(0)
        model = marian(config, info.vocab_size)
        made.append(Trained("Marian of transformers", model, theirs(model), batches["rows of their own"], device, bf16))
    else:
        print(f"Marian: not run, {reason}", flush=True)
    for number in range(-2, arguments.repeats):
        for one in made:
            one.turn(number, kept=number >= 0)
    rows = [one.row() for one in made]
    speed = {row["name"]: row["tokens_per_s"] for row in rows}
    ratios = {f"{name} / rows of their own": value / speed["rows of their own"] for name, value in speed.items()}
    report = {
        "rows": rows, "ratios": ratios, "tokens_per_step": tokens, "packed_row": capacity, "scale": arguments.scale,
        "marian": reason or "run", "commit": provenance.commit(), "load": os.getloadavg(), "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else provenance.processor(),
        "versions": provenance.versions(),
    }  # fmt: skip
    for row in rows:
        print(json.dumps(row | {"rows": row["rows"][:4]}), flush=True)
    print(json.dumps(ratios), flush=True)
    if arguments.out:
        write_text(arguments.out, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
