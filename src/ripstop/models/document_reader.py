"""What compressors read of documents: nothing, bytes, or the features of a frozen model, which are computed once a document."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ripstop.config import ConfigError
from ripstop.frozen.base import FrozenLM
from ripstop.frozen.features import Features, features
from ripstop.models.compressors.base import Reading
from ripstop.models.latent_basis import embeddings


def read_nothing(documents: Sequence[str], device: torch.device) -> Reading:
    """Only how many there are."""
    shape = len(documents), 1
    return Reading(torch.ones(shape, dtype=torch.bool, device=device), torch.zeros(shape, dtype=torch.long, device=device))


def read_bytes(documents: Sequence[str], device: torch.device) -> Reading:
    """UTF-8. `ConfigError` where a document is empty."""
    if not all(documents):
        raise ConfigError("a document is empty, and there is nothing to compress; give it a text")
    rows = [torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8).long() for text in documents]
    return Reading(_mask(rows).to(device), pad_sequence(rows, batch_first=True).to(device))


class FeatureReader:
    """Token embeddings and hidden states of a frozen model, read as a prompt would hold the document.

    Hidden states (at the input of block `layer`) are kept in memory once they were read. Every channel is brought to the mean 0
    and deviation 1 that it has in `samples`: single channels of hidden states are hundreds of times larger than all others.
    training: the documents to train on; at the first one that is asked for all are read, since many at once cost less.
    """

    def __init__(self, lm: FrozenLM, layer: int, samples: Sequence[str], training: Callable[[], Sequence[str]]):
        self.lm, self.layer, self.training = lm, layer, training
        self._kept: dict[str, Features] = {}
        hidden_TD = torch.cat([one.float() for one in self._features(samples)])
        self.mean_D = hidden_TD.mean(0)
        self.deviation_D = hidden_TD.std(0, correction=0) + 1e-3 * hidden_TD.std()

    def __call__(self, documents: Sequence[str], device: torch.device) -> Reading:
        """`ConfigError` where a document is empty."""
        wanted = {as_in_prompt(text) for text in documents}
        if not wanted <= self._kept.keys() and not wanted.isdisjoint(self._to_train_on):
            self._features(self._to_train_on)
        found = self._features(documents)
        ids = [one.ids_T for one in found]
        mask_BS, ids_BS = _mask(ids).to(device), pad_sequence(ids, batch_first=True).to(device)
        hidden = [(one.float() - self.mean_D) / self.deviation_D for one in found]
        hidden_BSD = pad_sequence(hidden, batch_first=True).to(device)
        tokens_BSD = embeddings(self.lm, ids_BS).to(device) * mask_BS.unsqueeze(-1)
        return Reading(mask_BS, ids_BS, tokens_BSD, hidden_BSD)

    @functools.cached_property
    def _to_train_on(self) -> list[str]:
        return [as_in_prompt(text) for text in self.training()]

    def _features(self, documents: Sequence[str]) -> list[Features]:
        wanted = [as_in_prompt(text) for text in documents]
        if not all(wanted):
            raise ConfigError("a document is empty, and there is nothing to compress; give it a text")
        missing = [text for text in dict.fromkeys(wanted) if text not in self._kept]
        if missing:
            self._kept |= dict(zip(missing, features(self.lm, missing, self.layer), strict=True))
        return [self._kept[text] for text in wanted]


def as_in_prompt(text: str) -> str:
    """A document with single spaces, as a prompt holds it: see `FrozenLM.words`."""
    return " ".join(text.split())


def _mask(rows: Sequence[Tensor]) -> Tensor:
    return pad_sequence([torch.ones(len(row), dtype=torch.bool) for row in rows], batch_first=True)
