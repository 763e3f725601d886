"""`import lsgcli as lsg`: the same results as the commands."""

import dataclasses
import json
import pydoc
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

import lsgcli
from lsgcli.config.run import option_words
from lsgcli.errors import ConfigError, DataError
from lsgcli.system.files import json_text
from tests.tiny import PRECISION


def test_each_public_name_has_documentation():
    page = pydoc.render_doc(lsgcli, renderer=pydoc.plaintext)
    for name in lsgcli.__all__:
        assert f"``{name}``" in lsgcli.__doc__
        assert getattr(lsgcli, name).__doc__, name
        assert name in page
    assert set(lsgcli.__all__) <= set(dir(lsgcli))
    with pytest.raises(AttributeError, match="has no attribute 'optimise'"):
        lsgcli.optimise  # noqa: B018


def test_results_are_those_of_the_commands(lsg, trained, images):
    checkpoint = trained / "best.safetensors"
    shown = json.loads(lsg("eval", checkpoint, "--data-dir", images, "--json").stdout)
    result = lsgcli.evaluate(checkpoint, data_dir=str(images))
    assert result.accuracy == shown["accuracy"]
    assert result.firing_rate == pytest.approx(shown["firing_rate"])
    flow = json.loads(lsg("inspect-gradients", checkpoint, "--data-dir", images, "--json", "--batches", "2").stdout)
    assert lsgcli.inspect(checkpoint, 2, data_dir=str(images))["layers"] == flow["layers"]


def test_a_network_and_prepared_data(trained, images):
    network = lsgcli.load(trained / "best.safetensors")
    data = lsgcli.prepare("image-folder", data_dir=str(images), size=16, val_fraction=0.25)
    result = lsgcli.evaluate(network, data, "val")
    x = (torch.from_numpy(data.val.x[:]).float() / 255 - torch.tensor(data.mean).view(3, 1, 1)) / torch.tensor(data.std).view(
        3, 1, 1
    )
    with torch.inference_mode():
        right = network(x).mean(0).argmax(1) == torch.from_numpy(data.val.y)
    assert result.accuracy == right.double().mean().item()
    stream = lsgcli.batches(data, data.train, 8, seed=0, shuffle=True)
    assert len(lsgcli.inspect(network, [next(iter(stream))])["layers"]) == 8


class Own(torch.nn.Module):
    """A network of nobody's library: images (B, C, H, W) -> logits (B, classes), or (T, B, classes) of equal mean."""

    def __init__(self, steps):
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.9), torch.nn.Linear(3 * 16 * 16, 3))
        self.steps = steps

    def forward(self, x):
        logits = self.layers(x)
        return torch.stack([logits - 1, logits + 1]) if self.steps else logits


@pytest.mark.parametrize("steps", [False, True])
def test_any_module_is_evaluated(images, steps):
    """As in evaluation mode, and its mode stays."""
    data = lsgcli.prepare("image-folder", data_dir=str(images), size=16, val_fraction=0.25)
    own = Own(steps)
    result = lsgcli.evaluate(own, data, "test", batch_size=5)
    assert own.training
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (data.mean, data.std))
    x = (torch.tensor(data.test.x[:]).float() / 255 - mean) / std
    labels = torch.from_numpy(data.test.y)
    with torch.inference_mode():
        logits = own.layers[2](x.flatten(1))
    assert result.accuracy == (logits.argmax(1) == labels).double().mean().item()
    assert result.loss == pytest.approx(torch.nn.functional.cross_entropy(logits, labels).item(), rel=1e-5)
    assert result.firing_rate == {}


def test_outputs_that_are_no_logits_are_refused(images):
    data = lsgcli.prepare("image-folder", data_dir=str(images), size=16, val_fraction=0.25)

    class Pair(Own):
        def forward(self, x):
            return super().forward(x), x

    with pytest.raises(ConfigError, match=r"outputs of Pair: found tuple, expected logits \(T, B, 3\) or \(B, 3\)"):
        lsgcli.evaluate(Pair(False), data)
    with pytest.raises(ConfigError, match=r"outputs of Flatten: found \(18, 768\), expected logits"):
        lsgcli.evaluate(torch.nn.Flatten(), data)


