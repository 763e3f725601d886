import errno
import hashlib
from collections import namedtuple
from unittest.mock import MagicMock

import pytest

from lsgcli.data import download
from lsgcli.data.download import RemoteFile, fetch
from lsgcli.errors import DataError, StorageError
from tests.unit.data.serving import cut, in_turn, ranged, status, whole

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


def test_a_file_that_is_there_is_kept(site, remote, tmp_path):
    (tmp_path / "a.bin").write_bytes(CONTENT)
    assert fetch([remote()], tmp_path) == [tmp_path / "a.bin"]
    assert site.requests == []


def test_a_file_with_other_content_is_never_replaced(site, remote, tmp_path):
    site.pages["/a"] = whole(CONTENT)
    (tmp_path / "a.bin").write_bytes(b"mine")
    found = hashlib.md5(b"mine").hexdigest()
    with pytest.raises(DataError, match=rf"a\.bin: found 4 bytes with md5 {found}, expected {MD5}") as caught:
        fetch([remote()], tmp_path)
    assert "Remove it to download it again" in caught.value.hint
    assert (tmp_path / "a.bin").read_bytes() == b"mine"


@pytest.mark.parametrize(
    "answer",
    [
        status(403),
        status(202),
        status(200, b"<p>Are you a robot?</p>", Content_Type="text/html; charset=utf-8"),
        status(200, b"another file"),
    ],
)
def test_where_the_plain_link_fails_the_next_one_works(site, remote, tmp_path, answer):
    site.pages |= {"/plain": answer, "/api": whole(CONTENT)}
    (path,) = fetch([remote("/plain", "/api")], tmp_path)
    assert path.read_bytes() == CONTENT
    assert nothing_left(tmp_path)
    site.pages["/api"] = status(404)
    path.unlink()
    with pytest.raises(DataError) as caught:
        fetch([remote("/plain", "/api")], tmp_path)
    assert all(f"{site.base}/{name}: " in caught.value.message for name in ("plain", "api"))
    assert list(tmp_path.iterdir()) == []


WHOLE, HTML = whole(CONTENT), whole(b"<html>robot?</html>", Content_Type="text/html")
CUT, REST = cut(CONTENT, 5000), f"bytes 700-{len(CONTENT) - 1}/{len(CONTENT)}"
# What has arrived before, the answers of /a or of /plain and /api, and the ranges that the last of them is asked for.
RESUMED = {
    "redirect": (CONTENT[:1000], {"/a": status(302, Location="/b"), "/b": ranged(CONTENT)}, ["bytes=1000-"]),
    "cut": (b"", {"/a": in_turn(CUT, ranged(CONTENT))}, [None, "bytes=5000-"]),
    "changed": (b"", {"/a": in_turn(cut(bytes(len(CONTENT)), 5000), ranged(CONTENT))}, [None, "bytes=5000-", None]),
    "no ranges": (CONTENT[:5000], {"/a": WHOLE}, ["bytes=5000-"]),
    "all there": (CONTENT, {"/a": ranged(CONTENT)}, ["bytes=102400-"]),  # answered by 416
    "longer": (CONTENT + b"more", {"/a": ranged(CONTENT)}, ["bytes=102404-", None]),
    "another file": (b"x" * 5000, {"/a": ranged(CONTENT)}, ["bytes=5000-", None]),
    "another range": (
        b"",
        {"/a": in_turn(CUT, status(206, CONTENT[700:], Content_Range=REST), WHOLE)},
        [None, "bytes=5000-", None],
    ),
    **{
        f"error page {i}": (CONTENT[:5000], {"/plain": page, "/api": ranged(CONTENT)}, ["bytes=5000-"])
        for i, page in enumerate((status(202), HTML, status(403)))
    },
}


@pytest.mark.parametrize("case", RESUMED)
def test_a_download_goes_on_or_starts_over(site, remote, tmp_path, case):
    """What is right stays, whatever a server answers."""
    part, pages, ranges = RESUMED[case]
    site.pages |= pages
    if part:
        (tmp_path / "a.bin.part").write_bytes(part)
    (path,) = fetch([remote(*(page for page in pages if page != "/b"))], tmp_path)
    assert path.read_bytes() == CONTENT
    assert site.ranges(list(pages)[-1]) == ranges
    assert nothing_left(tmp_path)


def test_all_that_is_lacking_is_named(site, tmp_path):
    files = [
        RemoteFile(f"{i}.zip", (f"{site.base}/{i}.zip",), MD5, 1_000_000 * (i + 1), "https://example.org/data")
        for i in range(3)
    ]
    with pytest.raises(DataError, match=r"0\.zip: cannot be downloaded:\n.*HTTP 404") as caught:
        fetch(files, tmp_path)
    first, *lines = caught.value.hint.splitlines()
    assert lines == [f"    {i}.zip (about {i + 1} MB) from {files[i].urls[0]}" for i in range(3)]
    for told in ("about 6 MB", "https://example.org/data", f"put in {tmp_path},"):
        assert told in first
    assert len(site.requests) == 1


def test_a_full_disk(site, remote, tmp_path, monkeypatch):
    site.pages["/a"] = whole(CONTENT)

    full = MagicMock(**{"write.side_effect": OSError(errno.ENOSPC, "No space left on device")})
    monkeypatch.setattr(download, "open_in_place", lambda path, mode: full)
    with pytest.raises(StorageError, match=r"a\.bin\.part: cannot be written: No space left"):
        fetch([remote()], tmp_path)


def test_too_little_room_is_found_before_anything_is_fetched(site, remote, tmp_path, monkeypatch):
    site.pages["/a"] = whole(CONTENT)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage(10**6, 10**6 - 1000, 1000))
    with pytest.raises(StorageError, match="found 1,000 bytes of free disk space, expected 102,400"):
        fetch([remote()], tmp_path)
    assert list(tmp_path.iterdir()) == []
