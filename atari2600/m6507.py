"""6507: the processor, as one interpreter loop with its registers in local variables.

As in the oracle, all accesses of an instruction happen at one time: the cycle at which it ends.
Writes to the video chip are only logged (see tia.py). N and Z are kept as the bytes they came from.
Where a back end has translated code, that runs in place of the loop (see hot.py).
"""

from __future__ import annotations

import numba
import numpy as np

from atari2600 import cartridge, hot, riot, tia
from atari2600.opcodes import (
    ABSOLUTE,
    ABSOLUTE_X,
    ABSOLUTE_Y,
    ADC,
    ANC,
    AND,
    ANE,
    ARR,
    ASL,
    ASL_A,
    ASR,
    BCC,
    BCS,
    BEQ,
    BIT,
    BMI,
    BNE,
    BPL,
    BRK,
    BVC,
    CLC,
    CLD,
    CLI,
    CLV,
    CMP,
    CPX,
    CPY,
    CYCLES_SHIFT,
    DCP,
    DEC,
    DECODE,
    DEX,
    DEY,
    EOR,
    INC,
    INDIRECT,
    INDIRECT_X,
    INDIRECT_Y,
    INX,
    INY,
    ISB,
    JMP,
    JSR,
    KIL,
    LAS,
    LAX,
    LDA,
    LDX,
    LDY,
    LENGTH_SHIFT,
    LSR,
    LSR_A,
    LXA,
    MODE_BITS,
    NOP,
    OPERATION_SHIFT,
    ORA,
    PENALTY,
    PHA,
    PHP,
    PLA,
    PLP,
    READS_MEMORY,
    RLA,
    ROL,
    ROL_A,
    ROR,
    ROR_A,
    RRA,
    RTI,
    RTS,
    SAX,
    SBC,
    SBX,
    SEC,
    SED,
    SEI,
    SHA,
    SHS,
    SHX,
    SHY,
    SLO,
    SRE,
    STA,
    STX,
    STY,
    TAX,
    TAY,
    TSX,
    TXA,
    TXS,
    TYA,
    WRITES_MEMORY,
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
    FOREVER,
    FRAME_START,
    LOGGED,
    MAX_LINES,
    NEVER_CHARGED,
    PC,
    PLAIN_FROM,
    PLAIN_SIZE,
    SP,
    STUCK,
    TOUCHED,
    VSYNC_DEADLINE,
    A,
    X,
    Y,
)

MAX_INSTRUCTIONS = 25_000  # of a call; a frame that takes more is continued by the next call
WSYNC, VSYNC = 0x02, 0x00


