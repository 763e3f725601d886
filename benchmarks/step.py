"""Training and inference steps of lsg's networks compared with spikingjelly, snntorch, and the floor of convolutions only.

    pip install -e '.[bench]'
    python -m benchmarks.step --network vggsnn --precision fp32 --rounds 7
    python -m benchmarks.step --network vggsnn --width 0.25 -T 8 --inference --precision all
    python -m benchmarks.step --all              # the six cases of the documentation, every precision; --quick for a look
    python -m benchmarks.step --library          # the models that spikingjelly has too, both precisions: about 10 minutes

No other programs should run. The protocol is in ``benchmarks.bench.race``, the peers are in ``benchmarks.bench.peers``: each runs with the defaults
of its library, and as ``...-best`` with channels-last memory, the same allocator settings as lsg, its cheapest surrogate, and static
images convolved once. The floor has lsg's settings. All use the same optimiser and loss. Models that spikingjelly has too
(``benchmarks.bench.library``) run without snntorch and floor.

Tables are printed to stdout. After every round, the record is written: ``step-<case>-<precision>``, ``library-...`` for those models,
``compiled-...`` with a contender of ``torch.compile``, ``zeros-...`` with the contender ``lsg-auto``.
"""

import argparse
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.bench.cases import CONTENDERS, DEFAULTS, OF_LIBRARY, Case, case
from benchmarks.bench.race import race
from benchmarks.contenders import USUAL
from benchmarks.measuring import machine, write
from benchmarks.tables import Table, megabytes, show

PRECISIONS = {
    "fp32": ("fp32",),
    "bf16": ("bf16",),
    "int8": ("int8",),
    "both": ("fp32", "bf16"),
    "all": ("fp32", "bf16", "int8"),  # of inference
}
NEEDS = {"SpikingJelly": "spikingjelly", "SnnTorch": "snntorch", "Onnx": "onnxruntime"}
# With the number of rounds that fits: full-width steps take seconds.
ALL = (
    (case("vggsnn"), 7),
    (case("resnet19"), 7),
    (case("vggsnn", width=0.25, T=8), 15),
    (case("vggsnn", "inference"), 9),
    (case("resnet19", "inference"), 9),
    (case("vggsnn", "inference", width=0.25, T=8), 15),
)

LIBRARY = tuple((case(network), 5) for network in OF_LIBRARY)


def entries(names: Sequence[str], precision: str) -> list[tuple[str, str]]:
    """Who runs in which precision; in int8, lsg only.

    With several, snntorch runs in fp32 only: its spikes are float32 under autocast, and all contenders are in memory at once.
    """
    both = len(PRECISIONS[precision]) > 1
    return [
        (name, each)
        for each in PRECISIONS[precision]
        for name in names
        if not (both and each == "bf16" and CONTENDERS[name].kit == "SnnTorch")
        and (each != "int8" or CONTENDERS[name].kit == "lsg")
    ]


def installed(names: Sequence[str]) -> list[str]:
    """Those whose library is there."""
    found = [name for name in names if importlib.util.find_spec(NEEDS.get(CONTENDERS[name].kit, "torch"))]
    if missing := [name for name in names if name not in found]:
        print(f"not installed, left out: {', '.join(missing)}", file=sys.stderr)
    return found


def chosen(parser: argparse.ArgumentParser, contenders: str) -> list[str]:
    """Those of a comma-separated list whose library is there; another name is an error."""
    names = contenders.split(",")
    if unknown := [name for name in names if name not in CONTENDERS]:
        parser.error(f"unknown contender {', '.join(unknown)}; there are {', '.join(CONTENDERS)}")
    return installed(names)


