"""Memory and time of a training step by levels of ``--memory``, beside spikingjelly's memopt.

    python -m benchmarks.memory                  # VGGSNN (T=10, 48 px), resnet19 and qkformer (T=4, 32 px), fp32; about 20 minutes on two cores
    python -m benchmarks.memory --network vggsnn --batch 16 --rounds 9

The peak of activations is the largest sum, during forward and backward pass, of what torch allocates, without weights and their gradients: a
deterministic count. Steps of all levels are timed in turns. The peak of the process, with interpreter, libraries, weights and what the C library
keeps, is that of a process of its own after two steps. memopt runs its level 1 only on CPUs; it refuses levels 2 to 4 without a CUDA
device. No other programs should run. The record is ``memory-<precision>``; networks that a command leaves out
keep theirs, if the batch is the same.
"""

import argparse
import multiprocessing
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.bench.measuring import resident_bytes
from benchmarks.measuring import counted, interleaved, machine, read, write
from benchmarks.tables import Table, megabytes, show
from lsgcli.config.run import RunConfig
from lsgcli.data.batches import Batch
from lsgcli.system.device import Compute
from lsgcli.system.memory import keep_large_buffers, release_unused
from lsgcli.training.initialise import new_model
from lsgcli.training.losses import gradients

SIZES = {"vggsnn": (10, 48), "resnet19": (4, 32), "qkformer": (4, 32)}  # T, pixels of a side
LEVELS = ("none", "bits")
PEER, MEMOPT = "spikingjelly", "spikingjelly, memopt level 1"
Step = Callable[[], Any]


def given(network: str, samples: int, precision: str) -> tuple[RunConfig, Batch]:
    """Settings, and a batch: frames of two channels for vggsnn, images for the others."""
    T, size = SIZES[network]
    config = RunConfig(arch=network, T=T, size=size, batch_size=samples, precision=precision)
    torch.manual_seed(0)
    frames = network == "vggsnn"
    x = torch.rand(T, samples, 2, size, size) if frames else torch.randn(samples, 3, size, size)
    return config, Batch(x, torch.arange(samples) % 10, 0)


def step_of(model: nn.Module, config: RunConfig, batch: Batch, compute: Compute) -> Step:
    """A forward and backward pass of lsg, after which gradients are kept and set to zero."""

    def step() -> None:
        gradients(model, batch, config, compute)
        model.end_step()  # type: ignore[operator]
        for p in model.parameters():
            if p.grad is not None:
                p.grad.zero_()

    return step


def built(network: str, samples: int, precision: str, level: str) -> tuple[nn.Module, Step]:
    """A network of lsg with a level of ``--memory``, and its step."""
    config, batch = given(network, samples, precision)
    config = config.replace(memory=level)
    model = new_model(config, 10, batch.x.shape[-3]).train()
    return model, step_of(model, config, batch, Compute(torch.device("cpu"), precision))


def built_peer(network: str, samples: int, precision: str, optimised: bool) -> tuple[nn.Module, Step]:
    """A network of spikingjelly and its step; the layers or blocks with neurons are checkpointed if ``optimised``.

    Raises:
        ImportError: spikingjelly, or its memopt, is not installed.
    """
    from benchmarks.bench import library, peers

    _, batch = given(network, samples, precision)
    T, size = SIZES[network]
    kit = peers.SpikingJelly(best=True)
    model = {**peers.NETWORKS, **library.NETWORKS}[network](kit, T, size, 1.0).train()
    half = precision == "bf16"

    def forward(net: nn.Module) -> torch.Tensor:
        kit.forget(net)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            return net(batch.x).float()  # type: ignore[no-any-return]

    if optimised:
        from spikingjelly.activation_based import memopt

        targets = (peers.Layer, library.Embedding) if network != "qkformer" else (peers.Layer,)
        memopt.optimize_memory(model, targets, forward, level=1)

    def step() -> None:
        F.cross_entropy(forward(model).mean(0), batch.y).backward()
        for p in model.parameters():
            if p.grad is not None:
                p.grad.zero_()

    return model, step


def peak_of(step: Step) -> int:
    """Bytes of activations at the peak of a step that is not the first."""
    with counted(Compute(torch.device("cpu"))) as found:
        step()
    return found[0]


def process_bytes(make: Callable[..., tuple[nn.Module, Step]], *arguments: Any) -> int:
    """Peak memory of a new process after two steps, in bytes."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_resident, (make, *arguments))


def _resident(make: Callable[..., tuple[nn.Module, Step]], *arguments: Any) -> int:
    keep_large_buffers()
    _, step = make(*arguments)
    step()
    release_unused()
    step()
    return resident_bytes()


def measure(network: str, samples: int, precision: str, rounds: int) -> dict[str, Any]:
    """Contender -> seconds, peak of activations, and peak of the process."""
    makers: dict[str, tuple[Any, ...]] = {level: (built, network, samples, precision, level) for level in LEVELS}
    facts: dict[str, dict[str, Any]] = {}
    makers |= {PEER: (built_peer, network, samples, precision, False), MEMOPT: (built_peer, network, samples, precision, True)}
    steps: dict[str, Step] = {}
    for name, (make, *arguments) in makers.items():
        print(f"{network}: peaks of {name}", file=sys.stderr)
        try:
            _, steps[name] = make(*arguments)
            steps[name]()  # allocates gradients
        except Exception as error:  # of another library
            steps.pop(name, None)
            facts[name] = {"skipped": f"{type(error).__name__}: {error}"}
            continue
        process = process_bytes(make, *arguments)
        facts[name] = {"peak_bytes": peak_of(steps[name]), "process_bytes": process}
    print(f"{network}: timing", file=sys.stderr)
    for name, seconds in interleaved(steps, rounds, warm=0).items():
        facts[name]["seconds"] = seconds
    return facts


def tables(record: dict[str, Any]) -> list[Table]:
    """Peaks and time of each contender, relative to none."""
    title = f"batch {record['batch']}, {record['precision']}"
    head = ("network", "", "activations MB", "ratio", "process MB", "s per step", "time ratio")
    table = Table(title, head)
    for network, found in record["networks"].items():
        base = found["none"]
        for name, one in found.items():
            if "skipped" in one:
                table.rows.append((network, name, one["skipped"]))
                continue
            time = one["seconds"]["median"]
            ratios = f"{one['peak_bytes'] / base['peak_bytes']:.2f} x", f"{time / base['seconds']['median']:.2f} x"
            peaks = megabytes(one["peak_bytes"]), megabytes(one["process_bytes"])
            table.rows.append((network, name, peaks[0], ratios[0], peaks[1], time, ratios[1]))
    return [table]


def main() -> None:
    """Measure all levels and networks, print the table and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=sorted(SIZES), action="append", help="can be given several times; default: all")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    keep_large_buffers()
    name = f"memory-{options.precision}"
    before = read(name) or {}
    record: dict[str, Any] = {
        "machine": machine("spikingjelly", "numba"),
        "batch": options.batch,
        "precision": options.precision,
        "networks": before["networks"] if before.get("batch") == options.batch else {},
    }
    for network in options.network or SIZES:
        record["networks"][network] = measure(network, options.batch, options.precision, options.rounds)
        path = write(name, record)
    show(tables(record))
    print(path, file=sys.stderr)


if __name__ == "__main__":
    main()
