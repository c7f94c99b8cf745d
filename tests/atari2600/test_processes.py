"""Threads, forks, processors, closed environments, and disks that cannot be written."""

from __future__ import annotations

import copy
import gc
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium.error import ClosedEnvironmentError, ResetNeeded

import atari2600
from atari2600 import AtariVectorEnv, games
from atari2600.backends import kept

ROOT = Path(atari2600.__file__).parents[1]


def test_threads_end_with_their_environment() -> None:
    gc.collect()
    before = threading.active_count()
    for seed in range(10):
        envs = AtariVectorEnv("pong", 4, num_threads=2)
        envs.reset(seed=seed)
    del envs
    gc.collect()
    for _ in range(100):
        if threading.active_count() <= before:
            break
        time.sleep(0.05)
    assert threading.active_count() <= before


FORK = """
import os, sys
import numpy as np
from gymnasium.error import ResetNeeded
from atari2600 import AtariVectorEnv
envs, same = (AtariVectorEnv("pong", 4, num_threads=2) for _ in range(2))
envs.reset(seed=1)
same.reset(seed=1)
pending = sys.argv[1] == "pending"
if pending:
    envs.send(np.zeros(4, int))
sys.stdout.flush()
child = os.fork()
if pending and child == 0:
    try:
        envs.recv()
        print("answered")
    except ResetNeeded:
        print("reset needed")
    same.reset(seed=2)
    envs.reset(seed=2)
expected = same.step(np.full(4, 2))[0] if not pending or child == 0 else None
if pending and child:
    envs.recv()
elif (envs.step(np.full(4, 2))[0] == expected).all():
    print("equal")
envs.close()
same.close()
sys.stdout.flush()
if child:
    assert os.waitpid(child, 0)[1] == 0
else:
    os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize(("at", "expected"), [("rest", "equal\nequal\n"),
                                              ("pending", "reset needed\nequal\n")])  # fmt: skip
def test_a_forked_child_plays_on(at: str, expected: str) -> None:
    command = [sys.executable, "-W", "ignore", "-c", FORK, at]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (ended.stdout, ended.returncode) == (expected, 0), ended.stderr


def test_workers_are_as_many_as_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    assert AtariVectorEnv("pong", 8).workers.workers == 1
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 3, 4}, raising=False)
    assert AtariVectorEnv("pong", 8).workers.workers == 3
    assert AtariVectorEnv("pong", 2).workers.workers == 2
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert AtariVectorEnv("pong", 64).workers.workers == 6


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no pinning here")
@pytest.mark.parametrize("offset", [-2, -999, 999, 10**30])
@pytest.mark.parametrize("num_threads", [1, 2])
def test_processors_that_there_are_not_are_refused(offset: int, num_threads: int) -> None:
    before = os.sched_getaffinity(0)
    words = f"thread_affinity_offset is {offset}.*expected (at least )?-1"
    with pytest.raises(ValueError, match=words):
        AtariVectorEnv("pong", 4, num_threads=num_threads, thread_affinity_offset=offset)
    assert os.sched_getaffinity(0) == before


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no pinning here")
def test_workers_are_pinned() -> None:
    usable = [p for p in range(os.cpu_count() or 1) if p in os.sched_getaffinity(0)]
    if usable[:2] != [0, 1]:
        pytest.skip("needs processors 0 and 1")
    before = os.sched_getaffinity(0)
    envs = AtariVectorEnv("pong", 2, num_threads=2, thread_affinity_offset=0)
    envs.reset(seed=0)
    assert envs.workers.threads is not None
    together = threading.Barrier(2)  # so that each worker takes one

    def place() -> set[int]:
        together.wait(10)
        return os.sched_getaffinity(0)

    found = [envs.workers.threads.submit(place) for _ in range(2)]
    assert sorted(map(tuple, (future.result() for future in found))) == [(0,), (1,)]
    assert os.sched_getaffinity(0) == before
    envs.close()


@pytest.mark.parametrize("num_threads", [1, 2])
def test_a_closed_environment_says_so(num_threads: int) -> None:
    envs = AtariVectorEnv("pong", 2, num_threads=num_threads)
    envs.reset(seed=0)
    state = envs.save_state()
    envs.close()
    envs.close()
    calls: list[Any] = [
        envs.reset,
        lambda: envs.step(np.zeros(2, int)),
        lambda: envs.send(np.zeros(2, int)),
        envs.recv,
        envs.save_state,
        lambda: envs.load_state(state),
    ]
    for call in calls:
        with pytest.raises(ClosedEnvironmentError, match="closed"):
            call()


def test_an_environment_that_never_started_closes() -> None:
    AtariVectorEnv("pong", 2, num_threads=2).close()
    with pytest.raises(ResetNeeded):
        AtariVectorEnv("pong", 2, num_threads=1).recv()


# ---- disks that cannot be written. Tests may run as root, for whom nothing is read-only: so the
# places are made of files where folders are expected.


@pytest.fixture
def sealed(tmp_path: Path) -> dict[str, str]:
    """The environment of a process that finds no folder for compiled code but a temporary one."""
    package = tmp_path / "atari2600"
    copied = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(atari2600.__file__).parent, package, ignore=copied)
    for folder in (package, package / "backends"):
        (folder / "__pycache__").write_text("in the way")
    (tmp_path / "home").write_text("no folder")
    kept = {k: v for k, v in os.environ.items() if k not in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")}
    (tmp_path / "tmp").mkdir()
    return kept | {
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}",
        "HOME": str(tmp_path / "home"),
        "TMPDIR": str(tmp_path / "tmp"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def run(code: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """`-P`: the current folder does not count, PYTHONPATH does."""
    command = [sys.executable, "-P", "-c", code]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


ANNOUNCE = """
from atari2600.backends import cpu, kept
kept.announce(cpu.run)
kept.announce(cpu.run)
print(cpu.__file__, *kept.folders(), getattr(cpu.run._cache, "cache_path", None))
"""


def test_without_a_place_compiled_code_goes_to_the_temporary_folder(
    sealed: dict[str, str],
) -> None:
    ended = run(ANNOUNCE, sealed)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("\n") == 1
    assert "NUMBA_CACHE_DIR" in ended.stderr
    assert f"kept in {sealed['TMPDIR']}/atari2600-" in ended.stderr
    assert ended.stdout.startswith(sealed["PYTHONPATH"].split(os.pathsep)[0])
    assert ended.stdout.count(f"{sealed['TMPDIR']}/atari2600-") == 2


def test_with_no_place_at_all_it_compiles_without_one(sealed: dict[str, str]) -> None:
    nowhere = f"import tempfile; tempfile.tempdir = {sealed['HOME']!r}\n"
    ended = run(nowhere + ANNOUNCE, sealed | {"NUMBA_CACHE_DIR": sealed["HOME"]})
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("\n") == 1
    assert "cannot be kept on the disk: set NUMBA_CACHE_DIR" in ended.stderr
    assert ended.stdout.split()[-1] == "None"


def test_commands_that_need_no_emulator_do_not_mention_it(sealed: dict[str, str]) -> None:
    ended = run("import sys; from a3c.cli import main; sys.exit(main(['--help']))", sealed)
    assert ended.returncode == 0, ended.stderr
    assert "atari2600" not in ended.stderr


def test_without_a_home_there_is_still_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Path.home() raises RuntimeError for a user that the system does not know."""

    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", unknown)
    assert [folder.parent for folder in kept.folders()] == [kept.temporary_folder()]


