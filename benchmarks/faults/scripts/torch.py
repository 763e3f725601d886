# %% torch/accumulate.py
"""Own leaky neurons; gradients of two mini-batches are added up for each step."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
torch.set_num_threads(1)


class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v):
        ctx.save_for_backward(v)
        return (v >= 0).to(v.dtype)

    @staticmethod
    def backward(ctx, g):
        (v,) = ctx.saved_tensors
        return g * torch.clamp(1 - v.abs(), min=0)


class LIF(nn.Module):
    def __init__(self, leak=0.7, threshold=1.0):
        super().__init__()
        self.leak = leak
        self.threshold = threshold

    def forward(self, current):  # (T, N, features)
        v = torch.zeros_like(current[0])
        out = []
        for i in current:
            v = self.leak * v + i
            s = Spike.apply(v - self.threshold)
            v = v - s * self.threshold
            out.append(s)
        return torch.stack(out)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(64, 100), nn.Linear(100, 100)])
        self.neurons = nn.ModuleList([LIF(), LIF()])
        self.head = nn.Linear(100, 10)

    def forward(self, x):
        x = x.unsqueeze(0).repeat(8, 1, 1)
        for linear, lif in zip(self.layers, self.neurons):
            x = lif(linear(x))
        return self.head(x.sum(0))


X, Y = load_digits(return_X_y=True)
X = torch.tensor((X - X.mean(0)) / (X.std(0) + 1e-3), dtype=torch.float32)
Y = torch.tensor(Y)
loader = DataLoader(TensorDataset(X[:1400], Y[:1400]), batch_size=20, shuffle=True)

net = Net()
optim = torch.optim.Adam(net.parameters(), lr=1e-3)
accumulation_steps = 2
for epoch in range(8):
    for i, (x, y) in enumerate(loader):
        loss = nn.functional.cross_entropy(net(x), y, reduction="sum") / 20
        (loss / accumulation_steps).backward()
        if (i + 1) % accumulation_steps == 0:
            optim.step()
            optim.zero_grad()
    print(epoch, loss.item())

net.eval()
with torch.no_grad():
    print("accuracy:", (net(X[1400:]).argmax(-1) == Y[1400:]).float().mean().item())
# %% torch/adaptive_sequence.py
"""Adaptive neurons in a recurrent network; data as (batch, time, features); targets need memory of the first cue."""
import torch
from torch import nn

torch.manual_seed(0)
torch.set_num_threads(1)


class FastSigmoid(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.heaviside(x, torch.zeros(1))

    @staticmethod
    def backward(ctx, grad):
        x, = ctx.saved_tensors
        return grad / (1 + 5 * x.abs()) ** 2


class ALIFCell(nn.Module):
    def __init__(self, n_in, n):
        super().__init__()
        self.w_in = nn.Linear(n_in, n)
        self.w_rec = nn.Linear(n, n, bias=False)
        nn.init.normal_(self.w_in.weight, 0, 1.0)
        nn.init.normal_(self.w_rec.weight, 0, 0.5 / n ** 0.5)
        self.alpha, self.rho, self.b = 0.8, 0.97, 0.5

    def forward(self, x, state):
        v, a, z = state
        a = self.rho * a + (1 - self.rho) * z
        v = self.alpha * v * (1 - z.detach()) + self.w_in(x) + self.w_rec(z)
        z = FastSigmoid.apply(v - (0.6 + self.b * a))
        return v, a, z


class Recurrent(nn.Module):
    def __init__(self, n_in, n, n_out):
        super().__init__()
        self.n = n
        self.cell = ALIFCell(n_in, n)
        self.out = nn.Linear(n, n_out)
        self.kappa = 0.8

    def forward(self, x):  # (batch, time, features)
        state = tuple(torch.zeros(x.shape[0], self.n) for _ in range(3))
        y = torch.zeros(x.shape[0], self.out.out_features)
        outputs = []
        for t in range(x.shape[1]):
            state = self.cell(x[:, t], state)
            y = self.kappa * y + (1 - self.kappa) * self.out(state[2])
            outputs.append(y)
        return torch.stack(outputs, 1)


def cues(n, generator):
    """Four cues in the first steps, then noise; the class is the cue."""
    label = torch.randint(4, (n,), generator=generator)
    x = (torch.rand(n, 16, 12, generator=generator) < 0.05).float()
    for k in range(4):
        x[label == k, 1:6, 3 * k:3 * k + 3] = (torch.rand(int((label == k).sum()), 5, 3, generator=generator) < 0.6).float()
    return x, label


generator = torch.Generator().manual_seed(2)
x_train, y_train = cues(1024, generator)
x_test, y_test = cues(400, generator)
net = Recurrent(12, 64, 4)
optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
for epoch in range(8):
    net.train()
    for batch in torch.randperm(1024).split(64):
        optimizer.zero_grad()
        prediction = net(x_train[batch])[:, -8:].mean(1)
        loss = nn.functional.cross_entropy(prediction, y_train[batch])
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimizer.step()
    print(f"epoch {epoch}: {loss.item():.4f}")

net.eval()
with torch.no_grad():
    accuracy = (net(x_test)[:, -8:].mean(1).argmax(1) == y_test).float().mean()
print(f"test accuracy: {accuracy:.4f}")
# %% torch/finetune.py
"""Train on the digits 0 to 4, freeze the convolutions, and train a new head on 5 to 9."""
import torch
from torch import nn
import lsgcli as lsg
from sklearn.datasets import load_digits

torch.manual_seed(0)
torch.set_num_threads(1)
T = 4


class Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(16)
        self.lif1 = lsg.LIF(method="none", width=1.0, decay=0.5, threshold=0.5)
        self.pool = nn.AvgPool2d(2)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(32)
        self.lif2 = lsg.LIF(method="none", width=1.0, decay=0.5, threshold=0.5)

    def forward(self, x):
        n = x.shape[0]
        x = self.norm1(self.conv1(x))
        x = self.lif1(x.unsqueeze(0).expand(T, *x.shape))
        x = self.pool(x.flatten(0, 1))
        x = self.norm2(self.conv2(x)).unflatten(0, (T, n))
        x = self.lif2(x)
        return self.pool(x.flatten(0, 1)).flatten(1).unflatten(0, (T, n))


def fit(body, head, optimizer, images, labels, epochs):
    for epoch in range(epochs):
        for idx in torch.randperm(len(labels)).split(40):
            loss = nn.functional.cross_entropy(head(body(images[idx])).mean(0), labels[idx])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print("loss", loss.item())


digits = load_digits()
x = torch.tensor(digits.images / 16, dtype=torch.float32).unsqueeze(1)
y = torch.tensor(digits.target)
first = y < 5

body, head = Backbone(), nn.Linear(128, 5)
fit(body, head, torch.optim.Adam([*body.parameters(), *head.parameters()], lr=2e-3), x[first][:700], y[first][:700], 5)

body.requires_grad_(False)
body.eval()
new_head = nn.Linear(128, 5)
fit(body, new_head, torch.optim.Adam(new_head.parameters(), lr=1e-2), x[~first][:700], y[~first][:700] - 5, 6)
with torch.no_grad():
    guess = new_head(body(x[~first][700:])).mean(0).argmax(1) + 5
print("test accuracy", (guess == y[~first][700:]).float().mean().item())
# %% torch/lsg_layers.py
"""A perceptron with neurons of lsg; each pixel becomes a current that rises and falls."""
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
import lsgcli as lsg
from sklearn.datasets import load_digits

torch.manual_seed(0)
torch.set_num_threads(1)
T = 6


class Perceptron(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(64, 128), lsg.LIF(decay=0.5)
        self.fc2, self.lif2 = nn.Linear(128, 128), lsg.LIF(decay=0.5)
        self.fc3 = nn.Linear(128, 10)

    def forward(self, x):  # (B, 64)
        envelope = torch.tensor([0.5, 1.0, 2.0, 2.0, 1.0, 0.5]).view(T, 1, 1)
        currents = self.fc1(x * envelope)  # (T, B, 128)
        spikes = self.lif1(currents)
        spikes = self.lif2(self.fc2(spikes))
        return self.fc3(spikes).mean(0)


features, target = load_digits(return_X_y=True)
features = torch.tensor(features / 16, dtype=torch.float32)
target = torch.tensor(target)
train = DataLoader(TensorDataset(features[:1437], target[:1437]), batch_size=32, shuffle=True)
held_out = DataLoader(TensorDataset(features[1437:], target[1437:]), batch_size=120)

model = Perceptron()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
for epoch in range(8):
    model.train()
    for x, y in train:
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"{epoch + 1} {loss.item():.3f}")

model.eval()
with torch.no_grad():
    right = sum(int((model(x).argmax(1) == y).sum()) for x, y in held_out)
print(f"accuracy {right / 360:.3f}")
# %% torch/residual_module.py
"""Residual network with lsg's neurons, batch normalisation over time, dropout before the head."""
import sys

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
import lsgcli as lsg

