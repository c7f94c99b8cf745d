"""AtariVectorEnv and AtariEnv against ale-py, answer by answer; states, threads, bad input."""

from __future__ import annotations

import copy
import os
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import ale_py
import gymnasium
import numpy as np
import pytest
from ale_py.env import AtariEnv as AleEnv
from ale_py.vector_env import AtariVectorEnv as AleVectorEnv
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Discrete, Space
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from atari2600 import AtariEnv, AtariVectorEnv, games
from atari2600.backends import cpu, kept, translate
from atari2600.window import Window

Array = NDArray[Any]
Actions = list[Array]
gymnasium.register_envs(ale_py)


def held_actions(num_actions: int, num_envs: int, steps: int, seed: int = 0) -> Actions:
    """Random actions, each held for three steps or so: games get somewhere."""
    random = np.random.default_rng(seed)
    action = random.integers(num_actions, size=num_envs)
    actions = []
    for _ in range(steps):
        new = random.random(num_envs) < 0.3
        action = np.where(new, random.integers(num_actions, size=num_envs), action)
        actions.append(action)
    return actions


def held(space: Space[Any], num_envs: int, steps: int) -> Actions:
    """Such actions of a space, for each agent its own."""
    if isinstance(space, Discrete):
        return held_actions(int(space.n), num_envs, steps)
    space.seed(0)
    several = np.stack([space.sample() for _ in range(64)])
    return [several[choice] for choice in held_actions(len(several), num_envs, steps)]


def assert_equal_info(info: dict[str, Array], expected: dict[str, Array], ended: Array) -> None:
    assert set(info) == set(expected)
    for key, value in expected.items():
        rows = ended if key == "final_obs" else np.ones_like(ended)
        np.testing.assert_array_equal(info[key][rows], value[rows], key)
        assert info[key].dtype == value.dtype, key


def assert_same(game: str, steps: int = 120, **options: Any) -> int:
    """Ours and ale-py's answer alike; returns how many episodes ended."""
    num_envs = 2
    ours = AtariVectorEnv(game, num_envs, num_threads=1, **options)
    ale = AleVectorEnv(game, num_envs, num_threads=1, **options)
    assert ours.single_action_space == ale.single_action_space
    assert ours.observation_space == ale.observation_space
    nobody = np.zeros(num_envs, bool)
    observations, info = ours.reset(seed=7)
    expected, expected_info = ale.reset(seed=7)
    np.testing.assert_array_equal(observations, expected)
    assert_equal_info(info, expected_info, nobody)
    ends = 0
    for action in held(ours.single_action_space, num_envs, steps):
        *answer, info = ours.step(action)
        *expected_answer, expected_info = ale.step(action)
        for part, expected in zip(answer, expected_answer, strict=True):
            np.testing.assert_array_equal(part, expected)
            assert part.dtype == expected.dtype
        ended = answer[2] | answer[3]
        # A lost life that is only reported leaves ale-py's final_obs unset
        really_ended = nobody if options.get("life_loss_info") else ended
        assert_equal_info(info, expected_info, really_ended)
        ends += int(ended.sum())
    ale.close()
    return ends


@pytest.mark.parametrize("game", ["breakout", "pong", "space_invaders"])
def test_default_arguments(game: str) -> None:
    assert_same(game, steps=400 if game == "space_invaders" else 200)


@pytest.mark.parametrize("game", games.names())
@pytest.mark.usefixtures("interpreted")
def test_every_game_as_it_is_trained(game: str) -> None:
    """Where every frame is compared (test_oracle.py), every frame is drawn; here half of them."""
    assert_same(game, steps=20)


@pytest.mark.parametrize(
    ("game", "options"),
    [
        ("klax", {}),  # PAL: 250 rows, colours of its own
        ("klax", {"grayscale": False}),
        ("journey_escape", {"grayscale": False}),  # 230 rows
        ("freeway", {"noop_max": 1}),  # no FIRE to begin with
        ("skiing", {}),  # which takes points away, and ignores some directions
        ("skiing", {"full_action_space": True}),
    ],
)
@pytest.mark.usefixtures("interpreted")
def test_games_that_differ_from_the_others(game: str, options: dict[str, Any]) -> None:
    assert_same(game, steps=30, **options)


@pytest.mark.usefixtures("interpreted")
def test_several_games_play_the_mode_and_the_difficulty_that_were_asked_for() -> None:
    """ale-py's have neither; so it is beside a single game."""
    alike: dict[str, Any] = {"mode": 12, "difficulty": 1, "frameskip": 1}
    plain: dict[str, Any] = {"noop_max": 0, "use_fire_reset": False, "maxpool": False,
                             "stack_num": 1, "img_height": 210, "img_width": 160}  # fmt: skip
    several = AtariVectorEnv("breakout", 1, **alike, **plain)
    single = AtariEnv("breakout", obs_type="grayscale", repeat_action_probability=0, **alike)
    usual = AtariVectorEnv("breakout", 1, frameskip=1, **plain)
    seen, other = several.reset(seed=1)[0], usual.reset(seed=1)[0]
    assert not np.array_equal(seen, other)
    np.testing.assert_array_equal(seen[0, 0], single.reset(seed=1)[0])
    for k in range(20):
        np.testing.assert_array_equal(
            several.step(np.array([k % 4]))[0][0, 0], single.step(k % 4)[0]
        )


