"""Features: what the model itself holds of a document, once, kept by content."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from frozen.tiny import ARCHITECTURES, DOCUMENTS, fresh, lm

from ripstop.config import ConfigError
from ripstop.frozen import features as module
from ripstop.frozen.base import FrozenLM
from ripstop.frozen.features import Features, features


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RIPSTOP_CACHE", str(tmp_path))
    return tmp_path / "features"


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of each batch that a model reads."""
    rows: list[int] = []
    hidden = FrozenLM.hidden

    def counted(self: FrozenLM, ids_BT: torch.Tensor, mask_BT: torch.Tensor, layer: int) -> torch.Tensor:
        rows.append(len(ids_BT))
        return hidden(self, ids_BT, mask_BT, layer)

    monkeypatch.setattr(FrozenLM, "hidden", counted)
    return rows


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("layer", [0, 1])
def test_they_are_the_hidden_states_after_bos_of_the_document_alone(architecture: str, layer: int) -> None:
    model = lm(architecture)
    for _ in range(2):  # computed, then from the cache
        found = features(model, DOCUMENTS, layer)
        for document, got in zip(DOCUMENTS, found, strict=True):
            ids = model.words(document)
            assert got.ids_T.tolist() == ids and got.hidden_TD.dtype == torch.float16
            output = model.model(input_ids=torch.tensor([model.bos + ids]), output_hidden_states=True)
            torch.testing.assert_close(got.float(), output.hidden_states[layer][0, 1:], rtol=2e-3, atol=2e-3)


def test_a_document_is_read_once_whoever_asks_in_whatever_order(computed: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    model = lm()
    first = features(model, [DOCUMENTS[0], DOCUMENTS[1], DOCUMENTS[0]], 1)
    assert computed == [2] and torch.equal(first[0].hidden_TD, first[2].hidden_TD)
    second = features(model, [DOCUMENTS[2], DOCUMENTS[1]], 1)
    assert computed == [2, 1] and torch.equal(second[1].hidden_TD, first[1].hidden_TD)
    features(model, DOCUMENTS, 1)
    assert computed == [2, 1]
    features(model, DOCUMENTS[:1], 0)  # another layer, another model, another number format
    features(lm("gemma"), DOCUMENTS[:1], 1)
    features(fresh().to(torch.bfloat16), DOCUMENTS[:1], 1)
    assert computed == [2, 1, 1, 1, 1]
    assert features(model, [], 1) == []


def test_a_long_list_is_read_in_batches_and_kept_on_the_way(
    computed: list[int], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DOCUMENTS", 3)
    monkeypatch.setattr(module, "TOKENS", 40)
    texts = [f"{'word ' * (n % 4 + 1)}{n}" for n in range(10)]
    found = features(lm(), texts, 1)
    assert len(list(cache.rglob("*.safetensors"))) == 4 and sum(computed) == 10 and len(computed) > 4
    assert [lm().decode(got.ids_T.tolist()).strip() for got in found] == texts
    again = features(lm(), list(reversed(texts)), 1)
    assert all(torch.equal(a.hidden_TD, b.hidden_TD) for a, b in zip(found, reversed(again), strict=True))
    assert sum(computed) == 10


def test_what_is_cut_short_has_the_same_features() -> None:
    text = " ".join(DOCUMENTS)
    (long,) = features(lm("gemma"), [text], 1)
    (short,) = features(lm("gemma"), [text[:30]], 1)
    n = (
        next(n for n, (a, b) in enumerate(zip(long.ids_T, short.ids_T, strict=False)) if a != b)
        if not torch.equal(long.ids_T[: len(short.ids_T)], short.ids_T)
        else len(short.ids_T)
    )
    assert n > 10
    torch.testing.assert_close(long.float()[:n], short.float()[:n], rtol=2e-3, atol=2e-3)


def test_states_that_float16_does_not_hold_are_scaled_by_a_power_of_two() -> None:
    hidden_TD = torch.tensor([[300_000.0, -1.0], [0.5, 7.0]])
    made = module._rounded(torch.tensor([1, 2]), hidden_TD)
    assert made.scale == 16 and made.hidden_TD.isfinite().all()
    torch.testing.assert_close(made.float(), hidden_TD, rtol=1e-3, atol=1e-3)
    assert module._rounded(torch.tensor([1]), torch.tensor([[2.0**15]])).scale == 1
    for wrong in (float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="a hidden state is not finite"):
            module._rounded(torch.tensor([1]), torch.tensor([[1.0, wrong]]))


def test_a_scale_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGEST", 0.01)
    (made,) = features(lm(), DOCUMENTS[:1], 1)
    (again,) = features(lm(), DOCUMENTS[:1], 1)
    assert made.scale > 1 and again.scale == made.scale and torch.equal(made.float(), again.float())


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_file_of_the_cache_is_refused(damage: str, cache: Path) -> None:
    features(lm(), DOCUMENTS, 1)
    (path,) = cache.rglob("*.safetensors")
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
    path.write_bytes({"flip": bytes(data), "cut": bytes(data[:-1]), "empty": b""}[damage])
    with pytest.raises(ConfigError, match=r"\.safetensors: is damaged; remove it, then run again"):
        features(lm(), DOCUMENTS, 1)
    path.unlink()
    assert len(features(lm(), DOCUMENTS, 1)) == 3


def test_a_cache_that_cannot_be_written_is_told(cache: Path) -> None:
    cache.write_text("no folder")
    with pytest.raises(ConfigError, match="a part of this path is a file.*RIPSTOP_CACHE"):
        features(lm(), DOCUMENTS, 1)


def test_an_empty_document_is_refused() -> None:
    assert lm().words("") != []  # a space
    assert isinstance(features(lm(), [""], 1)[0], Features)