EPOCHS = int(sys.argv[1]) if len(sys.argv) > 1 else 5
T = 4
torch.manual_seed(0)
torch.set_num_threads(1)


def over_time(module, x):
    t, n = x.shape[:2]
    return module(x.flatten(0, 1)).unflatten(0, (t, n))


class SpikingBlock(nn.Module):
    def __init__(self, c_in, c_out, stride):
        super().__init__()
        self.lif_a = lsg.LIF(decay=0.3)
        self.conv_a = nn.Sequential(nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False), nn.BatchNorm2d(c_out))
        self.lif_b = lsg.LIF(decay=0.3)
        self.conv_b = nn.Sequential(nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False), nn.BatchNorm2d(c_out))
        self.shortcut = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))

    def forward(self, x):
        spikes = self.lif_a(x)
        y = over_time(self.conv_a, spikes)
        y = over_time(self.conv_b, self.lif_b(y))
        return y + over_time(self.shortcut, spikes)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16))
        self.stage1 = SpikingBlock(16, 16, 1)
        self.stage2 = SpikingBlock(16, 32, 2)
        self.last = lsg.LIF(decay=0.3)
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(32, 10)

    def forward(self, x):
        x = self.stem(x)
        x = x.unsqueeze(0).expand(T, -1, -1, -1, -1)
        x = self.last(self.stage2(self.stage1(x)))
        x = x.mean(dim=(-2, -1))
        return self.head(self.dropout(x)).mean(0)


