"""ablate: tables from runs, whoever ran them and however often they were stopped."""

import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest

from lsgcli.errors import Stopped
from lsgcli.training.loop import Trainer


def test_ablate(lsg, tiny, tmp_path):
    command = ["ablate", *tiny, "--out", "abl", "--seeds", "0-1", "-q"]
    result = lsg(*command, "--grid", "method=none,lsg", "width=0.5,1", "--json")
    assert result.exit_code == 0, result.stderr
    rows = json.loads(result.stdout)["rows"]
    assert [(row["method"], row["width"]) for row in rows] == [("none", 0.5), ("none", 1.0), ("lsg", None)]
    for row in rows:
        assert row["n"] == len(row["accuracies"]) == len(row["last"]) == 2
        assert row["mean"] == pytest.approx(sum(row["accuracies"]) / 2)
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "abl").rglob("last.safetensors")}
    assert len(times) == 6  # under lsg, a width has no effect
    assert all((path.parent / "report.html").exists() for path in times)
    again = lsg(*command, "--grid", "method=none,lsg", "width=0.5,1", "--json")
    assert json.loads(again.stdout)["rows"] == rows
    assert times == {p: p.stat().st_mtime_ns for p in times}  # nothing ran again
    collected = lsg("ablate", "--collect", "abl", "--json", "--plot", "plots")
    assert collected.stdout == result.stdout
    assert {p.name for p in (tmp_path / "plots").iterdir()} >= {"accuracy.svg", "loss.svg", "coverage.svg"}


def test_ablate_does_not_take_runs_of_other_settings(lsg, tiny):
    command = ["ablate", *tiny, "--grid", "method=lsg", "--seeds", "0", "-q"]
    assert lsg(*command, "--out", "abl", "--epochs", "1").exit_code == 0
    result = lsg(*command, "--out", "abl", "--epochs", "2")
    assert result.exit_code == 6
    assert "--epochs 1, expected 2" in result.stderr


def test_ablate_keeps_a_diverged_run_as_a_result(lsg, tiny, tmp_path):
    command = ["ablate", *tiny, "--grid", "lr=0.05,1e38", "--seeds", "0", "-q"]
    first = lsg(*command, "--out", "abl", "--json")
    assert first.exit_code == 0, first.stderr
    assert [(row["n"], row["diverged"]) for row in json.loads(first.stdout)["rows"]] == [(1, []), (0, [0])]
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "abl").rglob("*.json*")}
    assert lsg(*command, "--out", "abl", "--json").stdout == first.stdout
    assert times == {p: p.stat().st_mtime_ns for p in times}


def test_ablate_table_formats(lsg, tiny):
    command = ["ablate", *tiny, "--epochs", "1", "--seeds", "3", "-q"]
    for form, sign in (
        ("table", "trainable-decay"),
        ("markdown", "| trainable-decay |"),
        ("csv", "trainable-decay,1.0"),
        ("latex", "trainable-decay & 1 & 2"),
    ):
        result = lsg(*command, "--format", form)
        assert result.exit_code == 0, result.stderr
        assert sign in result.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seeds", "a"], "--seeds"),
        (["--table", "9"], "--table"),
        (["--grid", "methods=none"], "did you mean method"),
        (["--grid", "methods=none"], "error: --grid: unknown setting 'methods'"),
        (["--margin", "0"], "--margin: found 0, expected a number of percentage points above 0"),
        (["--grid", "T=two"], "an integer"),
        (["--grid", "seed=0,1"], "--seeds"),
        (["--grid", "init_from=a/b.safetensors,a_b.safetensors"], "expected rows with different directories"),
        (["--print-commands", "--margin", "1"], "--margin: cannot be combined with --print-commands"),
        (["--launcher", "local", "--cancel", "--json"], "--json: cannot be combined with --cancel"),
        (["--force"], "--force: found without --plot"),
        (["--grid", "T=2", "T=4"], "T twice"),
        (["--grid", "deterministic=maybe"], "true or false"),
        (["--grid", "size=16,20", "arch=vggsnn"], "multiple of 16"),
        (["--table", "1", "--method", "none"], "--method"),
        (["--table", "1", "--grid", "T=1"], "expected one of them"),
        (["--format", "word"], "--format"),
        (["--grid", "workers=0,2"], "does not affect results"),
        (["--collect", ".", "--table", "1", "--lr", "0.1"], "--table, --lr: cannot be combined with --collect"),
        (["--collect", "."], "found no run, expected"),
        (["--collect", ".", "--print-commands"], "--print-commands: cannot be combined"),
        (["--print-commands", "--plot", "p"], "--plot: cannot be combined"),
        (["--jobs", "2"], "--jobs: found without --launcher local"),
        (["--launcher", "local", "--slurm", "time=1"], "--slurm: found without --launcher slurm"),
        (["--cancel"], "--cancel: found without --launcher"),
        (["--launcher", "slrum"], "unknown launcher 'slrum': did you mean slurm"),
    ],
)
def test_ablate_usage(lsg, options, message):
    result = lsg("ablate", *options)
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.fixture
def small(tiny):
    """An ablation of two rows and two seeds."""
    axes = ["--grid", "method=none,lsg", "--seeds", "0-1", "--out", "abl", "--threads", "1", "--workers", "0"]
    return ["ablate", *tiny, "--epochs", "1", *axes]


