"""benchmarks/gpu.py on a CPU: every step but the device's, with next to nothing to measure."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import gpu
from benchmarks.gpu import TINY
from benchmarks.parity import CLOSE, READABLE, difference, played, prepared
from benchmarks.processes import stat
from benchmarks.rows import Results, Row, attempt, measure
from benchmarks.tables import preamble
from tests.a3c.test_checkpoint import example

WORDS = ["--device", "cpu", "--tiny"]
THREE = ["parity on cuda:1", "the same on one and on two", "training on all 3"]


def test_the_whole_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "gpu.md"
    assert gpu.main([*WORDS, "--out", str(out), "--here"]) == 0
    capsys.readouterr()
    kept = out.with_suffix(".json").read_text()
    parts = json.loads(kept)["parts"]
    assert list(parts) == ["parity", "resume", "learner", "rates", "pong"]
    assert all(row["ok"] for rows in parts.values() for row in rows.values())
    (row,) = parts["rates"].values()
    assert row["updates"] > 0
    assert row["stages"]["environment"] > 0
    (row,) = parts["pong"].values()
    assert row["mean"][1] > 0
    report = out.read_text()
    for title in ("Goals", "Against the CPU", "The learner alone", "Training", "Until Pong"):
        assert f"\n## {title}" in report
    assert "bit by bit equal. ok" in report
    # Begun again, there is nothing left
    assert gpu.main([*WORDS, "--out", str(out)]) == 0
    assert capsys.readouterr().out.count("nothing is left to measure") == len(parts) + 1  # devices
    assert out.with_suffix(".json").read_text() == kept


def results_in(folder: Path, day: str = "2026-01-02T03:04:05") -> Results:
    where = {"card": "CPU", "sizes": "tiny", "torch": "2", "commit": "x", "started": day}
    return Results(folder / "gpu.json", where, gpu.SAME)


def test_a_table_written_again_has_the_days_of_its_rows(tmp_path: Path) -> None:
    rows: dict[str, Callable[[], Row]] = {"a": partial(dict, ok=True)}
    measure("parity", rows, results_in(tmp_path))
    path = tmp_path / "gpu.json"
    before = results_in(tmp_path, day="2026-03-04T05:06:07")
    assert list(preamble("T", "s.py", before, []))[-1] == "commit x; 2026-01-02."
    old = json.loads(path.read_text())
    del old["parts"]["parity"]["a"]["started"]  # as it was written until November 2026
    path.write_text(json.dumps(old))
    measure("parity", rows | {"b": partial(dict, ok=True)}, before)
    after = results_in(tmp_path, day="2026-03-05")
    assert list(preamble("T", "s.py", after, []))[-1] == "commit x; 2026-01-02, 2026-03-04."


def test_what_failed_is_measured_again_and_nothing_else(tmp_path: Path) -> None:
    broken, calls = True, []

    def row(name: str) -> Row:
        calls.append(name)
        if name == "b" and broken:
            raise ValueError("no")
        return {"ok": True}

    rows = {name: partial(row, name) for name in "abc"}
    measure("parity", rows, results_in(tmp_path))
    found = results_in(tmp_path)
    assert found.parts["parity"]["b"]["failed"] == "ValueError: no"
    assert found.left("parity", rows) == ["b"]
    broken = False
    measure("parity", rows, found)
    assert calls == ["a", "b", "c", "b"]
    assert results_in(tmp_path).left("parity", rows) == []


def test_a_table_is_of_one_card(tmp_path: Path) -> None:
    results_in(tmp_path).add("parity", "a", {"ok": True})
    with pytest.raises(SystemExit, match="of CPU, tiny, 2, not H100, tiny, 2: another"):
        Results(tmp_path / "gpu.json", {"card": "H100", "sizes": "tiny", "torch": "2"}, gpu.SAME)


def test_a_part_runs_in_a_process_of_its_own(tmp_path: Path) -> None:
    out = tmp_path / "gpu.md"
    assert gpu.main([*WORDS, "--parts", "learner", "--out", str(out)]) == 0
    assert "| mlp, graphs off, 8 agents | 1 | 1 |" in out.read_text()


def test_at_its_limit_a_part_is_ended_with_all_that_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pid, out = tmp_path / "pid", tmp_path / "gpu.md"
    never = tmp_path / "never.py"
    never.write_text(
        "import pathlib, subprocess, time\n"
        "child = subprocess.Popen(['sleep', '600'])\n"
        f"pathlib.Path({str(pid)!r}).write_text(str(child.pid))\n"
        "time.sleep(600)\n"
    )
    original = subprocess.Popen.wait

    def wait(process: subprocess.Popen[bytes], timeout: float | None = None) -> int:
        if timeout == 12_345:  # over once the part has started its own
            while not pid.exists() or not pid.read_text():
                time.sleep(0.01)
            raise subprocess.TimeoutExpired("parity", timeout)
        return original(process, timeout)

    monkeypatch.setattr(gpu, "__file__", str(never))
    monkeypatch.setitem(gpu.LIMITS, "parity", 12_345)
    monkeypatch.setattr(subprocess.Popen, "wait", wait)
    assert gpu.main([*WORDS, "--parts", "parity", "--out", str(out)]) == 1
    assert "parity: ended at its limit of 12345 seconds" in capfd.readouterr().out
    for _ in range(100):
        if stat(int(pid.read_text()))[:1] in ([], ["Z"]):
            break
        time.sleep(0.05)
    else:
        raise AssertionError("what the part started is still running")


def test_all_limits_are_eleven_minutes() -> None:
    """On one GPU; several take a part more."""
    assert sum(gpu.LIMITS.values()) - gpu.LIMITS["devices"] <= 660
    parts = gpu.parts_of("cpu", gpu.FULL)
    assert parts.keys() == gpu.LIMITS.keys() - {"compile"}


def test_several_gpus_are_looked_at_where_there_are_some(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {}
    for count in (0, 1, 3):
        monkeypatch.setattr("torch.cuda.device_count", lambda count=count: count)
        found[count] = list(gpu.several("auto", TINY))
    assert found == {0: [], 1: [], 3: THREE}
    assert gpu.several("cuda:0", TINY) == {}


def test_what_several_devices_make_is_compared() -> None:
    row = gpu.alike_on(("cpu", "cpu"), TINY)
    assert row == {"agent steps": row["agent steps"], "differ": [], "ok": True}
    assert row["agent steps"] >= 8000
    one = example()
    changed = {name: tensor + (name == "parameters") for name, tensor in one.tensors.items()}
    assert gpu.differing(one, one._replace(tensors=changed)) == ["parameters"]


def test_a_part_that_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        gpu.main([*WORDS, "--parts", "parity,rate"])
    assert caught.value.code == 2
    assert "no part 'rate'; expected parity, resume, " in capsys.readouterr().err


@pytest.mark.parametrize("head", gpu.HEADS)
@pytest.mark.parametrize("network", ["slim", "mlp"])
def test_parity_learns_with_cuda_graphs_and_without(network: str, head: str) -> None:
    """Without where a game was truncated: of three rollouts in the first."""
    extent = gpu.FULL.extent
    envs = prepared(network, head, extent.agents, extent)
    envs.reset(0)
    actions = np.zeros((extent.agents, *([4] if "std" in head else [])), np.float32)
    rollouts = [
        [envs.step(actions).truncated.any() for _ in range(extent.rollout_length)]
        for _ in range(extent.updates)
    ]
    assert list(map(any, rollouts)) == [True, False, False] * 2


@pytest.mark.parametrize(("network", "head"), [("slim", "discrete"), ("mlp", "independent std")])
def test_parity_notices_another_arithmetic(
    network: str, head: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(**changes: Any) -> float:
        for name, value in changes.items():
            monkeypatch.setitem(READABLE, name, value)
        return difference(expected, played(network, head, "cpu", "off", TINY.extent))

    expected = played(network, head, "cpu", "off", TINY.extent)
    assert changed() == 0
    assert len({tuple(row.flatten()) for row in expected.actions}) > 1  # it is no stand-still
    assert float(expected.gradients.norm(dim=1).min()) > 1
    assert changed(gamma=0.989) > CLOSE


def test_a_training_that_fails_has_not_missed_its_goal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row without "failed" would never be measured again."""
    words = [sys.executable, "-c", "import sys; sys.exit(1)"]
    monkeypatch.setattr(gpu, "start", lambda *_: subprocess.Popen(words))
    row = attempt(partial(gpu.learned, TINY.goals["pong"], "cpu", TINY, 60))
    assert row == {"failed": "RuntimeError: training ended with exit code 1", "ok": False}
