"""Archives as they should not be."""

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


def packed(kind, *members):
    return kind, lambda path: MAKERS[kind](path, members)


SPECIAL = {
    "link": (tarfile.SYMTYPE, "/etc/passwd"),
    "hard link": (tarfile.LNKTYPE, "../outside/x"),
    "device": (tarfile.CHRTYPE, ""),
    "block device": (tarfile.BLKTYPE, ""),
    "FIFO": (tarfile.FIFOTYPE, ""),
}
# What is wrong -> (file name, how it is made).
HOSTILE = {
    **{
        f"{kind}: {wrong}": packed(kind, ("good", b"1"), (name, b"evil"))
        for kind in ("a.zip", "a.tar")
        for wrong, name in BAD_NAMES.items()
    },
    "not text in a tar": packed("a.tar", ("good", b"1"), ("evil\udcff", b"evil")),
    **{
        f"{wrong} in {kind}": packed(kind, *members)
        for kind in ("a.zip", "a.tar.gz")
        for wrong, members in (
            ("file over folder", [("a/b", b"1"), ("a", b"2")]),
            ("folder over file", [("a", b"1"), ("a/b", b"2")]),
            ("bomb", [("bomb", bytes(65 << 20))]),
        )
    },
    "spread bomb": packed("a.tar.gz", *((f"bomb{i}", bytes(3 << 20)) for i in range(22))),
    "zip: link": packed("a.zip", (unix("l", 0o120777), b"/etc/passwd")),
    "zip: link, then through it": packed("a.zip", (unix("l", 0o120777), b"../outside"), ("l/evil", b"evil")),
    "zip: FIFO": packed("a.zip", (unix("f", 0o010644), b"")),
    "zip: device": packed("a.zip", (unix("d", 0o020644), b"")),
    "zip: encrypted": ("a.zip", encrypted),
    "zip: states more": ("a.zip", stated_too_large),
    "zip: damaged": ("a.zip", damaged),
    "zip: nothing": ("a.zip", lambda path: path.touch() or path),
    **{f"tar: {name}": packed("a.tar", (entry("x", *of), b"")) for name, of in SPECIAL.items()},
    "tar: link, then through it": packed("a.tar", (entry("l", tarfile.SYMTYPE, "../outside"), b""), ("l/evil", b"evil")),
    **{f"{kind.removeprefix('a.')}: cut off": (kind, cut_off) for kind in MAKERS},
    "tar: states 8 EiB": ("a.tar", tar_sized((1 << 63) - 1)),
    "tar: states more": ("a.tar", tar_sized(5000, bytes(1024))),
    "not a tar": ("a.tar", lambda path: path.write_bytes(os.urandom(2000)) and path),
    "not a zip": ("a.zip", lambda path: path.write_bytes(b"<html>") and path),
    "another format": ("a.rar", lambda path: path.write_bytes(b"Rar!") and path),
}
