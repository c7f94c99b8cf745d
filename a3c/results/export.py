"""`a3c export`: a trained network as an ONNX file, which runs without PyTorch and without a3c.

PyTorch's own exporter makes the graph. In goes what the environment gives, out comes what actions
are chosen by; contract.py says in the file's metadata how both are meant.
"""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
import tyro
from torch import Tensor, nn

from a3c import extras
from a3c.envs.coding import Coding
from a3c.errors import InputError
from a3c.heads import Categorical, Gaussian, Outputs
from a3c.network import State
from a3c.results.contract import contract
from a3c.results.output import whole_file
from a3c.results.policy import Policy
from a3c.run import models
from a3c.run.checkpoint import Checkpoint
from a3c.run.provenance import version_of

if TYPE_CHECKING:  # of the extra `export`
    from onnx import ModelProto

OPSET = 18  # the oldest that the exporter makes, so that the oldest runtimes read it
ENDING = ".onnx"


@dataclass(frozen=True)
class ExportOptions:
    """Write a trained network as an ONNX file, with what one must know to feed it."""

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="GAME_MODEL_OR_RUN")]
    """A game whose model ships, a model file, or a run folder (its newest checkpoint)."""
    out: str = f"model{ENDING}"
    """File to write."""


def export(options: ExportOptions) -> Path:
    """Write the file; returns its path. The same model gives the same bytes.

    Raises InputError for a model that cannot be read, a file that cannot be written, and where the
    packages of the extra `export` are missing.
    """
    out = Path(options.out)
    if out.suffix != ENDING:
        raise InputError(f"--out is {options.out!r}; expected a name that ends with {ENDING}")
    check_packages()
    saved = models.find(options.model)
    with whole_file(out) as temporary:
        temporary.touch()  # what cannot be written is said before the work
        temporary.write_bytes(onnx_model(saved).SerializeToString(deterministic=True))
    return out


def check_packages() -> None:
    """Raise InputError if one of the exporter's packages is missing."""
    for package in ("onnx", "onnxscript"):
        if importlib.util.find_spec(package) is None:
            raise extras.missing("a3c export", package, "export")


def onnx_model(saved: Checkpoint) -> ModelProto:
    """The network of a checkpoint, in float32, for any number N of agents."""
    import onnx  # a third of a second

    in_float32 = replace(saved.config, precision="float32")
    policy = Policy(saved._replace(config=in_float32), device="cpu")
    module, inputs = Portable(policy), example(policy)
    names = ["observations", "hidden", "cell"][: len(inputs)]
    batch = torch.export.Dim("N", min=1)
    with quiet(), torch.no_grad():
        program = torch.onnx.export(
            module.eval(),
            inputs,
            input_names=names,
            output_names=module.output_names(inputs),
            dynamic_shapes={"inputs": tuple({0: batch} for _ in inputs)},
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = without_traces(program.model_proto)
    model.producer_name, model.producer_version = "a3c-gpu", version_of("a3c-gpu") or ""
    facts = contract(saved, policy.spec, policy.coding)
    if policy.network.return_std is not None:
        facts["reward_scale"] = str(float(policy.network.return_std))
    onnx.helper.set_model_props(model, facts)
    onnx.checker.check_model(model)
    return model


class Portable(nn.Module):
    """A policy's network, from the environment's observations on; its outputs have names."""

    def __init__(self, policy: Policy):
        super().__init__()
        self.coding, self.network = policy.coding, policy.network
        for torso in self.network.torsos:
            if torso.background is not None:  # few runtimes subtract int16
                torso.whole_background = torso.whole_background.float()

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """observations [N, ...], and hidden and cell [N, L cells] of the LSTMs."""
        return tuple(self.named(*inputs).values())

    def named(self, observations: Tensor, *state: Tensor) -> dict[str, Tensor]:
        """What `forward` returns, by name."""
        before: State | None = (state[0], state[1]) if state else None
        outputs, after = self.network(encoded(self.coding, observations), before)
        named = named_outputs(self.network.heads.policy, outputs)
        if after is not None:
            named["next_hidden"], named["next_cell"] = after
        return named

    def output_names(self, inputs: tuple[Tensor, ...]) -> list[str]:
        return list(self.named(*inputs))


def named_outputs(head: nn.Module, outputs: Outputs) -> dict[str, Tensor]:
    """The heads' outputs as one would ask for them: the first are what actions are chosen by."""
    first, *values = outputs
    if isinstance(head, Gaussian):
        mean, log_std = first.chunk(2, -1)
        named = {"mean": mean, "standard_deviation": log_std.exp()}  # [N, A] each
    else:
        named = {"logits" if isinstance(head, Categorical) else "action_values": first}  # [N, A]
    return {**named, **dict(zip(["value"], values, strict=False))}  # [N]


def encoded(coding: Coding, observations: Tensor) -> Tensor:
    """`Coding.encode` of observations [N, ...] as a graph has it: without checks."""
    spec, space = coding.spec, coding.observations
    if space.discrete:
        first, last = space.start, space.start + space.size - 1
        return (observations.unsqueeze(1) == torch.arange(first, last + 1)).float()
    if not spec.pixels:
        vectors = observations.reshape(-1, space.size)  # [N, D]
        if coding.scaling is not None:
            offset, width = map(torch.from_numpy, coding.scaling)
            vectors = (vectors.double() - offset) / width
        return vectors.float()
    if observations.ndim == 3:
        return observations.unsqueeze(-1)
    last = observations.shape[1:] == spec.observation_shape and not spec.stacked
    return observations if last else observations.permute(0, 2, 3, 1)


def example(policy: Policy) -> tuple[Tensor, ...]:
    """Inputs of two agents, whose shapes and types the graph has."""
    spec, space = policy.spec, policy.coding.observations
    height, width, channels = spec.observation_shape if spec.pixels else (0, 0, 0)
    shape = (channels, height, width) if spec.stacked else space.shape
    observations = torch.from_numpy(np.zeros((2, *shape), input_type(policy.coding)))
    return observations, *(policy.network.initial_state(2, policy.device) or ())


def input_type(coding: Coding) -> np.dtype[Any]:
    """uint8 of images, float32 of all that is not whole numbers, else the environment's type."""
    if coding.spec.pixels:
        return np.dtype(np.uint8)
    return np.dtype(np.float32) if coding.dtype.kind == "f" else coding.dtype


def without_traces(model: ModelProto) -> ModelProto:
    """The graph alone: the exporter's notes have the paths and lines of whoever exported it."""
    graph = model.graph
    notes = [graph.node, graph.input, graph.output, graph.value_info, graph.initializer]
    for entry in [graph, *(each for part in notes for each in part)]:
        entry.ClearField("metadata_props")
        entry.ClearField("doc_string")
    return model


@contextmanager
def quiet() -> Iterator[None]:
    """Without the exporter's remarks: on packages that it does not need, on its own innards."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
