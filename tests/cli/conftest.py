import json
import os
import subprocess
import sys
from functools import partial
from types import SimpleNamespace
from unittest import mock

import pytest
from typer.testing import CliRunner

from lsgcli.cli.app import app, main
from lsgcli.cli.commands import Group
from tests.tiny import PRECISION
from tests.tiny import images as image_folder

TINY = ["--arch", "mlp", "-T", "2", "--size", "16", "--width-multiplier", "0.25", "--epochs", "2", "--batch-size", "8"]
CONVOLUTIONS = ["--arch", "vggsnn", "--width-multiplier", "0.03125"]  # of eight layers, which take three times as long
if PRECISION != "fp32":
    TINY += ["--precision", PRECISION]


BUILT = {}  # commands by their functions


@pytest.fixture(scope="module", autouse=True)
def built_once():
    """Commands are built once, as in a process of lsg, rather than for each call."""
    build = Group.get_command

    def get_command(group, context, name):
        path = group.table.get(name)
        if path not in BUILT:
            BUILT[path] = build(group, context, name)
        return BUILT[path]

    with mock.patch.object(Group, "get_command", get_command):
        yield


@pytest.fixture(autouse=True)
def clean(tmp_path, monkeypatch):
    """A folder of its own for each test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("COLUMNS", raising=False)  # which pytest-xdist sets


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """An image folder of three classes that differ in colour: 16 + 6 images each, 16 x 16."""
    return image_folder(tmp_path_factory.mktemp("images"))


@pytest.fixture
def lsg():
    """Run a command in this process: ``lsg("train", ..., status=0)`` -> result with exit_code, stdout, stderr."""

    def run(*arguments, status=None, **named):
        result = CliRunner().invoke(app, [str(a) for a in arguments], **named)
        assert status in (None, result.exit_code), result.stderr
        return result

    return run


@pytest.fixture
def program(capfd, monkeypatch):
    """Run the whole program in this process, as ``lsg`` does: ``program("train", ..., env={...}, status=0)`` -> returncode, stdout, stderr."""

    def run(*arguments, env=None, status=None):
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["lsg", *map(str, arguments)])
        with mock.patch.dict(os.environ, env or {}), pytest.raises(SystemExit) as ended:  # removes what `main` sets, too
            main()
        stdout, stderr = capfd.readouterr()
        assert status in (None, ended.value.code or 0), stderr
        return SimpleNamespace(returncode=ended.value.code or 0, stdout=stdout, stderr=stderr)

    return run


@pytest.fixture(scope="session")
def tiny(images):
    """Options for a training of a network of two layers on the images."""
    return ["--dataset", "image-folder", "--data-dir", str(images), *TINY]


@pytest.fixture
def train(lsg, tiny):
    """Train the tiny network on the images: ``train(*options)`` -> result."""
    return partial(lsg, "train", *tiny)


@pytest.fixture(scope="session")
def trained(tiny, tmp_path_factory):
    """The directory of a finished run of a network with convolutions."""
    run = tmp_path_factory.mktemp("trained") / "run"
    result = CliRunner().invoke(app, ["train", *tiny, *CONVOLUTIONS, "--epochs", "4", "--out", str(run), "-q"])
    assert result.exit_code == 0, result.stderr
    return run


@pytest.fixture
def process():
    """Start a command as a process of its own: ``process("train", ...)`` -> Popen with text pipes."""
    started = []

    def start(*arguments, **named):
        command = [sys.executable, "-m", "lsgcli", *map(str, arguments)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, **{**pipes, **named}))
        return started[-1]

    yield start
    for one in started:
        one.kill()
        one.wait()
        for stream in (one.stdout, one.stderr):
            if stream:
                stream.close()


@pytest.fixture
def lines():
    return lambda text: [json.loads(line) for line in text.splitlines()]
