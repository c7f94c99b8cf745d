"""TIA: the video chip. It plays the processor's score of register writes, late and in one go.

The processor appends (cycle, register, value) to a log. `replay` plays it when a collision latch is
read, when the log is full, and at the end of a frame: it draws (or only checks for collisions) from
one state change to the next. A line's 160 pixels are four quarters of 40 bits for each of the six
objects, pixel 0 in the lowest bit, because a playfield cell is 4 pixels and 40 divides 160; the
masks of objects are recomputed only when a register changed them. A slice of a line then takes a
few ANDs to find collisions, and a table look-up for each 8 pixels to draw.

Two things are as in the emulator core that ALE builds on, and not as in the console: the delays of
writes, and that a slice which ends exactly with its line leaves the line's completion to the next
catch-up.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from atari2600.state import (
    BUFFER,
    COLLISIONS,
    COLUBK,
    COLUP0,
    COLUP1,
    COLUPF,
    CTRLPF,
    ENABL,
    ENAM0,
    END_CLOCK,
    FIRST_CLOCK,
    FRAME_START,
    GRP0,
    GRP1,
    HEIGHT,
    HMBL,
    HMM0,
    HMOVE_BLANK,
    HMOVE_BLANKS,
    HMP0,
    LAST_CLOCK,
    LAST_HMOVE,
    LINE_POSITION,
    LINES,
    NUSIZ0,
    OLD_ENABL,
    OLD_GRP0,
    OLD_GRP1,
    PAL,
    PF,
    POS_BL,
    POS_M0,
    POS_P0,
    REFLECTED,
    REFP0,
    RESMP0,
    ROW,
    ROW_WORDS,
    STAR,
    STAR_COUNTER,
    STAR_SHAPE,
    SUPPRESS0,
    SUPPRESS1,
    VBLANK,
    VDELBL,
    VDELP0,
    VDELP1,
    WIDTH,
)

Array = NDArray[Any]

LINE_CLOCKS, BLANK_CLOCKS = 228, 68
LINE_CYCLES = LINE_CLOCKS // 3  # of the processor
PIXELS = WIDTH  # of a line
QUARTER_PIXELS = 40  # of a mask's quarter
QUARTER = (1 << QUARTER_PIXELS) - 1

# Memory of one worker (uint64), for the frame of one machine: masks of the objects, then the log
P0, M0, P1, M1, BL, PLAYFIELD = range(0, 24, 4)  # 4 words each
POSSIBLE_HERE = 24  # latches that the objects would set if their whole line were drawn
PRESENT_HERE, DIRTY_HERE = 25, 26  # objects that are there; those whose masks are out of date
LOG = 27
LOG_SIZE = 2048
MEMORY = LOG + LOG_SIZE

# Objects as bits
BIT_P0, BIT_M0, BIT_P1, BIT_M1, BIT_BL, BIT_PF = 1, 2, 4, 8, 16, 32
ALL_DIRTY = 63
MOVED = np.array([BIT_P0, BIT_P1, BIT_M0, BIT_M1, BIT_BL], np.int64)  # in the order of POS_P0

# Pairs in the order of the latches' registers: $00 M0-P1 M0-P0, $01 M1-P0 M1-P1, ...
PAIRS = [
    (BIT_M0, BIT_P1),
    (BIT_M0, BIT_P0),
    (BIT_M1, BIT_P0),
    (BIT_M1, BIT_P1),
    (BIT_P0, BIT_PF),
    (BIT_P0, BIT_BL),
    (BIT_P1, BIT_PF),
    (BIT_P1, BIT_BL),
    (BIT_M0, BIT_PF),
    (BIT_M0, BIT_BL),
    (BIT_M1, BIT_PF),
    (BIT_M1, BIT_BL),
    (BIT_BL, BIT_PF),
    (BIT_P0, BIT_P1),
    (BIT_M0, BIT_M1),
]


def _possible_pairs() -> Array:
    """[64] the latches that a set of present objects can set."""
    return np.array(
        [
            sum(1 << k for k, (a, b) in enumerate(PAIRS) if objects & a and objects & b)
            for objects in range(64)
        ],
        np.int64,
    )


def _stretched(width: int) -> list[int]:
    """Player graphics -> pixels, leftmost (bit 7) lowest, each bit `width` pixels wide."""
    cell = (1 << width) - 1
    return [
        sum(cell << (width * k) for k in range(8) if graphics >> (7 - k) & 1)
        for graphics in range(256)
    ]


def _motion() -> Array:
    """[76 cycles of the line, 16 nibbles] pixels that HMOVE moves an object to the right."""
    at_start = [-6, -5, -5, -4, -3, -2, -2, -1, 0, 1, 1, 2, 3, 4, 4, 5, 6]  # cycles 4 to 20
    at_end = [6, 5, 4, 4, 3, 2, 1, 1, 0, -1, -2, -2, -3, -4, -5, -5, -6, -7, -8, -8]  # 55 to 74
    table = np.zeros((76, 16), np.int64)
    nominal = np.array([-v if v < 8 else 16 - v for v in range(16)])
    table[:4] = table[75] = nominal
    for cycle, bound in enumerate(at_start, 4):
        table[cycle] = np.maximum(nominal, bound)
    for cycle, extra in enumerate(at_end, 55):
        table[cycle] = np.minimum(0, nominal + extra)
    return table


POSSIBLE = _possible_pairs()
PLAYER_BITS = np.array([_stretched(1), _stretched(2), _stretched(4)], np.uint64)
PLAYER_SIZE = np.array([0, 0, 0, 0, 0, 1, 0, 2], np.int64)  # by NUSIZ & 7: row of PLAYER_BITS
COPIES = np.array([1, 3, 5, 7, 17, 1, 21, 1], np.int64)  # bit k: a copy at 16 k
REVERSED = np.array([int(f"{value:08b}"[::-1], 2) for value in range(256)], np.int64)
# 10 playfield cells -> 40 pixels, as they are and mirrored
CELLS = np.array(
    [sum(15 << (4 * k) for k in range(10) if cells >> k & 1) for cells in range(1024)], np.uint64
)
MIRRORED = CELLS[[int(f"{cells:010b}"[::-1], 2) for cells in range(1024)]]
# 8 pixels as bits -> as bytes
BYTES = np.array(
    [sum(255 << (8 * k) for k in range(8) if bits >> k & 1) for bits in range(256)], np.uint64
)
EVERY_BYTE = np.uint64(0x0101010101010101)
MOTION = _motion()
PF_DELAY = np.array([4, 5, 2, 3], np.int64)  # by (line position div 3) mod 4
STAR_MOTION = np.array([18, 33, 0, 17], np.int64)
# By register: clocks from a write to its effect
DELAY = np.zeros(64, np.int64)
DELAY[[0x01, 0x0B, 0x0C, 0x1B, 0x1C]] = 1  # VBLANK, REFPx, GRPx
DELAY[[0x04, 0x05, 0x12, 0x13]] = 8  # NUSIZx, RESMx


@numba.njit(_nrt=False, forceinline=True)
def quarter_of(x):  # type: ignore[no-untyped-def]
    """x // QUARTER_PIXELS for 0 <= x <= 160, without a division."""
    return (x * 205) >> 13


