"""The machines of a cluster, as Ray knows them; without an address Ray is started on this one."""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from a3c.config import ALL_MACHINES, Config
from a3c.errors import InputError
from a3c.extras import missing

# Before Ray is imported. On one machine its processes listen on the loopback alone: with this
# switch, meant for Windows and macOS, Ray takes 127.0.0.1 for the machine's address.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
# What Ray prints of a process that died, the run says in its own words
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",
    "RAY_DEDUP_LOGS_SKIP_REGEX": "A worker died or was killed",
}
ANSWER_SECONDS = 10
OBJECT_STORE_BYTES = 512 * 2**20  # of vectors under way, a few MB each


class Machine(NamedTuple):
    """What a node may take of one."""

    node_id: str  # Ray's
    cpus: float
    gpus: float


@contextmanager
def joined(config: Config) -> Iterator[None]:
    """Ray runs in the meantime. Raises InputError where it cannot."""
    start_ray(config)
    try:
        yield
    finally:
        stop_ray()


def start_ray(config: Config) -> None:
    """Join the cluster that is asked for, or start Ray here. Raises InputError."""
    os.environ.update({**QUIET, **({} if config.cluster else LOOPBACK)})
    try:
        import ray
    except ImportError:
        asked = f"--cluster {config.cluster}" if config.cluster else f"--nodes {config.nodes}"
        raise missing(asked, "ray", "cluster") from None
    if config.cluster:
        join(config.cluster)
        return
    try:
        with hangups_blocked():
            ray.init(
                address="local",  # also where a Ray of others runs here
                num_cpus=config.nodes * config.num_threads,
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except (OSError, RuntimeError) as error:  # a long path of the temporary folder, for one
        reason = str(error).split("\n")[0]
        raise InputError(f"--nodes is {config.nodes}, and Ray does not start: {reason}") from None
    if (address := ray.util.get_node_ip_address()) != "127.0.0.1":
        stop_ray()
        raise InputError(
            f"Ray would listen on {address}: it was imported before this run; expected a process "
            "that has not imported ray"
        )


@contextmanager
def hangups_blocked() -> Iterator[None]:
    """What is started in the meantime outlives a closed terminal: the last checkpoint needs it."""
    if not hasattr(signal, "SIGHUP"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def join(address: str) -> None:
    """Raises InputError where there is no cluster."""
    import ray

    check_answer(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError, AssertionError, ray.exceptions.RayError) as error:
        reason = str(error).split("\n")[0].split(". ")[0]
        raise InputError(
            f"--cluster is {address!r}: {reason}; expected auto, or the address of a Ray cluster "
            "that this machine belongs to, as `ray start --address=...` makes it"
        ) from None


def check_answer(address: str) -> None:
    """Raise InputError if it is no address, or nobody of Ray answers there in ANSWER_SECONDS."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise InputError(f"--cluster is {address!r}; expected auto or an address as 10.0.0.1:6379")
    words = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        socket.create_connection((host, int(port)), ANSWER_SECONDS).close()
        subprocess.run(words, capture_output=True, timeout=ANSWER_SECONDS, check=True, text=True)
    except (OSError, ValueError, subprocess.SubprocessError) as error:  # ValueError: no host's name
        said = (getattr(error, "stderr", None) or "").strip().splitlines()
        why = f" ({said[-1]})" if said else ""
        raise InputError(
            f"--cluster is {address!r}: no Ray answers there{why}; expected a cluster's address, "
            "or --cluster= for none"
        ) from None


def alive(config: Config) -> Iterator[Machine]:
    """The machines that a node may be on; this one several times where it has all nodes."""
    import ray

    wants_gpus = config.device != "cpu"  # others may have them: then a node would wait for ever
    found = [each for each in ray.nodes() if each["Alive"] and each["Resources"].get("CPU", 0) >= 1]
    if config.cluster:
        for each in found:
            gpus = each["Resources"].get("GPU", 0) * wants_gpus
            cpus = min(each["Resources"]["CPU"], config.num_threads)
            yield Machine(each["NodeID"], cpus, gpus)
        return
    (here,) = found
    gpus = share(here["Resources"].get("GPU", 0) * wants_gpus, config.nodes)
    yield from [Machine(here["NodeID"], config.num_threads, gpus)] * config.nodes


def share(gpus: float, nodes: int) -> float:
    """Of each node: whole GPUs, or such a part of one that all find a place."""
    if gpus < nodes:
        return 1 / math.ceil(nodes / gpus) if gpus else 0
    return gpus // nodes


def check_number(config: Config, machines: list[Machine]) -> None:
    """Raise InputError if the cluster has fewer than asked for."""
    if config.nodes != ALL_MACHINES and len(machines) < config.nodes:
        raise InputError(
            f"--nodes is {config.nodes}; expected at most {len(machines)}, as many machines as the "
            f"cluster at {config.cluster} has"
        )
    if not machines:
        raise InputError(f"the cluster at {config.cluster} has no machine with a CPU")


def stop_ray() -> None:
    """Leave the cluster; what was started here ends."""
    import ray

    with suppress(Exception):  # it may be gone already
        ray.shutdown()
