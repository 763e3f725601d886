"""A short form of tests/stress/interruptions.py."""

import random

from tests.stress.interruptions import kill_while_saving


def test_killed_while_saving(tmp_path):
    seen = kill_while_saving(tmp_path, 4, random.Random(1))
    assert seen["loaded"] == 4
