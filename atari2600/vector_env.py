"""AtariVectorEnv: N machines of one game as a Gymnasium VectorEnv.

It takes the arguments of `ale_py.vector_env.AtariVectorEnv` and answers the same, bit for bit, for
the same seeds and actions. It adds game modes and difficulties, a drawn frame skip, channels-last
observations, an array of the caller's to write them into, and exact saving. Without a seed the
first `reset` draws seeds from the system; ale-py does the same, so such runs differ in any case.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from typing import Any

import numpy as np
from gymnasium import error
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from atari2600 import agent, boot, games, snapshot
from atari2600.agent import View
from atari2600.ale import FIRE, full_strength
from atari2600.backends import cpu
from atari2600.controls import (
    actions_of,
    check_least,
    check_probability,
    continuous_space,
    frames_of,
)
from atari2600.games import Game

Array = NDArray[Any]
LAYOUTS = ("stacked_first", "channels_last")


class AtariVectorEnv(VectorEnv[Array, Array, Array]):
    """N agents of one game."""

    def __init__(
        self,
        game: str,
        num_envs: int,
        *,
        batch_size: int = 0,
        num_threads: int = 0,
        thread_affinity_offset: int = -1,
        max_num_frames_per_episode: int = 108_000,
        repeat_action_probability: float = 0.0,
        full_action_space: bool = False,
        continuous: bool = False,
        continuous_action_threshold: float = 0.5,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        img_height: int = 84,
        img_width: int = 84,
        grayscale: bool = True,
        stack_num: int = 4,
        frameskip: int | tuple[int, int] = 4,
        maxpool: bool = True,
        noop_max: int = 30,
        episodic_life: bool = False,
        life_loss_info: bool = False,
        reward_clipping: bool = True,
        use_fire_reset: bool = True,
        mode: int | None = None,
        difficulty: int | None = None,
        layout: str = "stacked_first",
        out: Array | None = None,
    ):
        """Build N machines; `reset` starts them.

        game: ROM name in snake_case
        batch_size: answers that `recv` waits for; 0 is all of them
        num_threads: workers; 0 is as many as there are processors, at most one an agent
        thread_affinity_offset: processor of the first worker; -1 leaves it to the system
        max_num_frames_per_episode: emulator frames after which an episode is truncated
        repeat_action_probability: of the sticky actions, at each emulator frame
        full_action_space: all 18 actions, also where the game ignores some
        continuous: actions are (radius, angle, fire); paddles turn by the radius
        continuous_action_threshold: from where a direction, or fire, counts
        autoreset_mode: in the step after an episode's end, or in the same one
        img_height, img_width, grayscale, stack_num: of an observation
        frameskip: emulator frames per agent step; (low, high) draws from low to high - 1 at each
            agent step, from the generator that also draws the no-ops
        maxpool: see the brighter of the last two frames
        noop_max: an episode starts with fewer no-ops than this
        episodic_life: a lost life ends the episode
        life_loss_info: a lost life is reported as a termination, and the episode goes on
        reward_clipping: to [-1, 1]
        use_fire_reset: an episode starts with FIRE, where the game has it
        mode, difficulty: of the game; None is its default
        layout: [N, stack, height, width] (and 3 for colour), or "channels_last":
            [N, height, width, stack] (or stack x 3), oldest first
        out: uint8 array that every `reset` and `step` writes its observations into and returns;
            without it they return fresh arrays
        """
        self.game = games.find(game)
        check_least(
            1, num_envs=num_envs, stack_num=stack_num, img_height=img_height, img_width=img_width
        )
        check_least(1, max_num_frames_per_episode=max_num_frames_per_episode)
        check_least(0, batch_size=batch_size, num_threads=num_threads, noop_max=noop_max)
        self.num_envs = num_envs
        self.batch_size = batch_size or num_envs
        if self.batch_size > num_envs:
            raise ValueError(f"batch_size is {batch_size}; expected at most num_envs, {num_envs}")
        self.autoreset_mode = autoreset(autoreset_mode)
        self.metadata = {"autoreset_mode": self.autoreset_mode}
        full = full_action_space or continuous
        actions = self.game.legal_actions if full else self.game.minimal_actions
        self.action_set = full_strength(np.array(actions))
        self.continuous = continuous
        self.continuous_action_threshold = continuous_action_threshold

        protocol = np.zeros(agent.PROTOCOL, np.int64)
        protocol[agent.SKIP_LOW], protocol[agent.SKIP_HIGH] = frames_of(frameskip)
        protocol[agent.MAXPOOL], protocol[agent.STACK] = maxpool, stack_num
        protocol[agent.CHANNELS_LAST] = check_layout(layout) == "channels_last"
        protocol[agent.NOOP_MAX] = noop_max
        protocol[agent.FIRE_RESET] = use_fire_reset and FIRE in actions
        protocol[agent.EPISODIC_LIFE] = episodic_life
        protocol[agent.LIFE_LOSS_INFO] = life_loss_info
        protocol[agent.CLIP_REWARDS] = reward_clipping
        protocol[agent.MAX_FRAMES] = max_num_frames_per_episode
        protocol[agent.SAME_STEP] = self.autoreset_mode is AutoresetMode.SAME_STEP
        self.view = agent.view_of(self.game, protocol, img_height, img_width, grayscale)
        self.layer = boot.layer_of(
            self.game,
            games.check_mode(self.game, mode),
            games.check_difficulty(self.game, difficulty),
            check_probability(repeat_action_probability),
        )
        self.machines = cpu.machines_of(self.game, self.layer, num_envs)

        shape = observation_shape(stack_num, img_height, img_width, grayscale, layout)
        self.make_spaces(shape)
        self.out = check_out(out, (num_envs, *shape), self.batch_size)
        self.observations = np.zeros((num_envs, *shape), np.uint8) if out is None else out
        self.agents = agent.agents_of(self.observations, self.view, self.game)
        workers = min(num_threads or os.cpu_count() or 1, num_envs)
        self.workers = Workers(workers, thread_affinity_offset, self.view, self.game)
        # Agents whose answer has not been given yet, oldest first, and what still computes it
        self.ready: deque[tuple[int, Future[None] | None]] = deque()
        self.asked: Array | None = None  # agents of the last answer: `send` brings their actions

    def make_spaces(self, shape: tuple[int, ...]) -> None:
        self.single_observation_space = Box(0, 255, shape, np.uint8)
        if self.continuous:
            self.single_action_space = continuous_space()
        else:
            self.single_action_space = Discrete(len(self.action_set))
        self.observation_space = batch_space(self.single_observation_space, self.batch_size)
        self.action_space = batch_space(self.single_action_space, self.batch_size)

    # ---- Gymnasium's interface ----

    def reset(
        self, *, seed: int | Array | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Array]]:
        """Start episodes. An integer seeds agent i with seed + i, an array gives each its own.

        With options={"reset_mask": bool [N]} only these agents start anew; an array of seeds has
        then one seed for each of them.
        """
        ids = np.arange(self.num_envs)
        if options is not None and "reset_mask" in options:
            ids = ids[check_mask(options["reset_mask"], self.num_envs)]
            if self.asked is None or self.batch_size < self.num_envs:
                raise error.ResetNeeded("reset_mask needs a full reset before, and no batch_size")
        seeds = seeds_of(seed, len(ids), self.asked is None)
        self.finish()
        self.run(ids, np.full(len(ids), cpu.RESET), seeds)
        self.finish()
        self.ready = deque((i, None) for i in range(self.num_envs))
        observations, _, _, _, info = self.recv()
        return observations, info

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict[str, Array]]:
        """One agent step: observations, rewards int32, terminations, truncations, info."""
        self.send(actions)
        return self.recv()

    def send(self, actions: Array) -> None:
        """Start agent steps of the agents whose answers came last."""
        if self.asked is None or len(self.asked) == 0:
            raise error.ResetNeeded("call reset() before step(), and recv() before the next send()")
        codes = self.decode(np.asarray(actions))
        self.run(self.asked, codes, codes)
        self.asked = self.asked[:0]

    def recv(self) -> tuple[Array, Array, Array, Array, dict[str, Array]]:
        """The next `batch_size` answers; info["env_id"] tells whose."""
        if len(self.ready) < self.batch_size:
            raise error.ResetNeeded("nothing to receive: call reset() or send() first")
        entries = [self.ready.popleft() for _ in range(self.batch_size)]
        for _, future in entries:
            if future is not None:
                future.result()
        self.asked = np.array([i for i, _ in entries])
        return self.answer(self.asked)

    def close_extras(self, **kwargs: Any) -> None:
        self.finish()
        self.workers.close()

    # ---- what is behind it ----

    def run(self, ids: Array, actions: Array, seeds: Array) -> None:
        """Move these agents on, see `cpu.run`; `ready` gets them in order."""
        shared = self.machines, self.layer, self.agents, self.view
        self.ready += self.workers.run(shared, ids, actions, seeds)

    def finish(self) -> None:
        """Wait until no worker is at work."""
        for _, future in self.ready:
            if future is not None:
                future.result()

    def answer(self, ids: Array) -> tuple[Array, Array, Array, Array, dict[str, Array]]:
        agents = self.agents
        rows = slice(None) if self.batch_size == self.num_envs else ids
        observations = self.observations
        if self.out is None:
            observations = observations[rows].copy()
        terminated, truncated = agents.terminated[rows].copy(), agents.truncated[rows].copy()
        info = {
            "env_id": ids.astype(np.int32),
            "lives": agents.lives[rows].copy(),
            "frame_number": agents.frames[rows].copy(),
            "episode_frame_number": agents.episode_frames[rows].copy(),
        }
        if self.view.protocol[agent.SAME_STEP] and (terminated | truncated).any():
            # Valid where an episode ended
            info["final_obs"] = agents.final[rows].reshape(observations.shape).copy()
        return observations, agents.rewards[rows].copy(), terminated, truncated, info

    def decode(self, actions: Array) -> Array:
        """Actions as ale.py has them. Raises ValueError."""
        if self.continuous:
            check_array("actions", actions, np.float32, (self.batch_size, 3))
            return actions_of(actions, self.continuous_action_threshold)
        check_array("actions", actions, np.integer, (self.batch_size,))
        limit = len(self.action_set)
        if actions.min() < 0 or actions.max() >= limit:
            raise ValueError(f"actions are {actions}; {self.game.name} takes 0 to {limit - 1}")
        return self.action_set[actions]

    # ---- exact saving ----

    def save_state(self) -> Array:
        """The whole state of all machines and agents: uint8 [bytes], for `load_state`.

        An environment that goes on from it answers exactly as this one.
        """
        self.finish()
        if self.asked is None:
            raise error.ResetNeeded("call reset() before save_state()")
        rest = {"ready": [int(i) for i, _ in self.ready], "asked": self.asked.tolist()}
        return snapshot.save(self.state_header(), rest, self.state_arrays())

    def load_state(self, state: Array) -> None:
        """Go on from what `save_state` returned. Raises ValueError if it is of something else."""
        self.finish()
        rest = snapshot.load(state, self.state_header(), self.state_arrays())
        self.ready = deque((int(i), None) for i in rest["ready"])
        self.asked = np.array(rest["asked"], np.int64)

    def state_header(self) -> dict[str, Any]:
        """What must be equal in the environment that loads a state."""
        return {
            "game": self.game.name,
            "num_envs": self.num_envs,
            "batch_size": self.batch_size,
            "observation": list(self.single_observation_space.shape or ()),
        }

    def state_arrays(self) -> list[Array]:
        """Everything that changes, in the order of a state."""
        machines = [self.machines.registers, self.machines.ram, self.machines.screens]
        return [*machines, *agent.changing(self.agents)]


class Workers:
    """Threads that compute agent steps, each with its own scratch memory.

    A lone worker is the calling thread: several environments in several threads then share nothing.
    """

    def __init__(self, workers: int, affinity_offset: int, view: View, game: Game):
        self.workers = workers
        self.own = threading.local()
        self.numbers = count(affinity_offset)
        self.pinned = affinity_offset >= 0
        self.new_scratch = lambda: agent.scratch_of(view, game)
        self.threads = ThreadPoolExecutor(workers, "atari2600", self.begin) if workers > 1 else None
        if self.threads is None:
            self.begin()

    def begin(self) -> None:
        """A thread's first act."""
        self.own.scratch = self.new_scratch()
        if self.pinned and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {next(self.numbers)})

    def run(
        self, shared: tuple[Any, ...], ids: Array, actions: Array, seeds: Array
    ) -> list[tuple[int, Future[None] | None]]:
        """Move the agents `ids` on; returns each with what computes it."""
        if self.threads is None:
            self.work(shared, ids, actions, seeds)
            return [(i, None) for i in ids.tolist()]
        started: list[tuple[int, Future[None] | None]] = []
        for part in np.array_split(np.arange(len(ids)), self.workers):
            rows = ids[part], actions[part], seeds[part]
            future = self.threads.submit(self.work, shared, *rows)
            started += [(i, future) for i in ids[part].tolist()]
        return started

    def work(self, shared: tuple[Any, ...], ids: Array, actions: Array, seeds: Array) -> None:
        if not hasattr(self.own, "scratch"):  # another thread took the environment over
            self.own.scratch = self.new_scratch()
        cpu.run(*shared, self.own.scratch, ids, actions, seeds)

    def close(self) -> None:
        if self.threads is not None:
            self.threads.shutdown()


