"""Results of commands as text and tables for a terminal."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from lsgcli.config.run import RunConfig, option_name, without_effect
from lsgcli.errors import counted
from lsgcli.report.tables import formatted
from lsgcli.report.terminal import Table

Parts = list[Any]  # tables, and lines that are printed whole, such as paths
MOST = 5  # names shown
SCORES = {"precision": "precision", "recall": "recall", "f1": "F1"}  # field -> heading


def _table(heads: Iterable[str], rows: Iterable[Sequence[str]], title: str | None = None, left: int = 1) -> Table:
    """A table whose first ``left`` columns are aligned at the left, the others at the right."""
    table = Table(title=title)
    for number, head in enumerate(heads):
        table.add_column(head, justify="left" if number < left else "right")
    for row in rows:
        table.add_row(*row)
    return table


def _facts(facts: Mapping[str, str]) -> str:
    """A line for each name and value, with the values in a column."""
    width = max(map(len, facts)) + 2
    return "\n".join(f"{name + ':':<{width}} {text}" for name, text in facts.items())


def settings_parts(config: RunConfig, sources: Mapping[str, str]) -> Parts:
    """All settings of a run and their sources, as returned by :func:`lsgcli.config.resolve.sources`."""
    rows = []
    for name, value in config.to_dict().items():
        idle = ", no effect here" if without_effect({name: value}, [config]) else ""
        rows.append([option_name(name), "-" if value is None else f"{value}", sources[name] + idle])
    return [_table(["setting", "value", "source"], rows, left=3)]


def cost_text(cost: dict[str, Any]) -> str:
    """Result of a dry run."""
    settings, epoch = cost["settings"], cost["seconds_per_epoch"]
    return _facts(
        {
            "data set": f"{settings['dataset']}: " + ", ".join(f"{n} {name}" for name, n in cost["samples"].items() if n),
            "network": f"{settings['arch']}, width x {settings['width_multiplier']:g}, method {settings['method']}",
            "input": "x".join(map(str, cost["input"])) + (" (T, B, C, H, W)" if len(cost["input"]) == 5 else " (B, C, H, W)"),
            **({"batch size": cost["batch_size"]["text"]} if "batch_size" in cost else {}),
            "logits": "x".join(map(str, cost["output"])) + " (T, B, classes)",
            "parameters": f"{cost['parameters']:,} ({cost['parameter_bytes'] / 2**20:.1f} MiB)",
            "MACs": f"{cost['macs_per_sample'] / 1e6:,.1f} million per sample, forward, all timesteps",
            "spikes": f"{cost['spikes_per_sample'] / 1e3:,.1f} thousand per sample, all timesteps, before training",
            "precision": f"{cost['precision']['used']} ({cost['precision']['because']})",
            "convolutions": _convolutions(cost["convolution"]),
            "peak memory": f"{cost['peak_bytes'] / 2**20:,.0f} MiB, {cost['peak_of']}, in a few steps",
            **({"memory": cost["memory"]} if cost["memory"] != "none" else {}),
            "time": f"{cost['seconds_per_step']:.3f} s per step, {epoch:.1f} s per epoch, {cost['seconds_total'] / 60:.1f} min in total, "
            "without evaluation",
        }
    )


def _convolutions(record: Mapping[str, Any]) -> str:
    """Choice between dense convolutions and those by spikes, with the range of the crossings."""
    if not record["crossings"]:
        return str(record["used"])
    forward, weight = zip(*record["crossings"].values(), strict=True)
    ranges = [f"{min(one):.2f} to {max(one):.2f}" for one in (forward, weight)]
    return f"{record['used']}: by spikes below {ranges[0]} spikes per element (forward), {ranges[1]} (weights)"


def runs_table(records: Sequence[Mapping[str, Any]]) -> Table:
    """Runs, as recorded by :func:`lsgcli.runs.overview.find`, with a row each."""
    heads = ("state", "data set", "network", "method", "seed", "epochs", "val", "test", "started", "path")
    rows = [
        [
            *(str(run[key] or "-") for key in ("state", "dataset", "arch", "method")),
            *("-" if run["seed"] is None else str(run["seed"]), f"{run['epoch'] or 0}/{run['epochs'] or '-'}"),
            *(formatted(run[key], ".4f") for key in ("val_accuracy", "test_accuracy")),
            *((run["started"] or "-")[:16].replace("T", " "), run["path"]),
        ]
        for run in records
    ]
    return _table(heads, rows, left=len(heads))


def structure_parts(record: Mapping[str, Any]) -> Parts:
    """A network, as described by :mod:`lsgcli.runs.describe`."""
    heads = ("layer", "kind", "output", "weights", "multiplications", "neuron", "decay", "width", "threshold")
    rows = [
        [
            *(layer["name"], layer["kind"], "x".join(map(str, layer["shape"] or "-")), f"{layer['weights']:,}"),
            *(f"{layer['multiplications']:,}", layer["neuron"] or "-"),
            *(formatted(layer[key], ".4g") for key in ("decay", "width", "threshold")),
        ]
        for layer in record["layers"]
    ]
    facts = {
        "network": record["arch"],
        "input": "x".join(map(str, record["input"])),
        "parameters": f"{record['parameters']:,}",
        "multiplications": f"{record['multiplications']:,} per sample, all timesteps",
        **{name.replace("_", " "): _fact(value) for name, value in record["provenance"].items()},
    }
    settings = ([name, str(value)] for name, value in record["settings"].items())
    table = _table(("setting", "value"), settings, "settings that differ from the defaults", left=2)
    return [_facts(facts), _table(heads, rows, left=3), *([table] if record["settings"] else ())]


def _fact(value: Any) -> str:
    """A value of JSON types in one line."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_fact(one)}" for key, one in value.items() if one is not None)
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def doctor_parts(record: Mapping[str, Any]) -> Parts:
    """Result of :func:`lsgcli.runs.doctor.examine`: a table of checks, versions, and what to do about checks that failed."""
    rows = [[check["name"], "ok" if check["ok"] else "FAILED", check["found"]] for check in record["checks"]]
    installed = ", ".join(f"{name} {version}" for name, version in record["versions"].items() if version)
    failed: dict[tuple[str, str, str], list[str]] = {}  # several for the same reason, such as a package that cannot be imported
    for check in record["checks"]:
        if not check["ok"]:
            failed.setdefault((check["found"], check["expected"], check["hint"]), []).append(check["name"])
    advice = [
        f"\n{', '.join(names)}: found {found}, expected {wanted}\n  {hint}" for (found, wanted, hint), names in failed.items()
    ]
    return [_table(("check", "result", "found"), rows, left=3), installed, *advice]


