"""Who is there: as the server knows it, without Ray, and as the command does."""

import asyncio
import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from unittest.mock import MagicMock, Mock, call

import numpy as np
import pytest
import torch

pytest.importorskip("ray")

from ray.exceptions import ActorDiedError, RayTaskError

from a3c.cluster.cluster import Began, Cluster
from a3c.cluster.exchange import Change, Exchange, Newest, Sent
from a3c.cluster.machines import alive, share
from a3c.cluster.member import Member, NotMadeError, Paused, RefusedError
from a3c.cluster.server import Contribution, Server, ToEvaluate
from a3c.config import Config
from a3c.errors import InputError
from a3c.gate import Gate
from a3c.metrics import FinishedEpisode, Metrics, Part
from a3c.optimiser import Piece
from a3c.presets import preset
from a3c.run.provenance import what_must_be_the_same
from a3c.shared import SharedParameters
from a3c.train import Training
from tests.scripted import update

NOTHING = np.zeros(2, np.float32)


def served() -> Server:
    server = Server(preset("control", env="CartPole-v1"), [Piece(2)], 0)
    vectors = {"parameters": NOTHING, "square_avg": NOTHING}
    asyncio.run(server.load(vectors, 0, 0, set()))
    return server


NUMBERS = itertools.count()


def exchange(
    server: Server, node: int, life: int | None = None, number: int | None = None
) -> Newest:
    change = Change(NOTHING, 8, 1, NOTHING, 1)
    life = server.life if life is None else life
    number = next(NUMBERS) if number is None else number
    sent = Sent(node, life, server.version, change, Part(1, {}, []), number)
    newest = asyncio.run(server.exchange(sent))
    assert isinstance(newest, Newest)
    return newest


def join(server: Server, node: int) -> None:
    assert isinstance(asyncio.run(server.join(node)), Newest)


def arrived(server: Server) -> list[int]:
    return asyncio.run(server.status()).arrived


def test_a_node_has_arrived_when_it_has_contributed() -> None:
    server = served()
    join(server, 3)
    assert arrived(server) == []
    assert asyncio.run(server.status()).nodes == {}
    exchange(server, 3)
    exchange(server, 3)
    assert arrived(server) == [3]
    exchange(server, 3)
    assert arrived(server) == []
    assert asyncio.run(server.status()).nodes[3].exchanges == 3


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


def test_a_node_that_died_before_its_first_word_came_has_not_arrived() -> None:
    server = served()
    join(server, 3)
    asyncio.run(server.leave(3))
    exchange(server, 3)
    assert arrived(server) == []


def test_after_the_servers_death_a_node_that_goes_on_arrives_again() -> None:
    server = served()
    exchange(server, 3, life=1)  # of the server before; it takes all that is new
    assert arrived(server) == []
    exchange(server, 3)
    assert arrived(server) == [3]


def test_what_a_node_sends_twice_counts_once() -> None:
    """It does so where it was cut off before the answer came."""
    server = served()
    join(server, 3)
    assert exchange(server, 3, number=1).agent_steps == 8
    assert exchange(server, 3, number=1).agent_steps == 8
    assert exchange(server, 3, number=2).agent_steps == 16
    join(server, 3)  # as another process, which counts anew
    assert exchange(server, 3, number=2).agent_steps == 24


