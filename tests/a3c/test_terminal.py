"""What a run says: plain lines, the live status, and which line is the last."""

import io
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from rich.table import Table

from a3c.metrics import FinishedEpisode, Metrics
from a3c.run import checkpoint
from a3c.run.folder import Run
from a3c.run.terminal import Screen, Terminal, duration
from a3c.train import train
from tests.a3c.conftest import A3C, FOR_EVER, StartProcess
from tests.a3c.test_train import small


def record(agent_steps: int) -> dict[str, object]:
    return {"agent_steps": agent_steps, "agent_steps_per_second": 5.0, "entropy": 0.5}


def test_plain_lines_come_often_at_first_and_name_what_they_show(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 100.0
    monkeypatch.setattr("time.monotonic", lambda: clock)
    said = Terminal(small(tmp_path), Metrics(1))
    lines = {}
    for seconds in range(5, 125, 5):
        clock = 100.0 + seconds
        said.logged(record(seconds))
        lines[seconds] = capsys.readouterr().out
    assert [seconds for seconds, line in lines.items() if line] == [5, 10, 20, 40, 70, 100]
    assert "mean return of the last 100 games -  best of these -" in lines[5]
    assert "entropy 0.500" in lines[5]
    assert "policy lag" not in lines[5]  # a method without one


def test_the_live_status_is_of_the_last_record(tmp_path: Path) -> None:
    metrics = Metrics(frames_per_agent_step=4)
    metrics.add([FinishedEpisode(1.0, 5), FinishedEpisode(3.0, 5)], {})
    said = Terminal(small(tmp_path, total_agent_steps=1000), metrics)
    said.logged({**record(100), "agent_steps_per_second": 10.0})
    said.refresh(100)
    rows = dict(said.rows())
    assert rows["agent steps"] == "100 of 1,000"
    assert (rows["agent steps/s"], rows["emulator frames/s"]) == ("10", "40")
    assert rows["mean return of the last 100 games"] == "2.00"
    assert (rows["best of these"], rows["time left"]) == ("3.00", "1 min 30 s")


def test_long_times_are_in_hours_and_minutes() -> None:
    assert duration(3 * 3600 + 7 * 60 + 59) == "3 h 07 min"
    assert duration(59.9) == "0 min 59 s"
    assert duration(None) == "-"


def test_who_is_quiet_takes_nothing_of_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    streams = sys.stdout, sys.stderr
    with Terminal(small(tmp_path), Metrics(1), quiet=True):
        assert (sys.stdout, sys.stderr) == streams  # what others print is shown


def test_games_are_counted_in_english(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = Terminal(small(tmp_path), Metrics(1))
    for episodes, words, last in (
        (0, "0 games", 100),
        (1, "1 game", 1),
        (2000, "2,000 games", 100),
    ):
        said.goodbye(Run(tmp_path, 32, episodes, None, finished=True))
        line = f"32 agent steps, {words}, mean return of the last {last}: -\n"
        assert line in capsys.readouterr().out


def test_the_best_policys_score_stands_beside_what_it_was_chosen_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which is more, as a rule: it was the best of several."""
    best = {"agent_steps": 20, "episodes": 30, "mean": 6.25, "standard_error": 0.5, "seconds": 9}
    run = Run(tmp_path, 32, 40, 5.0, finished=True, best={**best, "evaluated_return": 7.5})
    Terminal(small(tmp_path), Metrics(1)).goodbye(run)
    said = capsys.readouterr().out
    assert "of agent step 20: mean return 6.25 +- 0.50 of 30 fresh games" in said
    assert "(chosen for 7.50)" in said


def test_names_are_shown_as_they_are() -> None:
    """Where rich would make an emoji of a part of a path, or a colour of a folder's name."""
    file = io.StringIO()
    screen = Screen(file=file, width=60)
    screen.say("go on: a3c train --resume runs/x:100:y/[red]z")
    table = Table("[red]z", title="x:100:y [red]z")
    table.add_row(":100:[red]z")
    screen.print(table)
    said = file.getvalue()
    assert said.startswith("go on: a3c train --resume runs/x:100:y/[red]z\n")
    assert said.count(":100:") == 3
    assert said.count("[red]z") == 4


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), BrokenPipeError(), ValueError])
def test_a_terminal_that_has_gone_away_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("rich.console.Console.print", refuse)
    run = train(small(tmp_path, total_agent_steps=500))
    assert run.finished


