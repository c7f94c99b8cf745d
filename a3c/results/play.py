"""`a3c play`: whole games of a trained model, their scores and two films."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from rich.table import Table

from a3c.config import RANGES, Config, Ranges, check_number
from a3c.devices import without_tf32
from a3c.envs.names import atari_game
from a3c.envs.protocol import Array, EnvironmentFault, Spec
from a3c.errors import InputError
from a3c.games import (
    Episode,
    EvaluationProtocol,
    GameEnvs,
    GoesOn,
    make_games,
    play_episodes,
    usual_epsilon,
)
from a3c.memory import check_memory_of_games
from a3c.results.evaluate import FIGURES, summary
from a3c.results.film import Each, NoFilm, Window, film, open_window, show
from a3c.results.output import out_folder, whole_file
from a3c.results.play_folder import (
    BEST_FILM,
    MEDIAN_FILM,
    check_folder,
    default_folder,
    run_of,
    settled,
    where_it_leads,
    write_scores,
)
from a3c.results.policy import Policy
from a3c.results.progress import Progress
from a3c.run import models
from a3c.run.checkpoint import Checkpoint
from a3c.run.interrupts import interrupts
from a3c.run.start import check_spec
from a3c.run.terminal import Screen, counted


@dataclass(frozen=True)
class PlayOptions:
    """Play whole games with a trained model; write scores.json and two films."""

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="GAME_MODEL_OR_RUN")]
    """A game whose model ships, a model file, or a run folder (its newest checkpoint)."""
    episodes: int = 10
    """Games to play, all at the same time, each from its own seed."""
    out: str | None = None
    """Folder for scores.json and the films. Default: play in the run's folder; play/NAME for a
    model that is not a run's."""
    policy: Literal["sample", "greedy"] = "sample"
    """sample: draw each action from the policy, as in training. greedy: its most likely action, or
    that of the highest value."""
    epsilon: float | None = None
    """Probability of a random action in place of the policy's (Discrete actions). Default: 0 for
    sample, or 0.05 of a value method, which has nothing to draw from; 0.01 for greedy, which could
    otherwise repeat itself for ever."""
    noop_max: int | None = None
    """A game starts with fewer no-ops than this, drawn at random (Atari); 0 for none. Default: as
    in training."""
    max_agent_steps: int = EvaluationProtocol.max_agent_steps
    """The longest game: one that has not ended after this many agent steps is cut, and a line says
    so."""
    film: bool = True
    """Write films of the best and the median game."""
    render: bool = False
    """Also show the best game in a window."""
    seed: int = 0
    """Seed of the first game; the following ones take the following seeds."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:i."""

    def __post_init__(self) -> None:
        if self.policy not in ("sample", "greedy"):
            raise InputError(f"--policy is {self.policy!r}; expected sample or greedy")
        for name in ("episodes", "max_agent_steps", "seed"):
            check_number(name, int, getattr(self, name), PLAY_RANGES)
        if self.noop_max is not None:
            check_number("noop_max", int, self.noop_max, PLAY_RANGES)
        if self.epsilon is not None:
            check_number("epsilon", float, self.epsilon, PLAY_RANGES)

    def protocol(self, config: Config, spec: Spec) -> EvaluationProtocol:
        """With the epsilon in force, for the model's method and the kind of its actions."""
        greedy = self.policy == "greedy"
        usual = usual_epsilon(config, spec, greedy)
        epsilon = usual if self.epsilon is None else self.epsilon
        if epsilon and not spec.discrete:
            raise InputError(f"--epsilon is {epsilon}; expected none, the actions are continuous")
        return EvaluationProtocol(self.episodes, self.seed, greedy, epsilon, self.max_agent_steps)


# As in training, but that each of the games has a seed of its own
PLAY_RANGES: Ranges = {
    **RANGES,
    "episodes": (1, 10_000),
    "epsilon": (0, 1),
    "max_agent_steps": (1, 10**9),
    "seed": (0, RANGES["seed"][1] - 10_000),
}


def play(
    options: PlayOptions, quiet: bool = False, stop: threading.Event | None = None
) -> dict[str, Any]:
    """Play, print the table, write scores.json and the films; returns what scores.json holds.

    Ctrl-C ends the games: those that had ended by then are scored; if there are none,
    KeyboardInterrupt is raised. It sets `stop`, also where all games had ended. Raises InputError
    for a model that cannot be read and for a folder that cannot be used: before the games are
    played, where that can be known.
    """
    torch.set_num_threads(1)  # a second thread would wait longer than it works on so few agents
    without_tf32()
    model = where_it_leads(options.model)
    out = default_folder(model) if options.out is None else settled(out_folder(options.out))
    saved, run = models.find(model), run_of(model)
    protocol = options.protocol(saved.config, saved.spec)
    check_folder(out, saved.sha256, run)
    window = open_window() if options.render else None
    if options.noop_max is not None and atari_game(saved.config.env) is None:
        raise InputError(
            f"--noop-max is {options.noop_max}; expected none, {saved.config.env} is no Atari game"
        )
    noop_max = saved.config.noop_max if options.noop_max is None else options.noop_max
    config = replace(saved.config, noop_max=noop_max, num_threads=1)
    check_memory_of_games(config, saved.spec, options.episodes)
    policy = Policy(saved, options.device, options.seed)
    stop = stop or threading.Event()
    with interrupts(stop.set), Progress(Screen(quiet=quiet)) as progress:
        goes_on = watched(progress, stop, protocol)
        episodes, unclosed = games(policy, config, protocol, goes_on)
        scores = {**identity(options.model, run, saved), **summary(episodes, config, protocol)}
        progress.say(score_table(scores))
        for line in remarks(scores, options.episodes):
            progress.say(line)
        progress.say(f"scores: {write_scores(out, scores)}")
        best, median = best_and_median(episodes)
        each = shown(progress, stop, window, best)
        for line in pictures(options, best, median, config, out, each, stop):
            progress.say(line)
    if unclosed is not None:  # it costs no scores
        raise unclosed
    return scores


