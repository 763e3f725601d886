# A small spike-element-wise residual network, multi-step, with data loaders and augmentation.
import numpy as np
import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch.utils.data import DataLoader, Dataset


class Digits(Dataset):
    def __init__(self, rows, train):
        digits = load_digits()
        self.images = digits.images[rows].astype(np.float32) / 8
        self.labels = digits.target[rows]
        self.train = train

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        image = self.images[index]
        if self.train:
            image = np.roll(image, np.random.randint(-1, 2), axis=1)
        return torch.from_numpy(image.copy()).unsqueeze(0), int(self.labels[index])


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.body = nn.Sequential(
            layer.Conv2d(channels, channels, 3, padding=1, bias=False),
            layer.BatchNorm2d(channels),
            neuron.LIFNode(tau=2.0, surrogate_function=surrogate.ATan(), detach_reset=True),
        )

    def forward(self, x):
        return self.body(x) + x


class ResNet(nn.Module):
    def __init__(self, channels=12, T=4, drop=0.1):
        super().__init__()
        self.T = T
        self.stem = nn.Sequential(layer.Conv2d(1, channels, 3, padding=1, bias=False), layer.BatchNorm2d(channels))
        self.sn = neuron.LIFNode(tau=2.0, surrogate_function=surrogate.ATan(), detach_reset=True)
        self.block1, self.block2 = Block(channels), Block(channels)
        self.pool = layer.AvgPool2d(2)
        self.flatten, self.dropout = layer.Flatten(), layer.Dropout(drop)
        self.fc = layer.Linear(channels * 16, 10)
        functional.set_step_mode(self, 'm')

    def forward(self, x):
        x = x.repeat(self.T, 1, 1, 1, 1)
        x = self.sn(self.stem(x))
        x = self.pool(self.block2(self.block1(x)))
        return self.fc(self.dropout(self.flatten(x))).mean(0)


def train_one_epoch(net, loader, optimizer):
    net.train()
    for image, label in loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(image), label)
        loss.backward()
        optimizer.step()
        functional.reset_net(net)
    return loss.item()


def test(net, loader):
    net.eval()
    hits = total = 0
    with torch.no_grad():
        for image, label in loader:
            hits += (net(image).argmax(1) == label).sum().item()
            total += label.numel()
            functional.reset_net(net)
    return hits / total


if __name__ == '__main__':
    torch.manual_seed(2023)
    np.random.seed(2023)
    rows = np.random.permutation(1797)
    train_loader = DataLoader(Digits(rows[:1300], True), batch_size=32, shuffle=True, drop_last=True)
    test_loader = DataLoader(Digits(rows[1300:], False), batch_size=128)
    net = ResNet()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3)
    for epoch in range(3):
        print('epoch', epoch, 'loss', train_one_epoch(net, train_loader, optimizer))
        scheduler.step()
    print('accuracy', test(net, test_loader))
