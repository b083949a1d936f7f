"""Models from a folder: whatever architecture can be read in pieces; what cannot is told in one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from frozen.tiny import builder, lm, plain_logits
from safetensors.torch import load_file, save_file

from ripstop.config import ConfigError
from ripstop.frozen import FROZEN
from ripstop.frozen.base import FrozenLM
from ripstop.frozen.hub import HubConfig
from ripstop.frozen.scoring import answer_logits

COMMON: dict[str, Any] = {
    "vocab_size": 301, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "initializer_range": 0.2, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return saved(tmp_path / "some-model", lm().model)


def saved(folder: Path, model: Any) -> Path:
    model.save_pretrained(folder)
    lm().tokenizer.save_pretrained(folder)
    return folder


def build(folder: Path | str, **settings: Any) -> FrozenLM:
    return HubConfig(path=str(folder), **{"dtype": "float32", **settings}).build("x")


def test_a_folder_gives_the_model_that_was_saved(folder: Path) -> None:
    config = FROZEN.parse({"kind": "hub", "path": str(folder), "dtype": "float32"})
    assert isinstance(config, HubConfig)
    model = config.build("x")
    ids = [1, *model.encode("Who wrote it?")]
    assert torch.equal(plain_logits(model, ids), plain_logits(lm(), ids))
    assert model.identity == f"folder some-model sha256:{lm()._digest()}" and model.name == "x"
    assert (model.bos, model.eos, model.newlines) == (lm().bos, lm().eos, lm().newlines)
    assert builder(model, "chat").prefix_ids == builder(lm(), "chat").prefix_ids


def test_the_default_is_bfloat16_and_logits_are_float32(folder: Path) -> None:
    model = HubConfig(path=str(folder)).build("x")
    assert model.dtype == torch.bfloat16 and {p.dtype for p in model.parameters()} == {torch.bfloat16}
    made = builder(model)
    soft_MD = torch.randn(3, model.width).requires_grad_()
    (logits_AV,) = answer_logits(model, made, [made.soft("Who?", soft_MD)], [made.answer_ids("Ada")])
    assert logits_AV.dtype == torch.float32
    logits_AV.sum().backward()
    assert soft_MD.grad is not None and soft_MD.grad.dtype == torch.float32


@pytest.mark.parametrize(
    ("config", "model"),
    [
        (transformers.Qwen2Config(**COMMON), transformers.Qwen2ForCausalLM),
        (transformers.MistralConfig(**COMMON, head_dim=16, sliding_window=8), transformers.MistralForCausalLM),
        (
            transformers.GPT2Config(
                vocab_size=301, n_embd=32, n_layer=2, n_head=2, initializer_range=0.2, bos_token_id=1, eos_token_id=2
            ),
            transformers.GPT2LMHeadModel,
        ),
    ],
    ids=["qwen2", "mistral", "gpt2"],
)
def test_other_architectures_are_read_in_pieces(config: Any, model: Any, tmp_path: Path) -> None:
    """A window on every layer (Mistral), learnt positions (GPT-2): `build` checks it itself; here once more by prompts."""
    torch.manual_seed(0)
    model = build(saved(tmp_path / "model", model(config)))
    made = builder(model)
    text, answer = made.text("Who?", "Ada wrote it."), made.answer_ids("Ada")
    (ids,) = text.pieces
    assert isinstance(ids, list)
    expected_AV = plain_logits(model, made.prefix_ids + ids + answer)[-len(answer) - 1 : -1]
    soft = made.soft("Who?", model.embed(model.words("Ada wrote it.")))
    with torch.no_grad():
        for prompt in (text, soft):
            got_AV = answer_logits(model, made, [prompt, made.text("Who?", None)], [answer] * 2)[0]
            torch.testing.assert_close(got_AV, expected_AV, rtol=1e-4, atol=1e-4)


def test_what_is_no_causal_language_model_is_refused(tmp_path: Path, folder: Path) -> None:
    bert = transformers.BertConfig(**{k: v for k, v in COMMON.items() if "key_value" not in k})
    with pytest.raises(ConfigError, match="^x: .*cannot be used"):
        build(saved(tmp_path / "bert", transformers.BertLMHeadModel(bert)))
    t5 = transformers.T5Config(vocab_size=301, d_model=32, d_kv=16, d_ff=64, num_layers=1, num_heads=2)
    with pytest.raises(
        ConfigError, match=r"^x: .*/t5: cannot be used as a causal language model \(.*\); choose another `path`$"
    ):
        build(saved(tmp_path / "t5", transformers.T5ForConditionalGeneration(t5)))
    own_code = json.loads((folder / "config.json").read_text())
    own_code |= {"auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}, "model_type": "evil"}
    (folder / "config.json").write_text(json.dumps(own_code))
    (folder / "evil.py").write_text("raise SystemExit('ran')")
    with pytest.raises(ConfigError, match="cannot be used as a causal language model"):
        build(folder)


@pytest.mark.parametrize(
    ("missing", "told"),
    [("config.json", "cannot be used"), ("model.safetensors", "cannot be used"), ("tokenizer.json", "cannot be used")],
)
def test_a_folder_that_lacks_a_file_is_told(missing: str, told: str, folder: Path) -> None:
    (folder / missing).unlink()
    with pytest.raises(ConfigError, match=told) as error:
        build(folder)
    assert "\n" not in str(error.value) and str(folder) in str(error.value)


def test_weights_that_are_missing_are_not_drawn(folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors = {name: t for name, t in tensors.items() if not name.startswith("model.layers.1.mlp")}
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"has no weights model\.layers\.1\.mlp\.down_proj\.weight and 2 more"):
        build(folder)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ConfigError, match="cannot be used as a causal language model"):
        build(folder)


def test_a_path_that_is_none_is_no_question_to_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda *_, **__: pytest.fail("asked"))
    with pytest.raises(ConfigError, match="nowhere: no such folder; correct `path`"):
        build(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="no such folder"):
        build("./nowhere")


def test_transformers_is_as_loud_as_before(folder: Path) -> None:
    from transformers.utils import logging

    before = (logging.get_verbosity(), logging.is_progress_bar_enabled())
    build(folder)
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
