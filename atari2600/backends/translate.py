"""A game's hot code, translated once to straight-line machine code.

Cartridges are read-only, so a program's instructions and operands are known when it is loaded. In a
warm-up the interpreter counts how often it executes each of them (`heat`); `translate` turns those
that matter into one LLVM function with a block for each stretch without jumps: operands are
constants, cycles are added once per block, flags that nobody reads vanish. Loops that wait for the
timer are skipped in one go as far as it shows the same value.

The function leaves to the interpreter whatever is rare or complicated (collision registers, VSYNC,
bank switches, decimal sums, undocumented opcodes, code in RAM, the end of the budget): it stops
*before* such an instruction, with the machine's state exact, and the interpreter comes back to it
at the next address where a block starts; behind an instruction before which it often stops there is
one. Nothing may depend on what is translated: tests run both ways.
The interpreter knows this file only as what hot.py's functions do with a `HotCode`.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import tempfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import llvmlite
import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, overload
from numpy.typing import NDArray

from atari2600 import hot, riot, tia
from atari2600.backends import kept
from atari2600.opcodes import (
    ABSOLUTE,
    ABSOLUTE_X,
    ABSOLUTE_Y,
    BRANCHES,
    CYCLES_SHIFT,
    DECODE,
    IMMEDIATE,
    IMPLIED,
    INDIRECT,
    INDIRECT_X,
    INDIRECT_Y,
    LENGTH_SHIFT,
    MODE_BITS,
    MODIFIES,
    OPERATION_SHIFT,
    OPERATIONS,
    READS,
    RELATIVE,
    STORES,
    ZERO,
    ZERO_X,
    ZERO_Y,
)
from atari2600.state import (
    ADDRESS_MASK,
    BANK,
    CYCLES,
    DELAY0,
    DUMP_AT,
    DUMPED,
    FIRE0,
    FLAG_C,
    FLAG_D,
    FLAG_I,
    FLAG_N,
    FLAG_V,
    FLAG_Z,
    FRAME_START,
    LOGGED,
    NEVER_CHARGED,
    PC,
    PLAIN_FROM,
    PLAIN_SIZE,
    SP,
    SWCHA,
    SWCHB,
    TIMER,
    TIMER_EXPIRED,
    TIMER_SET,
    TIMER_SHIFT,
    TOUCHED,
    A,
    X,
    Y,
)

Array = NDArray[Any]
MIRROR_BITS = 15  # of heat: the top 4 bits of the program counter; the count is above them
MAX_TRANSLATED = 2_000  # instructions; LLVM takes about a second for a thousand
COLD = 1 / 20_000  # of all executed: not worth translating
OFTEN = 1 / 1_000  # of all executed: code that stops there so often begins again behind it
# What decides about the code, as it is imported: a file may change before the first game is made
SOURCES = [
    (Path(tia.__file__).parent / name).read_text(encoding="utf-8")
    for name in ("backends/translate.py", "opcodes.py", "riot.py", "state.py", "tia.py")
]
PLA_OPCODE = 0x68  # what is left on the bus when a program pulls from the video chip

# The processor's registers as the function keeps them
LOCALS = ["a", "x", "y", "sp", "n", "z", "carry", "overflow", "decimal", "interrupt"]
COUNTERS = ["cycles", "logged", "touched", "budget", "pc"]
FIELD_OF = {
    "a": A, "x": X, "y": Y, "sp": SP, "carry": FLAG_C, "overflow": FLAG_V, "decimal": FLAG_D,
    "interrupt": FLAG_I, "cycles": CYCLES, "logged": LOGGED, "touched": TOUCHED, "pc": PC,
}  # of the machine; n and z stand there otherwise, and the budget is an argument  # fmt: skip
STATUS_BIT = {"overflow": 6, "decimal": 3, "interrupt": 2, "carry": 0}  # in the status byte
ARGUMENTS = ["registers", "ram", "image", "log", "last_cycle", "budget"]  # the first four: pointers


class HotCode(NamedTuple):
    """A game's translated code as compiled functions take it. Nothing of it belongs to a machine.

    It is shared by all threads and not written, but for `heat` in a warm-up.
    """

    address: int  # of the function; 0: there is none
    starts: Array  # bool, like `image`: whether the function has a block that starts there
    heat: Array  # int32, like `image`, in a warm-up: how often each was interpreted; else empty


def nothing(image: Array) -> HotCode:
    """All is interpreted."""
    return HotCode(0, np.zeros(len(image), np.bool_), np.zeros(0, np.int32))


def counting(image: Array) -> HotCode:
    """All is interpreted, and counted."""
    return nothing(image)._replace(heat=np.zeros(len(image), np.int32))


class Translated(NamedTuple):
    """A translation, and where it begins and ends."""

    assembly: str  # LLVM's
    starts: Array  # offsets in the image at which its blocks start
    leaves: Array  # those of the instructions before which it may stop


def translate(constants: Array, image: Array, heat: Array, left: Array) -> Translated:
    """The hot code. `left`, like `heat`: how often an earlier translation stopped before each."""
    translation = _Translation(constants, image, heat, left)
    starts, leaves = (np.array(sorted(at)) for at in (translation.blocks, translation.leaves))
    return Translated(str(translation.module), starts, leaves)


class _Instruction:
    """One decoded instruction at an offset of the image."""

    def __init__(self, image: Array, at: int, pc: int):
        self.at, self.pc = at, pc
        opcode, self.low, self.high = (int(byte) for byte in image[at : at + 3])
        decoded = int(DECODE[opcode])
        self.mode = decoded & MODE_BITS
        self.operation = OPERATIONS[(decoded >> OPERATION_SHIFT) & 0xFF]
        self.length = (decoded >> LENGTH_SHIFT) & 3
        self.cycles = (decoded >> CYCLES_SHIFT) & 15
        self.next_pc = (pc + self.length) & 0xFFFF
        self.absolute = self.low | self.high << 8
        offset = self.low - 256 if self.low & 0x80 else self.low
        self.branch_target = (self.next_pc + offset) & 0xFFFF

    @property
    def ends_block(self) -> bool:
        return self.operation in BRANCHES or self.operation in ("JMP", "JSR", "RTS", "RTI", "BRK")


class _Translation:
    """The LLVM function while it is written."""

    def __init__(self, constants: Array, image: Array, heat: Array, left: Array):
        self.mask = int(constants[ADDRESS_MASK])
        self.plain_from, self.plain_size = int(constants[PLAIN_FROM]), int(constants[PLAIN_SIZE])
        self.image = image
        self.left = set(np.flatnonzero(left >> 4 > OFTEN * (heat >> 4).sum()).tolist())
        self.leaves: set[int] = set()
        self.instructions = self._hot(heat)
        self.leaders = self._leaders()
        self.module = ir.Module("game")
        self._function()

    # ---- which instructions ----

    def _hot(self, heat: Array) -> dict[int, _Instruction]:
        counts = heat >> 4
        order = np.argsort(-counts, kind="stable")[:MAX_TRANSLATED]
        hot = [int(at) for at in order if counts[at] > max(COLD * counts.sum(), 1)]
        found = {}
        for at in hot:
            pc = (int(heat[at]) & MIRROR_BITS) << 12 | at & 0xFFF
            instruction = _Instruction(self.image, at, pc)
            if self._is_plain(pc) and self._is_plain((pc + instruction.length) & 0xFFFF):
                found[at] = instruction
        return found

    def _is_plain(self, address: int) -> bool:
        in_range = 0 <= (address & 0xFFF) - self.plain_from < self.plain_size
        return bool(address & 0x1000) and in_range

    def _at(self, instruction: _Instruction, pc: int) -> int | None:
        """Offset of the instruction at `pc` in the same bank, if it is hot and in that mirror."""
        bank = instruction.at - (instruction.pc & self.mask)
        at = bank + (pc & self.mask)
        other = self.instructions.get(at)
        return at if other is not None and other.pc == pc else None

    def _leaders(self) -> set[int]:
        leaders: set[int | None] = set()
        followed = set()
        for instruction in self.instructions.values():
            after = self._at(instruction, instruction.next_pc)
            followed.add(after)
            if instruction.operation in BRANCHES:
                leaders |= {self._at(instruction, instruction.branch_target), after}
            elif instruction.operation in ("JMP", "JSR") and instruction.mode == ABSOLUTE:
                leaders |= {self._at(instruction, instruction.absolute), after}
            elif instruction.ends_block or self._stops_at(instruction):
                leaders.add(after)  # else the interpreter would execute the block's rest
        leaders |= set(self.instructions) - followed
        leaders.discard(None)
        return {at for at in leaders if at is not None}

    def _stops_at(self, instruction: _Instruction) -> bool:
        """Whether the interpreter executes it always, or often."""
        return instruction.at in self.left or self._always_leaves(instruction)

    def _always_leaves(self, instruction: _Instruction) -> bool:
        """Whether the interpreter executes it in any case."""
        name, mode = instruction.operation, instruction.mode
        if name in ("RTI", "BRK", "KIL", "LAX", "ANC", "ASR", "ARR", "SBX", "LAS", "ANE", "LXA"):
            return True
        if name in ("SAX", "SHA", "SHX", "SHY", "SHS", "SLO", "RLA", "SRE", "RRA", "DCP", "ISB"):
            return True
        if name == "NOP":
            return mode not in (IMPLIED, IMMEDIATE)
        if name == "JMP":
            return mode == INDIRECT and not 0x80 <= instruction.absolute < 0xFF
        if mode == INDIRECT_X:
            return name not in READS
        if mode not in (ZERO, ABSOLUTE) or name == "JSR":
            return mode not in (
                IMPLIED, IMMEDIATE, ZERO_X, ZERO_Y, ABSOLUTE, ABSOLUTE_X, ABSOLUTE_Y, INDIRECT_Y,
                RELATIVE,
            ) or (mode == INDIRECT_Y and not 0x80 <= instruction.low < 0xFF)  # fmt: skip
        address = instruction.low if mode == ZERO else instruction.absolute
        return self._leaves_at(name, address)

    def _leaves_at(self, name: str, address: int) -> bool:
        ram = address & 0x1280 == 0x80
        if ram:
            return False
        if name in MODIFIES:
            return True
        if address & 0x1000:
            return not self._is_plain(address)
        if address & 0x80 == 0:
            register = address & 0x3F
            return register in (0, 1, 3) if name in STORES else address & 15 < 8
        if name in STORES:
            return address & 0x14 != 0x14
        return address & 5 == 5

    # ---- the function ----

    def _function(self) -> None:
        i32, i64, pointer = ir.IntType(32), ir.IntType(64), ir.IntType(8).as_pointer()
        self.i8, self.i32, self.i64 = ir.IntType(8), i32, i64
        kind = ir.FunctionType(i64, [i64] * len(ARGUMENTS))
        function = ir.Function(self.module, kind, "run")
        self.function = function
        registers, ram, image, log, last_cycle, budget = function.args
        entry = function.append_basic_block("entry")
        self.b = b = ir.IRBuilder(entry)
        self.registers = b.inttoptr(registers, i32.as_pointer())
        self.ram = b.inttoptr(ram, pointer)
        self.rom = b.inttoptr(image, pointer)
        self.log = b.inttoptr(log, i64.as_pointer())
        self.local = {name: b.alloca(i32, name=name) for name in LOCALS + COUNTERS}
        self.bank = b.zext(self._field(BANK), i64)
        start = self._field(FRAME_START)
        self.last_cycle = b.trunc(last_cycle, i32)
        self.line_offset = b.sdiv(b.neg(start), self._c(3))
        self._load_locals(b.trunc(budget, i32))
        self.dispatch = function.append_basic_block("dispatch")
        self.leave = function.append_basic_block("leave")
        b.branch(self.dispatch)
        self.blocks = {at: function.append_basic_block(f"at{at}") for at in sorted(self.leaders)}
        for at in self.blocks:
            self._block(at)
        self._write_dispatch()
        self._write_leave()

    def _load_locals(self, budget: ir.Value) -> None:
        b = self.b
        for name, field in FIELD_OF.items():
            self._put(name, self._field(field))
        self._put("n", b.shl(self._field(FLAG_N), self._c(7)))
        self._put("z", b.sub(self._c(1), self._field(FLAG_Z)))
        self._put("budget", budget)

    def _write_dispatch(self) -> None:
        b = self.b
        b.position_at_end(self.dispatch)
        # the bank and the program counter as one key
        key = b.or_(b.shl(self.bank, self._c64(16)), b.zext(self._get("pc"), self.i64))
        switch = b.switch(key, self.leave)
        for at, block in self.blocks.items():
            pc = self.instructions[at].pc
            switch.add_case(self._c64((at - (pc & self.mask)) << 16 | pc), block)

    def _write_leave(self) -> None:
        b = self.b
        b.position_at_end(self.leave)
        for name, field in FIELD_OF.items():
            self._set_field(field, self._get(name))
        negative = b.and_(b.lshr(self._get("n"), self._c(7)), self._c(1))
        self._set_field(FLAG_N, negative)
        zero = b.icmp_unsigned("==", self._get("z"), self._c(0))
        self._set_field(FLAG_Z, b.zext(zero, self.i32))
        b.ret(b.sext(self._get("budget"), self.i64))

    # ---- small helpers ----

    def _c(self, value: int) -> ir.Constant:
        return ir.Constant(self.i32, value)

    def _c64(self, value: int) -> ir.Constant:
        return ir.Constant(self.i64, value)

    def _get(self, name: str) -> ir.Value:
        return self.b.load(self.local[name])

    def _put(self, name: str, value: ir.Value) -> None:
        self.b.store(value, self.local[name])

    def _field(self, field: int) -> ir.Value:
        return self.b.load(self.b.gep(self.registers, [self._c(field)]))

    def _set_field(self, field: int, value: ir.Value) -> None:
        self.b.store(value, self.b.gep(self.registers, [self._c(field)]))

    def _byte(self, value: ir.Value) -> ir.Value:
        return self.b.and_(value, self._c(0xFF))

    def _ram_byte(self, index: ir.Value) -> ir.Value:
        return self.b.zext(self.b.load(self.b.gep(self.ram, [index])), self.i32)

    def _set_ram(self, index: ir.Value, value: ir.Value) -> None:
        self.b.store(self.b.trunc(value, self.i8), self.b.gep(self.ram, [index]))

    def _flags(self, value: ir.Value) -> None:
        self._put("n", value)
        self._put("z", value)

    def _now(self) -> ir.Value:
        """The cycle at which the instruction's accesses happen."""
        return self.b.add(self._get("cycles"), self._c(self.pending + self.now.cycles))

    def _new_block(self, name: str) -> ir.Block:
        return self.function.append_basic_block(name)

    def _leave_if(self, condition: ir.Value) -> None:
        """Stop before the present instruction where `condition` holds."""
        away, go_on = self._new_block("away"), self._new_block("on")
        self.b.cbranch(condition, away, go_on)
        self.b.position_at_end(away)
        self._leave_before()
        self.b.position_at_end(go_on)

    def _leave_before(self) -> None:
        self.leaves.add(self.now.at)
        self._give_back(self.count - self.index)
        self._jump_out(self.now.pc)

    def _give_back(self, instructions: int) -> None:
        """Take back from the budget what the block will not execute."""
        self._put("budget", self.b.add(self._get("budget"), self._c(instructions)))

    def _jump_out(self, pc: int) -> None:
        self._flush_cycles()
        self._put("pc", self._c(pc))
        self.b.branch(self.leave)

    def _flush_cycles(self, extra: int = 0) -> None:
        if self.pending + extra:
            self._put("cycles", self.b.add(self._get("cycles"), self._c(self.pending + extra)))

    def _go(self, pc: int, extra: int = 0) -> None:
        """On to the block at `pc`, or out if there is none."""
        self._flush_cycles(extra)
        at = self._at(self.now, pc)
        if at in self.blocks:
            self.b.branch(self.blocks[at])
        else:
            self._put("pc", self._c(pc))
            self.b.branch(self.leave)

    # ---- a block ----

    def _stretch(self, at: int) -> list[_Instruction]:
        found = [self.instructions[at]]
        while not found[-1].ends_block:
            after = self._at(found[-1], found[-1].next_pc)
            if after is None or after in self.blocks:
                break
            found.append(self.instructions[after])
        return found

    def _block(self, at: int) -> None:
        stretch = self._stretch(at)
        self.count, self.pending, self.index, self.now = len(stretch), 0, 0, stretch[0]
        self.stretch = stretch
        b = self.b
        b.position_at_end(self.blocks[at])
        budget = self._get("budget")
        short, enough = self._new_block("short"), self._new_block("enough")
        b.cbranch(b.icmp_signed("<", budget, self._c(self.count)), short, enough)
        b.position_at_end(short)
        self._jump_out(self.now.pc)
        b.position_at_end(enough)
        self._put("budget", b.sub(budget, self._c(self.count)))
        for self.index, self.now in enumerate(stretch):
            if self._always_leaves(self.now):
                return self._leave_before()
            getattr(self, f"_{self.now.operation.lower()}", self._by_kind)()
            if b.block.is_terminated:
                return None
            self.pending += self.now.cycles
        self._go(stretch[-1].next_pc)
        return None

    def _by_kind(self) -> None:
        name = self.now.operation
        if name == "NOP":
            return
        if name in BRANCHES:
            self._branch(name)
        elif name in READS:
            self._read_operation(name, self._operand())
        elif name in STORES:
            self._store(self._get(name[-1].lower()))
        elif name in MODIFIES:
            self._modify(name)
        elif name.endswith("_A"):
            self._put("a", self._shifted(name[:3], self._get("a")))
        else:
            self._register_operation(name)

    # ---- operands ----

    def _operand(self) -> ir.Value:
        now = self.now
        if now.mode == IMMEDIATE:
            return self._c(now.low)
        if now.mode == ZERO:
            return self._read_known(now.low, now.low)
        if now.mode == ABSOLUTE:
            return self._read_known(now.absolute, now.high)
        if now.mode in (ZERO_X, ZERO_Y):
            return self._ram_or_input(self._indexed_zero(), now.low)
        if now.mode == INDIRECT_X:
            return self._read_pointed()
        return self._read_indexed()

    def _indexed_zero(self) -> ir.Value:
        index = self._get("x" if self.now.mode == ZERO_X else "y")
        return self._byte(self.b.add(index, self._c(self.now.low)))

    def _read_known(self, address: int, bus: int) -> ir.Value:
        now, b = self.now, self.b
        if address & 0x1280 == 0x80:
            return self._ram_byte(self._c(address & 0x7F))
        if address & 0x1000:
            bank = now.at - (now.pc & self.mask)
            return self._c(int(self.image[bank + (address & self.mask)]))
        if address & 0x80:
            return self._read_riot(address)
        self._put("touched", self._now())
        register = address & 15
        if register >= 14:
            return self._c(bus & 0x3F)
        if register >= 12:
            return b.or_(self._field(FIRE0 + register - 12), self._c(bus & 0x3F))
        delay = self._field(DELAY0 + register - 8)
        return b.or_(self._charged(delay, self._now()), self._c(bus & 0x3F))

    def _read_riot(self, address: int) -> ir.Value:
        if address & 4:
            return self._timer()
        fields = {0: SWCHA, 2: SWCHB}
        if address & 3 in fields:
            return self._field(fields[address & 3])
        self._leave_if(ir.Constant(ir.IntType(1), 1))
        return self._c(0)

    def _timer(self) -> ir.Value:
        """INTIM before it expires; see riot.timer."""
        b = self.b
        elapsed = b.sub(b.sub(self._now(), self._c(1)), self._field(TIMER_SET))
        gone = b.ashr(elapsed, self._field(TIMER_SHIFT))
        slow = b.sub(b.sub(self._field(TIMER), gone), self._c(1))
        self._leave_if(b.icmp_signed("<", slow, self._c(0)))
        return slow

    def _input(self, address: ir.Value, bus: int, late: ir.Value | None = None) -> ir.Value:
        """What the chip has at an address that is not known: paddles, buttons, or nothing; leaves
        for collisions. late: cycles after `_now`."""
        b = self.b
        register = b.and_(address, self._c(15))
        self._leave_if(b.icmp_unsigned("<", register, self._c(8)))
        now = self._now() if late is None else b.add(self._now(), late)
        self._put("touched", now)
        value = self._either(
            b.icmp_unsigned("<", register, self._c(12)),
            lambda: self._charged(self._field_at(register, DELAY0 - 8), now),
            lambda: self._either(
                b.icmp_unsigned("<", register, self._c(14)),
                lambda: self._field_at(register, FIRE0 - 12),
                lambda: self._c(0),
            ),
        )
        return b.or_(value, self._c(bus & 0x3F))

    def _field_at(self, index: ir.Value, first: int) -> ir.Value:
        """Of the machine's registers that with number `first` + index."""
        return self.b.load(self.b.gep(self.registers, [self.b.add(index, self._c(first))]))

    def _ram_or_input(self, address: ir.Value, bus: int) -> ir.Value:
        """What lies at an address of page zero that is not known; leaves for collisions."""
        b = self.b
        return self._either(
            b.icmp_unsigned(">=", address, self._c(0x80)),
            lambda: self._ram_byte(b.and_(address, self._c(0x7F))),
            lambda: self._input(address, bus),
        )

    def _either(
        self,
        condition: ir.Value,
        then: Callable[[], ir.Value],
        otherwise: Callable[[], ir.Value],
    ) -> ir.Value:
        """The value of one of two, of which one alone is computed."""
        b = self.b
        found = []
        with b.if_else(condition) as branches:
            for branch, compute in zip(branches, (then, otherwise), strict=True):
                with branch:
                    found.append((compute(), b.block))  # which may be another by then
        value = b.phi(self.i32)
        for computed, end in found:
            value.add_incoming(computed, end)
        return value

    def _charged(self, delay: ir.Value, now: ir.Value) -> ir.Value:
        """See m6507.charged."""
        b = self.b
        due = b.add(self._field(DUMP_AT), delay)  # 32 bits, unsigned
        c0, c80 = self._c(0), self._c(0x80)
        value = b.select(b.icmp_unsigned(">", now, due), c80, c0)
        value = b.select(b.icmp_signed("==", delay, c0), c80, value)
        value = b.select(b.icmp_signed("!=", self._field(DUMPED), c0), c0, value)
        return b.select(b.icmp_signed("==", delay, self._c(NEVER_CHARGED)), c0, value)

    def _base(self) -> ir.Value:
        """What the index is added to: known, or a pointer in RAM."""
        now, b = self.now, self.b
        if now.mode != INDIRECT_Y:
            return self._c(now.absolute)
        low = self._ram_byte(self._c(now.low & 0x7F))
        high = self._ram_byte(self._c((now.low + 1) & 0x7F))
        return b.or_(low, b.shl(high, self._c(8)))

    def _indexed(self) -> tuple[ir.Value, ir.Value]:
        """(address, 1 if the index crossed a page)."""
        b = self.b
        base = self._base()
        index = self._get("x" if self.now.mode == ABSOLUTE_X else "y")
        crossed = b.icmp_unsigned(">", b.add(self._byte(base), index), self._c(0xFF))
        address = b.and_(b.add(base, index), self._c(0xFFFF))
        return address, b.zext(crossed, self.i32)

    def _rom_byte(self, address: ir.Value) -> ir.Value:
        b = self.b
        offset = b.add(b.zext(b.and_(address, self._c(self.mask)), self.i64), self.bank)
        return b.zext(b.load(b.gep(self.rom, [offset])), self.i32)

    def _plain(self, address: ir.Value) -> ir.Value:
        b = self.b
        distance = b.sub(b.and_(address, self._c(0xFFF)), self._c(self.plain_from))
        inside = b.icmp_unsigned("<", distance, self._c(self.plain_size))
        window = b.icmp_unsigned("!=", b.and_(address, self._c(0x1000)), self._c(0))
        return b.and_(window, inside)

    def _in_ram(self, address: ir.Value) -> ir.Value:
        bits = self.b.and_(address, self._c(0x1280))
        return self.b.icmp_unsigned("==", bits, self._c(0x80))

    def _read_indexed(self) -> ir.Value:
        b, now = self.b, self.now
        address, crossed = self._indexed()
        first, last = now.absolute, now.absolute + 255
        known = now.mode != INDIRECT_Y and first >> 12 == last >> 12
        if known and self._is_plain(first) and self._is_plain(last):
            value = self._rom_byte(address)
        else:
            value = self._read_unknown(address, crossed)
        self._put("cycles", b.add(self._get("cycles"), crossed))
        return value

    def _read_pointed(self) -> ir.Value:
        """By a pointer in RAM at an address that is not known."""
        b = self.b
        at = self._byte(b.add(self._get("x"), self._c(self.now.low)))
        inside = b.icmp_unsigned("<", b.sub(at, self._c(0x80)), self._c(0x7F))
        self._leave_if(b.not_(inside))
        low = self._ram_byte(b.and_(at, self._c(0x7F)))
        high = self._ram_byte(b.and_(b.add(at, self._c(1)), self._c(0x7F)))
        return self._read_unknown(b.or_(low, b.shl(high, self._c(8))), self._c(0))

    def _read_unknown(self, address: ir.Value, crossed: ir.Value) -> ir.Value:
        return self._either(
            self._plain(address),
            lambda: self._rom_byte(address),
            lambda: self._either(
                self._in_ram(address),
                lambda: self._ram_byte(self.b.and_(address, self._c(0x7F))),
                lambda: self._tia_read(address, crossed),
            ),
        )

    def _tia_read(self, address: ir.Value, crossed: ir.Value) -> ir.Value:
        b = self.b
        known_bus = self.now.mode not in (INDIRECT_X, INDIRECT_Y)
        tia_read = b.icmp_unsigned("==", b.and_(address, self._c(0x1080)), self._c(0))
        self._leave_if(b.not_(tia_read) if known_bus else ir.Constant(ir.IntType(1), 1))
        return self._input(address, self.now.high, crossed)

    # ---- stores ----

    def _store(self, value: ir.Value) -> None:
        now, b = self.now, self.b
        if now.mode in (ZERO, ABSOLUTE):
            return self._store_known(now.low if now.mode == ZERO else now.absolute, value)
        if now.mode in (ZERO_X, ZERO_Y):
            address = self._indexed_zero()
        else:
            address = self._indexed()[0]
        with b.if_else(self._in_ram(address)) as (to_ram, elsewhere):
            with to_ram:
                self._set_ram(b.and_(address, self._c(0x7F)), value)
            with elsewhere:
                register = b.and_(address, self._c(0x3F))
                tia_write = b.icmp_unsigned("==", b.and_(address, self._c(0x1080)), self._c(0))
                plain = b.icmp_unsigned(">=", register, self._c(4))
                self._leave_if(b.not_(b.and_(tia_write, plain)))
                self._append(register, value, self._tia_access(), self._is_logged(register))
        return None

    def _is_logged(self, register: ir.Value) -> ir.Value:
        """See m6507.logs."""
        b = self.b
        sound = b.icmp_unsigned("<", b.sub(register, self._c(0x15)), self._c(6))
        return b.and_(b.icmp_unsigned("<=", register, self._c(0x2C)), b.not_(sound))

    def _store_known(self, address: int, value: ir.Value) -> None:
        b = self.b
        if address & 0x1280 == 0x80:
            self._set_ram(self._c(address & 0x7F), value)
        elif address & 0x1080 == 0:
            register = address & 0x3F
            cycles = self._tia_access()
            if register == 2:
                self._wsync(cycles)
            elif register <= 0x2C and not 0x15 <= register <= 0x1A:
                self._append(self._c(register), value, cycles, None)
        elif address & 0x1000 == 0:
            self._set_field(TIMER, value)
            self._set_field(TIMER_SHIFT, self._c(int(riot.SHIFTS[address & 3])))
            self._set_field(TIMER_SET, self._now())
            self._set_field(TIMER_EXPIRED, b.and_(value, self._c(0)))

    def _tia_access(self) -> ir.Value:
        """The time of a write to the video chip; a frame that is too long ends with it."""
        b = self.b
        cycles = self._now()
        self._leave_if(b.icmp_signed(">=", cycles, self.last_cycle))
        full = b.icmp_signed("==", self._get("logged"), self._c(tia.LOG_SIZE))
        self._leave_if(full)
        self._put("touched", cycles)
        return cycles

    def _append(
        self, register: ir.Value, value: ir.Value, cycles: ir.Value, condition: ir.Value | None
    ) -> None:
        """Write the log's next entry; it counts only under `condition`."""
        b = self.b
        logged = self._get("logged")
        low = b.or_(b.shl(register, self._c(8)), value)
        entry = b.or_(b.shl(b.zext(cycles, self.i64), self._c64(16)), b.zext(low, self.i64))
        b.store(entry, b.gep(self.log, [logged]))
        one = self._c(1) if condition is None else b.zext(condition, self.i32)
        self._put("logged", b.add(logged, one))

    def _wsync(self, cycles: ir.Value) -> None:
        b = self.b
        line = self._c(tia.LINE_CYCLES)
        gone = b.urem(b.add(cycles, self.line_offset), line)
        wait = b.select(b.icmp_unsigned("==", gone, self._c(0)), gone, b.sub(line, gone))
        self._put("cycles", b.add(self._get("cycles"), wait))

    def _modify(self, name: str) -> None:
        now, b = self.now, self.b
        if now.mode in (ZERO, ABSOLUTE):
            index: ir.Value = self._c((now.low if now.mode == ZERO else now.absolute) & 0x7F)
        else:
            address = self._indexed_zero() if now.mode == ZERO_X else self._indexed()[0]
            self._leave_if(b.not_(self._in_ram(address)))
            index = b.and_(address, self._c(0x7F))
        value = self._ram_byte(index)
        if name in ("INC", "DEC"):
            value = self._byte(b.add(value, self._c(1 if name == "INC" else -1)))
            self._flags(value)
        else:
            value = self._shifted(name, value)
        self._set_ram(index, value)

    def _shifted(self, name: str, value: ir.Value) -> ir.Value:
        b = self.b
        carry = self._get("carry")
        if name in ("ASL", "ROL"):
            self._put("carry", b.lshr(value, self._c(7)))
            value = self._byte(b.shl(value, self._c(1)))
            value = b.or_(value, carry) if name == "ROL" else value
        else:
            self._put("carry", b.and_(value, self._c(1)))
            value = b.lshr(value, self._c(1))
            value = b.or_(value, b.shl(carry, self._c(7))) if name == "ROR" else value
        self._flags(value)
        return value

    # ---- operations ----

    def _read_operation(self, name: str, value: ir.Value) -> None:
        b = self.b
        if name in ("LDA", "LDX", "LDY"):
            self._put(name[-1].lower(), value)
            self._flags(value)
        elif name in ("AND", "ORA", "EOR"):
            combine = {"AND": b.and_, "ORA": b.or_, "EOR": b.xor}[name]
            result = combine(self._get("a"), value)
            self._put("a", result)
            self._flags(result)
        elif name in ("CMP", "CPX", "CPY"):
            register = self._get({"CMP": "a", "CPX": "x", "CPY": "y"}[name])
            enough = b.icmp_unsigned(">=", register, value)
            self._put("carry", b.zext(enough, self.i32))
            self._flags(self._byte(b.sub(register, value)))
        elif name == "BIT":
            self._put("n", value)
            self._put("overflow", b.and_(b.lshr(value, self._c(6)), self._c(1)))
            self._put("z", b.and_(self._get("a"), value))
        elif name in ("ADC", "SBC"):
            self._sum(value if name == "ADC" else b.xor(value, self._c(0xFF)))

    def _sum(self, value: ir.Value) -> None:
        b = self.b
        a = self._get("a")
        total = b.add(b.add(a, value), self._get("carry"))
        overflow = b.and_(b.xor(a, total), b.xor(total, value))
        self._put("overflow", b.and_(b.lshr(overflow, self._c(7)), self._c(1)))
        self._put("carry", b.lshr(total, self._c(8)))
        result = self._byte(total)
        self._put("a", result)
        self._flags(result)

    def _adc(self) -> None:
        self._binary_only()
        self._read_operation("ADC", self._operand())

    def _sbc(self) -> None:
        self._binary_only()
        self._read_operation("SBC", self._operand())

    def _binary_only(self) -> None:
        self._leave_if(self.b.icmp_unsigned("!=", self._get("decimal"), self._c(0)))

    def _register_operation(self, name: str) -> None:
        moves = {"TAX": ("a", "x"), "TAY": ("a", "y"), "TXA": ("x", "a"), "TYA": ("y", "a")}
        steps = {"INX": ("x", 1), "INY": ("y", 1), "DEX": ("x", -1), "DEY": ("y", -1)}
        sets = {"CLC": ("carry", 0), "SEC": ("carry", 1), "CLD": ("decimal", 0),
                "SED": ("decimal", 1), "CLI": ("interrupt", 0), "SEI": ("interrupt", 1),
                "CLV": ("overflow", 0)}  # fmt: skip
        if name in moves:
            source, target = moves[name]
            self._put(target, self._get(source))
            self._flags(self._get(source))
        elif name in steps:
            register, step = steps[name]
            value = self._byte(self.b.add(self._get(register), self._c(step)))
            self._put(register, value)
            self._flags(value)
        elif name in sets:
            flag, setting = sets[name]
            self._put(flag, self._c(setting))
        elif name == "TSX":
            self._put("x", self._get("sp"))
            self._flags(self._get("sp"))
        elif name == "TXS":
            self._put("sp", self._get("x"))
        else:
            raise NotImplementedError(name)

    def _status(self) -> ir.Value:
        b = self.b
        zero = b.icmp_unsigned("==", self._get("z"), self._c(0))
        status = b.or_(b.and_(self._get("n"), self._c(0x80)), self._c(0x30))
        for name, bit in STATUS_BIT.items():
            status = b.or_(status, b.shl(self._get(name), self._c(bit)))
        return b.or_(status, b.shl(b.zext(zero, self.i32), self._c(1)))

    # ---- the stack; pulls, JSR and RTS only where it lies in RAM ----

    def _pha(self) -> None:
        self._push(self._get("a"))

    def _php(self) -> None:
        self._push(self._status())

    def _push(self, value: ir.Value) -> None:
        b = self.b
        sp = self._get("sp")
        with b.if_else(b.icmp_unsigned(">=", sp, self._c(0x80))) as (to_ram, to_tia):
            with to_ram:
                self._set_ram(b.and_(sp, self._c(0x7F)), value)
            with to_tia:  # programs push onto the video chip's registers on purpose
                register = b.and_(sp, self._c(0x3F))
                self._leave_if(b.icmp_unsigned("<", register, self._c(4)))
                self._append(register, value, self._tia_access(), self._is_logged(register))
        self._put("sp", self._byte(b.sub(sp, self._c(1))))

    def _pull(self, count: int) -> list[ir.Value]:
        b = self.b
        sp = self._get("sp")
        inside = b.icmp_unsigned("<", b.sub(sp, self._c(0x7F)), self._c(0x81 - count))
        self._leave_if(b.not_(inside))
        values = [
            self._ram_byte(b.and_(b.add(sp, self._c(k)), self._c(0x7F)))
            for k in range(1, count + 1)
        ]
        self.pulled_sp = b.add(sp, self._c(count))
        return values

    def _pla(self) -> None:
        sp = self._byte(self.b.add(self._get("sp"), self._c(1)))
        value = self._ram_or_input(sp, PLA_OPCODE)
        self._put("sp", sp)
        self._put("a", value)
        self._flags(value)

    def _plp(self) -> None:
        b = self.b
        (value,) = self._pull(1)
        self._put("sp", self.pulled_sp)
        self._put("n", value)
        one = self._c(1)
        for name, bit in STATUS_BIT.items():
            self._put(name, b.and_(b.lshr(value, self._c(bit)), one))
        self._put("z", b.xor(b.and_(b.lshr(value, one), one), one))

    # ---- jumps ----

    def _jsr(self) -> None:
        b = self.b
        sp = self._get("sp")
        self._leave_if(b.icmp_unsigned("<", sp, self._c(0x81)))
        back = (self.now.next_pc - 1) & 0xFFFF
        self._set_ram(b.and_(sp, self._c(0x7F)), self._c(back >> 8))
        self._set_ram(b.and_(b.sub(sp, self._c(1)), self._c(0x7F)), self._c(back & 0xFF))
        self._put("sp", b.sub(sp, self._c(2)))
        self._go(self.now.absolute, self.now.cycles)

    def _rts(self) -> None:
        b = self.b
        low, high = self._pull(2)
        address = b.or_(low, b.shl(high, self._c(8)))
        self._leave_if(b.not_(self._plain(address)))
        self._put("sp", self.pulled_sp)
        self._flush_cycles(self.now.cycles)
        self._put("pc", b.and_(b.add(address, self._c(1)), self._c(0xFFFF)))
        b.branch(self.dispatch)

    def _jmp(self) -> None:
        b = self.b
        if self.now.mode == ABSOLUTE:
            return self._go(self.now.absolute, self.now.cycles)
        pointer = self.now.absolute & 0x7F
        low, high = self._ram_byte(self._c(pointer)), self._ram_byte(self._c(pointer + 1))
        self._flush_cycles(self.now.cycles)
        self._put("pc", b.or_(low, b.shl(high, self._c(8))))
        b.branch(self.dispatch)
        return None

    def _branch(self, name: str) -> None:
        b, now = self.b, self.now
        flag, when = {"BPL": ("n", 0), "BMI": ("n", 1), "BNE": ("z", 1), "BEQ": ("z", 0),
                      "BCC": ("carry", 0), "BCS": ("carry", 1), "BVC": ("overflow", 0),
                      "BVS": ("overflow", 1)}[name]  # fmt: skip
        value = self._get(flag)
        value = b.and_(value, self._c(0x80)) if flag == "n" else value
        condition = b.icmp_unsigned("!=" if when else "==", value, self._c(0))
        taken, otherwise = self._new_block("taken"), self._new_block("otherwise")
        b.cbranch(condition, taken, otherwise)
        b.position_at_end(taken)
        extra = 2 if (now.branch_target ^ now.next_pc) & 0xFF00 else 1
        if self._waits_for_timer():
            self._skip_waiting(now.cycles + extra)
        self._go(now.branch_target, now.cycles + extra)
        b.position_at_end(otherwise)
        self._go(now.next_pc, now.cycles)

    # ---- waiting loops ----

    def _waits_for_timer(self) -> bool:
        """Whether this block only reads the timer, looks at it, and branches to itself."""
        first = self.stretch[0]
        loads = ("LDA", "LDX", "LDY", "BIT")
        intim = first.mode == ABSOLUTE and first.absolute & 0x1285 == 0x284
        looks = all(
            i.operation in ("CMP", "CPX", "CPY", "AND") and i.mode == IMMEDIATE
            for i in self.stretch[1:-1]
        )
        itself = self.now.branch_target == first.pc
        return itself and intim and first.operation in loads and looks

    def _skip_waiting(self, last: int) -> None:
        """Skip the rounds in which the timer shows the same value: they change nothing.

        `cycles` still lacks this round's. The timer was read at `read`; it changes when the time
        since it was set reaches the next multiple of its interval.
        """
        b = self.b
        period = self._c(self.pending + last)
        read = b.add(self._get("cycles"), self._c(self.stretch[0].cycles))
        elapsed = b.sub(b.sub(read, self._c(1)), self._field(TIMER_SET))
        interval = b.shl(self._c(1), self._field(TIMER_SHIFT))
        left = b.sub(interval, b.and_(elapsed, b.sub(interval, self._c(1))))
        rounds = b.udiv(b.sub(left, self._c(1)), period)
        affordable = b.udiv(self._get("budget"), self._c(self.count))
        rounds = b.select(b.icmp_unsigned("<", rounds, affordable), rounds, affordable)
        skipped = b.mul(rounds, self._c(self.count))
        self._put("budget", b.sub(self._get("budget"), skipped))
        self._put("cycles", b.add(self._get("cycles"), b.mul(rounds, period)))


