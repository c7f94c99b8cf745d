"""The folder of `a3c play`: whose it is, whether it can be written, and its scores.json.

scores.json says which model it is of (`run`, `checkpoint_sha256`), so that one model's results
never take the place of another's, and a report can tell whether they are of its run.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from a3c.errors import InputError, as_input_error
from a3c.results.output import whole_file
from a3c.run import checkpoint, models, strict_json
from a3c.run.files import flush
from a3c.run.folder import from_here

SCORES = "scores.json"
BEST_FILM, MEDIAN_FILM = "best.mp4", "median.mp4"


def where_it_leads(model: str) -> str:
    """A link's own target, to be asked for once: runs/latest leads to another run by and by."""
    path = Path(model)
    leads = models.shipped_game(model) is None and path.is_symlink() and path.exists()
    return str(path.resolve()) if leads else model


def settled(out: Path) -> Path:
    """The folder as it is now, also below a link that moves: runs/latest/play-greedy, say."""
    return from_here(out.parent) / out.name


def run_of(model: str) -> Path | None:
    """The run that a model is a checkpoint of, links resolved; None for any other model."""
    if models.shipped_game(model) is not None:
        return None
    path = Path(model).resolve()
    if path.is_dir():
        return path
    run = path.parent.parent
    return run if path.parent == checkpoint.folder(run) else None


def default_folder(model: str) -> Path:
    """A folder of the model's own: in its run's folder, or play/ and its name.

    `play` is for the newest checkpoint of a run; another one, which was named, is in the name.
    """
    path, run = Path(model).resolve(), run_of(model)
    if run is not None:
        return from_here(run) / ("play" if path == run else f"play-{path.stem}")
    if (game := models.shipped_game(model)) is not None:
        return Path("play", game)
    return Path("play", path.parent.name if path.name == models.MODEL else path.stem)


def check_folder(out: Path, sha256: str, run: Path | None) -> None:
    """Raise InputError unless results can be written there and no other model's would be lost.

    Creates nothing: there may be no results.
    """
    there = next(path for path in (out, *out.absolute().parents) if os.path.lexists(path))
    try:
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        doing = "write into" if there == out else "create"
        why = error.strerror
        raise InputError(f"cannot {doing} the folder {out}: {why}; --out names another") from None
    for path in (out / name for name in (SCORES, BEST_FILM, MEDIAN_FILM)):
        if path.is_dir():
            raise InputError(f"cannot write {path}: it is a folder; --out names another place")
    if not os.path.lexists(out / SCORES):
        return
    before = strict_json.read(out / SCORES)
    if not belongs(out, before or {}, sha256, run):
        of_another = f"{out} has the scores of another model"
        why = of_another if before else f"{out / SCORES} does not say which model's scores it has"
        raise InputError(f"{why}; --out names another folder")


def belongs(out: Path, before: dict[str, Any], sha256: str, run: Path | None) -> bool:
    """Whether a folder with such scores is of this model, or of another checkpoint of its run."""
    of_run = run is not None and before.get("run") == run.name
    # In the run's own folder, which may have had another name; those of no run say so
    inside = run is not None and run in out.resolve().parents and before.get("run", "") is not None
    return of_run or inside or before.get("checkpoint_sha256") == sha256


def write_scores(out: Path, scores: dict[str, Any]) -> Path:
    """scores.json, in place of an older one, whose films go: they are of other games."""
    with as_input_error(f"cannot write into the folder {out}"):
        out.mkdir(parents=True, exist_ok=True)
    with whole_file(out / SCORES) as temporary:
        temporary.write_text(strict_json.dumps(scores, indent=1) + "\n", encoding="utf-8")
        if temporary != out / SCORES:  # a device, which keeps nothing
            flush(temporary, os.O_RDWR)  # a full disk leaves the films as well
        for name in (BEST_FILM, MEDIAN_FILM):
            (out / name).unlink(missing_ok=True)
    return out / SCORES
