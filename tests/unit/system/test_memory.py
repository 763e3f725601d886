"""How much memory a process may still use."""

import pytest

from lsgcli.system import memory
from tests.unit.system.test_cpus import tree

MIB = 1 << 20
MACHINE = {"proc/meminfo": f"MemTotal: {8 * MIB} kB\nMemFree: 1 kB\nMemAvailable: {4 * MIB} kB\nCached: 9 kB"}  # 4 GiB
STAT = f"anon 5\ninactive_file {100 * MIB}\ntotal_inactive_file {200 * MIB}"


@pytest.mark.parametrize(
    ("membership", "limit", "used", "total", "expected"),
    [
        ("0::/", None, 0, 8192, 4096),
        ("0::/job/step", 1000, 700, 8192, 400),
        ("0::/job", None, 700, 8192, 4096),
        ("0::/job", 9000, 100, 8192, 4096),
        ("0::/job", 10, 210, 8192, 0),
        ("5:cpu:/\n4:memory:/job", 1000, 500, 8192, 700),
        ("0::/", None, 0, 3, 3),  # a limit of address space
    ],
)
def test_available_memory(tmp_path, monkeypatch, membership, limit, used, total, expected):
    """In MiB: of the machine, and of its control groups, of both versions."""
    monkeypatch.setattr(memory, "total_bytes", lambda: total * MIB)
    first = "memory:" in membership
    limits, uses = ("memory.limit_in_bytes", "memory.usage_in_bytes") if first else ("memory.max", "memory.current")
    group = {limits: "max" if limit is None else f"{limit * MIB}", uses: f"{used * MIB}", "memory.stat": STAT}
    root = tree(tmp_path, membership, {f"{'memory/' * first}job/{name}": text for name, text in group.items()})
    for name, text in MACHINE.items():
        (root / name).write_text(text + "\n")
    assert memory.available_bytes(root) == expected * MIB
