# %% norse/sixth/bright_digits.py
"""Digits on bright paper, as Poisson spikes; leaky integrate-and-fire cells and a readout that integrates."""
import torch
from norse.torch import LICell, LIFCell, LIFParameters
from norse.torch.functional.encode import poisson_encode
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

SEQ_LENGTH, DT = 24, 0.001


def prepare(images):
    """Grey values in [0, 1]."""
    low, high = images.min(), images.max()
    return (images - low) / (high - low)


class SpikingClassifier(nn.Module):
    def __init__(self, hidden=128):
        super().__init__()
        p = LIFParameters(alpha=torch.tensor(50.0), v_th=torch.tensor(0.4))
        self.fc1, self.lif = nn.Linear(64, hidden), LIFCell(p=p, dt=DT)
        self.fc2, self.li = nn.Linear(hidden, 10, bias=False), LICell(dt=DT)

    def forward(self, spikes):
        s1 = s2 = None
        best = torch.full((spikes.shape[1], 10), -1e3)
        for z in spikes:
            z, s1 = self.lif(self.fc1(z), s1)
            v, s2 = self.li(self.fc2(z), s2)
            best = torch.maximum(best, v)
        return best


def encode(images):
    return poisson_encode(images, SEQ_LENGTH, f_max=300.0, dt=DT)


def main():
    torch.manual_seed(1234)
    digits = load_digits()
    photographs = torch.tensor(digits.data, dtype=torch.float32) / 16 * 0.45 + 0.5
    target = torch.tensor(digits.target)
    x = prepare(photographs)
    train_set = TensorDataset(x[:1350], target[:1350])
    model = SpikingClassifier()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for epoch in range(8):
        for images, labels in DataLoader(train_set, batch_size=45, shuffle=True):
            loss = nn.functional.cross_entropy(model(encode(images)), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print("epoch", epoch, "loss", round(loss.item(), 3))
    with torch.no_grad():
        predicted = model(encode(x[1350:])).argmax(1)
    print("accuracy", (predicted == target[1350:]).float().mean().item())


if __name__ == "__main__":
    main()
# %% norse/sixth/wave_regression.py
# A wave from two numbers: amplitude and phase; the readout integrates spikes of the hidden cells
import torch
import torch.nn as nn
from norse.torch import LICell, LIFCell, LIFParameters

torch.manual_seed(0)
STEPS = 20


def waves(n, generator):
    amplitude = 0.3 + 0.7 * torch.rand(n, generator=generator)
    phase = 2 * torch.pi * torch.rand(n, generator=generator)
    x = torch.stack([amplitude, torch.sin(phase), torch.cos(phase), torch.ones(n)], dim=1)
    return x, (amplitude * torch.sin(phase + 0.6))[:, None]


class WaveNet(nn.Module):
    def __init__(self, hidden=150):
        super().__init__()
        params = LIFParameters(method="super", alpha=torch.tensor(20.0), v_th=torch.tensor(0.3))
        self.lin1, self.cell1 = nn.Linear(4, hidden), LIFCell(p=params)
        self.lin2 = nn.Linear(hidden, 1)
        self.cell2 = LICell()

    def forward(self, x):
        state1 = state2 = None
        values = []
        for _ in range(STEPS):
            z, state1 = self.cell1(self.lin1(2 * x), state1)
            y, state2 = self.cell2(self.lin2(z), state2)
            values.append(y)
        return torch.stack(values[5:]).mean(0)


g = torch.Generator().manual_seed(1)
train_x, train_y = waves(1500, g)
test_x, test_y = waves(400, g)
net = WaveNet()
optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
for epoch in range(10):
    for rows in torch.randperm(1500, generator=g).split(50):
        optimizer.zero_grad()
        loss = ((net(train_x[rows]) - train_y[rows]) ** 2).mean()
        loss.backward()
        optimizer.step()
    print("epoch", epoch, "loss", loss.item())
with torch.no_grad():
    residual = ((net(test_x) - test_y) ** 2).mean() / test_y.var()
print("R2 of the test", 1 - residual.item())
# %% norse/sixth/learned_time_constants.py
"""A click in one of ten channels is asked for later: time constants start far too short and are learned."""
import torch
from norse.torch import LIFParameters
from norse.torch.functional.lif import LIFFeedForwardState, lif_feed_forward_step
from torch import nn

CHANNELS, STEPS, DT = 10, 24, 0.001


class TimeConstants(nn.Module):
    """Inverse time constants in 1/s, learned as logarithms."""

    def __init__(self, start):
        super().__init__()
        self.log_mem = nn.Parameter(torch.log(torch.tensor(start)))
        self.log_syn = nn.Parameter(torch.log(torch.tensor(start)))

    def lif(self):
        return LIFParameters(tau_mem_inv=self.log_mem.exp(), tau_syn_inv=self.log_syn.exp(),
                             v_th=torch.tensor(0.15), alpha=torch.tensor(30.0))


class Recall(nn.Module):
    def __init__(self, start=800.0, hidden=80):
        super().__init__()
        self.inputs = nn.Linear(CHANNELS, hidden, bias=False)
        nn.init.normal_(self.inputs.weight, 0.0, 1.0)
        self.constants = TimeConstants(start)
        self.outputs = nn.Linear(hidden, CHANNELS)

    def forward(self, clicks):
        p = self.constants.lif()
        state, spikes = start_state(clicks[0], self.inputs), []
        for click in clicks:
            z, state = lif_feed_forward_step(self.inputs(click), state, p, dt=DT)
            spikes.append(z)
        return self.outputs(torch.stack(spikes[10:]).mean(0))


def start_state(click, layer):
    zeros = torch.zeros(len(click), layer.out_features)
    return LIFFeedForwardState(v=zeros, i=zeros)


def clicks(n):
    channel = torch.randint(0, CHANNELS, (n,))
    x = torch.zeros(STEPS, n, CHANNELS)
    for t in range(4):
        x[t] = nn.functional.one_hot(channel, CHANNELS)
    return x, channel


torch.manual_seed(77)
model = Recall()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-2)
for epoch in range(10):
    for _ in range(25):
        x, channel = clicks(64)
        loss = nn.functional.cross_entropy(model(x), channel)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print("epoch", epoch, "loss", round(loss.item(), 3), "1/tau", round(model.constants.log_mem.exp().item(), 1))
