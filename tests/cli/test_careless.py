"""What a careless user gives the whole program: unset variables, options without effect, odd files, narrow terminals."""

import io
import shutil
import subprocess
import sys

import pytest


def process(*arguments, **streams):
    """Run a command to its end in a process of its own: exit status, stderr."""
    command = [sys.executable, "-m", "lsgcli", *arguments]
    return subprocess.run(command, check=False, text=True, timeout=100, stderr=subprocess.PIPE, **streams)


def refused(result, *parts, status=2):
    assert result.returncode == status, result.stderr
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    for part in parts:
        assert part in result.stderr


def test_settings_without_effect_are_all_named_at_once(program, tmp_path):
    (tmp_path / "run.toml").write_text("residual = 'sew'\n")
    given = ("--width", "5", "--window-us", "9", "--data-dir", "here", "--config", "run.toml")
    parts = (
        "--config run.toml: --residual: found 'sew', which has no effect here, expected --arch resnet19",
        "environment: --tet-lambda: found 0.5, which has no effect here, expected --loss tet",
        "\n--width: found 5.0",
        "--window-us: found 9, which has no effect here, expected a --dataset of recordings and --slicing window",
        "--data-dir: found 'here'",
    )
    refused(program("train", *given, "--loss", "ce", env={"LSG_TET_LAMBDA": "0.5"}), *parts)


def test_rows_that_compute_the_same(program):
    rows = ("--grid", "method=lsg,fixed", "width=0.5,2", "--seeds", "0", "--out", "abl", "--print-commands")
    result = program("ablate", *rows, env={"LSG_WIDTH": "3"})
    assert "method=lsg-width=2.0: omitted, same computation as method=lsg" in result.stderr
    lines = [line.partition(" lsg train ") for line in result.stdout.splitlines()]
    assert all("-u LSG_WIDTH" in unset for unset, _, _ in lines)
    assert [options.split(" --seed")[0] for _, _, options in lines] == [
        f"--dataset digits-dvs --method {method}" for method in ("lsg", "fixed --width 0.5", "fixed --width 2.0")
    ]


@pytest.mark.parametrize("words", [("ablate", "--seeds", "", "--print-commands"), ("train", "--out="), ("eval", "")])
def test_an_empty_string_is_refused(program, words):
    refused(program(*words), "found an empty string")


def test_variables_that_a_command_does_not_take(program, trained):
    warned = program(
        "eval", trained / "none.safetensors", env={"LSG_T": "8", "LSG_EPOCHS": "5", "LSG_BATCH_SIZE": "4"}, status=4
    )
    assert "LSG_T, LSG_EPOCHS: found in the environment, but this command does not use them" in warned.stderr
    assert "LSG_BATCH_SIZE" not in warned.stderr
    resumed = program("train", "--resume", "nowhere", env={"LSG_EPOCHS": "5"}, status=2)
    assert "LSG_EPOCHS: found in the environment, but this command does not use it" in resumed.stderr


def test_advice_is_of_options_that_the_command_has(program, trained, images, tmp_path):
    shutil.copytree(images / "test", tmp_path / "data")
    result = program("eval", trained / "best.safetensors", "--data-dir", "data")
    refused(result, "data laid out as in training (--split not given)", status=3)
    assert "stratified" not in result.stderr


def test_a_full_disk():
    with open("/dev/full", "w") as full:
        result = process("--help", stdout=full)
    assert result.returncode == 7
    assert result.stderr.splitlines()[-1] == "error: cannot write output: No space left on device"


def test_names_that_steer_a_terminal(program, images, tmp_path):
    refused(program("eval", "\x1b[31mred"), r"error: \x1b[31mred: no such file", status=4)
    for name in ("[b]a[-b]", "\x1b[1mb", "c" * 60):
        for part in ("train", "test"):
            shutil.copytree(images / "test" / "red", tmp_path / "data" / part / name)
    result = program("data", "info", "--dataset", "image-folder", "--data-dir", "data")
    for name in ("[b]a[-b] 12", r"\x1b[1mb 12", f"{'c' * 60} 12"):
        assert name in result.stdout


def test_a_narrow_terminal_shows_every_cell():
    from lsgcli.report.terminal import Table, console

    table = Table("class", "accuracy", "0", title="per class")
    table.add_row("[i]x" * 5, "0.500", "12")
    for width, expected in (
        (40, [table.columns[0].header.plain, "accuracy", "[i]x[i]x[i]x[i]x[i]x", "0.500"]),
        (20, ["per class", "[i]x[i]x[i]x[i]x[i]x", "accuracy: 0.500", "0: 12"]),
    ):
        stream = io.StringIO()
        out = console(stream)
        out.width = width
        out.print(table)
        assert all(part in stream.getvalue() for part in expected)
        assert ("accuracy: 0.500" in stream.getvalue()) is (width == 20)
