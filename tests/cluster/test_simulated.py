"""Whole runs of a simulated cluster, whatever dies in it: see simulated.py."""

from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("ray")

from a3c.cluster.cluster import Cluster
from a3c.config import Config
from a3c.metrics import Metrics
from a3c.presets import preset
from tests.cluster.simulated import AGENT_STEPS, Actor, World, simulated

MODES = pytest.mark.parametrize("mode", ["async", "sync"])
SEEDS = pytest.mark.parametrize("seed", range(8))  # more were tried by hand
ROLLOUT: dict[str, Any] = {"minibatches": 3, "num_envs": 3, "rollout_length": 8}


def config_with(mode: str, nodes: int, num_threads: int) -> Config:
    size: dict[str, Any] = {"nodes": nodes, "num_threads": num_threads}
    fixed = preset("control", env="CartPole-v1", mode=mode, device="cpu", **size, **ROLLOUT)
    return replace(fixed, total_agent_steps=80 * AGENT_STEPS * num_threads)


class Run:
    """What train.py does with a cluster, as far as it is of interest here."""

    def __init__(self, world: World, cluster: Cluster, metrics: Metrics):
        self.world, self.cluster, self.metrics = world, cluster, metrics
        self.saved, self.deaths, self.too_late = (0, metrics.save()), 0, False
        self.stood: list[set[int]] = []  # still, in each pause
        self.to_die: list[Actor] = []  # about as a pause begins
        cluster.roll_back = self.roll_back

    def roll_back(self, agent_steps: int) -> None:
        """The server died; too late where nodes have come to their end: docs/cluster.md."""
        assert agent_steps == self.saved[0]
        nodes = [node for actor in self.world.actors[1:] for node in actor.object.nodes()]
        self.metrics.rewind(self.saved[1], agent_steps)
        self.deaths += 1
        self.too_late |= any(node.store.finished for node in nodes)

    def save(self) -> None:
        """In a pause, in which nobody learns that takes part."""
        world, cluster = self.world, self.cluster
        if self.to_die and world.chance.random() < 0.8:
            world.after(world.chance.randrange(60), self.to_die.pop().die)
        with cluster.paused():
            cluster.save()
            self.stood.append({*cluster.still})
            self.saved = cluster.store.agent_steps, self.metrics.save()
            made = {index: world.learned[index] for index in cluster.still}
            world.sleep(world.chance.random())
            assert made == {index: world.learned[index] for index in made}

    def to_the_end(self) -> None:
        self.cluster.start()
        while self.cluster.goes_on(0.2):
            if self.world.chance.random() < 0.5:
                self.save()
        self.cluster.join()
        self.save()
        assert self.cluster.failures == self.cluster.faults == []
        self.cluster.close()

    def to_the_end_though(self, to_die: list[Actor]) -> float:
        """How many more games than updates are counted: the game of an update that is lost with
        the server may be told of afterwards."""
        self.to_die = [*to_die]
        self.to_the_end()
        assert len(self.to_die) < len(to_die)
        store, config = self.cluster.store, self.cluster.config
        assert store.finished or self.too_late
        more_games = self.metrics.episodes - store.agent_steps / AGENT_STEPS  # each update has one
        assert more_games <= config.nodes * config.num_threads * self.deaths
        return more_games


@MODES
@pytest.mark.parametrize("num_threads", [1, 2])
def test_every_update_and_every_game_counts_once(
    mode: str, num_threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where words are lost on their way."""
    config = config_with(mode, 2, num_threads)
    with simulated(config, 0, monkeypatch, lost=0.05) as parts:
        world, cluster, metrics = parts
        run = Run(*parts)
        run.to_the_end()
    assert run.stood == [{0, 1}] * len(run.stood)
    learned = sum(world.learned.values())
    assert cluster.store.finished
    assert cluster.store.agent_steps == learned * AGENT_STEPS
    assert cluster.store.updates == learned / (1 if mode == "async" else 2 * num_threads)
    assert metrics.episodes == learned


@MODES
@SEEDS
def test_whenever_the_server_dies_the_others_go_on_from_its_checkpoint(
    mode: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_with(mode, 2, num_threads=1 + seed % 2)
    with simulated(config, seed, monkeypatch, cut_off=0.02) as parts:
        server, *_ = parts[0].actors
        assert Run(*parts).to_the_end_though([server] * 5) >= 0  # none is lost


@MODES
@SEEDS
def test_whatever_dies_the_run_comes_to_its_end(
    mode: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_with(mode, 3, num_threads=1 + seed % 2)
    with simulated(config, seed, monkeypatch, cut_off=0.02) as parts:
        world = parts[0]
        Run(*parts).to_the_end_though(world.chance.sample(world.actors * 3, 6))


@MODES
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("wish", ["stop", "abort"])
def test_a_run_that_is_to_end_ends_whatever_dies(
    mode: str, wish: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_with(mode, 2, num_threads=1 + seed % 2)
    with simulated(config, seed, monkeypatch, cut_off=0.02) as parts:
        world, cluster, _ = parts
        run = Run(*parts)
        run.to_die = world.chance.sample(world.actors * 3, 6)
        world.after(world.chance.randrange(20, 150), getattr(cluster, wish))
        run.to_the_end()
    assert cluster.stopping
    assert len(run.to_die) < 6


@MODES
@SEEDS
def test_what_dies_as_a_run_begins_joins_the_others(
    mode: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is made, as its games begin, or in its first updates."""
    config = config_with(mode, 3, num_threads=1 + seed % 2)
    with simulated(config, seed, monkeypatch, dies_early=True) as parts:
        world, cluster, _ = parts
        Run(*parts).to_the_end()
    assert cluster.store.finished
    assert world.learned.keys() == {0, 1, 2}