def taken_text(source: Mapping[str, Any]) -> str:
    """Description of the tensors initialised from ``--init-from``, as returned by :func:`lsgcli.training.initialise.initialise`."""
    new = (
        f"  new: {name} {tuple(tensor['shape'])}; in the checkpoint: {'none' if tensor['found'] is None else tuple(tensor['found'])}"
        for name, tensor in source["new"].items()
    )
    unused = (f"  not used: {name} {tuple(shape)}" for name, shape in source["unused"].items())
    head = f"initialised {len(source['taken'])} tensors by name from --init-from (sha256 {source['sha256'][:12]})"
    return "\n".join([head, *new, *unused])


def evaluation_tables(record: dict[str, Any]) -> Parts:
    """Accuracy, scores per class and their averages, confusion matrix (up to 12 classes) and firing rates."""
    top5 = f"  top-5 {record['top5_accuracy']:.4f}" if "top5_accuracy" in record else ""
    head = f"accuracy {record['accuracy']:.4f}{top5}  loss {record['loss']:.4f}  {record['samples']} samples  {record['samples_per_s']:.1f} samples/s"
    with_confusion = len(record["per_class"]) <= 12
    scores = [record["scores"][name].values() for name in SCORES]
    rows = [
        [f"{index} {name}", *(formatted(score, ".3f") for score in own), *(map(str, counts) if with_confusion else ())]
        for index, (name, counts, *own) in enumerate(zip(record["per_class"], record["confusion"], *scores, strict=True))
    ]
    title = "per class (rows: label, columns: prediction)" if with_confusion else "per class"
    heads = ["class", *SCORES.values(), *(map(str, range(len(rows))) if with_confusion else ())]
    rows.append(
        ["average", *(formatted(record[name], ".3f") for name in SCORES), *([""] * len(rows) if with_confusion else ())]
    )
    rates = [[layer, f"{rate:.4f}"] for layer, rate in record["firing_rate"].items()]
    return [
        head,
        _table(heads, rows, title),
        _table(["layer", "spikes per neuron and timestep"], rates, "firing rate"),
    ]


