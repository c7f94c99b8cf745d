"""Films of games: played again, action by action, in their native colours and size."""

from __future__ import annotations

import importlib.util
import math
import numbers
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from a3c import extras
from a3c.config import Config
from a3c.envs.atari import AtariEnvs, native_size
from a3c.envs.coding import to_float32
from a3c.envs.gymnasium import GymnasiumEnvs, put_reward, seeded_reset, with_own_spaces
from a3c.envs.names import atari_game
from a3c.envs.protocol import Array, Closable, closed_on_failure
from a3c.errors import InputError
from a3c.games import Episode, checksum
from a3c.results.output import whole_file

Each = Callable[[Array, int, Episode], None]  # frame [H, W, 3], its number, the game
Window = Callable[[Array], None]
Picture = tuple[Array, float]  # [H, W, 3] uint8, and how many of them make a second


class NoFilm(Exception):
    """Why a game cannot be filmed or shown, in one line."""


NOT_THE_SAME = "the environment does not repeat itself for the same seed"


def film(episode: Episode, config: Config, path: Path, each: Each) -> None:
    """Play the game again and write it as an mp4; `each` gets every frame that is on its way.

    Nothing is left of a film that could not be finished. Raises NoFilm, what `each` raises, and
    InputError where the system refuses to write.
    """
    with whole_file(path) as temporary:
        encoder, sent = None, 0
        try:
            for frame, frames_per_second in replay(episode, config):
                encoder = encoder or open_encoder(temporary, frame, frames_per_second)
                send(encoder, frame)
                each(frame, sent, episode)
                sent += 1
        finally:
            if encoder is not None:
                encoder.close()
        check_written(temporary, sent)


def show(episode: Episode, config: Config, each: Each) -> None:
    """Play the game again for `each` alone. Raises NoFilm and what `each` raises."""
    for number, (frame, _) in enumerate(replay(episode, config)):
        each(frame, number, episode)


def open_encoder(path: Path, frame: Array, frames_per_second: float) -> Any:
    """imageio-ffmpeg's writer of frames with even sides, as H.264 needs them."""
    import imageio_ffmpeg  # not at the top: who only trains needs none

    height, width = even_sides(frame).shape[:2]
    try:
        encoder = imageio_ffmpeg.write_frames(
            str(path.absolute()),  # ffmpeg takes what is before a colon for a protocol
            (width, height),
            fps=frames_per_second,
            macro_block_size=2,
            quality=7,
            ffmpeg_log_level="quiet",
            output_params=["-f", "mp4"],  # the temporary name's ending says nothing
        )
        encoder.send(None)
    except (RuntimeError, OSError) as error:  # no ffmpeg for this system, or one without H.264
        raise NoFilm(first_line(error)) from error
    return encoder


def even_sides(frame: Array) -> Array:
    """The last row or column twice where their number is odd."""
    height, width = frame.shape[:2]
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def send(encoder: Any, frame: Array) -> None:
    """One frame to ffmpeg. Raises OSError if it has gone."""
    try:
        encoder.send(np.ascontiguousarray(even_sides(frame)))
    except OSError as error:  # with ffmpeg's command in many lines
        raise OSError("ffmpeg stopped; is the disk full?") from error


def check_written(path: Path, frames: int) -> None:
    """Raise OSError if the film is not whole: ffmpeg's exit status is not to be had."""
    import imageio_ffmpeg

    try:
        written, _ = imageio_ffmpeg.count_frames_and_secs(str(path.absolute()))
    except RuntimeError:
        written = 0
    if written != frames:
        raise OSError(f"ffmpeg wrote {written} of {frames} frames; is the disk full?")


def replay(episode: Episode, config: Config) -> Iterator[Picture]:
    """The picture after each agent step of the game. Raises NoFilm if it is not the same game."""
    if (game := atari_game(config.env)) is not None:
        return replay_atari(episode, config, game)
    return replay_gymnasium(episode, config.env)


def replay_atari(episode: Episode, config: Config, game: str) -> Iterator[Picture]:
    """The emulator's draws (no-ops, sticky actions) come from the seed: they repeat as well."""
    total = 0.0
    with closing(AtariEnvs(game, config, 1, grayscale=False, **native_size(game))) as colours:
        colours.reset(episode.seed)
        for action in episode.actions:
            step = colours.step(np.array([action]))
            last = step.final_observations  # of a game that has ended
            yield (step.observations if last is None else last)[0], 60 / config.mean_frame_skip
            total += float(step.rewards[0])
    if total != episode.episodic_return:
        raise NoFilm(NOT_THE_SAME)


