"""How many CPUs a process may use, and how its threads wait."""

import os
import subprocess
import sys

import pytest

from lsgcli.system import cpus

ASK = [sys.executable, "-c", "from lsgcli.system import cpus; print(*cpus.usable(cpus.THREADS), sep=', ')"]


@pytest.fixture
def eight(monkeypatch):
    """A process that may run on eight CPUs, and of whose environment nothing is set."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    for name in cpus.THREADS:
        monkeypatch.delenv(name, raising=False)


def tree(root, membership, files):
    """A folder like / that says in which control groups the process is, and what these allow."""
    for name, text in {
        "proc/self/cgroup": membership,
        **{f"sys/fs/cgroup/{name}": text for name, text in files.items()},
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return root


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/job/step", {"cpu.max": "max 100000", "job/cpu.max": "300000 100000", "job/step/cpu.max": "max 100000"}, 3),
        ("0::/job/step", {"job/cpu.max": "600000 100000", "job/step/cpu.max": "50000 25000"}, 2),
        ("0::/", {"cpu.max": "250000 100000"}, 2),  # a container that sees its group as the root
        ("0::/../elsewhere", {"cpu.max": "400000 100000"}, 4),
        ("0::/", {"cpu.max": "5000 100000"}, 1),
        ("0::/", {"cpu.max": "max 100000"}, 8),
        ("0::/", {"cpu.max": "6400000 100000"}, 8),
        ("0::/", {}, 8),
        ("4:memory:/a\n3:cpu,cpuacct:/a", {"cpu/a/cpu.cfs_quota_us": "500000", "cpu/a/cpu.cfs_period_us": "100000"}, 5),
        ("3:cpuacct,cpu:/docker/1", {"cpu/cpu.cfs_quota_us": "150000", "cpu/cpu.cfs_period_us": "50000"}, 3),
        ("3:cpu:/a\n0::/", {"cpu/a/cpu.cfs_quota_us": "-1", "cpu/a/cpu.cfs_period_us": "100000"}, 8),
        ("3:cpuset:/a", {"cpu/a/cpu.cfs_quota_us": "100000", "cpu/a/cpu.cfs_period_us": "100000"}, 8),
    ],
)
def test_quotas_of_control_groups(eight, tmp_path, membership, files, expected):
    found = cpus.usable(root=tree(tmp_path, membership, files))
    assert found == (expected, "cgroup quota" if expected < 8 else "CPU affinity")


@pytest.mark.parametrize(
    ("environment", "threads", "processes"),
    [
        ({}, (6, "cgroup quota"), (6, "cgroup quota")),
        ({"SLURM_CPUS_PER_TASK": "4"}, (4, "SLURM_CPUS_PER_TASK"), (4, "SLURM_CPUS_PER_TASK")),
        ({"OMP_NUM_THREADS": "2"}, (2, "OMP_NUM_THREADS"), (6, "cgroup quota")),
        ({"OMP_NUM_THREADS": "5,2", "SLURM_CPUS_PER_TASK": "4"}, (5, "OMP_NUM_THREADS"), (4, "SLURM_CPUS_PER_TASK")),
        ({"OMP_NUM_THREADS": "64"}, (6, "cgroup quota"), (6, "cgroup quota")),
        ({"OMP_NUM_THREADS": "", "SLURM_CPUS_PER_TASK": "0"}, (6, "cgroup quota"), (6, "cgroup quota")),
        ({"OMP_NUM_THREADS": "many"}, (6, "cgroup quota"), (6, "cgroup quota")),
    ],
)
def test_variables_count_within_what_is_allowed(eight, monkeypatch, tmp_path, environment, threads, processes):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    root = tree(tmp_path, "0::/", {"cpu.max": "600000 100000"})
    assert cpus.usable(cpus.THREADS, root) == threads
    assert cpus.usable(cpus.PROCESSES, root) == processes


def ask(join, **environment):
    """What a process says that first calls ``join``."""
    clean = {name: value for name, value in os.environ.items() if name not in cpus.THREADS}
    return subprocess.run(
        ASK, env=clean | environment, preexec_fn=join, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_affinity_of_a_process():
    one = {min(os.sched_getaffinity(0))}
    assert ask(lambda: os.sched_setaffinity(0, one)) == "1, CPU affinity"
    assert ask(lambda: os.sched_setaffinity(0, one), OMP_NUM_THREADS="3") == "1, CPU affinity"


@pytest.mark.parametrize("name", cpus.WAITING)
def test_the_user_says_how_threads_wait(name):
    environment = {name: "ACTIVE"}
    cpus.wait_passively(environment)
    assert environment == {name: "ACTIVE"}


@pytest.mark.parametrize(("given", "variables", "expected"), [(7, {"SLURM_CPUS_PER_TASK": "2"}, 7), (8, {}, 8), (64, {}, 8)])
def test_a_number_that_is_set_is_limited_by_the_machine(monkeypatch, eight, caplog, given, variables, expected):
    monkeypatch.setattr(cpus, "_quotas", lambda root: ())
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    cpus._warn_once.cache_clear()
    assert [cpus.limited("workers", given) for _ in range(2)] == [expected, expected]
    messages = ["workers: found 64, expected at most 8 (CPU affinity); using 8"] if expected < given else []
    assert [record.message for record in caplog.records] == messages
