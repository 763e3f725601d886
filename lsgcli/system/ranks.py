"""Rank of this process among the processes of a training run, read from environment variables. Imports nothing heavy.

torchrun and srun start one process per device and describe it in environment variables.
"""

import functools
import math
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """A process among ``size`` processes, of which ``local_size`` run on this machine.

    Attributes:
        rank: 0 to size - 1. Rank 0 writes the run directory, stdout and the progress display.
        local_rank: 0 to local_size - 1, also the index of the GPU, unless srun shows each task its own GPU only.
        address, port: of the key-value store through which the processes find each other.
        hosts: whether this process, rather than torchrun, serves the store.
        attempt: number of restarts by torchrun.
        of_slurm: whether srun started it.
        problem: what is wrong with the environment variables; empty if they are valid or absent.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    address: str = ""
    port: int = 0
    hosts: bool = False
    attempt: int = 0
    of_slurm: bool = False
    problem: str = ""


VARIABLES = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # of torchrun


def place(environment: Mapping[str, str]) -> Place:
    """The place of a process started by torchrun, or by srun with several tasks; ``Place()`` for any other process."""
    number = {name: int(value) for name, value in environment.items() if re.fullmatch(r"[0-9]{1,12}", value)}
    if environment.get("WORLD_SIZE", "1") != "1":
        return _of_torchrun(number, environment)
    if number.get("SLURM_STEP_NUM_TASKS", 1) > 1 and {"SLURM_PROCID", "SLURM_LOCALID", "SLURM_JOB_ID"} <= number.keys():
        per_node = _repeated(environment.get("SLURM_STEP_TASKS_PER_NODE", environment["SLURM_STEP_NUM_TASKS"]))
        job = number["SLURM_JOB_ID"] * 7 + number.get("SLURM_STEP_ID", 0)
        return Place(
            number["SLURM_PROCID"],
            number["SLURM_STEP_NUM_TASKS"],
            number["SLURM_LOCALID"],
            per_node[number.get("SLURM_NODEID", 0) % len(per_node)],
            environment.get("MASTER_ADDR") or _first_host(environment.get("SLURM_STEP_NODELIST", "127.0.0.1")),
            number.get("MASTER_PORT") or 20_000 + job % 20_000,
            hosts=number["SLURM_PROCID"] == 0,
            of_slurm=True,
        )
    return Place()


def _of_torchrun(number: Mapping[str, int], environment: Mapping[str, str]) -> Place:
    rank, size, port = (number.get(name, -1) for name in ("RANK", "WORLD_SIZE", "MASTER_PORT"))
    local_rank = number.get("LOCAL_RANK", rank)
    local_size = number.get("LOCAL_WORLD_SIZE", size)
    address = environment.get("MASTER_ADDR", "")
    if not (0 <= rank < size and 0 <= local_rank < local_size <= size and 0 < port < 1 << 16 and address):
        given = {name: environment.get(name) for name in VARIABLES}
        return Place(problem=f"environment: found {given}, expected the variables that torchrun sets in each process")
    hosts = rank == 0 and environment.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    return Place(rank, size, local_rank, local_size, address, port, hosts, number.get("TORCHELASTIC_RESTART_COUNT", 0))


@functools.cache
def here() -> Place:
    """The place of this process."""
    return place(os.environ)


def end_of_job(environment: Mapping[str, str]) -> float:
    """When SLURM ends the job of this process, in seconds since 1970; infinite outside a job, or without a time limit.

    A time in the past is not the end: the limit was extended, or the variable comes from another job.
    """
    text = environment.get("SLURM_JOB_END_TIME", "")
    return float(text) if re.fullmatch(r"[0-9]{1,12}", text) and int(text) > time.time() else math.inf


def _repeated(text: str) -> list[int]:
    """SLURM's counts per node, such as ``2(x3),1``: [2, 2, 2, 1]."""
    counts = re.findall(r"(\d+)(?:\(x(\d+)\))?", text)
    return [int(count) for count, times in counts for _ in range(int(times or 1))]


def _first_host(nodes: str) -> str:
    """The first host of SLURM's list, such as ``gpu[03-07,9],login``: ``gpu03``."""
    match = re.match(r"([^,\[]+)(?:\[(\d+)[^\]]*\]([^,]*))?", nodes)
    return "".join(part or "" for part in match.groups()) if match else nodes
