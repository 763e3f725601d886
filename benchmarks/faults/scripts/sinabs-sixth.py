# %% sinabs/sixth/many_spikes.py
"""Strong drive, several spikes a step: integrate-and-fire neurons of sinabs on digits."""
import sinabs.activation as sina
import sinabs.layers as sl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

STEPS = 5


class MultiSpikeNet(nn.Module):
    def __init__(self, hidden=100):
        super().__init__()
        surrogate = sina.PeriodicExponential(grad_width=0.15)
        kwargs = {"spike_fn": sina.MultiSpike, "surrogate_grad_fn": surrogate, "min_v_mem": -2.0}
        self.stack = nn.Sequential(
            nn.Linear(64, hidden), sl.IAF(**kwargs),
            nn.Linear(hidden, hidden), sl.IAF(**kwargs),
            nn.Linear(hidden, hidden), sl.IAF(**kwargs),
            nn.Linear(hidden, 10),
        )
        for layer in self.stack:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_uniform_(layer.weight)

    def forward(self, image):
        sequence = image.unsqueeze(1).repeat(1, STEPS, 1)
        return self.stack(sequence).mean(1)

    def reset(self):
        for layer in self.stack:
            if isinstance(layer, sl.StatefulLayer):
                layer.reset_states()


torch.manual_seed(1)
data = load_digits()
dataset = TensorDataset(torch.tensor(data.data).float(), torch.tensor(data.target))
train_set, test_set = random_split(dataset, [1400, 397])
net = MultiSpikeNet()
optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
for epoch in range(6):
    for image, label in DataLoader(train_set, batch_size=40, shuffle=True):
        net.reset()
        loss = nn.functional.cross_entropy(net(image), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print("epoch", epoch, "loss", round(loss.item(), 3))
correct = 0
with torch.no_grad():
    for image, label in DataLoader(test_set, batch_size=397):
        net.reset()
        correct += (net(image).argmax(1) == label).sum().item()
print("accuracy", correct / len(test_set))
# %% sinabs/sixth/steering.py
"""Steering from a strip of pixels with an edge: left is negative, right positive. Potentials of the output are read."""
import sinabs
import sinabs.activation as sina
import sinabs.layers as sl
import torch
from torch import nn

PIXELS, STEPS = 16, 12
RETINA = torch.arange(PIXELS).float()


def drive(n, generator):
    """Events of a moving edge (n, STEPS, PIXELS), and the angle in [-1, 1] to steer."""
    where = 1.5 + (PIXELS - 3) * torch.rand(n, generator=generator)
    jitter = torch.randn(n, STEPS, generator=generator) * 0.3
    distance = RETINA - (where[:, None, None] + jitter[..., None])
    angle = 2 * (where - 1.5) / (PIXELS - 3) - 1
    return torch.bernoulli(torch.exp(-0.5 * distance ** 2), generator=generator), angle[:, None]


class Driver(nn.Module):
    def __init__(self, hidden=80):
        super().__init__()
        self.model = nn.Sequential(
            nn.Linear(PIXELS, hidden),
            sl.LIF(tau_mem=4.0, norm_input=False, spike_fn=sina.SingleSpike, surrogate_grad_fn=sina.SingleExponential()),
            nn.Linear(hidden, 1),
            sl.ExpLeak(tau_mem=6.0, norm_input=True),
        )

    def forward(self, events):
        sinabs.reset_states(self.model)
        return self.model(events)[:, 4:].mean(1)


torch.manual_seed(44)
generator = torch.Generator().manual_seed(44)
driver = Driver()
optimizer = torch.optim.Adam(driver.parameters(), lr=4e-3)
for epoch in range(8):
    for _ in range(25):
        events, angle = drive(64, generator)
        loss = nn.functional.smooth_l1_loss(driver(events), angle)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print("epoch", epoch, "loss", round(loss.item(), 4))
events, angle = drive(500, generator)
with torch.no_grad():
    error = (driver(events) - angle).pow(2).mean()
print("R2", (1 - error / angle.var()).item())
# %% sinabs/sixth/converted_cnn.py
# A network of ReLUs becomes a spiking one by sinabs.from_torch, after its weights were scaled
import sinabs
import sinabs.layers as sl
import torch
from sinabs.from_torch import from_model
from sklearn.datasets import load_digits
from torch import nn

BATCH, STEPS = 99, 32


def relu_network():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.ReLU(), nn.AvgPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1, bias=False), nn.ReLU(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(64, 10, bias=False),
    )


