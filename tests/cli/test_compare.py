"""`lsg compare` as a user sees it: what differs between runs, what came out, and which runs have no result."""

import json
import re
import shutil

import pytest


@pytest.fixture(scope="module")
def runs(trained, tmp_path_factory):
    """Five directories: a finished run, its twin with other settings and a higher accuracy, a stopped, a diverged and an empty one."""
    root = tmp_path_factory.mktemp("runs")
    for name in ("one", "other", "stopped", "diverged", "begun"):
        shutil.copytree(trained, root / name)
    change(root / "other" / "config.json", lambda record: record["settings"].update(seed=3, method="fixed"))
    change(root / "other" / "result.json", lambda record: record.update(accuracy=0.875, best_epoch=2))
    change(root / "stopped" / "config.json", lambda record: record["settings"].update(epochs=9))
    for name in ("result.json", "gradient-flow.json"):
        (root / "stopped" / name).unlink()
    flow = json.loads((trained / "gradient-flow.json").read_text())
    flow["layers"][2] |= {"verdict": "exploding", "reason": "grad_ratio nan > 1000", "grad_norm": None}
    with open(root / "diverged" / "gradient-flow.jsonl", "a") as stream:
        stream.write(json.dumps({"event": "diverged", "epoch": 4, "step": 1, **flow, "loss": "inf"}) + "\n")
    (root / "diverged" / "result.json").write_text(json.dumps({"accuracy": None, "diverged": "epoch 4, step 1: loss inf"}))
    for file in (root / "begun").iterdir():
        if file.name != "config.json":
            file.unlink()
    return root


def change(file, how):
    record = json.loads(file.read_text())
    how(record)
    file.write_text(json.dumps(record))


def test_json(lsg, runs, trained):
    record = json.loads(lsg("compare", runs / "one" / "best.safetensors", runs / "other", "--json").stdout)
    assert record["settings"] == {"method": ["lsg", "fixed"], "seed": [0, 3]}
    one, other = record["runs"]
    expected = json.loads((trained / "result.json").read_text())
    assert (one["path"], one["state"], one["epochs"], one["of"]) == (str(runs / "one"), "finished", 4, 4)
    assert (one["accuracy"], other["accuracy"]) == (expected["accuracy"], 0.875)
    layers = json.loads((trained / "gradient-flow.json").read_text())["layers"]
    assert [layer["grad_norm"] for layer in one["layers"]] == [layer["grad_norm"] for layer in layers]
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert one["seconds"] == pytest.approx(sum(line["seconds"] for line in lines))
    assert one["train_loss"] == lines[-1]["train_loss"]


def test_runs_without_a_result_are_shown_as_such(lsg, runs):
    names = ("begun", "diverged", "one", "other", "stopped")  # as the folder has them
    record = json.loads(lsg("compare", runs, "--json").stdout)
    assert [run["path"] for run in record["runs"]] == [str(runs / name) for name in names]
    states = [(run["state"], run["epochs"], run["accuracy"] is not None) for run in record["runs"]]
    assert states == [
        ("stopped", 0, False),
        ("diverged", 4, False),
        ("finished", 4, True),
        ("finished", 4, True),
        ("stopped", 4, False),
    ]
    last = json.loads((runs / "stopped" / "gradient-flow.jsonl").read_text().splitlines()[-1])
    assert record["runs"][4]["layers"] == last["layers"]
    told = lsg("compare", runs).stdout
    assert f"B = {runs / 'diverged'}: diverged after 4 of 4 epochs: epoch 4, step 1: loss inf" in told
    assert "stopped after 4 of 9 epochs" in told
    assert "B: exploding: conv3 (grad_ratio nan > 1000)" in told
    (row,) = [line.split("  ") for line in told.splitlines() if line.startswith("conv3 ")]
    assert [" !" in cell for cell in row if cell.strip()] == [False, False, True, False, False, False]


