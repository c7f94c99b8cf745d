"""ALE's reset procedure: from a loaded ROM, or an ended episode, to the first frame of the next.

The procedure is a list of a few verbs (`script_of`) that one function performs, so every game and
every game mode is data. Where the outcome is always the same, a reset copies it instead.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from atari2600 import cartridge, console, games, mersenne, rules, state
from atari2600.ale import (
    DIFFICULTY,
    DOWN,
    DRAWING,
    DRAWN,
    INIT,
    LEFT,
    LEGAL,
    LOAD_IS_COPY,
    MAX_EPISODE_FRAMES,
    NOOP,
    OPTIONS,
    PADDLE_MAX,
    PADDLE_MIN,
    PADDLES,
    POWER_ON_DIFFICULTY,
    RESET_IS_COPY,
    RESET_SWITCH,
    RIGHT,
    RULES,
    SELECT_BIT,
    STICKY,
    SWAP_PADDLES,
    SWAP_PORTS,
    SWITCHES,
    UPFIRE,
    Layer,
    act,
    count_frame,
    emulate,
    set_inputs,
)
from atari2600.games import Game
from atari2600.mersenne import ENVIRONMENT, SYSTEM
from atari2600.state import (
    CONDITION,
    DELAY0,
    DELAY1,
    DPC_RANDOM,
    EPISODE_FRAMES,
    EXTRA_RAM,
    F6SC,
    F8SC,
    FRAMES,
    HELD_ACTION,
    OVER,
    PADDLE,
    RAM_BYTES,
    REGISTERS,
    ROW_WORDS,
    SCHEME,
    SWCHB,
    SYSTEM_RESETS,
    UNFINISHED,
    Machines,
)

Array = NDArray[Any]
Verb = tuple[Any, ...]  # a verb's number, and up to three more: a, b, c

# Verbs of a procedure and their numbers; a question is where its program begins (rules.py):
#   EMULATE, ACT: action, frames            ACT_UNTIL, TAP_UNTIL: action, question
#   PRESS: frames                           TAP_UNTIL_CHANGE: action, byte of RAM
#   PRESS_UNTIL: frames, question, how often at most
#   PRESS_DRAWN_UNTIL: least frames, question
EMULATE, SOFT_RESET, START_RULES, PRESS, PRESS_UNTIL, PRESS_DRAWN_UNTIL = range(6)
ACT, ACT_UNTIL, TAP_UNTIL, TAP_UNTIL_CHANGE = range(6, 10)
ALWAYS_AGAIN = 2**31 - 1
SYSTEM_SEED = np.int64(4753849)
DETECTION_FRAMES = 60  # that ALE runs at load to tell NTSC from PAL
SETTLING_FRAMES = 60
NTSC_HEIGHT = 210
RESET_FRAMES = 4  # that the RESET switch is held
CURSOR = 48  # RAM byte of double_dunk's menu


def machines_of(game: Game, num_machines: int) -> Machines:
    """N machines with the game's cartridge, without power."""
    image, graphics = cartridge.image_of(games.rom_bytes(game), game.scheme)
    constants = console.constants_of(
        game.scheme, game.pal, game.y_start, game.height, game.hmove_blanks
    )
    return state.allocate(constants, image, graphics, num_machines)


def layer_of(
    game: Game, mode: int, difficulty: int, sticky: float, max_episode_frames: int = 0
) -> Layer:
    """A game as it is played; its start state is all zero yet, see `backends.cpu.fill_start`."""
    program = rules.Program(mode)
    options = np.zeros(OPTIONS, np.int64)
    options[RULES], options[INIT] = add_rules(game, program)
    script = script_of(game, mode, program)
    default_script = script_of(game, game.default_mode, program)
    set_options(options, game, difficulty, sticky, max_episode_frames)
    set_copies(options, game, np.concatenate([script, default_script])[:, 0])
    words = game.height * ROW_WORDS
    return Layer(
        options,
        program.finish(),
        script,
        default_script,
        console.constants_of(game.scheme, False, game.y_start, NTSC_HEIGHT, game.hmove_blanks),
        np.zeros((1, mersenne.GENERATORS, mersenne.WORDS), np.uint32),
        np.zeros((1, REGISTERS), np.int32),
        np.zeros((1, RAM_BYTES), np.uint8),
        np.zeros((1, 2, words), np.uint64),
    )


