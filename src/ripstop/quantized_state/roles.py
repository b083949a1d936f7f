"""How each tensor of a mixer's state is written from token to token: what is new in it decides what is rounded again.

* `recurrent`: made anew from itself and the token, so that it is rounded at every token;
* `appended`: entries of new tokens come behind the others;
* `ring`: they take the places of older ones;
* `shifted`: the oldest goes, the newest stands last;
* `filling`: the same, once all places are taken;
* `latest`: of the last token alone.

Whatever is not recurrent is rounded once, when it is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from ripstop.config import ConfigError
from ripstop.mixers.attention import KVState
from ripstop.mixers.delta_heads import DeltaState
from ripstop.mixers.mamba2 import Mamba2State
from ripstop.mixers.mamba3 import Mamba3State
from ripstop.mixers.mla import LatentState
from ripstop.mixers.nsa.state import SparseState
from ripstop.mixers.sliding_window import WindowState

Role = Literal["recurrent", "appended", "ring", "shifted", "filling", "latest"]
Place = tuple[int | str, ...]
"""Of a tensor in a state: numbers of parts, then the name of a field."""

ROLES: dict[type, dict[str, Role]] = {
    Mamba2State: {"conv": "shifted", "ssm": "recurrent"},
    DeltaState: {"conv": "shifted", "memory": "recurrent"},
    Mamba3State: {"h_BHPN": "recurrent", "B_BHN": "latest", "x_BHP": "latest", "angle_BHR": "recurrent"},
    KVState: {"k": "appended", "v": "appended", "conv": "shifted"},
    LatentState: {"cache": "appended"},
    WindowState: {"k": "ring", "v": "ring", "conv": "shifted"},
    SparseState: {
        **{f"{what}_{x}": "appended" for what in ("compressed", "selected") for x in "kv"},
        **{f"recent_{x}": "filling" for x in "kv"},
        **{f"window_{x}": "ring" for x in "kv"},
        "conv": "shifted",
    },
}
"""State of a mixer -> its tensors. Their first axis is the batch; that of time, where there is one, the second."""
COUNTS = {"compressed_k": "n_compressed", "compressed_v": "n_compressed"}
"""What counts the entries of a tensor, where it is not `length`."""


@dataclass(frozen=True)
class Held:
    """A tensor of a state. count: entries that were ever written; 0 where the state counts none."""

    place: Place
    role: Role
    values: Tensor
    count: int


def held(state: Any, place: Place = ()) -> Iterator[Held]:
    """Every tensor of a state, through any nesting of tuples and lists. `ConfigError` where nothing says how one is written."""
    roles = ROLES.get(type(state))
    if roles is not None:
        for name, role in roles.items():
            yield Held((*place, name), role, getattr(state, name), getattr(state, COUNTS.get(name, "length"), 0))
    elif isinstance(state, list | tuple):
        if any(isinstance(part, Tensor) for part in state):
            raise ConfigError(
                f"{type(state).__name__}: nothing says how its tensors are written from token to token; add it to ROLES in "
                "quantized_state/roles.py"
            )
        for number, part in enumerate(state):
            yield from held(part, (*place, number))


def replaced(state: Any, values: Mapping[Place, Tensor], place: Place = ()) -> Any:
    """The same state with other tensors at these places."""
    roles = ROLES.get(type(state))
    if roles is not None:
        return state._replace(**{name: values[*place, name] for name in roles if (*place, name) in values})
    if isinstance(state, list | tuple):
        parts = [replaced(part, values, (*place, number)) for number, part in enumerate(state)]
        return type(state)(*parts) if hasattr(state, "_fields") else type(state)(parts)
    return state
