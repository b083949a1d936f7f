"""The loss of a piece after each context: nothing where a model does not look, and what it gains where it does."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from evaluation.context_models import Announced, Bigram
from models.architectures import build, encoder_decoder

from ripstop.config import ConfigError
from ripstop.data.documents import DocumentsConfig
from ripstop.data.hub import Document
from ripstop.data.tokenizer import BOS, EOS, BytesConfig
from ripstop.evaluation import context
from ripstop.evaluation.base import Subject
from ripstop.evaluation.context import ContextConfig, PieceLoss, half_interval, passages, piece_losses
from ripstop.evaluation.passages import CONTEXTS, Passage
from ripstop.models.generate import GenerationConfig, generate
from ripstop.runs import Run

STOP, SIGN, OTHER, ANSWER = 3, 4, 5, 6


def told(document: str, sign: int) -> list[Passage]:
    """A piece that holds a sign, and one that has to be known from it."""
    first, second = ([7, sign, STOP], [8, sign, STOP]), ([9, STOP], [ANSWER, STOP])
    return [Passage(document, [], first[0], [first[1]]), Passage(document, [first], second[0], [second[1]])]


def loss(model: Any, chosen: list[Passage], context: Any) -> float:
    found = piece_losses(model, chosen, context, 20, 100)
    return sum(one.nats for one in found) / sum(one.tokens for one in found)


def test_a_model_that_ignores_its_context_gains_nothing() -> None:
    """After BOS it expects what it expects after the end of a piece, and looks no further back."""
    chosen = [*told("a", SIGN), *told("b", OTHER)]
    with torch.inference_mode():
        losses = [loss(Bigram(10, (BOS, STOP)), chosen, context) for context in ("own", "wrong", "none")]
    assert losses[0] == pytest.approx(losses[2], rel=1e-12) and losses[1] == pytest.approx(losses[2], rel=1e-12)


def test_a_model_that_reads_its_context_gains_by_hand() -> None:
    """Ten tokens: the answer's logit is 5 where the sign was seen in the target before, else all are alike."""
    model = Announced(10, {SIGN: ANSWER})
    second = told("a", SIGN)[1]
    other = told("b", OTHER)[1]
    known, unknown = math.log(9 + math.exp(5)) - 5, math.log(10)
    misled = math.log(9 + math.exp(5))  # of what follows the answer
    with torch.inference_mode():
        assert loss(model, [second], "own") == pytest.approx((known + 2 * misled) / 3, rel=1e-6)
        assert loss(model, [second], "none") == pytest.approx(unknown, rel=1e-6)
        found = piece_losses(model, [second, other], "wrong", 20, 100)
    assert [one.nats / one.tokens for one in found] == pytest.approx([unknown, (known + 2 * misled) / 3], rel=1e-6)
    assert [one.tokens for one in found] == [3, 3] and [one.document for one in found] == ["a", "b"]


def test_interval_over_documents_by_hand() -> None:
    """Documents that gain 1 and 3 nats a token: a resample has a mean of 1 or 3 with probability 1/4 each, else 2."""
    without = [PieceLoss("a", 4.0, 2), PieceLoss("b", 20.0, 4), PieceLoss("a", 4.0, 2)]
    given = [PieceLoss("a", 1.0, 2), PieceLoss("b", 8.0, 4), PieceLoss("a", 3.0, 2)]
    assert half_interval(without, given, 2000) == pytest.approx(1)
    assert half_interval(without[1:2], given[1:2], 100) == 0


def test_a_piece_without_a_side_is_a_border() -> None:
    tokenizer = BytesConfig().train([])
    documents = [Document("d", ["a", "", "b", "c"], ["A", "B", "C", "D"]), Document("d", ["e"], ["E"])]
    found = list(passages(documents, tokenizer))
    assert [len(p.before) for p in found] == [0, 0, 1, 0]
    assert [tokenizer.decode(p.targets[0]) for p in found] == ["A", "C", "D", "E"]
    assert found[2].before[0] == (found[1].source, found[1].targets[0])
    assert found[0].document != found[3].document  # two documents of one name


def subject(folder: Path, **settings: Any) -> Subject:
    """A run with data of its own, whose model is as it is built."""
    for split in ("train", "valid", "test"):
        rows = [
            {"document": f"{split} {i}", "en": [f"it {i}{j}" for j in range(4)], "de": [f"es {j}{i}" for j in range(4)]}
            for i in range(3)
        ]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = DocumentsConfig.parse({"source": {"path": str(folder)}, "tokenizer": {"kind": "bytes"}, "max_tokens": 24}, "d")
    (folder / "data").mkdir()
    data.prepare(folder / "data")
    run = Run.parse(
        {"study": "s", "scale": "cpu", "name": "r", "seed": 0, "factors": {}, "data": data, "model": encoder_decoder("hybrid"),
         "training": None, "evaluation": settings}, "r"
    )  # fmt: skip
    run.check()
    return Subject(run, folder, folder / "data", folder, torch.device("cpu"))


