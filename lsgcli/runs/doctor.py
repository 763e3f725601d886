"""Checks of an installation and its machine: ``lsg doctor``.

Everything heavy is imported inside the checks, so that a package that cannot be imported fails one check and not the program.
"""

import os
import platform
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from lsgcli.errors import DISTRIBUTION, LsgError, install_hint
from lsgcli.runs import packages
from lsgcli.system import cpus, memory
from lsgcli.system.files import user_cache
from lsgcli.system.version import __version__

GIB = 1 << 30
DISK, MEMORY = GIB, GIB  # bytes, at least
LONGEST = 400  # characters of an error
BENCH = 3.0  # seconds
INSTEAD = "Train with --backend reference, and report this with the lines above."
NOT_TESTED = ("auto", "reference", "triton")  # backends: those that select another, and what others are compared with
PATH = re.compile(r"(?<![\w.])(?:[A-Za-z]:)?(?:[/\\][^\s/\\:'\",;]+){2,}")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "KMP_AFFINITY", "KMP_DUPLICATE_LIB_OK", "GOMP_CPU_AFFINITY")


INSTRUCTIONS = {  # name -> flags of /proc/cpuinfo
    "AVX2": "avx2",
    "AVX-512": "avx512f",
    "VNNI": "avx512_vnni avx_vnni",
    "AVX-512 BF16": "avx512_bf16",
    "AMX": "amx_tile",
}


class Check(NamedTuple):
    """A check: whether it passed, what was found and expected, and what to do if it failed."""

    name: str
    ok: bool
    found: str
    expected: str = ""
    hint: str = ""


def examine(say: Callable[[str], object] = lambda text: None) -> dict[str, Any]:
    """Run all checks. The result contains neither user names nor paths.

    Args:
        say: called with a description of each check that takes seconds.

    Returns:
        JSON types: ``ok``; ``checks``, each with ``name``, ``ok``, ``found``, ``expected`` and ``hint``; ``backends``: name -> ``ok``,
        ``cases``, ``worst`` relative error, ``results``, each with ``device``, ``case``, ``worst`` and ``failure``; ``versions``: package -> version, None if it is not installed.
    """
    backends: dict[str, Any] = {}
    checks = [
        *(_guarded(name, check) for name, check in CHECKS.items()),
        *_backends(backends, say),
        _guarded("speed", lambda: _speed(say)),
        _guarded("openmp", _openmp),  # last: libraries that the others need are loaded
    ]
    versions = {DISTRIBUTION: __version__, "python": platform.python_version(), "system": platform.platform()}
    record = {
        "ok": all(check.ok for check in checks),
        "checks": [check._asdict() for check in checks],
        "backends": backends,
        "versions": versions | {one.package: one.version for one in packages.requirements()},
    }
    return _anonymous(record)


def _guarded(name: str, check: Callable[[], Check], hint: str | None = None) -> Check:
    """The result of a check, which fails if it raises an error."""
    try:
        return check()
    except Exception as error:
        text, own = (error.message, error.hint) if isinstance(error, LsgError) else (f"{type(error).__name__}: {error}", None)
        return Check(name, False, " ".join(text.split())[:LONGEST], "no error", own or hint or install_hint())


def _packages() -> Check:
    """Versions of lsg and its required packages, and of those of extras that are too old."""
    import torch

    wrong = [
        f"{one.package} {one.version or 'not installed'}, needs {one.least}"
        for one in packages.requirements()
        if one.too_old or not (one.extra or one.version)
    ]
    build = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "for CPUs"
    found = f"{DISTRIBUTION} {__version__}, Python {platform.python_version()}, torch {torch.__version__} {build}"
    return Check("packages", not wrong, "; ".join([found, *wrong]), "the versions that lsg requires", install_hint())


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

    from lsgcli.system.device import CROWDED, crowding, use_threads

    count, source = cpus.usable(())
    before = torch.get_num_threads()
    why = use_threads(None)
    threads = torch.get_num_threads()
    slower = {precision: crowding(precision) for precision in ("fp32", "bf16")}
    torch.set_num_threads(before)
    crowded = ""
    for precision, times in slower.items():
        if times > CROWDED:
            crowded += f"; convolutions in {precision} take {times:.1f} times as long as on one thread, beside other programs: --threads 1"
    variables = ", ".join(f"{name}={os.environ[name]}" for name in THREADS if name in os.environ)
    return Check(
        "threads",
        threads <= count,
        f"{threads} ({why}); usable CPUs: {count} ({source}) of {os.cpu_count()}{'; ' + variables if variables else ''}{crowded}",
        f"at most {count}",
        "Unset OMP_NUM_THREADS, or give --threads: threads that share a CPU wait for each other.",
    )


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


def _processor() -> Check:
    """Vector instructions, which the kernels and torch's integer and bf16 products use."""
    from lsgcli.system.device import cpu_flags

    flags = cpu_flags()
    found = []
    for name, words in INSTRUCTIONS.items():
        if flags & set(words.split()):
            found.append(name)
    lacks = platform.machine().lower() in ("x86_64", "amd64") and bool(flags) and "AVX2" not in found
    model = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text()) if flags else None
    text = ", ".join([*([model[1]] if model else [platform.machine()]), *found])
    return Check("processor", not lacks, text, "AVX2", "A virtual machine may hide it: set its CPU type to that of the host.")


