"""Files and folders appear whole or not at all; those that cannot be written are named as the person named them."""

import contextlib
import errno
import fcntl
import json
import math
import os
import signal
import threading
import time

import pytest

from lsgcli.errors import ConfigError, RunInUseError, StorageError
from lsgcli.report.output import check_output
from lsgcli.store.rundir import RunDir, in_use
from lsgcli.system.files import append_json_line, json_text, locked, replacing, write_text
from tests.exports import saved


def test_the_error_names_the_target_and_no_partial_file(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StorageError, match=r"file/a\.txt: cannot be written: Not a directory") as caught:
        write_text(tmp_path / "file" / "a.txt", "text")
    assert ".partial" not in str(caught.value)
    assert "--out" not in str(caught.value)  # not every command has it


def test_a_folder_appears_whole(tmp_path):
    """Not before its last file; with the modes of new files; over an empty folder too."""
    before = os.umask(0o027)
    try:
        for _ in range(2):
            with replacing(tmp_path / "net", folder=True) as temporary:
                (temporary / "a.txt").write_text("text")
                (temporary / "a.txt").chmod(0o600)
                assert not any((tmp_path / "net").glob("*"))
            assert [path.name for path in tmp_path.iterdir()] == ["net"]
            assert (tmp_path / "net" / "a.txt").read_text() == "text"
            assert (tmp_path / "net" / "a.txt").stat().st_mode & 0o777 == 0o640
            (tmp_path / "net" / "a.txt").unlink()
    finally:
        os.umask(before)


def test_a_folder_with_files_is_not_replaced(tmp_path):
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "mine").write_text("mine")
    with (
        pytest.raises(StorageError, match="net: cannot be written: Directory not empty"),
        replacing(tmp_path / "net", folder=True),
    ):
        pass
    assert [path.name for path in tmp_path.rglob("*")] == ["net", "mine"]


def test_a_link_that_appears_after_the_check_is_not_followed(tmp_path, monkeypatch):
    (tmp_path / "target").touch()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    monkeypatch.setattr("lsgcli.system.files.check_no_link", lambda path, inside=None: None)
    with pytest.raises(StorageError, match="cannot be written"):
        append_json_line(tmp_path / "link", {})
    assert (tmp_path / "target").read_bytes() == b""


def test_a_fifo_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(StorageError, match="cannot be written"):
        append_json_line(tmp_path / "fifo", {})
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(StorageError, match="found a FIFO"):
        append_json_line(tmp_path / "fifo", {})
    os.close(reader)


def in_child(work):
    """Run ``work`` in a forked process that then waits to be killed; returns its pid and a file that reads a byte once it waits."""
    ready, done = os.pipe()
    pid = os.fork()
    if pid == 0:
        with work():
            os.write(done, b"1")
            time.sleep(60)
        os._exit(0)
    os.close(done)
    assert os.read(ready, 1) == b"1"
    os.close(ready)
    return pid


