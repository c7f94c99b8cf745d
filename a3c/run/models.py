"""The models that ship: models/<game>/ in the repository, the package a3c_models once installed.

Each folder has model.safetensors, a checkpoint with the parameters alone, and scores.json, the
evaluations that its card (README.md) tables. benchmarks/ship.py makes all of them from a run.
"""

from __future__ import annotations

import importlib.resources
import json
from pathlib import Path
from typing import Any

from a3c.envs.names import atari_game
from a3c.errors import InputError, nearest
from a3c.run import checkpoint
from a3c.run.checkpoint import Checkpoint

MODEL = "model.safetensors"


def shipped() -> dict[str, Path]:
    """Folders of the models, by game."""
    folders = Path(str(importlib.resources.files("a3c_models")))
    return {path.parent.name: path.parent for path in sorted(folders.glob(f"[!.]*/{MODEL}"))}


def shipped_game(model: str) -> str | None:
    """The game, if that is what `model` names and a model of it ships."""
    game = atari_game(model)
    return game if game in shipped() else None


def find(model: str) -> Checkpoint:
    """Of a game whose model ships, a model file, or a run folder (its newest checkpoint).

    A game's name is its shipped model; a folder of that name is `./breakout`. Raises InputError if
    it is none of these, or damaged.
    """
    if (game := shipped_game(model)) is not None:
        return checkpoint.load(shipped()[game] / MODEL)
    is_a_path = "/" in model or model.endswith(".safetensors")
    if Path(model).exists() or (is_a_path and atari_game(model) is None):
        return checkpoint.find(Path(model))
    choices = list(shipped())
    raise InputError(
        f"no model {model!r}: expected a model file, a run folder, or a game whose model ships: "
        f"{', '.join(choices)}{nearest(model, choices) or checkpoint.other_run(Path(model))}"
    )


def scores(folder: Path) -> dict[str, Any]:
    """A shipped model's evaluations by policy (sample, greedy, random), each as `play` has it."""
    return json.loads((folder / "scores.json").read_text())
