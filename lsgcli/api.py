"""Functions of ``import lsgcli as lsg`` that do what a command does: train, evaluate, compare, export, measure gradient flow."""

import dataclasses
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lsgcli import registry
from lsgcli.analysis import gradflow
from lsgcli.analysis.watch.watch import Watch
from lsgcli.config.fields import fields_of
from lsgcli.config.machine import MachineConfig
from lsgcli.config.resolve import resolve
from lsgcli.config.run import from_checkpoint
from lsgcli.data import prepare as preparation
from lsgcli.data.batches import Batch
from lsgcli.data.bundle import DataBundle
from lsgcli.data.datasets.base import SPLITS, datasets
from lsgcli.data.parallel import NamedProgress
from lsgcli.errors import ConfigError, DataError
from lsgcli.export import base as exporting
from lsgcli.export import writing
from lsgcli.models import build
from lsgcli.models.base import SpikingNet
from lsgcli.report import findings, terminal
from lsgcli.report.display import TrainingDisplay
from lsgcli.report.output import check_output
from lsgcli.report.run_page import run_page
from lsgcli.runs import compare as comparison
from lsgcli.runs import experiments as trials
from lsgcli.runs.flow import measured
from lsgcli.runs.open import open_checkpoint
from lsgcli.runs.run import train_together
from lsgcli.runs.script import record_of
from lsgcli.store import checkpoint, hub
from lsgcli.sweeps import arguments, schedule
from lsgcli.sweeps import search as searching
from lsgcli.sweeps.cells import check_data
from lsgcli.system.caller import undisturbed
from lsgcli.system.device import Compute, set_up
from lsgcli.system.ranks import here
from lsgcli.training import evaluate as evaluation
from lsgcli.training.evaluate import Evaluation
from lsgcli.training.signals import StopRequest

__all__ = [
    "ablate",
    "build",
    "compare",
    "datasets",
    "diagnose",
    "evaluate",
    "experiments",
    "export",
    "inspect",
    "load",
    "prepare",
    "train",
    "tune",
    "watch",
]
Axes = Mapping[str, str | Sequence[Any]]  # setting -> values, or their text


@undisturbed
def prepare(
    dataset: str, splits: tuple[str, ...] = SPLITS, *, progress: NamedProgress | None = None, **settings: Any
) -> DataBundle:
    """Prepare the splits of a data set, or read them from the cache.

    ``data = lsg.prepare("n-mnist", T=10, data_dir="data")``

    Args:
        dataset: a name from :func:`datasets`.
        splits: ``train``, from which a validation split may be held out, and ``test``.
        progress: called with a description, the amount done and the total.
        settings: as the options of ``lsg train``, with underscores: ``T``, ``size``, ``data_dir``, ``val_fraction``, ...; by default the
            preset of the data set.

    Returns:
        ``train``, ``val`` and ``test``, each with ``x``, frames (N, T, 2, S, S) or images (N, C, S, S), and ``y``, labels (N,);
        ``classes``; ``mean`` and ``std`` per channel.

    Raises:
        ConfigError: a setting is unknown or invalid.
        DataError: the data are missing or damaged.
    """
    return preparation.prepare(resolve({"dataset": dataset, **settings}, environment={}), splits, progress=progress)