with torch.no_grad():
    x, channel = clicks(500)
    print("accuracy", (model(x).argmax(1) == channel).float().mean().item())
# %% norse/sixth/latency_readout.py
"""Digits as latencies: bright pixels fire first and once; the highest potential of a class decides."""
import torch
from norse.torch import LI, LIF, LIFParameters, SpikeLatencyLIFEncoder
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn


class LatencySNN(nn.Module):
    def __init__(self, seq_length=40, hidden=100):
        super().__init__()
        self.encoder = SpikeLatencyLIFEncoder(seq_length=seq_length)
        self.hidden = nn.Linear(64, hidden)
        self.lif = LIF(p=LIFParameters(alpha=torch.tensor(30.0), v_th=torch.tensor(0.25)))
        self.classes = nn.Linear(hidden, 10, bias=False)
        self.li = LI()

    def forward(self, images):
        spikes = self.encoder(6.0 * images)
        z, _ = self.lif(self.hidden(spikes))
        voltages, _ = self.li(self.classes(z))
        return voltages.max(0).values


torch.manual_seed(5)
x, y = load_digits(return_X_y=True)
x_train, x_test, y_train, y_test = train_test_split(
    torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y), test_size=397, random_state=5)
snn = LatencySNN()
nn.init.zeros_(snn.hidden.bias)
nn.init.normal_(snn.hidden.weight, 0.0, 0.6)
optimizer = torch.optim.Adam(snn.parameters(), lr=6e-3)
for epoch in range(8):
    for rows in torch.randperm(len(y_train)).split(70):
        loss = nn.functional.cross_entropy(snn(x_train[rows]), y_train[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print("epoch", epoch, "loss", round(loss.item(), 3))
with torch.no_grad():
    print("test accuracy", (snn(x_test).argmax(1) == y_test).float().mean().item())
