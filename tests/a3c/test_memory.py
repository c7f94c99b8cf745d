"""The estimate of memory against what a process takes; and what is said where it is not there."""

import dataclasses
import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from a3c import cli, memory
from a3c.config import Config
from a3c.convolutions import Recall
from a3c.envs import agent_bytes, make_envs, spec_of
from a3c.envs.protocol import Spec
from a3c.errors import InputError
from a3c.memory import (
    LiveBytes,
    check_memory,
    game_bytes,
    gpu_bytes,
    host_bytes,
    learning_bytes,
)
from a3c.presets import preset
from a3c.train import train

CPU = torch.device("cpu")
CUDA = torch.device("cuda", 1)


ATARI = Spec((84, 84, 4), True, True, True, 4)


def test_live_bytes() -> None:
    before = torch.zeros(1000)
    with LiveBytes([before]) as live:
        one = before + 1
        assert (live.now, live.most) == (4000, 4000)
        view = one[10:].view(-1)
        two = one * one
        del two
        assert (live.now, live.most) == (4000, 8000)
        before.add_(1)
        del one
        assert live.now == 4000  # the view's
        del view
    assert (live.now, live.most) == (0, 8000)


def test_of_gymnasiums_environments_observations_count() -> None:
    """As given, as read, and the last ones: pixels are bytes, vectors float32."""
    config = preset("control", env="CartPole-v1")
    pixels, vector = Spec((96, 96, 3), True, False, True, 4), Spec((4,), False, False, True, 2)
    assert agent_bytes(config, pixels).alive == 3 * 96 * 96 * 3
    assert agent_bytes(config, vector).alive == 3 * 4 * 4


@pytest.mark.parametrize("env", ["breakout", "ALE/MsPacman-v5", "CartPole-v1"])
@pytest.mark.parametrize("full", [False, True])
def test_the_spec_is_that_of_the_environments(env: str, full: bool) -> None:
    config = preset("fast", env=env, full_action_set=full)
    envs = make_envs(config, 1, CPU)
    assert spec_of(config) == envs.spec
    envs.close()


def test_a_games_state_has_the_size_that_a_checkpoint_has() -> None:
    config = preset("fast", env="pong")
    envs = make_envs(config, 8, CPU)
    envs.reset(1)
    state = envs.save_state()
    assert state is not None
    saved = sum(array.nbytes for array in state.values()) / 8
    assert agent_bytes(config, envs.spec).alive == pytest.approx(saved, rel=0.02)
    envs.close()


@pytest.mark.parametrize("length", [5, 20, 200])
def test_what_the_network_keeps_is_counted(length: int) -> None:
    config = preset("fast", precision="float32", rollout_length=length, minibatches=1)
    sample = 84 * 84 * 4 + 4 * (20 * 20 * 16 + 9 * 9 * 32 + 7 * 7 * 64 + 256)  # bytes
    found = learning_bytes(config, ATARI)
    assert length * sample < found.agent < 1.3 * length * sample + 500_000


def test_with_minibatches_one_minibatch_is_kept_and_everybodys_pixels() -> None:
    config = preset("fast", precision="float32", num_envs=1024, minibatches=64, rollout_length=20)
    pixels = 20 * 84 * 84 * 4
    assert pixels < learning_bytes(config, ATARI).agent < 1.6 * pixels


def test_on_a_gpu_the_host_has_the_games_alone() -> None:
    found = host_bytes(preset("fast"), ATARI, torch.device("cuda"))
    assert found.thread == 0
    assert found.agent == pytest.approx(550_000, rel=0.05)


MEASURED = """
import sys
import tempfile
from pathlib import Path
import torch
from a3c.presets import preset
from a3c.metrics import Metrics
from a3c.node import Node
from a3c.run import checkpoint
torch.set_num_threads(1)
agents = int(sys.argv[1])
config = preset("fast", num_threads=1, num_envs=agents, rollout_length=5, minibatches=1)
node = Node(config, [torch.device("cpu")], Metrics(4))
(learner,) = node.learners
learner.start_games()
learner.cycle()
with tempfile.TemporaryDirectory() as folder:
    saved = checkpoint.Checkpoint(config, node.spec, {}, node.save())
    checkpoint.save(Path(folder) / "x.safetensors", saved)
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def most_bytes_of_a_process(agents: int) -> int:
    words = [sys.executable, "-c", MEASURED, str(agents)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return 1024 * int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="measured by /proc")
def test_the_estimate_is_what_a_process_takes() -> None:
    """Of so many agents that the system's allocator gives back what is freed."""
    config = preset("fast", rollout_length=5, minibatches=1)
    growth = most_bytes_of_a_process(800) - most_bytes_of_a_process(600)
    assert host_bytes(config, ATARI, CPU).agent == pytest.approx(growth / 200, rel=0.3)


