"""Each file of examples/, with a tiny budget."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium.envs.classic_control import CartPoleEnv

import a3c
from a3c import cli
from examples.custom_environment import SIZE, Harbour
from examples.memory import CartPoleHiddenVelocities

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("[!_]*.py"))


def test_the_list_has_each_and_so_have_these_tests() -> None:
    page = (ROOT / "examples" / "README.md").read_text()
    tests = [name for name in globals() if name.startswith("test_")]
    for name in EXAMPLES:
        assert f"| [{name}]({name}) |" in page
        assert [test for test in tests if name.removesuffix(".py") in test]


def test_a3c_in_one_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its threads learn: shared parameters move, and games get longer than a random player's 22."""
    from examples import a3c_in_one_file

    monkeypatch.setattr(sys, "argv", ["a3c_in_one_file.py", "--total-agent-steps", "30000"])
    a3c_in_one_file.main()
    *_, last = capsys.readouterr().out.splitlines()
    agent_steps, mean = last.split(" agent steps, mean return of the last games ")
    assert 30_000 <= int(agent_steps.replace(",", "")) < 30_000 + 2 * 128
    assert float(mean) > 60


def test_returns_in_one_file_by_hand() -> None:
    from examples import a3c_in_one_file

    one, nobody, everybody = torch.ones(1), torch.zeros(1), torch.ones(1)
    found = a3c_in_one_file.returns_of([one, one, one], [nobody, everybody, nobody], 10 * one)
    gamma = a3c_in_one_file.GAMMA
    torch.testing.assert_close(found[:, 0], torch.tensor([1 + gamma, 1.0, 1 + 10 * gamma]))


def test_the_custom_environment_from_its_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT / "examples")
    monkeypatch.delitem(sys.modules, "custom_environment", raising=False)
    words = ["custom_environment:Harbour-v0", "--total-agent-steps", "4000"]
    assert cli.main(["train", *words, "--runs-dir", str(tmp_path / "runs")]) == 0
    run = tmp_path / "runs" / "latest"
    assert cli.main(["play", str(run), "--episodes", "2", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "best.mp4").stat().st_size > 0


def test_the_custom_environment_ends_in_the_middle() -> None:
    env = Harbour()
    env.reset(seed=1)
    env.row, env.column = SIZE // 2 - 1, SIZE // 2
    square, reward, terminated, truncated, _ = env.step(1)
    blown = env.column - SIZE // 2
    assert (square, reward) == (SIZE * (SIZE // 2) + SIZE // 2 + blown, -1)
    assert (terminated, truncated) == (not blown, False)
    assert env.render().shape == (16 * SIZE, 16 * SIZE, 3)


def test_the_task_of_memory_hides_the_velocities() -> None:
    env = CartPoleHiddenVelocities()
    observation, _ = env.reset(seed=1)
    assert observation.shape == env.observation_space.shape == (2,)
    inner = env.unwrapped
    assert isinstance(inner, CartPoleEnv)
    assert inner.state is not None
    np.testing.assert_array_equal(observation, np.asarray(inner.state, np.float32)[[0, 2]])


def test_memory_trains(tmp_path: Path) -> None:
    config = a3c.preset(
        "control",
        env="examples.memory:CartPoleHiddenVelocities-v1",
        recurrent=True,
        total_agent_steps=500,
        runs_dir=str(tmp_path),
    )
    assert a3c.train(config, quiet=True).finished


def test_single_file(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from examples import single_file

    monkeypatch.setattr(single_file, "ROLLOUT_LENGTH", 8)
    monkeypatch.setattr(
        sys, "argv", ["single_file.py", "pong", "--num-envs", "2", "--total-agent-steps", "32"]
    )
    single_file.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" agent steps")[0] for line in lines] == ["16", "32"]


def test_sb3(tmp_path: Path) -> None:
    pytest.importorskip("stable_baselines3")
    command = [sys.executable, str(ROOT / "examples" / "sb3.py"), "pong", "--algorithm", "a2c"]
    budget = ["--num-envs", "2", "--total-timesteps", "40"]
    scratch = {"TMPDIR": str(tmp_path)}  # where it leaves a folder
    subprocess.run([*command, *budget], cwd=tmp_path, check=True, env=os.environ | scratch)
    assert (tmp_path / "a2c-pong.zip").is_file()


def test_sb3_sees_whole_games_and_their_last_observation() -> None:
    pytest.importorskip("stable_baselines3")
    from examples.sb3 import AtariVecEnv

    envs = AtariVecEnv("breakout", 2, seed=1, max_num_frames_per_episode=40)
    envs.reset()
    ended = np.zeros(2, bool)
    while not ended.any():
        assert envs.lengths.max() < 30
        observations, _, ended, infos = envs.step(np.array([1, 2]))
    assert isinstance(observations, np.ndarray)
    i = int(np.flatnonzero(ended)[0])
    assert infos[i]["TimeLimit.truncated"]
    assert infos[i]["episode"] == {"r": 0, "l": 10}
    assert infos[i]["terminal_observation"].shape == observations[i].shape == (4, 84, 84)
    assert not np.array_equal(infos[i]["terminal_observation"], observations[i])
    assert envs.returns[i] == envs.lengths[i] == 0
    envs.close()
