# %% snntorch/alpha_neurons.py
"""Alpha neurons (two exponentials) on a constant input, no biases."""
import numpy as np
import torch
import snntorch as snn
import snntorch.functional as SF
from sklearn.datasets import load_digits

np.random.seed(0)
torch.manual_seed(0)
torch.set_num_threads(1)

data = load_digits()
perm = np.random.permutation(1797)
X = torch.tensor(data.data[perm] / 16, dtype=torch.float32)
Y = torch.tensor(data.target[perm])
Xtr, Ytr, Xte, Yte = X[:1500], Y[:1500], X[1500:], Y[1500:]

T = 15


class AlphaNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = torch.nn.Linear(64, 128, bias=False)
        self.neuron1 = snn.Alpha(alpha=0.85, beta=0.8, threshold=0.3)
        self.fc2 = torch.nn.Linear(128, 10, bias=False)
        self.neuron2 = snn.Alpha(alpha=0.85, beta=0.8, threshold=0.3)

    def forward(self, x):
        exc1, inh1, mem1 = self.neuron1.init_alpha()
        exc2, inh2, mem2 = self.neuron2.init_alpha()
        mems = []
        for t in range(T):
            spk1, exc1, inh1, mem1 = self.neuron1(self.fc1(x), exc1, inh1, mem1)
            spk2, exc2, inh2, mem2 = self.neuron2(self.fc2(spk1), exc2, inh2, mem2)
            mems.append(mem2)
        return torch.stack(mems)


net = AlphaNet()
loss_function = SF.ce_max_membrane_loss()
optimiser = torch.optim.Adam(net.parameters(), lr=2e-3)
for epoch in range(10):
    for idx in torch.randperm(1500).chunk(25):
        mem = net(Xtr[idx])
        loss = loss_function(mem, Ytr[idx])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    print("epoch %d loss %.3f" % (epoch, loss.item()))

with torch.no_grad():
    predicted = net(Xte).max(0).values.argmax(1)
print("test accuracy %.4f" % (predicted == Yte).float().mean().item())
# %% snntorch/autoencoder.py
"""Spiking autoencoder of the digits, after the snnTorch tutorial on autoencoders."""
import torch
from torch import nn
import snntorch as snn
from snntorch import utils
from sklearn.datasets import load_digits

torch.manual_seed(0)
torch.set_num_threads(1)
images = torch.tensor(load_digits().images / 16, dtype=torch.float32).unsqueeze(1)
train_images, test_images = images[:1500], images[1500:]
num_steps = 2


class SAE(nn.Module):
    def __init__(self, latent=128):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1, stride=2), nn.BatchNorm2d(16), snn.Leaky(beta=0.5, init_hidden=True),
            nn.Conv2d(16, 32, 3, padding=1, stride=2), nn.BatchNorm2d(32), snn.Leaky(beta=0.5, init_hidden=True),
            nn.Flatten(), nn.Linear(128, latent), snn.Leaky(beta=0.5, init_hidden=True),
        )
        self.decoder = nn.Sequential(
            nn.Linear(latent, 128), snn.Leaky(beta=0.5, init_hidden=True), nn.Unflatten(1, (32, 2, 2)),
            nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1), nn.BatchNorm2d(16), snn.Leaky(beta=0.5, init_hidden=True),
            nn.ConvTranspose2d(16, 1, 4, stride=2, padding=1),
        )

    def forward(self, x):
        utils.reset(self.encoder)
        utils.reset(self.decoder)
        drawn = 0
        for _ in range(num_steps):
            drawn = drawn + self.decoder(self.encoder(x))
        return drawn / num_steps