@numba.njit(_nrt=False, forceinline=True)
def position_of(clocks):  # type: ignore[no-untyped-def]
    """clocks % LINE_CLOCKS, of those since a frame began: unsigned, LLVM needs no division."""
    return np.int64(np.uint64(clocks) % np.uint64(LINE_CLOCKS))


@numba.njit(_nrt=False, forceinline=True)
def cycle_of(position):  # type: ignore[no-untyped-def]
    """position // 3 for a position in a line, without a division."""
    return (position * 171) >> 9


@numba.njit(_nrt=False, forceinline=True)
def place(memory, at, bits, position):  # type: ignore[no-untyped-def]
    """Add up to 32 pixels to an object's mask, from `position` on, which is below 2 * PIXELS: they
    wrap round."""
    if position >= PIXELS:
        position -= PIXELS
    quarter = quarter_of(position)
    shift = np.uint64(position - quarter * QUARTER_PIXELS)
    memory[at + quarter] |= (bits << shift) & np.uint64(QUARTER)
    memory[at + ((quarter + 1) & 3)] |= bits >> (np.uint64(QUARTER_PIXELS) - shift)


@numba.njit(_nrt=False, forceinline=True)
def place_copies(memory, at, bits, position, copies):  # type: ignore[no-untyped-def]
    """Add an object's copies to its mask: for bit k of `copies` one 16 k pixels on."""
    while copies:
        if copies & 1:
            place(memory, at, bits, position)
        copies >>= 1
        position += 16


@numba.njit(_nrt=False, forceinline=True)
def clear(memory, at):  # type: ignore[no-untyped-def]
    """An object without pixels."""
    for k in range(at, at + 4):
        memory[k] = np.uint64(0)


