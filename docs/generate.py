"""Generate documentation from the program and the benchmark results: `python docs/generate.py`, or `--check` to compare only.

`docs/llms.txt`, `docs/reliability-rows.html` and `lsgcli/registered.json` are generated completely; in pages, the text between `<!-- generated: NAME -->` and `<!-- end -->` is replaced.
With the variable `LSG_REPOSITORY`, the address of the repository on GitHub, notebooks get a badge that opens them in Colab, and a cell that installs lsg there.
"""

import html
import importlib
import inspect
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import typer.main

DOCS = Path(__file__).parent
MOST_LINES = 400  # of a page
FEWEST_WORDS = 6  # of the sentence that describes a page
# Where the entries of each kind are, relative to the package: a folder, or a module without .py.
PLACES = {
    "surrogate": "neurons/surrogates",
    "method": "neurons/methods",
    "neuron": "neurons",
    "norm": "neurons/norms",
    "backend": "neurons/kernels",
    "arch": "models",
    "dataset": "data/datasets",
    "reader": "data/readers",
    "augmentation": "data/augment",
    "rule": "analysis/rules",
    "intervention": "analysis/experiments",
    "loss": "training/losses",
    "format": "export",
    "picture": "report",
    "launcher": "sweeps",
    "logger": "loggers",
}
REGISTERED = re.compile(r'register\("([\w-]+)", "([\w:-]+)"\)')
CLASSES = ("neuron", "arch", "dataset", "format")  # kinds of classes whose constants settings depend on
SEVERAL = 2  # commands, from which on an option is described once for all
sys.path.insert(0, str(DOCS.parent))  # for benchmarks, which is not installed

import lsgcli  # noqa: E402
from benchmarks import documented, overview  # noqa: E402
from benchmarks.stress import rows as faults  # noqa: E402
from lsgcli import registry  # noqa: E402
from lsgcli.analysis.advice import ranked  # noqa: E402
from lsgcli.analysis.measures import LAYER  # noqa: E402
from lsgcli.cli.app import app  # noqa: E402
from lsgcli.cli.commands import commands_of  # noqa: E402
from lsgcli.config.run import FIELDS, SECTIONS, option_name  # noqa: E402
from lsgcli.errors import exit_statuses  # noqa: E402
from lsgcli.store.names import FORMER, MEANINGS  # noqa: E402
from lsgcli.sweeps import paper  # noqa: E402


def register_anew() -> str:
    """The text of ``lsgcli/registered.json``, after which names are those that the source text registers now."""
    known = registry.facts()
    for kind, place in PLACES.items():
        path = registry.ROOT / place
        modules: dict[str, str] = {}
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]:
            module = ".".join(file.relative_to(registry.ROOT.parent).with_suffix("").parts).removesuffix(".__init__")
            for of, name in REGISTERED.findall(file.read_text(encoding="utf-8")):
                if of == kind:
                    modules[name] = module
        known[kind] = {}
        for name, module in sorted(modules.items()):
            importlib.import_module(module)
            known[kind][name] = SimpleNamespace(module=module, **_facts(kind, name))
    return json.dumps(known, default=vars, indent=1, ensure_ascii=False) + "\n"


def _facts(kind: str, name: str) -> dict[str, Any]:
    """The first line of the docstring of an entry, and its constants or arguments, if settings depend on them."""
    entry: Any = registry._entries[kind, name]
    found = {"__doc__": registry.summary_of(entry)}
    if kind == "loss":
        found["arguments"] = list(inspect.signature(entry).parameters)
    elif kind == "method":
        found["learns_decay"] = entry.learns_decay
        found["width"] = SimpleNamespace(__doc__="", **_constants(type(entry.width)) | {"formula": entry.width.formula})
        found["neuron"] = SimpleNamespace(__doc__="", **_constants(entry.neuron)) if entry.neuron else None
    elif kind in CLASSES:
        found |= _constants(entry)
    return found