def test_seeds_share_a_column(lsg, runs, tmp_path):
    """Mean and standard deviation by hand; a repetition of a seed, other settings and a run without a result are not among them."""
    for name, seed, accuracy in (("a", 0, 0.5), ("b", 1, 0.7), ("c", 2, 0.9), ("d", 2, 0.1), ("e", 7, None)):
        run = shutil.copytree(runs / "one", tmp_path / name)
        change(run / "config.json", lambda record, seed=seed: record["settings"].update(seed=seed, workers=seed))
        change(run / "result.json", lambda record, accuracy=accuracy: record.update(accuracy=accuracy))
    (tmp_path / "e" / "result.json").unlink()
    paths = [*(tmp_path / name for name in "abcde"), runs / "other"]
    record = json.loads(lsg("compare", *paths, "--json").stdout)
    assert record["groups"] == [
        {"runs": [0, 1, 2, 4], "seeds": [0, 1, 2, 7], "mean": pytest.approx(0.7), "std": pytest.approx(0.2), "n": 3},
        {"runs": [3], "seeds": [2], "mean": 0.1, "std": None, "n": 1},
        {"runs": [5], "seeds": [3], "mean": 0.875, "std": None, "n": 1},
    ]
    assert len(record["runs"]) == len(record["settings"]["seed"]) == 6
    told = lsg("compare", *paths, "--html", tmp_path / "page.html").stdout
    assert f"A4 = {tmp_path / 'e'}: stopped after 4 of 4 epochs" in told
    assert f"B = {tmp_path / 'd'}: finished" in told
    rows = [re.split(" {2,}", line.strip()) for line in told.splitlines()]
    assert ["test accuracy", "0.7000 +- 0.2000 (n 3)", "0.1000", "0.8750"] in rows
    assert ["seed", "0, 1, 2, 7", "2", "3"] in rows
    assert "0.7000 +- 0.2000 (n 3)" in (tmp_path / "page.html").read_text()


def test_page(lsg, runs, tmp_path):
    page = tmp_path / "page.html"
    command = ("compare", runs, "--html", page, "-q")
    assert lsg(*command).exit_code == 0
    text = page.read_text()
    assert "http" not in text.replace("http-equiv", "")
    assert "diverged after 4 of 4 epochs" in text
    assert text.count("<figure") > 6
    assert "<td>fixed</td>" in text  # a setting that differs
    refused = lsg(*command)
    assert refused.stderr.startswith(f"error: --html {page}: the file exists")
    assert refused.exit_code == 2
    assert lsg("compare", runs / "one", "--html", runs / "one" / "report.html", "--force").exit_code == 2


def test_files_of_an_ablation_among_the_runs_are_skipped(lsg, runs, tmp_path):
    """``lsg compare runs/*/* --html runs.html`` of README.md, once `lsg ablate` and `lsg tune` have written below runs/."""
    shutil.copytree(runs / "one", tmp_path / "runs" / "digits" / "one")
    shutil.copytree(runs / "other", tmp_path / "runs" / "ablate-x" / "method=fixed" / "s0")
    (tmp_path / "runs" / "ablate-x" / "ablation.json").write_text("{}")
    (tmp_path / "runs" / "ablate-x" / "jobs").mkdir()
    (tmp_path / "runs" / "ablate-x" / "jobs" / "method=fixed-s0.log").touch()
    paths = sorted((tmp_path / "runs").glob("*/*"))
    result = lsg("compare", *paths, "--html", tmp_path / "runs.html", status=0)
    first, second = (tmp_path / "runs" / "ablate-x" / name for name in ("ablation.json", "jobs"))
    assert f"Skipped, not runs: {first}, {second}" in result.stderr
    assert (tmp_path / "runs.html").exists()
    assert [line for line in result.stdout.splitlines() if line.startswith(("A = ", "B = ", "C = "))] == [
        f"A = {tmp_path / 'runs' / 'ablate-x' / 'method=fixed' / 's0'}: finished",
        f"B = {tmp_path / 'runs' / 'digits' / 'one'}: finished",
    ]


