"""Training in several processes: collectives, values that rank 0 decides, and failures of other processes.

The number of processes does not change what is computed: a batch is divided among them, and statistics, losses and gradients are
those of the whole batch.
"""

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, nn

from lsgcli.errors import DivergedError, LsgError, Stopped
from lsgcli.ranks import Place

MEETING = timedelta(minutes=10)  # for all processes to start
PREPARING = timedelta(days=7)  # of the data, by the first process of a machine
GRACE = 8.0  # seconds for a process to end by itself after another has failed
POLL = 0.5  # seconds between looks for failures of other processes


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

    def agree(self, name: str, decide: Callable[[], Any]) -> Any:
        """The value of JSON type that ``decide`` returns in rank 0."""
        return decide()

    @contextmanager
    def one_by_one(self) -> Iterator[None]:
        """Context that the first process of each machine runs before the others."""
        yield

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model with gradients averaged over all processes."""
        return model

    def partial(self, model: nn.Module) -> AbstractContextManager[Any]:
        """Context for backward passes that only accumulate gradients, without averaging them."""
        return nullcontext()


ALONE = Group()


class ProcessGroup(Group):
    """Several processes, which communicate through ``torch.distributed``."""

    def __init__(self, place: Place, store: Any):
        super().__init__(place)
        self.store = store

    def gather(self, x: Tensor) -> Tensor:
        out = x.new_empty((self.size, *x.shape))
        torch.distributed.all_gather(list(out.unbind(0)), x.contiguous())
        return out

    def agree(self, name: str, decide: Callable[[], Any]) -> Any:
        if self.is_main:
            self.store.set(name, json.dumps(decide()))
        self.store.wait([name], PREPARING)
        return json.loads(self.store.get(name))

    @contextmanager
    def one_by_one(self) -> Iterator[None]:
        key = f"prepared/{self.rank - self.place.local_rank}"
        if self.place.local_rank > 0:
            self.store.wait([key], PREPARING)
        yield
        if self.place.local_rank == 0:
            self.store.set(key, "")

    def wrap(self, model: nn.Module) -> nn.Module:
        from torch.nn.parallel import DistributedDataParallel

        wrapped = DistributedDataParallel(model)
        wrapped.broadcast_buffers = False  # they are equal: each process updates them with the statistics of all
        return wrapped

    def partial(self, model: nn.Module) -> AbstractContextManager[Any]:
        return model.no_sync()  # type: ignore[operator]


@contextmanager
def joined(place: Place, backend: str) -> Iterator[Group]:
    """The group of all processes of the run, while the block runs.

    If the block raises an error, all processes end with the exit status of the first error, and only its process prints a message.

    Args:
        place: of this process; a lone process never imports ``torch.distributed``'s rendezvous.
        backend: ``nccl`` or ``gloo``.

    Raises:
        LsgError: other processes cannot be reached, or were lost.
        SystemExit: another process failed, with its status.
    """
    if place.size == 1:
        yield Group(place)
        return
    from torch import distributed

    try:
        store = distributed.TCPStore(place.address, place.port, None, place.hosts, MEETING, wait_for_workers=False)
        attempt = distributed.PrefixStore(f"lsg/{place.attempt}", store)
        failures = Failures(
            place, distributed.PrefixStore("failures", distributed.PrefixStore(f"lsg/{place.attempt}", store.clone()))
        )
        distributed.init_process_group(backend, store=attempt, rank=place.rank, world_size=place.size, timeout=MEETING)
    except (RuntimeError, OSError) as error:
        raise LsgError(
            f"rank {place.rank}: cannot meet the other {place.size - 1} processes at {place.address}:{place.port}: {_first(error)}",
            hint="Check that all processes run and that the machines reach each other.",
        ) from error
    try:
        yield ProcessGroup(place, attempt)
    except Exception as error:
        failures.settle(error)
        raise
    finally:
        failures.close()
        with contextlib.suppress(Exception):
            distributed.destroy_process_group()


class Failures:
    """Ends a process when another one has failed, even inside a collective that will never complete."""

    def __init__(self, place: Place, store: Any):
        self.place, self.store = place, store
        self.lock, self.closed = threading.Lock(), threading.Event()
        self.thread = threading.Thread(target=self._watch, name="failures", daemon=True)
        self.thread.start()

    def settle(self, error: Exception) -> None:
        """Return if this process has to report ``error``; otherwise end it with the status of the first failure.

        Raises:
            SystemExit: another process reports the error.
            LsgError: a process was lost without a report.
        """
        rank = self.place.rank
        if isinstance(error, (Stopped, DivergedError)):  # raised by all processes, while rank 0 may still write files
            first = {"rank": 0, "status": error.exit_code}
            if rank > 0:
                with contextlib.suppress(Exception):
                    self.store.wait(["done/0"], MEETING)
        else:
            lost = not isinstance(error, LsgError) and _is_communication(error)
            first = self._first(GRACE / 2 if lost else 0) or self._report(
                {"rank": rank, "status": getattr(error, "exit_code", 1)}
            )
            if lost and first["rank"] == rank:
                raise LsgError(
                    "lost the connection to another process",
                    hint="Repeat the command with the same --out to continue from the last checkpoint.",
                ) from error
        if first["rank"] != rank:
            raise SystemExit(first["status"]) from None
        if isinstance(error, LsgError):
            error.rank = rank

    def close(self) -> None:
        """Stop watching; the process that serves the store waits until no other needs it."""
        self.closed.set()
        self.thread.join()
        with contextlib.suppress(Exception):
            self.store.set(f"done/{self.place.rank}", "")
            if self.place.hosts:
                self.store.wait([f"done/{rank}" for rank in range(self.place.size)], timedelta(seconds=2 * GRACE))

    def _report(self, failure: dict[str, int]) -> dict[str, int]:
        try:
            with self.lock:
                return json.loads(self.store.compare_set("failed", "", json.dumps(failure)))  # type: ignore[no-any-return]
        except Exception:  # the store is lost, so nobody else reports
            return failure

    def _first(self, wait: float) -> dict[str, int] | None:
        """The first reported failure, for which ``wait`` seconds are allowed."""
        for _ in range(1 + int(wait / POLL)):
            if found := self._look():
                return found if found["rank"] >= 0 else None
            if wait:
                time.sleep(POLL)
        return None

    def _look(self) -> dict[str, int] | None:
        try:
            with self.lock:
                return json.loads(self.store.get("failed")) if self.store.check(["failed"]) else None
        except Exception:
            return {"rank": -1, "status": 1}  # the process that serves the store has ended

    def _watch(self) -> None:
        while not self.closed.wait(POLL):
            found = self._look()
            if found is not None and found["rank"] != self.place.rank:
                if not self.closed.wait(GRACE):
                    os._exit(found["status"])
                return


def _is_communication(error: Exception) -> bool:
    from torch import distributed

    words = ("gloo", "nccl", "connection", "broken pipe", "socket")
    return isinstance(error, distributed.DistError) or any(word in str(error).lower() for word in words)


def _first(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
