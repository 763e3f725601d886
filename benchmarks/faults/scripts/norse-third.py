# %% norse/third/forecast_li.py
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
# %% norse/third/lsnn_intervals.py
"""Two pulses: was the second a short, middle or long time after the first? LSNN with adaptive thresholds."""
import norse.torch as norse
import torch
from norse.torch.functional.lsnn import LSNNParameters

torch.manual_seed(26)
STEPS, INPUTS, GAPS = 36, 16, (4, 12, 22)


def make(n):
    which = torch.randint(len(GAPS), (n,))
    first = torch.randint(2, 8, (n,))
    second = first + torch.tensor(GAPS)[which] + torch.randint(-1, 2, (n,))
    x = torch.zeros(STEPS, n, INPUTS)
    rows = torch.arange(n)
    for width in range(2):
        x[first + width, rows, :8] = 1
        x[second + width, rows, 8:] = 1
    return x, which


class Intervals(torch.nn.Module):
    def __init__(self, hidden=60):
        super().__init__()
        p = LSNNParameters(v_th=torch.tensor(0.4), tau_mem_inv=torch.tensor(1 / 0.03), tau_adapt_inv=torch.tensor(1 / 0.3), v_leak=torch.tensor(0.0), v_reset=torch.tensor(0.0), alpha=20.0)
        self.recurrent = norse.LSNNRecurrentCell(INPUTS, hidden, p=p)
        self.linear = torch.nn.Linear(hidden, len(GAPS), bias=False)
        self.readout = norse.LICell()

    def forward(self, x):
        state = memory = None
        total = 0.0
        for frame in x:
            z, state = self.recurrent(2 * frame, state)
            v, memory = self.readout(self.linear(z), memory)
            total = total + v / STEPS
        return total


model = Intervals()
optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
for step in range(130):
    x, which = make(40)
    optimiser.zero_grad()
    loss = torch.nn.functional.cross_entropy(10 * model(x), which)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    if step % 20 == 0:
        print("step", step, "loss", loss.item())
with torch.no_grad():
    x, which = make(400)
    print("accuracy", (model(x).argmax(1) == which).float().mean().item())
# %% norse/third/mixed_libraries.py
"""Population encoding of norse, hidden neurons of snnTorch, a readout of norse; wine."""
import norse.torch as norse
import snntorch as snn
import torch
from sklearn.datasets import load_wine
from sklearn.preprocessing import MinMaxScaler
from torch import nn

torch.manual_seed(64)
FIELDS, STEPS = 6, 15


def fields(x):
    """Each feature excites the units whose centre is near."""
    centres = torch.linspace(0, 1, FIELDS)
    return torch.exp(-((x.unsqueeze(-1) - centres) ** 2) / (2 * 0.12**2)).flatten(1)


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(13 * FIELDS, 40)
        self.lif = snn.Leaky(beta=0.85, threshold=0.5)
        self.readout = norse.SequentialState(nn.Linear(40, 3), norse.LICell())

    def forward(self, x):
        mem, state, trace = self.lif.init_leaky(), None, []
        for _ in range(STEPS):
            spikes = torch.bernoulli(0.5 * x)
            spk, mem = self.lif(self.fc(spikes), mem)
            v, state = self.readout(spk, state)
            trace.append(v)
        return torch.stack(trace)


x, y = load_wine(return_X_y=True)
x = torch.tensor(MinMaxScaler().fit_transform(x), dtype=torch.float32)
y = torch.tensor(y)
order = torch.randperm(178)
x, y = fields(x[order]), y[order]
model = Mixed()
optim = torch.optim.Adamax(model.parameters(), lr=1e-2)
for epoch in range(40):
    for i in range(0, 120, 15):
        voltages = model(x[i:i + 15])
        loss = nn.functional.cross_entropy(5 * voltages.mean(0), y[i:i + 15])
        optim.zero_grad()
        loss.backward()
        optim.step()
    if epoch % 10 == 0:
        print(epoch, loss.item())
with torch.no_grad():
    print("accuracy", (model(x[120:]).mean(0).argmax(1) == y[120:]).float().mean().item())
# %% norse/third/rows_encoded.py
# Rows of digits as a sequence: constant-current encoder, two LIF cells with states carried by hand.
import torch
from norse.torch import LICell, LIFCell, LIFParameters
from norse.torch.functional.encode import constant_current_lif_encode
from sklearn import datasets

torch.manual_seed(83)
SEQ = 24


def load():
    digits = datasets.load_digits()
    x = torch.tensor(digits.data, dtype=torch.float32) / 16
    return x, torch.tensor(digits.target)


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        p = LIFParameters(tau_syn_inv=torch.tensor(500.0), v_th=torch.tensor(0.3), alpha=torch.tensor(40.0))
        self.l1, self.c1 = torch.nn.Linear(64, 100), LIFCell(p)
        self.l2, self.c2 = torch.nn.Linear(100, 60), LIFCell(p)
        self.l3, self.c3 = torch.nn.Linear(60, 10), LICell()
        self.states = None

    def forward(self, x):
        spikes = constant_current_lif_encode(2.5 * x, SEQ, dt=0.002)
        s1 = s2 = s3 = None
        voltages = []
        for z in spikes:
            z, s1 = self.c1(2 * self.l1(z), s1)
            z, s2 = self.c2(2 * self.l2(z), s2)
            v, s3 = self.c3(self.l3(z), s3)
            voltages.append(v)
        self.states = s1, s2, s3
        return torch.stack(voltages)


def main():
    x, y = load()
    order = torch.randperm(len(y))
    train, test = order[:1350], order[1350:]
    net = Network()
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    for epoch in range(5):
        for rows in train[torch.randperm(1350)].split(45):
            voltages = net(x[rows])
            scores = voltages.max(0).values
            loss = torch.nn.functional.cross_entropy(10 * scores, y[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        print("epoch", epoch, loss.item())
    with torch.no_grad():
        scores = net(x[test]).max(0).values
        print((scores.argmax(1) == y[test]).float().mean().item())


main()
