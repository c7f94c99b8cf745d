"""Make of a finished run a model that ships: models/<game>/ with weights, scores, curve and card.

    python benchmarks/ship.py runs/breakout-20261124-120000

Plays 100 whole games with each of three policies: sampled, greedy (1 % random actions), uniformly
random, with fewer than 30 no-ops at the start. Takes some minutes a game.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import imageio_ffmpeg

from a3c.config import Config, all_threads
from a3c.envs.names import atari_game
from a3c.errors import InputError
from a3c.results.play import PlayOptions, play
from a3c.results.plot import PlotOptions, plot
from a3c.results.report import command, origin
from a3c.results.scores import PUBLISHED, PUBLISHED_BY, REPORTED
from a3c.run import checkpoint, log, provenance, strict_json
from a3c.run.checkpoint import Checkpoint
from a3c.run.models import MODEL

ROOT = Path(__file__).resolve().parent.parent
GAMES = 100
POLICIES: dict[str, dict[str, Any]] = {
    "sample": {"policy": "sample"},
    "greedy": {"policy": "greedy"},
    "random": {"policy": "sample", "epsilon": 1.0},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    run = parser.parse_args().run
    try:
        saved = checkpoint.newest(run).checkpoint
    except InputError as error:
        parser.error(str(error))
    if saved.progress["agent_steps"] < saved.config.total_agent_steps:
        parser.error(f"{run} has not reached its {saved.config.total_agent_steps:,} agent steps")
    game = atari_game(saved.config.env)
    if game is None:
        parser.error(f"{run} plays {saved.config.env}; expected an Atari game")
    models = ROOT / "models"
    with tempfile.TemporaryDirectory(dir=models, prefix=".") as unfinished:
        make(Path(unfinished), game, run, saved)
        (models / game).mkdir(exist_ok=True)
        for made in Path(unfinished).iterdir():  # once all are made
            made.replace(models / game / made.name)
    print(f"written to {models / game}")


def make(folder: Path, game: str, run: Path, saved: Checkpoint) -> None:
    """Everything of a model that ships, in a folder of its own."""
    checkpoint.save(folder / MODEL, stripped(saved))
    scores = evaluate(folder, game)
    (folder / "scores.json").write_text(strict_json.dumps(scores, indent=1) + "\n")
    plot(PlotOptions((str(run),), str(folder / "curve.png")))
    (folder / "README.md").write_text(card(game, run, saved, scores))


def stripped(saved: Checkpoint) -> Checkpoint:
    """The parameters alone, and no path of the machine that trained them."""
    parameters = {"parameters": saved.tensors["parameters"]}
    config = replace(saved.config, runs_dir=Config.runs_dir)
    return saved._replace(config=config, tensors=parameters)


def evaluate(folder: Path, game: str) -> dict[str, Any]:
    """The scores of each policy; the film of the sampled one's median game goes to the folder."""
    scores = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, options in POLICIES.items():
            out = Path(scratch) / name
            model, film = str(folder / MODEL), name == "sample"
            scores[name] = play(PlayOptions(model, GAMES, str(out), film=film, **options))
            # an interrupted film leaves the scores whole
            if scores[name]["interrupted"] or (film and not (out / "median.mp4").exists()):
                raise SystemExit("ship: interrupted; nothing is written")
            scores[name]["model"] = f"models/{game}/{MODEL}"
        shrink(Path(scratch) / "sample" / "median.mp4", folder / "median.mp4")
    return scores


def shrink(film: Path, to: Path) -> None:
    """Encode a film anew, smaller: four minutes of Beam Rider were 3.3 MB."""
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    how = ["-crf", "32", "-preset", "veryslow", "-pix_fmt", "yuv420p", "-loglevel", "error", "-y"]
    subprocess.run([ffmpeg, "-i", str(film), *how, str(to)], check=True)


def card(game: str, run: Path, saved: Checkpoint, scores: dict[str, Any]) -> str:
    """The page about the model."""
    last = log.read(run / "metrics.jsonl")[-1]
    lines = [
        f"# {game}",
        "",
        f"`{' '.join([command(saved.config), *origin(run)])}`",
        "",
        f"{last['agent_steps']:,} agent steps, {last['episodes']:,} games, "
        f"{last['seconds'] / 60:,.0f} minutes of wall-clock. {repeated(saved.config)}",
        *[
            # Not every system says how many cores there are, nor every folder which commit it is
            f"{'Resumed: c' if i else 'C'}ommit {part.get('commit', '?')}; "
            f"{part.get('cores', '?')} cores, "
            f"{part['processor']}, {part['device']}, {part['torso_dtype']}; "
            f"Python {part['python']}, torch {part['torch']}; started {part['started']}."
            for i, part in enumerate(provenance.read(run))
        ],
        "",
        f"`a3c play {game}` plays it. [A film of the median of {GAMES} games](median.mp4).",
        "",
        "![return](curve.png)",
        "",
        f"## {GAMES} whole games",
        "",
        *score_rows(game, scores),
        "",
        "Greedy: the most likely action, but a random one in 1 % of the steps.",
        f"`a3c play {game} --episodes {GAMES}` repeats the first row exactly on such a machine;",
        "with `--policy greedy` the second, with `--epsilon 1` the third. Rounding differs between",
        "processors, and with it the course of single games.",
        "The others' figures were obtained with other budgets and protocols than ours.",
        "",
        "## Protocol",
        "",
        *[f"- {name}: {value}" for name, value in scores["sample"]["protocol"].items()],
        f"- in training: lost lives end episodes for the optimiser: "
        f"{saved.config.life_loss_terminal}; rewards clipped for it: {saved.config.clip_rewards}",
        "",
    ]
    return "\n".join(lines)


def repeated(config: Config) -> str:
    """What the command makes when it is given again."""
    one = all_threads(config) == 1 and not config.cluster
    if one or config.mode == "sync":
        return f"Seed {config.seed}."
    return (
        f"Seed {config.seed}; with several threads no two runs are alike, so the command makes "
        "another model."
    )


def score_rows(game: str, scores: dict[str, Any]) -> list[str]:
    """Ours, measured here, and below them what others published."""
    rows = [
        "| | mean | standard deviation | median | best |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, found in scores.items():
        figures = (f"{found[key]:,.1f}" for key in ("mean", "std", "median", "max"))
        rows.append(f"| {name} | {' | '.join(figures)} |")
    for who, score in zip(("random play", "human"), PUBLISHED.get(game, ()), strict=False):
        rows.append(f"| {who}, {PUBLISHED_BY} | {score:,.1f} | | | |")
    for who, terms, score in REPORTED.get(game, []):
        rows.append(f"| {who}: {terms} | {score:,.1f} | | | |")
    return rows


if __name__ == "__main__":
    main()
