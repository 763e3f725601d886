"""Evaluation by the folded network: the same answers and firing rates as the network itself gives, which stays as it is."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lsgcli.errors import DivergedError
from lsgcli.system.device import Compute
from lsgcli.training.evaluate import Evaluation, evaluate, measure
from lsgcli.training.initialise import new_model
from tests import tiny

CPU = Compute(torch.device("cpu"))


@pytest.mark.parametrize("changes", [{"arch": "vggsnn"}, {"arch": "resnet19"}, {"arch": "resnet19", "residual": "sew"}])
def test_evaluation_is_that_of_the_network(changes):
    bundle = tiny.bundle()
    model = new_model(tiny.config(**changes), 3, 2)
    x = torch.from_numpy(bundle.test.x).float().transpose(0, 1)
    for _ in range(3):
        model(x)  # running statistics
    before = copy.deepcopy(model.state_dict())
    result = evaluate(model, bundle.test, bundle, CPU, batch_size=len(bundle.test), also=("firing_rate",))
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())

    rates = {}
    for layer in model.eval().spiking_layers():
        layer.lif.register_forward_hook(
            lambda module, arguments, spikes, name=layer.name: rates.update({name: spikes.mean().item()})
        )
    with torch.no_grad():
        mean = model(x).mean(0)
    labels = torch.from_numpy(bundle.test.y)
    assert result.loss == pytest.approx(torch.nn.functional.cross_entropy(mean, labels).item(), rel=1e-3)
    assert int(result.confusion.diagonal().sum()) == int((mean.argmax(1) == labels).sum())
    assert result.firing_rate == pytest.approx(rates, abs=1e-3)
    assert max(rates.values()) > 0.05


def test_scores_by_hand():
    """Of 4 classes, the third is never predicted, and the last has neither samples nor predictions."""
    confusion = torch.tensor([[3, 1, 0, 0], [2, 4, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]])
    result = Evaluation(confusion, torch.zeros(12, 3), 0.5, {}, 1.0)
    assert result.scores() == {
        "precision": [pytest.approx(3 / 6), pytest.approx(4 / 6), 0.0, None],
        "recall": [pytest.approx(3 / 4), pytest.approx(4 / 6), 0.0, None],
        "f1": [pytest.approx(6 / 10), pytest.approx(8 / 12), 0.0, None],
    }
    macro = {"precision": 7 / 18, "recall": 17 / 36, "f1": 19 / 45}
    assert result.averages() == pytest.approx(macro)  # no top-5 accuracy of 4 classes
    record = result.record(("a", "b", "c", "d"))
    assert record["scores"]["f1"] == {"a": pytest.approx(0.6), "b": pytest.approx(2 / 3), "c": 0.0, "d": None}
    assert {name: record[name] for name in macro} == pytest.approx(macro)
    assert record["per_class"] == {"a": 0.75, "b": pytest.approx(2 / 3), "c": 0.0, "d": None}


def test_answers_by_hand():
    """Of equal logits the first class counts, so that a network without spikes has the accuracy of a constant."""
    bundle = replace(tiny.bundle(), classes=tuple(map(str, range(20))))
    part = replace(bundle.test, y=np.array([0, 4, 5, 19, 7, *[1] * 10]))
    logits = torch.zeros(2, 15, 20)
    logits[:, 3, 19] = 2.0  # right
    logits[:, 4, [1, 2, 3, 4, 5]] = 1.0  # label 7 is the 8th
    logits[0, 4, 1] = 3.0  # the mean over timesteps counts
    logits[1, 4, 1] = 0.0
    logits[:, 5:, 2] = 1.0  # label 1 is the third

    answers = iter(logits.split(4, dim=1))
    result = measure(lambda x: next(answers), part, bundle, batch_size=4)
    predictions, probabilities, ranks = result.answers.T.tolist()
    assert predictions == [0, 0, 0, 19, 1, *[2] * 10]
    assert ranks == [0, 4, 5, 0, 7, *[2] * 10]
    e = math.e
    expected = [1 / 20, 1 / 20, 1 / 20, e**2 / (e**2 + 19), e**1.5 / (e**1.5 + 4 * e + 15), *[e / (e + 19)] * 10]
    assert probabilities == pytest.approx(expected, rel=1e-6)
    assert result.accuracy == 2 / 15
    assert result.averages()["top5_accuracy"] == 13 / 15
    shares = [result.answers[rank::4] for rank in range(4)]  # 4, 4, 4 and 3 samples of four processes

    def gather(x):
        """Every process has the same count and sum, as if each had the same samples."""
        if x.shape[1:] != (3,):
            return x[None]
        return torch.stack([F.pad(share, (0, 0, 0, len(shares[0]) - len(share))) for share in shares])

    whole = replace(result, answers=shares[0]).gathered(gather)
    assert torch.equal(whole.answers, result.answers)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_logits_that_are_not_finite_have_no_accuracy(value):
    bundle = tiny.bundle()
    logits = torch.zeros(3, 15, 3)
    logits[1, 7, 2] = value
    result = measure(lambda x: logits, bundle.test, bundle, batch_size=15)
    with pytest.raises(DivergedError, match="logits"):
        result.checked()
