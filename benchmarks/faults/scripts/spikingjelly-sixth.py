# %% spikingjelly/sixth/one_by_one.py
"""Digits by a deep network of integrate-and-fire neurons, step by step; tested with one image after the other."""
import torch
from sklearn.datasets import load_digits
from spikingjelly.activation_based import functional, neuron, surrogate
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split


class DeepSNN(nn.Module):
    def __init__(self, width=96, depth=3, T=6):
        super().__init__()
        self.T = T
        self.first = nn.Linear(64, width)
        self.linears = nn.ModuleList([nn.Linear(width, width) for _ in range(depth - 1)])
        self.spikes = nn.ModuleList(neuron.IFNode(v_reset=None, surrogate_function=surrogate.ATan(), detach_reset=True) for _ in range(depth))
        self.last = nn.Linear(width, 10)

    def forward(self, image):
        out = torch.zeros(image.shape[0], 10)
        for t in range(self.T):
            x = self.spikes[0](self.first(image))
            for linear, spike in zip(self.linears, self.spikes[1:]):
                x = spike(linear(x))
            out = out + self.last(x)
        return out / self.T


def recognise(net, dataset):
    """One image at a time, as a camera would deliver them."""
    right = 0
    net.eval()
    with torch.no_grad():
        for image, label in DataLoader(dataset, batch_size=1):
            right += int(net(image).argmax() == label)
            functional.reset_net(net)
    return right / len(dataset)


