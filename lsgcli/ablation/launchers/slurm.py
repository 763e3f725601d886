"""Jobs of a SLURM cluster."""

import re
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from lsgcli.ablation.jobs import Attempt, Job
from lsgcli.ablation.launchers import Convert, Ids, Launcher, text, whole
from lsgcli.errors import ConfigError
from lsgcli.registry import register

SIGNAL = "USR1"  # before the time limit; `lsg train` stops on it, too
REQUEUES = 10_000  # of a job
ANSWER = 60  # seconds
ARRAY = 1000  # jobs: SLURM's MaxArraySize is 1001 by default
# fmt: off
SBATCH = (
    "account", "begin", "comment", "constraint", "cpus_per_gpu", "cpus_per_task", "dependency", "exclude", "exclusive", "gpus",
    "gpus_per_node", "gpus_per_task", "gres", "job_name", "licenses", "mail_type", "mail_user", "mem", "mem_per_cpu", "mem_per_gpu",
    "nice", "nodelist", "partition", "prefer", "qos", "reservation", "tmp",
)
# fmt: on


def minutes(value: str) -> int:
    """A time limit as sbatch takes it, rounded up to minutes: ``30``, ``30:00``, ``4:00:00``, ``1-12``, ``1-12:00``, ``1-12:00:00``."""
    match = re.fullmatch(r"(?:(\d{1,3})-)?(\d{1,6})(?::(\d{1,2}))?(?::(\d{1,2}))?", value)
    if not match:
        raise ValueError("minutes or a time such as 4:00:00 or 1-12:00:00")
    days, first, second, third = (None if part is None else int(part) for part in match.groups())
    if days is not None or third is not None:
        hours, minute, seconds = first or 0, second or 0, third or 0
    else:
        hours, minute, seconds = 0, first or 0, second or 0
    total = (days or 0) * 1440 + hours * 60 + minute + (seconds > 0)
    if total == 0:
        raise ValueError("at least one minute")
    return total


@dataclass(frozen=True)
class Task:
    """What submitit runs on the node."""

    job: Job

    def __call__(self) -> int:
        """Run the job; if SLURM's signal stops it, requeue it after it has saved its state."""
        requeue = signal.getsignal(signal.SIGUSR1)
        attempt = Attempt(self.job)
        signal.signal(signal.SIGUSR1, lambda number, frame: attempt.stop())
        status = attempt.run()
        if attempt.stopped and status != 0 and callable(requeue):
            requeue(signal.SIGUSR1, None)  # submitit's handler; ends the process
        return status

    def checkpoint(self) -> Any:
        """What the requeued job runs: the same."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


@register("launcher", "slurm")
class Slurm(Launcher):
    """A job array of SLURM. At its time limit a job saves and requeues itself."""

    extra, packages = "slurm", ("submitit",)
    options: ClassVar[Mapping[str, Convert]] = {
        "time": minutes,
        "grace": whole,
        "parallel": whole,
        "setup": text,
        **dict.fromkeys(SBATCH, text),
    }
    pause = 5.0

    def __init__(self, folder: Path, options: Mapping[str, Any]):
        super().__init__(folder / "slurm", options)
        if missing := [name for name in ("sbatch", "squeue", "scancel", "srun") if shutil.which(name) is None]:
            raise ConfigError(
                f"--launcher slurm: found no {', '.join(missing)} on the PATH, expected the commands of SLURM",
                hint="Run it on a login node of the cluster.",
            )

    def submit(self, jobs: Sequence[Job]) -> Ids:
        import submitit
        from submitit.core.utils import FailedJobError

        jobs = jobs[:ARRAY]  # the others follow
        given = self.given
        sbatch = {name.replace("_", "-"): value for name, value in given.items() if name in SBATCH}
        executor = submitit.SlurmExecutor(self.folder, max_num_timeout=REQUEUES)
        executor.update_parameters(
            job_name="lsg",
            time=given.get("time", 60),
            array_parallelism=given.get("parallel", len(jobs)),
            setup=[f"export SUBMITIT_PREEMPT_SIGNAL={SIGNAL}", *([given["setup"]] if "setup" in given else [])],
            srun_args=[f"--cpus-per-task={given['cpus_per_task']}"] if "cpus_per_task" in given else [],
            additional_parameters={"requeue": True, **sbatch, "signal": f"{SIGNAL}@{given.get('grace', 90)}"},
        )
        try:
            submitted = executor.submit_array([Task(job) for job in jobs])
        except FailedJobError as error:
            raise ConfigError(f"--launcher slurm: sbatch failed: {str(error).strip()}", hint="Check --slurm.") from error
        return {job.name: one.job_id for job, one in zip(jobs, submitted, strict=True)}

    def alive(self, ids: Ids) -> set[str]:
        command = ["squeue", "--me", "--noheader", "--array", "--format=%i"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER, check=True)
        except (OSError, subprocess.SubprocessError):
            return set(ids)
        known = set(done.stdout.split())
        return {name for name, job in ids.items() if job in known}

    def cancel(self, ids: Ids) -> None:
        if alive := self.alive(ids):
            subprocess.run(["scancel", *(ids[name] for name in alive)], timeout=ANSWER, check=False)
