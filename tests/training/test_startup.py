"""What a job on a CPU does not wait for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import ripstop

UPDATE = """
import sys
import torch
from ripstop.batch import TokenBatch, Vocabulary
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.models.soft_prompt import SoftPromptConfig
from ripstop.evaluation import evaluate
from ripstop.training import train
from ripstop.training.objectives.cross_entropy import cross_entropy
from ripstop.training.optimizers.adamw import AdamwConfig
from ripstop.training.optimizers.lion import LionConfig
from ripstop.training.optimizers.muon import MuonConfig

mixers = {"M": {"kind": "mamba2", "head_dim": 8}, "W": {"kind": "sliding_window", "window_size": 3, "d_conv": 4}}
mixers |= {"A": {"kind": "attention"}, "B": {"kind": "bidirectional", "mixer": {"kind": "mamba2", "head_dim": 8}}}
model = DecoderOnlyConfig.parse({"d_model": 16, "pattern": "MWA", "mixers": mixers}, "").build(Vocabulary(9))
tokens_BT = torch.arange(9).expand(2, -1)
for config in (AdamwConfig, LionConfig, MuonConfig):
    optimizer = config().build(model)
    optimizer.zero_grad()
    cross_entropy(model, TokenBatch(tokens_BT, tokens_BT)).sum.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
compressors = {"pointer": "first", "feature_resampler": "first", "byte_resampler": None, "mean_pool": "first", "constant": None}
for kind, features in compressors.items():  # its parameters are counted where it is checked
    values = {"frozen": {"first": {"kind": "package", "model": "smollm2_135m"}}, "features_of": features}
    SoftPromptConfig.parse({**values, "compressor": {"kind": kind}, "n_vectors": 2}, "")
slow = {"torch._dynamo", "sympy", "torch.distributed.fsdp", "torch.utils.tensorboard", "datasets", "pandas", "matplotlib"}
sys.exit(", ".join(sorted(slow & set(sys.modules))) or None)
"""


def test_no_compiler_is_imported_where_nothing_is_compiled() -> None:
    """It takes two seconds, of every training and every part of an evaluation."""
    source = str(Path(ripstop.__file__).parents[1])
    run = subprocess.run([sys.executable, "-c", UPDATE], env={"PYTHONPATH": source}, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
