"""Models: token ids in, logits out. `MODELS` finds them by `kind`."""

from ripstop.config import Kinds

MODELS = Kinds(__name__)
