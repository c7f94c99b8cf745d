"""The contract of an exported model: how its inputs are made and its outputs are read, as text."""

from __future__ import annotations

import json
from typing import Any

from a3c.config import Config
from a3c.envs.atari import FRAME_SIDE, STACKED_FRAMES, action_meanings
from a3c.envs.coding import Coding
from a3c.envs.names import atari_game
from a3c.envs.protocol import Spec
from a3c.envs.spaces import Bounds
from a3c.results.evaluate import atari_protocol
from a3c.run.checkpoint import Checkpoint


def contract(saved: Checkpoint, spec: Spec, coding: Coding) -> dict[str, str]:
    """The metadata of an ONNX file: words as they are, all else as JSON."""
    config, game = saved.config, atari_game(saved.config.env)
    facts: dict[str, Any] = {
        "env": config.env,
        "agent_steps_trained": saved.progress["agent_steps"],
        "checkpoint_sha256": saved.sha256,
        "scaling": "inside: observations go in as the environment gives them",
        **(atari(game, config) if game else {}),
        **actions(coding),
        **({"state": STATE} if config.recurrent else {}),
        "gamma": config.gamma,
        "values": values(config, spec),
    }
    if spec.pixels:
        facts["background_subtraction"] = "inside" if config.subtract_background else "none"
    return {key: fact if isinstance(fact, str) else json.dumps(fact) for key, fact in facts.items()}


def values(config: Config, spec: Spec) -> str:
    """What `value` or `action_values` are values of: what was learned from."""
    clipped = ", each clipped to -1, 0 or 1" * config.clip_rewards
    divided = ", divided by reward_scale" * (config.normalize and not spec.pixels)
    return f"of sums of rewards{clipped}{divided}, discounted by gamma"


STATE = (
    "hidden and cell are zeros at the start of an episode, then next_hidden and next_cell of the "
    "step before"
)


def atari(game: str, config: Config) -> dict[str, Any]:
    """How the emulator's frames become observations, and how the game was played."""
    return {
        "frame_height": FRAME_SIDE,
        "frame_width": FRAME_SIDE,
        "frame_colour": "gray, 0 to 255",
        "frame_resizing": "area interpolation of the whole screen, as OpenCV's INTER_AREA",
        "frame_pooling": "the brighter of the last two emulator frames of an agent step",
        "stacked_frames": STACKED_FRAMES,
        "stack_order": "oldest first, newest last; zeros before the first frame of a game",
        **atari_protocol(config),
        "fire_at_start": "FIRE" in action_meanings(game, config),
        "action_meanings": action_meanings(game, config),
    }


def actions(coding: Coding) -> dict[str, Any]:
    """How an action follows from what comes out."""
    space = coding.actions
    if space.discrete:
        return {
            "actions": "discrete: an index along A, plus first_action",
            "first_action": space.start,
        }
    return {
        "actions": "continuous: A numbers, clipped to action_low and action_high, in action_shape",
        "action_shape": space.shape,
        "action_low": each(space.low, space.size),
        "action_high": each(space.high, space.size),
    }


def each(bounds: Bounds, size: int) -> Bounds:
    """A bound for each of `size` numbers; null is none."""
    return bounds * size if len(bounds) == 1 else bounds
