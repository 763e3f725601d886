import hashlib
import os
import subprocess

import pytest

from lsgcli.data import manifest
from lsgcli.errors import DataError

ODD = {
    "plain.bin": b"1",
    "with space": b"2",
    " leading": b"3",
    "*star": b"4",
    "back\\slash": b"5",
    "back\\nslash": b"6",
    "line\nfeed": b"7",
    "carriage\rreturn": b"8",
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
    return subprocess.run(["sha256sum", *options], cwd=folder, capture_output=True)


def test_coreutils_accepts_what_is_written(folder):
    manifest.write(folder)
    checked = sha256sum(folder, "--check", "--strict", "SHA256SUMS")
    assert checked.returncode == 0, checked.stderr
    assert checked.stdout.count(b": OK\n") == len(ODD)
    lines = (folder / "SHA256SUMS").read_bytes().split(b"\n")
    digest = hashlib.sha256(b"8").hexdigest().encode()
    assert b"\\" + digest + b"  carriage\\rreturn" in lines  # as coreutils has it since 9.0


@pytest.mark.parametrize("mode", ["--text", "--binary"])
def test_what_coreutils_writes_is_read(folder, mode):
    written = sha256sum(folder, mode, "--", *ODD)
    assert written.returncode == 0
    (folder / "SHA256SUMS").write_bytes(written.stdout)
    assert manifest.read(folder) == {name: hashlib.sha256(content).hexdigest() for name, content in ODD.items()}


def test_a_manifest_comes_back(folder):
    told = []
    manifest.write(folder, progress=lambda *report: told.append(report))
    assert manifest.read(folder) == {name: hashlib.sha256(content).hexdigest() for name, content in ODD.items()}
    total = sum(map(len, ODD.values()))
    assert told[-1] == (total, total)
    assert len(told) == len(ODD)
    before = (folder / "SHA256SUMS").read_bytes()
    manifest.write(folder)  # does not list itself
    assert (folder / "SHA256SUMS").read_bytes() == before


def test_check_finds_every_difference(folder):
    manifest.write(folder)
    report = manifest.check(folder)
    assert report == ((), (), ())
    (folder / "plain.bin").unlink()
    (folder / "*star").unlink()
    (folder / "*star").mkdir()
    (folder / "d/e/f.bin").write_bytes(b"x" * 99_999 + b"y")
    (folder / "d/new").write_bytes(b"new")
    (folder / ".hidden").write_bytes(b"")
    (folder / "a.zip.part").write_bytes(b"")
    (folder / ".lsg-unpacking-1").mkdir()
    (folder / ".lsg-unpacking-1/x").write_bytes(b"")
    report = manifest.check(folder)
    assert report.missing == ("*star", "plain.bin")
    assert report.changed == ("d/e/f.bin",)
    assert report.extra == ("d/new",)


def test_given_paths_only(folder):
    manifest.write(folder, [folder / "d/e/f.bin", folder / "#hash"])
    assert list(manifest.read(folder)) == ["#hash", "d/e/f.bin"]
    (folder / "#hash").write_bytes(b"other")
    manifest.write(folder, [folder / "café"], extend=True)
    assert list(manifest.read(folder)) == ["#hash", "café", "d/e/f.bin"]
    assert manifest.check(folder).changed == ("#hash",)  # as it was listed: extending does not look at it again


GOOD = "0" * 64


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("nonsense", "found b'nonsense'"),
        (GOOD[1:] + "  a", "expected a SHA-256 sum"),
        (GOOD + " a", "expected a SHA-256 sum"),
        (GOOD + "  ", "expected a SHA-256 sum"),
        ("g" * 64 + "  a", "expected a SHA-256 sum"),
        ("SHA256 (a) = " + GOOD, "expected a SHA-256 sum"),
        (GOOD + "  ../a", "inside the folder"),
        (GOOD + "  a/../../b", "inside the folder"),
        (GOOD + "  /etc/passwd", "inside the folder"),
        (GOOD + "  .", "inside the folder"),
        (GOOD + "  a\0b", "inside the folder"),
        ("\\" + GOOD + "  a\\tb", "escape"),
        ("\\" + GOOD + "  a\\\\\\", "escape"),
        ("1" * 64 + "  first", "again, with another checksum"),
    ],
)
def test_a_malformed_line_is_named(tmp_path, line, told):
    (tmp_path / "SHA256SUMS").write_text(f"# a comment\n{GOOD}  first\n\n{line}\n")
    with pytest.raises(DataError, match=rf"SHA256SUMS: line 4: .*{told}"):
        manifest.read(tmp_path)


def test_other_spellings_and_absent_files(tmp_path):
    with pytest.raises(DataError, match="SHA256SUMS: cannot be read: No such file"):
        manifest.check(tmp_path)
    (tmp_path / "SHA256SUMS").write_text(f"{'AB' * 32} *./a//b\n")
    assert manifest.read(tmp_path) == {"a/b": "ab" * 32}
    with pytest.raises(DataError, match="gone: cannot be read"):
        manifest.write(tmp_path, [tmp_path / "gone"], lambda done, total: None)
