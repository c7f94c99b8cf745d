"""A run's own folder: its name, the lock, the link runs/latest and the systems without links."""

import errno
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from a3c.command.parsing import parse
from a3c.errors import InputError
from a3c.presets import preset
from a3c.results.play import PlayOptions
from a3c.run import checkpoint
from a3c.run import folder as run_folder
from a3c.run.folder import check_free, create_run_folder, link_latest, locked
from a3c.train import train
from tests.a3c.test_train import small

HOLD = "import sys; from pathlib import Path; from a3c.run.folder import locked\n" + (
    "with locked(Path(sys.argv[1])):\n print('locked', flush=True); sys.stdin.read()"
)


def refuse(number: int) -> Callable[..., None]:
    def refused(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return refused


@pytest.fixture
def held(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process that has locked tmp_path."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        yield process
        process.kill()


def test_one_process_in_a_folder_and_the_second_is_told_who(
    tmp_path: Path, held: "subprocess.Popen[str]"
) -> None:
    expected = f"{tmp_path} is in use by process {held.pid} on "
    with pytest.raises(InputError, match=expected), locked(tmp_path):
        raise AssertionError("locked twice")
    with pytest.raises(InputError, match=expected):
        check_free(tmp_path)
    held.kill()  # SIGKILL: nobody tidies up, and the folder is free
    held.communicate()
    check_free(tmp_path)
    with locked(tmp_path) as remarks:
        assert remarks == []
        assert f"process {os.getpid()} on" in (tmp_path / run_folder.LOCK).read_text()


def test_a_second_lock_of_the_same_process_is_refused_and_leaves_the_first(tmp_path: Path) -> None:
    with locked(tmp_path):
        for _ in range(2):
            with pytest.raises(InputError, match=f"process {os.getpid()}"), locked(tmp_path):
                raise AssertionError("locked twice")
    with locked(tmp_path):
        pass


def test_what_an_environment_has_forked_keeps_no_lock(tmp_path: Path) -> None:
    """It may live on where this process was killed."""
    alive, says = os.pipe()
    with locked(tmp_path):
        child = os.fork()
        if child == 0:
            try:
                os.write(says, b"!")
                signal.pause()
            finally:
                os._exit(1)
        os.read(alive, 1)
    try:
        check_free(tmp_path)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(alive)
        os.close(says)


def test_a_run_that_is_trained_cannot_be_resumed(tmp_path: Path) -> None:
    run = train(small(tmp_path, total_agent_steps=500), quiet=True)
    before = sorted(path for path in run.folder.rglob("*"))
    longer = small(tmp_path, total_agent_steps=1000)
    with locked(run.folder), pytest.raises(InputError, match="is in use by process"):
        train(longer, resume=run.folder, quiet=True)
    assert sorted(path for path in run.folder.rglob("*")) == before
    assert train(longer, resume=run.folder, quiet=True).finished


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL])
def test_a_file_system_without_locks_trains_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr("fcntl.flock", refuse(number))
    with locked(tmp_path) as (remark,):
        assert remark.startswith("no locks in")


def test_a_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_folder, "fcntl", None)
    check_free(tmp_path)
    with locked(tmp_path) as (remark,):
        assert remark.startswith("no locks on this system")


@pytest.mark.parametrize(
    ("env", "name", "expected"),
    [
        ("my_module:MyEnv-v0", "", "my_module-MyEnv-v0-2"),
        ("a.b:Sub/Env-v0", "lr_3.1", "a.b-Sub-Env-v0-lr_3.1-2"),
        ("CartPole-v1", "Äpfel", "CartPole-v1-Äpfel-2"),
    ],
)
def test_the_folders_name(tmp_path: Path, env: str, name: str, expected: str) -> None:
    folder = create_run_folder(preset("fast", env=env, run_name=name, runs_dir=str(tmp_path)))
    assert folder.name.startswith(expected)
    assert not set(folder.name) & set(':\\/*?"<>| ')


