# %% spikingjelly/second/gestures_multistep.py
"""Made event frames: a bar that moves in one of four directions. Multi-step network, time comes first."""
import random

import numpy as np
import torch
from torch import nn
from spikingjelly.activation_based import functional, layer, neuron, surrogate

seed = 31
random.seed(seed)
np.random.seed(seed)
torch.manual_seed(seed)

T, SIDE, BATCH = 12, 12, 12


def events(n):
    """[sample, time, polarity, y, x] and the direction."""
    frames = np.zeros((n, T, 2, SIDE, SIDE), dtype=np.float32)
    labels = np.random.randint(0, 4, n)
    for i, c in enumerate(labels):
        start, width = np.random.randint(0, SIDE), np.random.randint(1, 3)
        sign = 1 if c % 2 == 0 else -1
        for t in range(T):
            for w in range(width):
                on, off = (start + sign * t + w) % SIDE, (start + sign * (t - 2) + w) % SIDE
                if c < 2:
                    frames[i, t, 0, :, on], frames[i, t, 1, :, off] = 1, 1
                else:
                    frames[i, t, 0, on, :], frames[i, t, 1, off, :] = 1, 1
    frames[np.random.rand(*frames.shape) < 0.02] = 1
    keep = np.random.rand(*frames.shape) < 0.8
    return torch.from_numpy(frames * keep), torch.from_numpy(labels)


class Classifier(nn.Module):
    def __init__(self, channels=8):
        super().__init__()
        self.features = nn.Sequential(
            layer.Conv2d(2, channels, 3, padding=1, bias=False),
            layer.BatchNorm2d(channels),
            neuron.ParametricLIFNode(init_tau=2.0, surrogate_function=surrogate.ATan(), detach_reset=True),
            layer.MaxPool2d(2),
            layer.Conv2d(channels, channels, 3, padding=1, bias=False),
            layer.BatchNorm2d(channels),
            neuron.ParametricLIFNode(init_tau=4.0, surrogate_function=surrogate.ATan(), detach_reset=True),
            layer.AvgPool2d(2),
            layer.Flatten(),
        )
        self.head = layer.Linear(channels * 9, 4)
        functional.set_step_mode(self, "m")

    def forward(self, x):
        x = x.transpose(0, 1)  # time, sample, ...
        return self.head(self.features(x)).mean(0)


xs, ys = events(480)
xt, yt = events(156)
net = Classifier()
optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
lr_scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=4)

for epoch in range(4):
    net.train()
    for pick in torch.randperm(len(ys)).split(BATCH):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(xs[pick]), ys[pick])
        loss.backward()
        optimizer.step()
        functional.reset_net(net)
    lr_scheduler.step()
    print(epoch, round(loss.item(), 4))

net.eval()
with torch.no_grad():
    right = 0
    for frames, label in zip(xt.split(BATCH), yt.split(BATCH)):
        right += (net(frames).argmax(1) == label).sum().item()
        functional.reset_net(net)
print("accuracy", right / len(yt))
# %% spikingjelly/second/latency_single_step.py
import argparse
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset
from sklearn.datasets import load_digits
from spikingjelly.activation_based import neuron, encoding, functional, surrogate, layer


class SNN(nn.Module):
    def __init__(self, tau):
        super().__init__()
        self.layer = nn.Sequential(
            layer.Flatten(),
            layer.Linear(64, 120),
            neuron.LIFNode(tau=tau, decay_input=False, surrogate_function=surrogate.ATan()),
            layer.Linear(120, 10, bias=False),
            neuron.LIFNode(tau=tau, decay_input=False, surrogate_function=surrogate.ATan()),
        )

    def forward(self, x: torch.Tensor):
        return self.layer(x)


