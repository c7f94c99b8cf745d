"""The Arcade Learning Environment around the console: an action becomes switches, a frame a reward.

Also here: a game as it is played (`Layer`). Its reset procedure is in boot.py, what an agent makes
of the frames in agent.py.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from atari2600 import console, mersenne, rules
from atari2600.mersenne import ENVIRONMENT
from atari2600.state import (
    DELAY0,
    DELAY1,
    DELAY2,
    DELAY3,
    EPISODE_FRAMES,
    FIRE0,
    FIRE1,
    FRAMES,
    HELD_ACTION,
    NEVER_CHARGED,
    OVER,
    PADDLE,
    REWARD,
    SWCHA,
    SWCHB,
)

Array = NDArray[Any]

# These are NumPy's scalars since Numba compiles a function again for each of Python's constants
# that it is called with.
NOOP, FIRE = np.int64(0), np.int64(1)
RIGHT, LEFT, DOWN, UPFIRE = 3, 4, 5, 10
RESET_SWITCH = np.int64(40)  # an action only inside a reset procedure
DRAWING = np.bool_(True)
# Held lines of the actions: up 1, down 2, left 4, right 8.
HELD_LINES = np.array([0, 0, 1, 8, 4, 2, 9, 5, 10, 6, 1, 8, 4, 2, 9, 5, 10, 6], np.int64)
LEFT_LINE, RIGHT_LINE = 4, 8

# options[FIELD] of a game as it is played, int64
PADDLES, SWAP_PADDLES, SWAP_PORTS, PADDLE_MAX, LEGAL = range(5)
DIFFICULTY, POWER_ON_DIFFICULTY = 5, 6
RULES, INIT = 7, 8  # where these begin in the program
STICKY = 9  # a draw below it repeats the held action: probability x 2^32
DRAWN = 10  # whether anything can show that the environment's generator is drawn from
MAX_EPISODE_FRAMES = 11  # ALE's own limit; 0: none
LOAD_IS_COPY, RESET_IS_COPY = 12, 13  # of the start state: no boot is needed
OPTIONS = 14

PADDLE_MIN = 27450
PADDLE_DELTA = 23000  # resistance per frame of full strength
# An action as an agent takes it: action | resistance by which a frame of it turns a paddle << 6
ACTION_BITS, ACTION_MASK = 6, 63
SWITCHES = 0x3F  # SWCHB with no switch pressed, difficulties B
RESET_BIT, SELECT_BIT = 1, 2
NEUTRAL = 0xFF  # SWCHA with no line held
RELEASED = 0x80  # a fire button


class Layer(NamedTuple):
    """A game as it is played; shared by all its machines and threads, not written by a step."""

    options: Array  # int64 [OPTIONS]
    program: Array  # int32: the rules, see rules.py
    script: Array  # int32 [verbs, 4]: the reset procedure in the chosen mode, see boot.py
    default_script: Array  # int32 [verbs, 4]: the same in the default mode, for a load
    detection: Array  # int32 [CONSTANTS] of the console while ALE tells PAL from NTSC
    # The start state, one machine's: after a load and a reset
    generators: Array  # uint32 [1, GENERATORS, 625]
    registers: Array  # int32 [1, REGISTERS]
    ram: Array  # uint8 [1, RAM_BYTES]
    words: Array  # uint64 [1, 2, words of a screen]


def full_strength(actions: Array) -> Array:
    """Actions that turn a paddle as fast as it goes."""
    return actions | PADDLE_DELTA << ACTION_BITS


@numba.njit(_nrt=False)
def set_inputs(registers, options, i, action):  # type: ignore[no-untyped-def]
    """What the program reads of console switches and controllers while `action` is held."""
    delta, action = action >> ACTION_BITS, action & ACTION_MASK
    registers[i, SWCHB] = SWITCHES | options[DIFFICULTY] << 6
    if action == RESET_SWITCH:
        registers[i, SWCHB] ^= RESET_BIT
        action = NOOP
    lines = HELD_LINES[action]
    fire = action == FIRE or action >= UPFIRE
    registers[i, FIRE0] = registers[i, FIRE1] = RELEASED
    registers[i, DELAY0] = registers[i, DELAY1] = NEVER_CHARGED
    registers[i, DELAY2] = registers[i, DELAY3] = NEVER_CHARGED
    registers[i, SWCHA] = NEUTRAL
    if options[PADDLES]:
        turn_paddle(registers, options, i, lines, fire, delta)
    elif options[SWAP_PORTS]:
        registers[i, SWCHA] = NEUTRAL ^ lines
        registers[i, FIRE1] = 0 if fire else RELEASED
    else:
        registers[i, SWCHA] = NEUTRAL ^ lines << 4
        registers[i, FIRE0] = 0 if fire else RELEASED


@numba.njit(_nrt=False)
def turn_paddle(registers, options, i, lines, fire, delta):  # type: ignore[no-untyped-def]
    """Paddle 0 turns with left and right; paddle 1 stays in the middle, a second pair at 0."""
    resistance = np.int64(registers[i, PADDLE])
    if lines & RIGHT_LINE:
        resistance -= delta
    elif lines & LEFT_LINE:
        resistance += delta
    resistance = min(max(resistance, PADDLE_MIN), options[PADDLE_MAX])
    registers[i, PADDLE] = resistance
    own = charging(resistance)
    other = charging((PADDLE_MIN + options[PADDLE_MAX]) // 2)
    swapped = options[SWAP_PADDLES] != 0
    registers[i, DELAY0] = other if swapped else own
    registers[i, DELAY1] = own if swapped else other
    if options[PADDLES] == 2:
        registers[i, DELAY2] = registers[i, DELAY3] = 0
    if fire:
        registers[i, SWCHA] = NEUTRAL ^ (0x40 if swapped else 0x80)


@numba.njit(_nrt=False)
def charging(resistance):  # type: ignore[no-untyped-def]
    """Cycles until a paddle's capacitor is charged: 0.016 microfarad at 1.19 MHz.

    ALE computes floor(1.6 r 1e-8 1.19e6) in doubles; this is equal for every r up to 1,000,000.
    """
    return resistance * 119 // 6250


@numba.njit(_nrt=False, inline="always")
def emulate(machines, layer, scratch, i, action, drawing):  # type: ignore[no-untyped-def]
    """One frame with `action` held, and the game's rules after it."""
    set_inputs(machines.registers, layer.options, i, action)
    console.frame(machines, i, scratch, drawing)
    rules.run(layer.program, machines.registers, machines.ram, i, layer.options[RULES])


