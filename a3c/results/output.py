"""Results are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from a3c.config import InputError, as_input_error
from a3c.run.files import flush


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary name to write to, which becomes `path` once all is written.

    Whatever goes wrong, an older file at `path` stays as it was and no part of a new one is left.
    Where a link stands, what it leads to is replaced. Raises InputError where the system refuses:
    no such folder, a folder at `path`, a full disk.
    """
    if path.is_dir():
        raise InputError(f"cannot write {path}: it is a folder; expected the name of a file")
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path}: there is no folder {path.parent}")
    special = path.exists() and not path.is_file()  # a pipe or a device must not be replaced
    real = Path(os.path.realpath(path)) if path.is_symlink() else path
    temporary = path if special else real.with_name(f".{real.name}.{os.getpid()}")
    try:
        with as_input_error(f"cannot write {path}"):
            yield temporary
            if not special:
                flush(temporary, os.O_RDWR)  # or a power cut may leave the name and no bytes
                os.replace(temporary, real)
    finally:
        if not special:
            temporary.unlink(missing_ok=True)
