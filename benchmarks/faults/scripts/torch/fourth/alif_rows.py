"""Digits read row by row by adaptive neurons (ALIF) with recurrent weights."""
import math

import torch
import torch.nn as nn
from sklearn.datasets import load_digits

torch.manual_seed(1234)


def gaussian(x, mu=0., sigma=.5):
    return torch.exp(-((x - mu) ** 2) / (2 * sigma ** 2)) / math.sqrt(2 * math.pi) / sigma


class MultiGaussian(torch.autograd.Function):
    """Surrogate with small negative flanks."""

    @staticmethod
    def forward(ctx, u):
        ctx.save_for_backward(u)
        return u.gt(0).float()

    @staticmethod
    def backward(ctx, grad):
        u, = ctx.saved_tensors
        h, s, lens = .15, 6.0, .5
        slope = gaussian(u, sigma=lens) * (1. + h) - gaussian(u, mu=lens, sigma=s * lens) * h \
            - gaussian(u, mu=-lens, sigma=s * lens) * h
        return grad * slope * 0.5


class ALIF(nn.Module):
    B0, BETA = 0.4, 1.2

    def __init__(self, n_in, n):
        super().__init__()
        self.n = n
        self.dense = nn.Linear(n_in, n)
        self.recurrent = nn.Linear(n, n)
        self.tau_m = nn.Parameter(torch.empty(n).normal_(6., 1.))
        self.tau_adp = nn.Parameter(torch.empty(n).normal_(20., 3.))
        nn.init.xavier_uniform_(self.dense.weight)
        nn.init.orthogonal_(self.recurrent.weight, gain=0.5)

    def start(self, n_samples):
        zeros = torch.zeros(n_samples, self.n)
        return zeros, zeros, zeros

    def forward(self, x, state):
        mem, spk, b = state
        alpha = torch.exp(-1. / self.tau_m)
        rho = torch.exp(-1. / self.tau_adp)
        b = rho * b + (1 - rho) * spk
        threshold = self.B0 + self.BETA * b
        mem = mem * alpha + (1 - alpha) * 2.5 * (self.dense(x) + self.recurrent(spk)) - threshold * spk
        spk = MultiGaussian.apply(mem - threshold)
        return spk, (mem, spk, b)


class Readout(nn.Module):
    def __init__(self, n_in, n_out, tau=8.):
        super().__init__()
        self.dense = nn.Linear(n_in, n_out)
        self.alpha = math.exp(-1 / tau)

    def forward(self, x, mem):
        return self.alpha * mem + (1 - self.alpha) * self.dense(x)


class SRNN(nn.Module):
    def __init__(self, n=96, repeat=2):
        super().__init__()
        self.repeat = repeat
        self.layer = ALIF(8, n)
        self.readout = Readout(n, 10)

    def forward(self, images):
        state, mem, scores = self.layer.start(len(images)), 0., 0.
        for row in range(8):
            for _ in range(self.repeat):
                spikes, state = self.layer(images[:, row], state)
                mem = self.readout(spikes, mem)
                if row >= 4:
                    scores = scores + mem
        return scores


digits = load_digits()
pixels = torch.tensor(digits.images, dtype=torch.float32)
target = torch.tensor(digits.target)
shuffled = torch.randperm(len(target))
pixels, target = pixels[shuffled], target[shuffled]
n_train = 1300
mean, std = pixels[:n_train].mean(), pixels[:n_train].std()
train_x, train_y = (pixels[:n_train] - mean) / std, target[:n_train]
test_x, test_y = (pixels[n_train:] - mean) / std, target[n_train:]

net = SRNN()
base = [p for name, p in net.named_parameters() if "tau" not in name]
taus = [p for name, p in net.named_parameters() if "tau" in name]
optimizer = torch.optim.Adam([{"params": base}, {"params": taus, "lr": 0.05}], lr=8e-3)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=5, gamma=0.5)
for epoch in range(12):
    order = torch.randperm(n_train)
    for rows in order.split(50):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(train_x[rows]), train_y[rows])
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 5.)
        optimizer.step()
    scheduler.step()
    with torch.no_grad():
        score = (net(test_x).argmax(1) == test_y).float().mean().item()
    print(f"{epoch:2d} loss {loss.item():.3f} test {score:.4f}")
