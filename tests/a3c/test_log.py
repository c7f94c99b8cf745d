"""metrics.jsonl and provenance.jsonl: whatever stands there is read, nothing else is lost."""

import errno
import json
import math
import os
import subprocess
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from a3c.errors import InputError
from a3c.run import log, provenance, strict_json
from a3c.run.log import Log
from a3c.train import train
from tests.a3c.test_train import games, slowly, small


def record(agent_steps: int, **more: Any) -> dict[str, Any]:
    known = {"updates": 1, "episodes": 1, "seconds": 1.0, "mean_return_100": 1.0}
    return {"agent_steps": agent_steps, **known, "returns": [2.0], "lengths": [3], **more}


def written(path: Path, *lines: bytes) -> Path:
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def line(agent_steps: int, **more: Any) -> bytes:
    return json.dumps(record(agent_steps, **more)).encode()


DAMAGED = [
    b"garbage",
    b"5",
    b"[1, 2]",
    b"null",
    b'"text"',
    b"{}",
    b'{"agent_steps": 2}',
    b'{"agent_steps": "2", "seconds": 1, "episodes": 1}',
    b'{"agent_steps": NaN, "seconds": 1, "episodes": 1}',
    b'{"agent_steps": true, "seconds": 1, "episodes": 1}',
    b'{"agent_steps": 1%s, "seconds": 1, "episodes": 1}' % (b"0" * 400),  # no float holds it
    b"\xff\xfe\x00",
    b"\x00" * 40,
    b"",
    b"[" * 100_000,
    line(2)[:-5],
]


def test_a_record_that_was_cut_goes_on_with_the_next(tmp_path: Path) -> None:
    """Where a disk is full for a moment, no two records become one line."""
    path = tmp_path / "metrics.jsonl"
    lines = log.Lines(path, 0, log.record_of)
    lines.write(record(1))
    file = lines.file
    assert file is not None
    room = [10]

    def write(data: bytes) -> int:
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return file.write(data[: room.pop()])

    lines.file = Mock(write=write)
    with pytest.raises(OSError, match="No space left"):
        lines.write(record(2))
    lines.file = file
    lines.write(record(3))
    assert [found["agent_steps"] for found in log.read(path)] == [1, 2, 3]


@pytest.mark.parametrize("bad", DAMAGED, ids=[repr(bad[:20]) for bad in DAMAGED])
def test_a_damaged_line_loses_itself_alone(tmp_path: Path, bad: bytes) -> None:
    path = written(tmp_path / "metrics.jsonl", line(1), bad, line(3))
    assert [found["agent_steps"] for found in log.read(path)] == [1, 3]
    assert log.scan(path).damaged == [2]
    before = path.read_bytes()
    opened = Log(tmp_path, 10)
    opened.close()
    (remark,) = opened.remarks
    assert "metrics.jsonl is damaged in line 2" in remark
    assert (tmp_path / "metrics.jsonl.damaged").read_bytes() == before
    assert log.scan(path) == ([record(1), record(3)], [])


def test_a_second_damage_is_kept_beside_the_first(tmp_path: Path) -> None:
    for _ in range(2):
        written(tmp_path / "metrics.jsonl", line(1), b"x")
        Log(tmp_path, 10).close()
    kept = sorted(path.name for path in tmp_path.glob("*.damaged*"))
    assert kept == ["metrics.jsonl.damaged", "metrics.jsonl.damaged-2"]


def test_a_last_line_cut_short_is_no_damage(tmp_path: Path) -> None:
    path = written(tmp_path / "metrics.jsonl", line(1))
    path.write_bytes(path.read_bytes() + line(2)[:-4])
    assert log.scan(path) == ([record(1)], [])
    opened = Log(tmp_path, 10)
    opened.write(record(3))
    opened.close()
    assert log.scan(path) == ([record(1), record(3)], [])


def test_records_have_the_keys_that_readers_index(tmp_path: Path) -> None:
    lean = b'{"agent_steps": 1, "seconds": 2, "episodes": 3}'
    odd = b'{"agent_steps": 2, "seconds": 2, "episodes": 3, "mean_return_100": "x", "lengths": 4,'
    odd += b' "returns": [1, null, "a", 1e999, Infinity, NaN, true, 2]}'
    first, second = log.read(written(tmp_path / "metrics.jsonl", lean, odd))
    for found in (first, second):
        assert found["mean_return_100"] is None
        assert found["lengths"] == []
    assert first["returns"] == []
    assert [value for value in second["returns"] if not math.isnan(value)] == [1, 2]
    assert len(second["returns"]) == 8