@undisturbed
def train(
    out: Path | str | None = None,
    *,
    force: bool = False,
    on_record: Callable[[dict[str, Any]], None] | None = None,
    quiet: bool = False,
    **settings: Any,
) -> dict[str, Any]:
    """Train a network as ``lsg train`` does, write the run directory, and print the progress to stderr.

    ``end = lsg.train(dataset="digits-dvs", method="lsg", epochs=2)``

    Args:
        out: run directory; an unfinished run with the same settings is continued. Default: a new directory below ``runs/``.
        force: replace an existing run.
        on_record: called with each record, a dictionary with the key ``event``: ``preparing``, ``start``, ``step``, ``epoch``,
            ``checkpoint``, ``end``, ...
        quiet: print nothing.
        settings: as the options of ``lsg train``, with underscores. ``LSG_*`` variables are not read.

    Returns:
        The record of ``result.json``: ``checkpoint``, ``accuracy``, ``accuracy_fp32`` if another ``precision`` was given, ``test_accuracy_last``, ``test_accuracy_best``, ``best_epoch`` (from
        0), ``inflation`` if the test part was evaluated after every epoch (by how much its best epoch would flatter the run), ... In distributed training, an empty dictionary in processes other than rank 0.

    Raises:
        ConfigError: a setting is unknown or invalid.
        DataError: the data are missing or damaged.
        RunInUseError: ``out`` contains another run.
        Stopped: the time of ``max_time`` is up, or the SLURM job ends soon; the state is saved, and the same call continues.
        DivergedError: the loss or a gradient is not finite.
    """
    path = None if out is None else Path(out)
    config = resolve(settings, environment={})
    with TrainingDisplay(quiet or here().rank > 0) as display:

        def emit(record: dict[str, Any]) -> None:
            display(record)
            if on_record is not None:
                on_record(record)

        return train_together(config, emit, StopRequest(), path=path, force=force, page=run_page) or {}


def load(path: Path | str) -> SpikingNet:
    """The network of a checkpoint, in evaluation mode, on the CPU. Its attribute ``spec`` contains architecture, T and neurons.

    Args:
        path: of the checkpoint or its run directory, or ``hf:USER/NAME[@REVISION]``, as wherever a checkpoint is expected.

    Raises:
        CheckpointError: not a valid checkpoint, or one of a network that this version cannot build.
    """
    return checkpoint.load(hub.local(path))[0]


@undisturbed
def evaluate(
    network: nn.Module | Path | str,
    data: DataBundle | None = None,
    split: str = "test",
    *,
    batch_size: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    **changes: Any,
) -> Evaluation:
    """Accuracy, loss, confusion matrix and firing rates.

    Args:
        network: a checkpoint or run directory; or a network, which is evaluated on its own device: of lsg, or any torch module that maps
            inputs of :func:`batches` to logits (T, B, classes) or (B, classes) and keeps no state between them. In float32 by default.
        data: prepared data, with the classes of the checkpoint. Default: those that the checkpoint was trained on.
        split: ``train``, ``val`` or ``test``.
        batch_size: default: as in training, or 32.
        progress: called with the number of batches done and their total number.
        changes: of the checkpoint's settings: ``device``, ``precision``, ..., and without ``data`` also ``data_dir``, ``T``,
            ``dataset``, ...

    Raises:
        CheckpointError: not a valid checkpoint.
        ConfigError: a setting is invalid, or the data do not have the split.
        DataError: the data are missing, damaged, have other classes, or differ from the training data.
        DivergedError: logits are not finite.
    """
    if isinstance(network, nn.Module):
        if data is None or changes:
            given = ", ".join(changes) or "no data"
            raise ConfigError(f"evaluate: found a network with {given}, expected a network and data, or a checkpoint")
        if not isinstance(network, SpikingNet):
            own = evaluation.of_module(network, data.named(split), data, batch_size=batch_size or 32, progress=progress)
            return own.checked()
        if (outputs := network.spec.num_classes) != len(data.classes):
            raise DataError(f"data: found {len(data.classes)} classes, expected {outputs}, as many as the network's outputs")
        model = network
        compute = Compute(next(network.parameters()).device)
        size = batch_size or 32
    elif not isinstance(network, Path | str):
        found = type(network).__name__
        raise ConfigError(f"evaluate: found {found}, expected a checkpoint, a run directory or a torch module")
    elif data is not None:
        if needless := changes.keys() - fields_of(MachineConfig):
            raise ConfigError(f"evaluate: found data and {', '.join(sorted(needless))}, expected one of them")
        path = hub.local(network)
        model, stored = checkpoint.load(path)
        if data.classes != tuple(stored["classes"]):
            raise DataError(f"data: found classes {', '.join(data.classes)}, expected {', '.join(stored['classes'])}")
        data = dataclasses.replace(data, mean=stored["data"].get("mean"), std=stored["data"].get("std"))
        config = from_checkpoint(path, stored, changes)
        compute = set_up(config)
        size = batch_size or config.batch_size
        model = model.to(compute.device)
    else:
        parts = ("test",) if split == "test" else SPLITS
        opened = open_checkpoint(network, {"batch_size": batch_size, **changes}, parts)
        model = opened.model
        compute = opened.compute
        size = opened.config.batch_size
        data = opened.bundle
    result = evaluation.evaluate(
        model, data.named(split), data, compute, batch_size=size, also=("firing_rate",), progress=progress
    )
    return result.checked()