@numba.njit(_nrt=False)
def add_decimal(a, value, carry):  # type: ignore[no-untyped-def]
    """Decimal ADC: the result, bit 8 the carry. Digits above 9 count as what they are."""
    total = (a >> 4) * 10 + (a & 15) + (value >> 4) * 10 + (value & 15) + carry
    low = total & 0xFF
    return (low % 100 // 10) << 4 | low % 10 | (256 if total > 99 else 0)


@numba.njit(_nrt=False)
def subtract_decimal(a, value, carry):  # type: ignore[no-untyped-def]
    """Decimal SBC: the result, bit 8 the carry."""
    total = (a >> 4) * 10 + (a & 15) - (value >> 4) * 10 - (value & 15) - 1 + carry
    no_borrow = 256 if a >= value + 1 - carry else 0
    if total < 0:
        total += 100
    if total < 0:
        total &= 0xFF
        return (10 * (total >> 4) + (total & 15)) & 0xFF | no_borrow
    low = total & 0xFF
    return (low % 100 // 10) << 4 | low % 10 | no_borrow


@numba.njit(_nrt=False)
def read_tia(constants, registers, words, memory, i, address, bus, cycles, drawing):  # type: ignore[no-untyped-def]
    """A collision or input register; its low bits are what is left on the data bus.

    Only collisions need the picture: they replay the log, and LOGGED becomes 0.
    """
    register = address & 15
    bus &= 0x3F
    if register < 8:
        logged = np.int64(registers[i, LOGGED])
        tia.replay(constants, registers, words, memory, i, logged, 3 * cycles, drawing)
        registers[i, LOGGED] = 0
        return tia.latch(registers, i, register) | bus
    if register < 12:
        return charged(registers, i, register - 8, cycles) | bus
    if register < 14:
        return registers[i, FIRE0 + register - 12] | bus
    return bus


@numba.njit(_nrt=False)
def charged(registers, i, k, cycles):  # type: ignore[no-untyped-def]
    """INPT0 to INPT3: $80 once a paddle's capacitor is charged.

    The oracle compares unsigned 32-bit numbers, so that a discharge before the frame's start,
    at a negative time, may look late.
    """
    delay = np.int64(registers[i, DELAY0 + k])
    if delay == NEVER_CHARGED or (registers[i, DUMPED] and delay != 0):
        return np.int64(0)
    if delay == 0:
        return np.int64(0 if registers[i, DUMPED] else 0x80)
    due = (np.int64(registers[i, DUMP_AT]) + delay) & 0xFFFFFFFF
    return np.int64(0x80 if cycles > due else 0)


@numba.njit(_nrt=False)
def read_any(machines, memory, i, address, bus, cycles, drawing):  # type: ignore[no-untyped-def]
    """Any read that the interpreter has no short way for. May change BANK and LOGGED."""
    constants, image, graphics = machines.constants, machines.image, machines.graphics
    registers, ram, words = machines.registers, machines.ram, machines.words
    if address & 0x1000:
        return cartridge.access(constants, image, graphics, registers, ram, i, address, -1)
    if address & 0x80 == 0:
        return np.int64(
            read_tia(constants, registers, words, memory, i, address, bus, cycles, drawing)
        )
    if address & 0x200:
        return riot.read(registers, i, address, cycles)
    return np.int64(ram[i, address & 0x7F])


@numba.njit(_nrt=False)
def push_tia(constants, registers, words, memory, i, address, value, cycles, drawing):  # type: ignore[no-untyped-def]
    """A push by JSR, BRK onto the video chip (stack below $80), logged as any write to it."""
    register = address & 0x3F
    if logs(register):
        logged = np.int64(registers[i, LOGGED])
        if logged == tia.LOG_SIZE:
            tia.replay(constants, registers, words, memory, i, logged, 0, drawing)
            logged = np.int64(0)
        memory[tia.LOG + logged] = np.uint64(cycles << 16 | register << 8 | value)
        registers[i, LOGGED] = logged + 1


@numba.njit(_nrt=False)
def logs(register):  # type: ignore[no-untyped-def]
    """Whether a register of the video chip has to do with the picture; sound has not."""
    return (0x04 <= register <= 0x2C and not 0x15 <= register <= 0x1A) or register == 1


@numba.njit(_nrt=False)
def execute(machines, scratch, i, drawing):  # type: ignore[no-untyped-def]
    """Run machine i to the end of the frame, or for MAX_INSTRUCTIONS; returns whether it ended."""
    constants, image, graphics = machines.constants, machines.image, machines.graphics
    registers, ram, words = machines.registers, machines.ram, machines.words
    memory, code = scratch.memory, scratch.code
    a, x, y = np.int64(registers[i, A]), np.int64(registers[i, X]), np.int64(registers[i, Y])
    sp, pc = np.int64(registers[i, SP]), np.int64(registers[i, PC])
    n_of, z_of = np.int64(registers[i, FLAG_N]) << 7, 1 - np.int64(registers[i, FLAG_Z])
    carry, overflow = np.int64(registers[i, FLAG_C]), np.int64(registers[i, FLAG_V])
    decimal, interrupt = np.int64(registers[i, FLAG_D]), np.int64(registers[i, FLAG_I])
    cycles = np.int64(registers[i, CYCLES])
    bank = np.int64(registers[i, BANK])
    logged = np.int64(registers[i, LOGGED])
    mask = np.int64(constants[ADDRESS_MASK])
    plain_from = np.int64(constants[PLAIN_FROM])
    plain_size = np.int64(constants[PLAIN_SIZE])
    frame_start = np.int64(registers[i, FRAME_START])
    line_offset = -frame_start // 3  # cycles of the line that were gone when the frame started
    last_cycle = (frame_start + tia.LINE_CLOCKS * (np.int64(constants[MAX_LINES]) + 1) + 2) // 3
    touched = np.int64(registers[i, TOUCHED])
    budget = MAX_INSTRUCTIONS
    ended = False
    if registers[i, STUCK]:
        return False

    while budget > 0:
        at = bank + (pc & mask)
        plain = pc & 0x1000 and 0 <= (pc & 0xFFF) - plain_from < plain_size
        # ---- translated code, up to the next instruction that it leaves to us ----
        if plain and hot.starts(code, at):
            registers[i, A], registers[i, X], registers[i, Y] = a, x, y
            registers[i, SP], registers[i, PC] = sp, pc
            registers[i, FLAG_N], registers[i, FLAG_Z] = n_of >> 7 & 1, z_of == 0
            registers[i, FLAG_C], registers[i, FLAG_V] = carry, overflow
            registers[i, FLAG_D], registers[i, FLAG_I] = decimal, interrupt
            registers[i, CYCLES], registers[i, LOGGED] = cycles, logged
            registers[i, TOUCHED], registers[i, BANK] = touched, bank
            budget = hot.run(code, registers, ram, image, memory, i, last_cycle, budget)
            a = np.int64(registers[i, A])
            x, y = np.int64(registers[i, X]), np.int64(registers[i, Y])
            sp, pc = np.int64(registers[i, SP]), np.int64(registers[i, PC])
            n_of, z_of = np.int64(registers[i, FLAG_N]) << 7, 1 - np.int64(registers[i, FLAG_Z])
            carry, overflow = np.int64(registers[i, FLAG_C]), np.int64(registers[i, FLAG_V])
            decimal, interrupt = np.int64(registers[i, FLAG_D]), np.int64(registers[i, FLAG_I])
            cycles, logged = np.int64(registers[i, CYCLES]), np.int64(registers[i, LOGGED])
            touched = np.int64(registers[i, TOUCHED])
            if budget <= 0:
                break
            at = bank + (pc & mask)
            plain = pc & 0x1000 and 0 <= (pc & 0xFFF) - plain_from < plain_size
        budget -= 1
        # ---- fetch ----
        if plain:
            hot.count(code, at, pc)
            opcode, low = np.int64(image[at]), np.int64(image[at + 1])
            high = np.int64(image[at + 2])
            decoded = DECODE[opcode]
        else:
            registers[i, LOGGED] = logged
            opcode = read_any(machines, memory, i, pc, 0, cycles, drawing)
            decoded = DECODE[opcode]
            length = (decoded >> LENGTH_SHIFT) & 3
            low = high = np.int64(0)
            if length > 1:
                low = read_any(machines, memory, i, (pc + 1) & 0xFFFF, 0, cycles, drawing)
            if length > 2:
                high = read_any(machines, memory, i, (pc + 2) & 0xFFFF, 0, cycles, drawing)
            logged = np.int64(registers[i, LOGGED])
            bank = np.int64(registers[i, BANK])
        pc = (pc + ((decoded >> LENGTH_SHIFT) & 3)) & 0xFFFF
        cycles += (decoded >> CYCLES_SHIFT) & 15
        mode = decoded & MODE_BITS
        operation = (decoded >> OPERATION_SHIFT) & 0xFF

        # ---- address of the operand ----
        address = low
        value = low
        bus = low
        if mode == ABSOLUTE:
            address = low | high << 8
            bus = high
        elif mode == ZERO_X:
            address = (low + x) & 0xFF
        elif mode == ABSOLUTE_X or mode == ABSOLUTE_Y:
            index = x if mode == ABSOLUTE_X else y
            address = ((low | high << 8) + index) & 0xFFFF
            bus = high
            if decoded & PENALTY and low + index > 0xFF:
                cycles += 1
        elif mode == INDIRECT_Y or mode == INDIRECT_X:
            pointer = low if mode == INDIRECT_Y else (low + x) & 0xFF
            if 0x80 <= pointer < 0xFF:
                base = (
                    np.int64(ram[i, pointer & 0x7F]) | np.int64(ram[i, (pointer + 1) & 0x7F]) << 8
                )
            else:
                registers[i, LOGGED] = logged
                first = read_any(machines, memory, i, pointer, low, cycles, drawing)
                second = read_any(machines, memory, i, pointer + 1, first, cycles, drawing)
                base = first | second << 8
                logged = np.int64(registers[i, LOGGED])
            address = base
            if mode == INDIRECT_Y:
                address = (base + y) & 0xFFFF
                if decoded & PENALTY and (base & 0xFF) + y > 0xFF:
                    cycles += 1
            bus = base >> 8
        elif mode == ZERO_Y:
            address = (low + y) & 0xFF
        elif mode == INDIRECT:
            registers[i, LOGGED] = logged
            second = low | high << 8
            address = read_any(machines, memory, i, second, high, cycles, drawing)
            second = (second & 0xFF00) | ((second + 1) & 0xFF)  # wraps in the page
            address |= read_any(machines, memory, i, second, address, cycles, drawing) << 8
            logged = np.int64(registers[i, LOGGED])
            bank = np.int64(registers[i, BANK])

        # ---- read ----
        if decoded & READS_MEMORY:
            if address & 0x1280 == 0x80:
                value = np.int64(ram[i, address & 0x7F])
            elif address & 0x1000 and 0 <= (address & 0xFFF) - plain_from < plain_size:
                value = np.int64(image[bank + (address & mask)])
            elif address & 0x1080 == 0x80:
                value = riot.read(registers, i, address, cycles)
            else:
                registers[i, LOGGED] = logged
                if address & 0x1000 == 0:
                    touched = cycles
                value = read_any(machines, memory, i, address, bus, cycles, drawing)
                logged = np.int64(registers[i, LOGGED])
                bank = np.int64(registers[i, BANK])

        # ---- operate ----
        if operation == LDA:
            a = value
            n_of = z_of = a
        elif operation == STA:
            value = a
        elif BPL <= operation <= BEQ:
            if operation == BNE:
                taken = z_of != 0
            elif operation == BEQ:
                taken = z_of == 0
            elif operation == BPL:
                taken = n_of & 0x80 == 0
            elif operation == BMI:
                taken = n_of & 0x80 != 0
            elif operation == BCC:
                taken = carry == 0
            elif operation == BCS:
                taken = carry != 0
            elif operation == BVC:
                taken = overflow == 0
            else:
                taken = overflow != 0
            if taken:
                target = (pc + low - ((low & 0x80) << 1)) & 0xFFFF
                cycles += 2 if (target ^ pc) & 0xFF00 else 1
                pc = target
        elif operation == LDX:
            x = value
            n_of = z_of = x
        elif operation == LDY:
            y = value
            n_of = z_of = y
        elif operation == STX:
            value = x
        elif operation == STY:
            value = y
        elif operation == DEX:
            x = (x - 1) & 0xFF
            n_of = z_of = x
        elif operation == DEY:
            y = (y - 1) & 0xFF
            n_of = z_of = y
        elif operation == INX:
            x = (x + 1) & 0xFF
            n_of = z_of = x
        elif operation == INY:
            y = (y + 1) & 0xFF
            n_of = z_of = y
        elif operation == AND:
            a &= value
            n_of = z_of = a
        elif operation == ORA:
            a |= value
            n_of = z_of = a
        elif operation == EOR:
            a ^= value
            n_of = z_of = a
        elif operation == CMP:
            carry = np.int64(a >= value)
            n_of = z_of = (a - value) & 0xFF
        elif operation == CPX:
            carry = np.int64(x >= value)
            n_of = z_of = (x - value) & 0xFF
        elif operation == CPY:
            carry = np.int64(y >= value)
            n_of = z_of = (y - value) & 0xFF
        elif operation == BIT:
            n_of = value
            overflow = (value >> 6) & 1
            z_of = a & value
        elif operation == INC:
            value = (value + 1) & 0xFF
            n_of = z_of = value
        elif operation == DEC:
            value = (value - 1) & 0xFF
            n_of = z_of = value
        elif operation == ASL:
            carry = value >> 7
            value = (value << 1) & 0xFF
            n_of = z_of = value
        elif operation == LSR:
            carry = value & 1
            value >>= 1
            n_of = z_of = value
        elif operation == ROL:
            value = value << 1 | carry
            carry = value >> 8
            value &= 0xFF
            n_of = z_of = value
        elif operation == ROR:
            value |= carry << 8
            carry = value & 1
            value >>= 1
            n_of = z_of = value
        elif operation == ASL_A:
            carry = a >> 7
            a = (a << 1) & 0xFF
            n_of = z_of = a
        elif operation == LSR_A:
            carry = a & 1
            a >>= 1
            n_of = z_of = a
        elif operation == ROL_A:
            a = a << 1 | carry
            carry = a >> 8
            a &= 0xFF
            n_of = z_of = a
        elif operation == ROR_A:
            a |= carry << 8
            carry = a & 1
            a >>= 1
            n_of = z_of = a
        elif operation == TAX:
            x = a
            n_of = z_of = a
        elif operation == TAY:
            y = a
            n_of = z_of = a
        elif operation == TXA:
            a = x
            n_of = z_of = a
        elif operation == TYA:
            a = y
            n_of = z_of = a
        elif operation == TSX:
            x = sp
            n_of = z_of = x
        elif operation == TXS:
            sp = x
        elif operation == CLC:
            carry = np.int64(0)
        elif operation == SEC:
            carry = np.int64(1)
        elif operation == CLD:
            decimal = np.int64(0)
        elif operation == SED:
            decimal = np.int64(1)
        elif operation == CLI:
            interrupt = np.int64(0)
        elif operation == SEI:
            interrupt = np.int64(1)
        elif operation == CLV:
            overflow = np.int64(0)
        elif operation == JMP:
            pc = address
        elif operation == JSR or operation == BRK:
            if operation == JSR:
                back = (pc - 1) & 0xFFFF
                pc = address
            else:
                back = (pc + 1) & 0xFFFF
                registers[i, LOGGED] = logged
                pc = read_any(machines, memory, i, 0xFFFE, 0, cycles, drawing)
                pc |= read_any(machines, memory, i, 0xFFFF, 0, cycles, drawing) << 8
                logged = np.int64(registers[i, LOGGED])
                bank = np.int64(registers[i, BANK])
            pushes = 2 if operation == JSR else 3
            pushed = back << 8 | (
                n_of & 0x80 | overflow << 6 | 0x30 | decimal << 3 | interrupt << 2
                | (2 if z_of == 0 else 0) | carry
            )  # fmt: skip
            for k in range(pushes):
                byte = (pushed >> (16 - 8 * k)) & 0xFF
                if sp & 0x80:
                    ram[i, sp & 0x7F] = byte
                else:
                    touched = cycles
                    registers[i, LOGGED] = logged
                    push_tia(constants, registers, words, memory, i, sp, byte, cycles, drawing)
                    logged = np.int64(registers[i, LOGGED])
                sp = (sp - 1) & 0xFF
            if operation == BRK:
                interrupt = np.int64(1)
        elif operation == RTS or operation == RTI or operation == PLA or operation == PLP:
            pulls = 1 if operation == PLA or operation == PLP else 2 if operation == RTS else 3
            pulled = np.int64(0)
            # the stack is read once before SP moves: that byte is what is left on the bus
            bus = np.int64(ram[i, sp & 0x7F]) if sp & 0x80 else opcode
            for k in range(pulls):
                sp = (sp + 1) & 0xFF
                if sp & 0x80:
                    byte = np.int64(ram[i, sp & 0x7F])
                else:
                    touched = cycles
                    registers[i, LOGGED] = logged
                    byte = np.int64(
                        read_tia(constants, registers, words, memory, i, sp, bus, cycles, drawing)
                    )
                    logged = np.int64(registers[i, LOGGED])
                pulled |= byte << (8 * k)
                bus = byte
            if operation == PLA:
                a = pulled
                n_of = z_of = a
            elif operation == RTS:
                if pulled & 0x1000 and not 0 <= (pulled & 0xFFF) - plain_from < plain_size:
                    read_any(machines, memory, i, pulled, 0, cycles, drawing)
                    bank = np.int64(registers[i, BANK])
                pc = (pulled + 1) & 0xFFFF
            else:
                n_of = pulled & 0x80
                overflow = (pulled >> 6) & 1
                decimal = (pulled >> 3) & 1
                interrupt = (pulled >> 2) & 1
                z_of = 1 - ((pulled >> 1) & 1)
                carry = pulled & 1
                if operation == RTI:
                    pc = pulled >> 8
        elif operation == PHA or operation == PHP:
            value = a
            if operation == PHP:
                value = (
                    n_of & 0x80 | overflow << 6 | 0x30 | decimal << 3 | interrupt << 2
                    | (2 if z_of == 0 else 0) | carry
                )  # fmt: skip
            address = 0x100 | sp
            sp = (sp - 1) & 0xFF
        elif operation == NOP:
            pass
        elif operation == KIL:
            registers[i, STUCK] = 1
            break
        else:
            # ---- undocumented, then the sums, which some of those end with ----
            if operation == LAX:
                a = x = value
                n_of = z_of = a
            elif operation == SAX:
                value = a & x
            elif operation == DCP:
                value = (value - 1) & 0xFF
                carry = np.int64(a >= value)
                n_of = z_of = (a - value) & 0xFF
            elif operation == ISB:
                value = (value + 1) & 0xFF
            elif operation == SLO:
                carry = value >> 7
                value = (value << 1) & 0xFF
                a |= value
                n_of = z_of = a
            elif operation == RLA:
                value = value << 1 | carry
                carry = value >> 8
                value &= 0xFF
                a &= value
                n_of = z_of = a
            elif operation == SRE:
                carry = value & 1
                value >>= 1
                a ^= value
                n_of = z_of = a
            elif operation == RRA:
                value |= carry << 8
                carry = value & 1
                value >>= 1
            elif operation == ANC:
                a &= value
                n_of = z_of = a
                carry = a >> 7
            elif operation == ASR:
                a &= value
                carry = a & 1
                a >>= 1
                n_of = z_of = a
            elif operation == ARR:
                both = a & value
                a = both >> 1 | carry << 7
                n_of = z_of = a
                if decimal:  # each digit is adjusted by what it was before the rotation
                    overflow = ((both ^ a) >> 6) & 1
                    if (both & 0x0F) + (both & 0x01) > 0x05:
                        a = (a & 0xF0) | ((a + 6) & 0x0F)
                    carry = np.int64((both & 0xF0) + (both & 0x10) > 0x50)
                    if carry:
                        a = (a + 0x60) & 0xFF
                else:
                    carry = (a >> 6) & 1
                    overflow = ((a >> 6) ^ (a >> 5)) & 1
            elif operation == SBX:
                x &= a
                carry = np.int64(x >= value)
                x = (x - value) & 0xFF
                n_of = z_of = x
            elif operation == LAS:
                sp &= value
                a = x = sp
                n_of = z_of = a
            elif operation == ANE:
                a = (a | 0xEE) & x & value
                n_of = z_of = a
            elif operation == LXA:
                a = x = (a | 0xEE) & value
                n_of = z_of = a
            elif operation == SHA:
                value = a & x & ((address >> 8) + 1)
            elif operation == SHX:
                value = x & ((address >> 8) + 1)
            elif operation == SHY:
                value = y & ((address >> 8) + 1)
            elif operation == SHS:
                sp = a & x
                value = sp & ((address >> 8) + 1)
            if operation == ADC or operation == RRA:
                if decimal:
                    total = add_decimal(a, value, carry)
                else:
                    total = a + value + carry
                overflow = ((a ^ total) & (total ^ value)) >> 7 & 1
                carry = total >> 8
                a = total & 0xFF
                n_of = z_of = a
            elif operation == SBC or operation == ISB:
                if decimal:
                    total = subtract_decimal(a, value, carry)
                    overflow = ((a ^ total) & (total ^ value)) >> 7 & 1
                else:
                    total = a + (value ^ 0xFF) + carry
                    overflow = ((a ^ total) & (total ^ value ^ 0xFF)) >> 7 & 1
                carry = total >> 8
                a = total & 0xFF
                n_of = z_of = a

        # ---- write ----
        if decoded & WRITES_MEMORY:
            if address & 0x1280 == 0x80:
                ram[i, address & 0x7F] = value
            elif address & 0x1080 == 0:
                register = address & 0x3F
                touched = cycles
                if cycles >= last_cycle:
                    ended = True
                    budget = 0
                if register == WSYNC:
                    gone = (cycles + line_offset) % tia.LINE_CYCLES
                    if gone:
                        cycles += tia.LINE_CYCLES - gone
                elif logs(register):
                    if logged == tia.LOG_SIZE:
                        tia.replay(constants, registers, words, memory, i, logged, 0, drawing)
                        logged = np.int64(0)
                    memory[tia.LOG + logged] = np.uint64(cycles << 16 | register << 8 | value)
                    logged += 1
                    if register == 1:
                        if registers[i, DUMPED] and not value & 0x80:
                            registers[i, DUMP_AT] = cycles
                        registers[i, DUMPED] = value >> 7
                elif register == VSYNC:
                    if value & 2:
                        registers[i, VSYNC_DEADLINE] = 3 * cycles + tia.LINE_CLOCKS
                    elif 3 * cycles >= registers[i, VSYNC_DEADLINE]:
                        registers[i, VSYNC_DEADLINE] = FOREVER
                        ended = True
                        budget = 0
            elif address & 0x1000 == 0:
                riot.write(registers, i, address, value, cycles)
            elif not 0 <= (address & 0xFFF) - plain_from < plain_size:
                cartridge.access(constants, image, graphics, registers, ram, i, address, value)
                bank = np.int64(registers[i, BANK])

    registers[i, A], registers[i, X], registers[i, Y] = a, x, y
    registers[i, SP], registers[i, PC] = sp, pc
    registers[i, FLAG_N], registers[i, FLAG_Z] = n_of >> 7 & 1, z_of == 0
    registers[i, FLAG_C], registers[i, FLAG_V] = carry, overflow
    registers[i, FLAG_D], registers[i, FLAG_I] = decimal, interrupt
    registers[i, CYCLES] = cycles
    registers[i, LOGGED] = logged
    registers[i, TOUCHED] = touched
    return ended
