"""Speed and memory of a network on this machine, in training, in inference, and as a stream of single timesteps.

The contenders are lsg, lsg with convolutions by spikes where they are faster (``lsg-auto``), and the floor: the same network without
normalisation and neurons. Each runs in a process of its own, in turns, so that changes of the machine's speed affect all of them; between turns
it is stopped (SIGSTOP), so that idle threads do not take time from the others. ``benchmarks`` in the repository compares other libraries.
"""

import contextlib
import ctypes
import itertools
import json
import os
import platform
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lsgcli import models
from lsgcli.analysis import running
from lsgcli.config.run import RunConfig, from_dict
from lsgcli.data.batches import Batch
from lsgcli.errors import ConfigError, LsgError, OutOfMemoryError, error_of
from lsgcli.export.runners import stepwise
from lsgcli.models.base import SpikingNet
from lsgcli.models.integer import deployed
from lsgcli.models.layers import ConvNorm
from lsgcli.neurons import LIF
from lsgcli.registry import get
from lsgcli.runs.dry_run import stepping
from lsgcli.runs.packages import version_of
from lsgcli.system import cpus, interpreter, memory
from lsgcli.system.device import Compute, Convolutions, check_gradients, pick_device, pick_precision

MODES = ("train", "inference", "stream")
CONTENDERS = {"lsg": "dense", "lsg-auto": "auto", "floor": "dense"}  # name -> --convolution
WARM, TURN, MOST = 2, 0.5, 1000  # rounds that are not timed; seconds and steps of a turn at most, but for a single step
RATE = 1e-4  # so small that nothing drifts in hundreds of steps; the time of a step does not depend on it
CLASSES, EVENTS = 10, 0.3  # of the random data: classes, and events per pixel and timestep
PR_SET_PDEATHSIG = 1  # from the kernel's prctl.h
QUIET = 0.5  # load from which times may be too long
Progress = Callable[[str, int, int], object]  # what, rounds done, rounds


def bench(config: RunConfig, modes: Sequence[str], rounds: int, progress: Progress = lambda *_: None) -> dict[str, Any]:
    """Measure the network of ``config`` in each of ``modes``.

    Args:
        config: architecture, sizes, device, precision and threads.
        modes: of ``MODES``.
        rounds: number of rounds, in each of which every contender has a turn.
        progress: called before the first round of a case and after each.

    Returns:
        ``machine``: processor, memory, versions, threads, device, precision and the reason for it, and the load before the first case.
        ``rows``: one for each case and contender, see :func:`rows_of`.

    Raises:
        ConfigError: the network or the machine does not support the settings.
        LsgError: the process of a contender failed.
    """
    if config.arch == "nir":
        raise ConfigError("--arch: found nir, whose layers are in a file, expected another network")
    device = pick_device(config.device)
    precision, reason = pick_precision(config.precision, device)
    if precision == "fp16" or device.index:
        raise ConfigError(
            f"found precision {precision} on the device {device}, expected fp32, bf16 or int8 on cpu or cuda",
            hint="Use --precision fp32; CUDA_VISIBLE_DEVICES selects a GPU.",
        )
    threads = cpus.limited("threads", config.threads) if config.threads else cpus.usable(cpus.THREADS)[0]
    about = {"threads": threads, "device": device.type, "precision": precision, "because": reason, "load": os.getloadavg()[0]}
    record: dict[str, Any] = {"machine": machine() | about, "rows": []}
    for mode in modes:
        if mode == "train":
            check_gradients(precision)
        batch = 1 if mode == "stream" else config.batch_size
        width = config.width_multiplier
        case = f"{config.arch} x {width:g}, T={config.T}, {config.size} px, batch {batch}, {mode}"
        progress(case, 0, rounds)
        with contextlib.ExitStack() as stack:
            contenders = []
            for name in CONTENDERS:
                if name != "lsg-auto" or (device.type == "cpu" and precision != "int8"):
                    own = "fp32" if name == "floor" and precision == "int8" else precision
                    job = {
                        "name": name,
                        "mode": mode,
                        "precision": own,
                        "batch": batch,
                        "device": device.type,
                        "threads": threads,
                    }
                    contender = Contender(job, config)
                    contenders.append(contender)
                    stack.enter_context(contender)
                    contender.answer()
            for done in race(contenders, rounds):
                progress(case, done, rounds)
        record["rows"] += rows_of(contenders, case, batch / (config.T if mode == "stream" else 1))
    return record