def main():
    parser = argparse.ArgumentParser(description='LIF digits, latency code')
    parser.add_argument('-T', default=10, type=int, help='simulating time-steps')
    parser.add_argument('-b', default=64, type=int, help='batch size')
    parser.add_argument('-epochs', default=9, type=int)
    parser.add_argument('-lr', default=5e-3, type=float)
    parser.add_argument('-tau', default=2.0, type=float, help='parameter tau of LIF neuron')
    args = parser.parse_args()

    torch.manual_seed(2020)
    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x, dtype=torch.float).view(-1, 1, 8, 8) / 16, torch.tensor(y)
    idx = torch.randperm(len(y))
    train_loader = DataLoader(TensorDataset(x[idx[:1472]], y[idx[:1472]]), batch_size=args.b, shuffle=True, drop_last=True)
    test_loader = DataLoader(TensorDataset(x[idx[1472:1792]], y[idx[1472:1792]]), batch_size=args.b, shuffle=False)

    net = SNN(tau=args.tau)
    optimizer = torch.optim.Adam(net.parameters(), lr=args.lr)
    encoder = encoding.LatencyEncoder(args.T)

    for epoch in range(args.epochs):
        net.train()
        train_loss, train_acc, train_samples = 0, 0, 0
        for img, label in train_loader:
            optimizer.zero_grad()
            label_onehot = F.one_hot(label, 10).float()
            out_fr = 0.
            for t in range(args.T):
                encoded_img = encoder(img)
                out_fr += net(encoded_img)
            out_fr = out_fr / args.T
            loss = F.mse_loss(out_fr, label_onehot)
            loss.backward()
            optimizer.step()
            train_samples += label.numel()
            train_loss += loss.item() * label.numel()
            train_acc += (out_fr.argmax(1) == label).float().sum().item()
            functional.reset_net(net)
            encoder.reset()
        print(f'epoch = {epoch}, train_loss = {train_loss / train_samples:.4f}, train_acc = {train_acc / train_samples:.4f}')

    net.eval()
    test_acc, test_samples = 0, 0
    with torch.no_grad():
        for img, label in test_loader:
            out_fr = 0.
            for t in range(args.T):
                encoded_img = encoder(img)
                out_fr += net(encoded_img)
            test_samples += label.numel()
            test_acc += (out_fr.argmax(1) == label).float().sum().item()
            functional.reset_net(net)
            encoder.reset()
    print(f'test_acc = {test_acc / test_samples:.4f}')


if __name__ == '__main__':
    main()
# %% spikingjelly/second/own_neuron.py
# Own neurons on top of SimpleBaseNode: one that fires at most once in a presentation, one with a rectangular surrogate
import math
import torch
import torch.nn as nn
from spikingjelly.activation_based import neuron, functional
from sklearn.datasets import load_digits

torch.manual_seed(77)
T = 8


class rectangle(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, width):
        ctx.save_for_backward(x)
        ctx.width = width
        return (x >= 0).to(x)

    @staticmethod
    def backward(ctx, grad_output):
        x, = ctx.saved_tensors
        inside = (x.abs() <= ctx.width).to(x)
        return grad_output * inside, None


class Rectangle(nn.Module):
    def __init__(self, width=1.0):
        super().__init__()
        self.width = width

    def forward(self, x):
        return rectangle.apply(x, self.width)


