"""The report of a run: what each state shows, what reloads, and names that are text whatever they are."""

import base64
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from lsgcli.report import heatmaps
from lsgcli.report.drawing import DARK, LIGHT, element, svg
from lsgcli.report.heatmaps import pairs
from lsgcli.report.run_page import run_page
from lsgcli.report.sheet import event_tiles
from lsgcli.runs import report
from lsgcli.runs.report import Reporter, Status
from lsgcli.store.rundir import RunDir, write_config
from lsgcli.system import files
from lsgcli.training.evaluate import Evaluation
from tests import tiny
from tests.flows import flow
from tests.unit.report import reading
from tests.unit.report.reading import HOSTILE, Reader
from tests.unit.report.test_axes import blended, contrast

END = {"accuracy": 0.8, "best_chosen_on": "val", "best_epoch": 1, "best_accuracy": 0.75}
BUNDLE = replace(tiny.bundle(), classes=(HOSTILE, "right", "top"))


def evaluation() -> Evaluation:
    """Of 15 samples with labels 0, 1, 2, 0, ... the first and second are wrong, the second with a higher probability."""
    predictions = torch.tensor([1, 2, 2, *[0, 1, 2] * 4])
    labels = torch.from_numpy(BUNDLE.test.y)
    confusion = torch.zeros(3, 3, dtype=torch.int64).index_put_((labels, predictions), torch.tensor(1), accumulate=True)
    probabilities = torch.tensor([0.51, 0.93, *[0.7] * 13])
    return Evaluation(confusion, torch.stack([predictions, probabilities, labels], 1), 0.5, {}, 1.0)


@pytest.fixture
def run(tmp_path):
    """A run of two epochs, with hostile names of classes."""
    facts = {"classes": list(BUNDLE.classes), "samples": BUNDLE.sizes(), "started": "2026-03-04T05:06:07+00:00", "lsg": "1.2.3"}
    lines = [
        {
            "epoch": k,
            "train_loss": 3.0 - k,
            "train_accuracy": 0.5,
            "val_loss": 1.0,
            "val_accuracy": 0.5 + k / 4,
            "seconds": 60.0,
        }
        for k in range(2)
    ]
    with RunDir(tmp_path / "run") as opened:
        write_config(opened, tiny.config(loss="tet", seed=3), facts)
        for line in lines:
            files.append_json_line(opened.metrics_file, {**line, "firing_rate": 0.125})
            layers = [
                {key: layer[key] for key in ("name", "beta", "alpha", "coverage", "firing_rate", "grad_norm")}
                for layer in flow()["layers"]
            ]
            files.append_json_line(opened.gradient_flow_file, {"epoch": line["epoch"], "layers": layers})
        (opened.path / "gradient-flow.json").write_text(json.dumps(flow(findings=[])))
        yield opened


def refreshes(reader):
    return [e[1]["content"] for e in reader.all("meta") if e[1].get("http-equiv") == "refresh"]


def test_a_finished_run(run):
    text = run_page(run.path, Status("finished", END, evaluation(), BUNDLE))
    reader = Reader(text)
    ids = [e[1]["id"] for e in reader.found if "id" in e[1]]
    assert len(ids) == len(set(ids))
    assert {e[1]["href"][1:] for e in reader.all("a")} <= set(ids)
    assert refreshes(reader) == []
    assert len(reader.all("h1")) == 1
    assert len(reader.all("script")) == 2
    assert not [e for e in reader.found if any(key.startswith("on") for key in e[1])]
    assert all(e[1]["src"].startswith("data:image/png;base64,") for e in reader.all("img"))
    assert HOSTILE in reader.text("th")
    assert f"{HOSTILE} as right: 1 of 5" in reader.text("li")
    values = dict(zip(reader.text("dt"), [None] * 99, strict=False)).keys()
    assert {"test accuracy", "validation accuracy", "data set", "versions", "started", "machine"} <= values
    shown = " ".join(reader.text("header"))
    told = ("80.00 %", "75.00 %", "of epoch 2", "2 of 3", "0:02:00 h", "lsg 1.2.3", "2026-03-04T05:06", "--seed 3", "0.125")
    assert [words for words in told if words not in shown] == []
    assert [e[1]["alt"] for e in reader.all("img")][:2] == [
        f"Sample {key}, of class {name}"
        for key, name in zip((BUNDLE.test.keys[1], BUNDLE.test.keys[0]), ("right", HOSTILE), strict=True)
    ]
    picture = Image.open(io.BytesIO(base64.b64decode(reader.all("img")[0][1]["src"].partition(",")[2])))
    tiles = event_tiles(BUNDLE.test.x[1])
    assert len(tiles) > 1
    assert np.array_equal(np.asarray(picture), np.concatenate(tiles))  # of which the page shows one


def test_commands_of_findings_name_the_run(run, tmp_path):
    finding = {
        "rule": "silent", "severity": "error", "layers": [], "measure": "firing_rate", "value": 0.0, "usual": "", "cause": "None.",
        "remedy": {"text": "Lower it.", "settings": {}, "alternative": {}}, "source": "ours", "follows": "",
        "command": "lsg train --config RUN --threshold 0.5",
    }  # fmt: skip
    (run.path / "gradient-flow.json").write_text(json.dumps(flow(findings=[finding])))
    moved = run.path.rename(tmp_path / "my run")
    page = Reader(run_page(moved, Status("finished", END, evaluation(), BUNDLE)))
    assert f"lsg train --config '{moved}' --threshold 0.5" in page.text("pre")


