"""Whole games: their lengths, their ends, the figures that they make."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor

import a3c
from a3c.games import (
    Episode,
    EvaluationProtocol,
    GameEnvs,
    GoesOn,
    checksum,
    make_games,
    play_episodes,
)
from a3c.methods import A3C
from a3c.network import Network
from a3c.presets import preset
from a3c.results.evaluate import summary
from a3c.results.play import score_table
from a3c.results.policy import Policy
from a3c.run import checkpoint
from tests.playable import HalfNeverEnds, Playable, model_of
from tests.scripted import VECTOR, Scripted, step

FOUR = EvaluationProtocol(episodes=4, seed=0, greedy=False, epsilon=0.0)


def played(model: str, protocol: EvaluationProtocol = FOUR, **changes: Any) -> list[Episode]:
    return play(a3c.load(model, "cpu"), replace(protocol, **changes))


def play(
    policy: Policy, protocol: EvaluationProtocol, goes_on: GoesOn = lambda *_: True
) -> list[Episode]:
    games = make_games(policy.config, protocol.episodes, policy.device)
    return play_episodes(games, policy.network, policy.generator, protocol, goes_on)


def test_figures_are_what_their_names_say() -> None:
    episodes = [
        Episode(seed, episodic_return, [0] * length)
        for seed, (episodic_return, length) in enumerate([(0.0, 1), (0.0, 2), (9.0, 6)])
    ]
    found = summary(episodes, preset("control", env="CartPole-v1"), replace(FOUR, episodes=3))
    assert {name: found[name] for name in ("mean", "median", "min", "max")} == {
        "mean": 3, "median": 0, "min": 0, "max": 9,
    }  # fmt: skip
    assert found["std"] == pytest.approx(27**0.5)
    assert found["mean_length_agent_steps"] == 3
    console = Console(record=True, width=80)
    console.print(score_table(found))
    rows = [line.split("│") for line in console.export_text().splitlines() if "│" in line]
    shown = {row[1].strip(): row[2].strip() for row in rows}
    assert (shown["mean"], shown["median"], shown["max"]) == ("3.00", "0.00", "9.00")
    assert (shown["std"], shown["mean length, agent steps"]) == ("5.20", "3")


def test_a_game_is_played_alike_whenever_others_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(HalfNeverEnds, tmp_path)
    one = played(model, max_agent_steps=30)
    monkeypatch.setattr(HalfNeverEnds, "reset", Playable.reset)
    monkeypatch.setattr(HalfNeverEnds, "length", 10**9)
    other = played(model, max_agent_steps=30)
    assert [len(each.actions) for each in (one[0], other[0])] == [10, 30]
    assert [one[i].actions for i in (1, 3)] == [other[i].actions for i in (1, 3)]


def test_a_checksum_is_of_all_that_was_seen() -> None:
    one, other = np.zeros(3), np.ones(3)
    assert checksum(one, checksum(one)) != checksum(one, checksum(other))


def test_an_ended_game_costs_nothing_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network sees each observation of each game once."""
    seen = []
    forward = Network.forward

    def counted(network: Network, observations: Tensor, *rest: Any) -> Any:
        seen.append(len(observations))
        return forward(network, observations, *rest)

    model = model_of(HalfNeverEnds, tmp_path)
    monkeypatch.setattr(Network, "forward", counted)
    lengths = [episode.length for episode in played(model, max_agent_steps=30)]
    assert lengths == [10, 30, 10, 30]
    assert sum(seen) == sum(lengths)


def test_the_longest_game_is_cut(tmp_path: Path) -> None:
    model = model_of(Playable, tmp_path)
    whole, cut = played(model), played(model, max_agent_steps=8)
    assert [episode.cut for episode in whole] == [False] * 4
    assert [episode.cut for episode in cut] == [True] * 4
    assert [episode.length for episode in cut] == [8] * 4
    assert [episode.actions for episode in cut] == [episode.actions[:8] for episode in whole]
    figures = summary(cut, a3c.load(model, "cpu").config, replace(FOUR, max_agent_steps=8))
    assert figures["cut"] == [True] * 4
    assert figures["protocol"]["max_agent_steps"] == 8
    assert not figures["interrupted"]


