"""Films: whole, of the very game, or none and one line that says why."""

import importlib.util
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import imageio_ffmpeg
import matplotlib
import numpy as np
import pytest

from a3c import cli
from a3c.envs.atari import AtariEnvs, native_size
from a3c.envs.protocol import Array
from a3c.games import Episode
from a3c.presets import preset
from a3c.results import film
from a3c.results.film import replay
from tests.playable import HalfNeverEnds, Observation, Playable, model_of


def frames_of(path: Path) -> Array:
    """[T, H, W, 3]."""
    reader = imageio_ffmpeg.read_frames(str(path))
    width, height = next(reader)["size"]
    frames = [np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reader]
    return np.stack(frames)


class RewardOfItsOwn(Playable):
    """Ignores its seed."""

    def reward(self) -> float:
        return random.random()


class ObservationOfItsOwn(Playable):
    """Its rewards repeat; what is to be seen does not."""

    def reward(self) -> float:
        return 1.0

    def observe(self) -> Observation:
        return np.array([random.random()] * 3, np.float32)


class LengthOfItsOwn(Playable):
    """Longer with every game that was played."""

    games = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Observation, Any]:
        LengthOfItsOwn.games += 1
        self.length = 10 + LengthOfItsOwn.games
        return super().reset(seed=seed)


class Shorter(LengthOfItsOwn):
    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Observation, Any]:
        made = super().reset(seed=seed)
        self.length = 100 - self.games
        return made


class GivesNone(Playable):
    def render(self) -> Any:
        return None


class GivesAList(Playable):
    def render(self) -> Any:
        return [np.zeros((64, 48, 3), np.uint8)]


class GivesFloats(Playable):
    def render(self) -> Any:
        return np.zeros((64, 48, 3))


class GivesGrey(Playable):
    def render(self) -> Any:
        return np.zeros((64, 48), np.uint8)


class GivesNothing(Playable):
    def render(self) -> Any:
        return np.zeros((0, 0, 3), np.uint8)


class Grows(Playable):
    def render(self) -> Any:
        return np.zeros((64 + 2 * (self.t > 5), 48, 3), np.uint8)


class NotWritten(Playable):
    def render(self) -> Any:
        raise NotImplementedError


class FallsOver(Playable):
    def render(self) -> Any:
        if self.t == 15:
            raise ValueError("the renderer fell over\nin two lines")
        return super().render()


class FallsOverTwice(FallsOver):
    """And has nothing to close then, where it is to draw."""

    def close(self) -> None:
        if self.render_mode is not None:
            raise AttributeError("'NoneType' object has no attribute 'close'")


class TakesNoMode(Playable):
    metadata: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self) -> None:
        pass


class NeedsPygame(Playable):
    def render(self) -> Any:
        raise gymnasium.error.DependencyNotInstalled("pip install 'gymnasium[classic-control]'")


NOT_THE_SAME = "no film: the environment does not repeat itself for the same seed"
CANNOT = "no film: {} cannot be rendered here: "
NO_FILM = [
    (RewardOfItsOwn, NOT_THE_SAME),
    (ObservationOfItsOwn, NOT_THE_SAME),
    (LengthOfItsOwn, NOT_THE_SAME),
    (Shorter, NOT_THE_SAME),
    (GivesNone, CANNOT + "render() gives NoneType; expected uint8 [height, width, 3]"),
    (GivesAList, CANNOT + "render() gives list; expected uint8"),
    (GivesFloats, CANNOT + "render() gives float64 [64, 48, 3]; expected uint8"),
    (GivesGrey, CANNOT + "render() gives uint8 [64, 48]; expected uint8"),
    (GivesNothing, CANNOT + "render() gives uint8 [0, 0, 3]; expected uint8"),
    (Grows, CANNOT + "render() gives uint8 [66, 48, 3]; expected uint8 [64, 48, 3]"),
    (NotWritten, CANNOT + "NotImplementedError"),
    (FallsOver, CANNOT + "the renderer fell over\n"),
    (FallsOverTwice, CANNOT + "the renderer fell over\n"),
    (TakesNoMode, CANNOT + "TakesNoMode.__init__() got an unexpected keyword argument"),
]


def playing(model: str, out: Path, *more: str) -> list[str]:
    return ["play", model, "--episodes", "3", "--out", str(out), *more]