class OnceNode(neuron.SimpleBaseNode):
    """Integrates, and fires a single spike until it is reset."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.register_memory('fired', 0.)
        self.gain = nn.Parameter(torch.tensor(1.0))

    def neuronal_charge(self, x):
        self.v = self.v + self.gain * x

    def neuronal_fire(self):
        spike = self.surrogate_function(self.v - self.v_threshold) * (1. - self.fired)
        self.fired = self.fired + spike.detach()
        return spike


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(64, 128)
        self.once = OnceNode(v_threshold=1., surrogate_function=Rectangle(1.0))
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x):
        v = 0.
        out = 0.
        current = self.fc1(x)
        for t in range(T):
            s = self.once(current)
            v = 0.8 * v + self.fc2(s)
            out = out + v
        return out / T


x, y = load_digits(return_X_y=True)
x = torch.as_tensor(x, dtype=torch.float32)
x = (x - x.mean()) / x.std()
y = torch.as_tensor(y)
p = torch.randperm(1797)
x, y = x[p], y[p]

net = Net()
opt = torch.optim.SGD(net.parameters(), lr=0.2, momentum=0.9)
crit = nn.CrossEntropyLoss()
for epoch in range(10):
    net.train()
    for i in range(0, 1400, 70):
        functional.reset_net(net)
        loss = crit(net(x[i:i + 70]), y[i:i + 70])
        opt.zero_grad()
        loss.backward()
        opt.step()
    print('epoch', epoch, 'loss', loss.item())

net.eval()
hits = []
with torch.no_grad():
    for i in range(1400, 1750, 70):
        functional.reset_net(net)
        hits.append(net(x[i:i + 70]).argmax(1) == y[i:i + 70])
print('test accuracy: %.4f' % torch.cat(hits).float().mean())
# %% spikingjelly/second/spectrum_regression.py
"""A regression with spikes inside and potentials outside: y is a quadratic form of four inputs."""
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn
from spikingjelly.activation_based import functional, layer, neuron, surrogate


def dataset(n, g):
    x = torch.rand(n, 4, generator=g) * 2 - 1
    y = x[:, 0] * x[:, 1] - x[:, 2] ** 2 + 0.5 * x[:, 3]
    return x, y[:, None]


def build(width: int, steps: int):
    lif = partial(neuron.LIFNode, tau=4.0, v_reset=None, surrogate_function=surrogate.Sigmoid(alpha=4.0), step_mode="m")
    net = nn.Sequential(
        layer.Linear(4, width, step_mode="m"),
        lif(v_threshold=0.3),
        layer.Linear(width, width, step_mode="m"),
        lif(v_threshold=0.3),
        layer.Linear(width, 1, step_mode="m"),
        neuron.NonSpikingLIFNode(tau=3.0),
    )

    def predict(x):
        out = net(x.unsqueeze(0).expand(steps, -1, -1))
        functional.reset_net(net)
        return sum(out[-4:]) / 4

    return net, predict


if __name__ == "__main__":
    g = torch.manual_seed(9)
    x_train, y_train = dataset(1024, g)
    x_test, y_test = dataset(256, g)
    net, predict = build(64, 12)
    optim = torch.optim.AdamW(net.parameters(), lr=1e-2)
    sched = torch.optim.lr_scheduler.OneCycleLR(optim, max_lr=1e-2, total_steps=20 * 16)
    for epoch in range(20):
        for rows in torch.randperm(1024, generator=g).split(64):
            loss = F.mse_loss(predict(x_train[rows]), y_train[rows])
            optim.zero_grad()
            loss.backward()
            optim.step()
            sched.step()
        if epoch % 5 == 4:
            print(f"{epoch + 1:3d} {loss.item():.4f}")
    with torch.no_grad():
        error = F.mse_loss(predict(x_test), y_test)
    print(f"R^2 on the test data: {1 - error / y_test.var(unbiased=False):.4f}")
# %% spikingjelly/second/spiking_attention.py
"""Four patches of a digit, spiking self-attention without softmax, residual spikes."""
import torch
from torch import nn, Tensor
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedShuffleSplit
from spikingjelly.activation_based import functional, neuron, surrogate

torch.manual_seed(64)
STEPS, DIM, HEADS = 4, 48, 4


def lif(threshold: float = 1.0) -> nn.Module:
    return neuron.LIFNode(tau=2.0, v_threshold=threshold, detach_reset=True, surrogate_function=surrogate.ATan(), step_mode="m")


class Projection(nn.Module):
    """Linear, batch normalisation and neurons over [T, B, N, C]."""

    def __init__(self, fan_in: int, fan_out: int, threshold: float = 1.0) -> None:
        super().__init__()
        self.linear = nn.Linear(fan_in, fan_out, bias=False)
        self.bn = nn.BatchNorm1d(fan_out, momentum=0.1)
        self.neurons = lif(threshold)

    def forward(self, x: Tensor) -> Tensor:
        h = self.linear(x)
        h = self.bn(h.flatten(0, 2)).view_as(h)
        return self.neurons(h)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (Projection(DIM, DIM) for _ in range(3))
        self.spike = lif(0.5)
        self.out = Projection(DIM, DIM)
        self.scale = 0.25

    def forward(self, x: Tensor) -> Tensor:
        t, b, n, c = x.shape
        q, k, v = (m(x).view(t, b, n, HEADS, c // HEADS).transpose(2, 3) for m in (self.q, self.k, self.v))
        h = (q @ k.transpose(-1, -2)) @ v * self.scale
        return self.out(self.spike(h.transpose(2, 3).reshape(t, b, n, c)))


class Former(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = Projection(16, DIM)
        self.attention = Attention()
        self.mlp = nn.Sequential(Projection(DIM, 2 * DIM), Projection(2 * DIM, DIM))
        self.head = nn.Linear(DIM, 10)

    def forward(self, images: Tensor) -> Tensor:
        patches = images.unfold(1, 4, 4).unfold(2, 4, 4).reshape(len(images), 4, 16)
        x = self.embed(patches.expand(STEPS, -1, -1, -1))
        x = x + self.attention(x)
        x = x + self.mlp(x)
        return self.head(x.mean((0, 2)))


def main() -> None:
    digits = load_digits()
    split = StratifiedShuffleSplit(n_splits=1, test_size=360, random_state=1)
    fit, held = next(split.split(digits.data, digits.target))
    images = torch.tensor(digits.images, dtype=torch.float32) / 8 - 1
    labels = torch.tensor(digits.target)
    model = Former()
    optimiser = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.01)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    for epoch in range(6):
        model.train()
        for rows in torch.tensor(fit)[torch.randperm(len(fit))].split(64):
            optimiser.zero_grad()
            criterion(model(images[rows]), labels[rows]).backward()
            optimiser.step()
            functional.reset_net(model)
    model.eval()
    with torch.no_grad():
        right = model(images[held]).argmax(1) == labels[held]
    print("top-1", right.float().mean().item())


main()
# %% spikingjelly/second/triplet_embedding.py
# metric learning: spiking embedding with a triplet loss, judged by the nearest class mean
import torch, torch.nn as nn
from sklearn.datasets import load_digits
from spikingjelly.activation_based import neuron, surrogate, functional, layer

torch.manual_seed(15)
X, Y = load_digits(return_X_y=True)
X = torch.tensor(X).float() / 16.
Y = torch.tensor(Y)
shuffle = torch.randperm(len(Y)); X, Y = X[shuffle], Y[shuffle]
Xa, Ya, Xb, Yb = X[:1300], Y[:1300], X[1300:], Y[1300:]

class Embed(nn.Module):
    def __init__(self, T=6):
        super().__init__()
        self.T = T
        self.body = nn.Sequential(
            layer.Linear(64, 128), layer.BatchNorm1d(128),
            neuron.IFNode(surrogate_function=surrogate.ATan(), v_reset=None),
            layer.Linear(128, 48), layer.BatchNorm1d(48),
            neuron.IFNode(surrogate_function=surrogate.ATan(), v_reset=None))

    def forward(self, x):
        spikes = 0
        for _ in range(self.T):
            spikes = spikes + self.body(x)
        return spikes / self.T

net = Embed()
criterion = nn.TripletMarginLoss(margin=2.0)
optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
by_class = [torch.nonzero(Ya == c).flatten() for c in range(10)]

def sample(n):
    c = torch.randint(0, 10, (n,)); d = (c + torch.randint(1, 10, (n,))) % 10
    draw = lambda k: torch.stack([by_class[i][torch.randint(len(by_class[i]), ())] for i in k.tolist()])
    return draw(c), draw(c), draw(d)

net.train()
for it in range(200):
    a, p, n = sample(48)
    e = net(torch.cat([Xa[a], Xa[p], Xa[n]]))
    loss = criterion(*e.chunk(3))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    functional.reset_net(net)
    if it % 50 == 49:
        print('iteration', it + 1, 'triplet loss', loss.item())

net.eval()
with torch.no_grad():
    e_train = net(Xa); functional.reset_net(net)
    e_test = net(Xb); functional.reset_net(net)
    means = torch.stack([e_train[by_class[c]].mean(0) for c in range(10)])
    guess = torch.cdist(e_test, means).argmin(1)
print('nearest mean accuracy', (guess == Yb).float().mean().item())