d = load_digits()
images = torch.tensor(d.images / 16, dtype=torch.float32)[:, None]
labels = torch.tensor(d.target)
order = torch.randperm(len(labels))
train, test = order[:1400], order[1400:]

net = Net()
opt = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
sched = torch.optim.lr_scheduler.OneCycleLR(opt, 0.2, total_steps=EPOCHS * 28)
for epoch in range(EPOCHS):
    net.train()
    for batch in train[torch.randperm(1400)].split(50):
        loss = F.cross_entropy(net(images[batch]), labels[batch])
        opt.zero_grad()
        loss.backward()
        opt.step()
        sched.step()
    print(epoch, f"{loss.item():.3f}")

net.eval()
with torch.no_grad():
    acc = (net(images[test]).argmax(1) == labels[test]).float().mean().item()
print("test accuracy", round(acc, 4))
# %% torch/spytorch.py
"""Bare tensors as weights, times of spikes as input, after the SpyTorch tutorials."""
import numpy as np
import torch
import torch.nn as nn
from sklearn.datasets import load_digits

torch.manual_seed(0)
np.random.seed(0)
torch.set_num_threads(1)
dtype = torch.float

nb_inputs, nb_hidden, nb_outputs = 64, 100, 10
time_step = 1e-3
nb_steps = 25
batch_size = 128

tau_mem = 10e-3
tau_syn = 5e-3
alpha = float(np.exp(-time_step / tau_syn))
beta = float(np.exp(-time_step / tau_mem))

X, y = load_digits(return_X_y=True)
X = X / 16
perm = np.random.permutation(len(y))
X, y = X[perm], y[perm]


def current2firing_time(x, tau=12, thr=0.15, tmax=nb_steps):
    """Latency of an LIF neuron for a constant current, in steps; tmax: none."""
    out = np.full(x.shape, tmax)
    on = x > thr
    out[on] = np.minimum(tau * np.log(x[on] / (x[on] - thr)), tmax - 1).astype(int)
    return out


def batches(X, y, shuffle):
    times = current2firing_time(X)
    index = np.random.permutation(len(y)) if shuffle else np.arange(len(y))
    for k in range(0, len(y), batch_size):
        chosen = index[k:k + batch_size]
        data = torch.zeros(len(chosen), nb_steps + 1, nb_inputs)
        data.scatter_(1, torch.tensor(times[chosen]).unsqueeze(1), 1.0)
        yield data[:, :nb_steps], torch.tensor(y[chosen])


weight_scale = 7 * (1.0 - beta)
w1 = torch.empty((nb_inputs, nb_hidden), dtype=dtype, requires_grad=True)
nn.init.normal_(w1, mean=0.0, std=2 * weight_scale / np.sqrt(nb_inputs))
w2 = torch.empty((nb_hidden, nb_outputs), dtype=dtype, requires_grad=True)
nn.init.normal_(w2, mean=0.0, std=weight_scale / np.sqrt(nb_hidden))


