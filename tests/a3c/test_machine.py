"""What a machine has, read from files like the kernel's; and the threads that follow from it."""

import json
import os
import platform
from pathlib import Path

import pytest

from a3c import cli, machine
from a3c.config import MOST_AUTO_THREADS, Config, InputError, preset


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Linux machine of four cores with two hardware threads each: 0 and 4, 1 and 5, ..."""
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    for processor in range(8):
        core = f"{processor % 4},{processor % 4 + 4}\n"
        write(
            tmp_path / f"sys/devices/system/cpu/cpu{processor}/topology/thread_siblings_list", core
        )
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_hardware_threads_of_a_core_count_once(root: Path) -> None:
    assert machine.physical_cores() == 4


@pytest.mark.parametrize(("allowed", "cores"), [({0, 4}, 1), ({0, 1, 5}, 2), ({7}, 1)])
def test_cores_that_the_process_may_not_use_do_not_count(
    root: Path, monkeypatch: pytest.MonkeyPatch, allowed: set[int], cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: allowed)
    assert machine.physical_cores() == cores


@pytest.mark.parametrize(
    ("limit", "cores"), [("max 100000", 4), ("150000 100000", 2), ("50000 100000", 1)]
)
def test_a_quota_of_the_process_or_of_what_it_lies_in(root: Path, limit: str, cores: int) -> None:
    write(root / "proc/self/cgroup", "0::/outer/inner\n")
    write(root / "sys/fs/cgroup/outer/inner/cpu.max", "max 100000\n")
    write(root / "sys/fs/cgroup/outer/cpu.max", f"{limit}\n")
    assert machine.physical_cores() == cores


def test_a_quota_of_version_1(root: Path) -> None:
    write(root / "proc/self/cgroup", "4:cpu,cpuacct:/job\n3:memory:/job\n")
    write(root / "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "300000\n")
    write(root / "sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000\n")
    assert machine.physical_cores() == 3


def test_where_nothing_is_known_of_cores_processors_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    assert machine.physical_cores() == 3


def test_memory_is_what_the_kernel_or_the_cgroup_leaves(root: Path) -> None:
    assert machine.available_memory() is None
    write(root / "proc/meminfo", "MemTotal: 9000 kB\nMemAvailable: 4000 kB\n")
    assert machine.available_memory() == 4000 * 1024
    write(root / "proc/self/cgroup", "0::/job\n")
    write(root / "sys/fs/cgroup/job/memory.max", "3000000\n")
    write(root / "sys/fs/cgroup/job/memory.current", "2000000\n")
    write(root / "sys/fs/cgroup/job/memory.stat", "active_file 100000\ninactive_file 50000\n")
    assert machine.available_memory() == 1_150_000


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (6, 6), (64, MOST_AUTO_THREADS)])
def test_threads_are_as_many_as_cores_up_to_16(
    monkeypatch: pytest.MonkeyPatch, cores: int, threads: int
) -> None:
    monkeypatch.setattr(machine, "physical_cores", lambda: cores)
    assert Config().num_threads == threads
    assert Config(num_threads="auto").num_threads == threads  # type: ignore[arg-type]  # as files say
    assert preset("paper").num_threads == 16
    assert preset("paper", num_threads="auto").num_threads == threads


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
    monkeypatch.setattr(machine, "physical_cores", lambda: 2)
    assert cli.main([*words, "--total-agent-steps", "200"]) == 0
    folder = tmp_path / "latest"
    assert json.loads((folder / "config.json").read_text())["num_threads"] == 2
    monkeypatch.setattr(machine, "physical_cores", lambda: 3)
    assert cli.main(["train", "--resume", str(folder), "--total-agent-steps", "400"]) == 0
    assert json.loads((folder / "config.json").read_text())["num_threads"] == 2
