"""Text from a run trained on text: a prompt in, samples out, each piece of them as it is made."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import redirect_stdout
from pathlib import Path

import torch

from ripstop.as_trained import data_of_trained, tokenizer_as_prepared
from ripstop.config import ConfigError
from ripstop.data.text import TextConfig
from ripstop.data.tokenizer import BOS, EOS, Tokenizer
from ripstop.evaluation.base import Subject
from ripstop.models.base import Model
from ripstop.models.generate import GenerationConfig
from ripstop.models.sampling import Prompted
from ripstop.runs import Run
from ripstop.training import checkpoint_file
from ripstop.training.checkpoint import NAME
from ripstop.training.distributed import checkpoint_folder
from ripstop.training.distributed.ranks import ALONE
from ripstop.training.precision import prepare_device
from ripstop.training.results import MODEL

MOVES_NO_NUMBER = "it writes text for readers"

CUT = "\ufffd"
"""What a part of a character decodes to: at the end of a piece, it may become whole."""
ANCHOR = "x"
COLDEST = 1e-6
"""Of the temperatures above 0."""


class Samples:
    """Samples of a run after one prompt, which is read once. notes: what a reader has to know of the model, a sentence each."""

    def __init__(self, run_dir: Path, prompt: str, config: GenerationConfig, seed: int = 0, data: Path | None = None):
        """prompt: text, in which a document begins; empty: the document's beginning alone. `ConfigError` where the run is none,
        has no text to learn from, or no weights that belong to its files."""
        _can_be_read(prompt)
        _can_be_divided_by(config.temperature)
        run = _of_text(run_dir)
        assert isinstance(run.data, TextConfig)
        self.notes: list[str] = []
        device = prepare_device(run.compute)
        if (run_dir / MODEL).is_file():
            folder = data_of_trained(run, run_dir, data)
            model = Subject(run, run_dir, folder, run_dir, device).model()
        else:
            folder = run.data_beside(run_dir) if data is None else data
            model, step = _of_checkpoint(run, run_dir, folder)
            self.notes.append(f"{run_dir}: its training has not ended; this is the model of step {step}")
        self._tokenizer = tokenizer_as_prepared(run.data, folder)
        self._config, self._seed, self._begins = config.replace(eos=EOS), seed, not prompt
        encoded = self._tokenizer.encode(prompt)
        self._prompted = Prompted(model.to(device).eval(), [BOS, *encoded], config.max_new_tokens)

    def sample(self, number: int) -> Iterator[str]:
        """The text of sample `number` in pieces; it depends on the seed and on its number alone."""
        generator = torch.Generator(self._prompted.device).manual_seed(self._seed + number)
        found = pieces(self._tokenizer, self._prompted.tokens(self._config, generator))
        for place, piece in enumerate(found):
            # The space before a text is the tokenizer's.
            yield piece.removeprefix(" ") if self._begins and place == 0 else piece


def pieces(tokenizer: Tokenizer, tokens: Iterable[int]) -> Iterator[str]:
    """The text of tokens inside of a text, as they come and in whole characters: together what they decode to."""
    anchor = tokenizer.encode(ANCHOR)  # or decoding would take a first space for the tokenizer's
    held: list[int] = []
    for token in tokens:
        held.append(token)
        text = tokenizer.decode([*anchor, *held]).removeprefix(ANCHOR)
        if not text.endswith(CUT):
            yield text
            held = []
    if held:
        yield tokenizer.decode([*anchor, *held]).removeprefix(ANCHOR)


def _can_be_read(prompt: str) -> None:
    """`ConfigError` for what a shell hands over of bytes that are no UTF-8."""
    try:
        prompt.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"generate: --prompt holds {error.object[error.start]!r} at character {error.start}, which is no UTF-8 text; "
            "correct it"
        ) from None


def _can_be_divided_by(temperature: float) -> None:
    """`ConfigError` for one that is 0 in single precision, or nearly so."""
    if 0 < temperature < COLDEST:
        raise ConfigError(
            f"generate: temperature: {temperature:g} is too near 0; set it to 0, which takes the most likely token"
        )


def _of_text(run_dir: Path) -> Run:
    if not run_dir.is_dir():
        raise ConfigError(f"{run_dir}: no such run; name its folder, results/<scale>/<study>/runs/<run>")
    run = Run.load(run_dir)
    if not isinstance(run.data, TextConfig):
        raise ConfigError(f"{run_dir}: its data is of kind {run.data.kind}, which has no text; name a run on data of kind text")
    return run


def _of_checkpoint(run: Run, run_dir: Path, data: Path) -> tuple[Model, int]:
    """The model of the newest checkpoint that is whole, of one process or of several, and its step."""
    found = [path for path in (run_dir / "checkpoints").glob("step-*") if NAME.fullmatch(path.name)]
    run.data.verify(data)
    for path in sorted(found, key=lambda path: path.name.split("-")[1], reverse=True):
        with redirect_stdout(sys.stderr):  # where they say why one cannot be used
            content = checkpoint_folder.read(path) if path.is_dir() else checkpoint_file.read(path)
        if content is None:
            continue
        if path.is_dir():
            content = checkpoint_folder.filled(content, path, None, ALONE)
        model = run.model.build(run.data.info(data))
        try:
            model.load_trained(content["state"]["model"])
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None
        return model, content["step"]
    raise ConfigError(f"{run_dir}: is not trained, and has no checkpoint; run `python -m ripstop train {run_dir}`")
