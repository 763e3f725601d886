"""Alpha neurons (two exponentials) on a constant input, no biases."""
import numpy as np
import torch
import snntorch as snn
import snntorch.functional as SF
from sklearn.datasets import load_digits

np.random.seed(0)
torch.manual_seed(0)
torch.set_num_threads(1)

data = load_digits()
perm = np.random.permutation(1797)
X = torch.tensor(data.data[perm] / 16, dtype=torch.float32)
Y = torch.tensor(data.target[perm])
Xtr, Ytr, Xte, Yte = X[:1500], Y[:1500], X[1500:], Y[1500:]

T = 15


class AlphaNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = torch.nn.Linear(64, 128, bias=False)
        self.neuron1 = snn.Alpha(alpha=0.85, beta=0.8, threshold=0.3)
        self.fc2 = torch.nn.Linear(128, 10, bias=False)
        self.neuron2 = snn.Alpha(alpha=0.85, beta=0.8, threshold=0.3)

    def forward(self, x):
        exc1, inh1, mem1 = self.neuron1.init_alpha()
        exc2, inh2, mem2 = self.neuron2.init_alpha()
        mems = []
        for t in range(T):
            spk1, exc1, inh1, mem1 = self.neuron1(self.fc1(x), exc1, inh1, mem1)
            spk2, exc2, inh2, mem2 = self.neuron2(self.fc2(spk1), exc2, inh2, mem2)
            mems.append(mem2)
        return torch.stack(mems)


net = AlphaNet()
loss_function = SF.ce_max_membrane_loss()
optimiser = torch.optim.Adam(net.parameters(), lr=2e-3)
for epoch in range(10):
    for idx in torch.randperm(1500).chunk(25):
        mem = net(Xtr[idx])
        loss = loss_function(mem, Ytr[idx])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    print("epoch %d loss %.3f" % (epoch, loss.item()))

with torch.no_grad():
    predicted = net(Xte).max(0).values.argmax(1)
print("test accuracy %.4f" % (predicted == Yte).float().mean().item())
