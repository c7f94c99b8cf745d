"""What was compiled is kept on the disk: where, and what to do where there is no place for it."""

from __future__ import annotations

import contextlib
import functools
import os
import pickle
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba

Function = Callable[..., Any]
CUT_SHORT = EOFError, pickle.UnpicklingError  # of a file that Numba wrote
ADVICE = "set NUMBA_CACHE_DIR to a folder that can be written and that lasts"


def compiled(stamp: str) -> Callable[[Function], Any]:
    """Numba's `njit` for the outermost function, kept on the disk as long as `stamp` is the same.

    Numba chooses NUMBA_CACHE_DIR, else the function's folder, else the user's cache. Where none can
    be written it is `temporary_folder`, and where that cannot be either, nothing is kept.
    """

    def compiled_one(function: Function) -> Any:
        with contextlib.suppress(RuntimeError):  # Numba: "no locator available"
            return kept(function, stamp)
        with contextlib.suppress(RuntimeError), numba_cache(temporary_folder()):
            return kept(function, stamp)
        return numba.njit(_nrt=False, nogil=True)(function)

    return compiled_one


def kept(function: Function, stamp: str) -> Any:
    """Raises RuntimeError if there is no place for it."""
    if numba.config.DISABLE_JIT:
        raise ImportError("atari2600 is compiled by Numba; expected no NUMBA_DISABLE_JIT")
    dispatcher = numba.njit(_nrt=False, nogil=True, cache=True)(function)
    # Numba keeps it as long as its very file is unchanged; the code that it calls counts, too.
    # Numba writes what says that the code is there before the code: so the code has the stamp in
    # its name, lest a disk that gets full in between leaves the code of other sources there.
    # (Numba has no public way to say so; the tests notice if this one ends.)
    file = dispatcher._cache._cache_file
    file._source_stamp = stamp
    file._data_name_pattern = file._data_name_pattern.replace("{number", f"{stamp[:16]}.{{number")
    return dispatcher


@contextlib.contextmanager
def numba_cache(folder: Path | None) -> Iterator[None]:
    """Numba's cache is in `folder`, for the functions that are decorated meanwhile."""
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(folder or before)
    try:
        yield
    finally:
        numba.config.CACHE_DIR = before


def temporary_folder() -> Path | None:
    """A folder of this user's alone, below the system's temporary one; None if there is none.

    Compiled code is run: so a folder that others can write into does not count.
    """
    user = os.getuid() if hasattr(os, "getuid") else 0
    try:
        folder = Path(tempfile.gettempdir()) / f"atari2600-{user}"
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return None
    shared = found.st_uid != user or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if not stat.S_ISDIR(found.st_mode) or (shared and os.name != "nt"):
        return None  # (on Windows the temporary folder is the user's own)
    return folder


def folders() -> list[Path]:
    """Where translated games are kept, best first: beside Numba's cache if that is set."""
    chosen = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME")
    found = [temporary_folder()]
    with contextlib.suppress(RuntimeError):  # a user without a home
        found.insert(0, Path(chosen or Path.home() / ".cache"))
    return [folder / "atari2600" for folder in found if folder is not None]


@functools.cache
def announce(function: Any) -> None:
    """Say that a wait begins, if Numba is going to compile; and if it will not last, why."""
    cache = getattr(function._cache, "_cache_file", None)
    if function.signatures or (cache is not None and is_there(function, cache)):
        return
    line = "atari2600: compiling the emulator, once; about a minute"
    if cache is None:
        line += f"; it cannot be kept on the disk: {ADVICE}"
    elif Path(cache._cache_path).is_relative_to(temporary_folder() or "/nowhere"):
        line += f"; kept in {temporary_folder()}: {ADVICE}"
    print(line, file=sys.stderr)


def is_there(function: Any, cache: Any) -> bool:
    """Whether Numba's cache has it for this kind of processor. A list of it that was cut short, by
    a power cut, say, is emptied: else Numba would fail at it each time."""
    try:
        listed = cache._load_index()
    except CUT_SHORT:
        with contextlib.suppress(OSError):
            cache.flush()
        return False
    except OSError:  # another user's; `call` says so
        return False
    here = function.targetctx.codegen().magic_tuple()
    return any(processor == here for _, processor, *_ in listed)


def call(function: Any, *arguments: Any) -> None:
    """A function's first call. What cannot be kept (the disk is full) is run all the same."""
    try:
        try:
            function(*arguments)
        except CUT_SHORT:  # as in `is_there`, but of the code
            function._cache.flush()
            function(*arguments)
    except OSError as error:
        print(f"atari2600: what was compiled cannot be kept: {error}; {ADVICE}", file=sys.stderr)
        function._cache.disable()
        function(*arguments)
