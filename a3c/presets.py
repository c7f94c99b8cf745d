"""The named presets, with their sources."""

from __future__ import annotations

from typing import Any

from a3c.config import DEFAULTS, Config
from a3c.errors import InputError, nearest
from a3c.options import check_names, check_read

# Mnih et al. 2016, section 5.1 and supplement 8: sum over the rollout, 320 million frames.
# Epsilon 0.1 and norm 40 are not in the paper but in the settings its first open
# re-implementations agreed on. The value weight lies between: Algorithm S3 adds the critic's
# gradient whole, which is a weight of 1 here, and those halve the squared error twice, 0.25.
PAPER: dict[str, Any] = {
    "total_agent_steps": 80_000_000,
    "num_threads": 16,
    "num_envs": 1,
    "rollout_length": 5,
    "minibatches": 1,
    "gae_lambda": 1.0,
    "correction": "none",
    "ent_coef": 0.01,
    "ent_final_fraction": 1.0,
    "vf_coef": 0.5,
    "advantage_floor": 0.0,
    "loss_reduction": "sum",
    "lr": 7e-4,
    "lr_by_fan_in": False,
    "lr_schedule": "linear",
    "lr_final_fraction": 0.0,
    "rmsprop_decay": 0.99,
    "rmsprop_eps": 0.1,
    "rmsprop_initial": 0.0,
    "max_grad_norm": 40.0,
    "gamma": 0.99,
    "network": "paper",
    "subtract_background": False,
    "life_loss_terminal": True,
}

# What each preset fixes, also where that is the default today; with its source.
PRESETS: dict[str, dict[str, Any]] = {
    # Tuned here on Breakout, Pong and Space Invaders, with two threads;
    # docs/experiments.md says what was tried.
    "fast": {},
    "paper": PAPER,
    # This project's ancestor (2017): a TensorFlow 1.2 script, 28 hours on a Titan X, Breakout-v0.
    # A million updates of 320 samples. Its Breakout-v0 drew the frame skip from 2, 3 and 4.
    "seed": {
        "total_agent_steps": 320_000_000,
        "num_threads": 4,
        "num_envs": 64,
        "rollout_length": 5,
        "minibatches": 1,
        "gae_lambda": 1.0,
        "correction": "none",
        "ent_coef": 0.01,
        "ent_final_fraction": 1.0,
        "vf_coef": 1.0,
        "advantage_floor": 0.0,
        "loss_reduction": "mean",
        "lr": 2.5e-4,
        "lr_by_fan_in": False,
        "lr_schedule": "linear",
        "lr_final_fraction": 0.1,
        "lr_schedule_until": 0.5,
        "rmsprop_decay": 0.99,
        "rmsprop_eps": 1e-10,
        "rmsprop_initial": 1.0,
        "grad_clip": "average-norm",
        "max_grad_norm": 0.1,
        "network": "seed",
        "subtract_background": False,
        "scale_pixels": False,
        "frame_skip": 2,
        "frame_skip_max": 4,
        "sticky_actions": 0.25,
        "life_loss_terminal": False,
    },
    # Vector observations (CartPole, MuJoCo): small networks, many cheap updates. One thread:
    # Gymnasium's environments hold the GIL, so that more bring little, and a run is reproducible.
    "control": {
        "total_agent_steps": 500_000,
        "num_threads": 1,
        "num_envs": 8,
        "rollout_length": 16,
        "minibatches": 1,
        "gae_lambda": 0.95,
        "correction": "none",
        "ent_coef": 0.0,
        "ent_final_fraction": 1.0,
        "advantage_floor": 0.0,
        # A value of many rewards is far from where the critic starts, and a step is about lr long
        "lr": 3e-3,
        "lr_by_fan_in": False,
        "lr_schedule": "linear",
        "lr_final_fraction": 0.0,
        # Where all goes well gradients vanish and the average forgets them: without a floor, the
        # first failure after it moves every parameter by ten lr, and what was learned is lost.
        # Normalised rewards make gradients small, and a higher floor would stifle them.
        "rmsprop_decay": 0.99,
        "rmsprop_eps": 1e-5,
        "rmsprop_initial": 0.0,
        # Practically none: RMSProp scales each parameter, and a bound on the joint norm would let
        # the critic's large errors shrink the actor's steps.
        "max_grad_norm": 1000.0,
        "clip_rewards": False,
        # Pendulum's rewards add up to -1,600, its speeds reach 8 and its angles 1
        "normalize": True,
        # Runs are a tenth as long as on Atari and less, and so is what value methods wait for
        "epsilon_emulator_frames": 50_000,
        "target_emulator_frames": 500,
    },
    # The paper's other methods (section 4; supplement 8): t_max and I_AsyncUpdate are 5 as well,
    # epsilons and target network the defaults. It draws learning rates from 1e-4 to 1e-2 and names
    # none: this one is that of `paper`.
    "one-step-q": {**PAPER, "method": "one-step-q"},
    "one-step-sarsa": {**PAPER, "method": "one-step-sarsa"},
    "n-step-q": {**PAPER, "method": "n-step-q"},
    # Its supplement 9, for MuJoCo from the state. There an update is an episode and bootstraps from
    # nothing; here it is 200 agent steps, as many as Pendulum's episodes have, and longer ones are
    # bootstrapped. Length and learning rate are not given.
    "paper-continuous": {
        **PAPER,
        "total_agent_steps": 10_000_000,
        "rollout_length": 200,
        "ent_coef": 1e-4,
        "network": "paper-vector",
        "recurrent": True,
        "std": "softplus",
        "clip_rewards": False,
    },
}


def preset(name: str, **changes: Any) -> Config:
    """The named preset with changes, as a Config. Raises InputError for an unknown name, and for a
    change that nothing reads."""
    values = preset_values(name, **changes)
    config = Config(**values)
    check_read({**values, "correction": config.correction}, preset_values(name))
    return config


def preset_values(name: str, **changes: Any) -> dict[str, Any]:
    """All options of the named preset with changes, not checked: `auto` is not a number yet.

    Raises InputError for an unknown name.
    """
    choices = list(PRESETS)
    if name not in choices:
        raise InputError(
            f"--preset is {name!r}; expected {', '.join(choices)}{nearest(str(name), choices)}"
        )
    check_names(changes)
    return {**DEFAULTS, **PRESETS[name], **changes}
