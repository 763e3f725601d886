"""Training steps of a network for SHD-like input, 700-256-256-20 with T=100: lsg beside libraries on torch, compiled and not, and on JAX.

    pip install -e '.[bench]' norse jax spyx slax jaxpike
    python -m benchmarks.mlp                       # batch 64, 2 % of the inputs are spikes; about 6 minutes on two cores
    python -m benchmarks.mlp --rounds 15 --contenders lsg,lsg-auto,spyx

Each contender has two layers of 256 neurons behind linear layers and a linear readout, the cross-entropy of its mean over time, and SGD with
momentum, in a process of its own; their steps are timed in turns, in another order in each round. The first step has the compilation. What
differs is what a library does not have: lsg normalises with tdBN, which is more work; spyx subtracts the threshold, one timestep later, the
others reset to zero; decays are fixed except in lsg, spyx and jaxpike. No other programs should run. The record is ``mlp``.
"""

import argparse
import importlib.util
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks.bench.measuring import end_with_parent, ratio, resident_bytes, spread
from benchmarks.bench.workers import Process
from benchmarks.measuring import ROOT, machine, write
from benchmarks.tables import Table, megabytes, show

T, BATCH, SIZES, CLASSES = 100, 64, (700, 256, 256), 20
DENSITY, RATE, MOMENTUM, DECAY = 0.02, 1e-4, 0.9, 0.9
Step = Callable[[], object]


def torch_step(network: Any, forget: Callable[[Any], object], x: Any, labels: np.ndarray, compiled: bool) -> Step:
    """A step of a module of torch, (T, B, 700) -> logits (T, B, classes)."""
    import torch
    from torch.nn import functional as F

    target = torch.from_numpy(labels)
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE, momentum=MOMENTUM)
    if compiled:
        network.compile(dynamic=False)

    def step() -> None:
        F.cross_entropy(network(x).mean(0), target).backward()
        optimizer.step()
        optimizer.zero_grad()
        forget(network)

    return step


def of_lsg(x: np.ndarray, labels: np.ndarray, convolution: str = "dense") -> Step:
    """lsg's ``mlp``, with the optimisers and the context of ``lsg train``."""
    import torch

    from benchmarks.bench import steps
    from lsgcli import models
    from lsgcli.neurons import LIF
    from lsgcli.neurons.kernels.base import single_backward
    from lsgcli.system.device import CONVOLUTIONS, Convolutions
    from lsgcli.system.memory import keep_large_buffers

    keep_large_buffers()
    CONVOLUTIONS.set(Convolutions(convolution))
    network = models.build("mlp", T=T, in_channels=1, input_height=1, input_size=SIZES[0], num_classes=CLASSES)
    built = steps.Built(network, lambda _: None, lambda n: n, LIF, steps.lsg_sgd, steps.stepwise_of_lsg, single_backward)
    frames = torch.from_numpy(x)[:, :, None, None]
    return steps.train(built, frames, torch.from_numpy(labels), lambda: steps.autocast("fp32"))


def of_spikingjelly(x: np.ndarray, labels: np.ndarray, compiled: bool = False) -> Step:
    """spikingjelly's LIFNode in multi-step mode."""
    import torch
    from spikingjelly.activation_based import functional, neuron, surrogate
    from torch import nn

    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(SIZES):
        settings: dict[str, Any] = {"decay_input": False, "v_reset": 0.0, "step_mode": "m"}
        layers += [nn.Linear(inputs, outputs), neuron.LIFNode(1 / (1 - DECAY), surrogate_function=surrogate.ATan(), **settings)]
    network = nn.Sequential(*layers, nn.Linear(SIZES[-1], CLASSES))
    return torch_step(network, functional.reset_net, torch.from_numpy(x), labels, compiled)


def of_snntorch(x: np.ndarray, labels: np.ndarray, compiled: bool = False) -> Step:
    """snntorch's Leaky, stepped through time layer by layer."""
    import snntorch
    import torch
    from torch import nn

    from benchmarks.bench.peers import Stepped

    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(SIZES):
        layers += [nn.Linear(inputs, outputs), Stepped(snntorch.Leaky(beta=DECAY, reset_mechanism="zero"))]
    network = nn.Sequential(*layers, nn.Linear(SIZES[-1], CLASSES))
    return torch_step(network, lambda _: None, torch.from_numpy(x), labels, compiled)


