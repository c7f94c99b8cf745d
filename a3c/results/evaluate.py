"""Whole games of a trained policy, and the figures that they make."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from a3c.config import Config
from a3c.envs import make_envs
from a3c.envs.names import atari_game
from a3c.envs.protocol import Array
from a3c.results.policy import Policy
from a3c.results.scores import human_normalised
from a3c.rollout import Upload


@dataclass(frozen=True)
class Protocol:
    """How a policy is evaluated, beyond what the environment's Config says."""

    episodes: int
    seed: int  # of the first game; the following ones take the following seeds
    greedy: bool
    epsilon: float  # probability of a random action in place of the policy's


@dataclass
class Episode:
    """A game, as far as it has been played: enough to tell its score and to play it again."""

    seed: int
    episodic_return: float
    actions: list[Any]

    @property
    def length(self) -> int:
        """In agent steps."""
        return len(self.actions)


def play_episodes(policy: Policy, config: Config, protocol: Protocol) -> list[Episode]:
    """One game of each of N agents, played at the same time; the order is that of the seeds.

    Each has an environment of its own and leaves when its game has ended, so that one long game
    costs no more than one game. Actions are drawn for all N all the time: those of a game do not
    depend on when the others end.
    """
    count = protocol.episodes
    envs = [make_envs(replace(config, num_envs=1), 1) for _ in range(count)]
    random = np.random.default_rng(protocol.seed)
    upload = Upload(policy.device, policy.spec.stacked)
    first = np.concatenate([env.reset(protocol.seed + i) for i, env in enumerate(envs)])
    observations = upload.observations(first)
    state = policy.network.initial_state(count, policy.device)
    everyone, _, state = policy.network(observations, state)  # [N, A or 2A]
    games = [Episode(protocol.seed + i, 0.0, []) for i in range(count)]
    playing = np.arange(count)
    while len(playing):
        chosen = policy.choose(everyone, protocol.greedy)
        chosen = with_random(chosen, protocol.epsilon, policy, random)
        steps = [envs[i].step(chosen[[i]]) for i in playing]
        for i, step in zip(playing, steps, strict=True):
            games[i].actions.append(chosen[i].tolist())
            games[i].episodic_return += float(step.rewards[0])
        stays = [j for j, step in enumerate(steps) if not (step.terminated | step.truncated)[0]]
        playing = playing[stays]
        if stays:
            newest = np.concatenate([steps[j].observations for j in stays])
            observations = upload.next_observations(observations[stays], newest)
            state = None if state is None else (state[0][stays], state[1][stays])
            everyone[playing], _, state = policy.network(observations, state)
    for env in envs:
        env.close()
    return games


def with_random(
    actions: Array, epsilon: float, policy: Policy, random: np.random.Generator
) -> Array:
    """Replace each agent's discrete action by a uniformly random one with probability epsilon."""
    if not policy.spec.discrete or epsilon == 0:
        return actions
    chosen = random.random(len(actions)) < epsilon
    return np.where(chosen, random.integers(policy.spec.num_actions, size=len(actions)), actions)


def summary(episodes: list[Episode], config: Config, protocol: Protocol) -> dict[str, Any]:
    """The figures of scores.json, with the protocol they were obtained under."""
    returns = np.array([episode.episodic_return for episode in episodes])
    lengths = np.array([episode.length for episode in episodes])
    game = atari_game(config.env)
    spread = float(returns.std(ddof=1)) if len(returns) > 1 else 0.0
    return {
        "env": config.env,
        "episodes": len(episodes),
        "mean": float(returns.mean()),
        "std": spread,
        "median": float(np.median(returns)),
        "min": float(returns.min()),
        "max": float(returns.max()),
        "mean_length_agent_steps": float(lengths.mean()),
        "human_normalised": human_normalised(game, float(returns.mean())) if game else None,
        "protocol": {
            "policy": "greedy" if protocol.greedy else "sample",
            "epsilon": protocol.epsilon,
            "seed": protocol.seed,
            **(atari_protocol(config) if game else {}),
        },
        "returns": returns.tolist(),
        "lengths_agent_steps": lengths.tolist(),
    }


def atari_protocol(config: Config) -> dict[str, Any]:
    """How Atari is played, in the words of Config."""
    names = (
        "noop_max",
        "frame_skip",
        "frame_skip_max",
        "sticky_actions",
        "full_action_set",
        "max_episode_frames",
    )
    return {name: getattr(config, name) for name in names}
