"""RoPE stretched to longer texts than a model was trained on: one file a way, whose name is the kind."""

from ripstop.config import Kinds

ROPE_SCALINGS = Kinds(__name__)
