"""One self-contained HTML page about runs: curves, film, scores, settings, where the time went.

This module gathers the facts into one JSON object; report.html, which is put around it, draws them.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from numpy.typing import NDArray

from a3c.config import AUTO, DEFAULTS, Config, follows, to_dict
from a3c.envs.names import atari_game
from a3c.errors import InputError, option, option_with
from a3c.metrics import significant
from a3c.options import is_read
from a3c.presets import PRESETS, preset_values
from a3c.results.curves import (
    BAND_FROM,
    Curve,
    distinct,
    evaluation_curve,
    read_curves,
    running,
)
from a3c.results.output import write_text
from a3c.results.played import best_film, check_of_run, read_scores
from a3c.results.run_config import read_run_config
from a3c.results.scores import PUBLISHED, PUBLISHED_BY, REPORTED
from a3c.run import best, log, provenance, strict_json

PAGE_ENDINGS = (".html", ".htm")
CURVE_POINTS = 400  # of a curve on the page
METHOD_WORDS = {
    "a3c": "advantage actor-critic",
    "one-step-q": "one-step Q-learning",
    "one-step-sarsa": "one-step Sarsa",
    "n-step-q": "n-step Q-learning",
}
WAYS = {"async": "Asynchronous", "sync": "Synchronous"}
# What the page says of a run's end
LAST = ("agent_steps", "episodes", "updates", "seconds", "mean_return_100")
BEST_FIELDS = ("agent_steps", "episodes", "mean", "evaluated_return")  # and of best.json


@dataclass(frozen=True)
class ReportOptions:
    """Write one HTML page about runs; it needs no network and no other file."""

    runs: Annotated[
        tyro.conf.Positional[tuple[str, ...]],
        tyro.conf.arg(metavar="RUN [RUN ...]", help_behavior_hint=""),
    ]
    """Run folders; the first one is what the page is about, the others lie beside its curve."""
    out: str = "report.html"
    """Page to write."""
    play: str = ""
    """Folder that `a3c play` wrote for the first run: its scores and the film of its best game.
    Default: play in the run's own folder, if it is there."""


def report(options: ReportOptions) -> Path:
    """Write the page; returns its path.

    Other runs than the first are left out where they have neither games nor evaluations. Raises
    InputError for a folder that is not a run's, a first run without either, for scores of another
    model than the first run's, and for a page that cannot be written.
    """
    if not options.runs:
        raise InputError("report needs at least one run folder")
    check_page(Path(options.out))
    folders = distinct(options.runs)
    configs = {run: read_run_config(run) for run in folders}
    curves = read_curves(folders, needed=folders[0])
    runs = [facts(run, curve, *configs[run]) for run, curve in curves.items()]
    page = {"runs": runs, "band_from": BAND_FROM, **played(options.play, folders[0], runs[0])}
    return write_text(Path(options.out), html(page))


def check_page(out: Path) -> None:
    """Raise InputError for what is no page's name: perhaps a file of the run's. /dev/stdout is none
    either, and meant, also where it leads to a file; and a pipe."""
    stream = str(out) in ("/dev/stdout", "/dev/stderr") or out.parent == Path("/dev/fd")
    device = stream or (out.exists() and not out.is_file())
    if out.suffix.lower() not in PAGE_ENDINGS and not device:
        endings = " or ".join(PAGE_ENDINGS)
        raise InputError(f"--out is {str(out)!r}; expected a name that ends with {endings}")


def played(asked: str, run: Path, about: dict[str, Any]) -> dict[str, Any]:
    """Scores and film from the folder that was asked for, or else from the run's own.

    What does not fit is an error where it was asked for, else left out with a remark.
    """
    folder = Path(asked) if asked else run / "play"
    found: dict[str, Any] = {"scores": None, "film": None}
    try:
        if asked or folder.exists():
            found["scores"] = played_scores(folder, run, about)
            found["film"] = best_film(folder)
    except InputError as error:
        if asked:
            raise
        about["remarks"] = [*about["remarks"], f"{error}; left out"]
    return found


def html(page: dict[str, Any]) -> str:
    """The page around its facts."""
    template = (resources.files("a3c.results") / "report.html").read_text(encoding="utf-8")
    facts = strict_json.dumps(page)
    # `</` would end the script element that holds the JSON, `<!--` hide its end
    return template.replace("{{report}}", facts.replace("<", "\\u003c"))


