"""The most bytes of tensors at once while something is computed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

EVENT = "[memory]"
"""What torch's profiler calls an allocation or, with negative bytes, its end."""


def allocated_at_most(call: Callable[[], object], device: torch.device) -> int:
    """Bytes above those that were held before."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    # A CPU's allocator keeps no count, and what the process has resident depends on what it freed before.
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    found = profiler.profiler
    assert found is not None
    events = [event for event in found.kineto_results.events() if event.name() == EVENT]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak
