"""A soft prompt: a document compressed to the few vectors of a wire, which frozen language models read in place of its text.

    documents -> compressor -> wire z (B, M, d_z), rounded to its bits -> adapter of each model -> its prompts

The frozen models are parts of the model and never trained nor saved; `frozen_base` says which they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, Protocol, runtime_checkable

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ripstop.batch import DataInfo
from ripstop.config import ArmName, ConfigError, Size
from ripstop.frozen import FROZEN
from ripstop.frozen.base import FrozenConfig, FrozenLM
from ripstop.frozen.cache import KeyValues
from ripstop.frozen.prompt import PromptBuilder, PromptConfig, Shot
from ripstop.models import soft_prompt_costs as costs
from ripstop.models.adapter import AdapterConfig, EmbeddingAdapter, KeyValueAdapter
from ripstop.models.base import Model, ModelConfig
from ripstop.models.compressors import COMPRESSORS
from ripstop.models.compressors.base import CompressorConfig, Reading, WireShape
from ripstop.models.document_reader import FeatureReader, read_bytes, read_nothing
from ripstop.models.latent_basis import embeddings, map_between, principal_basis
from ripstop.models.words_lost import candidates, words_lost
from ripstop.wire.quantize import Bits, WireFormat, straight_through

STATISTICS = 8
"""Examples whose documents tell the means and deviations of hidden states."""


class Example(Protocol):
    """A question with its document and the answers that are right."""

    @property
    def document(self) -> str: ...
    @property
    def question(self) -> str: ...
    @property
    def answers(self) -> Sequence[str]: ...


@runtime_checkable
class HasQuestions(Protocol):
    """What data of questions tells a model."""

    def examples(self, n: int) -> Sequence[Example]:
        """To put before every question; the first ones of a larger `n`."""

    def training_documents(self) -> Sequence[str]:
        """The documents to train on, each once."""


class SoftPromptConfig(ModelConfig):
    """frozen: name -> the frozen models that read the wire.

    features_of: name of the one whose token embeddings and hidden states the compressor reads; null for one that reads bytes or
    nothing. feature_layer: the block whose input those hidden states are; none given: two thirds up.
    Hidden states are computed once a document and kept, on disk and in memory.
    n_vectors, d_z: M vectors of d_z numbers are the wire. bits, group: how it is rounded, in training as well; null: it is not.
    """

    kind: Literal["soft_prompt"] = "soft_prompt"
    frozen: dict[ArmName, Annotated[FrozenConfig, FROZEN]] = Field(min_length=1)
    features_of: str | None = None
    feature_layer: int | None = Field(None, ge=0)
    compressor: Annotated[CompressorConfig, COMPRESSORS]
    n_vectors: Size
    d_z: Size = 256
    bits: Bits | None = None
    group: Size = 32
    adapter: AdapterConfig = AdapterConfig()
    prompt: PromptConfig = PromptConfig()

    @model_validator(mode="after")
    def _fits(self) -> SoftPromptConfig:
        for name in self.frozen:
            if hasattr(nn.ModuleDict, name):
                raise ConfigError(f"frozen: {name!r} cannot name a model, torch uses the word itself; choose another name")
        reads = self.compressor.reads
        if reads == "features" and self.features_of not in self.frozen:
            raise ConfigError(
                f"features_of: compressor {self.compressor.kind} reads features of a frozen model; name one of "
                f"{', '.join(self.frozen)}"
            )
        if reads != "features" and self.features_of is not None:
            raise ConfigError(f"features_of: compressor {self.compressor.kind} reads {reads}; set it to null")
        self.check_size()
        return self

    def wire_format(self, bits: Bits | None = None) -> WireFormat:
        """How a wire is sent: in `bits`, else in those that it is trained with, else fp16."""
        return WireFormat(bits=bits or self.bits or "fp16", group=self.group, n_vectors=self.n_vectors, width=self.d_z)

    def build(self, data: DataInfo) -> SoftPrompt:
        return SoftPrompt(self, data)

    def layout(self) -> dict[str, Any]:
        return {"wire": f"{self.n_vectors} x {self.d_z}", "read_by": list(self.frozen), "compressor": self.compressor.kind}

    def params_by_part(self, vocab_size: int) -> dict[str, int]:
        """Trainable and frozen parts. The data brings no vocabulary: each frozen model has its own."""
        return costs.params_by_part(self)

    def flops_per_token(self, vocab_size: int, seq_len: int, source_len: int | None = None) -> int:
        """Of every frozen model, with logits at each token."""
        known = [found for frozen in self.frozen.values() if (found := costs.sizes(frozen)) is not None]
        return sum(costs.reading_flops(found, seq_len, seq_len) for found in known) // seq_len

    def batch_flops(self, vocab_size: int, batch: Any) -> int:
        return costs.batch_flops(self, batch)

    def state_bytes(self, seq_len: int, dtype: torch.dtype = torch.bfloat16, source_len: int | None = None) -> int:
        return costs.state_bytes(self, seq_len, dtype)


class SoftPrompt(Model):
    """lms, builders, adapters: by the names of `frozen`.

    What it is asked for is a wire and what the frozen models read of it; logits of answers are between `frozen.scoring` and the
    prompts that `builders` make.
    """

    lms: Mapping[str, FrozenLM]
    adapters: Mapping[str, EmbeddingAdapter | KeyValueAdapter]

    def __init__(self, config: SoftPromptConfig, data: DataInfo):
        super().__init__()
        self.config = config
        self.lms = _modules({name: frozen.build(name) for name, frozen in config.frozen.items()})
        for name, frozen in config.frozen.items():
            costs.remember(frozen, self.lms[name])
        self.frozen_base = "; ".join(f"{name}: {lm.identity}" for name, lm in self.lms.items())
        if not isinstance(data, HasQuestions):
            raise ConfigError("model soft_prompt needs data with questions on documents; use kind: questions")
        found = data.examples(max(config.prompt.n_shots, STATISTICS))
        shots = [Shot(example.document, example.question, example.answers[0]) for example in found]
        self.builders = {name: PromptBuilder(lm, config.prompt, shots) for name, lm in self.lms.items()}
        self._training_documents = data.training_documents
        self._rarity: dict[str, Tensor] = {}
        self._reads = self._reader(shots)
        shape = WireShape(config.n_vectors, config.d_z, self.lms[config.features_of].width if config.features_of else None)
        self.compressor = config.compressor.build(shape)
        wire = config.n_vectors, config.d_z
        self.adapters = _modules({name: config.adapter.build(*wire, lm.sizes) for name, lm in self.lms.items()})
        with torch.no_grad():
            self._start(shots)

    def _reader(self, shots: Sequence[Shot]) -> Callable[[Sequence[str], torch.device], Reading]:
        config = self.config
        if config.features_of is None:
            return read_bytes if config.compressor.reads == "bytes" else read_nothing
        lm = self.lms[config.features_of]
        layer = 2 * lm.n_layers // 3 if config.feature_layer is None else config.feature_layer
        return FeatureReader(lm, layer, [shot.document for shot in shots], self._training_documents)

    def _start(self, shots: Sequence[Shot]) -> None:
        """The latent space begins as the principal directions of one model's embeddings, which the others are mapped from."""
        first = self.lms[self.config.features_of or next(iter(self.lms))]
        basis = principal_basis(first, self.config.d_z)
        if self.config.features_of:
            self.compressor.start(*basis)
        for name, lm in self.lms.items():
            adapter = self.adapters[name]
            if isinstance(adapter, KeyValueAdapter):
                past = lm.prefix([*lm.bos, *(i for shot in shots for i in lm.words(shot.document))])
                assert past is not None
                adapter.start(past)
            elif lm is first:
                adapter.start(basis.directions_DZ.T, basis.mean_D)
            else:
                adapter.start(*map_between(first, lm, basis))

    def wire(self, documents: Sequence[str], rounded: bool = True) -> Tensor:
        """The wires (B, M, d_z) of documents, as they arrive: rounded to the configuration's `bits`, where there are any.

        The gradient passes the rounding as if it were not there. rounded: False for the numbers before it.
        """
        z_BMZ = self.compressor(self.read(documents))
        return z_BMZ if self.config.bits is None or not rounded else straight_through(z_BMZ, self.config.wire_format())

    def embeddings(self, z_BMZ: Tensor, name: str) -> Tensor:
        """Soft embeddings (B, M, D) of wires for the model `name`. `ConfigError` where it reads keys and values."""
        adapter = self.adapters[name]
        if isinstance(adapter, KeyValueAdapter):
            raise ConfigError(
                "reconstruction reads soft embeddings, and model.adapter.output is key_values; leave one of them out"
            )
        return adapter(z_BMZ, self.lms[name].embedding_rms)

    def soft(self, z_BMZ: Tensor, name: str) -> Sequence[Tensor | KeyValues]:
        """What stands for each document in a prompt of the model `name`, see `PromptBuilder.soft`."""
        adapter = self.adapters[name]
        if isinstance(adapter, KeyValueAdapter):
            return adapter(z_BMZ)
        return list(self.embeddings(z_BMZ, name))

    def read(self, documents: Sequence[str]) -> Reading:
        """What the compressor reads of documents. `ConfigError` where one of them holds nothing to read."""
        return self._reads(documents, next(self.compressor.parameters()).device)

    def words_lost(self, z_BMZ: Tensor, documents: Sequence[str], name: str, lead: int = 0) -> Tensor:
        """(B,): how much of each document's words its soft prompt for the model `name` has lost, see `words_lost.py`."""
        lm, soft_BMD = self.lms[name], self.embeddings(z_BMZ, name)
        ids = [torch.tensor(lm.words(text)) for text in documents]
        table_CD = embeddings(lm, candidates(ids)).to(soft_BMD.device)
        return words_lost(soft_BMD, ids, table_CD, self._rarity_of(name), lead)

    def _rarity_of(self, name: str) -> Tensor:
        """(V,): 1 / sqrt(1 + n) of every token of the model `name`, n the documents to train on that it stands in."""
        if name not in self._rarity:
            lm = self.lms[name]
            n_V = torch.zeros(lm.vocab_size)
            for text in self._training_documents():
                n_V[sorted(set(lm.words(text)))] += 1
            self._rarity[name] = (1 + n_V).rsqrt()
        return self._rarity[name]


def _modules(modules: Mapping[str, nn.Module]) -> Any:
    return nn.ModuleDict(modules)
