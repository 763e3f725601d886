"""``lsg bench``: speed and memory on this machine."""

import sys
from typing import Annotated

from typer import Option

from lsgcli.cli import common
from lsgcli.cli.options import Chosen
from lsgcli.errors import ConfigError
from lsgcli.report.output import print_json, print_result
from lsgcli.system.schema import Record

SETTINGS = ("arch", "width_multiplier", "T", "size", "batch_size", "device", "precision", "threads")


def bench(
    *,
    mode: Annotated[str, Option(help="What to measure, comma-separated: train, inference, stream.")] = "train,inference,stream",
    rounds: Annotated[int, Option(min=2, max=1000, help="Rounds, in each of which every contender has a turn.")] = 5,
    as_json: common.Json = False,
    verbosity: common.Verbosity,
    settings: Annotated[Record, Chosen(SETTINGS)],
) -> None:
    """Measure samples per second and latency on this machine, on random data: the network of `lsg train` with the same options.

    It trains, infers and runs as a stream, timestep by timestep, beside the floor, the same network without normalisation and neurons. lsg-auto is lsg
    with --synapses auto. Contenders take turns. Close other programs first. `lsg train --dry-run` measures memory.
    """
    common.messages(verbosity, SETTINGS)
    from lsgcli.config.resolve import resolve
    from lsgcli.report import terminal
    from lsgcli.sweeps import bench as benches

    if unknown := [name for name in mode.split(",") if name not in benches.MODES]:
        raise ConfigError(
            f"--mode: found {', '.join(unknown)!r}, expected a comma-separated list of {', '.join(benches.MODES)}"
        )
    config = resolve(settings, takes=SETTINGS)
    bar = terminal.progress_bar(verbosity.quiet)
    bar.live.auto_refresh = False  # its thread would take time from the contenders
    with bar:
        task = bar.add_task("", total=rounds, note="")

        def progress(title: str, done: int, total: int) -> None:
            bar.update(task, description=title, completed=done, total=total, refresh=True)
            if bar.disable and done == 0:
                common.log.info("measuring %s", title)

        record = benches.bench(config, mode.split(","), rounds, progress)
    if as_json:
        print_json(record)
    else:
        show(record)
    if (load := record["machine"]["load"]) > benches.QUIET:
        common.log.warning(
            "found a load of %.1f before the first measurement, expected a quiet machine: times may be too long", load
        )


def show(record: Record) -> None:
    """Print the rows of a measurement, off a terminal separated by tabs; ``low`` to ``high`` is the 95 % interval of ``time_over_lsg``."""
    from lsgcli.report import terminal
    from lsgcli.report.tables import formatted

    heads = ("case", "contender", "samples_per_s", "ms", "time_over_lsg", "low", "high")
    rows = []
    for row in record["rows"]:
        over = row["time_over_lsg"] or dict.fromkeys(("ratio", "low", "high"))
        numbers = [f"{row['samples_per_s']:.4g}", f"{row['ms']:.4g}"]
        rows.append(
            [row["case"], row["contender"], *numbers, *(formatted(over[key], ".3f") for key in ("ratio", "low", "high"))]
        )
    if not sys.stdout.isatty():
        print_result("\n".join("\t".join(line) for line in (heads, *rows)))
        return
    terminal.show([terminal.facts(record["machine"]), terminal.table(heads, rows, left=2)])