@pytest.mark.parametrize("left", [{0}, set[int]()])
def test_a_server_that_dies_when_all_have_come_to_their_end_is_brought_back(
    left: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or have died, or were refused. Else the last checkpoint would be waited for for ever."""
    cluster = object.__new__(Cluster)
    cluster.training, cluster.taking_part = {}, left
    cluster.server, back = Mock(), Mock()
    status = asyncio.run(served().status())._replace(ready=False)
    monkeypatch.setattr("a3c.cluster.cluster.ray.wait", lambda *_, **__: ([], []))
    monkeypatch.setattr("a3c.cluster.cluster.answer", lambda _: status)
    monkeypatch.setattr(cluster, "bring_back_server", back)
    cluster.look_after()
    back.assert_called_once()


def test_a_node_that_cannot_pause_ends_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def answer(index: int) -> str:
        if index == 1:
            raise FloatingPointError("its gradient is not finite")
        return "stands still"

    cluster = object.__new__(Cluster)
    cluster.members = {i: Mock(save=Mock(remote=Mock(return_value=i))) for i in range(2)}
    lost = Mock()
    monkeypatch.setattr(cluster, "lose", lost)
    monkeypatch.setattr("a3c.cluster.cluster.ray.wait", lambda asked, **_: (asked, []))
    monkeypatch.setattr("a3c.cluster.cluster.answer", answer)
    assert cluster.ask_all("save", {0, 1}) == {0: "stands still"}
    assert [call.args[0] for call in lost.call_args_list] == [1]


def test_while_nodes_save_nothing_newer_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkpoint has the vectors of before."""
    cluster = object.__new__(Cluster)
    cluster.members = {0: Mock(save=Mock(remote=Mock(return_value=0)))}
    answers = iter([([], [0]), ([], [0]), ([0], [])])
    monkeypatch.setattr("a3c.cluster.cluster.ray.wait", lambda asked, **_: next(answers))
    monkeypatch.setattr("a3c.cluster.cluster.answer", lambda _: {"thread0": 1})
    monkeypatch.setattr(cluster, "look_after", Mock(side_effect=AssertionError))
    assert cluster.ask_all("save", {0}) == {0: {"thread0": 1}}


def test_nodes_that_are_told_to_use_no_gpu_ask_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    node = {"NodeID": "here", "Alive": True, "Resources": {"CPU": 8.0, "GPU": 2.0}}
    monkeypatch.setattr("ray.nodes", lambda: [node])
    for name, cluster, gpus in (("cpu", "auto", 0), ("auto", "auto", 2), ("cpu", "", 0)):
        config = preset("fast", device=name, cluster=cluster, nodes=1, num_threads=1)
        assert [machine.gpus for machine in alive(config)] == [gpus]


@pytest.mark.parametrize(
    ("gpus", "nodes", "each"),
    [(0, 2, 0), (1, 2, 1 / 2), (2, 2, 1), (2, 3, 1 / 2), (3, 4, 1 / 2), (2, 5, 1 / 3), (3, 2, 1)],
)
def test_all_nodes_of_a_machine_find_a_place_on_its_gpus(
    gpus: int, nodes: int, each: float
) -> None:
    """Ray deals whole GPUs, or a part of a single one."""
    assert share(gpus, nodes) == each


def test_a_node_that_does_not_hear_that_it_may_go_on_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = object.__new__(Cluster)
    cluster.members = {0: Mock()}
    monkeypatch.setattr("a3c.cluster.cluster.ray.wait", lambda asked, **_: ([], asked))
    assert cluster.ask_all("go_on", {0}, 1, seconds=0.01) == {}


def test_a_process_that_was_started_again_has_nothing_to_save_to_close_or_to_let_go() -> None:
    member = Member(0, preset("control", env="CartPole-v1"))
    assert member.save() == {}
    member.go_on(1)
    member.close()


def test_memory_is_looked_for_for_all_nodes_of_this_machine_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """16 nodes of 16 threads are 256 threads, not 16 times as many."""
    cluster = object.__new__(Cluster)
    cluster.config = preset("fast", nodes=16, num_threads=16, cuda_graphs="on")
    cluster.members = {i: Mock() for i in range(16)}
    numbers, checked = iter(range(16)), Mock()
    place: Any = "here"
    cluster.versions, cluster.facts = {}, []
    monkeypatch.setattr("a3c.cluster.cluster.alive", lambda _: [place] * 16)
    monkeypatch.setattr("a3c.cluster.cluster.check_memory", checked)
    monkeypatch.setattr("a3c.cluster.cluster.make_envs", Mock())
    monkeypatch.setattr("a3c.cluster.cluster.ray.wait", lambda asked, **_: (asked, []))
    monkeypatch.setattr(cluster, "add", lambda _: next(numbers))
    monkeypatch.setattr(cluster, "answered", lambda _: {})
    cluster.make_members()
    assert checked.call_args.args[0].num_threads == 256
    assert checked.call_args.args[0].cuda_graphs == "off"  # which a CPU could not have


def test_a_node_that_is_given_up_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else no machine that joins would ever get a node in its place."""
    gone: list[object] = []
    said: list[str] = []
    monkeypatch.setattr("a3c.cluster.cluster.ray.kill", gone.append)
    cluster = object.__new__(Cluster)
    cluster.say, cluster.faults, cluster.died_at = said.append, [], {0: 1.0}
    cluster.present, cluster.taking_part, cluster.still = {0, 1}, {1}, set()
    actor: Any = "its actor"
    cluster.members, cluster.server = {0: actor}, Mock()
    cluster.training = {"what its training returns": 0, "another's": 1}
    cluster.lose(0, RuntimeError("it died"))
    assert cluster.training == {"another's": 1}
    assert (cluster.died_at, cluster.present, gone) == ({}, {1}, ["its actor"])
    assert said == ["node 0 has ended: it died"]


NOT_THERE = "RuntimeError: The actor with name Member failed to import on the worker"


def never_made(_: object) -> None:
    """What Ray raises of an actor on a machine without a3c."""
    said = f"Traceback:\n  File ray\n{NOT_THERE}\n"
    raise ActorDiedError(RayTaskError("Member.__init__", said, RuntimeError("no a3c")))


def test_a_node_that_cannot_be_made_is_not_waited_for_and_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ray starts an actor that died, but never one that could not be made."""
    monkeypatch.setattr("a3c.cluster.cluster.ray.kill", Mock())
    monkeypatch.setattr("a3c.cluster.cluster.answer", never_made)
    cluster, said = object.__new__(Cluster), list[str]()
    cluster.say, cluster.faults, cluster.died_at, cluster.training = said.append, [], {}, {}
    cluster.present, cluster.taking_part, cluster.still = {0, 1}, set(), set()
    cluster.members, cluster.server = {0: Mock(), 1: Mock()}, Mock()
    future: Any = "its answer"
    with pytest.raises(InputError, match=f"before they began to train: {NOT_THERE}"):
        cluster.answered({0: future, 1: future})
    assert said == [f"node {index} has ended: {NOT_THERE}" for index in (0, 1)]
    cluster.members, back = {2: Mock()}, Mock()
    monkeypatch.setattr(cluster, "bring_back", back)
    cluster.ended(future, 2)  # as it was to join
    assert said[2:] == [f"node 2 has ended: {NOT_THERE}"]
    assert not back.called


def test_a_server_that_cannot_be_made_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("a3c.cluster.cluster.answer", never_made)
    monkeypatch.setattr("a3c.cluster.cluster.ray.wait", lambda *_, **__: ([], []))
    cluster = object.__new__(Cluster)
    cluster.server, cluster.training = Mock(), {}
    cluster.began = Began({}, 0, 0)
    for asks in (lambda: cluster.load_server(set()), cluster.look_after):
        with pytest.raises(InputError, match=f"the server cannot be started: {NOT_THERE}"):
            asks()


def test_a_node_that_was_given_up_has_no_rate_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = object.__new__(Cluster)
    cluster.members, cluster.taking_part, cluster.counted = {1: Mock()}, {1}, {}
    cluster.contributions = {0: Contribution(30, 3, 10, 2), 1: Contribution(10, 1, 10, 1)}
    figures = cluster.figures(2.0)
    assert [name for name in figures if name.endswith("per_second")] == [
        "node1_agent_steps_per_second"
    ]
    assert figures["cluster_lag"] == 0.75  # of all exchanges


def test_a_node_that_joins_during_a_pause_is_not_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not stand still: what it would save of its agents would be torn."""
    asked: dict[str, set[int]] = {}
    cluster = object.__new__(Cluster)
    cluster.taking_part, cluster.still, cluster.metrics = {0, 1}, set(), Metrics(1)

    def ask_all(method: str, nodes: set[int], *_: object, **__: object) -> dict[int, Any]:
        asked[method] = set(nodes)
        return {index: {} for index in nodes}

    saved = asyncio.run(served().save_with_status())
    monkeypatch.setattr(cluster, "ask_all", ask_all)
    monkeypatch.setattr(cluster, "ask_server", lambda pause: None)
    monkeypatch.setattr(cluster, "look_after", lambda: cluster.taking_part.add(2))
    monkeypatch.setattr(cluster, "patiently_saved", lambda: saved)
    cluster.store, cluster.pause_number, cluster.life = served().store, 6, 7
    ended = [FinishedEpisode(1.0, 9)]
    stood = {0: Paused(7, Part(0, {}, ended)), 1: Paused(6, Part(0, {}, [*ended, *ended]))}
    monkeypatch.setattr(cluster, "stand_still", lambda: stood)
    third: Any = Mock()
    cluster.training, cluster.members = {"what it will return": 3}, {3: third}
    with cluster.paused():
        cluster.save()
    assert asked == {"save": {0, 1}, "go_on": {0, 1, 2}}
    assert cluster.metrics.episodes == 1  # what the other had is of a server that is gone
    third.go_on.remote.assert_called_once_with(7)  # it may have joined as well


class Nodes:
    """Two nodes as a command sees them: each answers a pause with the next of its lives, as soon as
    there is one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, lives: dict[int, list[int]]):
        self.lives, self.said, self.waits = lives, list[tuple[Any, ...]](), 0
        self.cluster = cluster = object.__new__(Cluster)
        cluster.members = {index: self.actor(index) for index in lives}
        cluster.taking_part, cluster.training = {*lives}, {str(i): i for i in lives}
        cluster.life, cluster.pause_number, cluster.config = 1, 1, Config(mode="sync")
        cluster.stopping = cluster.aborting = False
        cluster.server = Mock(ask=Mock(remote=lambda *words: self.note("server", "ask", *words)))
        monkeypatch.setattr("a3c.cluster.cluster.ray.wait", self.wait)
        monkeypatch.setattr("a3c.cluster.cluster.answer", self.answer)
        monkeypatch.setattr(cluster, "look_after", lambda: None)

    def note(self, who: int | str, *words: Any) -> tuple[Any, ...]:
        self.said.append((who, *words))
        return who, *words

    def actor(self, index: int) -> Any:
        remote = {name: partial(self.note, index, name) for name in ("pause", "go_on")}
        return Mock(**{name: Mock(remote=function) for name, function in remote.items()})

    def wait(self, futures: list[Any], **_: object) -> tuple[list[Any], list[Any]]:
        self.waits += 1
        assert self.waits < 50, self.said
        return [each for each in futures if each[1] != "pause" or self.lives[each[0]]][:1], []

    def answer(self, future: Any) -> Any:
        if future[1] == "pause":
            life = self.lives[future[0]].pop(0)
            return Paused(life, Part(0, {}, [])) if life else None  # 0: it has not begun
        if future[1] == "go_on":
            self.lives[1].append(2)  # it stands still as the other one does
        return None


