# %% torch/sixth/second_order_pulses.py
"""Second-order neurons in plain PyTorch: a short pulse in one of eight channels has to be remembered by the synapses."""
import torch
from torch import nn


class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x > 0).float()

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad / (1 + 10 * x.abs()) ** 2


class Synaptic(nn.Module):
    """Synaptic current with decay alpha, membrane potential with decay beta; both are kept in the module."""

    def __init__(self, alpha, beta, threshold=1.0):
        super().__init__()
        self.alpha, self.beta, self.threshold = alpha, beta, threshold
        self.syn = self.mem = None

    def init_states(self):
        self.syn = self.mem = None

    def forward(self, x):
        if self.syn is None:
            self.syn, self.mem = torch.zeros_like(x), torch.zeros_like(x)
        reset = (self.mem > self.threshold).float()
        self.syn = self.alpha * self.syn + x
        self.mem = self.beta * self.mem + self.syn - reset * self.threshold
        return Spike.apply(self.mem - self.threshold)


def pulses(n, g):
    channel = torch.randint(0, 8, (n,), generator=g)
    x = torch.rand(24, n, 8, generator=g) < 0.02
    for t in range(9, 12):
        x[t, torch.arange(n), channel] = True
    return x.float(), channel


torch.manual_seed(2)
g = torch.Generator().manual_seed(2)
hidden = nn.Linear(8, 64, bias=False)
nn.init.normal_(hidden.weight, 0.0, 0.3)
cells = Synaptic(alpha=0.96, beta=0.5)
out = nn.Linear(64, 8)
optimizer = torch.optim.Adam([*hidden.parameters(), *out.parameters()], lr=5e-3)


def answer(x):
    cells.init_states()
    spikes = torch.stack([cells(hidden(frame)) for frame in x])
    return out(spikes[18:].mean(0))


for epoch in range(8):
    for _ in range(30):
        x, channel = pulses(50, g)
        loss = nn.functional.cross_entropy(answer(x), channel)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print("epoch", epoch, "loss", round(loss.item(), 3))
with torch.no_grad():
    x, channel = pulses(500, g)
    print("accuracy", (answer(x).argmax(1) == channel).float().mean().item())
# %% torch/sixth/stbp_order.py
# STBP in its usual form: mem_update, ActFun, a loop over the time window. Was the left or the right sensor touched first?
import torch
import torch.nn as nn
import torch.nn.functional as F

thresh, lens, decay = 0.5, 0.5, 0.8
time_window, batch_size = 12, 60
cfg_fc = [10, 80, 2]


class ActFun(torch.autograd.Function):
    @staticmethod
    def forward(ctx, input):
        ctx.save_for_backward(input)
        return input.gt(thresh).float()

    @staticmethod
    def backward(ctx, grad_output):
        (input,) = ctx.saved_tensors
        temp = (input - thresh).abs() < lens
        return grad_output * temp.float() / (2 * lens)


act_fun = ActFun.apply


def mem_update(ops, x, mem, spike):
    current = ops(x)
    mem = mem * decay * (1.0 - spike) + current
    spike = act_fun(mem)
    return mem, spike


class TouchSNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(cfg_fc[0], cfg_fc[1])
        self.fc2 = nn.Linear(cfg_fc[1], cfg_fc[1])
        self.fc3 = nn.Linear(cfg_fc[1], cfg_fc[2])

    def forward(self, input):
        h1_mem = h1_spike = h2_mem = h2_spike = torch.zeros(input.size(0), cfg_fc[1])
        summed = torch.zeros(input.size(0), cfg_fc[2])
        for step in range(time_window):
            x = input[:, step]
            h1_mem, h1_spike = mem_update(self.fc1, x, h1_mem, h1_spike)
            h2_mem, h2_spike = mem_update(self.fc2, h1_spike, h2_mem, h2_spike)
            summed = summed + self.fc3(h2_spike)
        return summed / time_window


