"""The run: reproducible, resumable, and it ends with its cause when something goes wrong."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.envs.classic_control import CartPoleEnv

from a3c import cli
from a3c.acting import Actor
from a3c.actor_learner import ActorLearner
from a3c.config import Config
from a3c.devices import pick_device
from a3c.envs.gymnasium import GymnasiumEnvs
from a3c.envs.on_device import OnDevice
from a3c.envs.protocol import EnvironmentFault, Envs
from a3c.errors import InputError
from a3c.measuring import measure_moments, positive
from a3c.methods import make_method
from a3c.metrics import RECENT_GAMES, FinishedEpisode, Metrics
from a3c.network import Network
from a3c.node import Node
from a3c.presets import preset
from a3c.results.policy import load
from a3c.run import checkpoint, log, provenance
from a3c.run.folder import Run
from a3c.run.terminal import Terminal
from a3c.schedules import entropy_weight
from a3c.train import RunFailed, Training, train
from tests.a3c.conftest import FOR_EVER, StartProcess
from tests.scripted import Scripted, step


def small(tmp_path: Path, **changes: object) -> Config:
    """A run of a second."""
    values: dict[str, object] = {
        "env": "CartPole-v1",
        "total_agent_steps": 2000,
        "num_threads": 1,
        "num_envs": 4,
        "rollout_length": 8,
        "runs_dir": str(tmp_path),
        "log_every_seconds": 0.2,
        "checkpoint_every_seconds": 1000.0,
    }
    return preset("control", **{**values, **changes})


def slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a short run last for a second or more: it is looked at five times a second."""
    cycle = ActorLearner.cycle

    def rested(learner: ActorLearner) -> None:
        time.sleep(0.02)  # 62 times
        cycle(learner)

    monkeypatch.setattr(ActorLearner, "cycle", rested)


def final(run: Run) -> dict[str, torch.Tensor]:
    return checkpoint.newest(run.folder).checkpoint.tensors


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """All of parameters, statistics, random states, agents and environments, bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("mode", ["async", "sync"])
@pytest.mark.parametrize("recurrent", [False, True])
def test_one_thread_is_reproducible_bit_for_bit(tmp_path: Path, mode: str, recurrent: bool) -> None:
    config = small(tmp_path, mode=mode, recurrent=recurrent, total_agent_steps=1000)
    first, second = (final(train(config, quiet=True)) for _ in range(2))
    assert equal(first, second)
    other = final(train(replace(config, seed=2), quiet=True))
    assert not torch.equal(first["parameters"], other["parameters"])


def test_one_thread_on_atari_is_reproducible_bit_for_bit(tmp_path: Path) -> None:
    config = preset(
        "fast", num_threads=1, num_envs=4, total_agent_steps=600, runs_dir=str(tmp_path)
    )
    first, second = (final(train(config, quiet=True)) for _ in range(2))
    assert equal(first, second)


def test_the_background_is_measured_once_and_saved(tmp_path: Path) -> None:
    def background(agent_steps: int) -> torch.Tensor:
        changes = {"num_envs": 4, "total_agent_steps": agent_steps, "runs_dir": str(tmp_path)}
        run = train(preset("fast", env="pong", **changes), quiet=True)
        measured = load(run.folder).network.background
        assert measured is not None
        return measured

    measured = background(20)
    assert torch.equal(measured, background(600))  # learning leaves it as it is
    assert torch.equal(measured, measured.round())
    assert measured[40, 40].tolist() == [87] * 4  # the field's grey; the ball hardly shows


def test_what_normalises_vectors_is_measured_once_and_saved(tmp_path: Path) -> None:
    def measured(agent_steps: int) -> tuple[torch.Tensor, torch.Tensor]:
        changes = {"total_agent_steps": agent_steps, "runs_dir": str(tmp_path)}
        config = preset("control", env="Pendulum-v1", normalize=True, gamma=0.9, **changes)
        network = load(train(config, quiet=True).folder).network
        assert network.moments is not None
        assert network.return_std is not None
        return network.moments, network.return_std

    moments, return_std = measured(64)
    again = measured(600)  # learning leaves them as they are
    assert torch.equal(moments, again[0])
    assert torch.equal(return_std, again[1])
    mean, std = moments
    # Cosine and sine of an angle, and a speed of at most 8 either way
    assert (mean.abs() < torch.tensor([1, 0.3, 1])).all()
    assert (std[:2] < 1).all()
    assert 1 < std[2] < 8
    assert 5 < return_std < 60  # of sums of ten rewards, about, each from -16.3 to 0


@pytest.mark.usefixtures("in_earnest")
def test_clipped_rewards_are_normalised_by_their_signs(tmp_path: Path) -> None:
    """Pendulum's are negative, and its episodes have 200 agent steps."""
    config = small(tmp_path, env="Pendulum-v1", clip_rewards=True, total_agent_steps=32)
    return_std = load(train(config, quiet=True).folder).network.return_std
    sums = [-sum(config.gamma**i for i in range(t % 200 + 1)) for t in range(500)]
    expected = torch.tensor(sums * config.num_envs).std()
    assert return_std is not None
    torch.testing.assert_close(return_std.detach(), expected)


@pytest.mark.parametrize(("env", "frames"), [("pong", 4), ("CartPole-v1", 1)])
def test_the_log_counts_emulator_frames(env: str, frames: int, tmp_path: Path) -> None:
    run = train(small(tmp_path, env=env, total_agent_steps=32), quiet=True)
    last = log.last(run.folder / log.METRICS)
    assert last is not None
    assert last["emulator_frames"] == frames * last["agent_steps"] > 0


