"""Rows of files from outside: records in JSON that are damaged or hostile, text that reaches pages and shells, small files that claim a lot."""

import contextlib
import copy
import html.parser
import io
import json
import logging
import os
import random
import re
import shlex
import socket
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from typer.testing import CliRunner

from benchmarks.stress.fuzz import MIB, peak
from benchmarks.stress.program import Command
from benchmarks.stress.rows import Case, forked, row
from lsgcli.config import run as config
from lsgcli.config.resolve import resolve
from lsgcli.errors import CONTROL, LsgError
from lsgcli.export import weights
from lsgcli.export.base import chosen, open_exported
from lsgcli.export.source import read
from lsgcli.export.verify import NOTHING
from lsgcli.inference.predict import Network
from lsgcli.report import comparison as compared
from lsgcli.report import terminal
from lsgcli.report.run_page import run_page
from lsgcli.runs import compare as comparison
from lsgcli.runs.run import train
from lsgcli.store import checkpoint, flows, rundir
from lsgcli.sweeps import collect
from lsgcli.sweeps.plan import load as load_plan
from lsgcli.training.signals import StopRequest
from tests import networks
from tests.tiny import images

STATUSES = (2, 3, 4)
SECONDS = 1.0  # of processor time for one damaged file
MEMORY = 64 * MIB
LONGEST = 20_000  # characters of a message, which has a line for each invalid setting
PAGES = 20  # each such mutant of a run is also drawn
RAW = "@raw@"  # stands for text that json.dumps does not write
DEEP = "[" * 200_000
TEXTS = (DEEP, DEEP + "]" * 200_000, "[" * 100 + "]" * 100, "9" * 5000, "1" + "0" * 400)
TEXTS += ("1e999", "-Infinity", "NaN", '"\\ud800"', "1e99")
VALUES: tuple[Any, ...] = (None, True, False, 0, -1, 1, 2**31, 2**63, 10**19, 0.5, -0.5, 1e30, 1e-300)
VALUES += ("", "text", "0.9", "1e5", "\x1b[2J")
VALUES += ([], {}, [1], [None], [[]], [{}], ["a"], {"a": 1}, {"name": "x"}, [1.5, "x"], "x" * 100_000, list(range(10_000)))


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield at
    items = value.items() if isinstance(value, dict) else enumerate(value[:4]) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*at, key))


def replaced(record: Any, at: tuple[Any, ...], value: Any) -> Any:
    if not at:
        return value
    record = copy.copy(record)
    record[at[0]] = replaced(record[at[0]], at[1:], value)
    return record


def mutant(record: Any, chance: random.Random) -> str:
    text = ""
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        at = chance.choice(list(places(record)))
        way = chance.random()
        parent = record
        for key in at[:-1]:
            parent = parent[key]
        if way < 0.5 or not at:
            record = replaced(record, at, copy.deepcopy(chance.choice(VALUES)))
        elif way < 0.65:
            parent = copy.copy(parent)
            del parent[at[-1]]
            record = replaced(record, at[:-1], parent)
        elif way < 0.75:
            other = chance.choice(list(places(record)))
            inner = record
            for key in other:
                inner = inner[key]
            record = replaced(record, at, copy.deepcopy(inner))
        elif way < 0.85 and isinstance(parent, list):
            record = replaced(record, at[:-1], parent * chance.choice((0, 2, 50)))
        elif way < 0.9 and isinstance(parent, dict):
            record = replaced(record, at[:-1], {**parent, "another": chance.choice(VALUES)})
        else:
            record, text = replaced(record, at, RAW), chance.choice(TEXTS)
        if not isinstance(record, dict | list):
            break
    written = json.dumps(record).replace(f'"{RAW}"', text)
    if chance.random() < 0.15:
        damage = (
            lambda t: t[: chance.randrange(len(t) + 1)],
            lambda t: t + t,
            lambda t: "\ufeff" + t,
            lambda t: t.replace('"', "", 1),
        )
        damage += (lambda t: t.replace(":", ",", 1), lambda t: "", lambda t: "\0" * 100, lambda t: t.replace("{", "[", 1))
        written = chance.choice(damage)(written)
    return written


