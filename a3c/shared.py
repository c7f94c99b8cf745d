"""SharedParameters: what threads learn together, and the lock on it.

What is shared: the parameter vector [P], the optimiser's state, a target vector [P]
where the method needs one, and the counters `agent_steps` and `updates`. Beside the gate and the
log's figures, each thread has everything else for itself.

What is locked: who writes them or copies a vector takes `lock`, so no update is lost, no thread
ever copies half an update, and the counters are exact. (The paper's Hogwild writes without a
lock; what ours costs: docs/decisions.md, "One lock".)

What is stale on purpose: in async mode a thread computes its gradients with the parameters that it
copied before its rollout (or an earlier one: --sync-every), or before this update; others may have
applied theirs in the meantime.

In sync mode the threads hand in their gradients, the last one to arrive applies the average in
the fixed order of the threads (so that a seed gives the same run however the threads are
scheduled), and all go on together: no gradient is older than the update before it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from a3c import machine
from a3c.config import Config
from a3c.devices import on_device
from a3c.graphs import Graphed, Graphs
from a3c.optimiser import Piece, clip, make_optimiser
from a3c.schedules import learning_rate

ALL = -1  # in place of a thread's index: a step with the average of all threads


def turns(config: Config, device: torch.device) -> threading.BoundedSemaphore:
    """What a thread holds while it learns: with many others at work a gradient would be old when it
    is applied, and that no method corrects for.

    A GPU computes an update only after the one before, which changes what it begins with; so one
    thread at a time. On a CPU as many as there are cores: more would not be faster together.
    """
    if config.mode == "sync":  # none of them can go on without the others
        return threading.BoundedSemaphore(config.num_threads)
    return threading.BoundedSemaphore(1 if device.type == "cuda" else machine.physical_cores())


class Applied(NamedTuple):
    """What the store did with a thread's gradients, for the log."""

    updates_before: int  # of all threads
    gradient_norm: Tensor  # scalar on the device; nothing was applied if it is not finite
    lr: float
    # For the lock; with --mode sync all from handing in to the update's end, which is one for all
    waiting_seconds: float