def touch(count):
    """Each sensor has five cells; it is touched for three steps, one sensor after the other."""
    side = torch.randint(0, 2, (count,))
    start = torch.randint(0, 3, (count,))
    data = torch.bernoulli(torch.full((count, time_window, 10), 0.02))
    for i in range(count):
        for k in range(3):
            data[i, start[i] + k, 5 * side[i]:5 * side[i] + 5] = torch.bernoulli(torch.full((5,), 0.7))
            data[i, start[i] + 5 + k, 5 - 5 * side[i]:10 - 5 * side[i]] = torch.bernoulli(torch.full((5,), 0.7))
    return data, side


torch.manual_seed(101)
train_data, train_side = touch(1200)
test_data, test_side = touch(400)
snn = TouchSNN()
optimizer = torch.optim.Adam(snn.parameters(), lr=2e-3)
for epoch in range(10):
    running_loss = 0
    for rows in torch.randperm(len(train_side)).split(batch_size):
        snn.zero_grad()
        labels_ = F.one_hot(train_side[rows], 2).float()
        loss = F.mse_loss(snn(train_data[rows]), labels_)
        running_loss += loss.item()
        loss.backward()
        optimizer.step()
    print("Epoch", epoch + 1, "Loss: %.4f" % (running_loss / 20))
with torch.no_grad():
    predicted = snn(test_data).argmax(1)
print("Test Accuracy of the model on the test touches: %.3f" % predicted.eq(test_side).float().mean().item())
# %% torch/sixth/recurrent_superspike.py
"""A recurrent layer with synaptic currents, as in the tutorials of SpyTorch; the first of two stimuli has to be reported."""
import torch
import torch.nn as nn

nb_inputs, nb_hidden, nb_outputs, nb_steps = 24, 80, 6, 24
alpha, beta = 0.8, 0.9


class SurrGradSpike(torch.autograd.Function):
    scale = 10.0

    @staticmethod
    def forward(ctx, mem, threshold):
        ctx.save_for_backward(mem - threshold)
        return ((mem - threshold) > 0).float()

    @staticmethod
    def backward(ctx, grad_output):
        (distance,) = ctx.saved_tensors
        return grad_output / (SurrGradSpike.scale * distance.abs() + 1.0) ** 2, None


spike_fn = SurrGradSpike.apply


def stimuli(n, g):
    first = torch.randint(0, nb_outputs, (n,), generator=g)
    second = torch.randint(0, nb_outputs, (n,), generator=g)
    rate = torch.full((n, nb_steps, nb_inputs), 0.02)
    for c in range(nb_outputs):
        rate[first == c, 0:6, 4 * c:4 * c + 4] = 0.5
        rate[second == c, 12:18, 4 * c:4 * c + 4] = 0.5
    return torch.bernoulli(rate, generator=g), first


torch.manual_seed(4)
g = torch.Generator().manual_seed(4)
w1 = nn.Parameter(torch.empty(nb_inputs, nb_hidden).normal_(0, 1.0 / nb_inputs ** 0.5))
v1 = nn.Parameter(torch.empty(nb_hidden, nb_hidden).normal_(0, 1.5 / nb_hidden ** 0.5))
w2 = nn.Parameter(torch.empty(nb_hidden, nb_outputs).normal_(0, 1.0 / nb_hidden ** 0.5))


def run_snn(inputs):
    from_input = torch.einsum("abc,cd->abd", inputs, w1)
    syn = mem = out = torch.zeros(len(inputs), nb_hidden)
    flt = potential = torch.zeros(len(inputs), nb_outputs)
    for t in range(nb_steps):
        h1 = from_input[:, t] + torch.einsum("ab,bc->ac", out, v1)
        out = spike_fn(mem, 1.0)
        rst = out.detach()
        syn, mem = alpha * syn + h1, (beta * mem + syn) * (1.0 - rst)
        flt = alpha * flt + out @ w2
        potential = beta * potential + flt
    return potential


optimizer = torch.optim.Adam([w1, v1, w2], lr=4e-3, betas=(0.9, 0.999))
for epoch in range(12):
    for _ in range(20):
        x, y = stimuli(64, g)
        loss = nn.functional.cross_entropy(run_snn(x), y)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([w1, v1, w2], 5.0)
        optimizer.step()
    print("Epoch %i: loss=%.4f" % (epoch + 1, loss.item()))
