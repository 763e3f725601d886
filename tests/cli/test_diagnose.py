"""``lsg diagnose``: scripts of several libraries, each with one fault; and that a script computes the same with and without it."""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from benchmarks.stress.program import Command

SCRIPTS = Path(__file__).parents[1] / "scripts"
LOOP = "    optimizer.zero_grad()\n"
# name: (script, text that is replaced, text that replaces it, rules of which one is among the first two, text of the line it points to)
FAULTS = {
    "no surrogate": ("own", "Spike.apply(u - self.threshold)", "(u > self.threshold).float()", "no-surrogate", "Neurons()"),
    "high threshold": ("own", "threshold=1.0", "threshold=30.0", "silent potential-scale", "Neurons()"),
    "low threshold": ("own", "threshold=1.0", "threshold=1e-4", "saturated potential-scale", "Neurons()"),
    "narrow surrogate": ("own", "x.abs() < 0.5", "x.abs() < 1e-4", "narrow-window", "Neurons()"),
    "surrogate with NaN": ("own", "return grad *", "return grad * (x - x) / (x - x) *", "not-finite", "Neurons()"),
    "no zero_grad": ("own", LOOP, "", "gradients-accumulate", "loss.backward()"),
    "no backward": ("own", "    loss.backward()\n", "", "gradients-lost", "optimizer.step()"),
    "other network": ("own", "Adam(net.parameters()", "Adam(Net().parameters()", "not-optimised", "Adam("),
    "part of the network": ("own", "Adam(net.parameters()", "Adam(net.out.parameters()", "not-optimised", "Adam("),
    "layers in a plain list": ("own", "self.second = nn.Linear(64, 64)", "self.__dict__['second'] = nn.Linear(64, 64)", "not-optimised", "Adam("),
    "weights put back": ("own", "    optimizer.step()\n",
        "    start = start if step else {name: value.clone() for name, value in net.state_dict().items()}\n    optimizer.step()\n    net.load_state_dict(start)\n",
        "overwritten", "net.load_state_dict(start)"),
    "learning rate 0": ("own", "lr=0.01", "lr=0.0", "unchanged", "Adam("),
    "learning rate 1e-7": ("own", "lr=0.01", "lr=1e-7", "steps-too-small", "Adam("),
    "learning rate 10": ("own", "lr=0.01", "lr=10", "learning-rate steps-too-large saturated-outputs", "Adam("),
    "state kept": ("own", "self.neurons1.state = self.neurons2.state = None",
        "if self.neurons1.state is not None: self.neurons1.state, self.neurons2.state = self.neurons1.state.detach(), self.neurons2.state.detach()",
        "state-kept", "Neurons()"),
    "forgotten reset": ("own", "self.neurons1.state = self.neurons2.state = None", "pass", "graph-twice", "loss.backward()"),
    "empty optimiser": ("own", "Adam(net.parameters()", "Adam([]", "empty-optimiser", "Adam("),
    "softmax": ("own", "return total / T", "return (total / T).softmax(1)", "softmax-before-loss", "loss_function("),
    "loss of argmax": ("own", "loss_function(net(x), y)", "(net(x).argmax(1) != y).float().mean()", "no-graph", "loss.backward()"),
    "dropout": ("own", "nn.Dropout(0.1)", "nn.Dropout(0.95)", "dropout", "nn.Dropout("),
    "evaluation mode": ("own", "    net.train()\n", "    net.eval()\n", "evaluation-mode", "net(x)"),
    "training mode": ("own", "        net.eval()\n", "", "training-mode", ""),
    "equal weights": ("own", "self.out = nn.Linear(64, CLASSES)", "self.out = nn.Linear(64, CLASSES); nn.init.constant_(self.second.weight, 0.1)", "equal-weights", "nn.Linear(64, 64)"),
    "shared weights": ("own", "self.neurons2 = Neurons()", "self.neurons2 = Neurons(); self.third = self.second", "shared-weights", ""),
    "frozen": ("own", "net = Net()", "net = Net().requires_grad_(False); net.out.requires_grad_()", "frozen", "nn.Linear("),
    "constant input": ("own", "return centres[y] + 0.3 * torch.randn(BATCH, 20), y", "return torch.ones(BATCH, 20), y", "input-constant", "net(x)"),
    "one class": ("own", "torch.randint(CLASSES, (BATCH,))", "torch.zeros(BATCH, dtype=torch.long)", "classes", "loss_function("),
    "equal outputs": ("own", "return total / T", "return total.mean(0, keepdim=True).expand_as(total)", "equal-outputs", "loss_function("),
    "zero outputs": ("own", "return total / T", "return (total - 100).relu()", "equal-outputs", "loss_function("),
    "detached": ("own", "self.neurons2(self.second(spikes))", "self.neurons2(self.second(spikes.detach()))", "without-gradient", "nn.Linear(20, 64)"),
    "clipped": ("own", "    loss.backward()\n", "    loss.backward()\n    nn.utils.clip_grad_norm_(net.parameters(), 1e-9)\n", "clipped", "optimizer.step()"),
    "no step": ("own", "    optimizer.step()\n", "", "no-step", "loss.backward()"),
    "gradients set to zero": ("own", "    loss.backward()\n", "    loss.backward()\n    optimizer.zero_grad()\n", "gradients-lost", "optimizer.step()"),
    "maximised": ("own", "loss.backward()", "(-loss).backward()", "wrong-sign", "(-loss).backward()"),
    "weight decay": ("own", "lr=0.01", "lr=0.01, weight_decay=1.0", "weight-decay", "Adam("),
    "other inputs in evaluation": ("own", "(net(x).argmax", "(net(9 * x).argmax", "evaluation-input", "net(9 * x)"),
    "loss without a graph": ("own", "loss_function(net(x), y)", "(net(x).argmax(1) != y).float().mean().requires_grad_()", "no-graph", "loss.backward()"),
    "comparison": ("own", "self.neurons2(self.second(spikes))", "(self.second(spikes) > 0.1).float()", "no-surrogate", "self.second(spikes) > 0.1"),
    "shapes of outputs and targets": ("own", "loss_function(net(x), y)", "nn.functional.mse_loss(net(x)[:, :1], y.float())", "broadcast", "mse_loss("),
    "large targets": ("own", "loss_function(net(x), y)", "nn.functional.mse_loss(net(x)[:, 0], 1000.0 * y)", "target-scale", "mse_loss("),
    "sizes of a layer": ("own", "nn.Linear(20, 64)", "nn.Linear(21, 64)", "shapes", "self.first(x)"),
    "labels that are no integers": ("own", "loss_function(net(x), y)", "loss_function(net(x), y.float())", "types", "y.float()"),
    "a change in place": ("own", "return total / T", "u = total.exp(); u /= T; return u", "in-place", "u /= T"),
    "weights that are rounded": ("own", "self.second(spikes)", "nn.functional.linear(spikes, 0.1 * (10 * self.second.weight).round())", "without-gradient", ""),
    "spikes that are masked": ("own", "self.second(spikes))", "self.second(spikes)) * (torch.rand(BATCH, 64) < 0.002)", "signal-lost", ""),
    "penalty": ("own", "loss_function(net(x), y)", "loss_function(net(x), y) + 10 * sum(weights.square().sum() for weights in net.parameters())", "penalty", "loss.backward()"),
    "eps of Adam": ("own", "lr=0.01", "lr=0.01, eps=10.0", "steps-too-small", "Adam("),
    "one batch": ("own", "0.3 * torch.randn(BATCH, 20), y\n", "3 * torch.randn(BATCH, 20), y\n\n\none, others = batch(), batch\nbatch = lambda: one if torch.is_grad_enabled() else others()\n", "same-batch", "loss_function("),
    "one encoding for all timesteps": ("jelly", "    x, y = batch()\n", "    x, y = batch()\n    x = (torch.rand_like(x) < 0.1 * x).float()\n", "input-constant", "net(x)"),
    "rare spikes": ("jelly", "sum(net(x)", "sum(net((torch.rand_like(x) < 0.005 * x).float())", "input-scale", "neuron.LIFNode("),
    "high threshold, and a gradient that is added": ("own", "spikes = Spike.apply(u - self.threshold)", "h = torch.sigmoid(4 * (u - 30)); spikes = (u > 30).float() + h - h.detach()", "silent potential-scale", "Neurons()"),
    "high threshold inside a function": ("own", "return (x > 0).float()", "return (x > 30).float()", "silent potential-scale", ""),
    "a rate that falls at each step": ("own", "    optimizer.step()\n", "    optimizer.step()\n    optimizer.param_groups[0]['lr'] *= 0.3\n", "steps-too-small", "Adam("),
    "labels of other samples": ("own", "torch.randn(BATCH, 20), y", "torch.randn(BATCH, 20), y[torch.randperm(BATCH)]", "labels", ""),
    "dropout of functional": ("own", "self.drop(", "nn.functional.dropout(", "training-mode", "nn.functional.dropout("),
    "slow running statistics": ("own", "BatchNorm1d(64)", "BatchNorm1d(64, momentum=0.0)", "running-statistics", "momentum=0.0"),
    "softmax over the batch": ("own", "return total / T", "return (total / T).softmax(0)", "softmax-before-loss", "loss_function("),
    "smoothed labels": ("own", "EntropyLoss()", "EntropyLoss(label_smoothing=1.0)", "labels", "loss_function("),
    "mixed samples": ("own", "self.first(x)", "self.first(x.T.reshape(x.shape))", "batch-dependent", "net(x)"),
    "uphill": ("own", "loss_function(net(x), y)", "2 - 0.1 * loss_function(net(x), y)", "wrong-sign", "loss.backward()"),
    "missing class": ("own", "randint(CLASSES,", "randint(CLASSES - 1,", "classes", "loss_function("),
    "the lowest output in evaluation": ("own", "(net(x).argmax", "(net(x).argmin", "metric", "net(x)"),
    "another network in evaluation": ("own", "(net(x).argmax", "(Net().eval()(x).argmax", "averaging", "Net().eval()(x)"),
    "few steps": ("own", "range(80)", "range(39, 43)", "few-steps", ""),
    "the same input with other labels": ("own", "    x, y = batch()\n    optimizer", "    x, y = centres.repeat(BATCH // CLASSES, 1), batch()[1]\n    optimizer", "input-constant", "net(x)"),
    "samples as timesteps": ("jelly", "net(x) for _ in range(T)) / T", "net(x) for x in (x * torch.ones(BATCH, BATCH, 20)).transpose(0, 1)) / BATCH", "batch-as-time", "net(x)"),
    "initial state at each timestep": ("snn", "range(T):\n", "range(T):\n            mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()\n", "state-lost", ""),
    "batches of 2": ("own", "BATCH = 8, 4, 32", "BATCH = 8, 4, 2", "running-statistics", ""),
    "integrators without reset": ("snn", "snntorch.Leaky(beta=0.8)", 'snntorch.Leaky(beta=1.0, reset_mechanism="none")', "no-reset", "snntorch.Leaky(beta=1.0"),
    "loss of the first timestep": ("snn", "        for _ in range(T):\n            spikes, mem1 = self.lif1(self.first(x), mem1)\n            _, mem2 = self.lif2(self.out(spikes), mem2)\n        return mem2",
        "        potentials = []\n        for _ in range(T):\n            spikes, mem1 = self.lif1(self.first(x + 3 * torch.randn(x.shape)), mem1)\n            _, mem2 = self.lif2(self.out(spikes), mem2)\n            potentials.append(mem2)\n        return potentials[0]",
        "steps-without-gradient", "cross_entropy("),
    "last timestep": ("snn", "spikes, mem1 = self.lif1(self.first(x), mem1)\n            _, mem2 = self.lif2(self.out(spikes), mem2)",
        "spikes, mem1 = self.lif1(self.first(x), mem1.detach())\n            _, mem2 = self.lif2(self.out(spikes), mem2.detach())",
        "state-lost", "snntorch.Leaky("),
    "norse, batch first": ("norsenet", "net(x.expand(T, *x.shape))\n    loss = nn.functional.cross_entropy(outputs.max(0)",
        "net(x.unsqueeze(1).expand(-1, T, -1))\n    loss = nn.functional.cross_entropy(outputs.max(1)",
        "batch-as-time", "net(x."),
    "snntorch, threshold": ("snn", "snntorch.Leaky(beta=0.8)", "snntorch.Leaky(beta=0.8, threshold=50)", "silent potential-scale", "threshold=50"),
    "snntorch, forgotten reset": ("snn", "        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()\n", "        mem1, mem2 = self.mems\n        self.mems = mem1, mem2\n", "script-failed", "mem1, mem2 = self.mems"),
    "spikingjelly, no reset": ("jelly", "    functional.reset_net(net)\n", "", "graph-twice", "loss.backward()"),
    "spikingjelly, detached state": ("jelly", "reset_net(net)", "detach_net(net)", "state-kept", "neuron."),
    "spikingjelly, threshold": ("jelly", "v_threshold=0.5", "v_threshold=500.0", "silent potential-scale", "v_threshold=500.0"),
    "norse, small input": ("norsenet", "return 5 *", "return 1e-4 *", "silent potential-scale input-scale", "norse.LIF()"),
    "lsg, threshold": ("lsgnet", 'lsg.LIF(method="lsg")', "lsg.LIF(threshold=50.0)", "silent potential-scale", "lsg.LIF(threshold=50.0)"),
}  # fmt: skip


