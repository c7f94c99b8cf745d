"""The 6507's instructions as one table: what each opcode does, where its operand is, its cycles.

Source: the NMOS 6502 data sheet for the documented ones; for the others, how the oracle executes
them (its $A7 takes 4 cycles and its $93 takes 6, unlike the chip).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Addressing modes, with the length of the instruction
LENGTHS = {
    "implied": 1,
    "immediate": 2,
    "zero": 2,
    "zero,x": 2,
    "zero,y": 2,
    "absolute": 3,
    "absolute,x": 3,
    "absolute,y": 3,
    "(zero,x)": 2,
    "(zero),y": 2,
    "relative": 2,
    "(absolute)": 3,
}
MODES = list(LENGTHS)
IMPLIED, IMMEDIATE, ZERO, ZERO_X, ZERO_Y, ABSOLUTE, ABSOLUTE_X, ABSOLUTE_Y = range(8)
INDIRECT_X, INDIRECT_Y, RELATIVE, INDIRECT = range(8, 12)

# mode -> (opcode, cycles) per operation; columns as in the data sheet's tables
COLUMNS = ["immediate", "zero", "zero,x", "absolute", "absolute,x", "absolute,y", "(zero,x)",
           "(zero),y", "zero,y"]  # fmt: skip
READ_CYCLES = {"immediate": 2, "zero": 3, "zero,x": 4, "zero,y": 4, "absolute": 4, "absolute,x": 4,
               "absolute,y": 4, "(zero,x)": 6, "(zero),y": 5}  # fmt: skip
STORE_CYCLES = READ_CYCLES | {"absolute,x": 5, "absolute,y": 5, "(zero),y": 6}
MODIFY_CYCLES = {"zero": 5, "zero,x": 6, "absolute": 6, "absolute,x": 7, "absolute,y": 7,
                 "(zero,x)": 8, "(zero),y": 8}  # fmt: skip
NONE = None

# operation: opcodes by COLUMNS
READS = {
    "LDA": [0xA9, 0xA5, 0xB5, 0xAD, 0xBD, 0xB9, 0xA1, 0xB1, NONE],
    "LDX": [0xA2, 0xA6, NONE, 0xAE, NONE, 0xBE, NONE, NONE, 0xB6],
    "LDY": [0xA0, 0xA4, 0xB4, 0xAC, 0xBC, NONE, NONE, NONE, NONE],
    "ADC": [0x69, 0x65, 0x75, 0x6D, 0x7D, 0x79, 0x61, 0x71, NONE],
    "SBC": [0xE9, 0xE5, 0xF5, 0xED, 0xFD, 0xF9, 0xE1, 0xF1, NONE],
    "AND": [0x29, 0x25, 0x35, 0x2D, 0x3D, 0x39, 0x21, 0x31, NONE],
    "ORA": [0x09, 0x05, 0x15, 0x0D, 0x1D, 0x19, 0x01, 0x11, NONE],
    "EOR": [0x49, 0x45, 0x55, 0x4D, 0x5D, 0x59, 0x41, 0x51, NONE],
    "CMP": [0xC9, 0xC5, 0xD5, 0xCD, 0xDD, 0xD9, 0xC1, 0xD1, NONE],
    "CPX": [0xE0, 0xE4, NONE, 0xEC, NONE, NONE, NONE, NONE, NONE],
    "CPY": [0xC0, 0xC4, NONE, 0xCC, NONE, NONE, NONE, NONE, NONE],
    "BIT": [NONE, 0x24, NONE, 0x2C, NONE, NONE, NONE, NONE, NONE],
    # undocumented
    "LAX": [NONE, 0xA7, NONE, 0xAF, NONE, 0xBF, 0xA3, 0xB3, 0xB7],
    "ANC": [0x0B, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE],
    "ASR": [0x4B, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE],
    "ARR": [0x6B, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE],
    "SBX": [0xCB, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE],
    "LAS": [NONE, NONE, NONE, NONE, NONE, 0xBB, NONE, NONE, NONE],
    "ANE": [0x8B, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE],
    "LXA": [0xAB, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE],
    "NOP": [0x80, 0x04, 0x14, 0x0C, 0x1C, NONE, NONE, NONE, NONE],
}
STORES = {
    "STA": [NONE, 0x85, 0x95, 0x8D, 0x9D, 0x99, 0x81, 0x91, NONE],
    "STX": [NONE, 0x86, NONE, 0x8E, NONE, NONE, NONE, NONE, 0x96],
    "STY": [NONE, 0x84, 0x94, 0x8C, NONE, NONE, NONE, NONE, NONE],
    "SAX": [NONE, 0x87, NONE, 0x8F, NONE, NONE, 0x83, NONE, 0x97],
    "SHA": [NONE, NONE, NONE, NONE, NONE, 0x9F, NONE, 0x93, NONE],
    "SHX": [NONE, NONE, NONE, NONE, NONE, 0x9E, NONE, NONE, NONE],
    "SHY": [NONE, NONE, NONE, NONE, 0x9C, NONE, NONE, NONE, NONE],
    "SHS": [NONE, NONE, NONE, NONE, NONE, 0x9B, NONE, NONE, NONE],
}
MODIFIES = {
    "INC": [NONE, 0xE6, 0xF6, 0xEE, 0xFE, NONE, NONE, NONE, NONE],
    "DEC": [NONE, 0xC6, 0xD6, 0xCE, 0xDE, NONE, NONE, NONE, NONE],
    "ASL": [NONE, 0x06, 0x16, 0x0E, 0x1E, NONE, NONE, NONE, NONE],
    "LSR": [NONE, 0x46, 0x56, 0x4E, 0x5E, NONE, NONE, NONE, NONE],
    "ROL": [NONE, 0x26, 0x36, 0x2E, 0x3E, NONE, NONE, NONE, NONE],
    "ROR": [NONE, 0x66, 0x76, 0x6E, 0x7E, NONE, NONE, NONE, NONE],
    "SLO": [NONE, 0x07, 0x17, 0x0F, 0x1F, 0x1B, 0x03, 0x13, NONE],
    "RLA": [NONE, 0x27, 0x37, 0x2F, 0x3F, 0x3B, 0x23, 0x33, NONE],
    "SRE": [NONE, 0x47, 0x57, 0x4F, 0x5F, 0x5B, 0x43, 0x53, NONE],
    "RRA": [NONE, 0x67, 0x77, 0x6F, 0x7F, 0x7B, 0x63, 0x73, NONE],
    "DCP": [NONE, 0xC7, 0xD7, 0xCF, 0xDF, 0xDB, 0xC3, 0xD3, NONE],
    "ISB": [NONE, 0xE7, 0xF7, 0xEF, 0xFF, 0xFB, 0xE3, 0xF3, NONE],
}
BRANCHES = {"BPL": 0x10, "BMI": 0x30, "BVC": 0x50, "BVS": 0x70, "BCC": 0x90, "BCS": 0xB0,
            "BNE": 0xD0, "BEQ": 0xF0}  # fmt: skip
# operation: (opcode, cycles)
REGISTER = {
    "TAX": (0xAA, 2), "TAY": (0xA8, 2), "TXA": (0x8A, 2), "TYA": (0x98, 2), "TSX": (0xBA, 2),
    "TXS": (0x9A, 2), "INX": (0xE8, 2), "INY": (0xC8, 2), "DEX": (0xCA, 2), "DEY": (0x88, 2),
    "ASL_A": (0x0A, 2), "LSR_A": (0x4A, 2), "ROL_A": (0x2A, 2), "ROR_A": (0x6A, 2),
    "CLC": (0x18, 2), "SEC": (0x38, 2), "CLI": (0x58, 2), "SEI": (0x78, 2), "CLV": (0xB8, 2),
    "CLD": (0xD8, 2), "SED": (0xF8, 2), "PHA": (0x48, 3), "PHP": (0x08, 3), "PLA": (0x68, 4),
    "PLP": (0x28, 4), "RTS": (0x60, 6), "RTI": (0x40, 6), "BRK": (0x00, 7),
}  # fmt: skip
ONE_BYTE_NOPS = [0xEA, 0x1A, 0x3A, 0x5A, 0x7A, 0xDA, 0xFA]
OTHER_NOPS = {"immediate": [0x82, 0x89, 0xC2, 0xE2], "zero": [0x44, 0x64],
              "zero,x": [0x34, 0x54, 0x74, 0xD4, 0xF4],
              "absolute,x": [0x3C, 0x5C, 0x7C, 0xDC, 0xFC]}  # fmt: skip
STOPS = [0x02, 0x12, 0x22, 0x32, 0x42, 0x52, 0x62, 0x72, 0x92, 0xB2, 0xD2, 0xF2]
ODD_CYCLES = {0xA7: 4, 0x93: 6, 0x9B: 5, 0x9C: 5, 0x9E: 5, 0x9F: 5}

OPERATIONS = [
    *READS, *STORES, *MODIFIES, *BRANCHES, *REGISTER, "JMP", "JSR", "KIL",
]  # fmt: skip

# A decoded opcode: fields of one int64
MODE_BITS, OPERATION_SHIFT, LENGTH_SHIFT, CYCLES_SHIFT = 15, 4, 12, 16
READS_MEMORY, WRITES_MEMORY, PENALTY = 1 << 20, 1 << 21, 1 << 22


def _decoded(operation: str, mode: str, cycles: int, flags: int = 0) -> int:
    return (
        MODES.index(mode)
        | OPERATIONS.index(operation) << OPERATION_SHIFT
        | LENGTHS[mode] << LENGTH_SHIFT
        | cycles << CYCLES_SHIFT
        | flags
    )


def _decode_table() -> NDArray[Any]:
    """[256] every opcode, decoded."""
    table: dict[int, int] = {}

    def add(opcode: int, operation: str, mode: str, cycles: int, flags: int = 0) -> None:
        assert opcode not in table, f"${opcode:02X} twice"
        table[opcode] = _decoded(operation, mode, ODD_CYCLES.get(opcode, cycles), flags)

    crossing = ("absolute,x", "absolute,y", "(zero),y")
    for group, cycles, flags in (
        (READS, READ_CYCLES, READS_MEMORY),
        (STORES, STORE_CYCLES, WRITES_MEMORY),
        (MODIFIES, MODIFY_CYCLES, READS_MEMORY | WRITES_MEMORY),
    ):
        for operation, opcodes in group.items():
            for mode, opcode in zip(COLUMNS, opcodes, strict=True):
                if opcode is not None:
                    penalty = PENALTY if group is READS and mode in crossing else 0
                    reads = 0 if mode == "immediate" else flags
                    add(opcode, operation, mode, cycles[mode], reads | penalty)
    for mode, nops in OTHER_NOPS.items():
        for opcode in nops:
            flags = 0 if mode == "immediate" else READS_MEMORY
            add(opcode, "NOP", mode, READ_CYCLES[mode], flags | PENALTY * (mode == "absolute,x"))
    add(0xEB, "SBC", "immediate", 2)
    add(0x2B, "ANC", "immediate", 2)
    for operation, opcode in BRANCHES.items():
        add(opcode, operation, "relative", 2)
    for operation, (opcode, cycles_) in REGISTER.items():
        writes = WRITES_MEMORY if operation in ("PHA", "PHP") else 0
        add(opcode, operation, "implied", cycles_, writes)
    for opcode in ONE_BYTE_NOPS:
        add(opcode, "NOP", "implied", 2)
    for opcode in STOPS:
        add(opcode, "KIL", "implied", 0)
    add(0x4C, "JMP", "absolute", 3)
    add(0x6C, "JMP", "(absolute)", 5)
    add(0x20, "JSR", "absolute", 6)
    return np.array([table[opcode] for opcode in range(256)], np.int64)


DECODE = _decode_table()

# Numbers of the operations, as the interpreter's constants
(
    LDA, LDX, LDY, ADC, SBC, AND, ORA, EOR, CMP, CPX, CPY, BIT,
    LAX, ANC, ASR, ARR, SBX, LAS, ANE, LXA, NOP,
    STA, STX, STY, SAX, SHA, SHX, SHY, SHS,
    INC, DEC, ASL, LSR, ROL, ROR, SLO, RLA, SRE, RRA, DCP, ISB,
    BPL, BMI, BVC, BVS, BCC, BCS, BNE, BEQ,
    TAX, TAY, TXA, TYA, TSX, TXS, INX, INY, DEX, DEY,
    ASL_A, LSR_A, ROL_A, ROR_A, CLC, SEC, CLI, SEI, CLV, CLD, SED,
    PHA, PHP, PLA, PLP, RTS, RTI, BRK, JMP, JSR, KIL,
) = range(len(OPERATIONS))  # fmt: skip