GAMES = """
import sys
import torch
from a3c.presets import preset
from a3c.games import make_games
config = preset("fast", env=sys.argv[1], num_threads=1)
make = lambda games: make_games(config, games, torch.device("cpu"))
resident = lambda: next(line.split()[1] for line in open("/proc/self/status") if "VmRSS" in line)
first = make(3)
first.reset(1)
before, games = resident(), make(150)
games.reset(1)
print(int(resident()) - int(before))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="measured by /proc")
@pytest.mark.parametrize("game", ["breakout", "klax"])
def test_a_game_of_its_own_takes_what_it_says(game: str) -> None:
    words = [sys.executable, "-c", GAMES, game]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    config = preset("fast", env=game)
    assert game_bytes(config, spec_of(config)) == pytest.approx(
        1024 * int(done.stdout) / 150, rel=0.3
    )


def test_more_games_than_memory_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: 2**30)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["play", "breakout", "--episodes", "9999"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("a3c: --episodes is 9,999, which need about 5.8 GiB of memory, and 1.0 ")
    fits = int(said.split("expected at most ")[1].replace(",", ""))
    assert 1000 < fits < 2000
    assert list(tmp_path.iterdir()) == []


def test_more_agents_than_memory_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: 2**30)
    runs = tmp_path / "runs"
    config = preset("fast", num_threads=2, num_envs=65_536, runs_dir=str(runs))
    with pytest.raises(InputError) as caught:
        train(config, quiet=True)
    said = str(caught.value)
    assert said.startswith("2 x 65,536 agents of breakout need about ")
    assert "GiB of memory, and 1.0 GiB are available; expected at most " in said
    fits = int(said.split("expected at most ")[1].split()[0].replace(",", ""))
    assert 0 < fits < 1000
    assert fits % 16 == 0  # whole minibatches
    assert "\n" not in said
    assert not runs.exists()


@pytest.mark.parametrize("minibatches", [1, 4, "auto"])
def test_what_is_said_to_fit_fits(minibatches: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: 2**30)
    changes = {"num_threads": 2, "minibatches": minibatches, "rollout_length": 20,
               "precision": "float32"}  # fmt: skip
    with pytest.raises(InputError) as caught:
        check_memory(preset("fast", num_envs=4096, **changes), [CPU])
    fitting = int(str(caught.value).split("at most ")[1].split()[0].replace(",", ""))
    assert fitting > 4
    check_memory(preset("fast", num_envs=fitting, **changes), [CPU])
    more = 16 if minibatches == "auto" else 4 * minibatches
    with pytest.raises(InputError):
        check_memory(preset("fast", num_envs=fitting + more, **changes), [CPU])


@pytest.mark.parametrize(("asked", "mib"), [(4096, 410), (1000, 410), (1000, 300), (4096, 300)])
def test_fewer_agents_have_longer_rollouts_and_fit_as_well(
    asked: int, mib: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: mib * 2**20)
    changes = {"num_threads": 2, "precision": "float32"}
    many = preset("fast", num_envs=asked, **changes)
    with pytest.raises(InputError) as caught:
        check_memory(many, [CPU])
    fitting = int(str(caught.value).split("at most ")[1].split()[0].replace(",", ""))
    few = preset("fast", num_envs=fitting, **changes)
    assert (many.rollout_length, few.rollout_length) == (10, 20)
    check_memory(few, [CPU])
    with pytest.raises(InputError):
        check_memory(preset("fast", num_envs=fitting + 16, **changes), [CPU])


def test_where_not_even_one_agent_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: 2**20)
    with pytest.raises(InputError, match="expected fewer --num-threads or a smaller --rollout-len"):
        check_memory(preset("fast", num_threads=2), [CPU])


def test_the_games_of_evaluations_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: 2**29)
    evaluated = {"num_threads": 1, "evaluate_every": 1000}
    check_memory(preset("fast", **evaluated, evaluate_episodes=10), [CPU])
    with pytest.raises(InputError, match="expected fewer --evaluate-episodes, --num-threads or"):
        check_memory(preset("fast", **evaluated, evaluate_episodes=10_000), [CPU])


def test_where_nothing_is_known_anything_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: None)
    check_memory(preset("fast", num_envs=65_536), [CPU])


def with_memory(monkeypatch: pytest.MonkeyPatch, host: int | None, gpu: int) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: host)
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (gpu, 80 * 2**30))


def on_gpu(**changes: object) -> Config:
    short = {"precision": "float32", "rollout_length": 20}
    return preset("fast", num_threads=2, **{**short, **changes})


def said_to_fit(config: Config) -> tuple[int, str]:
    """Agents of each thread, and the whole message."""
    with pytest.raises(InputError) as caught:
        check_memory(config, [CUDA])
    said = str(caught.value)
    assert "\n" not in said
    return int(said.split("expected at most ")[1].split()[0].replace(",", "")), said


@pytest.mark.parametrize("host", [2**40, None])
def test_more_agents_than_a_gpu_holds(host: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    with_memory(monkeypatch, host, 2**30)
    fits, said = said_to_fit(on_gpu(num_envs=8192))
    assert said.startswith("2 x 8,192 agents of breakout need about ")
    assert "of memory of cuda:1, and 1.0 GiB are available; expected at most " in said
    assert 0 < fits < 1000
    assert fits % 16 == 0  # whole minibatches
    check_memory(on_gpu(num_envs=fits), [CUDA])
    with pytest.raises(InputError):
        check_memory(on_gpu(num_envs=fits + 16), [CUDA])


def test_of_two_memories_the_message_is_about_the_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    config = on_gpu(num_envs=8192)
    with_memory(monkeypatch, 2**30, 2**31)
    fits, said = said_to_fit(config)
    assert "GiB of memory, and 1.0 GiB are available" in said
    with_memory(monkeypatch, 2**31, 2**28 + 2**27)
    fewer, said = said_to_fit(config)
    assert "GiB of memory of cuda:1, and 0.4 GiB are available" in said
    assert fewer < fits


def test_where_not_even_one_agent_fits_on_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    with_memory(monkeypatch, 2**40, 2**20)
    with pytest.raises(
        InputError, match=r"and 0\.0 GiB are available; expected fewer --num-threads"
    ):
        check_memory(on_gpu(), [CUDA])


def test_too_many_for_the_gpu_create_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_memory(monkeypatch, 2**40, 2**30)
    monkeypatch.setattr(importlib.import_module("a3c.train"), "pick_devices", lambda _: [CUDA])
    runs = tmp_path / "runs"
    with pytest.raises(InputError, match="expected at most "):
        train(on_gpu(num_envs=65_536, device="cuda:1", runs_dir=str(runs)), quiet=True)
    assert not runs.exists()


def test_on_a_gpu_a_thread_learns_from_all_samples_at_once() -> None:
    """So gradients by images grow with the agents of an update, on a CPU with those of a chunk. And
    a CPU keeps pixels as bytes."""
    config = on_gpu(num_envs=64, rollout_length=32, minibatches=2, cuda_graphs="off")
    gpu, cpu = gpu_bytes(config, ATARI, CUDA), learning_bytes(config, ATARI)
    gradient = 4 * 32 * 20 * 20 * 16  # of the first layer's output; and as much before its ReLU
    pixels = 3 * 32 * 84 * 84 * 4  # by which their differences are longer
    assert gpu.agent - cpu.agent == pytest.approx((2 * gradient + pixels) / 2, rel=0.01)
    assert Recall.CHUNK == 64


@pytest.mark.parametrize(("length", "graphs"), [(32, True), (129, False)])  # the longest is 128
def test_cuda_graphs_keep_what_learning_takes_for_a_while(length: int, graphs: bool) -> None:
    """Where a game was truncated it is taken a second time, elsewhere."""
    config = on_gpu(num_envs=64, rollout_length=length, minibatches=2)
    more = gpu_bytes(config, ATARI, CUDA).agent
    more -= gpu_bytes(dataclasses.replace(config, cuda_graphs="off"), ATARI, CUDA).agent
    gradient = 4 * length * 20 * 20 * 16  # of the first layer's output, and as much before its ReLU
    assert (gradient < more < 1.5 * gradient) if graphs else more == 0  # of half of the agents


def test_the_precision_is_that_of_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda _: (8, 0))
    half = gpu_bytes(on_gpu(precision="auto", minibatches=1), ATARI, CUDA)
    whole = gpu_bytes(on_gpu(precision="float32", minibatches=1), ATARI, CUDA)
    assert half.agent < 0.7 * whole.agent


def test_each_gpu_holds_its_own_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    with_memory(monkeypatch, None, 2**30)
    devices = [torch.device("cuda", i) for i in range(2)]
    config = preset("fast", num_threads=3, precision="float32")
    found = list(memory.places(config, devices))
    assert [(place.words, place.threads) for place in found] == [
        ("memory of cuda:0", 2),
        ("memory of cuda:1", 1),
    ]
    with memory.all_at_once():
        learning = learning_bytes(config, ATARI, twice=True)
    assert found[0].each.thread - learning.thread == 64 * 2**20  # of cuBLAS, for its stream