x, y = stimuli(600, g)
with torch.no_grad():
    print("Test accuracy: %.3f" % (run_snn(x).argmax(1) == y).float().mean().item())
# %% torch/sixth/gated_neurons_rows.py
"""Digits row by row. Leak and threshold of each neuron are learned as logits, as in gated neurons."""
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn


class Fire(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v):
        ctx.save_for_backward(v)
        return (v >= 0).type_as(v)

    @staticmethod
    def backward(ctx, g):
        (v,) = ctx.saved_tensors
        return g * (v.abs() < 0.5).type_as(v)


class GatedLIF(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.leak = nn.Parameter(torch.full((size,), 2.2))
        self.threshold = nn.Parameter(torch.full((size,), -0.4))

    def forward(self, currents):
        """Currents (time, batch, size) -> spikes of the same shape."""
        leak = self.leak.sigmoid()
        threshold = self.threshold.sigmoid()
        v, spikes = torch.zeros_like(currents[0]), []
        for current in currents:
            v = leak * v + current
            s = Fire.apply(v - threshold)
            v = v - s * threshold
            spikes.append(s)
        return torch.stack(spikes)


class RowReader(nn.Module):
    def __init__(self, hidden=128):
        super().__init__()
        self.fc = nn.ModuleList([nn.Linear(8, hidden), nn.Linear(hidden, hidden)])
        self.lif = nn.ModuleList([GatedLIF(hidden), GatedLIF(hidden)])
        self.classifier = nn.Linear(hidden, 10)

    def forward(self, images):
        x = images.permute(1, 0, 2)
        for fc, lif in zip(self.fc, self.lif):
            x = lif(fc(x))
        return self.classifier(x[5:].mean(0))


torch.manual_seed(17)
digits = load_digits()
train_x, test_x, train_y, test_y = train_test_split(
    torch.as_tensor(digits.images, dtype=torch.float32) / 16, torch.as_tensor(digits.target), test_size=0.25, random_state=17)
model = RowReader()
opt = torch.optim.Adam(model.parameters(), lr=4e-3)
for epoch in range(22):
    for rows in torch.randperm(len(train_x)).split(64):
        loss = nn.functional.cross_entropy(model(train_x[rows]), train_y[rows])
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(epoch, round(loss.item(), 3))
with torch.no_grad():
    print("accuracy", (model(test_x).argmax(1) == test_y).float().mean().item())
# %% torch/sixth/modes_of_layers.py
"""Convolutions, normalisation and dropout before leaky neurons; validated before the first epoch and after each."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset


class Heaviside(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx, grad_output):
        return grad_output * torch.clamp(1 - ctx.saved_tensors[0].abs(), min=0)


class LIFLayer(nn.Module):
    def __init__(self, tau=2.0):
        super().__init__()
        self.tau = tau

    def forward(self, current, T):
        v, total = 0.0, 0.0
        for _ in range(T):
            v = v + (current - v) / self.tau
            spike = Heaviside.apply(v - 1.0)
            v = v * (1 - spike.detach())
            total = total + spike
        return total / T


class Classifier(nn.Module):
    def __init__(self, T=5):
        super().__init__()
        self.T = T
        self.conv1, self.bn1, self.lif1 = nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), LIFLayer()
        self.conv2, self.bn2, self.lif2 = nn.Conv2d(12, 24, 3, padding=1), nn.BatchNorm2d(24), LIFLayer()
        self.drop, self.fc = nn.Dropout(0.2), nn.Linear(24 * 4, 10)

    def forward(self, x):
        x = nn.functional.max_pool2d(self.lif1(2 * self.bn1(self.conv1(x)), self.T), 2)
        x = nn.functional.max_pool2d(self.lif2(2 * self.bn2(self.conv2(x)), self.T), 2)
        return self.fc(self.drop(x.flatten(1)))


@torch.no_grad()
def validate(model, loader):
    model.eval()
    right = count = 0
    for image, label in loader:
        right += (model(image).argmax(1) == label).sum().item()
        count += len(label)
    return right / count


def train(model, train_loader, valid_loader, epochs):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    print("before training", validate(model, valid_loader))
    for epoch in range(epochs):
        model.train()
        for image, label in train_loader:
            loss = nn.functional.cross_entropy(model(image), label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print("epoch", epoch, "accuracy", validate(model, valid_loader))


torch.manual_seed(23)
digits = load_digits()
images = torch.tensor(digits.images / 64, dtype=torch.float32).unsqueeze(1)
labels = torch.tensor(digits.target)
mixed = torch.randperm(len(labels))
known, other = mixed[:1300], mixed[1300:]
other = other[labels[other].argsort()]
train_loader = DataLoader(TensorDataset(images[known], labels[known]), batch_size=50, shuffle=True)
valid_loader = DataLoader(TensorDataset(images[other], labels[other]), batch_size=5)
model = Classifier()
train(model, train_loader, valid_loader, epochs=5)
print("test accuracy", validate(model, valid_loader))
# %% torch/sixth/convert_by_hand.py
# A network of ReLUs is trained, its normalisation folded into the weights, scaled and run with integrate-and-fire neurons
import copy

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

STEPS = 100
PERCENTILE = 0.999


def ann():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.AvgPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(64, 10),
    )


def fold(layer, norm):
    """The layer with the normalisation after it in its weights and bias."""
    folded = copy.deepcopy(layer)
    factor = norm.weight / (norm.running_var + norm.eps).sqrt()
    folded.weight.data = layer.weight * factor.view(-1, 1, 1, 1)
    folded.bias.data = (layer.bias - norm.running_mean) * factor + norm.bias
    return folded


@torch.no_grad()
def convert(model, samples):
    """Layers of the spiking network: weights are scaled so that activations are at most about 1."""
    layers, x, before = [], samples, 1.0
    modules = list(model)
    for i, module in enumerate(modules):
        if isinstance(module, nn.Conv2d):
            conv = fold(module, modules[i + 1])
            activation = F.relu(conv(x))
            scale = torch.quantile(activation.flatten()[:400000], PERCENTILE).item()
            x = activation
            conv.weight.data *= before / scale
            conv.bias.data /= scale
            layers.append(conv)
            before = scale
        elif isinstance(module, nn.AvgPool2d):
            x = module(x)
            layers.append(module)
    last = copy.deepcopy(modules[-1])
    last.weight.data *= before
    return layers, last


@torch.no_grad()
def simulate(layers, last, images):
    potentials, total = {}, 0.0
    for _ in range(STEPS):
        x = images
        for i, module in enumerate(layers):
            x = module(x)
            if isinstance(module, nn.Conv2d):
                v = potentials.get(i, 0.0) + x
                x = (v >= 1.0).float()
                potentials[i] = v - x
        total = total + last(x.flatten(1))
    return total


torch.manual_seed(12)
bunch = load_digits()
x = torch.tensor(bunch.images / 16).float().unsqueeze(1)
train_x, test_x, train_y, test_y = train_test_split(x, torch.tensor(bunch.target), test_size=400, random_state=12)
model = ann()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
for epoch in range(8):
    model.train()
    for rows in torch.randperm(len(train_y)).split(64):
        loss = F.cross_entropy(model(train_x[rows]), train_y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print("epoch", epoch, "loss", loss.item())
model.eval()
with torch.no_grad():
    print("ReLU network", (model(test_x).argmax(1) == test_y).float().mean().item())
layers, last = convert(model, train_x[:500])
prediction = simulate(layers, last, test_x).argmax(1)
print("spiking network", (prediction == test_y).float().mean().item())
# %% torch/sixth/gain_control.py
"""Odours, faint or strong: sensors are scaled to a power of 1, then spiking neurons tell odour and strength."""
import argparse

import torch
from torch import nn


def get_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--odours", type=int, default=6)
    parser.add_argument("--sensors", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch", type=int, default=40)
    return parser.parse_args([])


class Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u):
        ctx.save_for_backward(u)
        return u.gt(0).float()

    @staticmethod
    def backward(ctx, grad):
        (u,) = ctx.saved_tensors
        return grad * 0.5 / (1 + (3 * u) ** 2)


class Nose(nn.Module):
    def __init__(self, sensors, odours, hidden=100, steps=8, decay=0.7):
        super().__init__()
        self.steps, self.decay = steps, decay
        self.register_buffer("power", torch.ones(()))
        self.inward, self.outward = nn.Linear(sensors, hidden), nn.Linear(hidden, 2 * odours)

    def forward(self, x):
        power = self.power
        current = self.inward(x / power.sqrt())
        u, count = torch.zeros_like(current), 0
        for _ in range(self.steps):
            u = self.decay * u + current
            spike = Step.apply(u - 1)
            u = u - spike.detach()
            count = count + spike
        return self.outward(count / self.steps)


def sniff(patterns, n, g):
    label = torch.randint(0, len(patterns), (n,), generator=g)
    strong = torch.randint(0, 2, (n,), generator=g)
    concentration = (15 + 25 * strong + 5 * torch.rand(n, generator=g))[:, None]
    noise = 0.3 * torch.rand(n, patterns.shape[1], generator=g)
    return concentration * (patterns[label] + noise), 2 * label + strong


args = get_args()
torch.manual_seed(31)
g = torch.Generator().manual_seed(31)
patterns = torch.rand(args.odours, args.sensors, generator=g)
nose = Nose(args.sensors, args.odours)
nose.power.fill_(sniff(patterns, 500, g)[0].pow(2).mean())
optimizer = torch.optim.Adam(nose.parameters(), lr=3e-3)
for epoch in range(args.epochs):
    for _ in range(25):
        x, label = sniff(patterns, args.batch, g)
        loss = nn.functional.cross_entropy(nose(x), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print("epoch", epoch, "loss", round(loss.item(), 4))
with torch.no_grad():
    x, label = sniff(patterns, 300, g)
    right = [int(nose(x[i:i + 1]).argmax() == label[i]) for i in range(300)]
print("accuracy", sum(right) / 300)
# %% torch/sixth/warm_up.py
# Digits, a schedule with warm-up as for transformers
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

EPOCHS, BATCH, STEPS = 8, 32, 6


class WarmUp:
    """Rate of the optimiser: rises to its own rate for some steps, then falls with the root of the step."""

    def __init__(self, optimizer, warmup_steps):
        self.optimizer, self.warmup_steps, self.number = optimizer, warmup_steps, 0
        self.rates = [group["lr"] for group in optimizer.param_groups]

    def step(self):
        self.number += 1
        factor = self.warmup_steps ** 0.5 * min(self.number ** -0.5, self.number * self.warmup_steps ** -1.5)
        for group, rate in zip(self.optimizer.param_groups, self.rates):
            group["lr"] = rate * factor


def spike(v):
    hard = (v > 1).float()
    soft = torch.sigmoid(4 * (v - 1))
    return hard.detach() + soft - soft.detach()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(64, 120), nn.Linear(120, 120), nn.Linear(120, 10)

    def forward(self, x):
        va = vb = torch.zeros(len(x), 120)
        logits = torch.zeros(len(x), 10)
        for _ in range(STEPS):
            va = 0.8 * va + self.a(x)
            sa = spike(va)
            va = va - sa.detach()
            vb = 0.8 * vb + self.b(sa)
            sb = spike(vb)
            vb = vb - sb.detach()
            logits = logits + self.c(sb) / STEPS
        return logits


torch.manual_seed(40)
x, y = (torch.tensor(part) for part in load_digits(return_X_y=True))
x = (x / 8).float()
order = torch.randperm(len(y))
train_set = TensorDataset(x[order[:1397]], y[order[:1397]])
net = Net()
optimizer = torch.optim.Adam(net.parameters(), lr=2e-3, betas=(0.9, 0.98))
scheduler = WarmUp(optimizer, warmup_steps=60)
for epoch in range(EPOCHS):
    for data, label in DataLoader(train_set, batch_size=BATCH, shuffle=True):
        scheduler.step()
        loss = nn.functional.cross_entropy(net(data), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print("epoch", epoch, "loss", loss.item(), "lr", optimizer.param_groups[0]["lr"])
with torch.no_grad():
    print("accuracy", (net(x[order[1397:]]).argmax(1) == y[order[1397:]]).float().mean().item())
# %% torch/sixth/bars_with_flips.py
"""Bars that move left, right, up or down; flipped copies make more of few recordings. Leaky neurons that read frames."""
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

LEFT, RIGHT, UP, DOWN = range(4)
MIRRORED = torch.tensor([RIGHT, LEFT, UP, DOWN])
SIZE, FRAMES = 8, 6


class Bars(Dataset):
    def __init__(self, count, seed, flips=False):
        g = torch.Generator().manual_seed(seed)
        self.flips = flips
        self.labels = torch.randint(0, 4, (count,), generator=g)
        self.clips = torch.zeros(count, FRAMES, SIZE, SIZE)
        for i in range(count):
            begin = int(torch.randint(0, SIZE, (1,), generator=g))
            sign = 1 if self.labels[i] in (RIGHT, DOWN) else -1
            for t in range(FRAMES):
                line = (begin + sign * t) % SIZE
                if self.labels[i] in (LEFT, RIGHT):
                    self.clips[i, t, :, line] = 1
                else:
                    self.clips[i, t, line, :] = 1
        self.clips = (self.clips + (torch.rand(self.clips.shape, generator=g) < 0.08).float()).clamp(max=1)

    def __getitem__(self, i):
        clip, label = self.clips[i], self.labels[i]
        if self.flips and torch.rand(()) < 0.5:
            clip, label = clip.flip(-1), MIRRORED[label]
        return clip, label

    def __len__(self):
        return len(self.labels)


class Surrogate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v):
        ctx.save_for_backward(v)
        return (v > 1).float()

    @staticmethod
    def backward(ctx, grad):
        (v,) = ctx.saved_tensors
        return grad * torch.exp(-2 * (v - 1).abs())


class MotionNet(nn.Module):
    def __init__(self, width=128):
        super().__init__()
        self.inp, self.mid, self.out = nn.Linear(SIZE * SIZE, width), nn.Linear(width, width), nn.Linear(width, 4)
        self.lateral = nn.Linear(width, width, bias=False)

    def forward(self, clip):
        v1 = s1 = v2 = s2 = torch.zeros(len(clip), self.inp.out_features)
        y = 0
        for frame in clip.flatten(2).unbind(1):
            v1 = 0.6 * v1 * (1 - s1) + self.inp(frame) + self.lateral(s1)
            s1 = Surrogate.apply(v1)
            v2 = 0.6 * v2 * (1 - s2) + self.mid(s1)
            s2 = Surrogate.apply(v2)
            y = y + self.out(s2)
        return y / FRAMES


torch.manual_seed(50)
loader = DataLoader(Bars(500, 1, flips=True), batch_size=25, shuffle=True)
net = MotionNet()
optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3)
for epoch in range(14):
    for clip, label in loader:
        loss = nn.functional.cross_entropy(net(clip), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print("epoch", epoch, "loss", round(loss.item(), 3))
test = Bars(400, 2)
with torch.no_grad():
    print("accuracy", (net(test.clips).argmax(1) == test.labels).float().mean().item())
# %% torch/sixth/labels_from_one.py
# Classes in the file are numbered from 1, number 0 is kept for "nothing"; scored sample by sample
import torch
import torch.nn as nn
from sklearn.datasets import make_classification

CLASSES = 5


def load_file():
    """Measurements and numbers of the classes, 1 to CLASSES, as a file would give them."""
    x, y = make_classification(n_samples=1600, n_features=16, n_informative=10, n_redundant=0, n_classes=CLASSES,
                               n_clusters_per_class=1, class_sep=2.0, flip_y=0.0, random_state=9)
    x = (x - x.min(0)) / (x.max(0) - x.min(0))
    return torch.tensor(x).float(), torch.tensor(y + 1)


class SpikeSTE(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u):
        ctx.save_for_backward(u)
        return (u >= 1).float()

    @staticmethod
    def backward(ctx, grad):
        (u,) = ctx.saved_tensors
        return grad * ((u > 0) & (u < 2)).float()


class Net(nn.Module):
    def __init__(self, steps=8):
        super().__init__()
        self.steps = steps
        self.hidden = nn.Linear(16, 80)
        self.readout = nn.Linear(80, CLASSES + 1)

    def forward(self, x):
        u = torch.zeros(x.shape[0], 80)
        rate = torch.zeros(x.shape[0], 80)
        for _ in range(self.steps):
            u = 0.9 * u + self.hidden(2 * x - 1)
            s = SpikeSTE.apply(u)
            u = u - s
            rate = rate + s / self.steps
        return self.readout(rate)


torch.manual_seed(60)
x, numbers = load_file()
train_x, train_numbers, test_x, test_numbers = x[:1200], numbers[:1200], x[1200:], numbers[1200:]
net = Net()
optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
for epoch in range(10):
    total = 0
    for rows in torch.randperm(1200).split(40):
        loss = nn.functional.cross_entropy(net(train_x[rows]), train_numbers[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    print(f"epoch {epoch}: {total / 30:.3f}")

y_labels, y_preds = [], []
with torch.no_grad():
    for sample, number in zip(test_x, test_numbers):
        y_preds.append(int(net(sample[None]).argmax()))
        y_labels.append(int(number))
right = sum(pred == label for pred, label in zip(y_preds, y_labels))
print("accuracy", right / len(y_labels))
# %% torch/sixth/latency_by_hand.py
"""A hand-written latency code for measurements of flowers and wines: the larger a value, the earlier its only spike."""
import torch
from sklearn.datasets import load_wine
from sklearn.model_selection import StratifiedShuffleSplit
from torch import nn


class SingleEncoder:
    def __init__(self, time):
        self.time = time

    def __call__(self, values):
        """Values in [0, 1], shape (batch, features), to spikes (time, batch, features)."""
        when = ((1 - values) * (self.time - 1)).round().long()
        spikes = torch.zeros(self.time, *values.shape)
        spikes.scatter_(0, when[None], 1.0)
        return spikes


class Bell(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v):
        ctx.save_for_backward(v)
        return (v > 0).float()

    @staticmethod
    def backward(ctx, grad):
        (v,) = ctx.saved_tensors
        return grad * torch.exp(-(2 * v) ** 2)


class LatencyNet(nn.Module):
    def __init__(self, inputs, outputs, hidden=80):
        super().__init__()
        self.w = nn.Linear(inputs, hidden)
        self.u = nn.Linear(hidden, outputs)
        nn.init.normal_(self.w.weight, 0.0, 0.6)

    def forward(self, spikes):
        v = s = torch.zeros(spikes.shape[1], self.w.out_features)
        out = torch.zeros(spikes.shape[1], self.u.out_features)
        for x in spikes:
            v = 0.9 * v * (1 - s) + self.w(x)
            s = Bell.apply(v - 1)
            out = 0.98 * out + self.u(s)
        return out


torch.manual_seed(70)
features, kinds = load_wine(return_X_y=True)
rank = torch.tensor(features).argsort(0).argsort(0).float() / (len(features) - 1)
kinds = torch.tensor(kinds)
train, test = next(StratifiedShuffleSplit(1, test_size=60, random_state=70).split(features, kinds))
encode = SingleEncoder(time=16)
net = LatencyNet(features.shape[1], 3)
optimizer = torch.optim.Adam(net.parameters(), lr=4e-3)
for epoch in range(25):
    for rows in torch.randperm(len(train)).split(20):
        batch = torch.tensor(train)[rows]
        loss = nn.functional.cross_entropy(net(encode(rank[batch])), kinds[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if epoch % 5 == 4:
        print("epoch", epoch, "loss", loss.item())
with torch.no_grad():
    print("accuracy", (net(encode(rank[test])).argmax(1) == kinds[test]).float().mean().item())