class SurrGradSpike(torch.autograd.Function):
    scale = 10.0

    @staticmethod
    def forward(ctx, input):
        ctx.save_for_backward(input)
        out = torch.zeros_like(input)
        out[input > 0] = 1.0
        return out

    @staticmethod
    def backward(ctx, grad_output):
        input, = ctx.saved_tensors
        grad_input = grad_output.clone()
        return grad_input / (SurrGradSpike.scale * torch.abs(input) + 1.0) ** 2


spike_fn = SurrGradSpike.apply


def run_snn(inputs):
    n = inputs.shape[0]
    h1 = torch.einsum("abc,cd->abd", (inputs, w1))
    syn = torch.zeros((n, nb_hidden))
    mem = torch.zeros((n, nb_hidden))
    spk_rec = []
    for t in range(nb_steps):
        out = spike_fn(mem - 1.0)
        rst = out.detach()
        spk_rec.append(out)
        new_syn = alpha * syn + h1[:, t]
        mem = (beta * mem + syn) * (1.0 - rst)
        syn = new_syn
    spk_rec = torch.stack(spk_rec, dim=1)

    h2 = torch.einsum("abc,cd->abd", (spk_rec, w2))
    flt = torch.zeros((n, nb_outputs))
    out = torch.zeros((n, nb_outputs))
    out_rec = []
    for t in range(nb_steps):
        new_flt = alpha * flt + h2[:, t]
        out = beta * out + flt
        flt = new_flt
        out_rec.append(out)
    return torch.stack(out_rec, dim=1), spk_rec


params = [w1, w2]
optimizer = torch.optim.Adamax(params, lr=2e-2)
log_softmax_fn = nn.LogSoftmax(dim=1)
loss_fn = nn.NLLLoss()
for e in range(20):
    local_loss = []
    for x_local, y_local in batches(X[:1437], y[:1437], True):
        output, recs = run_snn(x_local)
        m, _ = torch.max(output, 1)
        log_p_y = log_softmax_fn(m)
        reg_loss = 1e-5 * torch.sum(recs)
        loss_val = loss_fn(log_p_y, y_local) + reg_loss / len(y_local)
        optimizer.zero_grad()
        loss_val.backward()
        optimizer.step()
        local_loss.append(loss_val.item())
    print("Epoch %i: loss=%.5f" % (e + 1, np.mean(local_loss)))

accs = []
for x_local, y_local in batches(X[1437:], y[1437:], False):
    output, _ = run_snn(x_local)
    m, _ = torch.max(output, 1)
    accs.extend((torch.argmax(m, 1) == y_local).tolist())