@numba.njit(_nrt=False, forceinline=True)
def mask_player(registers, memory, i, k):  # type: ignore[no-untyped-def]
    """Pixels of player k; returns its bit if its shown graphics are not zero."""
    at = P1 if k else P0
    clear(memory, at)
    graphics = np.int64(registers[i, (OLD_GRP0 if registers[i, VDELP0 + k] else GRP0) + k])
    if graphics == 0:
        return np.int64(0)
    if registers[i, REFP0 + k]:
        graphics = REVERSED[graphics]
    mode = np.int64(registers[i, NUSIZ0 + k]) & 7
    size = PLAYER_SIZE[mode]
    bits = PLAYER_BITS[size, graphics]
    position = np.int64(registers[i, POS_P0 + k]) + (1 if size else 0)
    copies = COPIES[mode]
    if registers[i, SUPPRESS0 + k]:
        copies &= ~1
    place_copies(memory, at, bits, position, copies)
    return np.int64(BIT_P1 if k else BIT_P0)


@numba.njit(_nrt=False, forceinline=True)
def mask_missile(registers, memory, i, k):  # type: ignore[no-untyped-def]
    """Pixels of missile k; returns its bit if it is enabled."""
    at = M1 if k else M0
    clear(memory, at)
    if registers[i, ENAM0 + k] == 0 or registers[i, RESMP0 + k]:
        return np.int64(0)
    nusiz = np.int64(registers[i, NUSIZ0 + k])
    size = (nusiz >> 4) & 3
    if k == 0 and registers[i, STAR_SHAPE]:
        if registers[i, STAR_SHAPE] == 2:
            return np.int64(BIT_M0)
        size |= 1
    bits = np.uint64((1 << (1 << size)) - 1)
    position = np.int64(registers[i, POS_M0 + k])
    copies = COPIES[nusiz & 7]
    place_copies(memory, at, bits, position, copies)
    return np.int64(BIT_M1 if k else BIT_M0)


@numba.njit(_nrt=False, forceinline=True)
def mask_ball(registers, memory, i):  # type: ignore[no-untyped-def]
    """Pixels of the ball; returns its bit if it is enabled."""
    clear(memory, BL)
    if registers[i, OLD_ENABL if registers[i, VDELBL] else ENABL] == 0:
        return np.int64(0)
    size = (np.int64(registers[i, CTRLPF]) >> 4) & 3
    place(memory, BL, np.uint64((1 << (1 << size)) - 1), np.int64(registers[i, POS_BL]))
    return np.int64(BIT_BL)


@numba.njit(_nrt=False, forceinline=True)
def mask_playfield(registers, memory, i):  # type: ignore[no-untyped-def]
    """Pixels of the playfield; returns its bit if there are any."""
    cells = np.int64(registers[i, PF])
    left, right = cells & 1023, cells >> 10
    memory[PLAYFIELD], memory[PLAYFIELD + 1] = CELLS[left], CELLS[right]
    if registers[i, REFLECTED]:
        memory[PLAYFIELD + 2], memory[PLAYFIELD + 3] = MIRRORED[right], MIRRORED[left]
    else:
        memory[PLAYFIELD + 2], memory[PLAYFIELD + 3] = CELLS[left], CELLS[right]
    return np.int64(BIT_PF if cells else 0)


@numba.njit(_nrt=False, forceinline=True)
def update_masks(registers, memory, i, present, dirty):  # type: ignore[no-untyped-def]
    """Recompute the masks of the objects in `dirty`; returns the objects that are present."""
    present &= ~dirty
    if dirty & BIT_P0:
        present |= mask_player(registers, memory, i, 0)
    if dirty & BIT_P1:
        present |= mask_player(registers, memory, i, 1)
    if dirty & BIT_M0:
        present |= mask_missile(registers, memory, i, 0)
    if dirty & BIT_M1:
        present |= mask_missile(registers, memory, i, 1)
    if dirty & BIT_BL:
        present |= mask_ball(registers, memory, i)
    if dirty & BIT_PF:
        present |= mask_playfield(registers, memory, i)
    return present


@numba.njit(_nrt=False, forceinline=True)
def bits_between(first, last):  # type: ignore[no-untyped-def]
    """The pixels first <= k < last of a quarter."""
    return ((np.uint64(1) << np.uint64(last)) - np.uint64(1)) & ~(
        (np.uint64(1) << np.uint64(first)) - np.uint64(1)
    )


