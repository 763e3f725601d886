"""Learning rate on plateau, and the best epoch is restored for the test."""
import copy

import snntorch as snn
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from snntorch import surrogate
from torch import nn


class ConvNet(nn.Module):
    def __init__(self, steps=6):
        super().__init__()
        self.steps = steps
        self.c = nn.Conv2d(1, 12, 3, padding=1)
        self.p = nn.MaxPool2d(2)
        self.n1 = snn.Leaky(beta=0.7, learn_beta=True, spike_grad=surrogate.fast_sigmoid(slope=5))
        self.f = nn.Linear(12 * 16, 10)
        self.n2 = snn.Leaky(beta=0.9, reset_mechanism="none")

    def forward(self, x):
        u, w = self.n1.init_leaky(), self.n2.init_leaky()
        drive = self.p(self.c(x))
        for _ in range(self.steps):
            s, u = self.n1(drive, u)
            _, w = self.n2(self.f(s.flatten(1)), w)
        return w


def iterate(x, y, size, generator):
    order = torch.randperm(len(y), generator=generator)
    for rows in order.split(size)[:24]:
        yield x[rows], y[rows]


def accuracy(net, x, y):
    with torch.no_grad():
        return (net(x).argmax(1) == y).float().mean().item()


def main():
    torch.manual_seed(9)
    images, target = load_digits(return_X_y=True)
    images = images.reshape(-1, 1, 8, 8).astype("float32") / 16 * 2
    x, x_test, y, y_test = (torch.tensor(v) for v in train_test_split(images, target, test_size=300, random_state=9))
    x_val, y_val, x, y = x[:200], y[:200], x[200:], y[200:]
    net = ConvNet()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="min", factor=0.3, patience=1)
    generator = torch.Generator()
    generator.manual_seed(9)
    best, kept = 0.0, copy.deepcopy(net.state_dict())
    for epoch in range(7):
        total = 0.0
        for xb, yb in iterate(x, y, 48, generator):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(xb), yb)
            loss.backward()
            optimizer.step()
            total += loss.item()
        plateau.step(total)
        val = accuracy(net, x_val, y_val)
        if val > best:
            best, kept = val, copy.deepcopy(net.state_dict())
        print(f"epoch {epoch} loss {total:.2f} val {val:.3f} lr {optimizer.param_groups[0]['lr']:.4g}")
    net.load_state_dict(kept)
    print("test accuracy", accuracy(net, x_test, y_test))


main()