def test_runs_of_other_folds_share_a_column(lsg, runs, tmp_path):
    """Seeds 0 and 3 on two folds each: one column of four runs. Fold 1 of 3 is of another experiment."""
    for name, seed, fold in (("a", 0, "1/2"), ("b", 0, "2/2"), ("c", 3, "1/2"), ("d", 3, "2/2"), ("e", 0, "1/3")):
        shutil.copytree(runs / "one", tmp_path / "folds" / name)
        change(tmp_path / "folds" / name / "config.json", lambda one: one["settings"].update(seed=seed, split=None, fold=fold))  # noqa: B023
    record = json.loads(lsg("compare", tmp_path / "folds", "--json").stdout)
    assert [(group["runs"], group["seeds"], group["n"]) for group in record["groups"]] == [
        ([0, 1, 2, 3], [0, 0, 3, 3], 4),
        ([4], [0], 1),
    ]
    assert [run["fold"] for run in map(json.loads, lsg("runs", tmp_path, "--json").stdout.splitlines())][:2] == ["1/2", "2/2"]


def test_validation_accuracy_of_runs_without_a_test_accuracy(lsg, runs, tmp_path):
    """Stopped runs, and those of `lsg tune`, which has no test part."""
    for name, state in (("stopped", False), ("tuned", True)):
        run = shutil.copytree(runs / "one", tmp_path / name)
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        for line, accuracy in zip(lines, (0.25, 0.75, 0.5, 0.625), strict=True):
            line["val_accuracy"] = accuracy
        (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        untested = {"accuracy": None, "test_accuracy_last": None, "test_accuracy_best": None}
        (run / "result.json").write_text(json.dumps({**json.loads((run / "result.json").read_text()), **untested}))
        if not state:
            (run / "result.json").unlink()
    record = json.loads(lsg("compare", tmp_path / "stopped", tmp_path / "tuned", "--json").stdout)
    assert [(run["val_accuracy"], run["best_val_accuracy"]) for run in record["runs"]] == [(0.625, 0.75)] * 2
    table = [line.split() for line in lsg("compare", tmp_path / "stopped", tmp_path / "tuned").stdout.splitlines()]
    assert ["val", "accuracy", "0.6250", "0.6250"] in table
    assert ["of", "best", "epoch", "0.7500", "0.7500"] in table
    assert not any(words[:2] == ["test", "accuracy"] for words in table)


def test_a_page_of_many_runs(lsg, runs, tmp_path):
    """Gradient flow of a few runs, the first of each column before others, and which they are; results of all."""
    many = tmp_path / "many"
    for number in range(30):
        copy = many / f"run{number:02}"
        shutil.copytree(runs / "one", copy, ignore=shutil.ignore_patterns("*.safetensors", "report.html"))
        change(copy / "config.json", lambda record, k=number: record["settings"].update(seed=k, lr=0.01 * (1 + k // 6)))
    lsg("compare", many, "--html", tmp_path / "page.html", "-q", status=0)
    text = (tmp_path / "page.html").read_text()
    full = ["A1", "A2", "A3", "B1", "B2", "B3", "C1", "C2", "D1", "D2", "E1", "E2"]
    assert re.findall(r"<h2[^>]*>([A-E]\d)</h2>", text) == full
    assert f"Of {', '.join(full)}, 12 of 30 runs" in text
    assert all(f"{many}/run{number:02}: finished" in text for number in range(30))
    assert len(re.findall(r"n 6\)</td>", text)) >= 5
    few = tmp_path / "few.html"
    lsg("compare", *[many / f"run{number:02}" for number in range(12)], "--html", few, "-q", status=0)
    assert "12 of 12 runs" not in few.read_text()
    assert len(re.findall(r"<h2[^>]*>[A-E]\d</h2>", few.read_text())) == 12
