# %% torch/fifth/lif_conv_events.py
"""Moving bars before an event camera: in which of eight directions? Convolutions, batch normalisation and lsg's neurons."""
import lsgcli as lsg
import torch
import torch.nn.functional as F
from torch import nn

STEPS, SIDE = 6, 14


def moving_bars(n, generator):
    """Events (n, STEPS, 2, SIDE, SIDE): where it grows brighter, and darker; labels 0 to 7."""
    label = torch.randint(0, 8, (n,), generator=generator)
    angle = label * torch.pi / 4
    y, x = torch.meshgrid(torch.arange(SIDE) - SIDE / 2 + 0.5, torch.arange(SIDE) - SIDE / 2 + 0.5, indexing="ij")
    along = torch.cos(angle).view(-1, 1, 1) * x + torch.sin(angle).view(-1, 1, 1) * y
    start = -6 + 3 * torch.rand(n, generator=generator)
    frames = []
    for step in range(STEPS + 1):
        frames.append(((along - (start + 1.5 * step).view(-1, 1, 1)).abs() < 1).float())
    change = torch.stack(frames, 1).diff(dim=1)
    events = torch.stack([change > 0, change < 0], dim=2).float()
    noise = (torch.rand(events.shape, generator=generator) < 0.03).float()
    return (events + noise).clamp(max=1), label


def per_step(module, x):
    """Apply a module without time to (T, B, ...)."""
    return module(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class Block(nn.Module):
    def __init__(self, c_in, c_out):
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(c_out)
        self.lif = lsg.LIF(decay=0.5, method="fixed", surrogate="triangular")

    def forward(self, x):
        current = per_step(self.bn, per_step(self.conv, x))
        return self.lif(current)


class BarNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([Block(2, 12), Block(12, 16), Block(16, 24), Block(24, 24)])
        self.pool = nn.AvgPool2d(2)
        self.head = nn.Linear(24 * 9, 8)

    def forward(self, events):
        x = events.transpose(0, 1)
        x = self.blocks[1](self.blocks[0](x))
        x = per_step(self.pool, x)
        x = self.blocks[3](self.blocks[2](x))
        x = per_step(self.pool, x)
        return self.head(x.flatten(2).mean(0))


torch.manual_seed(77)
generator = torch.Generator().manual_seed(77)
events, label = moving_bars(600, generator)
test_events, test_label = moving_bars(300, generator)
net = BarNet()
optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
for epoch in range(5):
    net.train()
    for rows in torch.randperm(600).split(30):
        loss = F.cross_entropy(net(events[rows]), label[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print("epoch", epoch, "loss", loss.item())

net.eval()
with torch.no_grad():
    print("accuracy", (net(test_events).argmax(1) == test_label).float().mean().item())
# %% torch/fifth/lif_deep_plain.py
"""Eight spiking layers without any normalisation: weights are scaled so that currents reach the threshold. Long-tailed toy data."""
import lsgcli as lsg
import torch
from sklearn.datasets import make_classification
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

DEPTH, WIDTH, T = 8, 64, 4
torch.manual_seed(9)


class SpikingLayer(torch.nn.Sequential):
    def __init__(self, n_in, n_out, gain):
        linear = torch.nn.Linear(n_in, n_out)
        torch.nn.init.normal_(linear.weight, std=gain / n_in ** 0.5)
        torch.nn.init.constant_(linear.bias, 0.2)
        super().__init__(linear, lsg.LIF(decay=0.3, method="fixed", width=1.0, surrogate="atan"))


class DeepNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        gain = 1.4
        layers = [SpikingLayer(20 if i == 0 else WIDTH, WIDTH, gain) for i in range(DEPTH)]
        self.body = torch.nn.Sequential(*layers)
        self.head = torch.nn.Linear(WIDTH, 4)

    def forward(self, x):
        return self.head(self.body(x.expand(T, *x.shape)).mean(0))


X, y = make_classification(1600, 20, n_informative=8, n_redundant=4, n_classes=4, n_clusters_per_class=1,
                           class_sep=2.0, random_state=3)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=400, random_state=3)
scaler = StandardScaler().fit(X_train)
X_train = torch.tensor(scaler.transform(X_train), dtype=torch.float32)
X_test = torch.tensor(scaler.transform(X_test), dtype=torch.float32)
y_train, y_test = torch.tensor(y_train), torch.tensor(y_test)

model = DeepNet()
opt = torch.optim.Adam(model.parameters(), lr=2e-3)
sched = torch.optim.lr_scheduler.ExponentialLR(opt, 0.9)
for epoch in range(12):
    for batch in torch.randperm(len(y_train)).split(40):
        opt.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(X_train[batch]), y_train[batch])
        loss.backward()
        opt.step()
    sched.step()
    if epoch % 3 == 2:
        print(f"[{epoch + 1:02d}] loss {loss.item():.4f} lr {sched.get_last_lr()[0]:.5f}")
with torch.no_grad():
    print("accuracy: %.3f" % (model(X_test).argmax(1) == y_test).float().mean().item())
# %% torch/fifth/lif_frozen_encoder.py
"""Few labels: an encoder learns to reproduce images without labels, then stays as it is, and a small spiking head learns from 200 labels."""
import lsgcli as lsg
import torch
from sklearn.datasets import load_digits
from torch import nn

T = 5
torch.manual_seed(23)
bunch = load_digits()
order = torch.randperm(len(bunch.target))
images = torch.tensor(bunch.data, dtype=torch.float32)[order] / 16
labels = torch.tensor(bunch.target)[order]
unlabelled, few, few_labels = images[:1200], images[:200], labels[:200]
test, test_labels = images[1200:], labels[1200:]


class Encoder(nn.Module):
    def __init__(self, code=48):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(64, 128), lsg.LIF(decay=0.5, method="fixed", surrogate="sigmoid"),
            nn.Linear(128, code), lsg.LIF(decay=0.5, method="fixed", surrogate="sigmoid"),
        )

    def forward(self, x):
        return self.layers(2 * x.expand(T, -1, -1))


