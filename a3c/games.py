"""Whole games of a policy: each is played to its end, and never clipped."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from a3c.acting import Actor, Choose
from a3c.config import VALUE_METHODS, Config
from a3c.devices import on_device
from a3c.envs import numpy_envs
from a3c.envs.on_device import OnDevice
from a3c.envs.protocol import (
    Array,
    EnvironmentFault,
    NumpyEnvs,
    NumpyStep,
    Spec,
    close_all,
    closed_on_failure,
)
from a3c.heads import Outputs
from a3c.network import Network

GoesOn = Callable[[int, int], bool]  # asked with games under way, agent steps of each of them

GREEDY_EPSILON = 0.01  # of Discrete actions: a greedy policy could repeat itself for ever
SAMPLED_EPSILON = 0.05  # of value methods, as Mnih et al. (2015) evaluate theirs


@dataclass(frozen=True)
class EvaluationProtocol:
    """How a policy is evaluated, beyond what the environment's Config says."""

    episodes: int
    seed: int  # of the first game; the following ones take the following seeds
    greedy: bool
    epsilon: float  # probability of a random action in place of the policy's
    max_agent_steps: int = 108_000  # a game that has not ended by then is cut


@dataclass
class Episode:
    """A game, as far as it has been played: enough to tell its score and to play it again."""

    seed: int
    episodic_return: float = 0.0
    actions: list[Any] = field(default_factory=list)
    cut: bool = False  # at the protocol's max_agent_steps; the return is that of the game so far
    observed: int = 0  # checksum of the observations, but for Atari's

    @property
    def length(self) -> int:
        """In agent steps."""
        return len(self.actions)


class GameEnvs:
    """NumpyEnvs of one game each. Those whose game has ended leave, so that one long game costs no
    more than one game."""

    def __init__(self, envs: list[NumpyEnvs]):
        self.spec, self.envs = envs[0].spec, envs
        self.seed = 0  # of the first game
        self.playing = np.arange(len(envs))  # those whose game has not ended
        self.observed = [0] * len(envs)
        self.taken: Array  # the actions of the last agent step
        self.outcome: NumpyStep  # and what came of them

    @property
    def num_envs(self) -> int:
        return len(self.playing)

    def reset(self, seed: int) -> Array:
        """New games, whatever has become of those before."""
        self.playing = np.arange(len(self.envs))
        self.observed = [0] * len(self.envs)
        self.seed, seen = seed, []
        for i, env in enumerate(self.envs):
            with self.named(i):
                seen.append(env.reset(seed + i))
        self.remember(seen, [np.zeros(1, bool)] * len(seen))
        return np.concatenate(seen)

    def step(self, actions: Array) -> NumpyStep:
        """One action for each game that is being played."""
        steps = []
        for i, action in zip(self.playing, actions, strict=True):
            with self.named(int(i)):
                steps.append(self.envs[i].step(action[None]))
        seen, rewards, terminated, truncated, life_lost, finals = zip(*steps, strict=True)
        final = [s if f is None else f for s, f in zip(seen, finals, strict=True)]
        self.remember(final, terminated)
        columns = seen, rewards, terminated, truncated, life_lost, final
        self.taken, self.outcome = actions, NumpyStep(*map(np.concatenate, columns))
        return self.outcome

    @contextmanager
    def named(self, i: int) -> Iterator[None]:
        """A fault names the game: which of its environment's agents says nothing, it has one."""
        try:
            yield
        except EnvironmentFault as fault:
            where = f"the game of seed {self.seed + i}"
            raise EnvironmentFault(fault.what, where) from fault.__cause__

    def remember(self, seen: Sequence[Array], terminated: Sequence[Array]) -> None:
        """Join the observations to their checksums; not Atari's, whose films have other pictures.
        Nor the last one of a game that terminated: it may be anything.

        A microsecond for a vector.
        """
        if not self.spec.stacked:
            for i, observation, ended in zip(self.playing, seen, terminated, strict=True):
                if not ended:
                    self.observed[i] = checksum(observation, self.observed[i])

    def save_state(self) -> None:
        return None

    def load_state(self, state: dict[str, Array]) -> None:
        raise NotImplementedError

    def close(self) -> None:
        close_all(self.envs)


def make_games(config: Config, episodes: int, device: torch.device) -> GameEnvs:
    """For so many games at the same time. Raises InputError, as make_envs does."""
    envs: list[NumpyEnvs] = []
    with closed_on_failure(envs):
        envs.extend(numpy_envs(config, 1, device) for _ in range(episodes))
    return GameEnvs(envs)


