"""Time of a layer of neurons, forward and backward: parallel neurons beside LIF in the fused kernels.

    python -m benchmarks.parallel

A layer of tdBN and 64 x 16 x 16 neurons, with a batch of 8, at T = 10, 32 and 100; interleaved, in one process with all its threads. Writes
``parallel``.
"""

import argparse
from typing import Any

import torch

from benchmarks.measuring import interleaved, machine, write
from benchmarks.tables import Table, show
from lsgcli.neurons import LIF, TdBatchNorm2d

SHAPE = (8, 64, 16, 16)  # B, C, H, W
LAYERS: dict[str, dict[str, Any]] = {
    "lif": {},
    "lif, no reset": {"reset": "none"},
    "psu-lif": {"neuron": "psu-lif"},
    "psn": {"neuron": "psn"},
    "masked-psn, k=2": {"neuron": "masked-psn"},
    "sliding-psn, k=2": {"neuron": "sliding-psn"},
    "sliding-psn, k=32": {"neuron": "sliding-psn", "order": 32},
    "clif, stepwise": {"neuron": "clif"},
}


def step(T: int, settings: dict[str, Any]) -> Any:
    """A function that runs a layer forward and backward."""
    norm = TdBatchNorm2d(SHAPE[1])
    lif = LIF(steps=T, channels=SHAPE[1], norm=norm, **settings)
    z = torch.randn(T, *SHAPE).flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, (T, SHAPE[0]))
    z.requires_grad_()
    grad = torch.randn_like(z)

    def run() -> None:
        # A view, so that the kernels may not overwrite the input.
        lif.normalise_and_fire(norm.parameters_for(z), z.view_as(z)).backward(grad)

    return run


def tables(record: dict[str, Any]) -> list[Table]:
    """Time of a layer by neurons and timesteps."""
    table = Table("Milliseconds of a layer, forward and backward", ("neurons", "T", "ms", "quartiles", "x fused LIF"))
    for T, found in record["times"].items():
        for name, timing in found.items():
            spread = f"{1e3 * timing['low']:.1f} to {1e3 * timing['high']:.1f}"
            table.rows.append((name, T, 1e3 * timing["median"], spread, timing["median"] / found["lif"]["median"]))
    return [table]


def main() -> None:
    """Parse arguments, measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    times = {
        str(T): interleaved({name: step(T, settings) for name, settings in LAYERS.items()}, rounds, warm=2)
        for T in (10, 32, 100)
    }
    record = {**machine("numba"), "shape": SHAPE, "threads": torch.get_num_threads(), "times": times}
    show(tables(record))
    write("parallel", record)


if __name__ == "__main__":
    main()
