"""``lsg eval``: evaluate a checkpoint on test data."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from typer import Option

from lsgcli.cli import common
from lsgcli.errors import CheckpointError, ConfigError, log
from lsgcli.report.output import check_output, check_plot, csv_text, print_json, print_result
from lsgcli.system import files
from lsgcli.system.schema import Record

if TYPE_CHECKING:
    from torch import Tensor

    from lsgcli.data.bundle import Split
    from lsgcli.export.runners import Runner
    from lsgcli.training.evaluate import Evaluation

STDOUT = Path("-")
HEAD = "path,label,prediction,probability"
PARTS = {"test": ("test",), "val": ("train",), "train": ("train",)}  # and what is read for each
STEPS = 16  # up to which their accuracies are printed
CONFUSION = 12  # classes up to which the confusion matrix is printed
SCORES = ("precision", "recall", "f1")
SYNOPS = {  # field -> heading
    "name": "layer",
    "input": "input",
    "averages_over": "over",
    "density": "not 0",
    "firing_rate": "firing rate",
    "ac": "AC",
    "mac": "MAC",
    "energy_pj": "energy, pJ",
    "ann_mac": "ANN: MAC",
    "ann_energy_pj": "ANN: energy, pJ",
}
ENERGY = "AC: an addition, {ac_pj} pJ; MAC: with a multiplication, {mac_pj} pJ. Energy is {note}."
BREAK_EVEN = "Break-even: the firing rate, {firing_rate:.4f} here, at which both need the same energy; a training with --rate-target lowers it."
TERMS = ("arithmetic", "weights", "potentials", "activations", "total")


class Measures(NamedTuple):
    """What is evaluated, on which part of the data."""

    synops: Annotated[bool, Option("--synops", help="Also count synaptic operations and estimate their energy.")] = False
    part: Annotated[
        str, Option("--split", metavar="test|val|train", help="Part of the data, with the splits of the training.")
    ] = "test"
    time_test: Annotated[
        bool,
        Option(
            "--time-test",
            help="Also evaluate with the frames of each sample in random order (5 draws), reversed, and replaced by their mean, which "
            "also has other statistics, to see whether the network needs their order.",
        ),
    ] = False


class Refresh(NamedTuple):
    """New running statistics."""

    refresh_norm: Annotated[
        int | None,
        Option(
            min=1,
            help="First re-estimate the running statistics of all normalisation layers, on this many batches of training data "
            "(at most an epoch), without augmentation; needs --out.",
        ),
    ] = None
    out: Annotated[Path | None, Option(help="With --refresh-norm: the new checkpoint (.safetensors); CKPT is not changed.")] = (
        None
    )

    def check(self, data: common.Data, checkpoint: Path, force: bool) -> None:
        """Check the options, and the file that they name."""
        if self.refresh_norm is None:
            common.require("--refresh-norm", {"--out": self.out})
            return
        if self.out is None:
            raise ConfigError("--refresh-norm: found without --out, expected both", "Add --out NEW.safetensors.")
        common.exclude("--refresh-norm", {"--dataset": data.dataset, "-T": data.T})
        check_output(self.out, "--out", suffixes=(".safetensors",), inputs=(checkpoint,), magic=rb".{8}\s*\{", force=force)


class Output(NamedTuple):
    """What is printed and written."""

    as_json: common.Json = False
    csv: Annotated[
        Path | None,
        Option(
            metavar="FILE|-",
            help="Also write a line per sample: path, label, prediction, probability; - prints these lines instead of the tables.",
        ),
    ] = None
    plot: Annotated[
        Path | None,
        Option(metavar="FILE", help="Also draw the confusion matrix, as .svg, .png, or .pdf."),
    ] = None
    force: common.Force = False

    def check(self, checkpoint: Path) -> None:
        """Check the options and the files that they name, before the evaluation."""
        if self.csv == STDOUT:
            common.exclude("--csv -", {"--json": self.as_json})
        elif self.csv:
            check_output(self.csv, "--csv", suffixes=(".csv",), inputs=(checkpoint,), magic=HEAD.encode(), force=self.force)
        if self.plot:
            check_plot(self.plot, folder=False, inputs=(checkpoint,), force=self.force)


def evaluate(
    *,
    checkpoint: common.CheckpointPath,
    data: common.Data,
    compute: common.Compute,
    measures: Measures,
    refresh: Refresh,
    output: Output,
    verbosity: common.Verbosity,
) -> None:
    """Evaluate a checkpoint: accuracy (from 20 classes on also top-5), loss, precision, recall and F1 per class and their averages,
    confusion matrix, firing rate per layer, throughput.

    Data set and preparation are taken from the checkpoint; only the part of --split is required. Downloads no data. Outputs of `lsg export`
    other than `.safetensors` are evaluated with the runtime of their format, on the CPU in float32.
    """
    common.messages(verbosity, common.AROUND)
    from lsgcli.store import hub

    path = hub.local(checkpoint)
    synops, part, time_test = measures
    if part not in PARTS:
        raise ConfigError(f"--split: found {part!r}, expected {' or '.join(PARTS)}")
    refresh.check(data, path, output.force)
    if refresh.out:
        common.exclude("--refresh-norm", {"--split": part != "test"})
    output.check(path)
    from lsgcli.analysis import running
    from lsgcli.export import runners
    from lsgcli.export.base import open_exported
    from lsgcli.report import drawing, heatmaps, terminal
    from lsgcli.runs.flow import refreshed
    from lsgcli.runs.open import open_checkpoint, open_data
    from lsgcli.store.checkpoint import save
    from lsgcli.sweeps import order
    from lsgcli.training import evaluate as networks

    changes = {**data.changes(), **compute._asdict()}
    parts = ("train", "test") if refresh.out else PARTS[part]
    runner = open_exported(path)
    with terminal.preparing(verbosity.quiet) as progress:
        around: Record = {"environment": common.around(), "progress": progress}
        if runner is None:
            opened = open_checkpoint(path, changes, parts, **around)
            model, _, config, bundle, where = opened
        else:
            _check_export(path, runner, data, compute, refresh, synops)
            config, bundle, _ = open_data(path, runner.config, {**changes, "device": "cpu"}, parts, **around)
    if refresh.refresh_norm is not None:
        content = refreshed(opened, path, refresh.refresh_norm)
    split = bundle.named(part)
    others = order.altered(bundle, split) if time_test else {}
    also = ("firing_rate", "synops") if synops else ("firing_rate",)
    with terminal.progress_bar(verbosity.quiet) as bar:
        task = bar.add_task("evaluating", total=None, note="")

        def shown(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        def evaluated(split: "Split") -> "Evaluation":
            options: Record = {"batch_size": config.batch_size, "workers": config.workers, "progress": shown}
            if runner is not None:
                return runners.evaluate(runner, split, bundle, **options)
            return networks.evaluate(model, split, bundle, where, also=also, **options)

        result = evaluated(split).checked()
        record = result.record(bundle.classes)
        if time_test:
            tested = {name: [evaluated(altered) for altered in splits] for name, splits in others.items()}
            record["time_test"] = order.time_test(split, result, tested)
    if runner is None and part == "test":
        running.check(model, bundle, where, config.batch_size, result.accuracy)
    if refresh.out is not None:
        save(refresh.out, content)
        log.info("%s", refresh.out)
    if output.plot:
        drawing.save_as(heatmaps.confusion(record["confusion"], bundle.classes), output.plot)
    if output.csv:
        lines = samples_csv(split, result.answers, bundle.classes)
        print_result(lines.rstrip("\n")) if output.csv == STDOUT else files.write_text(output.csv, lines)
    if output.as_json:
        print_json(record)
    elif output.csv != STDOUT:
        _show(record)
        if time_test:
            _show_time_test(record["time_test"])
        if synops:
            _show_synops(record["synops"])


def _check_export(
    path: Path, runner: "Runner", data: common.Data, compute: common.Compute, refresh: Refresh, synops: bool
) -> None:
    """Refuse what exports do not support."""
    if refresh.out:
        raise CheckpointError(
            f"{path}: found a file without normalisation to refresh, expected a checkpoint of lsg",
            "Refresh the checkpoint, and export the result.",
        )
    compute.check_on_cpu()
    common.exclude("an exported CKPT", {"--synops": synops})
    if data.T not in (None, runner.T):
        raise ConfigError(
            f"-T: found {data.T}, expected {runner.T}, the timesteps of {path}",
            "Export the checkpoint again with this -T.",
        )


def _show(record: Record) -> None:
    """Print accuracy, scores per class and their averages, firing rates, and the confusion matrix of up to 12 classes."""
    from lsgcli.report.terminal import facts, show, table

    names = ("accuracy", "top5_accuracy", "loss", "samples", "samples_per_s")
    classes = list(record["per_class"])
    rows: list[list[Any]] = []
    for index, name in enumerate(classes):
        label = name if name == str(index) else f"{index} {name}"
        rows.append([label, *(record["scores"][score][name] for score in SCORES)])
    rows.append(["average", *(record[score] for score in SCORES)])
    shown = {name: record.get(name) for name in names}
    by_timestep = record["accuracy_by_timestep"]
    if 1 < len(by_timestep) <= STEPS:
        shown["by timestep"] = " ".join(f"{accuracy:.4f}" for accuracy in by_timestep)
    parts: list[Any] = [facts(shown), table(("class", *SCORES), rows)]
    if len(classes) <= CONFUSION:
        counts = [[name, *row] for name, row in zip(classes, record["confusion"], strict=True)]
        parts.append(table(("label", *classes), counts, "confusion (columns: prediction)"))
    parts.append(table(("layer", "spikes per neuron and timestep"), record["firing_rate"].items()))
    show(parts)


def _show_time_test(record: Record) -> None:
    """Print a record of :func:`lsgcli.sweeps.order.time_test`."""
    from lsgcli.report.terminal import show, table

    rows = [["in order", record["accuracy"], None, None, None]]
    for name, found in record["frames"].items():
        rows.append([name, found["accuracy"], found["difference"], *(found["interval"] or (None, None))])
    heads = ("frames", "accuracy", "difference", "95 % from", "to")
    show([table(heads, rows, "accuracy by order of frames, intervals over samples")])


def _show_synops(record: Record) -> None:
    """Print a record of :class:`lsgcli.analysis.energy.SynapticOperations`, per sample, compared with the same-shape ANN."""
    from lsgcli.report.terminal import show, table

    layers = [*record["layers"], {**record["total"], "name": "total"}]
    rows = [[layer.get(name) for name in SYNOPS] for layer in layers]
    operations = table(SYNOPS.values(), rows, "synaptic operations per sample, all timesteps", left=2)
    energies = []
    for one in record["memory"]:
        terms = [one["spiking"][term] for term in TERMS]
        energies.append([one["bits"], *terms, one["ann"]["total"], one["break_even_rate"]])
    heads = ("bits", *TERMS, "ANN: total", "break-even rate")
    with_memory = table(heads, energies, "energy per sample with memory, pJ")
    show([operations, ENERGY.format(**record), with_memory, BREAK_EVEN.format(**record)])


def samples_csv(split: "Split", answers: "Tensor", classes: Sequence[str]) -> str:
    """A line per sample of an evaluation, in the order of the split.

    Args:
        answers: (N, 3), as in :class:`lsgcli.training.evaluate.Evaluation`.
    """
    rows = [HEAD.split(",")]
    for key, label, (answer, probability, _) in zip(split.keys, split.y, answers.tolist(), strict=True):
        rows.append([key, classes[label], classes[int(answer)], f"{probability:.6g}"])
    return csv_text(rows)