def _constants(kind: type) -> dict[str, Any]:
    """The constants of a class and its bases in this package, of the types that JSON has."""
    found: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.startswith("lsgcli."):
            found |= {name: value for name, value in vars(base).items() if not name.startswith("_")}
    found |= {name: dict(value) for name, value in found.items() if isinstance(value, Mapping)}
    plain = bool | int | float | str | None
    return {
        name: value
        for name, value in found.items()
        if isinstance(value, plain) or (isinstance(value, dict) and all(isinstance(one, plain) for one in value.values()))
    }


def statuses() -> str:
    """Exit statuses and their meaning."""
    return described((f"{number}", meaning) for number, meaning in exit_statuses().items())


def command_line() -> str:
    """Every command with its arguments and options, without the details of its help; shared options stand once, at the top."""
    group: Any = typer.main.get_command(app)
    commands = dict(commands_of(group))
    own = {
        name: [_described(one) for panel, options in _panels(command).items() if panel not in SECTIONS for one in options]
        for name, command in commands.items()
    }
    counted = Counter(row for rows in own.values() for row in rows)
    shared = [row for row, count in counted.items() if count >= SEVERAL]
    everywhere = [flags for (flags, _), count in counted.items() if count == len(commands)]
    parts = [
        "## Options of several commands",
        f"Every command has {', '.join(everywhere)}; `lsg COMMAND --help` lists which of the others it has.",
        described(shared),
    ]
    for name, command in commands.items():
        rows = _arguments(command) + [row for row in own[name] if row not in shared]
        first = command.help.partition("\n\n")[0]
        parts += [f"## lsg {name}", _help(first), described(rows), _settings_of(command)]
    return "\n\n".join(part for part in parts if part)


def _settings_of(command: Any) -> str:
    """Which settings are options of a command; empty if none are."""
    panels = _panels(command)
    own = [option.name for section in SECTIONS for option in panels.get(section, ())]
    if not own:
        return ""
    others = [name for name in FIELDS if name not in own]
    if len(others) < len(own):
        but = f" but {_options(others)}" if others else ""
        return f"[Settings](settings.md){but} are options, too."
    return f"Of the [settings](settings.md), options are {_options(own)}."


def _options(names: Iterable[str]) -> str:
    return ", ".join(f"`{option_name(name)}`" for name in names)


def settings() -> str:
    """The settings of `lsg train`, by section."""
    group: Any = typer.main.get_command(app)
    panels = _panels(group.get_command(None, "train"))
    parts = []
    for section in SECTIONS:
        texts = ((flags, text.partition(" Only with ")[0]) for flags, text in map(_described, panels[section]))
        rows = ((flags, text.replace(", or a preset.", "\\*.")) for flags, text in texts)
        parts += [f"## {section}", described(rows)]
    return "\n\n".join(parts)


def _panels(command: Any) -> dict[str, list[Any]]:
    """The options of a command by the panel that shows them in its help."""
    panels: dict[str, list[Any]] = {}
    for option in command.params:
        if option.param_type_name == "option" and not option.hidden:
            panels.setdefault(getattr(option, "rich_help_panel", None) or "Options", []).append(option)
    return panels


def _described(option: Any) -> tuple[str, str]:
    """Flags and help of an option."""
    return _flags(option), _help(option.help or "") + _default(option)


def _default(option: Any) -> str:
    """What `--help` prints behind the text as [default: ...]."""
    shown = option.show_default and option.default is not None and not isinstance(option.default, bool | list | tuple)
    return f" Default: {option.default}." if shown and "Default:" not in (option.help or "") else ""


def _help(text: str) -> str:
    """Help text in Markdown, with options as code."""
    marked = re.sub(r"`[^`]*`|--[a-z][\w-]*", lambda found: f"`{found[0].strip('`')}`", text.replace("|", "\\|"))
    return "`".join(part if code % 2 else html.escape(part, quote=False) for code, part in enumerate(marked.split("`")))


