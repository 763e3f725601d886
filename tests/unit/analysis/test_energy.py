"""Synaptic operations: against counting every synapse one by one, and against numbers worked out by hand."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from lsgcli.analysis.energy import Arrived, SynapticOperations, energy, synops
from lsgcli.data.batches import batches
from lsgcli.models.fold import fold
from lsgcli.neurons import LIF
from lsgcli.system.device import Compute
from lsgcli.training.evaluate import evaluate
from lsgcli.training.initialise import new_model
from tests import tiny
from tests.unit.analysis.recording import recorded
from tests.unit.models.helpers import SMALL, image, sequence, small

CPU = Compute(torch.device("cpu"))


def reached(module, x):
    """Synapses that each input of x (N, C, H, W), or (N, features), reaches: (C, H, W) or (features,), one at a time."""
    if isinstance(module, nn.Linear):
        return np.full(module.in_features, module.out_features)
    _, channels, height, width = x.shape
    found = np.zeros((channels, height, width), dtype=int)
    per_group = module.in_channels // module.groups
    (sy, sx), (py, px), (dy, dx) = module.stride, module.padding, module.dilation
    _, out_channels, out_height, out_width = module(x[:1]).shape
    taps = itertools.product(
        range(out_channels), range(out_height), range(out_width), range(per_group), *map(range, module.kernel_size)
    )
    for o, oy, ox, c, ky, kx in taps:
        y, x_, group = oy * sy - py + ky * dy, ox * sx - px + kx * dx, o // (out_channels // module.groups)
        if 0 <= y < height and 0 <= x_ < width:
            found[group * per_group + c, y, x_] += 1
    return found


def one_by_one(net, x):
    """What every layer of weights takes in, and the synapses of each input, by the name of its module."""
    modules = {}
    for name, [*_, (entered, _)] in recorded(net, (nn.Conv2d, nn.Linear), lambda: net(x)).items():
        module = net.get_submodule(name)
        values = entered if isinstance(module, nn.Conv2d) else entered.flatten(0, -2)
        modules[name] = (values.numpy(), reached(module, values))
    return modules


def counted(net, x, samples, events):
    operations = SynapticOperations(net, events)
    with torch.no_grad():
        net(x)
    return operations.close(samples)


def brute(kind, values, synapses, parts=1):
    """ACs and MACs of all that entered."""
    if kind == "real":
        return 0, len(values) * synapses.sum()
    if kind == "averages":
        spikes = np.rint(values * parts)
        each = (spikes * synapses).sum(), 0
        averaged = spikes.sum(), ((values != 0) * synapses).sum()
        return min(each, averaged, key=lambda way: 0.9 * way[0] + 4.6 * way[1])
    return (values * synapses).sum(), 0


KINDS = {  # of inputs by module, where they are not spikes
    "vggsnn": {"features.0": "events", "features.2": 4, "features.4": 4, "features.6": 4, "classifier": 4},
    "resnet19-add": {"stem": "real", "hidden": 4},  # 8 x 8 pixels, halved twice
    "resnet19-sew": {"stem": "real", "hidden": 4, "stages": "sums"},
    "mlp": {"hidden.0": "events"},
}


@pytest.mark.parametrize("folded", [True, False])
@pytest.mark.parametrize("which", SMALL)
def test_network_against_counting_one_by_one(which, folded):
    """Every layer of every network: kind of its input, ACs, MACs, density, the ANN's MACs; totals and energy."""
    net = small(which, dtype=torch.float32)
    events = which in ("vggsnn", "mlp")
    x = sequence(net).mul(1.5).round().abs() if events else image(net)
    net(x)  # running statistics
    net = fold(net) if folded else net.eval()
    record, expected = counted(net, x, 2, events), one_by_one(net, x)
    names = {module: name for name, module in net.named_modules()}
    modules = [names[layer.synapse] for layer in net.spiking_layers()]
    by_layer = {layer.name: module for layer, module in zip(net.spiking_layers(), modules, strict=True)}
    assert [by_layer.get(layer["name"], layer["name"]) for layer in record["layers"]] == list(expected)
    total = {"ac": 0.0, "mac": 0.0, "ann_mac": 0.0}
    for layer, (name, (values, synapses)) in zip(record["layers"], expected.items(), strict=True):
        wanted = next((kind for start, kind in KINDS[which].items() if name.startswith(start)), "spikes")
        if wanted == "sums" and values.max() <= 1:
            wanted = "spikes"
        parts = wanted if isinstance(wanted, int) else 1
        assert layer["input"] == ("averages" if parts > 1 else wanted), name
        assert layer["averages_over"] == (parts if parts > 1 else None), name
        ac, mac = brute(layer["input"], values.astype(np.float64), synapses, parts)
        assert layer["ac"] == ac / 2, name
        assert layer["mac"] == mac / 2, name
        assert layer["energy_pj"] == pytest.approx((0.9 * ac + 4.6 * mac) / 2), name
        assert layer["ann_mac"] == synapses.sum(), name
        assert layer["density"] == pytest.approx((values != 0).mean()), name
        assert layer["passes"] == len(values) / 2, name
        for key, value in (("ac", ac / 2), ("mac", mac / 2), ("ann_mac", synapses.sum())):
            total[key] += value
    assert {key: record["total"][key] for key in total} == pytest.approx(total)
    assert record["total"]["energy_pj"] == pytest.approx(0.9 * total["ac"] + 4.6 * total["mac"])
    assert record["total"]["ann_energy_pj"] == pytest.approx(4.6 * total["ann_mac"])
    if which == "resnet19-sew":
        assert any(layer["input"] == "sums" for layer in record["layers"])
    if which.startswith("resnet19"):
        assert record["layers"][0]["passes"] == 1  # a static image is convolved once, whatever T is
        assert {layer["passes"] for layer in record["layers"][1:]} == {3}


