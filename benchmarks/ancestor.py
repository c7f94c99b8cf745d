"""The preset `seed` beside the script of 2017 that it is named after: mean returns on Breakout.

    a3c train breakout --preset seed             # Ctrl-C when it has gone on for long enough
    python benchmarks/ancestor.py runs/latest    # writes seed.png; seed.csv, the run's thin curve

The script's curve was read off the picture in its README (hiwonjoon/tf-a3c-gpu), to about 5 points
of return and 2,000 of its updates, each of 320 agent steps. There a mean is of the last game of
each of the 256 agents, smoothed; here of the last 100 games.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from a3c.errors import InputError
from a3c.results.charts import AGENT_STEPS, new_figure, unit, write_figure
from a3c.results.curves import WINDOW, read_curve, running
from a3c.run import log
from a3c.run.files import write_whole

SCRIPT = Path(__file__).parents[1] / "docs" / "results" / "tf-a3c-gpu.csv"
FROM = 0.1  # million agent steps: the axis is logarithmic, and before it nothing is learned
POINTS = 100  # of the thin curve
COLUMNS = ("agent_steps", "seconds", "mean_return_100")


def draw(run: Path, out: Path) -> Path:
    """Write the picture; returns its path. Raises InputError for a folder without games."""
    steps, returns = np.loadtxt(SCRIPT, delimiter=",", skiprows=1, unpack=True)
    ours = read_curve(run, "a3c-gpu, preset seed")
    if not len(ours.returns):
        raise InputError(f"{run} has no finished games yet; there is nothing to draw")
    scale, label = unit(max(steps[-1], ours.agent_steps[-1]), AGENT_STEPS)
    figure, (axis,) = new_figure(8, 4.5)
    axis.plot(steps / scale, returns, label="tf-a3c-gpu, 2017")
    axis.plot(ours.agent_steps / scale, running(ours.returns)[0], label=ours.name)
    axis.set(xscale="log", xlim=(FROM, None), xlabel=label, ylabel=f"mean return, {WINDOW} games")
    return write_figure(figure, out)


def write_curve(run: Path, out: Path) -> Path:
    """A hundred records of the run, the last one among them; returns the CSV's path."""
    records = [each for each in log.read(run / log.METRICS) if each["mean_return_100"] is not None]
    chosen = {round(at) for at in np.linspace(0, len(records) - 1, POINTS)}
    lines = [",".join(str(records[at][name]) for name in COLUMNS) for at in sorted(chosen)]
    write_whole(out, "\n".join([",".join(COLUMNS), *lines]) + "\n")
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, default=Path("seed.png"))
    options = parser.parse_args()
    try:
        print(draw(options.run, options.out))
    except InputError as error:
        parser.error(str(error))
    print(write_curve(options.run, options.out.with_suffix(".csv")))


if __name__ == "__main__":
    main()