def diagnosed(tmp_path, name, old="", new="", *options):
    text = (SCRIPTS / f"{name}.py").read_text()
    assert old in text
    script = tmp_path / "train.py"
    script.write_text(text.replace(old, new))
    # As in a new interpreter: under pytest, a warning of a library is an error.
    done = Command(["diagnose", "--json", *options, script], tmp_path, before=warnings.resetwarnings).run()
    assert done.out, done.err
    return done, json.loads(done.out)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_among_the_first_two_findings(fault, tmp_path):
    name, old, new, rules, line = FAULTS[fault]
    done, record = diagnosed(tmp_path, name, old, new)
    found = record["findings"]
    named = next((one for one in found[:2] if one["rule"] in rules.split()), None)
    assert named is not None, [(one["rule"], one["value"]) for one in found]
    assert named["severity"] in ("error", "warning") or record["accuracy"] > 0.85  # such a fault does no harm here
    if line:
        text = Path(named["where"]["file"]).read_text().splitlines()[named["where"]["line"] - 1]
        assert line in text
    crashed = named["measure"] == "error" or named["rule"] in ("graph-twice", "no-graph")
    assert done.status == (1 if crashed and "requires_grad_()" not in new else 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["own", "snn", "jelly", "norsenet", "lsgnet"])
