import errno
import hashlib
import io
import os
import socket
import ssl
import urllib.error
from collections import namedtuple

import pytest

from lsgcli.data import download, web
from lsgcli.data.download import RemoteFile, fetch
from lsgcli.errors import DataError, StorageError
from tests.unit.data.serving import cut, in_turn, ranged, reply, status, whole

CONTENT = bytes(range(256)) * 400  # 102,400 bytes
MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.fixture
def remote(site):
    def make(*paths, **facts):
        return RemoteFile(
            "a.bin", tuple(site.base + path for path in paths or ("/a",)), **{"md5": MD5, "size": len(CONTENT), **facts}
        )

    return make


def nothing_left(folder):
    return [path.name for path in folder.iterdir()] == ["a.bin"]


def test_a_file_is_fetched_with_its_progress(site, remote, tmp_path):
    site.pages["/a"] = whole(CONTENT)
    told = []
    (path,) = fetch([remote()], tmp_path / "new", lambda *report: told.append(report))
    assert path == tmp_path / "new" / "a.bin"
    assert path.read_bytes() == CONTENT
    assert told[-1] == ("a.bin", len(CONTENT), len(CONTENT))
    assert nothing_left(path.parent)
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("name", ["a.bin", "a.bin.part"])
def test_nothing_is_downloaded_through_a_link(site, remote, tmp_path, name):
    site.pages["/a"] = whole(CONTENT)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / name).symlink_to(tmp_path / "away")
    with pytest.raises(StorageError, match=f"{name}: found a symbolic link"):
        fetch([remote()], tmp_path / "d")
    assert not (tmp_path / "away").exists()


def test_a_file_that_is_there_is_kept(site, remote, tmp_path):
    (tmp_path / "a.bin").write_bytes(CONTENT)
    assert fetch([remote()], tmp_path) == [tmp_path / "a.bin"]
    assert site.requests == []


def test_a_pipe_in_its_place_is_not_read(remote, tmp_path):
    os.mkfifo(tmp_path / "a.bin")
    with pytest.raises(DataError, match=r"a\.bin: cannot be read: found a FIFO, expected a regular file"):
        fetch([remote()], tmp_path)


def test_a_file_with_other_content_is_never_replaced(site, remote, tmp_path):
    site.pages["/a"] = whole(CONTENT)
    (tmp_path / "a.bin").write_bytes(b"mine")
    found = hashlib.md5(b"mine").hexdigest()
    with pytest.raises(DataError, match=rf"a\.bin: found 4 bytes with md5 {found}, expected {MD5}") as caught:
        fetch([remote()], tmp_path)
    assert "Remove it to download it again" in caught.value.hint
    assert (tmp_path / "a.bin").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (status(403), "HTTP 403 Forbidden"),
        (status(202), "HTTP 202 without data"),
        (status(200), "HTTP 200 without data"),
        (status(204), "HTTP 204"),
        (status(500), r"HTTP 500 .*\(4 tries\)"),
        (status(200, b"<!DOCTYPE html><html>Are you a robot?</html>", Content_Type="text/html"), "a web page"),
        (status(200, b"<p>Are you a robot?</p>", Content_Type="text/html; charset=utf-8"), "a web page"),
        (status(200, b"another file"), f"found 12 bytes with md5 .*, expected {MD5}"),
        (status(302, Location="file:///etc/passwd"), "HTTP 302 .*file:///etc/passwd"),
        (lambda handler: None, "no connection"),
    ],
)
def test_where_the_plain_link_fails_the_next_one_works(site, remote, tmp_path, answer, told):
    site.pages |= {"/plain": answer, "/api": whole(CONTENT)}
    (path,) = fetch([remote("/plain", "/api")], tmp_path)
    assert path.read_bytes() == CONTENT
    assert nothing_left(tmp_path)
    site.pages["/api"] = status(404)
    path.unlink()
    with pytest.raises(DataError, match=rf"a\.bin: cannot be downloaded:\n    {site.base}/plain: .*{told}") as caught:
        fetch([remote("/plain", "/api")], tmp_path)
    assert f"{site.base}/api: HTTP 404" in caught.value.message
    assert list(tmp_path.iterdir()) == []


