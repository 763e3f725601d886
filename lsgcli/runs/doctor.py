"""Checks of an installation and its machine: ``lsg doctor``.

Everything heavy is imported inside the checks, so that a package that cannot be imported fails one check and not the program.
"""

import functools
import json
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from lsgcli import registry
from lsgcli.errors import DISTRIBUTION, LsgError, counted, install_hint
from lsgcli.system import cpus
from lsgcli.system.files import user_cache
from lsgcli.system.interpreter import __version__, installed
from lsgcli.system.schema import Record

Progress = Callable[[str, int, int], None]  # what is checked, checks done, all checks
GIB = 1 << 30
DISK = GIB  # bytes, at least
LONGEST = 400  # characters of an error
INSTEAD = "Train with --backend reference, and report this with the lines above."
NOT_TESTED = ("auto", "reference")  # backends: one that selects another, and what others are compared with
PATH = re.compile(r"(?<![\w.])(?:/[^\s/:'\",;\\]+)+/(?=[^\s/:'\",;\\])")  # up to the last component


class Check(NamedTuple):
    """A check: whether it passed, what was found and expected, and what to do if it failed."""

    name: str
    ok: bool
    found: str
    expected: str = ""
    hint: str = ""


def examine(progress: Progress = lambda *_: None, *, quick: bool = False) -> Record:
    """Run all checks. The result contains neither user names nor paths.

    Args:
        progress: called with the name of a check, the number of checks done, and that of all.
        quick: leave out the backends, whose comparison takes longest.

    Returns:
        JSON types: ``ok``; ``checks``, each with ``name``, ``ok``, ``found``, ``expected`` and ``hint``; ``left_out``: names of checks;
        ``backends``: name -> ``ok``, ``cases``, ``worst`` relative error; ``versions``: package -> version, None if it is not installed.
    """
    backends: Record = {}
    compared = {f"backend {name}": name for name in registry.names("backend") if name not in NOT_TESTED}
    left_out = list(compared) if quick else []
    names = [*CHECKS, *([] if quick else compared), "openmp"]  # last: libraries that the others need are loaded
    checks = list[Check]()

    def tell(what: str) -> None:
        progress(what, len(checks), len(names))

    for name in names:
        tell(name)
        if name in compared:
            check = functools.partial(_backend, compared[name], backends, tell)
            checks.append(_guarded(name, check, INSTEAD))
        else:
            checks.append(_guarded(name, CHECKS.get(name, _openmp)))
    versions = {DISTRIBUTION: __version__, "python": platform.python_version(), "system": platform.platform()}
    record = {
        "ok": all(check.ok for check in checks),
        "checks": [check._asdict() for check in checks],
        "left_out": left_out,
        "backends": backends,
        "versions": versions | installed(),
    }
    text = json.dumps(record, ensure_ascii=False)
    for folder in (os.getcwd(), str(Path.home())):
        text = text.replace(folder, "/...") if len(folder) > 1 else text
    return json.loads(PATH.sub(".../", text))  # type: ignore[no-any-return]


def _guarded(name: str, check: Callable[[], Check], hint: str | None = None) -> Check:
    """The result of a check, which fails if it raises an error."""
    try:
        return check()
    except Exception as error:
        text, own = (error.message, error.hint) if isinstance(error, LsgError) else (f"{type(error).__name__}: {error}", None)
        return Check(name, False, " ".join(text.split())[:LONGEST], "no error", own or hint or install_hint())


def _packages() -> Check:
    """Versions of lsg, Python and torch, which must be importable."""
    import torch

    build = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "for CPUs"
    python = platform.python_version()
    return Check("packages", True, f"{DISTRIBUTION} {__version__}, Python {python}, torch {torch.__version__} {build}")


