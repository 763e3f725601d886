"""Moving bars before an event camera: in which of eight directions? Convolutions, batch normalisation and lsg's neurons."""
import lsgcli as lsg
import torch
import torch.nn.functional as F
from torch import nn

STEPS, SIDE = 6, 14


def moving_bars(n, generator):
    """Events (n, STEPS, 2, SIDE, SIDE): where it grows brighter, and darker; labels 0 to 7."""
    label = torch.randint(0, 8, (n,), generator=generator)
    angle = label * torch.pi / 4
    y, x = torch.meshgrid(torch.arange(SIDE) - SIDE / 2 + 0.5, torch.arange(SIDE) - SIDE / 2 + 0.5, indexing="ij")
    along = torch.cos(angle).view(-1, 1, 1) * x + torch.sin(angle).view(-1, 1, 1) * y
    start = -6 + 3 * torch.rand(n, generator=generator)
    frames = []
    for step in range(STEPS + 1):
        frames.append(((along - (start + 1.5 * step).view(-1, 1, 1)).abs() < 1).float())
    change = torch.stack(frames, 1).diff(dim=1)
    events = torch.stack([change > 0, change < 0], dim=2).float()
    noise = (torch.rand(events.shape, generator=generator) < 0.03).float()
    return (events + noise).clamp(max=1), label


def per_step(module, x):
    """Apply a module without time to (T, B, ...)."""
    return module(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class Block(nn.Module):
    def __init__(self, c_in, c_out):
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(c_out)
        self.lif = lsg.LIF(decay=0.5, method="fixed", surrogate="triangular")

    def forward(self, x):
        current = per_step(self.bn, per_step(self.conv, x))
        return self.lif(current)


class BarNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([Block(2, 12), Block(12, 16), Block(16, 24), Block(24, 24)])
        self.pool = nn.AvgPool2d(2)
        self.head = nn.Linear(24 * 9, 8)

    def forward(self, events):
        x = events.transpose(0, 1)
        x = self.blocks[1](self.blocks[0](x))
        x = per_step(self.pool, x)
        x = self.blocks[3](self.blocks[2](x))
        x = per_step(self.pool, x)
        return self.head(x.flatten(2).mean(0))


torch.manual_seed(77)
generator = torch.Generator().manual_seed(77)
events, label = moving_bars(600, generator)
test_events, test_label = moving_bars(300, generator)
net = BarNet()
optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
for epoch in range(5):
    net.train()
    for rows in torch.randperm(600).split(30):
        loss = F.cross_entropy(net(events[rows]), label[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print("epoch", epoch, "loss", loss.item())

net.eval()
with torch.no_grad():
    print("accuracy", (net(test_events).argmax(1) == test_label).float().mean().item())
