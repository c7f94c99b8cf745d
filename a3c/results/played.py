"""What `a3c play` wrote into its folder, and whether it is of a given run.

A page about one run must never show the score or the film of another's model.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open

from a3c.errors import InputError, as_input_error
from a3c.results.play_folder import BEST_FILM, SCORES
from a3c.run import checkpoint, models, strict_json

# What a page shows of scores.json
SHOWN = ("env", "episodes", "mean", "std", "median", "max", "agent_steps_trained", "protocol")


class Kept(NamedTuple):
    """A checkpoint that a run still has."""

    agent_steps: int
    sha256: str


def read_scores(folder: Path) -> dict[str, Any]:
    """scores.json. Raises InputError if it cannot be read or is not from `a3c play`."""
    path = folder / SCORES
    played = strict_json.read(path)
    if played is None:
        raise InputError(f"{folder} has no readable {SCORES}; a3c play writes one")
    for name in SHOWN:
        if name not in played:
            raise InputError(f"{path} does not say {name!r}; expected what a3c play writes")
    if not isinstance(played["protocol"], dict):
        raise InputError(f"{path}: 'protocol' is {played['protocol']!r}; expected a table")
    return played


def check_of_run(folder: Path, played: dict[str, Any], run: Path, env: str, end: int) -> None:
    """Raise InputError unless the played model is a checkpoint of `run`.

    env: what the run trained; end: its last agent step. A checksum decides where there is one;
    what older versions wrote has none, and goes by the agent steps and the model's path.
    """
    kept = kept_checkpoints(run)
    if (why := stranger(played, run, env, end, kept)) is not None:
        raise InputError(
            f"{folder} does not fit {run}: {why}; expected the folder of a3c play {run}"
        )


def stranger(played: dict[str, Any], run: Path, env: str, end: int, kept: list[Kept]) -> str | None:
    """Why the played model is not this run's; None if it is."""
    steps, sha256 = played["agent_steps_trained"], played.get("checkpoint_sha256")
    if played["env"] != env:
        return f"it played {played['env']}, the run trained {env}"
    if sha256 in [checkpoint.sha256 for checkpoint in kept]:
        return None
    if (other := other_model(played, run)) is not None:
        return f"it played {other}"
    if not isinstance(steps, int) or steps > end:
        return f"its model was trained for {steps} agent steps, the run for {end}"
    of_run = {checkpoint.agent_steps for checkpoint in kept} or {end}
    if steps not in of_run:
        known = ", ".join(str(steps) for steps in sorted(of_run))
        none = "no longer one" if played.get("run") == run.resolve().name else "none"
        return f"its model, of {steps} agent steps, is {none} of the run's checkpoints ({known})"
    if sha256 is not None and kept:
        return f"its model has {steps} agent steps as a checkpoint of the run, but other parameters"
    return None


def other_model(played: dict[str, Any], run: Path) -> str | None:
    """The model that was played, if it is not of this run as far as its name tells."""
    model = str(played.get("model"))
    if models.shipped_game(model) is not None:
        return f"the model of {model} that ships"
    if "run" not in played:  # as older versions wrote it
        return model if is_elsewhere(model, run) else None
    if played["run"] is None:
        return f"{model}, which is no run's"
    return None if played["run"] == run.resolve().name else f"the run {played['run']}"


def is_elsewhere(model: str, run: Path) -> bool:
    """Whether a model's path leads to something that is there, and not in the run.

    A link may have come to lead elsewhere since (runs/latest), and says nothing.
    """
    if not Path(model).exists():
        return False
    path = Path(model).absolute()
    linked = any(part.is_symlink() for part in (path, *path.parents))
    return not linked and run.resolve() not in (path, *path.parents)


def kept_checkpoints(run: Path) -> list[Kept]:
    """The checkpoints of a run, from their headers alone; damaged ones are left out."""
    found = []
    for path in sorted(checkpoint.folder(run).glob("*.safetensors")):
        try:
            with safe_open(path, "pt") as file:
                header = file.metadata()
            steps = json.loads(header["a3c"])["progress"]["agent_steps"]
            found.append(Kept(steps, header["sha256"]))
        except (SafetensorError, OSError, ValueError, KeyError, TypeError):
            continue
    return found


def best_film(folder: Path) -> str | None:
    """The best game as a data URI, or None if it was not filmed."""
    path = folder / BEST_FILM
    with as_input_error(f"cannot read {path}"):
        if not path.exists():
            return None
        return "data:video/mp4;base64," + base64.b64encode(path.read_bytes()).decode()
