"""Needles asked of models that answer by rule, so that every score is known; selection against a model's own forward pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ripstop.batch import IGNORE, TokenBatch, Vocabulary
from ripstop.config import ConfigError
from ripstop.data.base import DataConfig
from ripstop.data.haystack import FAMILIES, Family, Rows
from ripstop.data.mqar import MqarConfig
from ripstop.data.needle import KEY, REF, VAL, NeedleConfig
from ripstop.evaluation import PARTS, needle
from ripstop.evaluation.base import Subject
from ripstop.evaluation.needle import CONTROLS, Asked, Control, NeedlePartConfig
from ripstop.mixers.nsa import NSAConfig
from ripstop.mixers.nsa.mixer import NativeSparseAttention
from ripstop.mixers.nsa.trace import intervention
from ripstop.models.base import Model, ModelConfig
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.records import Measurement
from ripstop.runs import Run

DEPTHS = [0.0, 0.25, 0.5, 0.75, 1.0]


def config(**changes: Any) -> NeedleConfig:
    values = {
        "n_keys": 400, "n_values": 300, "depths": DEPTHS, "n_others": 6, "n_valid": 1,
        "tests": [{"families": [*FAMILIES], "lengths": [200, 260], "rows": [6, 1]}],
    }  # fmt: skip
    return NeedleConfig.parse(values | changes, "data")


class Read(NamedTuple):
    """tokens: (B, room), what was read so far."""

    tokens: Tensor
    length: int


class Reader(Model):
    """Looks the key of a question up in the last `reach` tokens, as a reader would; 0 where it is not there.

    says_it_again: of several values it always says the first.
    """

    def __init__(self, vocab_size: int, reach: int = 10**6, says_it_again: bool = False):
        super().__init__()
        self.vocab_size, self.reach, self.says_it_again = vocab_size, reach, says_it_again
        self.scale = nn.Parameter(torch.ones(()))

    def init_state(self, batch_size: int, max_len: int, source_BS: Any = None, source_segments_BS: Any = None) -> Read:
        return Read(torch.zeros(batch_size, max_len, dtype=torch.int64), 0)

    def prefill(self, tokens_BT: Tensor, state: Read) -> tuple[Tensor, Read]:
        end = state.length + tokens_BT.shape[1]
        tokens = state.tokens.clone()
        tokens[:, state.length : end] = tokens_BT
        logits = torch.zeros(len(tokens), self.vocab_size)
        for row, read in enumerate(tokens[:, :end].tolist()):
            logits[row, self._answer(read)] = 1.0
        return logits, Read(tokens, end)

    def step(self, tokens_B: Tensor, state: Read) -> tuple[Tensor, Read]:
        return self.prefill(tokens_B.unsqueeze(1), state)

    def _answer(self, read: list[int]) -> int:
        asked = next((at for at in range(len(read) - 1, 0, -1) if read[at] in (VAL, REF)), 1)
        key, verb, given = read[asked - 1], read[asked], read[asked + 1 :]
        said = [
            read[at + 3]
            for at in range(max(0, len(read) - self.reach), asked - 4)
            if read[at : at + 3] == [KEY, key, verb]
        ]  # fmt: skip
        left = said if self.says_it_again else [value for value in said if value not in given]
        return left[0] if left else 0


def asked(data: NeedleConfig, folder: Path, model: Model, family: Family, length: int = 200, controls: Any = ("own", "wrong"),
          rows_at_once: int = 4, sparse: Any = ()) -> Asked:  # fmt: skip
    found = Asked(data.prepared_test(folder, family, length), data.lexicon(folder), sparse)
    with torch.inference_mode():
        found.ask(model.eval(), controls, rows_at_once)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("needle")
    config().prepare(path)
    return path


@pytest.mark.parametrize("family", FAMILIES)
def test_who_reads_answers_all_of_its_own_haystack_and_nothing_of_another(family: Family, folder: Path) -> None:
    data = config()
    found = asked(data, folder, Reader(data.n_tokens(folder)), family)
    assert found.right_BQ["own"].shape == (6, 5) and bool((found.right_BQ["own"] == 1).all())
    # Of 400 keys a haystack holds 5 to 15: now and then one of another row is there, with another value.
    assert found.right_BQ["wrong"].shape == (6, 5) and found.right_BQ["wrong"].mean() < 0.05
    assert found.ids_BQALGn == {} and found.seconds > 0


def test_a_haystack_read_alone_has_no_wrong_one(folder: Path) -> None:
    data = config()
    reader = Reader(data.n_tokens(folder))
    assert set(asked(data, folder, reader, "single", 260).right_BQ) == {"own"}
    assert set(asked(data, folder, reader, "single", rows_at_once=1).right_BQ) == {"own"}


def test_one_that_sees_the_end_alone_finds_the_deepest(folder: Path) -> None:
    """The question takes 3 tokens of its last 60, so that facts are found that begin in the last 57 of the haystack."""
    data = config()
    found = asked(data, folder, Reader(data.n_tokens(folder), reach=60), "single")
    rows = data.prepared_test(folder, "single", 200)
    starts_BQ = rows.place_BQA[:, :, 0] - 3
    assert np.array_equal(found.right_BQ["own"].numpy() == 1, starts_BQ >= rows.haystack_BR.shape[1] - 57)
    by_depth = {
        m.slice["depth"]: m
        for m in found.accuracies(200, DEPTHS)
        if m.metric == "accuracy_at_depth" and m.slice["control"] == "own"
    }
    assert [by_depth[depth].value for depth in DEPTHS] == found.right_BQ["own"].mean(0).tolist()
    assert by_depth[0.0].value == 0 and by_depth[1.0].value == 1 and by_depth[0.5].n == 6


def test_several_values_count_one_by_one_and_a_chain_by_its_end(folder: Path) -> None:
    data = config()
    again = Reader(data.n_tokens(folder), says_it_again=True)
    assert bool((asked(data, folder, again, "multi_value").right_BQ["own"] == 0.5).all())
    rows = Rows("variable_chain", *(np.zeros((1, 2, 2), dtype=np.int64),) * 4)
    said, answers = torch.tensor([[[5, 7], [6, 8]]]), torch.tensor([[[6, 7], [6, 9]]])
    assert Asked(rows, data.lexicon(folder), ())._score(said, answers).tolist() == [[1.0, 0.0]]
    values = Asked(Rows("multi_value", *(np.zeros((1, 2, 2), dtype=np.int64),) * 4), data.lexicon(folder), ())
    assert values._score(torch.tensor([[[7, 6], [9, 9]]]), torch.tensor([[[6, 7], [9, 8]]])).tolist() == [[1.0, 0.5]]


def test_a_chain_is_followed_greedily(folder: Path) -> None:
    """A reader that cannot see links says 0 for the key that is named, and finds nothing behind it."""

    class NoLinks(Reader):
        def _answer(self, read: list[int]) -> int:
            return 0 if read[-1] == REF else super()._answer(read)

    data = config()
    assert not asked(data, folder, NoLinks(data.n_tokens(folder)), "variable_chain").right_BQ["own"].any()


SPARSE = {
    "kind": "nsa", "n_heads": 4, "n_kv_heads": 2, "head_dim": 4, "d_conv": 3, "rope": ["window"], "compress_block": 8,
    "compress_stride": 4, "select_block": 8, "n_selected": 4, "window_size": 8, "phi": "score",
}  # fmt: skip


def sparse_model(data: NeedleConfig, folder: Path, pattern: str = "NN") -> tuple[Model, list[NSAConfig], DecoderOnlyConfig]:
    made = DecoderOnlyConfig.parse({"d_model": 16, "pattern": pattern, "mixers": {"N": SPARSE}}, "model")
    torch.manual_seed(1)
    model = made.build(Vocabulary(data.n_tokens(folder))).double().eval()
    return model, [mixer for mixer in made.stack.mixers if isinstance(mixer, NSAConfig)], made


@pytest.mark.parametrize("family", ["single", "variable_chain"])
def test_the_selection_is_that_of_the_models_own_forward_pass(family: Family, folder: Path) -> None:
    """Read whole, with what the model said, each haystack with each question selects what the copies selected."""
    from ripstop.mixers.nsa.trace import tracing

    data = config()
    model, sparse, _ = sparse_model(data, folder)
    found = asked(data, folder, model, family, sparse=sparse)
    rows = data.prepared_test(folder, family, 200)
    ids_BQALGn, n_answers = found.ids_BQALGn["own"], rows.answers_BQA.shape[2]
    assert ids_BQALGn.shape == (6, 5, n_answers, 2, 2, 4)
    for question in (0, 3):
        tokens = np.concatenate([rows.haystack_BR, rows.prompt_BQP[:, question]], 1)
        for number in range(n_answers):
            batch_BT = torch.from_numpy(tokens)
            with tracing() as trace, torch.inference_mode():
                logits_BV = model(TokenBatch(batch_BT, torch.full_like(batch_BT, IGNORE)))[:, -1]
            for layer, seen in enumerate(trace.layers):
                assert torch.equal(ids_BQALGn[:, question, number, layer].sort(-1).values, seen.ids_BTGn[:, -1].sort(-1).values)
            said_B1 = logits_BV.argmax(-1, keepdim=True).numpy()
            tokens = np.concatenate([tokens, said_B1, np.full_like(said_B1, VAL)], 1)


def run_of(data: DataConfig, model: ModelConfig) -> Run:
    """A run that trains nothing."""
    return Run(study="s", scale="cpu", name="r", seed=0, factors={}, data=data, model=model, training=None, evaluation={})


def measured(data: NeedleConfig, folder: Path, **settings: Any) -> list[Measurement]:
    """The whole part on an untrained sparse model."""
    model, _, made = sparse_model(data, folder)
    run = run_of(data, made)
    part = NeedlePartConfig(**settings)
    part.check(run)
    subject = Subject(run, folder, folder, folder, torch.device("cpu"))
    object.__setattr__(subject, "model", lambda: model)
    with torch.inference_mode():
        return list(part.measure(subject))


@pytest.fixture(scope="module")
def everything(folder: Path) -> list[Measurement]:
    return measured(config(), folder, n_parts=4)


def values(found: list[Measurement], metric: str, **where: Any) -> list[float]:
    return [m.value for m in found if m.metric == metric and where.items() <= m.slice.items()]


def test_random_selection_comes_to_its_floor_and_forced_blocks_to_one(everything: list[Measurement]) -> None:
    for family in FAMILIES:
        floor = values(everything, "selection_floor", family=family, length=200, layer=0)
        random = values(everything, "selection_recall", family=family, length=200, control="random")
        assert len(floor) == 1 and len(random) == 4
        # 25 blocks, 3 forced and one of 22 drawn: 1/22, but for needles in forced blocks
        assert np.mean(random) == pytest.approx(floor[0], abs=0.09) and 1 / 22 <= floor[0] < 0.6
    for control in ("own", "random"):
        assert (
            values(everything, "selection_recall_at_depth", family="single", length=260, depth=1.0, control=control)
            == [1.0] * 4
        )


def test_every_control_is_told_and_every_question_counted(everything: list[Measurement]) -> None:
    told = {m.slice["control"] for m in everything if m.metric == "accuracy" and m.slice["length"] == 200}
    assert told == set(CONTROLS)
    assert {m.slice["control"] for m in everything if m.metric == "accuracy" and m.slice["length"] == 260} == told - {"wrong"}
    assert {m.n for m in everything if m.metric == "accuracy" and m.slice["length"] == 200} == {30}
    assert {m.slice["control"] for m in everything if m.metric == "selection_recall"} == {"own", "random"}
    assert values(everything, "chance") == [1 / 300] and values(everything, "trained_length") == [512]
    assert len(values(everything, "gate")) == 2 * 3 and len(values(everything, "selected_share")) == 2 * 10
    peaks = [values(everything, "peak_bytes", length=length) for length in (200, 260)]
    assert len(values(everything, "prefill_seconds")) == 2 and peaks[0] <= peaks[1]


@pytest.mark.parametrize("family", ["single", "multi_value", "variable_chain"])
def test_the_oracles_blocks_are_read(family: Family, folder: Path) -> None:
    """Those of every answer of the question, whichever is due."""
    data = config()
    model, sparse, _ = sparse_model(data, folder)
    sparse, n_answers = [mixer.replace(n_selected=5) for mixer in sparse], 1 if family == "single" else 2
    for mixer in (module for module in model.modules() if isinstance(module, NativeSparseAttention)):
        mixer.blocks = sparse[0].blocks  # room for two besides those that always are read
    rows = data.prepared_test(folder, family, 200)
    found = Asked(rows, data.lexicon(folder), sparse)
    haystack, prompt, place = (torch.from_numpy(a) for a in (rows.haystack_BR, rows.prompt_BQP, rows.place_BQA))
    with torch.inference_mode():
        _, state = model.prefill(haystack, model.init_state(6, 210))
        _, ids = found._answers(model, state, prompt, place, "oracle")
    assert ids is not None and ids.shape[2] == n_answers
    for number in range(n_answers):
        named = (place[:, :, number] // 8)[:, :, None, None, None, None]
        assert bool((ids == named).any(-1).all())


def test_controls_change_what_they_say(folder: Path) -> None:
    """Under `silent` the compressed branch has no say, under `random` the blocks differ; without either nothing changes."""
    data = config()
    model, sparse, _ = sparse_model(data, folder, "N")
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "gate_out" not in name:
                weight.mul_(3.0)
    found = asked(data, folder, model, "single", controls=("own", "random"), sparse=sparse)
    own, random = found.ids_BQALGn["own"], found.ids_BQALGn["random"]
    assert not torch.equal(own.sort(-1).values, random.sort(-1).values)
    said: dict[Control, Tensor] = {}
    rows = data.prepared_test(folder, "single", 200)
    haystack, prompt, place = (torch.from_numpy(a) for a in (rows.haystack_BR, rows.prompt_BQP, rows.place_BQA))
    with torch.inference_mode():
        for control in ("own", "silent", "random_silent"):
            _, state = model.prefill(haystack, model.init_state(6, 210))
            said[control], _ = found._answers(model, state, prompt, place, control)
    assert not torch.equal(said["own"], said["silent"])


@pytest.mark.parametrize(
    ("control", "select", "drop"),
    [
        ("own", "scores", ()),
        ("wrong", "scores", ()),
        ("random", "random", ()),
        ("silent", "scores", ("compressed",)),
        ("random_silent", "random", ("compressed",)),
        ("oracle", "oracle", ()),
    ],
)
def test_what_a_control_takes_away(control: Control, select: str, drop: tuple[str, ...], folder: Path) -> None:
    data = config()
    found = Asked(data.prepared_test(folder, "single", 200), data.lexicon(folder), sparse_model(data, folder)[1])
    with found._under(control, torch.tensor([[17], [3]])):
        how = intervention()
    assert how is not None and (how.select, how.drop) == (select, drop)
    assert (
        (how.blocks_BM is None) if control != "oracle" else how.blocks_BM is not None and how.blocks_BM.tolist() == [[2], [0]]
    )
    assert intervention() is None


def test_recall_is_that_of_its_layer_group_and_depth(folder: Path) -> None:
    """Of two rows, five depths, two layers with blocks of 8 and 16, and two groups: each selects block 1 alone, but for one."""
    data = config()
    rows = data.prepared_test(folder, "single", 200)
    one = Rows("single", rows.haystack_BR[:2], rows.prompt_BQP[:2], rows.answers_BQA[:2], np.zeros((2, 5, 1), dtype=np.int64))
    one.place_BQA[:, :, 0] = [[8, 16, 24, 40, 60], [15, 31, 32, 41, 61]]
    sizes = [NSAConfig(**{**SPARSE, "select_block": block}) for block in (8, 16)]
    found = Asked(one, data.lexicon(folder), sizes)
    ids = torch.full((2, 5, 1, 2, 2, 1), 1)
    ids[1, 4, 0, 1, 1] = 3  # 61 // 16
    found.ids_BQALGn["own"] = ids
    told = list(found.selections(200, DEPTHS))
    # Blocks of 8: 1 1 / 2 3 / 3 4 / 5 5 / 7 7, of 16: 0 0 / 1 1 / 1 2 / 2 2 / 3 3 at the five depths of both rows.
    for layer, group, wanted in ((0, 0, [1, 0, 0, 0, 0]), (0, 1, [1, 0, 0, 0, 0]),
                                 (1, 0, [0, 1, 0.5, 0, 0]), (1, 1, [0, 1, 0.5, 0, 0.5])):  # fmt: skip
        at = {"layer": layer, "group": group, "control": "own"}
        by_depth = [values(told, "selection_recall_at_depth", depth=depth, **at) for depth in DEPTHS]
        assert by_depth == [[value] for value in wanted], (layer, group)
        assert values(told, "selection_recall", **at) == [pytest.approx(sum(wanted) / 5)]


@pytest.mark.parametrize(
    ("family", "due"), [("single", [200]), ("multi_key", [200]), ("multi_value", [199, 200]), ("variable_chain", [198, 200])]
)
def test_how_much_is_read_when_an_answer_is_due(family: Family, due: list[int], folder: Path) -> None:
    """All but the answers to come, and what stands between them: of a chain one word."""
    data = config()
    rows = data.prepared_test(folder, family, 200)
    assert Asked(rows, data.lexicon(folder), ())._read_before(200).tolist() == due
    assert rows.haystack_BR.shape[1] + rows.prompt_BQP.shape[2] == due[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_read_is_that_of_one_sequence_in_the_last_step(family: Family, folder: Path) -> None:
    """Two layers of attention read all 200 keys, of 8 numbers, and as many values, of 8 bytes each."""
    data = config()
    made = DecoderOnlyConfig.parse(
        {"d_model": 8, "pattern": "AA", "mixers": {"A": {"kind": "attention", "n_heads": 2}}}, "model"
    )
    model = made.build(Vocabulary(data.n_tokens(folder))).double()
    found = asked(data, folder, model, family)
    assert [(m.metric, m.value, m.n) for m in found.reading(200)] == [
        ("tokens_read", 2 * 200, 1), ("bytes_read", 2 * 200 * 2 * 8 * 8, 1)
    ]  # fmt: skip


def test_the_time_of_a_haystack_is_a_mean_over_all_families(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that goes on by a second whenever it is read: each family's haystacks are read at once."""
    ticks = iter(range(1000))
    monkeypatch.setattr(needle, "_now", lambda device: float(next(ticks)))
    found = measured(config(), folder, n_parts=4, controls=["own"])
    told = {m.slice["length"]: (m.value, m.n) for m in found if m.metric == "prefill_seconds"}
    assert told == {200: (4 / 24, 24), 260: (4 / 4, 4)}