@numba.njit(_nrt=False, forceinline=True)
def collide(memory, first, last):  # type: ignore[no-untyped-def]
    """The latches that the pixels first <= x < last of a line set."""
    latches = np.int64(0)
    for quarter in range(quarter_of(first), quarter_of(last - 1) + 1):
        start = quarter * QUARTER_PIXELS
        seen = bits_between(max(first - start, 0), min(last - start, QUARTER_PIXELS))
        p0 = memory[P0 + quarter] & seen
        m0 = memory[M0 + quarter] & seen
        p1 = memory[P1 + quarter] & seen
        m1 = memory[M1 + quarter] & seen
        bl = memory[BL + quarter] & seen
        pf = memory[PLAYFIELD + quarter] & seen
        # pixels of two objects or more: mostly there are none
        sprites = p0 | m0 | p1 | m1 | bl
        shared = (
            (sprites & pf) | (p0 & (m0 | p1 | m1 | bl)) | (m0 & (p1 | m1 | bl)) | (p1 & (m1 | bl))
            | (m1 & bl)
        )  # fmt: skip
        if shared == 0:
            continue
        latches |= (
            ((m0 & p1) != 0)
            | (((m0 & p0) != 0) << 1)
            | (((m1 & p0) != 0) << 2)
            | (((m1 & p1) != 0) << 3)
            | (((p0 & pf) != 0) << 4)
            | (((p0 & bl) != 0) << 5)
            | (((p1 & pf) != 0) << 6)
            | (((p1 & bl) != 0) << 7)
            | (((m0 & pf) != 0) << 8)
            | (((m0 & bl) != 0) << 9)
            | (((m1 & pf) != 0) << 10)
            | (((m1 & bl) != 0) << 11)
            | (((bl & pf) != 0) << 12)
            | (((p0 & p1) != 0) << 13)
            | (((m0 & m1) != 0) << 14)
        )
    return latches


@numba.njit(_nrt=False, forceinline=True)
def draw(registers, memory, words, i, buffer, row, first, last, present):  # type: ignore[no-untyped-def]
    """Colours of the pixels first <= x < last of a row of the screen."""
    control = np.int64(registers[i, CTRLPF])
    score = control & 2 != 0
    priority = control & 4 != 0
    if priority and score:
        score = present == BIT_PF  # priority disables score but where nothing else is enabled
        priority = not score
    background = np.uint64(registers[i, COLUBK]) * EVERY_BYTE
    color0 = (np.uint64(registers[i, COLUP0]) * EVERY_BYTE) ^ background
    color1 = (np.uint64(registers[i, COLUP1]) * EVERY_BYTE) ^ background
    color_ball = (np.uint64(registers[i, COLUPF]) * EVERY_BYTE) ^ background
    for quarter in range(quarter_of(first), quarter_of(last - 1) + 1):
        start = quarter * QUARTER_PIXELS
        at = row * ROW_WORDS + quarter * 5
        of0 = memory[P0 + quarter] | memory[M0 + quarter]
        of1 = memory[P1 + quarter] | memory[M1 + quarter]
        ball = memory[BL + quarter]
        field = memory[PLAYFIELD + quarter]
        whole = first <= start and last >= start + QUARTER_PIXELS
        if whole and (of0 | of1 | ball | field) == 0:
            for group in range(5):
                words[i, buffer, at + group] = background
            continue
        color_field = color_ball
        # make the four layers disjoint, the topmost first
        if priority:
            field |= ball
            ball = np.uint64(0)
            of0 &= ~field
            of1 &= ~(field | of0)
        else:
            of1 &= ~of0
            if score:
                color_field = color0 if quarter < 2 else color1
                if quarter < 2:
                    of1 &= ~field
            else:
                field |= ball
                ball = np.uint64(0)
            field &= ~(of0 | of1)
            ball &= ~(field | of0 | of1)
        pixels = background, background, background, background, background
        if field:
            pixels = tint(pixels, field, color_field)
        if ball:
            pixels = tint(pixels, ball, color_ball)
        if of0:
            pixels = tint(pixels, of0, color0)
        if of1:
            pixels = tint(pixels, of1, color1)
        if whole:
            a, b, c, d, e = pixels
            words[i, buffer, at], words[i, buffer, at + 1] = a, b
            words[i, buffer, at + 2], words[i, buffer, at + 3] = c, d
            words[i, buffer, at + 4] = e
            continue
        seen = bits_between(max(first - start, 0), min(last - start, QUARTER_PIXELS))
        for group in range(5):
            here = seen & np.uint64(255)
            if here:
                inside = BYTES[here]
                words[i, buffer, at + group] = (pixels[group] & inside) | (
                    words[i, buffer, at + group] & ~inside
                )
            seen >>= np.uint64(8)


