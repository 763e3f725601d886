"""Device, precision, threads and determinism."""

import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lsgcli import registry
from lsgcli.errors import ConfigError, log
from lsgcli.system import cpus, memory
from lsgcli.system.ranks import here

AS_SET = "as set"  # reason for a precision
LONG = 600.0  # seconds of a training
HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Convolutions:
    """How convolutions of spikes are computed, see :mod:`lsgcli.models.convolution`.

    Attributes:
        choice: dense, spikes or auto.
        crossings: of each shape of layer met so far, for ``auto``.
    """

    choice: str = "dense"
    crossings: dict[str, list[float]] = field(default_factory=dict)


CONVOLUTIONS = ContextVar("CONVOLUTIONS", default=Convolutions())  # noqa: B039  # dense uses no crossings


@contextmanager
def convolved(how: Convolutions) -> Iterator[None]:
    """Context in which convolutions are computed as ``how`` says."""
    token = CONVOLUTIONS.set(how)
    try:
        yield
    finally:
        CONVOLUTIONS.reset(token)


@dataclass(frozen=True)
class Compute:
    """A device, and how convolutions and linear layers are computed.

    Attributes:
        device: where the network runs.
        precision: fp32, bf16, fp16 or int8.
        reason: why this precision was selected.
        convolutions: how convolutions of spikes are computed.
    """

    device: torch.device
    precision: str = "fp32"
    reason: str = AS_SET
    convolutions: Convolutions = Convolutions()

    @contextmanager
    def context(self) -> Iterator[None]:
        """Context for the network: autocast with the selected precision, and the choice of convolutions; membrane potentials are always float32.

        For int8, the network itself is converted, see :func:`lsgcli.models.integer.deployed`.
        """
        half = HALF.get(self.precision)
        with convolved(self.convolutions), torch.autocast(self.device.type, dtype=half) if half else nullcontext():
            yield

    @property
    def overflows(self) -> int:
        """Number of consecutive steps whose gradients may overflow while the gradient scaler reduces its scale; 0 without a scaler."""
        return 16 if self.precision == "fp16" else 0

    def described(self) -> str:
        """Description of device and precision, with the reason for it if it was chosen."""
        choice = self.convolutions.choice
        how = {"dense": "", "spikes": ", convolutions by spikes", "auto": ", convolutions by spikes where that is faster"}
        because = "" if self.reason == AS_SET else f" ({self.reason})"
        return f"on {self.device} in {self.precision}{because}{how[choice]}"

    def move(self, x: Tensor) -> Tensor:
        """x on the device; copies to a GPU are asynchronous."""
        if self.device.type == "cuda" and x.device.type == "cpu":
            return x.contiguous().pin_memory().to(self.device, non_blocking=True)
        return x.to(self.device)

    @property
    def runs_ahead(self) -> bool:
        """Whether operations are asynchronous, so that reading a result synchronises."""
        return self.device.type == "cuda"

    def later(self, x: Tensor) -> Callable[[], list[float]]:
        """Copy x, (n,), to the host asynchronously; the returned function waits for the copy, not for later operations, and returns the values."""
        if self.device.type != "cuda":
            return x.tolist
        host, copied = x.to("cpu", non_blocking=True), torch.cuda.Event()  # torch allocates pinned memory for it
        copied.record(torch.cuda.current_stream(self.device))

        def read() -> list[float]:
            copied.synchronize()
            return host.tolist()

        return read

    def wait(self) -> None:
        """Wait for all pending operations."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def peak_bytes(self) -> int:
        """Peak memory in bytes: of the device, or of the process on a CPU."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return memory.peak_bytes()


