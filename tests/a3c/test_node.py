"""A node's threads: who waits for whom, and what they act with."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock, call

import pytest
import torch

from a3c.errors import InputError
from a3c.methods import A3C
from a3c.metrics import Metrics
from a3c.network import layout
from a3c.node import Node
from a3c.optimiser import slower
from a3c.presets import preset
from a3c.shared import turns
from a3c.torsos import ConvolutionalTorso
from a3c.train import train
from a3c.value_methods import EpsilonGreedy

CPU = torch.device("cpu")


def node_with(**changes: Any) -> Node:
    config = preset("fast", env="CartPole-v1", num_envs=2, rollout_length=12, **changes)
    node = Node(config, [CPU], Metrics(1))
    node.begin()
    return node


class Thread:
    """One that has ended, or works for ever."""

    def __init__(self, works: bool):
        self.works = works
        self.waited: list[float] = []

    def is_alive(self) -> bool:
        return self.works

    def join(self, timeout: float) -> None:
        self.waited.append(timeout)


def test_whoever_looks_waits_while_any_thread_works() -> None:
    node = node_with(num_threads=1)
    threads: list[Any] = [Thread(False), Thread(True), Thread(True)]
    node.threads = threads
    assert node.goes_on(0.2)
    assert [thread.waited for thread in threads] == [[], [0.2], []]
    threads[1].works = threads[2].works = False
    assert not node.goes_on(0.2)
    assert threads[1].waited == [0.2]


def test_with_several_threads_a_rollout_takes_newer_parameters_to_act_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = node_with(num_threads=2, correction="vtrace")
    store, learner = node.store, node.learners[0]
    acted: list[int] = []
    step = learner.actor.step

    def others_learn(t: int) -> Any:
        acted.append(round(float((learner.parameters - initial).max())))
        store.parameters += 1
        store.updates += 1
        return step(t)

    initial = store.parameters.clone()
    monkeypatch.setattr(learner.actor, "step", others_learn)
    learner.cycle()
    assert acted == [0] * 5 + [5] * 5 + [10] * 2
    assert learner.acted_at == 10
    assert learner.under_way is not None
    assert learner.under_way.known["policy_lag"] == 12 - (5 * 5 + 10 * 2) / 12


@pytest.mark.parametrize(
    "changes",
    [
        {"num_threads": 1, "correction": "vtrace"},  # nobody else learns
        {"num_threads": 2, "correction": "vtrace", "mode": "sync"},  # nor here
        {"num_threads": 2, "correction": "none", "minibatches": 1},  # gradients of what acted
        {"num_threads": 2, "correction": "vtrace", "sync_every": 2},  # a lag is asked for
    ],
)
def test_elsewhere_a_rollout_acts_with_one_policy(changes: dict[str, Any]) -> None:
    assert not node_with(**changes).learners[0].renews


def test_a_checkpoint_of_another_kind_of_device_starts_new_games() -> None:
    node = node_with(num_threads=1)
    learner = node.learners[0]
    learner.cycle()
    saved = {name: torch.as_tensor(value) for name, value in learner.save().items()}
    assert node.is_home({"thread0.generator": saved["generator"]})
    saved["generator"] = torch.zeros(16, dtype=torch.uint8)  # as CUDA's is
    assert not node.is_home({"thread0.generator": saved["generator"]})
    games, drawn = [], []
    for _ in range(2):
        learner.load(dict(saved), updates=3)
        games.append(learner.actor.agents.observations.clone())
        drawn.append(torch.rand(2, generator=learner.generator).tolist())
    assert torch.equal(*games)
    assert not torch.equal(games[0], saved["observations"])
    assert drawn[0] == drawn[1]


def test_new_games_of_a_later_checkpoint_are_others() -> None:
    """Where games cannot be taken over, and for random numbers of another kind of device."""
    node = node_with(num_threads=1)
    learner = node.learners[0]
    learner.cycle()
    learner.settle()
    assert learner.episodes.lengths.tolist() != [0, 0]
    saved = {name: torch.as_tensor(value) for name, value in learner.save().items()}
    saved["generator"] = torch.zeros(16, dtype=torch.uint8)
    games, drawn = [], []
    for updates in (3, 4):
        learner.load(dict(saved), updates)
        games.append(learner.actor.agents.observations.clone())
        drawn.append(torch.rand(2, generator=learner.generator).tolist())
    assert not torch.equal(*games)
    assert drawn[0] != drawn[1]
    assert learner.episodes.lengths.tolist() == [0, 0]


@pytest.mark.parametrize("own", [True, False], ids=["of this thread", "of another node alone"])
def test_a_node_starts_other_games_at_each_number_of_updates(own: bool) -> None:
    node = node_with(num_threads=1)
    saved = {k: v for k, v in node.save().items() if own or not k.startswith("thread0.")}
    if own:
        saved["thread0.generator"] = torch.zeros(16, dtype=torch.uint8)  # as CUDA's is
    (learner,) = node.learners
    games = []
    for updates in (0, 3):
        node.load(dict(saved), agent_steps=100, updates=updates)
        games.append(learner.actor.agents.observations.clone())
        node.start_games(updates + 1)
        games.append(learner.actor.agents.observations.clone())
    assert len({game.numpy().tobytes() for game in games}) == 4


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", ["a3c", "n-step-q"])
def test_networks_compute_in_the_precision_that_was_asked_for(method: Any, precision: Any) -> None:
    config = preset("fast", num_threads=1, num_envs=1, precision=precision, grow=False)
    if method != "a3c":
        config = preset(method, num_threads=1, num_envs=1, precision=precision)
    node = Node(config, [CPU], Metrics(1))
    (learner,) = node.learners
    networks = [learner.network, *([] if learner.target is None else [learner.target])]
    assert len(networks) == (1 if method == "a3c" else 2)
    for network in networks:
        (torso,) = network.torsos
        assert isinstance(torso, ConvolutionalTorso)
        assert torso.dtype == getattr(torch, precision)
    assert node.provenance()["torso_dtype"] == precision


def test_what_threads_share_knows_the_fan_ins_of_the_network() -> None:
    node = Node(preset("fast", num_threads=1, num_envs=1, grow=False), [CPU], Metrics(1))
    assert node.store.layout == layout(node.learners[0].network)
    assert slower(node.store.layout)


def test_with_sync_every_the_update_that_a_copy_acts_with_is_saved() -> None:
    one, other = (node_with(num_threads=1, sync_every=2) for _ in range(2))
    for _ in range(3):
        one.learners[0].cycle()
    assert one.learners[0].acted_at == 2
    one.settle()
    other.load(one.save(), one.store.agent_steps, one.store.updates)
    assert other.learners[0].acted_at == 2


def test_a_run_says_that_it_goes_on_with_new_games(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = preset("control", num_threads=1, total_agent_steps=128, runs_dir=str(tmp_path))
    run = train(config, quiet=True)
    monkeypatch.setattr(Node, "is_home", lambda *_: False)
    train(replace(config, total_agent_steps=256), resume=run.folder)
    said = capsys.readouterr().out
    assert "made on another kind of device: agents start new games" in said


def test_how_many_learn_at_once() -> None:
    config = preset("fast", num_threads=8)
    assert places(turns(config, torch.device("cuda"))) == 1
    assert places(turns(config, CPU)) == 2  # cores
    assert places(turns(replace(config, mode="sync"), CPU)) == 8


def places(turn: threading.BoundedSemaphore) -> int:
    return sum(turn.acquire(blocking=False) for _ in range(20))


def test_a_thread_that_fails_gives_its_turn_back(monkeypatch: pytest.MonkeyPatch) -> None:
    node = node_with(num_threads=2, correction="vtrace")
    monkeypatch.setattr(node.learners[0], "graphed_differentiate", fail)
    with pytest.raises(RuntimeError, match="on purpose"):
        node.learners[0].cycle()
    assert places(node.store.turn) == 2


def fail() -> None:
    raise RuntimeError("on purpose")


def test_what_a_failed_rollout_did_to_the_games_is_not_saved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Their returns are not known: what goes on from there begins new games."""
    config = preset("control", env="CartPole-v1", num_threads=1, num_envs=2)
    node = Node(config, [torch.device("cpu")], Metrics(1))
    node.begin()
    (learner,) = node.learners
    learner.cycle()
    assert "observations" in learner.save()
    monkeypatch.setattr(learner, "learn", Mock(side_effect=FloatingPointError))
    with pytest.raises(FloatingPointError):
        learner.cycle()
    assert "observations" not in learner.save()