def replay_gymnasium(episode: Episode, name: str) -> Iterator[Picture]:
    """Also compares what was seen: rewards alone may agree by chance."""
    with rendering(name):
        coder, env = made_to_render(name)
    with let_go(coder), let_go(env):
        with rendering(name):
            observation = seeded_reset(env, episode.seed)
        observed, total, ended = checksum(encoded(coder, observation)), 0.0, False
        frames_per_second, shape = speed(env.metadata), None
        for action in episode.actions:
            if ended:
                break
            with rendering(name):
                taken = coder.decode(np.array([action]))[0]
                observation, reward, terminated, truncated, _ = env.step(taken)
                frame = checked(env.render(), shape)
                if not terminated:
                    observed = checksum(encoded(coder, observation), observed)
                rewards = np.zeros(1)
                put_reward(rewards, 0, reward)
            total += float(to_float32(rewards)[0])  # as games add them up
            ended, shape = terminated or truncated, frame.shape
            yield frame, frames_per_second
    seen = total == episode.episodic_return and observed == episode.observed
    if not seen or ended == episode.cut:
        raise NoFilm(NOT_THE_SAME)


@contextmanager
def let_go(made: Closable) -> Iterator[None]:
    """Close it in the end. Whether that fails is nothing to a film that is there, nor the reason
    why there is none."""
    try:
        yield
    finally:
        with suppress(Exception):
            made.close()


def encoded(coder: GymnasiumEnvs, observation: Any) -> Array:
    """One observation as the learner has it."""
    return coder.encode(np.asarray([observation], coder.observation_space.dtype))[0]


@contextmanager
def rendering(name: str) -> Iterator[None]:
    """Whatever an environment or its renderer raises, as NoFilm."""
    try:
        yield
    except Exception as error:
        raise NoFilm(f"{name} cannot be rendered here: {reason(error)}") from error


def reason(error: Exception) -> str:
    """Why an environment gave no picture."""
    missing = isinstance(error, gymnasium.error.DependencyNotInstalled)
    if missing and importlib.util.find_spec("pygame") is None:
        return str(extras.missing("a film", "pygame", "human"))
    return first_line(error)


def made_to_render(name: str) -> tuple[GymnasiumEnvs, gymnasium.Env[Any, Any]]:
    """How the learner sees the environment, and one that draws into arrays."""
    with warnings.catch_warnings():  # of undeclared render modes: where it fails, one line says so
        warnings.simplefilter("ignore")
        coder = GymnasiumEnvs(name, 1)
        with closed_on_failure([coder]):
            made = gymnasium.make(name, render_mode="rgb_array", disable_env_checker=True)
            return coder, with_own_spaces(made)


def checked(frame: Any, shape: tuple[int, ...] | None) -> Array:
    """What render() gave. Raises TypeError for anything but a picture of the first one's size."""
    given = type(frame).__name__
    if isinstance(frame, np.ndarray):
        given = f"{frame.dtype} {list(frame.shape)}"
        picture = frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[2] == 3
        if picture and frame.size and shape in (None, frame.shape):
            return frame
    sides = "height, width" if shape is None else f"{shape[0]}, {shape[1]}"
    raise TypeError(f"render() gives {given}; expected uint8 [{sides}, 3]")


def speed(metadata: dict[str, Any]) -> float:
    """Frames per second as the environment declares them; else 30."""
    declared = metadata.get("render_fps")
    rate = float(declared) if isinstance(declared, numbers.Real) else 0.0  # NumPy's as well
    return rate if 0 < rate < math.inf else 30.0


def first_line(error: Exception) -> str:
    """What an error says, or its kind if it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def open_window() -> Window:
    """A window that shows frames. Raises InputError where there is no display."""
    from matplotlib import pyplot
    from matplotlib.backends.registry import BackendFilter, backend_registry

    try:
        with_windows = backend_registry.list_builtin(BackendFilter.INTERACTIVE)
        if pyplot.get_backend().lower() not in [name.lower() for name in with_windows]:
            raise ImportError(f"matplotlib draws with {pyplot.get_backend()} here")
        axes = pyplot.figure().add_subplot()
    except (ImportError, RuntimeError) as error:  # RuntimeError: of some toolkits
        why = first_line(error)
        raise InputError(f"--render needs a display ({why}); leave it out: films show it") from None
    axes.axis("off")
    image: list[Any] = []

    def draw(frame: Array) -> None:
        if not image:
            image.append(axes.imshow(frame))
        image[0].set_data(frame)
        pyplot.pause(1e-3)

    return draw
