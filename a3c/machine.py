"""What the machine has for this process: physical cores, and memory. Knows nothing of training."""

from __future__ import annotations

import functools
import math
import os
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path("/")  # where the kernel's files lie
CGROUPS = "sys/fs/cgroup"

# Large tensors in pages of 2 MB where Linux gives them: a thousand agents' observations are read
# here and there, and with pages of 4 kB a run of 1,024 agents lost an eighth of its rate. PyTorch
# reads this before its first tensor, and this module is imported before PyTorch.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def physical_cores() -> int:
    """Cores that this process may use, at least 1; the hardware threads of a core count once.

    On Linux its affinity and its cgroups' quota, rounded up, are kept to. On other systems than
    Linux and macOS a hardware thread counts as a core.
    """
    if platform.system() == "Darwin":
        return sysctl("hw.physicalcpu") or os.cpu_count() or 1
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    cores = {core_of(processor) for processor in os.sched_getaffinity(0)}
    return min([len(cores), *cpu_quotas()])


def core_of(processor: int) -> str:
    """The hardware threads of its core, as `0,64`; the processor alone where that is not known."""
    folder = ROOT / "sys/devices/system/cpu" / f"cpu{processor}"
    return text(folder / "topology/thread_siblings_list") or str(processor)


def cpu_quotas() -> Iterator[int]:
    """The limits of this process's cgroups, in processors, rounded up."""
    for folder in cgroups("cpu"):
        version_1 = text(folder / "cpu.cfs_quota_us"), text(folder / "cpu.cfs_period_us")
        quota, period = text(folder / "cpu.max").split() or version_1
        if quota.isdigit() and period.isdigit():  # max, or -1: no limit
            yield max(1, math.ceil(int(quota) / int(period)))


@functools.cache
def has_gpu() -> bool:
    """Whether PyTorch finds a CUDA device."""
    import torch  # not at the top: it takes a second or two

    return torch.cuda.is_available()


def available_memory() -> int | None:
    """Bytes that this process could still take without swapping; None where that is not known.

    On Linux the kernel's MemAvailable, or what the cgroups leave, if that is less. On macOS, which
    compresses memory before it swaps, all that the machine has.
    """
    if platform.system() == "Darwin":
        return sysctl("hw.memsize")
    of_machine = table(ROOT / "proc/meminfo").get("MemAvailable:")
    if of_machine is None:
        return None
    return max(0, min([1024 * of_machine, *left_by_cgroups()]))


def left_by_cgroups() -> Iterator[int]:
    """What the limits of this process's cgroups leave; cached files would make room."""
    for folder in cgroups("memory"):
        for limit, used, of_all in (
            ("memory.max", "memory.current", ""),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),  # version 1
        ):
            bytes_at_most, bytes_used = text(folder / limit), text(folder / used)
            if bytes_at_most.isdigit() and bytes_used.isdigit():
                stat = table(folder / "memory.stat")
                cached = sum(stat.get(f"{of_all}{kind}_file", 0) for kind in ("active", "inactive"))
                yield int(bytes_at_most) - int(bytes_used) + cached


def cgroups(controller: str) -> Iterator[Path]:
    """The folders whose limits hold for this process, the innermost first.

    Of version 2, and of version 1's `controller`. In a container the innermost may lie outside of
    what is mounted; the limits are then in the folders above.
    """
    for line in text(ROOT / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        mount = ROOT / CGROUPS / (controller if controllers else "")
        inner = PurePosixPath(path.lstrip("/"))
        yield from (mount / folder for folder in (inner, *inner.parents))


def table(path: Path) -> dict[str, int]:
    """Lines of a name and a whole number, and perhaps its unit; nothing where it is not there."""
    rows = (line.split() for line in text(path).splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}


def text(path: Path) -> str:
    """A file of the kernel's without its last line end; nothing where it cannot be read."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def sysctl(name: str) -> int | None:
    """A number that macOS knows; None where it does not."""
    try:
        done = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True)
    except OSError:
        return None
    return int(done.stdout) if done.stdout.strip().isdigit() else None
