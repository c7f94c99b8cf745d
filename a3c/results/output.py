"""Results are written whole or not at all: text, CSV, and whatever else goes into a file."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from a3c.config import can_name
from a3c.errors import InputError, as_input_error
from a3c.run.files import replacing


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary name to write to, which becomes `path` once all is written.

    Whatever goes wrong before that, an older file at `path` stays as it was, see `replacing`.
    Where a link stands, what it leads to is replaced. Raises InputError where the system refuses:
    no such folder, a folder at `path`, a full disk.
    """
    if path.is_dir():
        raise InputError(f"cannot write {path}: it is a folder; expected the name of a file")
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path}: there is no folder {path.parent}")
    special = path.exists() and not path.is_file()  # a pipe or a device must not be replaced
    real = Path(os.path.realpath(path)) if path.is_symlink() else path
    with as_input_error(f"cannot write {path}"):
        if special:
            yield path
            return
        temporary = real.with_name(f".{real.name}.{os.getpid()}")
        with replacing(real, temporary):
            yield temporary


def out_folder(name: str) -> Path:
    """Of --out; ~ is the home, as in --runs-dir. Raises InputError for no name at all, which would
    mean the current folder, and for what no name can have."""
    if not can_name(name):
        raise InputError(f"--out is {name!r}; expected the name of a folder")
    return Path(os.path.expanduser(name))


def write_text(path: Path, text: str) -> Path:
    """A text, whole; returns its path. Raises InputError as `whole_file` does."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def write_csv(path: Path, names: Sequence[str], rows: Iterable[Iterable[object]]) -> Path:
    """Rows under their names, whole; a cell is empty for None. Raises InputError likewise."""
    with whole_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(rows)
    return path


def markdown(names: Sequence[str], rows: Iterable[Iterable[object]]) -> list[str]:
    """The lines of a table: its first column is of words, the others are of numbers."""
    rule = ["---", *["---:"] * (len(names) - 1)]
    return [f"| {' | '.join(map(str, cells))} |" for cells in (names, rule, *rows)]
