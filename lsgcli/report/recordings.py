"""Terminal output of the `lsg data` commands."""

from collections.abc import Callable
from typing import Any

from lsgcli.report.terminal import Table


def _times(spread: dict[str, int]) -> str:
    if spread["min"] == spread["max"]:
        return f"{spread['min']:,}"
    return "{min:,} / {median:,} / {max:,}".format(**spread)


# Field of the record, label, format. Missing fields are skipped.
LINES: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("dataset", "data set", str),
    ("recordings", "recordings", "{:,}".format),
    ("samples", "images", "{:,}".format),
    ("parts", "parts", lambda parts: ", ".join(f"{name} {count:,}" for name, count in parts.items())),
    ("events", "events", "{:,}".format),
    ("events_per_recording", "events per recording", _times),
    ("duration_us", "duration, us", _times),
    ("events_per_s", "events/s", _times),
    ("on_share", "fraction of ON", "{:.1%}".format),
    ("sensor", "sensor", lambda size: f"{size[0]} x {size[1]}"),
    ("size", "size", lambda size: " x ".join(map(str, size))),
    ("formats", "format", lambda forms: ", ".join(f"{name} ({count:,})" for name, count in forms.items())),
    ("bytes", "bytes", "{:,}".format),
    ("release", "release", lambda text: f"CIFAR10-DVS, {text}"),
    ("orientation", "orientation", str),
    ("simulated", "simulated", lambda note: f"seed {note['seed']}" + ("" if note["complete"] else ", not finished")),
    ("unreadable", "unreadable", lambda bad: some([one["name"] for one in bad])),
    ("digest", "digest", str),
)
MOST = 5  # names shown


def some(names: list[str]) -> str:
    """Number of names, and the first of them."""
    more = f" and {len(names) - MOST:,} more" if len(names) > MOST else ""
    return f"{len(names):,}: {', '.join(names[:MOST])}{more}"


def info_tables(record: dict[str, Any]) -> list[Any]:
    """The path, a table of facts, and a table of counts per class, if there are classes."""
    facts = Table(show_header=False, caption="three numbers: minimum / median / maximum", caption_justify="left")
    facts.add_column("what", overflow="fold")
    facts.add_column("value", overflow="fold")
    for key, name, show in LINES:
        if record.get(key) not in (None, {}, []):
            facts.add_row(name, show(record[key]) + (_unstated(record) if key == "sensor" else ""))
    if record.get("recordings", 1) == 1:
        facts.caption = None
    where = record.get("path") or record.get("data_dir")
    parts: list[Any] = [facts] if where is None else [where, facts]  # outside the table, so that it is not wrapped
    if record["classes"]:
        table = Table()
        table.add_column("class", overflow="fold")
        table.add_column("recordings" if "recordings" in record else "images", justify="right")
        for name, count in record["classes"].items():
            table.add_row(name, f"{count:,}")
        parts.append(table)
    return parts


def _unstated(record: dict[str, Any]) -> str:
    if record.get("sensor_stated", True):
        return ""
    return f" (extent of the events; not stated{' by all recordings' if record.get('sensors') else ''})"


def preparation_parts(record: dict[str, Any]) -> list[Any]:
    """Result of ``lsg data prepare``, and the file of each part."""
    table = Table("part", title=f"{record['dataset']}, {record['seconds']:.1f} s")
    for name in ("recordings", "sample shape", "MB"):
        table.add_column(name, justify="right", overflow="fold")
    paths = []
    for name, part in record["parts"].items():
        shape = f"{' x '.join(map(str, part['shape']))} {part['dtype']}"
        table.add_row(name, f"{part['recordings']:,}", shape, f"{part['bytes'] / 1e6:,.1f}")
        paths.append(f"{name}: {part['path'] or 'in memory, no file'}")
    return [table, *paths]  # outside the table, so that paths are not wrapped


def verdict_text(record: dict[str, Any]) -> str:
    """Result of `lsg data verify` as text."""
    known = f"{len(record['missing'])} missing, {len(record['changed'])} changed"
    extra = f", not listed {some(record['extra'])}" if record["extra"] else ""
    none = "none (--write creates one)" if record["folder"] else "none"
    lines = {
        "folder" if record["folder"] else "data set": record["path"],
        "manifest": f"{', '.join(record['manifests'])}: {known}{extra}" if record["manifests"] else none,
        "samples": f"{record['samples']:,} read, {len(record['unreadable'])} unreadable",
        "verdict": "ok" if record["ok"] else "FAULTY",
    }
    return "\n".join(f"{name + ':':<10} {text}" for name, text in lines.items())