def epochs(parameters, lr, n, inputs, loss_of):
    """Adam over mini-batches of 50 rows."""
    optimizer = torch.optim.Adam(parameters, lr=lr)
    for epoch in range(n):
        for rows in torch.randperm(len(inputs)).split(50):
            loss = loss_of(rows)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return loss.item()


encoder, decoder = Encoder(), nn.Linear(48, 64)
pretrained = epochs(
    [*encoder.parameters(), *decoder.parameters()], 3e-3, 12, unlabelled,
    lambda rows: nn.functional.mse_loss(decoder(encoder(unlabelled[rows]).mean(0)), unlabelled[rows]))
print("reconstruction", pretrained)
torch.save({"encoder." + name: tensor for name, tensor in encoder.state_dict().items()}, "pretrained.pt")


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = Encoder()
        self.head = nn.Sequential(nn.Linear(48, 64), lsg.LIF(decay=0.5, method="fixed", surrogate="sigmoid"), nn.Linear(64, 10))

    def forward(self, x):
        return self.head(self.encoder(x)).mean(0)


model = Classifier()
missing = model.load_state_dict(torch.load("pretrained.pt"), strict=False)
for parameter in model.encoder.parameters():
    parameter.requires_grad_(False)
fine = epochs(
    model.head.parameters(), 5e-3, 40, few,
    lambda rows: nn.functional.cross_entropy(model(few[rows]), few_labels[rows]))
print("loss on the labelled images", fine)
with torch.no_grad():
    print("accuracy", (model(test).argmax(1) == test_labels).float().mean().item())
# %% torch/fifth/lif_level_regression.py
"""How strong is the stimulus? Noisy sensor signals in, one number out, read from the mean of the last spiking layer."""
import lsgcli as lsg
import torch
from torch import nn


