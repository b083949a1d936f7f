"""How the selection is taught: one file each, whose name is the kind. `TEACHINGS` finds them by `kind`."""

from ripstop.config import Kinds

TEACHINGS = Kinds(__name__)
