"""The models that ship: models/<game>/ in the repository, the package a3c_models once installed.

Each folder has model.safetensors, a checkpoint with the parameters alone, and scores.json, the
evaluations that its card (README.md) tables. benchmarks/ship.py makes all of them from a run.
"""

from __future__ import annotations

import importlib.resources
import json
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Column, Table

from a3c import checkpoint
from a3c.checkpoint import Checkpoint
from a3c.config import InputError, nearest
from a3c.envs.names import atari_game

MODEL = "model.safetensors"


def shipped() -> dict[str, Path]:
    """Folders of the models, by game."""
    folders = Path(str(importlib.resources.files("a3c_models")))
    return {path.parent.name: path.parent for path in sorted(folders.glob(f"*/{MODEL}"))}


def find(model: str) -> Checkpoint:
    """Of a game whose model ships, a model file, or a run folder (its newest checkpoint).

    A game's name is its shipped model; a folder of that name is `./breakout`. Raises InputError if
    it is none of these, or damaged.
    """
    models = shipped()
    if (game := atari_game(model)) in models:
        assert game is not None
        return checkpoint.load(models[game] / MODEL)
    if Path(model).exists() or "/" in model or model.endswith(".safetensors"):
        return checkpoint.find(Path(model))
    choices = list(models)
    raise InputError(
        f"no model {model!r}: expected a model file, a run folder, or a game whose model ships: "
        f"{', '.join(choices)}{nearest(model, choices)}"
    )


def scores(folder: Path) -> dict[str, Any]:
    """A shipped model's evaluations by policy (sample, greedy, random), each as `play` has it."""
    return json.loads((folder / "scores.json").read_text())


def table() -> Table:
    """What ships and how it scored, for a terminal of 80 columns."""
    numbers = (
        "sampled",
        "greedy",
        "random\nplay,\nmeasured",
        "human-\nnormalised",
        "million\nagent\nsteps",
    )
    table = Table(
        Column("game", no_wrap=True),  # one types it
        *(Column(name, justify="right", no_wrap=True) for name in numbers),
        title="shipped models: mean return of 100 games ± standard deviation",
        caption="a3c play GAME plays one. Human-normalised: 0 % is random play, 100 % a human "
        "tester, both of Mnih et al., 2015.",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        title_justify="left",
        caption_justify="left",
    )
    for game, folder in shipped().items():
        found = scores(folder)
        table.add_row(
            game,
            spread(found["sample"]),
            spread(found["greedy"]),
            f"{found['random']['mean']:,.1f}",
            f"{found['sample']['human_normalised']:,.0%}",
            f"{found['sample']['agent_steps_trained'] / 1e6:,.1f}",
        )
    return table


def spread(found: dict[str, Any]) -> str:
    """Mean and standard deviation, in whole numbers from a thousand on."""
    digits = 0 if abs(found["mean"]) >= 1000 else 1
    return f"{found['mean']:,.{digits}f} ± {found['std']:,.{digits}f}"