def play_episodes(
    games: GameEnvs,
    network: Network,
    generator: Generator,
    protocol: EvaluationProtocol,
    goes_on: GoesOn,
) -> list[Episode]:
    """One game of each of N agents, played at the same time; the order is that of the seeds.

    `network` is prepared; `generator`, on its device, draws the actions. Actions are drawn for all
    N all the time: those of a game do not depend on when the others end. Where `goes_on` says no,
    the games under way are left out: fewer than N are returned.
    """
    envs = OnDevice(games, generator.device)
    actor = Actor(envs, network, chooser(network, generator, protocol, games))
    actor.reset(protocol.seed)
    episodes = [Episode(protocol.seed + i) for i in range(protocol.episodes)]
    for agent_steps in range(1, protocol.max_agent_steps + 1):
        actor.step()
        outcome = games.outcome  # from the host: the device's copy would have to be waited for
        for i, action, reward in zip(games.playing, games.taken, outcome.rewards, strict=True):
            episodes[i].actions.append(action.tolist())
            episodes[i].episodic_return += float(reward)
        ended = outcome.terminated | outcome.truncated
        if ended.any():
            games.playing = games.playing[~ended]
        if not games.num_envs or not goes_on(games.num_envs, agent_steps):
            break
        if ended.any():  # by their numbers, which the host knows: a mask would have to be counted
            stays = on_device(torch.from_numpy(np.flatnonzero(~ended)), generator.device)  # [stay]
            envs.keep(stays)
            actor.keep(stays)
    return finished(episodes, games, protocol)


def finished(
    episodes: list[Episode], games: GameEnvs, protocol: EvaluationProtocol
) -> list[Episode]:
    """Those that have ended, and those as long as a game may be, which are cut."""
    for i in games.playing:
        episodes[i].cut = episodes[i].length == protocol.max_agent_steps
    for episode, observed in zip(episodes, games.observed, strict=True):
        episode.observed = observed
    under_way = {i for i in games.playing if not episodes[i].cut}
    return [episode for i, episode in enumerate(episodes) if i not in under_way]


def checksum(observation: Array, before: int = 0) -> int:
    """Of an observation and of those before it."""
    return zlib.crc32(observation.tobytes(), before)


def chooser(
    network: Network, generator: Generator, protocol: EvaluationProtocol, games: GameEnvs
) -> Choose:
    """Chooses for all N games, of which those that have ended stand still; returns the others'."""
    random = np.random.default_rng(protocol.seed)
    everyone: Tensor | None = None  # [N, A or 2A]
    playing, sent = torch.empty(0), np.empty(0, int)  # sent to the device where it is another

    def choose(outputs: Outputs) -> Tensor:
        nonlocal everyone, playing, sent
        if games.playing is not sent:
            sent = games.playing
            playing = on_device(torch.from_numpy(sent), generator.device)  # int64 [playing]
        everyone = outputs[0] if everyone is None else everyone.index_copy(0, playing, outputs[0])
        actions = chosen(network, everyone, generator, protocol.greedy)
        return with_random(actions, protocol.epsilon, games.spec, random)[playing]

    return choose


def usual_epsilon(config: Config, spec: Spec, greedy: bool) -> float:
    """Of an EvaluationProtocol, where none is asked for. A method of values has no policy to sample
    from: it is its best action, and now and then a random one."""
    if greedy:
        return GREEDY_EPSILON if spec.discrete else 0.0
    return SAMPLED_EPSILON if config.method in VALUE_METHODS else 0.0


def chosen(network: Network, policies: Tensor, generator: Generator, greedy: bool) -> Tensor:
    """Actions [N] or [N, A] from the head's first output, [N, A or 2A]."""
    head = network.heads.policy
    return head.mode(policies) if greedy else head.sample(policies, generator)


def with_random(actions: Tensor, epsilon: float, spec: Spec, random: np.random.Generator) -> Tensor:
    """Replace each agent's discrete action by a uniformly random one with probability epsilon."""
    if not spec.discrete or epsilon == 0:
        return actions
    replaced = torch.from_numpy(random.random(len(actions)) < epsilon)
    drawn = torch.from_numpy(random.integers(spec.num_actions, size=len(actions)))
    return torch.where(replaced.to(actions.device), drawn.to(actions.device), actions)