def test_other_models_have_nothing_to_lose_by_the_controls_of_sparse_attention(folder: Path) -> None:
    made = DecoderOnlyConfig.parse(
        {"d_model": 8, "pattern": "A", "mixers": {"A": {"kind": "attention", "n_heads": 1}}}, "model"
    )
    run = run_of(config(), made)
    subject = Subject(run, folder, folder, folder, torch.device("cpu"))
    reader = Reader(config().n_tokens(folder))
    object.__setattr__(subject, "model", lambda: reader)
    with torch.inference_mode():
        found = list(NeedlePartConfig().measure(subject))
    assert {m.slice["control"] for m in found if m.metric == "accuracy"} == {"own", "wrong"}
    assert not [m for m in found if m.metric.startswith(("selection", "selected", "gate"))]


def test_what_a_run_must_have() -> None:
    part = PARTS.parse({"kind": "needle"})
    assert isinstance(part, NeedlePartConfig)
    model = DecoderOnlyConfig.parse(
        {"d_model": 16, "pattern": "NM", "mixers": {"N": SPARSE, "M": SPARSE | {"select_block": 16}}}, "m"
    )
    with pytest.raises(ConfigError, match="needles are looked for in data of kind needle, and the run's is mqar"):
        part.check(run_of(MqarConfig(num_pairs=[2]), model))
    with pytest.raises(ConfigError, match="the control 'oracle' names blocks of one size"):
        part.check(run_of(config(), model))
    part.replace(controls=["own"]).check(run_of(config(), model))