def signals(n, seed):
    """Signals (T=12, n, 16) in volts, and the strength of the stimulus (n, 1)."""
    g = torch.Generator().manual_seed(seed)
    strength = torch.rand(n, 1, generator=g)
    profile = torch.exp(-((torch.arange(16) - 15 * torch.rand(n, 1, generator=g)) / 3) ** 2)
    course = torch.sin(torch.pi * torch.arange(1, 13) / 13).view(12, 1, 1)
    clean = course * (0.3 + strength) * profile
    return 2 * clean + 0.1 * torch.randn(12, n, 16, generator=g), 2 * strength - 1


class Estimator(nn.Module):
    def __init__(self, hidden=64):
        super().__init__()
        self.embed = nn.Linear(16, hidden)
        self.spikes1 = lsg.LIF(decay=0.8, threshold=0.5, reset="soft", method="trainable-decay", surrogate="sigmoid")
        self.mix = nn.Linear(hidden, hidden)
        self.spikes2 = lsg.LIF(decay=0.8, threshold=0.5, reset="soft", method="trainable-decay", surrogate="sigmoid")
        self.read = nn.Linear(hidden, 1)

    def forward(self, x):
        x = self.spikes1(self.embed(x))
        x = self.spikes2(self.mix(x))
        return self.read(x).mean(0)


torch.manual_seed(14)
x, y = signals(1200, seed=1)
x_test, y_test = signals(400, seed=2)
model = Estimator()
neurons = [p for n, p in model.named_parameters() if n.startswith("spikes")]
synapses = [p for n, p in model.named_parameters() if not n.startswith("spikes")]
optimizer = torch.optim.AdamW([{"params": synapses}, {"params": neurons, "lr": 1e-3, "weight_decay": 0.0}], lr=3e-3)
warmup = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.2, total_iters=30)
for epoch in range(15):
    total = 0.0
    for rows in torch.randperm(1200).split(48):
        prediction = model(x[:, rows])
        loss = nn.functional.mse_loss(prediction, y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        warmup.step()
        total += loss.item()
    if epoch % 5 == 0:
        print(f"{epoch} {total / 25:.4f}")

with torch.no_grad():
    error = ((model(x_test) - y_test) ** 2).mean()
print("R2", 1 - (error / y_test.var()).item())
# %% torch/fifth/lif_mlp.py
"""Digits, three linear layers with neurons of lsg between them; the same image at every timestep."""
import lsgcli as lsg
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

T = 8


class Net(nn.Module):
    def __init__(self, hidden: int = 96, classes: int = 10) -> None:
        super().__init__()
        self.fc1 = nn.Linear(64, hidden)
        self.lif1 = lsg.LIF(decay=0.9, threshold=1.0, reset="soft")
        self.fc2 = nn.Linear(hidden, hidden)
        self.lif2 = lsg.LIF(decay=0.9, threshold=1.0, reset="soft")
        self.fc3 = nn.Linear(hidden, classes)

    def forward(self, x):
        x = x.unsqueeze(0).repeat(T, 1, 1)  # (B, F) to (T, B, F)
        s = self.lif1(self.fc1(x))
        s = self.lif2(self.fc2(s))
        return self.fc3(s).mean(0)


def loaders():
    rng = np.random.default_rng(0)
    bunch = load_digits()
    order = rng.permutation(len(bunch.target))
    x = torch.from_numpy(bunch.data[order].astype(np.float32)) / 8 - 1
    y = torch.from_numpy(bunch.target[order])
    train = TensorDataset(x[:1400], y[:1400])
    test = TensorDataset(x[1400:], y[1400:])
    return DataLoader(train, batch_size=50, shuffle=True), DataLoader(test, batch_size=50)


def main() -> None:
    torch.manual_seed(0)
    train_loader, test_loader = loaders()
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    criterion = nn.CrossEntropyLoss()
    for epoch in range(6):
        net.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = criterion(net(x), y)
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch + 1}: loss {loss.item():.3f}")
    net.eval()
    correct = 0
    with torch.no_grad():
        for x, y in test_loader:
            correct += (net(x).argmax(1) == y).sum().item()
    print(f"test accuracy: {correct / 397:.4f}")


if __name__ == "__main__":
    main()