def test_a_healthy_script_has_no_errors_and_computes_the_same(name, tmp_path):
    env = os.environ | {"PYTHONPATH": str(SCRIPTS.parents[1])}
    plain = subprocess.run([sys.executable, str(SCRIPTS / f"{name}.py")], capture_output=True, text=True, env=env, check=True)
    done, record = diagnosed(tmp_path, name, "", "", "--fail-on", "error,warning", "--steps", "all")
    assert done.status == 0, record["findings"]
    assert plain.stdout.splitlines() == [line for line in done.err.splitlines() if line in plain.stdout.splitlines()]
    assert record["layers"]


@pytest.mark.parametrize(
    ("text", "status", "unseen"),
    [
        ("print('hello')", 0, "no network was trained"),
        ("import sys; sys.exit(3)", 3, "no network was trained"),
        ("raise KeyboardInterrupt", 130, "no network was trained"),
        ("1 / 0", 1, "no network was trained"),
        (
            "import torch\nnet = torch.nn.Linear(2, 2)\noptimizer = torch.optim.SGD(net.parameters(), 0.1)\n"
            "torch.nn.functional.mse_loss(net(torch.ones(1, 2)), torch.zeros(1, 2)).backward()\noptimizer.step()",
            0,
            "no spiking neurons found in Linear",
        ),
    ],
)
@pytest.mark.slow
def test_what_cannot_be_seen_is_said(text, status, unseen, tmp_path):
    (tmp_path / "train.py").write_text(text)
    done = Command(["diagnose", "train.py"], tmp_path).run()
    assert done.status == status, done.err
    assert unseen in done.out
    assert "unexpected error" not in done.err
