"""Wrappers of Gymnasium and stable-baselines3 around AtariEnv, beside ale-py's through the same."""

from __future__ import annotations

from typing import Any

import ale_py
import gymnasium
import numpy as np
import pytest
from ale_py.env import AtariEnv as AleEnv
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray

from atari2600 import AtariEnv

Array = NDArray[Any]
gymnasium.register_envs(ale_py)


def assert_equal_play(ours: Any, theirs: Any, steps: int = 150) -> None:
    """Through whatever is around them."""
    random = np.random.default_rng(0)
    np.testing.assert_array_equal(ours.reset(seed=3)[0], theirs.reset(seed=3)[0])
    for _ in range(steps):
        action = int(random.integers(ours.action_space.n))
        answer, expected = ours.step(action), theirs.step(action)
        np.testing.assert_array_equal(answer[0], expected[0])
        assert answer[1:4] == expected[1:4]
        if answer[2] or answer[3]:
            np.testing.assert_array_equal(ours.reset()[0], theirs.reset()[0])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"terminal_on_life_loss": True, "noop_max": 5},
        {"grayscale_obs": False, "screen_size": (64, 72)},
        {"scale_obs": True, "grayscale_newaxis": True, "frame_skip": 2},
    ],
)
def test_gymnasiums_preprocessing(options: dict[str, Any]) -> None:
    pytest.importorskip("cv2")
    ours, theirs = (
        gymnasium.wrappers.AtariPreprocessing(gymnasium.make(name, frameskip=1), **options)
        for name in ("atari2600/Breakout-v5", "ALE/Breakout-v5")
    )
    assert_equal_play(ours, theirs)


def test_gymnasiums_preprocessing_of_an_environment_that_skips_frames() -> None:
    pytest.importorskip("cv2")
    skipping = gymnasium.make("atari2600/Breakout-v5")
    with pytest.raises(ValueError, match="Disable frame-skipping"):
        gymnasium.wrappers.AtariPreprocessing(skipping)
    ours, theirs = (
        gymnasium.wrappers.AtariPreprocessing(gymnasium.make(name), frame_skip=1)
        for name in ("atari2600/Breakout-v5", "ALE/Breakout-v5")
    )
    assert_equal_play(ours, theirs, steps=40)


@pytest.mark.parametrize("options", [{}, {"env_kwargs": {"frameskip": 1}}])
def test_stable_baselines(options: dict[str, Any]) -> None:
    pytest.importorskip("cv2")
    util = pytest.importorskip("stable_baselines3.common.env_util")
    ours, theirs = (
        util.make_atari_env(name, n_envs=2, seed=4, **options)
        for name in ("atari2600/Breakout-v5", "ALE/Breakout-v5")
    )
    np.testing.assert_array_equal(ours.reset(), theirs.reset())
    random = np.random.default_rng(0)
    for _ in range(150):
        actions = random.integers(4, size=2)
        for part, expected in zip(ours.step(actions)[:3], theirs.step(actions)[:3], strict=True):
            np.testing.assert_array_equal(part, expected)


def test_the_frame_skip_is_where_wrappers_look() -> None:
    for frameskip in (1, 4, (2, 5)):
        assert AtariEnv("pong", frameskip=frameskip)._frameskip == frameskip


def test_the_interface_answers_as_ale_does() -> None:
    """Every method, through a game's end by its frames."""
    options: dict[str, Any] = {"max_num_frames_per_episode": 120, "frameskip": 3}
    ours, theirs = AtariEnv("breakout", **options), AleEnv("breakout", **options)
    ours.reset(seed=1)
    theirs.reset(seed=1)
    names = ["lives", "game_over", "game_truncated", "getFrameNumber", "getEpisodeFrameNumber",
             "getScreenDims", "getScreenRGB", "getScreenGrayscale", "getScreen", "getRAM",
             "getRAMSize"]  # fmt: skip
    ends = 0
    for k in range(60):
        for name in names:
            found, expected = getattr(ours.ale, name)(), getattr(theirs.ale, name)()
            np.testing.assert_array_equal(found, expected, name)
            assert np.asarray(found).dtype.kind == np.asarray(expected).dtype.kind
        ends += ours.ale.game_over()
        assert not ours.ale.game_over(with_truncation=False)
        ours.step(k % 4)
        theirs.step(k % 4)
    assert ends > 0