def test_newer_parameters_are_those_that_images_are_seen_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Their network computes with a copy of the weights in another precision."""
    config = preset("fast", env="breakout", num_threads=2, num_envs=1, rollout_length=6,
                    correction="vtrace", precision="bfloat16")  # fmt: skip
    node = Node(config, [CPU], Metrics(4))
    node.begin()
    learner, weights = node.learners[0], list[float]()
    (torso,), act = learner.network.torsos, learner.actor.step

    def others_learn(t: int) -> Any:
        weights.append(float(torso.cast[-1].bias[0]))
        node.store.parameters += 1
        return act(t)

    monkeypatch.setattr(learner.actor, "step", others_learn)
    learner.cycle()
    assert weights[5] == weights[0] + 5


def test_it_learns_in_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two places one is taken then, and both are free afterwards."""
    node = node_with(num_threads=2, correction="vtrace")
    free, apply = list[int](), node.store.apply

    def watched(*words: Any) -> Any:
        free.append(places(node.store.turn))
        for _ in range(free[-1]):
            node.store.turn.release()
        return apply(*words)

    monkeypatch.setattr(node.store, "apply", watched)
    node.learners[0].cycle()
    assert free == [1]
    assert places(node.store.turn) == 2


def test_a_thread_is_a_core() -> None:
    """Without being told PyTorch would make a pool of threads for each that it computes in."""
    noted: list[int] = []
    learner = Mock(index=0, run=lambda: noted.append(torch.get_num_threads()))
    node, before = node_with(num_threads=1), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        thread = threading.Thread(target=node._guarded, args=[learner])
        thread.start()
        thread.join()
    finally:
        torch.set_num_threads(before)
    assert noted == [1]


