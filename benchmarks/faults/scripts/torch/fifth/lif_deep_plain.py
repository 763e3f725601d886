"""Eight spiking layers without any normalisation: weights are scaled so that currents reach the threshold. Long-tailed toy data."""
import lsgcli as lsg
import torch
from sklearn.datasets import make_classification
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

DEPTH, WIDTH, T = 8, 64, 4
torch.manual_seed(9)


class SpikingLayer(torch.nn.Sequential):
    def __init__(self, n_in, n_out, gain):
        linear = torch.nn.Linear(n_in, n_out)
        torch.nn.init.normal_(linear.weight, std=gain / n_in ** 0.5)
        torch.nn.init.constant_(linear.bias, 0.2)
        super().__init__(linear, lsg.LIF(decay=0.3, method="fixed", width=1.0, surrogate="atan"))


class DeepNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        gain = 1.4
        layers = [SpikingLayer(20 if i == 0 else WIDTH, WIDTH, gain) for i in range(DEPTH)]
        self.body = torch.nn.Sequential(*layers)
        self.head = torch.nn.Linear(WIDTH, 4)

    def forward(self, x):
        return self.head(self.body(x.expand(T, *x.shape)).mean(0))


X, y = make_classification(1600, 20, n_informative=8, n_redundant=4, n_classes=4, n_clusters_per_class=1,
                           class_sep=2.0, random_state=3)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=400, random_state=3)
scaler = StandardScaler().fit(X_train)
X_train = torch.tensor(scaler.transform(X_train), dtype=torch.float32)
X_test = torch.tensor(scaler.transform(X_test), dtype=torch.float32)
y_train, y_test = torch.tensor(y_train), torch.tensor(y_test)

model = DeepNet()
opt = torch.optim.Adam(model.parameters(), lr=2e-3)
sched = torch.optim.lr_scheduler.ExponentialLR(opt, 0.9)
for epoch in range(12):
    for batch in torch.randperm(len(y_train)).split(40):
        opt.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(X_train[batch]), y_train[batch])
        loss.backward()
        opt.step()
    sched.step()
    if epoch % 3 == 2:
        print(f"[{epoch + 1:02d}] loss {loss.item():.4f} lr {sched.get_last_lr()[0]:.5f}")
with torch.no_grad():
    print("accuracy: %.3f" % (model(X_test).argmax(1) == y_test).float().mean().item())
