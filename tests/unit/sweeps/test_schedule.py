"""Cells run once, in whatever process or launcher, and jobs are followed, and repeated if they were lost."""

import dataclasses
import os

import pytest

from lsgcli.cli.launcher import changes_shown
from lsgcli.errors import ConfigError, DataError, LsgError, Stopped
from lsgcli.store.rundir import LOCK, METRICS, RESULT
from lsgcli.sweeps import jobs
from lsgcli.sweeps.jobs import (
    ATTEMPT,
    ATTEMPTS,
    CellState,
    Job,
    append_record,
    attempt,
    may_repeat,
    name_of,
    read_record,
    state,
)
from lsgcli.sweeps.launchers import CANCELLED, Submitted, job_of, make
from lsgcli.sweeps.schedule import Strategy, run
from lsgcli.system import files
from lsgcli.training.signals import StopRequest
from tests.unit.sweeps.helpers import Cluster, fail, finish, plan, record, write_run


@pytest.fixture
def planned(tmp_path):
    return plan(tmp_path / "abl", {"method": "fixed"}, {"method": "lsg"})


NAMES = ["method=fixed-s0", "method=lsg-s0", "method=fixed-s1", "method=lsg-s1"]


def follow(planned, cluster, show=lambda states: None, stop=None):
    """Run the cells on a cluster; ``show`` is called with their states by name. Returns their accuracies."""

    def named(states):
        show({name_of(cell.path): state for cell, state in states.items()})

    strategy, stop = Strategy(planned.root, planned.cells()), StopRequest() if stop is None else stop
    states = run(strategy, Submitted(strategy, "cluster", cluster), stop, named)
    return [state.accuracy for state in states.values()]


def stopping(name):
    """A signal that arrives once the jobs are submitted, and the argument ``show`` of :func:`follow` that sends it."""
    stop = StopRequest()
    return {"stop": stop, "show": lambda states: setattr(stop, "signal_name", name)}


@pytest.mark.parametrize("room", [100, 1])
def test_each_job_is_submitted_once(planned, room):
    cluster = Cluster(finish, room=room)
    assert follow(planned, cluster) == [0.5] * 4
    assert cluster.submitted == NAMES


def test_a_job_that_never_completes_an_epoch_fails(planned):
    def killed(job):
        return fail(job, status=-9) if job.name == NAMES[1] else finish(job)

    cluster = Cluster(killed)
    with pytest.raises(LsgError, match=r"1 of 4 runs failed:\n  method=lsg-s0: interrupted 5 times .* exit status -9"):
        follow(planned, cluster)
    assert cluster.submitted.count(NAMES[1]) == ATTEMPTS


@pytest.fixture
def interrupted(monkeypatch):
    """An attempt that a signal ends."""
    monkeypatch.setattr(jobs, "_train", lambda job, stop: 75)
    return lambda job: attempt(job, StopRequest())


@pytest.mark.parametrize(("restarts", "submissions"), [(ATTEMPTS, 1), (2, 3)])
def test_restarts_by_the_scheduler_count(planned, interrupted, restarts, submissions):
    """Over submissions, too."""

    def requeued(job):
        if job.name != NAMES[1]:
            return finish(job)
        for _ in range(restarts):
            assert interrupted(job) == 75
        assert may_repeat(job) == (read_record(job.file(".jsonl")).attempts < ATTEMPTS)
        return True

    cluster = Cluster(requeued)
    with pytest.raises(LsgError, match=r"method=lsg-s0: interrupted 5 times .* exit status 75"):
        follow(planned, cluster)
    assert cluster.submitted.count(NAMES[1]) == submissions
    again = Cluster(finish)
    assert len(follow(planned, again)) == 4
    assert again.submitted == [NAMES[1]]


def test_a_job_that_somebody_cancels_stays_cancelled(planned):
    cluster = Cluster(lambda job: None if job.name == NAMES[2] else finish(job))

    def show(states):
        if states[NAMES[2]].kind == "waiting":
            cluster.living.clear()
            cluster.revoked = {NAMES[2]}

    with pytest.raises(Stopped, match=r"method=fixed-s1: cluster says that job 4 was cancelled"):
        follow(planned, cluster, show)
    assert cluster.submitted.count(NAMES[2]) == 1
    again = Cluster(finish)
    again.revoked = {NAMES[2]}  # until it is asked for
    assert len(follow(planned, again)) == 4


def test_a_failure_has_the_message_and_status_of_its_log(planned):
    cluster = Cluster(lambda job: fail(job) if "fixed" in job.name else finish(job))
    with pytest.raises(DataError) as caught:
        follow(planned, cluster)
    assert "2 of 4 runs failed:\n  method=fixed-s0: frames.npz: damaged (see " in caught.value.message
    again = Cluster(finish)
    assert len(follow(planned, again)) == 4
    assert again.submitted == [NAMES[0], NAMES[2]]


