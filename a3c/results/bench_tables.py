"""What `a3c bench` measured, as tables for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Column, Table

from a3c.memory import GIB, gib
from a3c.results.bench import PARTS, Bench


def shown(found: Bench) -> Iterator[RenderableType]:
    """Tables and sentences, one below the other; the last one is the command."""
    yield (
        f"{found.env} on {found.device} ({found.device_name}), "
        f"{found.cores} physical cores, torch in {found.precision}"
    )
    yield "\neach part alone, and training, which is all of them:"
    yield rates(found)
    yield limit(found)
    yield "\nsettings that were trained with:"
    yield settings(found)
    yield from found.left_out
    yield memory(found)
    yield f"suggested: {found.command}"


def new_table(*names: str) -> Table:
    """A word first, numbers after it."""
    columns = [Column(names[0]), *(Column(name, justify="right") for name in names[1:])]
    return Table(*columns, box=SIMPLE_HEAD)


def rates(found: Bench) -> Table:
    """Each part alone, then all of it."""
    frames = found.emulator_frames_per_agent_step
    names = ["", "threads", "agents\nof each", "agent\nsteps/s"]
    names += ["emulator\nframes/s"] if frames else []
    table = new_table(*names)
    for part, threads, agents, rate in found.rates:
        cells = [word(part, found), str(threads), f"{agents:,}", f"{rate:,.0f}"]
        table.add_row(*cells, *([f"{frames * rate:,.0f}"] if frames else []))
    return table


def word(part: str, found: Bench) -> str:
    """What the part is called here."""
    atari = found.emulator_frames_per_agent_step is not None
    return "emulation" if atari and part == "environment" else part


def limit(found: Bench) -> str:
    """Where a thread's time goes."""
    parts = ", ".join(f"{word(part, found)} {found.shares[part]:.0%}" for part in PARTS)
    return (
        f"A thread's time: {parts}. The limit is {word(found.limit, found)}.\n"
        f"Training has {found.of_its_parts:.0%} of the rate of these parts one after another."
    )


def settings(found: Bench) -> Table:
    """The settings that were trained with, the default first."""
    table = new_table("", "threads", "agents\nof each", "minibatches", "agent\nsteps/s")
    for i, each in enumerate(found.settings):
        marks = ["default"] if i == 0 else []
        marks += ["suggested"] if each == found.suggested else []
        numbers = each.num_threads, each.num_envs, each.minibatches
        cells = [*(f"{number:,}" for number in numbers), f"{each.agent_steps_per_second:,.0f}"]
        table.add_row(", ".join(marks), *cells)
    return table


def memory(found: Bench) -> str:
    """What the suggested setting takes, and what there is."""
    sizes = found.memory
    there = "unknown" if sizes.host_available is None else size(sizes.host_available)
    needed = size(sizes.host_needed)
    line = f"memory: besides PyTorch itself such a run takes about {needed}; available: {there}"
    if sizes.device_needed is not None and sizes.device_total is not None:
        line += f"\nGPU memory: it took {size(sizes.device_needed)} of {size(sizes.device_total)}"
    return line


def size(count: int) -> str:
    """Bytes as MiB, or GiB from a tenth on."""
    return gib(count) if count >= GIB / 10 else f"{count / 2**20:,.1f} MiB"
