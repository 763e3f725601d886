"""Commands that need the facts of a published data set, where its files are not."""

import json

import pytest

# Classes, channels, height and width of the input, samples for training and validation, and for test, with the preset of the data set.
FACTS = {
    "cifar10": (10, (3, 32, 32), (50_000, 10_000)),
    "cifar100": (100, (3, 32, 32), (50_000, 10_000)),
    "cifar-dvs": (10, (2, 48, 48), (9_000, 1_000)),
    "n-mnist": (10, (2, 32, 32), (60_000, 10_000)),
    "dvs-gesture": (11, (2, 48, 48), (1_077, 264)),
    "n-caltech101": (101, (2, 48, 48), (7_800, 909)),  # a tenth of each class, of which 78 have 86 and 23 have 87: 9
    "shd": (20, (1, 1, 140), (8_156, 2_264)),
}
SMALL = ["--arch", "mlp", "-T", "2", "--batch-size", "2", "--width-multiplier", "0.125"]


@pytest.mark.parametrize("name", FACTS)
def test_facts_of_a_published_data_set(lsg, name):
    classes, shape, numbers = FACTS[name]
    layers = json.loads(lsg("show", "--dataset", name, "--width-multiplier", "0.125", "--json", status=0).stdout)["layers"]
    assert layers[-1]["shape"] == [classes]
    result = lsg("train", "--dataset", name, *SMALL, "--dry-run", "--json", status=0)
    cost = json.loads(result.stdout)
    assert cost["data_found"] is False
    assert (cost["input"], cost["output"]) == (inputs(name, shape), [2, 2, classes])
    assert len(set(cost["classes"])) == classes
    samples = cost["samples"]
    held_out = samples.get("val", 0)
    assert (samples["train"] + held_out, samples["test"]) == numbers
    assert held_out == pytest.approx(0 if name == "n-mnist" else numbers[0] / 10, abs=classes / 2)
    assert "found no data" in result.stderr
    assert "random" in result.stderr


def inputs(name, shape):
    return [2, *shape] if name.startswith("cifar1") else [2, 2, *shape]


def test_a_network_of_published_size(lsg):
    layers = json.loads(lsg("show", "--arch", "resnet19", "--dataset", "cifar100", "--json", status=0).stdout)["layers"]
    assert layers[-1]["shape"] == [100]
    words = ["--dataset", "cifar-dvs", "--arch", "vggsnn", "-T", "10", "--width-multiplier", "0.0625", "--batch-size", "2"]
    cost = json.loads(lsg("train", *words, "--dry-run", "--json", status=0).stdout)
    assert (cost["input"], cost["output"]) == ([10, 2, 2, 48, 48], [10, 2, 10])


def test_classes_of_a_library(lsg):
    layers = json.loads(lsg("show", "--dataset", "tonic:DVSLip", "--arch", "mlp", "--json", status=0).stdout)["layers"]
    assert layers[-1]["shape"] == [100]


def test_help_says_what_downloads_no_data(lsg):
    for words in (["show"], ["train"], ["eval"], ["inspect-gradients"], ["export"]):
        assert "Downloads no data" in " ".join(lsg(*words, "--help").stdout.split())