@numba.njit(_nrt=False, forceinline=True)
def tint(pixels, bits, color):  # type: ignore[no-untyped-def]
    """A quarter's pixels, 8 to a number, with `color` in place of the background where bits are."""
    byte = np.uint64(255)
    a, b, c, d, e = pixels
    return (
        a ^ (BYTES[bits & byte] & color),
        b ^ (BYTES[(bits >> np.uint64(8)) & byte] & color),
        c ^ (BYTES[(bits >> np.uint64(16)) & byte] & color),
        d ^ (BYTES[(bits >> np.uint64(24)) & byte] & color),
        e ^ (BYTES[bits >> np.uint64(32)] & color),
    )


@numba.njit(_nrt=False, forceinline=True)
def black(words, i, buffer, row, first, last):  # type: ignore[no-untyped-def]
    """Colour 0 for the pixels first <= x < last of a row."""
    for group in range(first >> 3, ((last - 1) >> 3) + 1):
        inside = BYTES[bits_between(max(first - 8 * group, 0), min(last - 8 * group, 8))]
        words[i, buffer, row * ROW_WORDS + group] &= ~inside


@numba.njit(_nrt=False, forceinline=True)
def end_suppression(registers, i):  # type: ignore[no-untyped-def]
    """The players' first copies are shown again; returns those that were not."""
    players = np.int64(0)
    if registers[i, SUPPRESS0]:
        registers[i, SUPPRESS0] = 0
        players |= BIT_P0
    if registers[i, SUPPRESS1]:
        registers[i, SUPPRESS1] = 0
        players |= BIT_P1
    return players


@numba.njit(_nrt=False, forceinline=True)
def end_line(registers, i):  # type: ignore[no-untyped-def]
    """What takes effect when a visible line is complete; returns the objects it changed."""
    dirty = np.int64(0)
    if registers[i, REFLECTED] != registers[i, CTRLPF] & 1:
        registers[i, REFLECTED] = registers[i, CTRLPF] & 1
        dirty |= BIT_PF
    dirty |= end_suppression(registers, i)
    if registers[i, STAR]:
        counter = (registers[i, STAR_COUNTER] + 1) & 3
        registers[i, STAR_COUNTER] = counter
        registers[i, POS_M0] = (registers[i, POS_M0] - STAR_MOTION[counter]) % PIXELS
        registers[i, STAR_SHAPE] = 1 if counter == 1 else 2 if counter == 2 else 0
        dirty |= BIT_M0
    return dirty


@numba.njit(_nrt=False, forceinline=True)
def catch_up(  # type: ignore[no-untyped-def]
    constants, registers, words, memory, i, beam, target, present, dirty, drawing
):
    """Bring the picture to the clock `target`, which is not beyond the last; returns (beam,
    present, dirty). beam: where the picture is, (clock, position in the line, row)."""
    clock, position, row = beam
    buffer = np.int64(registers[i, BUFFER])
    repeats = False  # this row, if it is shown whole, looks as the one above
    while clock < target:
        start = position
        complete = target > clock + (LINE_CLOCKS - position)
        stop = LINE_CLOCKS if complete else position + (target - clock)
        clock += stop - start
        first, last = max(start - BLANK_CLOCKS, 0), stop - BLANK_CLOCKS
        visible = drawing and row < constants[HEIGHT]
        if first < last:
            if registers[i, VBLANK] & 2:
                if visible:
                    black(words, i, buffer, row, first, last)
            else:
                if dirty:
                    present = update_masks(registers, memory, i, present, dirty)
                    dirty = np.int64(0)
                    possible = POSSIBLE[present]
                    if possible & ~registers[i, COLLISIONS]:
                        possible = collide(memory, 0, PIXELS)
                    memory[POSSIBLE_HERE] = np.uint64(possible)
                if np.int64(memory[POSSIBLE_HERE]) & ~registers[i, COLLISIONS]:
                    registers[i, COLLISIONS] |= collide(memory, first, last)
                if visible and repeats and complete:
                    for k in range(row * ROW_WORDS, (row + 1) * ROW_WORDS):
                        words[i, buffer, k] = words[i, buffer, k - ROW_WORDS]
                elif visible:
                    draw(registers, memory, words, i, buffer, row, first, last, present)
        blanked = registers[i, HMOVE_BLANK] != 0
        if blanked:
            shown = min(max(start, BLANK_CLOCKS), stop)
            if shown < 76:  # not so for the empty slice that only completes the line before
                if visible:
                    # 76 - shown pixels, even where the slice is shorter and the next draws over it
                    x = max(shown - BLANK_CLOCKS, 0)
                    black(words, i, buffer, row, x, x + 76 - shown)
                if stop >= 76:
                    registers[i, HMOVE_BLANK] = 0
        position = stop
        if complete:
            position = 0
            row += 1
            dirty |= end_line(registers, i)
            repeats = first == 0 and dirty == 0 and not blanked
    return (clock, position, row), present, dirty


