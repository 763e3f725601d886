"""Peers of the benchmarks compute what lsg's networks compute, and their figures are what they say."""

import itertools
import signal
import statistics

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import contenders, mlp  # noqa: F401  contenders adds those of the benchmarks
from benchmarks.bench import cases, checking, library, measuring, peers, race
from benchmarks.bench.steps import build, inputs, prepare
from lsgcli import models, registry
from lsgcli.errors import ConfigError
from lsgcli.neurons import LIF, TdBatchNorm2d

TINY = {
    "vggsnn": cases.case("vggsnn", width=1 / 16, T=3, batch=2, size=16),
    "resnet19": cases.case("resnet19", width=1 / 16, T=2, batch=2, size=16),
}
NETWORKS = sorted(TINY)
CHANNELS = (2, 4, 8, 16, 16, 32, 32, 32, 32)  # of vggsnn's convolutions at that width
SIDES = (16, 16, 8, 8, 4, 4, 2, 2)  # of what they put out
KITS = {"SpikingJelly": "spikingjelly", "SnnTorch": "snntorch", "Floor": "torch"}


def kit(name, **settings):
    pytest.importorskip(KITS[name])
    return getattr(peers, name)(**settings)


def ours(network):
    torch.manual_seed(0)
    return build(cases.Contender("lsg", backend="reference", settings={"method": "fixed"}), TINY[network]).network


def peer(network, name, **settings):
    case = TINY[network]
    return peers.NETWORKS[network](kit(name, **settings), case.T, case.size, case.width)


def carry_over(source, target):
    """lsg's weights, in a peer: tdBN's scale is a factor of its own in lsg, and part of the weight in peers."""
    scales = {id(m.weight): m.scale for m in source.modules() if isinstance(m, TdBatchNorm2d)}
    with torch.no_grad():
        for mine, theirs in zip(source.parameters(), target.parameters(), strict=True):
            theirs.copy_(mine * scales.get(id(mine), 1.0))
    return scales


def layers(network, kind):
    return [module for module in network.modules() if isinstance(module, kind)]


def in_order(model):
    """lsg's parameters, by layers of spikingjelly's model: those of an attention's inputs together."""
    if not hasattr(model, "stem") or not isinstance(model.stem, nn.ModuleList):
        return list(model.parameters())
    parts = [*model.stem.parameters(), *(p for stage in model.stages for p in stage[0].parameters())]
    for block in (block for stage in model.stages for block in stage[1:]):
        inputs = zip(*(conv.parameters() for conv in block.attention.inputs.values()), strict=True)
        parts += [*map(torch.cat, inputs), *block.attention.project.parameters()]
        parts += [*block.expand.parameters(), *block.contract.parameters()]
    return [*parts, *model.classifier.parameters()]


@pytest.mark.parametrize("network", ["sew-resnet18", "ms-resnet18", "qkformer"])
def test_the_librarys_model_is_that_of_lsg(network):
    kit("SpikingJelly")
    case = cases.case(network, T=2, batch=2, size=8)
    torch.manual_seed(0)
    model = models.build(network, method="fixed", T=2, input_size=8, backend="reference").double()
    theirs = library.NETWORKS[network](kit("SpikingJelly", best=True), 2, 8, 1.0).double()
    with torch.no_grad():
        for module in layers(model, TdBatchNorm2d):
            module.weight.uniform_(0.5, 1.5).mul_(0.5)  # as it is the weight of plain batch normalisation
            module.threshold, module.eta = 1.0, 1.0
        for mine, their in zip(in_order(model), theirs.parameters(), strict=True):
            their.copy_(mine.view_as(their))
    x = inputs(case)[0].double()
    for module in layers(model, TdBatchNorm2d) + layers(theirs, nn.modules.batchnorm._BatchNorm):
        module.momentum = 1.0
    for mode in (True, False):
        logits = model.train(mode)(x)
        torch.testing.assert_close(theirs.train(mode)(x).mean(0), logits.mean(0))
        theirs.kit.forget(theirs)
        assert logits.std() > 0.01
    neurons = theirs.kit.neurons()
    assert len(layers(theirs, type(neurons))) > 10
    with pytest.raises(ConfigError, match="found width"):
        library.NETWORKS[network](theirs.kit, 2, 8, 0.5)


