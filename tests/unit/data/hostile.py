"""Archives as they should not be: each with what an error says about it."""

import io
import os
import stat
import struct
import tarfile
import zipfile


def tree(folder):
    """All there is in and below a folder: links as their target, files as their content."""
    found = {}
    for place, folders, files in os.walk(folder):
        for name in folders + files:
            path = os.path.join(place, name)
            mode = os.lstat(path).st_mode
            if stat.S_ISLNK(mode):
                found[path] = ("link", os.readlink(path))
            elif stat.S_ISREG(mode):
                with open(path, "rb") as stream:
                    found[path] = (mode, stream.read())
            else:
                found[path] = mode
    return found


def zipped(path, members, method=zipfile.ZIP_DEFLATED):
    """members: (name, or a ZipInfo, and content)."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def tarred(path, members):
    """members: (name, content), or a TarInfo and content."""
    with tarfile.open(path, "w:" + (path.suffix[1:] if path.suffix != ".tar" else "")) as archive:
        add(archive, members)
    return path


def add(archive, members):
    for name, content in members:
        info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
        if not isinstance(name, tarfile.TarInfo):
            info.size = len(content)
        archive.addfile(info, io.BytesIO(content))


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
    "parent": "../evil",
    "parent within": "a/../../evil",
    "absolute": "/evil",
    "drive": "C:/evil",
    "backslash": "..\\evil",
    "line feed": "evil\n.bin",
    "escape": "\x1b[2Jevil",
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


def cut_off(path):
    good(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def tar_sized(size, padding=b""):
    def make(path):
        info = tarfile.TarInfo("a")
        info.size = size
        path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + padding)
        return path

    return make


BOMB = [("bomb", bytes(65 << 20))]
SPREAD_BOMB = [(f"bomb{i}", bytes(3 << 20)) for i in range(22)]
SPECIAL = "a link, a device or another special file"


def named(name):
    return lambda path: MAKERS[path.name](path, [("good", b"1"), (name, b"evil")])


# What is wrong -> (file name, how it is made, what the error says).
HOSTILE = {
    **{
        f"{kind}: {wrong}": (kind, named(name), "a name that is absolute")
        for kind in ("a.zip", "a.tar")
        for wrong, name in BAD_NAMES.items()
    },
    "not text in a tar": ("a.tar", named("evil\udcff"), "an invalid character"),
    **{
        f"{wrong} in {kind}": (kind, lambda path, members=members: MAKERS[path.name](path, members), told)
        for kind in ("a.zip", "a.tar.gz")
        for wrong, members, told in (
            ("file over folder", [("a/b", b"1"), ("a", b"2")], "complete"),
            ("folder over file", [("a", b"1"), ("a/b", b"2")], "complete"),
            ("bomb", BOMB, "a ratio above 1000"),
        )
    },
    "spread bomb": ("a.tar.gz", lambda path: tarred(path, SPREAD_BOMB), "a ratio above 1000"),
    "zip: link": ("a.zip", lambda path: zipped(path, [(unix("l", 0o120777), b"/etc/passwd")]), SPECIAL),
    "zip: link, then through it": (
        "a.zip",
        lambda path: zipped(path, [(unix("l", 0o120777), b"../outside"), ("l/evil", b"evil")]),
        SPECIAL,
    ),
    "zip: FIFO": ("a.zip", lambda path: zipped(path, [(unix("f", 0o010644), b"")]), SPECIAL),
    "zip: device": ("a.zip", lambda path: zipped(path, [(unix("d", 0o020644), b"")]), SPECIAL),
    "zip: encrypted": ("a.zip", encrypted, "encrypted"),
    "zip: states more": ("a.zip", stated_too_large, "100 bytes instead of the stated 5000"),
    "zip: damaged": ("a.zip", damaged, "complete"),
    "zip: cut off": ("a.zip", cut_off, "complete"),
    "zip: nothing": ("a.zip", lambda path: path.touch() or path, "complete"),
    "tar: link": ("a.tar", lambda path: tarred(path, [(entry("l", tarfile.SYMTYPE, "/etc/passwd"), b"")]), SPECIAL),
    "tar: link, then through it": (
        "a.tar",
        lambda path: tarred(path, [(entry("l", tarfile.SYMTYPE, "../outside"), b""), ("l/evil", b"evil")]),
        SPECIAL,
    ),
    "tar: hard link": ("a.tar", lambda path: tarred(path, [(entry("l", tarfile.LNKTYPE, "../outside/x"), b"")]), SPECIAL),
    "tar: device": ("a.tar", lambda path: tarred(path, [(entry("d", tarfile.CHRTYPE), b"")]), SPECIAL),
    "tar: block device": ("a.tar", lambda path: tarred(path, [(entry("d", tarfile.BLKTYPE), b"")]), SPECIAL),
    "tar: FIFO": ("a.tar", lambda path: tarred(path, [(entry("f", tarfile.FIFOTYPE), b"")]), SPECIAL),
    "tar: cut off": ("a.tar", cut_off, "complete"),
    "tar.gz: cut off": ("a.tar.gz", cut_off, "complete"),
    "tar.xz: cut off": ("a.tar.xz", cut_off, "complete"),
    "tar: states 8 EiB": ("a.tar", tar_sized((1 << 63) - 1), "a ratio above 1000"),
    "tar: states more": ("a.tar", tar_sized(5000, bytes(1024)), "complete"),
    "not a tar": ("a.tar", lambda path: path.write_bytes(os.urandom(2000)) and path, "complete"),
    "not a zip": ("a.zip", lambda path: path.write_bytes(b"<html>") and path, "complete"),
    "another format": ("a.rar", lambda path: path.write_bytes(b"Rar!") and path, "complete"),
}
