"""The shell's completion, by the protocol of bash."""

import os
import subprocess
import sys

import pytest

from lsgcli import registry


def variables(*words):
    """What the shell sets to complete the last word."""
    line = " ".join(["lsg", *words])
    return {"COMP_WORDS": line, "COMP_CWORD": str(len(words)), "_LSG_COMPLETE": "complete_bash"}


@pytest.fixture
def complete(program):
    """The values offered for the last word."""

    def run(*words):
        done = program(env=variables(*words))
        assert done.stderr == ""
        return done.stdout.split()

    return run


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["da"], ["data"]),
        (["train", "--width-m"], ["--width-multiplier"]),
        (["train", "--dataset", ""], registry.names("dataset")),
        (["train", "--method", "m"], ["matched-width", "measured-sigma", "mpd-agl"]),
        (["train", "--precision", ""], ["auto", "fp32", "bf16", "fp16"]),
        (["data", "show", "--slicing", "w"], ["window"]),
        (["train", "--data-dir", ""], []),  # a path: the shell's own completion
    ],
    ids=" ".join,
)
def test_values(complete, words, offered):
    assert complete(*words) == offered


def test_nothing_heavy_is_imported():
    heavy = "atexit.register(lambda: print(*{'torch', 'numpy', 'numba'} & set(sys.modules)))"
    code = f"import atexit, sys; sys.argv[0] = 'lsg'; {heavy}; from lsgcli.cli.app import main; main()"
    environment = {**os.environ, **variables("train", "--dataset", "digits")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert (done.stdout.split(), done.stderr) == (["digits", "digits-dvs"], "")
