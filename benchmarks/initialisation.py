"""Networks without normalisation: how they start with each ``--init``, and experiment E11 of benchmarks/plans.md, what they then learn.

    python -m benchmarks.initialisation start                                      # plain networks of 8 to 100 layers, layer by layer
    python -m benchmarks.initialisation rates                                      # VGGSNN, ResNet-19 and MLP, with pools and without, layer by layer
    python -m benchmarks.initialisation train --networks plain-8 ms-8              # a piece of E11
    python -m benchmarks.initialisation train --batch-size 4 --rows "tdBN, lsg"
    python -m benchmarks.initialisation train --data images --data-dir FOLDER      # CIFAR-10's images, train/<class>/ and test/<class>/
    python -m benchmarks.initialisation steps                                      # processor time of a training step, dense and auto
    python -m benchmarks.initialisation show

Each training is added to the record ``evidence-initialisation`` when it ends; a repeated command continues. ``start`` writes
the record ``initialisation``, of which ``docs/figures.py`` draws a figure, ``rates`` writes ``initialisation-rates``, and
``steps`` writes ``initialisation-steps``.
"""

import argparse
import dataclasses
import functools
import itertools
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from benchmarks.measuring import interleaved, machine, read, write
from benchmarks.remedies import Records
from benchmarks.tables import Table, show
from lsgcli.models.base import NetworkSpec, SpikingNet
from lsgcli.models.layers import SpikingConv, at_each_step
from lsgcli.models.mlp import MLP
from lsgcli.models.ms_resnet import MsBlock, MsResNet
from lsgcli.models.resnet19 import STAGES, ResNet19
from lsgcli.models.vggsnn import VGGSNN
from lsgcli.registry import register
from lsgcli.sweeps.statistics import compared

if TYPE_CHECKING:
    from lsgcli.config.run import RunConfig
    from lsgcli.data.bundle import DataBundle
    from lsgcli.system.device import Compute

ADAPTIVE = {"norm": "none", "method": "adaptive"}
BASELINE = "tdBN, lsg"
ROWS: dict[str, dict[str, Any]] = {
    BASELINE: {"norm": "tdbn", "method": "lsg"},
    "kaiming, lsg": {"norm": "none", "method": "lsg"},
    "measured, lsg": {"norm": "none", "method": "lsg", "init": "measured"},
    **{f"{init}, adaptive": {**ADAPTIVE, "init": init} for init in ("spikeinit", "measured", "micheli", "ding", "fluctuation")},
}
PLAIN = {"arch": "resnet19", "residual": "none"}
NETWORKS: dict[str, dict[str, Any]] = {
    f"{kind}-{layers}": {**network, "depth": layers + 1}
    for layers in (8, 20, 34)
    for kind, network in (("plain", PLAIN), ("ms", {"arch": "ms-resnet-of-depth"}))
}
DATA: dict[str, dict[str, Any]] = {
    "digits-dvs": {"dataset": "digits-dvs", "size": 16, "width_multiplier": 0.125, "epochs": 8, "optimizer": "adamw"},
    "images": {
        "dataset": "image-folder",
        "T": 4,
        "width_multiplier": 0.125,
        "epochs": 5,
        "val_fraction": 0.1,
        "optimizer": "adamw",
    },
}
RATES = (2e-3, 6e-3)  # learning rates at a batch size of 32; others in proportion
BATCH = 32
SEEDS = range(3)
LAYERS = (8, 20, 34, 100)  # of the networks that are only started
INITS = ("kaiming", "spikeinit", "measured", "micheli", "ding", "fluctuation")
STARTED: dict[str, dict[str, Any]] = {
    "VGGSNN": {"arch": "vggsnn"},
    "VGGSNN, strides": {"arch": "vggsnn-of-strides"},
    "ResNet-19, pools": {"arch": "resnet19-of-pools"},
    "ResNet-19": {"arch": "resnet19"},
    "Max-ResNet-18": {"arch": "max-resnet18"},
    "MLP, pool": {"arch": "mlp-of-pools", "width_multiplier": 1.0},
    "MLP": {"arch": "mlp", "width_multiplier": 1.0},
}
FRAMES: dict[str, Any] = {
    "dataset": "digits-dvs",
    "size": 32,
    "T": 10,
    "decay": 0.5,
    "threshold": 0.5,
    "width_multiplier": 0.25,
    "norm": "none",
}
SHARE = 0.8  # of the best validation accuracy, until which steps are counted