@pytest.mark.parametrize("games", [1, log.TAIL])
@pytest.mark.parametrize("end", [b"", b"x\n" * log.TAIL, line(4)[:-4]])
def test_the_last_record_is_that_of_the_whole_file(tmp_path: Path, games: int, end: bytes) -> None:
    """Also where it is longer than what is read first, and damaged or unfinished lines follow."""
    path = written(tmp_path / "metrics.jsonl", line(1), line(2), line(3, returns=[2.0] * games))
    path.write_bytes(path.read_bytes() + end)
    assert log.last(path) == log.read(path)[-1]
    assert log.last(path)["agent_steps"] == 3  # type: ignore[index]


def test_a_file_without_records_has_no_last_one(tmp_path: Path) -> None:
    assert log.last(tmp_path / "metrics.jsonl") is None
    assert log.last(written(tmp_path / "metrics.jsonl")) is None
    assert log.last(written(tmp_path / "metrics.jsonl", b"x", b"y" * 3 * log.TAIL)) is None


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(InputError, match=r"cannot read .*metrics\.jsonl"):
        log.read(tmp_path / "metrics.jsonl")
    with pytest.raises(InputError, match=r"cannot read .*metrics\.jsonl"):
        log.last(tmp_path / "metrics.jsonl")
    assert log.read(tmp_path / "nothing.jsonl") == []


def test_only_json_is_written(tmp_path: Path) -> None:
    opened = Log(tmp_path, 0)
    infinite = {"mean_return_100": math.inf, "returns": [math.nan, 1.0], "entropy": -math.inf}
    opened.write(record(1, **infinite, seconds_forward=math.nan))
    opened.close()
    text = (tmp_path / "metrics.jsonl").read_text()
    found = json.loads(text, parse_constant=pytest.fail)
    assert found["mean_return_100"] is found["entropy"] is found["returns"][0] is None
    assert log.read(tmp_path / "metrics.jsonl")[0]["mean_return_100"] is None


def test_strict_json_reaches_every_depth() -> None:
    value = {"a": [1.5, (math.inf, {"b": -math.inf})], "c": math.nan, "d": True, "e": 2}
    assert json.loads(strict_json.dumps(value)) == {
        "a": [1.5, [None, {"b": None}]], "c": None, "d": True, "e": 2
    }  # fmt: skip


def test_a_record_that_repeats_a_step_and_says_nothing_is_left_out(tmp_path: Path) -> None:
    empty: dict[str, list[float]] = {"returns": [], "lengths": []}
    opened = Log(tmp_path, 7)
    opened.write(record(7, **empty))  # the first one after a resume
    opened.write(record(8))
    opened.write(record(8, **empty))
    opened.write(record(8))  # games that ended with the last update
    opened.write(record(8, **empty, seconds_forward=0.1))
    opened.close()
    found = log.read(tmp_path / "metrics.jsonl")
    assert [(one["agent_steps"], len(one["returns"])) for one in found] == [(8, 1), (8, 1), (8, 0)]


def test_tensorboard_shows_figures_without_knowing_them() -> None:
    shown = dict(log.tags(record(1, lr=0.1, q_loss=2.0, seconds_forward=1.0, best_return_100=3.0)))
    assert shown == {"lr": "charts/learning_rate", "q_loss": "losses/q_loss"}
    cluster = {"nodes": 2, "cluster_lag": 0.5, "node10_agent_steps_per_second": 9.0}
    assert dict(log.tags(record(1, **cluster))) == {name: f"charts/{name}" for name in cluster}


def test_a_file_where_tensorboard_would_write_is_named(tmp_path: Path) -> None:
    (tmp_path / "tensorboard").write_text("in the way")
    with pytest.raises(InputError, match=r"cannot write .*tensorboard: File exists"):
        Log(tmp_path, 0)


def test_resuming_with_a_damaged_log_says_so_and_keeps_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        slowly(patch)
        folder = train(small(tmp_path, log_every_seconds=0.05), quiet=True).folder
    before = games(folder)
    path = folder / "metrics.jsonl"
    first, *rest = path.read_bytes().splitlines(keepends=True)
    lost = json.loads(first)["returns"]
    assert rest
    path.write_bytes(b"\xff" + first + b"".join(rest))
    train(small(tmp_path, total_agent_steps=8000), resume=folder)
    assert "metrics.jsonl is damaged in line 1" in capsys.readouterr().out
    assert games(folder)[: len(before) - len(lost)] == before[len(lost) :]


