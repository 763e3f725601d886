"""One name for each result, in all files and JSON; former names stay beside it."""

import json

from lsgcli.config.run import FIELDS
from lsgcli.store.names import FORMER, MEANINGS, canonical


def outputs(lsg, run, images, lines):
    """A record of each output, by its name."""
    return {
        "result.json": json.loads((run / "result.json").read_text()),
        "metrics.jsonl": lines((run / "metrics.jsonl").read_text())[-1],
        "eval": json.loads(lsg("eval", run / "best.safetensors", "--data-dir", images, "--json").stdout),
        "runs": json.loads(lsg("runs", run, "--json").stdout),
        "compare": json.loads(lsg("compare", run, "--json").stdout)["runs"][0],
        "show": json.loads(lsg("show", run, "--json").stdout),
    }


def test_each_field_has_a_meaning(lsg, trained, images, lines):
    found = outputs(lsg, trained, images, lines)
    del found["show"]  # of a network, with settings
    names = {name for several in MEANINGS for name in several.split(", ")}
    for output, record in found.items():
        described = {*names, *FORMER.get(output, {}), *FIELDS}
        assert record.keys() - described == set(), output
    assert {name for former in FORMER.values() for name in former.values()} <= names


def test_former_names_stay_beside_those_of_today(lsg, trained, images, lines):
    found = outputs(lsg, trained, images, lines)
    for output, record in found.items():
        for former, name in FORMER.get(output, {}).items():
            if former in record:
                assert record[name] == record[former], (output, former)
    for layer in found["show"]["layers"][:-1]:
        assert (layer["beta"], layer["alpha"]) == (layer["decay"], layer["width"])
    result, runs, compared = (found[name] for name in ("result.json", "runs", "compare"))
    metrics = lines((trained / "metrics.jsonl").read_text())
    best = max(line["val_accuracy"] for line in metrics)
    assert result["val_accuracy_best"] == runs["val_accuracy_best"] == compared["val_accuracy_best"] == best
    assert compared["val_accuracy_last"] == metrics[-1]["val_accuracy"]
    assert result["accuracy"] == runs["accuracy"] == compared["accuracy"]
    for record in (result, runs, compared):
        assert (record["epochs_done"], record["epochs_planned"]) == (4, 4)
    assert compared["precision"] in ("fp32", "bf16")  # of the computation
    assert result["macro_precision"] == found["eval"]["macro_precision"]
    assert found["show"]["macs_per_sample"] == sum(layer["macs_per_sample"] for layer in found["show"]["layers"])


def test_runs_are_selected_by_both_names(lsg, trained):
    for condition in ("val_accuracy_best > 0", "val_accuracy > 0", "epochs_done = 4", "epoch = 4", "accuracy >= 0"):
        assert lsg("runs", trained, "--where", condition, "--sort", "epochs_planned", status=0).stdout.strip(), condition
        assert not lsg(
            "runs", trained, "--where", condition.replace("> 0", "> 1.1").replace("= 4", "= 5").replace(">= 0", "> 2")
        ).stdout


def test_a_highest_test_accuracy_is_not_that_of_the_best_epoch(lsg, train, tmp_path):
    train("--epochs", "2", "--val-fraction", "0.3", "--test-every-epoch", "--out", "run", "-q", status=0)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert result["test_accuracy_highest"] == max(line["test_accuracy"] for line in lines) == result["best_test_accuracy"]
    assert result["val_accuracy_best"] == result["best_accuracy"] == max(line["val_accuracy"] for line in lines)


def test_without_a_validation_split_no_accuracy_is_called_one(train, tmp_path):
    train("--epochs", "1", "--val-fraction", "0", "--out", "run", "-q", status=0)
    assert "val_accuracy_best" not in json.loads((tmp_path / "run" / "result.json").read_text())


def test_canonical_keeps_what_is_there():
    assert canonical({"of": 3, "epochs": 1, "x": None}, "compare") == {
        **{"of": 3, "epochs": 1, "x": None},
        **{"epochs_planned": 3, "epochs_done": 1},
    }
