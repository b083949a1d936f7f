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
from ripstop.as_trained import data_of_trained
from ripstop.config import ConfigError, nearest
from ripstop.data.base import DESCRIPTION, file_digest
from ripstop.evaluation.base import Subject
from ripstop.files import halved, read_text, replacing
from ripstop.frozen.scoring import generate
from ripstop.models.soft_prompt import SoftPrompt, SoftPromptConfig
from ripstop.runs import Run
from ripstop.training.precision import prepare_device
from ripstop.training.results import MODEL
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
        assert isinstance(run.model, SoftPromptConfig)
        self.identity = f"{run.model.kind} sha256:{provenance.file_sha256(run_dir / MODEL)[:16]}"
        model = Subject(run, run_dir, folder, run_dir, prepare_device(run.compute)).model()
        assert isinstance(model, SoftPrompt)
        self.model, self.config = model, run.model
        self.models = {name: lm.identity for name, lm in model.lms.items()}

    def check(self, document: str, where: Path) -> None:
        """`ConfigError` where it is longer than what the model whose features are read can read."""
        reader = None if self.config.features_of is None else self.model.lms[self.config.features_of]
        if reader is not None and reader.max_positions is not None:
            n_tokens = len(reader.bos) + len(reader.words(document))
            if n_tokens > reader.max_positions:
                raise ConfigError(
                    f"{where}: takes {n_tokens} tokens, and {reader.name}, which reads it, has {reader.max_positions} places; "
                    "cut it into several files"
                )

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
        raise ConfigError(f"--bits {bits}: no such format{nearest(bits, list(BITS_EACH))}")
    documents: dict[Path, str] = {}
    sources: dict[Path, Path] = {}
    for file in files:
        path = (out or file.parent) / (file.name + ENDING)
        if path in documents:
            raise ConfigError(f"{path}: two files would be packed to it; pack them into folders of their own")
        documents[path], sources[path] = _document(file), file
    packer = Packer(run_dir, data)
    for path, document in documents.items():
        packer.check(document, sources[path])
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
    if out is not None and out.exists() and out.samefile(path):
        raise ConfigError(f"--out {out}: is the wire itself; name another file")
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
    try:
        question.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"the question cannot be read: {halved(error)}") from None
    wire = load(path)
    packer = Packer(run_dir, data)
    if only is not None and only not in packer.models:
        raise ConfigError(f"--model {only}: this run has no frozen model of that name{nearest(only, list(packer.models))}")
    names = list(packer.models) if only is None else [only]
    wire.check(packer.identity, {name: packer.models[name] for name in names}, str(path))
    shape, wanted = ((form.n_vectors, form.width) for form in (wire.format, packer.config.wire_format()))
    if shape != wanted:
        raise ConfigError(
            f"{path}: is of the shape (M, d_z) = {shape}, and the run's wires are {wanted}; pack the document anew"
        )
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
    if run.training is None:
        raise ConfigError(f"{run_dir}: trains nothing, its wires would be of random weights; name a run that is trained")
    folder = data_of_trained(run, run_dir, data)
    _check_examples(run, folder)
    return run, folder


def _check_examples(run: Run, folder: Path) -> None:
    """`ConfigError` where the questions to train on are not those that were prepared: a model takes its examples from them."""
    path = folder / "train.jsonl"
    if not path.is_file() or file_digest(path) != run.data.description(folder)["files"].get(path.name):
        raise ConfigError(
            f"{path}: is not the file that {DESCRIPTION} describes, it was damaged or edited; run `python -m ripstop prepare "
            f"{folder}`"
        )
