"""What a node and the server tell each other, without Ray."""

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import numpy as np
import pytest
import torch

from a3c.cluster.exchange import Change, Exchange, Newest, Sent, apply
from a3c.cluster.server import HandedIn, NotReady, Refused, Server, Standing
from a3c.config import Config
from a3c.metrics import FinishedEpisode, Part
from a3c.optimiser import Piece
from a3c.presets import preset
from a3c.shared import SharedParameters
from tests.scripted import update

P = 5
NOTHING = Part(0, {}, [])


def config_with(**changes: Any) -> Config:
    return preset("fast", env="CartPole-v1", num_threads=1, lr_schedule="constant", **changes)


def store_with(target_every: int = 0, **changes: Any) -> SharedParameters:
    parameters = torch.linspace(-1, 1, P)
    return SharedParameters(
        parameters, [Piece(P)], config_with(**changes), target_every_agent_steps=target_every
    )


def learn(store: SharedParameters, seed: int) -> None:
    """One update of 10 agent steps."""
    gradients = torch.randn(P, generator=torch.Generator().manual_seed(seed))
    update(store, gradients, 10, 0)


def newest_of(server: SharedParameters, life: int = 0) -> Newest:
    vectors = {name: vector.numpy().copy() for name, vector in server.save().items()}
    counters = server.agent_steps, server.updates
    return Newest(life, 0, *counters, vectors, 0, False, (0, 0.0, 0.0))


