"""Hidden states of documents under a frozen model, computed once per document and kept by content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import xxhash
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ripstop.config import ConfigError
from ripstop.data.base import one_line
from ripstop.data.registry import cache_folder
from ripstop.files import replacing, sentence
from ripstop.frozen.base import FrozenLM

DOCUMENTS = 256
"""In one file of the cache, at most: what a killed process loses."""
TOKENS = 2048
"""In one batch, padding included, unless a document alone is longer."""
LARGEST = 2.0**15
"""Hidden states beyond this are halved until they are below, since float16 ends at 65,504: Gemma's go further."""


_HOLDS: dict[Path, frozenset[str]] = {}
"""Which texts the files of the cache hold that this process has read: their names say their content, so it stays."""


class Features(NamedTuple):
    """Token ids (T) of a document as a prompt holds them (`FrozenLM.words`), no BOS among them, and the hidden states (T, D)
    there: float16 times `scale`."""

    ids_T: Tensor
    hidden_TD: Tensor
    scale: float = 1.0

    def float(self) -> Tensor:
        """The hidden states (T, D) in float32."""
        return self.hidden_TD.float() * self.scale


def features(lm: FrozenLM, documents: Sequence[str], layer: int) -> list[Features]:
    """Ids and hidden states of each document before block `layer`, on the CPU; a document is read after BOS, and by itself.

    A text whose features are in the cache is not read again. Two processes may do the same at once. What is cut short later
    has the same features: the model is causal. `ConfigError` where a file of the cache is damaged or the disk refuses.
    """
    folder = cache_folder() / "features" / f"{lm.identity.split(':')[-1]}-{str(lm.dtype).removeprefix('torch.')}-{layer}"
    wanted = list(dict.fromkeys(documents))
    keys = {document: hashlib.sha256(document.encode()).hexdigest() for document in wanted}
    found = _kept(folder, set(keys.values()))
    missing = [document for document in wanted if keys[document] not in found]
    for some in _chunks(missing):
        computed = {keys[document]: made for document, made in zip(some, _computed(lm, some, layer), strict=True)}
        _keep(folder, computed)
        found |= computed
    return [found[keys[document]] for document in documents]


def _computed(lm: FrozenLM, documents: Sequence[str], layer: int) -> list[Features]:
    ids = [lm.words(document) for document in documents]
    if not all(ids):
        raise ConfigError(f"{lm.name}: a document has no tokens; leave it out")
    made: dict[int, Features] = {}
    for rows in _rows([len(row) + len(lm.bos) for row in ids]):
        longest = max(len(ids[n]) for n in rows)
        padded = [lm.bos + ids[n] + [0] * (longest - len(ids[n])) for n in rows]
        ids_BT = torch.tensor(padded, device=lm.device)
        length_B = torch.tensor([len(lm.bos) + len(ids[n]) for n in rows], device=lm.device)
        mask_BT = torch.arange(ids_BT.shape[1], device=lm.device) < length_B[:, None]
        hidden_BTD = lm.hidden(ids_BT, mask_BT, layer)[:, len(lm.bos) :].float().cpu()
        for n, hidden_TD in zip(rows, hidden_BTD, strict=True):
            made[n] = _rounded(torch.tensor(ids[n]), hidden_TD[: len(ids[n])])
    return [made[n] for n in range(len(documents))]


def _rounded(ids_T: Tensor, hidden_TD: Tensor) -> Features:
    scale, largest = 1.0, float(hidden_TD.abs().max())
    if not largest < float("inf"):
        raise ConfigError("features: a hidden state is not finite; choose an earlier layer, or another number format")
    while largest / scale > LARGEST:
        scale *= 2
    return Features(ids_T, (hidden_TD / scale).half(), scale)


def _rows(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Numbers of documents in batches of similar lengths."""
    batch: list[int] = []
    for n in sorted(range(len(lengths)), key=lambda n: lengths[n]):
        if batch and lengths[n] * (len(batch) + 1) > TOKENS:
            yield batch
            batch = []
        batch.append(n)
    if batch:
        yield batch


def _chunks(documents: Sequence[str]) -> Iterable[Sequence[str]]:
    return (documents[n : n + DOCUMENTS] for n in range(0, len(documents), DOCUMENTS))


def _keep(folder: Path, computed: dict[str, Features]) -> None:
    """One file, named by the digest of its bytes."""
    tensors: dict[str, Tensor] = {}
    for key, made in computed.items():
        tensors |= {f"{key}.ids": made.ids_T, f"{key}.hidden": made.hidden_TD, f"{key}.scale": torch.tensor(made.scale)}
    data = save(tensors)
    try:
        with replacing(folder / f"{xxhash.xxh3_128_hexdigest(data)}.safetensors") as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        raise ConfigError(f"{sentence(error)} (or set RIPSTOP_CACHE to another folder)") from None


def _kept(folder: Path, keys: set[str]) -> dict[str, Features]:
    """What the cache holds of `keys`, each file held against its name."""
    found: dict[str, Features] = {}
    for path in sorted(folder.glob("[0-9a-f]*.safetensors")):
        if keys <= found.keys():
            break
        if keys.isdisjoint(_HOLDS.get(path, keys)):
            continue
        try:
            data = path.read_bytes()
            if xxhash.xxh3_128_hexdigest(data) != path.stem:
                raise ConfigError(f"{path}: is damaged; remove it, then run again")
            tensors = load(data)
        except (OSError, SafetensorError) as error:
            raise ConfigError(f"{path}: cannot be read ({one_line(error)}); remove it, then run again") from None
        _HOLDS[path] = frozenset(name.partition(".")[0] for name in tensors)
        for key in keys & _HOLDS[path]:
            hidden_TD, scale = tensors[f"{key}.hidden"], float(tensors[f"{key}.scale"])
            # a copy, so that the rest of the file need not stay in memory
            found[key] = Features(tensors[f"{key}.ids"].clone(), hidden_TD.clone(), scale)
    return found