def test_a_node_that_stood_still_before_the_server_died_goes_on_until_the_others_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They wait for it at the end of their rollouts. The server knows of the new pause first."""
    nodes = Nodes(monkeypatch, {0: [1, 2], 1: []})
    monkeypatch.setattr(nodes.cluster, "look_after", lambda: setattr(nodes.cluster, "life", 2))
    stood = nodes.cluster.stand_still()
    assert {index: paused.life for index, paused in stood.items()} == {0: 2, 1: 2}
    again = nodes.said.index(("server", "ask", 2, False))
    before, after = (
        [word for word in part if word[0] != "server"]
        for part in (nodes.said[:again], nodes.said[again:])
    )
    assert before == [(0, "pause", 1), (1, "pause", 1)]
    assert after == [(0, "go_on", 1), (0, "pause", 2)]


@pytest.mark.parametrize("lost", [False, True])
def test_a_node_that_may_stand_goes_on_where_the_server_has_died_since(
    lost: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that had not begun when it answered and stands since then, or whose answer was lost;
    nobody else has answered. The other one waits for it."""
    nodes = Nodes(monkeypatch, {0: [0, 2], 1: []})

    def look_after() -> None:
        if not nodes.lives[0][1:]:  # it has answered
            nodes.cluster.life = 2

    def answer(future: Any) -> Any:
        first = future[1] == "pause" and len(nodes.lives[future[0]]) == 2
        found = nodes.answer(future)
        if first and lost:
            raise ActorDiedError
        return found

    monkeypatch.setattr(nodes.cluster, "look_after", look_after)
    monkeypatch.setattr("a3c.cluster.cluster.answer", answer)
    assert {*nodes.cluster.stand_still()} == {0, 1}
    assert [word[0] for word in nodes.said if word[1] == "go_on"] == [0]


