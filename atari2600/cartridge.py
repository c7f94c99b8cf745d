"""Cartridges: every bank-switching scheme of the shipped games, as one image and one function.

The processor reads `image[BANK + (address & ADDRESS_MASK)]`, whatever the scheme: the image holds
every bank, or combination of banks, as 4 KiB of its own. Addresses whose access does more than
that (bank switches, extra RAM, the DPC chip) lie outside PLAIN_FROM .. PLAIN_FROM + PLAIN_SIZE
and come to `access`. To add a scheme: a row in SCHEMES, its image, its case in `access`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from atari2600.state import (
    BANK,
    DPC,
    DPC_RANDOM,
    DPC_SCHEME,
    E0,
    EXTRA_RAM,
    F6,
    F6SC,
    F8,
    F8SC,
    FE,
    PLAIN,
    SCHEME,
    START_BANK,
)

Array = NDArray[Any]
BANK_BYTES = 4096
# An instruction is read with the two bytes behind its opcode, so its plain range ends two earlier.
OPERANDS = 2


class Scheme(NamedTuple):
    """What a game's constants say of its cartridge."""

    number: int
    plain_from: int
    plain_until: int
    start_bank: int  # offset in the image
    address_mask: int = 0xFFF


SCHEMES = {
    "2K": Scheme(PLAIN, 0x000, 0x1000, 0),
    "4K": Scheme(PLAIN, 0x000, 0x1000, 0),
    "F8": Scheme(F8, 0x000, 0xFF8, 1 * BANK_BYTES),
    "F6": Scheme(F6, 0x000, 0xFF6, 0),
    "F8SC": Scheme(F8SC, 0x100, 0xFF8, 1 * BANK_BYTES),
    "F6SC": Scheme(F6SC, 0x100, 0xFF6, 0),
    "E0": Scheme(E0, 0x000, 0xFE0, (4 << 6 | 5 << 3 | 6) * BANK_BYTES),
    "FE": Scheme(FE, 0x000, 0x1000, 0, 0x3FFF),
    "DPC": Scheme(DPC_SCHEME, 0x080, 0xFC0, 1 * BANK_BYTES),
}
DPC_PROGRAM, DPC_GRAPHICS = 8192, 2048


