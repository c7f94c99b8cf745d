"""The command's side of a cluster, without Ray's processes: who is waited for, and what it says."""

import math
import time
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch

pytest.importorskip("ray")

from a3c.cluster.cluster import Began, Cluster
from a3c.cluster.exchange import Newest
from a3c.cluster.machines import Machine, alive
from a3c.cluster.server import Contribution, ToEvaluate
from a3c.config import ALL_MACHINES
from a3c.errors import InputError
from a3c.metrics import Metrics
from a3c.optimiser import Piece
from a3c.presets import preset
from a3c.shared import SharedParameters

P = 3


def cluster_with(monkeypatch: pytest.MonkeyPatch, *members: int, **changes: Any) -> Cluster:
    """A cluster of such nodes, all of which train."""
    cluster = object.__new__(Cluster)
    cluster.config = preset("control", env="CartPole-v1", **changes)
    cluster.store = SharedParameters(torch.zeros(P), [Piece(P)], cluster.config)
    cluster.members = {index: Mock() for index in members}
    cluster.training = {f"of {index}": index for index in members}
    cluster.present, cluster.taking_part = {*members}, {*members}
    cluster.still, cluster.died_at, cluster.used = set(), {}, set()
    cluster.faults, cluster.failures, cluster.facts = [], [], []
    cluster.stopping = cluster.aborting = False
    cluster.server, cluster.metrics, cluster.next_look = Mock(), Metrics(1), math.inf
    cluster.contributions, cluster.counted, cluster.life = {}, {}, 1
    cluster.say = Mock()
    monkeypatch.setattr(cluster, "look_after", lambda: None)
    monkeypatch.setattr("a3c.cluster.cluster.ray.wait", lambda asked, **_: (asked, []))
    monkeypatch.setattr("a3c.cluster.cluster.ray.kill", Mock())
    return cluster


def fails(future: Any) -> Any:
    raise FloatingPointError(f"{future} is not finite")


def faulty(_: Any) -> list[BaseException]:
    return [FloatingPointError("its gradient is not finite")]


