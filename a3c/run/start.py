"""What a run starts from: its own newest checkpoint (resume), or the parameters of another model.

Everything that can be wrong about it is said before anything is written.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from a3c.config import AUTO, RULES, VALUE_METHODS, Config, follows, to_dict
from a3c.envs.atari import action_meanings
from a3c.envs.coding import same_reading
from a3c.envs.names import atari_game
from a3c.envs.protocol import Spec
from a3c.errors import InputError, option, option_with
from a3c.network import network_name
from a3c.options import FREE_ON_RESUME, differences
from a3c.presets import PRESETS
from a3c.run import best, checkpoint, models, strict_json
from a3c.run.checkpoint import Checkpoint
from a3c.run.folder import as_word, check_free, check_runs_dir, from_here
from a3c.schedules import entropy_weight, learning_rate


class Resumed(NamedTuple):
    """Where a run goes on, and what whoever resumes it should know."""

    folder: Path
    path: Path
    checkpoint: Checkpoint
    remarks: list[str]
    changed: bool  # it goes on with other options than the file has

    @property
    def agent_steps(self) -> int:
        """What the run has done."""
        return self.checkpoint.progress["agent_steps"]


def to_resume(
    config: Config, resume: str | Path | None, start_from: str | Path | None
) -> Resumed | None:
    """Where to go on with the run `resume`, None where none is named. Raises InputError, also for
    a model to start from that is not there: before the emulator is compiled for its games."""
    if resume is None:
        check_runs_dir(config)
        if start_from is not None:
            models.find(str(start_from))
        return None
    if start_from is not None:
        raise InputError("--from contradicts --resume: a run goes on with its own parameters")
    return find(config, run_to_resume(resume))


def has_ended(found: Resumed) -> bool:
    """Whether there is nothing left to do: neither to train nor to evaluate."""
    return best.is_complete(found.folder, found.checkpoint.config, found.checkpoint.progress)


def run_to_resume(resume: str | Path) -> Path:
    """The run folder, links resolved. Raises InputError if it is none, or in use."""
    run = Path(resume)
    if run.is_file() and run.suffix != ".safetensors":
        raise InputError(f"{resume} is a file; expected a run folder")
    if run.is_file():
        of_run = run.parent.parent if run.parent.name == "checkpoints" else run.parent
        raise InputError(
            f"{resume} is a file; expected a run folder: --resume {of_run} goes on from its newest "
            f"checkpoint, --from {resume} starts a new run with the file's parameters"
        )
    if not run.is_dir():
        raise InputError(checkpoint.no_run_folder(run))
    if run.name == "checkpoints":
        raise InputError(checkpoint.part_of_run(run))
    check_free(run.resolve())
    return run.resolve()


def saved_config(resume: str | Path) -> Config:
    """The options of the run to resume. Raises InputError."""
    return checkpoint.newest(run_to_resume(resume)).checkpoint.config


def find(config: Config, folder: Path) -> Resumed:
    """Where to go on with the run in `folder`, with `config`. Raises InputError if they differ.

    A run may be given another length, and what is in FREE_ON_RESUME.
    """
    path, saved, damaged = checkpoint.newest(folder)
    if set(saved.tensors) == {"parameters"}:
        raise InputError(
            f"{path} has parameters alone, no run to resume; "
            f"--from {path} starts a new run with them"
        )
    agent_steps = saved.progress["agent_steps"]
    check_resumable(config, saved.config, agent_steps)
    remarks = [f"{line}; taking the one before" for line in damaged]
    remarks += edited(folder, saved.config)
    if config.total_agent_steps != saved.config.total_agent_steps:
        remarks.append(new_length(config, saved.config, agent_steps))
    remarks += kept_options(config, saved.config)
    changed = config != saved.config
    return Resumed(folder, path, saved._replace(config=config), remarks, changed)


def check_resumable(config: Config, saved: Config, agent_steps: int) -> None:
    """Raise InputError if a run with the options `saved` cannot go on with `config`."""
    for name in differences(config, saved):
        value, before = getattr(config, name), getattr(saved, name)
        if name == "total_agent_steps":
            if value < agent_steps:
                raise InputError(
                    f"--total-agent-steps is {value:,}; expected at least the {agent_steps:,} that "
                    "the run has done"
                )
        elif name not in FREE_ON_RESUME:
            words = "the environment" if name == "env" else option(name)
            had = "none" if before == "" else before
            raise InputError(f"{words} {value} contradicts the run to resume, which has {had}")


def new_length(config: Config, saved: Config, agent_steps: int) -> str:
    """What another length does to a run."""
    scheduled = {"the learning rate": learning_rate}
    if config.method not in VALUE_METHODS:
        scheduled["the weight of the entropy bonus"] = entropy_weight
    changes = [
        f"{words} goes from {of(saved, agent_steps):.3g} to {of(config, agent_steps):.3g}"
        for words, of in scheduled.items()
        if of(saved, agent_steps) != of(config, agent_steps)
    ]
    lengths = f"{config.total_agent_steps:,} agent steps in place of {saved.total_agent_steps:,}"
    return f"{lengths}: {', '.join(changes)}" if changes else lengths


def kept_options(config: Config, saved: Config) -> list[str]:
    """A line if by the rules a new run of so many nodes would have other options than this one,
    which keeps its own."""
    ruled = [name for name in RULES if name != "nodes" and follows(saved, name)]
    new = replace(config, **dict.fromkeys(ruled, AUTO))
    others = [name for name in ruled if getattr(new, name) != getattr(config, name)]
    if not others:
        return []
    has, would_have = (
        ", ".join(f"{option(name)} {getattr(each, name)}" for name in others)
        for each in (config, new)
    )
    return [f"the run keeps {has}; a new one of so many nodes would have {would_have}"]


def edited(folder: Path, saved: Config) -> list[str]:
    """A line if config.json does not say what the checkpoint does, which counts."""
    written, values = strict_json.read(folder / "config.json"), to_dict(saved)
    if written is None:
        return ["config.json cannot be read: the checkpoint's options count"]
    changed = [
        f"{option(name)} {values[name]}, not {value}"
        for name, value in written.items()
        if name in values
        and name not in FREE_ON_RESUME
        and value != values[name]
        # A checkpoint of version 2 does not keep `auto`, but what it was
        and (name, value, values[name]) != ("network", "auto", "paper")
    ]
    if not changed:
        return []
    return [f"config.json was changed, the checkpoint's options count: {', '.join(changed)}"]


def nothing_to_do(found: Resumed) -> str:
    """The line for a run that has nothing to do."""
    steps = f"{found.agent_steps:,} of {found.checkpoint.config.total_agent_steps:,} agent steps"
    more = f"a3c train --resume {as_word(found.folder)} --total-agent-steps MORE makes it longer"
    return f"already finished: {steps}; {more}"


def model_to_start_from(start_from: str | Path, config: Config, spec: Spec) -> Checkpoint:
    """A shipped game's, a file's or a run's. Raises InputError if `config`'s network differs."""
    saved = models.find(str(start_from))
    check_spec(f"--from {start_from}", saved.config.env, saved.spec, config.env, spec)
    check_heads(start_from, config, saved.config)
    network = network_of(config, spec)
    for name, has in network_of(saved.config, spec).items():
        if has != network[name]:
            raise InputError(
                f"--from {start_from} has {option(name)} {has}, the new run {network[name]}; "
                f"expected the same, {option_with(name, has)}"
            )
    return saved


def check_spec(model: str, trained_on: str, had: Spec, env: str, spec: Spec) -> None:
    """Raise InputError where a model's network would not fit an environment: another one, or the
    same, which has been changed since."""
    for name in ("observation_shape", "pixels", "discrete", "num_actions"):
        has, needed = getattr(had, name), getattr(spec, name)
        if has != needed:
            words = name.replace("_", " ")
            raise InputError(
                f"{model} was trained on {trained_on}, with {words} {has}; "
                f"expected {needed}, as {env} has"
            )
    seen, now = had.observations, spec.observations
    if seen is not None and now is not None and not same_reading(seen, now):
        raise InputError(
            f"{model} was trained on {trained_on}, with observations {seen}; expected {now}, as "
            f"{env} has"
        )


# Half the width of actions' bounds: a policy's deviation is 1 at first, and its mean 0
FAR = 0.2, 10.0
BOUNDLESS = 1e30  # so far from one another bounds are those of a type of floats, and mean none


def warnings_of(config: Config, spec: Spec) -> Iterator[str]:
    """What is easily overlooked in an environment of one's own, in lines."""
    if config.clip_rewards and atari_game(config.env) is None:
        yield "learning sees the signs of rewards alone; --no-clip-rewards shows it their sizes"
    control = PRESETS["control"]
    steps = ("lr", "rmsprop_decay", "rmsprop_eps", "max_grad_norm")
    if spec.pixels and all(getattr(config, name) == control[name] for name in steps):
        yield (
            "the preset control is tuned on vectors; for images try --preset fast --num-threads 1 "
            "--no-clip-rewards"
        )
    if not spec.discrete and spec.actions is not None:
        low, high = (bound.astype(np.float64) for bound in spec.actions.bounds())
        half = high / 2 - low / 2  # infinite of a bound alone
        half = np.where(half > BOUNDLESS, np.inf, half)
        far = (half < FAR[0]) | (np.isfinite(half) & (half > FAR[1])) | (low > 1) | (high < -1)
        if far.any():
            wrapper = "RescaleAction" if np.isfinite(half[far]).all() else "TransformAction"
            yield (
                "some actions' bounds are far from -1 and 1, where a policy begins: see "
                f"gymnasium.wrappers.{wrapper}"
            )


