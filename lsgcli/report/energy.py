"""Table of synaptic operations and energy."""

from typing import Any

from lsgcli.report.terminal import Table


def synops_table(record: dict[str, Any]) -> list[Any]:
    """A record of :class:`lsgcli.analysis.energy.SynapticOperations`, per sample, compared with the same-shape ANN."""
    table = Table(title="synaptic operations per sample, all timesteps", title_justify="left")
    table.add_column("layer", no_wrap=True)
    table.add_column("input", no_wrap=True)
    for name in ("not 0", "firing rate", "AC", "MAC", "energy", "ANN: MAC", "energy"):
        table.add_column(name, justify="right", no_wrap=True)
    for layer in record["layers"]:
        kind = layer["input"] if layer["averages_over"] is None else f"{layer['input']} of {layer['averages_over']}"
        rate = "-" if layer["firing_rate"] is None else f"{layer['firing_rate']:.3f}"
        table.add_row(layer["name"], kind, f"{layer['density']:.3f}", rate, *_operations(layer))
    table.add_section()
    table.add_row("total", "", "", "", *_operations(record["total"]))
    ratio = record["total"]["ann_energy_pj"] / max(record["total"]["energy_pj"], 1e-12)
    return [
        table,
        f"AC: an addition, {record['ac_pj']} pJ; MAC: a multiplication and an addition, {record['mac_pj']} pJ. "
        f"The same-shape ANN, run once, requires {ratio:.2f} times the energy.",
        f"Energy is {record['note']}.",
    ]


def _operations(record: dict[str, Any]) -> tuple[str, ...]:
    keys = ("ac", "mac", "energy_pj", "ann_mac", "ann_energy_pj")
    return tuple(_energy(record[key]) if key.endswith("_pj") else _count(record[key]) for key in keys)


def _count(n: float) -> str:
    """A number with three digits and a unit prefix, such as 1.23 M."""
    for limit, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if n >= limit:
            return f"{n / limit:.3g}{unit}"
    return f"{n:.3g}"


def _energy(picojoule: float) -> str:
    for limit, unit in ((1e9, "mJ"), (1e6, "uJ"), (1e3, "nJ")):
        if picojoule >= limit:
            return f"{picojoule / limit:.3g} {unit}"
    return f"{picojoule:.3g} pJ"