def _gpu() -> Check:
    """GPUs that torch can use."""
    import torch

    from lsgcli.system.device import nvidia_driver

    driver = nvidia_driver()
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    text = ", ".join(names) or "none"
    if driver:
        text += f"; NVIDIA driver {driver}"
    return Check(
        "gpu",
        bool(names) or driver is None,
        text,
        "a GPU that torch can use, because there is a driver",
        "Install a build of torch for CUDA that the driver supports (pytorch.org/get-started), and check nvidia-smi.",
    )


def _threads() -> Check:
    """Threads of torch, and usable CPUs."""
    import torch

    from lsgcli.system.device import use_threads

    count, source = cpus.usable(())
    found = f"{use_threads(None)}; usable CPUs: {count} ({source})"
    threads = torch.get_num_threads()
    hint = "Unset OMP_NUM_THREADS, or give --threads: threads that share a CPU wait for each other."
    return Check("threads", threads <= count, f"{threads} threads, by {found}", f"at most {count}", hint)


def _openmp() -> Check:
    """OpenMP runtimes in this process."""
    with cpus.loading():
        from threadpoolctl import threadpool_info

        libraries = [info["filepath"] for info in threadpool_info() if info["user_api"] == "openmp"]
    files = {os.path.realpath(path): _owned(path) for path in libraries}
    return Check(
        "openmp",
        len(files) <= 1,
        ", ".join(sorted(files.values())) or "none",
        "at most one OpenMP runtime in a process",
        "Each runtime starts its own threads, which slow each other down or abort the program. Unset LD_PRELOAD, and reinstall the "
        "packages named from one source (pip or conda).",
    )


def _owned(path: str) -> str:
    """A library and the package that contains it."""
    parts = Path(path).parts
    owner = next((parts[k + 1] for k, part in enumerate(parts[:-1]) if part == "site-packages"), "no package of Python")
    return f"{parts[-1]} of {owner}"


def _cache() -> Check:
    """The cache of prepared data and kernels: whether its folder, or the nearest one above that exists, is writable and has space."""
    from lsgcli.config.resolve import from_environment

    folder = Path(from_environment(os.environ, {"cache_dir"}).get("cache_dir") or user_cache())
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(nearest).free
    found = f"{free / GIB:.1f} GiB free"
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        free = 0
        found = f"not writable: {error.strerror}"
    hint = "Free some disk space, or set XDG_CACHE_HOME, or --cache-dir, to a writable folder."
    return Check("cache", free >= DISK, found, f"a writable folder with {DISK // GIB} GiB free", hint)


def _backend(name: str, record: Record, tell: Callable[[str], None]) -> Check:
    """A comparison with ``reference`` on each device where the backend runs; ``record`` gets its figures by name.

    Args:
        tell: called after each case with what is done.
    """
    import torch

    from lsgcli.neurons.kernels.selftest import TOLERANCE, compare

    record[name] = {"ok": False, "cases": 0, "worst": None}  # if this raises an error
    backend = registry.get("backend", name)
    results = list[Any]()
    for device in [torch.device(kind) for kind in ("cpu", "cuda") if kind == "cpu" or torch.cuda.is_available()]:
        if backend.available(device) and (not backend.compiles or device.type == "cuda"):
            for result in compare(name, device):
                results.append(result)
                tell(f"backend {name}, {counted(len(results), 'case')}")
    failures = [one.failure for one in results if one.failure]
    worst = max((one.worst for one in results if one.worst is not None), default=None)
    record[name] = {"ok": not failures, "cases": len(results), "worst": worst}
    found = f"{len(results)} cases" if results else "not available or not tested here"
    if worst is not None:
        found += f", largest relative error {worst:.1e}"
    if failures:
        found += f"; {len(failures)} failed; {failures[0]}"
    return Check(f"backend {name}", not failures, found, f"the results of reference, within {TOLERANCE:g}", INSTEAD)


CHECKS: dict[str, Callable[[], Check]] = {"packages": _packages, "gpu": _gpu, "threads": _threads, "cache": _cache}
