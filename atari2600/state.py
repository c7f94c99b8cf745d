"""The whole machine as named fields of flat arrays: no pointers, so a copy is a snapshot.

Everything that a machine remembers between two frames is in `registers[i]` (int32, the fields
below), `ram[i]` (128 bytes of the RIOT, then 128 bytes of the cartridge) and `screens[i]` (two
frame buffers that alternate). `docs/emulator.md` draws the machine.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# ---- registers[i, FIELD] ----

# CPU (6507)
A, X, Y, SP, PC = range(5)
FLAG_N, FLAG_V, FLAG_D, FLAG_I, FLAG_Z, FLAG_C = range(5, 11)  # 0 or 1 each
STUCK = 11  # a KIL opcode was executed: nothing runs until the next system reset
CYCLES = 12  # CPU cycles since the start of the frame

# RIOT (6532)
TIMER, TIMER_SHIFT, TIMER_SET, TIMER_EXPIRED, TIMER_EXPIRED_AT, DDRA = range(13, 19)

# Inputs, set before each frame
SWCHA = 19  # joystick lines as the program reads them, active low
SWCHB = 20  # console switches
FIRE0, FIRE1 = 21, 22  # INPT4, INPT5: 0x80 when not pressed
DELAY0, DELAY1, DELAY2, DELAY3 = range(23, 27)  # cycles that each paddle's capacitor takes to
# charge; NEVER_CHARGED for a joystick
NEVER_CHARGED = -1

# Frame
FRAME_START = 27  # colour clock of the frame's start, <= 0
UNFINISHED = 28  # the last frame did not end within its budget of instructions
VSYNC_DEADLINE = 29  # clock from which a VSYNC write of 0 ends the frame
FIRST_CLOCK, END_CLOCK = 30, 31  # of the visible window
LINES = 32  # lines of the last finished frame
BUFFER = 33  # which of the two screens is being drawn, or was drawn last
PARTIAL = 34  # calls that ended without a finished frame, since the last frame start
SHORT = 35  # the last frame ended before its last visible line: old rows show through
LAST_CLOCK = 36  # up to which the TIA has drawn
LINE_POSITION = 37  # of LAST_CLOCK in its line, 0 to 228

# TIA (video)
ROW = 38  # of the screen, being drawn
VBLANK, DUMPED, DUMP_AT = range(39, 42)
NUSIZ0, NUSIZ1 = 42, 43
COLUP0, COLUP1, COLUPF, COLUBK = range(44, 48)
CTRLPF, REFP0, REFP1, PF = range(48, 52)  # PF: 20 bits, leftmost cell lowest
GRP0, GRP1, OLD_GRP0, OLD_GRP1 = range(52, 56)
ENAM0, ENAM1, ENABL, OLD_ENABL = range(56, 60)
HMP0, HMP1, HMM0, HMM1, HMBL = range(60, 65)
VDELP0, VDELP1, VDELBL, RESMP0, RESMP1 = range(65, 70)
POS_P0, POS_P1, POS_M0, POS_M1, POS_BL = range(70, 75)
SUPPRESS0, SUPPRESS1 = 75, 76  # the player's first copy is not drawn
REFLECTED = 77  # playfield reflection in force
COLLISIONS = 78  # 15 latches
HMOVE_BLANK, LAST_HMOVE = 79, 80
STAR, STAR_COUNTER, STAR_SHAPE = 81, 82, 83  # shape of missile 0: 0 normal, 1 wider, 2 hidden

# Between the processor and the video chip, within a frame
LOGGED = 84  # writes in the log that the TIA has not played yet
TOUCHED = 85  # cycle of the last access to the TIA

# Cartridge
BANK = 86  # offset of the current bank(s) in the game's image
DPC = 87  # 8 fetchers: top, bottom, counter, flag, music; then the random register
DPC_RANDOM = DPC + 40
DPC_END = DPC_RANDOM + 1

# ALE's layer
SYSTEM_RESETS = DPC_END  # since the ROM was loaded: each takes draws from the system's generator
HELD_ACTION = DPC_END + 1  # with a paddle's strength, as ale.py has it
PADDLE = DPC_END + 2  # resistance of paddle 0
EPISODE_FRAMES = DPC_END + 3
OVER = DPC_END + 4  # the rules say so, not a limit
LIVES = DPC_END + 5
REWARD = DPC_END + 6  # of the last frame
FRAMES = DPC_END + 7  # since the ROM was loaded
ELAPSED = DPC_END + 8  # frames of the agent's own steps in this episode
LIVES_BEFORE = DPC_END + 9  # the last agent step
ENDED = DPC_END + 10  # the episode is over: the next agent step starts another
STARTED = DPC_END + 11  # `reset` has been called at least once; nothing reads it, states have it
CONDITION = DPC_END + 12  # what a rule that is a question answered
VARIABLES = DPC_END + 13  # of the game's rules
MAX_VARIABLES = 24
REGISTERS = VARIABLES + MAX_VARIABLES

FOREVER = 2**31 - 1  # VSYNC_DEADLINE when none is armed
RAM_BYTES = 256  # RIOT 128, cartridge 128
EXTRA_RAM = 128  # index of the cartridge's first byte
WIDTH = 160
ROW_WORDS = WIDTH // 8  # of a screen: uint64, 8 pixels each

# ---- constants[FIELD] of a game, int32, shared by all its machines ----

SCHEME = 0
ADDRESS_MASK = 1  # of the program counter within the image
PLAIN_FROM, PLAIN_SIZE = 2, 3  # addresses (12 bits) whose fetch has no side effect and is ROM
START_BANK = 4
Y_START, HEIGHT, MAX_LINES, PAL, HMOVE_BLANKS = range(5, 10)
CONSTANTS = 10

# schemes
PLAIN, F8, F6, F8SC, F6SC, E0, FE, DPC_SCHEME = range(8)


class Machines(NamedTuple):
    """N machines of one game. Also the arguments of a compiled function, hence plain arrays."""

    constants: Array  # int32 [CONSTANTS]
    image: Array  # uint8: every bank (or combination of banks) as 4 KiB, see cartridge.py
    graphics: Array  # uint8 [2048], DPC only
    registers: Array  # int32 [N, REGISTERS]
    ram: Array  # uint8 [N, RAM_BYTES]
    screens: Array  # uint8 [N, 2, HEIGHT * WIDTH], colour codes
    words: Array  # uint64 view of `screens`: 8 pixels a word


def allocate(constants: Array, image: Array, graphics: Array, num_machines: int) -> Machines:
    """Machines with everything zero: `boot` comes next."""
    screens = np.zeros((num_machines, 2, int(constants[HEIGHT]) * WIDTH), np.uint8)
    registers = np.zeros((num_machines, REGISTERS), np.int32)
    ram = np.zeros((num_machines, RAM_BYTES), np.uint8)
    words = screens.view(np.uint64)
    return Machines(constants, image, graphics, registers, ram, screens, words)
