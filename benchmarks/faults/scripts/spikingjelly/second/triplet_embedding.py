# metric learning: spiking embedding with a triplet loss, judged by the nearest class mean
import torch, torch.nn as nn
from sklearn.datasets import load_digits
from spikingjelly.activation_based import neuron, surrogate, functional, layer

torch.manual_seed(15)
X, Y = load_digits(return_X_y=True)
X = torch.tensor(X).float() / 16.
Y = torch.tensor(Y)
shuffle = torch.randperm(len(Y)); X, Y = X[shuffle], Y[shuffle]
Xa, Ya, Xb, Yb = X[:1300], Y[:1300], X[1300:], Y[1300:]

class Embed(nn.Module):
    def __init__(self, T=6):
        super().__init__()
        self.T = T
        self.body = nn.Sequential(
            layer.Linear(64, 128), layer.BatchNorm1d(128),
            neuron.IFNode(surrogate_function=surrogate.ATan(), v_reset=None),
            layer.Linear(128, 48), layer.BatchNorm1d(48),
            neuron.IFNode(surrogate_function=surrogate.ATan(), v_reset=None))

    def forward(self, x):
        spikes = 0
        for _ in range(self.T):
            spikes = spikes + self.body(x)
        return spikes / self.T

net = Embed()
criterion = nn.TripletMarginLoss(margin=2.0)
optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
by_class = [torch.nonzero(Ya == c).flatten() for c in range(10)]

def sample(n):
    c = torch.randint(0, 10, (n,)); d = (c + torch.randint(1, 10, (n,))) % 10
    draw = lambda k: torch.stack([by_class[i][torch.randint(len(by_class[i]), ())] for i in k.tolist()])
    return draw(c), draw(c), draw(d)

net.train()
for it in range(200):
    a, p, n = sample(48)
    e = net(torch.cat([Xa[a], Xa[p], Xa[n]]))
    loss = criterion(*e.chunk(3))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    functional.reset_net(net)
    if it % 50 == 49:
        print('iteration', it + 1, 'triplet loss', loss.item())

net.eval()
with torch.no_grad():
    e_train = net(Xa); functional.reset_net(net)
    e_test = net(Xb); functional.reset_net(net)
    means = torch.stack([e_train[by_class[c]].mean(0) for c in range(10)])
    guess = torch.cdist(e_test, means).argmin(1)
print('nearest mean accuracy', (guess == Yb).float().mean().item())