@pytest.fixture
def lsg_on_the_path(tmp_path, monkeypatch):
    """Put `lsg` on the PATH."""
    file = tmp_path / "bin" / "lsg"
    file.parent.mkdir()
    file.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m lsgcli "$@"\n')
    file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{file.parent}:{os.environ['PATH']}")


def undisturbed(lsg, command):
    """The rows of an ablation, run elsewhere in one go."""
    result = lsg(*command, "--out", "undisturbed", "-q", "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)["rows"]


def one_after_another(lsg, commands):
    """Run the commands in this process; their output."""
    return "".join(lsg(*shlex.split(line)[1:]).stdout for line in commands.splitlines())


def with_xargs(lsg, commands):
    return subprocess.run(
        ["xargs", "-P2", "-I{}", "sh", "-c", "{}"], input=commands, capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.parametrize("run", [one_after_another, pytest.param(with_xargs, marks=pytest.mark.slow)])
def test_printed_commands_make_the_same_table(lsg, small, lsg_on_the_path, tmp_path, run):
    one_seed = [*small, "--seeds", "0"]
    printed = lsg(*one_seed, "--print-commands", "-q")
    assert printed.exit_code == 0, printed.stderr
    assert len(printed.stdout.splitlines()) == 2
    assert sorted(p.name for p in (tmp_path / "abl").rglob("*")) == ["ablation.json"]
    missing = json.loads(lsg("ablate", "--collect", "abl", "--json").stdout)["missing"]
    assert [one["state"] for one in missing] == ["not started"] * 2
    assert len(run(lsg, printed.stdout).splitlines()) == 2  # paths of checkpoints
    collected = json.loads(lsg("ablate", "--collect", "abl", "--json").stdout)
    assert (collected["rows"], collected["missing"]) == (undisturbed(lsg, one_seed), [])
    again = lsg(*one_seed, "--print-commands")
    assert again.stdout == ""
    assert "2 of 2 runs are finished" in again.stderr


def test_quotes_are_pointed_out(lsg, small):
    result = lsg(*small, "--out", "a b", "--print-commands")
    assert shlex.split(result.stdout.splitlines()[0])[-2:] == ["--out", "a b/method=none/s0"]
    assert "xargs -0" in result.stderr
    assert "lsg ablate --collect 'a b'" in result.stderr


@pytest.mark.slow
def test_killed_and_started_again(lsg, small, process, tmp_path):
    """Two processes share the work; both are killed without warning, now and then."""
    rng, expected = random.Random(1), undisturbed(lsg, small)
    for _ in range(2):
        pair = [process(*small, "-q", "--json") for _ in range(2)]
        began = time.monotonic()
        while time.monotonic() - began < 60 and not list((tmp_path / "abl").rglob("config.json")):
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 1))
        for one in pair:
            one.send_signal(signal.SIGKILL)
            one.wait()
    pair = [process(*small, "-q", "--json") for _ in range(2)]
    for one in pair:
        out, errors = one.communicate(timeout=300)
        assert one.returncode == 0, errors
        assert json.loads(out)["rows"] == expected


@pytest.mark.slow
def test_local_jobs_make_the_same_table(lsg, small, tmp_path):
    command = [*small, "--seeds", "0"]
    launched = lsg(*command, "--launcher", "local", "--jobs", "2", "--json")
    assert launched.exit_code == 0, launched.stderr
    assert "method=lsg-s0: done, accuracy" in launched.stderr
    assert json.loads(launched.stdout)["rows"] == undisturbed(lsg, command)
    assert json.loads((tmp_path / "abl" / "jobs.json").read_text())["local"]["ids"].keys() == {
        "method=none-s0",
        "method=lsg-s0",
    }


