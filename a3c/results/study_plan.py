"""The SPEC of a study and the runs that it plans: all that can be wrong is said before the first.

SPEC is a TOML file. [base] has `preset` and options common to all runs; each [[settings]] and every
combination of the lists in [grid] make a run; `goal` is the mean return whose time is compared.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from pathlib import Path
from typing import Any, NamedTuple

from a3c.config import Config, to_dict
from a3c.devices import pick_device
from a3c.envs.names import (
    atari_game,
    check_atari_options,
    check_gymnasium_id,
    default_preset,
)
from a3c.errors import InputError, nearest
from a3c.options import as_options, is_read, nearest_option, read_toml
from a3c.presets import preset, preset_values
from a3c.run import checkpoint, log

Options = dict[str, Any]

KEYS = ["base", "settings", "grid", "goal"]
OPTIONS = [field.name for field in dataclasses.fields(Config) if field.name != "runs_dir"]
# How a run is written down, which does not change it
FREE = {"runs_dir", "checkpoint_every_seconds", "log_every_seconds"}
LONGEST_NAME = 200  # bytes of a folder's name; file systems take 255


class StudySpec(NamedTuple):
    """What a SPEC says. A grid always has a list of seeds."""

    path: Path
    base: Options
    settings: list[Options]
    grid: dict[str, list[Any]]
    goal: float | None


class Planned(NamedTuple):
    """One run of a study."""

    setting: Options  # the options that the study varies, without the seed
    config: Config
    runs_dir: Path

    @property
    def folder(self) -> Path:
        """The newest run in runs_dir, of those that have a checkpoint if one has: one that was
        killed before its first hides none. The link `latest` is not everywhere (Windows)."""
        runs = [path.parent for path in self.runs_dir.glob("[!.]*/config.json")]
        newest = [run for run in runs if run.name != "latest"] or runs
        return max(
            newest,
            key=lambda run: (bool(checkpoint.numbered(run)), run.name),
            default=self.runs_dir / "none",
        )


def read_spec(path: Path) -> StudySpec:
    """The SPEC. Raises InputError if it cannot be read, or for a key or a kind that is wrong."""
    try:
        return study_spec_of(read_toml(path), path)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def study_spec_of(text: Options, path: Path) -> StudySpec:
    """The SPEC of a TOML file's tables. Raises InputError."""
    for key in text:
        if key not in KEYS:
            hint = nearest(key, KEYS)
            raise InputError(f"{key!r} is no part of a SPEC; expected {', '.join(KEYS)}{hint}")
    if not set(text) - {"goal"}:
        raise InputError("there is nothing to run; expected [base], [[settings]] or [grid]")
    base = as_options(as_table("[base]", text.get("base", {})))
    check_names("[base]", base, ["preset", *OPTIONS])
    for name, value in base.items():
        if isinstance(value, list):
            raise InputError(f"[base] {name} is {value!r}; expected one value, or it in [grid]")
    settings = text.get("settings", [{}])
    if not isinstance(settings, list) or not settings:
        raise InputError(f"settings is {settings!r}; expected tables, each headed [[settings]]")
    grid = {"seed": [base.get("seed", 1)], **as_options(as_table("[grid]", text.get("grid", {})))}
    if text.get("grid") == {}:
        raise InputError("[grid] is empty; expected options with lists, as seed = [1, 2, 3]")
    check_names("[grid]", grid, OPTIONS)
    for name, values in grid.items():
        check_list(name, values)
    settings = [as_options(as_table("[[settings]]", setting)) for setting in settings]
    for setting in settings:
        check_setting(setting, grid)
    return StudySpec(path, base, settings, grid, goal_of(text))


def as_table(name: str, value: Any) -> Options:
    """A table of the SPEC. Raises InputError if it is something else."""
    if not isinstance(value, dict):
        raise InputError(f"{name} is {value!r}; expected a table of options")
    return value


def check_list(name: str, values: Any) -> None:
    """Raise InputError if an option of the grid has no list, an empty one, or a value twice."""
    if not isinstance(values, list) or not values:
        raise InputError(f"[grid] {name} is {values!r}; expected a list of values, as [1, 2, 3]")
    for i, value in enumerate(values):
        if value in values[:i]:
            raise InputError(f"[grid] {name} has {value!r} twice; expected different values")