@pytest.mark.parametrize("frameskip", [3, 4, 5])
@pytest.mark.usefixtures("interpreted")
def test_short_frames(frameskip: int) -> None:
    """While this game thinks, frames do not end: rows of older frames show through."""
    assert_same("tic_tac_toe_3d", steps=120, frameskip=frameskip)


@pytest.mark.parametrize("frameskip", [1, 2, 3, 5, 6])
@pytest.mark.parametrize("maxpool", [True, False])
def test_frame_skip_and_maximum(frameskip: int, maxpool: bool) -> None:
    options = {"frameskip": frameskip, "maxpool": maxpool, "episodic_life": True}
    assert_same("breakout", steps=60 + 240 // frameskip, **options)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, "SameStep"])
@pytest.mark.parametrize("limit", [1, 2, 41, 42, 43, 44])
def test_episodes_end_at_the_frame_limit(mode: AutoresetMode | str, limit: int) -> None:
    options: dict[str, Any] = {"max_num_frames_per_episode": limit, "autoreset_mode": mode}
    assert assert_same("breakout", steps=30, **options) >= 4


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
@pytest.mark.parametrize("lives", ["episodic_life", "life_loss_info"])
def test_lost_lives(mode: str, lives: str) -> None:
    assert assert_same("breakout", steps=250, autoreset_mode=mode, **{lives: True}) > 0


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_a_life_that_is_lost_with_the_last_frame(mode: str) -> None:
    """The episode ends, though it is the lost life that is reported."""
    options: dict[str, Any] = {"life_loss_info": True, "autoreset_mode": mode, "noop_max": 1}
    kinds: list[Any] = [AtariVectorEnv, AleVectorEnv]
    envs = [kind("breakout", 1, max_num_frames_per_episode=96, **options) for kind in kinds]
    reported = []
    for env in envs:
        env.reset(seed=0)
        for k in range(30):
            *answer, info = env.step(np.array([0 if k % 8 else 1]))
            reported.append(
                [*map(np.ndarray.item, answer[1:]), info["episode_frame_number"].item()]
            )
    assert reported[:30] == reported[30:]
    assert [answer[1] for answer in reported[:30]].count(True) == 1  # at the limit


@pytest.mark.parametrize(
    "options",
    [
        {"repeat_action_probability": 0.25},
        {"repeat_action_probability": 1.0},
        {"stack_num": 1},
        {"stack_num": 3, "grayscale": False},
        {"full_action_space": True, "reward_clipping": False},
        {"noop_max": 0},
        {"noop_max": 1, "use_fire_reset": False},
        {"noop_max": 7},
    ],
)
def test_other_arguments(options: dict[str, Any]) -> None:
    assert_same("breakout", steps=60, **options)


def test_unclipped_rewards_of_a_joystick_game() -> None:
    assert_same("space_invaders", reward_clipping=False, full_action_space=True)


@pytest.mark.parametrize("game", ["breakout", "seaquest"])  # a paddle, and a joystick
@pytest.mark.parametrize("threshold", [{}, {"continuous_action_threshold": 0.2}])
@pytest.mark.usefixtures("interpreted")
def test_continuous_actions(game: str, threshold: dict[str, float]) -> None:
    assert_same(game, steps=60, continuous=True, **threshold)


@pytest.mark.parametrize(
    ("height", "width"),
    [(210, 160), (105, 80), (70, 40), (64, 64), (37, 91), (210, 84), (300, 200), (100, 200)],
)
def test_sizes(height: int, width: int) -> None:
    for grayscale in (True, False):
        options = {"img_height": height, "img_width": width, "grayscale": grayscale}
        assert_same("breakout", steps=6, **options)


def test_seeds() -> None:
    ours, ale = AtariVectorEnv("breakout", 3), AleVectorEnv("breakout", 3)
    for seed in (0, np.array([5, 5, 2**31 - 1]), None, np.array([-1, 9, -1]), None):
        observations, info = ours.reset(seed=seed)
        expected, expected_info = ale.reset(seed=seed)
        np.testing.assert_array_equal(observations, expected)
        assert_equal_info(info, expected_info, np.zeros(3, bool))
    mask = np.array([False, True, False])
    ours.step(np.array([1, 2, 3]))
    ale.step(np.array([1, 2, 3]))
    observations, info = ours.reset(seed=np.array([4]), options={"reset_mask": mask})
    expected, expected_info = ale.reset(seed=np.array([4]), options={"reset_mask": mask})
    np.testing.assert_array_equal(observations, expected)
    assert_equal_info(info, expected_info, mask)
    ale.close()


def test_without_a_seed_runs_differ() -> None:
    frames = {tuple(AtariVectorEnv("pong", 8).reset()[1]["frame_number"]) for _ in range(3)}
    assert len(frames) > 1


# ---- what ale-py's has not ----


def play(env: AtariVectorEnv, actions: Actions) -> list[bytes]:
    """All answers."""
    answers = []
    for action in actions:
        *answer, info = env.step(action)
        answers.append(b"".join(part.tobytes() for part in [*answer, *info.values()]))
    return answers


OPTIONS: dict[str, Any] = {"repeat_action_probability": 0.25, "episodic_life": True}


def test_drawn_frame_skips() -> None:
    env = AtariVectorEnv("pong", 4, frameskip=(2, 5))
    env.reset(seed=1)
    fixed = AtariVectorEnv("pong", 4, frameskip=(4, 5)), AtariVectorEnv("pong", 4)
    for each in fixed:
        each.reset(seed=1)
    before = env.agents.frames.copy()
    steps = []
    for action in held_actions(6, 4, 50):
        frames = env.step(action)[-1]["frame_number"]
        steps.append(frames - before)
        before = frames
        np.testing.assert_array_equal(fixed[0].step(action)[0], fixed[1].step(action)[0])
    assert set(np.concatenate(steps)) == {2, 3, 4}


@pytest.mark.parametrize("grayscale", [True, False])
@pytest.mark.parametrize("stack", [1, 3, 4])
def test_channels_last(grayscale: bool, stack: int) -> None:
    options: dict[str, Any] = {"grayscale": grayscale, "stack_num": stack}
    first = AtariVectorEnv("breakout", 2, **options)
    last = AtariVectorEnv("breakout", 2, layout="channels_last", **options)
    first.reset(seed=3)
    last.reset(seed=3)
    for action in held_actions(4, 2, 8):
        expected = first.step(action)[0]
        if grayscale:
            expected = expected[..., None]
        expected = np.moveaxis(expected, 1, 3).reshape(last.observation_space.shape)
        np.testing.assert_array_equal(last.step(action)[0], expected)


def test_observations_are_written_into_out() -> None:
    out = np.zeros((2, 84, 84, 4), np.uint8)
    env = AtariVectorEnv("breakout", 2, layout="channels_last", out=out)
    plain = AtariVectorEnv("breakout", 2, layout="channels_last")
    assert env.reset(seed=3)[0] is out
    kept = plain.reset(seed=3)[0]
    for action in held_actions(4, 2, 5):
        assert env.step(action)[0] is out
        fresh = plain.step(action)[0]
        np.testing.assert_array_equal(out, fresh)
        assert not np.shares_memory(fresh, kept)
        kept = fresh


def test_a_state_goes_on_exactly() -> None:
    actions = held_actions(4, 3, 120)
    env = AtariVectorEnv("breakout", 3, frameskip=(2, 5), **OPTIONS)
    env.reset(seed=5)
    play(env, actions[:60])
    state = env.save_state()
    saved = state.copy()
    expected = play(env, actions[60:])
    other = AtariVectorEnv("breakout", 3, frameskip=(2, 5), num_threads=2, **OPTIONS)
    other.load_state(state)
    assert play(other, actions[60:]) == expected
    env.load_state(state)
    assert play(env, actions[60:]) == expected
    np.testing.assert_array_equal(state, saved)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AtariVectorEnv("pong", 2), "the state has game breakout; expected pong"),
        (lambda: AtariVectorEnv("breakout", 3), "num_envs 2; expected 3"),
        (lambda: AtariVectorEnv("breakout", 2, stack_num=1), "observation"),
    ],
)
def test_states_of_something_else_are_refused(make: Any, message: str) -> None:
    env = AtariVectorEnv("breakout", 2)
    env.reset(seed=1)
    with pytest.raises(ValueError, match=message):
        make().load_state(env.save_state())


