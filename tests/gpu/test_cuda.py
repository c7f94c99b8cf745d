"""The short part of benchmarks/gpu.py, where there is a GPU; the rest is tested without one."""

import gc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from a3c.config import VALUE_METHODS
from a3c.memory import gpu_bytes
from a3c.presets import preset
from a3c.run import checkpoint
from a3c.torsos import ConvolutionalTorso
from a3c.train import train
from benchmarks.gpu import FULL
from benchmarks.parity import (
    Prepared,
    config_of_parity,
    modes,
    node_of,
    parity,
    prepared,
    run_to_its_end,
    spec_of_parity,
)

EXTENT = FULL.extent
METHODS = ["a3c", *VALUE_METHODS]
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
MODES = modes("cuda") if torch.cuda.is_available() else ("off",)


@pytest.fixture(autouse=True)
def deterministic(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cuDNN adds in any order could differ from run to run."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)


@pytest.mark.parametrize(
    ("network", "head"),
    [
        ("slim", "discrete"),
        ("nature", "minibatches"),
        ("slim", "recurrent"),
        ("mlp", "independent std"),
        ("mlp", "dependent std"),
    ],
)
def test_updates_are_those_of_the_cpu(network: str, head: str) -> None:
    row = parity(network, head, "cuda", EXTENT)
    assert row["ok"], row


@pytest.fixture
def no_unawares() -> Iterator[None]:
    """PyTorch's check of operations that wait is switched off in the end."""
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.usefixtures("no_unawares")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("network", "head"),
    [
        ("slim", "discrete"),
        ("slim", "minibatches"),
        ("mlp", "recurrent"),
        ("mlp", "dependent std"),
    ],
)
def test_no_operation_waits_but_those_that_say_so(network: str, head: str, mode: str) -> None:
    """What waits at events is counted on the CPU; PyTorch knows the operations that do unasked."""
    config = config_of_parity(network, head, "cuda", mode, EXTENT._replace(updates=12))
    config = replace(config, lr=1e-4)
    with node_of(config, lambda agents: prepared(network, head, agents, EXTENT)) as node:

        def look(_: int) -> None:
            if node.store.updates == 6:
                torch.cuda.set_sync_debug_mode("error")

        node.store.in_update = look
        run_to_its_end(node)
        assert node.store.updates >= 12


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("method", METHODS)
def test_resumed_a_run_is_the_same_bit_by_bit(mode: str, method: str, tmp_path: Path) -> None:
    changes = {"num_threads": 1, "lr_schedule": "constant", "device": "cuda", "cuda_graphs": mode}
    changes |= {"method": method}
    long = preset("control", total_agent_steps=4096, runs_dir=str(tmp_path / "long"), **changes)
    short = replace(long, total_agent_steps=2048, runs_dir=str(tmp_path / "short"))
    whole, half = train(long, quiet=True), train(short, quiet=True)
    end = train(replace(short, total_agent_steps=4096), resume=half.folder, quiet=True)
    one, other = (checkpoint.newest(run.folder).checkpoint.tensors for run in (whole, end))
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


@pytest.mark.parametrize(
    ("method", "scaling"),
    [
        *((method, {}) for method in METHODS),
        ("a3c", {"normalize_advantages": True}),
        ("a3c", {"advantage_floor": 10.0}),
    ],
)
def test_a_run_is_the_same_with_graphs_and_without(
    method: str, scaling: dict[str, Any], tmp_path: Path
) -> None:
    config = preset("control", num_threads=1, method=method, total_agent_steps=4096,
                    runs_dir=str(tmp_path), device="cuda",
                    **scaling)  # fmt: skip
    if method == "a3c":  # what falls is not what was recorded
        config = replace(config, ent_coef=0.01, ent_final_fraction=0.0)
    runs = [train(replace(config, cuda_graphs=mode), quiet=True).folder for mode in ("on", "off")]
    one, other = (checkpoint.newest(run).checkpoint.tensors for run in runs)
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def test_bfloat16_is_as_near_as_on_a_cpu() -> None:
    seen = torch.randint(256, (64, 84, 84, 4), dtype=torch.uint8)
    features = []
    for device, dtype in (
        ("cpu", torch.float32),
        ("cpu", torch.bfloat16),
        ("cuda", torch.bfloat16),
    ):
        torch.manual_seed(0)  # of the weights
        torso = ConvolutionalTorso("slim", (84, 84, 4), 1 / 255, dtype, False).to(device)
        torso.prepare()
        features.append(torso(seen.to(device)).cpu())
    exact, *rounded = features
    for found in rounded:
        assert (found - exact).norm() < 0.02 * exact.norm()


def most_allocated(agents: int) -> int:
    config = replace(config_of_parity("slim", "discrete", "cuda", "off", EXTENT), num_envs=agents)
    config = replace(config, total_agent_steps=2 * agents * config.rollout_length)
    gc.collect()  # a node before this one
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    with node_of(config, lambda n: Prepared(spec_of_parity("slim", "discrete"), n, 2, 0.0)) as node:
        run_to_its_end(node)
        return torch.cuda.max_memory_allocated() - before


def test_the_estimate_is_what_a_gpu_gives() -> None:
    growth = (most_allocated(512) - most_allocated(256)) / 256
    config = config_of_parity("slim", "discrete", "cuda", "off", EXTENT)
    found = gpu_bytes(config, spec_of_parity("slim", "discrete"), torch.device("cuda"))
    assert found.agent == pytest.approx(growth, rel=0.3)


def test_a_run_that_grows_is_the_same_with_graphs_and_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And evaluates meanwhile: graphs are recorded again beside the evaluator's thread."""
    monkeypatch.setattr("a3c.config.GROWTH", 8)
    config = preset("fast", env="breakout", num_threads=1, num_envs=8, minibatches=4,
                    rollout_length=8, total_agent_steps=2000, runs_dir=str(tmp_path),
                    device="cuda", evaluate_every=200, evaluate_episodes=1)  # fmt: skip
    ends = [
        checkpoint.newest(train(replace(config, cuda_graphs=mode), quiet=True).folder).checkpoint
        for mode in ("on", "off")
    ]
    one, other = (end.tensors for end in ends)
    assert one["thread0.observations"].shape[0] == 8
    assert torch.equal(one["parameters"], other["parameters"])