def _memory() -> Check:
    """Memory that the process may use."""
    free = memory.available_bytes()
    found = f"{free / GIB:.1f} GiB available to this process, {memory.total_bytes() / GIB:.1f} GiB in all"
    hint = "End other programs, raise the limit of the container or job, or use a smaller --batch-size and -T."
    return Check("memory", free >= MEMORY, found, f"at least {MEMORY // GIB} GiB available", hint)


def _cache() -> Check:
    """The cache of prepared data and kernels."""
    from lsgcli.config.resolve import from_environment

    given = from_environment(os.environ, {"cache_dir"}).get("cache_dir")
    return _folder("cache", Path(given) if given else user_cache(), "Set XDG_CACHE_HOME, or --cache-dir, to a writable folder.")


def _runs() -> Check:
    """The folder of runs."""
    from lsgcli.store.rundir import RUNS

    return _folder("runs", RUNS, "Change to a writable folder, or give --out.")


def _folder(name: str, folder: Path, hint: str) -> Check:
    """Whether a folder, or the nearest one above it that exists, can be written and has space."""
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    expected = f"a writable folder with {DISK // GIB} GiB free"
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        return Check(name, False, f"not writable: {error.strerror}", expected, hint)
    free = shutil.disk_usage(nearest).free
    return Check(name, free >= DISK, f"writable, {free / GIB:.1f} GiB free", expected, f"Free some disk space. {hint}")


def _backends(found: dict[str, Any], say: Callable[[str], object]) -> Iterator[Check]:
    """A check for each backend that can run here; ``found`` gets its figures."""
    try:
        import torch

        from lsgcli import registry
        from lsgcli.neurons.kernels.selftest import TOLERANCE, compare
    except Exception as failed:  # in the check of packages, too
        yield Check("backends", False, f"not tested: {type(failed).__name__}", "lsg can be imported", install_hint())
        return
    devices = [torch.device("cpu"), *([torch.device("cuda")] if torch.cuda.is_available() else [])]
    say("testing backends; kernels are compiled once")
    for name in registry.names("backend"):

        def check(name: str = name) -> Check:
            backend = registry.get("backend", name)
            usable = [
                device for device in devices if backend.available(device) and (not backend.compiles or device.type == "cuda")
            ]
            results = [{"device": str(device), **one._asdict()} for device in usable for one in compare(name, device)]
            failures = [one["failure"] for one in results if one["failure"]]
            worst = max((one["worst"] for one in results if one["worst"] is not None), default=None)
            text = f"{len(results)} cases" if usable else "not available or not tested here"
            text += "" if worst is None else f", largest relative error {worst:.1e}"
            if usable:
                found[name] = {"ok": not failures, "cases": len(results), "worst": worst, "results": results}
            return Check(
                f"backend {name}",
                not failures,
                "; ".join([text, *([f"{len(failures)} failed"] if failures else []), *failures[:1]]),
                f"the results of reference, within {TOLERANCE:g}",
                INSTEAD,
            )

        if name not in NOT_TESTED:
            result = _guarded(f"backend {name}", check, INSTEAD)
            if not result.ok:
                found.setdefault(name, {"ok": False, "cases": 0, "worst": None, "results": []})  # it raised an error
            yield result


def _speed(say: Callable[[str], object]) -> Check:
    """Training steps of the default network, on random input."""
    import torch

    from lsgcli.config.resolve import usual
    from lsgcli.config.run import from_dict
    from lsgcli.data.batches import Batch
    from lsgcli.runs.dry_run import seconds_per_step
    from lsgcli.system.device import set_up
    from lsgcli.training.loop import new_model

    say("timing training steps")
    config = from_dict(usual("digits-dvs"))
    compute = set_up(config)
    model = new_model(config, classes=10, channels=2).to(compute.device)
    x = torch.rand(config.T, config.batch_size, 2, config.size, config.size)
    batch = Batch(x, torch.randint(0, 10, (config.batch_size,)), index=0)
    seconds = seconds_per_step(model, batch, config, compute, BENCH)
    rate = config.batch_size / seconds
    return Check("speed", True, f"{rate:,.0f} samples/s in training of the default network, {compute.described()}")


CHECKS: dict[str, Callable[[], Check]] = {
    "packages": _packages,
    "gpu": _gpu,
    "threads": _threads,
    "processor": _processor,
    "memory": _memory,
    "cache": _cache,
    "runs": _runs,
}


def _anonymous(value: Any) -> Any:
    """JSON types in which a path is reduced to its last component."""
    if isinstance(value, dict):
        return {key: _anonymous(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_anonymous(one) for one in value]
    if not isinstance(value, str):
        return value
    for folder in (os.getcwd(), str(Path.home())):
        value = value.replace(folder, "...") if len(folder) > 1 else value
    return PATH.sub(lambda path: ".../" + re.split(r"[/\\]", path[0])[-1], value)
