"""What docs/cluster.md says to other programs: Ray's commands, the YAML of launcher and KubeRay."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")

import click
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import cli

from a3c.command.train_options import train_options

PAGE = (Path(__file__).parents[2] / "docs" / "cluster.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def of_ray() -> list[str]:
    lines = "".join(blocks("console")).splitlines()
    return [line for line in lines if line.startswith("ray ")]


def yaml_with(word: str) -> Any:
    (found,) = (block for block in blocks("yaml") if word in block)
    return yaml.safe_load(found)


@pytest.mark.parametrize("line", of_ray())
def test_a_command_of_ray_has_options_that_ray_knows(line: str, tmp_path: Path) -> None:
    _, name, *words = shlex.split(line)
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    command.make_context(name, words)  # raises UsageError


def test_what_ray_is_to_run_can_be_read() -> None:
    (line,) = (line for line in of_ray() if " exec " in line)
    entrypoint = yaml_with("RayJob")["spec"]["entrypoint"]
    for command in (shlex.split(line)[-1], entrypoint):
        assert command.startswith("a3c train ")
        assert train_options(shlex.split(command)[2:]).config.cluster == "auto"


def test_the_launcher_takes_its_file() -> None:
    config = prepare_config(yaml_with("available_node_types"))
    validate_config(config)  # raises ValidationError; it allows no names that it does not know
    assert config["max_workers"] == config["available_node_types"]["worker"]["min_workers"]


def test_versions_are_those_that_are_pinned() -> None:
    pins = (Path(__file__).parents[2] / "constraints.txt").read_text()
    (pinned,) = re.findall(r"^ray==(\S+)$", pins, re.MULTILINE)
    assert set(re.findall(r"rayproject/ray:([\d.]+)-", PAGE)) == {pinned}
    assert yaml_with("RayJob")["spec"]["rayClusterSpec"]["rayVersion"] == pinned
