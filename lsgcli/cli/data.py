"""``lsg data``: commands for data sets."""

import contextlib
import functools
import time
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lsgcli.cli import common
from lsgcli.cli.commands import CONTEXT, HelpAll, group
from lsgcli.cli.options import Chosen
from lsgcli.config.data import DataConfig
from lsgcli.config.fields import fields_of
from lsgcli.config.resolve import resolve
from lsgcli.config.run import option_name
from lsgcli.errors import ConfigError, DataError, MissingPart, StorageError, counted, log
from lsgcli.report.output import check_output, print_exact, print_json, print_result
from lsgcli.system import cpus, files
from lsgcli.system.schema import Record

if TYPE_CHECKING:
    from lsgcli.data.datasets.base import Dataset

COMMANDS = {name: f"data:{name}" for name in ("prepare", "info", "show", "verify")}
app = group(COMMANDS, name="data", help="Data sets: prepare, info, show, verify.", context_settings=CONTEXT)


@app.callback()
def data(help_all: HelpAll = False) -> None:
    """Options of the group."""


# Settings that determine the samples of a data set: the only ones used by commands that do not make frames.
WHERE = {"dataset", "data_dir", "sensor", "split", "split_seed"}
OF_DATA = fields_of(DataConfig).keys()
TRAINING_ONLY = {"augment", "val_fraction", "mixup", "cutmix", "mix_prob", "mix_until"}
# Settings that prepared data depend on, and their directories.
NEEDED = OF_DATA - TRAINING_ONLY | {"cache_dir"}
# Settings that a contact sheet depends on.
SHOWN = OF_DATA - TRAINING_ONLY - {"skip_bad"}
Workers = Annotated[
    int | None, typer.Option(min=0, max=1024, help="Worker processes, at most the usable CPUs, which is also the default.")
]


def prepare(
    *,
    workers: Workers = None,
    as_json: common.Json = False,
    verbosity: common.Verbosity,
    settings: Annotated[Record, Chosen(NEEDED)],
) -> None:
    """Prepare a data set for `lsg train` with the same options, and print the paths of the prepared files.

    Missing data are downloaded if the data set provides a download; interrupted downloads resume. Existing prepared files are
    reused, and incomplete ones are rebuilt.
    """
    common.messages(verbosity, NEEDED)
    from lsgcli import registry
    from lsgcli.data import cache
    from lsgcli.data.prepare import prepare as run
    from lsgcli.report import terminal

    config = resolve({**settings, "val_fraction": 0.0}, takes=NEEDED)
    config = config.replace(workers=cpus.usable()[0] if workers is None else workers)
    kept = cache.folder(config) / config.dataset if registry.get("dataset", config.dataset).cached else None
    begin = time.monotonic()
    # Create the folder first, so that an unusable one fails before the preparation.
    with files.making_folder(kept) if kept else contextlib.nullcontext(), terminal.preparing(verbosity.quiet) as progress:
        bundle = run(config, progress=progress)
    record = {"dataset": config.dataset, "parts": bundle.record(), "classes": list(bundle.classes), **bundle.info}
    record["seconds"] = round(time.monotonic() - begin, 2)
    if as_json:
        print_json(record)
    else:
        columns = ("recordings", "shape", "dtype", "bytes")
        rows = [[name, *(terminal.shown(part[key], key) for key in columns)] for name, part in record["parts"].items()]
        paths = [f"{name}: {part['path'] or 'in memory, no file'}" for name, part in record["parts"].items()]
        terminal.show([terminal.table(("part", *columns), rows, f"{config.dataset}, {record['seconds']:.1f} s"), *paths])
    common.say_next("lsg", "train", "--dataset", config.dataset)
    if kept is not None and not all(part["path"] for part in record["parts"].values()):
        raise StorageError(
            f"{kept}: prepared data could not be written",
            "Give --cache-dir a writable directory with enough free space.",
        )


def info(
    *,
    path: Annotated[Path | None, typer.Argument(metavar="PATH", help="A recording, or a folder of recordings.")] = None,
    workers: Workers = None,
    as_json: common.Json = False,
    verbosity: common.Verbosity,
    settings: Annotated[Record, Chosen(WHERE)],
) -> None:
    """Summarise a recording, a folder of recordings or a data set.

    Prints counts per class, durations, sensor size and format. Unreadable recordings are counted and listed.
    """
    common.messages(verbosity, WHERE)
    _one_of(path, settings)
    from lsgcli.data import summary
    from lsgcli.report import terminal

    dataset = summary.found(path) if path else _open(settings)
    with terminal.preparing(verbosity.quiet) as bar:
        record = summary.of_dataset(dataset, workers=workers, progress=functools.partial(bar, "reading"))
    bad = record.get("unreadable", [])
    print_json(record) if as_json else print_result(terminal.facts({**record, "unreadable": len(bad) or None}))
    if bad:
        log.warning(
            "%s cannot be read:\n  %s", counted(len(bad), "recording"), "\n  ".join(recording["problem"] for recording in bad)
        )