def test_a_node_that_had_not_begun_when_it_was_asked_goes_on_with_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It stands still since then, as the old server said: nobody else would let it go on."""
    nodes = Nodes(monkeypatch, {0: [0], 1: [1], 2: []})

    def look_after() -> None:
        if nodes.waits >= 3:  # two have answered
            nodes.cluster.life = 2
        if any(word[1] == "go_on" for word in nodes.said):
            nodes.lives.update({0: [2], 1: [2], 2: [2]})

    monkeypatch.setattr(nodes.cluster, "look_after", look_after)
    assert {*nodes.cluster.stand_still()} == {0, 1, 2}
    let_go = {word[0] for word in nodes.said if word[1] == "go_on"}
    assert let_go == {0, 1}


def test_a_node_that_has_ended_with_the_server_before_is_not_asked_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It always answers at once, and knows of no newer server."""
    nodes = Nodes(monkeypatch, {0: [1], 1: [2]})
    nodes.cluster.life = 2

    def look_after() -> None:
        nodes.cluster.training = {"1": 1}

    monkeypatch.setattr(nodes.cluster, "look_after", look_after)
    stood = nodes.cluster.stand_still()
    assert {index: paused.life for index, paused in stood.items()} == {0: 1, 1: 2}
    assert [word for word in nodes.said if word[1] == "go_on"] == []