def test_broken_states_are_refused() -> None:
    env = AtariVectorEnv("breakout", 1)
    env.reset(seed=1)
    state = env.save_state()
    newer = np.frombuffer(state.tobytes().replace(b'"version": 2', b'"version": 9', 1), np.uint8)
    with pytest.raises(ValueError, match="version 9; expected 1 or 2"):
        env.load_state(newer)
    for broken in (state[:-1], state[:100], state.astype(np.int64), np.zeros(50, np.uint8)):
        with pytest.raises(ValueError, match="expected"):
            env.load_state(broken)


def test_agents_together_equal_agents_alone() -> None:
    actions = held_actions(4, 3, 80)
    together = AtariVectorEnv("breakout", 3, num_threads=1, **OPTIONS)
    first = together.reset(seed=10)[0]
    observed = [first, *[together.step(action)[0] for action in actions]]
    for i in range(3):
        alone = AtariVectorEnv("breakout", 1, **OPTIONS)
        seen = [alone.reset(seed=10 + i)[0], *[alone.step(a[i : i + 1])[0] for a in actions]]
        np.testing.assert_array_equal(np.stack(seen)[:, 0], np.stack(observed)[:, i])


def test_the_number_of_threads_changes_nothing() -> None:
    actions = held_actions(6, 5, 60)
    answers = []
    for num_threads in (1, 2, 5):
        env = AtariVectorEnv("pong", 5, num_threads=num_threads, **OPTIONS)
        env.reset(seed=1)
        answers.append(play(env, actions))
        env.close()
    assert answers[0] == answers[1] == answers[2]