@numba.njit(_nrt=False)
def begin(memory):  # type: ignore[no-untyped-def]
    """Before a machine's frame, or its rest: the masks in `memory` are another's."""
    memory[PRESENT_HERE], memory[DIRTY_HERE] = np.uint64(0), np.uint64(ALL_DIRTY)


@numba.njit(_nrt=False)
def replay(constants, registers, words, memory, i, logged, until, drawing):  # type: ignore[no-untyped-def]
    """Replay `logged` writes of the log, then catch up to the clock `until`; see `begin`."""
    present, dirty = np.int64(memory[PRESENT_HERE]), np.int64(memory[DIRTY_HERE])
    frame_start = np.int64(registers[i, FRAME_START])
    register, value, clock, position = np.int64(0), np.int64(0), np.int64(0), np.int64(0)
    first_clock, end_clock = np.int64(registers[i, FIRST_CLOCK]), np.int64(registers[i, END_CLOCK])
    line_position, row = np.int64(registers[i, LINE_POSITION]), np.int64(registers[i, ROW])
    beam = np.int64(registers[i, LAST_CLOCK]), line_position, row
    k = LOG
    while k <= LOG + logged:
        target = until
        if k < LOG + logged:
            entry = np.int64(memory[k])
            value = entry & 0xFF
            register = (entry >> 8) & 0x3F
            clock = 3 * (entry >> 16)
            if unchanged(registers, i, register, value):
                k += 1
                continue
            position = position_of(clock - frame_start)
            target = clock + DELAY[register]
            if 0x0D <= register <= 0x0F:
                target = clock + PF_DELAY[cycle_of(position) & 3]
            elif register == 0x10 or register == 0x11:
                if reset_case(registers, i, register - 0x10, position) == 2:
                    target = clock + 11  # the copy that is being displayed is finished first
            elif 0x20 <= register <= 0x24 or register == 0x2B:
                target = np.int64(0)  # HMOVE reads these; the picture does not
        if first_clock <= target and beam[0] < min(target, end_clock):
            target = min(target, end_clock)
            beam, present, dirty = catch_up(
                constants, registers, words, memory, i, beam, target, present, dirty, drawing
            )
        if k < LOG + logged:
            dirty |= write(constants, registers, i, register, value, clock, position)
        k += 1
    registers[i, LAST_CLOCK], registers[i, LINE_POSITION], registers[i, ROW] = beam
    memory[PRESENT_HERE], memory[DIRTY_HERE] = np.uint64(present), np.uint64(dirty)


@numba.njit(_nrt=False, forceinline=True)
def unchanged(registers, i, register, value):  # type: ignore[no-untyped-def]
    """Whether a write changes nothing at all; games repeat most of theirs."""
    if register == 0x1B:
        return registers[i, GRP0] == value and registers[i, OLD_GRP1] == registers[i, GRP1]
    if register == 0x1C:
        return (
            registers[i, GRP1] == value
            and registers[i, OLD_GRP0] == registers[i, GRP0]
            and registers[i, OLD_ENABL] == registers[i, ENABL]
        )
    if register == 0x0D:
        return (registers[i, PF] & 0xF) == value >> 4
    if register == 0x0E:
        return (registers[i, PF] >> 4) & 0xFF == REVERSED[value]
    if register == 0x0F:
        return (registers[i, PF] >> 12) & 0xFF == value
    if 0x06 <= register <= 0x09:
        return registers[i, COLUP0 + register - 0x06] >> 1 == value >> 1
    if 0x1D <= register <= 0x1F:
        return registers[i, ENAM0 + register - 0x1D] == value & 2
    if register == 0x0A:
        return registers[i, CTRLPF] == value and registers[i, REFLECTED] == value & 1
    if register == 0x0B or register == 0x0C:
        return registers[i, REFP0 + register - 0x0B] == value & 8
    if register == 0x04 or register == 0x05:
        k = register - 0x04
        return (
            registers[i, NUSIZ0 + k] == value
            and registers[i, SUPPRESS0 + k] == 0
            and registers[i, STAR_SHAPE] == 0
        )
    return False


@numba.njit(_nrt=False, forceinline=True)
def player_width(nusiz):  # type: ignore[no-untyped-def]
    """Pixels of one copy."""
    return 8 << PLAYER_SIZE[nusiz & 7]


@numba.njit(_nrt=False, forceinline=True)
def where_reset(position):  # type: ignore[no-untyped-def]
    """Where RESPx puts a player."""
    if position < BLANK_CLOCKS:
        return 3
    return (position - BLANK_CLOCKS + 5) % PIXELS


