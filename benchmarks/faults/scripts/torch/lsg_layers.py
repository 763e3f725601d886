"""A perceptron with neurons of lsg; each pixel becomes a current that rises and falls."""
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
import lsgcli as lsg
from sklearn.datasets import load_digits

torch.manual_seed(0)
torch.set_num_threads(1)
T = 6


class Perceptron(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(64, 128), lsg.LIF(decay=0.5)
        self.fc2, self.lif2 = nn.Linear(128, 128), lsg.LIF(decay=0.5)
        self.fc3 = nn.Linear(128, 10)

    def forward(self, x):  # (B, 64)
        envelope = torch.tensor([0.5, 1.0, 2.0, 2.0, 1.0, 0.5]).view(T, 1, 1)
        currents = self.fc1(x * envelope)  # (T, B, 128)
        spikes = self.lif1(currents)
        spikes = self.lif2(self.fc2(spikes))
        return self.fc3(spikes).mean(0)


features, target = load_digits(return_X_y=True)
features = torch.tensor(features / 16, dtype=torch.float32)
target = torch.tensor(target)
train = DataLoader(TensorDataset(features[:1437], target[:1437]), batch_size=32, shuffle=True)
held_out = DataLoader(TensorDataset(features[1437:], target[1437:]), batch_size=120)

model = Perceptron()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
for epoch in range(8):
    model.train()
    for x, y in train:
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"{epoch + 1} {loss.item():.3f}")

model.eval()
with torch.no_grad():
    right = sum(int((model(x).argmax(1) == y).sum()) for x, y in held_out)
print(f"accuracy {right / 360:.3f}")
