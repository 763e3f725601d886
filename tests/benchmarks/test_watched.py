"""A sample of the scripts of ``python -m benchmarks.watched``: alone and observed, they end, print and write the same."""

import pytest

from benchmarks.watched.__main__ import FOLDER, MODES, Script, compare, read_scripts

SAMPLE = {
    "autograd": ["random-forward", "counters", "saved-tensor-hooks"],
    "compile": ["fullgraph", "graph-breaks"],
    "func": ["ensemble"],
    "jit": ["scripted-loss"],
    "modules": ["getattr", "swapped"],
    "surroundings": ["at-exit", "own-excepthook"],
    "tensors": ["function-mode-counts"],
}
SCRIPTS = {f"{one.topic}/{one.name}": one for path in FOLDER.glob("*.py") for one in read_scripts(path)}


def test_scripts_have_names_of_their_own():
    count = sum(len(read_scripts(path)) for path in FOLDER.glob("*.py"))
    assert len(SCRIPTS) == count >= 150
    assert all(script.about for script in SCRIPTS.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", [f"{topic}/{name}" for topic, names in SAMPLE.items() for name in names])
def test_a_script_does_the_same(name, tmp_path):
    assert compare(SCRIPTS[name], tmp_path / "work", MODES[:1])[0] == {}


@pytest.mark.slow
def test_what_differs_is_found(tmp_path):
    """A script that looks for the observer prints, writes and ends otherwise."""
    text = "import sys\nfound = 'lsgcli' in sys.modules\nprint(found)\nopen('found', 'w').write(str(found))\nsys.exit(found)\n"
    differences, _ = compare(Script("own", "own", "", (), text), tmp_path / "work")
    assert differences.keys() == set(MODES)
    assert differences["diagnose"] == ["status 0 -> 1", "-False", "+True", "file found"]
