"""A saved state: one uint8 array of a header, which says what it is of, and the bytes of arrays.

`load` believes nothing: the content has a checksum, and what compiled code takes for an index must
be within its bounds. States of version 1 have no checksum and say less of the protocol; they load.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atari2600.ale import ACTION_MASK, RESET_SWITCH
from atari2600.cartridge import BANK_BYTES, FIELDS, OPERANDS
from atari2600.games import ACTIONS
from atari2600.mersenne import LENGTH, POSITION
from atari2600.state import (
    ADDRESS_MASK,
    BANK,
    BUFFER,
    COLUBK,
    COLUP0,
    CTRLPF,
    DDRA,
    DPC,
    DPC_END,
    DPC_RANDOM,
    END_CLOCK,
    FIRE0,
    FIRE1,
    FIRST_CLOCK,
    FLAG_C,
    FLAG_N,
    FRAME_START,
    GRP0,
    HEIGHT,
    HELD_ACTION,
    HMBL,
    HMP0,
    LAST_CLOCK,
    LINE_POSITION,
    LOGGED,
    NUSIZ0,
    NUSIZ1,
    OLD_GRP1,
    PC,
    PF,
    POS_BL,
    POS_P0,
    ROW,
    SP,
    STUCK,
    SWCHA,
    SWCHB,
    TIMER,
    TIMER_SHIFT,
    UNFINISHED,
    Y_START,
    A,
    Machines,
)
from atari2600.tia import LINE_CLOCKS, PIXELS

Array = NDArray[Any]
Rest = dict[str, Any]
VERSION = 2  # of the state's layout, registers included; 1 is read as well
LENGTH_BYTES = 8  # an int64, the length of the header
CHECKSUM = "sha256"

# first and last register of a group, and the values that the compiled code relies on
RANGES = [
    (A, SP, 0, 0xFF),
    (PC, PC, 0, 0xFFFF),
    (FLAG_N, FLAG_C, 0, 1),
    (STUCK, STUCK, 0, 1),
    (TIMER, TIMER, 0, 0xFF),
    (TIMER_SHIFT, TIMER_SHIFT, 0, 10),
    (DDRA, DDRA, 0, 0xFF),
    (SWCHA, SWCHB, 0, 0xFF),
    (FIRE0, FIRE1, 0, 0xFF),
    (FRAME_START, FRAME_START, 1 - LINE_CLOCKS, 0),
    (UNFINISHED, UNFINISHED, 0, 1),
    (BUFFER, BUFFER, 0, 1),
    (LINE_POSITION, LINE_POSITION, 0, LINE_CLOCKS),
    (ROW, ROW, 0, 0xFFFF),
    (NUSIZ0, NUSIZ1, 0, 0xFF),
    (COLUP0, COLUBK, 0, 0xFF),
    (CTRLPF, CTRLPF, 0, 0xFF),
    (PF, PF, 0, 0xFFFFF),
    (GRP0, OLD_GRP1, 0, 0xFF),
    (HMP0, HMBL, 0, 15),
    (POS_P0, POS_BL, 0, PIXELS - 1),
    (LOGGED, LOGGED, 0, 0),  # states are saved between frames
    (DPC, DPC_END - 1, 0, 2047),
    *[
        (DPC + FIELDS * k + flag, DPC + FIELDS * k + flag, 0, 0xFF)
        for k in range(8)
        for flag in (0, 1, 3, 4)
    ],
    (DPC_RANDOM, DPC_RANDOM, 0, 0xFF),
]


def save(header: Rest, rest: Rest, arrays: list[Array]) -> Array:
    """The state; `load` wants an equal header and gives `rest` back."""
    content = np.concatenate([array.reshape(-1).view(np.uint8) for array in arrays])
    header = {"version": VERSION} | header
    text = json.dumps([header | {CHECKSUM: checksum(header, rest, content)}, rest]).encode()
    return np.concatenate(
        [np.array([len(text)]).view(np.uint8), np.frombuffer(text, np.uint8), content]
    )


def load(
    state: Array, header: Rest, arrays: list[Array], check: Callable[[Rest, list[Array]], None]
) -> Rest:
    """Fill `arrays` and return `rest`. Raises ValueError if it is not theirs, and fills nothing.

    `check` raises ValueError if it does not like the rest and the content of the arrays.
    """
    (found, rest), content = split(np.asarray(state))
    version = found.get("version")
    if version not in (1, VERSION):
        raise ValueError(f"the state has version {version}; expected 1 or {VERSION}")
    for key, expected in header.items():
        if found.get(key) != expected and (key in found or version == VERSION):
            raise ValueError(f"the state has {key} {found.get(key)}; expected {expected}")
    size = sum(array.nbytes for array in arrays)
    if content.size != size:
        raise ValueError(f"the state has {content.size} bytes of content; expected {size}")
    if version == VERSION and found.pop(CHECKSUM, None) != checksum(found, rest, content):
        raise ValueError("the state is damaged: its checksum differs; expected what was saved")
    loaded = parts(content, arrays)
    check(rest, loaded)
    for array, part in zip(arrays, loaded, strict=True):
        array[...] = part
    return rest


def parts(content: Array, arrays: list[Array]) -> list[Array]:
    """The content as arrays like these."""
    ends = np.cumsum([array.nbytes for array in arrays])
    return [
        content[end - array.nbytes : end].view(array.dtype).reshape(array.shape)
        for end, array in zip(ends, arrays, strict=True)
    ]


def checksum(header: Rest, rest: Rest, content: Array) -> str:
    digest = hashlib.sha256(json.dumps([header, rest]).encode())
    digest.update(np.ascontiguousarray(content).data)
    return digest.hexdigest()


def split(state: Array) -> tuple[tuple[Rest, Rest], Array]:
    """((header, rest), content). Raises ValueError if it is no state."""
    if state.dtype == np.uint8 and state.ndim == 1 and state.size > LENGTH_BYTES:
        state = np.ascontiguousarray(state)
        end = LENGTH_BYTES + int(state[:LENGTH_BYTES].view(np.int64)[0])
        try:
            header, rest = json.loads(state[LENGTH_BYTES : max(end, 0)].tobytes())
            return (dict(header), dict(rest)), state[end:]
        except (ValueError, TypeError, RecursionError):
            pass
    raise ValueError("this is no saved state of atari2600; expected what save_state() returned")


def check_machines(machines: Machines, registers: Array, generators: Array) -> None:
    """Raise ValueError where compiled code could leave an array or go on for ever."""
    for first, last, low, high in [*RANGES, *ranges_of(machines)]:
        found = registers[:, first : last + 1].min(), registers[:, first : last + 1].max()
        if found[0] < low or found[1] > high:
            raise ValueError(
                f"the state is damaged: registers {first} to {last} hold {found[0]} to {found[1]};"
                f" expected {low} to {high}"
            )
    action = registers[:, HELD_ACTION] & ACTION_MASK
    if not ((action < len(ACTIONS)) | (action == RESET_SWITCH)).all():
        raise ValueError("the state is damaged: it holds an action that there is not")
    if (registers[:, BANK] % BANK_BYTES).any():
        raise ValueError("the state is damaged: a bank does not start where banks do")
    if generators[..., POSITION].max() > LENGTH or not generators[..., 1:LENGTH].any(-1).all():
        raise ValueError("the state is damaged: a random generator is in no possible state")


def ranges_of(machines: Machines) -> list[tuple[int, int, int, int]]:
    """The ranges that depend on the game; see RANGES."""
    constants = machines.constants
    banks = len(machines.image) - OPERANDS - int(constants[ADDRESS_MASK]) - 1
    first = LINE_CLOCKS * int(constants[Y_START])
    end = first + LINE_CLOCKS * int(constants[HEIGHT])
    return [
        (BANK, BANK, 0, banks),
        (FIRST_CLOCK, FIRST_CLOCK, first - LINE_CLOCKS, first),
        (END_CLOCK, END_CLOCK, end - LINE_CLOCKS, end),
        (LAST_CLOCK, LAST_CLOCK, -LINE_CLOCKS, end),
    ]
