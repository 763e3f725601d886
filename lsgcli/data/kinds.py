"""Types of files that are not checkpoints, for error messages."""

from pathlib import Path
from typing import NamedTuple

from lsgcli import registry
from lsgcli.errors import CheckpointError

HEAD = 9  # bytes: 8 of the length of a safetensors header, and the first of the header
PICKLED = (".pt", ".pth", ".ckpt", ".bin", ".pkl")
TRAIN = "`lsg train` prints the path of the checkpoint it wrote."


def unreadable(path: Path, error: OSError) -> CheckpointError:
    """What is raised for a checkpoint that cannot be opened."""
    problem = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
    return CheckpointError(f"{path}: {problem}", TRAIN)


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
    if head[8:] == b"{" or suffix == ".safetensors":
        return None
    for form in registry.every("format").values():
        if suffix and suffix == form.suffix:
            return Kind(f"{form.kind} ({suffix})", form.hint)
    found = f"a file that starts with {head!r}" if head else "an empty file"
    if suffix in (*readers.suffixes(), *image_suffixes()):
        return Kind(f"a {suffix} file", "The checkpoint comes first: lsg predict CKPT PATH...")
    if suffix in PICKLED:
        hint = (
            "lsg reads no pickled weights. In Python: lsgcli.build(...).load_state_dict(torch.load(FILE, weights_only=True))."
        )
        return Kind(f"a {suffix} file", hint)
    best = path.parent / "best.safetensors"
    return Kind(found, f"Try {best}." if best.exists() else TRAIN)
