"""The interpreter by itself: without translated code, and without pointers in its machines."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

import atari2600
from atari2600 import AtariEnv, ale, console, state
from atari2600.ale import DRAWING, FIRE
from atari2600.backends import cpu, kept, translate
from atari2600.state import Machines

# what is one source for every target
SHARED = ["agent", "ale", "boot", "cartridge", "console", "hot", "m6507", "mersenne", "observe",
          "opcodes", "resize", "riot", "rules", "state", "tia"]  # fmt: skip
FRAMES = 40


@kept.compiled(cpu.sources())
def play_plainly(machines, options, scratch, frames):  # type: ignore[no-untyped-def]
    for _ in range(frames):
        ale.set_inputs(machines.registers, options, 0, FIRE)
        console.frame(machines, 0, scratch, DRAWING)


def test_without_translated_code_it_compiles_and_plays_the_same() -> None:
    env = AtariEnv("breakout", frameskip=1, repeat_action_probability=0.0)
    env.reset(seed=0)
    machines, plain = copy_of(env.machines), console.scratch_of(None)
    for _ in range(FRAMES):
        env.step(1)
    play_plainly(machines, env.layer.options, plain, FRAMES)
    np.testing.assert_array_equal(machines.ram, env.machines.ram)
    np.testing.assert_array_equal(machines.screens, env.machines.screens)


@pytest.mark.parametrize("name", SHARED)
def test_shared_code_knows_no_back_end(name: str) -> None:
    module = importlib.import_module(f"atari2600.{name}")
    source = Path(str(module.__file__)).read_text()
    assert "import llvmlite" not in source
    assert "atari2600.backends" not in source
    assert ".ctypes" not in source
    assert (Path(atari2600.__file__).parent / f"{name}.py").exists()


def copy_of(machines: Machines) -> Machines:
    """The same machines in other memory."""
    copied = state.allocate(
        machines.constants.copy(),
        machines.image.copy(),
        machines.graphics.copy(),
        len(machines.registers),
    )
    for name in ("registers", "ram", "screens"):
        getattr(copied, name)[...] = getattr(machines, name)
    return copied


def test_machines_hold_no_addresses() -> None:
    """A copy in other memory plays on, and does not touch what it was copied from."""
    env = AtariEnv("pong", frameskip=4, repeat_action_probability=0.0)
    env.reset(seed=1)
    assert env.scratch.console.code.address != 0  # it is translated code that runs
    original = env.machines
    copied = copy_of(original)
    before = [field.copy() for field in original]
    env.machines = copied
    for _ in range(20):
        env.step(2)
    for field, old in zip(original, before, strict=True):
        np.testing.assert_array_equal(field, old)
    env.machines = original
    for _ in range(20):
        env.step(2)
    for field, other in zip(original, copied, strict=True):
        np.testing.assert_array_equal(field, other)


def test_only_a_warm_up_counts() -> None:
    """Threads share translated code, so playing must not write it."""
    env = AtariEnv("pong")
    code = env.scratch.console.code
    assert code.heat.size == 0
    warm = translate.counting(env.machines.image)
    cpu.warm_up(env.layer, env.game, warm)
    assert (warm.heat > 0).any()
    starts = code.starts.copy()
    env.reset(seed=0)
    for _ in range(20):
        env.step(0)
    np.testing.assert_array_equal(code.starts, starts)
    assert starts.any()


def test_little_is_left_to_the_interpreter() -> None:
    """Code begins again behind what it often stops at, and does not stop at what a program pulls
    from no register at all: of Breakout's instructions 0.5 % are left, and were 14."""
    env = AtariEnv("breakout")
    all_of_them = translate.counting(env.machines.image)
    left = env.scratch.console.code._replace(heat=np.zeros_like(all_of_them.heat))
    for code in (all_of_them, left):
        cpu.warm_up(env.layer, env.game, code)
    assert left.heat.any()
    assert (left.heat >> 4).sum() < 0.01 * (all_of_them.heat >> 4).sum()
