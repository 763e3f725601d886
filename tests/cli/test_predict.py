"""`lsg predict`: lines, exit statuses, pipes and signals."""

import json
import os

import pytest

from tests.networks import saved
from tests.unit.data.conftest import aedat2_bytes, blob


@pytest.fixture
def net(tmp_path):
    return saved(tmp_path / "net.safetensors", medians=(40, 1))


def test_lists_on_stdin_and_names_that_are_hard_to_write(net, tmp_path, lsg):
    """A list separated by lines or by NUL; what a terminal would act on is written as an escape, and is exact in JSON."""
    names = [b"b.aedat", b"a\x1b[31m.aedat", b"tab\tand\nline.aedat", b"\xff.aedat"]
    for i, name in enumerate(names):
        (tmp_path / os.fsdecode(name)).write_bytes(aedat2_bytes(blob(i)))
    text = lsg("predict", net, "-", input=b"\0".join([*names, b""]), status=0)
    shown = [line.split("\t")[0] for line in text.stdout.splitlines()]
    assert shown == ["b.aedat", r"a\x1b[31m.aedat", r"tab\tand\nline.aedat", r"\xff.aedat"]
    assert lsg("predict", net, "-", input=b"b.aedat\r\nb.aedat\r\n").stdout.splitlines() == text.stdout.splitlines()[:1] * 2
    records = lsg("predict", net, *map(os.fsdecode, names), "--json", "--by-step", "--top", 2)
    found = [json.loads(line) for line in records.stdout.splitlines()]
    assert [os.fsencode(record["path"]) for record in found] == names
    for record in found:
        assert list(record["probabilities"].values()) == sorted(record["probabilities"].values(), reverse=True)
        assert len(record["probabilities"]) == 2
        assert len(record["by_step"]) == 4
        assert record["by_step"][-1] == record["class"]


def test_an_improbable_class_is_unsure(net, tmp_path, lsg):
    (tmp_path / "a.aedat").write_bytes(aedat2_bytes(blob(0)))
    line = lsg("predict", net, "a.aedat", "--min-probability", 1, status=0).stdout
    assert line.split("\t")[1] == "?"