@pytest.mark.parametrize("options", [{"method": "asgl", "threshold": 0.7}, {"method": "trsg"}], ids=str)
@pytest.mark.parametrize("which", ["vggsnn", "resnet19-add", "resnet19-none", "qkformer-dvs"])
def test_outputs_of_the_threshold_are_spikes(which, options):
    """Multiplied by v_th, of each layer its own, they take the operations of the spikes that they are."""
    net = small(which, dtype=torch.float32, **options)
    for index, layer in enumerate(net.spiking_layers()):
        if layer.lif.learns_threshold:
            layer.lif.q.data += 0.05 * index
    events = which in ("vggsnn", "qkformer-dvs")
    x = sequence(net).mul(1.5).round().abs() if events else image(net)
    net(x)  # running statistics
    record, entered = counted(net.eval(), x, 2, events), one_by_one(net, x)
    names = {module: name for name, module in net.named_modules()}
    modules = {layer.name: names[layer.synapse] for layer in reversed(net.spiking_layers())}
    kinds = set()
    for layer in record["layers"]:
        if layer["name"] not in modules and layer["name"] not in entered:
            continue  # a product
        values, synapses = entered[modules.get(layer["name"], layer["name"])]
        thresholds = {np.float32(layer.lif.firing()[0]) for layer in net.spiking_layers()}
        if layer["name"] != record["layers"][0]["name"]:
            assert layer["input"] in ("spikes", "sums", "averages") or (which == "qkformer-dvs" and options["method"] == "trsg")
        if layer["input"] == "spikes":
            kinds.add(np.unique(values).tolist()[-1])
            assert set(np.unique(values).tolist()) <= {np.float32(0), *thresholds}
            assert layer["ac"] == ((values != 0) * synapses).sum() / 2
        if layer["input"] == "averages":
            assert layer["averages_over"] in (2, 4, 8, 16, 36, 64)
    assert len(kinds) > (options["method"] == "trsg")


