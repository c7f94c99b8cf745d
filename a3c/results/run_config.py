"""The options that a run has had: its checkpoint's, which count, rather than config.json's."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from a3c.config import Config
from a3c.errors import InputError
from a3c.run import checkpoint, start, strict_json


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
        remark = (
            "the run's newest checkpoint is missing or cannot be read: "
            "the settings are those of config.json"
        )
        return RunConfig(read_config(run), [remark])
    return RunConfig(saved, start.edited(run, saved))


def read_config(run: Path) -> Config:
    """What config.json says. Raises InputError if it cannot be read or is no Config."""
    if not run.exists():
        raise InputError(checkpoint.no_run_folder(run))
    path = run / "config.json"
    values = strict_json.read(path)
    if values is None:
        raise InputError(f"{run} has no readable config.json; expected a run folder")
    try:
        return checkpoint.fields_of(Config, "option", values)
    except InputError as error:
        raise InputError(f"{path} {error}") from None