@pytest.mark.parametrize("network", NETWORKS)
def test_the_floor_does_the_convolutions_of_lsg_and_nothing_else(network):
    traced = {}
    for name, model in {"ours": ours(network), "floor": peer(network, "Floor", best=True)}.items():
        seen = traced[name] = []

        def record(module, args, out, seen=seen):
            seen.append((tuple(module.weight.shape), tuple(args[0].shape), tuple(out.shape)))

        for module in layers(model, nn.Conv2d | nn.Linear):
            module.register_forward_hook(record)
        model(inputs(TINY[network])[0])
    assert sorted(traced["floor"]) == sorted(traced["ours"])  # the order of a block's branches does not matter
    floor = peer(network, "Floor", best=True)
    assert not layers(floor, nn.BatchNorm2d)
    assert len(layers(floor, nn.AvgPool2d)) == len(layers(ours(network), nn.AvgPool2d))


@pytest.mark.parametrize("best", [False, True])
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", ["SpikingJelly", "SnnTorch"])
def test_a_peer_with_the_weights_of_lsg_fires_the_same_spikes(network, name, best):
    model, theirs = ours(network), peer(network, name, best=best)
    assert [tuple(p.shape) for p in theirs.parameters()] == [tuple(p.shape) for p in model.parameters()]
    carry_over(model, theirs)
    for norm in layers(model, TdBatchNorm2d):
        norm.warm = True  # running statistics move by the momentum from the first batch on, as the peers' do
    spikes = {"model": [], "theirs": []}
    for module in layers(model, LIF):
        module.register_forward_hook(lambda module, args, out: spikes["model"].append(out.detach()))
    for module in layers(theirs, type(theirs.kit.neurons())):
        module.register_forward_hook(lambda module, args, out: spikes["theirs"].append(out.detach()))
    x, _ = inputs(TINY[network])
    for mode in (True, False):  # batch statistics, then running ones
        logits = model.train(mode)(x)
        torch.testing.assert_close(theirs.train(mode)(x), logits, rtol=1e-4, atol=1e-5)
        theirs.kit.forget(theirs)
    assert len(spikes["model"]) == len(spikes["theirs"])
    for layer, (a, b) in enumerate(zip(*spikes.values(), strict=True)):
        assert torch.equal(a, b), f"layer {layer}: {(a != b).sum()} of {a.numel()} spikes differ"
    assert sum(s.sum() for s in spikes["model"][:4]) > 100


@pytest.mark.parametrize("network", NETWORKS)
def test_spikingjelly_with_the_rectangular_surrogate_has_the_gradients_of_lsg(network):
    surrogates = pytest.importorskip("spikingjelly.activation_based.surrogate")
    model, theirs = ours(network), peer(network, "SpikingJelly", surrogate=surrogates.Rect(alpha=1.0))
    scales = carry_over(model, theirs)
    x, labels = inputs(TINY[network])
    for each in (model, theirs):
        nn.functional.cross_entropy(each(x).mean(0), labels).backward()
    for mine, their in zip(model.parameters(), theirs.parameters(), strict=True):
        scaled = their.grad * scales.get(id(mine), 1.0)
        torch.testing.assert_close(scaled, mine.grad, rtol=2e-4, atol=2e-5 * max(1.0, mine.grad.abs().max().item()))


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # of torch's compiler
@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_lsg_compiles_as_one_graph(network):
    contender = cases.CONTENDERS["lsg-compiled"]
    built, x = build(contender._replace(compiled=False), TINY[network]), inputs(TINY[network])[0]
    expected = built.network(x)
    for module in layers(built.network, LIF):
        module.backend = registry.get("backend", contender.backend)
    compiled = torch.compile(built.network, fullgraph=True, backend="eager")  # an error if the graph would be divided
    torch.testing.assert_close(compiled(x), expected)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", ["SpikingJelly", "SnnTorch"])
