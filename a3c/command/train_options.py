"""The options of `a3c train`: Config's, in groups, and what says where a run starts.

What counts, the last one most: the preset, the file of --config, the words of the command line.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_type_hints

import tyro
from tyro.constructors import PrimitiveConstructorSpec

from a3c.command.parsing import check_options, is_positional, tyro_cli, whole_number
from a3c.config import (
    AUTO,
    DEFAULTS,
    KINDS,
    Config,
    alternatives,
    auto_threads,
    check_values,
    to_dict,
)
from a3c.envs.names import check_atari_options, default_preset
from a3c.errors import InputError
from a3c.options import GROUPS, as_options, check_names, check_read, read_toml
from a3c.presets import PRESETS, preset, preset_values
from a3c.run.start import saved_config

DESCRIPTION = "Train from scratch, go on with an interrupted run, or begin with another's network."

# Words that are no hyper-parameters: name, value's name, help
STARTS = {
    "preset": ("NAME", f"Defaults of the options below: {', '.join(PRESETS)}. Without it: fast for "
               "Atari, control for everything else."),
    "resume": ("RUN", "Run folder to go on with, with its settings. --total-agent-steps makes it "
               "longer: a learning rate that depends on its length then follows from the new one."),
    "from": ("MODEL", "Game whose model ships, model file or run folder: a new run begins with its "
             "parameters, and with nothing else of it."),
    "config": ("FILE", "TOML file with options by their names (total_agent_steps = 1_000_000), and "
               "preset. The command line overrules it."),
}  # fmt: skip


class TrainOptions(NamedTuple):
    """What the command line asks for."""

    config: Config
    resume: str | None
    start_from: str | None


def train_options(words: list[str]) -> TrainOptions:
    """Of the words after `a3c train`. Raises InputError; --help prints, and raises SystemExit."""
    check_options({**dict.fromkeys(STARTS, str), **kinds()}, words)
    without_help = [word for word in words if word not in ("-h", "--help")]
    first = read(without_help, DEFAULTS)  # for where the run starts, which gives the defaults
    check_resumed(first, words)
    in_file = {} if first["config"] is None else options_of(Path(first["config"]))
    default = defaults_in_force(without_help, first, in_file)
    if without_help != words:  # without the words: tyro's help leaves out what was given
        read(["--help"], {**default, "env": first["env"]})
    given = read(words, default)
    moves = bool(given["cluster"]) != bool(default["cluster"])
    if first["resume"] is not None and moves:  # to a cluster, or from one: to as many as there are
        given = read(words, {**default, "nodes": DEFAULTS["nodes"]})
    try:
        config = Config(**{name: given[name] for name in DEFAULTS})
        usual = default  # of the run that goes on; else without those of a file
        if first["resume"] is None:
            usual = preset_values(preset_in_force(first, in_file, given["env"]))
        check_read({**given, "correction": config.correction}, usual)
        check_atari_options(given, usual)
    except InputError as error:
        if first["config"] is not None:
            check_alone(first, in_file, given["env"], str(error))
        raise
    return TrainOptions(config, first["resume"], first["from"])


def check_resumed(first: dict[str, Any], words: list[str]) -> None:
    """Raise InputError for what a run that goes on cannot have anew."""
    if first["resume"] is None:
        return
    for name in ("preset", "from", "config"):
        if first[name] is not None:
            raise InputError(f"--{name} contradicts --resume: a run goes on with its own settings")
    if any(word.split("=")[0].replace("_", "-") == "--runs-dir" for word in words):
        raise InputError("--runs-dir contradicts --resume: a run stays in its folder")


def preset_in_force(first: dict[str, Any], in_file: dict[str, Any], env: str) -> Any:
    """The preset that is asked for, or the file's, or the environment's."""
    asked = first["preset"], in_file.get("preset")
    return next((name for name in asked if name is not None), default_preset(env))


def defaults_in_force(
    words: list[str], first: dict[str, Any], in_file: dict[str, Any]
) -> dict[str, Any]:
    """The options without the words: those of the run to resume, of --config, or of a preset.

    Options in RULES may still be `auto`, but not those of a run. Raises InputError for a value in a
    file that its option cannot have.
    """
    if first["resume"] is not None:
        return to_dict(saved_config(first["resume"]))
    if first["preset"] is not None:
        preset_values(first["preset"])  # a wrong name is not the file's fault
    values = {name: value for name, value in in_file.items() if name != "preset"}
    with of_file(first):
        check_values(values)
        env = first["env"]
        if "env" in values:  # unless the words name another
            env = read(words, {**DEFAULTS, "env": values["env"]})["env"]
        return preset_values(preset_in_force(first, in_file, env), **values)


def check_alone(first: dict[str, Any], in_file: dict[str, Any], env: str, wrong: str) -> None:
    """Raise InputError, with a file's name, where the same is wrong without the words."""
    values = {name: value for name, value in in_file.items() if name != "preset"}
    try:
        preset(preset_in_force(first, in_file, env), **values)
    except InputError as error:
        if str(error) == wrong:
            raise InputError(f"{first['config']}: {error}") from None