class DeepMsResNet(MsResNet):
    """MS-ResNet with the stages and the ``depth`` of resnet19."""

    has_residual: ClassVar = True

    def __init__(self, spec: NetworkSpec):
        count = (spec.depth - 3) // 2
        super().__init__(spec, MsBlock, [(full, (count + 2 - s) // 3, stride) for s, (full, stride) in enumerate(STAGES)])
        for _, block in self.blocks():
            last = block.second
            (last.conv if spec.norm == "none" else last.norm).weight.data.zero_()


class StridedVGGSNN(VGGSNN):
    """VGGSNN, with strides of the convolutions in place of the pools behind them."""

    def __init__(self, spec: NetworkSpec):
        super().__init__(spec)
        for block, following in itertools.pairwise((*self.features, None)):
            if block.pool is not None:
                block.pool = None
                block.current.conv.stride = (2, 2)
                if following is not None:
                    following.current.levels = 1


class PooledResNet19(ResNet19):
    """ResNet-19, with average pools of 2x2 between its stages in place of strides."""

    def __init__(self, spec: NetworkSpec):
        super().__init__(spec)
        self.pooled = [stage[0] for stage in self.stages[1:]]  # type: ignore[index]
        for block in self.pooled:
            for part in (block.first.current, block.shortcut):
                part.conv.stride = (1, 1)
                part.levels = 4

    def run_block(self, block: nn.Module, x: Tensor, *others: Any) -> Tensor:
        """Run a block, behind a pool if it is the first one of its stage."""
        if block in self.pooled:
            x = at_each_step(nn.AvgPool2d(2), x)
        return super().run_block(block, x, *others)


class PooledMLP(MLP):
    """MLP whose second layer receives averages over each four neurons of the first."""

    def __init__(self, spec: NetworkSpec):
        super().__init__(spec)
        channels = self.hidden[0].out.channels
        self.hidden[1] = SpikingConv(spec, spec.spikes(channels // 4, averaged=4), channels, kernel=1)
        self.initialise_weights()

    def run_block(self, block: nn.Module, x: Tensor, *others: Any) -> Tensor:
        """Run a layer."""
        if block is self.hidden[1]:
            x = x.unflatten(2, (-1, 4)).mean(3)
        return super().run_block(block, x, *others)


def fresh(settings: Mapping[str, Any]) -> "tuple[SpikingNet, DataBundle, RunConfig, Compute]":
    """A network with the weights that its run starts from, and its run's data, settings and device."""
    from lsgcli.config.resolve import resolve
    from lsgcli.data.batches import batches
    from lsgcli.runs.run import data_of
    from lsgcli.system.device import set_up
    from lsgcli.training.initialise import new_model
    from lsgcli.training.scale import SAMPLES, draw_weights

    config = resolve(settings, environment={})
    bundle, compute = data_of(config, test=False), set_up(config)
    model: SpikingNet = new_model(config, len(bundle.classes), bundle.channels, bundle.height)
    if config.init != "kaiming":
        draw_weights(model, config, next(iter(batches(bundle, "train", SAMPLES, seed=config.seed, shuffle=True))).x)
    return model, bundle, config, compute


def begun(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Gradient flow of a network before its first step."""
    from lsgcli.runs.flow import full_flow

    model, bundle, config, compute = fresh(settings)
    return full_flow(model, bundle, config, compute)


def rates() -> dict[str, Any]:
    """Firing rates by layer, on samples that the weights were not drawn for, of networks before their first step."""
    import torch

    from lsgcli.data.batches import batches
    from lsgcli.training.scale import SAMPLES

    found: dict[str, Any] = {}
    for (name, network), init in itertools.product(STARTED.items(), INITS):
        model, bundle, _, _ = fresh({**FRAMES, **network, "init": init, "threads": 1})
        batch = next(iter(batches(bundle, "val", SAMPLES, seed=0, shuffle=True)))
        fired: dict[str, float] = {}
        for layer in model.spiking_layers():
            layer.lif.register_forward_hook(
                lambda lif, x, out, name=layer.name, fired=fired: fired.update({name: float((out > 0).float().mean())})
            )
        with torch.no_grad():
            model.eval()(batch.x)
        found[f"{name}; {init}"] = " ".join(f"{rate:.3f}" for rate in fired.values())
        print(f"{name}, {init}: {found[f'{name}; {init}']}", flush=True)
    return {"machine": machine(), "settings": FRAMES, "rates": found}


def rates_table(found: Mapping[str, str]) -> Table:
    """The lowest and the highest firing rate of a layer, by initialisation, beside the wanted one."""
    wanted = {"micheli": f"{statistics.NormalDist().cdf(-FRAMES['threshold']):.3f}", "kaiming": "-", "ding": "-"}
    table = Table("Lowest and highest firing rate of a layer before training", ("", "wanted", *STARTED))
    for init in INITS:
        layers = [[float(rate) for rate in found[f"{name}; {init}"].split()] for name in STARTED]
        cells = [f"{min(one):.3f} to {max(one):.3f}" for one in layers]
        table.rows.append((init, wanted.get(init, "0.100"), *cells))
    return table


def steps(rounds: int = 10) -> dict[str, Any]:
    """Processor time of the gradients of a batch, with and without normalisation, with dense convolutions and ``auto``, on one thread."""
    from lsgcli.data.batches import batches
    from lsgcli.system.device import Convolutions
    from lsgcli.training.losses import gradients

    work = {}
    for network, row in itertools.product(("plain-8", "plain-20"), (BASELINE, "measured, lsg")):
        of_row = {**NETWORKS[network], **ROWS[row], "width_multiplier": 0.25}
        model, bundle, config, compute = fresh({**DATA["digits-dvs"], **of_row, "threads": 1})
        batch = next(iter(batches(bundle, "train", BATCH, seed=0, shuffle=True)))
        for choice in ("dense", "auto"):
            ways = dataclasses.replace(compute, convolutions=Convolutions(choice))
            work[f"{network}; {row}; {choice}"] = functools.partial(gradients, model.train(), batch, config, ways)
    return {"machine": machine(), "seconds": interleaved(work, rounds, clock=time.process_time)}


def state(flow: Mapping[str, Any]) -> dict[str, Any]:
    """Gradient of the first layer over that of the last, and firing rates: of the first and the last layer, and their mean."""
    rates = [layer["firing_rate"] for layer in flow["layers"]]
    ratio = flow["layers"][0]["grad_ratio"]
    return {"grad_ratio": ratio, "rates": [round(rate, 4) for rate in (rates[0], statistics.fmean(rates), rates[-1])]}


def train(settings: dict[str, Any]) -> dict[str, Any]:
    """A training: accuracies by epoch, on test of the epoch chosen on validation, and the network's state before and after."""
    from lsgcli import api
    from lsgcli.errors import DivergedError
    from lsgcli.store.flows import read_full
    from lsgcli.store.rundir import read_metrics

    settings = {**settings, "threads": 1}
    record: dict[str, Any] = {"start": state(begun(settings))}
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        try:
            accuracy = api.train(run, **settings)["accuracy"]
        except DivergedError:
            accuracy = None
        epochs = read_metrics(run) if (run / "metrics.jsonl").exists() else []
        flow = read_full(run)
    record["end"] = state(flow) if flow else None
    record["val"] = [round(epoch["val_accuracy"], 4) for epoch in epochs]
    record["seconds"] = [round(epoch["seconds"], 2) for epoch in epochs]
    return {"accuracy": accuracy, **record}


def key_of(data: str, network: str, row: str, batch: int, lr: float, seed: int) -> str:
    """Name of a training."""
    return f"{data}; {network}; {row}; batch {batch}; lr {lr:g}; seed {seed}"


def best(record: Mapping[str, Any]) -> float:
    """Best validation accuracy; 0 if training diverged."""
    return max(record["val"], default=0.0) if record["accuracy"] is not None else 0.0


def chosen(runs: Mapping[str, Any], data: str, network: str, row: str) -> float | None:
    """The learning rate with the best validation accuracy of the network of 8 layers, a batch size of 32 and the first seed; None before all were tried."""
    shallow = f"{network.partition('-')[0]}-8"
    tried = {lr: runs.get(key_of(data, shallow, row, BATCH, lr, SEEDS[0])) for lr in RATES}
    if None in tried.values():
        return None
    return max(tried, key=lambda lr: best(tried[lr]))  # type: ignore[arg-type]


def experiment(records: Records, data: str, network: str, row: str, batch: int, seed: int, data_dir: str | None) -> None:
    """The training of a row with a seed, with the chosen learning rate, unless it is recorded; before it, those that choose."""
    of_data = {**DATA[data], **({"data_dir": data_dir} if data_dir else {})}

    def once(network: str, batch: int, lr: float, seed: int) -> None:
        if (key := key_of(data, network, row, batch, lr, seed)) not in records:
            settings = {**of_data, "batch_size": batch, "lr": lr * batch / BATCH, "seed": seed}
            records.add(key, train({**settings, **NETWORKS[network], **ROWS[row]}))

    for lr in RATES:
        once(f"{network.partition('-')[0]}-8", BATCH, lr, SEEDS[0])
    lr = chosen(records.runs, data, network, row)
    assert lr is not None
    once(network, batch, lr, seed)


def start() -> dict[str, Any]:
    """Firing rates, and gains of the square of the gradient's norm, by layer, of plain networks before their first step."""
    found: dict[str, Any] = {}
    for layers, row in itertools.product(LAYERS, ROWS):
        settings = {**DATA["digits-dvs"], **PLAIN, "depth": layers + 1, **ROWS[row], "threads": 1}
        measured = begun(settings)["layers"]
        sizes = entries(settings)
        found[f"{row}; {layers}"] = {
            "rates": [round(layer["firing_rate"], 4) for layer in measured],
            "gains": [
                None if layer["gain"] is None else float(f"{layer['gain'] * of_input / of_output:.4g}")
                for layer, (of_input, of_output) in zip(measured, sizes, strict=True)
            ],
        }
        print(f"{row}, {layers} layers", flush=True)
    return {"machine": machine(), "networks": found}


def entries(settings: Mapping[str, Any]) -> list[tuple[int, int]]:
    """Entries of the input and of the spikes of each layer of a plain resnet19."""
    import torch

    from lsgcli import models
    from lsgcli.neurons import LIF

    names = ("residual", "depth", "width_multiplier")
    net = models.build("resnet19", **{name: settings[name] for name in names}, in_channels=2, input_size=settings["size"])
    inputs: list[int] = []
    outputs: list[int] = []
    for layer in net.spiking_layers():
        layer.synapse.register_forward_pre_hook(lambda module, x: inputs.append(x[0].numel()))
    for module in net.modules():
        if isinstance(module, LIF):
            module.register_forward_hook(lambda module, x, out: outputs.append(out.numel()))
    with torch.no_grad():
        net(torch.zeros(2, 1, 2, settings["size"], settings["size"]))
    return list(zip(inputs, outputs, strict=True))


def tables(runs: Mapping[str, Any]) -> list[Table]:
    """A table for each data set, network and batch size that has been trained with the first seed."""
    found = []
    for data, network, batch in dict.fromkeys((*key.split("; ")[:2], int(key.split("; ")[3].split()[1])) for key in runs):
        head = (
            "",
            "lr",
            "n",
            "validation",
            "test",
            "to baseline",
            "95 % interval",
            "epochs to 80 %",
            "gradient",
            "rate",
            "s an epoch",
        )
        table = Table(f"{data}, {network}, batch {batch}", head)
        baseline: dict[int, float] = {}
        for row in ROWS:
            lr = chosen(runs, data, network, row)
            own = {} if lr is None else {s: runs.get(key_of(data, network, row, batch, lr, s)) for s in SEEDS}
            own = {seed: run for seed, run in own.items() if run is not None}
            tested = {seed: run["accuracy"] or 0.0 for seed, run in own.items()}
            if not own:
                continue
            baseline = tested if row == BASELINE else baseline
            table.rows.append((row, lr or 0.0, len(own), *_cells(list(own.values()), tested, baseline)))
        found.append(table)
    return found


def _cells(own: Sequence[Mapping[str, Any]], tested: Mapping[int, float], baseline: Mapping[int, float]) -> list[str]:
    """Cells of a row; diverged runs have an accuracy of 0."""
    paired = compared([tested[seed] - baseline[seed] for seed in tested if seed in baseline])
    interval = paired["interval"]
    needed = [1 + next(n for n, one in enumerate(run["val"]) if one >= SHARE * best(run)) for run in own if run["val"]]
    ends = [(run["start"], run["end"] or run["start"]) for run in own]
    seconds = [value for run in own for value in run["seconds"]]
    return [
        _percent([best(run) for run in own]),
        _percent(list(tested.values())),
        "-" if paired["difference"] is None else f"{100 * paired['difference']:+.1f}",
        "-" if interval is None else " to ".join(f"{100 * end:+.1f}" for end in interval),
        f"{statistics.fmean(needed):.1f}" if needed else "-",
        " -> ".join(f"{statistics.median(one['grad_ratio'] or 0 for one in moment):.2g}" for moment in zip(*ends, strict=True)),
        " -> ".join(f"{statistics.fmean(one['rates'][1] for one in moment):.3f}" for moment in zip(*ends, strict=True)),
        f"{statistics.median(seconds):.1f}" if seconds else "-",
    ]


def _percent(accuracies: Sequence[float]) -> str:
    spread = f" +- {100 * statistics.stdev(accuracies):.1f}" if len(accuracies) > 1 else ""
    return f"{100 * statistics.fmean(accuracies):.1f}{spread}"


def register_networks() -> None:
    """Not on import: tables of what is registered are made in processes that import this file."""
    register("arch", "ms-resnet-of-depth")(DeepMsResNet)
    register("arch", "vggsnn-of-strides")(StridedVGGSNN)
    register("arch", "resnet19-of-pools")(PooledResNet19)
    register("arch", "mlp-of-pools")(PooledMLP)


def main() -> None:
    """Run what is asked for."""
    register_networks()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("start", "rates", "steps", "train", "show"))
    parser.add_argument("--data", choices=DATA, default="digits-dvs")
    parser.add_argument("--data-dir", help="folder of the data set")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--batch-size", type=int, default=BATCH)
    parser.add_argument("--seeds", nargs="+", type=int, choices=SEEDS, default=SEEDS)
    options = parser.parse_args()
    if options.what == "start":
        print(write("initialisation", start()))
        return
    if options.what == "rates":
        record = rates()
        show([rates_table(record["rates"])])
        print(write("initialisation-rates", record))
        return
    if options.what == "steps":
        print(write("initialisation-steps", steps()))
        return
    records = Records("initialisation")
    pieces = itertools.product(options.networks, options.seeds, options.rows) if options.what == "train" else ()
    for network, seed, row in pieces:
        experiment(records, options.data, network, row, options.batch_size, seed, options.data_dir)
    show(tables(records.runs))
    if record := read("initialisation-rates"):
        show([rates_table(record["rates"])])


if __name__ == "__main__":
    main()