def full_precision(x: Tensor) -> Tensor:
    """x in float32, or its own dtype if wider, for computing a loss."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def set_up(config: Any) -> Compute:
    """Set up threads, determinism, device and precision, from the settings of a :class:`~lsgcli.config.run.RunConfig`.

    Raises:
        ConfigError: the device is not available, or the backend does not support it.
    """
    threads = use_threads(config.threads)
    memory.keep_large_buffers()
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # required by cuBLAS for deterministic results
    if config.deterministic != torch.are_deterministic_algorithms_enabled():  # setting it imports torch's compiler
        torch.use_deterministic_algorithms(config.deterministic)
    device = pick_device(config.device)
    registry.get("backend", config.backend).check(device)
    precision = pick_precision(config.precision, device)
    compute = Compute(device, *precision, Convolutions(pick_synapses(config.synapses, device, precision[0])))
    log.debug("computing %s with %d threads (%s)", compute.described(), torch.get_num_threads(), threads)
    return compute


def pick_synapses(choice: str, device: torch.device, precision: str) -> str:
    """dense, spikes or auto: only float32 and bfloat16 on CPUs can be computed by spikes."""
    if choice == "dense":
        return choice
    numba = registry.get("backend", "fused").available(torch.device("cpu"))
    if device.type == "cpu" and precision in ("fp32", "bf16") and numba:
        return choice
    lacking = f"the device {device}" if device.type != "cpu" else precision if numba else "no numba"
    log.log(logging.WARNING if choice == "spikes" else logging.DEBUG, "synapses: dense, because of %s", lacking)
    return "dense"


def check_gradients(precision: str) -> None:
    """Check that gradients can be computed in a precision.

    Raises:
        ConfigError: the precision is int8.
    """
    if precision == "int8":
        raise ConfigError(
            "precision: found int8, which has no gradients, expected auto, fp32, bf16 or fp16",
            "Omit --precision. To train a network for int8, use --weight-bits 8.",
        )


def use_threads(given: int | None) -> str:
    """Set torch's number of threads to ``given``, or to the number of usable CPUs, which is also the limit; returns the source of the number."""
    if given:
        torch.set_num_threads(cpus.limited("threads", given))
        return "as set"
    place = here()
    count, source = cpus.usable(cpus.THREADS)
    if place.local_size > 1:
        if source == "OMP_NUM_THREADS" and count == 1:  # torchrun sets it, unless the user does
            count, source = cpus.usable()
        of_each = source == "OMP_NUM_THREADS" or (source == "SLURM_CPUS_PER_TASK" and place.of_slurm)
        if not of_each:
            count = max(1, count // place.local_size)
            source = f"{source}, shared by {place.local_size} processes"
    elif count > torch.get_num_threads():
        return "torch's default"  # one per physical core, or the number set by an earlier call
    torch.set_num_threads(count)
    return source


@contextmanager
def limited_threads(count: int) -> Iterator[None]:
    """Context in which torch uses ``count`` threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def pick_precision(name: str, device: torch.device) -> tuple[str, str]:
    """fp32, bf16, fp16 or int8, and the reason; ``auto`` selects the floating type that the hardware computes fastest.

    Raises:
        ConfigError: int8 on a device without exact integer convolutions.
    """
    if name == "int8":
        _check_int8(device)
    if name != "auto":
        return name, AS_SET
    faster = faster_than_fp32(device)
    return faster[:2] if faster else ("fp32", "bf16 is no faster here")


class Faster(NamedTuple):
    """A floating type in which a device multiplies faster than in fp32.

    Attributes:
        precision: bf16 or fp16.
        because: what multiplies them.
        times: as many products per second.
    """

    precision: str
    because: str
    times: int


def faster_than_fp32(device: torch.device) -> Faster | None:
    """The floating type that a device multiplies fastest, by its instructions; None if that is fp32."""
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        because = f"CUDA capability {major}.{minor}"
        if major >= 8:
            return Faster("bf16", because, 2)  # as in TF32, which torch uses in convolutions of fp32
        return Faster("fp16", because, 8) if major == 7 else None
    flags = cpu_flags()
    if "amx_bf16" in flags:
        return Faster("bf16", "the processor has amx_bf16", 16)
    # Intel's avx512_bf16 multiplies no more numbers per cycle than its fp32 units.
    return Faster("bf16", "the processor has avx512_bf16", 2) if {"AuthenticAMD", "avx512_bf16"} <= flags else None


def tell_faster(compute: Compute, seconds: float) -> None:
    """Log in which precision a training that takes so many seconds more would be faster, if it is long."""
    faster = faster_than_fp32(compute.device)
    if seconds >= LONG and faster and compute.precision == "fp32":
        log.info(
            "convolutions are up to %d times as fast in %s here (%s): --precision %s",
            faster.times,
            faster.precision,
            faster.because,
            faster.precision,
        )


def _check_int8(device: torch.device) -> None:
    """Check that torch multiplies bytes by int8 exactly."""
    if device.type != "cpu":
        raise ConfigError(f"precision: found int8 on the device {device}, expected cpu", "Use --device cpu, or bf16.")
    if not hasattr(torch.ops.onednn, "qconv2d_pointwise"):
        raise ConfigError(
            f"precision: found int8 with torch {torch.__version__} without oneDNN's qconv2d_pointwise",
            "Use another precision, or a build of torch with oneDNN.",
        )
    if not products_are_exact():
        raise ConfigError(
            "precision: found int8 where sums of integer products are not exact, expected VNNI instructions",
            "Use --precision fp32.",
        )


@cache
def products_are_exact() -> bool:
    """Whether oneDNN sums products of bytes and int8 exactly: without VNNI instructions, it saturates sums of two products at 16 bits."""
    ops = torch.ops.onednn
    geometry = ((1, 1), (0, 0), (1, 1), 1)
    x = torch.full((1, 2, 1, 1), 255, dtype=torch.uint8)  # one pixel of two channels, and a 1x1 kernel
    scale = torch.ones(1)
    zero = torch.zeros(1, dtype=torch.int32)
    weight = ops.qconv_prepack(torch.full((1, 2, 1, 1), 127, dtype=torch.int8), scale, 1.0, 0, *geometry)
    found = ops.qconv2d_pointwise(x, 1.0, 0, weight, scale, zero, None, *geometry, 1.0, 0, torch.float32, "none", [], "")
    return bool(found.item() == 2 * 255 * 127)


def cpu_flags() -> set[str]:
    """Vendor and features of the processor: all words of /proc/cpuinfo."""
    try:
        return set(Path("/proc/cpuinfo").read_text().split())
    except OSError:  # not Linux
        return set()


def nvidia_driver() -> str | None:
    """Version of the NVIDIA driver; None without one."""
    file = Path("/proc/driver/nvidia/version")
    version = re.search(r"\d+\.[\d.]+", file.read_text()) if file.exists() else None
    return version and version[0]


def pick_device(name: str) -> torch.device:
    """The device called ``name``; ``auto`` selects a CUDA GPU if available.

    Raises:
        ConfigError: no such device on this machine.
    """
    gpus = torch.cuda.device_count()
    place = here()
    if name == "cpu" or (name == "auto" and not gpus):
        return torch.device("cpu")
    if place.size > 1 and name in ("auto", "cuda"):
        alone = place.of_slurm and gpus == 1  # srun --gpus-per-task=1 shows each task its own GPU only
        name = f"cuda:{0 if alone else place.local_rank}"
    if name == "auto":
        return torch.device("cuda")
    match = re.fullmatch(r"cuda(?::(\d+))?", name)
    if match is None:
        raise ConfigError(f"device: found {name!r}, expected auto, cpu, cuda or cuda:N")
    if int(match[1] or 0) >= gpus:
        raise ConfigError(f"device: found {name!r}, but this machine has {gpus} CUDA GPUs", "Use --device auto.")
    return torch.device(name)