def api() -> str:
    """The public names of the package; the site replaces each line that starts with `:::` by the documentation of that object."""
    public = {name: getattr(lsgcli, name) for name in sorted(lsgcli.__all__)}
    public["export"] = lsgcli.api.export  # of the name of a package
    return "\n\n".join(f"### lsgcli.{name}\n\n::: {one.__module__}.{one.__qualname__}" for name, one in public.items())


def _arguments(command: Any) -> list[tuple[str, str]]:
    """Name and help of each argument."""
    return [
        (f"`{p.metavar or p.name.upper()}`", _help(p.help or "")) for p in command.params if p.param_type_name == "argument"
    ]


def _flags(option: Any) -> str:
    return ", ".join(f"`{flag}`" for flag in [*option.opts, *option.secondary_opts])


def table(head: Iterable[Any], rows: Iterable[Iterable[Any]]) -> str:
    """A table in Markdown."""
    lines = [list(map(str, head)), *(list(map(str, row)) for row in rows)]
    rule = "|---" * len(lines[0]) + "|"
    first, *others = (f"| {' | '.join(cells)} |" for cells in lines)
    return "\n".join([first, rule, *others])


def described(rows: Iterable[tuple[str, str]]) -> str:
    """A list of names with their descriptions, which a narrow window shows better than a table."""
    return "\n".join(f"- {name}: {text}" if text else f"- {name}" for name, text in rows)


def datasets() -> str:
    """Data sets: what they are, their presets, and the files that they read."""
    rows = []
    for name in registry.names("dataset"):
        thing = registry.get("dataset", name)
        preset = {**{key: field.default for key, field in FIELDS.items()}, **thing.preset}
        network = f"{preset['arch']} x {preset['width_multiplier']:g}, T={preset['T']}, {preset['size']} px"
        training = f"{preset['epochs']} epochs of batches of {preset['batch_size']}, {preset['augment'].replace(',', ', ')}"
        files = (thing.__doc__ or "").partition("\n")[0].replace("``", "`")
        rules = f" `--split` {', '.join(thing.rules)}." if thing.rules else ""
        rows.append((f"`{name}`", f"{html.escape(thing.title, quote=False)} *{network}; {training}.* {files}{rules}"))
    return described(rows)


def readers() -> str:
    """Recording formats and their file suffixes."""
    rows = []
    for name in registry.names("reader"):
        suffixes = ", ".join(f"`{suffix}`" for suffix in registry.get("reader", name).suffixes)
        rows.append((f"`{name}` ({suffixes})", registry.summary("reader", name)))
    return described(rows)


def formats() -> str:
    """Export formats with description, options, and required extras."""
    rows = ["| `--format` | description | options | extra |", "|---|---|---|---|"]
    for name in registry.names("format"):
        thing = registry.get("format", name)
        options = [f"`--mode {' or '.join(thing.modes)}`"] if thing.modes else []
        options += [f"`--{key}`" for key in thing.options if key not in ("mode", "fold_bn", "quantize")]
        options += ["`--no-fold-bn`"] if "fold_bn" in thing.options else []
        needs = f"`{thing.extra}`" if thing.extra else ""
        rows.append(f"| [`{name}`](#{name}) | {registry.summary('format', name)} | {', '.join(options)} | {needs} |")
    return "\n".join(rows)


def things(kind: str) -> str:
    """All registered names of a kind, with the first line of their docstrings."""
    return described((f"`{name}`", registry.summary(kind, name)) for name in registry.names(kind))


def fields() -> str:
    """Fields of a layer in a gradient-flow record."""
    rows = []
    for name, one in LAYER.items():
        unit = f" ({one.unit})" if one.unit else ""
        rows.append((f"`{name}`{' *' if one.per_step else ''}{unit}", one.meaning))
    return described(rows)


