# Twenty spiking neurons without biases tell three wines apart; classes are weighted.
import numpy as np
import torch
from sklearn.datasets import load_wine
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_class_weight

rng = np.random.RandomState(5)
torch.manual_seed(5)


class Threshold(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v, width):
        ctx.save_for_backward(v)
        ctx.width = width
        return (v >= 0.0).float()

    @staticmethod
    def backward(ctx, grad_out):
        v, = ctx.saved_tensors
        triangle = torch.clamp(1.0 - v.abs() / ctx.width, min=0.0)
        return grad_out * triangle / ctx.width, None


class TinySNN(torch.nn.Module):
    def __init__(self, n_in, n_hidden, n_out, steps=15):
        super().__init__()
        self.a = torch.nn.Linear(n_in, n_hidden, bias=False)
        self.b = torch.nn.Linear(n_hidden, n_out, bias=False)
        self.steps = steps

    def forward(self, x):
        current = self.a(x)
        u = torch.zeros_like(current)
        y = 0.0
        for _ in range(self.steps):
            u = 0.9 * u + current
            s = Threshold.apply(u - 1.0, 1.0)
            u = u - s
            y = y + self.b(s)
        return y / self.steps


X, y = load_wine(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=70, stratify=y, random_state=rng)
scaler = StandardScaler().fit(X_train)
X_train = torch.tensor(scaler.transform(X_train), dtype=torch.float32)
X_test = torch.tensor(scaler.transform(X_test), dtype=torch.float32)
y_train_t = torch.tensor(y_train)
weights = torch.tensor(compute_class_weight("balanced", classes=np.unique(y_train), y=y_train), dtype=torch.float32)

model = TinySNN(13, 20, 3)
criterion = torch.nn.CrossEntropyLoss(weight=weights)
optimiser = torch.optim.RMSprop(model.parameters(), lr=5e-3)
for epoch in range(60):
    for idx in torch.randperm(len(y_train_t)).chunk(6):
        optimiser.zero_grad()
        loss = criterion(model(X_train[idx]), y_train_t[idx])
        loss.backward()
        optimiser.step()
    if epoch % 10 == 9:
        print("epoch %d loss %.3f" % (epoch + 1, loss.item()))

with torch.no_grad():
    predicted = model(X_test).argmax(1).numpy()
print("balanced accuracy: %.4f" % balanced_accuracy_score(y_test, predicted))
