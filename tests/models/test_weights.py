"""Trained weights: only what trains is saved, all of it comes back, and nothing that does not fit is taken."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from models.architectures import ALL, VOCAB, build, decoder_only, tokens
from torch import Tensor, nn

from ripstop.batch import TokenBatch, Vocabulary
from ripstop.config import ConfigError
from ripstop.models.base import Model
from ripstop.models.weights import load_weights, save_weights


class OnABase(Model):
    """A frozen table and norm, with a statistic and a cache of their own, below a trained map with a tied head."""

    frozen_base = "base-1"

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Sequential(nn.Embedding(7, 3), nn.BatchNorm1d(3), _Counter())
        self.base.requires_grad_(False)
        self.embedding = nn.Embedding(7, 3)
        self.head = nn.Linear(3, 7, bias=False)
        self.head.weight = self.embedding.weight
        self.norm = nn.BatchNorm1d(3)
        self.register_buffer("cache", torch.zeros(2), persistent=False)
        self.register_buffer("count", torch.zeros(2))


class _Counter(nn.Module):
    """Has no parameters: whose buffer it is says the module around it."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))


TRAINED = {"embedding.weight", "norm.weight", "norm.bias"}
BUFFERS = {"count", "norm.running_mean", "norm.running_var", "norm.num_batches_tracked"}


def test_a_frozen_part_is_not_saved_and_a_tied_table_once(tmp_path: Path) -> None:
    model = OnABase()
    assert set(model.trained_state()) == TRAINED | BUFFERS
    model.norm.requires_grad_(False)
    assert set(model.trained_state()) == {"embedding.weight", "count"}
    save_weights(model, tmp_path / "model.safetensors")
    assert (tmp_path / "model.safetensors").stat().st_size < 7 * 3 * 4 + 8 + 400  # one table, two floats and the header


def test_what_is_loaded_is_what_was_saved_and_the_base_stays(tmp_path: Path) -> None:
    torch.manual_seed(0)
    one, other = OnABase(), OnABase()
    one.count.fill_(5.0)
    one.norm.running_mean.fill_(0.5)
    base = [tensor.clone() for tensor in other.base.state_dict().values()]
    save_weights(one, tmp_path / "w")
    load_weights(other, tmp_path / "w")
    for name, tensor in one.trained_state().items():
        assert torch.equal(other.trained_state()[name], tensor)
    assert other.head.weight is other.embedding.weight
    assert torch.equal(other.head.weight, one.embedding.weight)
    assert all(torch.equal(a, b) for a, b in zip(other.base.state_dict().values(), base, strict=True))
    assert not torch.equal(one.base[0].weight, other.base[0].weight)


@pytest.mark.parametrize("name", ALL)
def test_every_architecture_comes_back_from_its_file(name: str, tmp_path: Path) -> None:
    """Same logits to the bit, in another draw; as many numbers as the configuration counts."""
    one, other = build(ALL[name], seed=1), build(ALL[name], seed=2)
    save_weights(one, tmp_path / "w")
    load_weights(other, tmp_path / "w")
    x_BT, source_BS = tokens(2, 5), tokens(2, 4)
    batch = TokenBatch(x_BT, x_BT, source_BS=source_BS if name.startswith("encoder") else None)
    assert torch.equal(one(batch), other(batch))
    assert sum(tensor.numel() for tensor in one.trained_state().values()) == ALL[name].num_params(VOCAB)


def test_names_are_those_of_the_model_when_its_blocks_are_checkpointed() -> None:
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import apply_activation_checkpointing

    model, plain = build(decoder_only("hybrid"), 1), build(decoder_only("hybrid"), 2)
    chosen = set(map(id, model.blocks()))
    apply_activation_checkpointing(model, check_fn=lambda module: id(module) in chosen)
    assert list(model.trained_state()) == list(plain.trained_state())
    model.load_trained(plain.trained_state())
    assert torch.equal(model.decoder.blocks[0].mixer.out_proj.weight, plain.decoder.blocks[0].mixer.out_proj.weight)


def changed(**values: Tensor | None) -> dict[str, Tensor]:
    state = {name: tensor + 1 for name, tensor in OnABase().trained_state().items()}
    merged = state | {name.replace("__", "."): tensor for name, tensor in values.items()}
    return {name: tensor for name, tensor in merged.items() if tensor is not None}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (changed(count=None, norm__bias=None), "weights: missing: count, norm.bias; they are of another architecture"),
        (changed(head__weight=torch.zeros(7, 3)), "weights: unknown: head.weight; they are"),
        (changed(base__0__weight=torch.zeros(7, 3)), "weights: unknown: base.0.weight; they are"),
        (changed(count=torch.zeros(3)), "weights: of another shape: count (3,), not (2,); they are"),
        (
            changed(count=None, x=torch.zeros(1), embedding__weight=torch.zeros(3, 7)),
            "weights: missing: count; unknown: x; of another shape: embedding.weight (3, 7), not (7, 3); they are",
        ),
        ({}, "weights: missing: count, embedding.weight, norm.weight, norm.bias and 3 more; they are"),
    ],
)
def test_keys_that_do_not_fit_are_named_and_nothing_is_taken(state: dict[str, Tensor], message: str) -> None:
    model = OnABase()
    before = {name: tensor.clone() for name, tensor in model.trained_state().items()}
    with pytest.raises(ConfigError) as error:
        model.load_trained(state)
    assert str(error.value).startswith(message)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.trained_state().items())


def test_another_base_is_refused(tmp_path: Path) -> None:
    model, other = OnABase(), OnABase()
    other.frozen_base = "base-2"
    save_weights(model, tmp_path / "w")
    with pytest.raises(ConfigError, match=r"w: weights: trained on the frozen base 'base-1', .* stands on 'base-2'"):
        load_weights(other, tmp_path / "w")
    other.load_trained(model.trained_state())  # where it is not known what they were trained on
    plain = build(decoder_only("recurrent"))
    save_weights(plain, tmp_path / "plain")
    with pytest.raises(ConfigError, match="frozen base ''"):
        load_weights(model, tmp_path / "plain")


@pytest.mark.parametrize("content", [b"", b"no safetensors", b"\xff" * 64])
def test_a_damaged_file_is_one_sentence(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "w"
    with pytest.raises(ConfigError, match=r"w: cannot be read as weights .*; train the run again"):
        load_weights(OnABase(), path)
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"w: cannot be read as weights .*; train the run again"):
        load_weights(OnABase(), path)


def test_a_file_that_was_cut_short_is_one_sentence(tmp_path: Path) -> None:
    save_weights(build(ALL["decoder_only-hybrid"]), tmp_path / "w")
    whole = (tmp_path / "w").read_bytes()
    (tmp_path / "w").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match="cannot be read as weights"):
        load_weights(decoder_only("hybrid").build(Vocabulary(VOCAB)), tmp_path / "w")
