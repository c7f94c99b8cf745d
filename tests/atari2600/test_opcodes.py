"""Every opcode against ale-py: random programs in cartridges of our own.

Each program sets up RAM, then repeats for ever: a frame's VSYNC, and 250 random instructions on
RAM, the stack and constants, among them every opcode of USED. Then those that are LEFT_OUT.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atari2600.backends import translate
from atari2600.opcodes import (
    DECODE,
    LENGTHS,
    MODE_BITS,
    MODES,
    OPERATION_SHIFT,
    OPERATIONS,
)
from tests.atari2600.cartridges import (
    ORIGIN,
    START,
    VSYNC,
    inserted,
    interpreted,
    jump,
    rom_of,
    set_ram,
)

GAME = "assault"  # no modes and no starting actions
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
    code = [*START, *set_ram(random.integers(256, size=128).tolist())]
    start = ORIGIN + len(code)
    for k in range(4):  # the pointers anew in each frame, and the stack
        code += [0xA9, 0x80 + 8 * k, 0x85, POINTERS + 2 * k, 0xA9, 0, 0x85, POINTERS + 2 * k + 1]
    code += [0xA2, 0xEF, 0x9A, *VSYNC]  # LDX #$EF, TXS
    drawn = [*USED, *random.choice(USED, INSTRUCTIONS - len(USED))]
    for opcode in random.permutation(drawn):
        if named(int(opcode))[0] in ("PLA", "PLP"):
            code += [0x08]  # PHP first: pulls stay above the stack's start
        code += instruction(int(opcode), random)
        if named(int(opcode))[0] in ("PHA", "PHP"):
            code += [0x68]
        code += [0x85, 0x80 + int(random.integers(0x60))]  # STA: what came of it shows in RAM
        code += [0x08, 0x68, 0x85, 0x80 + int(random.integers(0x60))]  # the flags as well
    return rom_of([*code, *jump(start)])


# To translate a program takes seconds
@pytest.mark.parametrize(
    ("translated", "seed"), [*[(False, seed) for seed in range(6)], (True, 0), (True, 1)]
)
def test_random_programs(
    translated: bool, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, code_of = list[translate.HotCode](), translate.code_of

    def noted(*words: Any) -> translate.HotCode:
        made.append(code_of(*words))
        return made[-1]

    monkeypatch.setattr(translate, "code_of", noted if translated else interpreted)
    rom = program(np.random.default_rng(seed))
    lockstep = inserted(rom, GAME, tmp_path, monkeypatch)
    assert len(made) == translated
    assert all(code.address and code.starts.any() for code in made)
    for frame in range(40):
        assert lockstep.difference() is None, frame
        lockstep.step(0)


def test_nearly_all_opcodes_are_used() -> None:
    assert len(USED) == 256 - 12 - 9  # KIL has twelve opcodes, JMP two
