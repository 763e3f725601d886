"""Where and how to compute: device, precision, threads, determinism."""

import logging
import os
import re
import resource
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lsgcli import cpus, registry
from lsgcli.config import RunConfig
from lsgcli.errors import ConfigError
from lsgcli.memory import keep_large_buffers

log = logging.getLogger("lsg")


@dataclass(frozen=True)
class Compute:
    """A device, and the type of its convolutions and linears.

    Attributes:
        precision: fp32 or bf16.
        reason: why that precision.
    """

    device: torch.device
    precision: str = "fp32"
    reason: str = "as set"

    def autocast(self) -> AbstractContextManager[Any]:
        """Context in which the network runs: bf16 where asked for; membrane potentials stay float32 in any case."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def described(self) -> str:
        """In words: where, in which precision, and why in that."""
        return f"on {self.device} in {self.precision} ({self.reason})"

    def move(self, x: torch.Tensor) -> torch.Tensor:
        """x on the device; to a GPU it is copied while the processor goes on."""
        if self.device.type == "cuda" and x.device.type == "cpu":
            return x.contiguous().pin_memory().to(self.device, non_blocking=True)
        return x.to(self.device)

    @property
    def runs_ahead(self) -> bool:
        """Whether operations return before they are done, so that to look at a result is to wait."""
        return self.device.type == "cuda"

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
        ConfigError: a device that is not there, or a backend that cannot run on it.
    """
    threads = use_threads(config.threads)
    keep_large_buffers()
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS may round differently each time
    if config.deterministic != torch.are_deterministic_algorithms_enabled():  # to set it imports torch's compiler
        torch.use_deterministic_algorithms(config.deterministic)
    device = pick_device(config.device)
    registry.get("backend", config.backend).check(device)
    compute = Compute(device, *pick_precision(config.precision, device))
    log.debug("computing %s with %d threads (%s)", compute.described(), torch.get_num_threads(), threads)
    return compute


def use_threads(given: int | None) -> str:
    """Set the threads of torch to ``given``, or else to as many as the process may use; returns why so many."""
    if given:
        torch.set_num_threads(given)
        return "as set"
    count, source = cpus.usable(cpus.THREADS)
    if count > torch.get_num_threads():
        return "torch's default"  # one for each physical core, or as many as an earlier call set
    torch.set_num_threads(count)
    return source


def pick_precision(name: str, device: torch.device) -> tuple[str, str]:
    """fp32 or bf16, and why; ``auto`` is bf16 where the hardware multiplies it faster than fp32."""
    if name != "auto":
        return name, "as set"
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        return ("bf16" if major >= 8 else "fp32"), f"CUDA capability {major}.{minor}"
    found = sorted(_cpu_flags() & {"avx512_bf16", "amx_bf16"})
    return ("bf16", f"the processor has {' and '.join(found)}") if found else ("fp32", "the processor has no bf16 instructions")


def _cpu_flags() -> set[str]:
    """What the processor can do, in Linux's words; nothing where it cannot be asked."""
    try:
        return set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return set()


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