@torch.no_grad()
def scale_weights(ann, images, goal=0.6):
    """Scales each layer's weights so that its activations' upper percentile is the goal."""
    x = images
    for i, layer in enumerate(ann):
        x = layer(x)
        if isinstance(layer, nn.ReLU):
            high = torch.quantile(x.flatten()[:500000], 0.99).item()
            ann[i - 1].weight.mul_(goal / high)
            x = x * (goal / high)


torch.manual_seed(10)
digits = load_digits()
pixels = torch.tensor(digits.images).float().unsqueeze(1)
images = pixels / 16
labels = torch.tensor(digits.target)
order = torch.randperm(len(labels))
train_rows, test_rows = order[:1401], order[1401:]
ann = relu_network()
optimizer = torch.optim.Adam(ann.parameters(), lr=1e-3, weight_decay=1e-2)
for epoch in range(8):
    for rows in train_rows[torch.randperm(1401)].split(50):
        loss = nn.functional.cross_entropy(ann(pixels[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print("epoch", epoch, "loss", loss.item())
with torch.no_grad():
    print("analogue", (ann(pixels[test_rows]).argmax(1) == labels[test_rows]).float().mean().item())

scale_weights(ann, images[train_rows[:400]])
snn = from_model(ann, input_shape=(1, 8, 8), batch_size=BATCH).spiking_model
right = 0
with torch.no_grad():
    for rows in test_rows.split(BATCH):
        sinabs.reset_states(snn)
        stream = images[rows].repeat_interleave(STEPS, dim=0)
        out = snn(stream).unflatten(0, (BATCH, STEPS)).sum(1)
        right += (out.argmax(1) == labels[rows]).sum().item()
print("spiking accuracy", right / len(test_rows))
# %% sinabs/sixth/synapses_and_leak.py
"""Spoken-word-like spikes: LIF layers with synaptic time constants, a threshold of their own, an own surrogate."""
from dataclasses import dataclass

import sinabs
import sinabs.activation as sina
import sinabs.layers as sl
import torch
from torch import nn

BANDS, STEPS, WORDS = 20, 30, 8


@dataclass
class Bump:
    """Gradient of the spike function: highest at the threshold."""

    width: float = 0.2

    def __call__(self, v_mem, spike_threshold):
        return torch.exp(-((v_mem - spike_threshold) / (self.width * spike_threshold)) ** 2) / spike_threshold


def words(n, contours, generator):
    which = torch.randint(0, WORDS, (n,), generator=generator)
    stretch = 0.9 + 0.2 * torch.rand(n, 1, generator=generator)
    moments = (torch.arange(STEPS) * stretch).clamp(max=STEPS - 1).long()
    pitch = contours[which].gather(1, moments)
    distance = torch.arange(BANDS)[None, None] - pitch[..., None]
    return torch.bernoulli(0.6 * torch.exp(-0.5 * (distance / 1.2) ** 2) + 0.01, generator=generator), which


torch.manual_seed(7)
generator = torch.Generator().manual_seed(7)
contours = (torch.randn(WORDS, STEPS, generator=generator).cumsum(1) * 1.2 + BANDS / 2).clamp(1, BANDS - 2)
lif = {"tau_mem": 8.0, "tau_syn": 4.0, "spike_threshold": torch.tensor(4.0), "spike_fn": sina.SingleSpike,
       "surrogate_grad_fn": Bump(), "norm_input": False}
net = nn.Sequential(
    nn.Linear(BANDS, 100), sl.LIF(**lif),
    nn.Linear(100, 60), sl.LIF(**lif),
    nn.Linear(60, WORDS),
)
optimizer = torch.optim.Adam(net.parameters(), lr=4e-3)
for epoch in range(10):
    for _ in range(20):
        spikes, which = words(50, contours, generator)
        sinabs.reset_states(net)
        loss = nn.functional.cross_entropy(net(spikes).mean(1), which)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print("epoch", epoch, "loss", round(loss.item(), 3))
spikes, which = words(400, contours, generator)
with torch.no_grad():
    sinabs.reset_states(net)
    print("accuracy", (net(spikes).mean(1).argmax(1) == which).float().mean().item())