# ---- from heat to an address ----

_engines: dict[str, tuple[Any, HotCode]] = {}  # compiled code, alive for the life of the process
_one_at_a_time = threading.Lock()  # an engine that lost its place to another would be freed


def code_of(
    constants: Array, image: Array, game: str, warm_up: Callable[[HotCode], None]
) -> HotCode:
    """A game's translated code. `game` names the program (its checksum).

    It comes from this process, or from the disk, or is made now, from the heat that `warm_up`
    leaves in what it is given by playing a little.
    """
    program = hashlib.sha256(constants.tobytes() + image.tobytes()).hexdigest()
    key = hashlib.sha256(f"{_version()} {game} {program}".encode()).hexdigest()[:32]
    with _one_at_a_time:
        if key not in _engines:
            engine, starts = _kept(key) or _made(key, constants, image, warm_up)
            _engines[key] = engine, _hot_code(engine, starts, image)
        return _engines[key][1]


def _hot_code(engine: Any, offsets: Array, image: Array) -> HotCode:
    """Of an engine with code that starts at these offsets; good as long as the engine lives."""
    starts = np.zeros(len(image), np.bool_)
    starts[offsets] = True
    return HotCode(engine.get_function_address("run"), starts, np.zeros(0, np.int32))


@functools.cache
def _version() -> str:
    """What the code depends on besides the game: this package's sources and the processor."""
    processor = llvm.get_default_triple(), llvm.get_host_cpu_name(), _features()
    return " ".join([*SOURCES, llvmlite.__version__, *processor])