def same(one: SharedParameters, other: SharedParameters) -> None:
    torch.testing.assert_close(one.parameters, other.parameters, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(
        one.save()["square_avg"], other.save()["square_avg"], rtol=1e-5, atol=1e-9
    )
    assert (one.agent_steps, one.updates) == (other.agent_steps, other.updates)


def test_of_one_node_the_server_knows_what_the_node_does() -> None:
    server, node = store_with(), store_with()
    exchange = Exchange(node)
    for seed in range(7):
        learn(node, seed)
        if seed % 3 == 2:
            apply(server, exchange.take())
            exchange.merge(newest_of(server))
            same(server, node)
    assert exchange.new_updates() == 1
    apply(server, exchange.take())
    same(server, node)


def test_the_average_of_two_nodes_is_that_of_their_updates_one_after_another() -> None:
    server, both = store_with(), store_with()
    nodes = [store_with(), store_with()]
    exchanges = [Exchange(node) for node in nodes]
    before = server.parameters.clone()
    for index, node in enumerate(nodes):
        for seed in (1, 2):
            learn(node, seed + 10 * index)
            learn(both, seed + 10 * index)
    changes = [node.parameters - before for node in nodes]
    for exchange in exchanges:
        apply(server, exchange.take())
    assert torch.equal(server.parameters, before + changes[0] + changes[1])
    torch.testing.assert_close(server.save()["square_avg"], both.save()["square_avg"])
    assert (server.agent_steps, server.updates) == (40, 4)


def test_what_is_learned_while_the_exchange_is_under_way_is_kept() -> None:
    server, node, alone = store_with(), store_with(), store_with()
    exchange = Exchange(node)
    for seed in (0, 1):
        learn(node, seed)
        learn(alone, seed)
    apply(server, exchange.take())
    answer = newest_of(server)
    for seed in (2, 3, 4):  # the answer is on its way
        learn(node, seed)
        learn(alone, seed)
    exchange.merge(answer)
    same(node, alone)
    assert exchange.new_updates() == 3
    apply(server, exchange.take())
    same(server, alone)


def test_a_node_takes_over_what_others_have_learned() -> None:
    server, node = store_with(target_every=25), store_with(target_every=25)
    exchange = Exchange(node)
    for seed in range(3):
        learn(server, seed)  # others
    learn(node, 9)
    own = node.parameters - exchange.known["parameters"]
    apply(server, exchange.take())
    exchange.merge(newest_of(server))
    same(node, server)
    assert own.abs().max() > 0
    assert node.target is not None
    assert torch.equal(node.target, node.parameters)  # 25 agent steps were passed meanwhile


def test_what_others_have_learned_joins_an_average_that_has_moved_on_meanwhile() -> None:
    """Theirs is as old as if it had been there before: it has decayed as often as this node's."""
    server, node = store_with(), store_with()
    exchange = Exchange(node)
    for seed in range(3):
        learn(server, seed)  # others
    learn(node, 9)
    apply(server, exchange.take())
    answer = newest_of(server)
    expected = store_with()
    expected.load(server.save(), server.agent_steps, server.updates)
    for seed in (4, 5, 6):  # the answer is on its way
        learn(node, seed)
        learn(expected, seed)
    exchange.merge(answer)
    torch.testing.assert_close(node.save()["square_avg"], expected.save()["square_avg"])


def test_after_a_restart_the_average_that_is_sent_is_of_updates_since_then() -> None:
    node = store_with()
    exchange = Exchange(node)
    learn(node, 1)
    exchange.averaged = 5  # of a server that is gone
    exchange.restart(newest_of(store_with(), life=7))
    learn(node, 2)
    assert exchange.take(everything=True).averaged == 1


def test_after_a_restart_of_the_server_a_node_has_what_that_has() -> None:
    server, node = store_with(), store_with()
    exchange = Exchange(node)
    learn(node, 1)
    exchange.restart(newest_of(server, life=7))
    same(node, server)
    assert exchange.new_updates() == 0
    assert exchange.life == 7


def test_once_it_has_a_past_the_average_travels_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("a3c.cluster.exchange.AVERAGE_EVERY", 3)
    server, node, alone = store_with(), store_with(), store_with()
    for store in (server, node, alone):
        store.updates = 151  # 0.97 ** 151 is 0.0101
    exchange, sent = Exchange(node), []
    for seed in range(14):
        learn(node, seed)
        learn(alone, seed)
        if seed % 2:
            change = exchange.take(everything=seed == 13)
            sent.append(change.averaged)
            apply(server, change)
            answer = newest_of(server)
            if change.square_avg is None:
                del answer.vectors["square_avg"]
            exchange.merge(answer)
            same(node, alone)
    assert sent == [0, 0, 6, 0, 0, 6, 2]
    same(server, alone)


def test_an_average_is_never_below_zero() -> None:
    """Of a parameter that has no gradient any more what a node sends is rounding alone."""
    server, node = store_with(), store_with()
    exchange = Exchange(node)
    rounded = np.full(P, -1e-8, np.float32)
    apply(server, Change(np.zeros(P, np.float32), 10, 1, rounded, 1))
    assert server.save()["square_avg"].tolist() == [0] * P
    exchange.known["square_avg"].fill_(1e-8)
    exchange.merge(newest_of(server))
    assert node.save()["square_avg"].tolist() == [0] * P


def zeros() -> Change:
    return Change(np.zeros(P, np.float32), 10, 1, np.zeros(P, np.float32), 1)


async def started(nodes_there: Iterable[int] = (0, 1), **changes: Any) -> Server:
    """A server that has got its parameters, and waits for these nodes."""
    server = Server(config_with(**changes), [Piece(P)], 0)
    assert isinstance(await server.save(), NotReady)
    vectors = {name: np.zeros(P, np.float32) for name in ("parameters", "square_avg")}
    assert await server.load(vectors, 100, 10, {*nodes_there}) == server.life
    return server


def served(test: Callable[[Server], Coroutine[Any, Any, None]], **changes: Any) -> None:
    """Run a test with a server whose two nodes have joined."""

    async def run() -> None:
        server = await started(**changes)
        await asyncio.gather(server.join(0), server.join(1))
        await asyncio.wait_for(test(server), 60)

    asyncio.run(run())


def test_the_server_counts_each_exchange() -> None:
    async def test(server: Server) -> None:
        games = Part(1, {"entropy": 1.0}, [FinishedEpisode(3.0, 7)])
        counted = []
        for number, version in enumerate((0, 0, 2)):
            sent = Sent(0, server.life, version, zeros(), games, number)
            answer = await server.exchange(sent)
            assert isinstance(answer, Newest)
            counted.append((answer.version, answer.agent_steps, answer.updates))
            assert set(answer.vectors) == {"parameters", "square_avg"}
        assert counted == [(1, 110, 11), (2, 120, 12), (3, 130, 13)]
        status = await server.status()
        assert status.metrics == [games] * 3
        assert status.nodes[0] == (30, 3, 3 * 4 * P * 4, 1)  # the second began with an older one
        assert (await server.status()).metrics == []

    served(test)


def test_the_average_comes_back_where_it_was_sent() -> None:
    async def test(server: Server) -> None:
        sent = Sent(0, server.life, 0, zeros()._replace(square_avg=None), NOTHING, 1)
        answer = await server.exchange(sent)
        assert isinstance(answer, Newest)
        assert set(answer.vectors) == {"parameters"}

    served(test)


def test_in_sync_mode_the_average_does_not_depend_on_who_comes_first() -> None:
    """Of 1e8, -1e8 and 1 the sum is 1 or 0, by their order."""
    orders, norms = iter([(0, 1, 2), (2, 0, 1), (1, 2, 0)]), []

    async def test(server: Server) -> None:
        for node in (0, 1, 2):
            server.nodes[node].standing = Standing.MEMBER
        values, waiting = [1e8, -1e8, 1.0], []
        *before, last = next(orders)
        for node in before:
            waiting.append(asyncio.create_task(server.hand_in(handed(server, node, values[node]))))
            await asyncio.sleep(0)
        answer = await server.hand_in(handed(server, last, values[last]))
        assert isinstance(answer, Newest)
        norms.append(answer.applied[2])

    for _ in range(3):
        served(test, mode="sync", nodes=3, max_grad_norm=1e12)
    assert norms[0] == norms[1] == norms[2]


def test_a_node_that_sends_what_is_not_finite_is_refused() -> None:
    async def test(server: Server) -> None:
        broken = zeros()
        broken.parameters[3] = np.nan
        answer = await server.exchange(Sent(0, server.life, 0, broken, NOTHING, 1))
        assert answer == Refused("what it has learned is not finite")
        assert (await server.status()).agent_steps == 100

    served(test)


def test_what_was_learned_from_parameters_that_are_gone_does_not_count() -> None:
    async def test(server: Server) -> None:
        answer = await server.exchange(Sent(0, server.life - 1, 5, zeros(), NOTHING, 1))
        assert isinstance(answer, Newest)
        assert (answer.life, answer.agent_steps) == (server.life, 100)
        assert {"parameters", "square_avg"} <= answer.vectors.keys()

    served(test)


WORDS = itertools.count()


def handed(server: Server, node: int, value: float, ends: bool = True) -> HandedIn:
    gradients = np.full((2, P), value, np.float32)
    life, version, number = server.life, server.version, next(WORDS)
    return HandedIn(node, life, version, gradients, 20, NOTHING, ends, number)


def test_in_sync_mode_the_average_is_applied_when_all_are_there() -> None:
    async def test(server: Server) -> None:
        first = asyncio.create_task(server.hand_in(handed(server, 1, 3.0)))
        await asyncio.sleep(0)
        assert not first.done()
        second = await server.hand_in(handed(server, 0, 1.0))
        assert isinstance(second, Newest)
        assert await first == second
        assert (second.agent_steps, second.updates) == (140, 11)
        assert second.applied[0] == 10
        assert second.applied[2] == pytest.approx(2.0 * P**0.5)  # the norm of the average

    served(test, mode="sync", nodes=2)


def test_in_sync_mode_the_average_is_of_all_threads_and_not_of_nodes() -> None:
    """Machines may have different numbers of them."""

    async def test(server: Server) -> None:
        one, other = handed(server, 0, 3.0), handed(server, 1, 1.0)
        one = one._replace(gradients=one.gradients[:1])
        other = other._replace(gradients=np.concatenate([other.gradients, other.gradients[:1]]))
        given = await asyncio.gather(server.hand_in(one), server.hand_in(other))
        newest = given[0]
        assert isinstance(newest, Newest)
        assert newest.applied[2] == pytest.approx(1.5 * P**0.5)  # the average's norm

    served(test, mode="sync")


def test_in_sync_mode_what_a_node_hands_in_twice_counts_once() -> None:
    """It does so where it was cut off before the answer came."""

    async def test(server: Server) -> None:
        words = [handed(server, node, 1.0) for node in (0, 1)]
        first = asyncio.create_task(server.hand_in(words[0]))
        await asyncio.sleep(0)
        assert await server.hand_in(words[1]) == await first
        assert await asyncio.wait_for(server.hand_in(words[1]), 5) == await first
        assert (await server.status()).updates == 11
        assert not server.round

    served(test, mode="sync", nodes=2)


def test_in_sync_mode_all_pause_after_the_same_update() -> None:
    async def test(server: Server) -> None:
        first = asyncio.create_task(server.hand_in(handed(server, 0, 1.0)))
        await asyncio.sleep(0)
        second = asyncio.create_task(server.hand_in(handed(server, 1, 1.0)))
        await server.ask(pause=1, stop=False)  # before either is told
        one, two = await first, await second
        assert isinstance(one, Newest)
        assert one.pause
        assert one == two

    served(test, mode="sync", nodes=2)


def test_in_sync_mode_who_is_told_late_goes_on_as_the_others_do() -> None:
    """The wish to pause comes when one has its answer and the other waits to be woken."""

    async def test(server: Server) -> None:
        first = asyncio.create_task(server.hand_in(handed(server, 0, 1.0)))
        await asyncio.sleep(0)
        two = await server.hand_in(handed(server, 1, 1.0))
        assert not first.done()
        await server.ask(pause=1, stop=False)
        one = await first
        assert isinstance(one, Newest)
        assert not one.pause
        assert one == two

    served(test, mode="sync", nodes=2)


def test_in_sync_mode_nobody_waits_for_a_node_that_has_left() -> None:
    async def test(server: Server) -> None:
        waiting = asyncio.create_task(server.hand_in(handed(server, 0, 1.0)))
        await asyncio.sleep(0)
        await server.leave(1)
        answer = await waiting
        assert isinstance(answer, Newest)
        assert answer.agent_steps == 120
        refused = await server.hand_in(handed(server, 1, 1.0))
        assert refused == Refused("the others had gone on without it")
        await server.join(1)
        waiting = asyncio.create_task(server.hand_in(handed(server, 0, 1.0)))
        await asyncio.sleep(0)
        assert not waiting.done()
        await server.abort()
        ended = await waiting
        assert isinstance(ended, Newest)
        assert ended.stop

    served(test, mode="sync", nodes=2)


def test_in_sync_mode_a_node_that_joins_again_begins_its_rollouts_with_the_others() -> None:
    """Else one would stand still while the other waits for its part of a round."""

    async def test(server: Server) -> None:
        await server.leave(1)
        assert isinstance(await server.hand_in(handed(server, 0, 1.0, ends=False)), Newest)
        joins = asyncio.create_task(server.join(1))
        await asyncio.sleep(0)
        assert not joins.done()
        assert isinstance(await server.hand_in(handed(server, 0, 1.0, ends=True)), Newest)
        answer = await joins
        assert isinstance(answer, Newest)
        assert answer.version == server.version
        waits = asyncio.create_task(server.hand_in(handed(server, 0, 1.0, ends=False)))
        await asyncio.sleep(0)
        assert not waits.done()
        await server.hand_in(handed(server, 1, 1.0, ends=False))
        assert isinstance(await waits, Newest)

    served(test, mode="sync", nodes=2)


def test_in_sync_mode_a_node_that_was_cut_off_is_refused_until_it_joins_again() -> None:
    """It may speak of the server before this one, and would take part in the rounds where it stood
    when it was cut off."""

    async def test(server: Server) -> None:
        await server.leave(1)
        for life in (server.life, 1):
            refused = await server.hand_in(handed(server, 1, 1.0)._replace(life=life))
            assert refused == Refused("the others had gone on without it")
        assert server.members() == {0}
        await server.join(1)
        assert server.members() == {0, 1}

    served(test, mode="sync", nodes=2)


def test_in_sync_mode_a_node_that_joins_twice_is_waited_for() -> None:
    """The answer was lost on its way."""

    async def test(server: Server) -> None:
        first = await waiting(server.hand_in(handed(server, 0, 1.0, ends=False)))
        assert isinstance(await server.join(1), Newest)
        for _ in range(5):
            await asyncio.sleep(0)
        assert not first.done()
        await server.hand_in(handed(server, 1, 1.0, ends=False))
        assert (await first).updates == 11

    served(test, mode="sync", nodes=2)


def test_in_sync_mode_a_new_process_of_a_member_joins_after_the_others_rollouts() -> None:
    """Nobody has noticed that the one before it died."""

    async def test(server: Server) -> None:
        first = await waiting(server.hand_in(handed(server, 0, 1.0, ends=False)))
        await server.hand_in(handed(server, 1, 1.0, ends=False))
        await first
        first = await waiting(server.hand_in(handed(server, 0, 1.0, ends=False)))
        joins = await waiting(server.join(1))
        assert isinstance(await first, Newest)  # it is not waited for
        assert isinstance(await server.hand_in(handed(server, 0, 1.0, ends=True)), Newest)
        assert (await joins).version == server.version
        assert server.members() == {0, 1}

    served(test, mode="sync", nodes=2)


def test_in_sync_mode_a_process_is_refused_while_the_one_after_it_joins() -> None:
    """It was cut off and not dead: with its word a round would end before the new one is there."""

    async def test(server: Server) -> None:
        await server.leave(1)
        await server.hand_in(handed(server, 0, 1.0, ends=False))
        joins = await waiting(server.join(1))
        refused = await server.hand_in(handed(server, 1, 1.0))
        assert refused == Refused("the others had gone on without it")
        await server.hand_in(handed(server, 0, 1.0, ends=True))
        assert isinstance(await joins, Newest)

    served(test, mode="sync", nodes=2)


def test_in_sync_mode_a_node_that_dies_as_it_joins_is_not_waited_for() -> None:
    async def test(server: Server) -> None:
        await server.leave(1)
        await server.hand_in(handed(server, 0, 1.0, ends=False))
        joins = asyncio.create_task(server.join(1))
        await asyncio.sleep(0)
        await server.leave(1)
        await server.hand_in(handed(server, 0, 1.0, ends=True))
        assert await joins == NotReady()
        assert server.members() == {0}

    served(test, mode="sync", nodes=2)


@pytest.mark.parametrize("how", ["leave", "abort"])
def test_in_sync_mode_a_node_that_joins_waits_for_nobody_who_is_gone(how: str) -> None:
    async def test(server: Server) -> None:
        await server.leave(1)
        await server.hand_in(handed(server, 0, 1.0, ends=False))
        joins = asyncio.create_task(server.join(1))
        await asyncio.sleep(0)
        assert not joins.done()
        await (server.leave(0) if how == "leave" else server.abort())
        answer = await asyncio.wait_for(joins, 5)
        assert isinstance(answer, Newest if how == "leave" else NotReady)
        assert server.members() == ({1} if how == "leave" else {0})

    served(test, mode="sync", nodes=2)


def test_in_sync_mode_a_gradient_that_is_not_finite_is_refused_and_the_others_go_on() -> None:
    async def test(server: Server) -> None:
        waits = asyncio.create_task(server.hand_in(handed(server, 0, 1.0)))
        await asyncio.sleep(0)
        answer = await server.hand_in(handed(server, 1, np.nan))
        assert answer == Refused("its gradient is not finite")
        await server.leave(1)  # as the command says then
        answer = await waits
        assert isinstance(answer, Newest)
        assert (answer.agent_steps, answer.updates) == (120, 11)
        assert np.isfinite(answer.vectors["parameters"]).all()

    served(test, mode="sync", nodes=2)


OLD = 1  # the life of a server that is gone


def restarted(test: Callable[[Server], Coroutine[Any, Any, None]]) -> None:
    """Run a test with a server whose two nodes have yet to hear of it."""

    async def run() -> None:
        await asyncio.wait_for(test(await started(mode="sync", nodes=2)), 60)

    asyncio.run(run())


async def waiting(given: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
    """It has begun, and waits."""
    task = asyncio.create_task(given)
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()
    return task


async def met(server: Server) -> list[HandedIn]:
    """The two nodes of the server before this one come to the end of their rollouts."""
    olds = [handed(server, node, 1.0, ends=True)._replace(life=OLD) for node in (0, 1)]
    await asyncio.gather(*map(server.hand_in, olds))
    assert server.members() == {0, 1}
    return olds


def test_in_sync_mode_two_nodes_are_in_step_again_after_the_servers_death() -> None:
    """One had an answer of the old server, and the other had not: one update lies between them,
    which the end of their rollouts takes away."""

    async def test(server: Server) -> None:
        await server.ask(pause=1, stop=False)
        ahead, behind = (handed(server, node, 1.0, ends=False) for node in (0, 1))
        for given in (ahead._replace(life=OLD), behind._replace(life=OLD), behind):
            answer = await server.hand_in(given)
            assert isinstance(answer, Newest)
            assert (answer.agent_steps, answer.updates) == (100, 10)  # nothing of them counts
            assert {"parameters", "square_avg"} <= answer.vectors.keys()
            assert not answer.pause  # alone it would stand still for ever
        first = await waiting(server.hand_in(ahead._replace(ends=True)))
        second = await server.hand_in(behind._replace(ends=True))
        assert isinstance(second, Newest)
        assert not second.pause
        assert (await first).version == second.version == 0
        assert server.members() == {0, 1}
        first = await waiting(server.hand_in(handed(server, 0, 1.0)))
        assert await server.hand_in(handed(server, 1, 1.0)) == await first
        assert (await first).agent_steps == 140
        assert (await first).pause

    restarted(test)


def test_in_sync_mode_a_node_that_had_joined_lately_waits_for_the_others_rollouts() -> None:
    """It is not one of those that a new server knows of."""

    async def test(server: Server) -> None:
        await met(server)
        first = await waiting(server.hand_in(handed(server, 0, 1.0, ends=False)))
        await server.hand_in(handed(server, 1, 1.0, ends=False))
        await first
        third = handed(server, 2, 1.0, ends=False)
        assert isinstance(await server.hand_in(third._replace(life=OLD)), Newest)
        assert isinstance(await server.hand_in(third), Newest)
        meets = await waiting(server.hand_in(third._replace(ends=True)))
        first = await waiting(server.hand_in(handed(server, 0, 1.0, ends=True)))
        await server.hand_in(handed(server, 1, 1.0, ends=True))
        await first
        assert (await meets).agent_steps == 180  # of the others alone
        assert server.members() == {0, 1, 2}

    restarted(test)


def test_in_sync_mode_a_node_begins_with_the_others_where_it_does_not_hear_that_they_do() -> None:
    """What it says again is not its part of the first round."""

    async def test(server: Server) -> None:
        words = await met(server)
        await server.ask(pause=1, stop=False)
        first = await waiting(server.hand_in(handed(server, 0, 1.0, ends=False)))
        for again in (words[1], words[1]._replace(life=server.life)):  # it had heard of this one
            answer = await server.hand_in(again)
            assert isinstance(answer, Newest)
            assert not answer.pause
        await server.hand_in(handed(server, 1, 1.0, ends=False))
        assert (await first).updates == 11

    restarted(test)


def test_in_sync_mode_a_new_process_may_say_what_the_one_before_it_said() -> None:
    """It counts its words anew."""

    async def test(server: Server) -> None:
        words = await met(server)
        await server.leave(1)
        assert isinstance(await server.join(1), Newest)
        first = await waiting(server.hand_in(handed(server, 0, 1.0, ends=False)))
        await server.hand_in(words[1]._replace(life=server.life))
        assert (await first).updates == 11

    restarted(test)


@pytest.mark.parametrize("how", ["leave", "abort"])
def test_in_sync_mode_nobody_waits_at_the_end_of_rollouts_for_one_that_is_gone(how: str) -> None:
    async def test(server: Server) -> None:
        old = handed(server, 0, 1.0, ends=True)._replace(life=OLD)
        meets = await waiting(server.hand_in(old))
        joins = await waiting(server.join(2))
        await (server.leave(1) if how == "leave" else server.abort())
        answer = await asyncio.wait_for(meets, 5)
        assert isinstance(answer, Newest)
        assert answer.stop == (how == "abort")
        joined = await asyncio.wait_for(joins, 5)
        assert isinstance(joined, Newest if how == "leave" else NotReady)
        assert server.members() == ({0, 2} if how == "leave" else {0})

    restarted(test)


def test_in_sync_mode_a_run_that_stops_waits_for_no_node_that_had_joined_lately() -> None:
    async def test(server: Server) -> None:
        await met(server)
        first = await waiting(server.hand_in(handed(server, 0, 1.0, ends=False)))
        await server.hand_in(handed(server, 1, 1.0, ends=False))
        await first
        await server.ask(pause=0, stop=True)
        late = handed(server, 2, 1.0, ends=True)._replace(life=OLD)
        meets = await waiting(server.hand_in(late))
        joins = await waiting(server.join(3))
        first = await waiting(server.hand_in(handed(server, 0, 1.0, ends=True)))
        await server.hand_in(handed(server, 1, 1.0, ends=True))
        assert (await first).stop
        assert (await meets).stop
        assert await joins == NotReady()
        assert server.members() == {0, 1}

    restarted(test)


def test_in_sync_mode_a_run_that_is_stopped_as_it_begins_ends() -> None:
    """A node that is told to wait would never be told to end."""

    async def test(server: Server) -> None:
        first = await waiting(server.join(0))
        await server.ask(pause=1, stop=True)
        second = await server.join(1)
        assert isinstance(second, Newest)
        assert second.stop
        assert (await first).stop

    restarted(test)
