"""Contenders in separate processes (``benchmarks.contender``) that run in turns.

Each contender is a new interpreter with the same number of threads. It builds its network and waits. Between its turns it is stopped
(SIGSTOP), so that idle threads of its libraries do not affect other contenders, and all use the thread settings of their libraries.

Peak memory is that of the process (VmHWM), including interpreter and libraries.
"""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from lsgcli import registry

ROOT = Path(__file__).resolve().parents[1]
DEFAULTS = {"vggsnn": {"T": 10, "batch": 8, "size": 48}, "resnet19": {"T": 2, "batch": 16, "size": 32}}
OF_LIBRARY = ("sew-resnet18", "sew-resnet34", "ms-resnet18", "qkformer")  # models of spikingjelly, see benchmarks.library
DEFAULTS |= {network: {"T": 4, "batch": 16, "size": 32} for network in OF_LIBRARY}


class Contender(NamedTuple):
    """Who runs, and how.

    Args:
        kit: a class of ``benchmarks.peers``, ``lsg``, or ``Onnx``: the export of lsg's network in onnxruntime.
        best: channels-last memory and what else makes a peer fastest; lsg always is channels-last.
        keep: tell glibc to keep large buffers between steps, as ``lsg train`` does.
        backend: of lsg; of spikingjelly, its implementation of LIF on CUDA devices.
        compiled: by ``torch.compile``, as one graph; lsg only.
        settings: of network and neurons; lsg only.
        convolution: ``dense``, ``spikes`` or ``auto``; lsg only.
    """

    kit: str
    best: bool = False
    keep: bool = False
    backend: str = "auto"
    compiled: bool = False
    settings: Mapping[str, Any] = {}
    convolution: str = "dense"


CONTENDERS = {
    "lsg": Contender("lsg", best=True, keep=True),
    "spikingjelly": Contender("SpikingJelly"),
    "spikingjelly-best": Contender("SpikingJelly", best=True, keep=True),
    "snntorch": Contender("SnnTorch"),
    "snntorch-best": Contender("SnnTorch", best=True, keep=True),
    "floor": Contender("Floor", best=True, keep=True),
    # Not among those that run unless asked for:
    "lsg-auto": Contender("lsg", best=True, keep=True, convolution="auto"),
    "lsg-reference": Contender("lsg", best=True, keep=True, backend="reference"),
    "lsg-unkept": Contender("lsg", best=True),
    "spikingjelly-kept": Contender("SpikingJelly", keep=True),
    "spikingjelly-last": Contender("SpikingJelly", best=True),
    "floor-unkept": Contender("Floor", best=True),
    "onnxruntime": Contender("Onnx", best=True, keep=True),
    "lsg-compiled": Contender("lsg", best=True, keep=True, backend="autograd", compiled=True),
    "spikingjelly-triton": Contender("SpikingJelly", best=True, keep=True, backend="triton"),
    "spikingjelly-cuda": Contender("SpikingJelly", best=True, keep=True, backend="cuda"),
}
# lsg with one setting changed, such as "neuron=clif"; "lif" has all of PLAIN.
PLAIN = {"neuron": "lif", "reset": "hard", "norm": "tdbn", "method": "none"}
CHOICES = {"neuron": registry.names("neuron"), "reset": ("soft", "none"), "norm": registry.names("norm")}
CHOICES |= {"method": registry.names("method")}
VARIANTS = {"lif": PLAIN} | {
    f"{key}={name}": {**PLAIN, key: name} for key, names in CHOICES.items() for name in names if name != PLAIN[key]
}
CONTENDERS |= {name: Contender("lsg", best=True, keep=True, settings=settings) for name, settings in VARIANTS.items()}
USUAL = ("lsg", "spikingjelly", "spikingjelly-best", "snntorch", "snntorch-best", "floor")


@dataclass(frozen=True)
class Case:
    """What is run.

    Args:
        network: a key of ``DEFAULTS``.
        T: timesteps.
        batch: samples in a step.
        size: pixels of a side.
        width: multiplier of all channels.
        mode: ``train`` (forward, backward, SGD with momentum), ``inference`` (lsg: with folded tdBN), or ``stream`` (inference of
            single timesteps that keep the state).
        device: ``cpu`` or ``cuda``.
    """

    network: str
    T: int
    batch: int
    size: int
    width: float = 1.0
    mode: str = "train"
    device: str = "cpu"

    def __str__(self) -> str:
        place = "" if self.device == "cpu" else f"-{self.device}"
        return f"{self.network}-w{self.width:g}-T{self.T}-b{self.batch}-{self.size}px-{self.mode}{place}"

    @property
    def title(self) -> str:
        """In words."""
        return f"{self.network} x {self.width:g}, T={self.T}, {self.size} px, batch {self.batch}, {self.mode}"


def case(network: str, mode: str = "train", width: float = 1.0, **sizes: int | None) -> Case:
    """A case of a network's usual sizes, but for those given."""
    given = {name: value for name, value in sizes.items() if value is not None}
    return Case(network, mode=mode, width=width, **{**DEFAULTS[network], **given})


class Worker:
    """A contender's process; a context manager that ends it.

    Args:
        name: of the contender.
        precision: ``fp32``, ``bf16`` (autocast), or ``int8`` (inference of lsg).
        case: what it runs.
        threads: that it may use.
    """

    def __init__(self, name: str, precision: str, case: Case, threads: int, environment: Mapping[str, str] | None = None):
        self.name, self.precision = name, precision
        job = {"contender": name, "precision": precision, "case": dataclasses.asdict(case), "threads": threads}
        pools = {f"{pool}_NUM_THREADS": str(threads) for pool in ("OMP", "MKL", "OPENBLAS", "NUMBA")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.contender", json.dumps(job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            cwd=ROOT,
            env={**os.environ, **pools, **(environment or {})},
        )

    def __str__(self) -> str:
        return f"{self.name} {self.precision}"

    def ready(self) -> dict[str, Any]:
        """Wait until it is built, and stop it."""
        return self._answer()

    def turn(self, steps: int = 1) -> dict[str, Any]:
        """Let it run some steps: seconds of each, the peak in bytes."""
        return self.ask("steps", count=steps)

    def ask(self, task: str, **arguments: Any) -> dict[str, Any]:
        """Let it do one of its tasks; see ``benchmarks.contender``."""
        assert self.process.stdin is not None
        self.process.send_signal(signal.SIGCONT)
        with contextlib.suppress(BrokenPipeError):  # it ended; the missing answer says so
            self.process.stdin.write(json.dumps({"task": task, "arguments": arguments}) + "\n")
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self}: ended with status {self.process.wait()}, see its output above")
        self.process.send_signal(signal.SIGSTOP)
        return json.loads(line)

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]
