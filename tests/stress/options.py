"""Give every option and argument of every command values that nobody means: `python -m tests.stress.options [TEXT]`, an hour without TEXT.

Whatever it is given, a command ends within 20 s of processor time, without a traceback or a signal, below 1 GiB of memory, and leaves the
files that were there as they were. Commands, options and arguments are those that the program declares; TEXT chooses command lines that
contain it. Prints each that fails.
"""

import contextlib
import os
import resource
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from lsgcli.cli.app import app
from lsgcli.cli.commands import commands_of
from tests.stress import seeds
from tests.stress.data import recordings
from tests.stress.links import contents
from tests.stress.program import HANGS, Command
from tests.stress.rows import limit_memory
from tests.tiny import images

SECONDS, MIB = 20, 1024
PATIENCE = 120  # seconds on the clock, of a machine that may be busy
RESERVE = 4 << 30  # bytes of address space beyond what the libraries take

DATA, RUN = "decoy/data", "decoy/run"
CKPT, RECORDING = f"{RUN}/best.safetensors", f"{DATA}/train/cup/0.npz"
VALUES = ("", "0", "-1", "1e300", "nan", DATA, "/dev/zero", CKPT)
PREPARED = {"dataset": "event-folder", "data_dir": DATA, "T": 1, "size": 16, "slicing": "window", "window_us": 100_000}
TRAINED = {**PREPARED, "width_multiplier": 0.03125, "epochs": 1, "batch_size": 4, "workers": 0, "loss": "tet", "threads": 1}
# What a command is given besides; of others, what METAVARS says for arguments.
BASES: dict[str, dict[str, Any]] = {
    "train": TRAINED,
    "ablate": {**TRAINED, "grid": "method=none", "seeds": 0},
    "eval": {"checkpoint": CKPT, "data_dir": DATA},
    "inspect-gradients": {"checkpoints": CKPT, "data_dir": DATA, "batches": 1},
    "export": {"checkpoint": CKPT, "output": "net.safetensors"},
    "data prepare": PREPARED,
    "data show": {"paths": RECORDING, "output": "sheet.png"},
    "data info": {"path": DATA},
    "data verify": {"path": DATA},
}
METAVARS = {"CKPT": CKPT, "RUN": RUN, "DIR": DATA}


def cases() -> Iterator[list[str]]:
    """The words of every command line."""
    for name, command in commands_of(typer.main.get_command(app)):
        parameters = [parameter for parameter in command.params if parameter.name != "help"]
        base = BASES.get(name) or {
            p.name: METAVARS.get((p.metavar or "").strip("[].").upper(), RECORDING)
            for p in parameters
            if p.required or p.param_type_name == "argument"
        }
        yield words(name, parameters, base)
        for swept in parameters:
            for value in (None,) if getattr(swept, "is_flag", False) else VALUES:
                yield words(name, parameters, {**base, swept.name: value})
            for off in getattr(swept, "secondary_opts", ()):
                yield [*words(name, parameters, base), off]


def words(name: str, parameters: list[Any], values: dict[str, Any]) -> list[str]:
    """A command line that gives these parameters these values; None is a flag."""
    given = [(one, [] if values[one.name] is None else [str(values[one.name])]) for one in parameters if one.name in values]
    options = [word for one, text in given if one.param_type_name != "argument" for word in (one.opts[-1], *text)]
    arguments = [word for one, text in given if one.param_type_name == "argument" for word in text]
    return [*name.split(), *options, *(["--", *arguments] if arguments else [])]


def limited() -> None:
    """Give this process a group of its own and a limit of memory."""
    os.setsid()
    limit_memory(RESERVE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def problem(line: list[str], home: Path) -> str:
    """What is wrong with the end of a command."""
    one = Command(line, home, {"HOME": str(home)}, limited).run(PATIENCE)
    if one.status == HANGS:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(one.pid, signal.SIGKILL)  # and its processes
    wrong = one.status in (1, 70) or (one.status or 0) < 0 or "Traceback" in one.err
    if not wrong and one.seconds <= SECONDS and one.usage.ru_maxrss < MIB << 10:
        return ""
    return f"status {one.status}, {one.seconds:.0f} s, {one.usage.ru_maxrss >> 10} MiB: {one.err[-500:]}"


def main(text: str = "") -> int:
    """Run the command lines that contain the text, each with the files of a user as they were."""
    os.environ |= {"OMP_NUM_THREADS": "1", "COLUMNS": "100"}
    failed = 0
    with tempfile.TemporaryDirectory(prefix="lsg-options-") as folder:
        home, decoy, source = Path(folder) / "home", Path(folder) / "home" / "decoy", Path(folder) / "decoy"
        recordings(source / "data", 8, 2, ".npz", lambda seed: seeds.npz(seeds.rows(seed, 200, 128, 128)))
        images(source / "images", 1, 1)
        train = [
            word for name, value in TRAINED.items() for word in ("-T" if name == "T" else f"--{name.replace('_', '-')}", value)
        ]
        made = Command(["train", *train, "--out", RUN], Path(folder)).run()
        assert made.status == 0, made.err
        before = {path.relative_to(source): content for path, content in contents(source).items()}
        for line in dict.fromkeys(map(tuple, cases())):  # a value may be the one that the command has anyway
            if text in " ".join(line):
                shutil.rmtree(home, ignore_errors=True)
                shutil.copytree(source, decoy)
                found = problem(list(line), home)
                if {path.relative_to(decoy): content for path, content in contents(decoy).items()} != before:
                    found = f"files changed {found}"
                if found:
                    failed = 1
                    print(f"{line}: {found}", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
