import hashlib
import os
import subprocess

import pytest

from lsgcli.data import manifest
from lsgcli.errors import DataError

ODD = {
    "plain.bin": b"1",
    "with space": b"2",
    "*star": b"4",
    "#hash": b"9",
    "d/e/f.bin": b"x" * 100_000,
    "café": b"10",
    os.fsdecode(b"no text \xff"): b"11",
    "-dash": b"12",
}


@pytest.fixture
def folder(tmp_path):
    for name, content in ODD.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path


def sha256sum(folder, *options):
    return subprocess.run(["sha256sum", *options], cwd=folder, capture_output=True, check=True).stdout


def test_coreutils_accepts_what_is_written_and_reads_it_alike(folder):
    manifest.write(folder)
    assert sha256sum(folder, "--check", "--strict", "SHA256SUMS").count(b": OK\n") == len(ODD)
    expected = {name: hashlib.sha256(content).hexdigest() for name, content in ODD.items()}
    assert manifest.read(folder) == expected
    (folder / "SHA256SUMS").write_bytes(sha256sum(folder, "--binary", "--", *ODD))
    assert manifest.read(folder) == expected
    manifest.write(folder)  # does not list itself
    assert manifest.read(folder) == expected
    (folder / "line\nbreak").touch()
    with pytest.raises(DataError, match="line break"):
        manifest.write(folder)


def test_check_finds_every_difference(folder):
    manifest.write(folder)
    assert manifest.check(folder) == ((), (), ())
    (folder / "plain.bin").unlink()
    (folder / "*star").unlink()
    (folder / "*star").mkdir()
    (folder / "d/e/f.bin").write_bytes(b"x" * 99_999 + b"y")
    (folder / "d/new").write_bytes(b"new")
    (folder / ".hidden").write_bytes(b"")
    (folder / "a.zip.part").write_bytes(b"")
    assert manifest.check(folder) == (("*star", "plain.bin"), ("d/e/f.bin",), ("d/new",))


def test_given_paths_only(folder):
    manifest.write(folder, [folder / "d/e/f.bin", folder / "#hash"])
    assert list(manifest.read(folder)) == ["#hash", "d/e/f.bin"]
    (folder / "#hash").write_bytes(b"other")
    manifest.write(folder, [folder / "café"])
    assert list(manifest.read(folder)) == ["#hash", "café", "d/e/f.bin"]
    assert manifest.check(folder).changed == ("#hash",)  # as it was listed: extending does not look at it again


GOOD = "0" * 64


@pytest.mark.parametrize(
    "line",
    [
        *("nonsense", GOOD[1:] + "  a", GOOD + " a", GOOD + "  ", "g" * 64 + "  a", "SHA256 (a) = " + GOOD, GOOD + "  ../a"),
        *(GOOD + "  a/../../b", GOOD + "  /etc/passwd", GOOD + "  .", GOOD + "  a\0b"),
    ],
)
def test_a_malformed_line_is_named(tmp_path, line):
    (tmp_path / "SHA256SUMS").write_text(f"# a comment\n{GOOD}  first\n\n{line}\n")
    with pytest.raises(DataError, match=r"SHA256SUMS: line 4: "):
        manifest.read(tmp_path)


def test_other_spellings_and_absent_files(tmp_path):
    assert manifest.read(tmp_path) == {}
    (tmp_path / "SHA256SUMS").write_text(f"{'AB' * 32} *./a//b\n")
    assert manifest.read(tmp_path) == {"a/b": "ab" * 32}
    with pytest.raises(DataError, match="gone: cannot be read"):
        manifest.write(tmp_path, [tmp_path / "gone"], lambda done, total: None)
