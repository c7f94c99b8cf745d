"""Names of environments: what they mean, and what was meant where there is none."""

from __future__ import annotations

import importlib
import importlib.util
import sys

import ale_py
import gymnasium
from ale_py import roms

from a3c.config import InputError, nearest

gymnasium.register_envs(ale_py)


def atari_game(env: str) -> str | None:
    """The ALE name of `env` (breakout, ALE/Breakout-v5, BreakoutNoFrameskip-v4), or None.

    None also for ids that observe the machine's memory (ALE/Breakout-ram-v5): they are vectors.
    """
    if env in atari_games():
        return env
    known = gymnasium.registry.get(env)
    if known is None or known.kwargs.get("obs_type") == "ram":
        return None
    return known.kwargs.get("game") if "ale_py" in str(known.entry_point) else None


def atari_games() -> list[str]:
    """ALE's names of all games whose ROM ale-py ships."""
    return sorted(roms.get_all_rom_ids())


def default_preset(env: str) -> str:
    """The preset of an environment where none is named: `fast` is tuned for Atari, `control` not.

    A lower-case word is meant as a game, so that a misspelt one is looked for among the games.
    """
    return "fast" if atari_game(env) or (":" not in env and env == env.lower()) else "control"


def check_gymnasium_id(env: str) -> None:
    """Raise InputError if Gymnasium does not know `env` or an extra for it is missing.

    `package.module:Name-v0` imports the module first, which registers the environment.
    """
    module, _, env = env.rpartition(":")
    if module:
        import_environments(module)
    known = [name for name in gymnasium.registry if not name.startswith("ALE/")]
    games = atari_games()
    if env not in gymnasium.registry:
        if env.startswith("ALE/") or env == env.lower():
            word = env.removeprefix("ALE/").split("-")[0].lower()
            raise InputError(f"no game {env!r}{nearest(word, games)}")
        raise InputError(f"no environment {env!r}{nearest(env, known + games)}")
    entry_point = str(gymnasium.registry[env].entry_point)
    if "mujoco" in entry_point and importlib.util.find_spec("mujoco") is None:
        raise InputError(f"{env} needs MuJoCo; pip install 'a3c-gpu[mujoco]'")
    if "box2d" in entry_point and importlib.util.find_spec("Box2D") is None:
        raise InputError(f"{env} needs Box2D; pip install 'gymnasium[box2d]'")


def import_environments(module: str) -> None:
    """Import what registers environments. Raises InputError if there is no such module."""
    sys.path.insert(0, "")  # a console script does not look in the current folder by itself
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise InputError(f"no module {error.name!r} to import environments from") from None