def add_rules(game: Game, program: rules.Program) -> tuple[int, int]:
    """Compile the rules; returns where they begin, and where their variables' start values do."""
    outputs = [f"LIVES = {game.lives}"]
    if game.over:
        outputs.append(f"OVER = {game.over}")
    else:
        program.registers["terminal"] = OVER
    begin = program.add(game.rules + outputs)
    start = {"reward": 0, "terminal": 0, **game.init}
    return begin, program.add([f"{name} = {value}" for name, value in start.items()])


def set_options(
    options: Array, game: Game, difficulty: int, sticky: float, max_episode_frames: int
) -> None:
    """What does not depend on the reset procedure."""
    options[PADDLES], options[SWAP_PADDLES] = game.paddles, game.swap_paddles
    options[SWAP_PORTS], options[PADDLE_MAX] = game.swap_ports, game.paddle_max
    options[LEGAL] = sum(1 << action for action in game.legal_actions)
    options[DIFFICULTY], options[POWER_ON_DIFFICULTY] = difficulty, game.power_on_difficulty
    options[STICKY] = int(np.ceil(float(np.float32(sticky)) * 2.0**32))
    options[MAX_EPISODE_FRAMES] = max_episode_frames


def set_copies(options: Array, game: Game, verbs: Array) -> None:
    """Which resets a copy of the start state can replace.

    A load always gives the same state, unless draws of the environment's generator decide about
    it. A later reset does where neither the RAM's old content nor the timer's draw shows.
    """
    acts = bool(np.isin(verbs, [ACT, ACT_UNTIL, TAP_UNTIL, TAP_UNTIL_CHANGE]).any())
    drawn = bool((verbs == PRESS_DRAWN_UNTIL).any())
    sticky = options[STICKY] > 0
    options[DRAWN] = sticky or drawn
    options[LOAD_IS_COPY] = not drawn and not (acts and sticky)
    options[RESET_IS_COPY] = options[LOAD_IS_COPY] and not game.start_varies


def script_of(game: Game, mode: int, program: rules.Program) -> Array:
    """int32 [verbs, 4]: what ALE does after a system reset; questions go into `program`."""
    program.mode = mode
    script: list[Verb] = [
        (EMULATE, NOOP, SETTLING_FRAMES),
        (SOFT_RESET,),
        (START_RULES,),
    ]
    if game.select is not None:
        script += select_script(game.select, program)
    if game.menu is not None:
        script += menu_script(game.menu, mode, program)
    script.append((SOFT_RESET,))
    script += [(EMULATE, action, frames) for action, frames in game.starting_actions]
    return np.array([[*verb, *[0] * (4 - len(verb))] for verb in script], np.int32)


def select_script(select: dict[str, Any], program: rules.Program) -> list[Verb]:
    """SELECT is pressed until the wanted mode shows."""
    question = program.add([f"CONDITION = {select['until']}"])
    verb = PRESS_DRAWN_UNTIL if "random_frames" in select else PRESS_UNTIL
    script = [named_verb(entry, program) for entry in select.get("before", [])]
    script += [(verb, select["frames"], question, select.get("most", ALWAYS_AGAIN)), (SOFT_RESET,)]
    return script + [named_verb(entry, program) for entry in select.get("after", [])]


def named_verb(entry: list[Any], program: rules.Program) -> Verb:
    """A verb as games.json writes it."""
    name, *numbers = entry
    if name == "act_until":
        return (ACT_UNTIL, numbers[0], program.add([f"CONDITION = {numbers[1]}"]))
    return ({"soft_reset": SOFT_RESET, "select": PRESS, "act": ACT}[name], *numbers)


