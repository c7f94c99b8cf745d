"""Checkpoints: one safetensors file each, written atomically, verified when read, never pickle.

The file's header carries a JSON text: format version, Config, Spec, counters, recent returns, and a
SHA-256 over the rest of that text and every tensor's name, kind, shape and bytes. So a model file
alone can be played, and a damaged one is noticed. A number that is not finite is null there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_type_hints

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from a3c.config import BEFORE, Config, to_dict
from a3c.envs.protocol import Spec
from a3c.errors import InputError, nearest
from a3c.run import strict_json
from a3c.run.files import replacing

VERSION = 3
# Of 2 the network `auto` was `paper` for images; else it is the same
READABLE = (2, VERSION)
KEPT = 3
BEST = "best.safetensors"
SCORE = "best.json"  # of the best by evaluation, see best.py
# In progress: agent steps of evaluations that failed, and of the best policies whose score failed
FAILED, FAILED_SCORES = "failed_evaluations", "failed_scores"


Made = TypeVar("Made", Config, Spec)


class Damaged(InputError):
    """A file that is there and can be read, and is no checkpoint, or no longer the one it was."""


class Checkpoint(NamedTuple):
    """What a file holds. `tensors` has `parameters` [P] float32; a run's, all of its state."""

    config: Config
    spec: Spec
    progress: dict[str, Any]  # counters and recent returns
    tensors: dict[str, Tensor]
    sha256: str = ""  # of the file that it was read from; which model this is


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write it whole, see `replacing`. Raises OSError, for instance on a full disk."""
    tensors = {name: tensor.cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
    header = strict_json.dumps(
        {
            "version": VERSION,
            "config": to_dict(checkpoint.config),
            "spec": dataclasses.asdict(checkpoint.spec),
            "progress": checkpoint.progress,
        }
    )
    temporary = path.with_suffix(".writing")
    try:
        with replacing(path, temporary):
            temporary.touch()
            mode = temporary.stat().st_mode  # what the umask leaves; safetensors' own is 0600
            save_file(tensors, temporary, {"a3c": header, "sha256": digest(header, tensors)})
            with contextlib.suppress(OSError):  # file systems without modes
                temporary.chmod(mode)
    except SafetensorError as error:  # its own word for an OSError
        raise OSError(f"cannot write {path}: {error}") from error


def load(path: Path) -> Checkpoint:
    """Read and verify. Raises InputError if it is not there, cannot be read or is of another
    version; Damaged, one of its kind, if it is no checkpoint or damaged."""
    check_readable(path)
    try:
        str(path).encode()  # safetensors takes no other
    except UnicodeEncodeError:
        raise InputError(f"cannot read {path}: its path is no UTF-8") from None
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise Damaged(f"{path} is not a model file or is damaged ({error})") from None
    except OSError as error:  # no file that can be mapped, for instance a device
        raise InputError(f"cannot read {path}: {error}") from None
    if "a3c" not in metadata:
        raise Damaged(f"{path} is not a model file of a3c-gpu: it is another safetensors file")
    check_version(path, metadata["a3c"])  # before its checksum, which may be another one there
    if metadata.get("sha256") != digest(metadata["a3c"], tensors):
        raise Damaged(f"{path} is damaged: its checksum does not match")
    try:
        return read_header(metadata["a3c"], tensors)._replace(sha256=metadata["sha256"])
    except InputError as error:
        raise InputError(f"{path} {error}") from None


def check_readable(path: Path) -> None:
    """Raise InputError if it is not there or may not be opened: safetensors does not say which."""
    try:
        path.open("rb").close()
        return
    except OSError as error:
        refused = error
    # Beyond the `except`: this file's fault alone, and no refusal that meets other runs as well
    if isinstance(refused, FileNotFoundError | NotADirectoryError):
        raise InputError(f"no model file {str(path)!r}")
    raise InputError(f"cannot read {path}: {refused.strerror}")


def check_version(path: Path, text: str) -> None:
    """Raise InputError if a header's text is of another version."""
    try:
        version = json.loads(text)["version"]
    except (ValueError, TypeError, LookupError, RecursionError):
        return
    if version not in READABLE:
        expected = " or ".join(map(str, READABLE))
        raise InputError(f"{path} has format version {version}; expected {expected}")


