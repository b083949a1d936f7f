"""One builder for all arms: the same words around a text, a soft prompt, both or neither, to the token."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from frozen.tiny import ANSWERS, ARCHITECTURES, DOCUMENTS, QUESTIONS, SHOTS, builder, fresh, lm, plain_logits
from torch import Tensor

from ripstop.config import ConfigError
from ripstop.frozen.base import FrozenLM
from ripstop.frozen.cache import KeyValues
from ripstop.frozen.prompt import Prompt, PromptBuilder, PromptConfig
from ripstop.frozen.scoring import answer_logits

PLAIN = (
    "<bos>Context: The Elbe is in Hamburg.\nQuestion: Which river?\nAnswer: the Elbe\n\n"
    "Context: Ada wrote it.\nQuestion: Who wrote it?\nAnswer: Ada\n\n"
)
CHAT = (
    "<bos><|im_start|>user\nContext: The Elbe is in Hamburg.\nQuestion: Which river?<|im_end|>\n<|im_start|>assistant\n"
    "Answer: the Elbe<|im_end|>\n<|im_start|>user\nContext: Ada wrote it.\nQuestion: Who wrote it?<|im_end|>\n"
    "<|im_start|>assistant\nAnswer: Ada<|im_end|>\n<|im_start|>user\n"
)


def shown(model: FrozenLM, prompt: Prompt) -> str:
    """Its words; soft vectors as <M>."""
    return "".join(model.tokenizer.decode(p) if isinstance(p, list) else f"<{len(p)}>" for p in prompt.pieces)


@pytest.mark.parametrize(
    ("style", "prefix", "end"),
    [("plain", PLAIN, "\nAnswer:"), ("chat", CHAT, "<|im_end|>\n<|im_start|>assistant\nAnswer:")],
)
def test_every_arm_word_by_word(style: Any, prefix: str, end: str) -> None:
    model = lm()
    made = builder(model, style)
    soft_MD, question = torch.zeros(4, model.width), "Who  is\nit?"
    assert model.tokenizer.decode(made.prefix_ids) == prefix
    asked = f"Question: Who is it?{end}"
    assert shown(model, made.text(question, "It is  Ada.")) == f"Context: It is Ada.\n{asked}"
    assert shown(model, made.text(question, None)) == asked
    assert shown(model, made.soft(question, soft_MD)) == f"Context:<4>\n{asked}"
    assert shown(model, made.soft(question, soft_MD, "It is Ada.")) == f"Context:<4> It is Ada.\n{asked}"
    assert len(made.soft(question, soft_MD).pieces) == 3 and len(made.text(question, "It is Ada.").pieces) == 1


@pytest.mark.parametrize(("style", "end"), [("plain", "\n"), ("chat", "<|im_end|>")])
def test_an_answer_ends_as_the_shots_show(style: Any, end: str) -> None:
    made = builder(lm(), style)
    for shot in SHOTS:
        ids = made.answer_ids(shot.answer)
        assert lm().tokenizer.decode(ids) == f" {shot.answer}{end}"
        assert any(made.prefix_ids[n : n + len(ids)] == ids for n in range(len(made.prefix_ids)))


def test_what_a_document_spells_is_no_turn_of_a_chat() -> None:
    model = lm()
    (ids,) = builder(model, "chat").text("Who?", "<|im_end|>").pieces
    assert isinstance(ids, list) and ids.count(model.encode("<|im_end|>", specials=True)[0]) == 1  # the template's own


def test_the_first_shots_are_taken_or_none() -> None:
    model = lm()
    assert builder(model, n_shots=0).prefix_ids == model.bos
    one = model.tokenizer.decode(builder(model, n_shots=1).prefix_ids)
    assert one == PLAIN[: PLAIN.index("Context: Ada")]
    with pytest.raises(ConfigError, match="n_shots is 3, and there are 2 shots"):
        PromptBuilder(model, PromptConfig(), SHOTS)


def key_values(model: FrozenLM, before: list[int], ids: list[int]) -> KeyValues:
    """What the model itself keeps of `ids` when it has read `before`."""
    past = model.prefix(before + ids)
    assert past is not None
    keys, values = (tuple(t[0, :, len(before) :] for t in part) for part in (past.keys, past.values))
    return KeyValues(keys, values)


@pytest.mark.parametrize("padding", ["left", "right"])
@pytest.mark.parametrize("style", ["plain", "chat"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_text_and_its_own_embeddings_as_a_soft_prompt_give_the_same_logits(
    architecture: str, style: Any, padding: Any
) -> None:
    """And so do its own keys and values; all as the plain model gives them, without padding, prefix or cache of ours."""
    model = lm(architecture)
    made = builder(model, style)
    answers = [made.answer_ids(answer) for answer in ANSWERS]
    before = made.prefix_ids + model.encode("Context:")
    document_ids = [model.words(document) for document in DOCUMENTS]
    assert len({len(ids) for ids in document_ids}) == 3
    arms = {
        "text": [made.text(q, d) for q, d in zip(QUESTIONS, DOCUMENTS, strict=True)],
        "embeddings": [made.soft(q, model.embed(ids)) for q, ids in zip(QUESTIONS, document_ids, strict=True)],
        "key_values": [made.soft(q, key_values(model, before, ids)) for q, ids in zip(QUESTIONS, document_ids, strict=True)],
    }
    arms["mixed"] = [arms["text"][0], arms["embeddings"][1], arms["key_values"][2]]
    expected: list[Tensor] = []
    for prompt, answer in zip(arms["text"], answers, strict=True):
        (ids,) = prompt.pieces
        assert isinstance(ids, list)
        expected.append(plain_logits(model, made.prefix_ids + ids + answer)[-len(answer) - 1 : -1])
    for arm, prompts in arms.items():
        with torch.no_grad():
            got = answer_logits(model, made, prompts, answers, padding=padding)
        for one, other in zip(got, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4, msg=lambda text, arm=arm: f"{arm}: {text}")


def test_a_soft_prompt_is_read_where_the_context_stands() -> None:
    model = lm()
    made = builder(model)
    answers = [made.answer_ids("Ada")]
    soft_MD = torch.randn(4, model.width)
    with torch.no_grad():
        one, other, none = (
            answer_logits(model, made, [prompt], answers)[0]
            for prompt in (made.soft("Who?", soft_MD), made.soft("Who?", soft_MD.flip(0)), made.text("Who?", None))
        )
    assert (one - other).abs().max() > 0.01 and (one - none).abs().max() > 0.01


def test_a_model_without_a_template_or_with_one_that_does_not_repeat_cannot_chat() -> None:
    model = fresh()
    for template, told in [
        (None, "has no chat template; choose the prompt style plain"),
        ("{% for m in messages %}{{ loop.index }}{{ m['content'] }}{% endfor %}", "does not repeat its turns"),
        ("{% for m in messages %}{{ m['content'] }}{% if loop.index % 2 %}x{% endif %}{% endfor %}"
         "{% if add_generation_prompt %}y{% endif %}", "does not repeat its turns"),
        ("{% for m in messages %}{{ m['content'] }}{% if loop.index % 2 %}x{% endif %}{% endfor %}", "does not end a turn"),
    ]:  # fmt: skip
        model.tokenizer.chat_template = template
        with pytest.raises(ConfigError, match=told):
            builder(model, "chat")


def test_bos_stands_once_whether_the_template_writes_it_or_not() -> None:
    model = fresh()
    for template in (str(model.tokenizer.chat_template), str(model.tokenizer.chat_template).removeprefix("{{ bos_token }}")):
        model.tokenizer.chat_template = template
        assert builder(model, "chat").prefix_ids[:2] == [1, 3] and builder(model, "chat").prefix_ids.count(1) == 1


def test_shapes_that_do_not_fit_are_told() -> None:
    model = lm()
    made = builder(model)
    answer = [made.answer_ids("Ada")]
    with pytest.raises(ConfigError, match=r"a soft prompt of shape \(4, 31\) is not \(M, 32\)"):
        answer_logits(model, made, [made.soft("Who?", torch.zeros(4, 31))], answer)
    pair = key_values(model, [1], [5, 6])
    with pytest.raises(ConfigError, match="holds keys and values twice"):
        answer_logits(model, made, [Prompt((pair, pair, [5]))], answer)
    with pytest.raises(ConfigError, match=r"a prompt of \d{4} tokens is longer than its 4096; shorten"):
        answer_logits(model, made, [made.text("Who?", "x " * 3000)], answer)
    with pytest.raises(ConfigError, match="prompts: there are none"):
        answer_logits(model, made, [], [])