def games(
    policy: Policy, config: Config, protocol: EvaluationProtocol, goes_on: GoesOn
) -> tuple[list[Episode], Exception | None]:
    """Those that have ended, one at least; and why an environment could not be closed. Raises
    KeyboardInterrupt and InputError, see play."""
    made = make_games(config, protocol.episodes, policy.device)
    try:
        check_spec("the model", config.env, policy.spec, config.env, made.spec)
        episodes = play_episodes(made, policy.network, policy.generator, protocol, goes_on)
    except EnvironmentFault as fault:  # no score would mean anything
        raise InputError(f"{config.env} cannot be played: {fault}") from None
    finally:
        unclosed = closed(made)
    if not episodes:
        raise KeyboardInterrupt("no game had ended, nothing is written")
    return episodes, unclosed


def closed(made: GameEnvs) -> Exception | None:
    """Close the games: why that failed, if it did."""
    try:
        made.close()
    except Exception as error:
        return error
    return None


def identity(model: str, run: Path | None, saved: Checkpoint) -> dict[str, Any]:
    """Which model it is: as it was asked for, and so that a report can tell its run's from others'.

    run: its folder; None for a model that is not a run's. By now a link may lead to another's.
    """
    return {
        "model": model,
        "run": None if run is None else run.name,
        "checkpoint_sha256": saved.sha256,
        "agent_steps_trained": saved.progress["agent_steps"],
    }


def watched(progress: Progress, stop: threading.Event, protocol: EvaluationProtocol) -> GoesOn:
    """Tells how far the games have come, and ends them at Ctrl-C."""

    def goes_on(under_way: int, agent_steps: int) -> bool:
        ended, games = protocol.episodes - under_way, counted(protocol.episodes, "game")
        progress.status(f"{ended} of {games} ended, agent step {agent_steps:,}")
        return not stop.is_set()

    return goes_on


def shown(progress: Progress, stop: threading.Event, window: Window | None, best: Episode) -> Each:
    """Tells how far a film has come, and ends it at Ctrl-C; the best game's goes to the window."""

    def each(frame: Array, number: int, episode: Episode) -> None:
        if stop.is_set():
            raise NoFilm("interrupted")
        if window is not None and episode is best:
            window(frame)
        progress.status(f"filming, {number:,} of {episode.length:,} agent steps")

    return each


def pictures(
    options: PlayOptions,
    best: Episode,
    median: Episode,
    config: Config,
    out: Path,
    each: Each,
    stop: threading.Event,
) -> Iterator[str]:
    """Films, or the window alone; yields a line about each film, or why there is none."""
    try:
        if options.film:
            yield from films(best, median, config, out, each)
        elif options.render:
            show(best, config, each)
    except NoFilm as why:
        yield f"no film: {why}"
    except InputError:
        if not stop.is_set():
            raise
        yield "no film: interrupted"  # Ctrl-C also ends the ffmpeg that counts what was written


def films(best: Episode, median: Episode, config: Config, out: Path, each: Each) -> Iterator[str]:
    """Film both games into the folder; yields a line about each film that is written."""
    film(best, config, out / BEST_FILM, each)
    yield f"best game, return {best.episodic_return:g}: {out / BEST_FILM}"
    if median is best:
        with whole_file(out / MEDIAN_FILM) as temporary:
            shutil.copyfile(out / BEST_FILM, temporary)
    else:
        film(median, config, out / MEDIAN_FILM, each)
    yield f"median game, return {median.episodic_return:g}: {out / MEDIAN_FILM}"


def best_and_median(episodes: list[Episode]) -> tuple[Episode, Episode]:
    """By return."""
    ranked = sorted(episodes, key=lambda episode: episode.episodic_return)
    return ranked[-1], ranked[(len(ranked) - 1) // 2]


def score_table(scores: dict[str, Any]) -> Table:
    """For the terminal."""
    policy = scores["protocol"]["policy"]
    title = f"{scores['env']}: {counted(scores['episodes'], 'whole game')}, {policy} policy"
    table = Table("", "return", title=title)
    for name in FIGURES:
        table.add_row(name, f"{scores[name]:,.2f}")
    table.add_row("mean length, agent steps", f"{scores['mean_length_agent_steps']:,.0f}")
    if scores["human_normalised"] is not None:
        table.add_row("human-normalised", f"{scores['human_normalised']:,.0%}")
    return table


def remarks(scores: dict[str, Any], asked: int) -> list[str]:
    """What one must know beside the table: games that are missing or cut."""
    lines = []
    if scores["interrupted"]:
        lines.append(f"interrupted: {scores['episodes']} of {counted(asked, 'game')} had ended")
    if any(scores["cut"]):
        seeds = [seed for seed, cut in zip(scores["seeds"], scores["cut"], strict=True) if cut]
        longest = scores["protocol"]["max_agent_steps"]
        named = ", ".join(str(seed) for seed in seeds[:10]) + (", ..." if len(seeds) > 10 else "")
        games = counted(len(seeds), "game")
        lines.append(f"cut after {counted(longest, 'agent step')}: {games}, seed {named}")
    return lines
