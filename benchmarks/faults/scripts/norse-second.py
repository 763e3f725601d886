# %% norse/second/functional_delay.py
"""Which of two channels had the first pulse? Functional interface with weights of our own, delayed answer."""
import torch
from norse.torch.functional.lif import LIFFeedForwardState, LIFParameters, lif_feed_forward_step
from norse.torch.functional.leaky_integrator import LIParameters, LIState, li_feed_forward_step

g = torch.manual_seed(41)
T, HIDDEN, BATCH = 25, 7, 64


def trials(n):
    x = torch.zeros(T, n, 6)
    who = torch.randint(0, 3, (n,), generator=g)
    for i in range(n):
        first = int(torch.randint(1, 6, (1,), generator=g))
        gap = int(torch.randint(3, 8, (1,), generator=g))
        rest = [c for c in range(3) if c != who[i]]
        x[first : first + 3, i, who[i]] = 1
        for c in rest:
            x[first + gap : first + gap + 3, i, c] = 1
    x[..., 3:] = 0.3 * torch.rand(T, n, 3, generator=g)
    return x, who


w_in = torch.nn.Parameter(torch.randn(HIDDEN, 6, generator=g) * 0.5)
w_rec = torch.nn.Parameter(torch.randn(HIDDEN, HIDDEN, generator=g) * 0.05)
w_out = torch.nn.Parameter(torch.randn(3, HIDDEN, generator=g) * 0.2)
lif = LIFParameters(tau_syn_inv=torch.tensor(200.0), tau_mem_inv=torch.tensor(100.0), v_th=torch.tensor(0.3), method="super", alpha=torch.tensor(20.0))
li = LIParameters(tau_syn_inv=torch.tensor(200.0), tau_mem_inv=torch.tensor(30.0))


def forward(x):
    n = x.shape[1]
    s = LIFFeedForwardState(v=torch.zeros(n, HIDDEN), i=torch.zeros(n, HIDDEN))
    o = LIState(v=torch.zeros(n, 3), i=torch.zeros(n, 3))
    z = torch.zeros(n, HIDDEN)
    for frame in x:
        z, s = lif_feed_forward_step(frame @ w_in.T + z @ w_rec.T, s, p=lif, dt=0.002)
        v, o = li_feed_forward_step(z @ w_out.T, o, p=li, dt=0.002)
    return v


params = [w_in, w_rec, w_out]
optimiser = torch.optim.Adam(params, lr=1e-2)
x_train, y_train = trials(768)
x_test, y_test = trials(256)
for epoch in range(8):
    for pick in torch.randperm(768, generator=g).split(BATCH):
        loss = torch.nn.functional.cross_entropy(forward(x_train[:, pick]), y_train[pick])
        for w in params:
            w.grad = None
        loss.backward()
        optimiser.step()
    print("epoch", epoch + 1, "loss", round(loss.item(), 3))
with torch.no_grad():
    print("accuracy", (forward(x_test).argmax(1) == y_test).float().mean().item())
# %% norse/second/poisson_mlp.py
"""Poisson spikes of digits into LIF cells and a leaky readout, after the usual pattern of Norse's examples."""
import torch
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset, random_split

import norse.torch as norse

torch.manual_seed(1234)


class SpikingModel(torch.nn.Module):
    def __init__(self, seq_length, hidden=32, p=norse.LIFParameters(alpha=torch.as_tensor(100.0), v_th=torch.as_tensor(0.4))):
        super().__init__()
        self.encoder = norse.PoissonEncoder(seq_length=seq_length, f_max=300)
        self.fc1 = torch.nn.Linear(64, hidden, bias=False)
        self.lif = norse.LIFCell(p=p)
        self.fc2 = torch.nn.Linear(hidden, 10, bias=False)
        self.readout = norse.LICell()

    def forward(self, images):
        spikes = self.encoder(images)
        s1 = s2 = None
        voltages = []
        for spike_in in spikes:
            z, s1 = self.lif(3 * self.fc1(spike_in), s1)
            v, s2 = self.readout(self.fc2(z), s2)
            voltages.append(v)
        return torch.stack(voltages)


class DecodedModel(torch.nn.Module):
    """Maximal voltage over time, then log probabilities."""

    def __init__(self, snn):
        super().__init__()
        self.snn = snn

    def forward(self, x):
        m, _ = torch.max(self.snn(x), 0)
        return torch.nn.functional.log_softmax(m, dim=1)