def test_the_part(tmp_path: Path) -> None:
    generation = {"max_new_tokens": 3, "eos": 2}
    settings = ContextConfig(n_pieces=5, n_translations=2, generation=generation, n_bootstrap=20)
    torch.manual_seed(0)
    with torch.inference_mode():
        found = list(settings.measure(subject(tmp_path, context=settings)))
    by_metric = {m.metric: [x.slice["context"] for x in found if x.metric == m.metric] for m in found}
    assert by_metric == {
        "context_loss": list(CONTEXTS),
        "cxmi_half_interval": ["own", "shuffled", "wrong"],
        "context_chrf++": list(CONTEXTS),
    }
    losses = {m.slice["context"]: m for m in found if m.metric == "context_loss"}
    assert {m.n for m in losses.values()} == {5 * 7}  # five pieces of six bytes and EOS
    assert losses["own"].value != losses["none"].value
    lines = [json.loads(line) for line in (tmp_path / "context.jsonl").read_text().splitlines()]
    assert len(lines) == 4 * 5 and {line["document"] for line in lines} == {"0 test 0", "1 test 1", "2 test 2"}
    own = [line for line in lines if line["context"] == "own"]
    assert sum(line["nats"] for line in own) / sum(line["tokens"] for line in own) == pytest.approx(losses["own"].value)


def test_a_translation_goes_on_after_its_context_on_both_sides() -> None:
    """As of the source and the prompt put together by hand, each alone."""
    model, generation = build(encoder_decoder("hybrid")).eval(), GenerationConfig(max_new_tokens=4, eos=EOS)
    chosen = [*told("a", SIGN), told("b", OTHER)[1]]
    before = [list(p.before) for p in chosen]
    by_hand = [
        ([BOS], [7, SIGN, STOP, EOS]),
        ([BOS, 8, SIGN, STOP], [7, SIGN, STOP, 9, STOP, EOS]),
        ([BOS, 8, OTHER, STOP], [7, OTHER, STOP, 9, STOP, EOS]),
    ]
    wanted = [generate(model, [prompt], generation, sources=[source])[0] for prompt, source in by_hand]
    assert context._outputs(model, chosen, before, generation) == wanted


def test_chrf_of_each_context_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both pieces are right after a context, and without one a letter of the first is wrong: see `test_corpus_scores`."""
    tokenizer = BytesConfig().train([])
    first, second, before = (tokenizer.encode(text) for text in ("ab cd", "ef gh ij kl", "x"))
    chosen = [Passage(name, [(before, before)], before, [target]) for name, target in (("a", first), ("b", second))]
    alone = tokenizer.encode("ab ce")

    def outputs(model: Any, pieces: list[Passage], given: list[list[Any]], generation: Any) -> list[list[int]]:
        return [p.targets[0] if pairs or p is not chosen[0] else alone for p, pairs in zip(pieces, given, strict=True)]

    monkeypatch.setattr(context, "_outputs", outputs)
    settings = ContextConfig(contexts=["own", "none"], n_translations=9, generation={"max_new_tokens": 9, "eos": EOS})
    own, none = settings._translated(Bigram(10), chosen, tokenizer, 99)
    assert (own.value, own.n, own.slice) == (100, 2, {"context": "own"}) and none.slice == {"context": "none"}
    # of n letters 11 of 12, 9 of 10, ...; of n words 5 of 6 and 3 of 4: corpus counts of both pieces
    letters, words = [(11, 12), (9, 10), (7, 8), (5, 6), (4, 4), (3, 3)], [(5, 6), (3, 4)]
    assert none.value == pytest.approx(100 * sum(hit / n for hit, n in [*letters, *words]) / 8)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"tokens_per_batch": 40}, "tokens_per_batch: 40 does not hold a window, which takes 48"),
        ({"n_translations": 3}, "generation: n_translations needs one, with eos: 2"),
        ({"n_translations": 3, "generation": {"max_new_tokens": 4}}, "generation: n_translations needs one, with eos: 2"),
        ({"max_tokens": 100, "tokens_per_batch": 199}, "which takes 200"),
    ],
)
def test_what_does_not_fit_is_told_before_anything_trains(settings: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        subject(tmp_path, context=ContextConfig.parse(settings, "c"))


def test_windows_too_short_for_a_context_are_told(tmp_path: Path) -> None:
    settings = ContextConfig(max_tokens=8)
    with pytest.raises(ConfigError, match="no piece of the test split and one before it fit into 8"):
        list(settings.measure(subject(tmp_path, context=settings)))
