"""The video chip, the RIOT and all colours against ale-py, by cartridges of our own.

Games write what makes their picture, at moments that suit it. These programs write anything at any
time, so that moments are compared which no game in a test of a few seconds meets.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from atari2600 import AtariVectorEnv, games, tia
from atari2600.state import LINES
from tests.atari2600.cartridges import (
    GAME,
    ORIGIN,
    SIZE,
    START,
    VSYNC,
    inserted,
    jump,
    rom_of,
    set_ram,
)

pytestmark = pytest.mark.usefixtures("interpreted")

# of the video chip all but VSYNC and VBLANK (and RSYNC, which no game uses)
VIDEO = [*range(0x04, 0x15), *range(0x1B, 0x2D)]
PLAIN = [0, 1, 2, 4, 8, 0x10, 0x20, 0x30, 0x80, 0xF0, 0xFF]  # values that programs like
READABLE = [*range(0x30, 0x3E)]  # eight collision latches, six inputs
TIMERS = [0x294, 0x295, 0x296, 0x297, 0x29C, 0x29D, 0x29E, 0x29F]
RIOT = range(0x280, 0x288)  # ports, their directions, the timer and its interrupt flag
ROOM = SIZE - 60  # for code before its last jump
Part = Callable[[np.random.Generator], list[int]]


def somewhere(random: np.random.Generator) -> int:
    return 0x80 + int(random.integers(0x70))


def to_the_video_chip(random: np.random.Generator) -> list[int]:
    value = random.choice(PLAIN) if random.random() < 0.3 else random.integers(256)
    return [0xA9, int(value), 0x85, int(random.choice(VIDEO))]  # LDA #, STA


def show_the_playfield_alone(random: np.random.Generator) -> list[int]:
    """With all that its colours depend on: CTRLPF, and that no other object is there."""
    nothing = [0x1B, 0x1C, 0x1B, 0x1D, 0x1E, 0x1F]  # GRP0 twice, for the delayed ones
    code = [0xA9, 0, *(byte for register in nothing for byte in (0x85, register))]
    for register, most in ((0x0A, 8), (0x0D, 256), (0x0E, 256), (0x0F, 256)):
        code += [0xA9, int(random.integers(most)), 0x85, register]
    return [*code, 0x85, 0x02]  # STA WSYNC


def wait_for_the_line(_: np.random.Generator) -> list[int]:
    return [0x85, 0x02]  # STA WSYNC


def pause(random: np.random.Generator) -> list[int]:
    """2 to 13 cycles."""
    return [0xEA] * int(random.integers(1, 6)) + [0x24, 0x80] * int(random.integers(2))  # NOP, BIT


def place_soon_after_motion(random: np.random.Generator) -> list[int]:
    """HMOVE as a line begins, and one of the five RESxx 0 to 21 cycles later."""
    delay = [0xEA] * int(random.integers(10)) + [0x24, 0x80] * int(random.integers(2))  # NOP, BIT
    return [0x85, 0x02, 0x85, 0x2A, *delay, 0x85, int(random.choice(range(0x10, 0x15)))]


def read_the_video_chip(random: np.random.Generator) -> list[int]:
    return [0xA5, int(random.choice(READABLE)), 0x85, somewhere(random)]  # LDA, STA


def charge_paddles(random: np.random.Generator) -> list[int]:
    """Or discharge them, or latch the buttons; the picture blank or not."""
    return [0xA9, int(random.choice([0, 2, 0x40, 0x80, 0xC0])), 0x85, 0x01]  # LDA #, STA VBLANK


def set_the_timer(random: np.random.Generator) -> list[int]:
    timer = int(random.choice(TIMERS))
    return [0xA9, int(random.integers(256)), 0x8D, timer & 0xFF, timer >> 8]  # LDA #, STA


def read_the_riot(random: np.random.Generator) -> list[int]:
    address = int(random.choice(RIOT))
    return [0xAD, address & 0xFF, address >> 8, 0x85, somewhere(random)]  # LDA, STA


def write_a_port(random: np.random.Generator) -> list[int]:
    address = 0x280 + int(random.integers(4))
    return [0xA9, int(random.integers(256)), 0x8D, address & 0xFF, address >> 8]  # LDA #, STA


def count_down(random: np.random.Generator) -> list[int]:
    """Up to 1,300 cycles."""
    return [0xA2, int(random.integers(1, 256)), 0xCA, 0xD0, 0xFD]  # LDX #, DEX, BNE


PICTURES: dict[Part, float] = {
    to_the_video_chip: 0.6,
    wait_for_the_line: 0.05,
    show_the_playfield_alone: 0.01,
    place_soon_after_motion: 0.04,
    pause: 0.15,
    read_the_video_chip: 0.13,
    charge_paddles: 0.02,
}
TIMES: dict[Part, float] = {
    set_the_timer: 0.15,
    read_the_riot: 0.4,
    write_a_port: 0.15,
    pause: 0.2,
    count_down: 0.01,  # more, and a frame has so many lines that ale-py takes it for PAL
    wait_for_the_line: 0.04,
}


def program(seed: int, kinds: dict[Part, float]) -> bytes:
    """A frame of writes and reads at random, for ever. What is read shows in RAM."""
    random = np.random.default_rng(seed)
    code = [*START, *set_ram(random.integers(256, size=128).tolist())]
    start = ORIGIN + len(code)
    code += [*VSYNC, 0xA2, int(random.integers(20, 60)), 0x85, 0x02, 0xCA, 0xD0, 0xFB]  # that many
    chances = np.array([*kinds.values()])  # lines, until the picture begins
    drawn = random.choice(np.array([*kinds]), SIZE, p=chances / chances.sum())
    for part in drawn:
        if len(code) > ROOM:
            break
        code += part(random)
    return rom_of([*code, *jump(start)])


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("kinds", [PICTURES, TIMES], ids=["pictures", "times"])
def test_whatever_a_program_writes(
    kinds: dict[Part, float], seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lockstep = inserted(program(seed, kinds), GAME, tmp_path, monkeypatch)
    for frame in range(6):
        assert lockstep.difference() is None, frame
        lockstep.step(frame % 3)


def striped(lines: int) -> bytes:
    """Each line has another colour than the one above; all 128 in turn."""
    start = ORIGIN + len(START)
    loops = [(0xFF, 0x08), (lines - 3 - 0xFF, 0x09)]  # of a frame's lines but the three of VSYNC
    code = [*START, *VSYNC, 0xA9, 0]
    for count, register in loops:
        # LDX #; WSYNC; STA the playfield's colour, and the background's; ADC #2; DEX; BNE
        code += [0xA2, count, 0x85, 0x02, 0x85, register, 0x85, 0x09, 0x69, 2, 0xCA, 0xD0, 0xF5]
    return rom_of([*code, *jump(start)])


@pytest.mark.parametrize(
    ("game", "lines"),
    [("assault", 262), ("keystone_kapers", 312), ("keystone_kapers", 313)],
    ids=["NTSC", "PAL", "odd"],
)
def test_all_colours_are_the_same(
    game: str, lines: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Codes of colours are compared elsewhere; here what they look like, and how grey they are.

    PAL loses its colours after a frame of an odd number of lines: then codes are odd.
    """
    lockstep = inserted(striped(lines), game, tmp_path, monkeypatch)
    found = lockstep.env.game
    shown = set[int]()
    for _ in range(4):
        lockstep.step(0)
        screen = lockstep.ale.getScreen()
        shown |= set(screen.ravel().tolist())
        assert lockstep.difference() is None
        coloured = games.recoloured(screen, games.palette(found))
        np.testing.assert_array_equal(coloured, lockstep.ale.getScreenRGB())
        grey = games.recoloured(screen, games.greys(found))
        np.testing.assert_array_equal(grey, lockstep.ale.getScreenGrayscale())
    assert shown >= set(range(lines % 2, 256, 2))


