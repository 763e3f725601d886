"""Digits, three linear layers with neurons of lsg between them; the same image at every timestep."""
import lsgcli as lsg
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

T = 8


class Net(nn.Module):
    def __init__(self, hidden: int = 96, classes: int = 10) -> None:
        super().__init__()
        self.fc1 = nn.Linear(64, hidden)
        self.lif1 = lsg.LIF(decay=0.9, threshold=1.0, reset="soft")
        self.fc2 = nn.Linear(hidden, hidden)
        self.lif2 = lsg.LIF(decay=0.9, threshold=1.0, reset="soft")
        self.fc3 = nn.Linear(hidden, classes)

    def forward(self, x):
        x = x.unsqueeze(0).repeat(T, 1, 1)  # (B, F) to (T, B, F)
        s = self.lif1(self.fc1(x))
        s = self.lif2(self.fc2(s))
        return self.fc3(s).mean(0)


def loaders():
    rng = np.random.default_rng(0)
    bunch = load_digits()
    order = rng.permutation(len(bunch.target))
    x = torch.from_numpy(bunch.data[order].astype(np.float32)) / 8 - 1
    y = torch.from_numpy(bunch.target[order])
    train = TensorDataset(x[:1400], y[:1400])
    test = TensorDataset(x[1400:], y[1400:])
    return DataLoader(train, batch_size=50, shuffle=True), DataLoader(test, batch_size=50)


def main() -> None:
    torch.manual_seed(0)
    train_loader, test_loader = loaders()
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    criterion = nn.CrossEntropyLoss()
    for epoch in range(6):
        net.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = criterion(net(x), y)
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch + 1}: loss {loss.item():.3f}")
    net.eval()
    correct = 0
    with torch.no_grad():
        for x, y in test_loader:
            correct += (net(x).argmax(1) == y).sum().item()
    print(f"test accuracy: {correct / 397:.4f}")


if __name__ == "__main__":
    main()
