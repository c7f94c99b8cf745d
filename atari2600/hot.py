"""Hot code: what a back end may run in place of the interpreter's loop.

`m6507.execute` calls these three with the `code` of a worker's scratch memory. What they do is
decided by its type when `execute` is compiled. With None they do nothing, and nothing of them is
left: that is the plain interpreter, for any target. A back end that translates programs gives them
a meaning for a type of its own, with `numba.extending.overload` (see backends/translate.py).
"""

from __future__ import annotations

from numba.core import types
from numba.extending import overload


def starts(code, at):  # type: ignore[no-untyped-def]
    """Whether there is code that starts with the instruction at offset `at` of the image."""
    raise NotImplementedError


def run(code, registers, ram, image, memory, i, last_cycle, budget):  # type: ignore[no-untyped-def]
    """Run machine i from its program counter on; returns what is left of `budget`, instructions.

    All of the processor's state is in `registers[i]`, before and after. From the write to the video
    chip at `last_cycle` on, the frame is the interpreter's.
    """
    raise NotImplementedError


def count(code, at, pc):  # type: ignore[no-untyped-def]
    """Told of each instruction that is interpreted, at offset `at` of the image."""
    raise NotImplementedError


@overload(starts, inline="always")
def _starts_never(code, at):  # type: ignore[no-untyped-def]
    return (lambda code, at: False) if isinstance(code, types.NoneType) else None


@overload(run, inline="always")
def _run_nothing(code, registers, ram, image, memory, i, last_cycle, budget):  # type: ignore[no-untyped-def]
    def nothing(code, registers, ram, image, memory, i, last_cycle, budget):  # type: ignore[no-untyped-def]
        return budget

    return nothing if isinstance(code, types.NoneType) else None


@overload(count, inline="always")
def _count_nothing(code, at, pc):  # type: ignore[no-untyped-def]
    return (lambda code, at, pc: None) if isinstance(code, types.NoneType) else None
