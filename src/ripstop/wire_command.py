"""Documents packed to wires by a trained run, wires as plain numbers, and questions answered from a wire alone.

A question is asked as the run was trained: with its prompt, the wire where the document's text would stand.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from ripstop import provenance
from ripstop.config import ConfigError, nearest
from ripstop.evaluation.base import Subject
from ripstop.files import read_text, replacing
from ripstop.frozen.scoring import generate
from ripstop.models.soft_prompt import SoftPrompt, SoftPromptConfig
from ripstop.runs import Run
from ripstop.training.precision import prepare_device
from ripstop.wire.file import Wire, load, save
from ripstop.wire.quantize import BITS_EACH, Bits, WireFormat

MOVES_NO_NUMBER = "it writes wires and text for readers"
ENDING = ".wire"


class Packer:
    """The soft-prompt model of a trained run, with what makes its wires known.

    data: its prepared folder; none given: that of the results which the run lies in. `ConfigError` where the run is none, has
    another model, or is not trained.
    """

    def __init__(self, run_dir: Path, data: Path | None = None):
        run, folder = _trained(run_dir, data)
        model = Subject(run, run_dir, folder, run_dir, prepare_device(run.compute)).model()
        assert isinstance(model, SoftPrompt) and isinstance(run.model, SoftPromptConfig)
        self.model, self.config = model, run.model
        self.identity = f"{run.model.kind} sha256:{provenance.file_sha256(run_dir / 'model.safetensors')[:16]}"
        self.models = {name: lm.identity for name, lm in model.lms.items()}

    @torch.no_grad()
    def pack(self, document: str, format: WireFormat) -> Wire:
        """The wire of one document."""
        (z_MD,) = self.model.wire([document], rounded=False)
        return Wire.of(z_MD, format, self.identity, self.models)

    @torch.no_grad()
    def answer(self, wire: Wire, question: str, name: str) -> str:
        """What the frozen model `name` answers when it reads the wire in place of a document."""
        device = next(self.model.compressor.parameters()).device
        (soft,) = self.model.soft(wire.numbers()[None].to(device), name)
        builder = self.model.builders[name]
        (answer,) = generate(self.model.lms[name], builder, [builder.soft(question, soft)])
        return answer


def pack_files(
    run_dir: Path, files: Sequence[Path], out: Path | None = None, bits: str | None = None, data: Path | None = None
) -> Iterator[str]:
    """Pack each text file to `<name>.wire` beside it, or in the folder `out`; one line for each.

    bits: of one number; none given: those that the run was trained with. A text is a document: its line breaks are spaces.
    """
    if bits is not None and bits not in BITS_EACH:
        raise ConfigError(f"--bits {bits}: no such format{nearest(bits, list(BITS_EACH))}; one of {', '.join(BITS_EACH)}")
    documents: dict[Path, str] = {}
    for file in files:
        path = (out or file.parent) / (file.name + ENDING)
        if path in documents:
            raise ConfigError(f"{path}: two files would be packed to it; pack them into folders of their own")
        documents[path] = _document(file)
    packer = Packer(run_dir, data)
    format = packer.config.wire_format(_bits(bits))
    for path, document in documents.items():
        wire = packer.pack(document, format)
        save(wire, path)
        n_text, n_wire = len(document.encode()), len(wire.payload)
        yield (
            f"{path}: {n_wire} bytes in {format.bits} for {n_text} bytes of text, a ratio of {n_text / n_wire:.2f}; "
            f"{path.stat().st_size - n_wire} bytes more say whom it is for"
        )


def unpack_file(path: Path, out: Path | None = None) -> Iterator[str]:
    """Say what a wire is; write its numbers (M, d_z) in float32 to `out`, a NumPy file, where that is given."""
    wire = load(path)
    form = wire.format
    yield f"{path}: {form.n_vectors} vectors of {form.width} numbers in {form.bits}, {len(wire.payload)} bytes"
    yield f"packed by: {wire.compressor}"
    for name, identity in sorted(wire.models.items()):
        yield f"read by {name}: {identity}"
    numbers = wire.numbers().numpy()
    if out is not None:
        content = io.BytesIO()
        np.save(content, numbers)
        with replacing(out) as temporary:
            temporary.write_bytes(content.getvalue())
        yield f"numbers in {out}"


def answers(
    run_dir: Path, path: Path, question: str, only: str | None = None, data: Path | None = None
) -> Iterator[tuple[str, str]]:
    """The name of each frozen model of the run, or of `only` one, and what it answers from the wire."""
    if not question.strip():
        raise ConfigError("the question is empty; ask one")
    wire = load(path)
    packer = Packer(run_dir, data)
    if only is not None and only not in packer.models:
        raise ConfigError(f"--model {only}: this run has no frozen model of that name{nearest(only, list(packer.models))}")
    names = list(packer.models) if only is None else [only]
    wire.check(packer.identity, {name: packer.models[name] for name in names}, str(path))
    for name in names:
        yield name, packer.answer(wire, question, name)


def _document(file: Path) -> str:
    text = " ".join(read_text(file).split())
    if not text:
        raise ConfigError(f"{file}: holds no text; there is nothing to pack")
    return text


def _bits(bits: str | None) -> Bits | None:
    return next((known for known in BITS_EACH if known == bits), None)


def _trained(run_dir: Path, data: Path | None) -> tuple[Run, Path]:
    """The run, trained to compress documents, and its prepared data."""
    if not run_dir.is_dir():
        raise ConfigError(f"{run_dir}: no such run; name its folder, results/<scale>/<study>/runs/<run>")
    run = Run.load(run_dir)
    if not isinstance(run.model, SoftPromptConfig):
        raise ConfigError(f"{run_dir}: makes no wires, its model is of kind {run.model.kind}; name a run of a soft_prompt")
    if run.training is None or not (run_dir / "model.safetensors").is_file():
        raise ConfigError(f"{run_dir}: is not trained; run `python -m ripstop train {run_dir}` with its data")
    folder = run.data_beside(run_dir) if data is None else data
    found = run.data.description(folder).get("id")
    if found != run.data.id:
        raise ConfigError(
            f"{folder}: holds the data {found}, and the run was trained on {run.data.id}; name the folder of that"
        )
    return run, folder
