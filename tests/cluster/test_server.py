"""The server without Ray: who has come, and who only had sent something before it died."""

import asyncio

import numpy as np
import pytest

pytest.importorskip("ray")

from a3c.cluster.exchange import Change, Newest, Sent
from a3c.cluster.server import Server
from a3c.config import preset
from a3c.metrics import Part

NOTHING = np.zeros(2, np.float32)


def served() -> Server:
    server = Server(preset("control", env="CartPole-v1"), [2], 0)
    vectors = {"parameters": NOTHING, "square_avg": NOTHING}
    asyncio.run(server.load(vectors, 0, 0, set()))
    return server


def exchange(server: Server, node: int, life: int | None = None) -> None:
    change = Change(NOTHING, NOTHING, 8, 1)
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