@pytest.mark.usefixtures("in_earnest")
def test_the_background_is_the_mean_of_a_hundred_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After those of which stacks have black frames."""
    seen: list[torch.Tensor] = []
    step = Actor.step

    def step_and_keep(self: Actor, *args: Any) -> Any:
        found = step(self, *args)
        seen.append(found.step.observations.clone())
        return found

    monkeypatch.setattr(Actor, "step", step_and_keep)
    config = small(tmp_path, env="pong", network="paper", subtract_background=True,
                   total_agent_steps=32, num_envs=2)  # fmt: skip
    background = load(train(config, quiet=True).folder).network.background
    own = [each for each in seen if len(each) == config.num_envs]
    assert background is not None
    assert len(own) >= 104
    expected = torch.stack(own[4:104]).float().mean((0, 1)).round()
    torch.testing.assert_close(background.detach().float(), expected)


def test_deviations_of_any_size_count_but_for_rounding() -> None:
    deviations = torch.tensor([0.0, 1e-7, 3e-9, 1e-17, 5.0, 1e-3, 0.0], dtype=torch.float64)
    means = torch.tensor([0.0, 1e-7, 0.0, 0.0, 1e5, 1e5, 7.0], dtype=torch.float64)
    assert positive(deviations, means).tolist() == [1.0, 1e-7, 3e-9, 1.0, 5.0, 1.0, 1.0]


def test_provenance_says_what_a_torso_computes_in(tmp_path: Path) -> None:
    """That of vectors is float32 whatever the processor is fast at."""
    run = train(small(tmp_path, precision="bfloat16", total_agent_steps=32), quiet=True)
    assert provenance.read(run.folder)[0]["torso_dtype"] == "float32"


@pytest.mark.usefixtures("in_earnest")
def test_moments_are_those_of_all_that_was_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    step = Actor.step

    def step_and_keep(self: Actor, *args: Any) -> Any:
        seen.append(self.agents.observations.clone())
        return step(self, *args)

    monkeypatch.setattr(Actor, "step", step_and_keep)
    config = small(tmp_path, env="Pendulum-v1", total_agent_steps=32)
    moments = load(train(config, quiet=True).folder).network.moments
    own = [each for each in seen if len(each) == config.num_envs]  # not the check of memory's
    measured = torch.stack(own[:500]).flatten(0, 1).double()  # [T N, D]
    expected = torch.stack([measured.mean(0), measured.std(0)]).float()
    assert moments is not None
    torch.testing.assert_close(moments.detach(), expected)


def test_a_resumed_run_on_atari_equals_the_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = preset("fast", num_threads=1, num_envs=4, runs_dir=str(tmp_path))
    config = replace(config, rollout_length=5, total_agent_steps=1000)
    whole = train(config, quiet=True)
    with monkeypatch.context() as patch:
        stop_after(patch, updates=21)
        part = train(config, quiet=True)
    assert not part.finished
    resumed = train(config, resume=part.folder, quiet=True)
    assert equal(final(whole), final(resumed))
    assert games(whole.folder) == games(resumed.folder)
    assert len(provenance.read(whole.folder)) == 1
    parts = provenance.read(resumed.folder)
    assert [part["device"] for part in parts] == [str(pick_device("auto"))] * 2
    assert all(torch.__version__.startswith(part["torch"]) for part in parts)


def test_sync_with_two_threads_is_reproducible(tmp_path: Path) -> None:
    config = small(tmp_path, mode="sync", num_threads=2)
    assert equal(*(final(train(config, quiet=True)) for _ in range(2)))


@pytest.mark.parametrize("game", ["breakout", "seaquest"])
def test_what_is_learned_does_not_depend_on_the_emulator(game: str, tmp_path: Path) -> None:
    """benchmarks/both_emulators.py does the same for longer."""
    config = preset("fast", env=game, num_threads=1, num_envs=4, runs_dir=str(tmp_path))
    config = replace(config, total_agent_steps=2000)
    ours, theirs = (
        train(replace(config, emulator=emulator), quiet=True) for emulator in ("atari2600", "ale")
    )
    assert ours.episodes > 0
    assert games(ours.folder) == games(theirs.folder)
    assert torch.equal(final(ours)["parameters"], final(theirs)["parameters"])


@pytest.mark.parametrize("mode", ["async", "sync"])
@pytest.mark.parametrize("recurrent", [False, True])
def test_a_resumed_run_equals_the_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, recurrent: bool
) -> None:
    config = small(tmp_path, mode=mode, recurrent=recurrent)
    whole = train(config, quiet=True)
    with monkeypatch.context() as patch:
        stop_after(patch, updates=37)
        part = train(config, quiet=True)
    assert not part.finished
    assert part.agent_steps == 37 * 4 * config.rollout_length
    resumed = train(config, resume=part.folder, quiet=True)
    assert resumed.finished
    assert resumed.folder == part.folder.resolve()
    assert equal(final(whole), final(resumed))
    assert games(whole.folder) == games(resumed.folder)
    assert counted(whole) == counted(resumed)
    seconds = [record["seconds"] for record in log.read(resumed.folder / "metrics.jsonl")]
    assert seconds == sorted(seconds)


def counted(run: Run) -> dict[str, Any]:
    """The counters and recent returns of its newest checkpoint; not the time that it took."""
    progress = checkpoint.newest(run.folder).checkpoint.progress
    metrics = progress["metrics"]
    counters = {name: progress[name] for name in ("agent_steps", "updates", "mean_return_100")}
    return {**counters, **{name: metrics[name] for name in ("episodes", "recent_returns")}}


def test_a_record_that_could_not_be_written_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best model is written as the run ends, if there is room again by then: a header with the
    mean of one that is nowhere would keep all later ones from being it."""
    save, drain, means = checkpoint.save, Metrics.drain, iter((90.0, 80.0))

    def full_once(path: Path, saved: checkpoint.Checkpoint) -> None:
        if path.name == checkpoint.BEST and saved.progress["mean_return_100"] == 90:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(path, saved)

    def by_script(self: Metrics, agent_steps: int, updates: int) -> dict[str, Any]:
        record = drain(self, agent_steps, updates)
        whole = len(self.recent) == RECENT_GAMES
        return {**record, "mean_return_100": next(means)} if whole else record

    monkeypatch.setattr(checkpoint, "save", full_once)
    monkeypatch.setattr(Metrics, "drain", by_script)
    often = {"log_every_seconds": 1000.0, "checkpoint_every_seconds": 0.3}
    with pytest.raises(RunFailed, match="No space left") as failed:
        train(small(tmp_path, total_agent_steps=10**9, lr=1e-9, **often), quiet=True)
    best = checkpoint.best_of(failed.value.folder)
    assert best is not None
    assert best.progress["best_mean_return_100"] == best.progress["mean_return_100"] == 80
    newest = checkpoint.newest(failed.value.folder).checkpoint
    assert newest.progress["best_mean_return_100"] == 80


def test_a_resumed_run_has_the_clock_and_the_best_mean_of_before(tmp_path: Path) -> None:
    # it learns nothing: games stay short, and a hundred of them end
    config = small(tmp_path, total_agent_steps=4000, lr=1e-9)
    run = train(config, quiet=True)
    best = checkpoint.folder(run.folder) / checkpoint.BEST
    before = best.read_bytes()
    saved = checkpoint.newest(run.folder).checkpoint
    saved.progress["best_mean_return_100"] = 1000.0
    saved.progress["metrics"]["seconds"] = 1000.0
    checkpoint.save_into(run.folder, saved)
    resumed = train(replace(config, total_agent_steps=4400), resume=run.folder, quiet=True)
    assert resumed.episodes > run.episodes >= RECENT_GAMES
    assert best.read_bytes() == before
    assert checkpoint.newest(run.folder).checkpoint.progress["best_mean_return_100"] == 1000
    assert log.read(run.folder / "metrics.jsonl")[-1]["seconds"] > 1000


