"""Archives as they should not be: each with what an error says about it."""

import gzip
import io
import os
import struct
import tarfile
import warnings
import zipfile
import zlib


def zipped(path, members, method=zipfile.ZIP_DEFLATED):
    """members: (name, or a ZipInfo, and content)."""
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", method) as archive:
        warnings.simplefilter("ignore")  # zipfile's own, about names that come twice
        for name, content in members:
            archive.writestr(name, content)
    return path


def tarred(path, members):
    """members: (name, content), or a TarInfo and content."""
    with tarfile.open(path, "w:" + (path.suffix[1:] if path.suffix != ".tar" else "")) as archive:
        for name, content in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            if not isinstance(name, tarfile.TarInfo):
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


MAKERS = {"a.zip": zipped, "a.tar": tarred, "a.tar.gz": tarred, "a.tar.xz": tarred}
GOOD = [
    ("set/", b""),
    ("set/cat/1.bin", b"one"),
    ("set/cat/2.bin", b"x" * 70_000),
    ("./set/dog/1.bin", b""),
    ("LICENSE", b"free"),
]
CONTENT = {"set/cat/1.bin": b"one", "set/cat/2.bin": b"x" * 70_000, "set/dog/1.bin": b"", "LICENSE": b"free"}


def good(path):
    members = [(name, content) for name, content in GOOD if path.suffix == ".zip" or name[-1] != "/"]
    return MAKERS[path.name](path, members)


BAD_NAMES = {
    "parent": ("../evil", "'..'"),
    "parent within": ("a/../../evil", "'..'"),
    "absolute": ("/evil", "absolute"),
    "two slashes": ("//evil", "absolute"),
    "drive": ("C:/evil", "absolute"),
    "drive, relative": ("C:evil", "absolute"),
    "backslash": ("..\\evil", "backslash"),
    "line feed": ("evil\n.bin", "control character"),
    "escape": ("\x1b[2Jevil", "control character"),
    "long": ("x" * 300, "too long"),
    "deep": ("d/" * 700 + "evil", "too long"),
    "ours": (".lsg-unpacking-00000000/evil", "kept for unpacking"),
    "none": ("./", "without a name"),
}


def entry(name, kind, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def unix(name, mode):
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


def patched(path, old, new, count=-1):
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, count))
    return path


def nul_in_zip(path):
    return patched(zipped(path, [("evilX.bin", b"1")]), b"evilX", b"evil\0")


def stated_too_small(path):
    """10 bytes are stated, 100 are there, and the checksum is that of the first 10."""
    archive = zipped(path, [("a", b"y" * 100)], zipfile.ZIP_STORED)
    size = struct.pack("<II", 100, 100)
    patched(archive, size, struct.pack("<II", 100, 10))
    return patched(archive, struct.pack("<I", zlib.crc32(b"y" * 100)), struct.pack("<I", zlib.crc32(b"y" * 10)))


def deflated_too_small(path):
    archive = zipped(path, [("a", b"y" * 100)])
    patched(archive, struct.pack("<I", 100) + struct.pack("<H", 1), struct.pack("<I", 10) + struct.pack("<H", 1))
    return patched(archive, struct.pack("<I", zlib.crc32(b"y" * 100)), struct.pack("<I", zlib.crc32(b"y" * 10)))


def sharing(path):
    """Members that claim, together, more of the archive than there is."""
    archive = zipped(path, [("a", b"1" * 70), ("b", b"2" * 70)], zipfile.ZIP_STORED)
    return patched(archive, struct.pack("<II", 70, 70), struct.pack("<II", 400, 70))


def stated_too_large(path):
    archive = zipped(path, [("a", b"y" * 100)])
    return patched(archive, struct.pack("<I", 100) + struct.pack("<H", 1), struct.pack("<I", 5000) + struct.pack("<H", 1))


def damaged(path):
    """A byte of compressed content changed."""
    archive = zipped(path, [("a", os.urandom(5000))], zipfile.ZIP_STORED)
    content = bytearray(archive.read_bytes())
    content[2000] ^= 1
    archive.write_bytes(content)
    return archive