@pytest.mark.parametrize("answer", [fails, faulty])
def test_a_run_that_has_no_node_left_fails(answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = cluster_with(monkeypatch, 0, 1)
    monkeypatch.setattr("a3c.cluster.cluster.answer", answer)
    cluster.ended("of 0", 0)
    assert cluster.goes_on(0)
    assert (cluster.failures, [*cluster.members]) == ([], [1])
    cluster.ended("of 1", 1)
    assert not cluster.goes_on(0)
    assert [type(failure) for failure in cluster.failures] == [FloatingPointError]


@pytest.mark.parametrize("how", ["finished", "stopping"])
def test_a_run_at_its_end_waits_for_no_node_that_was_still_to_join(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does it fail for one that was refused."""
    cluster = cluster_with(monkeypatch, 0, 1)
    monkeypatch.setattr(cluster, "tell_wishes", lambda: None)
    cluster.taking_part, cluster.training = {0}, {"of 1": 1}
    assert cluster.goes_on(0)
    cluster.stopping = how == "stopping"
    if how == "finished":
        cluster.store.agent_steps = cluster.config.total_agent_steps
    assert not cluster.goes_on(0)
    cluster.faults, cluster.training = [RuntimeError("refused")], {}
    assert not cluster.goes_on(0)
    assert cluster.failures == []


def test_more_nodes_than_the_cluster_has_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = cluster_with(monkeypatch, cluster="auto", nodes=2)
    monkeypatch.setattr("a3c.cluster.cluster.alive", lambda _: machines(1))
    with pytest.raises(InputError, match="--nodes is 2; expected at most 1"):
        cluster.make_members()
    assert cluster.members == {}


def test_what_is_evaluated_is_what_the_server_had_then(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = cluster_with(monkeypatch, 0)
    seen = []

    def look(before: int) -> None:
        store = cluster.store
        seen.append((before, store.agent_steps, store.updates, store.parameters.tolist()))

    cluster.store.in_update = look
    cluster.show(ToEvaluate(90, 100, 7, np.array([1, 2, 3], np.float32)))
    assert seen == [(90, 100, 7, [1, 2, 3])]


def test_the_background_that_the_first_node_measures_is_all_nodes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = cluster_with(monkeypatch, 2, 3)
    told = np.array([5, 6, 7], np.float32)
    monkeypatch.setattr(cluster, "answered", lambda asked: dict.fromkeys(asked, told))
    monkeypatch.setattr(cluster, "load_server", lambda nodes: True)
    cluster.begin()
    cluster.start()
    assert cluster.store.parameters.tolist() == [5, 6, 7]
    assert cluster.began.vectors["parameters"].tolist() == [5, 6, 7]
    cluster.members[2].begin.remote.assert_called_once_with()
    cluster.members[3].start_games.remote.assert_called_once_with(0)


def test_after_its_death_the_server_goes_on_from_the_last_checkpoint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = cluster_with(monkeypatch, 0)
    cluster.began = Began({}, 0, 0)
    vectors = {name: np.full(P, 4, np.float32) for name in cluster.store.save()}
    newest = Newest(1, 0, 100, 9, vectors, 0, False, (0, 0.0, 0.0))
    monkeypatch.setattr(cluster, "take", Mock())
    monkeypatch.setattr(cluster, "patiently_saved", lambda: (newest, None))
    cluster.save()
    cluster.server.load.remote = Mock(return_value="its life")
    monkeypatch.setattr("a3c.cluster.cluster.answer", lambda life: life)
    cluster.roll_back = Mock()
    cluster.contributions = cluster.counted = {0: Contribution()}
    cluster.bring_back_server()
    cluster.server.load.remote.assert_called_once_with(vectors, 100, 9, {0})
    cluster.roll_back.assert_called_once_with(100)
    assert (cluster.contributions, cluster.counted) == ({}, {})  # it counts anew


def machines(number: int) -> list[Machine]:
    return [Machine(f"machine {k}", 1, 0) for k in range(number)]


def test_as_many_machines_have_nodes_as_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = cluster_with(monkeypatch, nodes=2, cluster="auto", num_threads=1)
    numbers = iter(range(9))

    def add(place: Machine) -> int:
        index = next(numbers)
        cluster.members[index] = Mock()
        cluster.used.add(place.node_id)
        return index

    cluster.versions = {}
    monkeypatch.setattr("a3c.cluster.cluster.alive", lambda _: machines(3))
    monkeypatch.setattr(cluster, "add", add)
    monkeypatch.setattr(cluster, "answered", lambda asked: {})
    monkeypatch.setattr(cluster, "rejoin", rejoin := Mock())
    cluster.make_members()
    assert cluster.used == {"machine 0", "machine 1"}
    cluster.add_machines()
    rejoin.assert_not_called()
    cluster.config = preset("control", nodes=ALL_MACHINES, cluster="auto", num_threads=1)
    cluster.died_at = {0: 1.0}  # which may be started again there
    cluster.add_machines()
    rejoin.assert_not_called()
    cluster.died_at = {}
    cluster.add_machines()
    rejoin.assert_called_once_with(2)


@pytest.mark.parametrize("nodes", [1, ALL_MACHINES])
def test_only_machines_that_live_and_have_a_core_have_nodes(
    nodes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [
        {"NodeID": "a head of no work", "Alive": True, "Resources": {}},
        {"NodeID": "another", "Alive": True, "Resources": {"CPU": 0.0}},
        {"NodeID": "gone", "Alive": False, "Resources": {"CPU": 8.0}},
        {"NodeID": "good", "Alive": True, "Resources": {"CPU": 8.0}},
    ]
    monkeypatch.setattr("ray.nodes", lambda: found)
    config = preset("fast", cluster="auto", nodes=nodes, num_threads=2)
    assert [*alive(config)] == [Machine("good", 2, 0)]


def test_figures_are_of_the_time_since_the_last_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = cluster_with(monkeypatch, 0, 1)
    counted = Contribution()._replace
    cluster.contributions = {
        0: counted(agent_steps=100, exchanges=2, lag=6, bytes=1000),
        1: counted(agent_steps=300, exchanges=2, lag=2, bytes=3000),
    }
    first = cluster.figures(2.0)
    assert first["cluster_lag"] == 2
    assert first["exchange_bytes_per_agent_step"] == 10
    rates = [value for name, value in first.items() if name.startswith("node0")]
    assert rates == [50]
    cluster.contributions = {
        0: counted(agent_steps=140, exchanges=3, lag=6, bytes=1000),
        1: counted(agent_steps=300, exchanges=2, lag=2, bytes=3200),
    }
    second = cluster.figures(4.0)
    assert (second["cluster_lag"], second["exchange_bytes_per_agent_step"]) == (0, 5)
    assert [value for name, value in second.items() if name.startswith("node")] == [2, 10, 0]


@pytest.mark.parametrize(("seconds", "given_up"), [(290, False), (310, True)])
def test_a_node_is_waited_for_five_minutes(
    seconds: float, given_up: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = cluster_with(monkeypatch, 0, 1)
    cluster.died_at = {0: time.monotonic() - seconds}
    monkeypatch.setattr(cluster, "rejoin", rejoin := Mock())
    cluster.bring_back(0)
    assert (0 in cluster.members) != given_up
    assert rejoin.called != given_up


@pytest.mark.parametrize(
    ("mode", "cores", "said"), [("sync", 4, 1), ("sync", 16, 0), ("async", 4, 0)]
)
def test_that_updates_are_smaller_than_was_asked_for_is_said(
    mode: str, cores: int, said: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Machines of a cluster may have fewer cores than threads; in sync mode an update is of all."""
    cluster = cluster_with(monkeypatch, 0, 1, mode=mode, num_threads=16)
    cluster.facts = [{"num_threads": 16}, {"num_threads": cores}]
    cluster.say_if_smaller()
    lines = [call.args[0] for call in cluster.say.call_args_list]  # type: ignore[attr-defined]
    assert ["4 threads" in line and "--num-threads 4" in line for line in lines] == [True] * said
