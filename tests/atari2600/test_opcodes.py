"""Every opcode against ale-py: random programs in cartridges of our own.

Each program sets up RAM, then repeats for ever: a frame's VSYNC, and 250 random instructions on
RAM, the stack and constants, among them every opcode of USED. Then those that are LEFT_OUT.
"""

from collections.abc import Iterable
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
    GAME,
    ORIGIN,
    START,
    VSYNC,
    inserted,
    jump,
    rom_of,
    set_ram,
)

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
    translated: bool,
    seed: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    made, code_of = list[translate.HotCode](), translate.code_of

    def noted(*words: Any) -> translate.HotCode:
        made.append(code_of(*words))
        return made[-1]

    if translated:
        monkeypatch.setattr(translate, "code_of", noted)
    else:
        request.getfixturevalue("interpreted")
    rom = program(np.random.default_rng(seed))
    lockstep = inserted(rom, GAME, tmp_path, monkeypatch)
    assert len(made) == translated
    assert all(code.address and code.starts.any() for code in made)
    for frame in range(40):
        assert lockstep.difference() is None, frame
        lockstep.step(0)


def test_nearly_all_opcodes_are_used() -> None:
    assert len(USED) == 256 - 12 - 9  # KIL has twelve opcodes, JMP two


READS = ["LDA", "LDX", "LDY", "ADC", "SBC", "CMP", "AND", "ORA", "EOR", "LAX", "NOP"]
INDEXED = ["absolute,x", "absolute,y", "(zero),y"]  # a cycle more where they cross a page


def timed(code: list[int], into: int) -> list[int]:
    """`code`, and how many cycles it took."""
    return [0xA9, 0xFF, 0x8D, 0x94, 0x02, *code, 0xAD, 0x84, 0x02, 0x85, into]  # TIM1T, INTIM


def reads_across_pages() -> list[int]:
    """Each indexed read: of a byte in the same page, and of one in the next."""
    code, into = [0xA9, 0xF0, 0x85, POINTERS, 0xA9, 0xF3, 0x85, POINTERS + 1], 0x80
    for opcode in range(256):
        operation, mode = named(opcode)
        if operation in READS and mode in INDEXED:
            operand = [POINTERS] if mode == "(zero),y" else [0xF0, 0xF3]
            for index in (0x02, 0x20):
                code += [0xA2, index, 0xA0, index]  # LDX #, LDY #
                code += timed([opcode, *operand], into)
                into += 1
    assert into - 0x80 == 2 * 31
    return code


def reads_of_inputs() -> list[int]:
    """Paddles, buttons and registers that are none, each at addresses that are not known before;
    and a pointer at X into the ROM. What was read, and how long it took."""
    code, into = [0xA9, 0xF0, 0x85, POINTERS, 0xA9, 0xF3, 0x85, POINTERS + 1], 0x80
    for register in range(8, 16):
        reads = [
            [0xA2, 3, 0xB5, register - 3],  # LDX #; LDA zero,X
            [0xA2, register - 5, 0xBD, 5, 0],  # LDA absolute,X
            [0xA2, 8 + register, 0xBD, 0xF8, 1],  # likewise, in the next page
            [0xA2, register - 1, 0x9A, 0x68],  # TXS, PLA
        ]
        for read in reads:
            code += timed([*read, 0x09, 1, 0x85, into], into + 1)  # ORA #1, STA
            into += 2
    code += [0xA2, 0xEF, 0x9A]  # LDX #, TXS
    return [*code, *timed([0xA2, 2, 0xA1, POINTERS - 2, 0x09, 1, 0x85, into], into + 1)]


# What the random programs leave out: code at addresses where it matters, and where it shows in RAM
SINGLE: dict[str, tuple[dict[int, list[int]], Iterable[int]]] = {
    # LDA, LDX, LDY; SHS $00D3,Y; TSX, STX: what is stored, and where the stack is
    "SHS": (
        {0xF100: [0xA9, 0x7B, 0xA2, 0xEB, 0xA0, 1, 0x9B, 0xD3, 0, 0xBA, 0x86, 0xD5]}, (0xD4, 0xD5)
    ),
    # LDA, STA, LDY; LAS $00D0,Y; STA, STX, TSX, STX: what is in A, X and the stack's pointer
    "LAS": (
        {0xF100: [0xA9, 0x7D, 0x85, 0xD1, 0xA0, 1, 0xBB, 0xD0, 0, 0x85, 0xD6, 0x86, 0xD7, 0xBA,
                  0x86, 0xD8]},
        (0xD6, 0xD7, 0xD8),
    ),
    # INC, RTI; and a jump over them
    "BRK and RTI": (
        {0xF100: timed([0x00, 0xEA], 0xD2), 0xF7FD: [*jump(0xF803), 0xE6, 0xD1, 0x40]},
        (0xD1, 0xD2),
    ),
    # BEQ into the next page; BNE, which is not taken there
    "branches": (
        {0xF1F5: timed([0xA9, 0, 0xF0, 4, *[0xEA] * 4], 0xD1),
         0xF2F5: timed([0xA9, 0, 0xD0, 4, *[0xEA] * 4], 0xD2)},
        (0xD1, 0xD2),
    ),
    # JMP ($F2FF): the high byte is that of $F200; so it goes to the first INC, not the second
    "JMP": (
        {0xF1F0: [0x6C, 0xFF, 0xF2], 0xF200: [0xF6], 0xF2FF: [0x00, 0xF7], 0xF600: [0xE6, 0xD1],
         0xF700: [0xE6, 0xD2]},
        (0xD1, 0xD2),
    ),
    "reads across pages": ({0xF400: reads_across_pages()}, range(0x80, 0x80 + 62)),
    "reads of inputs": ({0xF400: reads_of_inputs()}, range(0x80, 0x80 + 66)),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "translated"), [*[(name, False) for name in SINGLE], ("reads of inputs", True)]
)
def test_single_instructions(
    name: str,
    translated: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    """One after the other, with NOPs between; then the next frame."""
    if not translated:
        request.getfixturevalue("interpreted")
    clear = [0xA2, 0, 0x8A, 0x95, 0, 0xE8, 0xD0, 0xFB]  # LDX #, TXA; STA 0,X; INX; BNE
    start = ORIGIN + len(START) + len(clear)
    code = [*START, *clear, *VSYNC, 0xA2, 0xEF, 0x9A]  # LDX #$EF, TXS
    code += [0xEA] * (0xF00 - len(code))
    parts, shown = SINGLE[name]
    for address, part in parts.items():
        code[address - ORIGIN : address - ORIGIN + len(part)] = part
    rom = rom_of([*code, *jump(start)], brk=0xF800)
    lockstep = inserted(rom, GAME, tmp_path, monkeypatch)
    for frame in range(10):
        assert lockstep.difference() is None, frame
        lockstep.step(0)
    ram = lockstep.ale.getRAM()
    assert all(ram[address - 0x80] for address in shown)  # it was executed