@pytest.mark.parametrize("env", ["CartPole-v1", "breakout"])
def test_games_of_another_version_are_one_line(
    env: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of Gymnasium's wrappers, or of the emulator's state."""
    config = small(tmp_path, env=env, total_agent_steps=64, normalize=False)
    run = train(config, quiet=True)
    saved = checkpoint.newest(run.folder)
    games = "thread0.envs.classic_control" if env == "CartPole-v1" else "thread0.envs.games"
    text = saved.checkpoint.tensors[games].numpy().tobytes()
    other = text.replace(b'"layers": [', b'"layers": [{}, ').replace(
        b'"version": 2', b'"version": 7'
    )
    assert other != text
    saved.checkpoint.tensors[games] = torch.frombuffer(bytearray(other), dtype=torch.uint8)
    checkpoint.save(saved.path, saved.checkpoint)
    before = {path: path.read_bytes() for path in run.folder.rglob("*.safetensors")}
    words = ["train", "--resume", str(run.folder), "--total-agent-steps", "128"]
    assert cli.main(words) == 2
    said = capsys.readouterr().err
    assert f"{env} cannot be trained on: its saved games are of another version (" in said
    assert said.count("\n") == 1
    assert {path: path.read_bytes() for path in run.folder.rglob("*.safetensors")} == before


def test_an_environment_that_cannot_be_gone_on_with_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train(small(tmp_path, total_agent_steps=500), quiet=True)

    def faulty(*_: object) -> None:
        raise EnvironmentFault("the environment returned a NaN observation (agent 0)")

    monkeypatch.setattr(Node, "load", faulty)
    with pytest.raises(InputError, match=r"^CartPole-v1 cannot be trained on: the environment ret"):
        train(small(tmp_path, total_agent_steps=1000), resume=run.folder, quiet=True)


def test_a_raised_policy_lag_is_what_it_says_and_survives_a_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(tmp_path, sync_every=5)
    whole = train(config, quiet=True)
    records = log.read(whole.folder / "metrics.jsonl")
    assert (
        max(record.get("policy_lag", 0) for record in records) > 1
    )  # 0 to 4 in turn, 2 on average
    with monkeypatch.context() as patch:
        stop_after(
            patch, updates=38
        )  # 38 is not a multiple of 5: the thread's copy is an older one
        part = train(config, quiet=True)
    assert equal(final(whole), final(train(config, resume=part.folder, quiet=True)))


MANY_UPDATES: dict[str, dict[str, object]] = {
    "minibatches": {"minibatches": 4},
    "epochs": {"epochs": 3},
    "corrected": {"correction": "vtrace"},
    "corrected, older policy": {"correction": "vtrace", "sync_every": 5},
    "all": {"minibatches": 2, "epochs": 2, "correction": "vtrace", "sync_every": 3},
    "all, in step": {"minibatches": 2, "epochs": 2, "correction": "vtrace", "mode": "sync"},
    "all, LSTM": {"minibatches": 2, "epochs": 2, "correction": "vtrace", "recurrent": True},
}


@pytest.mark.parametrize("options", MANY_UPDATES.values(), ids=MANY_UPDATES)
def test_many_updates_of_a_rollout_are_reproducible_and_resume_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, object]
) -> None:
    config = small(tmp_path, total_agent_steps=1000, **options)
    whole = train(config, quiet=True)
    updates = config.minibatches * config.epochs
    record = log.read(whole.folder / "metrics.jsonl")[-1]
    assert record["updates"] == updates * record["agent_steps"] / (4 * config.rollout_length)
    with monkeypatch.context() as patch:
        stop_after(patch, updates=13 * updates)
        part = train(config, quiet=True)
    assert part.agent_steps == 13 * 4 * config.rollout_length
    assert equal(final(whole), final(train(config, resume=part.folder, quiet=True)))


GROWING: dict[str, dict[str, object]] = {
    "minibatches": {},
    "epochs, corrected": {"epochs": 2, "correction": "vtrace"},
    "older policy": {"correction": "vtrace", "sync_every": 5},
    "LSTM": {"recurrent": True},
    "in step": {"mode": "sync"},
}


def growing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **options: object) -> Config:
    """Of 2 agents at first, of 4 after 16 updates (256 agent steps), of 8 after 32."""
    monkeypatch.setattr("a3c.config.GROWTH", 8)
    return small(tmp_path, num_envs=8, minibatches=4, **{"total_agent_steps": 800, **options})


def at_growth(patch: pytest.MonkeyPatch, happens: Callable[[Node], None]) -> None:
    """Let this happen as 4 agents take the place of 2."""
    made = Node.environments

    def environments(self: Node) -> Any:
        if self.current.num_envs == 4:
            happens(self)
        return made(self)

    patch.setattr(Node, "environments", environments)


@pytest.mark.parametrize("options", GROWING.values(), ids=GROWING)
def test_a_run_that_grows_is_reproducible_and_resumes_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, object]
) -> None:
    config = growing(tmp_path, monkeypatch, **options)
    whole = train(config, quiet=True)
    assert final(whole)["thread0.observations"].shape == (8, 4)
    # in each stage and as it grows; with options at the first growth and after it
    every = [(10, 2), (16, 2), (24, 4), (32, 4), (44, 8)]
    for updates, agents in every[1:3] if options else every:
        with monkeypatch.context() as patch:
            stop_after(patch, updates=updates * config.epochs)
            part = train(config, quiet=True)
        assert part.agent_steps == 16 * updates
        assert final(part)["thread0.observations"].shape == (agents, 4)  # more come as it goes on
        assert equal(final(whole), final(train(config, resume=part.folder, quiet=True)))


def test_a_run_that_cannot_grow_fails_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = growing(tmp_path, monkeypatch)
    whole = train(config, quiet=True)

    def no_room(node: Node) -> None:
        raise MemoryError("no room")

    with monkeypatch.context() as patch:
        at_growth(patch, no_room)
        with pytest.raises(RunFailed, match="MemoryError: no room") as failed:
            train(config, quiet=True)
    folder = failed.value.folder
    assert checkpoint.newest(folder).checkpoint.progress["agent_steps"] == 256
    assert equal(final(whole), final(train(config, resume=folder, quiet=True)))


def test_a_stop_while_a_run_grows_ends_it_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = growing(tmp_path, monkeypatch)
    whole = train(config, quiet=True)
    with monkeypatch.context() as patch:
        at_growth(patch, Node.stop)
        part = train(config, quiet=True)
    assert (part.agent_steps, part.finished) == (256, False)
    assert final(part)["thread0.observations"].shape == (4, 4)
    assert equal(final(whole), final(train(config, resume=part.folder, quiet=True)))


def test_a_run_of_several_nodes_has_no_fewer_agents_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = growing(tmp_path, monkeypatch)
    all_at_once = Node(replace(config, nodes=2), [torch.device("cpu")], Metrics(1))
    all_at_once.begin()
    saved = all_at_once.save()
    node = Node(config, [torch.device("cpu")], Metrics(1))
    node.load(saved, 100, 6)
    assert node.games_in_words() == "1 x 8"
    assert equal(saved, node.save())


def test_agents_that_have_gone_are_freed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = growing(tmp_path, monkeypatch)
    node = Node(config, [torch.device("cpu")], Metrics(1))
    node.begin()
    gone = weakref.ref(node.learners[0])
    node.store.agent_steps = 256
    assert node.grow()
    assert gone() is None
    node.abort()
    node.join()


def agents_of_rollouts(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The agents of each rollout that is yet to come; a record of the log has only means."""
    found: list[float] = []
    add = Metrics.add

    def watched(self: Metrics, games: list[FinishedEpisode], values: dict[str, float]) -> None:
        found.append(values["num_envs"])
        add(self, games, values)

    monkeypatch.setattr(Metrics, "add", watched)
    return found


def test_the_log_says_how_many_agents_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollouts = agents_of_rollouts(monkeypatch)
    config = growing(tmp_path, monkeypatch, log_every_seconds=0.01, num_threads=2)
    records = log.read(train(config, quiet=True).folder / "metrics.jsonl")
    assert rollouts == sorted(rollouts)
    assert set(rollouts) == {2, 4, 8}
    agents = [record["num_envs"] for record in records if "num_envs" in record]
    assert agents == sorted(agents)
    assert 2 <= agents[0] <= agents[-1] <= 8


def test_what_is_no_room_to_grow_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(_: Node) -> None:
        raise InputError("1 x 4 agents do not fit")

    config = growing(tmp_path, monkeypatch)
    at_growth(monkeypatch, none)
    with pytest.raises(RunFailed, match=r"^1 x 4 agents do not fit$") as failed:
        train(config, quiet=True)
    assert failed.value.outside  # so that there is no traceback


def test_a_run_that_grows_starts_new_games_where_they_cannot_be_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = growing(tmp_path, monkeypatch, env="CliffWalking-v1", normalize=False)
    rollouts = agents_of_rollouts(monkeypatch)
    assert train(config, quiet=True).finished
    assert set(rollouts) == {2, 4, 8}


def test_a_run_that_grows_on_atari_goes_on_with_copies_and_resumes_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("a3c.config.GROWTH", 8)
    config = preset("fast", num_threads=1, num_envs=4, minibatches=4, runs_dir=str(tmp_path))
    config = replace(config, rollout_length=5, total_agent_steps=300)
    whole = train(config, quiet=True)
    for updates in (16, 24):  # at the growth to 2, with 2
        with monkeypatch.context() as patch:
            stop_after(patch, updates=updates)
            part = train(config, quiet=True)
        assert equal(final(whole), final(train(config, resume=part.folder, quiet=True)))


@pytest.mark.parametrize("optimizer", ["rmsprop", "momentum"])
def test_the_other_optimisers_resume_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    config = small(tmp_path, total_agent_steps=1200, optimizer=optimizer)
    if optimizer == "rmsprop":
        config = replace(config, rmsprop_initial="debiased")
    whole = train(config, quiet=True)
    with monkeypatch.context() as patch:
        stop_after(patch, updates=19)
        part = train(config, quiet=True)
    assert equal(final(whole), final(train(config, resume=part.folder, quiet=True)))


def test_many_updates_on_atari_resume_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = preset("fast", num_threads=1, num_envs=4, runs_dir=str(tmp_path))
    many = {"minibatches": 2, "epochs": 2, "correction": "vtrace"}
    config = replace(config, rollout_length=5, total_agent_steps=400, **many)  # type: ignore[arg-type]  # names are checked
    whole = train(config, quiet=True)
    with monkeypatch.context() as patch:
        stop_after(patch, updates=36)
        part = train(config, quiet=True)
    assert not part.finished
    assert equal(final(whole), final(train(config, resume=part.folder, quiet=True)))


def test_in_step_two_threads_with_many_updates_are_reproducible(tmp_path: Path) -> None:
    config = small(tmp_path, mode="sync", num_threads=2, minibatches=2, correction="vtrace")
    assert equal(*(final(train(config, quiet=True)) for _ in range(2)))


def test_each_epoch_deals_every_agent_once(tmp_path: Path) -> None:
    config = small(tmp_path, num_envs=6, minibatches=3, epochs=2, grow=False)
    learner = Node(config, [torch.device("cpu")], Metrics(1)).learners[0]
    dealt = list(learner.minibatches())
    assert [new for _, new in dealt] == [True] * 3 + [False] * 3
    epochs = [
        torch.cat([g for g, n in dealt if n is new and g is not None]) for new in (True, False)
    ]
    assert [sorted(epoch.tolist()) for epoch in epochs] == [[0, 1, 2, 3, 4, 5]] * 2
    assert not torch.equal(*epochs)


def stop_after(patch: pytest.MonkeyPatch, updates: int) -> None:
    """As if Ctrl-C came during the rollout that ends with that update."""
    original = ActorLearner.cycle

    def cycle(self: ActorLearner) -> None:
        if self.store.updates == updates - self.config.minibatches * self.config.epochs:
            self.gate.stop()
        original(self)

    patch.setattr(ActorLearner, "cycle", cycle)


def games(folder: Path) -> list[float]:
    """The returns of all games of a run, in order."""
    records = log.read(folder / "metrics.jsonl")
    return [value for record in records for value in record["returns"]]


def test_the_run_folder(tmp_path: Path) -> None:
    config = small(tmp_path, checkpoint_every_seconds=0.1)
    run = train(config, quiet=True)
    assert (tmp_path / "latest").resolve() == run.folder.resolve()
    assert Config(**json.loads((run.folder / "config.json").read_text())) == config
    assert len(checkpoint.numbered(run.folder)) <= checkpoint.KEPT
    assert (checkpoint.folder(run.folder) / "best.safetensors").exists() == (run.episodes >= 100)
    assert list((run.folder / "tensorboard").glob("events.out.tfevents.*"))
    assert not list(run.folder.rglob("*.writing"))
    assert not list(run.folder.rglob("*.pt")) + list(run.folder.rglob("*.pkl"))
    records = log.read(run.folder / "metrics.jsonl")
    assert len(games(run.folder)) == run.episodes == records[-1]["episodes"]
    assert records[-1]["agent_steps"] == run.agent_steps >= config.total_agent_steps
    said = set[str]().union(*records)  # one that comes right after the first update lacks some
    assert {"entropy", "policy_lag", "lr", "gradient_norm", "seconds_environment"} <= said


def test_the_log_has_the_weight_of_the_entropy_bonus(tmp_path: Path) -> None:
    """The mean over the rollouts since the line before; the last one's are in the next line."""
    config = small(tmp_path, ent_coef=0.5, ent_final_fraction=0.0)  # linear
    records = log.read(train(config, quiet=True).folder / "metrics.jsonl")
    steps = [0, *(record["agent_steps"] for record in records)]
    shown = [
        (
            entropy_weight(config, max(0, start - 64)),
            record["ent_coef"],
            entropy_weight(config, end),
        )
        for start, end, record in zip(steps, steps[1:], records, strict=False)
        if "ent_coef" in record
    ]
    assert shown
    assert all(first >= mean > last for first, mean, last in shown)


def test_tensorboard_has_the_three_curves(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = train(small(tmp_path), quiet=True)
    events = EventAccumulator(str(run.folder / "tensorboard")).Reload()
    tags = set(events.Tags()["scalars"])
    curves = {"return/by_agent_steps", "return/by_episodes", "return/by_seconds"}
    assert curves | {"charts/episodic_return", "losses/entropy", "time/environment"} <= tags
    last = log.read(run.folder / "metrics.jsonl")[-1]
    assert events.Scalars("return/by_agent_steps")[-1].step == last["agent_steps"]
    assert events.Scalars("return/by_episodes")[-1].step == last["episodes"]


def newest_but_damaged(folder: Path, damage: Callable[[bytes], bytes]) -> Path:
    path = checkpoint.numbered(folder)[0]
    path.write_bytes(damage(path.read_bytes()))
    return path


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:-100] + bytes([data[-100] ^ 1]) + data[-99:],
        lambda data: data.replace(b'\\"gamma\\": 0.99', b'\\"gamma\\": 0.98'),
        lambda data: b"",
    ],
    ids=["cut", "bit", "header", "empty"],
)
def test_a_damaged_newest_checkpoint_is_named_and_the_previous_one_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[bytes], bytes]
) -> None:
    config = small(tmp_path, checkpoint_every_seconds=0.15, total_agent_steps=12_000)
    run = train(config, quiet=True)
    assert len(checkpoint.numbered(run.folder)) >= 2
    damaged = newest_but_damaged(run.folder, damage)
    previous = checkpoint.numbered(run.folder)[1]
    assert checkpoint.newest(run.folder).path == previous
    resumed = train(config, resume=run.folder)
    said = capsys.readouterr().out
    assert damaged.name in said
    assert f"resuming from {previous}" in said
    assert resumed.agent_steps >= config.total_agent_steps
    assert damaged.with_suffix(".damaged").exists()


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path) -> None:
    config = small(tmp_path, total_agent_steps=500)
    run = train(config, quiet=True)
    before = final(run)
    again = train(config, resume=run.folder, quiet=True)
    assert again.agent_steps == run.agent_steps
    assert equal(before, final(again))


