"""Training in several processes: collectives, values that rank 0 decides, and failures of other processes.

The number of processes does not change what is computed: a batch is divided among them, and statistics, losses and gradients are
those of the whole batch.

torchrun or srun starts the processes and ends them when one has failed. A process also ends by itself: torch's collectives raise an
error when another process has ended, or keeps it waiting for too long. The first error is reported through torch's key-value store.
"""

import json
import math
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, nn

from lsgcli.errors import ConfigError, DivergedError, LsgError, Stopped
from lsgcli.system.device import pick_device
from lsgcli.system.ranks import Place

MEETING = timedelta(minutes=10)  # for all processes to start
SILENCE = 20.0  # seconds that a process may keep another one waiting, or twice as long as that one worked since it last waited
GRACE = 4.0  # seconds for a process to learn of the failure of another one
POLL = 0.05  # seconds between requests to the store
FAILED = "failed"  # key of the first failure: [rank, exit status of all]
WORDS = ("gloo", "nccl", "connection", "broken pipe", "socket", "pair closure")  # of torch's errors of communication


class Group:
    """The processes of a run; this class is a group of one process, for which every collective is the identity."""

    def __init__(self, place: Place | None = None):
        self.place = place or Place()
        self.rank = self.place.rank
        self.size = self.place.size

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

    def accumulating(self, model: nn.Module) -> AbstractContextManager[Any]:
        """Context for backward passes that only accumulate gradients, without averaging them."""
        return nullcontext()


ALONE = Group()