def facts(run: Path, curve: Curve, config: Config, remarks: list[str]) -> dict[str, Any]:
    """All that the page says about one run."""
    records = log.read(run / log.METRICS)
    last = records[-1]
    return {
        "name": curve.name,
        "env": config.env,
        "method": f"{WAYS[config.mode]} {METHOD_WORDS[config.method]}",
        "command": " ".join([command(config), *origin(run)]),
        "remarks": remarks,
        "settings": settings(config),
        "provenance": provenance.read(run),
        "curve": on_page(curve),
        "evaluations": evaluations_on_page(run),
        "best": best_on_page(run),
        "seconds_by_stage": seconds_by_stage(records),
        **{name: last.get(name) for name in LAST},
    }


def seconds_by_stage(records: list[dict[str, Any]]) -> dict[str, float]:
    """Sums over the records of their `seconds_<stage>`."""
    sums: dict[str, float] = {}
    for record in records:
        for name, value in record.items():
            if name.startswith("seconds_") and log.is_number(value):
                stage = name.removeprefix("seconds_")
                sums[stage] = sums.get(stage, 0.0) + value
    return sums


def settings(config: Config) -> list[tuple[str, Any, bool]]:
    """Every option: its name, its value, whether the default is another one.

    Without the folder of the runs, which says nothing about the run. Numbers of threads and of
    agents never are the default, which is `auto`: those are others elsewhere.
    """
    values = to_dict(config)
    del values["runs_dir"]
    return [
        (option(name), value, not is_default(config, name, DEFAULTS))
        for name, value in values.items()
    ]


def is_default(config: Config, name: str, defaults: dict[str, Any]) -> bool:
    """Whether the option would have its value without being given."""
    default = defaults[name]
    return bool(default == getattr(config, name) or (default == AUTO and follows(config, name)))


def command(config: Config) -> str:
    """The command that repeats a run on any machine: the nearest preset, and what differs from it.

    So it names the numbers of threads and of agents where the preset leaves them to the machine.
    """
    words = {name: changes(config, preset_values(name)) for name in PRESETS}
    nearest = min(PRESETS, key=lambda name: len(words[name]))
    env = shlex.quote(config.env)
    return " ".join(["a3c train", env, "--preset", nearest, *words[nearest]])


def origin(run: Path) -> list[str]:
    """The words by which a run began with another model's parameters, if it did."""
    first = next(iter(provenance.read(run)), {}).get("start_from")
    return ["--from", shlex.quote(first)] if isinstance(first, str) else []


def changes(config: Config, other: dict[str, Any]) -> list[str]:
    """The options, as words, by which `config` differs from `other`."""
    words = []
    for name, value in to_dict(config).items():
        if name in ("env", "runs_dir") or is_default(config, name, other):
            continue
        if not is_read(name, to_dict(config)):
            continue
        words.append(option_with(name, value))
    return words


def on_page(curve: Curve) -> dict[str, list[float]]:
    """Mean and middle half of the last 100 returns, at up to CURVE_POINTS of a run's games."""
    mean, low, high = running(curve.returns)
    columns = {
        "agent_steps": curve.agent_steps,
        "episodes": np.arange(1, len(mean) + 1),
        "seconds": curve.seconds,
        "mean": mean,
        "low": low,
        "high": high,
    }
    return thinned(columns)


def evaluations_on_page(run: Path) -> dict[str, list[float]]:
    """Mean returns of the evaluations made as the run went, at up to CURVE_POINTS of them."""
    return thinned(evaluation_curve(run)._asdict())


def thinned(columns: Mapping[str, NDArray[Any]]) -> dict[str, list[float]]:
    """At most CURVE_POINTS of each column, to five digits, or to the tenths that the page shows."""
    count = len(columns["agent_steps"])
    chosen = np.unique(np.linspace(0, max(count - 1, 0), min(count, CURVE_POINTS)).astype(int))
    return {
        name: [significant(x) if abs(x) < 10_000 else round(float(x), 1) for x in column[chosen]]
        for name, column in columns.items()
    }


def best_on_page(run: Path) -> dict[str, Any] | None:
    """The score of the best policy by evaluation, if the run has come to one."""
    score = best.read_score(run)
    return None if score is None else {name: score[name] for name in BEST_FIELDS}


def played_scores(folder: Path, run: Path, about: dict[str, Any]) -> dict[str, Any]:
    """What `a3c play` wrote about this run, with the published scores of the game beside it."""
    scores = read_scores(folder)
    check_of_run(folder, scores, run, about["env"], about["agent_steps"])
    return {**scores, "published": published(scores["env"])}


def published(env: str) -> list[tuple[str, str, float]]:
    """Who, under what terms or where, and the score; nothing for what is no Atari game."""
    game = atari_game(env) or ""
    rows: list[tuple[str, str, float]] = [*REPORTED.get(game, [])]
    if game in PUBLISHED:
        random, human = PUBLISHED[game]
        rows += [("human tester", PUBLISHED_BY, human), ("random play", PUBLISHED_BY, random)]
    return rows
