"""Types of files that are not checkpoints, for error messages."""

from pathlib import Path
from typing import NamedTuple

from lsgcli import registry
from lsgcli.errors import CheckpointError

HEAD = 9  # bytes: 8 of the length of a safetensors header, and the first of the header
SIGNATURES = {  # first bytes -> kind
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
    b"GIF8": "an image",
    b"BM": "an image",
    b"#!AER-DAT": "a recording",
    b"\x89HDF": "an HDF5 file",
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "a gzip archive",
    b"\x80\x02": "a pickle file",
    b"{": "a JSON file",
    b"<": "an HTML or XML page",
}
PICKLED = (".pt", ".pth", ".ckpt", ".bin", ".pkl")
TRAIN = "`lsg train` prints the path of the checkpoint it wrote."


def unreadable(path: Path, error: OSError) -> CheckpointError:
    """What is raised for a checkpoint that cannot be opened."""
    problem = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
    return CheckpointError(f"{path}: {problem}", hint=TRAIN)


class Kind(NamedTuple):
    """Description of a file, and a hint."""

    found: str
    hint: str


def other_kind(path: Path) -> Kind | None:
    """The type of a file; None if it starts like a safetensors file, complete or truncated."""
    from lsgcli.data.images import image_suffixes
    from lsgcli.data.readers import base as readers

    with open(path, "rb") as stream:
        head = stream.read(HEAD)
    suffix = path.suffix.lower()
    found = next((kind for signature, kind in SIGNATURES.items() if head.startswith(signature)), "")
    if head[8:] == b"{" or (suffix == ".safetensors" and not found):
        return None
    formats = (registry.get("format", name) for name in registry.names("format"))
    if suffix not in ("", ".safetensors") and (form := next((one for one in formats if one.suffix == suffix), None)):
        return Kind(f"{form.kind} ({suffix})", form.hint)
    if found in ("an image", "a recording") or suffix in (*readers.suffixes(), *image_suffixes()):
        found = found or ("an image" if suffix in image_suffixes() else "a recording")
        return Kind(found, "The checkpoint comes first: lsg predict CKPT PATH...")
    if suffix in PICKLED:
        hint = (
            "lsg reads no pickled weights. In Python: lsgcli.build(...).load_state_dict(torch.load(FILE, weights_only=True))."
        )
        return Kind(found or f"a {suffix} file", hint)
    best = path.parent / "best.safetensors"
    return Kind(
        found or ("an empty file" if not head else f"a file that starts with {head!r}"),
        f"Try {best}." if best.exists() else TRAIN,
    )
