"""A saved state: one uint8 array of a header, which says what it is of, and the bytes of arrays."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
VERSION = 1  # of the state's layout, registers included
LENGTH_BYTES = 8  # an int64, the length of the header


def save(header: dict[str, Any], rest: dict[str, Any], arrays: list[Array]) -> Array:
    """The state; `load` wants an equal header and gives `rest` back."""
    text = json.dumps([{"version": VERSION} | header, rest]).encode()
    parts = [np.array([len(text)]), np.frombuffer(text, np.uint8), *arrays]
    return np.concatenate([part.reshape(-1).view(np.uint8) for part in parts])


def load(state: Array, header: dict[str, Any], arrays: list[Array]) -> dict[str, Any]:
    """Fill `arrays` and return `rest`. Raises ValueError if it is not theirs, and fills nothing."""
    (found, rest), content = split(np.asarray(state))
    for key, expected in ({"version": VERSION} | header).items():
        if found.get(key) != expected:
            raise ValueError(f"the state has {key} {found.get(key)}; expected {expected}")
    size = sum(array.nbytes for array in arrays)
    if content.size != size:
        raise ValueError(f"the state has {content.size} bytes of content; expected {size}")
    for array in arrays:
        array.reshape(-1).view(np.uint8)[:] = content[: array.nbytes]
        content = content[array.nbytes :]
    return dict(rest)


def split(state: Array) -> tuple[tuple[dict[str, Any], dict[str, Any]], Array]:
    """((header, rest), content). Raises ValueError if it is no state."""
    if state.dtype == np.uint8 and state.ndim == 1 and state.size > LENGTH_BYTES:
        end = LENGTH_BYTES + int(state[:LENGTH_BYTES].view(np.int64)[0])
        try:
            header, rest = json.loads(state[LENGTH_BYTES : max(end, 0)].tobytes())
            return (dict(header), dict(rest)), state[end:]
        except (ValueError, TypeError):
            pass
    raise ValueError("this is no saved state of atari2600; expected what save_state() returned")
