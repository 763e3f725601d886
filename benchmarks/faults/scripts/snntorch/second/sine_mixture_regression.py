"""Regress the frequency of a noisy sine from its samples, one at a time (membrane of the last neuron)."""
import math

import snntorch as snn
import torch
from snntorch import surrogate

SEED, STEPS, N_TRAIN, N_TEST = 5, 24, 900, 300
torch.manual_seed(SEED)


def make(n):
    freq = torch.rand(n) * 2 + 0.5
    t = torch.linspace(0, 1, STEPS)
    wave = torch.sin(2 * math.pi * freq[:, None] * t) + 0.05 * torch.randn(n, STEPS)
    return wave, freq


class Regressor(torch.nn.Module):
    def __init__(self, hidden=64):
        super().__init__()
        grad = surrogate.fast_sigmoid(slope=5)
        self.encode = torch.nn.Linear(1, hidden)
        self.rec = snn.RLeaky(beta=0.9, linear_features=hidden, spike_grad=grad, threshold=0.5)
        self.decode = torch.nn.Linear(hidden, 1)
        self.integrator = snn.Leaky(beta=0.98, reset_mechanism="none", spike_grad=grad)
        torch.nn.init.normal_(self.rec.recurrent.weight, std=0.3 / math.sqrt(hidden))
        torch.nn.init.normal_(self.encode.weight, std=1.0)

    def forward(self, wave):
        spk, mem = self.rec.init_rleaky()
        out = self.integrator.init_leaky()
        for t in range(wave.shape[1]):
            spk, mem = self.rec(self.encode(wave[:, t : t + 1]), spk, mem)
            _, out = self.integrator(self.decode(spk), out)
        return out.squeeze(1)


train_x, train_y = make(N_TRAIN)
test_x, test_y = make(N_TEST)
model = Regressor()
opt = torch.optim.Adam(model.parameters(), lr=4e-3)
mse = torch.nn.MSELoss()

for epoch in range(14):
    shuffled = torch.randperm(N_TRAIN)
    for start in range(0, N_TRAIN, 50):
        rows = shuffled[start : start + 50]
        pred = model(train_x[rows])
        loss = mse(pred, train_y[rows])
        opt.zero_grad()
        loss.backward()
        opt.step()
    if epoch % 5 == 4:
        print("epoch", epoch, "mse", float(loss))

with torch.no_grad():
    residual = (model(test_x) - test_y).pow(2).sum()
    r2 = 1 - residual / (test_y - test_y.mean()).pow(2).sum()
print("R2 %.4f" % r2.item())
