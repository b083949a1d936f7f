"""Compressors: from documents to the vectors of a wire. `COMPRESSORS` finds them: module `compressors/<kind>.py` holds one."""

from ripstop.config import Kinds

COMPRESSORS = Kinds(__name__)
