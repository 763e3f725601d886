"""A network of snntorch's tutorials: two fully connected layers of Leaky neurons, 25 timesteps, a loss at each."""

import snntorch as snn
import torch
from torch import nn

from benchmarks.watched import Record


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(64, 1000)
        self.lif1 = snn.Leaky(beta=0.95)
        self.fc2 = nn.Linear(1000, 10)
        self.lif2 = snn.Leaky(beta=0.95)

    def forward(self, x):
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        potentials = []
        for _ in range(25):
            spikes, mem1 = self.lif1(self.fc1(x), mem1)
            _, mem2 = self.lif2(self.fc2(spikes), mem2)
            potentials.append(mem2)
        return torch.stack(potentials)


torch.manual_seed(0)
record, net, loss_function = Record(), Net(), nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(net.parameters(), lr=5e-4, betas=(0.9, 0.999))
for x, y in record.batches(128):
    loss = sum(loss_function(potential, y) for potential in net(x.flatten(1)))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    record.step(loss)
record.write()