def counting_in_cartridge_ram() -> bytes:
    """8 KiB with RAM. A counter there goes up in each frame; each fourth frame is a short one."""
    start = ORIGIN + 0x100 + len(START)
    code = [*START, *VSYNC, 0xAD, 0x80, 0xF0, 0x18, 0x69, 1, 0x8D, 0x00, 0xF0, 0x85, 0x80]
    # LDA $F080, CLC, ADC #1, STA $F000; STA $80 to show it. AND #3; 200 lines; BEQ over 59 more
    code += [0x29, 3, 0xA8, 0xA2, 200, 0x85, 0x02, 0xCA, 0xD0, 0xFB, 0x98, 0xF0, 0x07]
    code += [0xA2, 59, 0x85, 0x02, 0xCA, 0xD0, 0xFB]
    bank = [*bytes(0x100), *code, *jump(start)]
    bank += [0xEA] * (0xFF0 - len(bank))  # NOPs; not the addresses that switch banks
    vectors = [*bytes(0xC), *[0x00, 0xF1] * 2]
    return bytes([*bank, *vectors, *bank, 1, *vectors[1:]])


def test_a_step_that_is_done_again_has_the_cartridges_ram_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a frame turns out short, all of an agent step is played again, and drawn."""
    lockstep = inserted(counting_in_cartridge_ram(), "elevator_action", tmp_path, monkeypatch)
    env = AtariVectorEnv("elevator_action", 1, num_threads=1, noop_max=0, use_fire_reset=False)
    assert lockstep.difference() is None
    env.reset(seed=0)
    lines = set()
    for _ in range(20):
        for _ in range(4):
            lockstep.step(0)
            lines.add(int(lockstep.env.machines.registers[0, LINES]))
            assert lockstep.difference() is None
        env.step(np.zeros(1, int))
        np.testing.assert_array_equal(env.machines.ram[0, :128], lockstep.ale.getRAM()[:128])
    assert len(lines) == 2


def asking_the_dpc_chip(seed: int) -> bytes:
    """10 KiB: two banks of a program that sets up fetchers and reads them, and graphics.

    No fetcher makes music, which is not emulated: what that reads as depends on the time.
    """
    random = np.random.default_rng(seed)
    start = ORIGIN + 0x80 + len(START)
    code = [*START, *VSYNC]
    while len(code) < 0xD00:
        if random.random() < 0.4:
            # LDA #; STA $F040 and on: top, bottom, the counter's bytes, the random number
            register = int(random.choice([0, 0, 1, 1, 2, 3, 3, 6])) << 3 | int(random.integers(8))
            code += [0xA9, int(random.integers(256)) & 0xEF, 0x8D, 0x40 | register, 0xF0]
        else:  # LDA $F000 and on, but for music; STA
            read = int(random.choice([0, 1, 1, 2, 2, 7]))
            fetcher = int(random.integers(4 if read == 0 else 8))
            code += [0xAD, read << 3 | fetcher, 0xF0, 0x85, somewhere(random)]
    bank = [*bytes(0x80), *code, *jump(start)]
    bank += [0xEA] * (0xFC0 - len(bank))
    vectors = [*bytes(0x3C), *[0x80, 0xF0] * 2]
    graphics = random.integers(256, size=2048 + 255).tolist()
    return bytes([*bank, *vectors, *bank, *vectors, *graphics])


@pytest.mark.parametrize("seed", range(10))
def test_whatever_a_program_asks_the_dpc_chip(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lockstep = inserted(asking_the_dpc_chip(seed), "pitfall2", tmp_path, monkeypatch)
    for frame in range(8):
        assert lockstep.difference() is None, frame
        lockstep.step(0)
    assert len({*lockstep.ale.getRAM().tolist()}) > 20


def test_quotients_by_multiplication() -> None:
    line, pixels = range(tia.LINE_CLOCKS), range(tia.PIXELS + 1)
    assert [tia.cycle_of(position) for position in line] == [position // 3 for position in line]
    clocks = [0, 227, 228, 91_199, 91_200, 335_615, 10**9]  # a frame may be long
    assert [tia.position_of(each) for each in clocks] == [each % 228 for each in clocks]
    assert [tia.quarter_of(x) for x in pixels] == [x // tia.QUARTER_PIXELS for x in pixels]
