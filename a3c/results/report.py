"""One self-contained HTML page about runs: curves, film, scores, settings, where the time went.

This module gathers the facts into one JSON object; report.html, which is put around it, draws them.
"""

from __future__ import annotations

import base64
import dataclasses
import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from a3c import log, provenance
from a3c.config import PRESETS, Config, InputError, option, preset, to_dict
from a3c.envs.names import atari_game
from a3c.metrics import STAGES
from a3c.results.plot import read_curve, running
from a3c.results.scores import PUBLISHED, REPORTED

POINTS = 400  # of a curve on the page


@dataclass(frozen=True)
class ReportOptions:
    """Write one HTML page about runs; it needs no network and no other file."""

    runs: tyro.conf.Positional[tuple[str, ...]]
    """Run folders; the first one is what the page is about, the others lie beside its curve."""
    out: str = "report.html"
    """Page to write."""
    play: str = ""
    """Folder that `a3c play` wrote for the first run: its scores and the film of its best game."""


def report(options: ReportOptions) -> Path:
    """Write the page; returns its path. Raises InputError for a folder that is not a run's."""
    if not options.runs:
        raise InputError("report needs at least one run folder")
    runs = [facts(Path(run)) for run in options.runs]
    played = scores(Path(options.play)) if options.play else None
    page = {"runs": runs, "scores": played, "film": film(options.play) if options.play else None}
    template = (resources.files("a3c.results") / "report.html").read_text()
    # `</` would end the script element that holds the JSON
    html = template.replace("{{report}}", json.dumps(page).replace("</", "<\\/"))
    out = Path(options.out)
    try:
        out.write_text(html)
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror}") from None
    return out


def facts(run: Path) -> dict[str, Any]:
    """All that the page says about one run."""
    records = log.read(run / "metrics.jsonl")
    config = read_config(run)
    last = records[-1] if records else {}
    return {
        "name": run.resolve().name,
        "env": config.env,
        "command": command(config),
        "settings": settings(config),
        "provenance": provenance.read(run),
        "curve": curve(run),
        "seconds_by_stage": {
            stage: sum(record.get(f"seconds_{stage}", 0.0) for record in records)
            for stage in STAGES
        },
        **{name: last.get(name) for name in ("agent_steps", "episodes", "updates", "seconds")},
        "mean_return_100": last.get("mean_return_100"),
    }


def read_config(run: Path) -> Config:
    """The options of a run. Raises InputError if the folder is not a run's."""
    try:
        return Config(**json.loads((run / "config.json").read_text()))
    except (OSError, ValueError, TypeError):
        raise InputError(f"{run} has no readable config.json; expected a run folder") from None


def settings(config: Config) -> list[tuple[str, Any, bool]]:
    """Every option: its name, its value, whether the default is another one.

    Without the folder of the runs, which says nothing about the run.
    """
    default, values = to_dict(Config()), to_dict(config)
    del values["runs_dir"]
    return [(option(name), value, value != default[name]) for name, value in values.items()]


def command(config: Config) -> str:
    """The command that repeats a run: the nearest preset, and what differs from it."""
    differences = {name: changes(config, preset(name)) for name in PRESETS}
    nearest = min(PRESETS, key=lambda name: len(differences[name]))
    return " ".join(["a3c train", config.env, "--preset", nearest, *differences[nearest]])


def changes(config: Config, other: Config) -> list[str]:
    """The options, as words, by which `config` differs from `other`."""
    words = []
    for field in dataclasses.fields(Config):
        value = getattr(config, field.name)
        if field.name in ("env", "runs_dir") or value == getattr(other, field.name):
            continue
        if isinstance(value, bool):
            words.append(option(field.name) if value else option(f"no_{field.name}"))
        else:
            words.append(f"{option(field.name)} {value}")
    return words


def curve(run: Path) -> dict[str, list[float]]:
    """Mean and middle half of the last 100 returns, at up to POINTS of the games of a run."""
    games = read_curve(run)
    mean, low, high = running(games.returns)
    chosen = np.unique(np.linspace(0, len(mean) - 1, POINTS).astype(int))
    columns = {
        "agent_steps": games.agent_steps,
        "episodes": np.arange(1, len(mean) + 1),
        "hours": games.seconds / 3600,
        "mean": mean,
        "low": low,
        "high": high,
    }
    return {name: [float(f"{x:.5g}") for x in column[chosen]] for name, column in columns.items()}


def scores(folder: Path) -> dict[str, Any]:
    """What `a3c play` wrote, with the published scores of the same game beside it."""
    try:
        played = json.loads((folder / "scores.json").read_text())
    except (OSError, ValueError):
        raise InputError(f"{folder} has no readable scores.json; a3c play writes one") from None
    game = atari_game(played["env"]) or ""
    rows = [(who, terms, score) for who, terms, score in REPORTED.get(game, [])]
    if game in PUBLISHED:
        random, human = PUBLISHED[game]
        rows += [("human tester", "Mnih et al., 2015", human), ("random play", "the same", random)]
    return {**played, "published": rows}


def film(folder: str) -> str | None:
    """The best game as a data URI, or None if it was not filmed."""
    path = Path(folder) / "best.mp4"
    if not path.exists():
        return None
    return "data:video/mp4;base64," + base64.b64encode(path.read_bytes()).decode()
