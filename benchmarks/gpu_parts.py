"""What ``benchmarks.gpu`` measures: each function runs one part and yields its record, the last one complete."""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.bench.cases import Case, case
from benchmarks.bench.peers import NETWORKS
from benchmarks.bench.race import race
from benchmarks.bench.steps import inputs
from benchmarks.bench.workers import Worker
from benchmarks.measuring import ROOT
from benchmarks.scaling import slope
from lsgcli import models
from lsgcli.errors import LsgError
from lsgcli.neurons.kernels.selftest import compare
from tests.unit.neurons.cases import against_reference, random_case

Record = dict[str, Any]
CONTENDERS = ("lsg", "lsg-reference", "lsg-compiled", "spikingjelly-triton", "spikingjelly-cuda", "snntorch-best", "floor")
METHODS = ("fixed", "trainable-decay", "lsg")
EXACT = 1e-10  # largest relative difference in float64
# In other types: at most FACTOR times the difference of ``reference`` in the same type, or the floor.
FACTOR, FLOOR = 1.25, {"spikes": 1e-3, "gradient": 0.05}


@dataclasses.dataclass(frozen=True)
class Run:
    """How the parts run: on the card, or at toy size on the CPU in a rehearsal.

    Attributes:
        deadline: in seconds of ``time.monotonic``.
        data_dir: of CIFAR-10; None for ``data/``.
    """

    out: Path
    rehearse: bool
    deadline: float
    data_dir: str | None = None

    @property
    def device(self) -> str:
        """Of networks and tests."""
        return "cpu" if self.rehearse else "cuda"

    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()

    def case(self, network: str, mode: str = "train", **sizes: int) -> Case:
        """A case at the paper's size and the batch of its preset, or a toy."""
        if self.rehearse:
            return case(network, mode, 1 / 32, **{"T": 2, "batch": 2, "size": 16, **sizes})
        found = case(network, mode, **{"batch": 32 if network == "vggsnn" else 128, **sizes})
        return dataclasses.replace(found, device="cuda")


class OutOfTime(Exception):
    """The deadline passed."""


