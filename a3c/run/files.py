"""Files that are there whole, or not at all, also where the machine loses its power."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: Path, temporary: Path) -> Iterator[None]:
    """What is written to `temporary` meanwhile becomes `path`, flushed to the disk: whatever goes
    wrong leaves the old file as it was or the new one whole, and no part of one. Raises OSError."""
    try:
        yield
        flush(temporary, os.O_RDWR)  # or a power cut may leave the name and no bytes
        os.replace(temporary, path)
        flush_names(path.parent)
    finally:
        with suppress(OSError):  # a read-only system refuses even where there is no such file
            temporary.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """A text in place of the file that was there. Raises OSError, and leaves that one then."""
    temporary = path.with_suffix(".writing")
    with replacing(path, temporary):
        temporary.write_text(text, encoding="utf-8")


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
