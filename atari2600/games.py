"""The table of games: cartridge, controllers, actions, modes, reset procedure and rules.

`games.json` holds one game a line (docs/emulator.md tells how to add one). The ROM files are those
that ale-py ships; a file counts only if its checksum is the table's.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import importlib.util
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

DIRECTIONS = ["UP", "RIGHT", "LEFT", "DOWN", "UPRIGHT", "UPLEFT", "DOWNRIGHT", "DOWNLEFT"]
ACTIONS = ["NOOP", "FIRE", *DIRECTIONS, *[f"{direction}FIRE" for direction in DIRECTIONS]]
ALL_ACTIONS = list(range(len(ACTIONS)))


@dataclass(frozen=True)
class Game:
    """One row of the table. Actions are indices of ACTIONS, and 40 is the RESET switch."""

    name: str
    md5: str
    scheme: str  # of the cartridge, see cartridge.py
    rules: list[str]  # after every frame; see rules.py for the language
    lives: str  # shown to the agent
    over: str = ""  # end of game, if it is not the variable `terminal`
    init: dict[str, int] = field(default_factory=dict)  # variables at the start of an episode
    format: str = "NTSC"
    y_start: int = 34
    height: int = 0  # 210, or 250 in PAL, but for three games
    hmove_blanks: bool = True
    paddles: int = 0  # ports with paddles: 0, 1 (left) or 2
    paddle_max: int = 790196
    swap_paddles: bool = False
    swap_ports: bool = False
    power_on_difficulty: int = 0
    minimal_actions: list[int] = field(default_factory=lambda: ALL_ACTIONS)
    legal_actions: list[int] = field(default_factory=lambda: ALL_ACTIONS)  # others do nothing
    modes: list[int] = field(default_factory=lambda: [0])
    default_mode: int = 0
    difficulties: list[int] = field(default_factory=lambda: [0])
    default_difficulty: int = 0
    select: dict[str, Any] | None = None  # how SELECT is pressed until the mode is on
    menu: list[list[int]] | None = None  # double_dunk: [option bit in RAM, mode bit], in order
    starting_actions: list[list[int]] = field(default_factory=list)  # [action, frames]
    start_varies: bool = False  # old RAM or the timer's draw shows after a reset

    @property
    def pal(self) -> bool:
        return self.format == "PAL"

    @property
    def gym_name(self) -> str:
        return gym_name(self.name)


@functools.cache
def table() -> dict[str, Any]:
    """The content of games.json."""
    content = (Path(__file__).parent / "games.json").read_text(encoding="utf-8")
    return dict(json.loads(content))


def names() -> list[str]:
    return sorted(table()["games"])


def gym_name(name: str) -> str:
    """The game's name in Gymnasium's registry: TicTacToe3D for tic_tac_toe_3d."""
    return name.title().replace("_", "")


def name_of(gym_id: str) -> str:
    """The game of an id of Gymnasium's: breakout of ALE/Breakout-v5, BreakoutNoFrameskip-v4.

    Of anything else, also of an id that is not an image's (Breakout-ram-v4), the word itself.
    """
    known = re.fullmatch(
        r"(?:(?:ALE|atari2600)/)?(\w+?)(?:NoFrameskip|Deterministic)?-v\d+", gym_id
    )
    by_id = {gym_name(name): name for name in names()}
    return by_id.get(known[1], gym_id) if known else gym_id


def find(name: str) -> Game:
    """The game called `name`, also by Gymnasium's ids. Raises ValueError with the nearest names."""
    name = name_of(str(name))
    if name not in table()["games"]:
        word = name.lower().replace("-", "_").replace(" ", "_")
        near = difflib.get_close_matches(word, names(), 3, 0.5)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise ValueError(f"no game {name!r} among the {len(names())} in atari2600/games.json{hint}")
    entry = dict(table()["games"][name])
    entry.setdefault("height", 250 if entry.get("format") == "PAL" else 210)
    return Game(name=name, **entry)


def rom_bytes(game: Game) -> bytes:
    """The game's ROM from ale-py's folder. Raises ValueError unless it is the expected one."""
    path = rom_folder() / f"{game.name}.bin"
    content = path.read_bytes()
    checksum = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if checksum != game.md5:
        raise ValueError(f"{path} has md5 {checksum}; expected {game.md5}, which {game.name} has")
    return content


def rom_folder() -> Path:
    """Where ale-py finds its ROM files; ale-py itself is not imported."""
    if chosen := os.environ.get("ALE_ROMS_DIR"):  # as there
        return Path(chosen)
    package = importlib.util.find_spec("ale_py")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("the ROM files come with ale-py: pip install ale-py")
    return Path(package.origin).parent / "roms"


def check_mode(game: Game, mode: int | None) -> int:
    """`mode`, or the game's default. Raises ValueError if the game has no such mode."""
    if mode is None:
        return game.default_mode
    if np.ndim(mode) or mode not in game.modes:
        raise ValueError(f"{game.name} has no mode {mode!r}; expected one of {game.modes}")
    return int(mode)


def check_difficulty(game: Game, difficulty: int | None) -> int:
    """`difficulty`, or the game's default. Raises ValueError if the game has no such difficulty."""
    if difficulty is None:
        return game.default_difficulty
    if np.ndim(difficulty) or difficulty not in game.difficulties:
        raise ValueError(
            f"{game.name} has no difficulty {difficulty!r}; expected one of {game.difficulties}"
        )
    return int(difficulty)


def recoloured(screen: Array, colours: Array) -> Array:
    """uint8 [H, W] or [H, W, 3] of a screen's colour codes [H, W], by `greys` or a `palette`.

    By bytes.translate: a third less time than np.take, and a fifth of what indexing takes.
    """
    codes = bytearray(screen)  # of which the result can be written to
    if colours.ndim == 1:
        return np.frombuffer(codes.translate(colours.tobytes()), np.uint8).reshape(screen.shape)
    picture = np.empty((*screen.shape, 3), np.uint8)
    for channel, table in enumerate(colours.T):
        flat = np.frombuffer(codes.translate(table.tobytes()), np.uint8)
        picture[..., channel] = flat.reshape(screen.shape)
    return picture


def palette(game: Game) -> Array:
    """uint8 [256, 3]: the colours of all colour codes; odd codes occur in PAL's colour loss."""
    rgb = np.frombuffer(bytes.fromhex(table()["palettes"][game.format]), np.uint8).reshape(-1, 3)
    colors = np.repeat(rgb, 2, axis=0)  # [256, 3]
    colors[1::2] = greys(game)[::2, None]
    return colors


def greys(game: Game) -> Array:
    """uint8 [256]: the grey level of each colour code.

    An odd code has the blue of the next colour: ale-py reads one table at the other's offsets.
    """
    rgb = np.frombuffer(bytes.fromhex(table()["palettes"][game.format]), np.uint8).reshape(-1, 3)
    levels = np.zeros(256, np.uint8)
    levels[::2] = np.round(rgb @ np.array([0.2989, 0.5870, 0.1140]))
    levels[1:-1:2] = rgb[1:, 2]
    return levels
