"""Optimizers. `OPTIMIZERS` finds them: module `optimizers/<kind>.py` holds one config that builds its optimizer."""

from ripstop.config import Kinds

OPTIMIZERS = Kinds(__name__)