def race(contenders: Sequence["Contender"], rounds: int) -> Iterator[int]:
    """Let the contenders run in turns, in random order; the number of timed rounds after each round."""
    steps, shortest = 1, float("inf")
    for done in range(1 - WARM, rounds + 1):
        for contender in random.Random(done).sample(contenders, len(contenders)):
            shortest = min(shortest, contender.turn(steps, timed=done > 0))
        if done == 0:  # a short step is repeated within a turn: caches are cold after another's turn
            steps = max(1, min(MOST, round(TURN / shortest)))
        if done > 0:
            yield done


def rows_of(contenders: Sequence["Contender"], case: str, samples: float) -> list[dict[str, Any]]:
    """The rows of a case.

    Returns:
        ``contender``: name and precision; ``case``; ``ms``: median of a step, which is a batch, or in a stream one timestep
        of one sample; ``samples_per_s``, of whole samples; ``peak_mb``, in 1e6 bytes: of the process, or on a GPU of its tensors;
        ``time_over_lsg``: see :func:`ratio`; None for the first contender.
    """
    rows = []
    for contender in contenders:
        ms = 1e3 * statistics.median(contender.seconds)
        first = contender is contenders[0]
        rows.append(
            {
                "contender": contender.title,
                "case": case,
                "samples_per_s": 1e3 * samples / ms,
                "ms": ms,
                "peak_mb": contender.peak / 1e6,
                "time_over_lsg": None if first else ratio(contender.seconds, contenders[0].seconds),
            }
        )
    return rows


def ratio(theirs: Sequence[float], ours: Sequence[float], draws: int = 2000) -> dict[str, float]:
    """Median of the rounds' ratios of their time to ours, ``ratio``, and its 95 % interval by bootstrap of the rounds, ``low`` to ``high``."""
    generator, rounds = random.Random(0), [a / b for a, b in zip(theirs, ours, strict=True)]
    redrawn = sorted(statistics.median(generator.choices(rounds, k=len(rounds))) for _ in range(draws))
    return {"ratio": statistics.median(rounds), "low": redrawn[int(0.025 * draws)], "high": redrawn[int(0.975 * draws)]}


