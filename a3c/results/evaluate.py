"""The figures of whole games, as scores.json has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from a3c.config import Config
from a3c.envs.names import ATARI_PROTOCOL, atari_game
from a3c.envs.protocol import Array
from a3c.games import Episode, EvaluationProtocol
from a3c.results.scores import human_normalised

FIGURES: dict[str, Callable[[Array], Any]] = {
    "mean": np.mean,
    "std": lambda returns: returns.std(ddof=1) if len(returns) > 1 else 0.0,
    "median": np.median,
    "min": np.min,
    "max": np.max,
}


def summary(
    episodes: list[Episode], config: Config, protocol: EvaluationProtocol
) -> dict[str, Any]:
    """The figures of scores.json, with the protocol they were obtained under."""
    returns = np.array([episode.episodic_return for episode in episodes])
    lengths = [episode.length for episode in episodes]
    game = atari_game(config.env)
    figures = {name: float(figure(returns)) for name, figure in FIGURES.items()}
    return {
        "env": config.env,
        "episodes": len(episodes),
        "interrupted": len(episodes) < protocol.episodes,
        **figures,
        "mean_length_agent_steps": float(np.mean(lengths)),
        "human_normalised": human_normalised(game, figures["mean"]) if game else None,
        "protocol": {
            "policy": "greedy" if protocol.greedy else "sample",
            "epsilon": protocol.epsilon,
            "seed": protocol.seed,
            "max_agent_steps": protocol.max_agent_steps,
            **(atari_protocol(config) if game else {}),
        },
        "seeds": [episode.seed for episode in episodes],
        "returns": returns.tolist(),
        "lengths_agent_steps": lengths,
        "cut": [episode.cut for episode in episodes],
    }


def atari_protocol(config: Config) -> dict[str, Any]:
    """How Atari is played, in the words of Config."""
    return {name: getattr(config, name) for name in ATARI_PROTOCOL}
