"""Files that are there whole, or not at all, also where the machine loses its power."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """A text in place of the file that was there. Raises OSError, and leaves that one then."""
    temporary = path.with_suffix(".writing")
    try:
        temporary.write_text(text, encoding="utf-8")
        flush(temporary, os.O_RDWR)
        os.replace(temporary, path)
        flush_names(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def flush(path: Path, flags: int) -> None:
    """Make the system write a file, or a folder's names, to the disk now. Raises OSError."""
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_names(folder: Path) -> None:
    """Likewise the names in a folder, where that can be: not every system opens folders (Windows),
    and not every file system flushes them. There a crash of the machine may lose the newest."""
    with suppress(OSError):
        flush(folder, os.O_RDONLY)
