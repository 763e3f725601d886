"""How much memory a process may still use."""

import pytest

from lsgcli.system import memory
from tests.unit.system.test_cpus import tree

MIB = 1 << 20
MACHINE = {"proc/meminfo": f"MemTotal: {8 * MIB} kB\nMemFree: 1 kB\nMemAvailable: {4 * MIB} kB\nCached: 9 kB"}  # 4 GiB
STAT = f"anon 5\ninactive_file {100 * MIB}\ntotal_inactive_file {200 * MIB}"


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/", {}, 4096),
        (
            "0::/job/step",
            {"job/memory.max": f"{1000 * MIB}", "job/memory.current": f"{700 * MIB}", "job/memory.stat": STAT},
            400,
        ),
        ("0::/job", {"job/memory.max": "max", "job/memory.current": f"{700 * MIB}", "job/memory.stat": STAT}, 4096),
        ("0::/job", {"job/memory.max": f"{9000 * MIB}", "job/memory.current": f"{100 * MIB}"}, 4096),
        ("0::/job", {"job/memory.max": f"{10 * MIB}", "job/memory.current": f"{11 * MIB}"}, 0),
        (
            "5:cpu:/\n4:memory:/job",
            {
                "memory/job/memory.limit_in_bytes": f"{1000 * MIB}",
                "memory/job/memory.usage_in_bytes": f"{500 * MIB}",
                "memory/job/memory.stat": STAT,
            },
            700,
        ),
    ],
)
def test_available_memory(tmp_path, monkeypatch, membership, files, expected):
    """In MiB: of the machine, and of its control groups, of both versions."""
    monkeypatch.setattr(memory, "total_bytes", lambda: 8 << 30)
    root = tree(tmp_path, membership, files)
    for name, text in MACHINE.items():
        (root / name).write_text(text + "\n")
    assert memory.available_bytes(root) == expected * MIB


def test_a_limit_of_address_space_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "total_bytes", lambda: 3 * MIB)
    assert memory.available_bytes(tmp_path) == 3 * MIB
