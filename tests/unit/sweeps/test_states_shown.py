"""The states of an ablation's cells, as lines."""

import pytest

from lsgcli.cli import launcher
from lsgcli.sweeps.jobs import CellState
from tests.unit.sweeps.helpers import plan


@pytest.fixture
def cells():
    return plan("abl", {"method": "fixed"}, {"method": "lsg"}, seeds=(0, 7)).cells()


STATES = (
    CellState("done", accuracy=0.95),
    CellState("running", 1, 3, 0.5),
    CellState("failed", status=3, message="x.png: bad"),
    CellState("stopped"),
)


def test_lines_are_printed_when_a_state_changes(cells, caplog):
    caplog.set_level("INFO", "lsg")
    states = dict(zip(cells, STATES, strict=True))
    display = launcher.changes_shown()
    display(states)
    display(states)
    display({**states, cells[1]: CellState("running", 2, 3, 0.75)})
    assert caplog.messages == [
        "method=fixed-s0: done, accuracy 0.9500",
        "method=lsg-s0: running after 1 of 3 epochs, accuracy 0.5000",
        "method=fixed-s7: failed: x.png: bad",
        "method=lsg-s0: running after 2 of 3 epochs, accuracy 0.7500",
    ]
