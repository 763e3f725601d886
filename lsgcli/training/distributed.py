"""Training in several processes: collectives, values that rank 0 decides, and failures of other processes.

The number of processes does not change what is computed: a batch is divided among them, and statistics, losses and gradients are
those of the whole batch.
"""

import contextlib
import gc
import itertools
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lsgcli.errors import ConfigError, DivergedError, LsgError, Stopped
from lsgcli.system.device import pick_device
from lsgcli.system.ranks import Place

MEETING = timedelta(minutes=10)  # for all processes to start
PREPARING = timedelta(days=7)  # of the data, by the first process of a machine
GRACE = 8.0  # seconds for a process to end by itself after another has failed
POLL = 0.5  # seconds between checks for failures of other processes
SILENCE = 20.0  # seconds without a heartbeat, after which a process counts as hanging
DONE = b"done"


class Failure(NamedTuple):
    """A failed process, or -1, and the exit status of all processes."""

    rank: int
    status: int


class Group:
    """The processes of a run; this class is a group of one process, for which every collective is the identity."""

    def __init__(self, place: Place | None = None):
        self.place = place or Place()
        self.rank, self.size = self.place.rank, self.place.size

    def __deepcopy__(self, memo: dict[int, Any]) -> "Group":
        return self  # copies of a model belong to the same group

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which alone writes files and stdout."""
        return self.rank == 0

    def gather(self, x: Tensor) -> Tensor:
        """The tensors of all processes, in order of rank: (...) -> (size, ...), equal in all processes."""
        return x[None]

    def agree(self, name: str, decide: Callable[[], Any], lasting: bool = False) -> Any:
        """The value of JSON type that ``decide`` returns in rank 0; with ``lasting``, also after a restart by torchrun."""
        return decide()

    @contextmanager
    def one_by_one(self) -> Iterator[None]:
        """Context that the first process of each machine runs before the others."""
        yield

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model with gradients averaged over all processes."""
        return model

    def equalise(self, model: nn.Module) -> None:
        """Copy the buffers of rank 0 to all processes, which have different ones if statistics are not synchronised."""

    def partial(self, model: nn.Module) -> AbstractContextManager[Any]:
        """Context for backward passes that only accumulate gradients, without averaging them."""
        return nullcontext()


ALONE = Group()


class ProcessGroup(Group):
    """Several processes, which communicate through ``torch.distributed``."""

    def __init__(self, place: Place, store: Any):
        super().__init__(place)
        self.store = store
        self._wrapped: list[nn.Module] = []

    def gather(self, x: Tensor) -> Tensor:
        out = x.new_empty((self.size, *x.shape))
        torch.distributed.all_gather(list(out.unbind(0)), x.contiguous())
        return out

    def agree(self, name: str, decide: Callable[[], Any], lasting: bool = False) -> Any:
        key = name if lasting else f"{self.place.attempt}/{name}"
        if self.is_main and not (lasting and self.store.check([key])):
            self.store.set(key, json.dumps(decide()))
        self.store.wait([key], PREPARING)
        return json.loads(self.store.get(key))

    @contextmanager
    def one_by_one(self) -> Iterator[None]:
        key = f"{self.place.attempt}/prepared/{self.rank - self.place.local_rank}"
        if self.place.local_rank > 0:
            self.store.wait([key], PREPARING)
        yield
        if self.place.local_rank == 0:
            self.store.set(key, "")

    def wrap(self, model: nn.Module) -> nn.Module:
        from torch.nn.parallel import DistributedDataParallel

        # Without this, gradients move to other buckets after the first step. The order in which processes are summed depends on a
        # gradient's place in its bucket, so a resumed run would differ in its first step.
        wrapped = DistributedDataParallel(model, find_unused_parameters=True)
        wrapped.broadcast_buffers = False  # at every step; they are equal, or made equal before an evaluation
        self._wrapped.append(wrapped)
        return wrapped

    def equalise(self, model: nn.Module) -> None:
        for buffer in model.buffers():
            torch.distributed.broadcast(buffer, 0)

    def partial(self, model: nn.Module) -> AbstractContextManager[Any]:
        return model.no_sync()  # type: ignore[operator]

    def close(self) -> None:
        """Join the threads of the collectives; the wrapped models cannot be used any more.

        A thread of Gloo may still hold tensors of a collective that has completed. If it drops them while the interpreter ends, the
        process aborts. torch joins the threads when the last reference to its group is dropped.
        """
        for wrapped in self._wrapped:
            for name in ("reducer", "logger", "process_group"):
                delattr(wrapped, name)
        torch.distributed.destroy_process_group()