@undisturbed
def inspect(
    network: nn.Module | Path | str,
    batches: int | Iterable[Batch | tuple[Tensor, Tensor]] = 4,
    **options: Any,
) -> dict[str, Any]:
    """Gradient flow per layer, from forward and backward passes as in training.

    Args:
        network: a checkpoint, or any spiking network. Networks of other libraries need an ``adapter``, see the page "Gradient flow of other
            libraries' networks" of the documentation.
        batches: for a network, inputs (T, B, ...) and labels (B,) of training data; for a checkpoint, the number of mini-batches of
            its training data.
        options: for a network, arguments of :func:`lsgcli.analysis.inspect`: ``loss``, ``adapter``, ``reset``, ``thresholds``,
            ``sample``; for a checkpoint, changes of its settings, such as ``data_dir`` and ``device``.

    Returns:
        ``{"layers": [{"name", "coverage", "firing_rate", "grad_ratio", "verdict", ...}], ...}``.

    Raises:
        CheckpointError: not a valid checkpoint.
        ConfigError: no layers of neurons were found, or an option is invalid.
        DataError: the training data are missing, damaged, or differ.
    """
    return _measured(network, batches, options)


@undisturbed
def diagnose(
    network: nn.Module | Path | str,
    batches: int | Iterable[Batch | tuple[Tensor, Tensor]] = 4,
    *,
    limits: Mapping[str, float] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Findings about a network, with causes and remedies: the record of :func:`inspect` in detail, with ``findings``.

    Args:
        network: a checkpoint or run directory, or any spiking network, as for :func:`inspect`.
        batches: as for :func:`inspect`.
        limits: thresholds of rules, by name.
        options: as for :func:`inspect`.

    Returns:
        The record of :func:`inspect` with ``findings``, the most serious first: ``[{"rule", "severity", "layers", "measure", "value",
        "usual", "cause", "remedy": {"text", "settings", "alternative"}, "command", "source"}]``. For a network without a run, ``settings`` are empty.

    Raises:
        LsgError: as :func:`inspect`.
    """
    return _measured(network, batches, options, limits, detailed=True)


def _measured(
    network: nn.Module | Path | str,
    batches: int | Iterable[Batch | tuple[Tensor, Tensor]],
    options: Mapping[str, Any],
    limits: Mapping[str, float] | None = None,
    detailed: bool = False,
) -> dict[str, Any]:
    """The record of :func:`inspect`, or of :func:`diagnose` if it is ``detailed``."""
    if isinstance(network, nn.Module):
        if isinstance(batches, int):
            raise ConfigError(f"batches: found {batches}, expected mini-batches of training data for a network")
        if detailed:
            return gradflow.diagnose(network, batches, limits=limits, **options)
        return gradflow.inspect(network, batches, **options)
    if not isinstance(batches, int):
        raise ConfigError("batches: found mini-batches, expected their number for a checkpoint")
    path = hub.local(network)
    opened = open_checkpoint(path, options, buffers_finite=False)
    return measured(opened, path, batches, limits, detailed=detailed)


@contextmanager
def watch(
    network: nn.Module | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    *,
    every: int | None = None,
    limits: Mapping[str, float] | None = None,
    quiet: bool = False,
) -> Iterator[dict[str, Any]]:
    """Watch a training loop of your own, of any library, and say why its network does not learn, as ``lsg diagnose`` does for a script.

    ::

        with lsg.watch(net, optimizer) as diagnosis:
            train(net, optimizer)
        print(diagnosis["findings"])

    What the loop computes stays the same, to the bit.

    Args:
        network: built before the block; not required.
        optimizer: of its parameters; not required.
        every: steps between further measurements of the layers, besides the first three and 10, 30, 100, 300, ...
        limits: of rules, by name.
        quiet: do not print the findings to stderr at the end of the block.

    Yields:
        A dictionary that is empty in the block, and afterwards the record of ``lsg diagnose --json``:
        ``{"schema", "steps", "losses", "accuracy", "layers", "findings": [{"rule", "severity", "cause", "remedy", "where", ...}]}``.
    """
    record: dict[str, Any] = {}
    watching = Watch(every=every, network=network, optimizer=optimizer)
    ended = True
    try:
        with watching:
            yield record
    except GeneratorExit:  # the program ends inside the block, without leaving it
        ended = False
        raise
    finally:
        if ended:
            record |= record_of(watching.seen, limits)
        if ended and not quiet:
            terminal.show(findings.diagnosis(record), sys.stderr)


def experiments(
    train: Callable[[], Any],
    *,
    seconds: float = 120.0,
    jobs: int = 1,
    limits: Mapping[str, float] | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Run a training function with one change at a time, until it is known what makes its network learn, as ``lsg diagnose --try`` does for a script.

    ::

        def train():
            torch.manual_seed(0)
            net = Net()
            ...

        print(lsg.experiments(train)["conclusion"])

    Args:
        train: builds a network and trains it, the same way each time. It runs in forked processes, so that nothing that it changes is seen here.
        seconds: time of all experiments.
        jobs: experiments at a time.
        limits: of rules, by name.
        quiet: print no findings and no table to stderr.

    Returns:
        The record of ``lsg diagnose --try --json``: that of :func:`watch`, with ``experiments``, ``unchanged``, ``conclusion``, and ``confirmed``
        for each finding.

    Raises:
        ConfigError: this system cannot fork processes.
    """
    tell = None if quiet else findings.tell
    record = trials.of_function(train, seconds, jobs, tell, limits)
    if not quiet:
        terminal.show(findings.diagnosis(record), sys.stderr)
    return record


@undisturbed
def ablate(
    axes: Axes | None = None,
    *,
    table: str | None = None,
    seeds: str | Sequence[int] = "0-2",
    folds: int | None = None,
    out: Path | str | None = None,
    margin: float | None = None,
    quiet: bool = False,
    **settings: Any,
) -> dict[str, Any]:
    """Train variants of a run with several seeds, one after another, and compare them, as ``lsg ablate`` does.

    ``lsg.ablate({"method": ["fixed", "lsg"]}, seeds="0-4", dataset="digits-dvs")``

    Args:
        axes: values of settings; the rows are all combinations, the first of which is the baseline.
        table: one of the paper's tables instead: ``1`` (default without ``axes``), ``2`` or ``3``.
        seeds: numbers, or a text such as ``0-4``.
        folds: number of folds of the data, each of which is the test part once.
        out: directory of the runs, in which finished ones are kept. Default: a directory below ``runs/``, derived from the settings.
        margin: also test whether each row is equivalent to the first, within so many percentage points.
        quiet: print nothing.
        settings: of all rows, as for :func:`train`.

    Returns:
        The record of ``lsg ablate --json``: ``{"rows": [{"label", "mean", "std", "n", "difference", "interval", "verdict", ...}], ...}``.

    Raises:
        LsgError: as :func:`train`; of several failures, that of the first.
    """
    numbers = seeds if isinstance(seeds, str) else ",".join(map(str, seeds))
    root = None if out is None else Path(out)
    from lsgcli.sweeps.collect import Collection  # with scipy, which adds a filter of warnings to those of a script

    planned = arguments.plan(settings, table, _texts(axes or {}), numbers, None, root, folds, environment={})
    every = planned.cells()
    check_data(every)
    planned.save()
    _run(schedule.Strategy(planned.root, every), quiet)
    check_data(every)  # other processes may have run some of them
    found = Collection.read(every, planned.table)
    return found.summary(None if margin is None else margin / 100)


@undisturbed
def tune(
    search: Axes,
    *,
    trials: int = 20,
    prune: bool = True,
    out: Path | str | None = None,
    quiet: bool = False,
    **settings: Any,
) -> dict[str, Any]:
    """Search for the settings with the highest validation accuracy, as ``lsg tune`` does. Needs ``lsgcli[tune]``.

    ``lsg.tune({"lr": "log:1e-3:0.3", "method": ["lsg", "fixed"]}, trials=10, dataset="digits-dvs")["best"]``

    Args:
        search: values of settings, or ranges: ``width="0.5:2"``, ``lr="log:1e-3:0.3"``.
        trials: number of trials, including those of earlier calls.
        prune: stop trials whose validation accuracy is below the median.
        out: directory of the study. Default: a directory below ``runs/``, derived from the settings.
        quiet: print nothing.
        settings: of all trials, as for :func:`train`.

    Returns:
        The record of ``lsg tune --json``: ``config``, the path of a TOML file, the ``best`` trial, and all ``trials``, best first.

    Raises:
        LsgError: as :func:`train`, or no trial was trained to its end.
    """
    from lsgcli.sweeps.tune import Trials, conclude, open_study  # with optuna, an extra

    planned = searching.plan(settings, _texts(search), environment={})
    root = planned.folder() if out is None else Path(out)
    check_data(planned.trials(root))
    study = open_study(planned, root, prune)
    _run(Trials(study, planned, root, trials), quiet)
    return conclude(study, planned, root)


def _texts(axes: Axes) -> list[str]:
    """Axes as the commands take them."""
    return [f"{name}={values if isinstance(values, str) else ','.join(map(str, values))}" for name, values in axes.items()]


def _run(strategy: schedule.Strategy, quiet: bool) -> None:
    """Run the cells of a strategy one after another."""
    stop = StopRequest()
    schedule.run(strategy, schedule.InProcess(strategy, stop, partial(TrainingDisplay, quiet), run_page), stop)


def compare(*runs: Path | str) -> dict[str, Any]:
    """Settings that differ between runs, and their results, as ``lsg compare`` shows them.

    Args:
        runs: run directories, checkpoints in them, or folders that contain runs.

    Returns:
        The record of ``lsg compare --json``: ``{"settings": {...}, "runs": [{"path", "accuracy", "val_accuracy_best", ...}], "groups": [...]}``.

    Raises:
        ConfigError: there is no run, or none can be read.
    """
    return comparison.compare(comparison.find(map(Path, runs)))


@undisturbed
def export(
    checkpoint: Path | str,
    output: Path | str,
    *,
    format: str | None = None,
    T: int | None = None,
    verify: int | None = None,
    force: bool = False,
    data_dir: str | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Export a network to ONNX, NIR and other formats, as ``lsg export`` does.

    ``lsg.export("run", "net.onnx", verify=64)``

    Args:
        checkpoint: as for :func:`load`.
        output: the file, or the folder of the format ``hf``.
        format: default: from the suffix of ``output``.
        T: timesteps. Default: as in training.
        verify: number of test samples on which the export is compared with the network.
        force: replace an existing file.
        data_dir: folder of these samples.
        options: of the format: ``mode``, ``dt``, ``fold_bn``, ``quantize``.

    Returns:
        The record of ``lsg export --json``: ``format``, ``path``, ``spikes_different``, ``predictions_different``, ``max_logit_error``, ...

    Raises:
        LsgError: the checkpoint, an option or the output is invalid, or the export differs from the network.
    """
    if data_dir is not None and not verify:
        raise ConfigError("data_dir: found without verify, expected both")
    known = [field.name for field in dataclasses.fields(exporting.ExportOptions)]
    if unknown := options.keys() - set(known):
        raise ConfigError(f"export: found {', '.join(sorted(unknown))}, expected options among {', '.join(known)}")
    target = Path(output)
    name = exporting.format_for(target, format)
    path = hub.local(checkpoint)
    exporter = registry.get("format", name)()
    exporter.check()
    chosen = exporting.chosen(name, **options)
    suffixes = (exporter.suffix,) if exporter.suffix else ()
    check_output(target, "output", suffixes=suffixes, folder=exporter.folder, inputs=(path,), magic=exporter.magic, force=force)
    return writing.export(path, target, name, chosen, T=T, verify=verify, changes={"data_dir": data_dir})
