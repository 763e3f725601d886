"""Tables of whatever has finished."""

import pytest

from lsgcli.errors import ConfigError
from lsgcli.report.tables import FORMATS
from lsgcli.store.rundir import RESULT, RunDir
from lsgcli.sweeps.collect import collect
from lsgcli.sweeps.plan import Cell, Plan, load
from lsgcli.system import files
from tests import tiny
from tests.unit.sweeps.helpers import plan, record, write_run

METHODS = ({"method": "trainable-decay"}, {"method": "lsg"}, {"method": "fixed"})  # an order that is not the paper's


@pytest.fixture
def planned(tmp_path):
    return plan(tmp_path / "abl", *METHODS)


def finish(cells):
    """Give each run an accuracy, and return those."""
    found = [0.5 + 0.01 * number for number in range(len(cells))]
    for cell, accuracy in zip(cells, found, strict=True):
        write_run(cell, accuracy, used="fp32")
    return found


def test_runs_without_a_test_part_have_not_diverged(planned, tmp_path):
    """Trials of a search: they are left out, and of them alone there is no table."""
    cells = planned.cells()
    finish(cells[1:])
    write_run(cells[0], 0.5)
    untested = {"accuracy": None, "best_accuracy": 0.7}
    files.write_json(cells[0].path / RESULT, untested)
    summary = collect(planned.root).summary()
    assert not any(row["diverged"] for row in summary["rows"])
    assert "Left out: 1 run without a test accuracy, such as trials of `lsg tune`." in summary["notes"]
    for cell in cells[1:]:
        files.write_json(cell.path / RESULT, untested)
    with pytest.raises(ConfigError, match="found no run with a test accuracy"):
        collect(planned.root)
    files.write_json(cells[1].path / RESULT, record(None))
    assert [row["diverged"] for row in collect(planned.root).summary()["rows"]] == [[cells[1].config.seed]]


def test_without_a_plan_the_order_is_the_papers(planned):
    """And every row should have every seed."""
    cells = planned.cells()
    finish(cells[:4])
    fixed, lsg = sorted(collect(planned.root).summary()["missing"], key=lambda one: one["row"])
    assert (lsg["row"], lsg["seed"], lsg["state"]) == ("lsg", 1, "not started")
    assert (fixed["row"], fixed["run"]) == ("fixed", str(cells[5].path))
    finish(cells[4:])
    summary = collect(planned.root).summary()
    assert [row["method"] for row in summary["rows"]] == ["fixed", "trainable-decay", "lsg"]
    assert [row["verdict"] == "baseline" for row in summary["rows"]] == [True, False, False]
    assert summary["missing"] == []


def test_what_is_missing(planned):
    planned.save()
    cells = planned.cells()
    write_run(cells[0], 0.5)
    write_run(cells[1], epochs=2)  # stopped
    write_run(cells[2], None)  # diverged
    with RunDir(cells[3].path):
        summary = collect(planned.root).summary()
    states = {(one["row"], one["seed"]): one["state"] for one in summary["missing"]}
    assert states == {
        ("lsg", 0): "stopped after 2 of 3 epochs",
        ("trainable-decay", 1): "running",
        ("lsg", 1): "not started",
        ("fixed", 1): "not started",
    }
    assert [one["run"] for one in summary["missing"]] == [str(cells[i].path) for i in (3, 1, 4, 5)]
    assert [(row["n"], row["diverged"], row["missing"]) for row in summary["rows"]] == [
        (1, [], [1]),
        (0, [], [0, 1]),
        (0, [0], [1]),
    ]


def test_other_seeds_and_rows_are_taken_along(planned, tmp_path):
    planned.save()
    finish(planned.cells())
    extra = Cell(0, tiny.config(method="lsg", seed=7), planned.root / "method=lsg" / "s7")
    other = Cell(0, tiny.config(method="fixed", width=5.0, seed=0), planned.root / "by-hand")
    write_run(extra, 0.9)
    write_run(other, 0.2)
    summary = collect(planned.root).summary()
    assert [row["label"] for row in summary["rows"]] == ["trainable-decay", "lsg", "fixed, width 1", "fixed, width 5"]
    assert [row["seeds"] for row in summary["rows"]] == [[0, 1], [0, 1, 7], [0, 1], [0]]
    assert summary["missing"] == []


def test_of_two_runs_with_the_same_settings_one_counts(planned):
    first, again = planned.cells()[0], planned.cells()[0]
    write_run(first, epochs=1)
    again = Cell(0, again.config, planned.root / "zz")
    write_run(again, 0.6)
    summary = collect(planned.root).summary()
    assert summary["rows"][0]["accuracies"] == [0.6]
    assert f"{again.path} is used, {first.path} ignored." in summary["notes"][-1]
    assert collect(again.path).summary()["rows"][0]["accuracies"] == [0.6]  # a run alone


