"""Facts about options: their groups, which are read beside which, what others call them."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from a3c.config import BEFORE, DEFAULTS, VALUE_METHODS, Config, plain, to_dict
from a3c.errors import InputError, as_input_error, nearest, option

# Where and how a run goes on, not what it is: a resumed run may be given others.
FREE_ON_RESUME = {
    "nodes",
    "cluster",
    "device",
    "cuda_graphs",
    "checkpoint_every_seconds",
    "log_every_seconds",
    "runs_dir",
    "evaluate_every",
    "evaluate_episodes",
}

# The groups of options by the first of each; what stands before them belongs to none.
GROUPS = {
    "mode": "asynchrony",
    "method": "objective",
    "optimizer": "optimiser",
    "network": "network",
    "emulator": "environment",
    "run_name": "run",
}

# Options that are read only where another one has one of these values
READ_WITH: list[tuple[list[str], str, list[Any]]] = [
    (
        [
            *("gae_lambda", "ent_coef", "ent_final_fraction", "vf_coef", "advantage_floor"),
            *("normalize_advantages", "std", "rho_bar", "c_bar"),
        ],
        "method",
        ["a3c"],
    ),
    (["epsilon_emulator_frames", "target_emulator_frames"], "method", VALUE_METHODS),
    (
        ["lr_by_fan_in", "rmsprop_decay", "rmsprop_eps", "rmsprop_initial"],
        "optimizer",
        ["shared-rmsprop", "rmsprop"],
    ),
    (["momentum"], "optimizer", ["momentum"]),
    (["rho_bar", "c_bar"], "correction", ["vtrace"]),
    (["advantage_floor"], "normalize_advantages", [False]),
    (
        ["lr_final_fraction", "lr_schedule_until", "ent_final_fraction"],
        "lr_schedule",
        ["linear", "exponential"],
    ),
]


def is_read(name: str, values: dict[str, Any]) -> bool:
    """Whether an option says anything, beside the values of the others."""
    if name == "grow":  # one minibatch is all there is
        return bool(values["minibatches"] != 1)
    return all(values[by] in needed for names, by, needed in READ_WITH if name in names)


def check_read(values: dict[str, Any], usual: dict[str, Any]) -> None:
    """Raise InputError for an option that nothing reads, if its value is neither usual nor the
    default, nor what was done before there was the option."""
    for names, by, needed in READ_WITH:
        for name in names:
            taken = usual[name], DEFAULTS[name], BEFORE.get(name, DEFAULTS[name])
            if values[by] not in needed and values[name] not in taken:
                raise InputError(
                    f"{option(name)} is {values[name]}, and {option(by)} {values[by]} does not "
                    f"read it; expected {option(by)} {' or '.join(map(str, needed))}"
                )


# What stable-baselines3 and CleanRL call options of ours, of any command
ELSEWHERE = {
    "learning_rate": "lr",
    "n_steps": "rollout_length",
    "num_steps": "rollout_length",
    "total_timesteps": "total_agent_steps",
    "n_envs": "num_envs",
    "n_epochs": "epochs",
    "update_epochs": "epochs",
    "num_minibatches": "minibatches",
    "rms_prop_eps": "rmsprop_eps",
    "anneal_lr": "lr_schedule",
    "norm_adv": "normalize_advantages",
    "cuda": "device",
    "deterministic": "policy",
    "greedy": "policy",
}


def nearest_option(name: str, choices: list[str]) -> str:
    """As `nearest`, also for another library's name of an option."""
    ours = ELSEWHERE.get(name.lstrip("-").replace("-", "_"), "")
    found = {choice for choice in choices if choice in (ours, option(ours))}
    return f"; did you mean {found.pop()!r}?" if found else nearest(name, choices)


def check_names(names: Iterable[str], also: Sequence[str] = ()) -> None:
    """Raise InputError for a name that is neither a field of Config nor one of `also`."""
    choices = [*also, *(field.name for field in dataclasses.fields(Config))]
    for name in names:
        if name not in choices:
            raise InputError(f"no option {name!r}{nearest_option(name, choices)}")


def as_options(values: dict[str, Any]) -> dict[str, Any]:
    """Options as TOML reads them, alone or in lists."""
    return {
        name: [plain(name, each) for each in value]
        if isinstance(value, list)
        else plain(name, value)
        for name, value in values.items()
    }


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file. Raises InputError, to be read after the file's name."""
    try:
        with as_input_error("cannot read it"):
            text = path.read_text(encoding="utf-8-sig")  # as Windows writes it, too
            values = tomllib.loads(text)
            repr(values)  # ValueError for a number of thousands of digits, which no line could show
            return values
    except (ValueError, RecursionError) as error:  # no TOML, or no text; or nested without an end
        raise InputError(f"it is not TOML: {error}") from None


def differences(one: Config, other: Config) -> list[str]:
    """The fields of two Configs that differ, but for those that neither of them reads."""
    ours, theirs = to_dict(one), to_dict(other)
    differing = [name for name in ours if ours[name] != theirs[name]]
    return [name for name in differing if is_read(name, ours) or is_read(name, theirs)]
