"""Write the parts of the documentation that the program itself knows: `python docs/generate.py`, or `--check` to compare only.

`docs/cli.md` is written whole; in other pages, what stands between `<!-- generated: NAME -->` and `<!-- end -->` is replaced.
"""

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import typer.main

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent))  # for benchmarks, which is not installed

from benchmarks import documented  # noqa: E402
from lsgcli import registry  # noqa: E402
from lsgcli.analysis.measures import LAYER, RECORD, Field  # noqa: E402
from lsgcli.cli.app import app  # noqa: E402
from lsgcli.config import FIELDS  # noqa: E402
from lsgcli.errors import exit_statuses  # noqa: E402
from lsgcli.verdicts import RULES, Thresholds, rule_text  # noqa: E402


def command_line() -> str:
    """Every command with its arguments and options."""
    group: Any = typer.main.get_command(app)
    parts = [
        "# Command line",
        "_Written by `python docs/generate.py` from the program; `lsg COMMAND --help` says the same._",
        group.help,
        "Results go to stdout; progress, warnings and errors go to stderr.",
        table(("exit status", "meaning"), exit_statuses().items()),
        SOURCES,
    ]
    for name, command in _commands(group):
        parts.append(f"## lsg {name}")
        parts.append(command.help)
        parts.append(_arguments(command))
        panels: dict[str, list[Any]] = {}
        for option in command.params:
            if option.param_type_name == "option":
                panels.setdefault(getattr(option, "rich_help_panel", None) or "Options", []).append(option)
        for panel, options in panels.items():
            if panel != "Options" and name != "train":
                parts.append(f"**{panel}**: the settings of `lsg train`.")
                continue
            rows = "\n".join(f"| {_flags(option)} | {(option.help or '').replace('|', chr(92) + '|')} |" for option in options)
            parts.append(f"| {panel} | |\n|---|---|\n{rows}")
    return "\n\n".join(part for part in parts if part) + "\n"