def interventions() -> str:
    """Each intervention, what it changes, and the rules whose findings it confirms."""
    rows = []
    for name, kind in registry.every("intervention").items():
        confirms = ", ".join(f"`{rule}`" for rule in kind.rules) or "none: it tells where the fault is"
        rows.append((f"`{name}`", (kind.__doc__ or "").strip(), confirms))
    return table(["experiment", "what is changed", "confirms"], rows)


def rules() -> str:
    """Rules of `--advise`, in their order."""
    rows = []
    for name, rule in ranked().items():
        source = "" if rule.source == "ours" else f" *{rule.source}*"
        rows.append((f"<a id='{name}'></a>`{name}` (`{rule.measure}`, {rule.limit:g})", rule.cause + source))
    return described(rows)


def of_results() -> str:
    """Names of results, with their former names."""
    rows = []
    for names, meaning in MEANINGS.items():
        shown = []
        for name in names.split(", "):
            former = [f"{output} `{old}`" for output, olds in FORMER.items() for old, new in olds.items() if new == name]
            shown.append(f"`{name}`" + (f" ({', '.join(former)})" if former else ""))
        rows.append((", ".join(shown), meaning))
    return described(rows)


def of_paper() -> str:
    """What the paper reports, a row for each of its tables and data sets."""
    found: dict[tuple[str, str], list[str]] = {}
    for one in paper.RESULTS:
        network = registry.get("dataset", one.dataset).preset["arch"]
        training = ", `--loss ce --augment none`" if one.training == "plain" else ""
        spread = f" +- {100 * one.std:.2f}" if one.std else ""
        steps = "" if one.table == "3" else f", T={one.T}"
        values = found.setdefault((one.table, f"{one.dataset}, {network}{steps}{training}"), [])
        shown = {"2": f"width {one.width:g}" if one.width else f"`{one.method}`", "3": f"T={one.T}"}
        values.append(f"{shown.get(one.table, f'`{one.method}`')}: {100 * one.accuracy:.2f}{spread}")
    rows = [(table_, where, "; ".join(values)) for (table_, where), values in found.items()]
    return table(("table", "data set and network", "accuracy, %"), rows)


def reliability() -> str:
    """The sums of the fault table."""
    records = faults.records()
    cases, failures = (sum(found[key] for found in records.values()) for key in ("cases", "failures"))
    return f"{len(faults.table())} kinds of fault, {cases:,} cases, {failures} failures in the last full run of each row ({len(records)} rows have a record)."


def machines() -> str:
    """The default tests as `.ci/machines` last ran them on each machine."""
    rows = []
    for name, run in json.loads((DOCS.parent / "benchmarks" / "results" / "machines.json").read_text(encoding="utf-8")).items():
        versions = run["versions"]
        counts = (run["passed"], len(run["failed"]), run["skipped"])
        rows.append((name, *counts, versions["Python"], versions["torch"], run["instructions"], run["date"]))
    return table(("machine", "passed", "failed", "skipped", "Python", "torch", "instructions", "date"), rows)


def _cases(row: Any, found: dict[str, Any]) -> str:
    """The number of cases, and that they are fewer than planned, if they are."""
    fewer = re.search(r"--count (\d+)", found["command"])
    return f"{found['cases']:,}" + (f" (count {fewer[1]} of {row.full:,})" if fewer and int(fewer[1]) < row.full else "")