print("Test accuracy: %.3f" % np.mean(accs))
# %% torch/stbp.py
"""Spatio-temporal backpropagation with a rectangular window, neurons written out."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits

thresh = 0.5
lens = 0.5
decay = 0.2
time_window = 6
batch_size = 50
learning_rate = 2e-3


class ActFun(torch.autograd.Function):
    @staticmethod
    def forward(ctx, input):
        ctx.save_for_backward(input)
        return input.gt(thresh).float()

    @staticmethod
    def backward(ctx, grad_output):
        input, = ctx.saved_tensors
        grad_input = grad_output.clone()
        temp = abs(input - thresh) < lens
        return grad_input * temp.float()


act_fun = ActFun.apply


def mem_update(ops, x, mem, spike):
    mem = mem * decay * (1. - spike) + ops(x)
    spike = act_fun(mem)
    return mem, spike


class SCNN(nn.Module):
    def __init__(self):
        super(SCNN, self).__init__()
        self.conv1 = nn.Conv2d(1, 16, kernel_size=3, stride=1, padding=1)
        self.conv2 = nn.Conv2d(16, 16, kernel_size=3, stride=1, padding=1)
        self.fc1 = nn.Linear(16 * 2 * 2, 64)
        self.fc2 = nn.Linear(64, 10)

    def forward(self, input):
        n = input.size(0)
        c1_mem = c1_spike = torch.zeros(n, 16, 8, 8)
        c2_mem = c2_spike = torch.zeros(n, 16, 4, 4)
        h1_mem = h1_spike = h1_sumspike = torch.zeros(n, 64)
        h2_mem = h2_spike = h2_sumspike = torch.zeros(n, 10)
        for step in range(time_window):
            x = input > torch.rand(input.size())  # prob. firing
            c1_mem, c1_spike = mem_update(self.conv1, x.float(), c1_mem, c1_spike)
            x = F.avg_pool2d(c1_spike, 2)
            c2_mem, c2_spike = mem_update(self.conv2, x, c2_mem, c2_spike)
            x = F.avg_pool2d(c2_spike, 2)
            x = x.view(n, -1)
            h1_mem, h1_spike = mem_update(self.fc1, x, h1_mem, h1_spike)
            h1_sumspike = h1_sumspike + h1_spike
            h2_mem, h2_spike = mem_update(self.fc2, h1_spike, h2_mem, h2_spike)
            h2_sumspike = h2_sumspike + h2_spike
        return h2_sumspike / time_window


torch.manual_seed(0)
torch.set_num_threads(1)
raw = load_digits()
images = torch.tensor(raw.images).float().unsqueeze(1) / 16.
labels = torch.tensor(raw.target).long()
snn = SCNN()
criterion = nn.MSELoss()
optimizer = torch.optim.Adam(snn.parameters(), lr=learning_rate)

for epoch in range(12):
    running_loss = 0
    perm = torch.randperm(1400)
    for i in range(1400 // batch_size):
        idx = perm[i * batch_size:(i + 1) * batch_size]
        snn.zero_grad()
        outputs = snn(images[idx])
        labels_ = torch.zeros(batch_size, 10).scatter_(1, labels[idx].view(-1, 1), 1)
        loss = criterion(outputs, labels_)
        running_loss += loss.item()
        loss.backward()
        optimizer.step()
    print('Epoch [%d], Loss: %.5f' % (epoch + 1, running_loss / 28))

with torch.no_grad():
    outputs = snn(images[1400:])
    _, predicted = outputs.max(1)
    acc = 100. * float(predicted.eq(labels[1400:]).sum().item()) / 397
print('Test Accuracy of the model on the test images: %.3f' % (acc / 100))
# %% torch/two_optimisers.py
"""Learned time constants and thresholds have an optimiser of their own; weights rounded to 4 bits."""
import math

import torch
from torch import nn, Tensor
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedShuffleSplit

torch.manual_seed(3)
torch.set_num_threads(1)


def spike(v: Tensor, width: Tensor | float = 1.0) -> Tensor:
    """Heaviside forwards, arctan backwards."""
    smooth = torch.atan(math.pi / 2 * v / width) / math.pi + 0.5
    return (v > 0).float().detach() + smooth - smooth.detach()


class QuantLinear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight.detach().abs().max() / 7
        rounded = torch.round(self.weight / scale) * scale
        weight = self.weight + (rounded - self.weight).detach()
        return nn.functional.linear(x, weight, self.bias)


class LearnedLIF(nn.Module):
    def __init__(self, n: int):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(n))
        self.theta = nn.Parameter(torch.full((n,), 0.8))

    def forward(self, seq: Tensor) -> Tensor:
        decay = torch.sigmoid(self.w)
        v = torch.zeros_like(seq[0])
        spikes = []
        for x in seq.unbind(0):
            v = decay * v + x
            s = spike(v - self.theta)
            v = v * (1 - s.detach())
            spikes.append(s)
        return torch.stack(spikes)


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.l1, self.n1 = QuantLinear(64, 96), LearnedLIF(96)
        self.l2, self.n2 = QuantLinear(96, 96), LearnedLIF(96)
        self.l3 = QuantLinear(96, 10)

    def forward(self, x: Tensor) -> Tensor:
        seq = x.expand(5, *x.shape)
        seq = self.n1(self.l1(seq))
        seq = self.n2(self.l2(seq))
        return self.l3(seq).mean(0)


data = load_digits()
split = StratifiedShuffleSplit(1, test_size=0.2, random_state=0)
train_idx, test_idx = next(split.split(data.data, data.target))
inputs = torch.tensor(data.data / 16).float()
classes = torch.tensor(data.target)

model = Classifier()
weights = [p for m in model.modules() if isinstance(m, nn.Linear) for p in m.parameters()]
dynamics = [p for m in model.modules() if isinstance(m, LearnedLIF) for p in m.parameters()]
opt_w = torch.optim.SGD(weights, lr=0.2, momentum=0.9, weight_decay=1e-4)
opt_d = torch.optim.Adam(dynamics, lr=5e-3)
for epoch in range(10):
    order = torch.as_tensor(train_idx)[torch.randperm(len(train_idx))]
    for idx in order.split(64):
        loss = nn.functional.cross_entropy(model(inputs[idx]), classes[idx])
        opt_w.zero_grad()
        opt_d.zero_grad()
        loss.backward()
        opt_w.step()
        opt_d.step()
    print(f"epoch {epoch} loss {loss.item():.3f}")

with torch.no_grad():
    acc = (model(inputs[test_idx]).argmax(1) == classes[test_idx]).float().mean()
print(f"test accuracy {acc:.4f}")
