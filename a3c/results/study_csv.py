"""study.csv: the curves of all runs of a study, a row for each of some records.

A row has the options that its run's setting varies, the seed, and what was MEASURED. Where a run
evaluates as it goes each evaluation has a row of its own, the only one that says its return.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from a3c.errors import InputError, as_input_error
from a3c.results.output import write_csv
from a3c.results.study_plan import Planned
from a3c.run import log

STUDY_CSV = "study.csv"
RECORDS_OF_A_RUN = 100
MEASURED = (
    "agent_steps", "seconds", "episodes", "mean_return_100", "agent_steps_per_second", "policy_lag"
)  # fmt: skip
EVALUATED = "evaluated_return"  # the mean of the games with sampled actions

Rows = list[dict[str, str]]  # of one run, in order
Runs = dict[str, list[Rows]]  # by setting


def write_study(path: Path, plans: list[Planned]) -> bool:
    """The rows of all runs; returns whether there are any: nothing is written without.

    A cell is empty where a run does not set an option or has no value.
    """
    found = [row for planned in plans for row in rows_of(planned)]
    if not found:
        return False
    names = list(dict.fromkeys(name for row in found for name in row))
    write_csv(path, names, ([row.get(name) for name in names] for row in found))
    return True


def rows_of(planned: Planned) -> list[dict[str, Any]]:
    """The last record of each RECORDS_OF_A_RUNth of a run's length; its evaluations."""
    records = [
        record
        for record in log.read(planned.folder / log.METRICS)
        if record["mean_return_100"] is not None
    ]
    every = planned.config.total_agent_steps / RECORDS_OF_A_RUN
    chosen = {int(record["agent_steps"] / every): record for record in records}
    rows: list[dict[str, Any]] = [
        {name: record.get(name) for name in MEASURED} for record in chosen.values()
    ]
    rows = sorted([*evaluation_rows(planned, records), *rows], key=lambda row: row["agent_steps"])
    common = {**planned.setting, "seed": planned.config.seed}
    return [{**common, **row} for row in rows]


def evaluation_rows(planned: Planned, records: list[log.Record]) -> list[dict[str, Any]]:
    """Of each evaluation; the mean return of training's games is that of the record before."""
    rows: list[dict[str, Any]] = []
    for evaluation in log.read_evaluations(planned.folder):
        steps = evaluation["agent_steps"]
        before = [record for record in records if record["agent_steps"] <= steps]
        row = {"agent_steps": steps, "seconds": evaluation["seconds"]}
        for name in ("episodes", "mean_return_100"):
            row[name] = before[-1][name] if before else None
        rows.append({**row, EVALUATED: evaluation["sampled_return"]})
    return rows


def read_csv(path: Path) -> Runs:
    """The runs by setting. Raises InputError if the file cannot be read or is another.

    Where a seed's agent steps fall another run with that seed begins, as files put together have.
    """
    found: dict[str, dict[str, list[Rows]]] = {}
    try:
        with as_input_error(f"cannot read {path}"), path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                label = label_of(setting_of(row))
                runs = found.setdefault(label, {}).setdefault(row["seed"], [[]])
                agent_steps, before = int(row["agent_steps"]), runs[-1][-1:]
                if before and agent_steps < int(before[0]["agent_steps"]):
                    runs.append([])
                runs[-1].append(row)
    except (KeyError, TypeError, ValueError):  # a cut row has None
        lacks = "no column 'seed', or none of whole numbers 'agent_steps'"
        raise InputError(f"{path} has {lacks}; expected a study.csv") from None
    return {
        label: [run for runs in seeds.values() for run in runs] for label, seeds in found.items()
    }


def setting_of(row: dict[str, str]) -> dict[str, str]:
    """The options that a row's setting varies."""
    others = ("seed", *MEASURED, EVALUATED)
    return {name: value for name, value in row.items() if value and name not in others}


def label_of(setting: Mapping[str, Any]) -> str:
    """A setting in words: `num_threads 2, num_envs 64`."""
    return ", ".join(f"{name} {value}" for name, value in setting.items()) or "defaults"
