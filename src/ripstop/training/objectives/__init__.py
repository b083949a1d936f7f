"""Objectives: what a training makes small. `OBJECTIVES` finds them: module `objectives/<kind>.py` holds one config."""

from ripstop.config import Kinds

OBJECTIVES = Kinds(__name__)
