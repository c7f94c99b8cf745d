"""Cartridges of our own, on ale-py and on atari2600 in lockstep.

ale-py plays an unknown ROM file if it has the name of a game that it knows.
"""

import dataclasses
import hashlib
from pathlib import Path

import pytest

from atari2600 import games
from benchmarks.exactness import Lockstep

GAME = "assault"  # in whose place they are: no modes and no starting actions
ORIGIN = 0xF000
SIZE = 4096
START = [0x78, 0xD8, 0xA2, 0xFF, 0x9A]  # SEI, CLD, LDX #$FF, TXS
VSYNC = [0xA9, 2, 0x85, 0, *[0x85, 2] * 3, 0xA9, 0, 0x85, 0]  # three lines of it


def set_ram(values: list[int]) -> list[int]:
    """Instructions: RAM from $80 on."""
    return [
        byte for k, value in enumerate(values) for byte in (0xA9, value, 0x85, 0x80 + k)
    ]  # LDA #, STA


def jump(address: int) -> list[int]:
    return [0x4C, address & 0xFF, address >> 8]


def rom_of(code: list[int], brk: int = ORIGIN) -> bytes:
    """4 KiB that begin with `code`, where the processor starts; BRK goes to `brk`."""
    assert len(code) <= SIZE - 4
    vectors = [ORIGIN & 0xFF, ORIGIN >> 8, brk & 0xFF, brk >> 8]
    return bytes([*code, *[0xEA] * (SIZE - 4 - len(code)), *vectors])


def inserted(rom: bytes, game: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Lockstep:
    """`rom` in place of the game's."""
    path = folder / f"{game}.bin"
    path.write_bytes(rom)
    found = dataclasses.replace(games.find(game), md5=hashlib.md5(rom).hexdigest())
    monkeypatch.setattr(games, "find", lambda _: found)
    monkeypatch.setattr(games, "rom_bytes", lambda _: rom)
    return Lockstep(game, seed=0, rom=path)