def test_units_by_hand():
    """Thresholds of 0.3 and 0.7123: spikes of one, averages of the other, sums of both, and bfloat16, in which they are rounded."""

    def record(values, dtype=torch.float32):
        found = Arrived(torch.tensor(10), 4, False, units=(0.3, 0.7123))
        found.add(torch.zeros(1, 4, dtype=dtype))
        for part in values:
            found.add(torch.tensor([part], dtype=dtype))
        return found.record(events=True)

    spikes = record([[0.7123, 0, 0.7123, 0], [0, 0, 0, 0.7123]])
    assert (spikes["input"], spikes["ac"]) == ("spikes", 30)
    averages = record([[0.3 * 0.75, 0, 0.3, 0], [0, 0.3 * 0.25, 0, 0]])
    assert (averages["input"], averages["averages_over"], averages["ac"]) == ("averages", 4, 80)
    assert record([[0.7123, 0, 2 * 0.7123, 3 * 0.7123]])["input"] == "sums"
    assert record([[0.7123, 0, 1.0123, 0.3]])["input"] == "graded"
    for rounded, kind in (([[0.7123, 0, 0.7123, 0]], "spikes"), ([[0.7123 * 0.75, 0, 0.7123, 0]], "averages")):
        assert record(rounded, torch.bfloat16)["input"] == kind


def arrived(values, outputs=10, first=False, batches=1):
    """What a linear layer with so many outputs counts of these inputs (N, features)."""
    x = torch.tensor(values)
    found = Arrived(torch.tensor(outputs), x.shape[-1], first)
    for part in x.tensor_split(batches):
        found.add(part)
    return found


def test_kinds_by_hand():
    """2 samples of 4 inputs, 10 outputs each."""
    spikes = arrived([[0.0, 1, 0, 1], [0, 0, 0, 1]]).record(events=True)
    assert (spikes["input"], spikes["ac"], spikes["mac"], spikes["density"]) == ("spikes", 30, 0, 0.375)
    sums = arrived([[0.0, 3, 0, 1], [0, 0, 0, 1]]).record(events=True)
    assert (sums["input"], sums["ac"], sums["mac"]) == ("sums", 50, 0)
    # Three of four neurons, one of four: 4 additions to each of 10 outputs, 36 pJ, against two multiplications to each.
    averages = arrived([[0.0, 0.75, 0, 0], [0, 0, 0, 0.25]]).record(events=True)
    assert (averages["input"], averages["averages_over"], averages["ac"], averages["mac"]) == ("averages", 4, 40, 0)
    # 50 and 3 of 64 neurons: 53 additions to take the averages, and two multiplications to each output, against 530 additions.
    globally = arrived([[0.0, 50 / 64, 0, 0], [0, 0, 0, 3 / 64]]).record(events=True)
    assert (globally["averages_over"], globally["ac"], globally["mac"]) == (64, 53, 20)
    assert energy(53, 20) < energy(530, 0)
    for values in ([[0.0, 0.1234, 0.76543, 0]], [[0.0, -1.0, 1.0, 0.0]]):
        graded = arrived(values).record(events=True)
        assert (graded["input"], graded["ac"], graded["mac"]) == ("graded", 0, 20)


def test_the_networks_own_input_by_hand():
    """An image's numbers are multiplied, all of them; events are added one by one, unless their frames are not whole."""
    whole, fraction = [[0.0, 2.0, 0.0, 1.0]], [[0.0, 0.5, 0.0, 1.0]]
    record = arrived(whole, first=True).record(events=True)
    assert (record["input"], record["ac"], record["mac"]) == ("events", 30, 0)
    record = arrived(whole, first=True).record(events=False)
    assert (record["input"], record["ac"], record["mac"]) == ("real", 0, 40)
    assert arrived(fraction, first=True).record(events=True)["input"] == "real"


def test_what_later_batches_show():
    """Averages of 2 in one batch, of 3 in the next; and a value that is none of them."""
    assert arrived([[0.5, 0.0], [1 / 3, 0.0]], batches=2).record(events=True)["averages_over"] == 6
    assert arrived([[0.5, 0, 0, 0], [0.1234, 0.56789, 0.98713, 0.31415]], batches=2).record(events=True)["input"] == "graded"
    assert arrived([[0.0, 1.0], [1.0, 2.0]], batches=2).record(events=True)["input"] == "sums"


