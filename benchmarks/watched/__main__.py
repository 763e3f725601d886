"""Unusual but legal scripts, alone and observed: do they end, print and write the same?

    python -m benchmarks.watched                      # all, two at a time; writes the record watched
    python -m benchmarks.watched --only autograd      # a topic, or names of scripts, whose rows of the record are replaced

A script is a cell of a file in ``benchmarks/watched/scripts`` behind the text before its first cell. It runs as ``python script.py``, as ``lsg diagnose
--steps all script.py``, and between the beginning and the end of ``lsg.watch``. Exit status, everything that is printed, and the files that are
written are compared. Random states, counts and hashes are printed by the scripts themselves.
"""

import argparse
import difflib
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measuring import ROOT, machine, read, write

FOLDER = Path(__file__).parent / "scripts"
TIMEOUT = 120  # seconds of a script
SHOWN = 12  # lines of a difference
BEGIN = "import lsgcli as _lsg; _watch = _lsg.watch(quiet=True); _watch.__enter__(); "
END = "\n_watch.__exit__(None, None, None)\n"
MODES = ("diagnose", "watch")
# Addresses, times and processes, which differ from run to run.
VARYING = r"0x[0-9a-f]{6,}\b(?!\.)|\[?\b[WIE]\d{4} [\d:.]+( \d+)? |\b(pid|PID|process)[ =:]+\d+"


@dataclass(frozen=True)
class Script:
    """A script and the packages that it needs."""

    topic: str
    name: str
    about: str
    packages: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Outcome:
    """What a script did, and the result that lsg printed, if it is one JSON document."""

    status: int
    printed: str
    files: dict[str, str]
    result: dict[str, Any] | None = None

    def differences(self, other: "Outcome") -> list[str]:
        """What another run did otherwise, in lines."""
        found = []
        if self.status != other.status:
            found.append(f"status {self.status} -> {other.status}")
        changed = difflib.unified_diff(self.printed.splitlines(), other.printed.splitlines(), lineterm="", n=0)
        found += [line for line in changed if not line.startswith(("---", "+++", "@@"))][:SHOWN]
        names = sorted(name for name in self.files | other.files if self.files.get(name) != other.files.get(name))
        return found + [f"file {name}" for name in names]


def read_scripts(path: Path) -> list[Script]:
    """The scripts of a file."""
    preamble, *cells = re.split(r"^# %% (?=[\w-]+)", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    scripts = []
    for cell in cells:
        title, _, code = cell.partition("\n")
        name, packages, about = re.fullmatch(r"([\w-]+)\s*(?:\[(.*)\])?:? ?(.*)", title).groups()
        needed = tuple(re.findall(r"[\w.-]+", packages or ""))
        scripts.append(Script(path.stem, name, about, needed, preamble + code))
    return scripts


def run(script: Script, mode: str, folder: Path) -> Outcome:
    """Run a script in one of :data:`MODES`, or "alone", in a new folder at the same place."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    text = BEGIN + script.text + END if mode == "watch" else script.text
    (folder / "script.py").write_text(text, encoding="utf-8")
    lsg = ("-P", "-m", "lsgcli", "diagnose", "--json", "--steps", "all") if mode == "diagnose" else ()
    variables = {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *lsg, "script.py"]
    if mode != "diagnose":  # whose stdout is its own: the script's goes to stderr
        command = ["sh", "-c", 'exec "$@" 1>&2', "sh", *command]
    result = None
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=os.environ | variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT,
            check=False,
        )
        status, printed = done.returncode, done.stderr.decode(errors="replace")
        with suppress(ValueError):
            result = json.loads(done.stdout)
    except subprocess.TimeoutExpired as late:
        status, printed = 124, (late.stderr or b"").decode(errors="replace")
    printed = re.sub(VARYING, "0x", printed)
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != "script.py" and "__pycache__" not in path.parts:
            files[path.relative_to(folder).as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    return Outcome(status, printed, files, result)


def compare(script: Script, folder: Path, modes: Sequence[str] = MODES) -> tuple[dict[str, list[str]], str]:
    """What a script does otherwise when it is observed, by mode, nothing if it does the same; and what lsg diagnose has seen."""
    alone = run(script, "alone", folder)
    found = {}
    seen = ""
    for mode in modes:
        observed = run(script, mode, folder)
        differences = alone.differences(observed)
        if mode == "diagnose" and observed.result is None:
            differences.append("stdout: no JSON document")
        elif mode == "diagnose":
            seen = "{} steps, {} layers".format(observed.result["steps"], len(observed.result["layers"]))
            seen = "; ".join([seen, *observed.result["unseen"]])
        if differences:
            found[mode] = differences
    return found, seen


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.watched", description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="topics, or names of scripts")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES, help="how the scripts are observed")
    parser.add_argument("--jobs", type=int, default=2, help="scripts that run at the same time")
    arguments = parser.parse_args()
    scripts = [script for path in sorted(FOLDER.glob("*.py")) for script in read_scripts(path)]
    wanted = set(arguments.only or ())
    scripts = [script for script in scripts if not wanted or {script.topic, script.name} & wanted]
    absent = {script.name for script in scripts if not all(map(importlib.util.find_spec, script.packages))}
    rows: dict[str, dict[str, list[str]]] = {}
    seen: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as place, ThreadPoolExecutor(arguments.jobs) as pool:

        def take(index: int, script: Script) -> None:
            name = f"{script.topic}/{script.name}"
            rows[name], seen[name] = compare(script, Path(place) / str(index) / "work", arguments.modes)
            print(f"{name}:", json.dumps(rows[name], indent=1) if rows[name] else "same", f"({seen[name]})", flush=True)

        list(pool.map(take, *zip(*((i, one) for i, one in enumerate(scripts) if one.name not in absent), strict=True)))
    differing = {name: row for name, row in sorted(rows.items()) if row}
    print(f"{len(rows)} scripts, {len(differing)} differ; packages are missing for {len(absent)}: {' '.join(sorted(absent))}")
    if tuple(arguments.modes) == MODES:
        former = (read("watched") if wanted else None) or {}
        kept = {name: row for name, row in former.get("differing", {}).items() if name not in rows}
        record = {
            **machine(),
            "scripts": dict(sorted({**former.get("scripts", {}), **seen}.items())),
            "absent": sorted(absent) if not wanted else former.get("absent", []),
            "differing": dict(sorted((kept | differing).items())),
        }
        write("watched", record)
    return bool(differing)


if __name__ == "__main__":
    sys.exit(main())
