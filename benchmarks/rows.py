"""Rows of a benchmark: measured one by one, and kept in a JSON beside the Markdown file.

A part of a benchmark is rows by name. What is measured stands at once in the JSON, and is not
measured again: begun anew, the command goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from a3c.run.files import write_whole

Row = dict[str, Any]
Rows = Mapping[str, Callable[[], Row]]  # by name, how to find out
Parts = dict[str, Rows]


# What was measured, and what is left


class Results:
    """Rows by part and name, in a file that is whole at every moment.

    same: what of `where` all rows of a file have in common.
    """

    def __init__(self, path: Path, where: Row, same: Sequence[str]):
        self.path, self.where, self.same = path, where, same
        self.parts: dict[str, dict[str, Row]] = {}
        self.read()

    def read(self) -> None:
        """What stands in the file, if there is one: other processes write there as well."""
        if not self.path.exists():
            return
        read = json.loads(self.path.read_text())
        before, now = ([each[name] for name in self.same] for each in (read["where"], self.where))
        if before != now:
            was, is_now = (", ".join(map(str, each)) for each in (before, now))
            sys.exit(f"{self.path} is of {was}, not {is_now}: another --out?")
        self.parts = read["parts"]
        for rows in self.parts.values():
            for row in rows.values():  # what was measured before rows had a day of their own
                row.setdefault("started", read["where"]["started"])

    def add(self, part: str, name: str, row: Row) -> None:
        self.parts.setdefault(part, {})[name] = row
        found = {"where": self.where, "parts": self.parts}
        write_whole(self.path, json.dumps(found, indent=1) + "\n")

    def left(self, part: str, names: Iterable[str]) -> list[str]:
        """What was not measured, or failed."""
        done = good(self.parts.get(part, {}))
        return [name for name in names if name not in done]

    def good(self, part: str) -> dict[str, Row]:
        """What did not fail. Raises LookupError if there is nothing."""
        if found := good(self.parts.get(part, {})):
            return found
        raise LookupError(f"it needs the part {part}, which has not been measured")

    def ok(self, parts: Parts) -> bool:
        """Whether all of these rows are there and as they should be."""
        return all(
            self.parts.get(part, {}).get(name, {}).get("ok")
            for part, rows in parts.items()
            for name in rows
        )


def good(rows: dict[str, Row]) -> dict[str, Row]:
    """Those that did not fail."""
    return {name: row for name, row in rows.items() if "failed" not in row}


# Measuring


def measure(
    part: str, rows: Rows, results: Results, around: Callable[[], Row] = lambda: {}
) -> None:
    """What is left of a part, here. A row that fails says so, and the others are measured.

    around: what a row says of the machine meanwhile.
    """
    for name in results.left(part, rows):
        begun = time.monotonic()
        row = attempt(rows[name])
        took = round(time.monotonic() - begun, 1)
        row |= {"took": took, **{name: results.where[name] for name in ("commit", "started")}}
        row |= around()
        results.add(part, name, row)
        print(f"{part}: {name}: {json.dumps(row)}", flush=True)


def attempt(find_out: Callable[[], Row]) -> Row:
    """A row; or why there is none."""
    try:
        return find_out()
    except Exception as error:
        traceback.print_exc()
        return {"failed": f"{type(error).__name__}: {error}".splitlines()[0], "ok": False}


def measure_all(
    parts: Parts,
    results: Results,
    options: argparse.Namespace,
    elsewhere: Callable[[str], object],
    report: Callable[[Results], Iterable[str]],
    around: Callable[[], Row] = lambda: {},
) -> int:
    """What is left of each part, and the report after it. Returns the command's exit code.

    elsewhere: measures a part in a process of its own, which is told to do it --here.
    """
    for part, rows in parts.items():
        if not results.left(part, rows):
            print(f"{part}: nothing is left to measure", flush=True)
        elif options.here:
            measure(part, rows, results, around)
        else:
            elsewhere(part)
            results.read()
        options.out.write_text("\n".join(report(results)) + "\n")
    return int(not results.ok(parts))


# The command line


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """What all of these commands take."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--parts", help="some of them, with commas between; all")
    parser.add_argument(
        "--tiny", action="store_true", help="every step, and nothing to be learned of it"
    )
    parser.add_argument("--here", action="store_true", help="in this process")
    return parser


def chosen(parts: Parts, options: argparse.Namespace, parser: argparse.ArgumentParser) -> Parts:
    """Those that are asked for."""
    names = options.parts.split(",") if options.parts else list(parts)
    if unknown := [name for name in names if name not in parts]:
        parser.error(f"no part {unknown[0]!r}; expected {', '.join(parts)}")
    return {part: rows for part, rows in parts.items() if part in names}


def command_of(script: str, part: str, options: argparse.Namespace, *words: str) -> list[str]:
    """It measures a part in a process of its own."""
    command = [sys.executable, "-u", script, "--here", "--parts", part, "--out", str(options.out)]
    return [*command, *(["--tiny"] if options.tiny else []), *words]