net = SAE()
optimizer = torch.optim.AdamW(net.parameters(), lr=8e-3)
for epoch in range(20):
    net.train()
    total = 0
    for batch in train_images[torch.randperm(1500)].split(60):
        loss = ((net(batch) - batch) ** 2).sum(dim=(1, 2, 3)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    print(epoch, total / 25)

net.eval()
with torch.no_grad():
    error = ((net(test_images) - test_images) ** 2).mean()
print("test R2", round(1 - (error / (test_images - test_images.mean(0)).pow(2).mean()).item(), 4))
# %% snntorch/convolutional.py
"""Convolutional network with hidden states inside the neurons, after the snnTorch tutorial on convolutional networks."""
import torch
import torch.nn as nn
import snntorch as snn
from snntorch import surrogate, utils
from snntorch import functional as SF
from sklearn.datasets import load_digits

torch.manual_seed(1)
torch.set_num_threads(1)

digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float).unsqueeze(1) / 16
labels = torch.tensor(digits.target)
order = torch.randperm(len(images))
images, labels = images[order], labels[order]
train_images, train_labels = images[:1400], labels[:1400]
test_images, test_labels = images[1400:], labels[1400:]

spike_grad = surrogate.fast_sigmoid(slope=25)
beta = 0.5
num_steps = 8
batch_size = 50

net = nn.Sequential(
    nn.Conv2d(1, 12, 3, padding=1),
    nn.MaxPool2d(2),
    snn.Leaky(beta=beta, threshold=0.5, spike_grad=spike_grad, init_hidden=True),
    nn.Conv2d(12, 32, 3, padding=1),
    nn.MaxPool2d(2),
    snn.Leaky(beta=beta, threshold=0.5, spike_grad=spike_grad, init_hidden=True),
    nn.Flatten(),
    nn.Linear(32 * 2 * 2, 10),
    snn.Leaky(beta=beta, threshold=0.5, spike_grad=spike_grad, init_hidden=True, output=True),
)


def forward_pass(net, num_steps, data):
    mem_rec = []
    spk_rec = []
    utils.reset(net)
    for step in range(num_steps):
        spk_out, mem_out = net(data)
        spk_rec.append(spk_out)
        mem_rec.append(mem_out)
    return torch.stack(spk_rec), torch.stack(mem_rec)


def accuracy(images, labels):
    net.eval()
    with torch.no_grad():
        spk_rec, _ = forward_pass(net, num_steps, images)
    return SF.accuracy_rate(spk_rec, labels)


loss_fn = SF.ce_rate_loss()
optimizer = torch.optim.Adam(net.parameters(), lr=1e-2, betas=(0.9, 0.999))

for epoch in range(7):
    net.train()
    shuffled = torch.randperm(len(train_images))
    for i in range(0, len(train_images), batch_size):
        batch = shuffled[i:i + batch_size]
        spk_rec, mem_rec = forward_pass(net, num_steps, train_images[batch])
        loss = loss_fn(spk_rec, train_labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print("epoch", epoch, "loss", round(loss.item(), 3))

print("test accuracy", round(float(accuracy(test_images, test_labels)), 4))
# %% snntorch/feedforward.py
"""Fully connected network on the digits, after the snnTorch tutorial on feedforward networks."""
import torch
import torch.nn as nn
import snntorch as snn
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
torch.set_num_threads(1)

# data
digits = load_digits()
x_train, x_test, y_train, y_test = train_test_split(digits.data / 16.0, digits.target, test_size=0.2, random_state=0)
train_set = TensorDataset(torch.tensor(x_train, dtype=torch.float32), torch.tensor(y_train))
test_set = TensorDataset(torch.tensor(x_test, dtype=torch.float32), torch.tensor(y_test))
batch_size = 64
train_loader = DataLoader(train_set, batch_size=batch_size, shuffle=True, drop_last=True)
test_loader = DataLoader(test_set, batch_size=batch_size)

num_inputs = 64
num_hidden = 200
num_outputs = 10
num_steps = 15
beta = 0.95


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(num_inputs, num_hidden)
        self.lif1 = snn.Leaky(beta=beta)
        self.fc2 = nn.Linear(num_hidden, num_outputs)
        self.lif2 = snn.Leaky(beta=beta)

    def forward(self, x):
        mem1 = self.lif1.init_leaky()
        mem2 = self.lif2.init_leaky()
        spk2_rec = []
        mem2_rec = []
        for step in range(num_steps):
            cur1 = self.fc1(x)
            spk1, mem1 = self.lif1(cur1, mem1)
            cur2 = self.fc2(spk1)
            spk2, mem2 = self.lif2(cur2, mem2)
            spk2_rec.append(spk2)
            mem2_rec.append(mem2)
        return torch.stack(spk2_rec), torch.stack(mem2_rec)


net = Net()
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, betas=(0.9, 0.999))