class ProcessGroup(Group):
    """Several processes, which communicate through ``torch.distributed``.

    What they tell each other is in torch's key-value store, which one of them, or torchrun, serves.

    Args:
        store: the key-value store of this attempt.
        lasting: the part of the store that a restart by torchrun keeps.

    Attributes:
        answered: whether the store has answered each request so far.
    """

    def __init__(self, place: Place, store: Any, lasting: Any):
        super().__init__(place)
        self.store = store
        self.lasting = lasting
        self.answered = True
        self._wrapped: list[nn.Module] = []
        self._waited = time.monotonic()  # when this process last waited for others
        self._limit = 0.0  # seconds that a collective may take
        self._allow(SILENCE)

    def ask(self, request: Callable[..., Any], *arguments: Any) -> Any:
        """The answer of the store. It is asked in a thread, because torch waits without a limit if the process that serves it hangs.

        Raises:
            LsgError: the store does not answer.
        """
        answer = Future[Any]()

        def work() -> None:
            try:
                answer.set_result(request(*arguments))
            except Exception as error:
                answer.set_exception(error)

        threading.Thread(target=work, daemon=True).start()
        try:
            return answer.result(SILENCE)
        except TimeoutError:
            self.answered = False
            where = f"{self.place.address}:{self.place.port}"
            raise LsgError(f"no answer from {where}, where the processes meet, for {SILENCE:g} s") from None

    def wait_for(self, key: str, seconds: float = math.inf) -> None:
        """Wait until another process sets a key, but not for more than some seconds. The time does not count as work.

        Raises:
            SystemExit: another process failed.
            LsgError: the store does not answer.
        """
        until = time.monotonic() + seconds
        while not self.ask(self.store.check, [key]) and time.monotonic() < until:
            if self.ask(self.store.check, [FAILED]):
                _, status = json.loads(self.store.get(FAILED))
                raise SystemExit(status)
            time.sleep(POLL)
        self._waited = time.monotonic()

    def gather(self, x: Tensor) -> Tensor:
        self._allow(2 * (time.monotonic() - self._waited))
        out = x.new_empty((self.size, *x.shape))
        torch.distributed.all_gather(list(out.unbind(0)), x.contiguous())
        self._waited = time.monotonic()
        return out

    def agree(self, name: str, decide: Callable[[], Any], lasting: bool = False) -> Any:
        if self.is_main:
            value = json.dumps(decide())
            if lasting:  # an earlier attempt may have decided
                value = self.lasting.compare_set(name, "", value).decode()
            self.store.set(name, value)
        self.wait_for(name)
        return json.loads(self.store.get(name))

    @contextmanager
    def one_by_one(self) -> Iterator[None]:
        key = f"prepared/{self.rank - self.place.local_rank}"
        if self.place.local_rank > 0:
            self.wait_for(key)
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

    def accumulating(self, model: nn.Module) -> AbstractContextManager[Any]:
        return model.no_sync()  # type: ignore[operator]

    def settle(self, error: Exception) -> None:
        """Return if this process has to report ``error``; otherwise end it with the status of the first failure.

        Raises:
            SystemExit: another process reports the error.
            LsgError: another process was lost without a report.
        """
        status = getattr(error, "exit_code", LsgError.exit_code)
        if isinstance(error, (Stopped, DivergedError)):  # raised by all processes, while rank 0 may still write files
            if self.is_main:
                return
            with suppress(Exception):
                self.wait_for("done/0")
            raise SystemExit(status) from None
        problem = str(error).lower() if isinstance(error, RuntimeError) else ""
        hangs = "timeout" in problem or "timed out" in problem
        lost = hangs or any(word in problem for word in WORDS)
        if hangs:  # perhaps the process that serves the store; all others notice it
            self.answered = False
        first = self.rank
        with suppress(Exception):  # the store does not answer, or its process has ended
            if self.answered and lost:  # another one has failed in all likelihood, and may be about to say so
                self.wait_for(FAILED, GRACE)
            if self.answered:
                first, status = json.loads(self.ask(self.store.compare_set, FAILED, "", json.dumps([first, status])))
        if first != self.rank:
            raise SystemExit(status) from None
        if lost:
            raise LsgError(
                "lost the connection to another process, or it does not answer",
                hint="Repeat the command with the same --out to continue from the last checkpoint.",
            ) from error
        if isinstance(error, LsgError):
            error.rank = self.rank

    def close(self) -> None:
        """Leave the group; the wrapped models cannot be used any more. The process that serves the store waits for the others.

        A thread of Gloo may still hold tensors of a collective that has completed. If it drops them while the interpreter ends, the
        process aborts. torch joins the threads when the last reference to its group is dropped.
        """
        if self.answered:
            with suppress(Exception):
                self.ask(self.store.set, f"done/{self.rank}", "")
                if self.place.hosts:
                    every = [f"done/{rank}" for rank in range(self.size)]
                    self.store.wait(every, timedelta(seconds=2 * GRACE))
        for wrapped in self._wrapped:
            for name in ("reducer", "logger", "process_group"):
                delattr(wrapped, name)
        torch.distributed.destroy_process_group()

    def _allow(self, seconds: float) -> None:
        """Let collectives take so long, if this is more than before."""
        if seconds > self._limit:
            self._limit = seconds
            torch.distributed.distributed_c10d._set_pg_timeout(timedelta(seconds=seconds))


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
        store = TCPStore(place.address, place.port, None, place.hosts, MEETING, wait_for_workers=False)
        collectives = PrefixStore(f"{place.attempt}/collectives", store)
        distributed.init_process_group(backend, store=collectives, rank=place.rank, world_size=place.size, timeout=MEETING)
    except (RuntimeError, OSError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise LsgError(
            f"rank {place.rank}: cannot meet the other {place.size - 1} processes at {place.address}:{place.port}: {reason}",
            hint="Check that all processes run and that the machines reach each other.",
        ) from error
    group = ProcessGroup(place, PrefixStore(f"{place.attempt}/lsg", store), PrefixStore("lsg", store))
    try:
        yield group
    except Exception as error:
        traceback.clear_frames(error.__traceback__)  # which may refer to torch's group
        group.settle(error)
        raise
    finally:
        with suppress(Exception):
            group.close()