def test_one_game_made_in_several_threads_is_translated_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A second translation would free the first, which has been given away."""
    made = Mock(wraps=translate._made)
    monkeypatch.setattr(translate, "_made", made)
    monkeypatch.setattr(translate, "_engines", {})
    monkeypatch.setattr(kept, "folders", lambda: [tmp_path])
    with ThreadPoolExecutor(4) as threads:
        envs = list(threads.map(lambda _: AtariVectorEnv("pong", 2, num_threads=1), range(4)))
    assert made.call_count == 1
    answers = [play(env, held_actions(6, 2, 60)) for env in envs if env.reset(seed=1)]
    assert all(answer == answers[0] for answer in answers)


def test_translated_code_is_of_one_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cartridge that is laid out otherwise, by changed sources, has other code."""
    kept_code = Mock(return_value=(None, np.zeros(0, np.int64)))
    monkeypatch.setattr(translate, "_kept", kept_code)
    monkeypatch.setattr(translate, "_hot_code", lambda *_: None)
    monkeypatch.setattr(translate, "_engines", {})
    ones, zeros = np.ones(4, np.uint8), np.zeros(4, np.uint8)
    for constants, image in [(ones, ones), (ones, zeros), (zeros, ones)]:
        translate.code_of(constants, image, "game", lambda _: None)
    assert len({call.args for call in kept_code.call_args_list}) == 3


def test_environments_in_several_threads() -> None:
    actions = held_actions(6, 2, 60)
    envs = [AtariVectorEnv("pong", 2, num_threads=1, **OPTIONS) for _ in range(4)]
    answers: dict[int, list[bytes]] = {}

    def work(k: int) -> None:
        envs[k].reset(seed=k % 2)
        answers[k] = play(envs[k], actions)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers[0] == answers[2] != answers[1] == answers[3]


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_batches(mode: str) -> None:
    """Each answer is that of its agents, whose games end at different steps."""
    options = {**OPTIONS, "frameskip": (2, 5), "autoreset_mode": mode}
    kinds: list[Any] = [{}, {"batch_size": 2, "num_threads": 3}]
    whole, batched = (
        AtariVectorEnv("pong", 4, max_num_frames_per_episode=250, **options, **kind)
        for kind in kinds
    )
    nothing = np.zeros(4, np.int32), np.zeros(4, bool), np.zeros(4, bool)
    observations, info = whole.reset(seed=2)
    expected: tuple[Any, ...] = (observations, *nothing, info)
    observations, info = batched.reset(seed=2)
    answer: tuple[Any, ...] = (observations, *(part[:2] for part in nothing), info)
    rewards, ends = 0, set()
    for k, action in enumerate(held_actions(6, 4, 110)):
        following = whole.step(action)
        for _ in range(2):
            ids, ended = answer[4]["env_id"], answer[2] | answer[3]
            for part, all_of_it in zip(answer[:4], expected[:4], strict=True):
                np.testing.assert_array_equal(part, all_of_it[ids])
            rows = {name: value[ids] for name, value in expected[4].items() if name in answer[4]}
            assert_equal_info(answer[4], rows, ended)
            assert ("final_obs" in answer[4]) == (mode == "SameStep" and ended.any())
            rewards += abs(answer[1]).sum()
            ends |= {(k, i) for i in ids[ended]}
            batched.send(action[ids])
            answer = batched.recv()
        expected = following
    batched.close()
    assert rewards > 2
    assert len(ends) < 4 * len({k for k, _ in ends})  # not all at the same steps
    assert {i for _, i in ends} == set(range(4))


# ---- one machine ----


@pytest.mark.parametrize(
    ("game", "options"),
    [
        ("breakout", {}),
        ("breakout", {"continuous": True}),
        ("seaquest", {"continuous": True, "continuous_action_threshold": 0.2}),
        ("breakout", {"max_num_frames_per_episode": 101, "mode": 12, "difficulty": 1}),
        ("pong", {"obs_type": "ram", "full_action_space": True}),
        ("space_invaders", {"obs_type": "grayscale", "frameskip": (2, 5), "mode": 9}),
        ("adventure", {"mode": 2, "difficulty": 3}),
        ("double_dunk", {"mode": 5}),
        ("video_cube", {"mode": 302}),
    ],
)
@pytest.mark.usefixtures("interpreted")
def test_single_environment(game: str, options: dict[str, Any]) -> None:
    options = {"render_mode": "rgb_array", **options}
    ours, ale = AtariEnv(game, **options), AleEnv(game, **options)
    assert ours.action_space == ale.action_space
    assert ours.observation_space == ale.observation_space
    if not options.get("continuous"):
        assert ours.get_action_meanings() == ale.get_action_meanings()
        keys = {frozenset(keys): action for keys, action in ale.get_keys_to_action().items()}
        assert {frozenset(k): action for k, action in ours.get_keys_to_action().items()} == keys
    ours.action_space.seed(0)
    for seed in (3, None):
        observation, info = ours.reset(seed=seed)
        expected, expected_info = ale.reset(seed=seed)
        np.testing.assert_array_equal(observation, expected)
        assert info == expected_info
        np.testing.assert_array_equal(ours.render(), ale.render())
        for _ in range(40):
            action = ours.action_space.sample()
            for _ in range(3):
                answer, expected_answer = ours.step(action), ale.step(action)
                np.testing.assert_array_equal(answer[0], expected_answer[0])
                assert answer[1:] == expected_answer[1:]
            np.testing.assert_array_equal(ours.render(), ale.render())