def menu_script(menu: list[list[int]], mode: int, program: rules.Program) -> list[Verb]:
    """double_dunk: move a cursor down a menu on the screen, switching options on and off."""
    cursor_down = (TAP_UNTIL_CHANGE, DOWN, CURSOR)
    script: list[Verb] = [(PRESS, 1), cursor_down]
    for option, mode_bit in menu:
        wanted = mode & mode_bit != 0
        line = f"CONDITION = (ram[0] & {option}) {'!=' if wanted else '=='} 0"
        script += [cursor_down, (TAP_UNTIL, RIGHT if wanted else LEFT, program.add([line]))]
    return [*script, (SOFT_RESET,), (ACT, UPFIRE, 1), (ACT, NOOP, 1)]


@numba.njit(_nrt=False)
def system_reset(machines, generators, i):  # type: ignore[no-untyped-def]
    """A system reset with its draws: the timer, then the cartridge's RAM."""
    timer = 25 + mersenne.draw(generators, i, SYSTEM) % 75
    machines.registers[i, SYSTEM_RESETS] += 1
    console.system_reset(machines, i, timer)
    if machines.constants[SCHEME] == F8SC or machines.constants[SCHEME] == F6SC:
        for k in range(EXTRA_RAM, RAM_BYTES):
            machines.ram[i, k] = mersenne.draw(generators, i, SYSTEM) & 0xFF


@numba.njit(_nrt=False)
def load(machines, layer, generators, scratch, i, seed):  # type: ignore[no-untyped-def]
    """A newly loaded ROM: power on, ALE's detection of PAL, its own first reset, and ours."""
    registers = machines.registers
    for k in range(REGISTERS):
        registers[i, k] = 0
    registers[i, DPC_RANDOM] = 1
    mersenne.seed(generators, i, ENVIRONMENT, seed)
    mersenne.seed(generators, i, SYSTEM, SYSTEM_SEED)
    for k in range(EXTRA_RAM):
        machines.ram[i, k] = mersenne.draw(generators, i, SYSTEM) & 0xFF
    mersenne.draw(generators, i, SYSTEM)  # a timer that the reset sets again
    detect(machines, layer, generators, scratch, i)
    system_reset(machines, generators, i)
    boot(machines, layer, layer.default_script, generators, scratch, i)
    boot(machines, layer, layer.script, generators, scratch, i)


@numba.njit(_nrt=False)
def detect(machines, layer, generators, scratch, i):  # type: ignore[no-untyped-def]
    """The frames that ALE runs to tell NTSC from PAL: as NTSC, with nobody at the controllers."""
    registers, options = machines.registers, layer.options
    ntsc = Machines(layer.detection, *machines[1:])
    system_reset(ntsc, generators, i)
    set_inputs(registers, options, i, NOOP)
    registers[i, SWCHB] = SWITCHES | options[POWER_ON_DIFFICULTY] << 6
    if options[PADDLES]:
        registers[i, DELAY0] = registers[i, DELAY1] = 0
    for _ in range(DETECTION_FRAMES):
        console.frame(ntsc, i, scratch, DRAWING)


@numba.njit(_nrt=False)
def boot(machines, layer, script, generators, scratch, i):  # type: ignore[no-untyped-def]
    """ALE's reset_game. All frames are drawn: their rows may show through in later ones."""
    registers = machines.registers
    registers[i, EPISODE_FRAMES] = 0
    registers[i, PADDLE] = (PADDLE_MIN + layer.options[PADDLE_MAX]) // 2
    system_reset(machines, generators, i)
    for k in range(script.shape[0]):
        perform(machines, layer, generators, scratch, i, script, k)


