"""Fixtures of the whole suite."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest

LONGEST = (
    "tests/test_workflow.py", "tests/faults/", "tests/paper/", "tests/mixers/test_contract.py", "tests/test_main.py",
    "tests/verify/", "tests/slurm/",
)  # fmt: skip
"""What takes most of a minute, or more: begun with, so that no process is left alone with it at the end."""


def pytest_configure() -> None:
    """Signals act as at a terminal, also where the suite runs in the background or under nohup, which ignore some."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    hypothesis.settings.register_profile("any machine", deadline=None)  # on one that does other things too
    hypothesis.settings.load_profile("any machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: next((n for n, path in enumerate(LONGEST) if item.nodeid.startswith(path)), len(LONGEST)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `-n`, a process takes a whole file, or a folder whose files share a fixture, so that each is set up once."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            folders = [path for path in LONGEST if path.endswith("/") and nodeid.startswith(path)]
            return folders[0] if folders else nodeid.partition("::")[0]

    config.option.loadscopereorder = False  # by the number of tests, which says nothing of how long they take
    return ByFile(config, log) if config.getvalue("dist") == "load" else None


@pytest.fixture
def nan_in_new_memory() -> Iterator[None]:
    """`torch.empty` gives NaN, so that a place which is never written cannot pass as a lucky zero."""
    import torch  # tests of the paper run without it

    # With fill_uninitialized_memory, which is on. Some CUDA operations have no deterministic form: those only warn.
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(autouse=True)
def settings_of_the_process() -> Iterator[None]:
    """What a training sets for its whole process, denormals and threads, ends with the test that trained."""
    before = sys.modules["torch"].get_num_threads() if "torch" in sys.modules else None
    yield
    if "torch" in sys.modules:  # tests of the paper run without it
        import torch

        torch.set_flush_denormal(False)
        torch.set_num_threads(before or torch.get_num_threads())


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")
