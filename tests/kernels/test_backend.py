"""The choice of a backend, and what is said about it."""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import logging
import pathlib
import pkgutil
from collections.abc import Iterator

import pytest
import torch

from ripstop import kernels
from ripstop.config import ConfigError
from ripstop.kernels import attention, backend, convolution, state_space
from ripstop.kernels.backend import Kernel, choose, chosen

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
SSD, ATTENTION = state_space.KERNEL, attention.KERNEL


def _kernels() -> Iterator[Kernel]:
    for module in pkgutil.iter_modules(kernels.__path__, "ripstop.kernels."):
        if hasattr(found := importlib.import_module(module.name), "KERNEL"):
            yield found.KERNEL


KERNELS = {kernel.op: kernel for kernel in _kernels()}


@pytest.fixture(autouse=True)
def nothing_chosen_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "_resolve", functools.cache(backend._resolve.__wrapped__))
    monkeypatch.setattr(backend, "_chosen", {})


def test_every_operation_has_a_name_of_its_own() -> None:
    assert sorted(KERNELS) == sorted(kernel.op for kernel in _kernels()) and len(KERNELS) >= 5


@pytest.mark.parametrize("op", KERNELS)
def test_auto_on_a_cpu_is_torch_and_says_why(op: str) -> None:
    assert choose("auto", KERNELS[op], CPU, torch.float32) == "torch"
    assert chosen() == {f"{op} on cpu in float32": f"torch ({KERNELS[op].name}: needs a CUDA device)"}


@pytest.mark.parametrize("wanted", ["reference", "torch"])
def test_portable_forms_run_where_they_are_wanted(wanted: str) -> None:
    assert choose(wanted, SSD, CUDA, torch.float64) == wanted


def test_a_forced_kernel_on_a_cpu_is_an_error() -> None:
    with pytest.raises(ConfigError, match="'mamba_ssm' of ssd cannot run .needs a CUDA device.; set backend to 'auto'"):
        choose("mamba_ssm", SSD, CPU, torch.float32)


@pytest.mark.skipif(importlib.util.find_spec("flash_attn") is not None, reason="flash-attn is installed")
def test_a_forced_kernel_that_is_missing_says_how_to_install_it() -> None:
    with pytest.raises(ConfigError, match="pip install --no-build-isolation flash-attn, in the order of envs/gpu"):
        choose("flash_attn", ATTENTION, CUDA, torch.bfloat16)


def test_a_forced_kernel_without_the_precision_is_an_error() -> None:
    with pytest.raises(ConfigError, match="has no float32"):
        choose("flash_attn", ATTENTION, CUDA, torch.float32)


def test_an_unknown_backend_lists_what_there_is() -> None:
    with pytest.raises(ConfigError, match="there is: auto, reference, torch, mamba_ssm"):
        choose("triton", SSD, CPU, torch.float32)


def test_a_choice_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            choose("reference", convolution.KERNEL, CPU, torch.float16)
    assert [r.message for r in caplog.records] == ["convolution on cpu in float16: reference (as configured)"]


def test_two_choices_for_one_case_are_both_recorded_once() -> None:
    for wanted in ("reference", "torch", "reference"):
        choose(wanted, SSD, CPU, torch.float32)
    assert chosen() == {"ssd on cpu in float32": "reference (as configured); torch (as configured)"}


def test_auto_takes_a_kernel_that_is_installed_and_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "_import_problem", lambda kernel: None)
    assert choose("auto", SSD, CUDA, torch.bfloat16) == "mamba_ssm"
    assert choose("auto", SSD, CUDA, torch.float32) == "mamba_ssm"
    assert choose("auto", SSD, CUDA, torch.float64) == "torch"
    assert choose("auto", ATTENTION, CUDA, torch.float32) == "torch"
    assert choose("auto", ATTENTION, CUDA, torch.float16, "has no sinks") == "torch"
    with pytest.raises(ConfigError, match="'flash_attn' of attention cannot run .has no sinks."):
        choose("flash_attn", ATTENTION, CUDA, torch.float16, "has no sinks")
    assert chosen()["ssd on cuda in bfloat16"] == "mamba_ssm (installed, and fits)"


def test_a_package_that_does_not_import_says_how_to_rebuild_it(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    (tmp_path / "broken_kernel.py").write_text("raise ImportError('undefined symbol')")
    monkeypatch.syspath_prepend(tmp_path)
    kernel = Kernel("scan", "broken_kernel", "pip install broken-kernel", (torch.float32,))
    assert choose("auto", kernel, CUDA, torch.float32) == "torch"
    why = "is installed but does not import, undefined symbol: rebuild it with pip install broken-kernel"
    assert why in chosen()["scan on cuda in float32"]


def test_an_adapter_is_imported_only_where_a_function_runs_it() -> None:
    """What code digests follow: on a CPU no run depends on an adapter."""
    for path in sorted(pathlib.Path(kernels.__path__[0]).parent.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        inside = {id(node) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for node in ast.walk(f)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom) and "adapters" in ast.dump(node):
                assert id(node) in inside, f"{path.name}, line {node.lineno}: import the adapter in the function that runs it"
                assert path.parent.name == "kernels", f"{path}: adapters are run by the operations of ripstop.kernels alone"
