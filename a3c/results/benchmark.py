"""A benchmark: a study whose finished runs play whole games, beside what others have published.

Each run is scored as soon as it has ended, and the table is written anew: an interrupted benchmark
goes on where it stood, and what it has found by then can be read.
"""

from __future__ import annotations

import csv
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from a3c.config import (
    ALL_MACHINES,
    GPU_AGENTS,
    MOST_AUTO_THREADS,
    ROLLOUT,
    all_threads,
    check_number,
)
from a3c.envs import spec_of
from a3c.envs.names import atari_game
from a3c.errors import InputError
from a3c.memory import check_memory_of_games
from a3c.metrics import Floats
from a3c.results.benchmark_csv import (
    CURVES_CSV,
    SCORES_CSV,
    Point,
    Score,
    points,
    read_rows,
)
from a3c.results.charts import new_figure, write_figure
from a3c.results.figures import interval
from a3c.results.output import markdown, out_folder, write_csv, write_text
from a3c.results.play import PLAY_RANGES, PlayOptions, play
from a3c.results.play_folder import SCORES, write_scores
from a3c.results.played import read_scores
from a3c.results.scores import PUBLISHED, human_normalised
from a3c.results.study import check_no_other, ready, run_all, say
from a3c.results.study_csv import STUDY_CSV
from a3c.results.study_plan import Planned, folder_name, plan, read_spec
from a3c.run import checkpoint, provenance, strict_json
from a3c.run.folder import as_word
from a3c.run.terminal import counted

Policy = Literal["sample", "greedy"]
POLICIES: tuple[Policy, ...] = ("sample", "greedy")
Key = tuple[str, int]  # a run's game and seed: no two runs of a benchmark have the same
# SLM-Lab's benchmark of 2019 (kengz/SLM-Lab-doc, atari-benchmark.md): 10 million agent steps, the
# network of Mnih et al. 2015, games without sticky actions; a score is the mean over the last 100
# evaluations of training and over four runs.
REFERENCES = Path(__file__).parent / "references.csv"
# Agent steps that a run of the defaults goes past its end, on whatever machine
MOST_BEYOND = MOST_AUTO_THREADS * GPU_AGENTS * ROLLOUT
LINEAR_TO = 1.0  # human-normalised, of the figure's symmetric logarithmic axis


@dataclass(frozen=True)
class BenchmarkOptions:
    """Train Atari games one after another, score each, and set them beside published scores.

    SPEC is a TOML file as of `a3c study`, with one setting: [grid] has env, the games, and seed.
    Give the command again to go on after an interruption.
    """

    spec: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SPEC")]
    """TOML file that describes the runs."""
    out: str = "benchmark"
    """Folder for the runs, scores.csv, curves.csv, table.md and scores.png. Runs whose folders have
    been deleted count as these files say; rows of other games stay."""
    episodes: int = 100
    """Whole games of each policy, sampled and greedy, by which a run is scored."""

    def __post_init__(self) -> None:
        check_number("episodes", int, self.episodes, PLAY_RANGES)


@dataclass(frozen=True)
class Found:
    """A run's score and its thin curve."""

    score: Score
    curve: list[Point]


def benchmark(options: BenchmarkOptions) -> list[Path]:
    """Run and score what is left; returns the paths of scores.csv, curves.csv, table.md and
    scores.png.

    After Ctrl-C what has been scored stands. What these files say of other runs, or of runs whose
    folders are gone, stands until the SPEC's run of that game and seed has been scored. Raises
    InputError for a bad SPEC, for what is no Atari game, and for an `out` or files in it that
    cannot be used, before anything is run.
    """
    out = out_folder(options.out)
    check_no_other(out, STUDY_CSV, "study")
    plans = planned_runs(Path(options.spec), out)
    found = read_files(out)
    left = [each for each in plans if not is_all_there_is(each, found, options.episodes)]

    def write_all() -> list[Path]:
        return write(out, in_order(plans, found), stale(plans, found, options.episodes))

    def score_and_write(planned: Planned) -> None:
        if score_run(planned, found, options.episodes):
            write_all()

    for planned in left:  # before hours of training, not after
        check_memory_of_games(planned.config, spec_of(planned.config), options.episodes)
    with ready(left, out, [each for each in left if has_weights(each)]):
        # Again: until the folder was ours somebody may have added to it
        found = read_files(out)
        check_rows(plans, found, options)
        say_what_stands(plans, left, found, out)
        went = run_all(left, score_and_write)
        if went.interrupted:
            say(f"interrupted; go on: {command(options)}")
        paths = write_all() if found else []
    went.check()
    return paths


