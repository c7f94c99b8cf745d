"""The command `a3c`: parses, calls one function, prints errors that a person can act on.

Exit codes: 0 done (or interrupted and resumable), 1 the run failed, 2 bad input. Bad input is one
line; a programming fault keeps its traceback.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import traceback
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

import tyro
from rich.console import Console

from a3c import checkpoint
from a3c.config import (
    FREE_ON_RESUME,
    PRESETS,
    Config,
    InputError,
    nearest,
    option,
    preset,
)
from a3c.envs.names import atari_game
from a3c.results import models
from a3c.results.play import PlayOptions, play
from a3c.results.plot import PlotOptions, plot
from a3c.results.report import ReportOptions, report
from a3c.results.study import StudyOptions, study
from a3c.train import RunFailed, train

USAGE = """\
usage: a3c train [ENV] [--preset NAME] [options]     train from scratch: a3c train breakout
       a3c train --resume RUN                        go on with an interrupted run
       a3c play GAME_MODEL_OR_RUN [options]          evaluate and film a trained model
       a3c models                                    list the models that ship
       a3c plot RUN [RUN ...] [--out FILE.png]       draw the curves of runs
       a3c report RUN [RUN ...] [--out FILE.html]    one page about runs: curves, scores, film
       a3c study SPEC [--out DIR]                    run a grid of settings, compare them
       a3c COMMAND --help                            all options of a command"""

TRAIN_DESCRIPTION = f"""\
Train from scratch, or go on with an interrupted run.

--preset NAME sets the defaults of the options below: {", ".join(PRESETS)}. Without it: fast for
Atari, control for everything else. --resume RUN goes on with a run folder, with its settings."""

Options = TypeVar("Options")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        return run(words)
    except InputError as error:
        print(f"a3c: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader has left, as `head` does after its lines
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        return 1
    except RunFailed as error:
        traceback.print_exception(error.__cause__)
        print(f"a3c: the run stopped: {error}; the last good checkpoint stands", file=sys.stderr)
        return 1


def run(words: list[str]) -> int:
    """Dispatch on the command."""
    command, rest = (words[0], words[1:]) if words else ("--help", [])
    if command == "train":
        train_command(rest)
    elif command == "play":
        play(parse(PlayOptions, rest))
    elif command == "plot":
        print(plot(parse(PlotOptions, rest)))
    elif command == "report":
        print(report(parse(ReportOptions, rest)))
    elif command == "study":
        for path in study(parse(StudyOptions, rest)):
            print(path)
    elif command == "models":
        models_command(rest)
    elif command in ("--help", "-h", "help"):
        print(USAGE)
    else:
        commands = ["train", "play", "plot", "report", "study", "models"]
        hint = nearest(command, commands)
        raise InputError(f"no command {command!r}; expected {', '.join(commands)}{hint}")
    return 0


def train_command(words: list[str]) -> None:
    """`a3c train`: a new run from a preset and options, or --resume."""
    name, words = take(words, "--preset")
    resume, words = take(words, "--resume")
    if resume is not None:
        if name is not None:
            raise InputError("--preset contradicts --resume: a run goes on with its own settings")
        train(resumed(Path(resume), words), Path(resume))
        return
    train(parse(Config, words, preset(name or default_preset(words))))


def models_command(words: list[str]) -> None:
    """`a3c models`: the table of what ships."""
    if words not in ([], ["--help"], ["-h"]):
        raise InputError(f"models takes no options; found {words[0]!r}")
    Console(highlight=False).print(models.table())


def default_preset(words: list[str]) -> str:
    """`fast` is tuned for Atari; environments that are not Atari start from `control`."""
    env = parse(Config, words, preset("fast")).env
    return "fast" if atari_game(env) or (":" not in env and env == env.lower()) else "control"


def resumed(run_folder: Path, words: list[str]) -> Config:
    """The run's own Config, with what is free to change. Raises InputError for a contradiction."""
    saved = checkpoint.newest(run_folder).checkpoint.config
    given = parse(Config, words, saved)
    for field, value in asdict(given).items():
        before = getattr(saved, field)
        if value != before and field not in FREE_ON_RESUME:
            name = "the environment" if field == "env" else option(field)
            raise InputError(f"{name} {value} contradicts the run to resume, which has {before}")
    return given


def take(words: list[str], name: str) -> tuple[str | None, list[str]]:
    """Remove `name VALUE` or `name=VALUE` from the words; returns the value and the rest."""
    for i, word in enumerate(words):
        if word.startswith(name + "="):
            return word.removeprefix(name + "="), words[:i] + words[i + 1 :]
        if word == name:
            if i + 1 == len(words):
                raise InputError(f"{name} needs a value")
            return words[i + 1], words[:i] + words[i + 2 :]
    return None, words


def parse(kind: type[Options], words: list[str], default: Options | None = None) -> Options:
    """tyro's reading of the words, with its complaint as an InputError of one line."""
    check_options(kind, words)
    complaint = io.StringIO()
    keywords: dict[str, Any] = {} if default is None else {"default": default}
    try:
        with contextlib.redirect_stderr(complaint):
            program = "a3c " + kind.__name__.removesuffix("Options").lower()
            if kind is Config:
                program, keywords["description"] = "a3c train", TRAIN_DESCRIPTION
            parsed = tyro.cli(kind, args=words, prog=program, **keywords)
    except SystemExit as end:
        if end.code:
            raise InputError(one_line(complaint.getvalue())) from None
        raise
    return parsed


def check_options(kind: Any, words: list[str]) -> None:
    """Raise InputError for an option that is not there, with the nearest that is."""
    names = [option(field.name) for field in fields(kind)]
    negated = [name.replace("--", "--no-", 1) for name in names]
    extra = ["--help", "--preset", "--resume"] if kind is Config else ["--help"]
    for word in words:
        name = word.split("=")[0].replace("_", "-")
        if name.startswith("--") and name not in names + negated + extra:
            raise InputError(f"unknown option {name!r}{nearest(name, names + extra)}")


def one_line(complaint: str) -> str:
    """What tyro's message says between its first rule and its second.

    With UTF-8 the first rule is the upper edge of a box; without, it stands below a title.
    """
    parts: list[list[str]] = [[]]
    for line in complaint.splitlines():
        text = line.strip(" │|")
        if re.match(r"╭|╰|[─-]{4}", text):
            parts.append([])
        else:
            parts[-1].append(text)
    return " ".join(parts[min(1, len(parts) - 1)]).rstrip(".") + "; --help lists the options"


if __name__ == "__main__":
    sys.exit(main())
