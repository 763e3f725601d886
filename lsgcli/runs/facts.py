"""Facts that config.json records about a run: program, versions, machine and data."""

import datetime
import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from lsgcli.data.bundle import DataBundle
from lsgcli.errors import redacted
from lsgcli.system.device import Compute
from lsgcli.system.interpreter import __version__, version_of


def digest_of(crossings: Mapping[str, Sequence[float]]) -> str | None:
    """A digest of the crossings by which ``--synapses auto`` chooses, equal for runs that choose alike; None without any."""
    if not crossings:
        return None
    return hashlib.sha256(json.dumps(crossings, sort_keys=True).encode()).hexdigest()[:16]


def facts(compute: Compute, bundle: DataBundle) -> dict[str, Any]:
    """Facts about a run: program, versions, command line, machine and data."""
    device = (
        torch.cuda.get_device_name(compute.device)
        if compute.device.type == "cuda"
        else platform.processor() or platform.machine()
    )
    return {
        "lsg": __version__,
        "git_revision": _git_revision(),
        "argv": [redacted(word) for word in sys.argv],
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "versions": {
            "torch": str(torch.__version__),  # with its build, such as +cu132, which the package's metadata lacks
            **{name: version_of(name) for name in ("torchvision", "tonic", "numpy", "numba", "safetensors")},
        },
        "device": {"type": compute.device.type, "name": device, "threads": torch.get_num_threads(), "cores": os.cpu_count()},
        "precision": {"used": compute.precision, "because": compute.reason},
        "crossings": digest_of(compute.convolutions.crossings),
        "classes": list(bundle.classes),
        "samples": bundle.sizes(),
        "data": bundle.info,
        "data_digest": bundle.content_digest(),
        "data_files": dict(bundle.files) or None,  # none of embedded data
    }


def _git_revision() -> str | None:
    """Git revision of the source tree; None if lsg does not run from a repository."""
    try:
        root = Path(__file__).resolve().parents[2]
        if not (root / ".git").exists():
            return None
        done = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        return done.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
