"""Breast cancer from 30 features: cross validation with gradients accumulated over micro-batches, single-step mode, two optimisers
(weights; time constants)."""
import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import KFold
from sklearn.metrics import balanced_accuracy_score
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn

torch.manual_seed(31)
np.random.seed(31)


class Tabular(nn.Module):
    def __init__(self, n_features, T=8):
        super().__init__()
        self.T = T
        self.fc1 = layer.Linear(n_features, 64)
        self.sn1 = neuron.ParametricLIFNode(init_tau=2.0, surrogate_function=surrogate.Sigmoid(alpha=4.0), v_reset=None)
        self.fc2 = layer.Linear(64, 32)
        self.sn2 = neuron.IFNode(surrogate_function=surrogate.Sigmoid(alpha=4.0), v_reset=None)
        self.fc3 = layer.Linear(32, 2)

    def forward(self, x):
        total = 0.
        for t in range(self.T):
            h = self.sn1(self.fc1(x))
            h = self.sn2(self.fc2(h))
            total = total + self.fc3(h)
        return total / self.T


def train_fold(net, optimizers, x, y, epochs=10, micro=8, accum=4):
    net.train()
    for epoch in range(epochs):
        order = torch.randperm(len(x))
        for opt in optimizers:
            opt.zero_grad()
        for i, rows in enumerate(order.split(micro)):
            loss = F.cross_entropy(net(x[rows]), y[rows]) / accum
            loss.backward()
            functional.reset_net(net)
            if (i + 1) % accum == 0:
                for opt in optimizers:
                    opt.step()
                    opt.zero_grad()


def main():
    raw, target = load_breast_cancer(return_X_y=True)
    scores = []
    for fold, (tr, te) in enumerate(KFold(n_splits=3, shuffle=True, random_state=3).split(raw)):
        mean, std = raw[tr].mean(axis=0), raw[tr].std(axis=0)
        x = torch.from_numpy((raw - mean) / std).float()
        y = torch.from_numpy(target)
        net = Tabular(x.shape[1])
        taus = [p for n, p in net.named_parameters() if n.endswith(".w")]
        weights = [p for n, p in net.named_parameters() if not n.endswith(".w")]
        optimizers = [torch.optim.Adam(weights, lr=3e-3), torch.optim.SGD(taus, lr=0.1)]
        train_fold(net, optimizers, x[tr], y[tr])
        net.eval()
        with torch.no_grad():
            predicted = net(x[te]).argmax(dim=1)
        scores.append(balanced_accuracy_score(target[te], predicted.numpy()))
        print("fold", fold, "balanced accuracy", round(scores[-1], 4))
    print("mean", float(np.mean(scores)))


main()