def test_single_environment_goes_on_from_a_state() -> None:
    env = AtariEnv("pong", frameskip=(2, 5))
    env.reset(seed=1)
    state = env.save_state()
    expected = [env.step(k % 6)[0] for k in range(30)]
    other = AtariEnv("pong", frameskip=(2, 5))
    other.load_state(state)
    np.testing.assert_array_equal([other.step(k % 6)[0] for k in range(30)], expected)
    with pytest.raises(ValueError, match="expected breakout"):
        AtariEnv("breakout").load_state(state)


def test_a_loaded_game_begins_its_next_episode_as_the_saved_one_does() -> None:
    env, other = AtariEnv("breakout"), AtariEnv("breakout")
    env.reset(seed=1)
    for k in range(30):
        env.step(k % 4)
    other.load_state(env.save_state())
    (expected, info), (found, found_info) = env.reset(), other.reset()
    np.testing.assert_array_equal(found, expected)
    assert found_info == info
    for k in range(20):
        np.testing.assert_array_equal(other.step(k % 4)[0], env.step(k % 4)[0])


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
@pytest.mark.parametrize("batch_size", [0, 2])
def test_answers_that_nobody_has_taken_are_in_the_state(batch_size: int, mode: str) -> None:
    env, other = (
        AtariVectorEnv(
            "breakout", 4, batch_size=batch_size, frameskip=(2, 5), reward_clipping=False,
            max_num_frames_per_episode=120, autoreset_mode=mode,
        )
        for _ in range(2)
    )  # fmt: skip
    _, info = env.reset(seed=1)
    ended = 0
    for action in held_actions(4, 4, 120):
        env.send(action[info["env_id"]])
        other.load_state(env.save_state())
        *answer, info = env.recv()
        *loaded, loaded_info = other.recv()
        for part, expected in zip(loaded, answer, strict=True):
            np.testing.assert_array_equal(part, expected)
        over = answer[2] | answer[3]
        assert_equal_info(loaded_info, info, over)
        ended += over.sum()
    assert ended > 2


def test_answers_are_the_callers_own() -> None:
    """The next step writes over none of them."""
    env = AtariVectorEnv("breakout", 2, max_num_frames_per_episode=8, autoreset_mode="SameStep")
    env.reset(seed=1)
    action = np.zeros(2, int)
    *first, first_info = env.step(action)
    *second, second_info = env.step(action)
    assert "final_obs" in second_info
    for one, other in zip(first, second, strict=True):
        assert not np.shares_memory(one, other)
    for name in first_info:
        assert not np.shares_memory(first_info[name], second_info[name])
    env.step(action)
    *_, fourth_info = env.step(action)
    assert "final_obs" in fourth_info
    assert not np.shares_memory(second_info["final_obs"], fourth_info["final_obs"])