def test_a_network_with_other_outputs_than_classes(images):
    data = lsgcli.prepare("image-folder", data_dir=str(images), size=16, val_fraction=0.25)
    network = lsgcli.build("vggsnn", T=1, width_multiplier=0.03125, input_size=16, in_channels=3, num_classes=12)
    with pytest.raises(DataError, match="found 3 classes, expected 12"):
        lsgcli.evaluate(network, data, "val")


def test_a_checkpoint_and_prepared_data(trained, images, monkeypatch):
    """The checkpoint's own data are not looked for; the images are normalised as in training."""
    checkpoint = trained / "best.safetensors"
    own = lsgcli.evaluate(checkpoint, data_dir=str(images))
    data = lsgcli.prepare("image-folder", ("test",), data_dir=str(images), size=16)
    assert data.mean is None
    monkeypatch.setattr("lsgcli.runs.open.prepare", pytest.fail)
    result = lsgcli.evaluate(checkpoint, data)
    assert (result.loss, result.accuracy) == (own.loss, own.accuracy)
    other = dataclasses.replace(data, classes=("cat", *data.classes))
    with pytest.raises(DataError, match="data: found classes cat"):
        lsgcli.evaluate(checkpoint, other)
    with pytest.raises(ConfigError, match="found data and data_dir"):
        lsgcli.evaluate(checkpoint, data, data_dir=str(images))


