"""A tiny language model drawn from a seed, with a byte-level tokenizer: for the smoke scale and tests. No download."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field, model_validator

from ripstop.config import Size
from ripstop.frozen.base import FrozenConfig, FrozenLM, Sizes

SPECIALS = ("<pad>", "<bos>", "<eos>", "<|im_start|>", "<|im_end|>")
CHAT = (
    "{{ bos_token }}{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXT = (
    "The answer to a question is often a name, a place or a number that the context tells. Context: the river runs through "
    "the old town, and the bridge that was built there in the year of the flood is the oldest of the country. Question: "
    "which river runs through the town, when was the bridge built, who was the first to cross it, and what is it called? "
    "Answer: it is the name of the saint who was born there. She was an author and a painter, he was a singer and an actor."
)
"""What the merges of the tokenizer are learnt from."""


class RandomConfig(FrozenConfig):
    """A model of random weights. Two seeds, or two numbers of merges, make two models that share no more than text.

    architecture: llama (full attention), or gemma (every other layer sees a window of `window` tokens, scaled embeddings).
    merges: of the byte-level BPE, learnt from a few lines of English; 0 leaves bytes.
    """

    kind: Literal["random"] = "random"
    architecture: Literal["llama", "gemma"] = "llama"
    seed: int = Field(0, ge=0)
    width: Size = 32
    n_layers: int = Field(2, ge=1, le=64)
    n_heads: Size = 2
    n_kv_heads: Size = 1
    merges: int = Field(0, ge=0, le=150)
    window: int = Field(16, ge=1)

    @model_validator(mode="after")
    def _heads_fit(self) -> RandomConfig:
        if self.width % (2 * self.n_heads):
            raise ValueError(f"width has to be a multiple of twice n_heads, {2 * self.n_heads}")
        if self.n_heads % self.n_kv_heads:
            raise ValueError(f"n_heads has to be a multiple of n_kv_heads, {self.n_kv_heads}")
        return self

    def sizes(self) -> Sizes:
        """By formula; the tokenizer has its special tokens, the bytes and the merges."""
        width, head_dim, vocab_size = self.width, self.width // self.n_heads, len(SPECIALS) + 256 + self.merges
        layer = 2 * width * (width + self.n_kv_heads * head_dim) + 3 * width * 2 * width
        gemma = self.architecture == "gemma"
        norms = 4 * width + 2 * head_dim if gemma else 2 * width
        n_params = vocab_size * width * (1 if gemma else 2) + self.n_layers * (layer + norms) + width
        return Sizes(width, self.n_layers, self.n_heads, self.n_kv_heads, head_dim, vocab_size, n_params, tied=gemma)

    def build(self, name: str, device: torch.device | str = "cpu") -> FrozenLM:
        tokenizer = _tokenizer(self.merges)
        with torch.random.fork_rng(devices=[]):  # the draws of whoever builds it go on as they were
            torch.manual_seed(self.seed)
            model = self._model(len(tokenizer))
        lm = FrozenLM(name, f"random {self.architecture}, seed {self.seed}", model.to(device), tokenizer)
        lm.check()
        return lm

    def _model(self, vocab_size: int) -> Any:
        from transformers import Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM

        common: dict[str, Any] = {
            "vocab_size": vocab_size,
            "hidden_size": self.width,
            "intermediate_size": 2 * self.width,
            "num_hidden_layers": self.n_layers,
            "num_attention_heads": self.n_heads,
            "num_key_value_heads": self.n_kv_heads,
            "head_dim": self.width // self.n_heads,
            "max_position_embeddings": 4096,
            "initializer_range": self.width**-0.5,  # so large that every token matters, as in a trained model
            "tie_word_embeddings": self.architecture == "gemma",
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "attn_implementation": "sdpa",
        }
        if self.architecture == "llama":
            return LlamaForCausalLM(LlamaConfig(**common))
        kinds = ["full_attention" if n % 2 else "sliding_attention" for n in range(self.n_layers)]
        more: dict[str, Any] = {
            "sliding_window": self.window,
            "layer_types": kinds,
            "query_pre_attn_scalar": self.width // self.n_heads,
        }
        return Gemma3ForCausalLM(Gemma3TextConfig(**common | more))


def _tokenizer(merges: int) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    size = len(SPECIALS) + len(alphabet) + merges
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(SPECIALS), initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator([TEXT] if merges else [], trainer)
    inner.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        additional_special_tokens=list(SPECIALS[3:]),
        chat_template=CHAT,
    )
