# %% sinabs/second/from_ann.py
"""An ANN is turned into a spiking network and trained as such."""
import numpy as np
import sinabs
import torch
from sinabs.from_torch import from_model
from sklearn.datasets import make_classification
from torch import nn

torch.manual_seed(70)
np.random.seed(70)

x, y = make_classification(1600, 20, n_informative=10, n_redundant=4, n_classes=4, n_clusters_per_class=1, class_sep=1.6, random_state=70)
x = torch.tensor((x - x.mean(0)) / x.std(0), dtype=torch.float32)
y = torch.tensor(y)

ann = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))
STEPS, BATCH = 10, 40
snn = from_model(ann, input_shape=(20,), batch_size=BATCH, add_spiking_output=False).spiking_model
optim = torch.optim.Adam(snn.parameters(), lr=2e-3)


def logits(batch):
    sinabs.reset_states(snn)
    repeated = batch.repeat_interleave(STEPS, 0)
    return snn(repeated).view(len(batch), STEPS, -1).mean(1)


for epoch in range(6):
    for pick in torch.randperm(1200).split(BATCH):
        loss = nn.functional.cross_entropy(logits(x[pick]), y[pick])
        optim.zero_grad()
        loss.backward()
        optim.step()
    print("loss", loss.item())

with torch.no_grad():
    right = torch.cat([logits(part).argmax(1) for part in x[1200:].split(BATCH)]) == y[1200:]
print("accuracy", right.float().mean().item())
# %% sinabs/second/lif_rates.py
"""Sinabs layers over [batch, time, features]: LIF, then an exponential leak as the readout."""
import torch
import torch.nn as nn
import sinabs
import sinabs.layers as sl
from sinabs.activation import SingleSpike, SingleExponential
from sklearn.datasets import load_digits

torch.manual_seed(12)
T = 16
x, y = load_digits(return_X_y=True)
x, y = torch.tensor(x / 16).float(), torch.tensor(y)
perm = torch.randperm(len(y))
x, y = x[perm], y[perm]


def rasterise(values):
    """Bernoulli spikes of the pixels."""
    return (torch.rand(len(values), T, 64) < values[:, None]).float()


model = nn.Sequential(
    nn.Linear(64, 100),
    sl.LIF(tau_mem=10.0, norm_input=False, spike_fn=SingleSpike, surrogate_grad_fn=SingleExponential(grad_width=0.5)),
    nn.Linear(100, 10),
    sl.ExpLeak(tau_mem=20.0, norm_input=True),
)
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
criterion = nn.CrossEntropyLoss()

for epoch in range(6):
    for i in range(0, 1440, 60):
        sinabs.reset_states(model)
        optimizer.zero_grad()
        out = model(rasterise(x[i : i + 60])).sum(1)
        loss = criterion(out, y[i : i + 60])
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}: {loss.item():.3f}")

sinabs.reset_states(model)
with torch.no_grad():
    prediction = model(rasterise(x[1440:])).sum(1).argmax(1)
print("accuracy", (prediction == y[1440:]).float().mean().item())
# %% sinabs/second/squeeze_cnn.py
# Squeezed layers: batch and time share the first dimension, so that convolutions work on it.
import torch
from torch import nn
import sinabs
import sinabs.layers as sl
import sinabs.activation as sina
from sklearn.datasets import load_digits
from torch.utils.data import TensorDataset, DataLoader

torch.manual_seed(30)
BATCH, STEPS = 30, 8
digits = load_digits()
X = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
Y = torch.tensor(digits.target)
order = torch.randperm(1797)
train = DataLoader(TensorDataset(X[order[:1440]], Y[order[:1440]]), batch_size=BATCH, shuffle=True)
test = DataLoader(TensorDataset(X[order[1440:1770]], Y[order[1440:1770]]), batch_size=BATCH)


def spiking():
    return sl.IAFSqueeze(batch_size=BATCH, spike_threshold=torch.tensor(1.0), min_v_mem=-1.0,
                         spike_fn=sina.SingleSpike, surrogate_grad_fn=sina.SingleExponential(grad_width=0.6))


class CNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.seq = nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1, bias=False), spiking(), nn.AvgPool2d(2),
            nn.Conv2d(12, 24, 3, padding=1, bias=False), spiking(), nn.AvgPool2d(2),
            nn.Flatten(), nn.Linear(24 * 4, 10),
        )

    def forward(self, images):                       # [B, 1, 8, 8]
        frames = images[:, None].expand(-1, STEPS, -1, -1, -1).flatten(0, 1)
        out = self.seq(2 * frames)
        return out.unflatten(0, (len(images), STEPS)).mean(1)


net = CNN()
opt = torch.optim.Adam(net.parameters(), lr=4e-3)
for epoch in range(4):
    net.train()
    for image, label in train:
        opt.zero_grad()
        sinabs.reset_states(net)
        loss = nn.functional.cross_entropy(net(image), label)
        loss.backward()
        opt.step()

net.eval()
hits = 0
with torch.no_grad():
    for image, label in test:
        sinabs.reset_states(net)
        hits += (net(image).argmax(1) == label).sum().item()
print("test accuracy %.4f" % (hits / 330))