def synops_parts(record: dict[str, Any]) -> Parts:
    """A record of :class:`lsgcli.analysis.energy.SynapticOperations`, per sample, compared with the same-shape ANN."""
    total, rows = record["total"], []
    for layer in record["layers"]:
        kind = layer["input"] if layer["averages_over"] is None else f"{layer['input']} of {layer['averages_over']}"
        measured = (formatted(layer[key], ".3f") for key in ("density", "firing_rate"))
        rows.append([layer["name"], kind, *measured, *_operations(layer)])
    heads = ("layer", "input", "not 0", "firing rate", "AC", "MAC", "energy", "ANN: MAC", "energy")
    table = _table(heads, rows, "synaptic operations per sample, all timesteps", left=2)
    table.add_section()
    table.add_row("total", "", "", "", *_operations(total))
    return [
        table,
        f"AC: an addition, {record['ac_pj']} pJ; MAC: a multiplication and an addition, {record['mac_pj']} pJ. The same-shape ANN, run "
        f"once, requires {total['ann_energy_pj'] / max(total['energy_pj'], 1e-12):.2f} times the energy.",
        f"Energy is {record['note']}.",
    ]


def _operations(record: dict[str, Any]) -> list[str]:
    energies = ("pJ", "nJ", "uJ", "mJ")
    return [
        _prefixed(record["ac"]),
        _prefixed(record["mac"]),
        _prefixed(record["energy_pj"], energies),
        _prefixed(record["ann_mac"]),
        _prefixed(record["ann_energy_pj"], energies),
    ]


def _prefixed(number: float, units: Sequence[str] = ("", "k", "M", "G")) -> str:
    """A number with three digits and the largest of four units that it exceeds, each 1000 times the one before."""
    power = sum(number >= limit for limit in (1e3, 1e6, 1e9))
    return f"{number / 1000**power:.3g} {units[power]}".rstrip()


def _spread(spread: dict[str, int]) -> str:
    if spread["min"] == spread["max"]:
        return f"{spread['min']:,}"
    return "{min:,} / {median:,} / {max:,}".format(**spread)


def _counts(counts: dict[str, int], form: str) -> str:
    return ", ".join(form.format(name, count) for name, count in counts.items())


def _some(names: list[str]) -> str:
    """Number of names, and the first of them."""
    more = f" and {len(names) - MOST:,} more" if len(names) > MOST else ""
    return f"{len(names):,}: {', '.join(names[:MOST])}{more}"


# Field of the record, label, format. Missing fields are skipped.
INFO: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("dataset", "data set", str),
    ("recordings", "recordings", "{:,}".format),
    ("samples", "images", "{:,}".format),
    ("parts", "parts", lambda parts: _counts(parts, "{} {:,}")),
    ("events", "events", "{:,}".format),
    ("events_per_recording", "events per recording", _spread),
    ("duration_us", "duration, us", _spread),
    ("events_per_s", "events/s", _spread),
    ("on_share", "fraction of ON", "{:.1%}".format),
    ("sensor", "sensor", lambda size: f"{size[0]} x {size[1]}"),
    ("size", "size", lambda size: " x ".join(map(str, size))),
    ("formats", "format", lambda formats: _counts(formats, "{} ({:,})")),
    ("bytes", "bytes", "{:,}".format),
    ("release", "release", lambda text: f"CIFAR10-DVS, {text}"),
    ("orientation", "orientation", str),
    ("unreadable", "unreadable", lambda bad: _some([one["name"] for one in bad])),
    ("digest", "digest", str),
)


