import copy
import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, Dataset


class Spike(torch.autograd.Function):
    """Heaviside forward, triangle backward."""

    @staticmethod
    def forward(ctx, v):
        ctx.save_for_backward(v)
        return (v >= 0).type_as(v)

    @staticmethod
    def backward(ctx, grad):
        (v,) = ctx.saved_tensors
        return grad * F.relu(1 - v.abs())


class LIF(nn.Module):
    def __init__(self, size, tau=3.0, v_th=1.0):
        super().__init__()
        self.decay = nn.Parameter(torch.full((size,), -math.log(math.exp(1 / tau) - 1)))
        self.v_th = v_th

    def forward(self, currents):
        """currents: [steps, batch, size]"""
        v = torch.zeros_like(currents[0])
        out = []
        a = torch.sigmoid(self.decay)
        for i in currents:
            v = a * v + (1 - a) * i
            s = Spike.apply(v - self.v_th)
            v = v * (1 - s.detach())
            out.append(s)
        return torch.stack(out)


class Digits(Dataset):
    def __init__(self, train):
        data = load_digits()
        rows = [i for i in range(1797) if (i % 5 != 0) == train]
        self.x = torch.tensor(data.data[rows], dtype=torch.float32) / 16
        self.y = torch.tensor(data.target[rows])

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return self.x[i], self.y[i]


class Model(nn.Module):
    def __init__(self, steps=10):
        super().__init__()
        self.steps = steps
        self.fc1, self.lif1 = nn.Linear(64, 128), LIF(128)
        self.bn = nn.BatchNorm1d(128)
        self.fc2, self.lif2 = nn.Linear(128, 64), LIF(64)
        self.fc3 = nn.Linear(64, 10)

    def forward(self, x):
        h = self.bn(self.fc1(x)).add(0.5).mul(2)
        s = self.lif1(h.expand(self.steps, -1, -1))
        s = self.lif2(4 * self.fc2(s))
        return self.fc3(s.mean(0) * 4)


class EMA:
    def __init__(self, model, decay=0.95):
        self.average = copy.deepcopy(model).requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model):
        for a, p in zip(self.average.parameters(), model.parameters()):
            a.lerp_(p, 1 - self.decay)
        for a, b in zip(self.average.buffers(), model.buffers()):
            a.copy_(b)


def main():
    torch.manual_seed(21)
    loader = DataLoader(Digits(True), batch_size=64, shuffle=True)
    test = Digits(False)
    model = Model()
    ema = EMA(model)
    epochs = 6
    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    total = epochs * len(loader)
    sched = torch.optim.lr_scheduler.LambdaLR(opt, lambda i: min(1, (i + 1) / 20) * 0.5 * (1 + math.cos(math.pi * i / total)))
    for epoch in range(epochs):
        for x, y in loader:
            loss = F.cross_entropy(model(x), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
            sched.step()
            ema.update(model)
    ema.average.eval()
    with torch.no_grad():
        acc = (ema.average(test.x).argmax(1) == test.y).float().mean().item()
    print(f"averaged model: {acc:.4f}")


if __name__ == "__main__":
    main()
