"""The states of an ablation's cells, as lines and as a table."""

import io

import pytest

from lsgcli.report import cells as module
from lsgcli.report.terminal import Console
from lsgcli.sweeps.jobs import CellState
from tests.unit.sweeps.helpers import plan


@pytest.fixture
def cells():
    return plan("abl", {"method": "none"}, {"method": "lsg"}, seeds=(0, 7)).cells()


STATES = (
    CellState("done", accuracy=0.95),
    CellState("running", 1, 3, 0.5),
    CellState("failed", status=3, message="x.png: bad"),
    CellState("stopped"),
)


def test_lines_are_printed_when_a_state_changes(cells, capsys):
    states = dict(zip(cells, STATES, strict=True))
    with module.display(quiet=False) as display:
        display(states)
        display(states)
        display({**states, cells[1]: CellState("running", 2, 3, 0.75)})
    assert capsys.readouterr().err.splitlines() == [
        "method=none-s0: done, accuracy 0.9500",
        "method=lsg-s0: running: 1 of 3 epochs, accuracy 0.5000",
        "method=none-s7: failed: x.png: bad",
        "method=lsg-s0: running: 2 of 3 epochs, accuracy 0.7500",
    ]


def test_a_terminal_shows_variants_by_seeds(cells, monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr(module, "console", lambda stream: Console(file=out, force_terminal=True, color_system=None, width=80))
    with module.display(quiet=False) as display:
        display(dict(zip(cells, STATES, strict=True)))
    lines = [line.split() for line in out.getvalue().splitlines()]
    assert ["method=none", "0.9500", "failed"] in lines
    assert ["method=lsg", "1/3", "0.5000", "not", "started"] in lines
    assert any("x.png: bad" in line for line in out.getvalue().splitlines())
