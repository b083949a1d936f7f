"""Mixers mix along time. `MIXERS` finds them: module `mixers/<kind>.py` holds one config and the mixer it builds."""

from ripstop.config import Kinds

MIXERS = Kinds(__name__)
