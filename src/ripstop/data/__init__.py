"""Data sources. `DATA` finds them by `kind`: module `data/<kind>.py` holds one config that prepares and streams."""

from ripstop.config import Kinds

DATA = Kinds(__name__)
