"""The options that a run has had: its checkpoint's, which count, rather than config.json's."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, NamedTuple

from a3c import checkpoint
from a3c.config import FREE_ON_RESUME, Config, InputError, nearest, option


class RunConfig(NamedTuple):
    """The options of a run, and what a reader should know about where they are from."""

    config: Config
    remarks: list[str]


def read_run_config(run: Path) -> RunConfig:
    """From the newest checkpoint; from config.json where none can be read.

    Raises InputError if neither can be read: the folder is not a run's.
    """
    try:
        saved = checkpoint.newest(run).checkpoint.config
    except InputError:
        remark = "no checkpoint of the run can be read: the settings are those of config.json"
        return RunConfig(read_config(run), [remark])
    try:
        written = read_config(run)
    except InputError as error:
        return RunConfig(saved, [f"{error}; the settings are the checkpoint's"])
    return RunConfig(saved, contradictions(written, saved))


def read_config(run: Path) -> Config:
    """What config.json says. Raises InputError if it cannot be read or is no Config."""
    path = run / "config.json"
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError):
        values = None
    if not isinstance(values, dict):
        raise InputError(f"{run} has no readable config.json; expected a run folder")
    names = [field.name for field in dataclasses.fields(Config)]
    for name in values:
        if name not in names:
            raise InputError(
                f"{path} has {name!r}, no option of this version{nearest(name, names)}"
            )
    try:
        return Config(**values)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def contradictions(written: Config, saved: Config) -> list[str]:
    """Where config.json was changed after the run began: the run goes by its checkpoint."""
    return [
        f"config.json was changed: {option(name)} is {there} there, but the run has had {value}"
        for name, there, value in differences(written, saved, FREE_ON_RESUME)
    ]


def differences(one: Config, other: Config, free: set[str]) -> list[tuple[str, Any, Any]]:
    """Options that differ, those in `free` left out: name, value in `one`, value in `other`."""
    pairs = [
        (field.name, getattr(one, field.name), getattr(other, field.name))
        for field in dataclasses.fields(Config)
        if field.name not in free
    ]
    return [pair for pair in pairs if pair[1] != pair[2]]