def reliability_rows() -> str:
    """A page of HTML: the table of faults, then for each how it is tested, what was counted, with which versions."""
    records, lines, parts = faults.records(), [], []
    for number, row in faults.table().items():
        found = records.get(number)
        facts = {"promise": row.promise, "how it is tested": row.how, "comparable tools": row.peers}
        run = ["not run", "", ""]
        if found:
            run = [_cases(row, found), found["failures"], found["date"]]
            facts |= {
                "cases": "; ".join(f"{kind}: {count:,}" for kind, count in found["kinds"].items()),
                "failures": f"{found['failures']}" + "".join(f"; {problem}" for problem in found["problems"]),
                "run": f"{found['command']}, seed {found['seed']}, {found['date']}, {found['seconds']:,} s; "
                + ", ".join(f"{name} {version}" for name, version in found["versions"].items()),
            }
        fault = html.escape((found or vars(row))["fault"])
        cells = "".join(f"<td>{cell}</td>" for cell in (f'<a href="#row-{number}">{number}</a>', fault, *run))
        lines.append(f"<tr>{cells}</tr>")
        rows = "".join(f"<dt>{key}</dt><dd>{html.escape(text)}</dd>" for key, text in facts.items() if text)
        parts.append(f'<section id="row-{number}"><h2>{number}. {html.escape(row.fault)}</h2><dl>{rows}</dl></section>')
    return ROWS.format("\n".join(lines), "\n".join(parts))


ROWS = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Rows of the fault table</title>
<style>:root{{color-scheme:light dark}}body{{font:1rem/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem}}
h2{{font-size:1.1rem}}dt{{font-weight:600}}dd{{margin:0 0 .5rem;overflow-wrap:anywhere}}section:target{{outline:2px solid;outline-offset:.5rem}}
td,th{{text-align:left;vertical-align:top;padding:.15rem .5rem .15rem 0}}td:nth-child(n+3){{white-space:nowrap}}</style>
<h1>Rows of the fault table</h1>
<p>What each row of <a href="../reliability/">Reliability</a> does. <code>python -m benchmarks.stress --row N</code> repeats a row.</p>
<table><tr><th></th><th>fault</th><th>cases</th><th>failures</th><th>date</th></tr>
{}
</table>
{}
</html>
"""


def llms(found: dict[Path, str]) -> str:
    """``llms.txt`` of the site: title, address and first sentence of each page of the navigation, by part; see llmstxt.org."""
    config = (DOCS.parent / "mkdocs.yml").read_text(encoding="utf-8")
    description = re.search(r"site_description: (.+)", config)
    lines = ["# lsg", "", f"> {description[1] if description else ''}", ""]
    navigation = config.partition("\nnav:\n")[2].partition("\n\n")[0]
    for indent, title, path in re.findall(r"^( +)- ([^:\n]+):(?: (\S+\.md))?$", navigation, re.MULTILINE):
        if path:
            address = path.removesuffix(".md").removesuffix("index")
            lines.append(f"- [{title}]({address}{'/' if address else './'}): {_first_sentence(found[DOCS / path])}")
        elif len(indent) == 2:  # a part of the navigation, not of a part
            lines += ["", f"## {title}", ""]
    return "\n".join(lines) + "\n"


def _first_sentence(page: str) -> str:
    """The first sentence of a page that is not a remark of a few words, without links and emphasis."""
    paragraphs = (" ".join(text.split()) for text in page.split("\n\n") if not text.startswith((" ", "```", "|", "- ")))
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)|\*\*", r"\1", text).strip() for text in paragraphs]
    sentences = [re.split(r"(?<=[.:])(?: |$)", text)[0].rstrip(".:") for text in plain if re.match(r"[A-Z`]|lsg ", text)]
    return next((text for text in sentences if len(text.split()) >= FEWEST_WORDS), plain[0].lstrip("# ")) + "."


def listing(path: str) -> str:
    """The contents of a file in this folder."""
    return f"```python\n{(DOCS / path).read_text(encoding='utf-8').rstrip()}\n```"


PARTS: dict[str, Callable[[], str]] = {
    "api": api,
    "command-line": command_line,
    "exit-statuses": statuses,
    "settings": settings,
    "flow-layer": fields,
    "rules": rules,
    "interventions": interventions,
    "plugin-network": lambda: listing("plugins/my_network.py"),
    "plugin-width-rule": lambda: listing("plugins/my_width_rule.py"),
    "datasets": datasets,
    "augmentations": lambda: things("augmentation"),
    "readers": readers,
    "formats": formats,
    "paper": of_paper,
    "results": of_results,
    "reliability": reliability,
    "machines": machines,
    "surrogates": lambda: things("surrogate"),
    "launchers": lambda: things("launcher"),
    "loggers": lambda: things("logger"),
    **documented.parts(),
}


def in_colab(path: Path, repository: str) -> str:
    """The text of a notebook with a badge, and with a cell for Colab as its second, which clones the repository: a notebook uses its files."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    address = f"{COLAB}/github/{repository.removeprefix('https://github.com/')}/blob/main/docs/notebooks/{path.name}"
    title, *cells = (cell for cell in notebook["cells"] if cell["id"] != "colab")
    title["source"] = [line for line in title["source"] if COLAB not in line]
    title["source"][1:1] = [f"[![Open in Colab]({COLAB}/assets/colab-badge.svg)]({address})\n"]
    code = INSTALL.replace("REPOSITORY", repository).splitlines(keepends=True)
    cell = {"cell_type": "code", "execution_count": None, "id": "colab", "metadata": {}, "outputs": [], "source": code}
    notebook["cells"] = [title, cell, *cells]
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