def test_a_failed_job_ends_with_its_status_and_message(lsg, small, images, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(images, broken)
    (broken / "train" / "red" / "00.png").write_bytes(b"no image")
    one_cell = ["--grid", "method=lsg", "--seeds", "0", "--data-dir", broken]
    result = lsg(*small, *one_cell, "--launcher", "local")
    assert result.exit_code == 3
    assert re.search(r"error: 1 of 1 runs failed:\n  method=lsg-s0: .*00\.png", result.stderr)


def interrupted(command, tmp_path):
    """Ctrl-C once a cell has a checkpoint; returns the messages."""
    while not list((tmp_path / "abl").rglob("last.safetensors")):
        time.sleep(0.05)
    command.send_signal(signal.SIGINT)
    _, errors = command.communicate(timeout=60)
    assert command.returncode == 75, errors
    return errors


@pytest.mark.slow
def test_stopped_local_jobs_save_and_continue(lsg, small, process, tmp_path):
    command = [*small, "--epochs", "4"]
    launched = [*command, "--launcher", "local", "--jobs", "2"]
    assert "stopped by SIGINT after" in interrupted(process(*launched), tmp_path)
    again = lsg(*launched, "--json")
    assert again.exit_code == 0, again.stderr
    assert json.loads(again.stdout)["rows"] == undisturbed(lsg, command)


def cluster_answers():
    """Whether a SLURM cluster answers, and why not."""
    if "SLURM_CONF" not in os.environ or shutil.which("sinfo") is None:
        return "SLURM_CONF is not set: see tests/cluster/slurm.sh"
    done = subprocess.run(["sinfo", "-h"], capture_output=True, text=True, timeout=30)
    return "" if done.returncode == 0 else f"the cluster of SLURM_CONF does not answer: {done.stderr.strip()}"


@pytest.mark.slow
def test_slurm_jobs_are_found_again(lsg, small, process, tmp_path):
    """Ctrl-C while the jobs run, one of which is requeued; the same command completes them without another submission."""
    if why := cluster_answers():
        pytest.skip(why)
    command = [*small, "--epochs", "4"]
    launched = [*command, "--launcher", "slurm", "--slurm", "time=5,cpus_per_task=1"]
    interrupted(process(*launched), tmp_path)
    ids = json.loads((tmp_path / "abl" / "jobs.json").read_text())["slurm"]["ids"]
    subprocess.run(["scontrol", "requeue", ids["method=none-s0"]], check=False)
    again = lsg(*launched, "--json")
    assert again.exit_code == 0, again.stderr
    assert json.loads(again.stdout)["rows"] == undisturbed(lsg, command)
    assert json.loads((tmp_path / "abl" / "jobs.json").read_text())["slurm"]["ids"] == ids


@pytest.mark.slow
def test_ray_actors_survive_a_killed_worker(lsg, small, process, tmp_path):
    """A Ray cluster that ends with the command; one of its workers is killed."""
    pytest.importorskip("ray")
    from tests.stress.launchers import training

    command = [*small, "--epochs", "4", "--out", str(tmp_path / "abl")]
    one = process(*command, "--launcher", "ray", "--json")
    while not list((tmp_path / "abl").rglob("last.safetensors")) and one.poll() is None:
        time.sleep(0.05)
    for train, (worker, _) in list(training(tmp_path).items())[:1]:
        os.kill(worker, signal.SIGKILL)
        os.kill(train, signal.SIGKILL)
    out, errors = one.communicate(timeout=300)
    assert one.returncode == 0, errors
    assert json.loads(out)["rows"] == undisturbed(lsg, command)


def test_a_partial_table_says_what_is_missing(lsg, small, tmp_path):
    lsg(*small, "--print-commands")
    assert lsg(*small, "--seeds", "0", "-q").exit_code == 0
    (tmp_path / "abl" / "method=lsg" / "s0" / "result.json").unlink()
    lsg(*small, "--print-commands")
    result = lsg("ablate", "--collect", "abl")
    assert result.exit_code == 0
    assert "Missing: lsg, seed 0: stopped after 1 of 1 epochs (abl/method=lsg/s0)." in result.stdout
    assert "Missing: none, seed 1: not started (abl/method=none/s1)." in result.stdout
    assert "lsg: no run has finished" in result.stdout


def test_collect_says_nothing_on_stderr(lsg, small):
    lsg(*small, "--print-commands")
    assert lsg("ablate", "--collect", "abl").stderr == ""


def test_a_run_that_goes_on_has_no_result_until_its_end(trained, images, monkeypatch, tmp_path, lsg):
    shutil.copytree(trained, tmp_path / "run")
    assert (tmp_path / "run" / "result.json").exists()

    def train(self):
        raise Stopped("stopped")

    monkeypatch.setattr(Trainer, "train", train)
    assert lsg("train", "--resume", tmp_path / "run", "--data-dir", images, "-q").exit_code == 75
    assert not (tmp_path / "run" / "result.json").exists()