def test_a_game_that_ends_at_the_longest_length_is_not_cut(tmp_path: Path) -> None:
    assert not any(episode.cut for episode in played(model_of(Playable, tmp_path), FOUR))
    ended = played(model_of(Playable, tmp_path), max_agent_steps=20)
    assert [(episode.length, episode.cut) for episode in ended] == [(20, False)] * 4


def test_games_that_had_ended_are_kept_when_it_stops(tmp_path: Path) -> None:
    policy = a3c.load(model_of(HalfNeverEnds, tmp_path), "cpu")
    asked = []

    def goes_on(under_way: int, agent_steps: int) -> bool:
        asked.append((under_way, agent_steps))
        return agent_steps < 12

    episodes = play(policy, FOUR, goes_on)
    assert [(episode.seed, episode.length) for episode in episodes] == [(0, 10), (2, 10)]
    assert asked == [(4, step) for step in range(1, 10)] + [(2, 10), (2, 11), (2, 12)]
    figures = summary(episodes, policy.config, FOUR)
    assert figures["interrupted"]
    assert (figures["episodes"], figures["seeds"]) == (2, [0, 2])


@pytest.mark.parametrize("greedy", [False, True])
def test_epsilon_is_the_share_of_random_actions(greedy: bool, tmp_path: Path) -> None:
    policy = a3c.load(model_of(Playable, tmp_path), "cpu")
    policy.network.heads.policy.linear.bias[1] = 50.0  # without epsilon it takes no other action

    def share(epsilon: float) -> float:
        protocol = EvaluationProtocol(episodes=50, seed=0, greedy=greedy, epsilon=epsilon)
        return float(np.mean([episode.actions for episode in play(policy, protocol)]))

    assert share(0.0) == 1
    assert share(0.5) == pytest.approx(0.75, abs=0.05)  # of 1000 actions, of two kinds
    assert share(1.0) == pytest.approx(0.5, abs=0.05)


def test_a_greedy_policy_takes_the_likeliest_action_of_each_observation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    likeliest: list[list[int]] = []
    forward = Network.forward

    def watched(network: Network, *words: Any) -> Any:
        outputs, state = forward(network, *words)
        likeliest.append(outputs[0].argmax(-1).tolist())
        return outputs, state

    monkeypatch.setattr(Network, "forward", watched)
    policy = a3c.load(model_of(Playable, tmp_path), "cpu")
    policy.network.heads.policy.linear.weight.mul_(100)  # far from uniform, but not quite sure

    def taken(greedy: bool) -> list[list[int]]:
        """The actions of the four games at each agent step."""
        likeliest.clear()
        episodes = play(policy, replace(FOUR, greedy=greedy))
        return np.transpose([episode.actions for episode in episodes]).tolist()

    actions = taken(greedy=True)
    assert {action for step in actions for action in step} == {0, 1}
    assert actions == likeliest
    assert taken(greedy=False) != likeliest


def test_a_model_trained_on_cuda_plays_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    saved = checkpoint.load(Path(model_of(Playable, tmp_path)))
    expected = played(str(tmp_path / "Playable.safetensors"))
    for device in ("cuda", "cuda:1"):
        model = model_of(Playable, tmp_path, device=device)
        assert checkpoint.load(Path(model)).config.device == device != saved.config.device
        assert played(model) == expected


def test_importing_a3c_needs_nothing_that_draws() -> None:
    code = "import sys, a3c, a3c.results.evaluate; print(*sys.modules)"
    words = [sys.executable, "-c", code]
    loaded = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    assert "a3c.results.evaluate" in loaded
    assert not {"imageio_ffmpeg", "matplotlib", "a3c.results.play", "a3c.cli"} & set(loaded)


def test_a_lost_life_ends_no_game() -> None:
    steps = [step([1.0], life_lost=[True]), step([2.0]), step([4.0], terminated=[True])]
    config = preset("control", env="CartPole-v1")
    network = Network(config, VECTOR, A3C(config))
    network.prepare()
    protocol = replace(FOUR, episodes=1)
    games = GameEnvs([Scripted(steps)])
    (played,) = play_episodes(games, network, torch.Generator(), protocol, lambda *_: True)
    assert (played.episodic_return, played.length, played.cut) == (7.0, 3, False)
