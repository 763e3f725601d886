"""Jobs of a SLURM cluster."""

import contextlib
import io
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lsgcli.config.fields import Values
from lsgcli.errors import ConfigError, LsgError, log
from lsgcli.registry import register
from lsgcli.sweeps.jobs import Job, attempt, may_repeat
from lsgcli.sweeps.launchers import CANCELLED, Ids, Launcher
from lsgcli.system import interpreter
from lsgcli.training.signals import stop_on_signals

SIGNAL = "USR1"  # sent before the time limit; `lsg train` stops on it, too
REQUEUES = 10_000  # of a job
ANSWER = 60  # seconds
ARRAY = 1000  # jobs: SLURM's MaxArraySize is 1001 by default
TIME = "60"  # minutes of a job
GRACE = 90  # seconds between the signal and the time limit
REFILL = 30.0  # seconds until jobs are submitted again, after SLURM had no room for them
# States of jobs that have ended.
FINISHED = re.compile("BOOT_FAIL|CANCELLED|COMPLETED|DEADLINE|FAILED|NODE_FAIL|OUT_OF_MEMORY|PREEMPTED|REVOKED|TIMEOUT")
# Messages of SLURM. WAIT: the controller does not answer, or MaxJobCount is reached. LIMIT: a limit on
# the number of jobs that fewer jobs satisfy (MaxArraySize, MaxSubmitJobs of an account or QOS).
WAIT = re.compile("contact slurm controller|timed out|connection|zero bytes|temporarily una", re.IGNORECASE)
LIMIT = re.compile("job array specification|job submit limit|MaxSubmitJob", re.IGNORECASE)
SBATCH = [
    "account",
    "begin",
    "comment",
    "constraint",
    "cpus_per_gpu",
    "cpus_per_task",
    "dependency",
    "exclude",
    "exclusive",
    "gpus",
    "gpus_per_node",
    "gpus_per_task",
    "gres",
    "job_name",
    "licenses",
    "mail_type",
    "mail_user",
    "mem",
    "mem_per_cpu",
    "mem_per_gpu",
    "nice",
    "nodelist",
    "partition",
    "prefer",
    "qos",
    "reservation",
    "time",
    "tmp",
]


