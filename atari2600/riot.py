"""RIOT (6532): interval timer and ports. Its RAM is `ram`, read by the processor itself."""

from __future__ import annotations

import numba
import numpy as np

from atari2600.state import (
    DDRA,
    SWCHA,
    SWCHB,
    TIMER,
    TIMER_EXPIRED,
    TIMER_EXPIRED_AT,
    TIMER_SET,
    TIMER_SHIFT,
)

SHIFTS = np.array([0, 3, 6, 10], np.int64)  # the interval is 1, 8, 64 or 1024 cycles


@numba.njit(_nrt=False)
def start_timer(registers, i, value, shift, cycles):  # type: ignore[no-untyped-def]
    """Set the timer to count down from `value`, once per interval of 2^shift cycles."""
    registers[i, TIMER] = value
    registers[i, TIMER_SHIFT] = shift
    registers[i, TIMER_SET] = cycles
    registers[i, TIMER_EXPIRED] = 0


@numba.njit(_nrt=False)
def read(registers, i, address, cycles):  # type: ignore[no-untyped-def]
    """A byte of the ports or the timer."""
    if address & 4:
        if address & 1:
            return interrupt_flag(registers, i, cycles)
        return timer(registers, i, cycles)
    port = address & 3
    if port == 0:
        return np.int64(registers[i, SWCHA])
    if port == 1:
        return np.int64(registers[i, DDRA])
    if port == 2:
        return np.int64(registers[i, SWCHB])
    return np.int64(0)


@numba.njit(_nrt=False)
def timer(registers, i, cycles):  # type: ignore[no-untyped-def]
    """INTIM.

    After expiry the first reads count single cycles; from the first read two cycles late on, the
    counter is again as slow as before, from where that read found it. So the oracle has it.
    """
    start, shift = np.int64(registers[i, TIMER]), np.int64(registers[i, TIMER_SHIFT])
    elapsed = cycles - 1 - registers[i, TIMER_SET]
    slow = start - (elapsed >> shift) - 1
    if slow >= 0:
        return slow & 0xFF
    fast = (start << shift) - elapsed - 1
    if fast <= -2 and registers[i, TIMER_EXPIRED] == 0:
        registers[i, TIMER_EXPIRED] = 1
        registers[i, TIMER_EXPIRED_AT] = cycles
    if registers[i, TIMER_EXPIRED]:
        due = registers[i, TIMER_SET] + (start << shift)
        return (slow + 1 - (registers[i, TIMER_EXPIRED_AT] - due)) & 0xFF
    return fast & 0xFF


@numba.njit(_nrt=False)
def interrupt_flag(registers, i, cycles):  # type: ignore[no-untyped-def]
    """$80 when the timer has expired and INTIM was not read since."""
    elapsed = cycles - 1 - registers[i, TIMER_SET]
    slow = registers[i, TIMER] - (elapsed >> registers[i, TIMER_SHIFT]) - 1
    return np.int64(0x80 if slow < 0 and registers[i, TIMER_EXPIRED] == 0 else 0)


@numba.njit(_nrt=False)
def write(registers, i, address, value, cycles):  # type: ignore[no-untyped-def]
    """The timer, or port A's direction register, which changes nothing but what it reads as."""
    if address & 0x14 == 0x14:
        start_timer(registers, i, value, SHIFTS[address & 3], cycles)
    elif address & 7 == 1:
        registers[i, DDRA] = value
