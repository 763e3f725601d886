"""The largest batch size that fits in memory, measured in a process of its own: ``--batch-size auto``."""

import logging
import multiprocessing
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import NamedTuple

import torch

from lsgcli.config.run import RunConfig
from lsgcli.data import parallel
from lsgcli.data.batches import batches
from lsgcli.data.prepare import prepare
from lsgcli.data.progress import NamedProgress
from lsgcli.errors import LsgError, OutOfMemoryError
from lsgcli.runs.checks import check
from lsgcli.runs.dry_run import stepping
from lsgcli.system import memory
from lsgcli.system.device import set_up
from lsgcli.training.initialise import new_model

RAM, GPU = 0.5, 0.9  # fraction of the available memory that a step may use
log = logging.getLogger("lsg")


class Fit(NamedTuple):
    """A batch size that fits.

    Attributes:
        batch_size: samples per step.
        peak_bytes: memory that a step needs, on a GPU, or of the whole process.
        limit_bytes: what it may need.
    """

    batch_size: int
    peak_bytes: int
    limit_bytes: int

    @property
    def text(self) -> str:
        """Description of the batch size and of the memory that it needs."""
        return f"{self.batch_size} (auto: a step needs {self.peak_bytes >> 20:,} of {self.limit_bytes >> 20:,} MiB)"


def largest(config: RunConfig, progress: NamedProgress | None = None) -> Fit:
    """The largest power of two that fits as batch size of a run with the other settings of ``config``.

    A process of its own runs a step with each size, from the smallest on, until one needs more than 90 % of the GPU's free memory, or half
    of the available RAM, or kills the process.

    Raises:
        OutOfMemoryError: none fits.
        LsgError: the settings or data are invalid.
    """
    check(config.replace(batch_size=1 << 20))
    prepare(config, ("train",), progress=progress)  # so that the process finds them
    log.info("measuring which batch size fits")
    available = memory.available_bytes()
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(config, available, sender), daemon=True)
    process.start()
    sender.close()
    fit: Fit | None = None
    try:
        while not isinstance(found := receiver.recv(), LsgError):
            fit = found
        raise found
    except EOFError:  # all sizes were tried, or the process was killed
        pass
    finally:
        process.kill()
        process.join()
    if fit is None:
        raise OutOfMemoryError(
            f"--batch-size auto: found no batch size that fits, with {available / 2**20:,.0f} MiB of available memory",
            hint="Use a smaller network or input, more parts of a batch (--accumulate), or --memory bits.",
        )
    log.info("batch size %s", fit.text)
    return fit


def _measure(config: RunConfig, available: int, sender: Connection) -> None:
    """Send each size that fits; or an error. Ends with the process that started it, even if that is killed."""
    threading.Thread(target=parallel.follow_parent, daemon=True).start()
    try:
        for fit in _sizes(config, available):
            sender.send(fit)
    except LsgError as error:
        sender.send(error)
    except Exception as error:
        if not memory.is_out_of_memory(error):
            raise


def _sizes(config: RunConfig, available: int) -> Iterator[Fit]:
    """Batch sizes that fit, from the smallest power of two with two samples for each part on."""
    compute = set_up(config)
    on_gpu = compute.device.type == "cuda"
    if on_gpu:
        available = torch.cuda.mem_get_info(compute.device)[0]
    limit = int(available * (GPU if on_gpu else RAM))
    bundle = prepare(config, ("train",), may_download=False)
    samples = len(bundle.named("train"))
    step = stepping(new_model(config, len(bundle.classes), bundle.channels, bundle.height).to(compute.device), config, compute)
    size, peaks = 1 << (2 * config.accumulate - 1).bit_length(), list[int]()
    while size <= samples:
        batch = next(iter(batches(bundle, "train", size, augment=config.augment, drop_last=True)))
        for _ in range(1 if peaks else 2):  # the first step also creates states of the optimisers
            step(batch)
        peaks.append(compute.peak_bytes())
        if peaks[-1] > limit:
            return
        yield Fit(size, peaks[-1], limit)
        if not on_gpu and len(peaks) > 1 and 3 * peaks[-1] - 2 * peaks[-2] > available:
            return  # activations double, so the next would need all of the memory
        size *= 2
