"""Recurrent network for recordings like those of the Spiking Heidelberg Digits: lists of (time, channel) of differing
length, sorted into bins. Own data: each class is a pair of sweeps over the channels."""
import argparse
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

CHANNELS = 40
CLASSES = 5


@dataclass
class Recording:
    times: torch.Tensor      # seconds
    channels: torch.Tensor
    label: int


def record(label, generator):
    """A recording of 0.25 to 0.4 s."""
    start = torch.tensor([2.0, 36.0, 2.0, 36.0, 18.0])[label]
    end = torch.tensor([36.0, 2.0, 18.0, 18.0, 36.0])[label]
    duration = 0.25 + 0.15 * torch.rand(1, generator=generator)
    phase = torch.rand(150, generator=generator)
    centre = start + (end - start) * phase
    channels = (centre + 2 * torch.randn(150, generator=generator)).round().long().clamp(0, CHANNELS - 1)
    times = phase * duration
    order = times.argsort()
    return Recording(times[order], channels[order], label)


class SpikeDataset(Dataset):
    def __init__(self, size, bin_ms, seed):
        generator = torch.Generator().manual_seed(seed)
        self.bin_ms = bin_ms
        self.recordings = [record(i % CLASSES, generator) for i in range(size)]

    def __len__(self):
        return len(self.recordings)

    def __getitem__(self, index):
        recording = self.recordings[index]
        bins = (recording.times * 1000 / self.bin_ms).long()
        frames = torch.zeros(int(bins.max()) + 1, CHANNELS)
        frames.index_put_((bins, recording.channels), torch.ones(len(bins)), accumulate=True)
        return frames.clamp(max=1), recording.label


def collate(batch):
    """Pads to the longest recording; mask is 1 where there is one."""
    batch = sorted(batch, key=lambda sample: len(sample[0]), reverse=True)
    frames = nn.utils.rnn.pad_sequence([sample[0] for sample in batch])
    lengths = torch.tensor([len(sample[0]) for sample in batch])
    labels = torch.tensor([sample[1] for sample in batch])
    mask = (torch.arange(len(frames)).unsqueeze(1) < lengths).float()
    return frames, mask, labels


class FastSigmoid(torch.autograd.Function):
    scale = 10.0

    @staticmethod
    def forward(ctx, u):
        ctx.save_for_backward(u)
        return (u > 0).to(u.dtype)

    @staticmethod
    def backward(ctx, grad):
        (u,) = ctx.saved_tensors
        return grad / (FastSigmoid.scale * u.abs() + 1) ** 2


class RSNN(nn.Module):
    """Synapse and membrane with exponential decay; leaky integrators as readout, averaged over the recording."""

    def __init__(self, hidden, alpha=0.75, beta=0.85):
        super().__init__()
        self.alpha, self.beta, self.hidden = alpha, beta, hidden
        self.w1 = nn.Parameter(torch.randn(CHANNELS, hidden) * 0.25 * (CHANNELS ** -0.5) * 2)
        self.v1 = nn.Parameter(torch.randn(hidden, hidden) * 0.2 * hidden ** -0.5)
        self.w2 = nn.Parameter(torch.randn(hidden, CLASSES) * hidden ** -0.5)

    def forward(self, frames, mask):
        batch = frames.shape[1]
        syn = mem = out = torch.zeros(batch, self.hidden)
        flt = read = torch.zeros(batch, CLASSES)
        total = torch.zeros(batch, CLASSES)
        for frame, present in zip(frames, mask):
            current = frame @ self.w1 + out @ self.v1
            out = FastSigmoid.apply(mem - 1)
            syn, mem = self.alpha * syn + current, (self.beta * mem + syn) * (1 - out.detach())
            flt, read = self.alpha * flt + out @ self.w2, self.beta * read + flt
            total = total + present.unsqueeze(1) * read
        return total / mask.sum(0).unsqueeze(1)


def accuracy(net, loader):
    hits = 0
    with torch.no_grad():
        for frames, mask, labels in loader:
            hits += (net(frames, mask).argmax(1) == labels).sum().item()
    return hits / len(loader.dataset)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin-ms", type=float, default=16)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=6)
    args = parser.parse_args()
    torch.manual_seed(4)
    train = DataLoader(SpikeDataset(600, args.bin_ms, 0), batch_size=32, shuffle=True, collate_fn=collate)
    test = DataLoader(SpikeDataset(250, args.bin_ms, 1), batch_size=50, collate_fn=collate)
    net = RSNN(args.hidden)
    optimizer = torch.optim.Adamax(net.parameters(), lr=5e-3)
    for epoch in range(args.epochs):
        for frames, mask, labels in train:
            loss = nn.functional.cross_entropy(net(frames, mask), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: loss {loss.item():.3f}, training accuracy {accuracy(net, train):.3f}")
    print(f"test accuracy {accuracy(net, test):.4f}")


if __name__ == "__main__":
    main()
