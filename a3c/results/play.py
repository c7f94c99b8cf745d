"""`a3c play`: whole games of a trained model, their scores and two films."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from rich.console import Console
from rich.table import Table

from a3c.config import InputError
from a3c.results import models
from a3c.results.evaluate import Protocol, play_episodes, summary
from a3c.results.film import CannotRender, film
from a3c.results.policy import Policy


@dataclass(frozen=True)
class PlayOptions:
    """Play whole games with a trained model; write scores.json and two films."""

    model: tyro.conf.Positional[str]
    """A game whose model ships, a model file, or a run folder (its newest checkpoint)."""
    episodes: int = 10
    """Games to play, all at the same time, each from its own seed."""
    out: str = "play"
    """Folder for scores.json and the films."""
    policy: Literal["sample", "greedy"] = "sample"
    """sample: draw each action from the policy, as in training. greedy: its most likely action."""
    epsilon: float | None = None
    """Probability of a random action in place of the policy's. Default: 0 for sample; 0.01 for
    greedy, which could otherwise repeat itself for ever."""
    noop_max: int = 30
    """A game starts with up to this many no-ops (Atari)."""
    render: bool = False
    """Also show the best game in a window."""
    seed: int = 0
    """Seed of the first game; the following ones take the following seeds."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:i."""

    def __post_init__(self) -> None:
        if not 1 <= self.episodes <= 10_000:
            raise InputError(f"--episodes is {self.episodes}; expected 1 to 10000")
        if self.policy not in ("sample", "greedy"):
            raise InputError(f"--policy is {self.policy!r}; expected sample or greedy")
        if self.epsilon is not None and not 0 <= self.epsilon <= 1:
            raise InputError(f"--epsilon is {self.epsilon}; expected 0 to 1")
        if not 0 <= self.noop_max <= 1_000:
            raise InputError(f"--noop-max is {self.noop_max}; expected 0 to 1000")
        if not 0 <= self.seed < 2**31 - 10_000:
            raise InputError(f"--seed is {self.seed}; expected 0 to {2**31 - 10_001}")

    @property
    def protocol(self) -> Protocol:
        """With the epsilon in force."""
        greedy = self.policy == "greedy"
        epsilon = self.epsilon if self.epsilon is not None else 0.01 if greedy else 0.0
        return Protocol(self.episodes, self.seed, greedy, epsilon)


def play(options: PlayOptions) -> dict[str, Any]:
    """Play, print the table, write scores.json and the films; returns what scores.json holds."""
    torch.set_num_threads(1)  # a second thread would wait longer than it works on so few agents
    saved = models.find(options.model)
    config = replace(saved.config, noop_max=options.noop_max, num_threads=1)
    policy = Policy(saved, options.device, options.seed)
    out = make_folder(options.out)
    console = Console(highlight=False)
    protocol = options.protocol
    episodes = play_episodes(policy, config, protocol)
    scores = {"model": options.model, **summary(episodes, config, protocol)}
    scores["agent_steps_trained"] = saved.progress["agent_steps"]
    (out / "scores.json").write_text(json.dumps(scores, indent=1) + "\n")
    console.print(score_table(scores))
    ranked = sorted(episodes, key=lambda episode: episode.episodic_return)
    best, median = ranked[-1], ranked[(len(ranked) - 1) // 2]
    for name, episode in (("best", best), ("median", median)):
        show = options.render and name == "best"
        path = out / f"{name}.mp4"
        try:
            film(episode, config, path, show)
            console.print(f"{name} game, return {episode.episodic_return:g}: {path}", markup=False)
        except CannotRender as error:
            console.print(f"no film: {error}", markup=False)
    return scores


def score_table(scores: dict[str, Any]) -> Table:
    """For the terminal."""
    protocol = scores["protocol"]
    title = f"{scores['env']}: {scores['episodes']} whole games, {protocol['policy']} policy"
    table = Table("", "return", title=title)
    for name in ("mean", "std", "median", "min", "max"):
        table.add_row(name, f"{scores[name]:,.2f}")
    table.add_row("mean length, agent steps", f"{scores['mean_length_agent_steps']:,.0f}")
    if scores["human_normalised"] is not None:
        table.add_row("human-normalised", f"{scores['human_normalised']:.0%}")
    return table


def make_folder(out: str) -> Path:
    """Create the folder for the results. Raises InputError if that fails."""
    path = Path(out)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot create the folder {out}: {error.strerror}") from None
    return path
