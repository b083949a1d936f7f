"""Windows of a piece after each context, by hand, and their scores against one row at a time."""

from __future__ import annotations

import pytest
import torch
from models.architectures import build, encoder_decoder

from ripstop.batch import TokenBatch
from ripstop.config import ConfigError
from ripstop.data.tokenizer import BOS, EOS
from ripstop.evaluation.passages import CONTEXTS, Passage, Row, contexts, row, scores

A = Passage("a", [([3, 4], [5]), ([6], [7, 8])], [9, 10], [[11]])
B = Passage("b", [([12], [13])], [14], [[15, 16], [17, 16]])
FIRST = Passage("b", [], [18], [[19]])


def test_as_many_of_the_nearest_pieces_as_fit_with_eos() -> None:
    """Source 2 + 1 + 2 and EOS is 6; target 1 + 2 + 1 and EOS is 5."""
    assert A.context(6) == list(A.before)
    assert A.context(5) == [([6], [7, 8])]  # the source would take 6
    assert A.context(4) == [([6], [7, 8])] and A.context(3) == []
    assert Passage("a", [([1], [1]), ([1] * 9, [1])], [2], [[3]]).context(8) == []  # nothing is left out between
    assert A.fits(3) and not A.fits(2)
    assert not Passage("a", [], [1], [[1], [1, 2, 3]]).fits(3)  # of several targets the longest decides
    assert Passage("a", [([1], [1])], [1], [[1], [1, 2, 3]]).context(4) == []


def test_a_row_is_laid_out_as_in_training() -> None:
    assert row(A, [11], A.before) == Row([3, 4, 6, 9, 10, EOS], [5, 7, 8, 11, EOS], 3)
    assert row(B, [17, 16], []) == Row([14, EOS], [17, 16, EOS], 0)


def test_contexts() -> None:
    passages = [A, FIRST, B]
    assert contexts("own", passages, 9) == [list(A.before), [], list(B.before)]
    assert contexts("none", passages, 9) == [[], [], []]
    [(source, target)], nothing, [(one, other)] = contexts("shuffled", passages, 9)
    assert sorted(source) == [3, 4, 6] and sorted(target) == [5, 7, 8] and nothing == [] and (one, other) == ([12], [13])
    assert contexts("shuffled", passages, 9) == contexts("shuffled", passages, 9)
    long = Passage("a", [(list(range(50)), list(range(50)))], [1], [[2]])
    [(source, target)] = contexts("shuffled", [long], 99)[0]
    assert source != list(range(50)) and sorted(source) == list(range(50)) and source != target
    # Of B the passage before is FIRST, which has none, and then A; of A it is B around the end.
    assert contexts("wrong", passages, 9) == [list(B.before), [], list(A.before)]
    assert contexts("wrong", passages, 5) == [list(B.before), [], [([6], [7, 8])]]  # cut to what fits beside the piece
    second = Passage("b", [([20], [21])], [22], [[23]])
    assert contexts("wrong", [A, second, B], 9)[2] == list(A.before)  # not that of another piece of its own document
    with pytest.raises(ConfigError, match="the context 'wrong' needs a piece of another document"):
        contexts("wrong", [A, A], 9)


@pytest.mark.parametrize("budget", [14, 40, 1000])
def test_scores_are_those_of_each_row_alone(budget: int) -> None:
    """Whatever shares a batch, and only from where the piece begins."""
    model = build(encoder_decoder("hybrid")).eval()
    rows = [row(p, target, before) for p in (A, B, FIRST) for target in p.targets for before in ([], p.before)]
    with torch.inference_mode():
        nats, counts = scores(model, rows, budget)
        for i, one in enumerate(rows):
            batch = TokenBatch(
                torch.tensor([[BOS, *one.target[:-1]]]), torch.tensor([one.target]), source_BS=torch.tensor([one.source])
            )
            log_p_TV = model(batch)[0].log_softmax(-1)
            alone = -sum(log_p_TV[t, one.target[t]] for t in range(one.start, len(one.target)))
            assert nats[i].item() == pytest.approx(float(alone), rel=1e-5)
            assert counts[i] == len(one.target) - one.start

    assert CONTEXTS == ("own", "shuffled", "wrong", "none")