def cart_poles(**sizes: int) -> Node:
    node = Node(preset("control", env="CartPole-v1", **sizes), [CPU], Metrics(1))
    node.begin()
    return node


def test_copies_have_their_models_games_returns_and_observations() -> None:
    """As many copies follow one another as a run has grown by."""
    few, many = cart_poles(num_envs=2), cart_poles(num_envs=6)
    few.learners[0].cycle()
    saved = few.save()
    saved["thread0.returns"] = torch.tensor([1.0, 2.0])
    saved["thread0.lengths"] = torch.tensor([3, 7])
    many.load(saved, few.store.agent_steps, few.store.updates)
    (learner,) = many.learners
    now = learner.actor.agents.observations.clone()
    assert torch.equal(now[:2], saved["thread0.observations"])
    later = learner.envs.step(torch.zeros(6, dtype=torch.int64)).observations
    for observations in (now, later):
        assert torch.equal(observations, observations[:2].repeat(3, 1))
        assert not torch.equal(observations[0], observations[1])
    assert learner.episodes.returns.tolist() == [1, 2] * 3
    assert learner.episodes.lengths.tolist() == [3, 7] * 3


def test_each_thread_goes_on_with_its_own_games_and_random_numbers() -> None:
    one, other = node_with(num_threads=2), node_with(num_threads=2)
    for learner in (*one.learners, one.learners[1]):
        learner.cycle()
    one.settle()
    saved = one.save()
    other.load(saved, one.store.agent_steps, one.store.updates)
    loaded = other.save()
    assert saved.keys() == loaded.keys()
    assert all(torch.equal(saved[name], loaded[name]) for name in saved)
    mine, yours = (saved[f"thread{index}.observations"] for index in (0, 1))
    assert not torch.equal(mine, yours)


def test_threads_are_dealt_to_the_devices() -> None:
    node = node_with(num_threads=1)
    node.devices = [torch.device("cuda", index) for index in (0, 1)]
    assert [node.device_of(thread).index for thread in range(3)] == [0, 1, 0]


def test_a_thread_has_all_its_things_on_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """No GPU is needed for that: nothing is made here."""
    node = node_with(num_threads=2)
    node.devices = both = [torch.device("cuda", index) for index in (0, 1)]
    envs, learner, network = Mock(), Mock(), Mock()
    monkeypatch.setattr("a3c.node.make_envs", envs)
    monkeypatch.setattr("a3c.node.ActorLearner", learner)
    monkeypatch.setattr(node, "network", network)
    node.environments()
    assert [words.args[-1] for words in envs.call_args_list] == both
    node.learner(1, Mock())
    assert learner.call_args.args[-1] == both[1]
    assert network.call_args_list == [call(both[1])]


