"""What was seen of a training, kept as JSON and read again."""

import json
import math
from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import lsgcli as lsg
from lsgcli.analysis.watch.lines import Line, Operand
from lsgcli.analysis.watch.recorded import pack, record_of, seen_of, unpack
from lsgcli.analysis.watch.seen import Failure, Neurons, Outputs, Seen
from lsgcli.analysis.watch.watch import Watch
from lsgcli.errors import ConfigError
from lsgcli.runs import script


def through_json(value):
    return unpack(json.loads(json.dumps(pack(value))))


VALUES = [
    None,
    True,
    3,
    -1.5,
    math.inf,
    "text",
    (1, (2.0, None)),
    {1, 2},
    {"a": 1, (1, None): [2, {"b": ()}]},
    Counter({True: 3, False: 1}),
    Line("a.py", 3),
    Operand("x", "float32", (2, 3), 0.0, math.inf),
    Failure("ValueError", "found 1"),
    torch.Size([2, 3]),
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_come_back(value):
    found = through_json(value)
    assert found == value
    assert type(found) is (tuple if isinstance(value, torch.Size) else type(value))


def test_arrays_come_back():
    for tensor in (torch.randn(3, 2), torch.arange(4), torch.tensor([True, False]), torch.zeros(0, 3), torch.tensor(math.nan)):
        found = through_json(tensor)
        assert found.dtype == tensor.dtype
        torch.testing.assert_close(found, tensor, equal_nan=True)
    assert np.array_equal(through_json(np.arange(3.0)), np.arange(3.0))
    assert math.isnan(through_json(math.nan))
    torch.testing.assert_close(through_json(torch.ones(2, dtype=torch.bfloat16)), torch.ones(2))
    layer = through_json(Neurons("lif1", Line("a.py", 1), nn.Parameter(torch.ones(2)), calls=2, arriving={0: 1.0}))
    assert (layer.name, layer.weight, layer.arriving) == ("lif1", None, {0: 1.0})
    outputs = through_json(Outputs("mse_loss", torch.ones(2, 1), torch.zeros(2, 1), targets=torch.zeros(2, 1)))
    assert torch.equal(outputs.values, torch.ones(2, 1))


def test_a_training_is_judged_again(tmp_path):
    """Findings, layers and numbers are those of the training itself, by the same limits and by others."""
    net = nn.Sequential(nn.Linear(6, 30), lsg.LIF(threshold=30.0), nn.Linear(30, 3))
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    with Watch() as watch:
        for _ in range(12):
            loss = F.cross_entropy(net(torch.randn(4, 12, 6)).mean(0), torch.arange(12) % 3)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    path = tmp_path / "seen.json"
    path.write_text(json.dumps(record_of(watch.seen)))
    for limits in ({}, {"silent": 0.0}):
        expected = script.record_of(watch.seen, limits, [str(path)])
        found = script.judged(path, limits).record
        assert found == expected
    assert "silent" in {finding["rule"] for finding in script.judged(path).record["findings"]}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"schema": "lsg.diagnosis/1"}, "expected lsg.seen/1"),
        ({"schema": "lsg.seen/1", "files": {}, "seen": {"os.system": ["true"]}}, "cannot be read"),
        ({"schema": "lsg.seen/1", "files": {}, "seen": {"Seen": {"stepped": 3}}}, "cannot be read"),
        (
            {"schema": "lsg.seen/1", "files": {}, "seen": {"tensor": {"dtype": "object", "shape": [1], "data": ""}}},
            "cannot be read",
        ),
        ({"schema": "lsg.seen/1", "files": {}, "seen": [1]}, "something else"),
    ],
)
def test_other_records_are_refused(record, message):
    with pytest.raises(ConfigError, match=message):
        seen_of(record)


def test_nothing_is_seen():
    assert pack(seen_of(record_of(Seen()))) == pack(Seen())  # some fields are NaN