@contextmanager
def joined(place: Place, device: str) -> Iterator[Group]:
    """The group of all processes of the run, while the block runs.

    If the block raises an error, all processes end with the exit status of the first error, and only its process prints a message.

    Args:
        place: of this process; a lone process never imports ``torch.distributed``'s rendezvous.
        device: as the setting; GPUs communicate through NCCL, CPUs through Gloo.

    Raises:
        ConfigError: the environment of this process is incomplete.
        LsgError: other processes cannot be reached, or were lost.
        SystemExit: another process failed, with its status.
    """
    if place.problem:
        raise ConfigError(
            place.problem, hint="Start it with torchrun or lsg train --devices, or unset WORLD_SIZE to train alone."
        )
    if place.size == 1:
        yield Group(place)
        return
    # Default arguments of this module would refer to the group until the interpreter ends, if it were first imported after the group
    # is initialised, as by DistributedDataParallel.
    import torch.distributed.nn  # noqa: F401
    from torch import distributed
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import TCPStore  # type: ignore[attr-defined]

    backend = "nccl" if pick_device(device).type == "cuda" else "gloo"
    try:
        # Two connections: one may wait for long, while the other looks for failures.
        store, of_failures = (
            TCPStore(place.address, place.port, None, hosts, MEETING, wait_for_workers=False) for hosts in (place.hosts, False)
        )
        failures = Failures(place, PrefixStore(f"{place.attempt}/failures", of_failures))
        collectives = PrefixStore(f"{place.attempt}/collectives", store)
        distributed.init_process_group(backend, store=collectives, rank=place.rank, world_size=place.size, timeout=MEETING)
    except (RuntimeError, OSError) as error:
        raise LsgError(
            f"rank {place.rank}: cannot meet the other {place.size - 1} processes at {place.address}:{place.port}: {_line(error)}",
            hint="Check that all processes run and that the machines reach each other.",
        ) from error
    group = ProcessGroup(place, PrefixStore("lsg", store))
    try:
        yield group
    except Exception as error:
        _clear_frames(error)
        failures.settle(error)
        raise
    finally:
        with failures.closing(), contextlib.suppress(Exception):
            group.close()


