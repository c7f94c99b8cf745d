"""Checkpoints: one safetensors file each, written atomically, verified when read, never pickle.

The file's header carries a JSON text: format version, Config, Spec, counters, recent returns, and a
SHA-256 over the rest of that text and every tensor's name, kind, shape and bytes. So a model file
alone can be played, and a damaged one is noticed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from a3c.config import Config, InputError, to_dict
from a3c.envs.protocol import Spec

VERSION = 2
KEPT = 3


class Checkpoint(NamedTuple):
    """What a file holds. `tensors` always has `parameters` [P] and `square_avg` [P] float32."""

    config: Config
    spec: Spec
    progress: dict[str, Any]  # counters and recent returns
    tensors: dict[str, Tensor]
    sha256: str = ""  # of the file that it was read from; which model this is


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write to a temporary file, flush it to disk, rename: a crash leaves the old file or the new.

    Raises OSError, for instance on a full disk; the temporary file is removed then.
    """
    tensors = {name: tensor.cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
    header = {
        "version": VERSION,
        "config": to_dict(checkpoint.config),
        "spec": dataclasses.asdict(checkpoint.spec),
        "progress": checkpoint.progress,
    }
    metadata = {"a3c": json.dumps(header), "sha256": digest(json.dumps(header), tensors)}
    temporary = path.with_suffix(".writing")
    try:
        save_file(tensors, temporary, metadata)
        flush(temporary)
        os.replace(temporary, path)
        flush(path.parent)
    except SafetensorError as error:  # its own word for an OSError
        raise OSError(f"cannot write {path}: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def load(path: Path) -> Checkpoint:
    """Read and verify. Raises InputError if it is no checkpoint, damaged or too old."""
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise InputError(f"no model file {str(path)!r}") from None
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is not a model file or is damaged ({error})") from None
    if "a3c" not in metadata:
        raise InputError(f"{path} is not a model file of a3c-gpu: it is another safetensors file")
    if metadata.get("sha256") != digest(metadata["a3c"], tensors):
        raise InputError(f"{path} is damaged: its checksum does not match")
    header = json.loads(metadata["a3c"])
    if header["version"] != VERSION:
        raise InputError(f"{path} has format version {header['version']}; expected {VERSION}")
    spec = Spec(
        **{**header["spec"], "observation_shape": tuple(header["spec"]["observation_shape"])}
    )
    config = Config(**header["config"])
    return Checkpoint(config, spec, header["progress"], tensors, metadata["sha256"])


def digest(header: str, tensors: dict[str, Tensor]) -> str:
    """SHA-256 over the header and all tensors, in the order of their names."""
    sha = hashlib.sha256(header.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()


def flush(path: Path) -> None:
    """Make the system write a file (or a folder's names) to the disk now."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def folder(run: Path) -> Path:
    """Where a run keeps its checkpoints."""
    return run / "checkpoints"


def save_into(run: Path, checkpoint: Checkpoint) -> Path:
    """Save as the newest checkpoint of `run`; keeps the last three, and the best by mean return."""
    path = folder(run) / f"{checkpoint.progress['agent_steps']:012d}.safetensors"
    save(path, checkpoint)
    for old in numbered(run)[KEPT:]:
        old.unlink()
    score = checkpoint.progress["mean_return_100"]
    if score is not None and score == checkpoint.progress["best_mean_return_100"]:
        save(folder(run) / "best.safetensors", checkpoint)
    return path


def numbered(run: Path) -> list[Path]:
    """The checkpoints of a run, newest first."""
    return sorted(folder(run).glob("[0-9]*.safetensors"), reverse=True)


class Newest(NamedTuple):
    """The newest readable checkpoint, and what was wrong with newer ones."""

    path: Path
    checkpoint: Checkpoint
    damaged: list[str]


def set_aside(run: Path) -> None:
    """Rename the damaged checkpoints of a run, so that they do not count as kept."""
    for path in numbered(run):
        try:
            load(path)
        except InputError:
            path.rename(path.with_suffix(".damaged"))


def newest(run: Path) -> Newest:
    """The newest checkpoint that can be read. Raises InputError if there is none."""
    damaged: list[str] = []
    for path in numbered(run):
        try:
            return Newest(path, load(path), damaged)
        except InputError as error:
            damaged.append(str(error))
    if not run.is_dir():
        raise InputError(f"no run folder {str(run)!r}")
    raise InputError("; ".join([f"{run} has no checkpoint that can be read", *damaged]))


def find(model_or_run: Path) -> Checkpoint:
    """Of a model file or of a run folder (its newest). Raises InputError."""
    return newest(model_or_run).checkpoint if model_or_run.is_dir() else load(model_or_run)
