"""Second-order neurons on spike trains like those of spoken words: the class is the order in which groups of channels speak."""
import itertools

import snntorch as snn
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

CHANNELS, STEPS = 30, 40
ORDERS = list(itertools.permutations(range(3)))  # six words of three syllables


class Words(Dataset):
    """Spikes (STEPS, CHANNELS) of 0 and 1, and the number of the word."""

    def __init__(self, size, seed):
        g = torch.Generator().manual_seed(seed)
        self.labels = torch.randint(0, len(ORDERS), (size,), generator=g)
        rate = torch.full((size, STEPS, CHANNELS), 0.02)
        for i, label in enumerate(self.labels.tolist()):
            onset = int(torch.randint(0, 5, (1,), generator=g))
            for place, group in enumerate(ORDERS[label]):
                start = onset + 12 * place
                rate[i, start:start + 10, 10 * group:10 * group + 10] = 0.25
        self.spikes = (torch.rand(rate.shape, generator=g) < rate).float()

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return self.spikes[i], self.labels[i]


class WordNet(nn.Module):
    def __init__(self, hidden=80, alpha=0.8, beta=0.9):
        super().__init__()
        self.fc_in = nn.Linear(CHANNELS, hidden)
        self.hidden = snn.Synaptic(alpha=alpha, beta=beta, reset_mechanism="subtract")
        self.recurrent = nn.Linear(hidden, hidden, bias=False)
        self.fc_out = nn.Linear(hidden, len(ORDERS))
        self.readout = snn.Leaky(beta=0.95, reset_mechanism="none")
        nn.init.orthogonal_(self.recurrent.weight, gain=0.3)

    def forward(self, spikes):
        syn, mem = self.hidden.init_synaptic()
        out = self.readout.init_leaky()
        s = torch.zeros(spikes.shape[1], self.recurrent.in_features)
        voltage = []
        for frame in spikes:
            s, syn, mem = self.hidden(self.fc_in(frame) + self.recurrent(s), syn, mem)
            _, out = self.readout(self.fc_out(s), out)
            voltage.append(out)
        return torch.stack(voltage)


def time_first(batch):
    spikes, labels = zip(*batch)
    return torch.stack(spikes, dim=1), torch.stack(labels)


torch.manual_seed(0)
train = DataLoader(Words(700, seed=1), batch_size=40, shuffle=True, collate_fn=time_first)
test = DataLoader(Words(300, seed=2), batch_size=40, collate_fn=time_first)
net = WordNet()
optimizer = torch.optim.Adamax(net.parameters(), lr=4e-3)
criterion = nn.CrossEntropyLoss()

for epoch in range(6):
    running = 0.0
    for spikes, labels in train:
        voltage = net(spikes)
        loss = criterion(voltage.mean(0), labels)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        running += loss.item()
    print(f"{epoch}: {running / len(train):.3f}")

with torch.no_grad():
    hits = sum((net(spikes).mean(0).argmax(1) == labels).sum().item() for spikes, labels in test)
print(f"accuracy on new words {hits / 300:.3f}")