def test_waiting_for_a_lock_says_so_and_a_killed_process_holds_none(tmp_path, caplog):
    """Not even where a child of it, such as a worker, lives on."""
    lock = tmp_path / "lock"

    @contextlib.contextmanager
    def holding():
        with locked(lock, "unexpected"):
            if (worker := os.fork()) == 0:
                time.sleep(600)
                os._exit(0)
            (tmp_path / "worker").write_text(str(worker))
            yield

    pid = in_child(holding)
    try:
        with pytest.raises(RunInUseError, match="in use"), locked(lock, RunInUseError("in use")):
            pass
        threading.Timer(0.3, os.kill, (pid, signal.SIGKILL)).start()
        with locked(lock, "waiting for another process"):
            os.kill(int((tmp_path / "worker").read_text()), 0)  # which lives
            assert caplog.messages == ["waiting for another process"]
        assert not lock.exists()
    finally:
        os.waitpid(pid, 0)
        os.kill(int((tmp_path / "worker").read_text()), signal.SIGKILL)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_file_systems_without_locks(tmp_path, monkeypatch, number):
    def flock(stream, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with locked(tmp_path / "lock", "unexpected"), RunDir(tmp_path / "run"):
        assert not in_use(tmp_path / "run")


def test_a_lock_that_cannot_be_created(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="lock: cannot be written"), locked(tmp_path / "file" / "lock", "unexpected"):
        pass


@pytest.fixture
def user(tmp_path):
    """A folder as a user has it: a run, a checkpoint, an export, pictures, prose, and what is no file at all."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text('{"schema": "lsg.run/1"}')
    saved("mlp", run / "best.safetensors")
    saved("mlp", tmp_path / "copy.png")
    (tmp_path / "weights.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    (tmp_path / "page.html").write_text("\n<!doctype html>")
    (tmp_path / "prose.html").write_text("Dear diary")
    (tmp_path / "empty.html").touch()
    (tmp_path / "sheet.png").write_bytes(b"\x89PNG\r\n")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "cat.png").write_bytes(b"\x89PNG\r\n")
    (tmp_path / "new").mkdir()
    os.mkfifo(tmp_path / "fifo.html")
    (tmp_path / "loop.html").symlink_to("loop.html")
    (tmp_path / "link.html").symlink_to("nothing.html")
    (tmp_path / "same.png").symlink_to("images/cat.png")
    (tmp_path / "live.html").symlink_to("page.html")
    return tmp_path


REFUSED = [  # name, suffixes, message; all of them with --force too
    ("run/best.safetensors", (".safetensors",), r"-o .*best\.safetensors: belongs to the run"),
    ("run/report.html", (".html",), "belongs to the run"),  # it is not there yet
    ("run/config.json", (), "belongs to the run"),
    ("copy.png", (".png",), "is a checkpoint"),
    ("page.html", (".png", ".svg"), r"found '\.html', expected a name with suffix \.png or \.svg"),
    ("page", (".html",), "found no suffix"),
    ("prose.html", (".html",), r"is not a \.html file"),
    ("images/cat.png", (".png",), "is in .*images, which the command reads"),
    ("same.png", (".png",), "is in .*images, which the command reads"),
    ("new", (), "found a folder, expected a file"),
    ("fifo.html", (".html",), "found a FIFO"),
    ("loop.html", (".html",), "Too many levels of symbolic links"),
    ("link.html", (".html",), "a broken symbolic link"),
    ("live.html", (".html",), "found a symbolic link"),
    ("nowhere/a.html", (".html",), "no such folder: .*nowhere"),
    ("page.html/a.html", (".html",), "no such folder"),
    ("x" * 300 + ".html", (".html",), "File name too long"),
    ("/dev/full", (), "found a device"),
]


def test_what_no_output_replaces(user):
    before = digests(user)
    for name, suffixes, message in REFUSED:
        for force in (False, True):
            with pytest.raises((ConfigError, StorageError), match=message):
                check_output(user / name, "-o", suffixes=suffixes, inputs=[user / "images", user / "nothing"], force=force)
    assert digests(user) == before


@pytest.mark.parametrize("name", ["page.html", "empty.html", "sheet.png", "weights.safetensors"])
def test_other_files_are_replaced_with_force(user, name):
    with pytest.raises(ConfigError, match="Add force"):
        check_output(user / name, "-o", suffixes=(user / name).suffixes)
    check_output(user / name, "-o", suffixes=(user / name).suffixes, force=True)


def test_an_input_is_found_by_any_of_its_names(user):
    (user / "hard.html").hardlink_to(user / "page.html")
    with pytest.raises(ConfigError, match=r"is .*page\.html, which the command reads"):
        check_output(user / "hard.html", "--html", inputs=[user / "page.html"], force=True)
    check_output(user / "images" / "dog.png", "-o", suffixes=(".png",), inputs=[user / "images"])  # replaces nothing


def test_output_folders(user):
    """New or empty, or of files that are not in the way; each file that may be is an output."""
    for name in ("new", "other"):
        check_output(user / name, "-o", folder=True)
    with pytest.raises(ConfigError, match="contains files"):
        check_output(user / "images", "-o", folder=True, force=True)
    with pytest.raises(ConfigError, match="found a file"):
        check_output(user / "sheet.png", "-o", folder=True, force=True)
    pictures = {"suffixes": (".png", ".svg"), "folder": True}
    check_output(user / "run", "--plot", **pictures)
    with pytest.raises(ConfigError, match=r"cat\.png: the file exists"):
        check_output(user / "images", "--plot", **pictures)
    check_output(user / "images", "--plot", **pictures, force=True)
    with pytest.raises(ConfigError, match=r"copy\.png: is a checkpoint"):
        check_output(user, "--plot", **pictures, force=True)


def digests(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_name_may_have_all_bytes_that_the_system_allows(tmp_path):
    name = "n" * 250 + ".json"
    write_text(tmp_path / name, "caf\udce9")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "caf\\xe9"  # as on a terminal


def test_json_has_no_nan():
    """RFC 8259 has neither NaN nor infinity, at any depth."""
    assert json.loads(json_text({"a": [math.nan, (1.5, -math.inf)]}), parse_constant=pytest.fail) == {"a": [None, [1.5, None]]}
