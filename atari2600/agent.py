"""One agent step, as ALE's vector environment has it: frames, rewards, ends, what the agent sees.

Frames that nobody sees are not drawn, only their collisions are found. That is exact, see
`play_frames`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from atari2600 import ale, boot, console, games, mersenne, observe
from atari2600.ale import FIRE, NOOP
from atari2600.games import Game
from atari2600.mersenne import WRAPPER
from atari2600.resize import Lines, Resizing, lines_of, resize, resizing
from atari2600.state import (
    BUFFER,
    ELAPSED,
    ENDED,
    EPISODE_FRAMES,
    FRAMES,
    HELD_ACTION,
    LIVES,
    LIVES_BEFORE,
    OVER,
    RAM_BYTES,
    REGISTERS,
    ROW_WORDS,
    SHORT,
    STARTED,
    UNFINISHED,
)

Array = NDArray[Any]

# protocol[FIELD]: how a game is presented to agents, int64
SKIP_LOW, SKIP_HIGH = 0, 1  # frames per agent step; drawn from low to high - 1 if these differ
MAXPOOL, STACK, CHANNELS_LAST = 2, 3, 4
NOOP_MAX, FIRE_RESET = 5, 6
EPISODIC_LIFE, LIFE_LOSS_INFO = 7, 8
CLIP_REWARDS, MAX_FRAMES, SAME_STEP = 9, 10, 11
RUN_ON = 12  # all frames of a step are played, also after the end: they take draws
PROTOCOL = 13
PROTOCOL_NAMES = ["skip_low", "skip_high", "maxpool", "stack", "channels_last", "noop_max",
                  "fire_reset", "episodic_life", "life_loss_info", "clip_rewards", "max_frames",
                  "same_step", "run_on"]  # fmt: skip

NO_SEED = np.int64(-1)
NEVER = 2**62  # frames
NOT = np.bool_(False)
ALL_DRAWN = 4  # steps of fewer frames are drawn completely


def protocol_of(
    frames: tuple[int, int],
    *,
    maxpool: bool = False,
    stack: int = 0,
    channels_last: bool = False,
    noop_max: int = 0,
    fire_reset: bool = False,
    episodic_life: bool = False,
    life_loss_info: bool = False,
    clip_rewards: bool = False,
    max_frames: int = NEVER,
    same_step: bool = False,
    run_on: bool = False,
) -> Array:
    """int64 [PROTOCOL]. The defaults are those of a game without ALE's vector environment."""
    protocol = np.zeros(PROTOCOL, np.int64)
    protocol[SKIP_LOW], protocol[SKIP_HIGH] = frames
    protocol[MAXPOOL], protocol[STACK], protocol[CHANNELS_LAST] = maxpool, stack, channels_last
    protocol[NOOP_MAX], protocol[FIRE_RESET] = noop_max, fire_reset
    protocol[EPISODIC_LIFE], protocol[LIFE_LOSS_INFO] = episodic_life, life_loss_info
    protocol[CLIP_REWARDS], protocol[MAX_FRAMES] = clip_rewards, max_frames
    protocol[SAME_STEP], protocol[RUN_ON] = same_step, run_on
    return protocol


class Agents(NamedTuple):
    """What N agents have beyond their machines, and what a step answers."""

    generators: Array  # uint32 [N, GENERATORS, 625]
    pooled: Array  # uint64 [N, channels, height, 20]: what the agent sees, before resizing
    pixels: Array  # uint8 view of it [N, channels, height, 160]
    stacks: Array  # uint8 [N, bytes of an observation]
    quads: Array  # uint32 view of it [N, words]; empty where the bytes do not fill words
    final: Array  # uint8 [N, bytes of an observation]: of ended episodes (same-step autoreset)
    rewards: Array  # int32 [N]
    terminated: Array  # bool [N]
    truncated: Array  # bool [N]
    lives: Array  # int32 [N]
    frames: Array  # int32 [N], since the ROM was loaded
    episode_frames: Array  # int32 [N]


