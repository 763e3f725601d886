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
