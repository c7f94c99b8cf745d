"""`a3c models`: what ships, and how it scored."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Column, Table

from a3c.results.scores import PUBLISHED_BY
from a3c.run.models import scores, shipped

FIGURES = (
    "sampled",
    "greedy",
    "random\nplay,\nmeasured",
    "human-\nnormal-\nised",
    "million\nagent\nsteps",
)


def table() -> Table:
    """What ships and how it scored, for a terminal of 80 columns."""
    table = Table(
        Column("game", no_wrap=True),  # one types it
        *(Column(name, justify="right", no_wrap=True) for name in FIGURES),
        title="shipped models: mean return of 100 games ± standard deviation",
        caption="a3c play GAME plays one. Human-normalised: 0 % is random play, 100 % a human "
        f"tester, both of {PUBLISHED_BY}.",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        title_justify="left",
        caption_justify="left",
    )
    for game, folder in shipped().items():
        found = scores(folder)
        human = found["sample"]["human_normalised"]  # None: no human's score is published
        table.add_row(
            game,
            spread(found["sample"]),
            spread(found["greedy"]),
            f"{found['random']['mean']:,.1f}",
            "" if human is None else f"{human:,.0%}",
            f"{found['sample']['agent_steps_trained'] / 1e6:,.1f}",
        )
    return table


def spread(found: dict[str, Any]) -> str:
    """Mean and standard deviation, in whole numbers from a thousand on."""
    digits = 0 if abs(found["mean"]) >= 1000 else 1
    return f"{found['mean']:,.{digits}f} ± {found['std']:,.{digits}f}"
