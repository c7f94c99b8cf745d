"""What a benchmark keeps of its runs: scores.csv, a row for each, and curves.csv, thin curves.

Both are its result. Of a run whose folder is gone they are what there is, so that weights need not
be kept and a benchmark can go on from the files of another machine.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_type_hints

from a3c.errors import InputError, as_input_error
from a3c.results.study_csv import rows_of
from a3c.results.study_plan import Planned

SCORES_CSV, CURVES_CSV = "scores.csv", "curves.csv"


class Score(NamedTuple):
    """A finished run's."""

    game: str
    seed: int
    agent_steps: int
    minutes: float  # of training
    sampled: float  # mean return
    sampled_std: float
    greedy: float
    greedy_std: float
    episodes: int  # of each policy
    commit: str  # of the code that ended the run; empty where it is not known
    processor: str
    cores: int


class Point(NamedTuple):
    """A run's mean return at some time of its training."""

    game: str
    seed: int
    agent_steps: int
    seconds: float
    mean_return_100: float


Row = TypeVar("Row", Score, Point)


def points(game: str, planned: Planned) -> list[Point]:
    """The thin curve of a run: a hundred points."""
    names = Point._fields[1:]
    rows = [row for row in rows_of(planned) if row["mean_return_100"] is not None]
    return [Point(game, *(row[name] for name in names)) for row in rows]


def read_rows(path: Path, kind: type[Row]) -> list[Row]:
    """Rows of one kind, as a benchmark wrote them; nothing where there is no such file.

    Raises InputError if it cannot be read or is another.
    """
    if not path.exists():
        return []
    try:
        with as_input_error(f"cannot read {path}"), path.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            if tuple(rows.fieldnames or ()) != kind._fields:
                raise ValueError(rows.fieldnames)
            return [kind(**typed(row, kind)) for row in rows]
    except (ValueError, TypeError, csv.Error):
        wanted = ", ".join(kind._fields)
        raise InputError(
            f"{path} is no {path.name} of this version; expected {wanted} in each row"
        ) from None


def typed(row: dict[str, str], kind: type[Score] | type[Point]) -> dict[str, Any]:
    """Its cells as what the fields hold. Raises ValueError or TypeError where they cannot be."""
    return {name: of(row[name]) for name, of in get_type_hints(kind).items()}
