"""Evaluation while training: what is played, when, what comes of it, and how it ends."""

import errno
import json
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch

from a3c import cli, evaluator
from a3c.acting import Actor
from a3c.actor_learner import seed_of
from a3c.config import Config
from a3c.envs.protocol import EnvironmentFault
from a3c.evaluation import MANY_WAITING, Evaluation
from a3c.evaluator import EVALUATION, SCORING, Evaluated, Evaluator, Snapshot
from a3c.games import GREEDY_EPSILON, Episode
from a3c.metrics import Metrics
from a3c.node import Node
from a3c.optimiser import Piece
from a3c.presets import preset
from a3c.results.policy import load
from a3c.run import best, checkpoint, log
from a3c.run.checkpoint import Checkpoint
from a3c.run.folder import Run
from a3c.run.log import Log
from a3c.run.terminal import Terminal
from a3c.shared import SharedParameters
from a3c.train import RunFailed, Training, train
from tests.a3c.test_checkpoint import example
from tests.a3c.test_train import equal, final, games, small, stop_after
from tests.playable import Playable, registered
from tests.scripted import update

CPU = torch.device("cpu")


def evaluated(tmp_path: Path, **changes: Any) -> Config:
    """A run of a second with an evaluation at every quarter of it."""
    often = {"total_agent_steps": 1920, "evaluate_every": 480, "evaluate_episodes": 2}
    return small(tmp_path, **{**often, **changes})


def evaluator_of(config: Config) -> tuple[Node, Evaluator]:
    """A node, and an evaluator of it whose thread has not begun."""
    node = Node(config, [CPU], Metrics(1))
    return node, Evaluator(config, node.network(CPU), CPU, node.store, node.metrics)


def noting_in(folder: Path, config: Config, node: Node, games: Evaluator) -> tuple[Log, Evaluation]:
    """What writes an evaluator's records down there."""
    terminal, records = Terminal(config, node.metrics, True), Log(folder, 0)
    return records, Evaluation(games, node.spec, folder, records, terminal)


def records(run: Run) -> list[dict[str, Any]]:
    """The run's evaluations without what a clock says."""
    found = log.read_evaluations(run.folder)
    return [{k: v for k, v in record.items() if "seconds" not in k} for record in found]


def learned(run: Run) -> dict[str, torch.Tensor]:
    """All tensors of the last checkpoint but the copies that were still to be evaluated."""
    return {k: v for k, v in final(run).items() if not k.startswith("evaluation")}


def with_the_best_of_all(run: Run) -> Checkpoint:
    """The run's best policy, whose evaluation nothing later will reach."""
    chosen = best.load(run.folder)
    assert chosen is not None
    record = {**chosen.progress["evaluation"], "sampled_return": 1e6}
    best.save(run.folder, chosen._replace(progress={**chosen.progress, "evaluation": record}))
    return chosen


def steps(run: Run) -> list[int]:
    return [record["agent_steps"] for record in records(run)]


@pytest.mark.parametrize("mode", ["async", "sync"])
@pytest.mark.parametrize("recurrent", [False, True])
def test_learning_does_not_depend_on_it_and_it_is_reproducible(
    tmp_path: Path, mode: str, recurrent: bool
) -> None:
    env = registered(Playable)  # whose games are short
    config = evaluated(tmp_path, env=env, mode=mode, recurrent=recurrent)
    one, other = (train(config, quiet=True) for _ in range(2))
    without = train(replace(config, evaluate_every="never"), quiet=True)
    assert equal(learned(one), final(without))
    assert games(one.folder) == games(without.folder)
    assert records(one) == records(other)
    assert steps(one) == [480, 960, 1440, 1920]
    assert not (without.folder / "evaluations.jsonl").exists()


def test_on_atari_as_well(tmp_path: Path) -> None:
    """Games of at most 50 agent steps."""
    options = {"env": "pong", "num_threads": 1, "num_envs": 2, "total_agent_steps": 200}
    config = preset("fast", **options, max_episode_frames=200, runs_dir=str(tmp_path))
    config = replace(config, evaluate_every=100, evaluate_episodes=2)
    one, other = (train(config, quiet=True) for _ in range(2))
    without = train(replace(config, evaluate_every="never"), quiet=True)
    assert equal(learned(one), final(without))
    assert records(one) == records(other)
    assert [record["sampled_lengths"] for record in records(one)] == [[50, 50]] * 2
    by_ale = train(replace(config, emulator="ale"), quiet=True)
    assert records(by_ale) == records(one)
    seconds = [set(log.read_evaluations(run.folder)[0]) for run in (one, by_ale)]
    assert seconds[0] - seconds[1] == {"evaluation_cpu_seconds"}  # ale-py plays in other threads


def test_sync_with_two_threads_evaluates_reproducibly(tmp_path: Path) -> None:
    config = evaluated(tmp_path, mode="sync", num_threads=2)
    one, other = (train(config, quiet=True) for _ in range(2))
    assert steps(one) == [512, 960, 1472, 1920]  # the updates of 64 that reach a multiple
    assert records(one) == records(other)