class SharedParameters:
    """See the module's docstring. `layout`: the tensors in `parameters` [P].

    after_update: called after each update, in sync mode while all threads stand still.
    target_every_agent_steps: 0 for no target vector.
    first_thread: the index of its first thread among those of all nodes.

    Two attributes may be set. in_update: called in each update, with the agent steps before it,
    while the lock is held: the parameters are those of exactly this update. average: in sync mode,
    called by the last thread to arrive; a cluster has its own, which averages over all nodes.
    """

    def __init__(
        self,
        parameters: Tensor,
        layout: list[Piece],
        config: Config,
        after_update: Callable[[], None] = lambda: None,
        target_every_agent_steps: int = 0,
        first_thread: int = 0,
    ):
        self.config, self.after_update = config, after_update
        self.first_thread = first_thread
        self.in_update: Callable[[int], None] = lambda _: None
        self.parameters = parameters.clone()  # [P]
        self.device = parameters.device
        self.optimiser, self.layout = make_optimiser(parameters, layout, config), layout
        self.target_every_agent_steps = target_every_agent_steps
        self.target = parameters.clone() if target_every_agent_steps else None  # [P]
        self.agent_steps = 0
        self.updates = 0
        self.lock = threading.Lock()
        self.turn = turns(config, self.device)
        self.graphed_take_step = Graphed(self.take_step)
        # thread -> clipped gradients, norm; take_step finds them here: CUDA graphs take no tensors
        self.given: dict[int, tuple[Tensor, Tensor]] = {}
        self.last_use = torch.cuda.Event() if parameters.is_cuda else None
        if config.mode == "sync":
            self._make_meeting(config.num_threads)

    def _make_meeting(self, threads: int) -> None:
        """Where the threads' gradients meet, in sync mode."""
        # [threads, P], each thread's gradients
        self.handed_in = torch.zeros(threads, len(self.parameters)).to(self.parameters)
        self.norm_of_mean = self.parameters.new_zeros(())  # before it was clipped
        self.handed_in_steps = 0  # agent steps of all threads, in the average to come
        self.sync_applied = 0, 0.0  # updates before the last average, and its learning rate
        self.average: Callable[[], None] = self._meet
        # A function of its own, since `average` may be replaced later
        self.barrier = threading.Barrier(threads, lambda: self.average())

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """The lock; on CUDA also the order of the threads' streams on the shared vectors.

        A thread on another device has a stream on the vectors' device as well: PyTorch lets a copy
        between devices wait for the streams that are current on both.
        """
        with self.lock:
            self._wait_for_last_use()
            yield
            if self.last_use is not None:
                self.last_use.record(torch.cuda.current_stream(self.device))

    def _wait_for_last_use(self) -> None:
        """The thread's stream does, not the host."""
        if self.last_use is not None:
            torch.cuda.current_stream(self.device).wait_event(self.last_use)

    @property
    def finished(self) -> bool:
        """Whether the run has had its agent steps."""
        return self.agent_steps >= self.config.total_agent_steps

    def to_be_evaluated(self, before: int) -> bool:
        """Whether the run evaluates the parameters of now, with so many agent steps before them."""
        every = self.config.evaluate_every
        if not isinstance(every, int):
            return False
        at_end = self.finished and before < self.config.total_agent_steps
        return at_end or passed(every, before, self.agent_steps)

    def save(self) -> dict[str, Tensor]:
        """All vectors by name, not copied: for while the threads stand still."""
        vectors = {"parameters": self.parameters, **self.optimiser.save()}
        return vectors if self.target is None else {**vectors, "target": self.target}

    def load(self, saved: dict[str, Tensor], agent_steps: int, updates: int) -> None:
        """Go on from what `save` returned; before the threads start, or with the lock held."""
        for name, vector in self.save().items():
            vector.copy_(saved[name])
        self.agent_steps, self.updates = agent_steps, updates

    def restart(self, parameters: Tensor) -> None:
        """Begin with these parameters [P], before the threads start."""
        self.parameters.copy_(parameters)
        if self.target is not None:
            self.target.copy_(parameters)

    def copy_to(self, local: Tensor, target: Tensor | None = None) -> int:
        """Copy the parameters to `local` [P]; returns the number of updates they have seen.

        Where there is a target vector, copy that to `target` [P].
        """
        with self.exclusive():
            local.copy_(self.parameters, non_blocking=True)
            if self.target is not None and target is not None:
                target.copy_(self.target, non_blocking=True)
            return self.updates

    def copy_target_to(self, target: Tensor) -> None:
        """Copy the target vector [P] alone."""
        assert self.target is not None
        with self.exclusive():
            target.copy_(self.target, non_blocking=True)

    def clip(self, gradients: Tensor) -> Tensor:
        """Clip one thread's gradients [P] in place; returns their norm before, a scalar.

        In sync mode nothing, and 0: it is the average that is clipped, when all are there.
        """
        sync = self.config.mode == "sync"
        return gradients.new_zeros(()) if sync else clip(gradients, self.layout, self.config)

    def record(self, graphs: Graphs, gradients: Tensor, norm: Tensor, thread: int) -> None:
        """Record a thread's step on CUDA; what it hands in has to lie there always."""
        if self.config.mode == "async" and gradients.device == self.device:
            self.given[thread] = gradients, norm
            self.graphed_take_step.record(graphs, thread)

    def forget_graphs(self) -> None:
        """The threads' steps were recorded for gradients that are gone."""
        self.graphed_take_step.recorded.clear()
        self.given.clear()

    def apply(self, gradients: Tensor, agent_steps: int, thread: int, norm: Tensor) -> Applied:
        """Apply the gradients [P] of a thread's `agent_steps`, which `clip` has clipped.

        norm: what `clip` returned for them; the gradients are used up. In sync mode they are
        copied, and their mean is clipped: this waits for the other threads' gradients, and raises
        threading.BrokenBarrierError if `abort` was called.
        """
        if self.config.mode == "sync":
            return self._hand_in(gradients, agent_steps, thread)
        start = time.perf_counter()
        with self.exclusive():
            waited = time.perf_counter() - start
            before = self.updates
            lr = self._update(gradients, norm, agent_steps, thread)
        self.after_update()
        return Applied(before, norm, lr, waited)

    def abort(self) -> None:
        """A thread died, or all are to end at once: nobody waits for another's gradients."""
        if self.config.mode == "sync":
            self.barrier.abort()

    def _hand_in(self, gradients: Tensor, agent_steps: int, thread: int) -> Applied:
        start = time.perf_counter()
        with self.exclusive():
            self.handed_in[thread - self.first_thread].copy_(gradients, non_blocking=True)
            self.handed_in_steps = agent_steps * self.config.num_threads  # all have as many
        self.barrier.wait()
        self._wait_for_last_use()  # another thread's stream computed the norm
        before, lr = self.sync_applied
        return Applied(before, self.norm_of_mean, lr, time.perf_counter() - start)

    def _meet(self) -> None:
        """Apply the average of what all have handed in, in the last thread to arrive; the others
        wait."""
        with self.exclusive():
            self.sync_applied = self.apply_average(self.handed_in, self.handed_in_steps)
        self.after_update()

    def apply_average(self, gradients: Tensor, agent_steps: int) -> tuple[int, float]:
        """Apply the mean of gradients [threads, P] in their order, the lock held.

        Returns the number of updates before it, and its learning rate.
        """
        mean = gradients.mean(0)  # [P]
        self.norm_of_mean.copy_(clip(mean, self.layout, self.config))
        before = self.updates
        return before, self._update(mean, self.norm_of_mean, agent_steps, ALL)

    def _update(self, gradients: Tensor, norm: Tensor, agent_steps: int, thread: int) -> float:
        """Apply clipped gradients, by `take_step`; returns the learning rate."""
        lr = learning_rate(self.config, self.agent_steps)
        self.optimiser.prepare(lr, self.updates, thread)
        given = on_device(gradients, self.device), on_device(norm, self.device)
        # A CUDA graph finds what it was recorded with
        if (thread,) in self.graphed_take_step.recorded:
            assert all(a is b for a, b in zip(given, self.given[thread], strict=True))
        self.given[thread] = given
        self.graphed_take_step(thread)
        self.advance(agent_steps, 1)
        return lr

    def advance(self, agent_steps: int, updates: int) -> None:
        """Count what the parameters have learned from, the lock held; the target follows."""
        before = self.agent_steps
        self.agent_steps += agent_steps
        self.updates += updates
        every = self.target_every_agent_steps
        if self.target is not None and passed(every, before, self.agent_steps):
            self.target.copy_(self.parameters)
        self.in_update(before)

    def take_step(self, thread: int) -> None:
        """The optimiser's step with a thread's gradients and norm in `given`. On CUDA a CUDA
        graph."""
        self.optimiser.step(self.parameters, *self.given[thread], thread)


def passed(every: int, before: int, after: int) -> bool:
    """Whether a multiple of `every` lies between two counts, the second one included."""
    return after // every > before // every