def test_a_run_outlives_the_reader_of_its_pipe(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    words = ["CartPole-v1", "--total-agent-steps", "1000", "--runs-dir", str(tmp_path)]
    ended = subprocess.run([*A3C, "train", *words], stdout=write_end, stderr=subprocess.PIPE)
    os.close(write_end)
    assert (ended.returncode, ended.stderr) == (0, b"")
    (folder,) = tmp_path.glob("CartPole*")
    assert checkpoint.newest(folder).checkpoint.progress["agent_steps"] >= 1000


def test_a_run_without_any_output(tmp_path: Path) -> None:
    words = ["CartPole-v1", "--total-agent-steps", "100", "--runs-dir", str(tmp_path)]
    command = f"{shlex.join([*A3C, 'train', *words])} >&-"
    ended = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_an_output_that_is_full_is_named(tmp_path: Path) -> None:
    words = ["CartPole-v1", "--total-agent-steps", "100", "--runs-dir", str(tmp_path)]
    for command, code in (["--version"], 1), (["train", *words], 0):
        with Path("/dev/full").open("w") as full:
            ended = subprocess.run([*A3C, *command], stdout=full, stderr=subprocess.PIPE)
        assert ended.returncode == code
        said = b"a3c: cannot write the output: No space left on device\n"
        assert ended.stderr in (said, b"" if code == 0 else said)


def test_commands_to_copy_are_quoted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = Terminal(small(tmp_path), Metrics(1))
    for finished in (True, False):
        said.goodbye(Run(tmp_path / "my run", 32, 1, None, finished))
    out = capsys.readouterr().out
    assert f"a3c play '{tmp_path}/my run'" in out
    assert f"a3c train --resume '{tmp_path}/my run'" in out


class OnATerminal:
    """`a3c train` with a pseudo-terminal for stdout and stderr, which is read all the time."""

    def __init__(self, start_process: StartProcess, *words: str):
        ours, theirs = pty.openpty()
        self.process = start_process("train", *words, stdout=theirs, stderr=theirs)
        os.close(theirs)
        self.ours, self.said = ours, b""
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self) -> None:
        try:
            while part := os.read(self.ours, 4096):
                self.said += part
        except OSError:  # the other end is closed
            pass

    def wait_for_checkpoint(self, runs: Path) -> Path:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and self.process.poll() is None:
            for folder in runs.glob("CartPole*"):
                if checkpoint.numbered(folder):
                    return folder
            time.sleep(0.05)
        self.process.kill()
        raise AssertionError(self.said.decode())

    def lines(self) -> list[str]:
        """All that was said, once the process has ended, without the terminal's control codes."""
        self.process.wait(timeout=60)
        self.reader.join(timeout=60)
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.said.decode())
        return [line.strip() for line in re.split(r"[\r\n]+", text) if line.strip()]


def test_on_a_terminal_the_last_line_says_how_to_go_on(
    tmp_path: Path, start_process: StartProcess
) -> None:
    running = OnATerminal(
        start_process,
        *("CartPole-v1", *FOR_EVER, "--runs-dir", str(tmp_path)),
        *("--checkpoint-every-seconds", "0.5"),
    )
    folder = running.wait_for_checkpoint(tmp_path)
    running.process.send_signal(signal.SIGINT)
    lines = running.lines()
    assert running.process.returncode == 0
    assert lines[-1] == f"go on: a3c train --resume {folder}"
    steps = checkpoint.newest(folder).checkpoint.progress["agent_steps"]
    assert lines[-2].startswith(f"{steps:,} agent steps, ")
    # the status above has the same figures
    (status,) = [line for line in lines if line.startswith("agent steps ")][-1:]
    assert f"{steps:,} of " in status


def test_a_closed_terminal_saves(tmp_path: Path, start_process: StartProcess) -> None:
    running = OnATerminal(start_process, "CartPole-v1", *FOR_EVER, "--runs-dir", str(tmp_path))
    folder = running.wait_for_checkpoint(tmp_path)
    first = checkpoint.numbered(folder)[0]
    time.sleep(0.3)
    running.process.send_signal(signal.SIGHUP)
    os.close(running.ours)  # from now on every write fails
    assert running.process.wait(timeout=60) == 0
    assert checkpoint.numbered(folder)[0] > first