@pytest.mark.parametrize("mode", ["async", "sync"])
def test_a_dead_thread_stops_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    before = threading.enumerate()
    original = ActorLearner.cycle

    def cycle(self: ActorLearner) -> None:
        if self.index == 1 and self.store.updates > 5:
            raise ZeroDivisionError("as if by accident")
        original(self)

    monkeypatch.setattr(ActorLearner, "cycle", cycle)
    config = small(tmp_path, mode=mode, num_threads=3, total_agent_steps=10**9)
    with pytest.raises(RunFailed, match="as if by accident") as caught:
        train(config, quiet=True)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    saved = checkpoint.newest(tmp_path / "latest").checkpoint
    assert saved.progress["updates"] > 5
    assert not [thread for thread in threading.enumerate() if thread not in before]


@pytest.mark.parametrize("mode", ["async", "sync"])
def test_threads_that_cannot_be_started_end_the_run_with_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """As where a container limits how many there may be; the others wait for none of them."""
    start, started = threading.Thread.start, list[str]()

    def limited(thread: threading.Thread) -> None:
        if "_guarded" in thread.name and len(started) == 2:
            raise RuntimeError("can't start new thread")
        if "_guarded" in thread.name:
            started.append(thread.name)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    config = small(tmp_path, mode=mode, num_threads=4, total_agent_steps=10**9)
    with pytest.raises(RunFailed, match=r"2 of 4 threads could be started: can't start") as failed:
        train(config, quiet=True)
    assert failed.value.outside
    assert len(started) == 2
    before = checkpoint.newest(failed.value.folder).checkpoint.progress["updates"]
    started.clear()
    with pytest.raises(RunFailed, match="could be started"):
        train(config, resume=failed.value.folder, quiet=True)
    assert checkpoint.newest(failed.value.folder).checkpoint.progress["updates"] >= before