def test_losses_of_different_kinds_have_axes_of_their_own(run):
    charts = Reader(run_page(run.path, Status("stopped"))).text("h3")
    assert charts[:4] == ["Accuracy", "Training loss", "Validation loss", "Firing rate"]
    write_config(run, tiny.config(loss="ce"), {})
    assert Reader(run_page(run.path, Status("stopped"))).text("h3")[:3] == ["Accuracy", "Loss", "Firing rate"]
    write_config(run, tiny.config(loss="ce", label_smoothing=0.1), {})
    assert "Training loss" in Reader(run_page(run.path, Status("stopped"))).text("h3")


def test_states(run):
    running, stopped = (Reader(run_page(run.path, Status(state))) for state in ("running", "stopped"))
    assert (refreshes(running), refreshes(stopped)) == (["10"], [])
    assert "Training." in " ".join(running.text("header"))
    assert f"lsg train --resume {run.path}" in " ".join(stopped.text("header"))
    (run.path / "metrics.jsonl").unlink()
    (run.path / "gradient-flow.jsonl").write_text(json.dumps({**flow(), "event": "diverged", "epoch": 0}) + "\n")
    diverged = Reader(run_page(run.path, Status("diverged", {"diverged": "epoch 1: loss <inf>", "cause": "Try --lr 0.1."})))
    assert refreshes(diverged) == []
    assert "Diverged in epoch 1: loss <inf>." in " ".join(diverged.text("header"))
    assert "Try --lr 0.1." in " ".join(diverged.text("header"))
    assert "curves" not in [e[1].get("id") for e in diverged.all("h2")]
    assert "coverage" in [e[1].get("id") for e in diverged.all("h2")]


def test_a_page_in_progress_is_not_written_at_every_epoch(run, monkeypatch):
    now, states = [100.0], []
    monkeypatch.setattr(report.time, "monotonic", lambda: now[0])
    reporter = Reporter(run, lambda path, status: states.append((now[0], status.state)) or "page")
    for now[0], event in (
        (100.0, "start"),
        (101.0, "step"),
        (104.9, "epoch"),
        (105.0, "step"),
        (106.0, "epoch"),
        (108.0, "epoch"),
    ):
        reporter.follow({"event": event})
    assert states == [(100.0, "running"), (106.0, "running")]
    assert run.report.read_text() == "page"


def test_a_page_that_takes_long_is_written_less_often(run, monkeypatch):
    """At most a twentieth of the time of a run with short epochs."""
    now, begun = [100.0], []

    def page(path, status):
        begun.append(now[0])
        now[0] += 2.0
        return "page"

    monkeypatch.setattr(report.time, "monotonic", lambda: now[0])
    reporter = Reporter(run, page)
    for now[0] in (100.0, 110.0, 141.9, 142.0):
        reporter.follow({"event": "epoch"})
    assert begun == [100.0, 142.0]


def test_a_page_that_cannot_be_written_does_not_end_the_run(run, caplog):
    run.metrics_file.write_text("{\n")
    Reporter(run, run_page).write(Status("running"))
    assert "report.html: is not up to date: " in caplog.text


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_the_larger_a_share_of_a_label_the_more_its_cell_differs_from_the_ground(theme):
    counts = np.diag((2, 60, 110, 160, 180, 190, 198))
    counts += np.roll(np.diag(200 - counts.diagonal()), 1, axis=1)
    drawn = element(heatmaps.confusion(counts.tolist(), list("abcdefg")))
    cells = re.findall(r'fill="(#\w+)"(?: opacity="([\d.]+)")?><title>[^<]*: (\d+) of', drawn)
    assert len(cells) == 14
    differences = {}
    for colour, opacity, count in cells:
        differences[int(count)] = contrast(blended(colour, float(opacity or 1), theme["ground"]), theme["ground"])
    ordered = [differences[count] for count in sorted(differences)]
    assert ordered == sorted(ordered)
    assert ordered[0] > contrast(theme["shade"], theme["ground"])  # of a cell without samples


def test_confusion_matrix():
    counts = [[3, 1, 0], [0, 4, 0], [5, 0, 0]]
    drawn = svg(heatmaps.confusion(counts, ["a <b>", "b", "c"]))
    assert [text for text, _, _ in reading.texts(drawn, "mark-text role-mark")] == ["3", "1", "4", "5"]
    assert len(reading.titled(drawn, "label c, prediction a <b>: 5 of 5")) == 1
    assert pairs(counts, ["a", "b", "c"]) == [("c", "a", 5, 5), ("a", "b", 1, 4)]


def test_confusion_matrix_of_many_classes():
    many = np.eye(100, dtype=int) * 2
    many[7, 93] = 1
    drawn = svg(heatmaps.confusion(many.tolist(), [str(k) for k in range(100)]))
    (ground,) = [placed for placed in reading.elements(drawn, "path") if placed[0].get("fill") == LIGHT["shade"]]
    shades = reading.marks(drawn, "symbol")  # of a third, two thirds, and all of a label's samples
    assert [e.get("d").count("M") for e, _, _ in shades] == [1, 1, 99]
    opacities = [float(e.get("opacity", 1)) for e, _, _ in shades]
    assert opacities == pytest.approx([0.2 + 0.8 / 3, 0.2 + 1.6 / 3, 1], abs=0.06)
    assert {float(e.get("stroke-width")) for e, _, _ in shades} == {6}
    assert reading.points(shades[0])[0] == pytest.approx([ground[1] + 93.5 * 6, ground[2] + 7.5 * 6], abs=0.1)