class View(NamedTuple):
    """How agents look at the screen, and how the game is presented to them."""

    protocol: Array  # int64 [PROTOCOL]
    levels: Array  # uint8 [channels, 256], of colour codes
    resizing: Resizing


class Scratch(NamedTuple):
    """Working memory of one worker; nothing in it outlives an agent step."""

    console: console.FrameScratch
    registers: Array  # int32 [1, REGISTERS] before the step
    ram: Array  # uint8 [1, RAM_BYTES] before the step
    held: Array  # int64 [SKIP_HIGH], the action of each frame
    screen: Array  # uint64 [words of a screen]
    lines: Lines
    image: Array  # uint8 [channels, height, width], resized


def scratch_of(view: View, game: Game, code: Any) -> Scratch:
    """Working memory for one worker, with the game's translated code or None."""
    height, width = len(view.resizing.rows.first), len(view.resizing.columns.first)
    return Scratch(
        console.scratch_of(code),
        np.zeros((1, REGISTERS), np.int32),
        np.zeros((1, RAM_BYTES), np.uint8),
        np.zeros(int(view.protocol[SKIP_HIGH]), np.int64),
        np.zeros(game.height * ROW_WORDS, np.uint64),
        lines_of(game.height, width),
        np.zeros((len(view.levels), height, width), np.uint8),
    )


def view_of(game: Game, protocol: Array, height: int, width: int, grayscale: bool) -> View:
    """How agents look at the screen."""
    levels = games.greys(game)[None] if grayscale else games.palette(game).T.copy()
    return View(protocol, levels, resizing(game.height, height, width))


def agents_of(observations: Array, view: View, game: Game) -> Agents:
    """N agents that write their stacks into `observations`."""
    num_envs, channels = len(observations), len(view.levels)
    pooled = np.zeros((num_envs, channels, game.height, ROW_WORDS), np.uint64)
    stacks = observations.reshape(num_envs, -1)
    return Agents(
        np.zeros((num_envs, mersenne.GENERATORS, mersenne.WORDS), np.uint32),
        pooled,
        pooled.view(np.uint8),
        stacks,
        stacks.view(np.uint32) if stacks.shape[1] % 4 == 0 else np.zeros((0, 0), np.uint32),
        np.zeros_like(stacks) if view.protocol[SAME_STEP] else stacks[:, :0].copy(),
        np.zeros(num_envs, np.int32),
        np.zeros(num_envs, np.bool_),
        np.zeros(num_envs, np.bool_),
        np.zeros(num_envs, np.int32),
        np.zeros(num_envs, np.int32),
        np.zeros(num_envs, np.int32),
    )


def changing(agents: Agents) -> list[Array]:
    """What a saved state must hold of agents; the other fields are views of these."""
    return [getattr(agents, name) for name in Agents._fields if name not in ("pixels", "quads")]


@numba.njit(_nrt=False)
def reset(machines, layer, agents, view, scratch, i, seed):  # type: ignore[no-untyped-def]
    """A new episode; seed >= 0 loads the ROM again with this seed for both generators."""
    registers = machines.registers
    if seed >= 0:
        boot.load_and_reset(machines, layer, agents.generators, scratch.console, i, seed)
        mersenne.seed(agents.generators, i, WRAPPER, seed)
    else:
        boot.reset_game(machines, layer, agents.generators, scratch.console, i)
    start_episode(machines, layer, agents, view, scratch, i)
    registers[i, ELAPSED] = registers[i, ENDED] = 0
    registers[i, LIVES_BEFORE] = registers[i, LIVES]
    registers[i, STARTED] = 1
    screen = rows_of(machines.words[i, registers[i, BUFFER]])
    for channel in range(view.levels.shape[0]):
        observe.pool(screen, screen, agents.pooled[i, channel], view.levels[channel])
    for k in range(agents.stacks.shape[1]):
        agents.stacks[i, k] = 0
    see(agents, view, scratch, i)
    answer(registers, agents, i, np.int64(0), NOT, NOT)