def test_the_interface_fills_what_it_is_given() -> None:
    env = AtariEnv("breakout")
    env.reset(seed=1)
    for name, shape in (("getScreenRGB", (210, 160, 3)), ("getScreenGrayscale", (210, 160)),
                        ("getScreen", (210, 160)), ("getRAM", (128,))):  # fmt: skip
        output = np.zeros(shape, np.uint8)
        fill = getattr(env.ale, name)
        assert fill(output) is output
        np.testing.assert_array_equal(output, fill())
        assert output.any()
        kept = output.copy()
        fill()[...] = 7  # a copy, not the machine's
        np.testing.assert_array_equal(fill(), kept)
        for wrong in (np.zeros(shape[:1], np.uint8)[:5], np.zeros(shape, np.float32)):
            with pytest.raises(ValueError, match="expected uint8"):
                fill(wrong)
        with pytest.raises(TypeError, match="the output is a list; expected a NumPy array"):
            fill([0] * 128)


def test_seeding_and_loading_by_hand() -> None:
    """As `reset` does with a seed; ale-py's way."""
    ours, theirs, by_seed = AtariEnv("pong"), AleEnv("pong"), AtariEnv("pong")
    assert ours.seed_game(5) == theirs.seed_game(5)
    ours.load_game()
    theirs.load_game()
    np.testing.assert_array_equal(ours.reset()[0], theirs.reset()[0])
    by_seed.reset(seed=5)
    for k in range(30):
        observation = ours.step(k % 6)[0]
        np.testing.assert_array_equal(observation, theirs.step(k % 6)[0])
        np.testing.assert_array_equal(observation, by_seed.step(k % 6)[0])
    ours.seed_game(6)  # without a load the game goes on
    theirs.seed_game(6)
    np.testing.assert_array_equal(ours.reset()[0], theirs.reset()[0])


@pytest.mark.parametrize("include_rng", [False, True])
def test_clones_go_on_as_ale_does(include_rng: bool) -> None:
    """With the generators it repeats itself; without, the sticky actions are drawn on. The action
    that sticks is that of before the restoring, which matters with some seeds alone."""
    ours, theirs = AtariEnv("breakout", obs_type="ram"), AleEnv("breakout", obs_type="ram")
    runs = [[cloned(env, seed, include_rng) for seed in range(24)] for env in (ours, theirs)]
    np.testing.assert_array_equal(runs[0], runs[1])
    repeated = np.array([np.array_equal(first, second) for first, second in runs[0]])
    assert repeated.mean() > 0.5 if include_rng else not repeated.all()


def cloned(env: Any, seed: int, include_rng: bool) -> list[list[Array]]:
    """What is seen after a clone, twice."""
    env.reset(seed=seed)
    for _ in range(10):
        env.step(1)
    clone = env.clone_state(include_rng=include_rng)
    runs = []
    for _ in range(2):
        runs.append([env.step(2)[0] for _ in range(12)])
        for _ in range(5):
            env.step(3)
        env.restore_state(clone)
    return runs