def test_cancelling_ends_jobs_and_those_who_follow_them(planned):
    cluster = Cluster(lambda job: None)

    def show(states):
        if cluster.living:
            assert Submitted(Strategy(planned.root, ()), "cluster", cluster).cancel() == 4

    with pytest.raises(Stopped, match=r"method=lsg-s1: cluster says that job \d was cancelled"):
        follow(planned, cluster, show)
    assert sorted(cluster.cancelled) == sorted(NAMES)
    assert sorted(cluster.submitted) == sorted(NAMES)
    assert len(follow(planned, Cluster(finish))) == 4


def test_jobs_that_do_not_last_end_with_the_command(planned):
    cluster = Cluster(lambda job: None, lasting=False, room=2)
    with pytest.raises(Stopped, match="stopped by SIGTERM after 0 of 4 runs"):
        follow(planned, cluster, **stopping("SIGTERM"))
    assert sorted(cluster.cancelled) == sorted(NAMES[:2])


def test_states_come_from_files(planned):
    cell = planned.cells()[0]
    assert state(cell).text == "not started"
    assert state(cell, alive=True).text == "waiting"
    assert dataclasses.replace(state(cell, alive=True), message="Resources").text == "waiting: Resources"
    job = job_of(cell)
    job.file(".log").parent.mkdir(parents=True)
    write_run(cell, epochs=2)
    assert state(cell).text == "stopped after 2 of 3 epochs"
    assert state(cell, alive=True).text == "waiting after 2 of 3 epochs"
    append_record(job.file(".jsonl"), started=True)
    assert state(cell, alive=True).text == "running after 2 of 3 epochs, validation accuracy 0.5000"
    with files.locked(cell.path / LOCK, "busy"):
        assert state(cell).kind == "running"
    fail(job)
    assert state(cell).text == "failed after 2 of 3 epochs: frames.npz: damaged"
    with open(job.file(".log"), "a") as log:
        log.write(f"{ATTEMPT}now on host: lsg train\nTraceback (most recent call last):\nKeyError: 'x'\n")
    assert state(cell).message == "KeyError: 'x'"  # of the latest attempt
    for status in (75, 6, -15, 137):
        append_record(job.file(".jsonl"), status=status)
        assert state(cell).kind == "stopped"
    files.write_json(cell.path / RESULT, record(0.25))
    assert state(cell, alive=True).text == "done after 3 of 3 epochs, test accuracy 0.2500"
    trial = dataclasses.replace(cell, test=False)
    files.write_json(cell.path / RESULT, record(0.25) | {"accuracy": None, "best_accuracy": 0.75})
    assert state(trial).text == "done after 3 of 3 epochs, validation accuracy 0.7500"
    files.write_json(cell.path / RESULT, record(None))
    assert state(cell).text == "diverged: loss nan"
    (cell.path / RESULT).write_text("{")
    assert (state(cell).kind, state(cell).status) == ("failed", 2)


def test_lines_are_printed_when_a_state_changes(planned, caplog):
    caplog.set_level("INFO", "lsg")
    kinds = (
        CellState("done", accuracy=0.95),
        CellState("running", 1, 3, 0.5, part="validation"),
        CellState("failed", message="bad"),
        CellState("stopped"),
    )
    states = dict(zip(planned.cells(), kinds, strict=True))
    show = changes_shown()
    for changed in ({}, {}, {planned.cells()[1]: CellState("running", 2, 3, 0.75, part="validation")}):
        show(states | changed)
    assert caplog.messages == [
        f"{NAMES[0]}: done, test accuracy 0.9500",
        f"{NAMES[1]}: running after 1 of 3 epochs, validation accuracy 0.5000",
        f"{NAMES[2]}: failed: bad",
        f"{NAMES[1]}: running after 2 of 3 epochs, validation accuracy 0.7500",
    ]


def test_a_state_reads_the_last_epoch_only(planned):
    cell = planned.cells()[0]
    write_run(cell)
    (cell.path / METRICS).write_text("of earlier epochs\n" * 1000)
    assert state(cell).kind == "failed"
    files.append_json_line(cell.path / METRICS, {"epoch": 1, "val_accuracy": 0.25})
    with open(cell.path / METRICS, "a") as stream:
        stream.write('{"epoch": 2, "val_acc')  # a killed process
    assert state(cell).text == "stopped after 2 of 3 epochs"
    assert state(cell).accuracy == 0.25


@pytest.fixture
def job(tmp_path):
    """A job whose command fails at once."""
    return Job(("lsg", "train", "--epochs", "none"), str(tmp_path / "abl/method=lsg/s0"))


