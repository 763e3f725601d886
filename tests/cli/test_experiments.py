"""``lsg diagnose --try``: what it runs, prints, and leaves alone."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "own.py"
SLOW = "import time, os\nif os.path.exists('slow'): time.sleep(600)\nopen('slow', 'w').close()\n"  # from the second time on
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def diagnose(folder, *words):
    command = [sys.executable, "-P", "-m", "lsgcli", "diagnose", *words]
    return subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False)


def script(folder, old="", new="", more="", before=""):
    text = SCRIPT.read_text(encoding="utf-8")
    assert old in text
    (folder / "train.py").write_text(before + text.replace(old, new) + more, encoding="utf-8")


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.slow
def test_a_threshold_is_cured_by_the_edit_that_the_finding_names(tmp_path):
    """The script writes a file next to itself, and one beside it by its absolute path: experiments write neither."""
    saves = f"\ntorch.save(net.state_dict(), 'net.pt')\nopen({str(tmp_path / 'log.txt')!r}, 'a').write('x')\n"
    script(tmp_path, "= Neurons()", "= Neurons(threshold=30.0)", saves)
    plain = diagnose(tmp_path, "--json", "--steps", "all", "train.py")
    before = files(tmp_path)
    assert before["log.txt"] == b"x"
    done = diagnose(tmp_path, "--json", "--steps", "all", "--try", "train.py")
    assert (plain.returncode, done.returncode) == (0, 0), done.stderr
    assert files(tmp_path) == before | {"log.txt": b"xx"}
    with_, without = json.loads(done.stdout), json.loads(plain.stdout)
    experiments = {one["intervention"]: one for one in with_["experiments"]}
    assert experiments["edit"]["learns"]
    assert experiments["edit"]["accuracy"] > with_["unchanged"]["accuracy"] + 0.3
    assert {"change", "line", "edits", "loss", "losses", "accuracy", "learns", "seconds", "error"} <= set(experiments["edit"])
    first = with_["findings"][0]
    assert (first["rule"], first["confirmed"]) == ("silent", True)
    assert with_["conclusion"].startswith("It learns once threshold=30.0 is ")
    for name in ("losses", "accuracy", "steps"):  # what was watched is the same
        assert with_[name] == without[name]


@pytest.mark.slow
def test_a_cause_that_the_findings_do_not_name_is_found(tmp_path):
    """Labels are drawn at random: even an ordinary network does not learn."""
    script(tmp_path, "loss_function(net(x), y)", "loss_function(net(x), torch.randint(CLASSES, y.shape))")
    record = json.loads(diagnose(tmp_path, "--json", "--try", "--try-for", "120s", "train.py").stdout)
    first = record["findings"][0]
    assert (first["rule"], first["confirmed"]) == ("labels", True)
    assert not any(one["learns"] for one in record["experiments"])
    assert record["conclusion"].endswith("look at inputs and labels.")


@pytest.mark.slow
def test_a_script_that_needs_input_or_takes_long_is_ended(tmp_path):
    script(tmp_path, "threshold=1.0", "threshold=30.0", before="import sys\nlines = sys.stdin.readline()\nassert lines\n")
    command = [sys.executable, "-P", "-m", "lsgcli", "diagnose", "--json", "--try", "--try-for", "20s", "train.py"]
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, input="yes\n", capture_output=True, text=True, check=False)
    record = json.loads(done.stdout)
    assert all("AssertionError" in one["error"] for one in record["experiments"])
    script(tmp_path, "threshold=1.0", "threshold=30.0", before=SLOW)
    start = time.monotonic()
    done = diagnose(tmp_path, "--json", "--try", "--try-for", "15s", "train.py")
    assert time.monotonic() - start < 90
    assert {one["error"] for one in json.loads(done.stdout)["experiments"]} == {"not finished in time"}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_an_interrupt_ends_experiments_and_shows_what_is_known(tmp_path):
    script(tmp_path, "threshold=1.0", "threshold=30.0", before=SLOW)
    command = [sys.executable, "-P", "-m", "lsgcli", "diagnose", "--try", "train.py"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not (tmp_path / "slow").exists():
        time.sleep(0.5)
    time.sleep(20)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert "1. silent" in output
