"""What the machine has, told by files and programs that are not those of this machine."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from a3c import cli, machine
from a3c.config import Config
from a3c.errors import InputError
from a3c.machine import available_memory, physical_cores  # before the tests' own count stands there

KIB, GIB = 2**10, 2**30


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Linux whose files are to be written."""
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    return tmp_path


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


def may_use(monkeypatch: pytest.MonkeyPatch, *processors: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(processors), raising=False)


def siblings(*pairs: str) -> dict[str, str]:
    """The file of each processor, of cores whose hardware threads are `0,4`."""
    folder = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    return {folder.format(number): pair for pair in pairs for number in pair.split(",")}


def test_hardware_threads_of_a_core_count_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(root, siblings("0,4", "1,5", "2,6", "3,7"))
    may_use(monkeypatch, *range(8))
    assert physical_cores() == 4
    may_use(monkeypatch, 0, 4, 5)  # two on one core
    assert physical_cores() == 2


def test_processors_without_a_topology_are_cores(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_use(monkeypatch, 1, 2, 3)
    assert physical_cores() == 3


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"sys/fs/cgroup/a/b/cpu.max": "250000 100000"}, 3),
        (
            {"sys/fs/cgroup/a/cpu.max": "200000 100000", "sys/fs/cgroup/a/b/cpu.max": "max 100000"},
            2,
        ),
        ({"sys/fs/cgroup/cpu.max": "10000 100000"}, 1),  # a container's own root
        ({"sys/fs/cgroup/a/b/cpu.max": "max 100000"}, 8),
    ],
)
def test_quota_of_version_2(
    files: dict[str, str], expected: int, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(root, {"proc/self/cgroup": "0::/a/b", **files})
    may_use(monkeypatch, *range(8))
    assert physical_cores() == expected


@pytest.mark.parametrize(("quota", "expected"), [("150000", 2), ("-1", 8)])
def test_quota_of_version_1(
    quota: str, expected: int, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(root, {
        "proc/self/cgroup": "5:cpu,cpuacct:/a\n4:memory:/b",
        "sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": quota,
        "sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "100000",
    })  # fmt: skip
    may_use(monkeypatch, *range(8))
    assert physical_cores() == expected


def says(monkeypatch: pytest.MonkeyPatch, numbers: dict[str, str]) -> None:
    """A macOS whose sysctl answers so."""
    monkeypatch.setattr(platform, "system", lambda: "Darwin")

    def answer(words: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(words, 0, numbers[words[-1]])

    monkeypatch.setattr(subprocess, "run", answer)


def test_macos(monkeypatch: pytest.MonkeyPatch) -> None:
    says(monkeypatch, {"hw.physicalcpu": "10\n", "hw.memsize": "17179869184\n"})
    assert physical_cores() == 10
    assert available_memory() == 16 * GIB


def test_elsewhere_a_processor_is_a_core(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert physical_cores() == 6
    assert available_memory() is None


MEMINFO = {"proc/meminfo": f"MemTotal: {32 * 2**20} kB\nMemAvailable:   {8 * 2**20} kB"}


def test_memory_of_the_machine(root: Path) -> None:
    write(root, MEMINFO)
    assert available_memory() == 8 * GIB


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"memory.max": str(3 * GIB), "memory.current": str(GIB)}, 2 * GIB),
        ({"memory.max": "max", "memory.current": str(GIB)}, 8 * GIB),
        ({"memory.max": str(GIB), "memory.current": str(2 * GIB)}, 0),
        (
            {
                "memory.max": str(3 * GIB),
                "memory.current": str(2 * GIB),
                "memory.stat": f"anon 7\ninactive_file {GIB // 2}\nactive_file {GIB // 4}",
            },
            GIB + 3 * GIB // 4,  # cached files make room
        ),
    ],
)
def test_memory_of_version_2(files: dict[str, str], expected: int, root: Path) -> None:
    inside = {f"sys/fs/cgroup/a/{name}": text for name, text in files.items()}
    write(root, {**MEMINFO, "proc/self/cgroup": "0::/a/b", **inside})
    assert available_memory() == expected


def test_memory_of_version_1(root: Path) -> None:
    folder = "sys/fs/cgroup/memory/a"
    limited = {
        f"{folder}/memory.limit_in_bytes": str(2 * GIB),
        f"{folder}/memory.usage_in_bytes": str(GIB),
        f"{folder}/memory.stat": f"inactive_file 1\ntotal_inactive_file {KIB}",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": str(2**63 - 4096),
        "sys/fs/cgroup/memory/memory.usage_in_bytes": str(GIB),
    }
    write(root, {**MEMINFO, "proc/self/cgroup": "9:cpu:/\n4:memory:/a", **limited})
    assert available_memory() == GIB + KIB


@pytest.mark.parametrize("threads", ["0", "-1", "many", "1.5"])
def test_what_is_no_number_of_threads(
    threads: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "CartPole-v1", "--num-threads", threads, "--runs-dir", str(tmp_path)]
    assert cli.main(words) == 2
    said = capsys.readouterr().err
    assert "--num-threads" in said
    assert "auto" in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="num-threads"):
        Config(num_threads=threads)  # type: ignore[arg-type]  # wrong on purpose


def test_a_run_keeps_the_number_that_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["train", "CartPole-v1", "--num-threads", "auto", "--runs-dir", str(tmp_path)]
    assert cli.main([*words, "--total-agent-steps", "200"]) == 0
    folder = tmp_path / "latest"
    assert json.loads((folder / "config.json").read_text())["num_threads"] == 2
    monkeypatch.setattr(machine, "physical_cores", lambda: 3)
    assert cli.main(["train", "--resume", str(folder), "--total-agent-steps", "400"]) == 0
    assert json.loads((folder / "config.json").read_text())["num_threads"] == 2


def test_pytorch_is_imported_after_the_size_of_its_pages_is_set() -> None:
    """It reads that once."""
    program = """
import os, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print(os.environ.get("THP_MEM_ALLOC_ENABLE"))
            sys.stdout.flush()
            os._exit(0)

sys.meta_path.insert(0, Finder())
import a3c
a3c.train
"""
    for own, expected in ((None, "1"), ("0", "0")):
        env = {name: value for name, value in os.environ.items() if name != "THP_MEM_ALLOC_ENABLE"}
        env |= {} if own is None else {"THP_MEM_ALLOC_ENABLE": own}
        words = [sys.executable, "-c", program]
        said = subprocess.run(words, env=env, capture_output=True, text=True, check=True).stdout
        assert said == f"{expected}\n"