class Seeds:
    """A finished run, its exports, and a readable record of each kind."""

    def __init__(self, folder: Path):
        self.root, self.run = folder, folder / "abl" / "method=lsg" / "s0"
        given = {
            "dataset": "digits",
            "arch": "mlp",
            "T": 2,
            "width_multiplier": 0.1,
            "epochs": 2,
            "workers": 0,
            "device": "cpu",
        }
        (folder / "abl").mkdir()
        self.config = resolve({**given, "precision": "fp32", "cache_dir": str(folder / "cache")}, environment={})
        train(self.config, self.run, lambda record: None, StopRequest(), page=run_page)
        self.best = self.run / rundir.BEST
        with safe_open(self.best, "pt") as stream:
            self.metadata = dict(stream.metadata())
        self.options = chosen("hf")
        source = read(self.best, "hf", self.options)
        self.hf = folder / "hf"
        self.hf.mkdir()
        weights.HF().write(source.written, source.content, self.hf, self.options)
        self.x = torch.zeros(1, 1, 16, 16)
        self.images = images(folder / "images", count=2, test=2) / "train"

    def rewritten(self, path: Path, **texts: str) -> Path:
        """The checkpoint with other metadata, and digests that fit them."""
        return networks.resealed(self.best, path, **texts)


def used(seeds: Seeds, path: Path) -> None:
    """All that a command does with a checkpoint, up to its card and a prediction."""
    network = Network.open(path, device="cpu")
    network.dataset()
    network.logits(network.batch([np.zeros((1, 16, 16), np.uint8)]))
    source = read(path, "hf", seeds.options)
    weights._card(source.content, NOTHING)


def of_run(seeds: Seeds, drawn: bool) -> None:
    run = seeds.run
    record = comparison.compare(comparison.find([run]))
    compared.parts(record)
    rundir.accuracy_on_test(run / rundir.BEST)
    flows.history(run / rundir.BEST)
    found = collect.collect(seeds.root / "abl")
    found.summary()
    if drawn:
        compared.page(record)
        compared.charts({"row": [run]})
    resolve({}, file=run, environment={})
    rundir.read_precision(run)
    rundir.read_sources(run)


def kinds(seeds: Seeds) -> dict[str, tuple[Any, Callable[[str, int], None], str]]:
    """By kind: a readable record, a function that writes a text in its place and reads it, and the name in messages."""
    root, scratch = seeds.root, seeds.root / "scratch.safetensors"

    def in_run(name: str, lines: bool = False) -> Callable[[str, int], None]:
        file = seeds.run / name
        whole = file.read_bytes()

        def use(text: str, number: int) -> None:
            file.write_text(text + "\n" * lines, errors="surrogatepass")
            try:
                of_run(seeds, number % PAGES == 0)
            finally:
                file.write_bytes(whole)

        return use

    def of_hub(text: str, number: int) -> None:
        (seeds.hf / weights.CONFIG).write_text(text)
        weights.HF().open(seeds.hf)

    def plan(text: str, number: int) -> None:
        (root / "abl" / "ablation.json").write_text(text)
        if (found := load_plan(root / "abl")) is not None:
            next(iter(found.cells()), None) if len(found.seeds) * len(found.rows) < 100 else None

    def onnx(text: str, number: int) -> None:
        import onnx

        model = onnx.load_model_from_string(whole_onnx)
        onnx.helper.set_model_props(model, {"lsg.export_version": "1", "lsg.config": text})
        (root / "a.onnx").write_bytes(model.SerializeToString())
        runner = open_exported(root / "a.onnx")
        assert runner is not None
        checkpoint.check_described(runner.config, root / "a.onnx")
        config.from_checkpoint(root / "a.onnx", runner.config, {"device": "cpu"})
        runner.run(seeds.x)

    options = chosen("onnx", mode="step")
    source = read(seeds.best, "onnx", options)
    from lsgcli.export.onnx import ONNX

    ONNX().write(source.written, source.content, root / "a.onnx", options)
    whole_onnx = (root / "a.onnx").read_bytes()

    def record(name: str) -> Any:
        return json.loads(
            (seeds.run / name).read_text().splitlines()[0] if name.endswith("l") else (seeds.run / name).read_text()
        )

    stored = json.loads(seeds.metadata["lsg.config"])
    described = {"variant": {"method": "lsg"}, "settings": {k: v for k, v in stored["settings"].items() if k != "seed"}}
    return {
        "configuration of a checkpoint": (stored, lambda t, n: used(seeds, seeds.rewritten(scratch, config=t)), scratch.name),
        "state of a checkpoint": (
            {**json.loads(seeds.metadata["lsg.state"]), "extended": [[1, 2]]},
            lambda t, n: used(seeds, seeds.rewritten(scratch, state=t)),
            scratch.name,
        ),
        "config.json": (record("config.json"), in_run("config.json"), "config.json"),
        "result.json": (record("result.json"), in_run("result.json"), "abl"),  # that has no test accuracy
        "metrics.jsonl": (record("metrics.jsonl"), in_run("metrics.jsonl", True), "metrics.jsonl"),
        "gradient-flow.jsonl": (record("gradient-flow.jsonl"), in_run("gradient-flow.jsonl", True), "gradient-flow.jsonl"),
        "gradient-flow.json": (record("gradient-flow.json"), in_run("gradient-flow.json"), "gradient-flow.json"),
        "metadata of an ONNX": (source.content.config, onnx, "a.onnx"),
        "config.json of a hub": (json.loads((seeds.hf / weights.CONFIG).read_text()), of_hub, weights.CONFIG),
        "ablation.json": ({"table": None, "seeds": [0, 1], "rows": [described]}, plan, "ablation.json"),
    }


