# %% spikingjelly/fourth/accumulate_crossval.py
"""Breast cancer from 30 features: cross validation with gradients accumulated over micro-batches, single-step mode, two optimisers
(weights; time constants)."""
import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import KFold
from sklearn.metrics import balanced_accuracy_score
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn

torch.manual_seed(31)
np.random.seed(31)


class Tabular(nn.Module):
    def __init__(self, n_features, T=8):
        super().__init__()
        self.T = T
        self.fc1 = layer.Linear(n_features, 64)
        self.sn1 = neuron.ParametricLIFNode(init_tau=2.0, surrogate_function=surrogate.Sigmoid(alpha=4.0), v_reset=None)
        self.fc2 = layer.Linear(64, 32)
        self.sn2 = neuron.IFNode(surrogate_function=surrogate.Sigmoid(alpha=4.0), v_reset=None)
        self.fc3 = layer.Linear(32, 2)

    def forward(self, x):
        total = 0.
        for t in range(self.T):
            h = self.sn1(self.fc1(x))
            h = self.sn2(self.fc2(h))
            total = total + self.fc3(h)
        return total / self.T


def train_fold(net, optimizers, x, y, epochs=10, micro=8, accum=4):
    net.train()
    for epoch in range(epochs):
        order = torch.randperm(len(x))
        for opt in optimizers:
            opt.zero_grad()
        for i, rows in enumerate(order.split(micro)):
            loss = F.cross_entropy(net(x[rows]), y[rows]) / accum
            loss.backward()
            functional.reset_net(net)
            if (i + 1) % accum == 0:
                for opt in optimizers:
                    opt.step()
                    opt.zero_grad()


def main():
    raw, target = load_breast_cancer(return_X_y=True)
    scores = []
    for fold, (tr, te) in enumerate(KFold(n_splits=3, shuffle=True, random_state=3).split(raw)):
        mean, std = raw[tr].mean(axis=0), raw[tr].std(axis=0)
        x = torch.from_numpy((raw - mean) / std).float()
        y = torch.from_numpy(target)
        net = Tabular(x.shape[1])
        taus = [p for n, p in net.named_parameters() if n.endswith(".w")]
        weights = [p for n, p in net.named_parameters() if not n.endswith(".w")]
        optimizers = [torch.optim.Adam(weights, lr=3e-3), torch.optim.SGD(taus, lr=0.1)]
        train_fold(net, optimizers, x[tr], y[tr])
        net.eval()
        with torch.no_grad():
            predicted = net(x[te]).argmax(dim=1)
        scores.append(balanced_accuracy_score(target[te], predicted.numpy()))
        print("fold", fold, "balanced accuracy", round(scores[-1], 4))
    print("mean", float(np.mean(scores)))


main()
# %% spikingjelly/fourth/plif_ema.py
"""Digits with parametric LIF neurons; what is evaluated is an exponential moving average of the weights."""
import copy

import torch
from sklearn.datasets import load_digits
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class ModelEMA:
    def __init__(self, model, decay):
        self.module = copy.deepcopy(model).eval()
        for p in self.module.parameters():
            p.requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model):
        averages = self.module.state_dict()
        for name, value in model.state_dict().items():
            if value.dtype.is_floating_point:
                averages[name].mul_(self.decay).add_(value, alpha=1 - self.decay)
            else:
                averages[name].copy_(value)


def build():
    def plif():
        return neuron.ParametricLIFNode(init_tau=2.0, surrogate_function=surrogate.ATan(), detach_reset=True)

    net = nn.Sequential(
        layer.Conv2d(1, 16, 3, padding=1, bias=False), layer.BatchNorm2d(16), plif(), layer.AvgPool2d(2, 2),
        layer.Conv2d(16, 32, 3, padding=1, bias=False), layer.BatchNorm2d(32), plif(), layer.AvgPool2d(2, 2),
        layer.Flatten(), layer.Dropout(0.2), layer.Linear(128, 100), plif(), layer.VotingLayer(10),
    )
    functional.set_step_mode(net, "m")
    return net


