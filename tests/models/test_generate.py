"""Generation: equal to recomputing everything at every token, to exhaustive search, and to the stated distributions."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
import torch
from models.architectures import ALL, VOCAB, build, decoder_only, encoder_decoder, tokens
from torch import Tensor
from torch.testing import assert_close

from ripstop.batch import TokenBatch
from ripstop.config import ConfigError
from ripstop.models.base import Model, ModelConfig
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.models.generate import GenerationConfig, Prompts, beam_search, generate, length_penalty, probabilities

PROMPTS = [tokens(n, seed=n).tolist() for n in (4, 1, 9, 4, 2)]
SOURCES = [tokens(n, seed=50 + n) for n in (3, 8, 5, 1, 8)]
MANY = GenerationConfig(max_new_tokens=7)


def sources_of(config: ModelConfig) -> list[Tensor] | None:
    return None if isinstance(config, DecoderOnlyConfig) else SOURCES


def log_p(model: Model, tokens_T: list[int], source: Tensor | None) -> Tensor:
    """Log-probabilities after `tokens_T`, computed from nothing, (V,)."""
    x_BT = torch.tensor([tokens_T])
    batch = TokenBatch(x_BT, x_BT, source_BS=None if source is None else source.unsqueeze(0))
    return model(batch)[0, -1].log_softmax(-1).detach()


def recomputed(model: Model, prompt: list[int], config: GenerationConfig, source: Tensor | None) -> list[int]:
    """Greedy tokens without any state."""
    text: list[int] = []
    while len(text) < config.max_new_tokens:
        token = int(log_p(model, prompt + text, source).argmax())
        if token == config.eos:
            break
        text.append(token)
    return text


@pytest.mark.parametrize("name", ALL)
def test_greedy_equals_recomputation_without_state(name: str) -> None:
    """Prompts of five lengths in one batch; with an `eos` that some rows meet early and others never."""
    model, sources = build(ALL[name]), sources_of(ALL[name])
    each = sources or [None] * len(PROMPTS)
    free = generate(model, PROMPTS, MANY, sources=sources)
    assert free == [recomputed(model, p, MANY, s) for p, s in zip(PROMPTS, each, strict=True)]
    eos = free[0][2]
    stopping = MANY.model_copy(update={"eos": eos})
    stopped = generate(model, PROMPTS, stopping, sources=sources)
    assert stopped == [text[: text.index(eos)] if eos in text else text for text in free]
    assert len(stopped[0]) <= 2


@pytest.mark.parametrize("name", ALL)
def test_rows_do_not_depend_on_their_batch(name: str) -> None:
    model, sources = build(ALL[name]), sources_of(ALL[name])
    for config in (MANY, GenerationConfig(max_new_tokens=5, beam_size=3, eos=3)):
        together = generate(model, PROMPTS, config, sources=sources)
        for i, prompt in enumerate(PROMPTS):
            alone = generate(model, [prompt], config, sources=None if sources is None else sources[i : i + 1])
            assert alone == [together[i]]


@pytest.mark.parametrize("name", ["decoder_only-attention", "encoder_decoder-first"])
def test_beam_search_with_one_beam_is_greedy(name: str) -> None:
    """Whatever token ends a text, also one that is often second and must not end it then."""
    model, sources = build(ALL[name]), sources_of(ALL[name])
    with torch.no_grad():
        model.readout.norm.weight.mul_(0.3)
    ended = 0
    for eos in range(VOCAB):
        config = GenerationConfig(max_new_tokens=5, length_penalty=0.0, eos=eos)
        greedy = generate(model, PROMPTS, config, sources=sources)
        with torch.inference_mode():
            assert beam_search(model, Prompts(model, PROMPTS, sources), config) == greedy
        ended += sum(len(text) < 5 for text in greedy)
    assert ended > len(PROMPTS)  # not by the first token alone


@pytest.mark.parametrize("kind", ["decoder_only", "encoder_decoder"])
def test_beam_search_with_enough_beams_is_exhaustive(kind: str) -> None:
    """All texts over three tokens, of which one ends: 1 + 2 + 4 finished and 8 of full length, scored one by one."""
    n_vocab, eos, longest = 3, 0, 3
    config = decoder_only("hybrid") if kind == "decoder_only" else encoder_decoder("hybrid")
    config = config.model_copy(update={"tie_embeddings": False})  # a tied head prefers to repeat the last token
    prompts = [[1], [2, 1, 1], [1, 2]]
    sources = None if kind == "decoder_only" else [torch.tensor(s) for s in ([1, 2], [2], [1, 1, 2, 1])]
    wanted = {alpha: [] for alpha in (0.0, 0.6, 2.5)}
    for seed in range(6):
        model = build(config, seed, n_vocab)
        with torch.no_grad():
            model.readout.norm.weight.mul_(0.3)  # flat enough that the end has its chance at every length
        after = [
            {p: log_p(model, [*prompt, *p], None if sources is None else sources[i]).tolist() for p in texts(longest - 1)}
            for i, prompt in enumerate(prompts)
        ]
        for alpha, best in wanted.items():
            settings = GenerationConfig(max_new_tokens=longest, beam_size=27, length_penalty=alpha, eos=eos)
            found = generate(model, prompts, settings, sources=sources)
            for i in range(len(prompts)):
                scores = {}
                for text in texts(longest):
                    whole = text if len(text) == longest else (*text, eos)
                    total = sum(after[i][whole[:t]][token] for t, token in enumerate(whole))
                    scores[text] = total / length_penalty(len(whole), alpha)
                best.append(max(scores, key=lambda text: scores[text]))
                assert tuple(found[i]) == best[-1]
    assert len({len(text) for best in wanted.values() for text in best}) > 1
    assert wanted[0.0] != wanted[2.5]  # or the penalty has not been tried


def texts(longest: int) -> list[tuple[int, ...]]:
    """Everything over the tokens 1 and 2 that has at most `longest` of them."""
    return [text for n in range(longest + 1) for text in itertools.product((1, 2), repeat=n)]


def test_more_beams_find_what_greedy_misses() -> None:
    """Over many models the best of four beams is never less likely than the greedy text, and sometimes more."""
    better = 0
    for seed in range(8):
        model = build(decoder_only("recurrent"), seed)
        config = GenerationConfig(max_new_tokens=4, beam_size=29, length_penalty=0.0)
        greedy = generate(model, [[5, 3]], GenerationConfig(max_new_tokens=4))[0]
        beam = generate(model, [[5, 3]], config)[0]
        score = [
            sum(float(log_p(model, [5, 3, *text[:t]], None)[token]) for t, token in enumerate(text)) for text in (greedy, beam)
        ]
        assert score[1] >= score[0] - 1e-9
        better += score[1] > score[0] + 1e-6
    assert better > 0


def test_length_penalty_by_hand() -> None:
    assert length_penalty(1, 0.6) == 1.0
    assert length_penalty(7, 1.0) == 2.0
    assert length_penalty(19, 0.5) == 2.0


LOGITS = torch.tensor([[0.4, 0.1, 0.3, 0.2]]).log()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"temperature": 1.0}, [0.4, 0.1, 0.3, 0.2]),
        ({"temperature": 0.5}, [16 / 30, 1 / 30, 9 / 30, 4 / 30]),
        ({"temperature": 1.0, "top_k": 2}, [4 / 7, 0, 3 / 7, 0]),
        ({"temperature": 1.0, "top_k": 99}, [0.4, 0.1, 0.3, 0.2]),
        ({"temperature": 1.0, "top_p": 0.39}, [1.0, 0, 0, 0]),
        ({"temperature": 1.0, "top_p": 0.41}, [4 / 7, 0, 3 / 7, 0]),
        ({"temperature": 1.0, "top_p": 0.85}, [4 / 9, 0, 3 / 9, 2 / 9]),
        ({"temperature": 1.0, "top_k": 3, "top_p": 0.5}, [4 / 7, 0, 3 / 7, 0]),  # top_p of what top_k leaves
    ],
)
def test_probabilities_by_hand(settings: dict[str, float], expected: list[float]) -> None:
    config = GenerationConfig.parse({"max_new_tokens": 1} | settings, "c")
    assert_close(probabilities(LOGITS, config), torch.tensor([expected]))


def test_ties_leave_exactly_top_k() -> None:
    config = GenerationConfig(max_new_tokens=1, temperature=1.0, top_k=3)
    assert (probabilities(torch.zeros(2, 7), config) > 0).sum(-1).tolist() == [3, 3]


def test_samples_follow_the_distribution_and_the_generator() -> None:
    """3,000 draws of the first token against the model's own probabilities, by a chi-square at 1e-4."""
    model = build(decoder_only("recurrent"), vocab_size=5)
    config = GenerationConfig(max_new_tokens=1, temperature=1.7, top_k=4)
    n, prompt = 3000, [3, 1]

    def draws(seed: int) -> list[list[int]]:
        return generate(model, [prompt] * n, config, generator=torch.Generator().manual_seed(seed))

    first = draws(0)
    assert first == draws(0)
    assert first != draws(1)
    expected_V = n * probabilities(log_p(model, prompt, None).unsqueeze(0), config)[0]
    count = Counter(text[0] for text in first)
    assert all(count[token] == 0 for token, wanted in enumerate(expected_V.tolist()) if wanted == 0)
    chi_square = sum((count[t] - wanted) ** 2 / wanted for t, wanted in enumerate(expected_V.tolist()) if wanted > 0)
    assert chi_square < 21.1  # 3 degrees of freedom


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"top_k": 3}, "top_k and top_p choose what is sampled"),
        ({"temperature": 1.0, "beam_size": 2}, "beam search does not sample"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"max_tokens": 5}, "max_tokens: unknown key; did you mean 'max_new_tokens'?"),
    ],
)
def test_settings_that_contradict_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        GenerationConfig.parse({"max_new_tokens": 4} | settings, "c")
    assert message in str(error.value)


def test_prompts_that_cannot_be_read_are_refused() -> None:
    model = build(decoder_only("recurrent"))
    assert generate(model, [], MANY) == []
    with pytest.raises(ConfigError, match="a prompt is empty"):
        generate(model, [[1], []], MANY)
    with pytest.raises(ConfigError, match="reads no source"):
        generate(model, [[1]], MANY, sources=[[1]])
    with pytest.raises(ConfigError, match="2 prompts have 1 sources"):
        generate(build(encoder_decoder("first")), [[1], [2]], MANY, sources=[[1]])