def judged(call: Callable[[], object], name: str, memory: int = MEMORY, seconds: float = SECONDS) -> tuple[str, str]:
    """What came of reading a damaged file, and the problem, if any."""
    taken, begin = peak(), time.process_time()
    try:
        call()
        outcome, problem = "read", ""
    except LsgError as error:
        outcome, problem = "refused", ""
        if error.exit_code not in STATUSES:
            problem = f"status {error.exit_code}: {error.message}"
        elif name not in error.message:
            problem = f"the file is not named: {error.message}"
        elif len(error.message) > LONGEST:
            problem = f"a message of {len(error.message):,} characters: {error.message[:200]}"
    except BaseException as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        outcome, problem = "refused", f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})"
    bytes_taken, needed = taken(), time.process_time() - begin
    if bytes_taken > memory:
        problem = problem or f"{bytes_taken >> 20} MiB"
    if needed > seconds:
        problem = problem or f"{needed:.1f} s"
    return outcome, problem


@row(
    52,
    fault="JSON from outside: depth, size, wrong types, ranges",
    promise="exit status 2, 3 or 4 with one message that names the file; in a table of many runs, a bad one is a note",
    quick=660,
    full=110_000,
)
def records(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """Mutants of ten kinds of records: fields that lack, have another type, an extreme value or another field's, 200,000 brackets, 5,000
    digits, NaN, half a text. Each is read by all that reads it, up to the card, the table or the page, with at most 64 MiB and 1 s; every
    hundredth also by the commands, alone and in a folder of good runs."""

    def cases() -> Iterator[Case]:
        logging.disable()
        seeds = Seeds(folder)
        every = kinds(seeds)
        for record, use, _ in every.values():  # so that all code is in memory
            use(json.dumps(record), 0)
        for kind, (record, use, name) in every.items():
            with contextlib.suppress(FileNotFoundError):
                (folder / "abl" / "ablation.json").unlink()
            for number in range(count // len(every)):
                text = mutant(record, chance)
                outcome, problem = judged(lambda text=text, use=use, number=number: use(text, number), name)
                yield Case(f"{kind}, {outcome}", problem and f"{problem}: {text[:200]}")
            yield from by_command(seeds, kind, record, count // len(every) // 100 + 1, chance)

    yield from forked(cases)


def by_command(seeds: Seeds, kind: str, record: Any, count: int, chance: random.Random) -> Iterator[Case]:
    if not kind.endswith((".json", ".jsonl")) or kind == "ablation.json":
        return
    from lsgcli.cli.app import app

    bad = seeds.root / "many" / "bad"
    for place in (bad, bad.with_name("good"), bad.with_name("better")):
        place.mkdir(parents=True, exist_ok=True)
        for file in seeds.run.iterdir():
            (place / file.name).write_bytes(file.read_bytes())
    logging.disable(logging.NOTSET)  # the note is a warning
    for number in range(count):
        unreadable = number == 0  # most mutants can be read
        text = DEEP if unreadable else mutant(record, chance)
        (bad / kind).write_text(text + "\n" * kind.endswith("l"), errors="surrogatepass")
        noted = unreadable and kind != rundir.GRADIENT_FLOW  # which is read where the other record of the flow is missing
        for words in (("compare", bad), ("compare", bad.parent), ("ablate", "--collect", bad.parent)):
            result = CliRunner().invoke(app, [*map(str, words)])
            alone = words[-1] == bad
            status = result.exit_code
            crashed = result.exception is not None and not isinstance(result.exception, SystemExit | LsgError)
            wrong = status not in ((0, *STATUSES) if alone else (0,)) or crashed
            wrong |= noted and (str(bad) not in result.output or (alone and status == 0))
            yield Case(
                f"{words[0]} {'alone' if alone else 'of many'}",
                f"status {status}: {result.output[-300:]} {text[:200]}" if wrong else "",
            )
        (bad / kind).write_bytes((seeds.run / kind).read_bytes())
    logging.disable()


# Row 53

TRAP = "touch sprung"
STRINGS = (
    f"$({TRAP})", f"`{TRAP}`", f"; {TRAP} #", f"' ; {TRAP} ; '", f'" ; {TRAP} ; "', f"\n{TRAP}\n", f"&& {TRAP}", f"| {TRAP}", f"\\\n{TRAP}",
    f"a\n```\n\n```sh\n{TRAP}\n```", "```", "````", "~~~", "a | b | c", "\\|", "| |\n|---|\n| x |", "# title", "\n\n# title\n", "- item", "> quote",
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "</script><script>alert(1)</script>", "<!-- ", "&lt;b&gt;", "<b>bold</b>",
    "[text](https://example.invalid)", "![x](https://example.invalid/x.png)", "<https://example.invalid>", "https://example.invalid", "www.example.invalid",
    "a@example.invalid", "**bold** _it_ ~~no~~", "[^1]", "\x1b[2J\x1b]0;title\x07", "\r\x08\x08", "\u202egpj.exe", "a\tb\x00c", "\ud800", '" onload="alert(1)" x="',
)  # fmt: skip


class Tags(html.parser.HTMLParser):
    """The tags of a page and the names of their attributes, and its text outside scripts."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, ...]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, *(name for name, _ in attrs)))


def with_text(record: Any, text: str) -> Any:
    """The record with this text in place of every text in it, but not of names."""
    if isinstance(record, dict):
        return {key: with_text(value, text) for key, value in record.items()}
    if isinstance(record, list):
        return [with_text(value, text) for value in record]
    return text if isinstance(record, str) else record


def spreads(card: str, plain: str) -> str:
    """How a card with hostile text differs from one with plain text in more than text; empty if it does not."""
    from markdown_it import MarkdownIt

    def structure(text: str) -> list[str]:
        body = text.partition("---\n")[2].partition("---\n")[2]
        blocks = MarkdownIt("gfm-like", {"linkify": False, "html": True}).parse(body)
        text_alone = re.sub(r"^(`{3,}).*?^\1$", "", body, flags=re.MULTILINE | re.DOTALL)
        addresses = re.findall(r"https?://|www\.", text_alone)  # become links
        return [*addresses] + [
            one.type for block in blocks for one in (block, *(block.children or ())) if one.type not in ("text", "text_special")
        ]

    if structure(card) != structure(plain):
        return f"other Markdown: {sorted(set(structure(card)) ^ set(structure(plain)))}"
    return ""


@row(
    53,
    fault="text of a checkpoint in Markdown, HTML, a terminal",
    promise="quoted, or refused with exit status 4",
    quick=8,
    full=40,
)
def texts(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """40 strings in every field of a checkpoint that reaches the model card, whose Markdown must have the structure of a plain card; in every text of
    the files of a run that reach the page of `lsg compare`, whose tags must be those of the plain page; and in what reaches a terminal,
    which must get no control characters."""
    seeds = Seeds(folder)
    stored = json.loads(seeds.metadata["lsg.config"])
    state = json.loads(seeds.metadata["lsg.state"])

    def card(changed: dict[str, Any], of_state: dict[str, Any]) -> str:
        path = seeds.rewritten(folder / "text.safetensors", config=json.dumps(changed), state=json.dumps(of_state))
        return weights._card(read(path, "hf", seeds.options).content, NOTHING)

    plain = card(stored, state)
    files = {
        name: (seeds.run / name).read_bytes() for name in (rundir.CONFIG, rundir.RESULT, rundir.GRADIENT_FLOW, rundir.FULL_FLOW)
    }
    tags = {}
    own = set(
        Tags(compared.page(comparison.compare(comparison.find([seeds.run])))).tags
    )  # with spikes, which are stored as text
    for name, content in files.items():
        write(seeds.run / name, content, "plain")
        with contextlib.suppress(LsgError):
            tags[name] = Tags(compared.page(comparison.compare(comparison.find([seeds.run])))).tags
        (seeds.run / name).write_bytes(content)
    for text in chance.sample(STRINGS, min(count, len(STRINGS))):
        fields: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
            "classes": ({**stored, "classes": [text, *stored["classes"][1:]]}, state),
            "sources": ({**stored, "sources": {"init_from": {"sha256": text}}}, state),
            "name of a source": ({**stored, "sources": {text: {"sha256": "0" * 64}}}, state),
            "extended": (stored, {**state, "extended": [[1, text]]}),
            "best_chosen_on": (stored, {**state, "best_chosen_on": text}),
            "arch": ({**stored, "arch": text}, state),
            "export": ({**stored, "export": {"lsg": text, "readout": text, "quantize": text}}, state),
        }
        fields |= {
            f"settings.{name}": ({**stored, "settings": {**stored["settings"], name: text}}, state)
            for name, value in stored["settings"].items()
            if isinstance(value, str) or value is None
        }
        for field, (changed, of_state) in fields.items():
            try:
                problem = spreads(card(changed, of_state), plain)
            except LsgError as error:
                problem = "" if error.exit_code in STATUSES else f"status {error.exit_code}"
            except BaseException as error:
                problem = f"{type(error).__name__}: {error}"
            yield Case("card", problem and f"{field} {text!r}: {problem}")
        for name, content in files.items():
            write(seeds.run / name, content, text)
            yield from shown(seeds, name, text, tags.get(name, []), own)
            (seeds.run / name).write_bytes(content)


def write(path: Path, content: bytes, text: str) -> None:
    """Write a file of a run again, with this text in place of every text."""
    lines = content.decode().splitlines() if path.suffix == ".jsonl" else [content.decode()]
    path.write_text("".join(json.dumps(with_text(json.loads(line), text)) + "\n" for line in lines))


def shown(seeds: Seeds, name: str, text: str, tags: list[tuple[str, ...]], own: set[tuple[str, ...]]) -> Iterator[Case]:
    """The page and the table of a run, one of whose files has this text everywhere: with the tags that it has of a plain text, or as it is."""
    try:
        record = comparison.compare(comparison.find([seeds.run]))
    except LsgError as error:
        yield Case("a run, refused", "" if error.exit_code == 2 else f"{name} {text!r}: status {error.exit_code}")
        return
    found = Tags(compared.page(record)).tags
    yield Case(
        "page",
        ""
        if set(found) <= own.union(tags) and found.count(("script",)) == tags.count(("script",))
        else f"{name} {text!r}: other tags",
    )
    shown = io.StringIO()
    terminal.show(compared.parts(record), shown)
    yield Case("terminal", f"{name} {text!r}: control characters" if re.search(f"[{CONTROL}]", shown.getvalue()) else "")


# Row 54

CLAIMS: tuple[dict[str, Any], ...] = (
    {"width_multiplier": 64.0, "in_channels": 25_000}, {"width_multiplier": 64.0}, {"in_channels": 1 << 20}, {"num_classes": 500_000}, {"input_size": 4096},
    {"input_size": 4096, "input_height": 1 << 20}, {"arch": "resnet19", "depth": 999}, {"arch": "resnet19", "depth": 999, "T": 1024, "width_multiplier": 64.0},
    {"arch": "qkformer", "width_multiplier": 64.0, "input_size": 4096, "T": 1024}, {"arch": "ms-resnet18", "width_multiplier": 64.0, "input_size": 4096},
    {"arch": "max-resnet18", "width_multiplier": 64.0, "input_size": 4096}, {"arch": "vggsnn", "width_multiplier": 64.0, "T": 1024, "norm": "tebn"},
    {"weight_bits": 4, "width_multiplier": 64.0}, {"T": 10**18}, {"num_classes": 10**18}, {"in_channels": 2**62},
)  # fmt: skip
CLAIMED = 300 * MIB
RUN_FILES = (rundir.CONFIG, rundir.RESULT, rundir.METRICS, rundir.GRADIENT_FLOW, rundir.FULL_FLOW)
SUFFIXES = (".safetensors", ".onnx", ".pt2", ".nir")


def specials(folder: Path) -> Iterator[tuple[str, Callable[[Path], object]]]:
    yield "link to /dev/zero", lambda path: path.symlink_to("/dev/zero")
    yield "link to /dev/full", lambda path: path.symlink_to("/dev/full")
    yield "FIFO", lambda path: os.mkfifo(path)
    yield "folder", lambda path: path.mkdir()
    yield "socket", lambda path: socket.socket(socket.AF_UNIX).bind(os.path.relpath(path))
    yield "dangling link", lambda path: path.symlink_to(folder / "absent")
    yield "loop of links", lambda path: path.symlink_to(path)

    def sparse(path: Path) -> None:
        with open(path, "wb") as stream:
            stream.truncate(3 << 30)

    yield "3 GB of zeros", sparse


@row(
    54,
    fault="a small file that claims a large network; devices, FIFOs and huge files in place of files",
    promise="exit status 2, 3 or 4 within 1 s and 300 MiB",
    quick=40,
    full=400,
)
def claims(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """Checkpoints of 30 kB that claim up to 2^62 channels, 999 layers, 500,000 classes; a link to a device, a FIFO, a socket, a folder, a loop
    and 3 GB of zeros in place of a checkpoint, an export of each format, every file of a run, a recipe and a list on stdin. Each is read in
    process, and given to commands, which end within 20 s on a busy machine."""

    def cases() -> Iterator[Case]:
        logging.disable()
        seeds = Seeds(folder)
        stored = json.loads(seeds.metadata["lsg.config"])
        used(seeds, seeds.best)
        with contextlib.suppress(LsgError):
            open_exported(seeds.rewritten(folder / "warm.onnx"))
        for claim in CLAIMS:
            model = {**stored["model"], **{key: value for key, value in claim.items() if key != "arch"}}
            names = [str(i) for i in range(min(model["num_classes"], 1_000_000))]
            text = json.dumps({**stored, "arch": claim.get("arch", "mlp"), "model": model, "classes": names})
            path = seeds.rewritten(folder / "claim.safetensors", config=text)
            outcome, problem = judged(lambda path=path: used(seeds, path), path.name, CLAIMED)
            problem = problem or ("" if outcome == "refused" else "not refused")
            yield Case("claim", problem and f"{claim}: {problem}")
        os.chdir(folder)
        for kind, make in specials(folder):
            for suffix in SUFFIXES:
                path = folder / f"special{suffix}"
                remove(path)
                make(path)
                outcome, problem = judged(lambda path=path: used(seeds, path), path.name, CLAIMED)
                yield Case(f"{kind} in place of a {suffix}", problem or ("" if outcome == "refused" else "not refused"))
                remove(path)
            for name in RUN_FILES:
                path = seeds.run / name
                whole = path.read_bytes()
                path.unlink()
                make(path)
                outcome, problem = judged(lambda: of_run(seeds, True), name, CLAIMED)
                yield Case(f"{kind} in place of {name}", problem)
                remove(path)
                path.write_bytes(whole)
            path = folder / "recipe.toml"
            make(path)
            outcome, problem = judged(lambda path=path: resolve({}, file=path, environment={}), "recipe", CLAIMED)
            yield Case(f"{kind} in place of a recipe", problem or ("" if outcome == "refused" else "not refused"))
            remove(path)

    yield from forked(cases)
    commands = [(kind, make, words) for kind, make in specials(folder) for words in COMMANDS]
    seeds_run = folder / "abl" / "method=lsg" / "s0"
    for kind, make, words in chance.sample(commands, min(len(commands), count // 4)):
        target = folder / words[-1]
        remove(target)
        target.parent.mkdir(exist_ok=True)
        make(target)
        given = [str(seeds_run / rundir.BEST) if word == "CKPT" else word for word in words]
        command = Command(given, folder, log="special").start()
        status = command.wait()
        wrong = status not in STATUSES or "Traceback" in command.err or command.usage.ru_utime > 20
        yield Case(f"{words[0]} of a {kind}", f"{shlex.join(given)}: status {status}: {command.err[-300:]}" if wrong else "")
        remove(target)
    with open("/dev/zero") as zeros:
        command = Command(["predict", str(seeds_run / rundir.BEST), "-"], folder, stdin=zeros.fileno(), log="zeros").start()
        yield Case("a list from /dev/zero", "" if command.wait() == 3 else f"status {command.status}: {command.err[-300:]}")


COMMANDS = [
    [name, f"x{suffix}"]
    for name in ("eval", "export", "inspect-gradients")
    for suffix in SUFFIXES[: 4 if name == "eval" else 1]
]
COMMANDS += [
    ["predict", "x.onnx"],
    ["compare", "run/config.json"],
    ["train", "-q", "--config", "recipe.toml"],
    ["predict", "CKPT", "x.png"],
]


def remove(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.unlink() if path.is_symlink() or not path.is_dir() else path.rmdir()