def show(
    *,
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="PATH", help="Recordings, or folders of recordings."),
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="PNG file to write.")],
    force: common.Force = False,
    samples: Annotated[
        int, typer.Option(min=1, help="Number of samples of a data set or folder, evenly over its classes.")
    ] = 8,
    as_json: common.Json = False,
    verbosity: common.Verbosity,
    settings: Annotated[Record, Chosen(SHOWN)],
) -> None:
    """Draw the frames of a few samples, one row each, to check orientation and slicing, and print the path of the file.

    ON events are orange, OFF events blue. Samples are prepared as for training, without augmentation.
    """
    common.messages(verbosity, SHOWN)
    if paths:  # --sensor also applies to recordings
        _one_of(paths[0], [name for name in settings if name in WHERE - {"sensor"}])
    from lsgcli.report import sheet

    dataset = None if paths else _open(settings, SHOWN)
    inputs = paths or ([] if dataset is None or dataset.embedded else [dataset.home])
    check_output(output, "-o", suffixes=(".png",), inputs=inputs, force=force)
    if paths:
        config = resolve({**settings, "dataset": "event-folder", "val_fraction": 0.0}, takes=SHOWN)
        rows = sheet.of_paths(paths, config, samples)
        name = ", ".join(map(str, paths))
    else:
        assert dataset is not None
        rows = sheet.of_dataset(dataset, samples)
        name = dataset.config.dataset
    sheet.write(output, sheet.draw(name, rows, events=dataset is None or not dataset.static))
    print_json({"path": str(output), "samples": len(rows)}) if as_json else print_exact(output)


def verify(
    *,
    path: Annotated[Path | None, typer.Argument(metavar="PATH", help="A folder of recordings, instead of a data set.")] = None,
    write: Annotated[
        bool,
        typer.Option(
            "--write",
            help="If all files can be read, write their checksums to SHA256SUMS, replacing existing ones.",
        ),
    ] = False,
    workers: Workers = None,
    as_json: common.Json = False,
    verbosity: common.Verbosity,
    settings: Annotated[Record, Chosen(WHERE)],
) -> None:
    """Check all files of a data set against SHA256SUMS in its folder, and read all recordings.

    Missing, changed and unreadable files are listed, with exit status 3. Warns about files that are not in SHA256SUMS, and about
    counts that differ from the published ones.
    """
    common.messages(verbosity, WHERE)
    _one_of(path, settings)
    from lsgcli.data import summary
    from lsgcli.report import terminal

    dataset = summary.found(path, sealed=True) if path else _open(settings)
    with terminal.preparing(verbosity.quiet) as bar:
        reading = functools.partial(bar, "reading")
        hashing = functools.partial(bar, "hashing")
        verdict = summary.verify(dataset, write=write, workers=workers, progress=reading, hashing=hashing)
    print_json(verdict) if as_json else print_result(terminal.facts(verdict))
    for warning in verdict["warnings"]:
        log.warning("%s: %s", verdict["path"], warning)
    if faults := summary.faults(verdict):
        hint = "Download or create these files again. If the changes are intended, --write updates SHA256SUMS."
        if verdict["unreadable"]:
            hint = "Create these files again, or skip unreadable ones: --skip-bad of `lsg data prepare` and `lsg train`."
        raise DataError(f"{verdict['path']}: {counted(len(faults), 'fault')}:\n  " + "\n  ".join(faults), hint)


def _one_of(path: Path | None, settings: Collection[str]) -> None:
    """Check that either a path or settings of a data set are given.

    Raises:
        ConfigError: both or neither are given.
    """
    if path is not None:
        common.exclude("a PATH", {option_name(name): True for name in settings})
    elif "dataset" not in settings:
        raise ConfigError("found neither a PATH nor --dataset, expected one of them", "Give a PATH, or --dataset NAME.")


def _open(settings: Record, takes: Collection[str] = WHERE) -> "Dataset":
    """A data set with the samples of both parts, or with a warning of the only existing part. Nothing is downloaded.

    Args:
        settings: settings from the command line.
        takes: settings that the environment may set.

    Raises:
        ConfigError: a setting is missing or invalid.
        DataError: the data are missing or damaged.
    """
    from lsgcli.data.datasets.base import SPLITS, dataset_of

    config = resolve({**settings, "val_fraction": 0.0}, takes=takes)
    dataset = dataset_of(config, may_download=False)
    dataset.check()
    if (dataset.downloads or config.data_dir is not None) and not dataset.root.is_dir():
        hint = "Give --data-dir the folder of the data" + ("; `lsg data prepare` downloads them." if dataset.downloads else ".")
        raise DataError(f"{dataset.root}: found no such folder, expected the data set {config.dataset}", hint)
    try:
        return dataset.scan(SPLITS)
    except MissingPart as missing:
        existing = next(split for split in SPLITS if split != missing.part)
        try:
            dataset.scan((existing,))
        except MissingPart:
            raise missing from None
        log.warning("%s\n  Continuing with the %s part only.", missing.message, existing)
        return dataset