def image_of(rom: bytes, scheme: str) -> tuple[Array, Array]:
    """(image uint8, DPC graphics uint8 [2048]) of a ROM file's bytes under a scheme's name."""
    content = np.frombuffer(rom, np.uint8)
    graphics = np.zeros(DPC_GRAPHICS, np.uint8)
    if scheme == "2K":
        content = np.tile(content, BANK_BYTES // len(content))
    elif scheme == "E0":
        content = _every_combination(content)
    elif scheme == "FE":  # address bit 13 chooses the half
        content = np.concatenate([content[4096:], content[4096:], content[:4096], content[:4096]])
    elif scheme == "DPC":
        graphics[:] = content[DPC_PROGRAM : DPC_PROGRAM + DPC_GRAPHICS]
        content = content[:DPC_PROGRAM]
    return np.concatenate([content, np.zeros(OPERANDS, np.uint8)]), graphics


def _every_combination(rom: Array) -> Array:
    """E0: three windows of 1 KiB, each showing any of 8 slices, and the last slice: 2 MiB."""
    slices = rom.reshape(8, 1024)
    windows = np.indices((8, 8, 8)).reshape(3, -1)  # [window, combination]
    last = np.full((1, windows.shape[1]), 7)
    return slices[np.concatenate([windows, last]).T].reshape(-1)


@numba.njit(_nrt=False)
def power_on(constants, registers, i):  # type: ignore[no-untyped-def]
    """The cartridge's part of a system reset. The DPC's random register keeps running."""
    registers[i, BANK] = constants[START_BANK]
    if constants[SCHEME] == DPC_SCHEME:
        for k in range(DPC, DPC_RANDOM):
            registers[i, k] = 0


@numba.njit(_nrt=False)
def access(constants, image, graphics, registers, ram, i, address, value):  # type: ignore[no-untyped-def]
    """Read (value < 0) or write one byte in the cartridge's window; returns the byte read."""
    scheme = constants[SCHEME]
    low = address & 0xFFF
    bank = np.int64(registers[i, BANK])
    if scheme == F8 or scheme == F8SC:
        if 0xFF8 <= low <= 0xFF9:
            bank = (low - 0xFF8) * BANK_BYTES
    elif scheme == F6 or scheme == F6SC:
        if 0xFF6 <= low <= 0xFF9:
            bank = (low - 0xFF6) * BANK_BYTES
    elif scheme == E0:
        if 0xFE0 <= low <= 0xFF7:
            window = (low - 0xFE0) >> 3
            shift = 12 + 3 * (2 - window)
            bank = (bank & ~(7 << shift)) | ((low & 7) << shift)
    elif scheme == DPC_SCHEME and (low < 0x80 or low >= 0xFC0):
        step_random(registers, i)
        if 0xFF8 <= low <= 0xFF9:
            bank = (low - 0xFF8) * BANK_BYTES
        elif low < 0x40 and value < 0:
            return dpc_read(graphics, registers, i, low)
        elif 0x40 <= low < 0x80 and value >= 0:
            dpc_write(registers, i, low, value)
    registers[i, BANK] = bank
    if (scheme == F8SC or scheme == F6SC) and low < 0x100:
        if low < 0x80:
            if value >= 0:
                ram[i, EXTRA_RAM + low] = value
        elif value < 0:
            return np.int64(ram[i, EXTRA_RAM + (low & 0x7F)])
    mask = 0x3FFF if scheme == FE else 0xFFF
    return np.int64(image[bank + (address & mask)])


# ---- DPC: eight data fetchers and a random register (pitfall2) ----
# Fields of fetcher k: TOP + 5 k, ...
TOP, BOTTOM, COUNTER, FLAG, MUSIC = range(DPC, DPC + 5)
FIELDS = 5
FEEDBACK = np.array([1, 0, 0, 1, 0, 1, 1, 0, 0, 1, 1, 0, 1, 0, 0, 1], np.int32)


@numba.njit(_nrt=False)
def step_random(registers, i):  # type: ignore[no-untyped-def]
    """A shift register whose new bit comes from four of its bits."""
    r = np.int64(registers[i, DPC_RANDOM])
    entry = ((r >> 3) & 7) | (8 if r & 0x80 else 0)
    registers[i, DPC_RANDOM] = ((r << 1) | FEEDBACK[entry]) & 0xFF


@numba.njit(_nrt=False)
def dpc_read(graphics, registers, i, low):  # type: ignore[no-untyped-def]
    """A fetcher's graphics, flag or the random number; every read moves the fetcher on."""
    k = low & 7
    f = low >> 3
    at = k * FIELDS
    counter = np.int64(registers[i, COUNTER + at])
    if counter & 0xFF == registers[i, TOP + at]:
        registers[i, FLAG + at] = 0xFF
    elif counter & 0xFF == registers[i, BOTTOM + at]:
        registers[i, FLAG + at] = 0
    flag = np.int64(registers[i, FLAG + at])
    result = np.int64(0)
    if f == 0 and k < 4:
        result = np.int64(registers[i, DPC_RANDOM])
    elif f == 1:
        result = np.int64(graphics[2047 - counter])
    elif f == 2:
        result = np.int64(graphics[2047 - counter]) & flag
    elif f == 7:
        result = flag
    if k < 5 or registers[i, MUSIC + at] == 0:
        registers[i, COUNTER + at] = (counter - 1) & 2047
    return result


@numba.njit(_nrt=False)
def dpc_write(registers, i, low, value):  # type: ignore[no-untyped-def]
    """Set up a fetcher, or restart the random register."""
    k = low & 7
    f = (low >> 3) & 7
    at = k * FIELDS
    if f == 0:
        registers[i, TOP + at] = value
        registers[i, FLAG + at] = 0
    elif f == 1:
        registers[i, BOTTOM + at] = value
    elif f == 2:
        low_byte = registers[i, TOP + at] if registers[i, MUSIC + at] else value
        registers[i, COUNTER + at] = (registers[i, COUNTER + at] & 0x700) | low_byte
    elif f == 3:
        registers[i, COUNTER + at] = (registers[i, COUNTER + at] & 0xFF) | ((value & 7) << 8)
        if k >= 5:
            registers[i, MUSIC + at] = (value >> 4) & 1
    elif f == 6:
        registers[i, DPC_RANDOM] = 1
