"""The contract every mixer passes: seven points, each a check that takes a `Case` and raises AssertionError.

A new kind adds its cases to `CASES`; `tests/mixers/test_contract.py` runs every check over all of them. Everything is in
float64 on the CPU, so that a mistake is far larger than rounding. Sizes are awkward on purpose.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from ripstop.config import ConfigError
from ripstop.mixers import MIXERS
from ripstop.mixers.base import Mixer, MixerConfig, held_bytes, reorder_state
from ripstop.ops.segments import Segments

D_MODEL = 24
CHUNK = 16
LENGTHS = (1, 63, 64, 100)
TOLERANCE = 1e-9


Reach = Callable[[int, int], set[int]]
"""(t, n_time) -> the positions of a document of `n_time` tokens whose input moves the output at t."""


def everything_before(t: int, n_time: int) -> set[int]:
    return set(range(t + 1))


def everything(t: int, n_time: int) -> set[int]:
    return set(range(n_time))


def window(window_size: int, sink_size: int, d_conv: int = 1) -> Reach:
    """The window, the sinks, and what the short convolution carries into those."""

    def reach(t: int, n_time: int) -> set[int]:
        seen = {s for s in range(t + 1) if t - s < window_size or s < sink_size}
        return {s - shift for s in seen for shift in range(d_conv) if s >= shift}

    return reach


def both_ways(ahead: Reach) -> Reach:
    """A causal reach and its mirror image."""

    def reach(t: int, n_time: int) -> set[int]:
        return ahead(t, n_time) | {n_time - 1 - s for s in ahead(n_time - 1 - t, n_time)}

    return reach


@dataclass(frozen=True)
class Case:
    """One configuration under the contract.

    reference: what to change in `values` to get the slow reference with the same parameters.
    """

    kind: str
    name: str
    values: dict[str, Any]
    reference: dict[str, Any] = field(default_factory=lambda: {"backend": "reference"})
    reach: Reach = everything_before

    def config(self) -> MixerConfig:
        return MIXERS.parse({"kind": self.kind} | self.values)

    def reference_config(self) -> MixerConfig:
        return MIXERS.parse({"kind": self.kind} | self.values | self.reference)

    def build(self, config: MixerConfig | None = None) -> Mixer:
        """The same weights every time. Vectors are no longer all ones or zeros, which would hide a wrong order."""
        torch.manual_seed(7)
        mixer = (config or self.config()).build(D_MODEL).double()
        with torch.no_grad():
            for parameter in mixer.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
        return mixer


_MAMBA2 = {"head_dim": 8, "d_state": 5, "chunk_size": CHUNK}
_MAMBA2_NESTED = {"kind": "mamba2", **_MAMBA2}
_WINDOW_NESTED = {"kind": "sliding_window", "n_heads": 2, "window_size": 5, "sink_size": 2}

CASES = [
    Case("mamba2", "one_group", _MAMBA2),
    Case("mamba2", "groups", {**_MAMBA2, "n_groups": 3, "d_conv": 2, "expand": 1}),
    Case(
        "mamba2",
        "one_head_large_decay",
        {"head_dim": 48, "d_state": 3, "chunk_size": 64, "A_init_range": [2, 3], "dt_init_range": [1, 5]},
    ),
    Case("attention", "plain", {"n_heads": 4}),
    Case("attention", "grouped_conv", {"n_heads": 4, "n_kv_heads": 2, "head_dim": 10, "d_conv": 3}),
    Case("attention", "no_rope", {"n_heads": 3, "n_kv_heads": 1, "rope": False}),
    Case("attention", "both_ways", {"n_heads": 2, "causal": False}, reach=everything),
    Case("sliding_window", "window_only", {"n_heads": 2, "window_size": 7}, reach=window(7, 0)),
    Case(
        "sliding_window",
        "sinks_grouped_conv",
        {"n_heads": 4, "n_kv_heads": 2, "window_size": CHUNK, "sink_size": 3, "d_conv": 4},
        reach=window(CHUNK, 3, 4),
    ),
    Case("sliding_window", "itself_and_a_sink", {"n_heads": 4, "window_size": 1, "sink_size": 1}, reach=window(1, 1)),
    Case("sliding_window", "wider_than_text", {"n_heads": 2, "window_size": 300, "sink_size": 4, "rope": False}),
    Case(
        "bidirectional",
        "mamba2",
        {"mixer": _MAMBA2_NESTED},
        reference={"mixer": {**_MAMBA2_NESTED, "backend": "reference"}},
        reach=everything,
    ),
    Case(
        "bidirectional",
        "window",
        {"mixer": _WINDOW_NESTED},
        reference={"mixer": {**_WINDOW_NESTED, "backend": "reference"}},
        reach=both_ways(window(5, 2)),
    ),
]


def check_prefill_and_step(case: Case) -> None:
    """1. forward = prefill = step after step, in values; gradients of forward = gradients through prefill."""
    mixer = case.build()
    for n_time in LENGTHS:
        x_BTD = _input(2, n_time)
        with torch.no_grad():
            y_BTD = mixer(x_BTD)
            _equal(_prefill_then_step(mixer, x_BTD, [n_time]), y_BTD, f"prefill of {n_time}")
            _equal(_prefill_then_step(mixer, x_BTD, []), y_BTD, f"{n_time} steps")
    x_BTD, dy_BTD = _input(2, 13).requires_grad_(), _input(2, 13, seed=1)
    wanted = torch.autograd.grad(mixer(x_BTD), [x_BTD, *mixer.parameters()], dy_BTD)
    for cuts in ([13], [4, 9], [6]):
        got = torch.autograd.grad(_prefill_then_step(mixer, x_BTD, cuts), [x_BTD, *mixer.parameters()], dy_BTD)
        _equal_all(got, wanted, f"gradients through prefill of {cuts}")


def check_prefill_anywhere(case: Case) -> None:
    """2. Prefill to any t, in one chunk or more, then step: the same."""
    mixer, n_time = case.build(), 41
    x_BTD = _input(2, n_time)
    with torch.no_grad():
        y_BTD = mixer(x_BTD)
        for cuts in ([0], [1], [CHUNK - 1], [CHUNK], [CHUNK + 1], [n_time], [1, 1, 2, CHUNK], [CHUNK, CHUNK + 1], [3, 0, 30]):
            _equal(_prefill_then_step(mixer, x_BTD, cuts), y_BTD, f"prefill of {cuts}, then step")


def check_reach(case: Case) -> None:
    """3. By gradient: later positions reach nothing, exactly; each position is reached by all it should see and no other."""
    mixer, n_time = case.build(), 37
    x_BTD = _input(1, n_time).requires_grad_()
    y_BTD = mixer(x_BTD)
    for t in (0, 1, CHUNK - 1, CHUNK, CHUNK + 1, n_time - 1):
        (dx_BTD,) = torch.autograd.grad(y_BTD[0, t], x_BTD, _input(1, 1)[0, 0], retain_graph=True)
        reached = set(dx_BTD[0].abs().amax(-1).nonzero().flatten().tolist())
        wanted = case.reach(t, n_time)
        assert reached == wanted, f"the output at {t} depends on {sorted(reached)}, and should on {sorted(wanted)}"


def check_documents(case: Case) -> None:
    """4. NaN in padding and in other rows reaches nothing; packed documents = the same documents alone, gradients too."""
    mixer = case.build()
    lengths, n_time = [[23, 1, 19], [3], [9, 55]], 67
    segments_BT = torch.zeros(4, n_time, dtype=torch.long)
    segments_BT[0, :43] = torch.tensor([1] * 23 + [2] * 1 + [3] * 19)
    segments_BT[1, 5:8] = 1  # padding before, too
    segments_BT[2, :64] = torch.tensor([2] * 9 + [7] * 55)
    x_BTD, dy_BTD = _input(4, n_time), _input(4, n_time, seed=1)
    x_BTD[segments_BT == 0] = float("nan")  # the last row is nothing else
    x_BTD.requires_grad_()
    y_BTD = mixer(x_BTD, Segments.of(segments_BT))
    assert (y_BTD[segments_BT == 0] == 0).all(), "the output is not 0 where there is padding"
    got = torch.autograd.grad(y_BTD, [x_BTD, *mixer.parameters()], dy_BTD)
    assert (got[0][segments_BT == 0] == 0).all(), "padding receives a gradient"

    alone, wanted_dx, wanted_dparameters = [], [], None
    for row, of_row in enumerate(lengths):
        places = segments_BT[row].nonzero().flatten().split(of_row)
        for place in places:
            document = x_BTD[row : row + 1, place].detach().requires_grad_()
            y = mixer(document)
            alone.append(((row, place), y[0]))
            gradients = torch.autograd.grad(y, [document, *mixer.parameters()], dy_BTD[row : row + 1, place])
            wanted_dx.append(((row, place), gradients[0][0]))
            if wanted_dparameters is None:
                wanted_dparameters = gradients[1:]
            else:
                wanted_dparameters = [a + b for a, b in zip(wanted_dparameters, gradients[1:], strict=True)]
    for where, wanted in alone:
        _equal(y_BTD[where], wanted, "a packed document differs from the same alone")
    for where, wanted in wanted_dx:
        _equal(got[0][where], wanted, "gradient of a packed document differs from the same alone")
    _equal_all(got[1:], wanted_dparameters, "gradients of parameters from packed documents")

    x_BTD = _input(3, 19)
    x_BTD[1] = float("nan")
    y_BTD = mixer(x_BTD)
    _equal(y_BTD[[0, 2]], mixer(x_BTD[[0, 2]]), "a row of NaN moves other rows")


def check_counts(case: Case) -> None:
    """5. `num_params` and `state_bytes` equal what the built module and the real state hold."""
    config = case.config()
    held = sum(p.numel() for p in config.build(D_MODEL).parameters())
    assert config.num_params(D_MODEL) == held, f"num_params says {config.num_params(D_MODEL)}, the module holds {held}"
    for seq_len in (1, 5, CHUNK, 100):
        assert config.flops_per_token(D_MODEL, seq_len) > 0
        if not config.is_causal:
            assert config.state_bytes(D_MODEL, seq_len) == 0
            continue
        for dtype in (torch.float64, torch.float32, torch.bfloat16):
            mixer = config.build(D_MODEL).to(dtype)
            with torch.no_grad():
                state = mixer.init_state(1, seq_len)
                said = config.state_bytes(D_MODEL, seq_len, dtype)
                assert held_bytes(state) == said, f"state_bytes says {said}, the state holds {held_bytes(state)}"
                _, state = mixer.prefill(_input(1, seq_len).to(dtype), state)
                assert held_bytes(state) == said, f"after {seq_len} tokens the state holds {held_bytes(state)}, not {said}"


def check_reference(case: Case) -> None:
    """6. The fast form = the slow reference, in values and gradients; its gradients = finite differences."""
    fast, slow = case.build(), case.build(case.reference_config())
    slow.load_state_dict(fast.state_dict())
    for n_time in LENGTHS:
        segments_BT = torch.ones(2, n_time, dtype=torch.long)
        segments_BT[1, n_time // 3 :] = 2
        for segments in (None, Segments.of(segments_BT)):
            x_BTD, dy_BTD = _input(2, n_time).requires_grad_(), _input(2, n_time, seed=1)
            y_fast, y_slow = fast(x_BTD, segments), slow(x_BTD, segments)
            _equal(y_fast, y_slow, f"fast form at {n_time}")
            got = torch.autograd.grad(y_fast, [x_BTD, *fast.parameters()], dy_BTD)
            _equal_all(got, torch.autograd.grad(y_slow, [x_BTD, *slow.parameters()], dy_BTD), f"gradients at {n_time}")
    x_BTD = _input(2, 5).requires_grad_()
    parameters = dict(fast.named_parameters())

    def call(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(fast, dict(zip(parameters, values, strict=True)), (x,))

    try:
        torch.autograd.gradcheck(call, (x_BTD, *parameters.values()), fast_mode=True)
    except torch.autograd.gradcheck.GradcheckError as error:
        raise AssertionError(str(error)) from error


def check_beams(case: Case) -> None:
    """7. Reordering a state = reordering the batch."""
    mixer, n_time = case.build(), 21
    x_BTD, index_B = _input(3, n_time + 3), torch.tensor([2, 0, 0, 1])
    with torch.no_grad():
        _, state = mixer.prefill(x_BTD[:, :n_time], mixer.init_state(3, n_time + 3))
        state = reorder_state(state, index_B)
        wanted = mixer(x_BTD)[index_B]
        for t in range(n_time, n_time + 3):
            y_BD, state = mixer.step(x_BTD[index_B, t], state)
            _equal(y_BD, wanted[:, t], "a reordered state")


def check_no_state(case: Case) -> None:
    """In place of 1, 2 and 7 for mixers that see both ways: they say that they cannot decode."""
    mixer = case.build()
    with pytest.raises(ConfigError, match="no state"):
        mixer.init_state(1, 8)


def check_bfloat16(case: Case, device: str) -> None:
    """1, 2 and 4 again in bfloat16 with whatever `auto` runs on `device`: hardly worse than the slow reference in bfloat16."""
    fast = case.build().to(device, torch.bfloat16)
    exact, slow = case.build(case.reference_config()), case.build(case.reference_config()).bfloat16()
    weights = {name: value.cpu() for name, value in fast.state_dict().items()}
    exact.load_state_dict(weights)
    slow.load_state_dict(weights)
    n_time = 100
    segments_BT = torch.ones(2, n_time, dtype=torch.long)
    segments_BT[1, n_time // 3 :] = 2
    x_BTD, dy_BTD = _input(2, n_time).bfloat16(), _input(2, n_time, seed=1).bfloat16()
    for segments in (None, segments_BT):
        results = []
        for mixer, x in ((fast, x_BTD.to(device)), (slow, x_BTD), (exact, x_BTD.double())):
            x.requires_grad_()
            y = mixer(x, None if segments is None else Segments.of(segments.to(x.device)))
            results.append((y, *torch.autograd.grad(y, x, dy_BTD.to(x))))
        for what, *three in zip(("output", "gradient"), *results, strict=True):
            _no_worse(*three, f"{what} in bfloat16")
    if case.config().is_causal:
        with torch.no_grad():
            results = [
                _prefill_then_step(m, x_BTD[:, :50].to(next(m.parameters())), [CHUNK + 1, 3]) for m in (fast, slow, exact)
            ]
            _no_worse(*results, "prefill and step in bfloat16")


CAUSAL_CHECKS = [check_prefill_and_step, check_prefill_anywhere, check_beams]
CHECKS = [check_reach, check_documents, check_counts, check_reference]


def _input(n_batch: int, n_time: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n_batch, n_time, D_MODEL, dtype=torch.float64, generator=generator)


def _prefill_then_step(mixer: Mixer, x_BTD: Tensor, cuts: list[int]) -> Tensor:
    """Outputs of prefill by chunks of these lengths, and of one step for every token after them."""
    n_batch, n_time = x_BTD.shape[:2]
    state, outputs, read = mixer.init_state(n_batch, n_time), [], 0
    for length in cuts:
        y_BTD, state = mixer.prefill(x_BTD[:, read : read + length], state)
        outputs.append(y_BTD)
        read += length
    for t in range(read, n_time):
        y_BD, state = mixer.step(x_BTD[:, t], state)
        outputs.append(y_BD.unsqueeze(1))
    return torch.cat(outputs, 1)


def _equal(got: Tensor, wanted: Tensor, what: str) -> None:
    torch.testing.assert_close(got, wanted, rtol=TOLERANCE, atol=TOLERANCE, msg=lambda text: f"{what}: {text}")


def _equal_all(got: Any, wanted: Any, what: str) -> None:
    for one, other in zip(got, wanted, strict=True):
        _equal(one, other, what)


def _no_worse(fast: Tensor, slow: Tensor, exact: Tensor, what: str) -> None:
    """Relative error, in norm, of the fast form: at most twice the slow form's, and 1 %."""
    error, usual = (((y.detach().double().cpu() - exact).norm() / exact.norm()).item() for y in (fast, slow))
    assert error < 2 * usual + 0.01, f"{what}: relative error {error:.3g}, of the slow reference {usual:.3g}"
