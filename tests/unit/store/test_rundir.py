"""Run directories: one run each, nothing left of what did not begin."""

import pytest

from lsgcli.runs.run import digest_of
from lsgcli.store.rundir import RunDir, in_use, is_run, new_path, write_config
from tests import tiny


def test_new_paths_differ():
    config = tiny.config(dataset="digits-dvs")
    assert new_path(config) != new_path(config)
    assert new_path(config).parent.name == "digits-dvs-vggsnn-lsg"


def test_nothing_is_left_of_a_run_that_wrote_nothing(tmp_path):
    with RunDir(tmp_path / "a" / "b" / "run"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_directory_knows_whether_it_is_in_use(tmp_path):
    assert not in_use(tmp_path / "run")
    with RunDir(tmp_path / "run") as run:
        write_config(run, tiny.config(), {})
        assert in_use(tmp_path / "run")
    assert not in_use(tmp_path / "run")
    (tmp_path / "run" / ".lock").touch()  # of a process that was killed
    assert not in_use(tmp_path / "run")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"schema": "lsg.run/1", "settings": {}}', True),
        ('{"settings": {}, "arch": "vggsnn", "model": {}, "classes": []}', False),  # of `lsg export --format hf`
        ('{"schema": "other/1", "settings": {}}', False),
        ("[]", False),
        ("{", False),
    ],
)
def test_what_is_a_run(tmp_path, content, expected):
    (tmp_path / "config.json").write_text(content)
    assert is_run(tmp_path) is expected
    assert not is_run(tmp_path / "config.json")


def test_the_digest_of_crossings_says_whether_runs_choose_alike():
    one, other = {"a": [0.5, 1.0], "b": [0.25, 0.0]}, {"b": [0.25, 0.0], "a": [0.5, 1.0]}
    assert digest_of(one) == digest_of(other) != digest_of({**one, "a": [0.5, 0.9]})
    assert digest_of({}) is None
