"""Products in 8 bits: refused where there are none, and near those of float32 where they are."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import pytest
import torch
from training.tiny import TinyModel, trainer

from ripstop.batch import TokenBatch, Vocabulary
from ripstop.config import ConfigError
from ripstop.models.base import Model
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.training.config import Compute
from ripstop.training.fp8 import in_use, use_fp8
from ripstop.training.objectives.cross_entropy import cross_entropy
from ripstop.training.precision import prepare_device

CPU = torch.device("cpu")
MIXERS = {"A": {"kind": "attention", "n_heads": 2}, "M": {"kind": "mamba2", "head_dim": 8, "d_state": 4}}


def model() -> Model:
    told = {"d_model": 32, "pattern": "AM", "mixers": MIXERS, "mlp": {"d_mlp": 48}, "tie_embeddings": True}
    torch.manual_seed(0)
    return DecoderOnlyConfig.parse(told, "").build(Vocabulary(16))


def test_fp8_on_a_cpu_is_one_sentence() -> None:
    with pytest.raises(
        ConfigError, match=r"^training.precision: fp8 needs a GPU.*this is a CPU; set it to 'bf16', or to 'fp8_or"
    ):
        prepare_device(Compute(), "fp8")


@pytest.mark.parametrize(("capability", "used"), [((8, 9), "bf16"), ((9, 0), "fp8"), ((10, 0), "fp8")])
def test_a_gpu_has_it_from_hopper_on(capability: tuple[int, int], used: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA X")
    device = torch.device("cuda", 0)
    assert in_use("fp8_or_bf16", device) == used and in_use("bf16", device) == "bf16"
    if used == "fp8":
        assert in_use("fp8", device) == "fp8"
    else:
        with pytest.raises(ConfigError, match="this is NVIDIA X"):
            in_use("fp8", device)


def test_on_request_a_cpu_takes_bf16(tmp_path: Path) -> None:
    """To the same bits as bf16 itself."""
    asked, plain = (trainer(tmp_path / name, precision=name, steps=2) for name in ("fp8_or_bf16", "bf16"))
    assert asked.fit()["loss"] == plain.fit()["loss"]
    assert trainer(tmp_path / "fp32", steps=2).fit()["loss"] != plain._last_finite


def test_what_fits_is_converted_and_parameters_stay() -> None:
    """d_inner 64, 2 x 64 + 2 x 4 + 8 = 144 rows of Mamba-2's input, all of them multiples of 16; the head is none of them."""
    plain = model()
    converted = copy.deepcopy(plain)
    parameters = list(converted.parameters())
    assert use_fp8(converted, emulate=True) == [
        f"decoder.blocks.{block}.{name}"
        for block, first in enumerate(("qkv_proj", "in_proj"))
        for name in (f"mixer.{first}", "mixer.out_proj", "mlp.in_proj", "mlp.out_proj")
    ]
    assert all(a is b for a, b in zip(converted.parameters(), parameters, strict=True))
    assert list(converted.state_dict()) == list(plain.state_dict())


def test_the_products_of_a_layer_are_rounded_to_8_bits_and_no_more() -> None:
    """Relative errors of e4m3fn with 3 bits behind the point in the output, and of e5m2 with 2 in the gradients."""

    class OneBlock(TinyModel):
        def blocks(self) -> list:
            return list(self.layers)

    torch.manual_seed(0)
    x, dy = torch.randn(64, 32), torch.randn(64, 32)
    found = {}
    for fp8 in (False, True):
        torch.manual_seed(1)
        m = OneBlock(d_model=32)
        if fp8:
            assert use_fp8(m, emulate=True) == ["layers.0.linear", "layers.1.linear"]
        inputs = x.clone().requires_grad_()
        y = m.layers[0].linear(inputs)
        y.backward(dy)
        found[fp8] = {"y": y.detach(), "dx": inputs.grad, "dw": m.layers[0].linear.weight.grad}
    errors = {name: ((found[True][name] - exact).norm() / exact.norm()).item() for name, exact in found[False].items()}
    assert 0.01 < errors["y"] < 0.05 and 0.03 < errors["dx"] < 0.1 and 0.03 < errors["dw"] < 0.1, errors


def test_the_loss_of_a_model_stays_near() -> None:
    plain = model()
    converted = copy.deepcopy(plain)
    use_fp8(converted, emulate=True)
    tokens_BT = torch.randint(16, (2, 16), generator=torch.Generator().manual_seed(0))
    exact, found = (cross_entropy(m, TokenBatch(tokens_BT, tokens_BT)).sum.item() for m in (plain, converted))
    assert found == pytest.approx(exact, rel=0.02) and found != exact


def test_a_model_without_a_fitting_weight_and_a_missing_torchao_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    class Blocks(TinyModel):
        def blocks(self) -> list:
            return list(self.layers)

    with pytest.raises(ConfigError, match="training.precision: no weight of the model has sizes that are multiples of 16"):
        use_fp8(Blocks(d_model=8))
    monkeypatch.setitem(sys.modules, "torchao.float8", None)
    with pytest.raises(ConfigError, match="training.precision: fp8 needs torchao.*set precision to 'bf16'"):
        use_fp8(Blocks(d_model=16))


@pytest.mark.gpu
def test_on_hopper_its_loss_is_near_that_of_bf16() -> None:
    losses = []
    for precision in ("bf16", "fp8"):
        device = prepare_device(Compute(device="cuda"), precision)
        m = model().to(device)
        if precision == "fp8":
            use_fp8(m)
        tokens_BT = torch.randint(16, (2, 16), generator=torch.Generator().manual_seed(0)).to(device)
        with torch.autocast("cuda", dtype=torch.bfloat16):
            loss = cross_entropy(m, TokenBatch(tokens_BT, tokens_BT)).sum
        loss.backward()
        losses.append(loss.item())
    assert losses[1] == pytest.approx(losses[0], rel=0.05) and losses[0] != losses[1]
