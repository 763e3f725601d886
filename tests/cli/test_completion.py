"""The shell's completion, by the protocols of bash, zsh and fish."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lsgcli import registry


def variables(*words, shell="bash"):
    """What the shell sets to complete the last word."""
    line = " ".join(["lsg", *words])
    found = {"COMP_WORDS": line, "COMP_CWORD": str(len(words))}
    if shell != "bash":
        found = {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    return {**found, "_LSG_COMPLETE": f"complete_{shell}"}


@pytest.fixture
def complete(program):
    """The values offered for the last word."""

    def run(*words, shell="bash"):
        done = program(env=variables(*words, shell=shell))
        assert done.stderr == ""
        return done.stdout.split()

    return run


def make_run(path, *checkpoints, age):
    Path(path).mkdir(parents=True)
    for name in ("config.json", *checkpoints):
        (Path(path) / name).touch()
    os.utime(Path(path) / "config.json", (age, age))
    return path


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["da"], ["data"]),
        (["train", "--width-m"], ["--width-multiplier"]),
        (["train", "--dataset", ""], [name.removesuffix("NAME") for name in registry.names("dataset")]),
        (["train", "--method", "m"], ["matched-width", "measured-sigma", "mpd-agl"]),
        (["train", "--precision", ""], ["auto", "fp32", "bf16", "fp16"]),
        (["eval", "--precision", ""], ["auto", "fp32", "bf16", "fp16", "int8"]),
        (["train", "--augment", "flip,cr"], ["flip,crop"]),
        (["eval", "--dataset", "n-m"], ["n-mnist"]),
        (["export", "x", "--format", ""], registry.names("format")),
        (["ablate", "--format", "l"], ["latex"]),
        (["data", "show", "--slicing", "w"], ["window"]),
        (["train", "--data-dir", ""], []),  # a path: the shell's own completion
    ],
    ids=" ".join,
)
def test_values(complete, words, offered):
    assert complete(*words) == offered


def test_runs_and_checkpoints(complete):
    """The newest first, the best checkpoint of each, from below runs/; elsewhere the shell completes names of files."""
    old = make_run("runs/digits/one", "last.safetensors", "best.safetensors", age=1)
    new = make_run("runs/digits/two", "last.safetensors", age=2)
    begun = make_run("runs/ablate/row/s0", age=3)
    for words in (["train", "--resume", ""], ["compare", old, ""], ["compare", "r"]):
        assert complete(*words) == [begun, new, old]
    for words in (
        ["eval", "r"],
        ["inspect-gradients", "x", ""],
        ["train", "--init-from", ""],
        ["ablate", "--width-from", "runs"],
    ):
        assert complete(*words) == [f"{new}/last.safetensors", f"{old}/best.safetensors"]
    assert complete("eval", "elsewhere/") == []


def test_other_shells(complete):
    assert complete("train", "--arch", "v", shell="fish") == ["vggsnn"]
    assert '"vggsnn"' in complete("train", "--arch ", shell="zsh")[-1]


def test_nothing_heavy_is_imported():
    heavy = "atexit.register(lambda: print(*{'torch', 'numpy', 'numba'} & set(sys.modules)))"
    code = f"import atexit, sys; sys.argv[0] = 'lsg'; {heavy}; from lsgcli.cli.app import main; main()"
    environment = {**os.environ, **variables("train", "--dataset", "digits")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert (done.stdout.split(), done.stderr) == (["digits", "digits-dvs"], "")
