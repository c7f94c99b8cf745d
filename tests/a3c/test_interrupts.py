"""Ctrl-C and its kind, at every moment of a run."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import pytest

from a3c import cli
from a3c.run import checkpoint, interrupts
from a3c.run.folder import Run
from a3c.run.interrupts import stopping_signals
from a3c.train import train
from tests.a3c.conftest import FOR_EVER, StartProcess
from tests.a3c.test_train import small, wait_for_checkpoint

ROOT = Path(__file__).parents[2]


def send(number: int) -> None:
    signal.raise_signal(number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_each_signal_is_a_wish_to_stop_and_a_second_at_once_is_the_same(number: int) -> None:
    stops: list[int] = []
    before = signal.getsignal(number)
    with interrupts.interrupts(lambda: stops.append(1)):
        for _ in range(5):
            send(number)
    assert stops == [1]
    assert signal.getsignal(number) is before


def test_a_second_signal_later_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 0.0
    monkeypatch.setattr("time.monotonic", lambda: clock)
    stops: list[int] = []
    with interrupts.interrupts(lambda: stops.append(1)):
        send(signal.SIGTERM)
        clock = 0.9
        send(signal.SIGINT)
        clock = 1.1
        send(signal.SIGHUP)  # the terminal is closed while the last checkpoint is written
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
    assert stops == [1]


def test_nohup_stays_in_force() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert signal.SIGHUP not in stopping_signals()
        with interrupts.interrupts(pytest.fail):
            send(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert signal.SIGHUP in stopping_signals()


def run_of(tmp_path: Path) -> Path:
    (folder,) = tmp_path.glob("CartPole*")
    return folder


def test_two_signals_in_a_moment_save_and_say_how_to_go_on(
    tmp_path: Path, start_process: StartProcess
) -> None:
    words = ("train", "CartPole-v1", *FOR_EVER, "--runs-dir", str(tmp_path))
    process = start_process(*words, "--checkpoint-every-seconds", "0.5")
    folder = wait_for_checkpoint(tmp_path, process)
    process.send_signal(signal.SIGINT)
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert errors == ""
    assert out.splitlines()[-1] == f"go on: a3c train --resume {folder}"


STUCK = "tests.environments:Stuck-v0"


def test_a_second_signal_does_not_wait_for_an_environment_that_never_answers(
    tmp_path: Path,
    start_process: StartProcess,
) -> None:
    words = ("train", STUCK, "--no-normalize", "--runs-dir", str(tmp_path))
    process = start_process(*words, "--checkpoint-every-seconds", "0.2")
    assert process.stdout is not None
    while "stuck" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    time.sleep(3)  # well above the second from which on it is another wish
    assert process.poll() is None  # it waits for the rollout under way
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.startswith("a3c: interrupted: ")
    assert errors.count("\n") == 1


@pytest.mark.parametrize("moment", ["make_envs", "begin", "load"])
def test_a_signal_before_the_first_update_ends_with_a_line_and_leaves_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    moment: str,
) -> None:
    words = ["train", "CartPole-v1", "--runs-dir", str(tmp_path / "runs")]
    if moment == "load":
        folder = train(small(tmp_path, total_agent_steps=500), quiet=True).folder
        words = ["train", "--resume", str(folder), "--total-agent-steps", "1000"]
    where = "make_envs" if moment == "make_envs" else f"Node.{moment}"
    monkeypatch.setattr(f"a3c.node.{where}", lambda *_: send(signal.SIGINT))
    before = sorted(tmp_path.rglob("*"))
    assert cli.main(words) == 130
    assert capsys.readouterr().err == "a3c: interrupted\n"
    assert sorted(tmp_path.rglob("*")) == before


def test_a_signal_as_the_folder_is_made_leaves_a_run_to_go_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from a3c.run import folder as run_folder

    original = run_folder.write_config

    def write_config(*words: object) -> None:
        send(signal.SIGINT)
        original(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(run_folder, "write_config", write_config)
    words = ["train", "CartPole-v1", "--runs-dir", str(tmp_path)]
    assert cli.main(words) == 0
    folder = run_of(tmp_path)
    assert capsys.readouterr().out.splitlines()[-1] == f"go on: a3c train --resume {folder}"
    assert checkpoint.newest(folder).checkpoint.progress["agent_steps"] > 0
    assert (tmp_path / "latest").resolve() == folder.resolve()


INTERRUPTED = """
import signal, sys, a3c_command

class Interrupting:
    def find_spec(self, name, *_):
        if name == sys.argv[-1]:
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
sys.exit(a3c_command.main())
"""


@pytest.mark.parametrize("module", ["a3c", "torch", "a3c.results.study"])
def test_a_signal_while_the_program_is_imported_ends_with_a_line(module: str) -> None:
    """As the first import begins, and later ones; until then it is Python's own to end."""
    command = [sys.executable, "-c", INTERRUPTED, "train", module]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (130, "a3c: interrupted\n")


def test_play_ends_with_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "play", lambda _: send(signal.SIGINT))
    assert cli.main(["play", "breakout"]) == 130
    assert capsys.readouterr().err == "a3c: interrupted\n"


@pytest.mark.parametrize(
    ("finished", "interrupted", "ignored"),
    [(True, False, 0), (True, True, 1), (False, True, 1)],
)
def test_once_a_run_was_interrupted_another_ctrl_c_is_the_same_wish(
    finished: bool, interrupted: bool, ignored: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it was trained by then, and only evaluated."""
    ignore = Mock()
    run = Run(Path("runs/x"), 32, 1, None, finished=finished, interrupted=interrupted)
    monkeypatch.setattr("a3c.cli.train", lambda *_, **__: run)
    monkeypatch.setattr("a3c.run.interrupts.ignore", ignore)
    monkeypatch.setattr(sys, "argv", ["a3c", "train", "CartPole-v1"])
    assert cli.main() == 0
    assert ignore.call_count == ignored
