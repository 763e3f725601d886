"""``lsg train``: train a network and print the path of its checkpoint."""

import os
from pathlib import Path
from typing import Annotated, NamedTuple

from typer import Option

from lsgcli.cli import common
from lsgcli.cli.options import Chosen
from lsgcli.config.fields import listed
from lsgcli.config.resolve import as_toml, from_environment, resolve, sources
from lsgcli.config.run import FIELDS, MAY_CHANGE, RunConfig, check_effect, from_dict, option_name
from lsgcli.errors import ConfigError, log, refuse
from lsgcli.report.output import print_exact, print_json, print_result
from lsgcli.store import hub, plugins, rundir
from lsgcli.system.ranks import here
from lsgcli.system.schema import Record
from lsgcli.training.launch import launch, parse


class Start(NamedTuple):
    """What a run starts from, and its directory."""

    config: common.ConfigFile = None
    out: Annotated[Path | None, Option(help="Run directory. Default: a new directory below runs/.")] = None
    resume: Annotated[
        Path | None,
        Option(
            metavar="RUN",
            help="Resume a stopped run with its saved settings, or extend a finished one with more --epochs.",
        ),
    ] = None
    force: Annotated[bool, Option("--force", help="Replace the run in --out.")] = False


class Instead(NamedTuple):
    """What is printed instead of training."""

    dry_run: Annotated[
        bool,
        Option(
            "--dry-run",
            help="Build the model, measure time and memory of a few steps, and exit. Downloads no data: if a published data set is "
            "not there, the steps are on random samples.",
        ),
    ] = False
    print_config: Annotated[
        bool,
        Option("--print-config", help="Print the settings as a TOML file for --config, with their sources, and exit."),
    ] = False


def train(
    *,
    start: Start,
    instead: Instead,
    as_json: Annotated[bool, Option("--json", help="Print events as JSON lines instead of the checkpoint's path.")] = False,
    devices: Annotated[
        str | None,
        Option(
            help="Train on several devices, one process each: a number of GPUs (4), some of them (0-3 or 0,2), or processes on the "
            "CPU (cpu:2). --batch-size stays the whole batch. Default: one device."
        ),
    ] = None,
    no_test: Annotated[
        bool, Option("--no-test", help="Neither read nor evaluate the test part; needs a validation split.")
    ] = False,
    verbosity: common.Verbosity,
    settings: Annotated[Record, Chosen(FIELDS)],
) -> None:
    """Train a network and print the path of its checkpoint.

    \b
    lsg train                                         embedded data, under a minute on two CPU cores
    lsg train --method fixed --epochs 2 --out run     another method, in a directory of your choice
    lsg train --dataset cifar10 --arch resnet19 -T 2  downloads the data
    lsg train --config run --seed 1                   the settings of a run, or a TOML file, with changes
    lsg train --resume run --epochs 20                more epochs

    The run directory contains config.json, metrics.jsonl, gradient-flow.jsonl, gradient-flow.json, result.json, best.safetensors, last.safetensors and
    report.html. The printed checkpoint is that of the best epoch if there is a validation split, otherwise that of the last epoch.

    To continue a run stopped by a signal (status 75), repeat the command with the same --out.
    """
    rank = here().rank
    processes = here().size
    quiet = verbosity.quiet or rank > 0
    common.messages(verbosity._replace(quiet=quiet), MAY_CHANGE if start.resume else FIELDS)
    chosen = parse(devices) if devices is not None else None
    if chosen is not None and not chosen.gpus:
        settings.setdefault("device", "cpu")
    run_config = _of_new_run(settings, start) if start.resume is None else _of_resumed_run(start.resume, settings, start)
    if instead.print_config:
        common.exclude("--print-config", {"--dry-run": instead.dry_run, "--json": as_json})
        text = as_toml(run_config, sources(run_config, settings, start.resume or start.config))
        print_result(f"#:schema ./lsg.schema.json\n# which `lsg list settings --json-schema` prints\n{text.rstrip()}")
        return
    if chosen is not None and processes == 1:
        chosen.use()
        if chosen.count > 1 and not instead.dry_run:
            raise SystemExit(launch(chosen))
    for initial in (run_config.init_from, run_config.width_from) if start.resume is None else ():
        if initial is not None:
            hub.local(initial)  # before torch is imported, if it does not exist
    from lsgcli.report import terminal
    from lsgcli.report.display import TrainingDisplay
    from lsgcli.report.run_page import run_page
    from lsgcli.runs.run import train_together
    from lsgcli.training.signals import stop_on_signals

    if instead.dry_run:
        from lsgcli.runs.dry_run import dry_run as measure

        with TrainingDisplay(quiet=quiet) as display:
            cost = measure(run_config, progress=display.preparing)
        if as_json:
            print_json({**cost, "sources": sources(run_config, settings, start.resume or start.config)})
        else:
            print_result(terminal.facts({name: value for name, value in cost.items() if name != "settings"}))
        return

    def emit(record: Record) -> None:
        display(record)
        if as_json and rank == 0 and record["event"] not in ("preparing", "step"):
            print_json({k: v for k, v in record.items() if k != "table"})

    with stop_on_signals(interrupt=processes == 1) as stop, TrainingDisplay(quiet=quiet) as display:
        end = train_together(
            run_config,
            emit,
            stop,
            path=start.resume or start.out,
            force=start.force,
            resume=start.resume is not None,
            test=not no_test,
            page=run_page,
        )
    if end is not None and not as_json:
        print_exact(end["checkpoint"])
    if end is not None:
        common.say_next("lsg", "inspect-gradients", end["run"], "--advise")


def _of_new_run(settings: Record, start: Start) -> RunConfig:
    """The settings of a new run; with --force, its directory must not contain a checkpoint that the run is initialised from."""
    if start.force and start.out is None:
        raise ConfigError("--force: found no --out, expected the run directory to replace")
    if start.config is not None and rundir.is_run(start.config):
        plugins.of_run(start.config)
    run_config = resolve(settings, file=start.config)
    if start.out is None or not start.force:
        return run_config
    for name in ("init_from", "width_from"):
        value = getattr(run_config, name)
        if value and Path(value).resolve().is_relative_to(start.out.resolve()):
            raise ConfigError(f"{option_name(name)} {value}: is inside the run that --force replaces", "Choose another --out.")
    return run_config


def _of_resumed_run(path: Path, settings: Record, start: Start) -> RunConfig:
    """The saved settings, updated with those that may change, from the environment and the command line."""
    fixed = set(settings) - MAY_CHANGE - {"epochs"}
    problems = [f"{option_name(name)}: cannot be changed when a run is resumed" for name in settings if name in fixed]
    others = {"--out": start.out, "--force": start.force, "--config": start.config}
    problems += [f"{option}: cannot be combined with --resume" for option, value in others.items() if value]
    refuse(
        problems,
        "Omit these options: a resumed run keeps its directory and settings. To change settings, start a new run: "
        "lsg train --config RUN --out NEW",
    )
    rundir.check_free(path, resume=True)
    plugins.of_run(path)
    stored = rundir.read_config(path)
    folder = rundir.read_data_folder(path)
    changed = from_dict({**stored.to_dict(), "data_dir": folder, **from_environment(os.environ, MAY_CHANGE), **settings})
    check_effect(settings, changed)
    if listed(stored.log) and changed.log == stored.log and "log" not in settings:
        log.info("--log %s: as in config.json", stored.log)
    if changed.epochs < stored.epochs:
        raise ConfigError(f"--epochs: found {changed.epochs}, expected at least {stored.epochs}, as in the run {path}")
    return changed