@dataclass(frozen=True)
class Task:
    """The callable that submitit runs on the node."""

    job: Job

    def __call__(self) -> int:
        """Run the job; if SLURM's signal stops it, requeue it after it has saved its state."""
        requeue = signal.getsignal(signal.SIGUSR1)
        with stop_on_signals(interrupt=False) as stop:
            status = attempt(self.job, stop)
        if stop.signal_name == "SIGUSR1" and status != 0 and may_repeat(self.job) and callable(requeue):
            requeue(signal.SIGUSR1, None)  # submitit's handler; ends the process
        return status

    def checkpoint(self) -> Any:
        """The submission of the requeued job: this task again."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


@register("launcher", "slurm")
class Slurm(Launcher):
    """A job array of SLURM. At its time limit a job saves and requeues itself."""

    extra = "slurm"
    packages = ("submitit",)
    options = {"grace": int, "parallel": int, "setup": str, **dict.fromkeys(SBATCH, str)}
    pause = 5.0

    def __init__(self, folder: Path, options: Values):
        super().__init__(folder / "slurm", options)
        written = {f"--slurm {key}": value for key, value in options.items()}
        written["--out"] = folder.absolute()
        for name, value in written.items():
            if re.search(r"[\r\n]", str(value)):  # it would be another line of the script, such as one for sbatch
                raise ConfigError(
                    f"{name}: found {str(value)!r}, expected one line, because it is written to a script for SLURM"
                )
        if missing := [name for name in ("sbatch", "squeue", "scancel", "srun") if shutil.which(name) is None]:
            raise ConfigError(
                f"--launcher slurm: found no {', '.join(missing)} on the PATH, expected the commands of SLURM",
                "Run it on a login node of the cluster.",
            )
        self.slots = options.get("parallel", self.slots)
        self._again = 0.0  # when jobs may be submitted again
        self._most = ARRAY  # maximum number of jobs submitted at once
        self._last_warning = ""
        self._jobs: dict[str, tuple[str, str]] = {}  # identifier of each known job of this user -> state, reason
        if problem := self._ask():
            raise LsgError(f"--launcher slurm: squeue failed: {problem}", "Check that SLURM's controller runs: scontrol ping")

    def submit(self, jobs: Sequence[Job]) -> Ids:
        if time.monotonic() < self._again:
            return {}
        jobs = jobs[: self._most]
        ids, problem = self._submit(jobs)
        if not problem:
            self._most = min(ARRAY, 2 * len(jobs))
            return ids
        is_limit = LIMIT.search(problem)
        if is_limit and len(jobs) > 1:
            self._most = len(jobs) // 2
            return self.submit(jobs)
        # At a limit, jobs that are alive make room when they end.
        is_busy = any(not FINISHED.fullmatch(state) for state, _ in self._jobs.values())
        if not (WAIT.search(problem) or (is_limit and is_busy)):
            raise ConfigError(f"--launcher slurm: sbatch failed: {problem}", "Check --slurm.")
        self._warn(f"SLURM takes no more jobs now; lsg tries again every {REFILL:g} s: {problem}")
        self._again = time.monotonic() + REFILL
        return {}

    def _submit(self, jobs: Sequence[Job]) -> tuple[Ids, str]:
        """Submit jobs as an array; returns their identifiers, or the problem."""
        import submitit
        from submitit.core.utils import FailedJobError

        given = self.given
        setup = f"export SUBMITIT_PREEMPT_SIGNAL={SIGNAL} PYTHONSAFEPATH=1"  # modules of the working directory are not imported
        sbatch = {"job_name": "lsg", "time": TIME, **{name: value for name, value in given.items() if name in SBATCH}}
        executor = submitit.SlurmExecutor(self.folder, max_num_timeout=REQUEUES, python=shlex.join(interpreter.PYTHON))
        executor.update_parameters(
            setup=[setup, given.get("setup", "")],
            srun_args=[f"--cpus-per-task={given['cpus_per_task']}"] if "cpus_per_task" in given else [],
            additional_parameters={"requeue": True, **sbatch, "signal": f"{SIGNAL}@{given.get('grace', GRACE)}"},
            array_parallelism=given.get("parallel", len(jobs)),
        )
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # submitit copies sbatch's stderr to it
                submitted = executor.submit_array([Task(job) for job in jobs])
        except FailedJobError as error:
            return {}, str(error).strip()
        return {job.name: one.job_id for job, one in zip(jobs, submitted, strict=True)}, ""

    def look(self, ids: Ids) -> Mapping[str, str]:
        if problem := self._ask():
            self._warn(f"SLURM does not answer; lsg keeps asking: {problem}")
            return dict.fromkeys(ids, "")
        found = {}
        for name, job in ids.items():
            state, reason = self._jobs.get(job, ("COMPLETED", ""))
            if state == "CANCELLED":
                found[name] = CANCELLED
            elif not FINISHED.fullmatch(state):
                found[name] = reason if state == "PENDING" and reason != "None" else ""
        return found

    def cancel(self, ids: Ids) -> None:
        alive = [ids[name] for name, reason in self.look(ids).items() if reason != CANCELLED]
        problem = _run("scancel", *alive)[1] if alive else ""
        if WAIT.search(problem):
            raise LsgError(f"--launcher slurm: scancel failed: {problem}", "Repeat the command.")

    def _ask(self) -> str:
        """Ask SLURM for the jobs of this user; returns the problem if it does not answer."""
        out, problem = _run("squeue", "--me", "--noheader", "--array", "--states=all", "--format=%i|%T|%r")
        if problem:
            return problem
        # SLURM forgets a job of an array that is cancelled before it runs.
        waited = [job for job, (state, _) in self._jobs.items() if state in ("PENDING", "CANCELLED")]
        self._jobs = dict.fromkeys(waited, ("CANCELLED", ""))
        for line in out.splitlines():
            job, state, reason = line.split("|", 2)
            self._jobs[job] = state, reason
        return ""

    def _warn(self, message: str) -> None:
        if message != self._last_warning:
            log.warning(message)
            self._last_warning = message


def _run(*command: str) -> tuple[str, str]:
    """Run a command of SLURM; returns its output, and the problem if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", str(error)
    return done.stdout, (done.stderr.strip() or f"{command[0]} failed") if done.returncode else ""