@numba.njit(_nrt=False, inline="always")
def start_episode(machines, layer, agents, view, scratch, i):  # type: ignore[no-untyped-def]
    """FIRE where the game has it, then a drawn number of no-ops, one fewer after FIRE."""
    protocol, generators = view.protocol, agents.generators
    noops = np.int64(0)
    if protocol[NOOP_MAX] > 0:
        noops = mersenne.draw_below(generators, i, WRAPPER, protocol[NOOP_MAX])
    if protocol[FIRE_RESET]:
        ale.act(machines, layer, generators, scratch.console, i, FIRE)
        noops -= 1
    for _ in range(noops):
        ale.act(machines, layer, generators, scratch.console, i, NOOP)
        if machines.registers[i, OVER]:
            boot.reset_game(machines, layer, generators, scratch.console, i)


@numba.njit(_nrt=False)
def step(machines, layer, agents, view, scratch, i, action):  # type: ignore[no-untyped-def]
    """One agent step of agent i, or the reset that takes its place after the end of an episode."""
    registers, protocol = machines.registers, view.protocol
    if registers[i, ENDED] and not protocol[SAME_STEP]:
        reset(machines, layer, agents, view, scratch, i, NO_SEED)
        return
    reward = play_frames(machines, layer, agents, view, scratch, i, action)
    see(agents, view, scratch, i)
    lost = life_lost(registers, i)
    over = registers[i, OVER] != 0
    life_counts = protocol[EPISODIC_LIFE] != 0 or protocol[LIFE_LOSS_INFO] != 0
    terminated = over or (lost and life_counts)
    used_up = registers[i, ELAPSED] >= protocol[MAX_FRAMES]
    truncated = used_up and not terminated
    registers[i, LIVES_BEFORE] = registers[i, LIVES]
    ended = over or used_up or (lost and protocol[EPISODIC_LIFE] != 0)
    registers[i, ENDED] = ended and not protocol[RUN_ON]
    if protocol[CLIP_REWARDS]:
        reward = min(max(reward, -1), 1)
    if (terminated or truncated) and protocol[SAME_STEP]:
        for k in range(agents.stacks.shape[1]):
            agents.final[i, k] = agents.stacks[i, k]
    if registers[i, ENDED] and protocol[SAME_STEP]:
        reset(machines, layer, agents, view, scratch, i, NO_SEED)
    answer(registers, agents, i, reward, terminated, truncated)


@numba.njit(_nrt=False)
def answer(registers, agents, i, reward, terminated, truncated):  # type: ignore[no-untyped-def]
    agents.rewards[i] = reward
    agents.terminated[i] = terminated
    agents.truncated[i] = truncated
    agents.lives[i] = registers[i, LIVES]
    agents.frames[i] = registers[i, FRAMES]
    agents.episode_frames[i] = registers[i, EPISODE_FRAMES]


@numba.njit(_nrt=False)
def life_lost(registers, i):  # type: ignore[no-untyped-def]
    """A life of a game that goes on was lost in this agent step."""
    return registers[i, LIVES] < registers[i, LIVES_BEFORE] and registers[i, LIVES] > 0