for epoch in range(8):
    for data, targets in train_loader:
        net.train()
        spk_rec, mem_rec = net(data)
        loss_val = torch.zeros(1)
        for step in range(num_steps):
            loss_val += loss_fn(mem_rec[step], targets)
        optimizer.zero_grad()
        loss_val.backward()
        optimizer.step()
    print(f"Epoch {epoch}, loss {loss_val.item():.2f}")

total = 0
correct = 0
with torch.no_grad():
    net.eval()
    for data, targets in test_loader:
        spk_rec, mem_rec = net(data)
        _, predicted = spk_rec.sum(dim=0).max(1)
        total += targets.size(0)
        correct += (predicted == targets).sum().item()
print(f"test accuracy {correct / total:.4f}")
# %% snntorch/population.py
"""Population code: 50 output neurons for each class, dropout of one half, one step of time."""
import torch
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset, random_split
import snntorch as snn
from snntorch import functional as SF, surrogate, utils
from sklearn.datasets import load_digits

torch.manual_seed(5)
torch.set_num_threads(1)
num_steps, pop_outputs, num_classes = 4, 500, 10

data, labels = load_digits(return_X_y=True)
dataset = TensorDataset(torch.tensor(data / 16.).float(), torch.tensor(labels).long())
train_set, test_set = random_split(dataset, [1437, 360])
loaders = {"train": DataLoader(train_set, 64, shuffle=True), "test": DataLoader(test_set, 360)}

grad = surrogate.fast_sigmoid(slope=25)
net_pop = nn.Sequential(
    nn.Linear(64, 128),
    snn.Leaky(beta=0.9, spike_grad=grad, init_hidden=True),
    nn.Dropout(0.5),
    nn.Linear(128, pop_outputs),
    snn.Leaky(beta=0.9, spike_grad=grad, init_hidden=True, output=True),
)


def run(x):
    utils.reset(net_pop)
    return torch.stack([net_pop(x)[0] for _ in range(num_steps)])