def test_runs_started_in_the_same_instant_have_folders_of_their_own(tmp_path: Path) -> None:
    config = small(tmp_path)
    made: list[Path] = []
    threads = [
        threading.Thread(target=lambda: made.append(create_run_folder(config))) for _ in range(24)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 24
    assert all((folder / "config.json").exists() for folder in made)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_a_folder_that_cannot_be_made_whole_is_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(run_folder, "write_config", refuse(number))
    with pytest.raises(InputError, match=r"cannot create the run folder .*/runs/CartPole-v1"):
        create_run_folder(small(tmp_path / "deep" / "runs"))
    assert not list(tmp_path.iterdir())


def real_folder(latest: Path) -> None:
    latest.mkdir()  # as scp -r, cp -rL and unzip leave it


def real_file(latest: Path) -> None:
    latest.write_text("somebody's")


@pytest.mark.parametrize("occupy", [real_folder, real_file])
def test_what_stands_at_latest_is_left_alone_and_the_run_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], occupy: Callable[[Path], None]
) -> None:
    occupy(tmp_path / "latest")
    run = train(small(tmp_path, total_agent_steps=500))
    assert run.finished
    assert f"{tmp_path / 'latest'} is no link: it is left as it is" in capsys.readouterr().out
    assert not (tmp_path / "latest").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["latest", run.folder.name])


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EPERM, 1314])
def test_without_links_a_line_says_so(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: int,
) -> None:
    monkeypatch.setattr(Path, "symlink_to", refuse(number))
    run = train(small(tmp_path, total_agent_steps=500))
    assert run.finished
    assert "latest does not lead to this run" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [run.folder]


def test_a_link_that_cannot_be_moved_into_place_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = create_run_folder(small(tmp_path))
    monkeypatch.setattr(os, "replace", refuse(errno.EACCES))
    assert link_latest(folder)
    assert list(tmp_path.iterdir()) == [folder]


def test_a_link_left_over_from_another_process_does_not_matter(tmp_path: Path) -> None:
    folder = create_run_folder(small(tmp_path))
    (tmp_path / f".latest-{os.getpid()}").symlink_to("gone")
    (tmp_path / f".latest-{folder.name}").symlink_to("gone")
    (tmp_path / "latest").symlink_to("gone")
    assert link_latest(folder) == []
    assert (tmp_path / "latest").resolve() == folder.resolve()


def test_a_system_that_opens_no_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Windows: os.open of a folder is refused."""
    real = os.open

    def windows(path: str, *rest: int, **more: int) -> int:
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, *rest, **more)

    monkeypatch.setattr(os, "open", windows)
    run = train(small(tmp_path, total_agent_steps=500), quiet=True)
    assert checkpoint.newest(run.folder).checkpoint.progress["agent_steps"] == run.agent_steps


def test_latest_leads_to_a_run_once_that_has_a_checkpoint(tmp_path: Path) -> None:
    first = train(small(tmp_path, total_agent_steps=500), quiet=True).folder
    create_run_folder(small(tmp_path))  # killed before its first checkpoint
    assert (tmp_path / "latest").resolve() == first.resolve()
    second = train(small(tmp_path, total_agent_steps=500), quiet=True).folder
    assert (tmp_path / "latest").resolve() == second.resolve()


def test_files_have_the_mode_that_the_umask_leaves(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        run = train(small(tmp_path, total_agent_steps=500), quiet=True)
    finally:
        os.umask(before)
    files = [path for path in run.folder.rglob("*") if path.is_file()]
    assert {oct(path.stat().st_mode & 0o777) for path in files} == {oct(0o640)}


@pytest.mark.parametrize("folder", ["runs", "my runs", "-d"])
def test_what_the_last_line_says_can_be_typed(
    folder: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    run = train(small(Path(folder), total_agent_steps=40))
    command = capsys.readouterr().out.splitlines()[-1].removeprefix("play it: ")
    assert shlex.split(command)[:2] == ["a3c", "play"]
    model = parse(PlayOptions, shlex.split(command)[2:]).model
    assert Path(model).resolve() == run.folder.resolve()


def test_a_tilde_is_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In Python and in a file, which no shell reads; an unknown user is a folder's name."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    config = preset("control", env="CartPole-v1", runs_dir="~/runs")
    assert create_run_folder(config).parent == tmp_path / "home" / "runs"
    other = create_run_folder(replace(config, runs_dir="~nobody-is-called-so"))
    assert other.parent == Path("~nobody-is-called-so")