def test_a_snapshot_has_the_parameters_of_exactly_one_update() -> None:
    threads, rounds, size = 4, 100, 500
    # each update moves every parameter by -1 exactly, see test_shared.py
    free = {
        "rmsprop_decay": 0.0,
        "rmsprop_eps": 1e-20,
        "rmsprop_initial": 0.0,
        "max_grad_norm": 1e9,
    }
    config = preset("fast", num_threads=threads, lr=1.0, lr_schedule="constant", **free)
    store = SharedParameters(torch.zeros(size), [Piece(size)], config)
    seen: list[tuple[int, int, torch.Tensor]] = []
    store.in_update = lambda before: seen.append((before, store.updates, store.parameters.clone()))

    def hammer(thread: int) -> None:
        local = torch.empty(size)
        for _ in range(rounds):
            store.copy_to(local)
            update(store, torch.ones(size), 7, thread)

    workers = [threading.Thread(target=hammer, args=[index]) for index in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [updates for _, updates, _ in seen] == list(range(1, threads * rounds + 1))
    assert all(before == 7 * (updates - 1) for before, updates, _ in seen)
    assert all(bool((parameters == -updates).all()) for _, updates, parameters in seen)


def test_the_end_of_the_run_is_evaluated_whatever_the_interval(tmp_path: Path) -> None:
    run = train(evaluated(tmp_path, evaluate_every=10**9), quiet=True)
    assert steps(run) == [run.agent_steps]
    parameters = best.load(run.folder)
    assert parameters is not None
    assert torch.equal(parameters.tensors["parameters"], final(run)["parameters"])


def test_returns_are_of_whole_games_and_not_clipped(tmp_path: Path) -> None:
    """Rewards of 0 to 1, of which the optimiser sees the sign alone."""
    run = train(evaluated(tmp_path, env=registered(Playable), clip_rewards=True), quiet=True)
    assert records(run)
    for record in records(run):
        assert record["sampled_lengths"] == record["greedy_lengths"] == [Playable.length] * 2
        returns = record["sampled_returns"]
        assert all(value % 1 for value in returns)
        assert record["sampled_return"] == pytest.approx(sum(returns) / 2)
        assert record["sampled_cut"] == record["greedy_cut"] == 0


def test_seeds_are_apart(tmp_path: Path) -> None:
    config = evaluated(tmp_path)
    training = {
        seed_of(replace(config, seed=seed), thread, updates)
        for seed in (1, 2)
        for thread in range(9)
        for updates in range(99)
    }
    playing = [
        evaluator.evaluation_seed(replace(config, seed=seed), agent_steps, purpose)
        for seed in (1, 2)
        for agent_steps in (0, 1, 1000, 2**32 + 1000)
        for purpose in (EVALUATION, SCORING)
    ]
    assert len(training) == 2 * 9 * 99
    assert len(set(playing)) == len(playing)
    assert not training & set(playing)
    assert max(training) < 2**30
    assert max(playing) < 2**30


def held_until_the_end(patch: pytest.MonkeyPatch, let: threading.Event) -> None:
    """No evaluation begins before `let` is set."""
    original = Evaluator._evaluate

    def evaluate(self: Evaluator, snapshot: Snapshot) -> dict[str, Any] | None:
        while not (let.wait(0.01) or self.stopped):
            pass
        return original(self, snapshot)

    patch.setattr(Evaluator, "_evaluate", evaluate)


def let_at_the_end(patch: pytest.MonkeyPatch, let: threading.Event) -> None:
    """When nothing more will come."""
    original = Evaluation.finish

    def finish(self: Evaluation, complete: bool) -> None:
        assert (checkpoint.folder(self.folder) / "000000001920.safetensors").exists()
        self.note()  # as the main thread does five times a second
        let.set()
        original(self, complete)

    patch.setattr(Evaluation, "finish", finish)


def test_a_finished_run_that_is_to_be_evaluated_is_so_at_its_end(tmp_path: Path) -> None:
    """Once, with nothing more to learn; then it is finished in this too."""
    config = replace(evaluated(tmp_path), evaluate_every="never")
    run = train(config, quiet=True)
    before = checkpoint.newest(run.folder).checkpoint
    now = replace(config, evaluate_every=100)
    resumed = train(now, resume=run.folder, quiet=True)
    assert steps(resumed) == [run.agent_steps]
    assert resumed.best is not None
    after = checkpoint.newest(run.folder).checkpoint
    assert after.config == now
    assert torch.equal(after.tensors["parameters"], before.tensors["parameters"])
    assert train(now, resume=run.folder, quiet=True).best == resumed.best
    assert steps(resumed) == [run.agent_steps]


def test_a_rolled_back_run_knows_the_evaluations_that_failed_before() -> None:
    found = object.__new__(Evaluator)
    found.rolled_back, found.failed = [], [1000, 2000, 3000]
    found.roll_back(2000)
    assert found.failed == [1000, 2000]


def test_what_evaluations_cost_is_said_by_the_clock_and_by_the_processor() -> None:
    noting = object.__new__(Evaluation)
    noting.terminal = Mock()
    noting.log = Mock(evaluations=[{"evaluation_seconds": 3.0, "evaluation_cpu_seconds": 1.0}])
    noting._say_cost()
    words = "1 evaluation took 3.0 s, 1.0 s of it on a processor core"
    noting.terminal.say.assert_called_once_with(words)


def test_a_record_says_how_many_games_were_cut() -> None:
    games_of_two = [Episode(0, cut=True), Episode(1)]
    assert evaluator.figures_of("greedy", games_of_two)["greedy_cut"] == 1


def test_what_a_rolled_back_run_had_beyond_is_not_evaluated(tmp_path: Path) -> None:
    config = evaluated(tmp_path)
    node = Node(config, [torch.device("cpu")], Metrics(1))
    evaluator = Evaluator(config, node.network(node.device), node.device, node.store, node.metrics)
    played: list[int] = []

    def evaluate(snapshot: Snapshot) -> dict[str, Any]:
        played.append(snapshot.agent_steps)
        if len(played) == 2:  # while that of 2,000 is played
            evaluator.roll_back(1500)
            node.store.agent_steps = 2000
            evaluator.copy()
            evaluator.finish()
        return {"agent_steps": snapshot.agent_steps}

    evaluator._evaluate = evaluate  # type: ignore[method-assign]
    for node.store.agent_steps in (1000, 2000, 3000):
        evaluator.copy()
    evaluator._run()
    assert played == [1000, 2000, 2000]  # the second one is of the run that goes on
    taken = [each.snapshot for each in evaluator.take()]
    assert [(each.agent_steps, each.life) for each in taken] == [(1000, 0), (2000, 1)]
    evaluator.close()


def test_what_comes_faster_than_it_can_be_played_waits_and_is_played_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = evaluated(tmp_path)
    expected = records(train(config, quiet=True))
    let = threading.Event()
    held_until_the_end(monkeypatch, let)
    let_at_the_end(monkeypatch, let)
    run = train(config)
    assert records(run) == expected
    said = capsys.readouterr().out
    assert "still to be played: 3 evaluations" in said
    assert said.count("evaluation sampled ") >= 4
    assert "\n4 evaluations took " in said


def test_a_long_queue_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    let = threading.Event()
    held_until_the_end(monkeypatch, let)
    let_at_the_end(monkeypatch, let)
    train(evaluated(tmp_path, evaluate_every=60, evaluate_episodes=1))
    said = capsys.readouterr().out
    assert said.count("--evaluate-every") == 1
    assert int(said.split(" evaluations wait, each")[0].split()[-1]) >= MANY_WAITING


def test_what_waits_at_an_interrupt_is_played_by_the_resumed_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = evaluated(tmp_path)
    whole = train(config, quiet=True)
    with monkeypatch.context() as patch:
        held_until_the_end(patch, threading.Event())
        stop_after(patch, updates=34)  # 1088 agent steps
        part = train(config)
    assert not part.finished
    left = "evaluations left for when it goes on, at agent steps: 480, 960"
    assert left in capsys.readouterr().out
    assert records(part) == []
    resumed = train(config, resume=part.folder, quiet=True)
    assert records(resumed) == records(whole)
    assert equal(learned(whole), learned(resumed))
    assert resumed.best is not None
    assert whole.best is not None
    assert resumed.best["returns"] == whole.best["returns"]


@pytest.mark.parametrize("written", [0, 1, 2])
def test_what_waits_as_the_process_is_killed_is_played_by_the_resumed_run(
    written: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the last checkpoint two of them wait. After that `written` were played and written down,
    and that also stands: nothing is played twice."""
    config = evaluated(tmp_path)
    whole = train(config, quiet=True)
    with monkeypatch.context() as patch:
        held_until_the_end(patch, threading.Event())
        stop_after(patch, updates=34)
        part = train(config, quiet=True)
    lines = (whole.folder / "evaluations.jsonl").read_text().splitlines(keepends=True)
    (part.folder / "evaluations.jsonl").write_text("".join(lines[:written]))
    played, evaluate = list[int](), Evaluator._evaluate

    def noted(self: Evaluator, snapshot: Snapshot) -> dict[str, Any] | None:
        played.append(snapshot.agent_steps)
        return evaluate(self, snapshot)

    monkeypatch.setattr(Evaluator, "_evaluate", noted)
    resumed = train(config, resume=part.folder, quiet=True)
    assert played == [480, 960, 1440, 1920][written:]
    assert records(resumed) == records(whole)


def test_what_has_been_written_down_is_in_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor what a cluster's run has lost; and what has failed is not tried again."""
    found, node = evaluator_in(tmp_path)
    store = node.store
    for store.agent_steps, store.updates in ((1000, 1), (2000, 2), (3000, 3)):
        found.copy()
    found.roll_back(2500)
    store.updates = 2
    facts, tensors = found.save()
    assert [each["agent_steps"] for each in facts] == [1000, 2000]
    assert list(tensors) == ["evaluation.1000"]  # the other is the checkpoint's `parameters`
    failing = iter((False, True))

    def evaluate(snapshot: Snapshot) -> dict[str, Any]:
        if next(failing):
            raise RuntimeError("by chance")
        return {"agent_steps": snapshot.agent_steps}

    monkeypatch.setattr(found, "_evaluate", evaluate)
    with pytest.raises(RuntimeError, match="by chance"):
        found._run()
    assert [each["agent_steps"] for each in found.save()[0]] == [1000]
    for each in found.take():
        assert each.snapshot.agent_steps == 1000
        assert len(found.save()[0]) == 1  # who asked has not written it yet
    assert found.save() == ([], {})
    found.close()


def test_an_interrupt_while_the_last_ones_are_played(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run is complete; nothing is waited for, and no score is printed. Resumed, it makes up for
    them and for the score."""
    config = evaluated(tmp_path)
    original = Evaluation.finish
    trainings: list[Training] = []

    def open_(self: Training, *args: Any) -> None:
        trainings.append(self)
        open_as_ever(self, *args)

    def finish(self: Evaluation, complete: bool) -> None:
        assert complete
        threading.Timer(0.3, trainings[0].stop).start()
        original(self, complete)

    open_as_ever = Training.open
    with monkeypatch.context() as patch:
        held_until_the_end(patch, threading.Event())
        patch.setattr(Training, "open", open_)
        patch.setattr(Evaluation, "finish", finish)
        run = train(config)
    assert (run.finished, run.interrupted, run.best) == (True, True, None)
    left = "evaluations left for when it goes on, at agent steps: 480, 960, 1,440, 1,920"
    said = capsys.readouterr().out
    assert left in said
    assert f"go on: a3c train --resume {run.folder}" in said.replace("'", "")
    path = checkpoint.newest(run.folder).path
    before, tensors = path.read_bytes(), final(run)
    resumed = train(config, resume=run.folder)
    assert steps(resumed) == [480, 960, 1440, 1920]
    assert checkpoint.newest(run.folder).path == path
    assert equal(final(resumed), tensors)
    assert path.read_bytes() == before  # the same model: what was played with it stays its own
    assert resumed.best is not None
    best_steps = f"{resumed.best['agent_steps']:,}"
    assert "already finished" not in capsys.readouterr().out
    again = train(config, resume=run.folder)
    said = capsys.readouterr().out
    assert "already finished" in said
    assert again.best == resumed.best
    assert f"best policy, of agent step {best_steps}: " in said
    (run.folder / "best.json").write_text('{"mean": 3}')  # what somebody made of it
    anew = train(config, resume=run.folder, quiet=True).best
    assert anew is not None
    assert anew["returns"] == resumed.best["returns"]


def test_a_best_that_is_not_the_highest_is_not_called_that(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the file of the best was damaged; but not where it is there, and its record is not."""
    run = train(evaluated(tmp_path, total_agent_steps=960))
    with_the_best_of_all(run)
    train(evaluated(tmp_path, total_agent_steps=1440), resume=run.folder)
    assert "scoring the best of 3 evaluations" in capsys.readouterr().out
    path = run.folder / log.EVALUATIONS
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[0]["sampled_return"] = 1e6
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    best.path_of(run.folder).write_bytes(b"")
    train(evaluated(tmp_path, total_agent_steps=1920), resume=run.folder)
    assert "scoring the best that is left of 4 evaluations" in capsys.readouterr().out


def test_an_interrupt_while_the_best_is_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = evaluated(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Evaluator, "score", lambda *_: None)
        run = train(config, quiet=True)
    before = records(run)
    assert len(before) == 4
    assert run.best is None
    resumed = train(config, resume=run.folder, quiet=True)
    assert records(resumed) == before
    assert resumed.best is not None
    assert (run.folder / "best.json").exists()


def test_a_best_by_training_has_no_score_of_another(tmp_path: Path) -> None:
    """As of a run that is resumed with `--evaluate-every never`."""
    run = train(evaluated(tmp_path), quiet=True)
    assert (run.folder / "best.json").exists()
    saved = checkpoint.newest(run.folder).checkpoint
    means = dict.fromkeys(("mean_return_100", "best_mean_return_100"), 400.0)
    config = replace(saved.config, evaluate_every="never")
    later = saved._replace(config=config, progress={**saved.progress, **means})
    checkpoint.save_into(run.folder, later)
    assert checkpoint.load(best.path_of(run.folder)).progress["mean_return_100"] == 400
    assert not (run.folder / "best.json").exists()


def test_evaluations_after_the_checkpoint_are_dropped_and_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = evaluated(tmp_path)
    whole = train(config, quiet=True)
    with monkeypatch.context() as patch:
        stop_after(patch, updates=34)
        patch.setattr(Evaluator, "stop", lambda self: None)  # what waits is played all the same
        part = train(config, quiet=True)
    path = part.folder / "evaluations.jsonl"
    assert records(part) == records(whole)[:2]
    later = json.dumps({**log.read_evaluations(whole.folder)[-1], "agent_steps": 1120})
    path.write_text(path.read_text() + later + "\n")
    resumed = train(config, resume=part.folder, quiet=True)
    assert records(resumed) == records(whole)
    assert resumed.best is not None
    assert whole.best is not None
    assert resumed.best["returns"] == whole.best["returns"]


@pytest.mark.parametrize("mode", ["async", "sync"])
def test_a_failure_in_it_stops_the_run_and_loses_no_game(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rollouts that are under way when it fails are learned from."""
    before = threading.enumerate()
    failing, halted = threading.Event(), threading.Event()
    rollout, halt = Actor.rollout, Training.halt

    def fails(*_: object) -> None:
        failing.set()
        raise ZeroDivisionError("as if by accident")

    def rollout_until_then(*words: Any) -> Any:
        happened = rollout(*words)
        if failing.is_set():
            halted.wait(10)
        return happened

    def halt_and_say(training: Training) -> None:
        halt(training)
        halted.set()

    monkeypatch.setattr(evaluator, "play_episodes", fails)
    monkeypatch.setattr(Actor, "rollout", rollout_until_then)
    monkeypatch.setattr(Training, "halt", halt_and_say)
    with pytest.raises(RunFailed, match="ZeroDivisionError: as if by accident") as caught:
        train(evaluated(tmp_path, mode=mode, num_threads=2, total_agent_steps=10**9), quiet=True)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert not caught.value.outside
    saved = checkpoint.newest(tmp_path / "latest").checkpoint
    assert saved.progress["agent_steps"] >= 480
    assert {"thread0.observations", "thread1.observations"} < set(saved.tensors)
    assert not [thread for thread in threading.enumerate() if thread not in before]


@pytest.mark.parametrize("at", [960, 1920])
def test_what_failed_as_the_run_ended_is_not_played_by_the_resumed_run(
    at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would fail again each time, and no run would ever be complete."""
    let, evaluate = threading.Event(), Evaluator._evaluate

    def fails(self: Evaluator, snapshot: Snapshot) -> dict[str, Any] | None:
        if snapshot.agent_steps == at:
            raise ZeroDivisionError("as if by accident")
        return evaluate(self, snapshot)

    monkeypatch.setattr(Evaluator, "_evaluate", fails)
    config = evaluated(tmp_path)
    with monkeypatch.context() as patch:
        held_until_the_end(patch, let)
        let_at_the_end(patch, let)
        with pytest.raises(RunFailed, match="as if by accident") as failed:
            train(config, quiet=True)
    resumed = train(config, resume=failed.value.folder)
    assert steps(resumed) == [each for each in (480, 960, 1440, 1920) if each != at]
    assert resumed.best is not None
    assert (
        f"evaluations that failed are left out, at agent steps: {at:,}" in capsys.readouterr().out
    )
    again = train(config, resume=failed.value.folder)
    said = capsys.readouterr().out
    assert "already finished" in said
    assert f"evaluations that failed are left out, at agent steps: {at:,}" in said
    assert again.best is not None
    assert again.best["mean"] == resumed.best["mean"]


def test_what_fails_before_a_trained_run_ends_again_is_not_played_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The resumed run learns nothing, so that its checkpoint would stay as it is."""
    config, evaluate, start = evaluated(tmp_path), Evaluator._evaluate, Evaluator.start
    with monkeypatch.context() as patch:
        patch.setattr(Evaluator, "_evaluate", lambda *_: None)
        trained = train(config, quiet=True)
    assert steps(trained) == []

    def fails(self: Evaluator, snapshot: Snapshot) -> dict[str, Any] | None:
        if snapshot.agent_steps == 960:
            raise ZeroDivisionError("as if by accident")
        return evaluate(self, snapshot)

    def start_and_fail(self: Evaluator, on_failure: Callable[[], None]) -> None:
        start(self, on_failure)
        self.thread.join()

    monkeypatch.setattr(Evaluator, "_evaluate", fails)
    with monkeypatch.context() as patch:
        patch.setattr(Evaluator, "start", start_and_fail)
        with pytest.raises(RunFailed, match="as if by accident"):
            train(config, resume=trained.folder, quiet=True)
    resumed = train(config, resume=trained.folder, quiet=True)
    assert steps(resumed) == [480, 1440, 1920]
    assert resumed.best is not None


def test_an_environments_fault_in_it_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object) -> None:
        raise EnvironmentFault("the environment returned a NaN reward (agent 0)")

    monkeypatch.setattr(evaluator, "play_episodes", fails)
    words = ["train", "CartPole-v1", f"--runs-dir={tmp_path}", "--evaluate-every=1000"]
    assert cli.main(words) == 1
    errors = capsys.readouterr().err
    assert errors.startswith("a3c: the run stopped: evaluation: the environment returned a NaN")
    assert errors.count("\n") == 1


def test_a_failure_while_the_best_is_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It fails once: with the same games it would each time that the run is resumed."""

    def fails(*_: object) -> None:
        raise ZeroDivisionError("as if by accident")

    monkeypatch.setattr(Evaluator, "score", fails)
    with pytest.raises(RunFailed, match="as if by accident"):
        train(evaluated(tmp_path), quiet=True)
    assert not (tmp_path / "latest" / "best.json").exists()
    saved = checkpoint.newest(tmp_path / "latest").checkpoint
    assert saved.progress["agent_steps"] == 1920
    assert train(saved.config, resume=tmp_path / "latest").finished
    said = capsys.readouterr().out
    assert "scores of the best that failed are left out, at agent steps: " in said
    assert "already finished: 1,920 of " in said


@pytest.mark.parametrize(
    ("where", "name"), [(Log, "write_evaluation"), (best, "save"), (best, "write_score")]
)
def test_a_full_disk_ends_with_one_line(
    where: Any,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "somewhere")

    monkeypatch.setattr(where, name, full)
    words = ["train", "CartPole-v1", "--total-agent-steps=2000", "--evaluate-every=500"]
    assert cli.main([*words, f"--runs-dir={tmp_path}"]) == 1
    errors = capsys.readouterr().err
    assert errors.startswith("a3c: the run stopped: [Errno 28] No space left on device")
    assert errors.count("\n") == 1
    assert "the last checkpoint, at " in errors
    assert "evaluator" not in [thread.name for thread in threading.enumerate()]


@pytest.mark.usefixtures("in_earnest")
def test_the_best_is_chosen_by_sampled_games_and_scored_by_fresh_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(evaluated(tmp_path, evaluate_episodes=5, total_agent_steps=8000, lr=1e-4))
    found = records(run)
    highest = max(found, key=lambda record: record["sampled_return"])
    chosen = best.load(run.folder)
    assert chosen is not None
    assert chosen.progress["agent_steps"] == highest["agent_steps"]
    assert best.evaluated_return(chosen) == highest["sampled_return"]
    assert chosen.tensors.keys() == {"parameters"}
    assert load(best.path_of(run.folder)).act([0.0] * 4) in (0, 1)  # a model as any other
    assert run.best is not None
    assert run.best == json.loads((run.folder / "best.json").read_text())
    assert run.best["episodes"] == len(run.best["returns"]) == evaluator.BEST_EPISODES
    assert run.best["evaluated_return"] == highest["sampled_return"]
    assert run.best["returns"][:5] != highest["sampled_returns"]
    said = capsys.readouterr().out
    line = next(line for line in said.splitlines() if line.startswith("best policy"))
    assert f"{run.best['mean']:.2f} +- {run.best['standard_error']:.2f} of 30 fresh games" in line


def test_the_standard_error_is_that_of_the_mean() -> None:
    found = best.score(example(), [1, 2, 3, 6], [1] * 4, 1.0)
    assert (found["mean"], found["standard_error"]) == (3, pytest.approx((14 / 3 / 4) ** 0.5))
    assert best.score(example(), [1], [1], 1.0)["standard_error"] is None


def test_the_score_is_of_returns(tmp_path: Path) -> None:
    run = train(evaluated(tmp_path, env=registered(Playable)), quiet=True)
    assert run.best is not None
    assert set(run.best["lengths"]) == {Playable.length}
    assert all(each % 1 for each in run.best["returns"])


def test_the_best_policy_is_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the last one that was played."""
    scored, score = [], Evaluator.score

    def noted(self: Evaluator, parameters: torch.Tensor, *words: Any) -> Any:
        scored.append(parameters.clone())
        return score(self, parameters, *words)

    config = evaluated(tmp_path)
    run = train(config, quiet=True)
    chosen = with_the_best_of_all(run)
    monkeypatch.setattr(Evaluator, "score", noted)
    train(replace(config, total_agent_steps=2880), resume=run.folder, quiet=True)
    (found,) = scored
    assert torch.equal(found, chosen.tensors["parameters"])


def test_a_stop_ends_the_scores_games(tmp_path: Path) -> None:
    config = evaluated(tmp_path)
    node, games = evaluator_of(config)
    _, noting = noting_in(tmp_path, config, node, games)
    noting.best = example()._replace(tensors={"parameters": node.store.parameters})
    games.stop()
    noting._score()
    assert games.failure is None
    assert noting.score is None
    games.close()


def test_training_games_do_not_choose_the_best_of_an_evaluated_run(tmp_path: Path) -> None:
    """It has a hundred games, by which a run that is not evaluated chooses."""
    without = train(small(tmp_path, total_agent_steps=8000, lr=1e-9), quiet=True)
    assert best.path_of(without.folder).exists()
    assert best.load(without.folder) is None
    config = replace(checkpoint.newest(without.folder).checkpoint.config, total_agent_steps=9000)
    resumed = train(replace(config, evaluate_every=500), resume=without.folder, quiet=True)
    chosen = best.load(resumed.folder)
    assert chosen is not None
    assert chosen.progress["agent_steps"] in steps(resumed)


def test_a_best_that_could_not_be_written_has_not_been_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resumed run does not play again what has a record."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "somewhere")

    with monkeypatch.context() as patch:
        patch.setattr(best, "save", full)
        with pytest.raises(RunFailed, match="No space left"):
            train(evaluated(tmp_path), quiet=True)
    (run,) = (path.parent for path in tmp_path.glob("[!.l]*/config.json"))
    assert log.read_evaluations(run) == []


def test_a_best_that_could_not_be_written_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = evaluated(tmp_path)
    node, games = evaluator_of(config)
    records, noting = noting_in(tmp_path, config, node, games)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "somewhere")

    monkeypatch.setattr(best, "save", full)
    for mean in (2.0, 1.0):  # the second as the run ends
        games.copy()
        snapshot = games.waiting.get()
        assert snapshot is not None
        games.done.put(Evaluated(snapshot, {"agent_steps": 1000, "sampled_return": mean}))
        with pytest.raises(OSError, match="No space left"):
            noting.note()
    assert noting.best is None
    assert records.evaluations == []
    games.close()


def test_of_policies_that_are_as_good_the_first_is_the_best(tmp_path: Path) -> None:
    """Its score stands; another would be played for and written each time."""
    config = evaluated(tmp_path)
    checkpoint.folder(tmp_path).mkdir()
    node, games = evaluator_of(config)
    records, noting = noting_in(tmp_path, config, node, games)
    for agent_steps in (480, 960):
        node.store.agent_steps = agent_steps
        games.copy()
        snapshot = games.waiting.get()
        assert snapshot is not None
        returns = {"sampled_return": 2.0, "greedy_return": 2.0}
        figures = {"agent_steps": agent_steps, **returns, "evaluation_seconds": 1.0}
        games.done.put(Evaluated(snapshot, figures))
        noting.note()
    assert [record["agent_steps"] for record in records.evaluations] == [480, 960]
    assert noting.best is not None
    assert noting.best.progress["agent_steps"] == 480
    games.close()


def test_an_evaluation_says_how_long_it_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the clock, and of its own thread alone: others learn meanwhile."""
    _, games = evaluator_of(evaluated(tmp_path))
    games.copy()
    snapshot = games.waiting.get()
    assert snapshot is not None
    monkeypatch.setattr(games, "_play", lambda *_: [Episode(0)])
    clocks = {"perf_counter": iter([10.0, 13.5]), "thread_time": iter([1.0, 1.25])}
    with monkeypatch.context() as patch:
        for name, times in clocks.items():
            patch.setattr(f"time.{name}", times.__next__)
        record = games._evaluate(snapshot)
    assert record is not None
    assert (record["evaluation_seconds"], record["evaluation_cpu_seconds"]) == (3.5, 0.25)
    games.games.close()


def test_an_evaluation_takes_one_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch would start a thread a core beneath the evaluator's."""
    _, games = evaluator_of(evaluated(tmp_path))
    noted: list[int] = []
    monkeypatch.setattr(games, "_run", lambda: noted.append(torch.get_num_threads()))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        thread = threading.Thread(target=games._guarded)
        thread.start()
        thread.join()
    finally:
        torch.set_num_threads(before)
    assert noted == [1]
    games.games.close()


def test_a_better_one_that_an_earlier_part_found_stays(tmp_path: Path) -> None:
    config = evaluated(tmp_path)
    run = train(config, quiet=True)
    chosen = with_the_best_of_all(run)
    assert not (run.folder / "best.json").exists()  # the score of another
    longer = train(replace(config, total_agent_steps=2880), resume=run.folder, quiet=True)
    assert longer.best is not None
    assert longer.best["evaluated_return"] == 1e6
    assert longer.best["agent_steps"] == chosen.progress["agent_steps"]


def test_a_resumed_run_may_be_evaluated_otherwise(tmp_path: Path) -> None:
    config = evaluated(tmp_path)
    run = train(config, quiet=True)
    rarer = replace(config, total_agent_steps=2880, evaluate_every=720, evaluate_episodes=1)
    assert steps(train(rarer, resume=run.folder, quiet=True))[4:] == [2176, 2880]
    never = replace(rarer, total_agent_steps=3200, evaluate_every="never")
    resumed = train(never, resume=run.folder, quiet=True)
    assert steps(resumed)[4:] == [2176, 2880]  # what was evaluated stays
    assert checkpoint.newest(run.folder).checkpoint.config.evaluate_every == "never"


def test_a_checkpoint_from_before_it_loads(tmp_path: Path) -> None:
    run = train(small(tmp_path), quiet=True)
    newest = checkpoint.newest(run.folder)
    header = {
        "version": checkpoint.VERSION,
        "config": {k: v for k, v in vars(newest.checkpoint.config).items() if "evaluate" not in k},
        "spec": vars(newest.checkpoint.spec),
        "progress": newest.checkpoint.progress,
    }
    text = json.dumps(header, default=vars)
    assert "evaluate" not in text
    read = checkpoint.read_header(text, newest.checkpoint.tensors)
    assert read.config == newest.checkpoint.config


def test_tensorboard_has_its_curves_also_after_a_resume(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = evaluated(tmp_path)
    run = train(config, quiet=True)
    run = train(replace(config, total_agent_steps=2400), resume=run.folder, quiet=True)
    events = EventAccumulator(str(run.folder / "tensorboard")).Reload()
    for name in ("sampled_return", "greedy_return"):
        points = [(point.step, point.value) for point in events.Scalars(f"evaluation/{name}")]
        assert points == [(one["agent_steps"], pytest.approx(one[name])) for one in records(run)]
    assert events.Scalars("evaluation/seconds")


LINE = b'{"agent_steps": 1, "seconds": 2.5, "sampled_return": 3, "greedy_return": 4}\n'


@pytest.mark.parametrize(
    "bad", [b"garbage", b"5", b"", b'{"agent_steps": 2}', b'{"agent_steps": "2", "seconds": 1}']
)
def test_a_damaged_line_loses_itself_alone(tmp_path: Path, bad: bytes) -> None:
    path = tmp_path / "evaluations.jsonl"
    path.write_bytes(LINE + bad + b"\n" + LINE)
    before = path.read_bytes()
    opened = Log(tmp_path, 10)
    opened.close()
    (remark,) = opened.remarks
    assert "evaluations.jsonl is damaged in line 2" in remark
    assert (tmp_path / "evaluations.jsonl.damaged").read_bytes() == before
    assert len(log.read_evaluations(tmp_path)) == 2


def test_records_have_the_keys_that_readers_index(tmp_path: Path) -> None:
    odd = b'{"agent_steps": 2, "seconds": 1, "sampled_return": null, "greedy_lengths": [1, null]}'
    (tmp_path / "evaluations.jsonl").write_bytes(odd)
    (found,) = log.read_evaluations(tmp_path)
    assert found["sampled_return"] is found["greedy_return"] is None
    assert found["sampled_returns"] == []
    assert found["greedy_lengths"][0] == 1


WHOLE_NUMBER = "a whole number at least 1"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--evaluate-every 0", f"--evaluate-every is 0; expected {WHOLE_NUMBER}"),
        ("--evaluate-every -5", f"--evaluate-every is -5; expected {WHOLE_NUMBER}"),
        ("--evaluate-every 1e13", "at most 1e+12, or never"),
        ("--evaluate-every 1.5", "is '1.5'; expected a whole number, or never"),
        ("--evaluate-every nevr", "did you mean 'never'?"),
        ("--evaluate-every", "--evaluate-every needs a value"),
        ("--evaluate-episodes 0", f"--evaluate-episodes is 0; expected {WHOLE_NUMBER}"),
        ("--evaluate-episodes never", "--evaluate-episodes is 'never'; expected a whole number"),
        ("--evaluate-evry 5", "did you mean '--evaluate-every'?"),
    ],
)
def test_bad_input_is_one_line(
    words: str, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    assert cli.main(["train", "CartPole-v1", f"--runs-dir={runs}", *words.split()]) == 2
    errors = capsys.readouterr().err
    assert expected in errors
    assert errors.count("\n") == 1
    assert not runs.exists()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", "--evaluate-every is 0"),
        ("true", "--evaluate-every is True"),
        ("1.5", "--evaluate-every is 1.5"),
        ("[1]", "--evaluate-every is [1]"),
        ("nan", "--evaluate-every is nan"),
        ('"often"', "--evaluate-every is 'often'"),
    ],
)
def test_bad_input_in_a_file(
    value: str, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.toml").write_text(f"evaluate_every = {value}\n")
    assert cli.main(["train", "CartPole-v1", "--config", str(tmp_path / "run.toml")]) == 2
    errors = capsys.readouterr().err
    assert expected in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize(("value", "number"), [("1e5", 100_000), ("1_000", 1000)])
def test_whole_numbers_are_written_as_elsewhere(value: str, number: int, tmp_path: Path) -> None:
    from a3c.command.train_options import train_options

    (tmp_path / "run.toml").write_text(f"evaluate_every = {value}\n")
    named = train_options(["CartPole-v1", "--config", str(tmp_path / "run.toml")])
    given = train_options(["CartPole-v1", "--evaluate-every", value])
    assert named.config.evaluate_every == given.config.evaluate_every == number
    off = train_options(["--config", str(tmp_path / "run.toml"), "--evaluate-every", "never"])
    assert off.config.evaluate_every == "never"


def test_each_evaluation_plays_its_own_snapshot_by_both_policies_and_seeds_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On images, whose network computes with a copy of its weights in another precision."""
    changes = {"evaluate_every": 10, "evaluate_episodes": 1, "precision": "bfloat16"}
    config = preset("fast", env="breakout", num_threads=1, num_envs=1, **changes)
    node = Node(config, [CPU], Metrics(4))
    played: list[tuple[int, bool, float, float]] = []

    def play(
        games: Any, network: Any, generator: Any, protocol: Any, goes_on: Any
    ) -> list[Episode]:
        bias = float(network.torsos[0].cast[-1].bias[0])
        played.append((protocol.seed, protocol.greedy, protocol.epsilon, bias))
        return [Episode(0)] * protocol.episodes

    monkeypatch.setattr(evaluator, "play_episodes", play)
    thread = Evaluator(config, node.network(CPU), CPU, node.store, node.metrics)
    for _ in range(2):
        thread.copy()
        node.store.parameters += 1
    thread.waiting.put(None)
    thread._run()
    thread.score(node.store.parameters, 0, lambda *_: True)
    thread.close()
    one, two = (evaluator.evaluation_seed(config, 0, purpose) for purpose in (EVALUATION, SCORING))
    sampled, greedy = (False, 0), (True, GREEDY_EPSILON)
    snapshots = [(one, *policy, bias) for bias in (0, 1) for policy in (sampled, greedy)]
    assert played == [*snapshots, (two, *sampled, 2)]


def evaluator_in(tmp_path: Path) -> tuple[Evaluator, Node]:
    config = evaluated(tmp_path, evaluate_episodes=1)
    node = Node(config, [CPU], Metrics(1))
    return Evaluator(config, node.network(CPU), CPU, node.store, node.metrics), node


def test_its_seconds_are_trainings_at_the_snapshot(tmp_path: Path) -> None:
    """Not those at which it is played, which may be much later."""
    found, node = evaluator_in(tmp_path)
    node.metrics.seconds_before = 1000.0
    found.copy()
    node.metrics.seconds_before = 5000.0
    found.finish()
    found._run()
    (one,) = found.take()
    assert 1000 <= one.record["seconds"] < 2000
    found.close()


def test_a_snapshot_of_the_very_checkpoint_is_not_lost(tmp_path: Path) -> None:
    found, node = evaluator_in(tmp_path)
    node.store.agent_steps = 1500
    found.copy()
    found.roll_back(1500)
    snapshot = found.waiting.get()
    assert snapshot is not None
    assert not found.is_lost(snapshot)
    found.close()
