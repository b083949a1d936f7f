"""Where a latent space starts: directions of a table of embeddings, and the map to another model's."""

from __future__ import annotations

import torch
from models.soft_prompts import GEMMA, LLAMA
from torch.testing import assert_close

from ripstop.frozen import FROZEN
from ripstop.frozen.base import FrozenConfig, FrozenLM
from ripstop.models import latent_basis
from ripstop.models.latent_basis import embeddings, map_between, principal_basis, shared_tokens


def lm(values: dict) -> FrozenLM:
    config = FROZEN.parse(values)
    assert isinstance(config, FrozenConfig)
    return config.build("one")


ONE, TWO = lm(LLAMA), lm(GEMMA)


def test_directions_are_those_of_the_singular_value_decomposition() -> None:
    table_VD = embeddings(ONE, torch.arange(ONE.vocab_size))
    assert_close(table_VD.square().mean(), torch.tensor(1.0), rtol=1e-4, atol=0)
    mean_D, basis_DN = principal_basis(ONE, 5)
    assert_close(mean_D, table_VD.mean(0))
    assert_close(basis_DN.T @ basis_DN, torch.eye(5), rtol=0, atol=1e-5)
    expected_ND = torch.linalg.svd(table_VD - mean_D, full_matrices=False).Vh[:5]
    assert_close((expected_ND @ basis_DN).abs(), torch.eye(5), rtol=0, atol=1e-3)
    assert (basis_DN.gather(0, basis_DN.abs().argmax(0, keepdim=True)) > 0).all()
    wide_DN = principal_basis(ONE, 40).directions_DZ
    assert not wide_DN[:, 32:].any() and torch.equal(wide_DN[:, :5], basis_DN)


def test_rows_at_equal_distances_do_for_a_large_table(monkeypatch) -> None:
    monkeypatch.setattr(latent_basis, "MOST_ROWS", 100)
    some_SD = embeddings(ONE, torch.arange(0, ONE.vocab_size, 3))
    expected_ND = torch.linalg.svd(some_SD - some_SD.mean(0), full_matrices=False).Vh[:3]
    assert_close((expected_ND @ principal_basis(ONE, 3).directions_DZ).abs(), torch.eye(3), rtol=0, atol=1e-3)


def test_shared_tokens_are_the_same_text_in_both() -> None:
    of_one, of_two = shared_tokens(ONE, TWO)
    assert len(of_one) >= 95  # at least the bytes of ASCII that can be printed
    for i, j in zip(of_one.tolist(), of_two.tolist(), strict=True):
        assert ONE.tokenizer.convert_ids_to_tokens(i) == TWO.tokenizer.convert_ids_to_tokens(j)


def test_the_map_of_a_model_on_itself_leads_back() -> None:
    basis = principal_basis(ONE, ONE.width)
    map_ZD, mean_D = map_between(ONE, ONE, basis)
    assert map_ZD is not None and torch.equal(mean_D, basis.mean_D)
    x_ND = embeddings(ONE, shared_tokens(ONE, ONE)[0]) - mean_D
    assert_close(x_ND @ basis.directions_DZ @ map_ZD, x_ND, rtol=0, atol=0.02)


def test_no_map_is_closer_than_least_squares() -> None:
    """What it leaves is orthogonal to what it reads, but for the ridge."""
    basis = principal_basis(ONE, 8)
    map_ZD, mean_D = map_between(ONE, TWO, basis)
    assert map_ZD is not None and map_ZD.shape == (8, TWO.width)
    assert_close(mean_D, embeddings(TWO, torch.arange(TWO.vocab_size)).mean(0))
    of_one, of_two = shared_tokens(ONE, TWO)
    x_NZ = (embeddings(ONE, of_one) - basis.mean_D) @ basis.directions_DZ
    y_ND = embeddings(TWO, of_two) - mean_D
    left_ZD = x_NZ.T @ (y_ND - x_NZ @ map_ZD)
    assert left_ZD.abs().max() < 0.01 * (x_NZ.T @ y_ND).abs().max()


def test_vocabularies_that_share_nothing_have_no_map(monkeypatch) -> None:
    monkeypatch.setattr(latent_basis, "LEAST_SHARED", 10**6)
    assert map_between(ONE, TWO, principal_basis(ONE, 8))[0] is None
