"""Every hyper-parameter once: its name, default, help text and range; what `auto` stands for."""

from __future__ import annotations

import dataclasses
import math
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints
from unicodedata import category

import numpy as np
import tyro

from a3c import machine
from a3c.errors import InputError, nearest, option

# What the options in RULES may be given as; a Config holds the value that follows from the machine
# and from its other options, and so do config.json, checkpoints and resumed runs.
AUTO: Any = "auto"
MOST_AUTO_THREADS = 16
ALL_MACHINES = 1024  # nodes: as many as a cluster has, now and later
AGENTS, GPU_AGENTS = 16, 64  # of each thread
ROLLOUT, SHORT_ROLLOUT = 20, 10  # agent steps of each agent
MANY_AGENTS = 512  # of all threads; more have SHORT_ROLLOUT
UPDATE_AGENT_STEPS = 320  # of an update: what the defaults are tuned for
LEARNING_RATE = 3e-3  # for such updates
FAN_IN = 256  # inputs of a unit, for such a rate; see `lr_by_fan_in`
SHORTEST_EXPONENTIAL = 10_000_000  # agent steps; shorter runs have the rates of its beginning
MOMENTUM_LEARNING_RATE = 1.0  # the same with momentum, which does not scale gradients of 0.05 or so
DECAY = 0.97  # of the average of squared gradients, for such updates
SMALL_LAG = 3  # updates; a policy does not suffer from so small a lag, uncorrected
GROWTH = 256  # a rollout that has grown has at most a 256th of the agent steps before it