def read_header(text: str, tensors: dict[str, Tensor]) -> Checkpoint:
    """The checkpoint of a header's text. Raises InputError, to be read after the file's name."""
    try:
        header = json.loads(text)
        version, config, spec = header["version"], header["config"], header["spec"]
        config["env"]  # the one option that must not be left to its default
        progress = progress_of(header["progress"])
    except (ValueError, TypeError, LookupError, RecursionError, OverflowError) as error:
        raise InputError(f"has a header that cannot be read ({error!r})") from None
    parameters = tensors.get("parameters")
    if parameters is None or parameters.ndim != 1:
        raise InputError("has no vector of parameters")
    facts = check_kinds(fields_of(Spec, "fact", spec))
    options = fields_of(Config, "option", config)
    if version < VERSION and options.network == "auto" and facts.pixels:
        options = dataclasses.replace(options, network="paper")
    return Checkpoint(options, facts, progress, tensors)


def fields_of(kind: type[Made], what: str, values: Any) -> Made:
    """A Config or Spec of a header's values; what an older version lacked is as it was then."""
    if not isinstance(values, dict):
        raise InputError(f"has a header that cannot be read ({kind.__name__} is {values!r})")
    names = [field.name for field in dataclasses.fields(kind)]
    for name in values:
        if name not in names:
            hint = nearest(name, names)
            raise InputError(f"has the {what} {name!r}, which this version does not know{hint}")
    facts: dict[str, Any] = {  # JSON's lists were tuples
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
    }
    if kind is Config:
        facts = {**BEFORE, **facts}
    try:
        return kind(**facts)
    except InputError as error:
        raise InputError(f"has a value that this version does not take: {error}") from None
    except TypeError as error:  # a field without a default
        raise InputError(f"has a header that cannot be read ({error})") from None


def check_kinds(spec: Spec) -> Spec:
    """The same. Raises InputError for a fact of another kind than Spec says."""
    for name, kind in get_type_hints(Spec).items():
        fact = getattr(spec, name)
        if not of_kind(fact, kind):
            raise InputError(f"has a header that cannot be read ({name} is {fact!r})")
    return spec


def of_kind(fact: Any, kind: Any) -> bool:
    """Whether it is such a whole number, boolean or tuple of sizes; spaces check themselves."""
    if kind == tuple[int, ...]:
        return isinstance(fact, tuple) and all(type(size) is int for size in fact)
    return kind not in (int, bool) or type(fact) is kind


def progress_of(progress: dict[str, Any]) -> dict[str, Any]:
    """Progress with all that readers ask for; a return that was not finite is nan again.

    Raises LookupError, TypeError or ValueError for what it lacks.
    """
    return {
        **moment_of(progress),
        "mean_return_100": progress["mean_return_100"],
        "best_mean_return_100": progress["best_mean_return_100"],
        # Those that are still to be played; models and older checkpoints have none
        "evaluations": [moment_of(each) for each in progress.get("evaluations", [])],
        FAILED: list(progress.get(FAILED, [])),  # which older ones had not either
        FAILED_SCORES: list(progress.get(FAILED_SCORES, [])),
    }


def moment_of(progress: dict[str, Any]) -> dict[str, Any]:
    """Counters and returns as numbers of their kinds; an evaluation's progress has no more."""
    metrics = progress["metrics"]
    returns = [math.nan if value is None else float(value) for value in metrics["recent_returns"]]
    counts = {"episodes": int(metrics["episodes"]), "seconds": float(metrics["seconds"])}
    return {
        **progress,
        "agent_steps": int(progress["agent_steps"]),
        "updates": int(progress["updates"]),
        "metrics": {**metrics, **counts, "recent_returns": returns},
    }