def test_an_evaluator_that_cannot_be_started_ends_the_run_with_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def limited(thread: threading.Thread) -> None:
        if thread.name == "evaluator" or isinstance(thread, threading.Timer):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    config = small(tmp_path, total_agent_steps=10**9, evaluate_every=1000)
    with pytest.raises(RunFailed, match="evaluations need one more thread: can't start") as failed:
        train(config, quiet=True)
    assert failed.value.outside
    assert checkpoint.numbered(failed.value.folder)


def test_a_checkpoint_that_waits_for_an_environment_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.modules["a3c.train"], "LATE_SECONDS", 0.2)
    said, rollout = threading.Event(), Actor.rollout
    say = Terminal.say

    def note(terminal: Terminal, line: str) -> None:
        say(terminal, line)
        if "does an environment hang?" in line:
            said.set()

    def hangs(actor: Actor, *args: Any) -> Any:
        said.wait(timeout=60)
        return rollout(actor, *args)

    start = Node.start

    def begin(node: Node) -> None:
        monkeypatch.setattr(Actor, "rollout", hangs)
        start(node)

    monkeypatch.setattr(Terminal, "say", note)
    monkeypatch.setattr(Node, "start", begin)
    train(small(tmp_path, total_agent_steps=500, checkpoint_every_seconds=0.1))
    assert said.is_set()