def check_setting(setting: Options, grid: Options) -> None:
    """Raise InputError for a setting that the grid would overrule, or that has no such options."""
    check_names("[[settings]]", setting, OPTIONS)
    for name in setting:
        if name == "seed":
            raise InputError("seed stands in [[settings]]; expected it in [grid], as a list")
        if name in grid:
            raise InputError(f"{name} stands in [[settings]] and in [grid]; expected it in one")


def check_names(where: str, names: Options, choices: list[str]) -> None:
    """Raise InputError for a name that is no option, or none of a study's."""
    for name in names:
        if name == "runs_dir":
            raise InputError(f"{where} sets 'runs_dir'; a study keeps its runs under --out")
        if name == "preset" and name not in choices:
            raise InputError(f"{where} sets 'preset'; expected it in [base], for all runs")
        if name not in choices:
            raise InputError(f"{where} sets {name!r}, no option{nearest_option(name, choices)}")


def goal_of(text: Options) -> float | None:
    """The goal. Raises InputError if it is no number."""
    goal = text.get("goal")
    if goal is None:
        return None
    if not log.is_number(goal):
        raise InputError(f"goal is {goal!r}; expected a number, a mean return")
    return float(goal)


def plan(spec: StudySpec, out: Path) -> list[Planned]:
    """Every run of a study. Raises InputError, with the SPEC's name, for what cannot be run."""
    try:
        return combinations(spec, out)
    except InputError as error:
        raise InputError(f"{spec.path}: {error}") from None


def combinations(spec: StudySpec, out: Path) -> list[Planned]:
    """Settings times combinations of the grid. Raises InputError.

    Every setting before the next seed: a part of a study compares them all, and a noisy hour
    disturbs them all.
    """
    plans = []
    for values in itertools.product(*spec.grid.values()):
        for setting in spec.settings:
            varied = {**setting, **dict(zip(spec.grid, values, strict=True))}
            runs_dir = out / "runs" / folder_name(varied)
            config = config_of(spec, varied, runs_dir)
            # of the Config: there `auto` is the number that it stands for
            seedless = {name: getattr(config, name) for name in varied if name != "seed"}
            plans.append(Planned(seedless, config, runs_dir))
    check_different(plans)
    for planned in plans:
        check_here(planned.config)
    return plans


def config_of(spec: StudySpec, varied: Options, runs_dir: Path) -> Config:
    """The options of one run; its preset is that of `a3c train` where the SPEC names none."""
    options = {"env": Config.env, **spec.base, **varied, "runs_dir": str(runs_dir)}
    if not isinstance(options["env"], str):
        raise InputError(f"env is {options['env']!r}; expected the name of an environment")
    name = options.pop("preset", default_preset(options["env"]))
    config = preset(name, **options)
    check_atari_options(to_dict(config), preset_values(name))
    return config


def check_here(config: Config) -> None:
    """Raise InputError if the environment or the device is not to be had on this machine; of a
    cluster each machine picks its own device."""
    if atari_game(config.env) is None:
        check_gymnasium_id(config.env)
    if not config.cluster:
        pick_device(config.device)


def check_different(plans: list[Planned]) -> None:
    """Raise InputError if two runs would be the same, or have one folder."""
    known: dict[Any, Planned] = {}  # by what sets them apart, and by their folders
    for one in plans:
        values = to_dict(one.config)
        read = {name: x for name, x in values.items() if is_read(name, values) and name not in FREE}
        for key in (frozenset(read.items()), one.runs_dir):
            other = known.setdefault(key, one)
            if other is not one:
                words = f"{other.runs_dir.name} and {one.runs_dir.name}"
                raise InputError(f"two runs of the study are the same ({words}); expected one")


def folder_name(varied: Options) -> str:
    """A folder's name for a run's options, short enough for the system."""
    words = "_".join(f"{name}-{value}" for name, value in varied.items())
    name = words.replace("/", "-").replace(":", "-")
    if len(name.encode()) <= LONGEST_NAME:
        return name
    return f"{name[: LONGEST_NAME // 2]}-{hashlib.sha256(words.encode()).hexdigest()[:16]}"