def test_a_state_is_restored_where_no_episode_has_begun() -> None:
    """With generators that have a seed: those of zeros would repeat an action for ever."""
    env, other = AtariEnv("breakout"), AtariEnv("breakout")
    env.reset(seed=1)
    other.restore_state(env.clone_state())
    rows = [other.step(k // 10 % 4)[0][190].tobytes() for k in range(40)]
    assert len(set(rows)) > 3  # the paddle moves
    AtariEnv("breakout").load_state(other.save_state())
    exact = AtariEnv("breakout")
    exact.restore_state(env.clone_state(include_rng=True))
    exact.reset()
    env.reset()
    np.testing.assert_array_equal(exact.step(3)[0], env.step(3)[0])


def test_numpys_integers_are_numbers_too() -> None:
    two: Any = np.int64(2)
    limit: Any = np.int32(1000)
    env = AtariVectorEnv("pong", two, max_num_frames_per_episode=limit)
    env.reset(seed=1)
    copy.deepcopy(env).step(np.zeros(2, int))
    single = AtariEnv("pong", max_num_frames_per_episode=limit)
    single.reset(seed=1)
    copy.deepcopy(single).step(0)


def test_numpys_small_integers_do_not_overflow() -> None:
    sizes: dict[str, Any] = {"stack_num": np.uint8(100), "img_height": np.int8(84)}
    skip: Any = np.uint8(255)
    deep = AtariVectorEnv(
        "pong", 1, grayscale=False, layout="channels_last", frameskip=skip, **sizes
    )
    observations, _ = deep.reset(seed=1)
    assert observations.shape == (1, 84, 84, 300)
    assert AtariEnv("pong", frameskip=skip).frameskip == (255, 256)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_num_frames_per_episode": 100.5}, "expected a whole number"),
        ({"max_num_frames_per_episode": "100"}, "expected a whole number"),
        ({"max_num_frames_per_episode": -5}, "expected at least 0"),
        ({"continuous_action_threshold": "half"}, "expected a number from 0 to 1"),
        ({"repeat_action_probability": True}, "expected a number from 0 to 1"),
    ],
)
def test_bad_arguments_of_a_single_environment(options: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        AtariEnv("breakout", **options)


def test_a_reset_that_was_interrupted_asks_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    env, same = (AtariVectorEnv("pong", 4, num_threads=2) for _ in range(2))
    env.reset(seed=1)
    with monkeypatch.context() as patched:
        patched.setattr(Future, "result", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            env.reset(seed=5)
    with pytest.raises(ResetNeeded):
        env.step(np.zeros(4, int))
    np.testing.assert_array_equal(env.reset(seed=6)[0], same.reset(seed=6)[0])
    for _ in range(3):
        answer, expected = env.step(np.full(4, 2)), same.step(np.full(4, 2))
        np.testing.assert_array_equal(answer[0], expected[0])
        np.testing.assert_array_equal(answer[4]["frame_number"], expected[4]["frame_number"])


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("during", ["reset", "step"])
def test_an_interrupt_while_work_is_dealt_out_asks_for_a_reset(
    during: str, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was under way then is over before the next games begin, and none are played twice."""
    env, same = (AtariVectorEnv("pong", 4, num_threads=workers, noop_max=5000) for _ in range(2))
    env.reset(seed=1)
    place, name = (cpu, "run") if workers == 1 else (env.workers.threads, "submit")
    whole = getattr(place, name)

    def interrupted(*words: Any) -> Any:
        monkeypatch.setattr(place, name, whole)
        whole(*words)
        raise KeyboardInterrupt

    monkeypatch.setattr(place, name, interrupted)
    with pytest.raises(KeyboardInterrupt):
        env.reset(seed=2) if during == "reset" else env.step(np.zeros(4, int))
    for forbidden in (env.recv, env.save_state, lambda: env.step(np.zeros(4, int))):
        with pytest.raises(ResetNeeded):
            forbidden()
    np.testing.assert_array_equal(env.reset(seed=7)[0], same.reset(seed=7)[0])
    for _ in range(5):
        answer, expected = env.step(np.full(4, 2)), same.step(np.full(4, 2))
        np.testing.assert_array_equal(answer[0], expected[0])
        np.testing.assert_array_equal(answer[4]["frame_number"], expected[4]["frame_number"])


def test_a_mask_of_all_is_a_full_reset() -> None:
    options = {"reset_mask": np.ones(4, bool)}
    env, same = (AtariVectorEnv("pong", 4, batch_size=2) for _ in range(2))
    np.testing.assert_array_equal(env.reset(seed=1, options=options)[0], same.reset(seed=1)[0])


def test_an_answer_that_was_interrupted_can_be_waited_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    env, same = (AtariVectorEnv("pong", 4, num_threads=2) for _ in range(2))
    env.reset(seed=1)
    same.reset(seed=1)
    env.send(np.full(4, 2))
    with monkeypatch.context() as patched:
        patched.setattr(Future, "result", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            env.recv()
    np.testing.assert_array_equal(env.recv()[0], same.step(np.full(4, 2))[0])


def test_a_mask_brings_no_last_observation_of_other_agents() -> None:
    same = AutoresetMode.SAME_STEP
    env = AtariVectorEnv("pong", 2, max_num_frames_per_episode=8, autoreset_mode=same)
    env.reset(seed=1)
    while "final_obs" not in env.step(np.zeros(2, int))[4]:
        pass
    assert "final_obs" not in env.reset(options={"reset_mask": np.array([False, True])})[1]


def test_a_paddle_turns_by_whole_parts_of_doubles() -> None:
    """With float32 this radius, and one of 1,600 others, turned it by one too much."""
    ours, ale = (kind("breakout", 1, continuous=True) for kind in (AtariVectorEnv, AleVectorEnv))
    np.testing.assert_array_equal(ours.reset(seed=1)[0], ale.reset(seed=1)[0])
    for k in range(100):
        polar = (0.6085652, 0) if k // 12 % 2 else (0.55308694, np.pi)
        action = np.array([[*polar, k % 10 == 0]], np.float32)
        np.testing.assert_array_equal(ours.step(action)[0], ale.step(action)[0])


@pytest.mark.usefixtures("interpreted")
def test_a_continuous_action_that_the_game_has_not_is_none() -> None:
    """Skiing has no down. (ale-py's vector environment never answers then.)"""
    seen = []
    for action in ([1.0, -np.pi / 2, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]):
        env = AtariVectorEnv("skiing", 1, continuous=True)
        env.reset(seed=1)
        seen.append([env.step(np.array([action], np.float32))[0].tobytes() for _ in range(20)])
    assert seen[0] == seen[1] != seen[2]


def test_continuous_actions_outside_their_space() -> None:
    env = AtariVectorEnv("breakout", 1, continuous=True)
    env.reset(seed=1)
    with pytest.raises(ValueError, match=r"agent 0 is \[1.5, 0.0, 0.0\]; expected finite numbers"):
        env.step(np.array([[1.5, 0, 0]], np.float32))
    with pytest.raises(AttributeError, match="continuous=False"):
        AtariEnv("breakout", continuous=True).get_keys_to_action()


@pytest.mark.parametrize(
    "name",
    ["full_action_space", "continuous", "grayscale", "maxpool", "episodic_life", "life_loss_info",
     "reward_clipping", "use_fire_reset"],
)  # fmt: skip
@pytest.mark.parametrize("value", ["False", None, 2])
def test_a_flag_is_true_or_false(name: str, value: Any) -> None:
    """The word "False", of a file or a command line, would be true."""
    with pytest.raises(TypeError, match=f"{name} is {value!r}; expected True or False"):
        AtariVectorEnv("breakout", 2, **{name: value})
    if name in ("full_action_space", "continuous"):
        with pytest.raises(TypeError, match=f"{name} is {value!r}; expected True or False"):
            AtariEnv("breakout", **{name: value})


def test_a_single_environment_takes_any_kind_of_float() -> None:
    env, same = (AtariEnv("breakout", continuous=True) for _ in range(2))
    env.reset(seed=1)
    same.reset(seed=1)
    for action in ([0.5, 0.1, 0.9], (1.0, np.pi, 0.0)):
        found, expected = env.step(np.array(action)), same.step(np.array(action, np.float32))
        np.testing.assert_array_equal(found[0], expected[0])
    with pytest.raises(ValueError, match="expected one of Box"):
        env.step(np.array([np.nan, 0, 0]))


def test_a_shallow_copy_draws_into_an_array_of_its_own() -> None:
    out = np.zeros((2, 84, 84, 4), np.uint8)
    env = AtariVectorEnv("pong", 2, layout="channels_last", out=out)
    env.reset(seed=1)
    copied, before = copy.copy(env), out.copy()
    seen = [copied.step(np.zeros(2, int))[0].copy() for _ in range(30)]
    np.testing.assert_array_equal(out, before)
    assert (seen[-1] != before).any()
    for expected in seen:
        np.testing.assert_array_equal(env.step(np.zeros(2, int))[0], expected)


def test_a_copy_before_the_first_reset_draws_the_same_frame_skips() -> None:
    env = AtariEnv("pong", frameskip=(2, 10))
    env.seed_game(5)
    env.load_game()
    copied = copy.deepcopy(env)
    for each in (env, copied):
        each.reset()
    frames = [[each.step(0)[4]["frame_number"] for _ in range(6)] for each in (env, copied)]
    assert frames[0] == frames[1]


def test_the_last_of_several_windows_closes_the_display(monkeypatch: pytest.MonkeyPatch) -> None:
    pygame = Mock()
    monkeypatch.setitem(sys.modules, "pygame", pygame)
    windows, picture = [Window("Pong"), Window("Breakout")], np.zeros((2, 2, 3), np.uint8)
    for window in windows:
        window.show(picture, 1)
    windows[0].close()
    windows[0].close()
    pygame.display.quit.assert_not_called()
    windows[1].show(picture, 1)
    windows[1].close()
    pygame.display.quit.assert_called_once_with()


def test_a_window_shows_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Width before height, as pygame has pictures, for as long as the step's frames last."""
    pygame = Mock()
    monkeypatch.setitem(sys.modules, "pygame", pygame)
    env = AtariEnv("pong", render_mode="human")
    env.reset(seed=1)
    observation = env.step(0)[0]
    shown = [call.args[0] for call in pygame.surfarray.make_surface.call_args_list]
    assert [picture.shape for picture in shown] == [(160, 210, 3)] * 2
    np.testing.assert_array_equal(shown[1].swapaxes(0, 1), observation)
    ticks = [call.args[0] for call in pygame.time.Clock().tick.call_args_list]
    assert ticks == [60, 15]
    env.close()


def test_a_window_without_pygame_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(
        gymnasium.error.DependencyNotInstalled, match=r"render_mode is 'human'.* or "
    ):
        AtariEnv("pong", render_mode="human")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no pinning here")
def test_a_single_worker_is_pinned_and_its_caller_is_not() -> None:
    before = os.sched_getaffinity(0)
    env = AtariVectorEnv("pong", 2, num_threads=1, thread_affinity_offset=min(before))
    env.reset(seed=0)
    assert os.sched_getaffinity(0) == before
    assert env.workers.threads is not None
    assert env.workers.threads.submit(os.sched_getaffinity, 0).result() == {min(before)}
    env.close()


def test_gymnasium_makes_and_checks_them() -> None:
    env = gymnasium.make("atari2600/Breakout-v5", render_mode="rgb_array")
    check_env(env.unwrapped, skip_render_check=True)  # which opens a window
    observation, _ = env.reset(seed=1)
    np.testing.assert_array_equal(env.render(), observation)
    assert observation.shape == (210, 160, 3)
    ids = [name for name in gymnasium.registry if name.startswith("atari2600/")]
    assert len(ids) == 104
    for name in ids:
        same = gymnasium.registry[name.replace("atari2600/", "ALE/")]
        assert gymnasium.spec(name).kwargs == same.kwargs
    for mode in (None, "sync"):
        vector = gymnasium.make_vec("atari2600/Breakout-v5", num_envs=8, vectorization_mode=mode)
        observations, _ = vector.reset(seed=0)
        assert vector.observation_space.contains(observations)
        vector.action_space.seed(0)
        answer = vector.step(vector.action_space.sample())
        assert vector.observation_space.contains(answer[0])
        assert answer[1].shape == answer[2].shape == answer[3].shape == (8,)
        vector.close()


# ---- bad input ----


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"game": "brekout"}, "did you mean breakout"),
        ({"game": "Breakout"}, "did you mean breakout"),
        ({"mode": 3}, "breakout has no mode 3; expected one of .0, 4, 8"),
        ({"difficulty": 2}, "no difficulty 2; expected one of .0, 1"),
        ({"num_envs": 0}, "num_envs is 0; expected at least 1"),
        ({"frameskip": 0}, "frameskip is 0"),
        ({"frameskip": True}, "frameskip is True"),
        ({"frameskip": (3, 3)}, "frameskip is .3, 3."),
        ({"batch_size": 3}, "batch_size is 3; expected at most num_envs, 2"),
        ({"stack_num": 0}, "stack_num is 0"),
        ({"max_num_frames_per_episode": 0}, "max_num_frames_per_episode is 0"),
        ({"max_num_frames_per_episode": 2**70}, "expected at most 2147483647"),
        ({"repeat_action_probability": 1.5}, "repeat_action_probability is 1.5; expected 0 to 1"),
        ({"continuous_action_threshold": -1}, "continuous_action_threshold is -1; expected 0 to 1"),
        ({"autoreset_mode": "Disabled"}, "expected NEXT_STEP or SAME_STEP"),
        ({"frameskip": 10**12}, "frameskip is 1000000000000; expected at most 100000"),
        ({"mode": np.array([0, 4])}, "breakout has no mode array"),
        ({"layout": "flat"}, "layout is 'flat'; expected one of"),
        ({"out": np.zeros((2, 84, 84), np.uint8)}, r"expected uint8 of shape .2, 4, 84, 84."),
        ({"out": np.zeros((2, 4, 84, 84), np.float32)}, "expected uint8"),
        ({"out": np.zeros((2, 4, 84, 168), np.uint8)[..., ::2]}, "contiguous"),
        ({"out": np.frombuffer(bytes(2 * 4 * 84 * 84), np.uint8)}, "cannot be written"),
    ],
)
def test_bad_arguments(options: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"game": "breakout", "num_envs": 2, **options}
    with pytest.raises(ValueError, match=message):
        AtariVectorEnv(**arguments)


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (np.array([0, 4]), "the action of agent 1 is 4; breakout takes 0 to 3"),
        (np.array([-1, 0]), "the action of agent 0 is -1; breakout takes 0 to 3"),
        ([[0], [1, 2]], "expected as much of each agent"),
        (np.array([0]), r"expected integer of shape \(2,\)"),
        (np.array([0.0, 1.0]), "expected integer"),
    ],
)
def test_bad_actions(actions: Array, message: str) -> None:
    env, other = (AtariVectorEnv("breakout", 2) for _ in range(2))
    for each in (env, other):
        each.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        env.step(actions)
    for each in (env, other):
        each.step(np.array([1, 3]))
    assert np.array_equal(env.save_state(), other.save_state())  # nothing had happened