@dataclass(frozen=True)
class Config:
    """One training run. The defaults are the preset `fast`."""

    env: tyro.conf.Positional[str] = "breakout"
    """Atari game (breakout), its Gymnasium id (ALE/Breakout-v5), or any Gymnasium id with Box or
    Discrete spaces (CartPole-v1)."""
    seed: int = 1
    """Seed of the network's initial values, the agents' games and their actions."""
    total_agent_steps: int = 10_000_000
    """Length of the run, in actions of single agents over all threads."""

    # Asynchrony
    mode: Literal["async", "sync"] = "async"
    """async: each thread applies its gradients at once (A3C). sync: threads wait for each other and
    their averaged gradients are applied once (A2C)."""
    nodes: int = AUTO
    """Nodes that train together: one on each machine of --cluster, or all on this one. auto: 1, or
    with --cluster as many as it has machines, those that join later too."""
    cluster: str = ""
    """Address of a Ray cluster to train on, or auto for that which this machine belongs to."""
    num_threads: int = AUTO
    """Actor-learner threads of each node; with --cluster at most one a core of its machine. auto:
    as many as there are physical cores that this process may use, dealt to its nodes; at most 16.
    A run keeps the number that it began with."""
    num_envs: int = AUTO
    """Agents (environments) of each thread. auto: 16, or 64 on a GPU."""
    rollout_length: int = AUTO
    """Agent steps of each agent in a rollout; the paper's t_max. auto: 20, or 10 with more
    than 512 agents of all threads, whose many updates would make the policy old."""
    minibatches: int = AUTO
    """Updates from a rollout: its agents are dealt at random into so many parts, and each part is
    one update with the newest parameters. auto: as many as leave each at least 320 agent steps."""
    grow: bool = True
    """Begin with the agents of one update, and let them be more as the run learns, up to num_envs:
    copies of their games go on in different ways. (Games that cannot be copied, as those of ale-py,
    begin anew.) A thread's rollout that has grown has at most a 256th of the agent steps before it;
    so neither its policy nor its agents' games are old. Not in a cluster."""
    epochs: int = 1
    """Times that each agent step of a rollout is learned from, dealt anew each time."""
    sync_every: int = 1
    """Rollouts of a thread between two copies of the shared parameters to act with (async). More
    than 1 raises the policy lag on purpose, for studies of it."""

    # Objective
    method: Literal["a3c", "one-step-q", "one-step-sarsa", "n-step-q"] = "a3c"
    """a3c: learn a policy and its value. The others: learn the values of actions, with a target
    network; agents act at random with probability epsilon (Discrete actions only)."""
    gamma: float = 0.99
    """Discount of future rewards per agent step."""
    gae_lambda: float = 0.95
    """Lambda of generalised advantage estimation; 1 gives the paper's n-step returns."""
    correction: Literal["auto", "none", "vtrace"] = "auto"
    """vtrace: learn with the newest parameters, and weigh each agent step by how much more likely
    they make its action than those that acted did (V-trace of IMPALA). One forward pass more. auto:
    where threads and minibatches make the policy lag larger than 3, or epochs are more than 1."""
    rho_bar: float = 1.0
    """Bound of V-trace's weights of single agent steps."""
    c_bar: float = 1.0
    """Bound of V-trace's weights of what follows an agent step."""
    ent_coef: float = 0.01
    """Weight of the entropy bonus at the start; the paper's beta."""
    ent_final_fraction: float = 0.0
    """What is left of ent_coef when lr has fallen to its last; it falls on a line, whatever lr's
    schedule, and stays where lr is constant."""
    vf_coef: float = 0.5
    """Weight of the squared error of the value."""
    advantage_floor: float = 0.1
    """Advantages of an update (in sync mode of each thread's part of it) whose deviation is below
    this are spread around their mean, the smaller it is the wider, to at most 1. Where no reward
    has been met, as in Freeway at first, they say nothing, and so move the policy by chance; the
    entropy bonus alone would keep it uniform."""
    normalize_advantages: bool = False
    """Bring the advantages of each update (in sync mode of each thread's part of it) to mean 0 and
    deviation 1, as PPO does, so that the entropy bonus weighs as much whatever the rewards."""
    epsilon_emulator_frames: int = 4_000_000
    """Value methods: emulator frames over which each agent's epsilon goes from 1 to its own final
    one, drawn from 0.1, 0.01 and 0.5. Where it is not Atari an agent step is one frame."""
    target_emulator_frames: int = 40_000
    """Value methods: emulator frames between two copies of the parameters to the target network."""
    loss_reduction: Literal["mean", "sum"] = "mean"
    """Whether the loss of a rollout is the mean or the sum over its samples. The paper sums. The
    size of a step depends on it together with lr and rmsprop_eps: change the three together."""

    # Optimiser; RMSProp has its epsilon inside the root
    optimizer: Literal["shared-rmsprop", "rmsprop", "momentum"] = "shared-rmsprop"
    """shared-rmsprop: the average of squared gradients is that of all threads. rmsprop: each thread
    has its own. momentum: gradient descent with momentum, each thread's own."""
    lr: float = AUTO
    """Learning rate at the start. auto: 3e-3 for updates of 320 agent steps, and with the root of
    their number: 6e-3 for four times as many. With momentum 1 in place of 3e-3."""
    lr_schedule: Literal["constant", "linear", "exponential"] = "exponential"
    """constant; or from lr to lr * lr_final_fraction: linear on a line, exponential by the same
    factor in each agent step, which takes 10 million of them in a shorter run, too."""
    lr_final_fraction: float = 0.03
    """What is left of lr at the end of the schedule."""
    lr_schedule_until: float = 1.0
    """Fraction of its time at which the schedule ends; constant from there on."""
    lr_by_fan_in: bool = True
    """RMSProp: weights of a layer with more than 256 inputs learn with lr times the root of 256 by
    their number: 0.29 of it behind the convolutions of `slim`, which has 3,136. An LSTM's two
    weights count apart."""
    momentum: float = 0.9
    """Decay alpha of a momentum in an update: alpha of it stays, and 1 - alpha of the gradient is
    added."""
    rmsprop_decay: float = AUTO
    """Decay of the running average of squared gradients in an update. auto: 0.97 for 320 agent
    steps, 0.97 ** 2 for twice as many: the average spans as much data however large updates are."""
    rmsprop_eps: float = 1e-9
    """Epsilon, added to the average inside the square root."""
    rmsprop_initial: float | Literal["debiased"] = "debiased"
    """Value at which the average of squared gradients starts. debiased: at nothing, and it is
    divided by the weight of the gradients that it has seen, as Adam's is."""
    grad_clip: Literal["global-norm", "average-norm"] = "global-norm"
    """global-norm: a gradient whose norm is above max_grad_norm is scaled down to it. average-norm:
    so is each tensor's, its norm being the L2 norm divided by its number of elements."""
    max_grad_norm: float = 0.5
    """Bound of the gradient's norm, see grad_clip."""

    # Network
    network: Literal["auto", "paper", "seed", "slim", "nature", "mlp", "paper-vector"] = "auto"
    """The torso, the layers before policy and value. paper: 16@8x8/4 (16 filters of 8 x 8, stride
    4), 32@4x4/2, 256. seed: 32@8x8/4, 64@4x4/2, 256. slim: 16@8x8/4, 32@4x4/2, 64@3x3/1, 256.
    nature: 32@8x8/4, 64@4x4/2, 64@3x3/1, 512. mlp: 64, 64 for vectors. paper-vector: 200 for
    vectors. auto: slim for images, paper if a side is below 36 pixels, mlp for vectors."""
    recurrent: bool = False
    """Put an LSTM of 256 cells between the torso and the heads, which are policy and value; with
    paper-vector one of 128 for each of the two."""
    std: Literal["independent", "dependent", "softplus"] = "independent"
    """Standard deviation of continuous actions. dependent: it depends on the state. softplus: on
    the state as well, one for all actions, as the root of a softplus."""
    scale_pixels: bool = True
    """Feed pixels as 0 to 1 rather than as 0 to 255."""
    subtract_background: bool = True
    """Subtract the mean image of the untrained policy's play from the pixels."""
    normalize: bool = False
    """Of vectors: bring each number of an observation to mean 0 and deviation 1, and divide rewards
    by the deviation of their discounted sum, as the untrained policy's play has them."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the convolutional torso; auto: bfloat16 where the processor is fast at it."""
    device: str = "auto"
    """cpu; cuda for all GPUs, to which the threads are dealt; cuda:0,cuda:2 for those. auto: cuda
    where there is a GPU, else cpu."""
    cuda_graphs: Literal["auto", "on", "off"] = "auto"
    """Replay what a GPU computes as CUDA graphs, recorded once. auto: on CUDA, for rollouts of 128
    agent steps at most. The results are the same."""

    # Environment protocol (stored with the model)
    emulator: Literal["atari2600", "ale"] = "atari2600"
    """This project's own emulator, or ale-py's: they play alike, the first is faster (Atari)."""
    frame_skip: int = 4
    """Emulator frames per agent step (Atari)."""
    frame_skip_max: int = 0
    """If not 0, each agent step draws its emulator frames from frame_skip to this many (Atari on
    atari2600)."""
    sticky_actions: float = 0.0
    """Probability that the emulator repeats the previous action (Atari)."""
    noop_max: int = 30
    """A game starts with fewer no-ops than this, drawn at random (Atari); 0 for none."""
    full_action_set: bool = False
    """Use all 18 actions, 9 of Skiing and Lost Luggage, in place of those that the game needs
    (Atari)."""
    max_episode_frames: int = 108_000
    """A game is truncated after this many emulator frames: half an hour of play (Atari)."""
    clip_rewards: bool = True
    """The optimiser sees the sign of the reward. Reported returns are never clipped."""
    life_loss_terminal: bool = True
    """The optimiser sees a lost life as the end of the episode. Reported returns go on (Atari)."""

    # The run
    run_name: str = ""
    """A word for the name of the run's folder: letters, digits, dots, dashes, underscores."""
    runs_dir: str = "runs"
    """Folder in which the run's own folder is created."""
    checkpoint_every_seconds: float = 60.0
    """Time between two checkpoints; the first one comes after 5 seconds at the latest."""
    log_every_seconds: float = 5.0
    """Time between two lines of metrics.jsonl."""
    evaluate_every: int | Literal["never"] = "never"
    """Agent steps between two evaluations: whole games of the policy of that moment, on games and
    in a thread of their own. never: the only figure is the mean return of training's games."""
    evaluate_episodes: int = 10
    """Games of an evaluation with sampled actions, and as many with greedy ones."""

    def __post_init__(self) -> None:
        """Raise InputError if a value is outside its choices or range; `auto` becomes a value,
        where it is a matter of RULES."""
        for name, kind in KINDS.items():
            value = plain(name, getattr(self, name))
            _check_field(name, kind, value)
            object.__setattr__(self, name, value)
        for name, rule in RULES.items():
            if is_auto(getattr(self, name)):
                object.__setattr__(self, name, rule(self))
        _check_together(self)

    @property
    def mean_frame_skip(self) -> float:
        """Emulator frames per agent step on average, for figures of the whole run."""
        return (self.frame_skip + (self.frame_skip_max or self.frame_skip)) / 2


