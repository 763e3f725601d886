# five spiking layers kept in a ModuleList, with skips; classification of digits by the number of spikes
import torch
from torch import nn
import snntorch as snn
import snntorch.functional as SF
from snntorch import surrogate
from sklearn.datasets import load_digits

torch.manual_seed(8)

data, target = load_digits(return_X_y=True)
data = torch.tensor(data, dtype=torch.float32).div(8).sub(1)
target = torch.tensor(target)
mix = torch.randperm(1797)
data, target = data[mix], target[mix]


class Block(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.lin = nn.Linear(d, d)
        self.lif = snn.Leaky(beta=0.7, threshold=0.6, spike_grad=surrogate.triangular())

    def forward(self, x, mem):
        spk, mem = self.lif(self.lin(x), mem)
        return spk + x, mem


class Deep(nn.Module):
    def __init__(self, d=64, depth=4, steps=8):
        super().__init__()
        self.stem = nn.Linear(64, d)
        self.blocks = nn.ModuleList([Block(d) for _ in range(depth)])
        self.fc = nn.Linear(d, 10)
        self.out = snn.Leaky(beta=0.9, threshold=1.0)
        self.steps = steps

    def forward(self, x):
        mems = [b.lif.init_leaky() for b in self.blocks]
        mem = self.out.init_leaky()
        counts = []
        for _ in range(self.steps):
            h = torch.relu(self.stem(x))
            for i, block in enumerate(self.blocks):
                h, mems[i] = block(h, mems[i])
            spk, mem = self.out(self.fc(h), mem)
            counts.append(spk)
        return torch.stack(counts)


net = Deep()
optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
loss_fn = SF.mse_count_loss(correct_rate=0.9, incorrect_rate=0.1)
for epoch in range(8):
    for i in range(0, 1440, 60):
        spk = net(data[i : i + 60])
        loss = loss_fn(spk, target[i : i + 60])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(epoch, loss.item())

with torch.no_grad():
    print("accuracy", SF.accuracy_rate(net(data[1440:]), target[1440:]))