def encrypted(path):
    archive = zipped(path, [("a", b"1")])
    content = bytearray(archive.read_bytes())
    content[6] |= 1
    content[content.index(b"PK\1\2") + 8] |= 1
    archive.write_bytes(content)
    return archive


def cut_off(path, share=0.5):
    good(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path


def tar_without_end(path):
    """Whole members, but the zeros at the end are missing."""
    tarred(path, [("a", b"x" * 512)])
    path.write_bytes(path.read_bytes()[:1024])
    return path


def tar_with_damaged_header(path):
    tarred(path, [("a", b"x" * 512), ("b", b"y")])
    return patched(path, b"b" + bytes(99), b"c" + bytes(99))


def gzip_with_wrong_checksum(path):
    tarred(path, [("a", b"x" * 512)])
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(content)
    return path


def tar_sized(size, padding=b""):
    def make(path):
        info = tarfile.TarInfo("a")
        info.size = size
        path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + padding)
        return path

    return make


def sparse(path):
    info = tarfile.TarInfo("a")
    info.type, info.size = tarfile.GNUTYPE_SPARSE, 0
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    return path


def huge_long_name(path):
    """A name that states 1 GiB, well packed: reading it would fill memory."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 30
    with gzip.open(path, "wb") as stream:
        stream.write(info.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 20))
    return path


def backwards(path):
    """An extended header that gives the next member a negative size."""
    record = b"15 size=-10240\n"
    note = tarfile.TarInfo("note")
    note.type, note.size = tarfile.XHDTYPE, len(record)
    content = note.tobuf() + record.ljust(512, b"\0") + tarfile.TarInfo("a").tobuf() + bytes(1024)
    path.write_bytes(content)
    return path


def long_tail(path):
    tarred(path, [("a", b"1")])
    with gzip.open(path, "rb") as stream:
        content = stream.read()
    path.write_bytes(gzip.compress(content + bytes(65 << 20), 1))
    return path


TWICE = [("a/b", b"1"), ("a/b", b"2")]
CASE = [("Cat/1", b"1"), ("cat/2", b"2")]
ACCENTS = [("caf\u00e9", b"1"), ("cafe\u0301", b"2")]
FILE_OVER_FOLDER = [("a/b", b"1"), ("a", b"2")]
FOLDER_OVER_FILE = [("a", b"1"), ("a/b", b"2")]
BOMB = [("bomb", bytes(65 << 20))]
SPREAD_BOMB = [(f"bomb{i}", bytes(3 << 20)) for i in range(22)]

HOSTILE = {
    **{
        f"{kind}: {name}": (kind, lambda path, bad=bad: MAKERS[path.name](path, [("good", b"1"), (bad, b"evil")]), told)
        for kind in ("a.zip", "a.tar")
        for name, (bad, told) in BAD_NAMES.items()
        if (kind, name) not in (("a.zip", "none"), ("a.tar", "two slashes"))
    },
    "NUL in a zip": ("a.zip", nul_in_zip, "control character"),
    "not text in a tar": ("a.tar", lambda path: tarred(path, [("evil\udcff", b"1")]), "no text"),
    **{
        f"{name} in {kind}": (kind, lambda path, members=members: MAKERS[path.name](path, members), told)
        for kind in ("a.zip", "a.tar.gz")
        for name, members, told in (
            ("twice", TWICE, "a second file"),
            ("case", CASE, "by case or accents"),
            ("accents", ACCENTS, "by case or accents"),
            ("file over folder", FILE_OVER_FOLDER, "a file and a folder"),
            ("folder over file", FOLDER_OVER_FILE, "a file and a folder"),
            ("bomb", BOMB, "more than 1000 to 1"),
        )
    },
    "spread bomb": ("a.tar.gz", lambda path: tarred(path, SPREAD_BOMB), "in all: found .* more than 1000 to 1"),
    "zip: shared content": ("a.zip", sharing, "share their content"),
    "zip: link": ("a.zip", lambda path: zipped(path, [(unix("l", 0o120777), b"/etc/passwd")]), "symbolic link"),
    "zip: link, then through it": (
        "a.zip",
        lambda path: zipped(path, [(unix("l", 0o120777), b"../outside"), ("l/evil", b"evil")]),
        "symbolic link",
    ),
    "zip: FIFO": ("a.zip", lambda path: zipped(path, [(unix("f", 0o010644), b"")]), "FIFO"),
    "zip: device": ("a.zip", lambda path: zipped(path, [(unix("d", 0o020644), b"")]), "device"),
    "zip: encrypted": ("a.zip", encrypted, "encrypted"),
    "zip: bzip2": ("a.zip", lambda path: zipped(path, [("a", b"1")], zipfile.ZIP_BZIP2), "compression method 12"),
    "zip: states less": ("a.zip", stated_too_small, "whole|11 bytes where it states 10"),
    "zip: states less, packed": ("a.zip", deflated_too_small, "whole|11 bytes where it states 10"),
    "zip: states more": ("a.zip", stated_too_large, "whole|states 5000"),
    "zip: damaged": ("a.zip", damaged, "whole"),
    "zip: cut off": ("a.zip", cut_off, "whole"),
    "zip: nothing": ("a.zip", lambda path: path.touch() or path, "whole"),
    "tar: link": ("a.tar", lambda path: tarred(path, [(entry("l", tarfile.SYMTYPE, "/etc/passwd"), b"")]), "symbolic link"),
    "tar: link, then through it": (
        "a.tar",
        lambda path: tarred(path, [(entry("l", tarfile.SYMTYPE, "../outside"), b""), ("l/evil", b"evil")]),
        "symbolic link",
    ),
    "tar: hard link": ("a.tar", lambda path: tarred(path, [(entry("l", tarfile.LNKTYPE, "../outside/x"), b"")]), "hard link"),
    "tar: device": ("a.tar", lambda path: tarred(path, [(entry("d", tarfile.CHRTYPE), b"")]), "device"),
    "tar: block device": ("a.tar", lambda path: tarred(path, [(entry("d", tarfile.BLKTYPE), b"")]), "device"),
    "tar: FIFO": ("a.tar", lambda path: tarred(path, [(entry("f", tarfile.FIFOTYPE), b"")]), "FIFO"),
    "tar: unknown type": ("a.tar", lambda path: tarred(path, [(entry("f", b"Z"), b"")]), "type b'Z'"),
    "tar: sparse": ("a.tar", sparse, "sparse"),
    "tar: cut off": ("a.tar", cut_off, "whole"),
    "tar.gz: cut off": ("a.tar.gz", cut_off, "whole"),
    "tar.gz: last bytes cut off": ("a.tar.gz", lambda path: cut_off(path, 0.98), "whole"),
    "tar.xz: cut off": ("a.tar.xz", cut_off, "whole"),
    "tar: no end": ("a.tar", tar_without_end, "cut off"),
    "tar: damaged header": ("a.tar", tar_with_damaged_header, "damaged"),
    "tar.gz: wrong checksum": ("a.tar.gz", gzip_with_wrong_checksum, "whole"),
    "tar: states 8 EiB": ("a.tar", tar_sized((1 << 63) - 1), "more than 1000 to 1"),
    "tar: states more": ("a.tar", tar_sized(5000, bytes(1024)), "whole|states 5000"),
    "tar: long name of 1 GiB": ("a.tar.gz", huge_long_name, "states 1073742336|states 1073741824"),
    "tar: negative size": ("a.tar", backwards, "whole|size of -"),
    "tar.gz: long tail": ("a.tar.gz", long_tail, "after the end"),
    "not a tar": ("a.tar", lambda path: path.write_bytes(os.urandom(2000)) and path, "damaged"),
    "not a zip": ("a.zip", lambda path: path.write_bytes(b"<html>") and path, "whole"),
    "another format": ("a.rar", lambda path: path.write_bytes(b"Rar!") and path, "no archive that can be unpacked"),
}