def test_bad_order() -> None:
    env = AtariVectorEnv("breakout", 2)
    for call in (lambda: env.step(np.zeros(2, int)), env.recv, env.save_state):
        with pytest.raises(ResetNeeded):
            call()
    env.reset(seed=0)
    env.send(np.zeros(2, int))
    with pytest.raises(ResetNeeded):
        env.send(np.zeros(2, int))
    with pytest.raises(ResetNeeded, match="recv"):  # what agent 1 did would be lost
        env.reset(options={"reset_mask": np.array([True, False])})
    env.recv()
    env.reset(options={"reset_mask": np.array([True, False])})
    batches = AtariVectorEnv("breakout", 4, batch_size=2)
    batches.reset(seed=0)
    with pytest.raises(ResetNeeded, match="send"):
        batches.recv()  # the first two would never be asked again
    batches.step(np.zeros(2, int))
    with pytest.raises(ValueError, match="expected bool of shape"):
        env.reset(options={"reset_mask": np.ones(3, bool)})
    with pytest.raises(ValueError, match="expected one per agent"):
        env.reset(seed=np.zeros(3, int))
    with pytest.raises(ResetNeeded):
        AtariEnv("breakout").step(0)
    single = AtariEnv("breakout")
    single.reset(seed=0)
    with pytest.raises(ValueError, match="action is 4"):
        single.step(4)


def test_compiled_code_is_kept_for_the_whole_packages_sources() -> None:
    """Not for one file's, as Numba does it: it would run old code after a change elsewhere."""
    AtariVectorEnv("pong", 1, num_threads=1).reset(seed=0)  # compiles
    assert cpu.run._cache._cache_file._source_stamp == cpu.sources()
    assert cpu.sources()[:16] in cpu.run._cache._cache_file._data_name(1)
    stale = copy.copy(cpu.run._cache._cache_file)
    assert stale._load_index()
    stale._source_stamp = "of other sources"
    assert not stale._load_index()
