"""Needles: how many questions about a haystack are answered, by family, length and depth, and under every control.

Each haystack is read once, by the model's own `prefill`. Its state is copied for every question about it, which is then read
and answered token by token: by `step`, greedily, over the whole vocabulary. So one haystack of 64k tokens serves all its
questions and controls. What a control takes away, it takes while the question is read and answered:

    own                   nothing: no control
    wrong                 the haystack of another row, whose facts are others
    random                sparse attention selects blocks at random, but for those that it always reads
    silent                the output of its compressed branch, which reads a summary of everything
    random_silent         both: what is left to a needle out of reach of the window is luck
    oracle                nothing, but the blocks of the needles asked for are always selected: what selecting better would gain

For sparse attention it is told besides whether the block of the needle was selected when the answer was due, by layer and
group, and what a random selection comes to, by formula and by count (control `random`). For every model, the tokens of its past
that it read for an answer.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from pydantic import Field
from torch import Tensor

from ripstop.config import ConfigError
from ripstop.data.haystack import HAS_DEPTH, Lexicon, Rows, to_batch
from ripstop.data.needle import NeedleBase
from ripstop.evaluation.base import PartConfig, Subject
from ripstop.evaluation.learning_curve import LearningCurveConfig
from ripstop.evaluation.selection import look, pictured, random_recall, sparse_layers
from ripstop.kernels import reads
from ripstop.mixers.base import reorder_state
from ripstop.mixers.nsa import NSAConfig
from ripstop.mixers.nsa.trace import Branch, intervening, tracing
from ripstop.models.base import Model
from ripstop.records import Measurement, Scalar
from ripstop.training.monitor import peak_memory

if TYPE_CHECKING:
    from ripstop.runs import Run

Control = Literal["own", "wrong", "random", "silent", "random_silent", "oracle"]
CONTROLS: tuple[Control, ...] = get_args(Control)
SPARSE: tuple[Control, ...] = ("random", "silent", "random_silent", "oracle")
"""These change what sparse attention does; for other models they are none."""
COUNTED: tuple[Control, ...] = ("own", "random")
"""Under these the selection is told."""


class NeedlePartConfig(PartConfig):
    """Every test of the data under each of `controls` that the model has something to lose by.

    A test of a single row has no wrong haystack. Times are of the processor on a CPU, and of the clock on a GPU. How the run
    learnt is told here too, as by `learning_curve`: its trainings are so short that a job of its own would take as long.
    """

    kind: Literal["needle"] = "needle"
    controls: list[Control] = Field(list(CONTROLS), min_length=1)
    tokens_at_once: int = Field(2**16, ge=1, le=2**24, description="tokens of a prefill; one haystack always is read at once")
    n_parts: int = Field(16, ge=1, le=256, description="parts of a sequence in the picture of what is selected")

    def check(self, run: Run) -> None:
        _data(run)
        if len({mixer.select_block for mixer in sparse_layers(run.model)}) > 1 and "oracle" in self.controls:
            raise ConfigError(
                "the control 'oracle' names blocks of one size, and layers of this model have others; give all of them one "
                "select_block, or leave it out"
            )

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        data, sparse = _data(subject.run), sparse_layers(subject.run.model)
        controls = [control for control in self.controls if sparse or control not in SPARSE]
        model, lexicon = subject.model(), data.lexicon(subject.data)
        for length in sorted({length for _, length, _ in data.tested()}):  # the shortest first, for the peak of memory
            if subject.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(subject.device)
            seconds, n_rows = 0.0, 0
            for family in (family for family, tested, _ in data.tested() if tested == length):
                rows = data.prepared_test(subject.data, family, length)
                asked = Asked(rows, lexicon, sparse)
                asked.ask(model, controls, max(1, self.tokens_at_once // length))
                seconds, n_rows = seconds + asked.seconds, n_rows + len(rows.haystack_BR)
                yield from asked.accuracies(length, data.depths)
                yield from asked.selections(length, data.depths)
                yield from asked.reading(length)
            yield Measurement("prefill_seconds", seconds / n_rows, "seconds", n_rows, {"length": length})
            yield Measurement("peak_bytes", peak_memory(subject.device), "bytes", 1, {"length": length})
        yield Measurement("chance", 1 / data.n_answers, "fraction", 1)
        yield Measurement("trained_length", data.s_max, "tokens", 1)
        if subject.run.training is not None and subject.run.training.validate_every:
            yield from LearningCurveConfig().measure(subject)
        if sparse:
            family, length, _ = next(data.tested())
            batch = to_batch(lexicon, data.prepared_test(subject.data, family, length)).to(subject.device)
            yield from pictured(look(model, batch), sparse, self.n_parts)


@dataclass
class Asked:
    """The questions about some rows, and what a model said. B rows, Q questions each, A answers, L sparse layers, G groups.

    sparse: the layers that select. seconds: that reading the haystacks took. right_BQ: control -> the part of the answers that
    is right. ids_BQALGn: control -> the blocks that were selected when each answer was due. read: tokens and bytes of one
    sequence's past that the step before the last answer read.
    """

    rows: Rows
    lexicon: Lexicon
    sparse: Sequence[NSAConfig]
    seconds: float = 0.0
    right_BQ: dict[Control, Tensor] = field(default_factory=dict)
    ids_BQALGn: dict[Control, Tensor] = field(default_factory=dict)
    read: tuple[int, int] = (0, 0)

    def ask(self, model: Model, controls: Sequence[Control], rows_at_once: int) -> None:
        """All questions, under every control."""
        device = next(model.parameters()).device
        tensors = [torch.from_numpy(array) for array in vars(self.rows).values() if not isinstance(array, str)]
        right: dict[Control, list[Tensor]] = {}
        ids: dict[Control, list[Tensor]] = {}
        for parts in zip(*(tensor.split(rows_at_once) for tensor in tensors), strict=True):
            haystack_BR, prompt_BQP, answers_BQA, place_BQA = (part.to(device) for part in parts)
            started = _now(device)
            _, state = model.prefill(haystack_BR, model.init_state(len(haystack_BR), haystack_BR.shape[1] + self._n_asked))
            self.seconds += _now(device) - started
            for control in controls:
                if control == "wrong" and len(haystack_BR) == 1:
                    continue
                said_BQA, ids_BQALGn = self._answers(model, state, prompt_BQP, place_BQA, control)
                right.setdefault(control, []).append(self._score(said_BQA, answers_BQA).cpu())
                if ids_BQALGn is not None and control in COUNTED:
                    ids.setdefault(control, []).append(ids_BQALGn.cpu())
        self.right_BQ = {control: torch.cat(found) for control, found in right.items()}
        self.ids_BQALGn = {control: torch.cat(found) for control, found in ids.items()}

    @property
    def _n_asked(self) -> int:
        """Tokens of a question and its answers."""
        n_answers = self.rows.answers_BQA.shape[2]
        return self.rows.prompt_BQP.shape[2] + n_answers + (n_answers - 1) * len(self.lexicon.between(self.rows.family))

    def _answers(
        self, model: Model, state: Any, prompt_BQP: Tensor, place_BQA: Tensor, control: Control
    ) -> tuple[Tensor, Tensor | None]:
        """What the model says to each question, (B, Q, A), and the blocks that it selected for it, (B, Q, A, L, G, n)."""
        n_rows, n_questions, n_answers = place_BQA.shape
        row_B = torch.arange(n_rows, device=prompt_BQP.device)
        row_B = (row_B - 1) % n_rows if control == "wrong" else row_B
        state = reorder_state(state, row_B.repeat_interleave(n_questions))
        between = self.lexicon.between(self.rows.family)
        said: list[Tensor] = []
        ids: list[Tensor] = []
        with self._under(control, place_BQA.flatten(0, 1)):
            tokens = list(prompt_BQP.flatten(0, 1).unbind(1))
            for _ in range(n_answers):
                for token_N in tokens:
                    with tracing() as trace, reads.counting() as counted:
                        logits_NV, state = model.step(token_N, state)
                said.append(logits_NV.argmax(-1))
                if trace.layers:
                    ids.append(torch.stack([layer.ids_BTGn[:, -1] for layer in trace.layers], 1))
                tokens = [said[-1], *(torch.full_like(said[-1], word) for word in between)]
        if control == "own":
            self.read = counted.tokens, counted.bytes // len(said[-1])
        said_BQA = torch.stack(said, 1).unflatten(0, (n_rows, n_questions))
        return said_BQA, torch.stack(ids, 1).unflatten(0, (n_rows, n_questions)) if ids else None

    def _under(self, control: Control, place_NA: Tensor) -> AbstractContextManager[None]:
        """What a control does to sparse attention."""
        if control == "oracle":
            return intervening(select="oracle", blocks_BM=place_NA // self.sparse[0].select_block)
        silent: tuple[Branch, ...] = ("compressed",) if "silent" in control else ()
        return intervening(select="random" if "random" in control else "scores", seed=0, drop=silent)

    def _score(self, said_BQA: Tensor, answers_BQA: Tensor) -> Tensor:
        """(B, Q). Of several values of a key the part that was said, in whatever order; of a chain whether its end was."""
        if self.rows.family == "multi_value":
            return (said_BQA.unsqueeze(-2) == answers_BQA.unsqueeze(-1)).any(-1).double().mean(-1)
        return (said_BQA[..., -1] == answers_BQA[..., -1]).double()

    def accuracies(self, length: int, depths: Sequence[float]) -> Iterator[Measurement]:
        """By control, and by depth where a question has one."""
        family = self.rows.family
        for control, right_BQ in self.right_BQ.items():
            place: dict[str, Scalar] = {"family": family, "length": length, "control": control}
            yield Measurement("accuracy", right_BQ.mean().item(), "fraction", right_BQ.numel(), {**place})
            for depth, right_B in zip(depths, right_BQ.unbind(1), strict=True) if family in HAS_DEPTH else ():
                value = right_B.mean().item()
                yield Measurement("accuracy_at_depth", value, "fraction", len(right_B), {**place, "depth": depth})

    def selections(self, length: int, depths: Sequence[float]) -> Iterator[Measurement]:
        """How often the block of an answer's needle was selected, and would be at random."""
        place_BQA = torch.from_numpy(self.rows.place_BQA)
        for layer, mixer in enumerate(self.sparse):
            where: dict[str, Scalar] = {"family": self.rows.family, "length": length, "layer": layer}
            block_BQA11 = (place_BQA // mixer.select_block)[..., None, None]
            for control, ids_BQALGn in self.ids_BQALGn.items():
                hit_BQAG = (ids_BQALGn[:, :, :, layer] == block_BQA11).any(-1).double()
                for group, hit_BQA in enumerate(hit_BQAG.unbind(-1)):
                    place = {**where, "control": control, "group": group}
                    yield from self._by_depth("selection_recall", hit_BQA, depths, place)
            floor_BQA = random_recall(mixer, place_BQA, self._read_before(length))
            yield from self._by_depth("selection_floor", floor_BQA, depths, where)

    def _read_before(self, length: int) -> Tensor:
        """Tokens that are read when each answer is due, (A)."""
        n_answers = self.rows.answers_BQA.shape[2]
        step = 1 + len(self.lexicon.between(self.rows.family))
        return length - step * torch.arange(n_answers - 1, -1, -1)

    def _by_depth(
        self, metric: str, value_BQA: Tensor, depths: Sequence[float], place: dict[str, Scalar]
    ) -> Iterator[Measurement]:
        yield Measurement(metric, value_BQA.mean().item(), "fraction", value_BQA.numel(), {**place})
        for depth, value_BA in zip(depths, value_BQA.unbind(1), strict=True) if self.rows.family in HAS_DEPTH else ():
            at = f"{metric}_at_depth"
            yield Measurement(at, value_BA.mean().item(), "fraction", value_BA.numel(), {**place, "depth": depth})

    def reading(self, length: int) -> Iterator[Measurement]:
        """What the step before the last answer read of the past, of one sequence and all layers."""
        place: dict[str, Scalar] = {"family": self.rows.family, "length": length}
        yield Measurement("tokens_read", self.read[0], "tokens", 1, {**place})
        yield Measurement("bytes_read", self.read[1], "bytes", 1, {**place})


def _data(run: Run) -> NeedleBase:
    if not isinstance(run.data, NeedleBase):
        raise ConfigError(f"needles are looked for in data of kind needle, and the run's is {run.data.kind}; remove this part")
    return run.data


def _now(device: torch.device) -> float:
    """Seconds: of this process's processors, or of the clock when a GPU has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()