def _features() -> str:
    """What instructions the processor has."""
    return str(llvm.get_host_cpu_features().flatten())


def _made(
    key: str, constants: Array, image: Array, warm_up: Callable[[HotCode], None]
) -> tuple[Any, Array]:
    """Twice: the first translation shows where it stops, and the second one can go on behind."""
    warm, left = counting(image), np.zeros(len(image), np.int32)
    warm_up(warm)
    first = translate(constants, image, warm.heat, left)
    engine = _engine_of(_compiled(first, optimised=False))
    warm_up(_hot_code(engine, first.starts, image)._replace(heat=left))
    stopped = np.zeros_like(left)
    stopped[first.leaves] = left[first.leaves]
    second = translate(constants, image, warm.heat, stopped)
    code = _compiled(second)
    _keep(f"{key}.npz", code, second.starts)
    return _engine_of(code), second.starts


def _compiled(translated: Translated, optimised: bool = True) -> bytes:
    """Machine code; if not optimised, in a fraction of the time."""
    module, target = llvm.parse_assembly(translated.assembly), _target()
    if optimised:
        builder = llvm.create_pass_builder(target, llvm.create_pipeline_tuning_options(2))
        builder.getModulePassManager().run(module, builder)
    return bytes(target.emit_object(module))


def _keep(name: str, code: bytes, starts: Array) -> None:
    """A disk that cannot be written costs seconds next time."""
    for folder in kept.folders():
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                part = Path(scratch) / name
                np.savez(part, code=np.frombuffer(code, np.uint8), starts=starts)
                part.replace(folder / name)
            return


