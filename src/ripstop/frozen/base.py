"""A frozen causal language model of `transformers` with its tokenizer: embeddings in, logits and keys and values out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from ripstop.config import ConfigError, Strict
from ripstop.frozen.cache import Past, as_cache, masks, windows

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SAMPLES = 64
"""Numbers of each weight that its identity is the digest of."""
PREFIXES = 4
"""Prefixes whose keys and values are kept; the one read longest ago goes first."""


class FrozenLM(nn.Module):
    """A language model that nothing trains: no parameter has a gradient, and it stays in eval mode whatever is asked.

    Everything is read through `read`, whose masks follow positions alone, sliding windows included: so padding on either
    side, a prefix read before, and keys and values put in between give what one plain sequence gives. It computes in the
    number format of its weights; no autocast around it changes a number.

    name: what a study calls it. identity: its source, and the digest of its weights and tokenizer.
    width: D of its embeddings. embedding_rms: root mean square of the embedding table as the layers see it.
    bos: ids that every prompt begins with, what the tokenizer itself puts before a text, which may be none. eos: ids that
    end a text. newlines: ids whose text has a newline.
    """

    def __init__(self, name: str, source: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase):
        super().__init__()
        self.name = name
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        config = model.config.get_text_config(decoder=True)
        self.width: int = config.hidden_size
        self.n_layers: int = config.num_hidden_layers
        heads: int = config.num_attention_heads
        self.n_kv_heads: int = getattr(config, "num_key_value_heads", None) or heads
        self.head_dim: int = getattr(config, "head_dim", None) or self.width // heads
        self.vocab_size: int = model.get_output_embeddings().weight.shape[0]
        self.max_positions: int | None = getattr(config, "max_position_embeddings", None)
        self._sharded = len(set((getattr(model, "hf_device_map", None) or {}).values())) > 1
        self._windows = windows(name, config)
        self._prefixes: dict[Any, Past] = {}
        self.bos = _bos(tokenizer)
        self.eos = _eos(model, tokenizer)
        self.newlines = _newlines(self)
        self.identity = f"{source} sha256:{self._digest()}"
        self.embedding_rms = self._embedding_rms()
        text = "Answer: two words\n"
        if self.decode(self.encode("Answer:") + self.encode(" two words") + self.encode("\n")) != text:
            raise ConfigError(f"{name}: the tokenizer changes a text that is encoded in pieces; choose a model without that")

    def train(self, mode: bool = True) -> FrozenLM:
        """Nothing: it stays in eval mode."""
        return super().train(False)

    def requires_grad_(self, requires_grad: bool = True) -> FrozenLM:
        """`TypeError` where gradients are asked for."""
        if requires_grad:
            raise TypeError(f"{self.name}: is frozen, its parameters take no gradient")
        super().requires_grad_(False)
        return self

    @property
    def sizes(self) -> Sizes:
        """What it weighs."""
        config = self.model.config.get_text_config(decoder=True)
        n_params = sum(p.numel() for p in self.model.parameters())
        tied = self.model.get_input_embeddings().weight is self.model.get_output_embeddings().weight
        heads = config.num_attention_heads
        return Sizes(self.width, self.n_layers, heads, self.n_kv_heads, self.head_dim, self.vocab_size, n_params, tied)

    @property
    def device(self) -> torch.device:
        """Where its embeddings lie, and so its inputs."""
        return self.model.get_input_embeddings().weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.model.get_input_embeddings().weight.dtype

    def encode(self, text: str, specials: bool = False) -> list[int]:
        """Token ids of `text`, none added. specials: a special token that is spelt out is that token; else it is text."""
        ids = self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=not specials)
        return list(ids)

    def words(self, text: str) -> list[int]:
        """Token ids of `text` as it stands inside a longer one: a space before it, white space as single spaces."""
        return self.encode(" " + " ".join(text.split()))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`, special tokens left out."""
        text = self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert isinstance(text, str)
        return text

    def embed(self, ids_T: Tensor | Sequence[int] | Sequence[Sequence[int]]) -> Tensor:
        """Embeddings as the first layer sees them, (T, D) or (B, T, D)."""
        ids_T = torch.as_tensor(ids_T, dtype=torch.long, device=self.device)
        with torch.no_grad():
            return self.model.get_input_embeddings()(ids_T)

    def read(
        self,
        x_BTD: Tensor,
        positions_BT: Tensor,
        valid_BT: Tensor,
        past: Past | None = None,
        at_BT: Tensor | None = None,
        keep: bool = False,
    ) -> tuple[Tensor, Past | None]:
        """Read T more tokens of each row after `past`. Logits (N, V) in float32 at the N places that the boolean `at_BT`
        names, row by row (none named: at the last place of each row), and the past with these tokens, where `keep` asks for
        it. Differentiable in `x_BTD` and in the past's keys and values.

        valid_BT: False for padding, which nothing sees; what stands there has no effect.
        """
        self.assert_frozen()
        if at_BT is None:
            at_BT = torch.zeros_like(valid_BT)
            at_BT[:, -1] = True
        positions_BS = positions_BT if past is None else torch.cat([past.positions_BS, positions_BT], 1)
        valid_BS = valid_BT if past is None else torch.cat([past.valid_BS, valid_BT], 1)
        cache = as_cache(past) if past is not None or keep else None
        with torch.autocast(self.device.type, enabled=False):
            output = self.model(
                inputs_embeds=x_BTD.to(self.dtype),
                attention_mask=masks(self._windows, positions_BT, positions_BS, valid_BS, self.dtype),
                position_ids=positions_BT,
                past_key_values=cache,
                use_cache=cache is not None,
                logits_to_keep=at_BT.cpu() if self._sharded else at_BT,  # the head is on another device than the embeddings
            )
        logits_NV = output.logits.float()
        if not keep:
            return logits_NV, None
        assert cache is not None
        keys, values = tuple(layer.keys for layer in cache.layers), tuple(layer.values for layer in cache.layers)
        return logits_NV, Past(keys, values, positions_BS, valid_BS)

    def prefix(self, ids: Sequence[int]) -> Past | None:
        """Keys and values (1, G, S, K) of a text that many prompts begin with, read once; None for an empty one."""
        if not ids:
            return None
        key = (tuple(ids), self.device, self.dtype)
        if key not in self._prefixes:
            # Not in inference mode even where the caller is: what is kept serves trainings too.
            with torch.inference_mode(False), torch.no_grad():
                x_BTD = self.embed([list(ids)])
                positions_BT = torch.arange(len(ids), device=self.device)[None]
                _, past = self.read(x_BTD, positions_BT, torch.ones_like(positions_BT, dtype=torch.bool), keep=True)
            assert past is not None
            while len(self._prefixes) >= PREFIXES:
                del self._prefixes[next(iter(self._prefixes))]
            self._prefixes[key] = past
        self._prefixes[key] = self._prefixes.pop(key)
        return self._prefixes[key]

    @torch.no_grad()
    def hidden(self, ids_BT: Tensor, mask_BT: Tensor, layer: int) -> Tensor:
        """Hidden states (B, T, D) that block number `layer` would read, 0 the embeddings, for `layer` < n_layers.

        mask_BT: True where a token stands; padding may be on either side. The blocks from `layer` on are not computed.
        """
        if not 0 <= layer < self.n_layers:
            raise ConfigError(f"{self.name}: has no hidden states before layer {layer}; name one from 0 to {self.n_layers - 1}")
        positions_BT = (mask_BT.long().cumsum(1) - 1).clamp(min=0)
        found: list[Tensor] = []

        def stop(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            found.append(args[0] if args else kwargs["hidden_states"])
            raise _Reached

        hook = self._blocks()[layer].register_forward_pre_hook(stop, with_kwargs=True)
        try:
            self.read(self.embed(ids_BT), positions_BT, mask_BT.bool())
        except _Reached:
            pass
        finally:
            hook.remove()
        return found[0]

    def assert_frozen(self) -> None:
        """`AssertionError` where somebody made a parameter trainable or left eval mode."""
        trainable = [name for name, p in self.named_parameters() if p.requires_grad]
        assert not trainable, f"{self.name}: is frozen, yet trains {trainable[0]} and {len(trainable) - 1} more"
        assert not self.model.training, f"{self.name}: is frozen, yet in training mode"

    @torch.no_grad()
    def check(self) -> None:
        """`ConfigError` where our masks and positions do not give what the model gives by itself for the same tokens.

        Read in two pieces with padding before the second, so that a wrong mask, position, embedding scale or cache shows.
        """
        ids = [*self.bos, *self.encode("Question: Who wrote it?\nAnswer: two words\n")]
        expected_TV = self.model(input_ids=torch.tensor([ids], device=self.device)).logits[0].float()
        half, pads = len(ids) // 2, 3
        past = self.prefix(ids[:half])
        self._prefixes.clear()
        x_BTD = self.embed([[0] * pads + ids[half:]])
        positions_BT = torch.tensor([[0] * pads + list(range(half, len(ids)))], device=self.device)
        valid_BT = torch.arange(x_BTD.shape[1], device=self.device)[None] >= pads
        got_TV, _ = self.read(x_BTD, positions_BT, valid_BT, past, at_BT=valid_BT)
        difference = float((got_TV - expected_TV[half:].to(got_TV.device)).abs().max() / expected_TV.std())
        if not difference < (0.01 if self.dtype == torch.float32 else 0.3):
            raise ConfigError(
                f"{self.name}: read in pieces, it gives other logits than at once (by {difference:.2g} standard deviations); "
                f"its architecture {type(self.model).__name__} cannot be used"
            )

    def _blocks(self) -> nn.ModuleList:
        """The layers of the decoder: its list of as many modules."""
        for module in self.model.modules():
            if isinstance(module, nn.ModuleList) and len(module) == self.n_layers:
                return module
        raise ConfigError(f"{self.name}: {type(self.model).__name__} has no list of its layers; choose another architecture")

    @torch.no_grad()
    def _digest(self) -> str:
        """16 hex digits of samples of every weight, rounded to bfloat16, and of the vocabulary."""
        found = hashlib.sha256(json.dumps(sorted(self.tokenizer.get_vocab().items())).encode())
        for name, p in sorted(self.model.named_parameters()):
            some = p.detach().flatten()[:: max(1, p.numel() // SAMPLES)][:SAMPLES]
            found.update(f"{name} {tuple(p.shape)}".encode())
            found.update(some.to("cpu", torch.bfloat16).view(torch.int16).numpy().tobytes())
        return found.hexdigest()[:16]

    @torch.no_grad()
    def _embedding_rms(self) -> float:
        table = self.model.get_input_embeddings()
        ids = torch.arange(table.weight.shape[0], device=self.device)
        total = sum(float(table(some).float().square().sum()) for some in ids.split(2**14))
        return float((total / table.weight.numel()) ** 0.5)


class Sizes(NamedTuple):
    """What a model weighs, known without its weights.

    n_params: all of them, its tables of tokens among them. tied: one table is both embedding and head.
    """

    width: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    vocab_size: int
    n_params: int
    tied: bool


class FrozenConfig(Strict):
    """How the weights of a frozen model are had. Subclasses add `kind: Literal[...]` and implement `build`."""

    kind: str

    def build(self, name: str, device: torch.device | str = "cpu") -> FrozenLM:
        """The model, checked. `ConfigError` in one sentence where it cannot be had or used."""
        raise NotImplementedError(f"{type(self).__name__}: a source of frozen models has to define build(self, name, device)")

    def sizes(self) -> Sizes | None:
        """What its model weighs; None: nobody knows before it is there."""
        return None


class _Reached(Exception):  # noqa: N818 - it ends a forward pass, nothing is wrong
    """The layer whose input is asked for."""


def _bos(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """What the tokenizer puts before a text by itself."""
    plain = list(tokenizer.encode("a", add_special_tokens=False))
    full = list(tokenizer.encode("a", add_special_tokens=True))
    return next((full[:n] for n in range(len(full)) if full[n : n + len(plain)] == plain), [])


def _eos(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    named = [tokenizer.eos_token_id, model.config.eos_token_id, getattr(model.generation_config, "eos_token_id", None)]
    return frozenset(i for ids in named if ids is not None for i in (ids if isinstance(ids, list | tuple) else [ids]))


def _newlines(lm: FrozenLM) -> frozenset[int]:
    # As byte-level BPE and SentencePiece spell a newline; what else has the letter is told apart by decoding it.
    some = [i for token, i in lm.tokenizer.get_vocab().items() if "\n" in token or "\u010a" in token or token == "<0x0A>"]
    return frozenset(i for i in some if "\n" in lm.decode([i])) | {lm.encode("\n")[-1]}
