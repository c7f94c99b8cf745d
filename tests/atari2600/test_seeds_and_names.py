"""Seeds of every kind, actions of every kind, and the names that a game goes by."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from ale_py.vector_env import AtariVectorEnv as AleVectorEnv
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from atari2600 import AtariEnv, AtariVectorEnv, games, mersenne

Array = NDArray[Any]


@pytest.mark.parametrize("seed", [-1, -5, np.array([-1, -1]), np.array([-3, 7]), np.int64(-1)])
def test_negative_seeds_are_drawn_from_the_system_at_first(seed: Any) -> None:
    """As ale-py does; it never came back once."""
    frames = {
        tuple(AtariVectorEnv("pong", 2, num_threads=1).reset(seed=seed)[1]["frame_number"])
        for _ in range(12)
    }
    assert len(frames) > 1
    if np.ndim(seed) and np.max(seed) >= 0:
        expected = AleVectorEnv("pong", 2).reset(seed=seed)[1]["frame_number"][1]
        assert {pair[1] for pair in frames} == {expected}


def test_later_negative_seeds_go_on_as_ale_does() -> None:
    ours, ale = AtariVectorEnv("pong", 2), AleVectorEnv("pong", 2)
    ours.reset(seed=0)
    ale.reset(seed=0)
    for seed in (-5, np.array([-7, 3]), -1):
        np.testing.assert_array_equal(ours.reset(seed=seed)[0], ale.reset(seed=seed)[0])
    ale.close()


@pytest.mark.parametrize(
    ("seed", "kind"),
    [
        (2**32 - 1, ValueError),  # the second agent's would be 2^32
        (2**32, ValueError),
        (2**63 - 1, ValueError),
        (-(2**70), ValueError),
        (np.array([1, 2**40]), ValueError),
        (np.array([2**64 - 1, 1], np.uint64), ValueError),
        (np.array([1, 2, 3]), ValueError),
        (1.7, TypeError),
        (1.0, TypeError),
        ("1", TypeError),
        (np.array([1.5, 2.0]), TypeError),
        (np.array([True, False]), TypeError),
        ([1, None], TypeError),
    ],
)
def test_seeds_that_mean_nothing_are_refused(seed: Any, kind: type[Exception]) -> None:
    env = AtariVectorEnv("pong", 2, num_threads=1)
    with pytest.raises(kind, match=r"seed|integer"):
        env.reset(seed=seed)
    env.reset(seed=1)
    with pytest.raises(kind):
        env.reset(seed=seed)


@pytest.mark.parametrize(
    "seed", [np.uint8(3), torch.tensor(3), [3, 4], np.array([3, 4], np.uint16)]
)
def test_whole_numbers_of_any_type_are_seeds(seed: Any) -> None:
    env = AtariVectorEnv("pong", 2, num_threads=1)
    expected = env.reset(seed=3)[0]
    np.testing.assert_array_equal(env.reset(seed=seed)[0], expected)


def test_no_draw_goes_on_for_ever() -> None:
    """A generator that was never seeded gives zeros only; all of them ask for another draw."""
    generators = np.zeros((1, mersenne.GENERATORS, mersenne.WORDS), np.uint32)
    assert mersenne.draw_below(generators, 0, mersenne.WRAPPER, 30) == 0


@pytest.mark.parametrize(
    "action",
    [torch.tensor(1), np.array(1), np.uint8(1), np.int64(1), True, torch.tensor(1).short()],
)
def test_a_single_game_takes_any_kind_of_integer(action: Any) -> None:
    env, expected = AtariEnv("breakout"), AtariEnv("breakout")
    env.reset(seed=1)
    expected.reset(seed=1)
    np.testing.assert_array_equal(env.step(action)[0], expected.step(1)[0])


@pytest.mark.parametrize("action", [1.0, "1", None, -1, 4, np.array([0, 1]), torch.tensor(9)])
def test_other_actions_are_refused(action: Any) -> None:
    env = AtariEnv("breakout")
    env.reset(seed=1)
    with pytest.raises(ValueError, match=r"action is .*; expected one of Discrete\(4\)"):
        env.step(action)


def test_continuous_actions_may_be_tensors_but_must_be_finite() -> None:
    env, other = (AtariEnv("breakout", continuous=True) for _ in range(2))
    env.reset(seed=1)
    other.reset(seed=1)
    action = np.array([1, 0, 1], np.float32)
    np.testing.assert_array_equal(env.step(torch.tensor(action))[0], other.step(action)[0])
    envs = AtariVectorEnv("breakout", 1, num_threads=1, continuous=True)
    envs.reset(seed=1)
    with pytest.raises(ValueError, match="finite"):
        envs.step(np.array([[np.nan, 0, 0]], np.float32))


@pytest.mark.parametrize(
    ("name", "game"),
    [
        ("ALE/Breakout-v5", "breakout"),
        ("atari2600/Breakout-v5", "breakout"),
        ("BreakoutNoFrameskip-v4", "breakout"),
        ("Breakout-v0", "breakout"),
        ("BreakoutDeterministic-v4", "breakout"),
        ("ALE/MsPacman-v5", "ms_pacman"),
        ("atari2600/TicTacToe3D-v5", "tic_tac_toe_3d"),
        ("UpNDown-v4", "up_n_down"),
        ("breakout", "breakout"),
    ],
)
def test_ids_of_gymnasium_name_a_game(name: str, game: str) -> None:
    assert games.find(name).name == game


def test_every_registered_id_names_its_game() -> None:
    for name in games.names():
        assert games.find(f"atari2600/{games.gym_name(name)}-v5").name == name


@pytest.mark.parametrize("name", ["ALE/Brekout-v5", "Breakout-ram-v4", "CartPole-v1", "", "ALE/"])
def test_ids_that_name_no_game_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no game"):
        AtariVectorEnv(name, 1)


@pytest.mark.parametrize(
    "mode",
    ["SAME_STEP", "same_step", "SameStep", "same-step", "samestep", AutoresetMode.SAME_STEP,
     "AutoresetMode.SAME_STEP"],
)  # fmt: skip
def test_the_autoreset_mode_is_spelled_in_any_way(mode: Any) -> None:
    env = AtariVectorEnv("breakout", 1, num_threads=1, autoreset_mode=mode)
    assert env.autoreset_mode is AutoresetMode.SAME_STEP
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP


@pytest.mark.parametrize("mode", ["DISABLED", AutoresetMode.DISABLED, "never", None, 1])
def test_other_autoreset_modes_are_refused(mode: Any) -> None:
    with pytest.raises(ValueError, match="expected NEXT_STEP or SAME_STEP"):
        AtariVectorEnv("breakout", 1, autoreset_mode=mode)


@pytest.mark.parametrize("frameskip", [2.5, "4", None, (2,), (2, 3, 4), (1.5, 3), -1, (0, 2)])
def test_frame_skips_are_whole(frameskip: Any) -> None:
    for make in (lambda: AtariVectorEnv("pong", 1, frameskip=frameskip),
                 lambda: AtariEnv("pong", frameskip=frameskip)):  # fmt: skip
        with pytest.raises(ValueError, match=r"frameskip is .*; expected at least 1"):
            make()


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("noop_max", 2**40, ValueError),
        ("noop_max", 1.5, TypeError),
        ("num_threads", 1.5, TypeError),
        ("num_threads", True, TypeError),
        ("num_threads", None, TypeError),
        ("num_envs", "2", TypeError),
        ("max_num_frames_per_episode", 1.5, TypeError),
        ("thread_affinity_offset", "x", TypeError),
        ("repeat_action_probability", "x", TypeError),
    ],
)
def test_an_argument_that_is_no_such_number_is_named(
    name: str, value: Any, kind: type[Exception]
) -> None:
    with pytest.raises(kind, match=f"{name} is {value!r}; expected"):
        AtariVectorEnv(**{"game": "pong", "num_envs": 2, name: value})