def observation_shape(
    stack: int, height: int, width: int, grayscale: bool, layout: str
) -> tuple[int, ...]:
    if layout == "channels_last":
        return (height, width, stack if grayscale else stack * 3)
    return (stack, height, width) if grayscale else (stack, height, width, 3)


def seeds_of(seed: int | Array | None, num_envs: int, first: bool) -> Array:
    """int64 [N]; -1 goes on without a new seed. The first reset needs one, from the system."""
    if seed is None and first:
        return np.random.SeedSequence().generate_state(num_envs).astype(np.int64)
    if seed is None:
        return np.full(num_envs, -1)
    if isinstance(seed, np.ndarray):
        if seed.shape != (num_envs,):
            raise ValueError(f"seeds are {seed.shape}; expected one per agent: ({num_envs},)")
        return seed.astype(np.int64)
    return int(seed) + np.arange(num_envs)


def autoreset(mode: AutoresetMode | str) -> AutoresetMode:
    mode = AutoresetMode(mode)
    if mode is AutoresetMode.DISABLED:
        raise ValueError("autoreset_mode is DISABLED; expected NEXT_STEP or SAME_STEP")
    return mode


def check_layout(layout: str) -> str:
    if layout not in LAYOUTS:
        raise ValueError(f"layout is {layout!r}; expected one of {LAYOUTS}")
    return layout


def check_array(name: str, array: Array, kind: type, shape: tuple[int, ...]) -> Array:
    if array.shape != shape or not np.issubdtype(array.dtype, kind):
        raise ValueError(
            f"{name}: {array.dtype} {array.shape}; expected {kind.__name__} of shape {shape}"
        )
    return array


def check_out(out: Array | None, shape: tuple[int, ...], batch_size: int) -> Array | None:
    """`out`, if observations can be written straight into it."""
    if out is None:
        return None
    if batch_size != shape[0]:
        raise ValueError("with `out` the batch_size must be num_envs")
    if not out.flags.c_contiguous:
        raise ValueError("out is not contiguous")
    return check_array("out", out, np.uint8, shape)


def check_mask(mask: Array, num_envs: int) -> Array:
    return check_array("reset_mask", np.asarray(mask), np.bool_, (num_envs,))