@pytest.mark.parametrize(
    ("before", "between", "repeats"), [(0, 0, True), (0, 1, False), (30, 0, False), (30, 1, True)]
)
def test_a_clone_goes_on_with_the_machines_frame_as_ales(
    before: int, between: int, repeats: bool
) -> None:
    """Steps before the clone, and between a reset and its restoring. A reset of Q*bert leaves a
    frame unfinished, and no clone holds that."""
    seen = []
    envs: list[Any] = [
        kind("qbert", obs_type="ram", frameskip=1, repeat_action_probability=0.0)
        for kind in (AtariEnv, AleEnv)
    ]
    for env in envs:
        env.reset(seed=1)
        for k in range(before):
            env.step(k % 5)
        clone = env.clone_state(include_rng=True)
        first = [env.step(1)[0] for _ in range(12)]
        env.reset()
        for _ in range(between):
            env.step(1)
        env.restore_state(clone)
        seen.append([env.step(1)[0] for _ in range(12)])
        assert np.array_equal(first, seen[-1]) == repeats
    np.testing.assert_array_equal(seen[0], seen[1])


def test_a_restored_clone_is_reset_as_ales() -> None:
    """The machine's generator is the clone's, whatever is asked; its reset draws from it."""
    seen = []
    envs: list[Any] = [
        kind("freeway", repeat_action_probability=0.0) for kind in (AtariEnv, AleEnv)
    ]
    for env in envs:
        env.reset(seed=1)
        for _ in range(5):
            env.step(1)
        clone = env.clone_state()
        env.reset()
        for _ in range(5):
            env.step(2)
        env.restore_state(clone)
        env.reset()
        seen.append([env.ale.getRAM(), *(env.step(1)[0] for _ in range(5))])
    for one, other in zip(*seen, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_clone_that_is_restored_before_the_first_reset() -> None:
    seen = []
    for kind in (AtariEnv, AleEnv):
        env: Any = kind("breakout")
        env.reset(seed=1)
        for _ in range(9):
            env.step(1)
        fresh: Any = kind("breakout")
        fresh.seed_game(2)
        fresh.load_game()
        fresh.restore_state(env.clone_state())
        seen.append([fresh.step(2 + k // 3 % 2)[0] for k in range(25)])
    np.testing.assert_array_equal(seen[0], seen[1])


def test_a_clone_goes_on_by_another_protocol() -> None:
    """As in planning with a model that draws nothing."""
    seen = []
    for kind in (AtariEnv, AleEnv):
        real: Any = kind("breakout")
        model: Any = kind("breakout", frameskip=1, repeat_action_probability=0.0)
        real.reset(seed=3)
        for k in range(20):
            real.step(k % 4)
        model.reset(seed=4)
        model.restore_state(real.clone_state())
        seen.append([model.step(k // 5 % 4)[0] for k in range(40)])
    np.testing.assert_array_equal(seen[0], seen[1])


def test_clones_of_something_else_are_refused() -> None:
    env = AtariEnv("breakout")
    with pytest.raises(ResetNeeded):
        env.clone_state()
    env.reset(seed=1)
    with pytest.raises(ValueError, match="kind"):
        env.restore_state(env.save_state())
    with pytest.raises(ValueError, match="kind"):
        env.load_state(env.clone_state())
    with pytest.raises(ValueError, match="game breakout; expected pong"):
        AtariEnv("pong").restore_state(env.clone_state())


def test_vectors_that_gymnasium_makes_are_as_ale_pys() -> None:
    """Rewards clipped and reset in the next step, unless asked otherwise; no render mode."""
    ours, theirs = (
        gymnasium.make_vec(name, num_envs=2)
        for name in ("atari2600/Breakout-v5", "ALE/Breakout-v5")
    )
    assert ours.metadata["autoreset_mode"] == theirs.metadata["autoreset_mode"]
    np.testing.assert_array_equal(ours.reset(seed=1)[0], theirs.reset(seed=1)[0])
    random = np.random.default_rng(0)
    for _ in range(200):
        actions = random.integers(4, size=2)
        for part, expected in zip(ours.step(actions)[:4], theirs.step(actions)[:4], strict=True):
            np.testing.assert_array_equal(part, expected)
    for name in ("atari2600/Breakout-v5", "ALE/Breakout-v5"):
        with pytest.raises(TypeError, match="render_mode"):
            gymnasium.make_vec(name, num_envs=2, render_mode="rgb_array")
    theirs.close()