def test_others_folders_are_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = kept.temporary_folder()
    assert folder is not None
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o777)
    assert kept.temporary_folder() is None
    folder.rmdir()
    (tmp_path / "other").mkdir()
    folder.symlink_to(tmp_path / "other")
    assert kept.temporary_folder() is None


def test_what_cannot_be_saved_is_run_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    """A full disk: Numba raises after it has compiled."""
    calls: list[str] = []

    class Function:
        _cache = type("Cache", (), {"disable": lambda self: calls.append("disabled")})()

        def __call__(self, word: str) -> None:
            calls.append(word)
            if calls.count(word) == 1:
                raise OSError(28, "No space left on device")

    kept.call(Function(), "played")
    assert calls == ["played", "disabled", "played"]
    error = capsys.readouterr().err
    assert "No space left on device" in error
    assert "NUMBA_CACHE_DIR" in error
    assert error.count("\n") == 1


def add(numbers: Any) -> None:
    numbers[0] += 1


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Numba's, of functions that are decorated from now on."""
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path))
    return tmp_path


def added() -> bool:
    """Announce and call `add`, as a process that starts; whether the disk had it."""
    function, numbers = kept.kept(add, "stamp"), np.zeros(1)
    kept.announce(function)
    kept.call(function, numbers)
    assert numbers[0] == 1
    return bool(function.stats.cache_hits)


