"""What is on the disk when the machine loses its power: a file before its name, then the name."""

import errno
import os
from pathlib import Path

import pytest

from a3c.config import Config
from a3c.results.output import whole_file
from a3c.run import best, checkpoint, log
from a3c.run.files import write_whole
from a3c.run.folder import establish
from tests.a3c.test_checkpoint import example
from tests.commands.made_run import evaluation, record

File = tuple[int, int]


def file(where: Path | int) -> File:
    """Which one, whatever its name, and how much is in it."""
    found = os.stat(where)
    return found.st_ino, found.st_size


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, File]]:
    """What is flushed and renamed from now on, in order."""
    done: list[tuple[str, File]] = []
    fsync, replace = os.fsync, os.replace

    def flush(descriptor: int) -> None:
        done.append(("flush", file(descriptor)))
        fsync(descriptor)

    def rename(before: Path, after: Path) -> None:
        done.append(("rename", file(before)))
        replace(before, after)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(os, "replace", rename)
    return done


def test_a_checkpoint_is_flushed_before_it_has_its_name_and_its_folder_then(
    tmp_path: Path, done: list[tuple[str, File]]
) -> None:
    path = tmp_path / "model.safetensors"
    checkpoint.save(path, example())
    made = file(path)
    assert done == [("flush", made), ("rename", made), ("flush", file(tmp_path))]


def test_a_text_is_flushed_before_it_has_its_name_and_its_folder_then(
    tmp_path: Path, done: list[tuple[str, File]]
) -> None:
    path = tmp_path / "config.json"
    path.write_text("before")
    write_whole(path, "a text")
    assert done == [("flush", file(path)), ("rename", file(path)), ("flush", file(tmp_path))]


def test_a_result_is_flushed_before_it_has_its_name(
    tmp_path: Path, done: list[tuple[str, File]]
) -> None:
    path = tmp_path / "scores.csv"
    with whole_file(path) as temporary:
        temporary.write_text("a text")
    assert done == [("flush", file(path)), ("rename", file(path)), ("flush", file(tmp_path))]


def test_a_new_run_has_its_name_before_it_is_the_latest(
    tmp_path: Path, done: list[tuple[str, File]]
) -> None:
    run = tmp_path / "CartPole-v1-1"
    run.mkdir()
    establish(run, Config(env="CartPole-v1"), new=True)
    names = [file(folder) for folder in (run, tmp_path)]
    flushed = [which for what, which in done if what == "flush"]
    assert [which[0] for which in flushed[-2:]] == [name[0] for name in names]
    assert done[-1][0] == "rename"  # of the link


def test_the_score_of_another_goes_before_a_better_policy_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a run that is killed between the two has the score of another."""
    (tmp_path / "best.json").write_text("of another")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "somewhere")

    monkeypatch.setattr(checkpoint, "save", full)
    with pytest.raises(OSError, match="No space left"):
        best.save(tmp_path, example())
    assert not (tmp_path / "best.json").exists()


def test_records_and_evaluations_are_flushed_before_a_checkpoint_counts_them(
    tmp_path: Path, done: list[tuple[str, File]]
) -> None:
    written = log.Log(tmp_path, 0)
    written.write(record(8, 1.0, [2.0]))
    written.write_evaluation(evaluation(8, 1.0, 2.0))
    written.sync()
    written.close()
    names = ("metrics.jsonl", "evaluations.jsonl")
    files = [("flush", file(tmp_path / name)) for name in names]
    folder = ("flush", file(tmp_path))
    assert done == [files[0], folder, files[1], folder]  # its new names
    done.clear()
    written = log.Log(tmp_path, 8)
    written.write_evaluation(evaluation(16, 1.0, 2.0))
    done.clear()
    written.sync()
    written.close()
    assert done == [("flush", file(tmp_path / name)) for name in names]
