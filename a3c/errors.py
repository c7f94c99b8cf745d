"""What the user is told where something they gave cannot be used."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterator
from contextlib import contextmanager


class InputError(Exception):
    """Something the user gave cannot be used; the message is one line they can act on."""


@contextmanager
def as_input_error(doing: str) -> Iterator[None]:
    """Where the system refuses, raise InputError: `cannot write x: No space left on device`."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{doing}: {error.strerror or error}") from None


def option(name: str) -> str:
    """The command-line spelling of a field."""
    return "--" + name.replace("_", "-")


def option_with(name: str, value: object) -> str:
    """The words that give an option a value."""
    if isinstance(value, bool):
        return option(name) if value else option(f"no_{name}")
    return f"{option(name)} {shlex.quote(str(value))}"


def nearest(word: str, choices: list[str]) -> str:
    """`; did you mean 'x'?` for the closest choice, or nothing if none is close."""
    folded = {choice.casefold(): choice for choice in choices}
    close = difflib.get_close_matches(word.casefold(), folded, n=1)
    return f"; did you mean {folded[close[0]]!r}?" if close else ""