def train(model, loader, optimizer):
    model.train()
    losses = []
    for data, target in loader:
        optimizer.zero_grad()
        loss = torch.nn.functional.nll_loss(model(data), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return sum(losses) / len(losses)


def test(model, loader):
    model.eval()
    correct = 0
    with torch.no_grad():
        for data, target in loader:
            correct += model(data).argmax(dim=1).eq(target).sum().item()
    return correct / len(loader.dataset)


x, y = load_digits(return_X_y=True)
dataset = TensorDataset(torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y))
train_set, test_set = random_split(dataset, [1437, 360])
train_loader = DataLoader(train_set, batch_size=48, shuffle=True)
test_loader = DataLoader(test_set, batch_size=120)

model = DecodedModel(SpikingModel(seq_length=20))
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
for epoch in range(5):
    print("epoch", epoch, "mean loss", train(model, train_loader, optimizer))
print("accuracy", test(model, test_loader))
# %% norse/second/recurrent_columns.py
import math
import numpy as np
import torch
from torch import nn
from norse.torch import LIFParameters, LIFRecurrentCell
from sklearn.datasets import load_digits
from sklearn.preprocessing import StandardScaler

SEED = 6
np.random.seed(SEED); torch.manual_seed(SEED)

bunch = load_digits()
scaled = StandardScaler().fit_transform(bunch.data).reshape(-1, 8, 8)
seq = torch.tensor(scaled, dtype=torch.float32).permute(2, 0, 1)   # column, sample, row
cls = torch.tensor(bunch.target)
take = np.random.permutation(len(cls))
fit, held = take[:1400], take[1400:]

H, REPEAT, DT = 80, 3, 0.002


class Columns(nn.Module):
    def __init__(self):
        super().__init__()
        p = LIFParameters(tau_syn_inv=torch.tensor(300.0), tau_mem_inv=torch.tensor(100.0), v_th=torch.tensor(0.3), alpha=torch.tensor(40.0))
        self.cell = LIFRecurrentCell(8, H, p=p, dt=DT)
        self.cell.input_weights.data.normal_(0, 1 / math.sqrt(8))
        self.cell.recurrent_weights.data.mul_(0.5)
        self.drop = nn.Dropout(0.2)
        self.classify = nn.Linear(8 * H, 10)

    def forward(self, x):
        state, seen = None, []
        for column in x:
            z_sum = 0
            for _ in range(REPEAT):
                z, state = self.cell(column, state)
                z_sum = z_sum + z
            seen.append(z_sum)
        return self.classify(self.drop(torch.cat(seen, 1)))


net = Columns()
opt = torch.optim.Adam(net.parameters(), lr=3e-3)
ce = nn.CrossEntropyLoss()
for ep in range(8):
    net.train()
    np.random.shuffle(fit)
    for b in np.array_split(fit, 28):
        opt.zero_grad()
        ce(net(seq[:, b]), cls[b]).backward()
        opt.step()
net.eval()
with torch.no_grad():
    out = net(seq[:, held])
print(f"{(out.argmax(1) == cls[held]).float().mean():.4f} of the held out digits are right")
# %% norse/second/state_conv.py
# A SequentialState of convolutions and leaky integrate-and-fire cells; the state is carried by hand.
import torch
import norse.torch as snn
from sklearn.datasets import load_digits

torch.manual_seed(99)
digits = load_digits()
images = torch.from_numpy(digits.images).float()[:, None] / 16
labels = torch.from_numpy(digits.target)
index = torch.randperm(len(labels))
tr, te = index[:1400], index[1400:]

p = snn.LIFBoxParameters(tau_mem_inv=torch.tensor(200.0), v_th=torch.tensor(0.25), alpha=torch.tensor(30.0))
net = snn.SequentialState(
    torch.nn.Conv2d(1, 16, 3, bias=False),
    snn.LIFBoxCell(p),
    torch.nn.Conv2d(16, 16, 3, stride=2, bias=False),
    snn.LIFBoxCell(p),
    torch.nn.Flatten(),
    torch.nn.Linear(64, 10),
    snn.LICell(),
)


def present(batch, steps=12):
    state = None
    trace = []
    for _ in range(steps):
        out, state = net(4 * batch, state)
        trace.append(out)
    return torch.stack(trace)


optimiser = torch.optim.NAdam(net.parameters(), lr=5e-3)
for epoch in range(4):
    for pick in tr[torch.randperm(len(tr))].chunk(25):
        loss = torch.nn.functional.cross_entropy(present(images[pick])[-1], labels[pick])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    print("epoch", epoch, "loss", float(loss.detach()))

with torch.no_grad():
    accuracy = (present(images[te])[-1].argmax(-1) == labels[te]).double().mean()
print("test accuracy", float(accuracy))