COLAB = "https://colab.research.google.com"
INSTALL = """import sys

if "google.colab" in sys.modules:  # elsewhere, install lsg first
    !git clone --quiet --depth 1 REPOSITORY lsg
    %pip install --quiet ./lsg spikingjelly
    %cd lsg/docs/notebooks"""


def pages() -> dict[Path, str]:
    """Up-to-date text of every page with generated parts."""
    found = {registry.ROOT / "registered.json": register_anew()}
    found |= {DOCS / "reliability-rows.html": reliability_rows(), overview.PAGE: overview.page()}
    if repository := os.environ.get("LSG_REPOSITORY"):
        found |= {path: in_colab(path, repository) for path in DOCS.glob("notebooks/*.ipynb")}
    for page in [*DOCS.rglob("*.md"), DOCS.parent / "README.md"]:
        if page not in found:
            text = page.read_text(encoding="utf-8")
            found[page] = re.sub(
                r"(<!-- generated: (\S+) -->\n).*?(<!-- end -->)",
                lambda m: f"{m[1]}{PARTS[m[2]]()}\n{m[3]}",
                text,
                flags=re.DOTALL,
            )
    found[DOCS / "llms.txt"] = llms(found)
    return found


def problems(found: dict[Path, str]) -> list[str]:
    """Pages that are too long, and differences between the pages and the navigation of the site."""
    inside = {page: text for page, text in found.items() if page.is_relative_to(DOCS) and page.suffix == ".md"}
    here = {page.relative_to(DOCS).as_posix(): text for page, text in inside.items()}
    listed = set(re.findall(r": (\S+\.md)$", (DOCS.parent / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE))
    long = [name for name, text in here.items() if text.count("\n") > MOST_LINES]
    return [
        *(f"{name} has more than {MOST_LINES} lines: move long tables and figures to pages of their own" for name in long),
        *(f"{name} is in docs/, but not in the navigation of mkdocs.yml" for name in sorted(here.keys() - listed)),
        *(f"{name} is in the navigation of mkdocs.yml, but not in docs/" for name in sorted(listed - here.keys())),
    ]


def main() -> int:
    """Write the pages, or with --check report those that are out of date; report problems of pages."""
    check, found = "--check" in sys.argv, pages()
    stale = [(page, text) for page, text in found.items() if not page.exists() or page.read_text(encoding="utf-8") != text]
    for page, text in stale:
        if check:
            print(f"{page.name} is out of date: run `python docs/generate.py`", file=sys.stderr)
        else:
            page.write_text(text, encoding="utf-8")
            print(f"wrote {page.name}")
    wrong = problems(found)
    print("\n".join(wrong), end="\n" if wrong else "", file=sys.stderr)
    return 1 if wrong or (stale and check) else 0


if __name__ == "__main__":
    sys.exit(main())
