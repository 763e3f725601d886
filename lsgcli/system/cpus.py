"""Number of usable CPUs, and the wait policy of idle threads. Imports nothing heavy."""

import functools
import os
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path

from lsgcli.errors import log

# Environment variables that limit the numbers of processes and of threads, in order of precedence.
PROCESSES = ("SLURM_CPUS_PER_TASK",)
THREADS = ("OMP_NUM_THREADS", *PROCESSES)
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
_warn_once = functools.cache(log.warning)


@contextmanager
def waiting_passively() -> Iterator[None]:
    """Context for importing torch so that idle OpenMP threads wait passively. Restores the environment."""
    before = os.environ.get("OMP_WAIT_POLICY")
    if "torch" not in sys.modules:
        wait_passively()
    try:
        yield
    finally:
        if before is None and os.environ.get("OMP_WAIT_POLICY") == "PASSIVE":
            del os.environ["OMP_WAIT_POLICY"]


@contextmanager
def loading() -> Iterator[None]:
    """As :func:`waiting_passively`, for importing any library. Also restores other state that libraries change on import.

    threadpoolctl sets ``KMP_DUPLICATE_LIB_OK``, which permits a process to load Intel's OpenMP twice; rich draws random numbers.
    """
    random = sys.modules.get("random")
    twice = "KMP_DUPLICATE_LIB_OK" in os.environ
    state = random.getstate() if random else None
    try:
        with waiting_passively():
            yield
    finally:
        if random:
            random.setstate(state)
        if not twice:
            os.environ.pop("KMP_DUPLICATE_LIB_OK", None)


def wait_passively(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set OpenMP's wait policy so that idle threads sleep instead of spinning, unless the environment sets a policy.

    Spinning gains a few percent if the process has its CPUs to itself (see docs/performance.md); otherwise it takes CPU time from the
    threads being waited for, which costs much more. OpenMP reads the variable when its library is loaded: call this before importing
    torch or numpy. It also applies to the threads of :mod:`lsgcli.neurons.kernels.cpu`, and child processes inherit it.
    """
    if not any(name in environment for name in WAITING):
        environment["OMP_WAIT_POLICY"] = "PASSIVE"


def usable(variables: tuple[str, ...] = PROCESSES, root: Path = Path("/")) -> tuple[int, str]:
    """Number of CPUs that the process may use, at least 1, and what limits it.

    The minimum of the first of ``variables`` that is set to a number, the CPU affinity, and the CPU quotas of all control groups (v1 or v2)
    of the process. Quotas are rounded down: with a fraction of a CPU, all threads would wait for the slowest.

    Args:
        variables: environment variables that contain a number of CPUs.
        root: folder that contains ``proc`` and ``sys``.
    """
    limits = [_affinity(), *((max(1, int(quota)), "cgroup quota") for quota in _quotas(root))]
    for name in variables:
        number = os.environ.get(name, "").partition(",")[0].strip()  # OMP_NUM_THREADS may list one number per nesting level
        if number.isdecimal() and int(number) > 0:
            limits.insert(0, (int(number), name))
            break
    return min(limits, key=lambda limit: limit[0])


def limited(name: str, given: int) -> int:
    """The value ``given`` of the setting ``name`` (``threads``, ``workers``), limited to the usable CPUs; warns if it is larger.

    More threads than CPUs wait for each other, which may take a hundred times longer. The settings of a run on a larger machine may
    contain such a number. Environment variables do not limit an explicit setting.
    """
    count, source = usable(())
    if given > count:
        _warn_once(f"{name}: found {given}, expected at most {count} ({source}); using {count}")
    return min(given, count)


def share(processes: int) -> dict[str, str]:
    """The environment variable that gives each of several child processes its share of the threads; empty if it is set already."""
    count, source = usable(THREADS)
    return {} if source == "OMP_NUM_THREADS" else {"OMP_NUM_THREADS": str(max(1, count // processes))}


def _affinity() -> tuple[int, str]:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)), "CPU affinity"
    return os.cpu_count() or 1, "CPUs of the machine"


def _quotas(root: Path) -> Iterator[float]:
    """CPU quota of each control group of the process and of its parent groups, of versions 1 and 2."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        folder = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        files = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if controllers else ("cpu.max",)
        # In a container, its own group may appear as the root; groups that do not exist set no limit.
        own = folder.joinpath(*(name for name in path.split("/") if name not in ("", "..")))
        for group in (own, *own.parents):
            quota, _, period = " ".join(_text(group / file) for file in files).partition(" ")
            if quota.isdecimal() and period.isdecimal():  # otherwise "max", -1, or no such file
                yield int(quota) / int(period)


def _text(file: Path) -> str:
    """The text of a file of the system; empty if there is none."""
    try:
        return file.read_text().strip()
    except OSError:
        return ""