def planned_runs(spec: Path, out: Path) -> list[Planned]:
    """Of a SPEC, each in its place. Raises InputError for one that is no benchmark's."""
    asked = read_spec(spec)
    if asked.goal is not None:
        raise InputError(f"{spec} has goal, which a benchmark does not read; expected none")
    plans = plan(asked, out)
    check_games(plans)
    return [in_its_place(planned, out) for planned in plans]


def score_run(planned: Planned, found: dict[Key, Found], episodes: int) -> bool:
    """Score a run that has ended, into `found`; whether that has changed."""
    for policy in POLICIES:
        score(planned, policy, episodes)
    made, had = read(planned), found.get(key(planned))
    if had is not None and not made.curve and made.score.agent_steps == had.score.agent_steps:
        made = replace(made, curve=had.curve)  # of a log that somebody has removed
    found[key(planned)] = made
    return made != had


def say_what_stands(
    plans: list[Planned], left: list[Planned], found: dict[Key, Found], out: Path
) -> None:
    """How many runs count as the file says, and how many of its are made again all the same."""
    runs = counted(len(plans), "run")
    if gone := len(plans) - len(left):
        say(
            f"{gone} of {runs} as {out / SCORES_CSV} has it, whatever the settings: no checkpoint "
            "is here"
        )
    if anew := [each for each in left if key(each) in found and not has_weights(each)]:
        say(
            f"{len(anew)} of {runs} trained anew: {out / SCORES_CSV} has "
            "them of another length or number of games, and no checkpoint is here"
        )


def command(options: BenchmarkOptions) -> str:
    """That goes on with it."""
    words = f"a3c benchmark {as_word(options.spec)} --out {as_word(options.out)}"
    usual = options.episodes == BenchmarkOptions.episodes
    return words if usual else f"{words} --episodes {options.episodes}"


def in_its_place(planned: Planned, out: Path) -> Planned:
    """A run in a folder that has the names of its game and seed alone, so that one of another
    setting, which stands there, is found and refused; by whatever id the SPEC names the game. But
    one that stands where the SPEC's options name it, as all did once, stays there."""
    if planned.folder.exists():
        return planned
    game, seed = key(planned)
    runs_dir = out / "runs" / folder_name({"seed": seed, "env": game})
    config = replace(planned.config, env=game, runs_dir=str(runs_dir))
    return planned._replace(config=config, runs_dir=runs_dir)


def key(planned: Planned) -> Key:
    """Of a run."""
    game = atari_game(planned.config.env)
    assert game is not None
    return game, planned.config.seed


def in_order(plans: list[Planned], found: dict[Key, Found]) -> list[Found]:
    """What has been found, as the SPEC lists it; then what it does not list."""
    listed = [key(planned) for planned in plans if key(planned) in found]
    return [found[each] for each in dict.fromkeys([*listed, *found])]


def read_files(out: Path) -> dict[Key, Found]:
    """What the files in `out` say."""
    curves: dict[Key, list[Point]] = {}
    for point in read_rows(out / CURVES_CSV, Point):
        curves.setdefault((point.game, point.seed), []).append(point)
    scores = {(each.game, each.seed): each for each in read_rows(out / SCORES_CSV, Score)}
    return {run: Found(row, curves.get(run, [])) for run, row in scores.items()}