class Failures:
    """Ends a process when another one has failed or hangs, even inside a collective that will never complete.

    In each process, a thread sends heartbeats and checks for failures and missing heartbeats of other processes. A watchdog thread ends the
    process if the first one waits for a store that does not answer.
    """

    def __init__(self, place: Place, store: Any):
        self.place, self.store = place, store
        store.set_timeout(timedelta(seconds=SILENCE))
        store.set(f"alive/{place.rank}", "")
        self.lock, self.closed, self.left = threading.Lock(), threading.Event(), threading.Event()
        self.unanswered = 0  # checks by the watchdog since the last answer of the store
        self.threads = [threading.Thread(target=work, daemon=True) for work in (self._send_heartbeats, self._watchdog)]
        for thread in self.threads:
            thread.start()

    def settle(self, error: Exception) -> None:
        """Return if this process has to report ``error``; otherwise end it with the status of the first failure.

        Raises:
            SystemExit: another process reports the error.
            LsgError: a process was lost without a report.
        """
        rank, status = self.place.rank, getattr(error, "exit_code", LsgError.exit_code)
        if isinstance(error, (Stopped, DivergedError)):  # raised by all processes, while rank 0 may still write files
            if rank > 0:
                with contextlib.suppress(Exception):
                    self._await("done/0", MEETING.total_seconds())
                raise SystemExit(status) from None
            return
        lost = not isinstance(error, LsgError) and _is_communication(error)
        first = None
        if lost:
            with contextlib.suppress(Exception):
                first = self._first(GRACE / 2)
        first = first or self._report(rank, status)
        if first.rank != rank:
            raise SystemExit(first.status) from None
        if lost:
            raise LsgError(
                "lost the connection to another process",
                hint="Repeat the command with the same --out to continue from the last checkpoint.",
            ) from error
        if isinstance(error, LsgError):
            error.rank = rank

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Context for leaving the group. The process that serves the store first waits until no other needs it.

        The watchdog still ends the process if that takes too long.
        """
        heartbeats, watchdog = self.threads
        self.closed.set()
        heartbeats.join()
        with contextlib.suppress(Exception):
            self.store.set(f"done/{self.place.rank}", "")
            if self.place.hosts:
                self.store.wait([f"done/{rank}" for rank in range(self.place.size)], timedelta(seconds=2 * GRACE))
        yield
        self.left.set()
        watchdog.join()

    def _report(self, rank: int, status: int) -> Failure:
        """Report a failure; returns the first one that was reported."""
        own = Failure(rank, status)
        try:
            with self.lock:
                return Failure(*json.loads(self.store.compare_set("failed", "", json.dumps(own))))
        except Exception:  # the store is lost, so nobody else reports
            return own

    def _first(self, wait: float = 0) -> Failure | None:
        """The first reported failure, for which ``wait`` seconds are allowed.

        Raises:
            RuntimeError: the process that serves the store has ended or hangs.
        """
        if not self._await("failed", wait):
            return None
        with self.lock:
            return Failure(*json.loads(self.store.get("failed")))

    def _await(self, key: str, seconds: float) -> bool:
        """Whether a key is set within some seconds. Between checks, the lock is released for reports on the same connection."""
        for remaining in range(int(seconds / POLL), -1, -1):
            with self.lock:
                if self.store.check([key]):
                    return True
            if remaining:
                time.sleep(POLL)
        return False

    def _send_heartbeats(self) -> None:
        beats: dict[
            int, tuple[bytes, int]
        ] = {}  # the last heartbeat of other processes, and the number of checks without a new one
        others = [rank for rank in range(self.place.size) if rank != self.place.rank]
        for count in itertools.count():
            if self.closed.wait(POLL):
                break
            try:
                first = self._first()
                with self.lock:
                    self.store.set(f"alive/{self.place.rank}", str(count))
                    keys = [f"alive/{rank}" for rank in others]
                    now = self.store.multi_get(keys) if self.store.check(keys) else []
            except Exception:
                first, now = Failure(-1, LsgError.exit_code), []
            self.unanswered = 0
            for rank, beat in zip(others, now, strict=False):
                last, looks = beats.get(rank, (b"", 0))
                beats[rank] = (beat, looks + 1 if beat == last != DONE else 0)
                if beats[rank][1] > SILENCE / POLL:
                    self._abandon(rank)
            if first is not None and first.rank != self.place.rank:
                if not self.closed.wait(GRACE):
                    os._exit(first.status)
                return
        with contextlib.suppress(Exception):
            self.store.set(f"alive/{self.place.rank}", DONE)

    def _watchdog(self) -> None:
        while not self.left.wait(POLL):
            self.unanswered += 1
            if self.unanswered > SILENCE / POLL:
                where = f"{self.place.address}:{self.place.port}, where the processes meet"
                self._end(f"no answer from {where}, for {SILENCE:g} s; all processes end")

    def _abandon(self, rank: int) -> None:
        """End this process because another one hangs, with a message from the first process that notices."""
        first = self._report(self.place.rank, LsgError.exit_code).rank == self.place.rank
        self._end(f"rank {rank}: no sign of life for {SILENCE:g} s; all processes end" if first else "")

    def _end(self, message: str) -> None:
        """End this process at once."""
        if message:
            print(f"error: {message}", file=sys.stderr, flush=True)
        os._exit(LsgError.exit_code)


def _clear_frames(error: BaseException) -> None:
    """Clear the local variables of the tracebacks of an error, its causes and its contexts, which refer to the model and torch's group.

    Objects in reference cycles, such as models with hooks, are collected as well.
    """
    errors = [error]
    for known in errors:
        traceback.clear_frames(known.__traceback__)
        errors += [linked for linked in (known.__cause__, known.__context__) if linked is not None and linked not in errors]
    gc.collect()


def _is_communication(error: Exception) -> bool:
    from torch import distributed

    words = ("gloo", "nccl", "connection", "broken pipe", "socket")
    return isinstance(error, distributed.DistError) or any(word in str(error).lower() for word in words)


def _line(error: Exception) -> str:
    """The first line of a message."""
    return str(error).strip().partition("\n")[0]
