"""Digits by a current encoder, recurrent LIF and a leaky readout, after norse's MNIST example."""
import torch
import torch.nn as nn
from norse.torch import ConstantCurrentLIFEncoder, LIFParameters, LIFRecurrentCell, LILinearCell
from sklearn.datasets import load_digits

torch.manual_seed(1234)
torch.set_num_threads(1)


class SNN(nn.Module):
    def __init__(self, input_features, hidden_features, output_features):
        super().__init__()
        p = LIFParameters(alpha=torch.tensor(100.0), v_th=torch.tensor(0.5))
        self.l1 = LIFRecurrentCell(input_features, hidden_features, p=p)
        self.fc_out = LILinearCell(hidden_features, output_features)

    def forward(self, x):
        s1 = so = None
        voltages = []
        for z in x:
            z, s1 = self.l1(z, s1)
            vo, so = self.fc_out(z, so)
            voltages.append(vo)
        return torch.stack(voltages)


class Model(nn.Module):
    def __init__(self, encoder, snn):
        super().__init__()
        self.encoder = encoder
        self.snn = snn

    def forward(self, x):
        x = self.encoder(x)
        x = self.snn(x)
        m, _ = x.max(0)
        return nn.functional.log_softmax(m, dim=1)


def train(model, loader, optimizer):
    model.train()
    losses = []
    for data, target in loader:
        optimizer.zero_grad()
        output = model(data)
        loss = nn.functional.nll_loss(output, target)
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


X, y = load_digits(return_X_y=True)
X, y = torch.tensor(X / 16 * 2, dtype=torch.float32), torch.tensor(y)
train_loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X[:1400], y[:1400]), batch_size=64, shuffle=True)
test_loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X[1400:], y[1400:]), batch_size=200)

model = Model(ConstantCurrentLIFEncoder(seq_length=16), SNN(64, 100, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for epoch in range(8):
    print("epoch", epoch, "loss", train(model, train_loader, optimizer))
print("test accuracy", test(model, test_loader))
