"""Playing a trained model: whole games, the table, scores.json, films that show the game."""

import json
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest
from ale_py.vector_env import AtariVectorEnv
from torch import Tensor

import a3c
from a3c import cli
from a3c.envs.protocol import Array
from a3c.network import Network
from a3c.results.play import PlayOptions, play
from a3c.results.scores import human_normalised


@pytest.fixture(scope="module")
def breakout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Breakout run that has learned nothing, with games cut short."""
    config = a3c.Config(
        env="breakout",
        num_threads=1,
        num_envs=2,
        total_agent_steps=20,
        max_episode_frames=1200,
        sticky_actions=0.25,
        runs_dir=str(tmp_path_factory.mktemp("runs")),
    )
    return a3c.train(config, quiet=True).folder


def frames_of(path: Path) -> tuple[tuple[int, int], Array]:
    reader = imageio_ffmpeg.read_frames(str(path))
    size = next(reader)["size"]
    frames = [np.frombuffer(frame, np.uint8).reshape(size[1], size[0], 3) for frame in reader]
    return size, np.stack(frames)


def test_play_breakout(breakout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["play", str(breakout), "--episodes", "3", "--out", str(tmp_path), "--seed", "5"]
    assert cli.main(words) == 0
    said = capsys.readouterr().out
    scores = json.loads((tmp_path / "scores.json").read_text())
    returns = scores["returns"]
    assert len(returns) == scores["episodes"] == 3
    assert scores["mean"] == pytest.approx(np.mean(returns))
    assert scores["std"] == pytest.approx(np.std(returns, ddof=1))
    assert (scores["min"], scores["max"]) == (min(returns), max(returns))
    assert scores["human_normalised"] == pytest.approx((scores["mean"] - 1.7) / (30.5 - 1.7))
    assert scores["protocol"]["sticky_actions"] == 0.25
    for word in ("mean", "std", "min", "max", "mean length", "human-normalised"):
        assert word in said
    lengths = scores["lengths_agent_steps"]
    best = lengths[int(np.argsort(returns, kind="stable")[-1])]
    median = lengths[int(np.argsort(returns, kind="stable")[1])]
    for name, length in (("best", best), ("median", median)):
        size, frames = frames_of(tmp_path / f"{name}.mp4")
        assert size == (160, 210)
        assert len(frames) == length
        # colours: the top rows of Breakout's wall are red
        wall = frames[0][60, 20:140].mean(0)
        assert wall[0] > 1.5 * wall[2]
        # and something moves
        assert (frames[0] != frames[-1]).any()


def test_the_same_seed_plays_the_same_games(breakout: Path, tmp_path: Path) -> None:
    options = PlayOptions(str(breakout), episodes=2, out=str(tmp_path), seed=3, epsilon=0.1)
    assert play(options)["returns"] == play(options)["returns"]


def test_an_ended_game_costs_nothing_more(
    breakout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network sees each observation of each game once."""
    seen = []
    forward = Network.forward

    def counted(network: Network, observations: Tensor, *rest: Any) -> Any:
        seen.append(len(observations))
        return forward(network, observations, *rest)

    monkeypatch.setattr(Network, "forward", counted)
    lengths = play(PlayOptions(str(breakout), episodes=4, out=str(tmp_path)))["lengths_agent_steps"]
    assert min(lengths) < max(lengths)
    assert sum(seen) == sum(lengths)


def test_python_use(breakout: Path) -> None:
    policy = a3c.load(breakout)
    envs = AtariVectorEnv("breakout", num_envs=3)
    observations, _ = envs.reset(seed=0)
    for _ in range(5):
        actions = policy.act(observations)
        assert actions.shape == (3,)
        observations, *_ = envs.step(actions)
    greedy = policy.act(observations, greedy=True)
    assert np.array_equal(greedy, policy.act(observations, greedy=True))
    envs.close()


def test_layouts_of_frames_agree(breakout: Path) -> None:
    policy = a3c.load(breakout)
    first = np.random.default_rng(0).integers(0, 256, (8, 4, 84, 84), np.uint8)
    last = np.moveaxis(first, 1, -1)
    assert np.array_equal(policy.act(first, greedy=True), policy.act(last, greedy=True))


@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
@pytest.mark.parametrize("recurrent", [False, True])
def test_play_control(env: str, recurrent: bool, tmp_path: Path) -> None:
    config = a3c.preset(
        "control",
        env=env,
        num_threads=1,
        total_agent_steps=300,
        recurrent=recurrent,
        runs_dir=str(tmp_path / "runs"),
    )
    run = a3c.train(config, quiet=True)
    scores = play(PlayOptions(str(run.folder), episodes=4, out=str(tmp_path / "out")))
    assert len(scores["returns"]) == 4
    assert scores["human_normalised"] is None
    if env == "CartPole-v1":
        assert scores["returns"] == scores["lengths_agent_steps"]
    policy = a3c.load(run.folder)
    size = policy.spec.observation_shape[0]
    actions = policy.act(np.zeros((5, size), np.float32))
    assert len(actions) == 5


def test_human_normalised_score() -> None:
    assert human_normalised("pong", 14.6) == 1.0
    assert human_normalised("pong", -20.7) == 0.0
    assert human_normalised("adventure", 1.0) is None