def check_heads(start_from: str | Path, config: Config, saved: Config) -> None:
    """Raise InputError where one method learns a policy, and the other values of actions."""
    if (config.method in VALUE_METHODS) != (saved.method in VALUE_METHODS):
        alike = VALUE_METHODS if saved.method in VALUE_METHODS else ["a3c"]
        raise InputError(
            f"--from {start_from} was trained with --method {saved.method}, whose network gives "
            f"other outputs than that of {config.method}; expected --method {' or '.join(alike)}"
        )


def origin(start_from: str | Path, model: Checkpoint, config: Config) -> str:
    """Where the parameters are from, as a line; and of an Atari game with other actions which."""
    steps, trained_on = model.progress["agent_steps"], model.config.env
    line = f"parameters of {start_from}: {steps:,} agent steps on {trained_on}"
    before, now = actions_of(model.config), actions_of(config)
    if before == now or "" in (before, now):
        return line
    return f"{line}; its actions are {before}, those of {config.env} {now}"


def actions_of(config: Config) -> str:
    """What an Atari game's do, in words; of other environments nobody says."""
    game = atari_game(config.env)
    return "" if game is None else ", ".join(action_meanings(game, config))


def lasting_name(start_from: str | Path) -> str:
    """What to call the model when runs/latest leads elsewhere, as to the run that begins."""
    shipped = models.shipped_game(str(start_from)) is not None
    return str(start_from) if shipped else str(from_here(Path(start_from)))


def network_of(config: Config, spec: Spec) -> dict[str, str | bool | None]:
    """What decides over the parameters' number and meaning; None where it does not for `spec`."""
    normalized = None if spec.pixels else config.normalize
    return {
        "network": network_name(config, spec),
        "recurrent": config.recurrent,
        "std": None if spec.discrete else config.std,
        "scale_pixels": config.scale_pixels if spec.pixels else None,
        "subtract_background": config.subtract_background if spec.pixels else None,
        "normalize": normalized,
        "clip_rewards": config.clip_rewards if normalized else None,  # measured, see measuring.py
    }


def check_parameters(parameters: Tensor, saved: Checkpoint) -> None:
    """Raise InputError if a model's vector [P] is not as long as the network's."""
    has = saved.tensors["parameters"]
    if has.shape != parameters.shape:
        raise InputError(
            f"the model has {len(has):,} parameters; expected {len(parameters):,}, as many as the "
            "network"
        )