def test_the_commit_says_where_the_code_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)  # whoever tests may sign, or have hooks
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    module = tmp_path / "provenance.py"
    module.write_text("as committed")
    name = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "."], [*name, "commit", "-qm", "first"]):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    monkeypatch.setattr(provenance, "__file__", str(module))
    clean = provenance.commit.__wrapped__()
    assert clean is not None
    assert not clean.endswith("-dirty")
    module.write_text("as changed")
    assert provenance.commit.__wrapped__() == f"{clean}-dirty"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity")
def test_provenance_names_the_processor_and_the_cores_that_may_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    information = tmp_path / "cpuinfo"
    information.write_text("processor\t: 0\nmodel name\t: A Fast: One\nflags\t: fpu\n")
    monkeypatch.setattr(provenance, "Path", lambda _: information)
    assert provenance.processor() == "A Fast: One"
    monkeypatch.undo()
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 3, 4})
    assert provenance.provenance()["cores"] == 3


def test_provenance_survives_a_line_cut_short(tmp_path: Path) -> None:
    provenance.note(tmp_path, {**provenance.provenance(), "device": "cpu"})
    path = tmp_path / "provenance.jsonl"
    path.write_bytes(path.read_bytes() + b'{"started": "20')
    provenance.note(tmp_path, {"device": "cuda", "start_from": None})
    path.write_bytes(path.read_bytes() + b"\xff\n5\n")
    parts = provenance.read(tmp_path)
    assert [part["device"] for part in parts] == ["cpu", "cuda"]
    assert "start_from" not in parts[1]


def test_a_copy_that_is_not_installed_has_no_version() -> None:
    assert provenance.version_of("no-such-package-at-all") is None
    assert provenance.version_of("torch")


@pytest.mark.parametrize("linked", [False, True])
def test_tensorboards_curves_are_the_records_also_after_a_resume(
    tmp_path: Path, linked: bool
) -> None:
    if linked:  # to where somebody keeps curves, and notes about them
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / "notes.txt").touch()
        (tmp_path / "tensorboard").symlink_to("elsewhere")
    opened = Log(tmp_path, 0)
    figures = {"seconds_forward": 1.0, "seconds_environment": 3.0, "lr": 0.25, "policy_lag": 2.0}
    for i in (1, 2):
        own = {"episodes": 10 * i, "seconds": 7.0 * i, "mean_return_100": float(i)}
        opened.write(record(100 * i, **own, **figures, gradient_lag=1.0))
    opened.close()
    Log(tmp_path, 150).close()
    accumulated = EventAccumulator(str(tmp_path / "tensorboard")).Reload()

    def curve(tag: str) -> list[tuple[int, float]]:
        return [(point.step, point.value) for point in accumulated.Scalars(tag)]

    assert curve("return/by_agent_steps") == curve("charts/episodic_return") == [(100, 1)]
    assert curve("return/by_episodes") == [(10, 1)]
    assert curve("return/by_seconds") == [(7, 1)]
    assert curve("time/forward") == [(100, 0.25)]  # a share
    assert curve("charts/learning_rate") == [(100, 0.25)]
    assert (tmp_path / "elsewhere" / "notes.txt").exists() == linked
    assert curve("charts/policy_lag") == [(100, 2)]


def test_the_curves_of_time_are_shares_of_it() -> None:
    board = Mock()
    seconds = {"seconds_environment": 3.0, "seconds_forward": 1.0, "seconds_waiting": 4.0}
    log.curves(board, record(7, **seconds))
    shares = {
        tag: value for (tag, value, _), _ in board.add_scalar.call_args_list if "time/" in tag
    }
    assert shares == {
        "time/environment": 0.375,
        "time/forward": 0.125,
        "time/backward": 0.0,
        "time/apply": 0.0,
        "time/waiting": 0.5,
    }


def test_a_folder_whose_name_is_no_utf8_has_no_tensorboard(tmp_path: Path) -> None:
    """Its records are written all the same, also where a run goes on by its absolute path."""
    folder = tmp_path / "caf\udce9"
    folder.mkdir()
    opened = log.Log(folder, 0)
    assert opened.tensorboard is None
    (said,) = opened.remarks
    assert said.startswith("no curves for TensorBoard: ")
    opened.write(record(64))
    opened.close()
    assert [each["agent_steps"] for each in log.read(folder / log.METRICS)] == [64]
