"""AtariVectorEnv: N machines of one game as a Gymnasium VectorEnv.

It takes the arguments of `ale_py.vector_env.AtariVectorEnv` and answers the same, bit for bit, for
the same seeds and actions. It adds game modes and difficulties, a drawn frame skip, channels-last
observations, an array of the caller's to write them into, and exact saving. Without a seed the
first `reset` draws seeds from the system; ale-py does the same, so such runs differ in any case.
"""

from __future__ import annotations

import copy
import functools
import operator
import re
from collections import deque
from concurrent.futures import Future
from typing import Any

import numpy as np
from gymnasium import error
from gymnasium.spaces import Box, Discrete
from gymnasium.utils import EzPickle
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from atari2600 import agent, boot, games, snapshot
from atari2600.ale import FIRE, full_strength
from atari2600.arguments import (
    actions_of,
    check_flags,
    check_fractions,
    check_least,
    check_limit,
    continuous_space,
    frames_of,
)
from atari2600.backends import cpu
from atari2600.snapshot import Rest
from atari2600.workers import Workers, check_affinity, processors

Array = NDArray[Any]
MOST_NOOPS = 10_000  # a reset that plays more would not seem to end
LAYOUTS = ("stacked_first", "channels_last")
MAX_SEED = 2**32 - 1