def info_parts(record: dict[str, Any]) -> Parts:
    """The path, a table of facts, and a table of counts per class, if there are classes."""
    rows = {key: [name, show(record[key])] for key, name, show in INFO if record.get(key) not in (None, {}, [])}
    if "sensor" in rows and not record.get("sensor_stated", True):
        by_all = " by all recordings" if record.get("sensors") else ""
        rows["sensor"][1] += f" (extent of the events; not stated{by_all})"
    facts = _table(["what", "value"], rows.values(), left=2)
    facts.show_header = False
    if record.get("recordings", 1) != 1:
        facts.caption = "three numbers: minimum / median / maximum"
    path = record.get("path") or record.get("data_dir")
    parts: Parts = [facts] if path is None else [path, facts]
    if record["classes"]:
        heads = ["class", "recordings" if "recordings" in record else "images"]
        parts.append(_table(heads, ([name, f"{count:,}"] for name, count in record["classes"].items())))
    return parts


def preparation_parts(record: dict[str, Any]) -> Parts:
    """Result of ``lsg data prepare``, and the file of each part."""
    rows = [
        [
            name,
            f"{part['recordings']:,}",
            f"{' x '.join(map(str, part['shape']))} {part['dtype']}",
            f"{part['bytes'] / 1e6:,.1f}",
        ]
        for name, part in record["parts"].items()
    ]
    table = _table(["part", "recordings", "sample shape", "MB"], rows, f"{record['dataset']}, {record['seconds']:.1f} s")
    return [table, *(f"{name}: {part['path'] or 'in memory, no file'}" for name, part in record["parts"].items())]


def verification_text(record: dict[str, Any]) -> str:
    """Result of ``lsg data verify``."""
    known = f"{len(record['missing'])} missing, {len(record['changed'])} changed"
    extra = f", not listed {_some(record['extra'])}" if record["extra"] else ""
    none = "none (--write creates one)" if record["folder"] else "none"
    return _facts(
        {
            "folder" if record["folder"] else "data set": record["path"],
            "manifest": f"{', '.join(record['manifests'])}: {known}{extra}" if record["manifests"] else none,
            "samples": f"{record['samples']:,} read, {len(record['unreadable'])} unreadable",
            "verdict": "ok" if record["ok"] else "FAULTY",
        }
    )


def bench_lines(record: dict[str, Any]) -> list[str]:
    """Rows of ``lsg bench``, separated by tabs, below their names; ``low`` to ``high`` is the 95 % interval of ``time_over_lsg``."""
    lines = [("case", "contender", "samples_per_s", "ms", "peak_mb", "time_over_lsg", "low", "high")]
    for row in record["rows"]:
        over = (row["time_over_lsg"] or {}).values()
        lines.append((row["case"], *_speed(row), *([f"{value:.3f}" for value in over] or ["-"] * 3)))
    return ["\t".join(line) for line in lines]


def bench_parts(record: dict[str, Any]) -> Parts:
    """The machine, and a table for each case of ``lsg bench``."""
    about, by_case = record["machine"], dict[str, list[dict[str, Any]]]()
    for row in record["rows"]:
        by_case.setdefault(row["case"], []).append(row)
    parts: Parts = [
        f"{about['processor']}, {counted(about['threads'], 'thread')}, on {about['device']} in {about['precision']} ({about['because']})"
    ]
    for rows in by_case.values():
        heads = ("contender", "samples/s", "ms", "peak MB", "time / lsg, 95 % interval")
        parts.append(_table(heads, ([*_speed(row), _ratio(row["time_over_lsg"])] for row in rows), rows[0]["case"]))
    return parts


def _speed(row: Mapping[str, Any]) -> tuple[str, ...]:
    return row["contender"], f"{row['samples_per_s']:.4g}", f"{row['ms']:.4g}", f"{row['peak_mb']:.0f}"


def _ratio(over: Mapping[str, float] | None) -> str:
    return "{ratio:.2f} ({low:.2f} to {high:.2f})".format(**over) if over else "-"
