"""Who is there: as the server knows it, without Ray, and as the command does."""

import asyncio
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ray")

from a3c.cluster.cluster import Cluster
from a3c.cluster.exchange import Change, Newest, Sent
from a3c.cluster.server import Server
from a3c.config import preset
from a3c.metrics import Metrics, Part
from a3c.optimiser import Piece

NOTHING = np.zeros(2, np.float32)


def served() -> Server:
    server = Server(preset("control", env="CartPole-v1"), [Piece(2)], 0)
    vectors = {"parameters": NOTHING, "square_avg": NOTHING}
    asyncio.run(server.load(vectors, 0, 0, set()))
    return server


def exchange(server: Server, node: int, life: int | None = None) -> None:
    change = Change(NOTHING, 8, 1, NOTHING, 1)
    life = server.life if life is None else life
    asyncio.run(server.exchange(Sent(node, life, server.version, change, Part(1, {}, []))))


def join(server: Server, node: int) -> None:
    assert isinstance(asyncio.run(server.join(node)), Newest)


def arrived(server: Server) -> list[int]:
    return asyncio.run(server.status()).arrived


def test_a_node_has_arrived_when_it_has_contributed() -> None:
    server = served()
    join(server, 3)
    assert arrived(server) == []
    exchange(server, 3)
    exchange(server, 3)
    assert arrived(server) == [3]
    exchange(server, 3)
    assert arrived(server) == []


def test_what_a_dead_node_had_sent_is_no_sign_of_the_one_that_comes_after_it() -> None:
    server = served()
    join(server, 3)
    exchange(server, 3)  # nobody has asked since
    asyncio.run(server.leave(3))
    exchange(server, 3)  # was on its way
    assert arrived(server) == []
    join(server, 3)
    exchange(server, 3)
    assert arrived(server) == [3]


def test_after_the_servers_death_a_node_that_goes_on_arrives_again() -> None:
    server = served()
    exchange(server, 3, life=1)  # of the server before; it takes all that is new
    assert arrived(server) == []
    exchange(server, 3)
    assert arrived(server) == [3]


def test_a_node_that_is_given_up_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else no machine that joins would ever get a node in its place."""
    gone: list[object] = []
    said: list[str] = []
    monkeypatch.setattr("a3c.cluster.cluster.ray.kill", gone.append)
    cluster = object.__new__(Cluster)
    cluster.say, cluster.faults, cluster.died_at = said.append, [], {0: 1.0}
    cluster.present, cluster.taking_part, cluster.still = {0, 1}, {1}, set()
    actor: Any = "its actor"
    cluster.members = {0: actor}
    cluster.lose(0, RuntimeError("it died"))
    assert (cluster.died_at, cluster.present, gone) == ({}, {1}, ["its actor"])
    assert said == ["node 0 has ended: it died"]


def test_a_node_that_joins_during_a_pause_is_not_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not stand still: what it would save of its agents would be torn."""
    asked: dict[str, set[int]] = {}
    cluster = object.__new__(Cluster)
    cluster.taking_part, cluster.still, cluster.metrics = {0, 1}, set(), Metrics(1)

    def ask_all(method: str, nodes: set[int]) -> dict[int, Any]:
        asked[method] = set(nodes)
        return {index: Part(0, {}, []) if method == "pause" else {} for index in nodes}

    newest = asyncio.run(served().save())
    monkeypatch.setattr(cluster, "ask_all", ask_all)
    monkeypatch.setattr(cluster, "ask_server", lambda pause: None)
    monkeypatch.setattr(cluster, "look_after", lambda: cluster.taking_part.add(2))
    monkeypatch.setattr(cluster, "patiently_saved", lambda: newest)
    cluster.store = served().store
    with cluster.paused():
        cluster.save()
    assert asked == {"pause": {0, 1}, "save": {0, 1}, "go_on": {0, 1, 2}}
