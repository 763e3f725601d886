"""Deeper network with learned time constants, dropout and a voting layer."""
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from spikingjelly.activation_based import functional, layer, neuron, surrogate

torch.manual_seed(0)
torch.set_num_threads(1)
T = 4


def block(c_in, c_out, pool):
    modules = [
        layer.Conv2d(c_in, c_out, 3, padding=1, bias=False),
        layer.BatchNorm2d(c_out),
        neuron.ParametricLIFNode(init_tau=2.0, surrogate_function=surrogate.ATan(), detach_reset=True),
    ]
    if pool:
        modules.append(layer.MaxPool2d(2, 2))
    return modules


class PLIFNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(*block(1, 16, True), *block(16, 24, False), *block(24, 24, False), *block(24, 32, True))
        self.classifier = nn.Sequential(
            layer.Flatten(),
            layer.Dropout(0.5),
            layer.Linear(32 * 4, 100),
            neuron.ParametricLIFNode(init_tau=2.0, surrogate_function=surrogate.ATan(), detach_reset=True),
            layer.VotingLayer(10),
        )

    def forward(self, x):
        return self.classifier(self.features(x))


bunch = load_digits()
x_tr, x_te, y_tr, y_te = train_test_split(bunch.images, bunch.target, test_size=0.2, random_state=1)
mean, std = x_tr.mean(), x_tr.std()
to_tensor = lambda x: ((torch.tensor(x) - mean) / std).float().unsqueeze(1)
train_loader = DataLoader(TensorDataset(to_tensor(x_tr), torch.tensor(y_tr)), batch_size=48, shuffle=True, drop_last=True)
test_loader = DataLoader(TensorDataset(to_tensor(x_te), torch.tensor(y_te)), batch_size=120)

net = PLIFNet()
functional.set_step_mode(net, "m")
optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
for epoch in range(5):
    net.train()
    for x, y in train_loader:
        x = x.unsqueeze(0).repeat(T, 1, 1, 1, 1)
        out = net(x).mean(0)
        loss = F.cross_entropy(out, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        functional.reset_net(net)
    print(f"[{epoch}] {loss.item():.4f}")

net.eval()
correct = 0
with torch.no_grad():
    for x, y in test_loader:
        out = net(x.unsqueeze(0).repeat(T, 1, 1, 1, 1)).mean(0)
        correct += int((out.argmax(1) == y).sum())
        functional.reset_net(net)
print("accuracy on the test set:", correct / len(y_te))