@numba.njit(_nrt=False)
def choose(registers, generators, options, i, action):  # type: ignore[no-untyped-def]
    """Sticky actions: the new action or, by a draw, the held one; two draws, one per player."""
    if options[DRAWN]:
        drawn = mersenne.draw(generators, i, ENVIRONMENT)
        mersenne.draw(generators, i, ENVIRONMENT)
        if drawn < options[STICKY]:
            return np.int64(registers[i, HELD_ACTION])
    return np.int64(action)


@numba.njit(_nrt=False)
def is_over(registers, options, i):  # type: ignore[no-untyped-def]
    """End of game, or ALE's own limit of frames."""
    limit = options[MAX_EPISODE_FRAMES]
    return registers[i, OVER] != 0 or (limit > 0 and registers[i, EPISODE_FRAMES] >= limit)


@numba.njit(_nrt=False, inline="always")
def act(machines, layer, generators, scratch, i, action):  # type: ignore[no-untyped-def]
    """ALE's act: one frame, drawn; returns its reward. When the game is over it only draws."""
    registers = machines.registers
    registers[i, HELD_ACTION] = choose(registers, generators, layer.options, i, action)
    if is_over(registers, layer.options, i):
        return np.int64(0)
    held = np.int64(registers[i, HELD_ACTION])
    return advance(machines, layer, scratch, i, held, DRAWING)


@numba.njit(_nrt=False, inline="always")
def advance(machines, layer, scratch, i, held, drawing):  # type: ignore[no-untyped-def]
    """One frame of a game that is not over; returns its reward."""
    registers = machines.registers
    if (layer.options[LEGAL] >> (held & ACTION_MASK)) & 1 == 0:
        held = NOOP
    emulate(machines, layer, scratch, i, held, drawing)
    count_frame(registers, i)
    return np.int64(registers[i, REWARD])


@numba.njit(_nrt=False)
def count_frame(registers, i):  # type: ignore[no-untyped-def]
    registers[i, FRAMES] += 1
    registers[i, EPISODE_FRAMES] += 1
