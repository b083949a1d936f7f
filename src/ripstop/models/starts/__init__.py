"""Starts: what replaces some of the weights that torch drew, before a training. `STARTS` finds them by `kind`."""

from ripstop.config import Kinds

STARTS = Kinds(__name__)