def _commands(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """Name -> command, those of groups such as `lsg data` after the group's name."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


SOURCES = """Every setting of `lsg train` can also come from the environment (`LSG_BATCH_SIZE=64`) or from a TOML file (`--config
run.toml`, keys as below with underscores, flat or grouped in tables). Command line beats environment beats file beats the data
set's preset beats the default. A key that does not exist is an error, and all errors are reported at once.

`--config RUN`, a run directory or the `config.json` in one, takes all settings of that run, so that presets and defaults do not count.
Paths are taken as they are, relative to the working directory; only `cache_dir` is not, since nothing that travels decides where files
are written."""


def _arguments(command: Any) -> str:
    rows = [f"- `{p.metavar or p.name.upper()}`: {p.help}" for p in command.params if p.param_type_name == "argument"]
    return "\n".join(rows)


def _flags(option: Any) -> str:
    return ", ".join(f"`{flag}`" for flag in [*option.opts, *option.secondary_opts])


def table(head: Iterable[Any], rows: Iterable[Iterable[Any]]) -> str:
    """A table in Markdown."""
    lines = [list(map(str, head)), *(list(map(str, row)) for row in rows)]
    rule = "|---" * len(lines[0]) + "|"
    first, *others = (f"| {' | '.join(cells)} |" for cells in lines)
    return "\n".join([first, rule, *others])


def _first_line(thing: Any) -> str:
    documented = getattr(thing, "apply", getattr(thing, "parse", thing))  # of a record around a function
    return (documented.__doc__ or "").strip().splitlines()[0]


def datasets() -> str:
    """Data sets and what their presets fill in."""
    rows = ["| `--dataset` | what | network | T | size | epochs | batch | augmentation |", "|---|---|---|---|---|---|---|---|"]
    for name in registry.names("dataset"):
        thing = registry.get("dataset", name)
        preset = {**{key: field.default for key, field in FIELDS.items()}, **thing.preset}
        network = f"{preset['arch']} x {preset['width_multiplier']:g}"
        cells = (network, preset["T"], preset["size"], preset["epochs"], preset["batch_size"], preset["augment"])
        rows.append(f"| `{name}` | {thing.title} | " + " | ".join(map(str, cells)) + " |")
    return "\n".join(rows)


def layouts() -> str:
    """What each data set reads, and how many samples are published."""
    rows = ["| `--dataset` | what it reads | published | `--split` |", "|---|---|---|---|"]
    for name in registry.names("dataset"):
        thing = registry.get("dataset", name)
        counts = ", ".join(f"{count:,} {part}" for part, count in thing.published.items()).replace(" all", "")
        rows.append(f"| `{name}` | {_first_line(thing).replace('``', '`')} | {counts} | {', '.join(thing.rules)} |")
    return "\n".join(rows)


def readers() -> str:
    """Formats of recordings, and what names of such files end in."""
    rows = ["| format | files | |", "|---|---|---|"]
    for name in registry.names("reader"):
        thing = registry.get("reader", name)
        rows.append(f"| `{name}` | {', '.join(f'`{suffix}`' for suffix in thing.suffixes)} | {_first_line(thing)} |")
    return "\n".join(rows)


def formats() -> str:
    """Export formats: what each is, its options, and what it needs installed."""
    rows = ["| `--format` | what | options | needs |", "|---|---|---|---|"]
    for name in registry.names("format"):
        thing = registry.get("format", name)
        options = [f"`--mode {' or '.join(thing.modes)}`"] if thing.modes else []
        options += [f"`--{key}`" for key in thing.options if key not in ("mode", "fold_bn")]
        options += ["`--no-fold-bn`"] if "fold_bn" in thing.options else []
        needs = f"`lsgcli[{thing.extra}]`" if thing.extra else ""
        rows.append(f"| [`{name}`](export/{name}.md) | {_first_line(thing)} | {', '.join(options)} | {needs} |")
    return "\n".join(rows)


def things(kind: str, head: str) -> str:
    """Everything of a kind with the first line of its docstring."""
    rows = [f"| {head} | |", "|---|---|"]
    rows += [f"| `{name}` | {_first_line(registry.get(kind, name))} |" for name in registry.names(kind)]
    return "\n".join(rows)


def fields(which: dict[str, Field]) -> str:
    """Fields of a gradient-flow record."""
    named = ((f"`{name}`{' *' if one.per_step else ''}", one.meaning, one.unit) for name, one in which.items())
    return table(("name", "definition", "unit"), named)


def verdicts() -> str:
    """Verdicts by default thresholds."""
    rows = [(f"`{name}`", rule_text(name, getattr(Thresholds, name), f"`{rule['measure']}`")) for name, rule in RULES.items()]
    return table(("verdict", "when"), [*rows, ("`ok`", "otherwise")])


def listing(path: str) -> str:
    """A file of this folder, as it is."""
    return f"```python\n{(DOCS / path).read_text(encoding='utf-8').rstrip()}\n```"


PARTS: dict[str, Callable[[], str]] = {
    "flow-layer": lambda: fields(LAYER),
    "flow-record": lambda: fields(RECORD),
    "flow-verdicts": verdicts,
    "adapter-spikingjelly": lambda: listing("adapters/spikingjelly_lif.py"),
    "adapter-snntorch": lambda: listing("adapters/snntorch_leaky.py"),
    "datasets": datasets,
    "augmentations": lambda: things("augmentation", "`--augment`"),
    "layouts": layouts,
    "readers": readers,
    "formats": formats,
    "surrogates": lambda: things("surrogate", "`--surrogate`"),
    "methods": lambda: things("method", "`--method`"),
    **documented.parts(),
}


def pages() -> dict[Path, str]:
    """Every page with generated parts, as it should be."""
    found = {DOCS / "cli.md": command_line()}
    for page in [*DOCS.rglob("*.md"), DOCS.parent / "README.md"]:
        if page.name != "cli.md":
            text = page.read_text(encoding="utf-8")
            found[page] = re.sub(
                r"(<!-- generated: (\S+) -->\n).*?(<!-- end -->)",
                lambda m: f"{m[1]}{PARTS[m[2]]()}\n{m[3]}",
                text,
                flags=re.DOTALL,
            )
    return found


def main() -> int:
    """Write the pages, or with --check say which are out of date."""
    stale = [(page, text) for page, text in pages().items() if not page.exists() or page.read_text(encoding="utf-8") != text]
    for page, text in stale:
        if "--check" in sys.argv:
            print(f"{page.name} is out of date: run `python docs/generate.py`", file=sys.stderr)
        else:
            page.write_text(text, encoding="utf-8")
            print(f"wrote {page.name}")
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