def test_a_redirect_is_followed_with_the_range(site, remote, tmp_path):
    site.pages |= {"/a": status(302, Location="/b"), "/b": ranged(CONTENT)}
    (tmp_path / "a.bin.part").write_bytes(CONTENT[:1000])
    assert fetch([remote()], tmp_path)[0].read_bytes() == CONTENT
    assert site.ranges("/b") == ["bytes=1000-"]


def test_a_cut_connection_goes_on_where_it_was_cut(site, remote, tmp_path):
    site.pages["/a"] = in_turn(cut(CONTENT, 5000, ETag='"1"'), ranged(CONTENT, '"1"'))
    assert fetch([remote()], tmp_path)[0].read_bytes() == CONTENT
    assert site.ranges("/a") == [None, "bytes=5000-"]
    assert nothing_left(tmp_path)


def test_tries_count_anew_after_progress(site, remote, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "ENOUGH", 1000)

    def a_little(handler):
        start = int(handler.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        end = min(start + 10_000, len(CONTENT))
        code, span = (206, f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}") if start else (200, "")
        reply(handler, code, CONTENT[start:end], length=len(CONTENT) - start, Content_Range=span)

    site.pages["/a"] = a_little
    assert fetch([remote()], tmp_path)[0].read_bytes() == CONTENT
    assert site.ranges("/a") == [None, *(f"bytes={start}-" for start in range(10_000, 102_400, 10_000))]


def test_without_progress_the_tries_end_and_the_part_stays(site, remote, tmp_path):
    site.pages["/a"] = cut(CONTENT, 5000)
    with pytest.raises(DataError, match=r"cut off after 5000 of 102400 bytes \(4 tries\)"):
        fetch([remote()], tmp_path)
    assert (tmp_path / "a.bin.part").read_bytes() == CONTENT[:5000]
    assert not (tmp_path / "a.bin").exists()


def test_a_file_that_changed_on_the_server_is_fetched_from_the_start(site, remote, tmp_path):
    old = bytes(len(CONTENT))
    site.pages["/a"] = in_turn(cut(old, 5000, ETag='"old"'), ranged(CONTENT, '"new"'))
    assert fetch([remote()], tmp_path)[0].read_bytes() == CONTENT
    assert site.ranges("/a") == [None, "bytes=5000-", None]


def test_a_server_without_ranges_starts_over(site, remote, tmp_path):
    site.pages["/a"] = whole(CONTENT)
    (tmp_path / "a.bin.part").write_bytes(CONTENT[:5000])
    assert fetch([remote()], tmp_path)[0].read_bytes() == CONTENT
    assert site.ranges("/a") == ["bytes=5000-"]


def test_a_whole_part_needs_no_data(site, remote, tmp_path):
    site.pages["/a"] = ranged(CONTENT)
    (tmp_path / "a.bin.part").write_bytes(CONTENT)
    assert fetch([remote()], tmp_path)[0].read_bytes() == CONTENT
    assert len(site.requests) == 1  # answered by 416


def test_a_part_longer_than_the_file_is_given_up(site, remote, tmp_path):
    site.pages["/a"] = ranged(CONTENT)
    (tmp_path / "a.bin.part").write_bytes(CONTENT + b"more")
    assert fetch([remote()], tmp_path)[0].read_bytes() == CONTENT
    assert site.ranges("/a") == ["bytes=102404-", None]


@pytest.mark.parametrize("code", [socket.EAI_NONAME, socket.EAI_AGAIN])
def test_without_name_resolution_there_is_one_try(tmp_path, monkeypatch, code):
    asked = []

    def lookup(*args, **kwargs):
        asked.append(args)
        raise socket.gaierror(code, "no such name")

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    with pytest.raises(DataError, match=r"no connection: .*no such name"):
        fetch([RemoteFile("a.bin", ("http://no-such-server.invalid/a",), MD5, 1)], tmp_path)
    assert len(asked) == 1


def test_a_part_of_another_file_is_fetched_once_more_from_the_start(site, remote, tmp_path):
    site.pages["/a"] = ranged(CONTENT)
    (tmp_path / "a.bin.part").write_bytes(b"x" * 5000)
    assert fetch([remote()], tmp_path)[0].read_bytes() == CONTENT
    assert site.ranges("/a") == ["bytes=5000-", None]


def test_a_range_that_was_not_asked_for_is_not_glued_on(site, remote, tmp_path):
    strange = status(206, CONTENT[700:], Content_Range=f"bytes 700-{len(CONTENT) - 1}/{len(CONTENT)}")
    site.pages["/a"] = in_turn(cut(CONTENT, 5000, ETag='"1"'), strange, whole(CONTENT))
    assert fetch([remote()], tmp_path)[0].read_bytes() == CONTENT
    assert site.ranges("/a") == [None, "bytes=5000-", None]


@pytest.mark.parametrize("page", [status(202), whole(b"<html>robot?</html>", Content_Type="text/html"), status(403)])
def test_an_error_page_does_not_cost_what_has_arrived(site, remote, tmp_path, page):
    site.pages |= {"/plain": page, "/api": ranged(CONTENT)}
    (tmp_path / "a.bin.part").write_bytes(CONTENT[:5000])
    assert fetch([remote("/plain", "/api")], tmp_path)[0].read_bytes() == CONTENT
    assert site.ranges("/api") == ["bytes=5000-"]


def test_an_archive_is_recognised_by_its_first_bytes(site, tmp_path):
    site.pages["/a"] = whole(CONTENT)
    file = RemoteFile("a.zip", (f"{site.base}/a",), MD5, len(CONTENT))
    with pytest.raises(DataError, match=r"found a file that starts with .*, expected b'PK'"):
        fetch([file], tmp_path)


def test_without_network_the_error_says_what_to_do(tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/a"
    file = RemoteFile("a.bin", (url,), MD5, 2_500_000_000, "https://example.org/data")
    with pytest.raises(DataError, match=rf"a\.bin: cannot be downloaded:\n    {url}: no connection.*refused") as caught:
        fetch([file], tmp_path / "d")
    for part in ("a.bin (about 2.5 GB)", "https://example.org/data", f"put it in {tmp_path / 'd'},", url):
        assert part in caught.value.hint
    assert caught.value.exit_code == 3
    assert not (tmp_path / "d").exists()


def test_all_that_is_lacking_is_named(site, tmp_path):
    files = [
        RemoteFile(f"{i}.zip", (f"{site.base}/{i}.zip",), MD5, 1_000_000 * (i + 1), "https://example.org/data")
        for i in range(3)
    ]
    with pytest.raises(DataError, match=r"0\.zip: cannot be downloaded:\n.*HTTP 404") as caught:
        fetch(files, tmp_path)
    first, *lines = caught.value.hint.splitlines()
    assert lines == [f"    {i}.zip (about {i + 1} MB) from {files[i].urls[0]}" for i in range(3)]
    for told in ("these 3 files (about 6 MB)", "https://example.org/data", f"put them in {tmp_path},"):
        assert told in first
    assert len(site.requests) == 1


def test_a_full_disk(site, remote, tmp_path, monkeypatch):
    site.pages["/a"] = whole(CONTENT)

    class Full(io.BytesIO):
        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download, "open_in_place", lambda path, mode: Full())
    with pytest.raises(StorageError, match=r"a\.bin\.part: cannot be written: No space left"):
        fetch([remote()], tmp_path)


def test_too_little_room_is_found_before_anything_is_fetched(site, remote, tmp_path, monkeypatch):
    site.pages["/a"] = whole(CONTENT)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage(10**6, 10**6 - 1000, 1000))
    with pytest.raises(StorageError, match="found 1,000 bytes of free disk space, expected 102,400"):
        fetch([remote()], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_certificate_that_is_not_trusted_is_not_tried_again(tmp_path, monkeypatch):
    asked = []

    class Opener:
        def __init__(self, *handlers):
            pass

        def open(self, request, timeout):
            asked.append(request.full_url)
            raise urllib.error.URLError(ssl.SSLCertVerificationError("certificate verify failed"))

    monkeypatch.setattr(web.urllib.request, "build_opener", Opener)
    with pytest.raises(DataError, match=r"no connection: .*certificate verify failed"):
        fetch([RemoteFile("a.bin", ("https://127.0.0.1/a", "https://127.0.0.1/b"), MD5, 1)], tmp_path)
    assert asked == ["https://127.0.0.1/a", "https://127.0.0.1/b"]


def test_free_space_is_asked_for_once_per_request(site, remote, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(download, "CHUNK", 1000)
    monkeypatch.setattr(download, "_check_room", lambda path, needed: asked.append(needed))
    site.pages["/a"] = whole(CONTENT)
    fetch([remote()], tmp_path)
    assert asked == [len(CONTENT)]