# %% torch/fifth/raw_weights_latency.py
"""Surrogate gradients from first principles: weights are tensors, inputs fire once, the earlier the larger; synapses and membranes are loops."""
import numpy as np
import torch
import torch.nn as nn
from sklearn.datasets import load_wine

dtype = torch.float
torch.manual_seed(17)
np.random.seed(17)

nb_inputs, nb_hidden, nb_outputs = 13, 60, 3
nb_steps = 40
time_step = 1e-3
tau_mem, tau_syn = 10e-3, 5e-3
alpha = float(np.exp(-time_step / tau_syn))
beta = float(np.exp(-time_step / tau_mem))

x, y = load_wine(return_X_y=True)
x = (x - x.min(0)) / (x.max(0) - x.min(0))
shuffled = np.random.permutation(len(y))
x, y = x[shuffled], y[shuffled]
x_train, y_train, x_test, y_test = x[:120], y[:120], x[120:], y[120:]


def current2firing_time(x, tau=20, thr=0.15, tmax=nb_steps - 1, epsilon=1e-7):
    """Step of the first spike of a neuron with a constant current x; tmax if there is none."""
    idx = x < thr
    x = np.clip(x, thr + epsilon, 1e9)
    times = tau * np.log(x / (x - thr))
    times[idx] = tmax
    return np.minimum(times, tmax).astype(int)


def spike_data(x):
    """Dense spikes (samples, nb_steps, nb_inputs)."""
    times = current2firing_time(x)
    dense = torch.zeros(len(x), nb_steps, nb_inputs, dtype=dtype)
    for sample in range(len(x)):
        for unit in range(nb_inputs):
            if times[sample, unit] < nb_steps - 1:
                dense[sample, times[sample, unit], unit] = 1.0
    return dense


class SurrGradSpike(torch.autograd.Function):
    scale = 20.0

    @staticmethod
    def forward(ctx, input):
        ctx.save_for_backward(input)
        out = torch.zeros_like(input)
        out[input > 0] = 1.0
        return out

    @staticmethod
    def backward(ctx, grad_output):
        input, = ctx.saved_tensors
        grad_input = grad_output.clone()
        grad = grad_input / (SurrGradSpike.scale * torch.abs(input) + 1.0) ** 2
        return grad


spike_fn = SurrGradSpike.apply
weight_scale = 7 * (1.0 - beta)
w1 = torch.empty((nb_inputs, nb_hidden), dtype=dtype, requires_grad=True)
torch.nn.init.normal_(w1, mean=0.0, std=weight_scale / np.sqrt(nb_inputs))
w2 = torch.empty((nb_hidden, nb_outputs), dtype=dtype, requires_grad=True)
torch.nn.init.normal_(w2, mean=0.0, std=weight_scale / np.sqrt(nb_hidden))


def run_snn(inputs):
    h1 = torch.einsum("abc,cd->abd", (inputs, w1))
    syn = torch.zeros((len(inputs), nb_hidden), dtype=dtype)
    mem = torch.zeros((len(inputs), nb_hidden), dtype=dtype)
    spk_rec = []
    for t in range(nb_steps):
        mthr = mem - 1.0
        out = spike_fn(mthr)
        rst = out.detach()
        new_syn = alpha * syn + h1[:, t]
        new_mem = (beta * mem + syn) * (1.0 - rst)
        spk_rec.append(out)
        mem = new_mem
        syn = new_syn
    spk_rec = torch.stack(spk_rec, dim=1)
    h2 = torch.einsum("abc,cd->abd", (spk_rec, w2))
    flt = torch.zeros((len(inputs), nb_outputs), dtype=dtype)
    out = torch.zeros((len(inputs), nb_outputs), dtype=dtype)
    out_rec = [out]
    for t in range(nb_steps):
        new_flt = alpha * flt + h2[:, t]
        new_out = beta * out + flt
        flt = new_flt
        out = new_out
        out_rec.append(out)
    return torch.stack(out_rec, dim=1), spk_rec