@torch.no_grad()
def test_a_peer_at_its_best_infers_without_norms_and_alike(network, name):
    theirs, (x, _) = peer(network, name, best=True), inputs(TINY[network])
    theirs.train()(x)  # running statistics that are not those of the start
    theirs.kit.forget(theirs)
    expected = theirs.eval()(x)
    theirs.kit.forget(theirs)
    fused = theirs.kit.deploy(theirs)
    assert layers(theirs, nn.modules.batchnorm._BatchNorm)
    assert not layers(fused, nn.modules.batchnorm._BatchNorm)
    torch.testing.assert_close(fused(x), expected, rtol=1e-4, atol=1e-5)
    plain = peer(network, name)
    assert layers(plain.kit.deploy(plain), nn.modules.batchnorm._BatchNorm)


def test_ratio():
    rng = torch.Generator().manual_seed(0)
    drift = [1 + 0.5 * i / 20 for i in range(21)]  # hits both alike
    a = [2 * d * (1 + 0.01 * torch.randn((), generator=rng).item()) for d in drift]
    b = [d * (1 + 0.01 * torch.randn((), generator=rng).item()) for d in drift]
    found, rounds = measuring.ratio(a, b), [x / y for x, y in zip(a, b, strict=True)]
    assert found["ratio"] == statistics.median(rounds)
    assert (found["min"], found["max"]) == (min(rounds), max(rounds))
    assert found["min"] < found["low"] < 2 < found["high"] < found["max"]
    assert measuring.ratio([3.0, 3.0], [1.5, 1.5]) == {"ratio": 2, "low": 2, "high": 2, "min": 2, "max": 2}


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="no stopped processes here")
def test_a_race_in_processes_of_their_own():
    records = list(race.race(TINY["vggsnn"], [("lsg", "fp32"), ("floor", "fp32")], rounds=2, warm=1, threads=1))
    assert [one["protocol"]["rounds"] for one in records] == [1, 2]
    record = records[-1]
    assert set(record["contenders"]) == {"lsg fp32", "floor fp32"}
    assert set(record["ratios"]) == {"lsg fp32"}
    for found in record["contenders"].values():
        assert len(found["every_round"]) == 2
        assert found["peak_bytes"] >= found["idle_bytes"] > 50e6
        assert found["network"]["weights"] == 10 * (32 + 1) + 9 * sum(a * b for a, b in itertools.pairwise(CHANNELS))
        assert found["network"]["degenerate"] == ""
        assert found["samples_per_second"] == pytest.approx(2 / found["seconds"]["median"])
    assert record["ratios"]["lsg fp32"]["floor fp32"]["peak"] > 0.5


@pytest.mark.parametrize("name", ["lsg", "SpikingJelly", "SnnTorch", "Floor"])
def test_what_a_network_computes(name):
    if name in KITS:
        pytest.importorskip(KITS[name])
    found = checking.facts(prepare(cases.Contender(name, best=True), TINY["vggsnn"], "fp32", torch.get_num_threads()))
    a_frame = 10 * 32 + sum(9 * a * b * side**2 for a, b, side in zip(CHANNELS, CHANNELS[1:], SIDES, strict=False))
    assert found["macs_per_frame"] == a_frame
    assert found["macs_per_sample"] == 3 * a_frame
    spiking = name != "Floor"
    assert found["parameters"] - found["weights"] == (2 * sum(CHANNELS[1:]) if spiking else 0) + (8 if name == "lsg" else 0)
    assert found["parameters_without_decays"] == (found["weights"] + 2 * sum(CHANNELS[1:]) if spiking else None)
    assert len(found["firing_rates"]) == (8 if spiking else 0)
    assert len(found["gradient_norms"]) == 9
    assert found["degenerate"] == ""


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(mlp.CONTENDERS) - {"spikingjelly-compiled"}))
def test_contenders_of_the_mlp_take_steps(name, monkeypatch):
    package, build_step = mlp.CONTENDERS[name]
    pytest.importorskip(package)
    monkeypatch.setattr(mlp, "T", 5)
    chance = np.random.default_rng(0)
    step = build_step((chance.random((5, 4, 700)) < 0.1).astype(np.float32), chance.integers(0, 20, 4))
    step()
    step()
