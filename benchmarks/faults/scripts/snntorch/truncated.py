"""Truncated backpropagation: an update after every 5 of 20 timesteps; the state goes on, its graph does not."""
import torch
import torch.nn as nn
import snntorch as snn
from sklearn.datasets import load_digits

torch.manual_seed(0)
torch.set_num_threads(1)

X, Y = load_digits(return_X_y=True)
X, Y = torch.Tensor(X) / 16, torch.LongTensor(Y)
perm = torch.randperm(len(X))
X, Y = X[perm], Y[perm]

STEPS, K = 20, 5


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(64, 120)
        self.lif1 = snn.Leaky(beta=0.9, init_hidden=True)
        self.fc2 = nn.Linear(120, 10)
        self.lif2 = snn.Leaky(beta=0.9, init_hidden=True, output=True)

    def forward(self, x):
        return self.lif2(self.fc2(self.lif1(self.fc1(x))))


net = Net()
opt = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
ce = nn.CrossEntropyLoss()


def restart():
    net.lif1.reset_hidden()
    net.lif2.reset_hidden()


for epoch in range(6):
    for i in range(0, 1400, 50):
        x, y = X[i:i + 50], Y[i:i + 50]
        restart()
        loss = 0
        for t in range(STEPS):
            spk, mem = net(x)
            loss = loss + ce(mem, y) / K
            if (t + 1) % K == 0:
                opt.zero_grad()
                loss.backward()
                opt.step()
                net.lif1.detach_hidden()
                net.lif2.detach_hidden()
                last, loss = loss.item(), 0
    print(f"epoch {epoch}: {last:.3f}")

with torch.no_grad():
    restart()
    count = sum(net(X[1400:])[0] for t in range(STEPS))
    print("test accuracy", (count.argmax(1) == Y[1400:]).float().mean().item())
