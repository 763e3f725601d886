"""Poisson spikes of digits into LIF cells and a leaky readout, after the usual pattern of Norse's examples."""
import torch
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset, random_split

import norse.torch as norse

torch.manual_seed(1234)


class SpikingModel(torch.nn.Module):
    def __init__(self, seq_length, hidden=32, p=norse.LIFParameters(alpha=torch.as_tensor(100.0), v_th=torch.as_tensor(0.4))):
        super().__init__()
        self.encoder = norse.PoissonEncoder(seq_length=seq_length, f_max=300)
        self.fc1 = torch.nn.Linear(64, hidden, bias=False)
        self.lif = norse.LIFCell(p=p)
        self.fc2 = torch.nn.Linear(hidden, 10, bias=False)
        self.readout = norse.LICell()

    def forward(self, images):
        spikes = self.encoder(images)
        s1 = s2 = None
        voltages = []
        for spike_in in spikes:
            z, s1 = self.lif(3 * self.fc1(spike_in), s1)
            v, s2 = self.readout(self.fc2(z), s2)
            voltages.append(v)
        return torch.stack(voltages)


class DecodedModel(torch.nn.Module):
    """Maximal voltage over time, then log probabilities."""

    def __init__(self, snn):
        super().__init__()
        self.snn = snn

    def forward(self, x):
        m, _ = torch.max(self.snn(x), 0)
        return torch.nn.functional.log_softmax(m, dim=1)


def train(model, loader, optimizer):
    model.train()
    losses = []
    for data, target in loader:
        optimizer.zero_grad()
        loss = torch.nn.functional.nll_loss(model(data), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return sum(losses) / len(losses)


def test(model, loader):
    model.eval()
    correct = 0
    with torch.no_grad():
        for data, target in loader:
            correct += model(data).argmax(dim=1).eq(target).sum().item()
    return correct / len(loader.dataset)


x, y = load_digits(return_X_y=True)
dataset = TensorDataset(torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y))
train_set, test_set = random_split(dataset, [1437, 360])
train_loader = DataLoader(train_set, batch_size=48, shuffle=True)
test_loader = DataLoader(test_set, batch_size=120)

model = DecodedModel(SpikingModel(seq_length=20))
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
for epoch in range(5):
    print("epoch", epoch, "mean loss", train(model, train_loader, optimizer))
print("accuracy", test(model, test_loader))
