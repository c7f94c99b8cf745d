"""The console: one frame of the machine, from frame start to frame end. Start reading here.

A frame: `start_frame` moves all clocks back to the frame's beginning, `m6507.execute` runs the
program and logs what it writes to the video chip, and `tia.replay` turns that log into the picture
and the collisions. Facts: docs/emulator.md.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from atari2600 import cartridge, m6507, riot, tia
from atari2600.state import (
    ADDRESS_MASK,
    BUFFER,
    CONSTANTS,
    CYCLES,
    DUMP_AT,
    END_CLOCK,
    FIRST_CLOCK,
    FOREVER,
    FRAME_START,
    HEIGHT,
    HMOVE_BLANKS,
    LAST_CLOCK,
    LAST_HMOVE,
    LINE_POSITION,
    LINES,
    LOGGED,
    MAX_LINES,
    PAL,
    PARTIAL,
    PC,
    PLAIN_FROM,
    PLAIN_SIZE,
    RAM_BYTES,
    REGISTERS,
    ROW,
    SCHEME,
    SHORT,
    SP,
    START_BANK,
    TIMER_EXPIRED_AT,
    TIMER_SET,
    TOUCHED,
    UNFINISHED,
    VSYNC_DEADLINE,
    WIDTH,
    Y_START,
    A,
)

Array = NDArray[Any]
NTSC_LINES, PAL_LINES = 290, 342  # a frame that is longer is cut off


def constants_of(scheme: str, pal: bool, y_start: int, height: int, hmove_blanks: bool) -> Array:
    """int32 [CONSTANTS]: what all machines of a game share."""
    cartridge_ = cartridge.SCHEMES[scheme]
    constants = np.zeros(CONSTANTS, np.int32)
    constants[SCHEME] = cartridge_.number
    constants[ADDRESS_MASK] = cartridge_.address_mask
    constants[PLAIN_FROM] = cartridge_.plain_from
    constants[PLAIN_SIZE] = cartridge_.plain_until - cartridge_.plain_from - cartridge.OPERANDS
    constants[START_BANK] = cartridge_.start_bank
    constants[Y_START], constants[HEIGHT] = y_start, height
    constants[MAX_LINES] = PAL_LINES if pal else NTSC_LINES
    constants[PAL], constants[HMOVE_BLANKS] = pal, hmove_blanks
    return constants


class FrameScratch(NamedTuple):
    """What a worker brings to a frame; nothing in it outlives the frame."""

    memory: Array  # uint64 [tia.MEMORY]: the video chip's masks, and the log
    code: Any  # the game's translated code, of a type that the back end knows (hot.py); None: none


def scratch_of(code: Any) -> FrameScratch:
    """Working memory for one worker."""
    return FrameScratch(np.zeros(tia.MEMORY, np.uint64), code)


@numba.njit(_nrt=False)
def system_reset(machines, i, timer):  # type: ignore[no-untyped-def]
    """Power-on of all chips of machine i; RAM keeps its content, `timer` is drawn by the caller.

    UNFINISHED is kept on purpose: after a reset in the middle of a frame the oracle does not start
    a new one, and draws from clock 0.
    """
    registers, constants = machines.registers, machines.constants
    for k in range(A, BUFFER):
        if k != UNFINISHED:
            registers[i, k] = 0
    for k in range(PARTIAL, TOUCHED + 1):
        registers[i, k] = 0
    registers[i, VSYNC_DEADLINE] = FOREVER
    registers[i, FIRST_CLOCK] = tia.LINE_CLOCKS * constants[Y_START]
    registers[i, END_CLOCK] = registers[i, FIRST_CLOCK] + tia.LINE_CLOCKS * constants[HEIGHT]
    for k in range(machines.words.shape[2]):
        machines.words[i, 0, k] = machines.words[i, 1, k] = 0
    riot.start_timer(registers, i, timer, 6, 0)
    cartridge.power_on(constants, registers, i)
    registers[i, SP] = 0xFF
    arguments = constants, machines.image, machines.graphics, registers, machines.ram
    low = cartridge.access(*arguments, i, 0x1FFC, -1)
    registers[i, PC] = low | cartridge.access(*arguments, i, 0x1FFD, -1) << 8


@numba.njit(_nrt=False)
def copy_machine(registers, ram, i, to_registers, to_ram, k):  # type: ignore[no-untyped-def]
    """Row k becomes machine i, but for the screens."""
    for field in range(REGISTERS):
        to_registers[k, field] = registers[i, field]
    for byte in range(RAM_BYTES):
        to_ram[k, byte] = ram[i, byte]


@numba.njit(_nrt=False)
def start_frame(constants, registers, i):  # type: ignore[no-untyped-def]
    """Clock 0 is now; the part of a line that has passed is kept as a negative frame start."""
    cycles = np.int64(registers[i, CYCLES])
    passed = (3 * cycles - registers[i, FRAME_START]) % tia.LINE_CLOCKS
    registers[i, TIMER_SET] -= cycles
    registers[i, TIMER_EXPIRED_AT] -= cycles
    registers[i, DUMP_AT] -= cycles
    registers[i, VSYNC_DEADLINE] -= 3 * cycles
    registers[i, LAST_HMOVE] -= 3 * cycles
    registers[i, CYCLES] = registers[i, TOUCHED] = 0
    registers[i, FRAME_START] = -passed
    registers[i, FIRST_CLOCK] = tia.LINE_CLOCKS * constants[Y_START] - passed
    registers[i, END_CLOCK] = registers[i, FIRST_CLOCK] + tia.LINE_CLOCKS * constants[HEIGHT]
    registers[i, LAST_CLOCK] = registers[i, FIRST_CLOCK]
    registers[i, LINE_POSITION] = registers[i, ROW] = registers[i, PARTIAL] = 0
    registers[i, BUFFER] ^= 1
    if constants[PAL]:
        tia.lose_color(constants, registers, i)


@numba.njit(_nrt=False)
def frame(machines, i, scratch, drawing):  # type: ignore[no-untyped-def]
    """One frame of machine i, with the inputs that stand in its registers."""
    constants, registers, words = machines.constants, machines.registers, machines.words
    if registers[i, UNFINISHED] == 0:
        start_frame(constants, registers, i)
    tia.begin(scratch.memory)
    ended = m6507.execute(machines, scratch, i, drawing)
    logged, until = np.int64(registers[i, LOGGED]), 3 * np.int64(registers[i, TOUCHED])
    tia.replay(constants, registers, words, scratch.memory, i, logged, until, drawing)
    registers[i, LOGGED] = 0
    registers[i, UNFINISHED] = not ended
    lines = (3 * registers[i, CYCLES] - registers[i, FRAME_START]) // tia.LINE_CLOCKS
    if ended:
        registers[i, LINES] = lines
    else:
        if registers[i, PARTIAL] == 0 and drawing:
            grey_out(machines, i, lines - constants[Y_START])
        registers[i, PARTIAL] += 1
    registers[i, SHORT] = not ended or registers[i, LAST_CLOCK] < registers[i, END_CLOCK]


@numba.njit(_nrt=False)
def grey_out(machines, i, row):  # type: ignore[no-untyped-def]
    """The oracle's mark of a frame that did not end: from the current line on, grey."""
    buffer = machines.registers[i, BUFFER]
    for k in range(max(row, 0) * WIDTH, machines.constants[HEIGHT] * WIDTH):
        machines.screens[i, buffer, k] = (machines.screens[i, buffer, k] & 15) >> 1
