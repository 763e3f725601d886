"""Sequences at once: lifted linear layers between norse's LIF modules; patterns of spike times."""
import torch
from torch import nn
import norse.torch as nt

torch.manual_seed(0)
torch.set_num_threads(1)

# Each class has a time of spike per input; samples jitter it.
classes, inputs, T = 6, 40, 30
generator = torch.Generator().manual_seed(11)
centres = torch.randint(2, T - 2, (classes, inputs), generator=generator)


def sample(n):
    label = torch.randint(classes, (n,), generator=generator)
    times = centres[label] + torch.randn(n, inputs, generator=generator).mul(1.5).round().long()
    spikes = torch.zeros(T, n, inputs)
    spikes.scatter_(0, times.clamp(0, T - 1).unsqueeze(0), 1.0)
    return spikes, label


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        hidden = 64
        self.first = nt.Lift(nn.Linear(inputs, hidden, bias=False))
        self.lif = nt.LIF(p=nt.LIFParameters(v_th=torch.tensor(0.3), alpha=torch.tensor(50.0)))
        self.second = nt.Lift(nn.Linear(hidden, classes, bias=False))
        self.li = nt.LI()
        for weight in self.first.parameters():
            nn.init.normal_(weight, 0.1, 0.3)

    def forward(self, spikes):
        hidden, _ = self.lif(self.first(spikes))
        voltage, _ = self.li(self.second(hidden))
        return voltage


net = Network()
optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
train_x, train_y = sample(768)
for epoch in range(8):
    for index in torch.randperm(768).split(48):
        voltage = net(train_x[:, index])
        loss = nn.functional.cross_entropy(voltage.mean(0), train_y[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"{epoch:2d} {loss.item():.3f}")

test_x, test_y = sample(300)
with torch.no_grad():
    accuracy = (net(test_x).mean(0).argmax(1) == test_y).float().mean().item()
print(f"test accuracy {accuracy:.3f}")