def test_training(tmp_path, trained, images, capfd):
    """The same settings give the same bits and progress as the command; a second call finds the run."""
    settings = {"T": 2, "size": 16, "width_multiplier": 0.03125, "batch_size": 8, "arch": "vggsnn"}
    seen = []
    end = lsgcli.train(
        tmp_path / "run",
        dataset="image-folder",
        data_dir=str(images),
        epochs=4,
        on_record=seen.append,
        precision=PRECISION,
        **settings,
    )
    assert end["accuracy"] == json.loads((trained / "result.json").read_text())["accuracy"]
    assert [record["epoch"] for record in seen if record["event"] == "epoch"] == [0, 1, 2, 3]
    losses = [
        [json.loads(line)["train_loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]
        for run in (tmp_path / "run", trained)
    ]
    assert losses[0] == losses[1]
    assert "epoch   4/4" in capfd.readouterr().err
    lsgcli.train(tmp_path / "quiet", dataset="image-folder", data_dir=str(images), epochs=1, quiet=True, **settings)
    assert capfd.readouterr().err == ""
    with pytest.raises(lsgcli.LsgError, match="already contains a run"):
        lsgcli.train(tmp_path / "run", dataset="image-folder", data_dir=str(images), epochs=4, **settings)


def plain(record):
    """A record as it is read from JSON."""
    return json.loads(json_text(record))


TINY = {"arch": "mlp", "T": 2, "size": 16, "width_multiplier": 0.25, "epochs": 1, "batch_size": 8}


def test_an_ablation_is_that_of_the_command(lsg, images, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("LSG_LR", "0.3")  # which is not read
    settings = {**TINY, "dataset": "image-folder", "data_dir": str(images), "precision": PRECISION}
    found = lsgcli.ablate(
        {"method": ["fixed", "lsg"], "width": [0.5, 1]}, seeds=[0, 1], out=tmp_path / "abl", margin=2, **settings
    )
    assert "[0 of 6 runs done] method=fixed-width=0.5, seed 0\n" in capfd.readouterr().err
    assert [row["label"] for row in found["rows"]] == ["fixed, width 0.5", "fixed, width 1", "lsg"]
    assert [row["n"] for row in found["rows"]] == [2, 2, 2]
    assert json.loads((tmp_path / "abl" / "method=lsg" / "s0" / "config.json").read_text())["settings"]["lr"] != 0.3
    axes = {"method": "fixed,lsg", "width": "0.5,1"}
    assert lsgcli.ablate(axes, seeds="0-1", out="abl", margin=2, quiet=True, **settings) == found
    assert capfd.readouterr().err == ""
    monkeypatch.delenv("LSG_LR")
    assert plain(found) == json.loads(lsg("ablate", "--collect", "abl", "--margin", "2", "--json").stdout)


def test_a_comparison_is_that_of_the_command(lsg, trained):
    assert plain(lsgcli.compare(trained)) == json.loads(lsg("compare", trained, "--json").stdout)
    assert lsgcli.compare(str(trained), trained / "best.safetensors") == lsgcli.compare(trained)


def test_an_export_is_that_of_the_command(lsg, trained, images, tmp_path):
    record = lsgcli.export(trained, "call.safetensors", quantize="int8", verify=4, data_dir=str(images))
    with pytest.raises(ConfigError, match="the file exists"):
        lsgcli.export(trained, "call.safetensors")
    with pytest.raises(ConfigError, match="data_dir: found without verify"):
        lsgcli.export(trained, "other.safetensors", data_dir=str(images))
    with pytest.raises(ConfigError, match="found quantise, expected options among mode, dt, fold_bn, quantize"):
        lsgcli.export(trained, "other.safetensors", quantise="int8")
    words = ("--quantize", "int8", "--verify", "4", "--data-dir", images, "-o", "command.safetensors", "--json")
    assert plain(record) == json.loads(lsg("export", trained, *words).stdout) | {"path": "call.safetensors"}
    ours, theirs = (load_file(tmp_path / f"{name}.safetensors") for name in ("call", "command"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_a_search_is_that_of_the_command(lsg, images):
    settings = {**TINY, "dataset": "image-folder", "data_dir": str(images), "val_fraction": 0.2, "precision": PRECISION}
    found = lsgcli.tune({"method": ["lsg", "fixed"], "lr": "log:1e-3:0.3"}, trials=2, out="tuned", quiet=True, **settings)
    assert [trial["state"] for trial in found["trials"]] == ["finished"] * 2
    options = [word for name, value in settings.items() for word in option_words(name, value)]
    command = ["tune", *options, "--search", "method=lsg,fixed", "lr=log:1e-3:0.3", "--trials", "2", "--out", "tuned", "--json"]
    assert plain(found) == json.loads(lsg(*command, "-q", status=0).stdout)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda net, run: lsgcli.train(epohcs=2), "unknown setting 'epohcs': did you mean epochs"),
        (lambda net, run: lsgcli.evaluate(net), "found a network with no data"),
        (lambda net, run: lsgcli.evaluate(torch.nn.Linear(2, 2)), "found a network with no data"),
        (lambda net, run: lsgcli.evaluate(lambda x: x), "found function, expected a checkpoint"),
        (lambda net, run: lsgcli.inspect(net), "found 4, expected mini-batches"),
        (lambda net, run: lsgcli.inspect(run / "best.safetensors", []), "found mini-batches, expected their number"),
    ],
)
def test_wrong_arguments(call, message, trained):
    with pytest.raises(ConfigError, match=message):
        call(lsgcli.load(trained / "best.safetensors"), trained)


@pytest.mark.slow
def test_a_script_without_a_guard_prepares_data(tmp_path, images):
    """multiprocessing runs the script again in each worker, which must not wait there for its parent."""
    (tmp_path / "script.py").write_text(
        "import lsgcli as lsg\n"
        "from lsgcli.data import parallel\n"
        "parallel.PROBE = parallel.WORTH = parallel.BUSY = -1.0\n"
        f"print(len(lsg.prepare('image-folder', data_dir={str(images)!r}, size=16, workers=2, val_fraction=0).train))\n"
    )
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert done.stdout == "48\n", done.stderr
    assert "continuing in one process. A script needs `if __name__" in done.stderr
