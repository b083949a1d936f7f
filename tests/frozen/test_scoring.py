"""Answers: their logits, likelihoods and what a model writes, against the plainest way to get each."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from frozen.tiny import ANSWERS, ARCHITECTURES, DOCUMENTS, QUESTIONS, builder, fresh, lm, plain_logits
from torch import Tensor

from ripstop.config import ConfigError
from ripstop.frozen.base import FrozenLM
from ripstop.frozen.cache import KeyValues
from ripstop.frozen.prompt import Prompt, PromptBuilder
from ripstop.frozen.scoring import (
    DecodingConfig,
    answer_logits,
    generate,
    jointly_best,
    log_likelihoods,
    score,
)


def prompts(made: PromptBuilder) -> list[Prompt]:
    return [made.text(q, d) for q, d in zip(QUESTIONS, DOCUMENTS, strict=True)]


def whole(made: PromptBuilder, prompt: Prompt) -> list[int]:
    (ids,) = prompt.pieces
    assert isinstance(ids, list)
    return made.prefix_ids + ids


def greedy(model: FrozenLM, ids: list[int], n: int) -> list[int]:
    """By the plainest loop: everything read again for each token."""
    out: list[int] = []
    for _ in range(n):
        out.append(int(plain_logits(model, ids + out)[-1].argmax()))
    return out


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_gradient_of_a_soft_prompt_is_that_of_the_plain_model(architecture: str) -> None:
    """In a padded batch after a kept prefix, against one row at a time as embeddings and without a cache."""
    model = lm(architecture)
    made = builder(model)
    draw = torch.Generator().manual_seed(0)
    softs = [torch.randn(m, model.width, generator=draw).requires_grad_() for m in (3, 5, 2)]
    answers = [made.answer_ids(answer) for answer in ANSWERS]
    batch = [made.soft(q, s) for q, s in zip(QUESTIONS, softs, strict=True)]
    rows = answer_logits(model, made, batch, answers)
    got = torch.autograd.grad(sum(row.log_softmax(-1)[:, 7].sum() for row in rows), softs)
    for prompt, answer, soft_MD, gradient_MD in zip(batch, answers, softs, got, strict=True):
        lead, _, rest = prompt.pieces
        assert isinstance(lead, list) and isinstance(rest, list)
        x_TD = torch.cat([model.embed(made.prefix_ids + lead), soft_MD, model.embed(rest + answer)])
        logits_AV = model.model(inputs_embeds=x_TD[None]).logits[0, -len(answer) - 1 : -1]
        (expected_MD,) = torch.autograd.grad(logits_AV.log_softmax(-1)[:, 7].sum(), soft_MD)
        assert expected_MD.norm() > 1e-3
        torch.testing.assert_close(gradient_MD, expected_MD, rtol=1e-3, atol=1e-5)


def test_a_gradient_reaches_keys_and_values() -> None:
    model = lm("gemma")
    made = builder(model)
    shape = (model.n_kv_heads, 3, model.head_dim)
    tensors = [torch.randn(shape).requires_grad_() for _ in range(2 * model.n_layers)]
    pair = KeyValues(tuple(tensors[: model.n_layers]), tuple(tensors[model.n_layers :]))
    batch = [made.soft("Who?", pair), made.text("Who?", None)]
    (logits_AV, _) = answer_logits(model, made, batch, [made.answer_ids("Ada")] * 2)
    logits_AV.square().sum().backward()
    assert all(t.grad is not None and (t.grad.abs().sum(-1) > 0).all() for t in tensors)


def test_the_first_tokens_of_an_answer_are_those_of_all() -> None:
    model = lm()
    made = builder(model)
    answers = [made.answer_ids(answer) for answer in ANSWERS]
    with torch.no_grad():
        every, some = (answer_logits(model, made, prompts(made), answers, n_first=n) for n in (None, 2))
    assert [len(logits_AV) for logits_AV in every] == [len(answer) for answer in answers]
    for all_AV, some_AV in zip(every, some, strict=True):
        assert some_AV.shape == (2, model.vocab_size)
        torch.testing.assert_close(some_AV, all_AV[:2], rtol=1e-4, atol=1e-4)
    with pytest.raises(ConfigError, match="answers: one has no tokens"):
        answer_logits(model, made, prompts(made), [[5], [], [5]])


def test_logits_are_made_at_the_answers_alone_and_the_prefix_is_read_once() -> None:
    model = fresh()
    made = builder(model)
    rows: list[int] = []
    read: list[int] = []
    model.model.lm_head.register_forward_hook(lambda _, args, out: rows.append(out.shape[:-1].numel()))  # type: ignore[union-attr, operator]
    model._blocks()[0].register_forward_hook(lambda _, args, out: read.append(args[0].shape[1]))
    answers = [made.answer_ids(answer) for answer in ANSWERS]
    for _ in range(2):
        score(model, made, prompts(made), answers)
    n = sum(map(len, answers))
    longest = max(len(p) + len(a) - 1 for p, a in zip(prompts(made), answers, strict=True))
    assert rows == [1, n, n] and read == [len(made.prefix_ids), longest, longest]


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_scores_by_hand_whatever_the_batches(batch_size: int) -> None:
    model = lm("gemma")
    made = builder(model)
    best = greedy(model, whole(made, prompts(made)[1]), 4)
    answers = [made.answer_ids(ANSWERS[0]), best, [*best[:3], (best[3] + 1) % model.vocab_size]]
    asked = [prompts(made)[0], prompts(made)[1], prompts(made)[1]]
    scored = score(model, made, asked, answers, batch_size)
    for prompt, answer, got in zip(asked, answers, scored, strict=True):
        log_p_TV = plain_logits(model, whole(made, prompt) + answer).double().log_softmax(-1)[-len(answer) - 1 : -1]
        assert got.nll == pytest.approx(-sum(float(log_p_TV[n, i]) for n, i in enumerate(answer)), rel=1e-4)
        assert got.n_tokens == len(answer)
    assert [(got.first, got.all) for got in scored[1:]] == [(True, True), (True, False)]
    assert scored[0].first == (answers[0][0] == greedy(model, whole(made, asked[0]), 1)[0])


@pytest.mark.parametrize("style", ["plain", "chat"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_greedy_answers_are_those_of_the_plainest_loop(architecture: str, style: Any) -> None:
    """Prompts of different lengths in one batch; longer in the end than the window."""
    model = lm(architecture)
    made = builder(model, style)
    written = generate(model, made, prompts(made), DecodingConfig(max_new_tokens=20))
    for prompt, text in zip(prompts(made), written, strict=True):
        ids = greedy(model, whole(made, prompt), 20)
        ends = [n for n, i in enumerate(ids) if i in model.newlines | model.eos or i == made.answer_ids("")[-1]]
        assert text == model.decode(ids[: ends[0] if ends else None]).strip()


def ending() -> tuple[FrozenLM, PromptBuilder, list[list[int]]]:
    """A model for which the first token that it greedily writes after the first prompt ends a line; what it wrote before."""
    model = fresh("llama", seed=3)
    made = builder(model)
    free = [greedy(model, whole(made, prompt), 8) for prompt in prompts(made)]
    model.newlines = frozenset({free[0][0]})
    return model, made, free


@pytest.mark.parametrize("kind", ["newlines", "eos"])
def test_an_answer_ends_with_its_line_or_with_the_text(kind: str) -> None:
    model, made, free = ending()
    if kind == "eos":
        model.eos, model.newlines = model.newlines, frozenset(model.encode("\n"))
    assert generate(model, made, prompts(made)[:1], DecodingConfig(max_new_tokens=8)) == [""]
    ids = whole(made, prompts(made)[0])
    logits_V = plain_logits(model, ids)[-1]
    logits_V[sorted(model.newlines | model.eos | {made.answer_ids("")[-1]})] = -torch.inf
    (late,) = generate(model, made, prompts(made)[:1], DecodingConfig(max_new_tokens=1, ban_end=1))
    assert late == model.decode([int(logits_V.argmax())]).strip()


def test_one_answer_that_ends_does_not_end_the_others() -> None:
    model, made, free = ending()
    assert any(free[0][0] not in ids for ids in free[1:])
    texts = generate(model, made, prompts(made), DecodingConfig(max_new_tokens=8))
    ends = model.newlines | model.eos
    for ids, text in zip(free, texts, strict=True):
        stop = next((n for n, i in enumerate(ids) if i in ends), None)
        assert text == model.decode(ids[:stop]).split("\n")[0].strip()
    assert texts[0] == "" and any(texts)


def test_draws_are_of_the_seed_and_the_row_alone() -> None:
    model = lm()
    made = builder(model)
    options = DecodingConfig(temperature=1.0, max_new_tokens=12)
    texts = generate(model, made, prompts(made), options)
    assert generate(model, made, prompts(made), options, batch_size=1) == texts
    assert generate(model, made, prompts(made), options.replace(seed=1)) != texts
    assert generate(model, made, prompts(made), options.replace(top_p=1e-9)) == generate(
        model, made, prompts(made), DecodingConfig(max_new_tokens=12)
    )
    torch.manual_seed(5)
    before = torch.get_rng_state()
    generate(model, made, prompts(made), options)
    assert torch.equal(torch.get_rng_state(), before)


def test_draws_follow_the_probabilities_within_the_nucleus() -> None:
    """First tokens of many rows with one prompt: the most likely ones that make up half the mass, and in their proportions."""
    model = lm("llama", seed=2)
    made = builder(model)
    (ids,) = prompts(made)[0].pieces
    assert isinstance(ids, list)
    p_V = plain_logits(model, made.prefix_ids + ids)[-1].softmax(-1)
    p, order = p_V.sort(descending=True)
    nucleus = order[: int((p.cumsum(0) < 0.5).sum()) + 1]
    from ripstop.frozen import scoring

    draws: list[int] = []
    logits_BV = p_V.log().expand(400, -1)
    generators = [torch.Generator().manual_seed(n) for n in range(400)]
    draws = scoring._choose(logits_BV, DecodingConfig(temperature=1.0, top_p=0.5), generators)
    assert set(draws) <= set(nucleus.tolist())
    share = draws.count(int(nucleus[0])) / 400
    expected = float(p_V[nucleus[0]] / p_V[nucleus].sum())
    assert abs(share - expected) < 4 * (expected * (1 - expected) / 400) ** 0.5 + 0.01


def test_candidates_are_scored_with_their_end_and_two_models_are_asked_jointly() -> None:
    models = [lm("llama"), lm("gemma", merges=0)]
    candidates = [["Ada", "the Silt", "1704"], ["a town"], []]
    found = []
    for model in models:
        made = builder(model)
        got = log_likelihoods(model, made, prompts(made), candidates)
        assert [len(row) for row in got] == [3, 1, 0]
        for prompt, texts, row in zip(prompts(made), candidates, got, strict=True):
            for text, log_p in zip(texts, row, strict=True):
                ids = made.answer_ids(text)
                log_p_TV: Tensor = plain_logits(model, whole(made, prompt) + ids).log_softmax(-1)[-len(ids) - 1 : -1]
                assert log_p == pytest.approx(float(log_p_TV.gather(1, torch.tensor(ids)[:, None]).sum()), rel=1e-4)
        found.append(got[0])
    assert jointly_best(["a", "b", "c"], [-1.0, -2.0, -9.0], [-9.0, -3.0, -1.0]) == "b"
    assert jointly_best(["a", "b"], [-1.0, -2.0], [-2.0, -1.0]) == "a"
    assert jointly_best(candidates[0], *found) in candidates[0]