def measure(
    which: Case,
    names: Sequence[str],
    precision: str,
    rounds: int,
    warm: int,
    threads: int | None,
    name: str,
    described: Callable[[dict[str, Any]], list[Table]],
) -> None:
    """Race, keep the record and print its tables."""
    facts = machine("spikingjelly", "snntorch", "numba")
    if (load := os.getloadavg()[0]) > 0.5:
        print(f"the machine is not quiet: load {load:.1f}", file=sys.stderr)

    for record in race(which, entries(names, precision), rounds=rounds, warm=warm, threads=threads):
        write(name, {"machine": facts, **record})
        print(f"\r{which}: round {record['protocol']['rounds']} of {rounds}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    show(described(record))
    for contender, found in record["contenders"].items():
        if wrong := found["network"]["degenerate"]:
            print(f"{contender} is degenerate: {wrong}", file=sys.stderr)


def tables(record: dict[str, Any]) -> list[Table]:
    """Contenders, lsg's ratios to them, and what they compute."""
    which, done = Case(**record["case"]), record["protocol"]
    title = f"{which.title}: {done['rounds']} rounds, {done['threads']} threads"
    return [_speeds(record, title), _ratios(record), _networks(record)]


def _speeds(record: dict[str, Any], title: str) -> Table:
    table = Table(title, ("contender", "s per step", "quartiles", "samples/s", "peak MB", "first step, s"))
    for name, found in record["contenders"].items():
        seconds = found["seconds"]
        spread = f"{seconds['low']:.4g} to {seconds['high']:.4g}"
        first = found.get("first_seconds", "")  # earlier records have none
        row = (seconds["median"], spread, found["samples_per_second"], megabytes(found["peak_bytes"]), first)
        table.rows.append((name, *row))
    return table


def _ratios(record: dict[str, Any]) -> Table:
    table = Table("Ratios over rounds", ("", "compared with", "speed ratio", "95 % interval", "min, max", "peak memory ratio"))
    for ours, others in record["ratios"].items():
        for other, found in others.items():
            if comparable(ours, other):
                low, high, least, most = (f"{found[key]:.2f}" for key in ("low", "high", "min", "max"))
                speed, peak = f"{found['ratio']:.2f} x", f"{found['peak']:.2f} x"
                table.rows.append((ours, other, speed, f"{low} to {high}", f"{least}, {most}", peak))
    return table


def _networks(record: dict[str, Any]) -> Table:
    head = ("network", "weights", "parameters", "MMACs per sample", "firing rate", "per layer", "gradient norm per layer")
    table = Table("Networks", head)
    for name, found in record["contenders"].items():
        facts = found["network"]
        rates, norms = facts["firing_rates"], facts["gradient_norms"]
        mean = f"{sum(rates) / len(rates):.3f}" if rates else ""
        of = (
            f"{min(rates):.3f} to {max(rates):.3f}" if rates else "",
            f"{min(norms):.2g} to {max(norms):.2g}" if norms else "",
        )
        table.rows.append((name, facts["weights"], facts["parameters"], facts["macs_per_sample"] / 1e6, mean, *of))
    return table


def comparable(ours: str, other: str) -> bool:
    """Whether the table shows the pair: the same precision, lsg's bf16 against a peer's fp32, or its int8 against floats."""
    if ours.endswith("int8"):
        return other.startswith(("lsg", "spikingjelly"))
    return ours.split()[1] == other.split()[1] or (ours.endswith("bf16") and not other.startswith(("lsg", "floor")))


def case_arguments(parser: argparse.ArgumentParser) -> None:
    """Options that say which case."""
    parser.add_argument("--network", choices=sorted(DEFAULTS), default="vggsnn")
    parser.add_argument("--width", type=float, default=1.0)
    for name, help_ in (("-T", "timesteps"), ("--batch", "samples per step"), ("--size", "height and width in pixels")):
        parser.add_argument(name, type=int, help=f"{help_}; default: the network's usual one")


def given_case(options: argparse.Namespace) -> Case:
    """The case that :func:`case_arguments` describe."""
    sizes = {key: getattr(options, key) for key in ("T", "batch", "size")}
    return case(options.network, getattr(options, "mode", "train"), options.width, **sizes)


def main() -> None:
    """Measure one case, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    case_arguments(parser)
    parser.add_argument(
        "--precision", choices=sorted(PRECISIONS), help="default: fp32; with --all: both, and all for inference"
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--train", dest="mode", action="store_const", const="train", default="train", help="the default")
    mode.add_argument(
        "--inference", dest="mode", action="store_const", const="inference", help="with folded tdBN, forward only"
    )
    parser.add_argument("--rounds", type=int, help="number of timed rounds; default: 7, or as many as fit with --all")
    parser.add_argument("--warm", type=int, default=2, help="rounds before those")
    parser.add_argument("--threads", type=int, help="of each contender; default: all cores")
    parser.add_argument("--contenders", default=",".join(USUAL), help=f"of {', '.join(CONTENDERS)}")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--all", action="store_true", help="the six cases of the documentation")
    group.add_argument("--library", action="store_true", help="a training step of each model that spikingjelly has too")
    parser.add_argument("--quick", action="store_true", help="2 rounds, and no snntorch: a look, kept under another name")
    options = parser.parse_args()
    names = chosen(parser, options.contenders)
    names = [name for name in names if not (options.quick and CONTENDERS[name].kit == "SnnTorch")]
    rounds, warm = (2, 1) if options.quick else (options.rounds, options.warm)
    cases = ALL if options.all else LIBRARY if options.library else ((given_case(options), 7),)
    for which, usual in cases:
        several = "all" if which.mode == "inference" else "both"
        precision = options.precision or (several if options.all or options.library else "fp32")
        if "int8" in PRECISIONS[precision] and which.mode != "inference":
            parser.error("int8 is for --inference")
        shared = which.network in OF_LIBRARY
        present = [name for name in names if not shared or CONTENDERS[name].kit in ("lsg", "SpikingJelly")]
        compiled = any(CONTENDERS[name].compiled for name in present)
        kind = "library" if shared else "compiled" if compiled else "zeros" if "lsg-auto" in present else "step"
        name = f"{kind}-{which}-{precision}{'-quick' if options.quick else ''}"
        measure(which, present, precision, rounds or usual, warm, options.threads, name, tables)


if __name__ == "__main__":
    main()