class AtariVectorEnv(VectorEnv[Array, Array, Array], EzPickle):
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

        game: ROM name in snake_case, or an id of Gymnasium's such as ALE/Breakout-v5
        batch_size: answers that `recv` waits for; 0 is all of them
        num_threads: workers; 0 is as many as this process has processors, at most one an agent
        thread_affinity_offset: processor of the first worker, the next ones for the others; -1
            leaves it to the system (a lone worker then is the calling thread)
        max_num_frames_per_episode: emulator frames after which an episode is truncated
        repeat_action_probability: of the sticky actions, at each emulator frame
        full_action_space: all 18 actions (9 of Skiing and Lost Luggage), also what a game ignores
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
            without it they return fresh arrays. The next stacks are made of it: only read it
        """
        given = dict(locals())  # a copy: in Python 3.12 a tracer adds to the live one
        arguments = {k: v for k, v in given.items() if k not in ("self", "__class__")}
        EzPickle.__init__(self, **arguments)
        self.game = games.find(game)
        check_least(
            1, num_envs=num_envs, stack_num=stack_num, img_height=img_height, img_width=img_width
        )
        check_limit(1, max_num_frames_per_episode)
        check_least(0, batch_size=batch_size, num_threads=num_threads, noop_max=noop_max)
        check_least(-1, thread_affinity_offset=thread_affinity_offset)
        check_fractions(
            repeat_action_probability=repeat_action_probability,
            continuous_action_threshold=continuous_action_threshold,
        )
        check_flags(
            full_action_space=full_action_space, continuous=continuous, grayscale=grayscale,
            maxpool=maxpool, episodic_life=episodic_life, life_loss_info=life_loss_info,
            reward_clipping=reward_clipping, use_fire_reset=use_fire_reset,
        )  # fmt: skip
        if noop_max > MOST_NOOPS:
            raise ValueError(f"noop_max is {noop_max}; expected at most {MOST_NOOPS}")
        # NumPy's integers count, too; but a saved state has none, and small ones would overflow
        self.num_envs, stack_num = int(num_envs), int(stack_num)
        img_height, img_width = int(img_height), int(img_width)
        self.batch_size = int(batch_size) or self.num_envs
        if self.batch_size > num_envs:
            raise ValueError(f"batch_size is {batch_size}; expected at most num_envs, {num_envs}")
        self.autoreset_mode = autoreset(autoreset_mode)
        self.metadata = {"autoreset_mode": self.autoreset_mode}
        full = full_action_space or continuous
        actions = self.game.legal_actions if full else self.game.minimal_actions
        self.action_set = full_strength(np.array(actions))
        self.continuous = continuous
        self.continuous_action_threshold = continuous_action_threshold
        protocol = agent.protocol_of(
            frames_of(frameskip),
            maxpool=maxpool,
            stack=stack_num,
            channels_last=check_layout(layout) == "channels_last",
            noop_max=noop_max,
            fire_reset=use_fire_reset and FIRE in actions,
            episodic_life=episodic_life,
            life_loss_info=life_loss_info,
            clip_rewards=reward_clipping,
            max_frames=max_num_frames_per_episode,
            same_step=self.autoreset_mode is AutoresetMode.SAME_STEP,
        )
        self.view = agent.view_of(self.game, protocol, img_height, img_width, grayscale)
        self.mode = games.check_mode(self.game, mode)
        self.difficulty = games.check_difficulty(self.game, difficulty)
        self.sticky = repeat_action_probability
        self.make_spaces(observation_shape(stack_num, img_height, img_width, grayscale, layout))
        self.out = out
        workers = min(num_threads or processors(), num_envs)
        self.pinned = check_affinity(thread_affinity_offset, workers)
        self.make_machines(workers)

    def make_machines(self, workers: int) -> None:
        """N machines, their agents and the threads that move them."""
        self.layer = boot.layer_of(self.game, self.mode, self.difficulty, self.sticky)
        self.machines = boot.machines_of(self.game, self.num_envs)
        shape = self.num_envs, *(self.single_observation_space.shape or ())
        out = check_out(self.out, shape, self.batch_size)
        self.observations = np.zeros(shape, np.uint8) if out is None else out
        self.agents = agent.agents_of(self.observations, self.view, self.game)
        code = cpu.prepare(self.machines, self.layer, self.game)
        new_scratch = functools.partial(agent.scratch_of, self.view, self.game, code)
        self.workers = Workers(workers, self.pinned, new_scratch)
        # Agents whose answer has not been given yet, oldest first, and what still computes it
        self.ready: deque[tuple[int, Future[None] | None]] = deque()
        self.asked: Array | None = None  # agents of the last answer: `send` brings their actions
        self.torn = False  # workers may be at work of whom `ready` knows nothing

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

        An agent whose seed is negative goes on without a new one; the first time it is drawn. With
        options={"reset_mask": bool [N]} only these agents start anew; an array of seeds has then
        one seed for each of them. Returns observations and info of batch_size agents, as `step`.
        Raises TypeError or ValueError for seeds and masks that cannot be, and ResetNeeded for a
        mask that leaves agents out before they have started, or while answers are due.
        """
        self.check_open()
        ids = np.arange(self.num_envs)
        if options is not None and not isinstance(options, dict):
            raise TypeError(f"options are {options!r}; expected a dict such as reset_mask's")
        if options is not None and "reset_mask" in options:
            ids = ids[check_mask(options["reset_mask"], self.num_envs)]
            some = len(ids) < self.num_envs
            if some and self.batch_size < self.num_envs:
                raise ValueError(
                    f"reset_mask leaves agents out, with batch_size {self.batch_size}; expected a "
                    f"mask of all, or batch_size {self.num_envs}"
                )
            if some and self.asked is None:
                raise error.ResetNeeded("reset_mask needs a full reset before")
            if some and self.ready:  # answers that are due would be lost, ends among them
                raise error.ResetNeeded("call recv() before a reset_mask that leaves agents out")
        seeds = seeds_of(seed, len(ids), self.asked is None)
        self.finish()
        self.ready.clear()
        self.asked = None  # whatever interrupts it: no step before the resets have been answered
        self.run(ids, np.full(len(ids), cpu.RESET), seeds)
        self.finish()
        self.ready = deque((i, None) for i in range(self.num_envs))
        self.asked = ids[:0]
        observations, _, _, _, info = self.recv()
        info.pop("final_obs", None)  # of agents that the mask left out
        return observations, info

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict[str, Array]]:
        """One agent step of the agents whose answers came last, with an action for each.

        Returns observations uint8 [N, ...] (see `layout`); rewards int32, terminated bool and
        truncated bool, [N] each, N being batch_size; and info: env_id, lives, frame_number and
        episode_frame_number, int32 [N] each, and with SAME_STEP, where an episode ended, final_obs,
        which is like the observations. Raises ResetNeeded before `reset`, ClosedEnvironmentError
        after `close`, and TypeError or ValueError for actions that there are not.
        """
        self.send(actions)
        return self.recv()

    def send(self, actions: Array) -> None:
        """Start agent steps of the agents whose answers came last."""
        self.check_open()
        if self.asked is None or len(self.asked) == 0:
            raise error.ResetNeeded("call reset() before step(), and recv() before the next send()")
        codes = self.decode(array_of("actions", actions))
        asked, self.asked = self.asked, self.asked[:0]
        self.run(asked, codes, codes)

    def recv(self) -> tuple[Array, Array, Array, Array, dict[str, Array]]:
        """The next `batch_size` answers; info["env_id"] tells whose."""
        self.check_open()
        if len(self.ready) < self.batch_size:
            raise error.ResetNeeded("nothing to receive: call reset() or send() first")
        if self.asked is not None and len(self.asked) > 0:
            raise error.ResetNeeded("call send() with the actions of the last answers first")
        entries = [self.ready[k] for k in range(self.batch_size)]
        for _, future in entries:
            if future is not None:
                future.result()  # interrupted, it can be called again
        asked, left = np.array([i for i, _ in entries]), deque(self.ready)
        for _ in entries:
            left.popleft()
        self.asked, self.ready = asked, left  # both or none: no Ctrl-C comes in between
        return self.answer(asked)

    def close_extras(self, **kwargs: Any) -> None:
        if not self.workers.forked():
            self.finish()
            self.workers.close()

    def check_open(self) -> None:
        """Raises ClosedEnvironmentError after `close`. In a forked child, and after a Ctrl-C that
        came while work was dealt out: new threads.

        What the threads of before were at is lost: then `reset` is needed.
        """
        if self.closed:
            raise error.ClosedEnvironmentError("the environment is closed; make another")
        forked = self.workers.forked()
        if not forked and not self.torn:
            return
        if not forked:
            self.workers.close()  # waits for what they are at
        self.workers = self.workers.again()
        if self.torn or any(future is not None for _, future in self.ready):
            self.ready.clear()
            self.asked = None
        self.torn = False

    # ---- what is behind it ----

    def run(self, ids: Array, actions: Array, seeds: Array) -> None:
        """Move these agents on, see `cpu.run`; `ready` gets them in order."""
        shared = self.machines, self.layer, self.agents, self.view
        self.torn = True
        self.ready += self.workers.run(shared, ids, actions, seeds)
        self.torn = False

    def finish(self) -> None:
        """Wait until no worker is at work."""
        for _, future in self.ready:
            if future is not None:
                future.result()

    def answer(self, ids: Array) -> tuple[Array, Array, Array, Array, dict[str, Array]]:
        """What `step` returns, of these agents."""
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
            for k, action in enumerate([] if self.action_space.contains(actions) else actions):
                if not self.single_action_space.contains(action):
                    expected = f"expected finite numbers of {self.single_action_space}"
                    raise ValueError(f"{self.named(k)} is {action.tolist()}; {expected}")
            return actions_of(actions, self.continuous_action_threshold)
        check_array("actions", actions, np.integer, (self.batch_size,))
        limit = len(self.action_set)
        if actions.min() < 0 or actions.max() >= limit:
            k = int(np.flatnonzero((actions < 0) | (actions >= limit))[0])
            expected = f"{self.game.name} takes 0 to {limit - 1}"
            raise ValueError(f"{self.named(k)} is {actions[k]}; {expected}")
        return self.action_set[actions]

    def named(self, k: int) -> str:
        """Whose the k-th of the actions is."""
        assert self.asked is not None
        return f"the action of agent {self.asked[k]}"

    # ---- exact saving ----

    def save_state(self) -> Array:
        """The whole state of all machines and agents: uint8 [bytes], for `load_state`.

        An environment that goes on from it answers exactly as this one.
        """
        self.check_open()
        self.finish()
        if self.asked is None:
            raise error.ResetNeeded("call reset() before save_state()")
        rest = {"ready": [int(i) for i, _ in self.ready], "asked": self.asked.tolist()}
        return snapshot.save(self.state_header(), rest, self.state_arrays())

    def load_state(self, state: Array, copies: int = 1) -> None:
        """Go on from what `save_state` returned. Raises ValueError if it is of something else.

        copies: the state is of so many times fewer environments, and each goes on so often: 0, 1,
        2, 0, 1, 2. Not where a batch has less than all of them.
        """
        self.check_open()
        self.finish()
        check_least(1, copies=copies)
        saved, left = divmod(self.num_envs, copies)
        if left or (copies > 1 and self.batch_size < self.num_envs):
            raise ValueError(
                f"copies is {copies}; expected 1, or with whole batches a divisor of "
                f"the {self.num_envs} environments"
            )
        arrays = self.state_arrays()
        header, first = self.state_header(copies), [array[:saved] for array in arrays]
        rest = snapshot.load(state, header, first, self.check_loaded)
        for k in range(1, copies):
            for array in arrays:
                array[k * saved : (k + 1) * saved] = array[:saved]
        offsets = range(0, self.num_envs, saved)
        self.ready = deque((int(i) + k, None) for k in offsets for i in rest["ready"])
        self.asked = np.array([i + k for k in offsets for i in rest["asked"]], np.int64)

    def state_header(self, copies: int = 1) -> Rest:
        """What must be equal in the environment that loads a state, or so many copies of it."""
        return {
            "game": self.game.name,
            "num_envs": self.num_envs // copies,
            "batch_size": self.batch_size // copies,
            "observation": list(self.single_observation_space.shape or ()),
            "mode": self.mode,
            "difficulty": self.difficulty,
            "repeat_action_probability": float(self.sticky),
            **dict(zip(agent.PROTOCOL_NAMES, self.view.protocol.tolist(), strict=True)),
        }

    def check_loaded(self, rest: Rest, arrays: list[Array]) -> None:
        """Raise ValueError if such a state would not be one."""
        registers, _, _, generators = arrays[:4]
        snapshot.check_machines(self.machines, registers, generators)
        turns = [rest.get("asked"), rest.get("ready")]
        asked, ready = (turn if isinstance(turn, list) else [] for turn in turns)
        num_envs = len(registers)
        batch_size = self.batch_size * num_envs // self.num_envs
        everybody = sorted(map(str, range(num_envs)))
        if len(asked) not in (0, batch_size) or sorted(map(str, asked + ready)) != everybody:
            raise ValueError("the state is damaged: it does not say whose turn it is")

    def __copy__(self) -> AtariVectorEnv:
        """With an `out` of its own, or each would draw into the other's."""
        return copy.deepcopy(self)

    def __getstate__(self) -> dict[str, Any]:
        """A copy is built from the arguments, and goes on with the same games."""
        if not self.closed:
            self.check_open()
        going_on = self.asked is not None and not self.closed
        return super().__getstate__() | {"saved": self.save_state() if going_on else None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if state["saved"] is not None:
            self.load_state(state["saved"])

    def state_arrays(self) -> list[Array]:
        """Everything that changes, in the order of a state."""
        machines = [self.machines.registers, self.machines.ram, self.machines.screens]
        return [*machines, *agent.changing(self.agents)]


def observation_shape(
    stack: int, height: int, width: int, grayscale: bool, layout: str
) -> tuple[int, ...]:
    if layout == "channels_last":
        return (height, width, stack if grayscale else stack * 3)
    return (stack, height, width) if grayscale else (stack, height, width, 3)


def seeds_of(seed: int | Array | None, num_envs: int, first: bool) -> Array:
    """int64 [N]; a negative one goes on without a new seed, as ale-py has it.

    The first reset needs seeds: there negative ones are drawn from the system.
    Raises TypeError for what is no whole number, ValueError for what has more than 32 bits.
    """
    if seed is None:
        seeds = np.full(num_envs, -1)
    elif np.ndim(seed) == 0:
        first_seed = operator.index(seed)
        check_seeds(first_seed, first_seed + num_envs - 1)
        seeds = first_seed + np.arange(num_envs)
    else:
        seeds = np.asarray(seed)
        if not np.issubdtype(seeds.dtype, np.integer):
            raise TypeError(f"seeds are {seeds.dtype}; expected whole numbers")
        if seeds.shape != (num_envs,):
            raise ValueError(f"seeds are {seeds.shape}; expected one per agent: ({num_envs},)")
        check_seeds(int(seeds.min(initial=0)), int(seeds.max(initial=0)))
        seeds = seeds.astype(np.int64)
    if first and (seeds < 0).any():
        drawn = np.random.SeedSequence().generate_state(num_envs).astype(np.int64)
        seeds = np.where(seeds < 0, drawn, seeds)
    return seeds


def check_seeds(least: int, most: int) -> None:
    """The generators take 32 bits: of more, two seeds could be one."""
    if most > MAX_SEED or least < -MAX_SEED:
        wrong = most if most > MAX_SEED else least
        raise ValueError(
            f"seed is {wrong}; expected at most {MAX_SEED}, for each agent, or as much below 0"
        )


def autoreset(mode: AutoresetMode | str) -> AutoresetMode:
    """Gymnasium's mode, however its name is written: SAME_STEP, SameStep, same-step."""
    known = [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP]
    word = letters(mode.value if isinstance(mode, AutoresetMode) else str(mode))
    for each in known:
        if word == letters(each.value):
            return each
    raise ValueError(f"autoreset_mode is {mode!r}; expected NEXT_STEP or SAME_STEP")


def letters(name: str) -> str:
    return re.sub("[^a-z]", "", name.lower().removeprefix("autoresetmode"))


def check_layout(layout: str) -> str:
    if layout not in LAYOUTS:
        raise ValueError(f"layout is {layout!r}; expected one of {LAYOUTS}")
    return layout


def array_of(name: str, values: Any) -> Array:
    """Raises ValueError for what is no array."""
    try:
        return np.asarray(values)
    except ValueError:
        raise ValueError(f"{name} are {values!r}; expected as much of each agent") from None


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
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out is a {type(out).__name__}; expected a NumPy array")
    if not out.flags.c_contiguous or not out.flags.writeable:
        raise ValueError("out is not contiguous, or cannot be written")
    return check_array("out", out, np.uint8, shape)


def check_mask(mask: Array, num_envs: int) -> Array:
    return check_array("reset_mask", array_of("reset_mask", mask), np.bool_, (num_envs,))