def of_norse(x: np.ndarray, labels: np.ndarray, compiled: bool = False) -> Step:
    """norse's LIF without a synaptic current, over sequences."""
    import torch
    from norse.torch import LIFBoxCell, Lift
    from torch import Tensor, nn

    class Over(Lift):  # type: ignore[misc]
        def forward(self, x: Tensor) -> Tensor:
            spikes, _ = super().forward(x)
            return spikes  # type: ignore[no-any-return]

    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(SIZES):
        layers += [nn.Linear(inputs, outputs), Over(LIFBoxCell())]
    network = nn.Sequential(*layers, nn.Linear(SIZES[-1], CLASSES))
    return torch_step(network, lambda _: None, torch.from_numpy(x), labels, compiled)


def of_spyx(x: np.ndarray, labels: np.ndarray) -> Step:
    """spyx's LIF, with its surrogate boxcar, through a scan over time."""
    import jax
    import optax
    from flax import nnx
    from spyx import axn, nn

    rngs = nnx.Rngs(0)
    layers: list[Any] = []
    for inputs, outputs in pairwise(SIZES):
        layers += [nnx.Linear(inputs, outputs, rngs=rngs), nn.LIF((outputs,), beta=DECAY, activation=axn.boxcar(), rngs=rngs)]
    network = nn.Sequential(*layers, nnx.Linear(SIZES[-1], CLASSES, rngs=rngs))
    optimizer = nnx.Optimizer(network, optax.sgd(RATE, MOMENTUM), wrt=nnx.Param)

    def loss_of(network: Any, x: Any, labels: Any) -> Any:
        logits, _ = nn.run(network, x)
        return optax.softmax_cross_entropy_with_integer_labels(logits.mean(0), labels).mean()

    @nnx.jit
    def update(network: Any, optimizer: Any, x: Any, labels: Any) -> Any:
        loss, gradients = nnx.value_and_grad(loss_of)(network, x, labels)
        optimizer.update(network, gradients)
        return loss

    return lambda: jax.block_until_ready(update(network, optimizer, x, labels))


def of_jaxpike(x: np.ndarray, labels: np.ndarray) -> Step:
    """jaxpike's LIF, whose linear layers have all timesteps at once."""
    import equinox as eqx
    import jax
    import optax
    from jaxpike import execution, layers, neurons, surrogate, training

    key, parts = jax.random.key(0), []
    for inputs, outputs in pairwise(SIZES):
        lif = neurons.LIF(10.0, reset="zero", surrogate=surrogate.Boxcar())
        parts += [layers.Dense(inputs, outputs, key=key, gain=10.0), lif]
    network = layers.Sequential(*parts, layers.Dense(SIZES[-1], CLASSES, key=key))
    optimizer = optax.sgd(RATE, MOMENTUM)
    state = optimizer.init(eqx.filter(network, eqx.is_inexact_array))

    def loss_of(network: Any, x: Any, labels: Any) -> Any:
        logits, _ = execution.unroll(network, x)
        return training.cross_entropy(logits.mean(0), labels), None

    update = training.make_step(loss_of, optimizer)

    def step() -> None:
        nonlocal network, state
        network, state, loss, _ = update(network, state, x, labels)
        jax.block_until_ready(loss)

    return step


def of_slax(x: np.ndarray, labels: np.ndarray) -> Step:
    """slax's LIF, trained by its own loop over whole sequences, without unrolling it."""
    import flax.linen as nn
    import jax
    import optax
    import slax

    decay = float(np.log(DECAY / (1 - DECAY)))
    layers: list[Any] = []
    for size in SIZES[1:]:
        layers += [nn.Dense(size), slax.LIF(decay, subtraction_reset=False)]
    network = slax.connect([*layers, nn.Dense(CLASSES)])
    variables = network.init(jax.random.key(0), x[0])
    optimizer = optax.sgd(RATE, MOMENTUM)
    state = optimizer.init(variables["params"])

    def loss_of(logits: Any, labels: Any) -> Any:
        return optax.softmax_cross_entropy_with_integer_labels(logits.mean(0), labels)

    update = jax.jit(lambda v, s: slax.train_offline(network, loss_of, optimizer)(v, (x, labels), s, unroll=1))

    def step() -> None:
        nonlocal variables, state
        variables, state, _, loss = update(variables, state)
        jax.block_until_ready(loss)

    return step