@numba.njit(_nrt=False)
def perform(machines, layer, generators, scratch, i, script, k):  # type: ignore[no-untyped-def]
    """One verb of the procedure."""
    registers, ram, program = machines.registers, machines.ram, layer.program
    verb = script[k, 0]
    a, b, c = np.int64(script[k, 1]), np.int64(script[k, 2]), np.int64(script[k, 3])
    if verb == EMULATE:
        for _ in range(b):
            emulate(machines, layer, scratch, i, a, DRAWING)
    elif verb == SOFT_RESET:
        for _ in range(RESET_FRAMES):
            emulate(machines, layer, scratch, i, RESET_SWITCH, DRAWING)
        registers[i, HELD_ACTION] = NOOP
    elif verb == START_RULES:
        rules.run(program, registers, ram, i, layer.options[INIT])
    elif verb == PRESS:
        press(machines, layer, scratch, i, a)
    elif verb == PRESS_UNTIL:
        while c > 0 and not holds(program, registers, ram, i, b):
            press(machines, layer, scratch, i, a)
            c -= 1
    elif verb == PRESS_DRAWN_UNTIL:
        while not holds(program, registers, ram, i, b):
            press(machines, layer, scratch, i, a + mersenne.draw(generators, i, ENVIRONMENT) % 256)
            act(machines, layer, generators, scratch, i, NOOP)
    elif verb == ACT:
        for _ in range(b):
            act(machines, layer, generators, scratch, i, a)
    elif verb == ACT_UNTIL:
        while not holds(program, registers, ram, i, b):
            act(machines, layer, generators, scratch, i, a)
    elif verb == TAP_UNTIL:
        while not holds(program, registers, ram, i, b):
            tap(machines, layer, generators, scratch, i, a)
    elif verb == TAP_UNTIL_CHANGE:
        old = ram[i, b]
        while ram[i, b] == old:
            tap(machines, layer, generators, scratch, i, a)


@numba.njit(_nrt=False)
def holds(program, registers, ram, i, question):  # type: ignore[no-untyped-def]
    """The answer to a question about the RAM."""
    rules.run(program, registers, ram, i, question)
    return registers[i, CONDITION] != 0


@numba.njit(_nrt=False, inline="always")
def press(machines, layer, scratch, i, frames):  # type: ignore[no-untyped-def]
    """Hold SELECT for some frames, which the rules do not see, and release it for one."""
    for _ in range(frames):
        set_inputs(machines.registers, layer.options, i, NOOP)
        machines.registers[i, SWCHB] ^= SELECT_BIT
        console.frame(machines, i, scratch, DRAWING)
    emulate(machines, layer, scratch, i, NOOP, DRAWING)
    count_frame(machines.registers, i)


@numba.njit(_nrt=False, inline="always")
def tap(machines, layer, generators, scratch, i, action):  # type: ignore[no-untyped-def]
    """An action, and nothing."""
    act(machines, layer, generators, scratch, i, action)
    act(machines, layer, generators, scratch, i, NOOP)


@numba.njit(_nrt=False)
def reset_game(machines, layer, generators, scratch, i):  # type: ignore[no-untyped-def]
    """A new episode: the start state, or a boot where something old could show.

    The draws of a boot are taken in any case, so that a later one finds its own.
    """
    if not layer.options[RESET_IS_COPY] or machines.registers[i, UNFINISHED]:
        boot(machines, layer, layer.script, generators, scratch, i)
        return
    mersenne.draw(generators, i, SYSTEM)
    if machines.constants[SCHEME] == F8SC or machines.constants[SCHEME] == F6SC:
        for _ in range(EXTRA_RAM, RAM_BYTES):
            mersenne.draw(generators, i, SYSTEM)
    frames = machines.registers[i, FRAMES] + layer.registers[0, EPISODE_FRAMES]
    copy_start(machines, layer, i)
    machines.registers[i, FRAMES] = frames


@numba.njit(_nrt=False, inline="always")
def load_and_reset(machines, layer, generators, scratch, i, seed):  # type: ignore[no-untyped-def]
    """A newly loaded ROM after its first `reset_game`, with the environment's seed."""
    if not layer.options[LOAD_IS_COPY]:
        load(machines, layer, generators, scratch, i, seed)
        return
    copy_start(machines, layer, i)
    mersenne.seed(generators, i, ENVIRONMENT, seed)
    for k in range(mersenne.WORDS):
        generators[i, SYSTEM, k] = layer.generators[0, SYSTEM, k]


@numba.njit(_nrt=False)
def copy_start(machines, layer, i):  # type: ignore[no-untyped-def]
    """Machine i becomes the start state; its generators stay."""
    console.copy_machine(layer.registers, layer.ram, 0, machines.registers, machines.ram, i)
    for buffer in range(2):
        for k in range(machines.words.shape[2]):
            machines.words[i, buffer, k] = layer.words[0, buffer, k]