optimizer = optim.Adam(net_pop.parameters(), lr=4e-3)
criterion = SF.mse_count_loss(correct_rate=1.0, incorrect_rate=0.0, population_code=True, num_classes=10)
for epoch in range(12):
    net_pop.train()
    for x, y in loaders["train"]:
        spikes = run(x)
        loss = criterion(spikes, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    net_pop.eval()
    with torch.no_grad():
        x, y = next(iter(loaders["test"]))
        acc = SF.accuracy_rate(run(x), y, population_code=True, num_classes=10)
    print(f"epoch {epoch + 1}/12  loss {loss.item():.3f}  acc {acc:.3f}")
print(f"test accuracy {acc:.4f}")
# %% snntorch/rate_coded.py
"""Digits as Poisson spike trains, loss on spike counts."""
import argparse

import torch
from torch import nn
import snntorch as snn
import snntorch.functional as SF
from snntorch import spikegen
from sklearn import datasets

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--steps", type=int, default=20)
parser.add_argument("--lr", type=float, default=2e-3)
args = parser.parse_args()

torch.manual_seed(42)
torch.set_num_threads(1)

X, y = datasets.load_digits(return_X_y=True)
X = torch.from_numpy(X).float() / 16
y = torch.from_numpy(y)
X_train, y_train = X[:1400], y[:1400]
X_test, y_test = X[1400:], y[1400:]


class SpikingMLP(nn.Module):
    def __init__(self, hidden=150):
        super().__init__()
        self.hidden = nn.Linear(64, hidden)
        self.lif_hidden = snn.Leaky(beta=0.9)
        self.out = nn.Linear(hidden, 10)
        self.lif_out = snn.Leaky(beta=0.9)

    def forward(self, spikes):
        mem_h = self.lif_hidden.init_leaky()
        mem_o = self.lif_out.init_leaky()
        recorded = []
        for s in spikes:
            spk_h, mem_h = self.lif_hidden(self.hidden(s), mem_h)
            spk_o, mem_o = self.lif_out(self.out(spk_h), mem_o)
            recorded.append(spk_o)
        return torch.stack(recorded)


model = SpikingMLP()
criterion = SF.mse_count_loss(correct_rate=0.8, incorrect_rate=0.2)
opt = torch.optim.Adam(model.parameters(), lr=args.lr)

for epoch in range(args.epochs):
    perm = torch.randperm(len(X_train))
    running = 0.0
    for idx in perm.split(70):
        spikes = spikegen.rate(X_train[idx], num_steps=args.steps)
        out = model(spikes)
        loss = criterion(out, y_train[idx])
        opt.zero_grad()
        loss.backward()
        opt.step()
        running += loss.item()
    print(f"{epoch}: {running:.3f}")

with torch.no_grad():
    out = model(spikegen.rate(X_test, num_steps=args.steps))
    acc = SF.accuracy_rate(out, y_test)
print(f"test accuracy {acc:.4f}")
# %% snntorch/recurrent_rows.py
"""Each digit is read row by row: recurrent neurons, then second-order neurons."""
import torch
import torch.nn as nn
import torch.nn.functional as F
import snntorch as snn
from snntorch import surrogate
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(7)
torch.set_num_threads(1)

images, target = load_digits(return_X_y=True)
images = (images.reshape(-1, 8, 8) / 8.0 - 0.6).astype("float32")
a, b, c, d = train_test_split(images, target, test_size=360, random_state=3, stratify=target)
train = DataLoader(TensorDataset(torch.from_numpy(a), torch.from_numpy(c)), batch_size=48, shuffle=True)
test = DataLoader(TensorDataset(torch.from_numpy(b), torch.from_numpy(d)), batch_size=90)


class RowReader(nn.Module):
    def __init__(self, width=96):
        super().__init__()
        grad = surrogate.atan(alpha=2.0)
        self.inp = nn.Linear(8, width)
        self.rec = snn.RLeaky(beta=0.8, linear_features=width, threshold=0.5, spike_grad=grad)
        self.mid = nn.Linear(width, width)
        self.syn = snn.Synaptic(alpha=0.5, beta=0.8, threshold=0.5, spike_grad=grad)
        self.readout = nn.Linear(width, 10)
        self.li = snn.Leaky(beta=0.9, reset_mechanism="none")

    def forward(self, x):
        spk, mem = self.rec.init_rleaky()
        cur, mem_syn = self.syn.init_synaptic()
        mem_out = self.li.init_leaky()
        x = x.permute(1, 0, 2)  # rows first
        for row in x:
            spk, mem = self.rec(self.inp(row), spk, mem)
            spk_syn, cur, mem_syn = self.syn(self.mid(spk), cur, mem_syn)
            _, mem_out = self.li(self.readout(spk_syn), mem_out)
        return mem_out


model = RowReader()
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-4)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=12)

for epoch in range(12):
    model.train()
    for x, y in train:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    scheduler.step()
    print(epoch, loss.item())

model.eval()
hits = 0
with torch.no_grad():
    for x, y in test:
        hits += (model(x).argmax(1) == y).sum().item()
print("test accuracy", hits / 360)
# %% snntorch/regression.py
"""Regression with the membrane potential of a readout that does not fire, after the snnTorch tutorials on regression."""
import torch
import torch.nn as nn
import snntorch as snn
from snntorch import surrogate

torch.manual_seed(0)
torch.set_num_threads(1)

