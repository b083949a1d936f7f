"""Norms: one file each, whose name is the kind. `NORMS` finds them by `kind`."""

from ripstop.config import Kinds

NORMS = Kinds(__name__)
