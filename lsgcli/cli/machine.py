"""This machine: ``lsg doctor``, checks of the installation; ``lsg bench``, its speed."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from typer import Option

from lsgcli.cli import common
from lsgcli.cli.options import Chosen
from lsgcli.errors import ConfigError, GateError, log
from lsgcli.report.output import print_json, print_result
from lsgcli.system.schema import Record

if TYPE_CHECKING:
    from rich.progress import Progress

SETTINGS = ("arch", "width_multiplier", "T", "size", "batch_size", "device", "precision", "threads")


def doctor(
    *,
    quick: Annotated[
        bool, Option("--quick", help="Leave out the backends, whose comparison takes longest, and say so.")
    ] = False,
    as_json: common.Json = False,
    verbosity: common.Verbosity,
) -> None:
    """Check this installation and machine: packages, GPU, threads, OpenMP, disk, backends.

    Each backend is compared with the backend reference, which takes seconds, on a busy machine minutes. Of a check that fails, what
    was expected and what to do is printed, and the exit status is 9. The output contains neither user names nor paths: paste it into
    a bug report.
    """
    common.messages(verbosity, common.AROUND)
    from lsgcli.report import terminal
    from lsgcli.runs.doctor import examine

    if not quick:
        log.info("testing backends; kernels are compiled once")
    with terminal.progress_bar(verbosity.quiet) as bar:
        record = examine(_shown_in(bar), quick=quick)
    failed = [check for check in record["checks"] if not check["ok"]]
    if as_json:
        print_json(record)
    else:
        rows = [[check["name"], "ok" if check["ok"] else "FAILED", check["found"]] for check in record["checks"]]
        terminal.show([terminal.table(("check", "result", "found"), rows, left=3), terminal.shown(record["versions"])])
        if record["left_out"]:
            print_result(f"left out by --quick: {', '.join(record['left_out'])}")
        for check in failed:
            print_result("\n{name}: found {found}, expected {expected}\n  {hint}".format(**check))
    if failed:
        raise GateError(f"failed: {', '.join(check['name'] for check in failed)}")


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
        record = benches.bench(config, mode.split(","), rounds, _shown_in(bar))
    if as_json:
        print_json(record)
        return
    heads = ("case", "contender", "samples_per_s", "ms", "time_over_lsg", "low", "high")  # the 95 % interval of time_over_lsg
    rows = []
    for row in record["rows"]:
        over = row["time_over_lsg"] or dict.fromkeys(("ratio", "low", "high"))
        rows.append([row["case"], row["contender"], row["samples_per_s"], row["ms"], *over.values()])
    terminal.show([terminal.facts(record["machine"]), terminal.table(heads, rows, left=2)])


def _shown_in(bar: "Progress") -> Callable[[str, int, int], None]:
    """Show progress with a description in one line of a bar."""
    task = bar.add_task("", total=None, note="")

    def progress(title: str, done: int, total: int) -> None:
        bar.update(task, description=title, completed=done, total=total, refresh=True)

    return progress
