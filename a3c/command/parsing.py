"""tyro's reading of a command line, with its complaints as one line that a person can act on."""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Callable
from typing import Any, TypeVar, get_args, get_type_hints

import tyro
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
)

from a3c.command.output import to_stdout
from a3c.errors import InputError, nearest, option
from a3c.options import nearest_option

Options = TypeVar("Options")


def no_choice(found: re.Match[str]) -> str:
    """Of a word that is none of an option's choices."""
    value, name, listed = found.groups()
    choices = re.findall(r"'([^']*)'", listed)
    return f"{name} is {value!r}; expected {', '.join(choices)}{nearest(value, choices)}"


# tyro's words, and what is said in their place
PLAINER: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r"invalid choice '(.*)' for argument '(\S+)'\. Expected one of \((.*)\)", no_choice),
    (r"Unrecognized options: (.*)", r"unexpected words: \1"),
    (r"Missing from a3c (\w+): \w+ (.*?)\.? \(required\)", r"\1 needs: \2"),
    (r"Missing value for argument '(\S+)'\. Expected 1 values", r"\1 needs a value"),
    (
        r"Error parsing (\S+): (?:no type matching .*: )?could not convert string to float: (.*)",
        r"\1 is \2; expected a number",
    ),
    (r"Error parsing (\S+): (?:no type matching .*: )?('.*'; expected)", r"\1 is \2"),
)


def whole_number(words: list[str]) -> int:
    """Of 1000000, 1_000_000 or 1e6. Raises ValueError, in words, for what is none."""
    with contextlib.suppress(ValueError):
        return int(words[0])
    with contextlib.suppress(ValueError):
        if (number := float(words[0])).is_integer():
            return int(number)
    raise ValueError(f"{words[0]!r}; expected a whole number, as 1000000 or 1e6")


READS = ConstructorRegistry()  # of all commands


@READS.primitive_rule
def read_whole_numbers(found: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[int] | None:
    """How tyro reads an int."""
    if found.type is not int:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT",
        instance_from_str=whole_number,
        is_instance=lambda value: isinstance(value, int),
        str_from_instance=lambda value: [str(value)],
    )


@READS.primitive_rule
def read_what_may_be_left_out(found: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """How tyro reads `str | None`: None is not to be typed, so `None` is a word like any other."""
    kinds = [kind for kind in get_args(found.type) if kind is not type(None)]
    if len(kinds) != 1 or len(get_args(found.type)) != 2 or kinds[0] not in (str, int, float):
        return None
    kind: Any = kinds[0]
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=kind.__name__.upper(),
        instance_from_str=whole_number if kind is int else lambda words: kind(words[0]),
        is_instance=lambda value: value is None or isinstance(value, kind),
        str_from_instance=lambda value: [str(value)],
    )


def expanded(word: str) -> str:
    """A word of the command, with the home in place of the ~ that shells leave in --out=~/here."""
    name, is_given, value = word.partition("=")
    given = name.startswith("--") and is_given and value.startswith("~")
    return f"{name}={os.path.expanduser(value)}" if given else word


def parse(kind: type[Options], words: list[str]) -> Options:
    """The options of a command: `a3c play` for PlayOptions. Raises InputError."""
    check_options(get_type_hints(kind, include_extras=True), words)
    return tyro_cli(kind, words, "a3c " + kind.__name__.removesuffix("Options").lower())


def tyro_cli(kind: type[Options], words: list[str], program: str, **keywords: Any) -> Options:
    """tyro.cli, with its complaint as an InputError. --help prints, and raises SystemExit.

    Raises OutputError where the help cannot be written.
    """
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint), to_stdout():  # the help
            return tyro.cli(kind, args=words, prog=program, registry=READS, **keywords)
    except SystemExit as end:
        if end.code:
            raise InputError(one_line(complaint.getvalue())) from None
        raise


def check_options(kinds: dict[str, Any], words: list[str]) -> None:
    """Raise InputError for an option that is not there, with the nearest that is.

    kinds: by field; those that are tyro's Positional have no option.
    """
    names = {option(name): kind for name, kind in kinds.items() if not is_positional(kind)}
    places = {option(name) for name, kind in kinds.items() if is_positional(kind)}
    switches = {
        name.replace("--", "--no-", 1): name for name, kind in names.items() if kind is bool
    }
    for before, word in zip(["", *words], words, strict=False):
        if not word.strip():
            where = before if before.startswith("--") else "a word"
            raise InputError(f"{where} is {word!r}; expected a value; is a variable not set?")
        name, *value = word.split("=", 1)
        name = name.replace("_", "-")
        if name.startswith("--") and name not in [*names, *switches, "--help"]:
            hint = nearest_option(name, [*names, *switches, "--help"])
            if name in places:
                hint = f"; expected {name[2:].upper()} alone, without the name"
            raise InputError(f"unknown option {name!r}{hint}")
        if value == [""] and name in ("--resume", "--from", "--config"):  # else this folder
            raise InputError(f"{name} is ''; expected a value; is a variable not set?")
        if value and (name in switches or names.get(name) is bool):
            on = switches.get(name, name)
            raise InputError(f"{name} takes no value; expected {on} or {on.replace('--', '--no-')}")


def is_positional(kind: Any) -> bool:
    """Whether tyro takes it by its place."""
    return tyro.conf.Positional in getattr(kind, "__metadata__", ())


def one_line(complaint: str) -> str:
    """What tyro's message says between its first rule and its second.

    With UTF-8 the first rule is the upper edge of a box; without, it stands below a title.
    """
    parts: list[list[str]] = [[]]
    for line in complaint.splitlines():
        text = line.strip(" │|")
        if re.match(r"╭|╰|[─-]{4}", text):
            parts.append([])
        else:
            parts[-1].append(text)
    said = " ".join(parts[min(1, len(parts) - 1)]).rstrip(".")
    for pattern, words in PLAINER:
        said = re.sub(pattern, words, said)
    return f"{said}; --help lists the options"