def machine(*packages: str) -> dict[str, Any]:
    """Processor, cores, memory, and versions, including those of installed ``packages``."""
    processor = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):  # not Linux
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                processor = line.split(":", 1)[1].strip()
    return {
        "processor": processor,
        "cores": cpus.usable(())[0],
        "memory_bytes": memory.total_bytes(),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": {name: found for name in ("numpy", "torch", "numba", "lsgcli", *packages) if (found := version_of(name))},
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


class Worker(contextlib.AbstractContextManager["Worker"]):
    """A process that prints a line of JSON when it is ready, and one for each line of its stdin. In between, it is stopped.

    A context manager that ends it.

    Args:
        title: what messages call it.
        command: that starts it.
        threads: that its libraries use.
        environment: of the process.
    """

    def __init__(self, title: str, command: Sequence[str], threads: int, environment: Mapping[str, str]):
        self.title = title
        pools = {f"{pool}_NUM_THREADS": str(threads) for pool in ("OMP", "MKL", "OPENBLAS", "NUMBA")}
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
        self.process = subprocess.Popen(command, env={**environment, **pools}, **pipes)

    def ask(self, line: str) -> dict[str, Any]:
        """Its answer to a line."""
        self.process.send_signal(signal.SIGCONT)
        with contextlib.suppress(BrokenPipeError):  # it ended; the missing answer says so
            self.process.stdin.write(f"{line}\n")  # type: ignore[union-attr]
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """The next line that it prints; it is then stopped.

        Raises:
            LsgError: it reports an error, or has ended.
        """
        line = self.process.stdout.readline()  # type: ignore[union-attr]
        if not line:
            status = self.process.wait()
            if status == -signal.SIGKILL:
                raise OutOfMemoryError(
                    f"{self.title}: its process was killed, probably for want of memory", hint="Use a smaller batch."
                )
            found = f"{self.title}: its process ended with status {status}, expected an answer"
            raise LsgError(found, hint="See its output above.")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise error_of(answer["status"])(f"{self.title}: {answer['error']}")
        self.process.send_signal(signal.SIGSTOP)
        return answer

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


class Contender(Worker):
    """A contender's process.

    Attributes:
        seconds: of a step in each timed round.
        peak: bytes of memory.
    """

    def __init__(self, job: dict[str, Any], config: RunConfig):
        self.seconds, self.peak = list[float](), 0
        command = interpreter.command("lsgcli.sweeps.bench", json.dumps(job | {"settings": config.to_dict()}))
        super().__init__(f"{job['name']} {job['precision']}", command, job["threads"], os.environ)

    def turn(self, steps: int, timed: bool) -> float:
        """Let it run some steps; the median of their seconds, which is kept if it is ``timed``."""
        found = self.ask(str(steps))
        self.peak = found["peak"]
        if timed:
            self.seconds.append(found["seconds"])
        return float(found["seconds"])


def main() -> None:
    """The process of a contender: build the network, then run as many steps as each line of stdin says."""
    job = json.loads(sys.argv[1])
    with contextlib.suppress(AttributeError):  # Linux ends this process with its parent, even while it is stopped
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not be among the answers
    try:
        step, compute = prepared(**job)
    except LsgError as error:
        print(json.dumps({"error": error.on_command_line, "status": error.exit_code}), file=answers)
        return
    print("{}", file=answers)
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            begin = time.perf_counter()
            step()
            compute.wait()
            seconds.append(time.perf_counter() - begin)
        print(json.dumps({"seconds": statistics.median(seconds), "peak": compute.peak_bytes()}), file=answers)


def prepared(
    name: str, mode: str, precision: str, batch: int, device: str, threads: int, settings: dict[str, Any]
) -> tuple[Callable[[], object], Compute]:
    """A step of a contender, and how it computes."""
    config = from_dict(settings)
    compute = Compute(torch.device(device), precision, convolutions=Convolutions(CONTENDERS[name]))
    torch.set_num_threads(threads)
    memory.keep_large_buffers()
    torch.manual_seed(0)
    channels = get("arch", config.arch).defaults["in_channels"]
    sizes = {"T": config.T, "num_classes": CLASSES, "in_channels": channels, "input_size": config.size}
    network = models.build(config.arch, width_multiplier=config.width_multiplier, **sizes).to(device)
    generator = torch.Generator().manual_seed(1)
    if channels == 2:
        x = torch.poisson(torch.full((config.T, batch, 2, config.size, config.size), EVENTS), generator=generator)
    else:
        x = torch.randn(batch, channels, config.size, config.size, generator=generator)
    y = torch.randint(0, CLASSES, (batch,), generator=generator)
    x, y = x.to(device), y.to(device)
    if name == "floor":
        strip(network)

    if mode == "train":
        train = stepping(network, RunConfig(lr=RATE, weight_decay=0.0, decay_lr=RATE, loss="ce"), compute)
        return lambda: train(Batch(x, y, 0)), compute
    network.eval()
    with contextlib.suppress(ConfigError):  # of a network without normalisation
        first = x[:1] if x.dim() == 4 else x[:, :1]
        running.refresh(network, [Batch(first, y, 0)], compute)  # so that the neurons of deep layers fire
    if name != "floor":
        network = deployed(network, precision)
    if mode == "stream" and any(type(module) is LIF for module in network.modules()):
        return stream(network, x, compute), compute
    if mode == "stream":
        x = x[:1] if x.dim() == 5 else x[None]
    return lambda: forward(network, x, compute), compute


def stream(network: SpikingNet, x: Tensor, compute: Compute) -> Callable[[], object]:
    """One timestep of a window, as in ``lsg predict --stream``; the first of a window starts from rest."""
    frames = x if x.dim() == 5 else x.expand(network.T, *x.shape)
    window = itertools.cycle(enumerate(frames))
    steps = stepwise(network, {})
    state: Any = None

    def step() -> None:
        nonlocal state
        t, frame = next(window)
        with torch.inference_mode(), compute.context():
            _, state = steps.step(frame, steps.rest(len(frame)) if t == 0 else state)

    return step


@torch.inference_mode()
def forward(network: nn.Module, x: Tensor, compute: Compute) -> None:
    """Mean logits."""
    with compute.context():
        network(x).float().mean(0)


class Silent(LIF):
    """Neurons that pass on their currents."""

    def forward(self, current: Tensor, *, overwrite: bool = False) -> Tensor:
        """The current."""
        return current

    def normalise_and_fire(self, norm: Any, z: Tensor, *, residual: Tensor | None = None, pool: int = 1) -> Tensor:
        """The sum of the currents, average-pooled."""
        z = z if residual is None else z + residual
        return z if pool == 1 else F.avg_pool2d(z.flatten(0, 1), pool).unflatten(0, z.shape[:2])

    def end_step(self, skip: Tensor | None = None) -> None:
        """Nothing was measured."""


def strip(network: nn.Module) -> None:
    """Remove normalisation and neurons, in place: convolutions, linear layers, pools and sums remain."""
    for module in network.modules():
        if isinstance(module, LIF):
            module.__class__ = Silent
        if isinstance(module, ConvNorm):
            module.norm = nn.Identity()
        if hasattr(module, "levels"):
            module.levels = None  # type: ignore[assignment]  # real values are not saved in bits


if __name__ == "__main__":
    main()