def test_a_gpu_that_is_full_as_its_graphs_are_recorded_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = node_with(num_threads=1)
    (learner,) = node.learners
    learner.device, learner.graphs.wanted = torch.device("cuda", 1), True
    full = Mock(side_effect=torch.OutOfMemoryError("CUDA out of memory"))
    monkeypatch.setattr(learner, "record", full)
    monkeypatch.setattr("a3c.node.synchronise", Mock())
    with pytest.raises(InputError, match="do not fit into the memory of cuda:1"):
        node.record()


def test_threads_and_later_starts_have_random_numbers_of_their_own() -> None:
    node = Node(preset("control", env="CartPole-v1", num_threads=2), [CPU], Metrics(1))
    one, other = node.learners
    assert not torch.equal(one.generator.get_state(), other.generator.get_state())
    node.begin()
    first, second = (each.actor.agents.observations.clone() for each in (one, other))
    assert not torch.equal(first, second)
    one.start_games(updates=3)
    assert not torch.equal(first, one.actor.agents.observations)


@pytest.mark.parametrize("correction", ["none", "vtrace"])
def test_with_sync_every_the_copy_that_acts_is_renewed_then_and_only_then(
    correction: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = node_with(num_threads=1, correction=correction, sync_every=3)
    (learner,) = node.learners
    acted, act = [], learner.actor.step

    def step(t: int | None = None) -> Any:
        acted.append(learner.parameters.clone())
        return act(t)

    monkeypatch.setattr(learner.actor, "step", step)
    begun_with = []
    for _ in range(6):
        begun_with.append(node.store.parameters.clone())
        learner.cycle()
    assert len(acted) == 6 * node.config.rollout_length
    for i, parameters in enumerate(acted):
        rollout = i // node.config.rollout_length
        assert torch.equal(parameters, begun_with[rollout - rollout % 3])


def test_each_minibatch_of_a_rollout_is_seen_with_the_newest_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of images: what their torso computes with are copies of its parameters."""
    config = preset("fast", num_threads=1, num_envs=2, rollout_length=2, minibatches=2,
                    precision="float32", grow=False)  # fmt: skip
    node = Node(config, [CPU], Metrics(4))
    node.begin()
    (learner,) = node.learners
    torso, newest, loss = learner.network.torsos[0], [], learner.method.loss
    assert isinstance(torso, ConvolutionalTorso)

    def watched(*words: Any) -> Any:
        newest.append(torch.equal(torso.cast[0].weight, torso.cast_weights()[0].weight))
        return loss(*words)

    monkeypatch.setattr(learner.method, "loss", watched)
    learner.cycle()
    assert newest == [True, True]


def test_what_is_saved_in_a_pause_is_whole_and_stays_as_it_is() -> None:
    node = cart_poles(num_envs=4, rollout_length=8)
    (learner,) = node.learners
    learner.cycle()
    assert learner.under_way is not None
    learner.gate.leave()  # its thread stands still
    with node.paused():
        assert learner.under_way is None
        saved = node.save()
    assert saved["thread0.lengths"].tolist() == learner.episodes.lengths.tolist()
    before = {name: tensor.clone() for name, tensor in saved.items()}
    learner.cycle()
    assert [name for name in before if not torch.equal(before[name], saved[name])] == []


def test_each_thread_has_its_own_weight_of_the_entropy_bonus() -> None:
    """They are at different agent steps, and may be on different devices."""
    config = preset("fast", env="CartPole-v1", network="mlp", num_threads=2, num_envs=16)
    one, other = Node(config, [CPU], Metrics(1)).learners
    one.behaviour.prepare(5_000_000)
    assert isinstance(one.method, A3C)
    assert isinstance(other.method, A3C)
    assert (one.method.ent_coef.item(), other.method.ent_coef.item()) == pytest.approx(
        (0.005, 0.01)
    )


def test_each_thread_explores_in_its_own_way() -> None:
    config = preset("control", env="CartPole-v1", method="n-step-q", num_threads=2, num_envs=64)
    one, other = (each.behaviour for each in Node(config, [CPU], Metrics(1)).learners)
    assert isinstance(one, EpsilonGreedy)
    assert isinstance(other, EpsilonGreedy)
    assert not torch.equal(one.final, other.final)
