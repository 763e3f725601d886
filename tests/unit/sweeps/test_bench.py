"""Rows of ``lsg bench`` from records of races and streams, who competes, and the choices between dense convolutions and those by spikes."""

import contextvars

import pytest
import torch

from lsgcli.config.run import RunConfig
from lsgcli.errors import ConfigError
from lsgcli.models import crossings
from lsgcli.sweeps.bench import cases, checking, measuring, rows, streaming, workers
from lsgcli.sweeps.bench.steps import prepare
from lsgcli.system import device

TINY = RunConfig(arch="vggsnn", T=3, batch_size=2, size=16, width_multiplier=1 / 16, device="cpu")
TRAIN, INFERENCE, STREAM = rows.cases(TINY, rows.MODES)
BOTH = list(rows.PEERS)


def test_rows_of_a_race():
    seconds = {"lsg fp32": [0.2, 0.4, 0.3], "floor fp32": [0.1, 0.2, 0.15]}
    contenders = {name: {"seconds": measuring.spread(values), "peak_bytes": 5e8} for name, values in seconds.items()}
    record = {"contenders": contenders, "ratios": {"lsg fp32": {"floor fp32": measuring.ratio(*[*seconds.values()][::-1])}}}
    ours, floor = rows.rows_of(TRAIN, record)
    assert ours == {
        "contender": "lsg fp32",
        "case": "vggsnn-w0.0625-T3-b2-16px-train",
        "title": "vggsnn x 0.0625, T=3, 16 px, batch 2, train",
        "samples_per_s": pytest.approx(2 / 0.3),
        "ms": pytest.approx(300),
        "peak_mb": 500,
        "time_over_lsg": None,
    }
    assert floor["time_over_lsg"] == {"ratio": 0.5, "low": 0.5, "high": 0.5}
    found = {"median": 4.0, "99th": 5.0, "peak_bytes": 3e8}  # a sample of a stream is all its timesteps
    (row,) = rows.rows_of(STREAM, {"contenders": {"lsg fp32": found}, "ratios": {"lsg fp32": {}}})
    assert (row["ms"], row["samples_per_s"], STREAM.batch) == (4.0, pytest.approx(1 / (3 * 0.004)), 1)


def test_int8_where_its_products_are_exact(monkeypatch):
    for has in (False, True):
        monkeypatch.setattr(device, "products_are_exact", lambda has=has: has)
        for case in (TRAIN, INFERENCE, STREAM):
            expected = has and case.mode != "train"
            assert (("lsg", "int8") in rows.entries(case, "fp32", (), with_int8=True)) == expected
    assert rows.entries(INFERENCE, "int8", ["snntorch"], with_int8=False) == [
        ("lsg", "int8"),
        ("floor", "fp32"),
        ("snntorch-best", "fp32"),
    ]


def test_who_has_a_network():
    def others(**settings):
        of = [rows.entries(case, "bf16", BOTH, with_int8=False) for case in rows.cases(TINY.replace(**settings), rows.MODES)]
        return [[name for name, precision in found if precision == "bf16" and not name.startswith("lsg")] for found in of]

    assert others() == [["floor", "spikingjelly-best", "snntorch-best"]] * 3
    assert others(arch="mlp") == [[]] * 3
    assert others(arch="ms-resnet18") == [[]] * 3
    assert others(arch="ms-resnet18", width_multiplier=1.0) == [["spikingjelly-best"]] * 2 + [[]]


def test_packages_to_compare_with(monkeypatch):
    monkeypatch.setattr(rows, "missing", lambda: ["snntorch"])
    assert rows.chosen_peers(None, TINY) == ["spikingjelly"]
    assert rows.chosen_peers("none", TINY) == rows.chosen_peers(None, TINY.replace(arch="mlp")) == []
    with pytest.raises(ConfigError, match=r"snntorch.*\n.*pip install snntorch"):
        rows.chosen_peers("spikingjelly,snntorch", TINY)
    with pytest.raises(ConfigError, match="norse"):
        rows.chosen_peers("norse", TINY)
    with pytest.raises(ConfigError, match="arch mlp"):
        rows.chosen_peers("spikingjelly", TINY.replace(arch="mlp"))


@pytest.mark.parametrize("mode", ["train", "stream"])
def test_choices_follow_the_density_of_the_spikes_that_a_layer_reads(mode, monkeypatch):
    measured = []

    def crossing(geometry, dtype, table):
        measured.append(geometry)
        return [0.2, 0.0]

    monkeypatch.setattr(crossings, "of", crossing)
    case = next(case for case in rows.cases(TINY, rows.MODES) if case.mode == mode)

    def look():  # the choice of the contender is set for its process
        prepared = prepare(cases.CONTENDERS["lsg-auto"], case, "fp32", torch.get_num_threads())
        measured.clear()
        return checking.facts(prepared)

    found = contextvars.copy_context().run(look)
    first, *others = found["convolutions"]
    assert (first["density"], first["forward"]) == (None, "dense")  # reads counts of events
    pools = (1, 2, 1, 2, 1, 2, 1)  # of vggsnn, behind the layers that the others read; an average holds the spikes of a window
    expected = [rate * pool**2 for rate, pool in zip(found["firing_rates"], pools, strict=False)]
    assert [layer["density"] for layer in others] == pytest.approx(expected)
    choices = ["spikes" if density < 0.2 else "dense" for density in expected]
    assert [layer["forward"] for layer in others] == choices
    assert {*choices} == {"spikes", "dense"}
    assert [layer.get("weight") for layer in others] == ["dense" if mode == "train" else None] * 7
    # 3: the pass that looks has all timesteps.
    assert {geometry.N for geometry in measured} == ({6} if mode == "train" else {1, 3})


def test_contenders_do_not_inherit_how_commands_of_lsg_wait(monkeypatch):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"):
        monkeypatch.delenv(name, raising=False)
    assert streaming._asleep() == {"OMP_WAIT_POLICY": "PASSIVE"}
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    assert "OMP_WAIT_POLICY" not in workers.inherited()
    assert streaming._asleep() == {"OMP_WAIT_POLICY": "PASSIVE"}
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert workers.inherited()["OMP_WAIT_POLICY"] == "ACTIVE"
    assert streaming._asleep() == {"OMP_WAIT_POLICY": "ACTIVE"}


def test_the_error_of_a_contender_is_that_of_the_command():
    (case,) = rows.cases(TINY.replace(size=20), ["train"])
    with workers.Worker("lsg", "fp32", case, 1) as worker, pytest.raises(ConfigError, match=r"lsg fp32: .*multiple of 16"):
        worker.ready()