log_softmax_fn = nn.LogSoftmax(dim=1)
loss_fn = nn.NLLLoss()
optimizer = torch.optim.Adamax([w1, w2], lr=1e-2, betas=(0.9, 0.999))
train_spikes, train_labels = spike_data(x_train), torch.tensor(y_train)
for e in range(30):
    local_loss = []
    for rows in torch.randperm(len(train_labels)).split(30):
        output, recs = run_snn(train_spikes[rows])
        m, _ = torch.max(output, 1)
        log_p_y = log_softmax_fn(m)
        reg_loss = 1e-5 * torch.sum(recs)
        loss_val = loss_fn(log_p_y, train_labels[rows]) + reg_loss
        optimizer.zero_grad()
        loss_val.backward()
        optimizer.step()
        local_loss.append(loss_val.item())
    if e % 5 == 0:
        print("Epoch %i: loss=%.5f" % (e + 1, np.mean(local_loss)))

with torch.no_grad():
    output, _ = run_snn(spike_data(x_test))
    am = output.max(1).values.argmax(1)
print("Test accuracy: %.3f" % (am == torch.tensor(y_test)).float().mean().item())
# %% torch/fifth/reservoir_readout.py
"""Reservoir computing: random recurrent spiking neurons that are never trained, and a linear readout of their traces that is.
It tells which of four rhythms a burst of noise follows."""
import math

import torch
from torch import nn

torch.manual_seed(40)


def rhythms(n):
    """Inputs (steps, n, 3) and labels: spikes whose probability rises and falls with a period of 5, 8, 12 or 18 steps."""
    label = torch.randint(0, 4, (n,))
    period = torch.tensor([5.0, 8.0, 12.0, 18.0])[label]
    phase = 2 * math.pi * torch.rand(n)
    t = torch.arange(72).unsqueeze(1)
    rate = 0.5 + 0.5 * torch.sin(2 * math.pi * t / period + phase)
    return torch.bernoulli((rate ** 2).unsqueeze(-1).expand(-1, -1, 3)), label


class Reservoir(nn.Module):
    """Time constants are drawn for each neuron; no parameter has a gradient."""

    def __init__(self, inputs, neurons, gain=0.9, density=0.1, strength=0.8):
        super().__init__()
        connected = (torch.rand(neurons, neurons) < density).float()
        weights = torch.randn(neurons, neurons) * connected / math.sqrt(density * neurons)
        self.register_buffer("w_in", strength * torch.randn(inputs, neurons))
        self.register_buffer("w_rec", gain * weights)
        self.register_buffer("decay", torch.exp(-1 / (1 + 12 * torch.rand(neurons))))
        self.register_buffer("trace_decay", torch.exp(-1 / (2 + 15 * torch.rand(neurons))))

    @torch.no_grad()
    def forward(self, spikes):
        v = s = trace = total = torch.zeros(spikes.shape[1], self.w_rec.shape[0])
        moments = []
        for x in spikes:
            v = self.decay * v * (1 - s) + x @ self.w_in + s @ self.w_rec
            s = (v > 1.0).float()
            trace = self.trace_decay * trace + s
            moments.append(trace)
        history = torch.stack(moments[20:])
        return torch.cat([history.mean(0), history.std(0)], dim=1)


reservoir = Reservoir(3, 200)
readout = nn.Sequential(nn.BatchNorm1d(400), nn.Dropout(0.2), nn.Linear(400, 4))
optimizer = torch.optim.AdamW(readout.parameters(), lr=2e-3, weight_decay=0.05)
signals, label = rhythms(900)
features = reservoir(signals)
for epoch in range(25):
    readout.train()
    for rows in torch.randperm(900).split(60):
        loss = nn.functional.cross_entropy(readout(features[rows]), label[rows])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    if epoch % 5 == 4:
        print(f"epoch {epoch + 1} loss {loss.item():.3f}")

readout.eval()
signals, label = rhythms(400)
with torch.no_grad():
    print("test accuracy", (readout(reservoir(signals)).argmax(1) == label).float().mean().item())
