"""A ReLU network with batch normalisation is trained, folded, converted to integrate-and-fire neurons (weights and biases scaled
by the largest activations), and its last layer tuned as a spiking network."""
import copy

import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

torch.manual_seed(7)
X, y = load_digits(return_X_y=True)
X = torch.tensor(X, dtype=torch.float32) / 16
y = torch.tensor(y)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.3, random_state=0)


def batches(x, y, size=64):
    order = torch.randperm(len(x))
    for rows in order.split(size):
        yield x[rows], y[rows]


def make_ann():
    return nn.Sequential(
        nn.Linear(64, 96), nn.BatchNorm1d(96), nn.ReLU(),
        nn.Linear(96, 96), nn.BatchNorm1d(96), nn.ReLU(),
        nn.Linear(96, 64), nn.BatchNorm1d(64), nn.ReLU(),
        nn.Linear(64, 10),
    )


def train_ann(net, epochs=8):
    opt = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    for _ in range(epochs):
        for xb, yb in batches(X_train, y_train):
            opt.zero_grad()
            nn.functional.cross_entropy(net(xb), yb).backward()
            opt.step()
    net.eval()
    print("ANN", (net(X_test).argmax(1) == y_test).float().mean().item())


def fold(net):
    """Linear layers that do what linear layer and normalisation did."""
    layers = list(net)
    folded = []
    for layer, following in zip(layers, layers[1:] + [None]):
        if not isinstance(layer, nn.Linear):
            continue
        linear = copy.deepcopy(layer)
        if isinstance(following, nn.BatchNorm1d):
            factor = following.weight / (following.running_var + following.eps).sqrt()
            linear.weight.data = layer.weight.data * factor.data[:, None]
            linear.bias.data = (layer.bias.data - following.running_mean) * factor.data + following.bias.data
        folded.append(linear)
    return folded


@torch.no_grad()
def normalise(layers, x, share=0.995):
    """Scales weights so that a rate of 1 stands for the largest activation."""
    before = 1.0
    for layer in layers[:-1]:
        x = torch.relu(layer(x))  # of the network before scaling
        scale = x.flatten().quantile(share).item()
        layer.weight.mul_(before / scale)
        layer.bias.div_(scale)
        before = scale
    layers[-1].weight.mul_(before)
    return layers


class SpikeGrad(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v):
        ctx.save_for_backward(v)
        return (v >= 1.0).float()

    @staticmethod
    def backward(ctx, g):
        v, = ctx.saved_tensors
        return g * ((v - 1.0).abs() < 0.5).float()


class Converted(nn.Module):
    def __init__(self, layers, steps=24):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.steps = steps

    def forward(self, x):
        potentials = [0.5] * (len(self.layers) - 1)
        scores = 0
        for _ in range(self.steps):
            s = x
            for i, layer in enumerate(self.layers[:-1]):
                v = potentials[i] + layer(s)
                s = SpikeGrad.apply(v)
                potentials[i] = v - s
            scores = scores + self.layers[-1](s)
        return scores / self.steps


ann = make_ann()
train_ann(ann)
snn = Converted(normalise(fold(ann), X_train))
print("converted", (snn(X_test).argmax(1) == y_test).float().mean().item())
opt = torch.optim.Adam(snn.layers[-1].parameters(), lr=2e-3)
for epoch in range(3):
    for xb, yb in batches(X_train, y_train):
        loss = nn.functional.cross_entropy(snn(xb), yb)
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(epoch, loss.item())
with torch.no_grad():
    print("fine-tuned", (snn(X_test).argmax(1) == y_test).float().mean().item())