@pytest.mark.parametrize("ending", ["nbi", "nbc"])
@pytest.mark.parametrize("left", [0, 40])
def test_what_a_power_cut_left_of_the_cache_is_made_anew(
    ending: str, left: int, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [added(), added()] == [False, True]
    capsys.readouterr()
    (file,) = cache.rglob(f"*.{ending}")
    file.write_bytes(file.read_bytes()[:left])
    assert [added(), added()] == [False, True]
    announced = ending == "nbi"  # that the code itself is cut short shows when it is read
    assert ("compiling the emulator" in capsys.readouterr().err) == announced


def test_the_cache_of_another_processor_is_none(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line says that it compiles: a minute without one would look like an end."""
    added()
    function = kept.kept(add, "stamp")
    index = function._cache._cache_file
    (((kinds, _, code), file),) = index._load_index().items()
    index._save_index({(kinds, ("x86_64", "another", "features"), code): file})
    capsys.readouterr()
    assert not added()
    assert "compiling the emulator, once" in capsys.readouterr().err


def test_without_numbas_compiler_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("numba.config.DISABLE_JIT", 1)
    with pytest.raises(ImportError, match="expected no NUMBA_DISABLE_JIT"):
        kept.compiled("stamp")(add)


def test_roms_are_where_ale_py_finds_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pong = games.find("pong")
    rom = games.rom_bytes(pong)
    monkeypatch.setenv("ALE_ROMS_DIR", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        games.rom_bytes(pong)
    (tmp_path / "pong.bin").write_bytes(rom)
    assert games.rom_bytes(pong) == rom


def test_a_copy_after_a_lost_answer_is_one_to_be_reset() -> None:
    envs = AtariVectorEnv("pong", 2, num_threads=2)
    envs.reset(seed=0)
    envs.torn = True  # as after a Ctrl-C that came amid `send`
    assert copy.deepcopy(envs).asked is None
    envs.close()


def test_a_game_is_kept_where_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from atari2600.backends import translate

    (tmp_path / "file").write_text("no folder")
    folders = [tmp_path / "file" / "atari2600", tmp_path / "atari2600"]
    monkeypatch.setattr(kept, "folders", lambda: folders)
    translate._keep("game.npz", b"code", np.array([3]))
    assert [path.name for path in folders[1].iterdir()] == ["game.npz"]


FROM_THE_DISK = """
import numpy as np
from atari2600 import AtariEnv, AtariVectorEnv
from atari2600.backends import cpu, translate
translate._made = None  # the game's code is there as well
envs = AtariVectorEnv("pong", 1, num_threads=1)
envs.reset(seed=0)
envs.step(np.zeros(1, int))
AtariEnv("pong").reset(seed=0)
print(len(cpu.run.signatures), sum(cpu.run.stats.cache_misses.values()))
"""


def test_another_process_finds_all_compiled_code_on_the_disk() -> None:
    """It would compile for a minute otherwise. One version of the function serves all."""
    AtariVectorEnv("pong", 1, num_threads=1).reset(seed=0)
    ended = run(FROM_THE_DISK, dict(os.environ) | {"PYTHONPATH": str(ROOT)})
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.split() == ["1", "0"]
