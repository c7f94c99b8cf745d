"""Every opcode against ale-py: random programs in cartridges of our own.

ale-py plays an unknown ROM that has the name of a game it knows. Each program sets up RAM, then
repeats for ever: a frame's VSYNC, and 250 random instructions on RAM, the stack and constants,
among them every opcode of USED.
"""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atari2600 import games
from atari2600.backends import translate
from atari2600.console import Array
from atari2600.opcodes import (
    DECODE,
    LENGTHS,
    MODE_BITS,
    MODES,
    OPERATION_SHIFT,
    OPERATIONS,
)
from benchmarks.exactness import Lockstep

GAME = "assault"  # no modes and no starting actions
ORIGIN = 0xF000
INSTRUCTIONS = 250
# they would leave the program, or depend on where the code lies
LEFT_OUT = {"JMP", "JSR", "RTS", "RTI", "BRK", "KIL", "TXS", "SHS", "LAS"}
POINTERS = 0xF0  # $F0 to $F7 point into RAM


def named(opcode: int) -> tuple[str, str]:
    """(operation, addressing mode)."""
    decoded = int(DECODE[opcode])
    return OPERATIONS[(decoded >> OPERATION_SHIFT) & 0xFF], MODES[decoded & MODE_BITS]


USED = [opcode for opcode in range(256) if named(opcode)[0] not in LEFT_OUT]


def instruction(opcode: int, random: np.random.Generator) -> list[int]:
    """Its bytes, after X and Y have been made small, so that it stays in RAM."""
    mode = named(opcode)[1]
    small = [0xA2, int(random.integers(4)), 0xA0, int(random.integers(4))]  # LDX, LDY
    byte = int(random.integers(256))
    address = 0x80 + int(random.integers(0x60))
    operand = {
        "implied": [],
        "immediate": [byte],
        "relative": [0],
        "(zero,x)": [POINTERS],
        "(zero),y": [POINTERS + 2 * int(random.integers(4))],
    }.get(mode, [address, 0] if LENGTHS[mode] == 3 else [address])
    # X of an indexed pointer is even: it must not start in a pointer's middle
    small[1] &= ~1 if mode == "(zero,x)" else 0xFF
    return (small if "x" in mode or "y" in mode else []) + [opcode, *operand]


def program(random: np.random.Generator) -> bytes:
    """A ROM of 4 KiB."""
    code = [0x78, 0xD8, 0xA2, 0xFF, 0x9A]  # SEI, CLD, LDX #$FF, TXS
    for address in range(0x80, 0x100):
        code += [0xA9, int(random.integers(256)), 0x85, address]  # LDA #, STA
    start = ORIGIN + len(code)
    for k in range(4):  # the pointers anew in each frame, and the stack
        code += [0xA9, 0x80 + 8 * k, 0x85, POINTERS + 2 * k, 0xA9, 0, 0x85, POINTERS + 2 * k + 1]
    code += [0xA2, 0xEF, 0x9A, 0xA9, 2, 0x85, 0, 0x85, 2, 0x85, 2, 0x85, 2, 0xA9, 0, 0x85, 0]
    drawn = [*USED, *random.choice(USED, INSTRUCTIONS - len(USED))]
    for opcode in random.permutation(drawn):
        if named(int(opcode))[0] in ("PLA", "PLP"):
            code += [0x08]  # PHP first: pulls stay above the stack's start
        code += instruction(int(opcode), random)
        if named(int(opcode))[0] in ("PHA", "PHP"):
            code += [0x68]
        code += [0x85, 0x80 + int(random.integers(0x60))]  # STA: what came of it shows in RAM
        code += [0x08, 0x68, 0x85, 0x80 + int(random.integers(0x60))]  # the flags as well
    code += [0x4C, start & 0xFF, start >> 8]
    assert len(code) < 4090
    rom = code + [0xEA] * (0xFFC - len(code)) + [ORIGIN & 0xFF, ORIGIN >> 8] * 2
    return bytes(rom)


# To translate a program takes seconds
@pytest.mark.parametrize(
    ("translated", "seed"), [*[(False, seed) for seed in range(6)], (True, 0), (True, 1)]
)
def test_random_programs(
    translated: bool, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rom = program(np.random.default_rng(seed))
    path = tmp_path / f"{GAME}.bin"
    path.write_bytes(rom)
    game = dataclasses.replace(games.find(GAME), md5=hashlib.md5(rom).hexdigest())
    monkeypatch.setattr(games, "find", lambda _: game)
    monkeypatch.setattr(games, "rom_bytes", lambda _: rom)
    made, code_of = list[translate.HotCode](), translate.code_of

    def noted(*words: Any) -> translate.HotCode:
        made.append(code_of(*words))
        return made[-1]

    def interpreted(_: Array, image: Array, *__: Any) -> translate.HotCode:
        return translate.nothing(image)

    monkeypatch.setattr(translate, "code_of", noted if translated else interpreted)
    lockstep = Lockstep(GAME, seed, rom=path)
    assert len(made) == translated
    assert all(code.address and code.starts.any() for code in made)
    for frame in range(40):
        assert lockstep.difference() is None, frame
        lockstep.step(0)


def test_nearly_all_opcodes_are_used() -> None:
    assert len(USED) == 256 - 12 - 9  # KIL has twelve opcodes, JMP two
