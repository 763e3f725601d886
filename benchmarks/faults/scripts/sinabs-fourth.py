# %% sinabs/fourth/squeeze_events.py
"""Events of a bar that turns clockwise or counter-clockwise, or only blinks; convolutions with sinabs' squeezing layers."""
import math

import sinabs.activation as sina
import sinabs.layers as sl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(20)
SIZE, STEPS, BATCH = 11, 10, 20


def turning(n):
    """Events [n, STEPS, 1, 11, 11] and labels."""
    labels = torch.arange(n) % 3
    angle = math.pi * torch.rand(n, 1)
    speed = torch.tensor([0.28, -0.28, 0.0])[labels].unsqueeze(1)
    angles = (angle + speed * torch.arange(STEPS))[:, :, None, None]
    axis = torch.arange(SIZE) - SIZE // 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    distance = (x * angles.sin() - y * angles.cos()).abs()
    bars = ((distance < 0.8) & (x ** 2 + y ** 2 <= 25)).float()
    seen = (torch.rand(bars.shape) < 0.8).float()
    return (bars * seen).unsqueeze(2), labels


class Net(nn.Module):
    def __init__(self, batch_size):
        super().__init__()
        def lif():
            return sl.LIFSqueeze(batch_size=batch_size, tau_mem=5.0, norm_input=False, spike_threshold=torch.tensor(1.0),
                                 spike_fn=sina.SingleSpike, surrogate_grad_fn=sina.SingleExponential(grad_width=0.5))

        self.spiking = nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1), lif(), nn.AvgPool2d(2),
            nn.Conv2d(12, 24, 3, padding=1), lif(), nn.AvgPool2d(2),
            nn.Flatten(), nn.Linear(24 * 4, 48), lif(),
            nn.Linear(48, 3),
        )

    def forward(self, events):
        n, steps = events.shape[:2]
        scores = self.spiking(events.flatten(0, 1))
        return scores.unflatten(0, (n, steps))

    def reset(self):
        for layer in self.modules():
            if isinstance(layer, sl.StatefulLayer):
                layer.reset_states()


train_loader = DataLoader(TensorDataset(*turning(600)), batch_size=BATCH, shuffle=True)
test_loader = DataLoader(TensorDataset(*turning(240)), batch_size=BATCH)
net = Net(BATCH)
optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
for epoch in range(8):
    for events, labels in train_loader:
        net.reset()
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(2 * events)[:, 3:].mean(1), labels)
        loss.backward()
        optimizer.step()
    print(epoch, loss.item())
right = 0
with torch.no_grad():
    for events, labels in test_loader:
        net.reset()
        right += (net(2 * events)[:, 3:].mean(1).argmax(1) == labels).sum().item()
print("accuracy", right / 240)
# %% sinabs/fourth/transfer_digits.py
"""Transfer: a spiking network learns digits 0 to 4, then its first layers stay fixed for a while, a new head learns 5 to 9, and in
the end everything is tuned. The number of spikes is kept low by a penalty."""
import sinabs
import sinabs.activation as sina
import sinabs.layers as sl
import torch
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(11)
STEPS = 10
digits = load_digits()
images = torch.tensor(digits.images.reshape(-1, 64) / 16, dtype=torch.float32)
labels = torch.tensor(digits.target)


def part(low, high, train):
    rows = torch.arange(len(labels))
    chosen = (labels >= low) & (labels <= high) & ((rows % 4 != 0) if train else (rows % 4 == 0))
    return images[chosen], labels[chosen] - low


def spiking(tau=4.0):
    return sl.LIF(tau_mem=tau, norm_input=False, spike_threshold=torch.tensor(1.0), spike_fn=sina.SingleSpike,
                  surrogate_grad_fn=sina.SingleExponential(grad_width=0.5), record_states=False)


backbone = nn.Sequential(nn.Linear(64, 80), spiking(), nn.Linear(80, 48), spiking())
head = nn.Linear(48, 5)


def forward(x):
    sinabs.reset_states(backbone)
    spikes = backbone(2 * x.unsqueeze(1).expand(-1, STEPS, -1))
    return head(spikes.mean(1) * 4), spikes


def accuracy(data):
    x, y = data
    with torch.no_grad():
        return (forward(x)[0].argmax(1) == y).float().mean().item()


def run(data, optimizer, epochs, target_rate=0.2, strength=0.1):
    x, y = data
    for epoch in range(epochs):
        for rows in torch.randperm(len(x)).split(25):
            scores, spikes = forward(x[rows])
            excess = torch.relu(spikes.mean((0, 1)) - target_rate)
            loss = nn.functional.cross_entropy(scores, y[rows]) + strength * excess.sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"  epoch {epoch} loss {loss.item():.3f} spikes per step {spikes.mean().item():.3f}")


print("first task")
run(part(0, 4, True), torch.optim.Adam([*backbone.parameters(), *head.parameters()], lr=3e-3), epochs=6)
print("accuracy on 0 to 4", accuracy(part(0, 4, False)))

print("new head")
head = nn.Linear(48, 5)
run(part(5, 9, True), torch.optim.Adam(head.parameters(), lr=3e-3), epochs=3)
print("accuracy on 5 to 9", accuracy(part(5, 9, False)))

print("all layers")
run(part(5, 9, True), torch.optim.Adam([*backbone.parameters(), *head.parameters()], lr=1e-3), epochs=8)
print("accuracy on 5 to 9", accuracy(part(5, 9, False)))