def tests(run: Run) -> Iterator[Record]:
    """All tests marked ``cuda``; in a rehearsal those of the command line, on the CPU."""
    report = run.out / "tests.xml"
    where = ["tests/cli/test_cuda.py"] if run.rehearse else []
    words = [sys.executable, "-m", "pytest", "-q", "-m", "cuda", "-p", "no:cacheprovider", f"--junitxml={report}", *where]
    environment = {**os.environ, "LSGCLI_TEST_DEVICE": run.device}
    begin = time.monotonic()
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(words, cwd=ROOT, env=environment, stdout=sys.stderr, timeout=max(1.0, run.left()), check=False)
    if not report.exists():
        raise OutOfTime
    suite = ElementTree.parse(report).getroot()[0]
    failed = [f"{one.get('classname')}::{one.get('name')}" for one in suite if one.find("failure") is not None]
    counts = {key: int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped")}
    yield {**counts, "failed": failed, "seconds": time.monotonic() - begin}


def random_layers(run: Run) -> Iterator[Record]:
    """Random layers against ``reference`` in float64: spikes must be equal, gradients agree within 2e-4 of the largest."""
    backend, count = ("fused", 3) if run.rehearse else ("compiled", 200)
    found: Record = {"backend": backend, "cases": count, "equal": 0, "differ": 0, "passed_over": 0, "which": []}
    for seed in range(count):
        if run.left() <= 0:
            raise OutOfTime
        one = random_case(seed)
        wrong = against_reference(one, backend, run.device)
        found["passed_over" if wrong is None else "differ" if wrong else "equal"] += 1
        if wrong:
            found["which"].append(f"{seed}: {one}: {'; '.join(wrong)}")
    yield found


def networks(run: Run) -> Iterator[Record]:
    """Spikes and gradients of the networks with all channels, of ``compiled`` in three types against ``reference`` in float64; a rehearsal runs ``fused``."""
    rows: list[Record] = []
    for network in NETWORKS:
        which = run.case(network, batch=2 if run.rehearse else 8)
        backend = "fused" if run.rehearse else "compiled"
        exact = outcome(which, "reference", torch.float64)
        for name in ("float64", "float32", "bfloat16"):
            peer = compared(outcome(which, "reference", getattr(torch, name)), exact)
            found = compared(outcome(which, backend, getattr(torch, name)), exact)
            passed = within(name, found, peer)
            rows.append({"network": network, "type": name, "backend": backend, **found, "reference": peer, "passed": passed})
            yield {"rows": rows}


def within(type_: str, found: Record, peer: Record) -> bool:
    """Whether differences from float64 are those of rounding, given those of ``reference`` in the same type."""
    if type_ == "float64":
        return found["spikes"] == 0 and found["gradient"] < EXACT
    return all(found[key] <= max(floor, FACTOR * peer[key]) for key, floor in FLOOR.items())


def selftest(run: Run) -> Iterator[Record]:
    """The self-test of ``compiled``, which every process repeats before it uses the backend on a CUDA device."""
    yield {"results": [result._asdict() for result in compare("compiled", torch.device(run.device))]}


def outcome(which: Case, backend: str, dtype: torch.dtype) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs of the blocks with neurons, and gradients of a training step; convolutions in ``dtype``, without TF32."""
    torch.manual_seed(0)
    sizes = {"T": which.T, "in_channels": which.channels, "input_size": which.size, "width_multiplier": which.width}
    model = models.build(which.network, **sizes, backend=backend).to(which.device)
    wide = torch.promote_types(dtype, torch.float32)
    model = model.to(wide).train()
    spikes: list[Tensor] = []
    for layer in model.spiking_layers():
        if layer.block is not None:
            layer.block.register_forward_hook(lambda module, args, out: spikes.append(out.detach().double()))
    x, labels = (tensor.to(which.device) for tensor in inputs(which))
    with torch.backends.cudnn.flags(allow_tf32=False), torch.autocast(which.device, torch.bfloat16, enabled=dtype != wide):
        loss = F.cross_entropy(model(x.to(wide)).to(wide).mean(0), labels)
        loss.backward()
    return spikes, [p.grad.double() for p in model.parameters() if p.grad is not None]


def compared(found: Any, exact: Any) -> Record:
    """Share of outputs that differ, and relative difference of the gradient of all parameters, by L2 norm."""
    (spikes, gradients), (exact_spikes, exact_gradients) = found, exact
    differ = sum(int((a != b).sum()) for a, b in zip(spikes, exact_spikes, strict=True))
    squares = [((a - b).square().sum(), b.square().sum()) for a, b in zip(gradients, exact_gradients, strict=True)]
    distance, length = (float(torch.stack(one).sum().sqrt()) for one in zip(*squares, strict=True))
    return {"spikes": differ / sum(one.numel() for one in exact_spikes), "gradient": distance / length}


def raced(run: Run, network: str, precision: str, mode: str) -> Iterator[Record]:
    """A race of training or inference steps."""
    names = ("lsg", "floor") if run.rehearse else CONTENDERS
    rounds = 2 if run.rehearse else 15
    threads = 1 if run.rehearse else None
    entries = [(name, precision) for name in names]
    records = race(run.case(network, mode), entries, rounds=rounds, warm=1, threads=threads, skip_failing=True)
    with contextlib.closing(records):  # ends the contenders
        for last in records:
            found = last
            if run.left() < 0:
                break
    yield found


def kernels(run: Run) -> Iterator[Record]:
    """Time of each kernel in a training step."""
    rows: list[Record] = []
    for network in NETWORKS:
        which = run.case(network)
        with Worker("lsg", "bf16", which, 1) as worker:
            worker.ready()
            found = worker.task("benchmarks.profiling:kernels", count=2 if run.rehearse else 10)
        rows.append({"case": dataclasses.asdict(which), **found})
        yield {"rows": rows}


def memory(run: Run) -> Iterator[Record]:
    """Peak memory of a training step at several T, and per additional timestep."""
    peaks: dict[str, dict[str, int]] = {}
    steps = (2, 4) if run.rehearse else (4, 8, 16)
    for name in ("lsg",) if run.rehearse else ("lsg", "lsg-reference", "spikingjelly-triton", "floor"):
        for T in steps:
            with contextlib.suppress(LsgError), Worker(name, "bf16", run.case("vggsnn", T=T), 1) as worker:
                worker.ready()
                peaks.setdefault(name, {})[str(T)] = worker.turn(2)["peak_bytes"]
                yield {"peaks": peaks}
    added = {name: slope([float(t) for t in of], list(of.values())) for name, of in peaks.items() if len(of) > 1}
    yield {"peaks": peaks, "bytes_per_timestep": added}


def rates(run: Run) -> Iterator[Record]:
    """What the card reaches: bytes per second of a copy, and FLOP/s of a matrix product and of a convolution in bf16."""
    size = 64 if run.rehearse else 8192
    source = torch.zeros(size * size, device=run.device)
    target = torch.empty_like(source)
    a = torch.randn(size, size, device=run.device).to(torch.bfloat16)
    images = torch.randn(8 if run.rehearse else 320, 256, 12, 12, device=run.device).to(torch.bfloat16)
    images = images.to(memory_format=torch.channels_last)
    conv = nn.Conv2d(256, 256, 3, padding=1, bias=False, device=run.device, dtype=torch.bfloat16)
    conv = conv.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    operations = 2 * conv.weight.numel() * images.numel() / 256
    with torch.no_grad():
        yield {
            "copy_bytes_per_s": 2 * source.nbytes / seconds(run, lambda: target.copy_(source)),
            "matmul_flops": 2 * size**3 / seconds(run, lambda: a @ a),
            "convolution_flops": operations / seconds(run, lambda: conv(images)),
        }


def seconds(run: Run, work: Any, count: int = 20) -> float:
    """Seconds of a call, over ``count`` calls."""
    wait = torch.cuda.synchronize if run.device == "cuda" else lambda: None
    for _ in range(3):
        work()
    wait()
    begin = time.perf_counter()
    for _ in range(count):
        work()
    wait()
    return (time.perf_counter() - begin) / count


def table1(run: Run, before: Mapping[str, Any]) -> Iterator[Record]:
    """The paper's Table 1 on CIFAR-10 with all channels, one seed, for as many epochs as fit; the same number when continued."""
    options = ["--dataset", "cifar10", "--arch", "resnet19", "-T", "2", "--width-multiplier", "1", "--device", "cuda"]
    if run.rehearse:
        options = ["--dataset", "digits-dvs", "-T", "2", "--size", "16", "--width-multiplier", "0.03125", "--device", "cpu"]
        options += ["--threads", "1", "--precision", "fp32"]
    options += ["--data-dir", run.data_dir] if run.data_dir else []
    epochs = before.get("epochs")
    if epochs is None:
        cost = json.loads(_lsg(run, "train", *options, "--dry-run", "--json", "-q"))
        of_all = run.left() / len(METHODS) / (1.3 * cost["seconds_per_epoch"])  # evaluation and reports take time as well
        epochs = 1 if run.rehearse else max(1, min(300, int(of_all)))
    found = {"epochs": epochs, "options": options}
    yield found
    words = ["ablate", "--table", "1", *options, "--seeds", "0", "--epochs", str(epochs), "--out", str(run.out / "table1")]
    yield {**found, "table": json.loads(_lsg(run, *words, "--json", "-q"))}


def _lsg(run: Run, *words: str) -> str:
    command = [sys.executable, "-m", "lsgcli", *words]
    try:
        # SIGTERM lets `lsg` save its state.
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        output, _ = process.communicate(timeout=max(1.0, run.left()))
    except subprocess.TimeoutExpired:
        process.terminate()
        process.wait()
        raise OutOfTime from None
    if process.returncode:
        raise SystemExit(f"lsg {words[0]}: status {process.returncode}, see its output above")
    return output