def forward(net, images, steps=4):
    x = images.unsqueeze(0).repeat(steps, 1, 1, 1, 1)
    rates = net(x).mean(0)
    functional.reset_net(net)
    return rates


@torch.no_grad()
def test(net, loader):
    net.eval()
    right = sum((forward(net, x).argmax(1) == y).sum().item() for x, y in loader)
    return right / len(loader.dataset)


if __name__ == "__main__":
    torch.manual_seed(2024)
    digits = load_digits()
    x = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    y = torch.tensor(digits.target)
    x = (x - 0.3) * 4
    train = DataLoader(TensorDataset(x[:1300], y[:1300]), batch_size=50, shuffle=True)
    val = DataLoader(TensorDataset(x[1300:], y[1300:]), batch_size=100)
    net = build()
    ema = ModelEMA(net, decay=0.95)
    optimizer = torch.optim.Adam(net.parameters(), lr=4e-3)
    for epoch in range(6):
        net.train()
        for images, labels in train:
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(forward(net, images), nn.functional.one_hot(labels, 10).float())
            loss.backward()
            optimizer.step()
            ema.update(net)
        print(f"epoch {epoch}: loss {loss.item():.4f}")
    print("accuracy of the averaged network", test(ema.module, val))
# %% spikingjelly/fourth/tet_sgd_shapes.py
"""Temporal efficient training (TET): the loss is a mean over the steps. Outlines of shapes, a small VGG, multi-step mode."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from spikingjelly.activation_based import functional, layer, neuron, surrogate

torch.manual_seed(1000)
T, SIDE, CLASSES = 4, 12, 4


def draw(n):
    """Images [n, 1, 12, 12] of a square, a cross, a diagonal cross, a disc; somewhere, with noise."""
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    label = torch.randint(0, CLASSES, (n,))
    images = torch.zeros(n, 1, SIDE, SIDE)
    for i in range(n):
        cx, cy = torch.randint(4, 8, (2,)).tolist()
        dx, dy = (x - cx).abs(), (y - cy).abs()
        far = torch.maximum(dx, dy)
        kinds = [far == 3, ((dx == 0) | (dy == 0)) & (far <= 3), (dx == dy) & (far <= 3), dx ** 2 + dy ** 2 <= 6]
        images[i, 0] = kinds[label[i]].float()
    return images + 0.2 * torch.randn_like(images), label


def block(c_in, c_out):
    return [
        layer.Conv2d(c_in, c_out, kernel_size=3, padding=1, bias=False),
        layer.BatchNorm2d(c_out),
        neuron.LIFNode(tau=2.0, surrogate_function=surrogate.ATan(), detach_reset=True),
    ]


class VGG(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.features = nn.Sequential(
            *block(1, width), *block(width, width), layer.MaxPool2d(2, 2),
            *block(width, 2 * width), *block(2 * width, 2 * width), layer.MaxPool2d(2, 2),
        )
        self.classifier = nn.Sequential(layer.Flatten(), layer.Linear(2 * width * 9, CLASSES))

    def forward(self, x):
        x = x.unsqueeze(0).repeat(T, 1, 1, 1, 1)
        return self.classifier(self.features(x))


def tet_loss(outputs, labels, means=1.0, lamb=0.05):
    """Cross entropy of each step, and a pull of all outputs to `means`."""
    es = sum(F.cross_entropy(outputs[t], labels) for t in range(len(outputs))) / len(outputs)
    mmd = F.mse_loss(outputs, torch.full_like(outputs, means))
    return (1 - lamb) * es + lamb * mmd


net = VGG()
functional.set_step_mode(net, "m")
train_x, train_y = draw(640)
test_x, test_y = draw(240)
optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
EPOCHS = 5
lr_scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS)
for epoch in range(EPOCHS):
    net.train()
    for index in torch.randperm(len(train_y)).split(32):
        outputs = net(train_x[index])
        loss = tet_loss(outputs, train_y[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        functional.reset_net(net)
    lr_scheduler.step()
    net.eval()
    hits = 0
    with torch.no_grad():
        for index in torch.arange(len(test_y)).split(60):
            hits += (net(test_x[index]).mean(0).argmax(1) == test_y[index]).sum().item()
            functional.reset_net(net)
    print(f"epoch={epoch}, loss={loss.item():.4f}, test_acc={hits / len(test_y):.4f}")
# %% spikingjelly/fourth/tiny_spikformer.py
"""Spikformer, tiny: self attention without softmax over tokens of spikes. Which of two marks comes first in a row of symbols?"""
import argparse

import torch
import torch.nn as nn
from spikingjelly.activation_based import functional, neuron, surrogate

LENGTH, SYMBOLS = 10, 8


def sentences(n, seed):
    """Tokens [n, 10]; of the marks 0 and 1 each is there once. Class 0: 0 comes first, 1: 1 comes first."""
    g = torch.Generator().manual_seed(seed)
    tokens = torch.randint(2, SYMBOLS, (n, LENGTH), generator=g)
    places = torch.rand(n, LENGTH, generator=g).argsort(1)[:, :2]
    rows = torch.arange(n)
    tokens[rows, places[:, 0]] = 0
    tokens[rows, places[:, 1]] = 1
    return tokens, (places[:, 0] > places[:, 1]).long()


def lif(v_threshold=1.0):
    return neuron.LIFNode(tau=2.0, v_threshold=v_threshold, detach_reset=True, step_mode="m",
                          surrogate_function=surrogate.ATan())


class LinearBN(nn.Module):
    """Linear layer and batch normalisation over [T, N, L, D]."""

    def __init__(self, d_in, d_out):
        super().__init__()
        self.linear = nn.Linear(d_in, d_out)
        self.bn = nn.BatchNorm1d(d_out)

    def forward(self, x):
        shape = x.shape[:-1]
        return self.bn(self.linear(x.flatten(0, -2))).view(*shape, -1)


class SSA(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads, self.scale = heads, 0.25
        self.q, self.k, self.v = (nn.Sequential(LinearBN(dim, dim), lif()) for _ in range(3))
        self.attn_lif = lif(0.5)
        self.proj = nn.Sequential(LinearBN(dim, dim), lif())

    def split(self, x):
        T, N, L, D = x.shape
        return x.view(T, N, L, self.heads, D // self.heads).transpose(2, 3)

    def forward(self, x):
        q, k, v = self.split(self.q(x)), self.split(self.k(x)), self.split(self.v(x))
        attention = (q @ k.transpose(-2, -1)) * self.scale
        mixed = (attention @ v).transpose(2, 3).flatten(-2)
        return self.proj(self.attn_lif(mixed))


class Encoder(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.attention = SSA(dim, heads)
        self.mlp = nn.Sequential(LinearBN(dim, 2 * dim), lif(), LinearBN(2 * dim, dim), lif())

    def forward(self, x):
        x = x + self.attention(x)
        return x + self.mlp(x)


class Spikformer(nn.Module):
    def __init__(self, dim=48, heads=4, depth=2, T=4):
        super().__init__()
        self.T = T
        self.embed = nn.Embedding(SYMBOLS, dim)
        self.position = nn.Parameter(torch.randn(LENGTH, dim))
        self.stem = nn.Sequential(LinearBN(dim, dim), lif())
        self.encoders = nn.Sequential(*[Encoder(dim, heads) for _ in range(depth)])
        self.head = nn.Linear(dim, 2)

    def forward(self, tokens):
        x = self.embed(tokens) + self.position
        x = x.unsqueeze(0).expand(self.T, -1, -1, -1)
        x = self.encoders(self.stem(x))
        x = x.mean(2)
        return self.head(x.mean(0))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch", type=int, default=50)
    args = parser.parse_args()
    torch.manual_seed(6)
    (x, y), (x_test, y_test) = sentences(1000, 0), sentences(400, 1)
    net = Spikformer()
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.01)
    for epoch in range(args.epochs):
        net.train()
        for rows in torch.randperm(len(y)).split(args.batch):
            loss = nn.functional.cross_entropy(net(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            functional.reset_net(net)
        print(epoch, loss.item())
    net.eval()
    with torch.no_grad():
        hits = (net(x_test).argmax(1) == y_test).float().mean().item()
    print("accuracy", hits)


if __name__ == "__main__":
    main()