# What each option is without being given; `auto` where a Config would hold what follows
DEFAULTS = {field.name: field.default for field in dataclasses.fields(Config)}
# What runs did that were saved before there were these options
BEFORE = {
    "minibatches": 1,
    "correction": "none",
    "ent_final_fraction": 1.0,
    "advantage_floor": 0.0,
    "grow": False,
    "lr_by_fan_in": False,
}

# Closed intervals; whatever is not listed is free. Positive numbers start at TINY; what PyTorch
# computes with ends at HUGE, since it refuses what float32 has no number for, from 3.4e38 on.
TINY, HUGE = 1e-30, 1e30
Ranges = dict[str, tuple[float, float]]
RANGES: Ranges = {
    "seed": (0, 2**31 - 1),
    "total_agent_steps": (1, 10**11),  # names of checkpoints sort as far as 12 digits
    "nodes": (1, ALL_MACHINES),
    "num_threads": (1, 256),
    "num_envs": (1, 65_536),
    "rollout_length": (1, 10_000),
    "minibatches": (1, 65_536),
    "epochs": (1, 100),
    "sync_every": (1, 1_000_000),
    "gamma": (0, 1),
    "gae_lambda": (0, 1),
    "rho_bar": (TINY, HUGE),
    "c_bar": (0, HUGE),
    "ent_coef": (0, HUGE),
    "ent_final_fraction": (0, 1),
    "vf_coef": (0, HUGE),
    "advantage_floor": (0, 1000),
    "epsilon_emulator_frames": (1, 10**12),
    "target_emulator_frames": (1, 10**12),
    "lr": (TINY, HUGE),
    "lr_final_fraction": (0, 1),
    "lr_schedule_until": (TINY, 1),
    "momentum": (0, 0.9999),
    "rmsprop_decay": (0, 1),
    "rmsprop_eps": (TINY, HUGE),
    "rmsprop_initial": (0, HUGE),
    "max_grad_norm": (TINY, HUGE),
    "frame_skip": (1, 1_000),
    "frame_skip_max": (0, 1_000),
    "sticky_actions": (0, 1),
    "noop_max": (0, 1_000),
    "max_episode_frames": (1, 2**31 - 1),
    "checkpoint_every_seconds": (TINY, math.inf),
    "log_every_seconds": (TINY, math.inf),
    "evaluate_every": (1, 10**12),
    "evaluate_episodes": (1, 10_000),
}

