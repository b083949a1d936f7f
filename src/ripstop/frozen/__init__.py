"""Frozen language models: read, scored and prompted, never trained. `FROZEN` finds their sources by `kind`."""

from ripstop.config import Kinds

FROZEN = Kinds(__name__)
