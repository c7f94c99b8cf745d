"""Films of games: played again, action by action, in their native colours and size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import imageio_ffmpeg
import numpy as np

from a3c.config import Config, InputError
from a3c.envs.atari import AtariEnvs
from a3c.envs.gymnasium import GymnasiumEnvs
from a3c.envs.names import atari_game
from a3c.envs.protocol import Array
from a3c.results.evaluate import Episode


class CannotRender(RuntimeError):
    """An environment has no picture to give here, for instance for want of a display."""


def film(episode: Episode, config: Config, path: Path, show: bool) -> None:
    """Play the game again, action by action, in its native colours and size, as an mp4.

    The same seed and actions give the same game: if its return differs, RuntimeError is raised.
    """
    window = open_window() if show else None
    writer = None
    total = 0.0
    for frame, reward, frames_per_second in replay(episode, config):
        if writer is None:
            writer = open_film(path, frame, frames_per_second)
        writer.send(np.ascontiguousarray(frame))
        if window is not None:
            window(frame)
        total += reward
    if writer is not None:
        writer.close()
    if not np.isclose(total, episode.episodic_return):
        raise RuntimeError(f"the replay returned {total}, the game {episode.episodic_return}")


def open_film(path: Path, frame: Array, frames_per_second: float) -> Any:
    """imageio-ffmpeg's writer; sides are made even, as H.264 needs."""
    height, width = frame.shape[:2]
    writer = imageio_ffmpeg.write_frames(
        str(path), (width, height), fps=frames_per_second, macro_block_size=2, quality=7
    )
    writer.send(None)
    return writer


def replay(episode: Episode, config: Config) -> Iterator[tuple[Array, float, float]]:
    """(RGB frame [H, W, 3] uint8, reward, frames per second) after each agent step of a game."""
    if (game := atari_game(config.env)) is not None:
        yield from replay_atari(episode, config, game)
        return
    try:
        env = gymnasium.make(config.env, render_mode="rgb_array")
        env.reset(seed=episode.seed)
        env.render()
    except Exception as error:  # whatever the environment's own renderer raises
        raise CannotRender(f"{config.env} cannot be rendered here: {error}") from error
    coder = GymnasiumEnvs(config.env, 1)
    frames_per_second = env.metadata.get("render_fps", 30)
    for action in episode.actions:
        decoded = coder.decode(np.array([action]))[0]
        reward = float(env.step(decoded)[1])
        frame = env.render()
        assert isinstance(frame, np.ndarray)
        yield frame, reward, frames_per_second
    env.close()


def replay_atari(
    episode: Episode, config: Config, game: str
) -> Iterator[tuple[Array, float, float]]:
    """The emulator's draws (no-ops, sticky actions) come from the seed: they repeat as well."""
    colours = AtariEnvs(game, config, 1, grayscale=False, img_height=210, img_width=160)
    colours.reset(np.array([episode.seed]))
    for action in episode.actions:
        step = colours.step(np.array([action]))
        shown = step.observations if step.final_observations is None else step.final_observations
        yield shown[0], float(step.rewards[0]), 60 / config.mean_frame_skip
    colours.close()


def open_window() -> Callable[[Array], None]:
    """A window that shows frames. Raises InputError where there is no display."""
    from matplotlib import pyplot

    if pyplot.get_backend().lower() == "agg":
        raise InputError("--render needs a display; leave it out and watch best.mp4")
    image: list[Any] = []

    def draw(frame: Array) -> None:
        if not image:
            pyplot.axis("off")
            image.append(pyplot.imshow(frame))
        image[0].set_data(frame)
        pyplot.pause(1e-3)

    return draw