@numba.njit(_nrt=False, inline="always")
def play_frames(machines, layer, agents, view, scratch, i, action):  # type: ignore[no-untyped-def]
    """The frames of one agent step; returns the sum of their rewards and leaves `pooled`.

    Only the last two frames are seen, so only they are drawn. But rows that a short frame does not
    reach show what its buffer held before: the frame two earlier. So: a step is drawn completely if
    the frame before it was short, and if any of its frames turns out short, the whole step is done
    again, completely drawn. The second time gives what ALE has, since no buffer is then read that
    the first time changed: frames before the first short one are full, they replace all rows.
    (This takes that the frames drawn first time are the third or later ones: see ALL_DRAWN.)
    """
    registers, protocol = machines.registers, view.protocol
    skip = protocol[SKIP_LOW]
    if protocol[SKIP_HIGH] > skip + 1:
        skip += mersenne.draw_below(agents.generators, i, WRAPPER, protocol[SKIP_HIGH] - skip)
    everything = skip < ALL_DRAWN or registers[i, SHORT] != 0 or protocol[RUN_ON] != 0
    if not everything:
        save(machines, scratch, i)
    decided = done = np.int64(0)
    total = np.int64(0)
    kept = ended = False
    while done < skip and not ended:
        if done == decided:
            scratch.held[done] = ale.choose(registers, agents.generators, layer.options, i, action)
            decided += 1
        registers[i, HELD_ACTION] = scratch.held[done]
        done += 1
        if not ale.is_over(registers, layer.options, i):
            held = scratch.held[done - 1]
            drawing = everything or done >= skip - 1
            total += ale.advance(machines, layer, scratch.console, i, held, drawing)
        if registers[i, SHORT] and not everything:
            restore(machines, scratch, i)
            everything, done, total = True, np.int64(0), np.int64(0)
            continue
        registers[i, ELAPSED] += 1
        ended = ends(registers, protocol, i)
        if done == skip - 1 and registers[i, UNFINISHED]:
            kept = True  # the next frame goes on in the same buffer
            keep_screen(machines, scratch, i)
    if done == skip:
        pool(machines, agents, view, scratch, i, skip > 1, ended, kept)
    return total


@numba.njit(_nrt=False)
def ends(registers, protocol, i):  # type: ignore[no-untyped-def]
    """Whether an agent step stops here."""
    if protocol[RUN_ON]:
        return False
    if registers[i, OVER] or registers[i, ELAPSED] >= protocol[MAX_FRAMES]:
        return True
    return protocol[EPISODIC_LIFE] != 0 and life_lost(registers, i)


@numba.njit(_nrt=False)
def save(machines, scratch, i):  # type: ignore[no-untyped-def]
    console.copy_machine(machines.registers, machines.ram, i, scratch.registers, scratch.ram, 0)


@numba.njit(_nrt=False)
def restore(machines, scratch, i):  # type: ignore[no-untyped-def]
    console.copy_machine(scratch.registers, scratch.ram, 0, machines.registers, machines.ram, i)


@numba.njit(_nrt=False, inline="always")
def rows_of(screen):  # type: ignore[no-untyped-def]
    return screen.reshape((screen.shape[0] // ROW_WORDS, ROW_WORDS))


@numba.njit(_nrt=False)
def keep_screen(machines, scratch, i):  # type: ignore[no-untyped-def]
    buffer = machines.registers[i, BUFFER]
    for k in range(scratch.screen.shape[0]):
        scratch.screen[k] = machines.words[i, buffer, k]


@numba.njit(_nrt=False)
def pool(machines, agents, view, scratch, i, two, ended, kept):  # type: ignore[no-untyped-def]
    """What the agent sees after the last frame, or the last two, of a step.

    ALE keeps two images: the last frame but one, and the last one, into which the brighter pixels
    of both go. It does not look at a frame that ended the episode: after such a step it has the
    images that it had, only joined by the last but one where the last frame was the end.
    """
    buffer = machines.registers[i, BUFFER]
    last = rows_of(machines.words[i, buffer])
    before = rows_of(scratch.screen if kept else machines.words[i, 1 - buffer])
    two = two and view.protocol[MAXPOOL] != 0
    for channel in range(view.levels.shape[0]):
        if not ended:
            other = before if two else last
            observe.pool(last, other, agents.pooled[i, channel], view.levels[channel])
        elif two:
            observe.pool_more(before, agents.pooled[i, channel], view.levels[channel])


@numba.njit(_nrt=False)
def see(agents, view, scratch, i):  # type: ignore[no-untyped-def]
    """Resize what the agent sees and push it onto its stack, if it has one."""
    if view.protocol[STACK] == 0:
        return
    for channel in range(view.levels.shape[0]):
        words, pixels = agents.pooled[i, channel], agents.pixels[i, channel]
        resize(words, pixels, view.resizing, scratch.lines, scratch.image[channel])
    stack, channels_last = view.protocol[STACK], view.protocol[CHANNELS_LAST]
    observe.push(agents.stacks, agents.quads, i, scratch.image, stack, channels_last)
