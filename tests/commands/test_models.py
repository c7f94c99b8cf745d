"""The models that ship: found by name, listed with their scores, as good as their cards say."""

import io
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

import a3c
from a3c import cli
from a3c.command.train_options import train_options
from a3c.envs.names import atari_games
from a3c.options import differences
from a3c.presets import preset
from a3c.results import play, scores, ships
from a3c.run import models, provenance
from benchmarks import ship
from tests.commands.made_run import make_run, record

GAMES = list(models.shipped())


def test_the_games_that_ship_are_known_and_small() -> None:
    assert set(GAMES) == {"beam_rider", "breakout", "demon_attack", "pong", "qbert", "seaquest",
                          "space_invaders"}  # fmt: skip
    folders = models.shipped().values()
    assert sum(path.stat().st_size for folder in folders for path in folder.iterdir()) < 30e6
    assert set(GAMES) <= set(atari_games())


@pytest.mark.parametrize("game", GAMES)
def test_a_model_has_its_card_and_its_protocol(game: str) -> None:
    folder = models.shipped()[game]
    assert (folder / models.MODEL).stat().st_size < 4e6
    card = (folder / "README.md").read_text()
    saved = models.find(game)
    config = saved.config
    assert config.env == game
    for policy, found in models.scores(folder).items():
        assert found["episodes"] == len(found["returns"]) == 100
        assert f"| {policy} | {found['mean']:,.1f} |" in card
        assert found["protocol"]["frame_skip"] == config.frame_skip
        assert found["agent_steps_trained"] == saved.progress["agent_steps"]
        if game != "qbert":  # whose scores are older than this note
            assert found["checkpoint_sha256"] == saved.sha256


@pytest.mark.parametrize("game", GAMES)
def test_a_card_has_the_command_that_trained_the_model(game: str) -> None:
    card = (models.shipped()[game] / "README.md").read_text()
    (words,) = re.findall(r"^`a3c train (.+)`$", card, re.MULTILINE)
    asked = train_options(shlex.split(words)).config
    assert differences(asked, models.find(game).config) == []


@pytest.mark.parametrize("game", GAMES)
def test_the_readme_has_its_scores(game: str) -> None:
    """Four columns in the README, and all three policies in the page of results."""
    found = models.scores(models.shipped()[game])
    mean = {policy: f"{found[policy]['mean']:,.1f}" for policy in ("sample", "greedy", "random")}
    human = f"{scores.PUBLISHED[game][1]:,.1f}"
    card, root = f"models/{game}/README.md", Path(__file__).parents[2]
    row = f"]({card}) | {mean['sample']} | {mean['random']} | {human} |\n"
    assert row in (root / "README.md").read_text()
    row = f"](../../{card}) | {mean['sample']} | {mean['greedy']} | {mean['random']} | {human} |"
    assert row in (root / "docs" / "results" / "README.md").read_text()


def test_its_id_and_its_name_are_one_model() -> None:
    one, other = a3c.load("breakout"), a3c.load("ALE/Breakout-v5")
    assert one.config == other.config
    assert all(map(torch.equal, one.network.parameters(), other.network.parameters()))


def test_breakout_plays_as_its_card_says(tmp_path: Path) -> None:
    """Whole games last up to 27,000 agent steps. After 3,000 three times eight games had means of
    385 to 416, and 527 at their ends: a damaged model reaches neither."""
    options = play.PlayOptions("breakout", 8, str(tmp_path), film=False, max_agent_steps=3000)
    scores = play.play(options)
    assert 340 < scores["mean"] < models.scores(models.shipped()["breakout"])["sample"]["mean"]
    assert scores["min"] > 150
    assert json.loads((tmp_path / "scores.json").read_text())["mean"] == scores["mean"]


def test_random_play_of_breakout_is_as_its_card_says(tmp_path: Path) -> None:
    """The same games on every machine: no network decides."""
    options = play.PlayOptions("breakout", 100, str(tmp_path), epsilon=1.0, film=False)
    scores = play.play(options)
    shipped = models.scores(models.shipped()["breakout"])["random"]
    same = "returns", "lengths_agent_steps", "seeds", "mean", "std", "protocol"
    assert {name: scores[name] for name in same} == {name: shipped[name] for name in same}


def test_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models"]) == 0
    said = capsys.readouterr().out
    for game in GAMES:
        assert game in said


def test_the_list_has_games_without_a_humans_score(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of carnival, say, none is published."""
    found = models.scores(models.shipped()["pong"])
    nobody = {**found, "sample": {**found["sample"], "human_normalised": None}}
    monkeypatch.setattr(ships, "scores", lambda folder: nobody)
    page = io.StringIO()
    Console(width=80, file=page).print(ships.table())
    assert "%" not in page.getvalue().partition("a3c play GAME")[0]


def test_the_list_shows_the_scores_in_80_columns() -> None:
    page = io.StringIO()
    Console(width=80, file=page).print(ships.table())
    lines = page.getvalue().splitlines()
    for game in GAMES:
        found = models.scores(models.shipped()[game])
        (row,) = (line.split() for line in lines if line.startswith(f" {game} "))
        words = [
            game,
            *ships.spread(found["sample"]).split(),
            *ships.spread(found["greedy"]).split(),
            f"{found['random']['mean']:,.1f}",
            f"{found['sample']['human_normalised']:,.0%}",
            f"{found['sample']['agent_steps_trained'] / 1e6:.1f}",
        ]
        assert row == words
    assert "…" not in page.getvalue()
    assert "measured" in page.getvalue()


def test_spreads_are_whole_from_a_thousand_on() -> None:
    assert ships.spread({"mean": 4089.4, "std": 1685.6}) == "4,089 ± 1,686"
    assert ships.spread({"mean": -20.34, "std": 1.0}) == "-20.3 ± 1.0"


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_how_to_ask_for_the_table(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", word]) == 0
    assert capsys.readouterr().out.startswith("usage: a3c models\n")


@pytest.mark.parametrize(
    ("changes", "alike"),
    [
        ({"num_threads": 1}, True),
        ({"num_threads": 2}, False),
        ({"num_threads": 2, "mode": "sync"}, True),
        ({"num_threads": 1, "nodes": 4}, False),
        ({"num_threads": 1, "cluster": "auto"}, False),
    ],
)
def test_a_card_says_whether_its_command_makes_the_same(
    changes: dict[str, Any], alike: bool
) -> None:
    said = ship.repeated(preset("fast", **changes))
    assert said.startswith("Seed 1")
    assert ("another model" not in said) == alike


def test_a_card_says_where_a_run_began(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [record(400, 4.0, [1.0])])
    facts = {**provenance.provenance(), "device": "cpu", "torso_dtype": "float32", "started": "now"}
    provenance.note(run, {**facts, "start_from": "qbert"})
    saved = models.find("pong")
    scores = {"sample": models.scores(models.shipped()["pong"])["sample"]}
    assert " --from qbert`\n" in ship.card("pong", run, saved, scores)
