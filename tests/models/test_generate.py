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
from ripstop.models.generate import GenerationConfig, Hypotheses, beam_search, generate, groups, length_penalty, probabilities

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
    stopping = MANY.replace(eos=eos)
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
            for group in groups(PROMPTS, sources, torch.device("cpu")):
                assert beam_search(model, group, config) == [greedy[index] for index in group.indices]
        ended += sum(len(text) < 5 for text in greedy)
    assert ended > len(PROMPTS)  # not by the first token alone


@pytest.mark.parametrize("kind", ["decoder_only", "encoder_decoder"])
def test_beam_search_with_enough_beams_is_exhaustive(kind: str) -> None:
    """All texts over three tokens, of which one ends: 1 + 2 + 4 finished and 8 of full length, scored one by one."""
    n_vocab, eos, longest = 3, 0, 3
    config = decoder_only("hybrid") if kind == "decoder_only" else encoder_decoder("hybrid")
    config = config.replace(tie_embeddings=False)  # a tied head prefers to repeat the last token
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


class Table(Model):
    """Log-probabilities that depend on the last token alone: row t of the table is what follows token t."""

    def __init__(self, p_VV: list[list[float]]):
        super().__init__()
        self.log_p_VV = torch.nn.Parameter(torch.tensor(p_VV, dtype=torch.float64).log())
        self.calls: list[tuple[str, tuple[int, ...]]] = []

    def init_state(self, batch_size: int, max_len: int, source_BS: object = None, source_segments_BS: object = None) -> Tensor:
        return torch.zeros(batch_size, dtype=torch.int64)

    def prefill(self, tokens_BT: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        self.calls.append(("prefill", tuple(tokens_BT.shape)))
        return self.log_p_VV[tokens_BT[:, -1]], tokens_BT[:, -1]

    def step(self, tokens_B: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        self.calls.append(("step", tuple(tokens_B.shape)))
        return self.log_p_VV[tokens_B], tokens_B


def test_each_length_is_read_whole_and_once() -> None:
    """Five prompts of four lengths: four readings, and a step for each token that follows another."""
    model = Table([[0.0, 0.5, 0.5], [0.1, 0.2, 0.7], [0.1, 0.6, 0.3]])
    prompts = [[1, 1, 2, 1], [2], [1] * 9, [1, 2, 1, 2], [1, 2]]
    assert generate(model, prompts, GenerationConfig(max_new_tokens=3)) == [
        [2, 1, 2], [1, 2, 1], [2, 1, 2], [1, 2, 1], [1, 2, 1]]  # fmt: skip
    lengths = [(1, 1), (1, 2), (2, 4), (1, 9)]
    assert model.calls == [call for shape in lengths for call in (("prefill", shape), *[("step", shape[:1])] * 2)]


def test_the_end_counts_as_a_token_of_a_beam() -> None:
    """Texts after 2 with at most two tokens, 0 the end; the penalty with alpha 1 is (5 + n) / 6.

    [1, end] has log(0.8 x 0.52) = -0.877 and [1, 1] has log(0.8 x 0.48) = -0.957, both over 7/6. Were the end not counted,
    the first would stay -0.877 and the second, -0.820, would win.
    """
    model = Table([[1 / 3] * 3, [0.52, 0.48, 0.0], [0.2, 0.8, 0.0]])
    config = GenerationConfig(max_new_tokens=2, beam_size=3, length_penalty=1.0, eos=0)
    assert generate(model, [[2]], config) == [[1]]
    finished = Hypotheses(config)
    finished.add(-0.7, 1, [])
    finished.add(-0.7, 2, [1])
    assert finished.best == [(pytest.approx(-0.6), [1]), (pytest.approx(-0.7), [])]
    assert finished.beats(-0.7) and not finished.beats(-0.69)  # at best over 7/6


def test_beams_go_on_where_the_likeliest_candidates_all_end() -> None:
    """After 3, both of the two likeliest candidates end: 2 and the end (0.441), 1 and the end (0.275), before 1 and 1 (0.2695).

    With alpha 5 and ((5 + n) / 6)^alpha, five times 1 and the end has log(0.0159) / 20.7 = -0.20, and 2 and the end -0.38.
    """
    model = Table([[0.25] * 4, [0.5, 0.49, 0.01, 0.0], [0.98, 0.02, 0.0, 0.0], [0.0, 0.55, 0.45, 0.0]])
    config = GenerationConfig(max_new_tokens=6, beam_size=2, length_penalty=5.0, eos=0)
    assert generate(model, [[3]], config) == [[1] * 5]


@pytest.mark.parametrize("beam_size", [1, 2, 9])
def test_the_shortest_generations(beam_size: int) -> None:
    """One token; an end at once, for one row and for all; more beams than tokens."""
    model = Table([[0.0, 0.5, 0.5], [0.6, 0.3, 0.1], [0.1, 0.2, 0.7]])

    def text(prompts: list[list[int]], n: int, eos: int | None) -> list[list[int]]:
        settings = {"length_penalty": 0.0} if beam_size > 1 else {}
        return generate(model, prompts, GenerationConfig(max_new_tokens=n, beam_size=beam_size, eos=eos, **settings))

    assert text([[1], [2]], 1, None) == [[0], [2]]
    assert text([[1], [2], [2, 2]], 1, 0) == [[], [2], [2]]
    assert text([[1], [2, 1]], 5, 0) == [[], []]
    assert text([[0], [0, 0]], 1, 1) in ([[], []], [[2], [2]])  # a prompt of ends alone is a prompt
    assert model.calls.count(("step", (2,))) == 0


def test_a_text_that_is_sampled_is_that_of_the_generator() -> None:
    """The shortest prompt comes first whatever its place, so it draws as it does alone."""
    model = build(decoder_only("recurrent"))
    config = GenerationConfig(max_new_tokens=6, temperature=3.0)

    def drawn(prompts: list[list[int]]) -> list[list[int]]:
        return generate(model, prompts, config, generator=torch.Generator().manual_seed(3))

    together = drawn(PROMPTS)
    assert together == drawn(PROMPTS)
    assert [together[1]] == drawn([PROMPTS[1]])
    assert len({tuple(text) for text in together}) == len(PROMPTS)


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


def test_a_temperature_near_zero_takes_the_most_likely() -> None:
    config = GenerationConfig(max_new_tokens=1, temperature=1e-45)
    assert probabilities(LOGITS, config).tolist() == [[1.0, 0.0, 0.0, 0.0]]


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
        ({"max_new_tokens": 10**12}, "max_new_tokens: input should be less than or equal to 1000000"),
        ({"beam_size": 10**9}, "beam_size: input should be less than or equal to 1024"),
        ({"length_penalty": float("inf")}, "length_penalty: needs a finite number"),
        ({"temperature": float("inf")}, "temperature: needs a finite number"),
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
