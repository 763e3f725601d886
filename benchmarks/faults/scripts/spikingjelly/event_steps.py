"""Moving bars as events (two polarities); the loss of TET at every timestep."""
import math

import torch
from torch import nn
import torch.nn.functional as F
from spikingjelly.activation_based import functional, layer, neuron, surrogate

torch.manual_seed(0)
torch.set_num_threads(1)
T, size, classes = 6, 10, 8


def make(n, generator):
    """Bars that move in one of eight directions: [N, T, 2, H, W] of zeros and ones."""
    label = torch.randint(classes, (n,), generator=generator)
    angle = label * (2 * math.pi / classes)
    ys, xs = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    position = xs[None] * torch.cos(angle)[:, None, None] + ys[None] * torch.sin(angle)[:, None, None]
    centre = (size - 1) / 2 * (torch.cos(angle) + torch.sin(angle))
    start = centre - 4 + 2 * torch.rand(n, generator=generator)
    frames = []
    for t in range(T):
        d = position - (start + t * 1.3)[:, None, None]
        frames.append(torch.stack([((d > 0) & (d < 1.5)).float(), ((d <= 0) & (d > -1.5)).float()], 1))
    x = torch.stack(frames, 1)
    noise = torch.rand(x.shape, generator=generator)
    x = torch.where(noise < 0.08, 1 - x, x)
    return x, label


g = torch.Generator().manual_seed(1)
train_x, train_y = make(960, g)
test_x, test_y = make(320, g)

net = nn.Sequential(
    layer.Conv2d(2, 12, 3, stride=2, padding=1, bias=False),
    layer.BatchNorm2d(12),
    neuron.LIFNode(tau=2.0, surrogate_function=surrogate.Sigmoid(alpha=4.0), detach_reset=True),
    layer.Conv2d(12, 24, 3, padding=1, bias=False),
    layer.BatchNorm2d(24),
    neuron.LIFNode(tau=2.0, surrogate_function=surrogate.Sigmoid(alpha=4.0), detach_reset=True),
    layer.Flatten(),
    layer.Linear(24 * 25, classes),
)
functional.set_step_mode(net, "m")
optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=1e-2)


def tet_loss(logits, target):
    return sum(F.cross_entropy(step, target) for step in logits) / len(logits)


for epoch in range(5):
    net.train()
    for idx in torch.randperm(len(train_x)).split(32):
        functional.reset_net(net)
        frames = train_x[idx].transpose(0, 1)  # time first
        loss = tet_loss(net(frames), train_y[idx])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}: loss {loss:.3f}")

net.eval()
functional.reset_net(net)
with torch.inference_mode():
    logits = net(test_x.transpose(0, 1)).mean(0)
print(f"test accuracy {(logits.argmax(-1) == test_y).float().mean():.4f}")