def is_all_there_is(planned: Planned, found: dict[Key, Found], episodes: int) -> bool:
    """Whether a run has no checkpoint here but a row, of its length and protocol. With which
    settings it was made the row does not say: only its commit."""
    had = found.get(key(planned))
    if had is None or has_weights(planned):
        return False
    return is_alike(planned, had.score, episodes)


def has_weights(planned: Planned) -> bool:
    """Whether a run has a checkpoint here."""
    return bool(checkpoint.numbered(planned.folder))


def is_alike(planned: Planned, had: Score, episodes: int) -> bool:
    """Whether a row is of a run as long as this one, and of as many games."""
    config = planned.config
    beyond = had.agent_steps - config.total_agent_steps
    rollouts = all_threads(config) * config.num_envs * config.rollout_length
    # Of all machines of a cluster: nobody knows any more how many there were
    nodes = config.total_agent_steps // 100 if config.nodes == ALL_MACHINES else 0
    return 0 <= beyond <= max(MOST_BEYOND, rollouts, nodes) and had.episodes == episodes


def stale(plans: Sequence[Planned], found: dict[Key, Found], episodes: int) -> set[Key]:
    """Rows that are to be made again, of another length or protocol, beside one of their game that
    has been: the mean of the game would be of both, so no table has them."""
    there = {key(each): each for each in plans if key(each) in found}
    unlike = {k for k, each in there.items() if not is_alike(each, found[k].score, episodes)}
    anew = {game for game, _ in there.keys() - unlike}
    return {(game, seed) for game, seed in unlike if game in anew}


def check_rows(
    plans: Sequence[Planned], found: dict[Key, Found], options: BenchmarkOptions
) -> None:
    """Raise InputError for a row of another seed that is of another length or protocol: the mean of
    its game would be of both."""
    of_games = {key(planned)[0]: planned for planned in plans}
    listed = {key(planned) for planned in plans}
    for (game, seed), had in found.items():
        planned = of_games.get(game)
        if planned is None or (game, seed) in listed:
            continue
        if not is_alike(planned, had.score, options.episodes):
            raise InputError(
                f"{Path(options.out, SCORES_CSV)} has {game} with seed {seed} after "
                f"{had.score.agent_steps:,} agent steps, {counted(had.score.episodes, 'game')}; "
                f"expected {planned.config.total_agent_steps:,} and {options.episodes}, as of "
                "this one, or another --out"
            )


def check_games(plans: Sequence[Planned]) -> None:
    """Raise InputError for what is no Atari game, and for a game in more than one setting."""
    seen = set()
    for planned in plans:
        game = atari_game(planned.config.env)
        if game is None:
            raise InputError(f"{planned.config.env} is no Atari game; expected Atari games alone")
        if (game, planned.config.seed) in seen:
            raise InputError(f"{game} has more than one setting; expected one: use a3c study")
        seen.add((game, planned.config.seed))


def folder_of(planned: Planned, policy: Policy) -> Path:
    """Of a run's scores by a policy."""
    return planned.folder / f"benchmark-{policy}"


def score(planned: Planned, policy: Policy, episodes: int) -> None:
    """Play the games of one policy, unless they have been played with the run's last parameters.

    Raises KeyboardInterrupt where that was interrupted; fewer games would be another protocol.
    """
    folder = folder_of(planned, policy)
    had = strict_json.read(folder / SCORES)  # None: they are to be made, or made again
    if had is not None:
        newest = checkpoint.newest(planned.folder).checkpoint.sha256
        if had.get("checkpoint_sha256") == newest and had.get("episodes") == episodes:
            return
    options = PlayOptions(
        str(planned.folder),
        episodes,
        str(folder),
        policy,
        film=False,
        device=planned.config.device,
    )
    stop = threading.Event()
    if not played(options, stop):
        if had is None:
            (folder / SCORES).unlink(missing_ok=True)
        else:
            write_scores(folder, had)
    if stop.is_set():
        raise KeyboardInterrupt


