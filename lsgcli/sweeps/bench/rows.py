"""``lsg bench``: the network of some settings, beside the floor and other libraries, in training, inference and as a stream."""

import contextlib
import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lsgcli.config.run import RunConfig
from lsgcli.errors import ConfigError
from lsgcli.sweeps.bench import streaming
from lsgcli.sweeps.bench.cases import CONTENDERS, OF_LIBRARY, Case
from lsgcli.sweeps.bench.measuring import machine
from lsgcli.sweeps.bench.peers import NETWORKS
from lsgcli.sweeps.bench.race import look_at, race
from lsgcli.system import cpus
from lsgcli.system.device import check_gradients, pick_device, pick_precision

QUIET = 0.5  # load from which times may be too long
MODES = ("train", "inference", "stream")
PEERS = {"spikingjelly": "spikingjelly-best", "snntorch": "snntorch-best"}  # package -> contender
Entry = tuple[str, str]  # contender and precision
Progress = Callable[[str, int, int], object]  # what, rounds done, rounds


def missing() -> list[str]:
    """The packages of ``PEERS`` that are not installed."""
    return [package for package in PEERS if importlib.util.find_spec(package) is None]


def chosen_peers(text: str | None, config: RunConfig) -> list[str]:
    """The packages of a comma-separated list, or ``none``; by default, those that are installed and have the network.

    Raises:
        ConfigError: a package is unknown, not installed, or does not have the network.
    """
    able = [package for package, name in PEERS.items() if any(_has(name, case) for case in cases(config, MODES))]
    if text is None:
        return [package for package in able if package not in missing()]
    packages = [] if text == "none" else text.split(",")
    for package in packages:
        if package not in PEERS:
            raise ConfigError(f"--against: found {package!r}, expected none or a comma-separated list of {', '.join(PEERS)}")
        if package in missing():
            raise ConfigError(
                f"--against {package}: found no such package, expected it installed", hint=f"pip install {package}"
            )
        if package not in able:
            raise ConfigError(
                f"--against {package}: found --arch {config.arch} with width {config.width_multiplier:g}, which is not written with it",
                hint=f"Use --arch {' or '.join(NETWORKS)}"
                + (f", or {', '.join(OF_LIBRARY)} with --width-multiplier 1" * (package == "spikingjelly"))
                + ".",
            )
    return packages


def cases(config: RunConfig, modes: Sequence[str]) -> list[Case]:
    """The cases of a network, in the order of ``MODES``; a stream has one sample."""
    width, device = config.width_multiplier, pick_device(config.device).type
    return [
        Case(config.arch, config.T, 1 if mode == "stream" else config.batch_size, config.size, width, mode, device)
        for mode in MODES
        if mode in modes
    ]


def entries(case: Case, precision: str, packages: Sequence[str], with_int8: bool) -> list[Entry]:
    """Who competes in a case: lsg first; other libraries and the floor in float32 beside int8.

    Args:
        precision: of lsg.
        packages: of other libraries.
        with_int8: also lsg in int8, if the processor multiplies integers exactly.
    """
    found = [("lsg", precision)]
    if case.device == "cpu" and precision != "int8":
        found.append(("lsg-auto", precision))
        with contextlib.suppress(ConfigError):
            if with_int8 and case.mode != "train":
                found.append(("lsg", pick_precision("int8", pick_device("cpu"))[0]))
    others = ("floor", *(PEERS[package] for package in packages))
    return found + [(name, "fp32" if precision == "int8" else precision) for name in others if _has(name, case)]


def _has(name: str, case: Case) -> bool:
    """Whether a contender other than lsg has the network of a case."""
    of_library = case.network in OF_LIBRARY and case.width == 1 and case.mode != "stream"
    return case.network in NETWORKS or (of_library and CONTENDERS[name].kit == "SpikingJelly")


def bench(
    config: RunConfig, packages: Sequence[str], modes: Sequence[str], rounds: int, progress: Progress = lambda *_: None
) -> dict[str, Any]:
    """Measure each case, as ``python -m benchmarks.step`` and ``python -m benchmarks.streaming`` in the repository do.

    Args:
        config: architecture, sizes, device, precision and threads.
        packages: keys of ``PEERS``.
        modes: of ``MODES``.
        rounds: number of rounds, in each of which every contender has a turn.
        progress: called before the first round of a case and after each.

    Returns:
        ``machine``: processor, memory and versions; threads, device, precision and the reason for it; load before the first case.
        ``rows``: of :func:`rows_of`.
        ``convolutions``: case -> the choices of ``--convolution auto``, see :func:`lsgcli.sweeps.bench.checking.choices`.

    Raises:
        ConfigError: the network or the machine does not support the settings.
        LsgError: the process of a contender failed.
    """
    if config.arch == "nir":
        raise ConfigError("--arch: found nir, whose layers are in a file, expected another network")
    device = pick_device(config.device)
    precision, reason = pick_precision(config.precision, device)
    if precision == "fp16" or device.index:
        raise ConfigError(
            f"found precision {precision} on the device {device}, expected fp32, bf16 or int8 on cpu or cuda",
            hint="Use --precision fp32; CUDA_VISIBLE_DEVICES selects a GPU.",
        )
    threads = cpus.limited("threads", config.threads) if config.threads else cpus.usable(cpus.THREADS)[0]
    about = {"threads": threads, "device": device.type, "precision": precision, "because": reason, "load": os.getloadavg()[0]}
    record: dict[str, Any] = {"machine": machine("numba", *PEERS) | about, "rows": [], "convolutions": {}}
    for case in cases(config, modes):
        if case.mode == "train":
            check_gradients(precision)
        competing = entries(case, precision, packages, config.precision == "auto")
        progress(case.title, 0, rounds)
        networks = look_at(case, [entry for entry in competing if CONTENDERS[entry[0]].kit == "lsg"], threads)
        measure = streaming.measure if case.mode == "stream" else race
        for measured in measure(case, competing, rounds=rounds, threads=threads, networks=networks):
            progress(case.title, measured["protocol"]["rounds"], rounds)
        record["rows"] += rows_of(case, measured)
        chosen = {str(case): facts["convolutions"] for facts in networks.values() if "convolutions" in facts}
        record["convolutions"] |= chosen
    return record


def rows_of(case: Case, record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of the record of a race or of a stream.

    Returns:
        ``contender``: name and precision; ``case``, and its ``title``; ``ms``: median of a step, which is a batch, or in a stream one timestep of one
        sample; ``samples_per_s``, of whole samples; ``peak_mb``, in 1e6 bytes: of the process, or on a GPU of its tensors; ``time_over_lsg``: ``ratio`` of
        its time to that of the first contender, paired by rounds, with its 95 % interval, ``low`` to ``high``; None for the first.
    """
    ratios = record["ratios"][next(iter(record["contenders"]))]
    rows = []
    for name, found in record["contenders"].items():
        streams = case.mode == "stream"
        ms = found["median"] if streams else 1e3 * found["seconds"]["median"]
        over = {key: ratios[name][key] for key in ("ratio", "low", "high")} if name in ratios else None
        samples = case.batch / (case.T if streams else 1)
        rows.append(
            {
                **{"contender": name, "case": str(case), "title": case.title, "samples_per_s": 1e3 * samples / ms, "ms": ms},
                **{"peak_mb": found["peak_bytes"] / 1e6, "time_over_lsg": over},
            }
        )
    return rows
