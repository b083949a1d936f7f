"""A frozen model reads by position, in whatever pieces; and nothing trains it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from frozen.tiny import ARCHITECTURES, fresh, lm, plain_logits
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ripstop.config import ConfigError
from ripstop.frozen.base import FrozenLM
from ripstop.frozen.cache import Past

TEXT = "Question: Who wrote the book about the river, and when was it read?\nAnswer: a singer\n"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_nothing_can_train_it(architecture: str) -> None:
    model = fresh(architecture)
    parent = nn.Sequential(nn.Linear(2, 2), model)
    parent.train()
    assert not any(module.training for module in model.modules())
    assert not any(p.requires_grad for p in model.parameters())
    with pytest.raises(TypeError, match="llama: is frozen|gemma: is frozen"):
        model.requires_grad_(True)
    parent.requires_grad_(True)  # goes past the child's method, straight to the parameters
    with pytest.raises(AssertionError, match=r"is frozen, yet trains .* and \d+ more"):
        model.prefix([1, 2])
    model.requires_grad_(False)
    assert model.prefix([1, 2]) is not None
    model.model.train()
    with pytest.raises(AssertionError, match="in training mode"):
        model.prefix([1, 3])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_gradient_goes_through_it_and_stays_on_no_weight(architecture: str) -> None:
    model = lm(architecture)
    x_BTD = model.embed([[5, 6, 7]]).requires_grad_()
    positions_BT = torch.arange(3)[None]
    logits_NV, _ = model.read(x_BTD, positions_BT, torch.ones(1, 3, dtype=torch.bool), model.prefix([1, 8]))
    logits_NV.square().sum().backward()
    assert x_BTD.grad is not None and (x_BTD.grad.norm(dim=-1) > 0).all()
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("seed", range(4))
def test_in_any_pieces_and_any_places_it_gives_what_one_plain_sequence_gives(architecture: str, seed: int) -> None:
    """The past in several pieces, its places shuffled and filled up with rubbish; padding anywhere among the new tokens."""
    model = lm(architecture)
    draw = torch.Generator().manual_seed(seed)
    ids = torch.tensor(model.bos + model.encode(TEXT))
    assert len(ids) > 2 * 16  # more than the window of the gemma
    expected_TV = plain_logits(model, ids.tolist())
    cuts = sorted((torch.randperm(len(ids) - 2, generator=draw)[:2] + 1).tolist())
    past: Past | None = None
    for start, end in zip([0, *cuts], [*cuts, len(ids)], strict=True):
        n, pads = end - start, int(torch.randint(0, 5, (), generator=draw))
        places = torch.randperm(n + pads, generator=draw)[:n].sort().values
        x_BTD = torch.randn(1, n + pads, model.width, generator=draw) * 3
        positions_BT, valid_BT = torch.randint(0, 99, (1, n + pads), generator=draw), torch.zeros(1, n + pads, dtype=torch.bool)
        x_BTD[0, places], positions_BT[0, places], valid_BT[0, places] = (
            model.embed(ids[start:end]),
            torch.arange(start, end),
            True,
        )
        with torch.no_grad():
            logits_NV, past = model.read(x_BTD, positions_BT, valid_BT, past, at_BT=valid_BT, keep=True)
        torch.testing.assert_close(logits_NV, expected_TV[start:end], rtol=1e-4, atol=1e-4)
        assert past is not None
        order = torch.randperm(past.positions_BS.shape[1], generator=draw)
        keys, values = (tuple(t[:, :, order] for t in part) for part in (past.keys, past.values))
        past = Past(keys, values, past.positions_BS[:, order], past.valid_BS[:, order])


def test_rows_of_a_batch_do_not_see_each_other() -> None:
    model, prefix = lm("gemma"), [1, 9, 9]
    rows = [[5, 6, 7, 8], [11, 12]]
    ids_BT = torch.tensor([rows[0], [0, 0, *rows[1]]])
    positions_BT = torch.tensor([[3, 4, 5, 6], [0, 0, 3, 4]])
    past = model.prefix(prefix)
    assert past is not None
    with torch.no_grad():
        logits_NV, _ = model.read(model.embed(ids_BT), positions_BT, positions_BT > 0, past.expand(2))
    for row, logits_V in zip(rows, logits_NV, strict=True):
        torch.testing.assert_close(logits_V, plain_logits(model, prefix + row)[-1], rtol=1e-4, atol=1e-4)


def test_the_check_finds_a_window_that_is_not_kept_and_a_scale_that_is_missing() -> None:
    model = fresh("gemma")
    model.check()
    for wrong in ({"full_attention": None, "sliding_attention": 17}, {"full_attention": 16, "sliding_attention": 16}):
        model._windows = wrong
        with pytest.raises(
            ConfigError, match=r"^gemma: read in pieces, it gives other logits than at once \(by .*\n?.*cannot be used"
        ):
            model._prefixes.clear()
            model.check()
    model = fresh("gemma")
    embed = model.embed
    model.embed = lambda ids: embed(ids) / model.width**0.5  # type: ignore[method-assign]
    with pytest.raises(ConfigError, match="Gemma3ForCausalLM cannot be used"):
        model.check()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("side", ["left", "right"])
def test_hidden_states_are_those_of_transformers(architecture: str, side: str) -> None:
    model = lm(architecture, n_layers=3)
    rows = [model.bos + model.encode(text) for text in ("It is a river in the north of the country.", "Ada")]
    pad = len(rows[0]) - len(rows[1])
    filled = [[0] * pad + rows[1], [1] * 0] if side == "left" else [rows[1] + [0] * pad, []]
    ids_BT = torch.tensor([rows[0], filled[0]])
    mask_BT = torch.ones_like(ids_BT, dtype=torch.bool)
    mask_BT[1, slice(0, pad) if side == "left" else slice(len(rows[1]), None)] = False
    for layer in range(model.n_layers):
        hidden_BTD = model.hidden(ids_BT, mask_BT, layer)
        for n, row in enumerate(rows):
            expected = model.model(input_ids=torch.tensor([row]), output_hidden_states=True).hidden_states[layer][0]
            torch.testing.assert_close(hidden_BTD[n][mask_BT[n]], expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(ConfigError, match="has no hidden states before layer 3; name one from 0 to 2"):
        model.hidden(ids_BT, mask_BT, 3)


def test_hidden_states_cost_no_later_layer() -> None:
    model = fresh(n_layers=3)
    reached: list[int] = []
    for n, block in enumerate(model._blocks()):
        block.register_forward_hook(lambda *_, n=n: reached.append(n))
    model.hidden(torch.tensor([[1, 5]]), torch.ones(1, 2), 1)
    assert reached == [0]
    model.hidden(torch.tensor([[1, 5]]), torch.ones(1, 2), 2)  # the hook that stopped it is gone
    assert reached == [0, 0, 1]


def test_a_prefix_is_read_once_and_serves_a_training_too(monkeypatch: pytest.MonkeyPatch) -> None:
    model, reads = fresh(), []
    read = FrozenLM.read
    monkeypatch.setattr(FrozenLM, "read", lambda self, *a, **k: (reads.append(1), read(self, *a, **k))[1])
    with torch.inference_mode():
        first = model.prefix([1, 5, 6])
    assert model.prefix([1, 5, 6]) is first and len(reads) == 1 and first is not None
    assert not first.keys[0].is_inference() and not first.keys[0].requires_grad
    assert model.prefix([]) is None
    for n in range(3):
        model.prefix([1, n])
    assert model.prefix([1, 5, 6]) is first  # read again lately, it stays
    model.prefix([1, 9])
    assert model.prefix([1, 5, 6]) is first and len(reads) == 5
    model.prefix([1, 0])
    assert len(reads) == 6  # the oldest had gone
    other = model.to(torch.bfloat16).prefix([1, 5, 6])
    assert other is not None and other.keys[0].dtype == torch.bfloat16


def test_autocast_around_it_changes_nothing() -> None:
    model = lm()
    x_BTD, positions_BT = model.embed([[1, 5, 6]]), torch.arange(3)[None]
    plain, _ = model.read(x_BTD, positions_BT, positions_BT >= 0)
    with torch.autocast("cpu", torch.bfloat16):
        cast, _ = model.read(x_BTD, positions_BT, positions_BT >= 0)
    assert torch.equal(plain, cast) and plain.dtype == torch.float32


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_size_of_its_embeddings_is_that_which_the_layers_see(architecture: str) -> None:
    model = lm(architecture)
    table_VD = model.model.get_input_embeddings().weight
    scale = 1 if architecture == "llama" else model.width**0.5
    assert model.embedding_rms == pytest.approx(float(table_VD.square().mean().sqrt()) * scale, rel=1e-5)
    assert model.embed([3])[0].tolist() == pytest.approx((table_VD[3] * scale).tolist(), rel=1e-6)
    assert (model.width, model.n_layers, model.n_kv_heads, model.head_dim) == (32, 2, 1, 16)
    assert model.vocab_size == table_VD.shape[0] == 5 + 256 + 40


def test_its_identity_is_of_weights_and_vocabulary() -> None:
    identities = {fresh(**different).identity for different in ({}, {"seed": 1}, {"merges": 41}, {"architecture": "gemma"})}
    assert len(identities) == 4 and fresh().identity in identities
    model = fresh()
    assert model.identity == f"random llama, seed 0 sha256:{model._digest()}"
    before = model._digest()
    assert model.to(torch.bfloat16)._digest() == before  # not of the number format that it is loaded in
    model = fresh()
    with torch.no_grad():
        model.model.model.layers[1].mlp.up_proj.weight[0, 0] += 1  # type: ignore[union-attr, index, operator]
    assert model._digest() != before


@given(st.text(st.characters(exclude_categories=["Cs"])))
@settings(max_examples=50)
def test_a_text_comes_back_from_its_ids_whatever_it_spells(text: str) -> None:
    for spelt in (text, text + "<eos><|im_end|>", "  \n " + text):
        assert lm().decode(lm().encode(spelt)) == spelt


def test_special_tokens() -> None:
    model = lm()
    assert model.bos == [1] and model.eos == {2} and 1 not in model.encode("a")
    assert model.encode("<eos>", specials=True) == [2] and len(model.encode("<eos>")) > 1
    assert model.newlines == {*model.encode("\n")} and all("\n" in model.decode([i]) for i in model.newlines)
    assert model.words("a  b\n c ") == model.encode(" a b c")


def test_what_cannot_be_used_is_told_in_one_sentence() -> None:
    model = fresh()
    model.model.config.layer_types = ["full_attention", "linear_attention"]
    with pytest.raises(ConfigError, match="^x: has layers of kind 'linear_attention'; choose a model"):
        FrozenLM("x", "", model.model, model.tokenizer)
    from tokenizers import pre_tokenizers

    model = fresh()
    tokenizer: Any = model.tokenizer
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    with pytest.raises(ConfigError, match="^x: the tokenizer changes a text that is encoded in pieces"):
        FrozenLM("x", "", model.model, tokenizer)