@contextmanager
def of_file(first: dict[str, Any]) -> Iterator[None]:
    """An InputError about what --config names, if it does, has the file's name."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{first['config']}: {error}" if first["config"] else str(error)) from None


def options_of(path: Path) -> dict[str, Any]:
    """What a TOML file says, whole numbers also as 1e6. Raises InputError."""
    try:
        values = read_toml(path)
        check_names(values, ["preset"])
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return as_options(values)


def read(words: list[str], default: dict[str, Any]) -> dict[str, Any]:
    """The words as values by name, over these defaults. Raises InputError."""
    kind = parser_of(default)
    style = (tyro.conf.OmitArgPrefixes,)
    found = tyro_cli(kind, words, "a3c train", description=DESCRIPTION, config=style)
    values: dict[str, Any] = {}
    for name, value in vars(found).items():
        group = dataclasses.is_dataclass(value)
        values |= vars(value) if group else {name.removesuffix("_word"): value}
    return values


def as_written(kind: Any) -> Any:
    """A field's type with numbers as a command line may write them beside words."""
    number, words = alternatives(kind)
    if number is not None and words:
        return number_or_word(number, words)
    return kind


def number_or_word(number: type, words: list[str]) -> Any:
    """Such a number or one of these words; Config checks which."""

    def from_words(given: list[str]) -> float | str:
        with suppress(ValueError):
            return whole_number(given) if number is int else float(given[0])
        return given[0]

    return Annotated[
        float | str,
        PrimitiveConstructorSpec(
            nargs=1,
            metavar="|".join([number.__name__.upper(), *words]),
            instance_from_str=from_words,
            is_instance=lambda value: isinstance(value, number | str),
            str_from_instance=lambda value: [str(value)],
        ),
    ]


@cache
def helps() -> dict[str, str]:
    """The text below each field of Config, which is its help."""
    (body,) = ast.parse(inspect.getsource(Config)).body
    assert isinstance(body, ast.ClassDef)
    pairs = zip(body.body, body.body[1:], strict=False)
    return {
        field.target.id: " ".join(ast.literal_eval(text.value).split())
        for field, text in pairs
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
    }


def kinds() -> dict[str, Any]:
    """Of all options; the environment's is its place."""
    return {**KINDS, "env": get_type_hints(Config, include_extras=True)["env"]}


def parser_of(default: dict[str, Any]) -> type[Any]:
    """A class for tyro: its groups are dataclasses within it, its defaults those in force."""
    texts = helps()
    groups: dict[str, list[tuple[str, Any, Any]]] = {"": starts()}
    title = ""
    for name, kind in kinds().items():
        title = GROUPS.get(name, title)
        value = as_written(kind)
        hint = with_number if default[name] == AUTO and name == "num_threads" else None
        metavar = "[ENV]" if is_positional(kind) else None
        about = tyro.conf.arg(help=texts[name], help_behavior_hint=hint, metavar=metavar)
        described = Annotated[value, about]  # type: ignore[valid-type]
        groups.setdefault(title, []).append(
            (name, described, dataclasses.field(default=default[name]))
        )
    for title, fields in list(groups.items())[1:]:
        group = dataclasses.make_dataclass(title, fields)
        groups[""].append((title, group, dataclasses.field(default_factory=group)))
    return dataclasses.make_dataclass("Train", groups[""])


def with_number(default: str) -> str:
    """How the help shows the default `auto` of num_threads."""
    return f"(default: {default}, {auto_threads()} here)"


def starts() -> list[tuple[str, Any, Any]]:
    """STARTS as fields; Python does not take `from` for a name."""
    return [
        (
            f"{name}_word",
            Annotated[
                str | None,
                tyro.conf.arg(name=name, metavar=metavar, help=text, help_behavior_hint=""),
            ],
            dataclasses.field(default=None),
        )
        for name, (metavar, text) in STARTS.items()
    ]