@numba.njit(_nrt=False, forceinline=True)
def reset_case(registers, i, k, position):  # type: ignore[no-untyped-def]
    """What RESPx meets: 0 nothing, 1 a copy's start delay, 2 a copy being displayed."""
    nusiz = np.int64(registers[i, NUSIZ0 + k])
    q = (where_reset(position) - registers[i, POS_P0 + k]) % PIXELS
    width = player_width(nusiz)
    copies = COPIES[nusiz & 7]
    case = 0
    offset = 0
    while copies:
        if copies & 1:
            if offset + 4 <= q < offset + 4 + width:
                return 2
            if offset <= q < offset + 4:
                case = 1
        copies >>= 1
        offset += 16
    return case


@numba.njit(_nrt=False, forceinline=True)
def missile_reset(k, position, since_hmove):  # type: ignore[no-untyped-def]
    """Where RESMx puts a missile; two cases soon after HMOVE are hard-wired as in the oracle."""
    if k == 0 and since_hmove == 60 and position == 69:
        return 8
    if k == 1 and since_hmove == 9 and position == 18:
        return 3
    return 2 if position < BLANK_CLOCKS else (position - BLANK_CLOCKS + 4) % PIXELS


@numba.njit(_nrt=False, forceinline=True)
def ball_reset(position, since_hmove):  # type: ignore[no-untyped-def]
    """Where RESBL puts the ball; see `missile_reset`."""
    if since_hmove == 54 and (position == 60 or position == 69):
        return 10
    if since_hmove == 9 and position == 18:
        return 3
    if since_hmove == 21 and position == 30:
        return 6
    if since_hmove == 18 and position == 27:
        return 5
    return 2 if position < BLANK_CLOCKS else (position - BLANK_CLOCKS + 4) % PIXELS


@numba.njit(_nrt=False, forceinline=True)
def color_of(constants, registers, i, value):  # type: ignore[no-untyped-def]
    """Bit 0 is not stored; on PAL it says that the last frame had an odd number of lines."""
    value &= 0xFE
    if constants[PAL]:
        value |= registers[i, LINES] & 1
    return value


@numba.njit(_nrt=False, forceinline=True)
def lose_color(constants, registers, i):  # type: ignore[no-untyped-def]
    """PAL's colour loss, at the start of a frame."""
    for k in range(COLUP0, COLUBK + 1):
        registers[i, k] = color_of(constants, registers, i, registers[i, k])


@numba.njit(_nrt=False, forceinline=True)
def move_all(constants, registers, i, clock, position):  # type: ignore[no-untyped-def]
    """HMOVE: every object moves at once, as far as the time of the write lets it; returns those
    whose pixels may have changed."""
    cycle = cycle_of(position)
    if constants[HMOVE_BLANKS] and (cycle <= 20 or cycle == 75):
        registers[i, HMOVE_BLANK] = 1
    changed = np.int64(0)
    for k in range(5):
        motion = MOTION[cycle, registers[i, HMP0 + k]]
        if motion != 0:
            moved = registers[i, POS_P0 + k] + motion
            if moved < 0:
                moved += PIXELS
            elif moved >= PIXELS:
                moved -= PIXELS
            registers[i, POS_P0 + k] = moved
            changed |= MOVED[k]
    changed |= end_suppression(registers, i)
    if registers[i, STAR_SHAPE]:
        registers[i, STAR_SHAPE] = 0
        changed |= BIT_M0
    registers[i, STAR] = 0
    registers[i, LAST_HMOVE] = clock
    return changed