def test_other_data_under_the_same_settings_are_rows_of_their_own(tmp_path):
    """Each with a baseline on the same data; a run from before digests were recorded belongs to the data of its folder."""
    accuracies = {("fixed", "A"): (0.5, 0.6), ("lsg", "A"): (0.7, 0.9), ("fixed", "B"): (0.1, 0.2), ("lsg", "B"): (0.1, 0.1)}
    for (method, data), found in accuracies.items():
        for seed, accuracy in enumerate(found):
            config = tiny.config(method=method, seed=seed, data_dir=data)
            digest = None if (method, data, seed) == ("fixed", "A", 1) else f"digest of {data}"
            write_run(Cell(0, config, tmp_path / f"{method}{data}{seed}"), accuracy, data_digest=digest)
    summary = collect(tmp_path).summary()
    assert [row["label"] for row in summary["rows"]] == ["fixed, data A", "lsg, data A", "fixed, data B", "lsg, data B"]
    assert [row["accuracies"] for row in summary["rows"]] == [[0.5, 0.6], [0.7, 0.9], [0.1, 0.2], [0.1, 0.1]]
    assert [row["difference"] for row in summary["rows"]] == [None, pytest.approx(0.25), None, pytest.approx(-0.05)]
    assert "different data" in summary["notes"][-1]
    assert summary["missing"] == []


def test_what_runs_with_the_same_settings_do_not_share(planned, tmp_path):
    """Data that changed in their folder, the precision, the split that chose."""
    for name, digest, used, chosen_on in (("a", "1" * 24, "fp32", "val"), ("b", "2" * 24, "bf16", "test")):
        cell = Cell(0, tiny.config(data_dir="D"), tmp_path / "runs" / name)
        write_run(cell, 0.5, data_digest=digest, used=used)
        files.write_json(cell.path / RESULT, record(0.5, chosen_on=chosen_on))
    summary = collect(tmp_path / "runs").summary()
    assert [row["label"] for row in summary["rows"]] == ["lsg, data D (11111111)", "lsg, data D (22222222)"]
    notes = " ".join(summary["notes"])
    for words in ("best epoch on the validation split", "on the test part itself, which is optimistic", "1 in bf16, 1 in fp32"):
        assert words in notes
    assert "`lsg eval` computes in fp32" in notes


def test_the_same_data_in_two_folders(planned):
    """As on the nodes of a cluster; the plan's rows stay what they are."""
    planned.save()
    for cell in planned.cells():
        write_run(cell, 0.5, data_digest="one", data_dir=f"node{cell.config.seed}")
    summary = collect(planned.root).summary()
    assert [row["label"] for row in summary["rows"]] == ["trainable-decay", "lsg", "fixed"]
    assert [row["n"] for row in summary["rows"]] == [2, 2, 2]


def test_a_planned_ablation_with_other_data_beside_it(planned):
    planned.save()
    for cell in planned.cells()[:-1]:
        write_run(cell, 0.5, data_digest="one", data_dir="A")
    extra = planned.cells()[0]
    write_run(Cell(0, extra.config, planned.root / "extra"), 0.9, data_digest="two", data_dir="B")
    summary = collect(planned.root).summary()
    labels = ["trainable-decay, data A", "lsg, data A", "fixed, data A", "trainable-decay, data B"]
    assert [row["label"] for row in summary["rows"]] == labels
    assert [(one["row"], one["seed"]) for one in summary["missing"]] == [("fixed, data A", 1)]


def test_the_digest_of_data_follows_their_content():
    """Not their names alone, as the digest does that a resumed run compares."""
    one, same, other = tiny.bundle(), tiny.bundle(), tiny.bundle()
    other.test.x[0, 0, 0, 0, 0] += 1
    assert one.content_digest() == same.content_digest() != other.content_digest()
    assert one.digest() == other.digest()


def test_runs_of_an_ablation_over_folds(tmp_path):
    """With and without its plan; runs of folds, whose data differ, are repetitions of one row."""
    settings = {"dataset": "n-caltech101", "fold": "1/2"}
    rows = tuple(({"method": name}, tiny.config(method=name, **settings)) for name in ("fixed", "lsg"))
    planned = Plan(tmp_path, rows, (0, 1), None, ("1/2", "2/2"))
    cells = planned.cells()
    assert [str(cell.path.relative_to(tmp_path)) for cell in cells[:3]] == [
        "method=fixed/s0-f1of2",
        "method=lsg/s0-f1of2",
        "method=fixed/s0-f2of2",
    ]
    for number, cell in enumerate(cells[:7]):
        write_run(cell, 0.1 * number, data_digest=cell.config.fold)
    summaries = [collect(tmp_path).summary()]
    planned.save()
    assert [(cell.path, cell.config.fold) for cell in load(tmp_path).cells()] == [
        (cell.path, cell.config.fold) for cell in cells
    ]
    summaries.append(collect(tmp_path).summary())
    for summary in summaries:
        assert [row["label"] for row in summary["rows"]] == ["fixed", "lsg"]
        assert summary["rows"][0]["accuracies"] == pytest.approx([0.0, 0.2, 0.4, 0.6])
        (missing,) = summary["missing"]
        assert (missing["seed"], missing["fold"], missing["run"]) == (1, "2/2", str(cells[7].path))
        assert any(note.startswith("Mean and spread are over 2 folds and all seeds") for note in summary["notes"])
        assert "Missing: lsg, seed 1, fold 2/2: not started" in FORMATS["table"](summary)


def test_a_run_that_cannot_be_read_is_left_out_and_told(planned):
    finish(planned.cells())
    (planned.root / "bad").mkdir()
    (planned.root / "bad" / "config.json").write_text("{")
    (planned.root / "bad" / "metrics.jsonl").touch()
    (planned.root / "web").mkdir()
    (planned.root / "web" / "config.json").write_text('{"settings": {}}')  # of another program
    summary = collect(planned.root).summary()
    assert sum(row["n"] for row in summary["rows"]) == 6
    assert any("bad/config.json" in note for note in summary["notes"])
    assert not any("web" in note for note in summary["notes"])
