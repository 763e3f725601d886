"""Heart-beat-like signals become up and down spikes (delta modulation); a population of output neurons stands for each rhythm."""
import argparse

import snntorch as snn
import snntorch.functional as SF
import torch
from snntorch import spikegen
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

RHYTHMS, PER_CLASS, LENGTH = 4, 5, 60


def beats(count, seed):
    """Signals [count, LENGTH] in millivolts: slow, fast, double beats, beats with a slow wave; and labels."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, RHYTHMS, (count,), generator=g)
    t = torch.arange(LENGTH).float()
    signals = torch.zeros(count, LENGTH)
    for i, rhythm in enumerate(labels.tolist()):
        period = (9 if rhythm == 1 else 18) + 2 * torch.rand(1, generator=g)
        first = period * torch.rand(1, generator=g)
        phase = (t - first) % period
        wave = torch.exp(-((phase - 4) / 1.0) ** 2)
        if rhythm == 2:
            wave = wave + torch.exp(-((phase - 9) / 1.0) ** 2)
        if rhythm == 3:
            wave = wave + 0.8 * torch.exp(-((phase - 11) / 3.0) ** 2)
        signals[i] = 0.9 * wave
    return signals + 0.02 * torch.randn(count, LENGTH, generator=g), labels


class Net(nn.Module):
    def __init__(self, channels=6, hidden=64):
        super().__init__()
        self.window = nn.Conv1d(2, channels * 4, 15, stride=2, padding=7)
        self.lif0 = snn.Leaky(beta=0.7, threshold=0.5)
        self.fc1 = nn.Linear(channels * 4, hidden)
        self.lif1 = snn.Leaky(beta=0.9, threshold=0.7)
        self.fc2 = nn.Linear(hidden, RHYTHMS * PER_CLASS)
        self.lif2 = snn.Leaky(beta=0.9, threshold=0.7)

    def forward(self, events):
        currents = self.window(events.permute(1, 2, 0)).permute(2, 0, 1)
        mem0, mem1, mem2 = self.lif0.reset_mem(), self.lif1.reset_mem(), self.lif2.reset_mem()
        out = []
        for current in currents:
            spk0, mem0 = self.lif0(current, mem0)
            spk1, mem1 = self.lif1(self.fc1(spk0), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            out.append(spk2)
        return torch.stack(out)


def encode(signals, threshold):
    """[T, N, 2]: rises, and falls, by more than the threshold."""
    both = spikegen.delta(signals.t(), threshold=threshold, off_spike=True, padding=True)
    return torch.stack([(both > 0).float(), (both < 0).float()], dim=-1)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--delta", type=float, default=0.1, help="millivolts")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--lr", type=float, default=2e-3)
    args = parser.parse_args()
    torch.manual_seed(5)
    train_loader = DataLoader(TensorDataset(*beats(480, 1)), batch_size=32, shuffle=True)
    test_loader = DataLoader(TensorDataset(*beats(240, 2)), batch_size=60)
    net = Net()
    loss_fn = SF.ce_count_loss(population_code=True, num_classes=RHYTHMS)
    optimizer = torch.optim.Adam(net.parameters(), lr=args.lr)
    for epoch in range(args.epochs):
        for signals, labels in train_loader:
            loss = loss_fn(net(encode(signals, args.delta)), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print("epoch", epoch, "loss", round(loss.item(), 3))
    hits = 0
    net.eval()
    with torch.no_grad():
        for signals, labels in test_loader:
            spikes = net(encode(signals, args.delta))
            counts = spikes.sum(0).reshape(len(labels), RHYTHMS, PER_CLASS).sum(2)
            hits += (counts.argmax(1) == labels).sum().item()
    print("accuracy", hits / 240)


if __name__ == "__main__":
    main()