def test_only_one_attempt_runs_at_a_time_and_no_finished_cell(job):
    job.file(".lock").parent.mkdir(parents=True)
    append_record(job.file(".jsonl"), started=True, attempts=1)
    with files.locked(job.file(".lock"), "busy"):
        assert attempt(job, StopRequest()) == 6
    assert read_record(job.file(".jsonl")).attempts == 1
    finish(job)
    assert attempt(job, StopRequest()) == 0
    assert not job.file(".log").exists()


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """``commands(sbatch=..., ...)`` replaces the shell scripts of commands of SLURM, which report no jobs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def replace(**scripts):
        for name, script in scripts.items():
            (folder / name).write_text(f"#!/bin/sh\n{script}\n")
            (folder / name).chmod(0o755)

    replace(**dict.fromkeys(("sbatch", "squeue", "scancel", "srun", "scontrol"), ""))
    return replace


@pytest.fixture
def slurm(commands, tmp_path):
    """The launcher of SLURM."""
    pytest.importorskip("submitit")
    return make("slurm", "", tmp_path)


SBATCH = """
n=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$1")
[ "$n" -lt {most} ] || { echo "sbatch: error: {message}" >&2; exit 1; }
echo "Submitted batch job 7"
"""


@pytest.mark.parametrize(
    "message", ["Invalid job array specification", "Job violates accounting/QOS policy (job submit limit)"]
)
def test_slurm_gets_as_many_jobs_as_it_takes(commands, slurm, tmp_path, message):
    commands(sbatch=SBATCH.replace("{most}", "3").replace("{message}", message))
    jobs = [Job(("lsg", "train"), str(tmp_path / f"abl/method={number}/s0")) for number in range(10)]
    submitted = {}
    for expected in ([0, 1], [2, 3], [4, 5]):  # of 10, 5, 2; 4, 2; 4, 2
        ids = slurm.submit(jobs[len(submitted) :])
        assert list(ids) == [f"method={number}-s0" for number in expected]
        submitted |= ids
    commands(sbatch=SBATCH.replace("{most}", "0").replace("{message}", message))
    with pytest.raises(ConfigError, match="sbatch failed"):
        slurm.submit(jobs)
    commands(squeue="echo '7_0|RUNNING|None'")
    assert slurm.look({"method=0-s0": "7_0"}) == {"method=0-s0": ""}
    assert slurm.submit(jobs) == {}  # until a job has ended


def test_options_may_have_commas(slurm):
    made = make("slurm", "nodelist=a,b, cpus-per-task=2", slurm.folder)
    assert made.given == {"nodelist": "a,b", "cpus_per_task": "2"}
    with pytest.raises(ConfigError, match="--slurm setup"):
        make("slurm", "setup=a\nb", slurm.folder)


def test_slurm_says_why_jobs_wait_and_which_were_cancelled(commands, slurm):
    """A job that is pending when it was last seen, and is forgotten, was cancelled; one that ran is not."""
    ids = {name: f"7_{number}" for number, name in enumerate("abcd")}
    commands(squeue="echo '7_0|PENDING|Resources'")
    assert slurm.look(ids) == {"a": "Resources"}
    commands(squeue=r"printf '7_0|RUNNING|None\n7_1|PENDING|Resources\n7_2|CANCELLED|None\n7_3|COMPLETED|None\n'")
    assert slurm.look(ids) == {"a": "", "b": "Resources", "c": CANCELLED}
    commands(squeue="")
    assert slurm.look(ids) == {"b": CANCELLED, "c": CANCELLED}


def test_nodes_do_not_import_modules_of_the_working_directory(commands, slurm, tmp_path):
    """Also where a site lets sbatch pass no environment."""
    commands(sbatch=f"cp $1 {tmp_path / 'script'}; echo Submitted batch job 1")
    slurm.submit([Job(("lsg", "train"), str(tmp_path / "a/s0"))])
    assert " -P -u -m submitit" in (tmp_path / "script").read_text()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("slurm", "gpu", "KEY=VALUE"),
        ("slurm", "partitions=gpu", "partition?"),
        ("slurm", "parallel=0", "whole number"),
        ("slurm", "partition=", "partition"),
        ("local", "jobs=1,devices=0,1", "--jobs"),
        ("local", "devices=x", "--devices"),
        ("locals", "", "local?"),
    ],
)
def test_options_are_checked(name, text, message, tmp_path, commands):
    with pytest.raises(ConfigError) as caught:
        make(name, text, tmp_path)
    assert message in str(caught.value)


def test_a_missing_package_has_an_install_hint(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError) as caught:
        make("slurm", "", tmp_path)
    assert "submitit cannot be imported" in str(caught.value)
    assert "lsgcli[slurm]" in str(caught.value)


def test_local_jobs_share_cores_and_devices(monkeypatch, tmp_path):
    monkeypatch.setattr("lsgcli.system.cpus.usable", lambda variables: (8, "CPU affinity"))
    launcher = make("local", "jobs=4,devices=0,3", tmp_path)
    assert [one["CUDA_VISIBLE_DEVICES"] for one in launcher.environments] == ["0", "3", "0", "3"]
    assert {one["OMP_NUM_THREADS"] for one in launcher.environments} == {"2"}
