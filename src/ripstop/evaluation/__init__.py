"""Measures on a trained model, in parts. `PARTS` finds them: module `evaluation/<kind>.py` holds one part's settings."""

from ripstop.config import Kinds

PARTS = Kinds(__name__)