def digest(header: str, tensors: dict[str, Tensor]) -> str:
    """SHA-256 over the header and all tensors, in the order of their names."""
    sha = hashlib.sha256(header.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()


def folder(run: Path) -> Path:
    """Where a run keeps its checkpoints."""
    return run / "checkpoints"


def save_into(run: Path, checkpoint: Checkpoint) -> None:
    """Save as the newest checkpoint of `run`; keeps the last three.

    And the best by mean return, unless evaluations choose it: see best.py.
    """
    score, best = (checkpoint.progress[x] for x in ("mean_return_100", "best_mean_return_100"))
    if checkpoint.config.evaluate_every == "never" and score is not None and score == best:
        (run / SCORE).unlink(missing_ok=True)  # another policy's
        save(folder(run) / BEST, checkpoint)  # before the newest one, which says that it is there
    save(folder(run) / f"{checkpoint.progress['agent_steps']:012d}.safetensors", checkpoint)
    for old in numbered(run)[KEPT:]:
        old.unlink(missing_ok=True)  # somebody may tidy up as well


def best_of(run: Path) -> Checkpoint | None:
    """The best policy of a run; None if it has none or a damaged one. Raises InputError."""
    path = folder(run) / BEST
    with contextlib.suppress(Damaged):
        return load(path) if path.exists() else None
    return None


def best_mean(run: Path, so_far: float | None) -> float | None:
    """The highest mean return of a run: of its newest checkpoint, or of the best one, which is
    newer where the process was killed between the two files. Raises InputError."""
    saved = best_of(run)
    best = None if saved is None else saved.progress["best_mean_return_100"]
    return max((mean for mean in (best, so_far) if mean is not None), default=None)


def numbered(run: Path) -> list[Path]:
    """The checkpoints of a run, newest first; without what else somebody keeps there."""
    named = folder(run).glob("[0-9]*.safetensors")
    return sorted((path for path in named if path.stem.isdecimal()), reverse=True)


class Newest(NamedTuple):
    """The newest readable checkpoint, and what was wrong with newer ones."""

    path: Path
    checkpoint: Checkpoint
    damaged: list[str]


def set_aside(run: Path) -> list[str]:
    """Rename the damaged checkpoints of a run, the best one too, so that they do not count as kept;
    returns what is wrong with each.

    What a killed process was writing is removed: nobody else writes here now, see folder.py.
    """
    checkpoints = folder(run)  # maybe a link, which rglob does not follow; .tmp*: safetensors' own
    unfinished = [
        *run.rglob("*.writing"),
        *checkpoints.glob("*.writing"),
        *checkpoints.glob(".tmp*"),
    ]
    for path in unfinished:
        path.unlink(missing_ok=True)
    damaged = []
    for path in (*numbered(run), *checkpoints.glob(BEST)):
        try:
            load(path)
        except Damaged as error:
            path.replace(path.with_suffix(".damaged"))
            damaged.append(str(error))
        except InputError:  # perhaps it can be read another time, or by another version
            continue
    return damaged


def newest(run: Path) -> Newest:
    """The newest checkpoint that is whole. Raises InputError if there is none, and where a newer
    one cannot be read as things are: to go on from an older one would lose what it holds."""
    damaged: list[str] = []
    for path in numbered(run):
        try:
            return Newest(path, load(path), damaged)
        except Damaged as error:
            damaged.append(str(error))
    if not run.is_dir():
        raise InputError(no_run_folder(run))
    if damaged:
        raise InputError("; ".join([f"{run} has no checkpoint that can be read", *damaged]))
    raise InputError(f"{run} has no checkpoint that can be read: it has none{other_run(run)}")


def find(model_or_run: Path) -> Checkpoint:
    """Of a model file or of a run folder (its newest). Raises InputError."""
    if model_or_run.is_file() or model_or_run.suffix == ".safetensors":
        return load(model_or_run)
    if model_or_run.name == "checkpoints" and model_or_run.is_dir():
        raise InputError(part_of_run(model_or_run))
    models = sorted(model_or_run.glob("*.safetensors"))
    if models and not numbered(model_or_run):
        raise InputError(f"{model_or_run} is no run folder; expected {models[0]}, which is in it")
    return newest(model_or_run).checkpoint


def part_of_run(checkpoints: Path) -> str:
    """What is wrong with the folder of a run's checkpoints."""
    return f"{checkpoints} is a part of a run folder; expected {checkpoints.parent}"


def no_run_folder(run: Path) -> str:
    """What is wrong with a path that is no folder, and what else there is."""
    gone = f", but leads to {os.readlink(run)}, which is gone" if run.is_symlink() else ""
    return f"no run folder {str(run)!r}{gone}{other_run(run)}"


def other_run(run: Path) -> str:
    """`; the newest run is X`, of those in it, beside it and in runs/; nothing if there is none."""
    places = run, run.parent, Path(Config.runs_dir)
    near = {path: saved_at(path) for place in places for path in place.glob("[!.]*")}
    others = [path for path in near if near[path] and path != run and path.name != "latest"]
    return f"; the newest run is {max(others, key=near.__getitem__)}" if others else ""


def saved_at(run: Path) -> float:
    """When its newest checkpoint was saved, as time.time; 0 without one that may be read."""
    try:
        return max((path.stat().st_mtime for path in numbered(run)[:1]), default=0.0)
    except OSError:
        return 0.0