@pytest.mark.parametrize("n", [4, 9, 49, 64])
def test_averages_are_known_by_their_values(n):
    """Whatever they are taken over, and for all that 1/49 is rounded."""
    averages = nn.functional.avg_pool2d((torch.rand(100, 1, 8, 8) < 0.3).float(), {4: 2, 9: 3, 49: 7, 64: 8}[n])
    record = arrived(averages.flatten(1).tolist()).record(events=True)
    assert (record["input"], record["averages_over"]) == ("averages", n)


@pytest.mark.parametrize("bits", [32, 8, 4])
def test_energy_with_memory_by_hand(bits):
    """Every term of 6 to 8 to 3 neurons, from what enters them; at the break-even rate, both networks take the same energy."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), LIF(decay=0.5), nn.Linear(8, 3))
    x = torch.randint(0, 3, (5, 4, 6)).float()
    found = synops(net, [(x, torch.zeros(4))])
    (memory,) = (one for one in found["memory"] if one["bits"] == bits)
    spikes = one_by_one(net.eval(), x)["2"][0].sum() / 4
    rate = spikes / (5 * 8)
    assert found["firing_rate"] == pytest.approx(rate)
    addition, product = {32: (0.9, 3.7), 8: (0.1, 0.2), 4: (0.1, 0.05)}[bits]
    access = 20 / 64

    def terms(spikes):
        """Arithmetic, weights, potentials, activations."""
        events, nonzero = float(x.sum()) / 4, int((x != 0).sum()) / 4
        additions = events * 8 + spikes * 3
        return additions * addition, additions * bits * access, 5 * 8 * 2 * 32 * access, 2 * (nonzero + spikes) * 3 * access

    names = ("arithmetic", "weights", "potentials", "activations")
    assert [memory["spiking"][name] for name in names] == pytest.approx(terms(spikes))
    ann = [72 * (addition + product), 72 * bits * access, 2 * (6 + 8) * bits * access]
    assert [memory["ann"][name] for name in ("arithmetic", "weights", "activations")] == pytest.approx(ann)
    assert memory["ann"]["total"] == pytest.approx(sum(ann))
    fixed = sum(terms(0))
    if fixed >= sum(ann):
        assert memory["break_even_rate"] is None
    else:
        assert sum(terms(spikes * memory["break_even_rate"] / rate)) == pytest.approx(sum(ann))


@pytest.mark.parametrize("arch", ["vggsnn", "resnet19"])
def test_batches_add_up_in_an_evaluation(arch):
    """The record of an evaluation does not depend on the batches, and is that of the network alone; firing rates stand beside the
    weights that feed the neurons."""
    bundle, model = tiny.bundle(), new_model(tiny.config(arch=arch), 3, 2)
    for _ in range(3):
        model(torch.from_numpy(bundle.test.x).float().transpose(0, 1))
    results = [evaluate(model, bundle.test, bundle, CPU, batch_size=size, also=("firing_rate", "synops")) for size in (15, 4)]
    records = [*(result.record(bundle.classes)["synops"] for result in results), synops(model, batches(bundle, bundle.test, 4))]
    for record in records[1:]:
        assert record["total"] == pytest.approx(records[0]["total"])
        for one, other in zip(record["layers"], records[0]["layers"], strict=True):
            assert one == pytest.approx(other)
    rates = {layer["name"]: layer["firing_rate"] for layer in records[0]["layers"]}
    assert {name: rate for name, rate in rates.items() if rate is not None} == pytest.approx(results[0].firing_rate)
    assert rates["classifier"] is None
    assert records[0]["layers"][0]["input"] == "events"
    assert "synops" not in evaluate(model, bundle.test, bundle, CPU, batch_size=15).record(bundle.classes)
