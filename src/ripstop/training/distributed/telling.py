"""Of several processes that end badly, one says why: the first of them; torchrun's report then holds the same words."""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import suppress

from ripstop.config import TrainingError

MOVES_NO_NUMBER = "says why a training ended"

SECONDS = 5.0
"""To ask torchrun's store, which answers within milliseconds or is gone."""


class OtherRankError(TrainingError):
    """Another process of the training has failed, and says why."""


def tell(text: str, reports: bool = True) -> None:
    """Write `text`, why this process ends, to standard error; nothing where another process of the training has done so.

    reports: it stands in torchrun's report, too, as the cause; its own `record` would put a traceback there.
    """
    if several() and not _is_first():
        return
    print(text.rstrip("\n"), file=sys.stderr, flush=True)
    report = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if report and reports and several():
        extra = {"py_callstack": text, "timestamp": str(int(time.time()))}
        with suppress(OSError), open(report, "w", encoding="utf-8") as file:
            json.dump({"message": {"message": text, "extraInfo": extra}}, file)


def several() -> bool:
    """Whether this process was started as one of several of one training."""
    size = os.environ.get("WORLD_SIZE", "1")
    return "RANK" in os.environ and size.isdecimal() and int(size) > 1


def _is_first() -> bool:
    """Whether no other process has asked this before. The store is torchrun's, which outlives them; where it cannot be asked,
    each says what it has to say."""
    try:
        from datetime import timedelta

        from torch.distributed import TCPStore

        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = TCPStore(host, port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=SECONDS))
        started = f"{os.environ.get('TORCHELASTIC_RUN_ID', '')}/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
        return store.add(f"ripstop/told/{started}", 1) == 1
    except Exception:  # whatever a store raises: to say nothing would be worse than to say it twice
        return True
