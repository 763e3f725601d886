"""What a person sees of facts about recordings."""

from collections.abc import Callable
from typing import Any

from rich.markup import escape
from rich.table import Table


def _times(spread: dict[str, int]) -> str:
    if spread["min"] == spread["max"]:
        return f"{spread['min']:,}"
    return "{min:,} / {median:,} / {max:,}".format(**spread)


# Field of the record -> what it is called, and how it is shown. Those that a record lacks are passed over.
LINES: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("path", "path", str),
    ("dataset", "data set", str),
    ("data_dir", "folder", str),
    ("recordings", "recordings", "{:,}".format),
    ("samples", "images", "{:,}".format),
    ("parts", "parts", lambda parts: ", ".join(f"{name} {count:,}" for name, count in parts.items())),
    ("events", "events", "{:,}".format),
    ("events_per_recording", "events a recording", _times),
    ("duration_us", "duration, us", _times),
    ("events_per_s", "events/s", _times),
    ("on_share", "share of ON", "{:.1%}".format),
    ("sensor", "sensor", lambda size: f"{size[0]} x {size[1]}"),
    ("size", "size", lambda size: " x ".join(map(str, size))),
    ("formats", "format", lambda forms: ", ".join(f"{name} ({count:,})" for name, count in forms.items())),
    ("bytes", "bytes", "{:,}".format),
    ("release", "release", lambda text: f"CIFAR10-DVS, {text}"),
    ("orientation", "orientation", str),
    ("simulated", "simulated", lambda note: f"seed {note['seed']}" + ("" if note["complete"] else ", not finished")),
    ("digest", "digest", str),
)


def info_tables(record: dict[str, Any]) -> list[Any]:
    """A table of facts, and one of counts per class where there are classes."""
    facts = Table(show_header=False, caption="three numbers: minimum / median / maximum", caption_justify="left")
    facts.add_column("what", no_wrap=True)
    facts.add_column("value")
    for key, name, show in LINES:
        if record.get(key) not in (None, {}, []):
            note = "" if key != "sensor" or record.get("sensor_stated", True) else ", as far as events reach: not stated"
            facts.add_row(name, escape(show(record[key]) + note))
    if record.get("recordings", 1) == 1:
        facts.caption = None
    parts: list[Any] = [facts]
    if record["classes"]:
        table = Table()
        table.add_column("class")
        table.add_column("recordings" if "recordings" in record else "images", justify="right")
        for name, count in record["classes"].items():
            table.add_row(escape(name), f"{count:,}")
        parts.append(table)
    return parts


def verdict_text(record: dict[str, Any]) -> str:
    """What `lsg data verify` found, a line each."""
    known = f"{len(record['missing'])} missing, {len(record['changed'])} changed, {len(record['extra'])} not in it"
    lines = {
        "folder": record["path"],
        "manifest": f"SHA256SUMS: {known}" if record["manifest"] else "none (--write makes one)",
        "samples": f"{record['samples']:,} read, {len(record['unreadable'])} of them cannot be",
        "verdict": "whole" if record["ok"] else "NOT whole",
    }
    return "\n".join(f"{name + ':':<10} {text}" for name, text in lines.items())