torch.manual_seed(14)
digits = load_digits()
dataset = TensorDataset(torch.tensor(digits.data / 16).float(), torch.tensor(digits.target))
training, held_out = random_split(dataset, [1497, 300])
net = DeepSNN()
optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
for epoch in range(8):
    net.train()
    for image, label in DataLoader(training, batch_size=50, shuffle=True):
        loss = nn.functional.cross_entropy(net(image), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        functional.reset_net(net)
    print("epoch", epoch, "loss", round(loss.item(), 3))
print("accuracy", recognise(net, held_out))
# %% spikingjelly/sixth/own_node_rows.py
"""Digits row by row: an own neuron that learns how much of its potential it keeps, and its threshold."""
from typing import Callable

import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from spikingjelly.activation_based import functional, layer, neuron, surrogate


class KeepingNode(neuron.SimpleBaseNode):
    def __init__(self, features: int, init_keep: float = 1.0, init_threshold: float = 1.0,
                 surrogate_function: Callable = surrogate.ATan(), step_mode="s"):
        super().__init__(v_threshold=1.0, v_reset=None, surrogate_function=surrogate_function, detach_reset=True, step_mode=step_mode)
        self.keep = nn.Parameter(torch.full((features,), init_keep))
        self.v_threshold = nn.Parameter(torch.full((features,), init_threshold))

    def neuronal_charge(self, x: torch.Tensor):
        self.v = torch.sigmoid(self.keep) * self.v + x


class RowNet(nn.Module):
    def __init__(self, hidden=128):
        super().__init__()
        self.body = nn.Sequential(
            layer.Linear(8, hidden), KeepingNode(hidden),
            layer.Linear(hidden, hidden), KeepingNode(hidden, init_keep=3.0),
        )
        self.head = nn.Linear(hidden, 10)
        functional.set_step_mode(self, "m")

    def forward(self, rows_of_batch):
        spikes = self.body(rows_of_batch.transpose(0, 1))  # [N, 8, 8] -> [T, N, 8]
        return self.head(spikes[4:].mean(0))


torch.manual_seed(8)
bunch = load_digits()
parts = train_test_split(torch.tensor(bunch.images / 8 - 0.5).float(), torch.tensor(bunch.target), test_size=400, random_state=8)
train_x, test_x, train_y, test_y = parts
net = RowNet()
optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
for epoch in range(24):
    net.train()
    for rows in torch.randperm(len(train_y)).split(64):
        loss = nn.functional.cross_entropy(net(train_x[rows]), train_y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        functional.reset_net(net)
    print("epoch", epoch, "loss", round(loss.item(), 3), "keep", round(torch.sigmoid(net.body[1].keep).mean().item(), 3))
net.eval()
with torch.no_grad():
    prediction = net(test_x).argmax(1)
    functional.reset_net(net)
print("test accuracy:", (prediction == test_y).float().mean().item())
# %% spikingjelly/sixth/triangle_surrogate_conv.py
# A surrogate function of one's own, convolutions with batch normalisation, small batches
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Triangle(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return surrogate.heaviside(x)

    @staticmethod
    def backward(ctx, grad_output):
        (x,) = ctx.saved_tensors
        return grad_output * 0.8 * F.threshold(1.0 - torch.abs(x), 0, 0)


class TriangleSurrogate(nn.Module):
    def forward(self, x):
        return Triangle.apply(x)


def conv_block(c_in, c_out):
    return [
        layer.Conv2d(c_in, c_out, 3, padding=1, bias=False),
        layer.BatchNorm2d(c_out),
        neuron.ParametricLIFNode(init_tau=2.0, surrogate_function=TriangleSurrogate(), detach_reset=True),
        layer.MaxPool2d(2),
    ]


net = nn.Sequential(*conv_block(1, 12), *conv_block(12, 24), layer.Flatten(), layer.Linear(24 * 4, 10))
T, BATCH = 4, 16
functional.set_step_mode(net, "m")
torch.manual_seed(33)
for module in net.modules():
    if hasattr(module, "reset_parameters"):
        module.reset_parameters()

digits = load_digits()
images = torch.tensor(digits.images / 16, dtype=torch.float32)[:, None]
target = torch.tensor(digits.target)
permutation = torch.randperm(len(target))
known, unknown = permutation[:1153], permutation[1153:]
loader = DataLoader(TensorDataset(images[known], target[known]), batch_size=BATCH, shuffle=True)
optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)

for epoch in range(4):
    net.train()
    for image, label in loader:
        loss = F.cross_entropy(net(image.repeat(T, 1, 1, 1, 1)).mean(0), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        functional.reset_net(net)
    print(f"epoch {epoch} loss {loss.item():.3f}")

net.eval()
correct = 0
with torch.no_grad():
    for rows in unknown.split(100):
        correct += (net(images[rows].repeat(T, 1, 1, 1, 1)).mean(0).argmax(1) == target[rows]).sum().item()
        functional.reset_net(net)
print("accuracy", correct / len(unknown))
# %% spikingjelly/sixth/deep_if.py
"""How far do gradients reach? Five layers of integrate-and-fire neurons without normalisation."""
import argparse

import torch
from sklearn.datasets import load_digits
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn

SURROGATES = {
    "atan": surrogate.ATan(alpha=0.4),
    "sigmoid": surrogate.Sigmoid(alpha=4.0),
    "rectangle": surrogate.PiecewiseLeakyReLU(w=1.0, c=0.01),
}


def build(depth, width, act):
    modules, size = [], 64
    for _ in range(depth):
        modules += [layer.Linear(size, width), neuron.IFNode(surrogate_function=act, v_reset=None)]
        size = width
    modules.append(layer.Linear(size, 10))
    net = nn.Sequential(*modules)
    for module in net.modules():
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight)
            nn.init.constant_(module.bias, 0.1)
    functional.set_step_mode(net, "m")
    return net


def main(args):
    torch.manual_seed(args.seed)
    pixels, digit = (torch.tensor(a) for a in load_digits(return_X_y=True))
    pixels = (pixels / 16).float()
    order = torch.randperm(len(digit))
    fit, check = order[:1300], order[1300:]
    act = SURROGATES[args.surrogate]
    net = build(args.depth, args.width, act)
    optimizer = torch.optim.Adam(net.parameters(), lr=args.lr)
    for epoch in range(args.epochs):
        net.train()
        for rows in fit[torch.randperm(len(fit))].split(65):
            logits = net(pixels[rows].expand(args.T, -1, -1)).mean(0)
            loss = nn.functional.cross_entropy(logits, digit[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            functional.reset_net(net)
        print("epoch", epoch, "loss", loss.item())
    net.eval()
    act.set_spiking_mode(True)
    with torch.no_grad():
        logits = net(pixels[check].expand(args.T, -1, -1)).mean(0)
    print("accuracy", (logits.argmax(1) == digit[check]).float().mean().item())


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--surrogate", choices=list(SURROGATES), default="atan")
    parser.add_argument("--depth", type=int, default=5)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--T", type=int, default=6)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=4)
    main(parser.parse_args())
# %% spikingjelly/sixth/spike_counts.py
# Short recordings of touch: numbers of spikes of the outputs should come near a target, as in SLAYER
import torch
import torch.nn as nn
import torch.nn.functional as F
from spikingjelly.activation_based import functional, layer, neuron, surrogate

torch.manual_seed(71)
T, TAXELS, TEXTURES = 10, 30, 6
true_rate, false_rate = 0.7, 0.1
profile = 0.02 + 0.8 * torch.rand(TEXTURES, T, TAXELS) ** 3


def touches(n):
    texture = torch.randint(0, TEXTURES, (n,))
    return torch.bernoulli(profile[texture]).transpose(0, 1), texture  # [T, N, TAXELS]


def spike_count_loss(spikes, texture):
    count = spikes.sum(0)
    wanted = F.one_hot(texture, TEXTURES).float()
    desired = T * (true_rate * wanted + false_rate * (1 - wanted))
    return F.mse_loss(count, desired)


def lif():
    return neuron.LIFNode(tau=2.0, decay_input=False, surrogate_function=surrogate.SoftSign(), step_mode="m")


model = nn.Sequential(layer.Linear(TAXELS, 80, step_mode="m"), lif(), layer.Linear(80, TEXTURES, step_mode="m"), lif())
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
for epoch in range(12):
    for batch in range(25):
        spikes, texture = touches(64)
        optimizer.zero_grad()
        loss = spike_count_loss(model(spikes), texture)
        loss.backward()
        optimizer.step()
        functional.reset_net(model)
    print("epoch", epoch, "loss", round(loss.item(), 3))
with torch.no_grad():
    spikes, texture = touches(600)
    accuracy = (model(spikes).sum(0).argmax(1) == texture).float().mean()
print("accuracy", accuracy.item())
# %% spikingjelly/sixth/pendulum_regression.py
"""The angle of a damped pendulum some time ahead, from its angle and velocity: potentials of neurons that do not spike."""
import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


def simulate(count, seed):
    g = torch.Generator().manual_seed(seed)
    angle = 2 * torch.rand(count, generator=g) - 1
    velocity = 2 * torch.rand(count, generator=g) - 1
    start = torch.stack([angle, velocity], dim=1)
    for _ in range(40):
        velocity = velocity - 0.05 * (torch.sin(3 * angle) + 0.3 * velocity)
        angle = angle + 0.05 * velocity
    return start, angle[:, None]


class PendulumSNN(nn.Module):
    def __init__(self, T=8, hidden=128):
        super().__init__()
        self.T = T
        self.layers = nn.Sequential(
            layer.Linear(2, hidden),
            neuron.LIFNode(tau=2.0, surrogate_function=surrogate.ATan()),
            layer.Linear(hidden, hidden),
            neuron.LIFNode(tau=2.0, surrogate_function=surrogate.ATan()),
            layer.Linear(hidden, 1),
        )
        functional.set_step_mode(self, "m")

    def forward(self, start):
        return self.layers(4 * start.expand(self.T, -1, -1)).mean(0)


torch.manual_seed(6)
train_loader = DataLoader(TensorDataset(*simulate(2000, 0)), batch_size=50, shuffle=True)
test_start, test_angle = simulate(500, 1)
net = PendulumSNN()
optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
for epoch in range(8):
    for train_data, target_data in train_loader:
        net.train()
        optimizer.zero_grad()
        snn_output = net(train_data)
        loss = F.mse_loss(snn_output, target_data)
        loss.backward()
        optimizer.step()
        functional.reset_net(net)
    print("epoch", epoch, "mse", loss.item())
net.eval()
with torch.no_grad():
    error = F.mse_loss(net(test_start), test_angle)
print("R2", 1 - (error / test_angle.var()).item())
# %% spikingjelly/sixth/two_ears.py
"""Where is the tone? Spikes of two ears, each with its own branch; the branches are added."""
import torch
from spikingjelly.activation_based import base, functional, layer, neuron, surrogate
from torch import nn

CHANNELS, T, PLACES, TONES = 10, 16, 4, 2  # far left, left, right, far right


def listen(count, generator):
    """Spikes (T, count, 2, CHANNELS): the ear that is farther away hears the tone later and more faintly."""
    place = torch.randint(0, PLACES, (count,), generator=generator)
    tone = torch.randint(0, TONES, (count,), generator=generator)
    rate = torch.full((T, count, 2, CHANNELS), 0.02)
    for p, (delay, loud) in enumerate(((5, 0.2), (1, 0.5), (1, 0.5), (5, 0.2))):
        near = 0 if p < 2 else 1
        for k in range(TONES):
            who = (place == p) & (tone == k)
            rate[2:8, who, near, 5 * k:5 * k + 5] = 0.8
            rate[2 + delay:8 + delay, who, 1 - near, 5 * k:5 * k + 5] = loud
    return torch.bernoulli(rate, generator=generator), TONES * place + tone


class Branch(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.fc = layer.Linear(CHANNELS, outputs)
        self.sn = neuron.LIFNode(tau=3.0, decay_input=False, surrogate_function=surrogate.ATan(), detach_reset=True)

    def forward(self, x):
        return self.sn(self.fc(x))


class Localiser(nn.Module):
    def __init__(self, width=60):
        super().__init__()
        self.ears = nn.ModuleList([Branch(width) for _ in range(2)])
        self.mix = layer.Linear(width, width)
        self.sn = neuron.LIFNode(tau=4.0, decay_input=False, surrogate_function=surrogate.ATan(), detach_reset=True)
        self.out = nn.Linear(width, PLACES * TONES)
        functional.set_step_mode(self, "m")

    def forward(self, x):
        heard = sum(ear(x[:, :, side]) for side, ear in enumerate(self.ears))
        return self.out(self.sn(self.mix(heard)).mean(0))


torch.manual_seed(90)
generator = torch.Generator().manual_seed(90)
model = Localiser()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for epoch in range(10):
    for _ in range(25):
        x, y = listen(64, generator)
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for module in model.modules():
            if isinstance(module, base.MemoryModule):
                module.reset()
    print("epoch", epoch, "loss", round(loss.item(), 3))
x, y = listen(600, generator)
with torch.no_grad():
    print("accuracy", (model(x).argmax(1) == y).float().mean().item())
# %% spikingjelly/sixth/event_lists.py
"""Lists of events of a tiny sensor, cut into frames of equal duration. Two bursts follow each other after a pause that
depends on the class, as does how often a pixel fires within the first."""
import numpy as np
import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn
from torch.utils.data import DataLoader, Dataset

SENSOR, DURATION, FRAMES = 12, 1000, 10  # pixels, microseconds of a frame


class Bursts(Dataset):
    """Recordings with times of the camera's clock, which runs since it was switched on."""

    def __init__(self, count, seed):
        random = np.random.default_rng(seed)
        self.samples, clock = [], 0
        for _ in range(count):
            label = int(random.integers(6))
            pause, density = (1500, 3500, 6500)[label % 3], (2, 6)[label // 3]
            times, pixels = [], []
            for begin, each in ((0, density), (1000 + pause, 3)):
                for pixel in range(SENSOR):
                    number = random.poisson(each)
                    times.append(begin + random.integers(0, 1000, number))
                    pixels.append(np.full(number, pixel))
            times, pixels = np.concatenate(times), np.concatenate(pixels)
            order = times.argsort()
            self.samples.append((clock + times[order], pixels[order], label))
            clock += 20000

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        times, pixels, label = self.samples[index]
        frames = np.zeros((FRAMES, SENSOR), dtype=np.float32)
        frame = (times - times[0]) // DURATION
        frame = frame.clip(0, FRAMES - 1)
        np.add.at(frames, (frame, pixels), 1.0)
        return torch.from_numpy(frames), label


def network():
    net = nn.Sequential(
        layer.Linear(SENSOR, 80),
        neuron.LIFNode(tau=2.0, decay_input=False, surrogate_function=surrogate.ATan(), detach_reset=True),
        layer.Linear(80, 80),
        neuron.LIFNode(tau=4.0, decay_input=False, surrogate_function=surrogate.ATan(), detach_reset=True),
        layer.Flatten(),
    )
    functional.set_step_mode(net, "m")
    return net


torch.manual_seed(0)
body, head = network(), nn.Linear(FRAMES * 80, 6)
optimizer = torch.optim.Adam([*body.parameters(), *head.parameters()], lr=2e-3)
loader = DataLoader(Bursts(900, 0), batch_size=45, shuffle=True)
test_loader = DataLoader(Bursts(300, 1), batch_size=100)


def classify(frames):
    spikes = body(frames.transpose(0, 1))
    functional.reset_net(body)
    return head(spikes.transpose(0, 1).flatten(1))


for epoch in range(6):
    for frames, label in loader:
        loss = nn.functional.cross_entropy(classify(frames), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print("epoch", epoch, "loss", round(loss.item(), 3))
with torch.no_grad():
    right = sum((classify(frames).argmax(1) == label).sum().item() for frames, label in test_loader)
print("accuracy", right / 300)
