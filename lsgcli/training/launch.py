"""Start one process per device on this machine, as torchrun does: ``lsg train --devices``."""

import logging
import os
import re
import signal
import sys
from dataclasses import dataclass
from itertools import chain

from lsgcli.config.resolve import ranges
from lsgcli.errors import ConfigError, LsgError, Stopped
from lsgcli.system import cpus, interpreter
from lsgcli.training.signals import SIGNALS

MOST = 1000  # GPUs


@dataclass(frozen=True)
class Devices:
    """Devices of this machine, one process each.

    Attributes:
        count: number of processes.
        gpus: indices of GPUs; empty for processes on the CPU.
    """

    count: int
    gpus: tuple[int, ...] = ()

    def visible(self) -> list[str]:
        """Each GPU as in CUDA_VISIBLE_DEVICES; where the variable is set, an index counts the GPUs that it names.

        Raises:
            ConfigError: the variable names fewer GPUs.
        """
        names = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        if names and max(self.gpus, default=0) >= len(names):
            raise ConfigError(
                f"--devices: found GPU {max(self.gpus)}, expected 0 to {len(names) - 1}, of the {len(names)} in CUDA_VISIBLE_DEVICES",
                hint="Use fewer devices, or unset the variable.",
            )
        return [names[gpu] if names else str(gpu) for gpu in self.gpus]

    def use(self) -> None:
        """Make only these GPUs visible to torch, which must not be imported yet, and to child processes."""
        if self.gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(self.visible())


def parse(text: str) -> Devices:
    """A number of GPUs (``4``), some of them (``0-3``, ``0,2``), or processes on the CPU (``cpu:2``).

    Raises:
        ConfigError: another text.
    """
    if match := re.fullmatch(r"cpu:([1-9][0-9]{0,2})", text):
        return Devices(int(match[1]))
    parts = [range(int(text))] if text.isdecimal() else ranges(text)
    gpus = [*chain(*parts)] if all(part.stop <= MOST for part in parts) else []
    if not gpus or len(set(gpus)) < len(gpus):
        raise ConfigError(f"--devices: found {text!r}, expected a number of GPUs (4), some of them (0-3 or 0,2), or cpu:2")
    return Devices(len(gpus), tuple(gpus))


def launch(devices: Devices) -> int:
    """Run this command in one process per device; returns the exit status of the first that failed, or 0.

    Signals are passed on. A second interrupt has no effect: each process saves its state and ends.

    Raises:
        ConfigError: this machine does not have the GPUs.
        LsgError: a process was killed.
    """
    import torch
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    if devices.gpus and (there := torch.cuda.device_count()) < devices.count:
        raise ConfigError(
            f"--devices: found {there} CUDA GPUs, expected {devices.count}",
            hint="Use fewer devices, or cpu:N for N processes on the CPU.",
        )
    os.environ |= cpus.share(devices.count)
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=devices.count,
        run_id=os.urandom(4).hex(),
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        signals_to_handle=",".join(number.name for number in SIGNALS),
    )
    program, *words = interpreter.command("lsgcli", *sys.argv[1:])
    try:
        elastic_launch(config, program)(*words)
    except SignalException:
        return Stopped.exit_code
    except ChildFailedError as error:
        rank, failure = min(error.failures.items(), key=lambda item: item[1].timestamp)
        if failure.exitcode < 0:
            raise LsgError(
                f"rank {rank}: killed by {signal.Signals(-failure.exitcode).name}",
                hint="Repeat the command with the same --out to continue from the last checkpoint.",
            ) from None
        return failure.exitcode
    return 0
