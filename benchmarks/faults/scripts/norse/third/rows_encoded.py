# Rows of digits as a sequence: constant-current encoder, two LIF cells with states carried by hand.
import torch
from norse.torch import LICell, LIFCell, LIFParameters
from norse.torch.functional.encode import constant_current_lif_encode
from sklearn import datasets

torch.manual_seed(83)
SEQ = 24


def load():
    digits = datasets.load_digits()
    x = torch.tensor(digits.data, dtype=torch.float32) / 16
    return x, torch.tensor(digits.target)


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        p = LIFParameters(tau_syn_inv=torch.tensor(500.0), v_th=torch.tensor(0.3), alpha=torch.tensor(40.0))
        self.l1, self.c1 = torch.nn.Linear(64, 100), LIFCell(p)
        self.l2, self.c2 = torch.nn.Linear(100, 60), LIFCell(p)
        self.l3, self.c3 = torch.nn.Linear(60, 10), LICell()
        self.states = None

    def forward(self, x):
        spikes = constant_current_lif_encode(2.5 * x, SEQ, dt=0.002)
        s1 = s2 = s3 = None
        voltages = []
        for z in spikes:
            z, s1 = self.c1(2 * self.l1(z), s1)
            z, s2 = self.c2(2 * self.l2(z), s2)
            v, s3 = self.c3(self.l3(z), s3)
            voltages.append(v)
        self.states = s1, s2, s3
        return torch.stack(voltages)


def main():
    x, y = load()
    order = torch.randperm(len(y))
    train, test = order[:1350], order[1350:]
    net = Network()
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    for epoch in range(5):
        for rows in train[torch.randperm(1350)].split(45):
            voltages = net(x[rows])
            scores = voltages.max(0).values
            loss = torch.nn.functional.cross_entropy(10 * scores, y[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        print("epoch", epoch, loss.item())
    with torch.no_grad():
        scores = net(x[test]).max(0).values
        print((scores.argmax(1) == y[test]).float().mean().item())


main()