LONGEST_RUN_NAME = 100


def is_auto(value: Any) -> bool:
    """Whether a value is left to its rule."""
    return isinstance(value, str) and value == AUTO


def auto_nodes(config: Config) -> int:
    """This machine, or all of a cluster."""
    return ALL_MACHINES if config.cluster else 1


def auto_threads(config: Config | None = None) -> int:
    """What `auto` is for num_threads on this machine; in a cluster each has its own cores."""
    if config is not None and config.cluster:
        return MOST_AUTO_THREADS
    nodes = 1 if config is None else config.nodes
    return max(1, min(machine.physical_cores() // nodes, MOST_AUTO_THREADS))


def auto_envs(config: Config) -> int:
    """GPU_AGENTS keep the processor's emulators and a GPU busy (docs/gpu.md)."""
    on_gpu = machine.has_gpu() if config.device == AUTO else config.device.startswith("cuda")
    return GPU_AGENTS if on_gpu else AGENTS


def auto_rollout_length(config: Config) -> int:
    """ROLLOUT up to MANY_AGENTS: with more, one thread's policy would lag more than 16 updates."""
    return ROLLOUT if all_threads(config) * config.num_envs <= MANY_AGENTS else SHORT_ROLLOUT


def auto_minibatches(config: Config) -> int:
    """The largest number of equal parts whose updates have UPDATE_AGENT_STEPS or more; else 1."""
    agents, agent_steps = config.num_envs, config.rollout_length * threads_of_update(config)
    fewest = min(agents, math.ceil(UPDATE_AGENT_STEPS / agent_steps))
    return max(k for k in range(1, agents // fewest + 1) if agents % k == 0)


def auto_correction(config: Config) -> str:
    """vtrace where the policy that acts may be older than SMALL_LAG, about, as it learns; and where
    it learns twice from the same: without a correction, that pushes it ever further."""
    if config.method in VALUE_METHODS:  # no policy to correct
        return "none"
    if config.epochs > 1:
        return "vtrace"
    # Before an update come half of its rollout's others, on average, and those of a rollout of each
    # other thread
    updates = config.minibatches
    others = 0 if config.mode == "sync" else all_threads(config) - 1
    lag = (updates - 1) / 2 + others * updates
    return "vtrace" if lag > SMALL_LAG else "none"


def auto_learning_rate(config: Config) -> float:
    """LEARNING_RATE times the root of an update's size; with momentum the rate that it needs."""
    momentum = config.optimizer == "momentum"
    rate = MOMENTUM_LEARNING_RATE if momentum else LEARNING_RATE
    return rate * math.sqrt(update_size(config))


def auto_decay(config: Config) -> float:
    """DECAY to the power of an update's size."""
    return float(DECAY ** update_size(config))


def update_size(config: Config) -> float:
    """How many times UPDATE_AGENT_STEPS an update has."""
    agents = config.num_envs // config.minibatches * threads_of_update(config)
    return agents * config.rollout_length / UPDATE_AGENT_STEPS


def threads_of_update(config: Config) -> int:
    """Whose gradients an update averages: one thread's, or in sync mode all threads'."""
    return all_threads(config) if config.mode == "sync" else 1


def all_threads(config: Config) -> int:
    """Those of all nodes; without a number of nodes those of one, as if there were no others."""
    return config.num_threads * (1 if config.nodes == ALL_MACHINES else config.nodes)


def stages(config: Config) -> list[tuple[int, Config]]:
    """How a run grows: agent steps of all threads, and the Config of the threads from then on.

    The first begins at 0 with one minibatch of a rollout's agents; the last is `config`.
    """
    numbers = [config.minibatches]
    alone = config.nodes == 1 and not config.cluster
    while config.grow and alone and numbers[0] > 1:
        numbers.insert(0, max(k for k in range(1, numbers[0]) if numbers[0] % k == 0))
    agents = config.num_envs // config.minibatches
    return [
        (
            GROWTH * k * agents * config.rollout_length if i else 0,
            dataclasses.replace(config, num_envs=k * agents, minibatches=k),
        )
        for i, k in enumerate(numbers)
    ]


# Of each option that may be `auto`, in this order: some follow from others
RULES: dict[str, Callable[[Config], float | str]] = {
    "nodes": auto_nodes,
    "num_threads": auto_threads,
    "num_envs": auto_envs,
    "rollout_length": auto_rollout_length,
    "minibatches": auto_minibatches,
    "correction": auto_correction,
    "lr": auto_learning_rate,
    "rmsprop_decay": auto_decay,
}


def follows(config: Config, name: str) -> bool:
    """Whether `auto` would give the option the value that it has, whatever the machine."""
    rule = RULES.get(name)
    machines = (None, auto_threads, auto_envs)
    return rule not in machines and rule(config) == getattr(config, name)


# What each option may be given as
KINDS = {
    name: kind | Literal["auto"] if name in RULES and kind in (int, float) else kind
    for name, kind in get_type_hints(Config).items()
}


def alternatives(kind: Any) -> tuple[type | None, list[str]]:
    """The numbers that a field takes, int or float, and the words that it takes."""
    parts = [kind] if get_origin(kind) is Literal else get_args(kind) or [kind]
    words = [str(word) for part in parts for word in get_args(part)]
    return next((part for part in parts if part in (int, float)), None), words


VALUE_METHODS = ["one-step-q", "one-step-sarsa", "n-step-q"]  # values of actions, and no policy


def check_values(values: dict[str, Any]) -> None:
    """Raise InputError for a value that its option cannot have, whatever the others are."""
    for name, value in values.items():
        _check_field(name, KINDS[name], value)


def _check_field(name: str, kind: Any, value: Any) -> None:
    number, choices = alternatives(kind)
    if number is not None and choices:
        _check_number_or_word(name, number, choices, value)
    elif kind in (int, float):
        check_number(name, kind, value)
    elif kind is bool and not isinstance(value, bool):
        raise InputError(f"{option(name)} is {value!r}; expected True or False")
    elif kind is str:
        _check_text(name, value)
    elif choices and value not in choices:
        hint = nearest(str(value), choices)
        raise InputError(f"{option(name)} is {value!r}; expected {', '.join(choices)}{hint}")


def _check_number_or_word(name: str, number: type, words: list[str], value: Any) -> None:
    """Raise InputError for what is neither of the words nor such a number in range."""
    if value in words:
        return
    either = " or ".join(words)
    if isinstance(value, str):
        expected = f"{_words(number)}, or {either}{nearest(value, words)}"
        raise InputError(f"{option(name)} is {value!r}; expected {expected}")
    try:
        check_number(name, number, value)
    except InputError as error:
        raise InputError(f"{error}, or {either}") from None


def _check_text(name: str, value: Any) -> None:
    """Raise InputError if it is no text that a name or a path can be."""
    words = "the environment" if name == "env" else option(name)
    if not isinstance(value, str):
        raise InputError(f"{words} is {value!r}; expected text")
    if name == "run_name":
        _check_run_name(value)
    elif value == DEFAULTS[name]:
        return
    elif name == "env" and not value.strip():
        raise InputError(f"{words} is {value!r}; expected a name, such as breakout")
    elif not can_name(value):
        raise InputError(f"{words} is {value!r}; expected a name without control characters")


def can_name(text: str) -> bool:
    """Whether a text can be the name of something: more than spaces, and no control characters."""
    return bool(text.strip()) and not any(category(letter) in ("Cc", "Cs") for letter in text)


def _check_run_name(value: str) -> None:
    """Raise InputError if it cannot be a part of a folder's name everywhere."""
    if value and not re.fullmatch(r"\w[\w.-]*", value):
        raise InputError(
            f"--run-name is {value!r}; expected letters, digits, dots, dashes and underscores, "
            "a letter or digit first"
        )
    if (size := len(value.encode())) > LONGEST_RUN_NAME:
        raise InputError(f"--run-name has {size} bytes; expected at most {LONGEST_RUN_NAME}")


def check_number(name: str, kind: type, value: Any, ranges: Ranges = RANGES) -> None:
    """Raise InputError for what is not such a number, or lies outside the closed interval."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or (kind is int and not isinstance(value, int)):
        raise InputError(f"{option(name)} is {value!r}; expected {_words(kind)}")
    low, high = ranges.get(name, (-math.inf, math.inf))
    if not low <= value <= high or abs(value) > sys.float_info.max:
        bound = "above 0" if low == TINY and not 0 < value < TINY else f"at least {exactly(low)}"
        bound += "" if high == math.inf else f" and at most {exactly(high)}"
        raise InputError(f"{option(name)} is {value}; expected {_words(kind)} {bound}")


def _check_together(config: Config) -> None:
    """Raise InputError for values that do not go together."""
    _check_frame_skips(config)
    _check_threads_and_nodes(config)
    _check_updates(config)
    _check_optimiser(config)
    if config.method in VALUE_METHODS:
        _check_value_method(config)


def _check_frame_skips(config: Config) -> None:
    low, high = config.frame_skip, config.frame_skip_max
    if high and high < low:
        raise InputError(f"--frame-skip-max is {high}; expected 0 or at least --frame-skip {low}")
    if high and config.emulator == "ale":
        raise InputError(f"--frame-skip-max is {high}; expected 0, as ale-py draws no frame skips")


def _check_updates(config: Config) -> None:
    if config.num_envs % config.minibatches:
        fits = max(n for n in range(1, config.minibatches) if config.num_envs % n == 0)
        raise InputError(
            f"--minibatches is {config.minibatches}; expected a number that divides --num-envs "
            f"{config.num_envs}, such as {fits}"
        )
    if config.sync_every > 1 and config.mode == "sync":
        raise InputError(f"--sync-every is {config.sync_every}; expected 1 with --mode sync")
    of_update = config.num_envs // config.minibatches * config.rollout_length
    if config.normalize_advantages and of_update == 1:
        raise InputError(
            "--normalize-advantages is True with updates of one agent step, which have no "
            "deviation; expected a larger --rollout-length or --num-envs, or fewer --minibatches"
        )


def _check_threads_and_nodes(config: Config) -> None:
    threads, most = config.nodes * config.num_threads, RANGES["num_threads"][1]
    if not config.cluster and threads > most:
        raise InputError(
            f"--nodes {config.nodes} of --num-threads {config.num_threads} are {threads} threads; "
            f"expected at most {most} on a machine"
        )
    if config.cluster and config.nodes == ALL_MACHINES and config.mode == "sync":
        raise InputError("--mode sync needs the number of --nodes: it averages over all of them")
    if ":" in config.device and (config.cluster or config.nodes > 1):
        raise InputError(
            f"--device is {config.device!r} with {_nodes_asked_for(config)}, which Ray deals the "
            "GPUs to; expected auto, cpu or cuda (CUDA_VISIBLE_DEVICES says which there are)"
        )


def _nodes_asked_for(config: Config) -> str:
    return "--cluster" if config.cluster else f"--nodes {config.nodes}"


def _check_optimiser(config: Config) -> None:
    """Raise InputError for what an optimiser cannot do, or not there."""
    if config.lr_schedule == "exponential" and not config.lr_final_fraction:
        raise InputError(
            "--lr-final-fraction is 0 with --lr-schedule exponential, which never gets there; "
            "expected more, such as 0.01"
        )
    if config.rmsprop_decay == 1 and config.rmsprop_initial == "debiased":
        raise InputError(
            "--rmsprop-decay is 1; expected less, or a number for --rmsprop-initial: an average "
            "that starts at nothing would stay there"
        )
    if config.optimizer != "shared-rmsprop" and (config.cluster or config.nodes > 1):
        raise InputError(
            f"--optimizer is {config.optimizer!r} with {_nodes_asked_for(config)}, which exchange "
            "what they share; expected shared-rmsprop"
        )
    if config.optimizer == "rmsprop" and config.mode == "sync":
        raise InputError(
            "--optimizer is 'rmsprop' with --mode sync, in which threads have one gradient "
            "together; expected shared-rmsprop or momentum"
        )


def _check_value_method(config: Config) -> None:
    """Raise InputError for what a method that learns values of actions does not have."""
    if config.correction == "vtrace":
        raise InputError(
            f"--correction is 'vtrace' with --method {config.method}, which has no policy to "
            "correct; expected none or auto"
        )
    if config.recurrent:
        raise InputError(
            f"--recurrent with --method {config.method}, which has no LSTM; expected --method a3c"
        )


def exactly(bound: float) -> str:
    """1e+12, but 2147483647."""
    return f"{bound:g}" if float(f"{bound:g}") == bound else str(bound)


def _words(kind: type) -> str:
    return "a whole number" if kind is int else "a number"


def plain(name: str, value: Any) -> Any:
    """As JSON has it: of a NumPy scalar the number, of a path the text; of 1e6, where the option
    is a whole number, that number."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    whole = isinstance(value, float) and alternatives(KINDS.get(name))[0] is int
    return int(value) if whole and value.is_integer() else value


def to_dict(config: Config) -> dict[str, Any]:
    """All fields as plain values, for JSON; `Config(**values)` is the way back."""
    return dataclasses.asdict(config)
