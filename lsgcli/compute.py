"""Where and how to compute: device, precision, threads, determinism."""

import logging
import os
import re
import resource
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from lsgcli.config import RunConfig
from lsgcli.errors import ConfigError
from lsgcli.memory import keep_large_buffers

log = logging.getLogger("lsg")


@dataclass(frozen=True)
class Compute:
    """A device, and the type of its convolutions and linears."""

    device: torch.device
    precision: str = "fp32"

    def autocast(self) -> AbstractContextManager[Any]:
        """Context in which the network runs: bf16 where asked for; membrane potentials stay float32 in any case."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def wait(self) -> None:
        """Wait until everything that was started is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def peak_bytes(self) -> int:
        """Most memory that was in use so far: the device's, or on a CPU the whole process's."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def full_precision(x: torch.Tensor) -> torch.Tensor:
    """x in float32, unless it is wider already: what a loss is computed from."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def set_up(config: RunConfig) -> Compute:
    """Make the process ready to compute as configured.

    Raises:
        ConfigError: a device that is not there.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    keep_large_buffers()
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS may round differently each time
    torch.use_deterministic_algorithms(config.deterministic)
    compute = Compute(pick_device(config.device), config.precision)
    log.debug("computing on %s in %s with %d threads", compute.device, compute.precision, torch.get_num_threads())
    return compute


def pick_device(name: str) -> torch.device:
    """The device called ``name``; ``auto`` is a CUDA GPU where there is one.

    Raises:
        ConfigError: no such device on this machine.
    """
    gpus = torch.cuda.device_count()
    if name == "auto":
        return torch.device("cuda" if gpus else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    match = re.fullmatch(r"cuda(?::(\d+))?", name)
    if match is None:
        raise ConfigError(f"--device: found {name!r}, expected auto, cpu, cuda or cuda:N")
    if int(match[1] or 0) >= gpus:
        raise ConfigError(f"--device: {name!r} is not on this machine, which has {gpus} CUDA GPUs", hint="Use --device auto.")
    return torch.device(name)
