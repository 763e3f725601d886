"""A NIR file of another program in every command that takes a checkpoint, and what a command says where it lacks something."""

import json

import nir
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from tests.unit.store.test_nir import affine, flatten, neurons, written

SIZE, T = 8, 4


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Options for ten classes of recordings, of which 20 are the test part."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(2)
    for part, count in (("train", 4), ("test", 2)):
        for label in range(10):
            (root / part / str(label)).mkdir(parents=True)
            for i in range(count):
                events = {"x": rng.integers(0, SIZE, 300), "y": rng.integers(0, SIZE, 300), "p": rng.integers(0, 2, 300)}
                np.savez(root / part / str(label) / f"{i}.npz", t=np.arange(300), sensor=(SIZE, SIZE), **events)
    return ("--dataset", "event-folder", "--data-dir", root, "-T", T)


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    """conv, LIF, pool, linear, LIF, for 2 x 8 x 8 and ten classes."""
    rng = np.random.default_rng(0)
    nodes = {
        "conv": nir.Conv2d((SIZE, SIZE), rng.normal(size=(4, 2, 3, 3)), 1, 1, 1, 1, rng.normal(size=4)),
        "lif": neurons(4, SIZE, SIZE),
        "pool": nir.AvgPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])),
        "flatten": flatten(4, 4, 4),
        "fc": affine(64, 10),
        "out": neurons(10),
    }
    ends = {"input": nir.Input(np.array((2, SIZE, SIZE))), "output": nir.Output(np.array([10]))}
    return written(tmp_path_factory.mktemp("graph") / "net.nir", nodes, **ends)


@pytest.fixture
def recording(tmp_path):
    rng = np.random.default_rng(1)
    values = {"x": rng.integers(0, 32, 3000), "y": rng.integers(0, 32, 3000), "p": rng.integers(0, 2, 3000)}
    np.savez(tmp_path / "a.npz", t=np.sort(rng.integers(0, 10**5, 3000)), **values)
    return tmp_path / "a.npz"


def test_eval_and_inspect(lsg, graph, data):
    """Accuracy, rates and energy per layer of the file, and its gradient flow; names are those of its nodes."""
    record = json.loads(lsg("eval", graph, *data, "--synops", "--time-test", "--json").stdout)
    assert list(record["firing_rate"]) == ["lif", "out"]
    assert record["time_test"]["accuracy"] == record["accuracy"]
    assert list(record["time_test"]["frames"]) == ["random", "reversed", "mean"]
    assert 0.01 < record["firing_rate"]["lif"] < 0.99
    assert [layer["input"] for layer in record["synops"]["layers"]] == ["events", "averages"]
    flow = json.loads(lsg("inspect-gradients", graph, *data, "--json").stdout)
    assert [layer["name"] for layer in flow["layers"]] == ["lif", "out"]
    assert [layer["beta"] for layer in flow["layers"]] == pytest.approx([2 / 3, 2 / 3])
    assert all(layer["grad_norm"] > 0 for layer in flow["layers"])


def test_predict(lsg, graph, recording):
    """The logits are the spikes of the last neurons."""
    result = json.loads(lsg("predict", graph, recording, "--dataset", "digits-dvs", "-T", T, "--json", "--logits").stdout)
    assert np.shape(result["logits"]) == (T, 10)
    assert set(np.ravel(result["logits"])) <= {0, 1}


def test_train_from_it(lsg, graph, data, tmp_path):
    """Weights, decays and thresholds are taken; training changes them; the run needs the file no more, and its checkpoint every command takes."""
    copied = tmp_path / "net.nir"
    copied.write_bytes(graph.read_bytes())
    arguments = (*data, "--size", SIZE, "--batch-size", 8)
    result = lsg("train", "--init-from", copied, *arguments, "--epochs", 1, "--out", "run", status=0)
    assert "initialised 6 tensors" in result.stderr
    settings = json.loads((tmp_path / "run" / "config.json").read_text())["settings"]
    assert settings["arch"] == "nir"
    copied.unlink()
    result = lsg("train", "--resume", "run", "--epochs", 2, status=0)
    path = tmp_path / "run" / "best.safetensors"
    weights = load_file(path)
    assert not np.allclose(weights["layers.0.weight"], nir.read(graph).nodes["conv"].weight)
    trained = json.loads(lsg("eval", path, "--json").stdout)
    assert lsg("export", path, "-o", "again.nir", "--verify", 32).exit_code == 0
    again = json.loads(lsg("eval", "again.nir", *data[2:4], "--json").stdout)
    assert again["accuracy"] == pytest.approx(trained["accuracy"], abs=1.01 / 20)  # a tie may change a prediction
    result = lsg("train", "--init-from", path, "--arch", "nir", *arguments, "--epochs", 1, "--out", "further", status=0)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["eval"], 2, "found a NIR graph without --dataset and -T, expected both"),
        (["inspect-gradients", "-T", "4"], 2, "found a NIR graph without --dataset, expected both"),
        (["eval", "--dataset", "digits", "-T", "4"], 2, "found an input of shape"),
        (
            ["eval", "--dataset", "digits-dvs", "-T", "4", "--data-dir", "x"],
            2,
            "--data-dir: found 'x', which has no effect here",
        ),
    ],
)
def test_lacking(lsg, graph, arguments, status, message):
    result = lsg(arguments[0], graph, *arguments[1:])
    assert (result.exit_code, result.stdout) == (status, "")
    assert message in result.stderr


def test_sizes_and_settings(lsg, graph, data, tmp_path):
    """Another size, settings that the file gives, classes of another number, a file that lsg cannot express."""
    train = ("train", "--init-from", graph, "--dataset", "digits-dvs", "--epochs", 1)
    for options, message in (
        ((), "Use --size 8."),
        (("--size", SIZE, "--threshold", 2), "--threshold: found 2.0"),
        (("--size", SIZE, "--arch", "mlp"), "expected mlp"),
    ):
        result = lsg(*train, *options)
        assert result.exit_code in (2, 4)
        assert message in result.stderr
    assert not list(tmp_path.glob("runs/*"))
    result = lsg("train", "--arch", "nir", "--dataset", "digits-dvs", status=2)
    assert "--init-from FILE.nir" in result.stderr
    two = {"fc": affine(2 * SIZE * SIZE, 2), "lif": neurons(2)}
    path = written(tmp_path / "two.nir", two, input=nir.Input(np.array([2 * SIZE * SIZE])))
    result = lsg("eval", path, *data, status=3)
    assert "found 10 classes, expected 2" in result.stderr
    leaky = {"fc": affine(128, 10), "lif": neurons(10), "li": nir.LI(np.ones(10), np.ones(10), np.zeros(10))}
    result = lsg("eval", written(tmp_path / "li.nir", leaky), *data, status=4)
    assert "li.nir: li: found a node LI" in result.stderr


def test_in_python(graph, data):
    import lsgcli

    network = lsgcli.load(graph)
    assert network(torch.zeros(3, 1, 2, SIZE, SIZE)).shape == (3, 1, 10)
    assert lsgcli.evaluate(graph, dataset="event-folder", data_dir=str(data[3]), T=T).samples == 20