def played(options: PlayOptions, stop: threading.Event) -> bool:
    """Play; whether all games have ended. What fails as they are given up does not count."""
    try:
        return not play(options, quiet=True, stop=stop)["interrupted"]
    except Exception:
        if not stop.is_set():
            raise
        return False


def read(planned: Planned) -> Found:
    """Of a run that has been scored."""
    sampled, greedy = (read_scores(folder_of(planned, policy)) for policy in POLICIES)
    trained = checkpoint.newest(planned.folder).checkpoint.progress["metrics"]
    made = (provenance.read(planned.folder) or [{}])[-1]
    game, seed = key(planned)
    score = Score(
        game,
        seed,
        sampled["agent_steps_trained"],
        round(trained["seconds"] / 60, 1),
        sampled["mean"],
        sampled["std"],
        greedy["mean"],
        greedy["std"],
        sampled["episodes"],
        made.get("commit", ""),
        made.get("processor", ""),
        made.get("cores", 0),
    )
    return Found(score, points(game, planned))


def write(out: Path, found: list[Found], unlike: set[Key]) -> list[Path]:
    """scores.csv, curves.csv, table.md and scores.png of what has been scored; the last two without
    the rows, by game and seed, that are unlike others of their game."""
    scores = [each.score for each in found]
    alike = [each for each in scores if (each.game, each.seed) not in unlike]
    curves = [point for each in found for point in each.curve]
    return [
        write_csv(out / SCORES_CSV, Score._fields, scores),
        write_csv(out / CURVES_CSV, Point._fields, curves),
        write_text(out / "table.md", "\n".join(table(alike)) + "\n"),
        draw(by_game(alike), out / "scores.png"),
    ]


def by_game(scores: list[Score]) -> dict[str, float]:
    """The mean over seeds of each game's sampled score."""
    games = sorted({each.game for each in scores})
    return {
        game: float(np.mean([each.sampled for each in scores if each.game == game]))
        for game in games
    }


@cache
def references() -> dict[str, dict[str, float]]:
    """Published scores by column and game."""
    with REFERENCES.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name != "game"]
    return {name: {row["game"]: float(row[name]) for row in rows} for name in names}


def table(scores: list[Score]) -> list[str]:
    """Markdown: the summary, wins and losses, then each game."""
    ours = by_game(scores)
    return [*summary(ours), "", *duels(ours), "", *games_table(scores, ours)]


def summary(ours: dict[str, float]) -> list[str]:
    """Human-normalised scores of all games together, with intervals over the games."""
    rows = []
    for name, scores in {"this benchmark": ours, **references()}.items():
        values = normalised({game: scores[game] for game in ours if game in scores})
        if len(values):
            cells = [with_interval(values, of) for of in (np.median, np.mean, middle)]
            rows.append([name, len(values), *cells])
    names = ["human-normalised", "games", "median", "mean", "interquartile mean"]
    return [
        *markdown(names, rows),
        "",
        "In brackets: 95 % of resamplings of the games (SciPy's bootstrap).",
    ]


def normalised(scores: dict[str, float]) -> Floats:
    """Of the games that have published scores of random play and a human."""
    found = (human_normalised(game, score) for game, score in scores.items())
    return np.array([value for value in found if value is not None])


def middle(values: Floats, axis: int = -1) -> Any:
    """Mean of the middle half (Agarwal et al., 2021)."""
    from scipy.stats import trim_mean  # an extra, see check_scipy

    return trim_mean(values, 0.25, axis=axis)


def with_interval(values: Floats, statistic: Callable[..., float]) -> str:
    """`123% (100 to 150)`; of one game the statistic alone."""
    value, low, high = interval(values, statistic)
    return f"{value:.0%}" + f" ({100 * low:.0f} to {100 * high:.0f})" * (low < high)