# Name -> (package, what builds its step).
CONTENDERS: dict[str, tuple[str, Callable[[np.ndarray, np.ndarray], Step]]] = {
    "lsg": ("torch", of_lsg),
    "lsg-auto": ("torch", lambda x, labels: of_lsg(x, labels, "auto")),
    "spikingjelly": ("spikingjelly", of_spikingjelly),
    "spikingjelly-compiled": ("spikingjelly", lambda x, labels: of_spikingjelly(x, labels, compiled=True)),
    "snntorch": ("snntorch", of_snntorch),
    "norse": ("norse", of_norse),
    "spyx": ("spyx", of_spyx),
    "slax": ("slax", of_slax),
    "jaxpike": ("jaxpike", of_jaxpike),
}


def contend(name: str) -> None:
    """The process of a contender: take as many steps as each line of stdin says; the first line of stdout has the time of the first step."""
    end_with_parent()
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not end up among the answers
    chance = np.random.default_rng(0)
    x = (chance.random((T, BATCH, SIZES[0])) < DENSITY).astype(np.float32)
    step = CONTENDERS[name][1](x, chance.integers(0, CLASSES, BATCH))
    begin = time.perf_counter()
    step()
    print(json.dumps({"first": time.perf_counter() - begin}), file=answers)
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            begin = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - begin)
        print(json.dumps({"seconds": statistics.median(seconds), "peak_bytes": resident_bytes()}), file=answers)


def tables(record: dict[str, Any]) -> list[Table]:
    """Times and memory of all, and their times over those of lsg."""
    title = f"700-256-256-20, T={T}, batch {BATCH}, {100 * DENSITY:g} % spikes; {record['rounds']} rounds, {record['threads']} threads"
    ours = [name for name in ("lsg", "lsg-auto") if name in record["contenders"]]
    table = Table(
        title, ["contender", "ms", "quartiles", "samples/s", "first step, s", "peak MB", *(f"time / {name}" for name in ours)]
    )
    for name, found in record["contenders"].items():
        of = found["seconds"]
        row: list[Any] = [name, 1e3 * of["median"], f"{1e3 * of['low']:.3g} to {1e3 * of['high']:.3g}", BATCH / of["median"]]
        row += [found["first"], megabytes(found["peak_bytes"])]
        for own in ours:
            over = ratio(found["every_round"], record["contenders"][own]["every_round"])
            row.append(f"{over['ratio']:.2f} ({over['low']:.2f} to {over['high']:.2f})")
        table.rows.append(row)
    return [table]


def main() -> None:
    """Race, print the table and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument(
        "--contenders", default=",".join(CONTENDERS), help="comma-separated; those whose package is not installed are left out"
    )
    parser.add_argument("--contend", choices=list(CONTENDERS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contend:
        return contend(options.contend)
    names = [name for name in options.contenders.split(",") if importlib.util.find_spec(CONTENDERS[name][0])]
    threads = len(os.sched_getaffinity(0))
    facts = machine("spikingjelly", "snntorch", "norse", "jax", "spyx", "slax", "jaxpike", "numba")
    seconds: dict[str, list[float]] = {name: [] for name in names}
    found: dict[str, dict[str, Any]] = {}
    with ExitStack() as stack:
        workers = {}
        for name in names:
            command = [sys.executable, "-m", "benchmarks.mlp", "--contend", name]
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            workers[name] = stack.enter_context(Process(name, command, threads, environment))
            found[name] = workers[name].answer()
        for round_ in range(-1, options.rounds):
            for name in random.Random(round_).sample(names, len(names)):
                turn = workers[name].ask("5")
                if round_ >= 0:
                    seconds[name].append(turn["seconds"])
                found[name]["peak_bytes"] = turn["peak_bytes"]
    contenders = {name: {**found[name], "seconds": spread(seconds[name]), "every_round": seconds[name]} for name in names}
    record = {"machine": facts, "rounds": options.rounds, "threads": threads, "contenders": contenders}
    write("mlp", record)
    show(tables(record))


if __name__ == "__main__":
    main()
