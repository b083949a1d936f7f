"""A text file translated with a trained run: documents between blank lines, one line out for every line in.

Each line is translated in a window as the model was trained on: before it stand the lines of its document that fit, and on
the target side what they were translated to, given as the beginning of what the model writes. So a line sees its context on
both sides, and which words belong to it is certain; of a window translated as a whole no mark says where a line ends.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from ripstop.as_trained import data_of_trained, tokenizer_as_prepared
from ripstop.config import ConfigError
from ripstop.data.documents import DocumentsConfig
from ripstop.data.tokenizer import BOS, EOS, Tokenizer
from ripstop.evaluation.base import Subject
from ripstop.files import decoded, sentence
from ripstop.models.base import Model
from ripstop.models.generate import GenerationConfig, generate
from ripstop.runs import Run
from ripstop.training.precision import prepare_device

log = logging.getLogger(__name__)

MOVES_NO_NUMBER = "it writes text for readers"
STANDARD_INPUT = "-"
ROOM = 1.5
"""Tokens that are kept free for a line's translation, for each of the line's own."""


def translated(run_dir: Path, file: str, beam: int = 1, data: Path | None = None) -> Iterator[str]:
    """The lines of `file` ("-": of standard input) one by one, as they are translated; a blank line stays one.

    data: the prepared folder; none given: that of the results which the run lies in. `ConfigError` before the first line
    where the run is none, is no translator or is not trained on this data with these settings, or where the text cannot be
    read or has a line that is too long.
    """
    run, folder = _translator(run_dir, data)
    assert isinstance(run.data, DocumentsConfig)
    where = _called(file)
    lines = read_lines(file)
    tokenizer = tokenizer_as_prepared(run.data, folder)
    encoded = tokenizer.encode_batch([" ".join(line.split()) for line in lines])
    if not any(encoded):
        raise ConfigError(f"{where}: holds no text; give it a line, and a blank line between documents")
    for number, ids in enumerate(encoded, 1):
        if len(ids) >= run.data.max_tokens:
            raise ConfigError(
                f"{where}:{number}: a line of {len(ids)} tokens does not fit into the model's window of {run.data.max_tokens} "
                "with its end; cut the line in two"
            )
    model = Subject(run, run_dir, folder, run_dir, prepare_device(run.compute)).model()
    return LineByLine(model, tokenizer, run.data.max_tokens, beam).lines(encoded)


def read_lines(file: str) -> list[str]:
    """The lines of a UTF-8 file as `wc -l` counts them: other separators than the newline are white space inside a line."""
    where = _called(file)
    text = decoded(_read(file, where), where)
    return text.removesuffix("\n").split("\n")


def _read(file: str, where: str) -> bytes:
    if not file:
        raise ConfigError("FILE is empty; name a text file, or - for standard input")
    if file == STANDARD_INPUT and sys.stdin is None:
        raise ConfigError("standard input: is closed; hand a text to it, or name a file")
    try:
        return sys.stdin.buffer.read() if file == STANDARD_INPUT else Path(file).read_bytes()
    except IsADirectoryError:
        raise ConfigError(f"{where}: this is a folder, not a file; name one of its files") from None
    except OSError as error:
        raise ConfigError(sentence(OSError(error.errno, error.strerror or str(error), where))) from None


def _called(file: str) -> str:
    return "standard input" if file == STANDARD_INPUT else file


class LineByLine:
    """Translates lines of token ids, each after what was written for those before it."""

    def __init__(self, model: Model, tokenizer: Tokenizer, max_tokens: int, beam: int = 1):
        self.model, self.tokenizer, self.max_tokens, self.beam = model, tokenizer, max_tokens, beam
        self.device = next(model.parameters()).device

    def lines(self, encoded: Sequence[list[int]]) -> Iterator[str]:
        """One text for each line; an empty one ends a document."""
        before: list[tuple[list[int], list[int]]] = []
        for number, ids in enumerate(encoded, 1):
            if not ids:
                before = []
                yield ""
                continue
            written = self.write(ids, self.fitting(ids, before)) or self.write(ids, [])
            if not self.text(written):
                log.warning("line %d: the model writes nothing; the line stays as it is", number)
                written = ids
            before.append((ids, written))
            yield self.text(written)

    def fitting(self, ids: list[int], before: Sequence[tuple[list[int], list[int]]]) -> list[tuple[list[int], list[int]]]:
        """The last lines before that fit into the window beside this one and room for its translation."""
        n_source, n_target = len(ids), int(ROOM * len(ids))
        found: list[tuple[list[int], list[int]]] = []
        for pair in reversed(before):
            n_source, n_target = n_source + len(pair[0]), n_target + len(pair[1])
            if max(n_source, n_target) >= self.max_tokens:
                break
            found.insert(0, pair)
        return found

    def write(self, ids: list[int], context: Sequence[tuple[list[int], list[int]]]) -> list[int]:
        """The tokens of one line's translation; none where they are no text."""
        source = [token for pair in context for token in pair[0]] + ids + [EOS]
        written = [token for pair in context for token in pair[1]]
        config = GenerationConfig(max_new_tokens=self.max_tokens - 1 - len(written), beam_size=self.beam, eos=EOS)
        (found,) = generate(self.model, [[BOS, *written]], config, sources=[source])
        return found if self.text(found) else []

    def text(self, ids: list[int]) -> str:
        """One line, whatever white space is among the tokens."""
        return " ".join(self.tokenizer.decode(ids).split())


def _translator(run_dir: Path, data: Path | None) -> tuple[Run, Path]:
    """The run, trained to translate documents, and its prepared data."""
    if not run_dir.is_dir():
        raise ConfigError(f"{run_dir}: no such run; name its folder, results/<scale>/<study>/runs/<run>")
    run = Run.load(run_dir)
    if not isinstance(run.data, DocumentsConfig) or not run.model.reads_source:
        what = f"its data is of kind {run.data.kind} and its model of kind {run.model.kind}"
        raise ConfigError(f"{run_dir}: is no translator, {what}; name a run of hybrid_ratio")
    return run, data_of_trained(run, run_dir, data)