@numba.njit(_nrt=False, forceinline=True)
def write(constants, registers, i, register, value, clock, position):  # type: ignore[no-untyped-def]
    """Change the state; returns the objects whose pixels may have changed."""
    if register == 0x01:
        registers[i, VBLANK] = value
    elif register == 0x04 or register == 0x05:
        k = register - 0x04
        registers[i, NUSIZ0 + k] = value
        registers[i, SUPPRESS0 + k] = 0
        if k == 0:
            registers[i, STAR_SHAPE] = 0
        return BIT_P1 | BIT_M1 if k else BIT_P0 | BIT_M0
    elif 0x06 <= register <= 0x09:
        registers[i, COLUP0 + register - 0x06] = color_of(constants, registers, i, value)
    elif register == 0x0A:
        registers[i, CTRLPF] = value
        if position < BLANK_CLOCKS + 79:
            registers[i, REFLECTED] = value & 1
        return BIT_PF | BIT_BL
    elif register == 0x0B or register == 0x0C:
        k = register - 0x0B
        registers[i, REFP0 + k] = value & 8
        return BIT_P1 if k else BIT_P0
    elif register == 0x0D:
        registers[i, PF] = (registers[i, PF] & 0xFFFF0) | value >> 4
        return BIT_PF
    elif register == 0x0E:
        registers[i, PF] = (registers[i, PF] & 0xFF00F) | REVERSED[value] << 4
        return BIT_PF
    elif register == 0x0F:
        registers[i, PF] = (registers[i, PF] & 0x00FFF) | value << 12
        return BIT_PF
    elif register == 0x10 or register == 0x11:
        k = register - 0x10
        registers[i, SUPPRESS0 + k] = reset_case(registers, i, k, position) != 1
        registers[i, POS_P0 + k] = where_reset(position)
        return BIT_P1 if k else BIT_P0
    elif register == 0x12 or register == 0x13:
        k = register - 0x12
        registers[i, POS_M0 + k] = missile_reset(k, position, clock - registers[i, LAST_HMOVE])
        if k == 0:
            registers[i, STAR_SHAPE] = 0
        return BIT_M1 if k else BIT_M0
    elif register == 0x14:
        registers[i, POS_BL] = ball_reset(position, clock - registers[i, LAST_HMOVE])
        return BIT_BL
    elif register == 0x1B:
        registers[i, GRP0] = value
        registers[i, OLD_GRP1] = registers[i, GRP1]
        return BIT_P0 | (BIT_P1 if registers[i, VDELP1] else 0)
    elif register == 0x1C:
        registers[i, GRP1] = value
        registers[i, OLD_GRP0] = registers[i, GRP0]
        registers[i, OLD_ENABL] = registers[i, ENABL]
        return (
            BIT_P1
            | (BIT_P0 if registers[i, VDELP0] else 0)
            | (BIT_BL if registers[i, VDELBL] else 0)
        )
    elif register == 0x1D or register == 0x1E:
        k = register - 0x1D
        registers[i, ENAM0 + k] = value & 2
        return BIT_M1 if k else BIT_M0
    elif register == 0x1F:
        registers[i, ENABL] = value & 2
        return BIT_BL
    elif 0x20 <= register <= 0x24:
        write_motion(registers, i, register - 0x20, value >> 4, clock)
    elif 0x25 <= register <= 0x27:
        registers[i, VDELP0 + register - 0x25] = value & 1
        return BIT_P0 if register == 0x25 else BIT_P1 if register == 0x26 else BIT_BL
    elif register == 0x28 or register == 0x29:
        k = register - 0x28
        release_missile(registers, i, k, value)
        return BIT_M1 if k else BIT_M0
    elif register == 0x2A:
        return move_all(constants, registers, i, clock, position)
    elif register == 0x2B:
        for k in range(HMP0, HMBL + 1):
            registers[i, k] = 0
    elif register == 0x2C:
        registers[i, COLLISIONS] = 0
    return 0


@numba.njit(_nrt=False, forceinline=True)
def write_motion(registers, i, k, nibble, clock):  # type: ignore[no-untyped-def]
    """HMP0 to HMBL. A change of HMM0 at one moment after HMOVE starts the star effect."""
    order = HMP0 + k
    starts = nibble == 6 and registers[i, HMM0] == 7 and clock == registers[i, LAST_HMOVE] + 63
    if order == HMM0 and starts:
        registers[i, STAR] = 1
        registers[i, STAR_COUNTER] = 0
    registers[i, order] = nibble


@numba.njit(_nrt=False, forceinline=True)
def release_missile(registers, i, k, value):  # type: ignore[no-untyped-def]
    """RESMPx: a missile that is let go starts in the middle of its player."""
    if registers[i, RESMP0 + k] and not value & 2:
        size = PLAYER_SIZE[np.int64(registers[i, NUSIZ0 + k]) & 7]
        registers[i, POS_M0 + k] = (registers[i, POS_P0 + k] + (4 << size)) % PIXELS
        if k == 0:
            registers[i, STAR_SHAPE] = 0
    registers[i, RESMP0 + k] = value & 2


@numba.njit(_nrt=False, forceinline=True)
def latch(registers, i, register):  # type: ignore[no-untyped-def]
    """CXxx: bits 7 and 6 of one of the eight collision registers."""
    pair = registers[i, COLLISIONS] >> (2 * register)
    if register == 6:
        return (pair & 1) << 7
    if register == 7:
        pair = registers[i, COLLISIONS] >> 13
    return (pair & 1) << 7 | (pair & 2) << 5
