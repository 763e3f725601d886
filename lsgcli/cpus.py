"""How many CPUs the process may use, and how its threads wait for each other. Imports nothing heavy."""

import os
from collections.abc import Iterator, MutableMapping
from pathlib import Path

PROCESSES = (
    "SLURM_CPUS_PER_TASK",
)  # the variables that say how many processes to start, or threads; the first that is set counts
THREADS = ("OMP_NUM_THREADS", *PROCESSES)
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def wait_passively(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let idle threads of OpenMP sleep instead of spin, unless a variable of the environment says how they wait.

    Spinning threads gain nothing where a process has its CPUs for itself, and where it does not they take them from the thread that they
    wait for. OpenMP reads the variable once, when the library is loaded: call this before torch or numpy is imported. Threads of
    :mod:`lsgcli.neurons.kernels.cpu` are OpenMP's, and processes started later inherit the variable.
    """
    if not any(name in environment for name in WAITING):
        environment["OMP_WAIT_POLICY"] = "PASSIVE"


def usable(variables: tuple[str, ...] = PROCESSES, root: Path = Path("/")) -> tuple[int, str]:
    """CPUs that the process may use, at least 1, and what limits them.

    The number is that of the first of ``variables`` that is set to a number, within the CPU affinity and the CPU quota of every control group (v1 or
    v2) that holds the process. Of a quota that is not whole, the whole CPUs count: what is left over would make all threads wait.

    Args:
        variables: names of environment variables that hold a number of CPUs.
        root: folder with ``proc`` and ``sys``.
    """
    limits = [_affinity(), *((max(1, int(quota)), "cgroup quota") for quota in _quotas(root))]
    for name in variables:
        number = os.environ.get(name, "").partition(",")[0].strip()  # OMP_NUM_THREADS may have one for each level of nesting
        if number.isdecimal() and int(number) > 0:
            limits.insert(0, (int(number), name))
            break
    return min(limits, key=lambda limit: limit[0])


def _affinity() -> tuple[int, str]:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)), "CPU affinity"
    return os.cpu_count() or 1, "CPUs of the machine"


def _quotas(root: Path) -> Iterator[float]:
    """CPUs that each control group of the process, and each group around it, allows."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        folder = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        # A container may see its own group as the root, whatever the path says; what is not there limits nothing.
        names = [name for name in path.split("/") if name not in ("", "..")]
        files = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if controllers else ("cpu.max",)
        for depth in range(len(names) + 1):
            group = folder.joinpath(*names[:depth])
            try:
                quota, period = " ".join((group / file).read_text() for file in files).split()
            except (OSError, ValueError):
                continue
            if quota.isdecimal():  # else "max", or -1
                yield int(quota) / int(period)