def test_a_node_that_dies_while_another_is_waited_for_stands_still_once_it_has_joined(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is asked as well: it would be saved while it trains; or stand still as the server says
    while the others, whose server died, wait for it."""
    nodes = Nodes(monkeypatch, {0: [1], 1: []})
    there = iter([{1}, {1}, {0, 1}])

    def look_after() -> None:
        nodes.cluster.taking_part = next(there, {0, 1})
        if nodes.waits > 5:
            nodes.lives.update({0: [1], 1: [1]})

    monkeypatch.setattr(nodes.cluster, "look_after", look_after)
    assert {*nodes.cluster.stand_still()} == {0, 1}
    assert nodes.said.count((0, "pause", 1)) == 2
    assert nodes.said.count((1, "pause", 1)) == 1


def test_a_node_that_stood_still_and_dies_is_not_told_to_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nodes = Nodes(monkeypatch, {0: [1], 1: [2]})
    nodes.cluster.life = 2
    monkeypatch.setattr(nodes.cluster, "look_after", lambda: nodes.cluster.taking_part.discard(0))
    assert {*nodes.cluster.stand_still()} == {1}
    assert [word for word in nodes.said if word[0] == 0] == [(0, "pause", 1)]


def test_a_server_that_is_started_again_hears_of_the_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = Nodes(monkeypatch, {0: [], 1: []})

    def look_after() -> None:
        nodes.cluster.life = 2
        if ("server", "ask", 1, False) in nodes.said:
            nodes.lives.update({0: [2], 1: [2]})

    monkeypatch.setattr(nodes.cluster, "look_after", look_after)
    assert {*nodes.cluster.stand_still()} == {0, 1}


def test_who_does_not_wait_for_the_end_of_rollouts_ends_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By a second Ctrl-C, where an environment hangs."""
    nodes, told = Nodes(monkeypatch, {0: [1], 1: []}), list[int]()
    nodes.cluster.aborting = True

    def tell_wishes() -> None:
        told.append(nodes.waits)
        nodes.lives[1].append(1)

    monkeypatch.setattr(nodes.cluster, "tell_wishes", tell_wishes)
    assert {*nodes.cluster.stand_still()} == {0, 1}
    assert told


def test_a_node_that_cannot_stand_still_ends_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nodes, lost = Nodes(monkeypatch, {0: [1], 1: [1]}), list[tuple[Any, ...]]()

    def answer(future: Any) -> Any:
        if future[0] == 1:
            raise FloatingPointError("its gradient is not finite")
        return nodes.answer(future)

    monkeypatch.setattr("a3c.cluster.cluster.answer", answer)
    monkeypatch.setattr(nodes.cluster, "lose", lambda *words: lost.append(words))
    assert {*nodes.cluster.stand_still()} == {0}
    assert [words[0] for words in lost] == [1]


def test_a_late_word_ends_no_later_pause_and_one_that_is_over_is_none() -> None:
    member = Member(0, preset("control", env="CartPole-v1", mode="sync"))
    node = member.node = Mock()
    member.running = True
    member.obey(1, stop=False)
    member.go_on(1)
    member.obey(1, stop=False)  # the answer of a round that had waited for it
    member.obey(2, stop=True)
    assert node.gate.ask.call_args_list == [call(True, False), call(False, False), call(True, True)]
    assert node.gate.end_pause.call_count == 1
    member.go_on(1)
    assert node.gate.end_pause.call_count == 1
    member.go_on(2)
    assert node.gate.end_pause.call_count == 2
    member.go_on(1)
    member.obey(2, stop=False)
    assert node.gate.ask.call_args == call(False, False)


def test_a_node_that_still_stands_in_the_pause_before_goes_on_first() -> None:
    """It has not heard that this is over: it would seem to stand still, and the others wait for
    it in their rollouts."""
    member = Member(0, preset("control", env="CartPole-v1", mode="sync"))
    node, member.exchange = Mock(), Mock()
    member.node, member.running = node, True
    member.obey(1, stop=False)
    member.pause(1)
    assert not node.gate.end_pause.called
    member.pause(2)
    assert node.gate.end_pause.call_count == 1
    order = [called[0] for called in node.gate.method_calls]
    assert order == ["ask", "wait_until_parked", "end_pause", "wait_until_parked"]
    member.go_on(1)
    member.obey(3, stop=False)
    member.pause(3)  # the server was the first to say it
    assert node.gate.end_pause.call_count == 1


def test_in_sync_mode_the_target_goes_back_with_the_parameters() -> None:
    """To a server that was started again: the target of lost updates is lost as well."""
    config = preset("one-step-q", env="CartPole-v1", num_threads=1, mode="sync")
    member = Member(0, config)
    store = SharedParameters(torch.ones(2), [Piece(2)], config, target_every_agent_steps=10**6)
    member.node = Mock(store=store, gate=Gate(1))
    member.exchange, member.server = Exchange(store), Mock()
    vectors = dict.fromkeys(store.save(), NOTHING)
    newest = Newest(7, 0, 100, 10, vectors, 0, False, (9, 0.5, 1.0))
    member.patiently = lambda *_: newest  # type: ignore[method-assign]
    member.average()
    assert store.target is not None
    assert [store.target.tolist(), store.parameters.tolist()] == [[0, 0], [0, 0]]
    assert (store.agent_steps, member.exchange.life) == (100, 7)


class Lives:
    """A node's process, to which calls come at once: what it makes, and what trains."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.member = Member(0, preset("control", num_threads=1))
        self.made, self.trained, self.aborted = list[Mock](), list[Mock](), threading.Event()
        monkeypatch.setattr(self.member, "_make", self.make)
        monkeypatch.setattr(self.member, "_train", self.train)
        monkeypatch.setattr(self.member, "patiently", Mock(return_value=Mock(updates=3)))

    def make(self, expected: dict[str, str | None]) -> dict[str, Any]:
        assert not hasattr(self.member, "node")  # a GPU may hold only one
        assert not hasattr(self.member, "exchange")
        self.made.append(Mock(abort=Mock(side_effect=self.aborted.set)))
        self.member.node = self.made[-1]
        return {}

    def train(self, server: Any) -> list[BaseException]:
        self.member.exchange, self.member.running = Mock(), True
        self.trained.append(self.made[-1])
        return []

    def rejoin(self) -> list[BaseException]:
        return self.member.rejoin(Mock(), {})

    def wait_for(self, lives: int) -> None:
        until = time.monotonic() + 30
        while self.member.lives < lives and time.monotonic() < until:
            time.sleep(0.01)
        assert self.member.lives == lives


def test_a_node_that_was_taken_for_dead_makes_room_for_its_next_life(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lives = Lives(monkeypatch)
    lives.member.make({})
    assert lives.member.train(Mock()) == []
    assert lives.rejoin() == []
    before, now = lives.made
    assert before.method_calls == [call.abort(), call.close()]
    assert now.method_calls == [call.start_games(3)]
    assert lives.trained == [before, now]


@pytest.mark.parametrize("first", ["train", "rejoin"])
def test_a_node_that_was_cut_off_as_it_began_ends_before_its_next_life(
    first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray runs both calls at once, and they are of one node."""
    lives = Lives(monkeypatch)
    member, begun, ended = lives.member, threading.Event(), threading.Event()

    def train(server: Any) -> list[BaseException]:
        lives.train(server)
        begun.set()
        ended.set() if lives.aborted.wait(30) else None
        assert member.node is lives.trained[-1]  # nobody has made another one meanwhile
        return []

    monkeypatch.setattr(member, "_train", train)
    if first == "train":
        member.make({})
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(partial(member.train, Mock()) if first == "train" else lives.rejoin)
        assert begun.wait(30)
        monkeypatch.setattr(member, "_train", lives.train)
        other = pool.submit(lives.rejoin)
        assert (one.result(60), other.result(60)) == ([], [])
    assert ended.is_set()
    assert lives.trained == lives.made
    assert len(lives.made) == 2
    lives.made[1].abort.assert_not_called()


@pytest.mark.parametrize("first", ["make", "rejoin"])
def test_a_node_that_is_cut_off_as_it_is_made_ends(
    first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever takes it for dead finds no node that could be ended."""
    lives, later = Lives(monkeypatch), list[Any]()
    with ThreadPoolExecutor(1) as pool:

        def make(expected: dict[str, str | None]) -> dict[str, Any]:
            if not later:
                later.append(pool.submit(lives.rejoin))
                lives.wait_for(1 if first == "make" else 2)
            return lives.make(expected)

        monkeypatch.setattr(lives.member, "_make", make)
        if first == "make":
            lives.member.make({})
        else:
            assert lives.rejoin() == []
        assert later[0].result(30) == []
    one, other = lives.made
    one.close.assert_called_once()
    other.abort.assert_not_called()
    if first == "rejoin":  # of what `make` made nobody had begun to train
        one.abort.assert_called_once()
    assert lives.trained == ([other] if first == "make" else [one, other])


def test_calls_that_come_too_late_do_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are of a node that was taken for dead since."""
    lives = Lives(monkeypatch)
    with ThreadPoolExecutor(4) as pool:
        with lives.member.one_life:
            made = pool.submit(lives.member.make, {})
            trained = pool.submit(lives.member.train, Mock())
            rejoined = []
            for number in (1, 2):
                rejoined.append(pool.submit(lives.rejoin))
                lives.wait_for(number)
        with pytest.raises(NotMadeError, match="joins again"):
            made.result(30)
        assert [each.result(30) for each in (trained, *rejoined)] == [[], [], []]
    assert len(lives.trained) == len(lives.made) == 1


def test_a_node_whose_process_is_another_by_now_joins_the_others_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ray starts it again within seconds: calls reach it that are of the one before."""
    member = Member(1, preset("control", env="CartPole-v1"))
    calls = {
        "begin": member.begin,
        "start_games": lambda: member.start_games(0),
        "load": lambda: member.load({}, 0, 0),
        "is_home": lambda: member.is_home({}),
        "provenance": member.provenance,
        "train": lambda: member.train(Mock()),
    }

    def answer(name: str) -> object:
        return "its answer" if name == "another's" else calls[name]()

    for name in calls:
        cluster = object.__new__(Cluster)
        cluster.present, cluster.server = {0, 1}, Mock()
        back = Mock()
        monkeypatch.setattr(cluster, "bring_back", back)
        monkeypatch.setattr("a3c.cluster.cluster.answer", answer)
        with pytest.raises(NotMadeError):
            calls[name]()
        assert cluster.answered({0: "another's", 1: name}) == {0: "its answer"}
        assert cluster.present == {0}
        cluster.ended(name, 1)
        back.assert_called_once_with(1)
    said: list[str] = []
    cluster.taking_part, cluster.died_at, cluster.used = set(), {}, set()
    cluster.facts, cluster.say = [], said.append
    another = Mock()
    another.machine_id.remote.return_value = "another's"
    another.provenance.remote.return_value = "provenance"
    cluster.members = {1: another}
    cluster.welcome(1)
    assert (said, cluster.facts) == (["node 1 has joined"], [])


def test_a_checkpoint_counts_what_its_server_has_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what a node that joined lately has come to since it was last asked: a resumed run, which
    goes on behind it, would ask for no such evaluation again."""
    server = served()
    server.store.to_be_evaluated = lambda before: before < 8  # type: ignore[method-assign]
    before = asyncio.run(server.status())
    assert exchange(server, 0).agent_steps == 8
    cluster = object.__new__(Cluster)
    cluster.server, cluster.store, cluster.metrics = Mock(), served().store, Metrics(1)
    cluster.training, cluster.taking_part, cluster.still = {}, set(), set()
    cluster.take(before)
    seen: list[int] = []
    cluster.store.in_update = lambda _: seen.append(cluster.store.agent_steps)
    monkeypatch.setattr(cluster, "look_after", Mock(side_effect=AssertionError))
    monkeypatch.setattr(
        "a3c.cluster.cluster.answer", lambda _: asyncio.run(server.save_with_status())
    )
    cluster.save()
    assert (cluster.store.agent_steps, seen, cluster.metrics.episodes) == (8, [8], 0)
    assert asyncio.run(server.status()).seen == list[ToEvaluate]()


def test_what_is_to_be_evaluated_is_of_the_exchange_that_made_it_due() -> None:
    """And not of those that came after it, before anybody asked."""
    server = served()
    server.store.to_be_evaluated = lambda before: before < 8  # type: ignore[method-assign]
    for value in (1.0, 2.0):
        change = Change(np.full(2, value, np.float32), 8, 1, NOTHING, 1)
        sent = Sent(0, server.life, server.version, change, Part(1, {}, []), next(NUMBERS))
        asyncio.run(server.exchange(sent))
    (seen,) = asyncio.run(server.status()).seen
    assert (seen.agent_steps, seen.parameters.tolist()) == (8, [1, 1])


def test_a_node_that_fails_beside_its_threads_ends_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its next life would wait for it for ever."""

    def fails() -> None:
        raise ValueError("as if by accident")

    member = Member(0, preset("control", env="CartPole-v1", num_threads=1))
    node = member.node = Mock(failures=[])
    monkeypatch.setattr("a3c.cluster.member.Exchange", Mock())
    monkeypatch.setattr(member, "patiently", Mock())
    monkeypatch.setattr(member, "exchange_until_the_end", fails)
    (failure,) = member.train(Mock())
    assert str(failure) == "as if by accident"
    assert [each[0] for each in node.method_calls[-3:]] == ["start", "abort", "join"]
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(member.one_life.acquire, blocking=False).result(30)


def test_a_resumed_clusters_server_begins_with_what_was_learned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = object.__new__(Cluster)
    cluster.store, cluster.present, cluster.members = served().store, set(), {}
    cluster.config = preset("control", env="CartPole-v1")
    monkeypatch.setattr(cluster, "answered", lambda _: {})
    saved = {"parameters": torch.full((2,), 7.0), "square_avg": torch.full((2,), 3.0)}
    cluster.load(saved, 100, 9)
    store = cluster.store
    assert [store.parameters.tolist(), store.save()["square_avg"].tolist()] == [[7, 7], [3, 3]]
    assert (store.agent_steps, store.updates) == (100, 9)


def test_a_nodes_threads_have_numbers_of_their_own() -> None:
    """So have their parts of a checkpoint, also where a node has fewer than others."""
    config = preset("fast", num_threads=2, nodes=3)
    assert [Member(index, config).first_thread for index in range(3)] == [0, 2, 4]
    cluster = object.__new__(Cluster)
    cluster.config = config
    names = ["parameters", *(f"thread{i}.lives" for i in range(5)), "thread10.lives"]
    saved = dict.fromkeys(names, torch.zeros(1))
    assert list(cluster.part_of(saved, 1)) == ["parameters", "thread2.lives", "thread3.lives"]
    assert list(cluster.part_of(saved, 5)) == ["parameters", "thread10.lives"]


def test_nodes_that_are_gone_leave_no_gaps_in_a_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resumed run's nodes have numbers from 0 on, and go on with the games of as many."""
    cluster = object.__new__(Cluster)
    cluster.config = preset("fast", num_threads=2, nodes=3)
    cluster.store, cluster.still = served().store, {0, 1, 4}
    told = {
        4: {"thread8.lives": torch.tensor(8), "thread9.a.b": torch.tensor(9)},
        1: {"thread2.lives": torch.tensor(2)},  # on a machine with one core
        0: {},  # its process has just been started again
    }
    monkeypatch.setattr(cluster, "take", Mock())
    monkeypatch.setattr(
        cluster, "patiently_saved", lambda: asyncio.run(served().save_with_status())
    )
    monkeypatch.setattr(cluster, "ask_all", lambda what, nodes: told)
    saved = cluster.save()
    numbered = {name: int(value) for name, value in saved.items() if "thread" in name}
    assert numbered == {"thread0.lives": 2, "thread2.lives": 8, "thread3.a.b": 9}


@pytest.mark.parametrize("same_life", [True, False])
def test_what_a_node_learns_during_an_exchange_is_its_servers_next(
    same_life: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless that is another one by then."""
    config = preset("control", env="CartPole-v1", num_threads=1)
    member = Member(0, config)
    store = SharedParameters(torch.ones(2), [Piece(2)], config)
    member.exchange, member.server, member.running = Exchange(store), Mock(), True
    life = member.exchange.life if same_life else member.exchange.life + 1
    vectors = {name: vector.numpy().copy() for name, vector in store.save().items()}

    def answer_late(*_: object) -> Newest:
        update(store, torch.ones(2), 8, 0)
        member.metrics.add([], {})
        return Newest(life, 1, 100, 10, vectors, 0, False, (9, 0.5, 1.0))

    monkeypatch.setattr(member, "patiently", answer_late)
    member.exchange_once()
    assert member.metrics.take().rollouts == same_life
    assert member.exchange.new_updates() == (1 if same_life else 0)
    assert store.agent_steps == (108 if same_life else 100)


def test_a_node_that_makes_room_for_its_next_life_sends_no_more() -> None:
    """A pause may have been waiting in the one that ends."""
    member = Member(0, preset("control", env="CartPole-v1", num_threads=1))
    member.node, member.exchange, member.server = Mock(), Mock(), Mock()
    member.running = True

    def ends() -> None:
        member.running = False

    member.node.gate.wait_until_parked.side_effect = ends
    assert member.pause(1) is None
    member.exchange_once()
    assert not member.server.exchange.remote.called
    assert not member.node.settle.called


@pytest.mark.parametrize(("mode", "asked"), [("async", [call(everything=True)]), ("sync", [])])
def test_before_a_checkpoint_a_node_sends_its_average_as_well(
    mode: Any, asked: list[object]
) -> None:
    member = Member(0, preset("control", env="CartPole-v1", num_threads=1, mode=mode))
    done = Mock()  # by name, in its order
    node, member.exchange, exchange_once = done.node, Mock(), done.exchange_once
    member.node = node
    member.exchange_once = exchange_once  # type: ignore[method-assign]
    member.running = True
    member.pause(2)
    begun = node.gate.end_pause.call_count
    member.go_on(1)  # late
    assert node.gate.end_pause.call_count == begun
    assert exchange_once.call_args_list == asked
    wanted = ("node.gate.wait_until_parked", "node.settle", "exchange_once")
    order = [name for name, *_ in done.mock_calls if name in wanted]
    # a rollout that is not accounted for would be missing in the returns of games under way
    assert order == [*wanted[:2], *wanted[2:] * len(asked)]


def test_in_sync_mode_rollouts_end_with_the_last_of_their_updates() -> None:
    sizes = {"num_envs": 4, "minibatches": 2, "epochs": 2}
    member = Member(0, preset("fast", num_threads=1, mode="sync", grow=False, **sizes))
    member.node, member.exchange, member.server = MagicMock(), Mock(life=1, version=1), Mock()
    member.node.store.agent_steps = member.node.store.updates = 0
    newest = Newest(1, 1, 0, 0, {}, pause=0, stop=False, applied=(0, 0.0, 0.0))
    member.patiently = handed = Mock(return_value=newest)  # type: ignore[method-assign]
    for _ in range(8):
        member.average()
    ends = [words.args[1].ends for words in handed.call_args_list]
    assert ends == [False, False, False, True] * 2


def test_a_machine_has_no_more_threads_than_cores() -> None:
    """Of a cluster's, one of which may be smaller; on this machine it is as it was asked for."""
    for cluster, threads in (("auto", 2), ("", 16)):
        member = Member(1, preset("fast", cluster=cluster, num_threads=16))
        assert member.config.num_threads == threads
        assert member.first_thread == 16


@pytest.mark.parametrize(("num_threads", "expected"), [(1, 2), (2, 2), (4, 4)])
def test_a_node_exchanges_when_each_thread_has_made_an_update_on_average(
    num_threads: int, expected: int
) -> None:
    member = Member(0, preset("fast", num_threads=num_threads))
    member.exchange = Mock()
    for updates in (expected - 1, expected):
        member.exchange.new_updates.return_value = updates
        member.wake_exchanger()
        assert member.news.is_set() == (updates == expected)


def test_a_node_of_other_code_is_not_made() -> None:
    member = Member(0, preset("control", env="CartPole-v1", num_threads=1))
    with pytest.raises(RefusedError, match="its code is "):
        member.make({**what_must_be_the_same(), "code": "0"})
    assert not hasattr(member, "node")


@pytest.mark.parametrize("at_the_checkpoint", [True, False])
def test_what_a_dead_server_had_beyond_its_checkpoint_is_forgotten(at_the_checkpoint: bool) -> None:
    """By curves, logs and evaluations; or beyond the one that is being made."""
    training = object.__new__(Training)
    training.metrics, training.log, training.evaluator = Mock(), Mock(), Mock()
    training.saved = {"agent_steps": 100 if at_the_checkpoint else 60, "metrics": "as saved"}
    training.metrics.save.return_value = "as it is"
    training._roll_back(100)
    games = "as saved" if at_the_checkpoint else "as it is"
    training.metrics.rewind.assert_called_once_with(games, 100)
    training.log.rewind.assert_called_once_with(100)
    training.evaluator.roll_back.assert_called_once_with(100)