@pytest.mark.parametrize(
    ("env", "complaint", "updates"),
    [
        ("NaN-v0", "^thread 0: the environment returned a NaN reward", 100 // 8),
        ("Huge-v0", "gradient is not finite", 100 // 8 + 1),  # one that has changed nothing
        # of which the thread, dead by then, has not heard
        ("HugeThenNaN-v0", "^thread 0: the environment returned a NaN reward", 100 // 8 + 1),
    ],
)
def test_what_nothing_can_be_learned_from_stops_the_run(
    env: str, complaint: str, updates: int, tmp_path: Path
) -> None:
    changes = {"normalize": False, "total_agent_steps": 10**9}  # else it is seen before the run
    config = small(tmp_path, env=f"tests.environments:{env}", **changes)
    with pytest.raises(RunFailed, match=complaint) as raised:
        train(config, quiet=True)
    assert raised.value.outside  # one line, and no traceback
    assert "Error" not in raised.value.line()
    saved = checkpoint.newest(tmp_path / "latest").checkpoint
    assert saved.tensors["parameters"].isfinite().all()
    assert config.rollout_length == 8
    assert saved.progress["updates"] == updates


def accident(*_: object) -> None:
    raise ZeroDivisionError("as if by accident")


def rollouts_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first one of training on: what memory they need is measured before."""
    start = Node.start

    def fail(node: Node) -> None:
        monkeypatch.setattr(Actor, "rollout", accident)
        start(node)

    monkeypatch.setattr(Node, "start", fail)


def test_the_first_thing_that_went_wrong_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not that the last checkpoint and the end of the games failed too, as on a broken device."""

    def broken(self: Node) -> None:
        raise RuntimeError("the device is broken")

    rollouts_fail(monkeypatch)
    monkeypatch.setattr(Node, "save", broken)
    monkeypatch.setattr(Node, "close", broken)
    with pytest.raises(RunFailed, match="ZeroDivisionError: as if by accident"):
        train(small(tmp_path), quiet=True)


def test_an_environment_that_cannot_be_closed_fails_the_run_with_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Node, "close", accident)
    with pytest.raises(RunFailed, match="as if by accident") as failed:
        train(small(tmp_path, total_agent_steps=500), quiet=True)
    assert checkpoint.newest(failed.value.folder).checkpoint.progress["agent_steps"] >= 500


def test_a_failure_in_the_first_rollout_leaves_the_checkpoint_its_games(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train(small(tmp_path, total_agent_steps=500), quiet=True)
    path = checkpoint.newest(run.folder).path
    before = path.read_bytes()
    rollouts_fail(monkeypatch)
    config = small(tmp_path, total_agent_steps=1000)
    with pytest.raises(RunFailed, match="as if by accident"):
        train(config, resume=run.folder, quiet=True)
    assert "thread0.observations" in checkpoint.newest(run.folder).checkpoint.tensors
    assert path.read_bytes() == before


def test_what_was_logged_outlives_a_power_cut_like_the_checkpoint_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []  # inodes: a file keeps its own where it is renamed
    fsync = os.fsync

    def noted(file: int) -> None:
        synced.append(os.fstat(file).st_ino)
        fsync(file)

    monkeypatch.setattr(os, "fsync", noted)
    run = train(small(tmp_path, total_agent_steps=200), quiet=True)
    saved, logged = checkpoint.newest(run.folder).path, run.folder / "metrics.jsonl"
    at = [synced.index(path.stat().st_ino) for path in (logged, saved)]
    assert at == sorted(at)


@pytest.mark.parametrize("at", ["flush", "close"])
def test_a_run_outlives_its_tensorboard_files(
    at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody removes their folder, for instance: the writer fails from then on."""

    def gone(*_: object) -> None:
        raise FileNotFoundError("events.out.tfevents")

    monkeypatch.setattr(f"torch.utils.tensorboard.SummaryWriter.{at}", gone)
    run = train(small(tmp_path), quiet=True)
    assert run.finished
    errors = capsys.readouterr().err
    assert errors == (
        f"{run.folder / 'tensorboard'} cannot be written: events.out.tfevents; "
        "its curves end here\n"
    )


def test_ruined_parameters_never_replace_a_good_checkpoint(tmp_path: Path) -> None:
    config = small(tmp_path, total_agent_steps=1000)
    run = train(config, quiet=True)
    good = checkpoint.numbered(run.folder)
    saved = checkpoint.newest(run.folder).checkpoint
    saved.tensors["parameters"][0] = float("inf")
    saved.progress["agent_steps"] = 10
    assert good
    for path in good:
        path.unlink()
    checkpoint.save_into(run.folder, saved)
    before = [path.read_bytes() for path in checkpoint.numbered(run.folder)]
    with pytest.raises(RunFailed, match="not finite"):
        train(config, resume=run.folder, quiet=True)
    assert [path.read_bytes() for path in checkpoint.numbered(run.folder)] == before


def wait_for_checkpoint(runs: Path, process: "subprocess.Popen[str]") -> Path:
    """The folder of a run that has written a checkpoint."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if checkpoint.numbered(runs / "latest"):
            return (runs / "latest").resolve()
        time.sleep(0.05)
    process.kill()
    raise AssertionError(process.communicate())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupting_saves_and_says_how_to_go_on(
    tmp_path: Path, start_process: StartProcess, number: int
) -> None:
    process = start_process(
        *("train", "CartPole-v1", *FOR_EVER, "--runs-dir", str(tmp_path)),
        *("--checkpoint-every-seconds", "0.5", "--log-every-seconds", "0.2"),
    )
    folder = wait_for_checkpoint(tmp_path, process)
    process.send_signal(number)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert out.splitlines()[-1].startswith("go on: a3c train --resume ")
    last = log.read(folder / "metrics.jsonl")[-1]
    saved = checkpoint.newest(folder).checkpoint.progress
    assert saved["agent_steps"] == last["agent_steps"]


def test_a_crash_ends_with_its_traceback_and_exit_code_1(
    tmp_path: Path, start_process: StartProcess
) -> None:
    process = start_process(
        *("train", "tests.environments:Crashing-v0", "--no-normalize"),
        *("--runs-dir", str(tmp_path)),
    )
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "in step" in errors
    assert "RuntimeError: the environment fell over" in errors
    last = errors.splitlines()[-1]
    assert last.startswith("a3c: the run stopped: RuntimeError")
    assert "; the last checkpoint, at " in last


def test_a_full_disk_stops_the_run_and_the_last_checkpoint_stands(
    tmp_path: Path, start_process: StartProcess
) -> None:
    import resource

    process = start_process(
        *("train", "CartPole-v1", "--runs-dir", str(tmp_path)),
        *("--checkpoint-every-seconds", "0.5", "--total-agent-steps", "100000000"),
    )
    folder = wait_for_checkpoint(tmp_path, process)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    before = checkpoint.newest(folder).path
    size = before.stat().st_size

    def no_room() -> None:  # no file may grow beyond half a checkpoint: the same OSError
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, size // 2))

    process = start_process(
        *("train", "--resume", str(folder), "--checkpoint-every-seconds", "0.5"),
        preexec_fn=no_room,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1, errors
    assert errors.startswith("a3c: the run stopped: ")
    assert errors.count("\n") == 1  # no fault of the program, so no traceback
    assert "File too large" in errors
    agent_steps = int(before.stem)
    assert f"the last checkpoint, at {agent_steps:,} agent steps, stands; go on: " in errors
    assert checkpoint.newest(folder).path == before
    assert not list(folder.rglob("*.writing"))


def test_what_fails_while_threads_end_is_not_told_in_place_of_what_ended_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cluster's server may die on a full disk, and its nodes' end is waited for all the same."""

    def fails(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    join = Node.join

    def join_and_fail(self: Node) -> None:
        join(self)
        raise InputError("cannot write metrics.jsonl: No space left on device")

    monkeypatch.setattr(log.Log, "write", fails)
    monkeypatch.setattr(Node, "join", join_and_fail)
    before = threading.enumerate()
    with pytest.raises(RunFailed) as caught:
        train(small(tmp_path, total_agent_steps=10**9, log_every_seconds=0.1), quiet=True)
    assert isinstance(caught.value.__cause__, OSError)
    assert [thread for thread in threading.enumerate() if thread not in before] == []


def test_a_run_whose_folder_cannot_be_locked_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def refused(folder: Path) -> Iterator[list[str]]:
        raise InputError(f"cannot write to {folder}: No space left on device")
        yield

    monkeypatch.setattr(sys.modules["a3c.train"], "locked", refused)
    with pytest.raises(InputError, match="No space left"):
        train(small(tmp_path), quiet=True)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_before_the_first_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "somewhere")

    monkeypatch.setattr(checkpoint, "save", full)
    words = ["train", "CartPole-v1", "--total-agent-steps=500", f"--runs-dir={tmp_path}"]
    assert cli.main(words) == 1
    errors = capsys.readouterr().err
    (folder,) = tmp_path.iterdir()  # and no link to a run that cannot be resumed
    assert errors == (
        "a3c: the run stopped: [Errno 28] No space left on device: 'somewhere'; "
        f"{folder} has no checkpoint to go on from\n"
    )


def test_the_first_checkpoint_comes_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # not by its dotted name: a3c.train is the function
    monkeypatch.setattr(sys.modules["a3c.train"], "FIRST_CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(checkpoint, "KEPT", 99)
    slowly(monkeypatch)
    run = train(small(tmp_path), quiet=True)  # 1000 seconds between two
    last, first = checkpoint.numbered(run.folder)  # and no third one
    assert int(first.stem) < int(last.stem) == run.agent_steps


def test_records_and_checkpoints_come_at_their_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks does so five times a second; both begin with an interval of their own."""
    clock, written = [0.0], []

    def goes_on(seconds: float) -> bool:
        clock[0] += seconds
        return clock[0] < 61

    training = object.__new__(Training)
    training.config = preset("fast", log_every_seconds=10.0, checkpoint_every_seconds=20.0)
    training.node, training.terminal, training.evaluation = Mock(), Mock(), Mock()
    training.node.goes_on, training.node.newcomers = Mock(side_effect=goes_on), list
    training.store = Mock(agent_steps=0)
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    monkeypatch.setattr(training, "_write_record", lambda: written.append(("log", clock[0])))
    monkeypatch.setattr(training, "save", lambda: written.append(("save", clock[0])))
    training._watch()
    records, saves = ([at for what, at in written if what == each] for each in ("log", "save"))
    assert records == pytest.approx([10, 20, 30, 40, 50, 60], abs=1.3)
    assert saves == pytest.approx([5, 25, 45], abs=0.7)
    looks = training.node.goes_on.call_count - 1  # the last one finds the end
    assert looks > 300
    assert training.terminal.refresh.call_count == training.evaluation.note.call_count == looks


def test_what_an_environment_cannot_read_is_a_fault_of_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not the system's, as where the run's own files cannot be written: it has a traceback."""

    def cycle(learner: ActorLearner) -> None:
        raise FileNotFoundError("no map")

    monkeypatch.setattr(ActorLearner, "cycle", cycle)
    with pytest.raises(RunFailed, match="FileNotFoundError: no map") as raised:
        train(small(tmp_path), quiet=True)
    assert not raised.value.outside


def test_a_thread_has_no_second_pool_of_threads(tmp_path: Path) -> None:
    assert torch.get_num_threads() == 1  # of the tests
    torch.set_num_threads(2)
    try:
        train(small(tmp_path, total_agent_steps=64), quiet=True)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(1)


def test_what_comes_before_the_first_agent_step_is_no_training_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = Node.begin

    def slow(node: Node) -> None:
        node.metrics.start -= 1000
        begin(node)

    monkeypatch.setattr(Node, "begin", slow)
    run = train(small(tmp_path, total_agent_steps=64), quiet=True)
    assert log.read(run.folder / "metrics.jsonl")[-1]["seconds"] < 1000


def test_what_cannot_begin_leaves_no_environment_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a study many runs are made in one process."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    counts = {"__init__": 0, "close": 0}
    for name in counts:
        method = getattr(GymnasiumEnvs, name)

        def counted(*words: Any, name: str = name, method: Any = method) -> None:
            counts[name] += 1
            method(*words)

        monkeypatch.setattr(GymnasiumEnvs, name, counted)
    refused = Mock(side_effect=InputError("no such place"))
    monkeypatch.setattr(sys.modules[train.__module__], "create_run_folder", refused)
    config = small(tmp_path, num_threads=2, evaluate_every=1000, evaluate_episodes=2)
    with pytest.raises(InputError, match="no such place"):
        train(config, quiet=True)
    assert counts["close"] == counts["__init__"] > 2
    assert not torch.backends.cudnn.allow_tf32  # from here on float32 is float32


class Counted(CartPoleEnv):
    """Environments that count how many of them are open; with so many, none is made or reset."""

    open = 0
    fails_at: tuple[str, int] = ("", 0)

    def __init__(self, **words: Any):
        self.fail("make")
        super().__init__(**words)
        Counted.open += 1

    def fail(self, what: str) -> None:
        if Counted.fails_at == (what, Counted.open):
            raise RuntimeError(f"cannot {what}")

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.fail("reset")
        return super().reset(seed=seed, options=options)

    def close(self) -> None:
        Counted.open -= 1
        super().close()


@pytest.fixture
def counted_env(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of that environment, of which none is open yet; in the end none may be."""
    monkeypatch.setattr(Counted, "open", 0)
    gymnasium.register("Counted-v0", Counted)
    yield "Counted-v0"
    gymnasium.registry.pop("Counted-v0")
    assert Counted.open == 0


@pytest.mark.parametrize("fails_at", [("make", 3), ("make", 5), ("make", 9), ("reset", 10)])
def test_what_fails_before_it_begins_leaves_no_environment_open(
    fails_at: tuple[str, int], tmp_path: Path, counted_env: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One may have threads, or programs, that keep a process alive: of a thread's, of another
    thread's, of the evaluator's, or where the first agent acts."""
    monkeypatch.setattr(Counted, "fails_at", fails_at)
    config = small(
        tmp_path, env=counted_env, num_threads=2, evaluate_every=1000, evaluate_episodes=2
    )
    with pytest.raises(RuntimeError, match=f"cannot {fails_at[0]}"):
        train(config, quiet=True)


def test_a_run_that_grows_closes_the_environments_that_it_had(
    tmp_path: Path, counted_env: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = []
    at_growth(monkeypatch, lambda node: most.append(Counted.open))
    config = growing(tmp_path, monkeypatch, env=counted_env, normalize=False)
    assert train(config, quiet=True).finished
    assert most == [0]


def test_a_second_ctrl_c_as_the_logs_are_opened_leaves_nothing(
    tmp_path: Path, counted_env: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder without a checkpoint could not be resumed."""

    def second(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["a3c.train"], "Log", second)
    with pytest.raises(KeyboardInterrupt):
        train(small(tmp_path, env=counted_env), quiet=True)
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []


def test_a_run_that_cannot_grow_closes_the_environments_that_it_has_not_used(
    tmp_path: Path, counted_env: str, monkeypatch: pytest.MonkeyPatch
) -> None:

    def no_room(node: Node, index: int, envs: Envs) -> None:
        raise InputError("no room")

    at_growth(monkeypatch, lambda node: monkeypatch.setattr(Node, "learner", no_room))
    with pytest.raises(RunFailed, match="no room"):
        train(growing(tmp_path, monkeypatch, env=counted_env, normalize=False), quiet=True)


def test_two_processes_in_one_folder(tmp_path: Path, start_process: StartProcess) -> None:
    """The second is told by whom the folder is used; the first loses nothing."""
    words = ("train", "CartPole-v1", *FOR_EVER, "--runs-dir", str(tmp_path))
    first = start_process(*words, "--checkpoint-every-seconds", "0.5")
    folder = wait_for_checkpoint(tmp_path, first)
    second = start_process("train", "--resume", str(tmp_path / "latest"))
    out, errors = second.communicate(timeout=60)
    assert second.returncode == 2
    assert out == ""
    assert errors.startswith(f"a3c: {folder} is in use by process {first.pid} on ")
    assert errors.count("\n") == 1
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=60)
    assert first.returncode == 0


def test_an_infinite_reward_is_the_environments_fault_also_where_it_is_clipped(
    tmp_path: Path,
) -> None:
    """Its sign could be learned from, but no return or mean of such a run says anything."""
    changes = {"clip_rewards": True, "normalize": False}
    config = small(tmp_path, env="tests.environments:Infinite-v0", **changes)
    with pytest.raises(RunFailed, match="the environment returned an infinite reward"):
        train(config, quiet=True)
    for line in (tmp_path / "latest" / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)


def test_the_paper_preset_sums_over_the_rollout(tmp_path: Path) -> None:
    """The paper's gradient is the sum over a rollout: T N times the mean's."""
    norms = {}
    for reduction in ("sum", "mean"):
        config = replace(
            preset("paper", num_threads=1, total_agent_steps=5, runs_dir=str(tmp_path)),
            loss_reduction=reduction,
        )
        folder = train(config, quiet=True).folder
        norms[reduction] = log.read(folder / "metrics.jsonl")[-1]["gradient_norm"]
    assert preset("paper").loss_reduction == "sum"
    assert norms["sum"] == pytest.approx(5 * norms["mean"], rel=1e-3)


def test_a_network_for_other_observations_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="mlp reads vectors"):
        train(preset("fast", network="mlp", runs_dir=str(tmp_path / "runs"), num_envs=1))
    with pytest.raises(InputError, match="reads images"):
        train(small(tmp_path / "runs", network="nature"))
    assert not (tmp_path / "runs").exists()


def test_async_threads_share_one_network(tmp_path: Path) -> None:
    run = train(small(tmp_path, num_threads=4, total_agent_steps=8000), quiet=True)
    saved = checkpoint.newest(run.folder).checkpoint
    records = log.read(run.folder / "metrics.jsonl")
    updates = saved.progress["updates"]
    assert updates * 4 * saved.config.rollout_length == run.agent_steps
    assert max(record.get("policy_lag", 0) for record in records) > 0
    start = Network(saved.config, saved.spec, make_method(saved.config))
    assert sum(p.numel() for p in start.parameters()) == saved.tensors["parameters"].numel()


def test_a_terminated_episodes_rewards_do_not_go_on(tmp_path: Path) -> None:
    """In the sums by whose deviation rewards are divided: each of these is 2."""
    node = Node(small(tmp_path, normalize=True), [torch.device("cpu")], Metrics(1))
    network, seen = node.learners[0].network, np.zeros((1, 4), np.float32)
    steps = [step([2], terminated=[True], observations=seen)] * 500
    envs = OnDevice(Scripted(steps), torch.device("cpu"))
    assert network.moments is not None
    assert network.return_std is not None
    measure_moments(node.learners[0], network.moments, network.return_std, envs)
    assert network.return_std.item() == 1
    node.close()