def duels(ours: dict[str, float]) -> list[str]:
    """Games won against each reference."""
    rows = []
    for name, scores in references().items():
        both = [(ours[game], scores[game]) for game in ours if game in scores]
        won, drawn = sum(a > b for a, b in both), sum(a == b for a, b in both)
        rows.append([name, len(both), won, drawn, len(both) - won - drawn])
    return markdown(["against", "games", "won", "drawn", "lost"], rows)


def games_table(scores: list[Score], ours: dict[str, float]) -> list[str]:
    """Each game: ours, human-normalised, what others published, and what it took."""
    others, rows = list(references()), []
    for game, sampled in ours.items():
        of_game = [each for each in scores if each.game == game]
        error = standard_error(of_game)
        greedy, minutes = (
            float(np.mean([getattr(each, name) for each in of_game]))
            for name in ("greedy", "minutes")
        )
        human = human_normalised(game, sampled)
        cells: list[Any] = [
            game,
            len(of_game),
            f"{number(sampled)} ± {number(error)}" if math.isfinite(error) else number(sampled),
            number(greedy),
            "" if human is None else f"{human:z.0%}",
            *(number(each) for each in PUBLISHED.get(game, (None, None))),
            *(beside(sampled, error, references()[name].get(game)) for name in others),
            number(max(each.agent_steps for each in of_game) / 1e6),
            f"{minutes:,.0f}",
        ]
        rows.append(cells)
    ours_and_limits = ["seeds", "sampled", "greedy", "human-normalised", "random play", "human"]
    return [
        *markdown(["game", *ours_and_limits, *others, "million agent steps", "minutes"], rows),
        "",
        "Sampled: with its standard error, by the seeds, or by the games of a single one. "
        "Bold: above ours. ≈: nearer to ours than that error.",
    ]


def standard_error(of_game: list[Score]) -> float:
    """Of the mean of a game's sampled scores; infinite of a single score. Seeds differ more than
    the games of one do."""
    if len(of_game) > 1:
        return float(np.std([each.sampled for each in of_game], ddof=1) / len(of_game) ** 0.5)
    (single,) = of_game
    if single.episodes == 1:
        return math.inf
    return float(single.sampled_std / single.episodes**0.5)


def beside(ours: float, error: float, reference: float | None) -> str:
    """A reference's score, marked where it is above ours, and where no winner is certain."""
    if reference is None:
        return ""
    text = f"≈ {number(reference)}" if abs(reference - ours) < error else number(reference)
    return f"**{text}**" if reference > ours else text


def number(value: float | None) -> str:
    """With one decimal below a thousand; empty for none."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:z,.1f}"


def draw(ours: dict[str, float], path: Path) -> Path:
    """Human-normalised scores, ours beside each reference's, the lowest of ours at the bottom."""
    known = {
        name: {game: human_normalised(game, score) for game, score in scores.items()}
        for name, scores in {"this benchmark": ours, **references()}.items()
    }
    own = {game: value for game, value in known["this benchmark"].items() if value is not None}
    ranked = sorted(own, key=lambda game: own[game])
    figure, (axis,) = new_figure(8, 1.5 + 0.22 * len(ranked))
    for (name, values), marker in zip(known.items(), "o|x+", strict=True):
        points = [(values.get(game), i) for i, game in enumerate(ranked)]
        there = np.array([point for point in points if point[0] is not None], float).reshape(-1, 2)
        axis.plot(*there.T, linestyle="none", marker=marker, label=name)
    axis.set_xscale("symlog", linthresh=LINEAR_TO)
    axis.set_yticks(range(len(ranked)), ranked)
    axis.axvline(0, color="grey", linewidth=0.8)
    axis.axvline(1, color="grey", linewidth=0.8, linestyle=":")
    axis.set_xlabel("human-normalised score: 0 is random play, 1 a human")
    return write_figure(figure, path)
