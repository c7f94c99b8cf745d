"""Names of environments: what they mean, and what was meant where there is none."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import re
import sys
from shlex import quote
from typing import Any

import ale_py
import gymnasium
from gymnasium.envs.registration import EnvSpec

from a3c import extras
from a3c.config import DEFAULTS, Config
from a3c.errors import InputError, option
from atari2600 import games  # and it registers its ids
from atari2600.games import gym_name

gymnasium.register_envs(ale_py)

EMULATORS = ("ale_py", "atari2600")
MANY_IDS = 5  # that a line names
ATARI_PROTOCOL = [  # how a game is played, in training and in evaluation
    "noop_max", "frame_skip", "frame_skip_max", "sticky_actions", "full_action_set",
    "max_episode_frames",
]  # fmt: skip
ATARI_OPTIONS = [*ATARI_PROTOCOL, "emulator", "life_loss_terminal"]
GAMES_BY_ID = {  # as the emulators register them; ids that users register keep their own options
    known.id: known.kwargs["game"]
    for known in gymnasium.registry.values()
    if str(known.entry_point).partition(".")[0] in EMULATORS
    and known.name.removesuffix("NoFrameskip") == gym_name(known.kwargs["game"])
    and known.kwargs.get("obs_type") != "ram"  # the machine's memory: a vector
}


def atari_game(env: str) -> str | None:
    """The ALE name of `env`, or None: of breakout, BreakoutNoFrameskip-v4, ALE/Breakout-v5,
    atari2600/Breakout-v5, ale_py:ALE/Breakout-v5.

    None also for ids that observe the machine's memory: they are vectors.
    """
    if env in atari_games():
        return env
    module, _, name = env.rpartition(":")
    return GAMES_BY_ID.get(name) if module in ("", *EMULATORS) else None


def check_atari_options(values: dict[str, Any], usual: dict[str, Any]) -> None:
    """Raise InputError for an option of Atari's, neither usual nor the default, where the
    environment is none of its games: nothing would read it."""
    env = values["env"]
    for name in [] if atari_game(env) is not None else ATARI_OPTIONS:
        if values[name] not in (usual[name], DEFAULTS[name]):
            raise InputError(
                f"{option(name)} is {values[name]}, and {env} does not read it; expected an Atari "
                "game, of this emulator's or ale-py's"
            )


def atari_games() -> list[str]:
    """ALE's names of all games for one player."""
    return games.names()


def frames_per_agent_step(config: Config) -> float:
    """Emulator frames of an agent step, on average; 1 where there is no emulator."""
    return config.mean_frame_skip if atari_game(config.env) is not None else 1.0


def default_preset(env: str) -> str:
    """The preset of an environment where none is named: `fast` is tuned for Atari, `control` not.

    A lower-case word is meant as a game, so that a misspelt one is looked for among the games.
    """
    return "fast" if atari_game(env) or (":" not in env and env == env.lower()) else "control"


def check_gymnasium_id(env: str) -> None:
    """Raise InputError if Gymnasium does not know `env` or an extra for it is missing.

    `package.module:Name-v0` imports the module first, which registers the environment.
    """
    module, colon, name = env.rpartition(":")
    before = set(gymnasium.registry)
    if colon:
        import_environments(module)
    known = gymnasium.registry.get(name)
    if known is None and colon:
        raise InputError(f"no environment {env!r}{suggestion_of(module, name, before)}")
    if known is None:
        kind = "game" if like_a_game(name) else "environment"
        run = f"; a3c train --resume {quote(env)} goes on with that run" * is_run(env)
        raise InputError(f"no {kind} {env!r}{run or suggestion(name)}")
    entry_point = str(known.entry_point)
    for package, extra in (("mujoco", "mujoco"), ("Box2D", "box2d")):
        if (
            entry_point.startswith(f"gymnasium.envs.{extra}")
            and importlib.util.find_spec(package) is None
        ):
            raise extras.missing(env, package, extra)


def like_a_game(name: str) -> bool:
    """Whether a name that is not known was meant as an Atari game."""
    return name.startswith(("ALE/", "atari2600/")) or re.search(r"[A-Z]|-v\d", name) is None


def is_run(name: str) -> bool:
    """Whether it is the folder of a run."""
    return os.path.isfile(os.path.join(name, "config.json"))  # also of what is no name of a file


def suggestion_of(module: str, name: str, before: set[str]) -> str:
    """The nearest of the ids that a module registers, or all of them; `before`: those that there
    were before it was imported."""
    registry = gymnasium.registry
    ids = [id for id in registry if id not in before or is_of(registry[id], module)]
    bared = {bare(id): f"{module}:{id}" for id in ids}
    close = difflib.get_close_matches(bare(name), bared, n=1)
    if close:
        return f"; did you mean {bared[close[0]]!r}?"
    more = ", ..." if len(ids) > MANY_IDS else ""
    return f": {module} registers {', '.join(ids[:MANY_IDS]) or 'no environment of its own'}{more}"


def is_of(known: EnvSpec, module: str) -> bool:
    """Whether an environment's code is a module's, or of a package's."""
    entry = known.entry_point
    of = entry.partition(":")[0] if isinstance(entry, str) else getattr(entry, "__module__", "")
    return f"{of}.".startswith(f"{module}.")


def suggestion(name: str) -> str:
    """The nearest game or the newest version of the nearest id."""
    games = {bare(game): game for game in atari_games()}
    newest = sorted(gymnasium.registry.values(), key=lambda known: known.version or 0)
    ids = {bare(known.id): known.id for known in newest if known.id not in GAMES_BY_ID}
    choices = {**ids, **games} if like_a_game(name) else {**games, **ids}
    close = difflib.get_close_matches(bare(name), choices, n=1)
    if not close:
        return ": expected an Atari game such as breakout, or a Gymnasium id such as CartPole-v1"
    return f"; did you mean {choices[close[0]]!r}?"


def bare(name: str) -> str:
    """What people remember of a name: letters and digits alone, without the version."""
    name = re.sub(r"^(ALE|atari2600)/|(NoFrameskip|Deterministic)?(-v\d+)?$", "", name)
    return re.sub(r"[^a-z0-9]", "", name.lower())


def import_environments(module: str) -> None:
    """Import what registers environments. Raises InputError if there is no such module."""
    if "" not in sys.path:  # a console script does not look in the current folder by itself
        sys.path.insert(0, "")
    try:
        if ":" in module or "" in module.split("."):  # these names import_module refuses otherwise
            raise ModuleNotFoundError(name=module)
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module}.".startswith(f"{error.name}."):
            plain = module.removeprefix("./").removesuffix(".py").replace("/", ".")
            named = plain != module and all(part.isidentifier() for part in plain.split("."))
            hint = f"; did you mean {plain!r}?" if named else ""
            raise InputError(
                f"no module {module!r} to import environments from; looked in the current folder "
                f"and among the installed packages{hint}"
            ) from None
        raise InputError(f"{module} cannot be imported: {error}") from None
