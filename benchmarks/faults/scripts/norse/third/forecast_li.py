"""Forecast a mixture of oscillations eight steps ahead; the answer is a leaky integrator's voltage (R^2)."""
import torch
from norse.torch import LICell, LIFBoxCell, LIFBoxParameters
from torch import nn

torch.manual_seed(47)
LENGTH, AHEAD, BACK = 900, 3, 16


def series():
    t = torch.arange(LENGTH + AHEAD + BACK, dtype=torch.float32)
    return torch.sin(t / 7) * torch.cos(t / 31) + 0.3 * torch.sin(t / 3)


def windows(s):
    x = s.unfold(0, BACK, 1)[:LENGTH]
    y = s[BACK - 1 + AHEAD:BACK - 1 + AHEAD + LENGTH]
    return x, y


class Forecaster(nn.Module):
    def __init__(self, hidden=100, steps=10):
        super().__init__()
        self.steps = steps
        self.inputs = nn.Linear(BACK, hidden)
        self.neurons = LIFBoxCell(LIFBoxParameters(tau_mem_inv=torch.tensor(150.0), v_th=torch.tensor(0.3), alpha=torch.tensor(20.0)))
        self.outputs = nn.Linear(hidden, 1)
        self.integrator = LICell()

    def forward(self, x):
        current, s, o, rate = 3 * self.inputs(x), None, None, 0.0
        for _ in range(self.steps):
            z, s = self.neurons(current, s)
            v, o = self.integrator(self.outputs(z), o)
            rate = rate + z.mean() / self.steps
        return v.squeeze(-1), rate


x, y = windows(series())
split = torch.randperm(LENGTH)
fit, held = split[:700], split[700:]
model = Forecaster()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for epoch in range(25):
    for rows in fit[torch.randperm(700)].split(35):
        forecast, rate = model(x[rows])
        loss = (forecast - y[rows]).pow(2).mean() + 1e-3 * rate
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if epoch % 5 == 0:
        print("epoch", epoch, "loss", loss.item(), "rate", rate.item())
with torch.no_grad():
    forecast, _ = model(x[held])
    print("R2", 1 - ((forecast - y[held]).pow(2).sum() / (y[held] - y[held].mean()).pow(2).sum()).item())