def _kept(key: str) -> tuple[Any, Array] | None:
    for folder in kept.folders():
        broken = EOFError, KeyError, ValueError, zipfile.BadZipFile
        unreadable = contextlib.suppress(OSError, *broken)
        with unreadable, np.load(folder / f"{key}.npz") as found:
            return _engine_of(found["code"].tobytes()), found["starts"]
    return None


def _target() -> Any:
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=_features(), opt=2
    )


def _engine_of(code: bytes) -> Any:
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _target())
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return engine


# ---- what the interpreter makes of it ----


@intrinsic
def _call(typing, address, registers, ram, image, memory, i, last_cycle, budget):  # type: ignore[no-untyped-def]
    """Call the function at `address` for machine i; returns what is left of the budget.

    Pointers are taken here, for the time of the call: no array holds one.
    """
    arrays = [registers, ram, image, memory]
    signature = types.int64(address, *arrays, types.int64, types.int64, types.int64)

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        i64 = ir.IntType(64)
        made = [
            context.make_array(kind)(context, builder, value)
            for kind, value in zip(signature.args[1:5], arguments[1:5], strict=True)
        ]
        pointers = [builder.ptrtoint(array.data, i64) for array in made]
        row, last_cycle, budget = arguments[5:]
        for k in range(2):  # registers and RAM: machine i's row
            stride = builder.extract_value(made[k].strides, 0)
            pointers[k] = builder.add(pointers[k], builder.mul(row, stride))
        pointers[3] = builder.add(pointers[3], ir.Constant(i64, 8 * tia.LOG))
        kind = ir.FunctionType(i64, [i64] * len(ARGUMENTS))
        function = builder.inttoptr(arguments[0], kind.as_pointer())
        return builder.call(function, [*pointers, last_cycle, budget])

    return signature, generate


def _is_hot_code(kind: Any) -> bool:
    """Whether a Numba type is that of a HotCode."""
    return getattr(kind, "instance_class", None) is HotCode


@overload(hot.starts, inline="always")
def _starts(code, at):  # type: ignore[no-untyped-def]
    return (lambda code, at: code.starts[at]) if _is_hot_code(code) else None


@overload(hot.run, inline="always")
def _run(code, registers, ram, image, memory, i, last_cycle, budget):  # type: ignore[no-untyped-def]
    def run(code, registers, ram, image, memory, i, last_cycle, budget):  # type: ignore[no-untyped-def]
        return _call(code.address, registers, ram, image, memory, i, last_cycle, budget)

    return run if _is_hot_code(code) else None


@overload(hot.count, inline="always")
def _count(code, at, pc):  # type: ignore[no-untyped-def]
    """In a warm-up; see MIRROR_BITS for the low bits."""

    def count(code, at, pc):  # type: ignore[no-untyped-def]
        if code.heat.shape[0] > 0:
            code.heat[at] = ((code.heat[at] + 16) & ~15) | pc >> 12

    return count if _is_hot_code(code) else None