# each sample: three numbers, the target is a curve over time
N, T = 512, 20
params = torch.rand(N, 3)
time = torch.linspace(0, 1, T)
curves = params[:, :1] * 2 * time + (params[:, 1:2] - 0.5) * (1 - time) + 0.2 * params[:, 2:3]
curves = curves.unsqueeze(-1)  # (N, T, 1)
train_x, train_y, test_x, test_y = params[:400], curves[:400], params[400:], curves[400:]


class Net(nn.Module):
    def __init__(self, timesteps, hidden):
        super().__init__()
        self.timesteps = timesteps
        grad = surrogate.atan()
        self.fc_in = nn.Linear(3, hidden)
        self.lif_in = snn.Leaky(beta=torch.rand(hidden), learn_beta=True, threshold=1.0, spike_grad=grad)
        self.fc_hidden = nn.Linear(hidden, hidden)
        self.lif_hidden = snn.Leaky(beta=torch.rand(hidden), learn_beta=True, threshold=1.0, spike_grad=grad)
        self.fc_out = nn.Linear(hidden, 1)
        self.li_out = snn.Leaky(beta=0.8, learn_beta=True, reset_mechanism="none")

    def forward(self, x):
        mem1, mem2, mem3 = self.lif_in.init_leaky(), self.lif_hidden.init_leaky(), self.li_out.init_leaky()
        out = []
        for _ in range(self.timesteps):
            s1, mem1 = self.lif_in(self.fc_in(x), mem1)
            s2, mem2 = self.lif_hidden(self.fc_hidden(s1), mem2)
            _, mem3 = self.li_out(self.fc_out(s2), mem3)
            out.append(mem3)
        return torch.stack(out, dim=1)


net = Net(T, 128)
mse = nn.MSELoss()
optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
for epoch in range(24):
    for idx in torch.randperm(len(train_x)).split(50):
        loss = mse(net(train_x[idx]), train_y[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if epoch % 5 == 4:
        print(f"epoch {epoch + 1}: {loss.item():.4f}")

with torch.no_grad():
    residual = (net(test_x) - test_y).pow(2).mean()
r2 = 1 - residual / test_y.var()
print(f"test R2 {r2.item():.4f}")
# %% snntorch/truncated.py
"""Truncated backpropagation: an update after every 5 of 20 timesteps; the state goes on, its graph does not."""
import torch
import torch.nn as nn
import snntorch as snn
from sklearn.datasets import load_digits

torch.manual_seed(0)
torch.set_num_threads(1)

X, Y = load_digits(return_X_y=True)
X, Y = torch.Tensor(X) / 16, torch.LongTensor(Y)
perm = torch.randperm(len(X))
X, Y = X[perm], Y[perm]

STEPS, K = 20, 5


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(64, 120)
        self.lif1 = snn.Leaky(beta=0.9, init_hidden=True)
        self.fc2 = nn.Linear(120, 10)
        self.lif2 = snn.Leaky(beta=0.9, init_hidden=True, output=True)

    def forward(self, x):
        return self.lif2(self.fc2(self.lif1(self.fc1(x))))


net = Net()
opt = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
ce = nn.CrossEntropyLoss()


def restart():
    net.lif1.reset_hidden()
    net.lif2.reset_hidden()


for epoch in range(6):
    for i in range(0, 1400, 50):
        x, y = X[i:i + 50], Y[i:i + 50]
        restart()
        loss = 0
        for t in range(STEPS):
            spk, mem = net(x)
            loss = loss + ce(mem, y) / K
            if (t + 1) % K == 0:
                opt.zero_grad()
                loss.backward()
                opt.step()
                net.lif1.detach_hidden()
                net.lif2.detach_hidden()
                last, loss = loss.item(), 0
    print(f"epoch {epoch}: {last:.3f}")

with torch.no_grad():
    restart()
    count = sum(net(X[1400:])[0] for t in range(STEPS))
    print("test accuracy", (count.argmax(1) == Y[1400:]).float().mean().item())