@pytest.mark.parametrize(("kind", "why"), NO_FILM, ids=[kind.__name__ for kind, _ in NO_FILM])
def test_no_film_and_why(
    kind: type[Playable], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert cli.main(playing(model_of(kind, tmp_path), out)) == 0
    said = capsys.readouterr()
    assert why.format(f"{kind.__name__}-v0") in said.out
    assert said.out.count("no film") == 1
    assert os.listdir(out) == ["scores.json"]


def test_pygame_is_asked_for_as_the_readme_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    missing = lambda name: None if name == "pygame" else find(name)  # noqa: E731
    monkeypatch.setattr("importlib.util.find_spec", missing)
    assert cli.main(playing(model_of(NeedsPygame, tmp_path), tmp_path / "out")) == 0
    said = capsys.readouterr().out
    assert "needs pygame; in a checkout of a3c-gpu: pip install -e '.[human]'" in said


def test_films_show_the_game(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert cli.main(playing(model_of(Playable, tmp_path), out)) == 0
    assert sorted(os.listdir(out)) == ["best.mp4", "median.mp4", "scores.json"]
    frames = frames_of(out / "best.mp4")
    assert frames.shape == (20, 64, 48, 3)
    brightness = frames.mean((1, 2, 3))
    assert np.abs(brightness - np.arange(1, 21)).max() < 3  # H.264 is lossy


def test_a_folder_whose_name_has_a_colon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ffmpeg would take what is before it for a protocol."""
    model = model_of(Playable, tmp_path)
    monkeypatch.chdir(tmp_path)
    assert cli.main(playing(model, Path("pong:v5"))) == 0
    assert len(frames_of(Path("pong:v5/best.mp4").absolute())) == 20


class Odd(Playable):
    def render(self) -> Any:
        return np.full((63, 47, 3), 90, np.uint8)


class WithoutSpeed(Playable):
    metadata = {"render_modes": ["rgb_array"], "render_fps": None}  # noqa: RUF012


class CancelsOut(Playable):
    """Rewards whose sum is nearly 0, and as it ends an observation that is no number."""

    def reward(self) -> float:
        return 1.9 if self.t == self.length else -0.1

    def observe(self) -> Any:
        return np.full(3, np.nan, np.float32) if self.t == self.length else super().observe()


class Draws(Playable):
    """From a space that all its instances have in common."""

    def observe(self) -> Any:
        return self.observation_space.sample()


class TimesOut(Playable):
    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        observation, reward, ended, _, info = super().step(action)
        return observation, reward, False, ended, info


@pytest.mark.parametrize("kind", [CancelsOut, Draws, TimesOut])
def test_what_repeats_itself_is_filmed(kind: type[Playable], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert cli.main(playing(model_of(kind, tmp_path), out)) == 0
    assert sorted(os.listdir(out)) == ["best.mp4", "median.mp4", "scores.json"]


@pytest.mark.parametrize("kind", [Odd, WithoutSpeed])
def test_pictures_of_odd_sides_and_of_no_speed(kind: type[Playable], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert cli.main(playing(model_of(kind, tmp_path), out)) == 0
    assert frames_of(out / "median.mp4").shape == (20, 64, 48, 3)


def test_a_film_of_a_cut_game(tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = playing(model_of(HalfNeverEnds, tmp_path), out, "--max-agent-steps", "30")
    assert cli.main(words) == 0
    assert len(frames_of(out / "best.mp4")) == 30


def test_one_game_is_filmed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    write = imageio_ffmpeg.write_frames
    record = lambda *words, **more: made.append(1) or write(*words, **more)  # type: ignore[func-returns-value]  # noqa: E731
    monkeypatch.setattr(imageio_ffmpeg, "write_frames", record)
    out = tmp_path / "out"
    assert cli.main([*playing(model_of(Playable, tmp_path), out), "--episodes", "1"]) == 0
    assert (out / "best.mp4").read_bytes() == (out / "median.mp4").read_bytes()
    assert len(made) == 1


def test_without_films(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    monkeypatch.setattr("a3c.results.film.replay", None)
    assert cli.main(playing(model_of(Playable, tmp_path), out, "--no-film")) == 0
    assert os.listdir(out) == ["scores.json"]


def test_older_films_are_of_other_games(tmp_path: Path) -> None:
    out, model = tmp_path / "out", model_of(Playable, tmp_path)
    assert cli.main(playing(model, out)) == 0
    assert cli.main(playing(model, out, "--seed", "7", "--no-film")) == 0
    assert os.listdir(out) == ["scores.json"]


def stops(*_words: Any, **_more: Any) -> Iterator[None]:
    """imageio-ffmpeg's writer where ffmpeg dies: an error of many lines."""
    yield
    raise OSError("[Errno 32] Broken pipe\n\nFFMPEG COMMAND:\nffmpeg ...")


def few(path: str, *_words: Any, **_more: Any) -> Iterator[None]:
    """One where ffmpeg ends without a word, its film unfinished."""
    Path(path).write_bytes(b"half a film")
    while True:
        yield


@pytest.mark.parametrize("writer", [stops, few])
def test_a_film_that_cannot_be_written(
    writer: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imageio_ffmpeg, "write_frames", writer)
    out = tmp_path / "out"
    assert cli.main(playing(model_of(Playable, tmp_path), out)) == 2
    said = capsys.readouterr()
    assert "mean length" in said.out
    assert said.err.startswith(f"a3c: cannot write {out / 'best.mp4'}: ffmpeg ")
    assert said.err.count("\n") == 1
    assert os.listdir(out) == ["scores.json"]


def test_an_ffmpeg_that_is_not_there_is_no_refusal_to_write(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "ffmpeg"))
    out = tmp_path / "out"
    assert cli.main(playing(model_of(Playable, tmp_path), out)) == 0
    assert "no film: " in capsys.readouterr().out
    assert os.listdir(out) == ["scores.json"]


class InterruptedFilm(Playable):
    """Somebody presses Ctrl-C while it is filmed."""

    def render(self) -> Any:
        if self.t == 10:
            signal.raise_signal(signal.SIGINT)
        return super().render()


def test_interrupted_while_filming(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert cli.main(playing(model_of(InterruptedFilm, tmp_path), out)) == 0
    assert "no film: interrupted" in capsys.readouterr().out
    assert os.listdir(out) == ["scores.json"]


def test_interrupted_while_a_film_is_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C goes to the ffmpeg that counts frames as well."""

    def count(_path: str) -> tuple[int, float]:
        signal.raise_signal(signal.SIGINT)
        raise RuntimeError("ffmpeg ended with 255")

    monkeypatch.setattr(imageio_ffmpeg, "count_frames_and_secs", count)
    out = tmp_path / "out"
    assert cli.main(playing(model_of(Playable, tmp_path), out)) == 0
    assert "no film: interrupted" in capsys.readouterr().out
    assert os.listdir(out) == ["scores.json"]


@pytest.mark.parametrize(("game", "height"), [("pong", 210), ("adventure", 250), ("carnival", 214)])
def test_a_film_is_as_high_as_the_game(game: str, height: int) -> None:
    episode = Episode(seed=1, actions=[0])
    frame, _ = next(iter(replay(episode, preset("fast", env=game, noop_max=0))))
    assert frame.shape == (height, 160, 3)


def test_a_window_needs_a_display(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    matplotlib.use("agg")
    out = tmp_path / "out"
    assert cli.main(playing(model_of(Playable, tmp_path), out, "--render")) == 2
    said = capsys.readouterr()
    assert said.err.startswith("a3c: --render needs a display")
    assert said.err.count("\n") == 1
    assert said.out == ""
    assert not out.exists()


@pytest.mark.parametrize("more", [[], ["--no-film"]])
def test_the_window_shows_the_best_game(
    more: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Array] = []
    monkeypatch.setattr("a3c.results.play.open_window", lambda: drawn.append)
    words = playing(model_of(Playable, tmp_path), tmp_path / "out", "--render", *more)
    assert cli.main(words) == 0
    assert [int(frame[0, 0, 0]) for frame in drawn] == list(range(1, 21))


@pytest.mark.parametrize(
    ("options", "frames_per_second"),
    [({}, 15), ({"frame_skip": 2, "frame_skip_max": 4}, 20), ({"frame_skip": 1}, 60)],
)
def test_an_atari_film_is_as_fast_as_the_game_and_ends_with_its_last_picture(
    options: dict[str, int], frames_per_second: float
) -> None:
    """Not with the first one of the next game."""
    config = preset("fast", env="breakout", max_episode_frames=120, **options)
    colours = AtariEnvs("breakout", config, 1, grayscale=False, **native_size("breakout"))
    colours.reset(5)
    episode, last = Episode(5), None
    while last is None:
        action = len(episode.actions) % 4
        step = colours.step(np.array([action]))
        episode.actions.append(action)
        episode.episodic_return += float(step.rewards[0])
        last = step.final_observations
    colours.close()
    pictures = list(replay(episode, config))
    assert {speed for _, speed in pictures} == {frames_per_second}
    np.testing.assert_array_equal(pictures[-1][0], last[0])
    assert not np.array_equal(last[0], step.observations[0])


class Slow(Playable):
    metadata = {**Playable.metadata, "render_fps": 12}  # noqa: RUF012


def test_a_film_is_as_fast_as_its_environment_says(tmp_path: Path) -> None:
    assert cli.main(playing(model_of(Slow, tmp_path), tmp_path / "out")) == 0
    reader = imageio_ffmpeg.read_frames(tmp_path / "out" / "best.mp4")
    assert next(reader)["fps"] == 12
    reader.close()
    for declared in (50, np.int64(50), np.float32(50)):
        assert film.speed({"render_fps": declared}) == 50
    for nonsense in ({}, {"render_fps": None}, {"render_fps": 0}, {"render_fps": np.inf}):
        assert film.speed(nonsense) == 30
