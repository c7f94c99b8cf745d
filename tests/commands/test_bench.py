"""`a3c bench`: what it measures is a training's own code, and it suggests only what it measured.

No test asserts a time or a rate.
"""

import json
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

from a3c import cli, memory
from a3c.command.train_options import train_options
from a3c.config import Config
from a3c.envs.on_device import OnDevice
from a3c.envs.protocol import Array, NumpyStep
from a3c.errors import InputError
from a3c.presets import preset
from a3c.results import bench, bench_tables, progress
from a3c.results.bench import Setting, Stretch
from a3c.run.terminal import Screen

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def setting(num_threads: int, num_envs: int, rate: float) -> Setting:
    return Setting(num_threads, num_envs, 1, rate, None)


@pytest.mark.parametrize("env", ["CartPole-v1", "breakout"])
def test_json(env: str, nowhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", env, "--device", "cpu", "--json", "--seconds", "0.2"]) == 0
    found = json.loads(capsys.readouterr().out)
    suggested, threads = found["suggested"], found["suggested"]["num_threads"]
    assert suggested in found["settings"]
    measured = {(rate["part"], rate["num_threads"]) for rate in found["rates"]}
    assert {("environment", 1), ("environment", 2), ("acting", 1), ("learning", 1)} <= measured
    assert {(part, threads) for part in (*bench.PARTS, "training")} <= measured
    assert all(rate["agent_steps_per_second"] > 0 for rate in found["rates"])
    assert sum(found["shares"].values()) == pytest.approx(1)
    assert found["limit"] == max(found["shares"], key=found["shares"].__getitem__)
    assert found["memory"]["host_needed_bytes"] > 0
    assert found["emulator_frames_per_agent_step"] == (4 if env == "breakout" else None)
    default = train_options([env]).config
    first = found["settings"][0]
    assert (first["num_threads"], first["num_envs"]) == (default.num_threads, default.num_envs)
    typed = train_options(found["command"].split()[2:]).config
    assert typed.minibatches == suggested["minibatches"]
    assert (typed.num_threads, typed.num_envs) == (threads, suggested["num_envs"])
    assert not list(nowhere.iterdir())


def test_tables(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "CartPole-v1", "--device", "cpu", "--seconds", "0.2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    words = [line.split()[0] for line in lines if line.strip()]
    assert {"environment", "acting", "learning", "training", "default", "memory:"} <= {
        word.rstrip(",") for word in words
    }
    assert lines[-1].startswith("suggested: a3c train CartPole-v1 --num-threads ")
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if "emulator" in line]


def test_a_long_command_stays_on_its_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who copies it has all of it."""
    command = (
        f"suggested: a3c train a_module.of_ones_own:{'Long' * 9}-v0 --num-threads 1 --num-envs 8"
    )
    monkeypatch.setattr(cli, "bench", Mock())
    monkeypatch.setattr(bench_tables, "shown", lambda found: iter([command]))
    assert cli.main(["bench", "CartPole-v1"]) == 0
    assert capsys.readouterr().out == f"{command}\n"


def test_the_default_is_suggested_unless_another_is_clearly_faster() -> None:
    default, others = setting(2, 16, 1000.0), [setting(1, 16, 600.0), setting(2, 64, 1090.0)]
    assert bench.suggestion([default, *others]) == default
    assert bench.suggestion([default, *others, setting(1, 64, 1200.0)]) == setting(1, 64, 1200.0)


def test_what_would_take_too_long_or_too_much_memory_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """64 agents with a rollout of 20 make 1,280 agent steps: 0.64 s at that rate."""
    config = preset("fast", env="breakout", num_threads=1, num_envs=64, device="cpu")
    measured = [setting(1, 16, 500.0), setting(2, 16, 2000.0)]
    assert "a rollout would take about 0.6 s" in (bench.obstacle(config, CPU, 0.6, measured) or "")
    assert bench.obstacle(config, CPU, 0.7, measured) is None
    monkeypatch.setattr(memory, "available_memory", lambda: 2**20)
    assert "0.0 GiB are available" in (bench.obstacle(config, CPU, 0.7, measured) or "")


def test_settings_for_a_gpu() -> None:
    configs = bench.candidates("breakout", "cuda", torch.device("cuda"))
    assert configs[0] == preset("fast", env="breakout", device="cuda")
    sizes = [(config.num_threads, config.num_envs) for config in configs[1:]]
    assert (1, 1024) in sizes
    assert (2, 256) in sizes
    assert all(256 <= threads * agents <= 4096 for threads, agents in sizes)
    update = {c.num_envs // c.minibatches * c.rollout_length for c in configs}
    assert update == {320}


def test_where_a_preset_fixes_the_updates_only_threads_vary() -> None:
    configs = bench.candidates("CartPole-v1", "cpu", CPU)
    assert [(c.num_threads, c.num_envs, c.minibatches) for c in configs] == [(1, 8, 1), (2, 8, 1)]


def test_acting_and_learning_are_the_halves_of_an_update_without_the_environments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = preset("control", env="CartPole-v1", num_envs=4, rollout_length=8,
                    minibatches=2, device="cpu")  # fmt: skip
    with bench.started(config, CPU) as (learner,):
        assert isinstance(learner.envs, OnDevice)
        calls: list[str] = []
        real = learner.envs.envs
        step = real.step

        def counted(actions: Array) -> NumpyStep:
            calls.append("step")
            return step(actions)

        monkeypatch.setattr(real, "step", counted)
        assert bench.updating(learner)() == 4 * 8
        assert (len(calls), learner.store.updates) == (8, 2)
        bench.stand_still(learner)
        calls.clear()
        assert bench.acting(learner)() == 4 * 8
        assert (calls, learner.store.updates) == ([], 2)
        learn = bench.learning(learner)
        for updates in (4, 6):  # the same rollout again
            before = learner.store.parameters.clone()
            assert learn() == 4 * 8
            assert (calls, learner.store.updates) == ([], updates)
            assert not learner.store.parameters.equal(before)


def test_the_slowest_part_is_the_limit() -> None:
    """As long as parts follow one another: of a second of training half is in the environment."""
    setting = Setting(2, 16, 1, 40.0, None)
    rates = [
        bench.Rate(part, 2, 16, rate)
        for part, rate in zip(bench.PARTS, (100.0, 200.0, 200.0), strict=True)
    ]
    made = bench.Bench(
        "breakout", "cpu", "", "", 2, None, "float32", 4.0, rates, [setting], [], setting, "",
        bench.Memory(0, None, None, None),
    )  # fmt: skip
    assert list(made.shares.values()) == pytest.approx([0.5, 0.25, 0.25])
    assert made.limit == bench.PARTS[0]
    assert made.of_its_parts == pytest.approx(40 / 50)
    *_, agent_steps, emulator_frames = bench_tables.rates(made).columns
    assert list(agent_steps.cells) == ["100", "200", "200"]
    assert list(emulator_frames.cells) == ["400", "800", "800"]


def test_each_part_has_its_own_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "acting", lambda _: lambda: 1)
    monkeypatch.setattr(bench, "learning", lambda _: lambda: 2)
    monkeypatch.setattr(bench.Stretch, "rate", lambda _, works: float(works[0]()))
    monkeypatch.setattr(bench, "environments", lambda *_: bench.Rate("environment", 1, 8, 3.0))
    config = preset("control", env="CartPole-v1", num_threads=1, device="cpu")
    _, *found = bench.parts(config, CPU, 1.0, Mock())
    assert {
        (rate.part, rate.agent_steps_per_second) for rate in found if rate.part != "environment"
    } == {("acting", 1.0), ("learning", 2.0)}


def test_a_rate_is_that_of_all_threads_together(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([10.0, *[12.0] * 9])
    monkeypatch.setattr("time.perf_counter", lambda: next(now))
    assert Stretch(torch.device("cpu"), 1).rate([lambda: 3, lambda: 5]) == 4


def test_a_thread_that_fails_ends_the_measurement() -> None:
    def fail() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Stretch(CPU, 60).rate([lambda: 1, fail])


def test_a_thread_is_a_core() -> None:
    """PyTorch makes no pool of threads for a measured one, as for its first tanh it would."""
    noted: list[int] = []

    def work() -> int:
        noted.append(torch.get_num_threads())
        return 1

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        Stretch(CPU, 1e-6).rate([work])
    finally:
        torch.set_num_threads(before)
    assert {*noted} == {1}


def test_an_environment_that_cannot_be_trained_on(capsys: pytest.CaptureFixture[str]) -> None:
    env = "tests.environments:Infinite-v0"
    assert cli.main(["bench", env, "--seconds", "0.2"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"a3c: {env} cannot be measured: ")
    assert said.count("\n") == 1


def test_a_setting_whose_graphs_do_not_fit_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Node.record says so with an InputError; what was measured before stands."""
    configs = [preset("fast", num_threads=1, num_envs=agents) for agents in (16, 32)]

    def trained(config: Config, device: torch.device, seconds: float) -> Setting:
        if config.num_envs == 32:
            raise InputError("they do not fit")
        return Setting(1, config.num_envs, 1, 100.0, None)

    monkeypatch.setattr(bench, "trained", trained)
    with progress.Progress(Screen(quiet=True)) as shown:
        settings, left_out = bench.compared(configs, CPU, 60.0, shown)
    assert [setting.num_envs for setting in settings] == [16]
    assert left_out == ["1 x 32 agents: not measured, they do not fit"]


def test_the_command_names_the_device_that_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several, all of which `auto` would train on."""
    config, first = preset("fast", num_threads=2), torch.device("cuda:0")
    monkeypatch.setattr(bench, "pick_devices", lambda _: [first, torch.device("cuda:1")])
    assert bench.command_of(config, first).endswith("--num-envs 16 --device cuda:0")
    monkeypatch.setattr(bench, "pick_devices", lambda _: [first])
    assert bench.command_of(config, first).endswith("--num-envs 16")
