"""The command `a3c`: parses, calls one function, prints errors that a person can act on.

Exit codes: 0 done (or interrupted and saved), 1 the run failed, or a result could not be printed, 2
bad input, 130 interrupted with nothing to save, or twice. Bad input is one line; a programming
fault keeps its traceback.
"""

from __future__ import annotations

import errno
import io
import os
import site
import sys
import sysconfig
import traceback
from functools import partial
from pathlib import Path

from a3c import __version__
from a3c.command.output import OutputError, flush, give_up, show
from a3c.command.parsing import expanded, parse
from a3c.command.train_options import train_options
from a3c.errors import InputError, nearest
from a3c.results import bench_tables, ships
from a3c.results.bench import BenchOptions, bench
from a3c.results.benchmark import BenchmarkOptions, benchmark
from a3c.results.export import ExportOptions, export
from a3c.results.play import PlayOptions, play
from a3c.results.plot import PlotOptions, plot
from a3c.results.report import ReportOptions, report
from a3c.results.study import StudyOptions, study
from a3c.run import interrupts, strict_json
from a3c.run.terminal import Screen
from a3c.train import RunFailed, train

USAGE = """\
usage: a3c train [ENV] [--preset NAME] [options]     train from scratch: a3c train breakout
       a3c train --resume RUN [options]              go on with a run, or make it longer
       a3c train [ENV] --from GAME_MODEL_OR_RUN      a new run that begins with a trained network
       a3c play GAME_MODEL_OR_RUN [options]          evaluate and film a trained model
       a3c export GAME_MODEL_OR_RUN [--out FILE]     write a trained network as an ONNX file
       a3c models                                    list the models that ship
       a3c bench [GAME] [--json]                     what this machine does, and settings for it
       a3c plot RUN [RUN ...] [--out FILE.png]       draw the curves of runs
       a3c report RUN [RUN ...] [--out FILE.html]    one page about runs: curves, scores, film
       a3c study SPEC [--out DIR]                    run a grid of settings, compare them
       a3c benchmark SPEC [--out DIR]                train and score games, beside others
       a3c COMMAND --help                            all options of a command
       a3c --version                                 which a3c-gpu this is"""

WRITE_FILES = ["train", "play", "export", "plot", "report", "study", "benchmark"]
COMMANDS = [*WRITE_FILES, "models", "bench"]  # the last two only print


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        allow_all_letters()
        interrupted = not run(words)
        if interrupted and arguments is None:
            # a second Ctrl-C while the process ends is the same wish
            interrupts.ignore()
        show(flush)
        return 0
    except OutputError as error:
        give_up(error)
        prints_its_result = not {*words[:1]} & {*WRITE_FILES} or {"-h", "--help"} & {*words}
        return 1 if prints_its_result else 0
    except InputError as error:
        print(f"a3c: {in_one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        what_is_left = f": {error}" if str(error) else ""
        print(f"a3c: interrupted{what_is_left}", file=sys.stderr, flush=True)
        if arguments is None:
            os._exit(130)  # no thread that still compiles or plays is waited for
        return 130
    except RunFailed as error:
        if not error.outside:
            traceback.print_exception(error.__cause__)
        print(f"a3c: {in_one_line(error.line())}", file=sys.stderr)
        return 1
    except OSError as error:
        if name := refused_name(error):
            print(f"a3c: {error.strerror}: {name}", file=sys.stderr)
            return 2
        raise


def run(words: list[str]) -> bool:
    """Dispatch on the command; returns whether it came to its end (else it was interrupted)."""
    command, *rest = map(expanded, words or ["--help"])
    if command == "train":
        options = train_options(rest)
        ran = train(options.config, options.resume, start_from=options.start_from)
        return ran.finished and not ran.interrupted
    elif command == "play":
        play(parse(PlayOptions, rest))
    elif command == "export":
        show(print, export(parse(ExportOptions, rest)))
    elif command == "plot":
        show(print, plot(parse(PlotOptions, rest)))
    elif command == "report":
        show(print, report(parse(ReportOptions, rest)))
    elif command == "study":
        for path in study(parse(StudyOptions, rest)):
            show(print, path)
    elif command == "benchmark":
        for path in benchmark(parse(BenchmarkOptions, rest)):
            show(print, path)
    elif command == "models":
        models_command(rest)
    elif command == "bench":
        bench_command(parse(BenchOptions, rest))
    elif command in ("--help", "-h", "help"):
        show(print, USAGE)
    elif command in ("--version", "version"):
        show(print, f"a3c-gpu {__version__}")
    else:
        hint = nearest(command, [*COMMANDS, "--help", "--version"])
        raise InputError(f"no command {command!r}; expected {', '.join(COMMANDS)}{hint}")
    return True


def in_one_line(message: object) -> str:
    """What has arrays in it, such as a space's bounds, has many."""
    return " ".join(line.strip() for line in str(message).splitlines())


def allow_all_letters() -> None:
    """A file's name that the terminal cannot show is written with backslashes."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def refused_name(error: OSError) -> str | None:
    """The file's, where the system refuses a name that was given; in a length that a line holds.

    Not where a user's own code came upon it: that keeps its traceback.
    """
    if any(not is_known(frame.filename) for frame in traceback.extract_tb(error.__traceback__)):
        return None
    name = str(error.filename)
    if error.errno == errno.ENAMETOOLONG:  # no name but one that was given is so long
        return f"{name[:40]!r}... of {len(name):,} characters"
    return name if isinstance(error, PermissionError) and error.filename is not None else None


def is_known(file: str) -> bool:
    """Whether code is of this project, of Python or of what is installed; else a user's own."""
    package = Path(__file__).parent
    kinds = "stdlib", "platstdlib", "purelib", "platlib"
    installed = (*(sysconfig.get_path(kind) for kind in kinds), site.getusersitepackages())
    places = {package, package.with_name("atari2600"), *map(Path, installed)}
    if not Path(file).is_absolute():  # "<frozen ...>", and Cython's: no paths of files
        return True
    # resolved: links lead to many a Python
    return not {place.resolve() for place in places}.isdisjoint(Path(file).resolve().parents)


def models_command(words: list[str]) -> None:
    """`a3c models`: the table of what ships."""
    if words in (["--help"], ["-h"]):
        show(print, "usage: a3c models\n\nThe models that ship, with their scores. No options.")
    elif words:
        raise InputError(f"models takes no options; found {words[0]!r}")
    else:
        show(Screen().print, ships.table())


def bench_command(options: BenchOptions) -> None:
    """`a3c bench`: tables, or one JSON object; how far it has come goes to stderr."""
    found = bench(options, Screen(stderr=True))
    if options.json:
        show(print, strict_json.dumps(found.to_dict(), indent=2))
        return
    screen = Screen()
    *tables, command = bench_tables.shown(found)
    for each in tables:
        show(screen.print, each)
    show(partial(screen.print, command, soft_wrap=True))  # on one line, to be copied


if __name__ == "__main__":
    sys.exit(main())
