# %% norse/encoder_cells.py
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
# %% norse/lifted.py
"""Sequences at once: lifted linear layers between norse's LIF modules; patterns of spike times."""
import torch
from torch import nn
import norse.torch as nt

torch.manual_seed(0)
torch.set_num_threads(1)

# Each class has a time of spike per input; samples jitter it.
classes, inputs, T = 6, 40, 30
generator = torch.Generator().manual_seed(11)
centres = torch.randint(2, T - 2, (classes, inputs), generator=generator)


def sample(n):
    label = torch.randint(classes, (n,), generator=generator)
    times = centres[label] + torch.randn(n, inputs, generator=generator).mul(1.5).round().long()
    spikes = torch.zeros(T, n, inputs)
    spikes.scatter_(0, times.clamp(0, T - 1).unsqueeze(0), 1.0)
    return spikes, label


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        hidden = 64
        self.first = nt.Lift(nn.Linear(inputs, hidden, bias=False))
        self.lif = nt.LIF(p=nt.LIFParameters(v_th=torch.tensor(0.3), alpha=torch.tensor(50.0)))
        self.second = nt.Lift(nn.Linear(hidden, classes, bias=False))
        self.li = nt.LI()
        for weight in self.first.parameters():
            nn.init.normal_(weight, 0.1, 0.3)

    def forward(self, spikes):
        hidden, _ = self.lif(self.first(spikes))
        voltage, _ = self.li(self.second(hidden))
        return voltage


net = Network()
optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
train_x, train_y = sample(768)
for epoch in range(8):
    for index in torch.randperm(768).split(48):
        voltage = net(train_x[:, index])
        loss = nn.functional.cross_entropy(voltage.mean(0), train_y[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"{epoch:2d} {loss.item():.3f}")

test_x, test_y = sample(300)
with torch.no_grad():
    accuracy = (net(test_x).mean(0).argmax(1) == test_y).float().mean().item()
print(f"test accuracy {accuracy:.3f}")
# %% norse/rows.py
"""Sequences of rows with explicit state, two layers of LIF cells and dropout between them."""
import torch
import norse.torch as norse
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split


class Classifier(torch.nn.Module):
    def __init__(self, hidden=100):
        super().__init__()
        parameters = norse.LIFParameters(
            tau_syn_inv=torch.as_tensor(400.0), tau_mem_inv=torch.as_tensor(250.0), v_th=torch.as_tensor(0.2), alpha=torch.as_tensor(10.0))
        self.embed = torch.nn.Linear(8, hidden)
        self.cell1 = norse.LIFCell(parameters)
        self.dropout = torch.nn.Dropout(0.2)
        self.between = torch.nn.Linear(hidden, hidden)
        self.cell2 = norse.LIFCell(parameters)
        self.readout = norse.LILinearCell(hidden, 10, p=norse.LIParameters(tau_mem_inv=torch.as_tensor(100.0)))

    def forward(self, rows):
        state1 = state2 = state3 = None
        for row in rows.transpose(0, 1):
            for _ in range(2):
                z, state1 = self.cell1(self.embed(row), state1)
                z, state2 = self.cell2(self.between(self.dropout(z)), state2)
                out, state3 = self.readout(z, state3)
        return out


torch.manual_seed(0)
torch.set_num_threads(1)
digits = load_digits()
x = torch.tensor(digits.images / 8, dtype=torch.float32)
y = torch.tensor(digits.target)
train_index, test_index = train_test_split(range(len(y)), test_size=360, random_state=0)
x_train, y_train, x_test, y_test = x[train_index], y[train_index], x[test_index], y[test_index]

model = Classifier()
optimizer = torch.optim.Adam(model.parameters(), lr=8e-3)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=6, gamma=0.5)
for epoch in range(10):
    model.train()
    for batch in torch.randperm(len(x_train)).split(64):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x_train[batch]), y_train[batch])
        loss.backward()
        optimizer.step()
    scheduler.step()
    print("loss", loss.item())

model.eval()
with torch.no_grad():
    print("test accuracy", (model(x_test).argmax(1) == y_test).float().mean().item())
# %% norse/sequential.py
"""Convolutions and LIF cells in norse's SequentialState."""
import norse.torch as norse
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

torch.manual_seed(0)
torch.set_num_threads(1)

p = norse.LIFBoxParameters(tau_mem_inv=torch.tensor(300.0), v_th=torch.tensor(0.4), alpha=torch.tensor(20.0))
model = norse.SequentialState(
    torch.nn.Conv2d(1, 12, 3, padding=1),
    norse.LIFBoxCell(p, dt=0.001),
    torch.nn.MaxPool2d(2),
    torch.nn.Conv2d(12, 24, 3, padding=1),
    norse.LIFBoxCell(p, dt=0.001),
    torch.nn.MaxPool2d(2),
    torch.nn.Flatten(),
    torch.nn.Linear(96, 10, bias=False),
    norse.LIBoxCell(dt=0.001),
)

images = torch.tensor(load_digits().images / 16, dtype=torch.float32).unsqueeze(1)
labels = torch.tensor(load_digits().target)
timesteps = 8


def evaluate(x):
    state = None
    total = 0
    for _ in range(timesteps):
        v, state = model(x, state)
        total = total + v
    return total


optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
for epoch in range(6):
    order = torch.randperm(1400)
    for start in range(0, 1400, 56):
        batch = order[start : start + 56]
        loss = F.cross_entropy(evaluate(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(epoch, loss.item())

with torch.no_grad():
    score = (evaluate(images[1400:]).argmax(1) == labels[1400:]).float().mean()
print("test accuracy", score.item())
