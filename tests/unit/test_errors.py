"""What an error says on the command line, and in Python."""

import os
import sys

import pytest

import lsgcli as lsg
from lsgcli.cli.app import main
from lsgcli.config.fields import all_at_once
from lsgcli.errors import ConfigError


@pytest.mark.parametrize(
    ("hint", "in_python"),
    [
        ("Give --data-dir DIR.", "Give data_dir DIR."),
        ("Use fewer timesteps (-T), or --width-multiplier.", "Use fewer timesteps (T), or width_multiplier."),
        ("Pass the run's own checkpoint, or omit --no-fold-bn.", "Pass the run's own checkpoint, or omit fold_bn=False."),
        (
            "`lsg data prepare --dataset a-b` downloads it; or --force.",
            "`lsg data prepare --dataset a-b` downloads it; or force.",
        ),
        ("Resume with: lsg train --resume runs/a", "Resume with: lsg train --resume runs/a"),
        ("Install it with: pip install 'lsgcli[onnx]'", "Install it with: pip install 'lsgcli[onnx]'"),
    ],
)
def test_hints_name_arguments_in_python(hint, in_python):
    error = ConfigError("a", hint=hint)
    assert str(error) == f"a\n  {in_python}"
    assert error.on_command_line == f"a\n  {hint}"


def test_a_hint_for_python_alone():
    error = ConfigError("a", hint="--resume", in_python="call it again")
    assert str(error) == "a\n  call it again"

    def attempt():
        raise error

    with pytest.raises(ConfigError) as merged:
        all_at_once(attempt)
    assert str(merged.value) == "a\n  call it again"


@pytest.mark.parametrize(
    "call",
    [
        lambda folder: lsg.train(epochs=-1),
        lambda folder: lsg.train(a=1),
        lambda folder: lsg.train(dataset="image-folder"),
        lambda folder: lsg.train(out=folder),
        lambda folder: lsg.build("vggsnn", T=2, num_classes=2, in_channels=1, input_size=17),
    ],
)
def test_hints_of_functions_name_no_options(tmp_path, call):
    (tmp_path / "mine").touch()
    with pytest.raises(lsg.LsgError) as caught:
        call(tmp_path)
    hint = str(caught.value).partition("\n  ")[2].replace("`lsg train --help-all`", "")
    assert hint
    assert "--" not in hint
    assert "LSG_" not in hint


def test_libraries_in_rust_print_no_trace(monkeypatch, capsys):
    monkeypatch.setenv("RUST_BACKTRACE", "1")
    monkeypatch.setattr(sys, "argv", ["lsg", "--version"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert "RUST_BACKTRACE" not in os.environ
