"""The working directory of an experiment, and what it may change."""

import os
import subprocess
import sys

import pytest

from lsgcli.runs import experiment
from lsgcli.runs.experiment import apply, copy_folder


def test_a_working_directory_is_copied(tmp_path, monkeypatch):
    """Small files and folders are copies; large files, hidden folders, links and what is too much in all are links."""
    monkeypatch.setattr(experiment, "COPIED", 1000)
    monkeypatch.setattr(experiment, "MOST_COPIED", 2000)
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "folder" / "inner").mkdir(parents=True)
    (source / ".git").mkdir()
    (source / "much").mkdir()
    (source / "script.py").write_text("x = 1")
    (source / "folder" / "inner" / "data.csv").write_text("1,2")
    (source / "large.bin").write_bytes(bytes(1500))
    (source / "much" / "a").write_bytes(bytes(990))
    (source / "much" / "b").write_bytes(bytes(1200))
    (source / "link").symlink_to(source / "script.py")
    copy_folder(source, target)
    links = {path.name for path in target.iterdir() if path.is_symlink()}
    assert links == {"large.bin", ".git", "much", "link"}
    assert (target / "folder" / "inner" / "data.csv").read_text() == "1,2"
    (target / "script.py").write_text("x = 2")
    assert (source / "script.py").read_text() == "x = 1"


def test_lines_of_a_copy_are_changed(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    (source / "net.py").write_text("a = LIF(v_th=20.0)\nb = LIF(v_th=20.0)\n")
    copy_folder(source, target)
    edit = {"file": str(source / "net.py"), "line": 2, "old": "v_th=20.0", "new": "v_th=1.6"}
    assert apply(edit, source, target)
    assert (target / "net.py").read_text() == "a = LIF(v_th=20.0)\nb = LIF(v_th=1.6)\n"
    assert (source / "net.py").read_text().count("20.0") == 2
    assert not apply(edit, source, target)  # the text is no longer there
    assert not apply({**edit, "file": str(tmp_path / "elsewhere.py")}, source, target)


WAYS = {
    "open": "open({path!r}, 'w')",
    "append": "open({path!r}, 'a')",
    "a new file": "open({new!r}, 'w')",
    "os.open": "os.open({path!r}, os.O_WRONLY)",
    "remove": "os.remove({path!r})",
    "replace": "os.replace('own.txt', {path!r})",
    "rename": "os.rename({path!r}, {new!r})",
    "through a link": "os.symlink({path!r}, 'link'); open('link', 'w')",
    "torch": "torch.save([1], {path!r})",
}


@pytest.mark.parametrize("way", WAYS)
def test_files_of_the_user_are_not_changed(tmp_path, way):
    """The hook cannot be removed from a process, so each way has one of its own."""
    folder, work = tmp_path / "user", tmp_path / "work"
    folder.mkdir()
    work.mkdir()
    (folder / "a.txt").write_text("kept")
    path, new = str(folder / "a.txt"), str(folder / "b.txt")
    code = f"""
import os, sys, torch
from lsgcli.runs.experiment import changed, protect
protect([{str(folder)!r}])
print(open({path!r}).read())
open("own.txt", "w").write("x")
with changed("", {{}}):
    {WAYS[way].format(path=path, new=new)}
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=work, capture_output=True, text=True, check=False, env=os.environ)
    assert done.stdout == "kept\n"
    assert "PermissionError" in done.stderr.splitlines()[-1]
    assert [(one.name, one.read_text()) for one in folder.iterdir()] == [("a.txt", "kept")]
    assert (work / "own.txt").exists()
