# %% spikingjelly/columns.py
"""Digits are read column by column: each column is a timestep."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from spikingjelly.activation_based import functional, layer, neuron, surrogate


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Sequential(
            layer.Linear(8, 128),
            neuron.LIFNode(tau=3.0, decay_input=False, surrogate_function=surrogate.ATan()),
            layer.Linear(128, 128),
            neuron.LIFNode(tau=3.0, decay_input=False, surrogate_function=surrogate.ATan()),
            layer.SynapseFilter(tau=4.0, learnable=True),
            layer.Linear(128, 10),
        )

    def forward(self, x_seq):
        return self.fc(x_seq)


torch.manual_seed(0)
torch.set_num_threads(1)
digits = load_digits()
x = torch.from_numpy(digits.images).float() / 8
x = x.permute(2, 0, 1)  # [N, H, W] -> [T = W, N, H]
y = torch.from_numpy(digits.target)
perm = torch.randperm(y.numel(), generator=torch.Generator().manual_seed(4))
train_idx, test_idx = perm[:1400], perm[1400:]

net = Net()
functional.set_step_mode(net, "m")
opt = torch.optim.Adam(net.parameters(), 3e-3)
for epoch in range(12):
    net.train()
    for idx in train_idx[torch.randperm(1400)].split(64):
        out = net(x[:, idx])[-1]
        loss = F.cross_entropy(out, y[idx])
        opt.zero_grad()
        loss.backward()
        opt.step()
        functional.reset_net(net)
    print(epoch, round(loss.item(), 4))

net.eval()
with torch.no_grad():
    acc = (net(x[:, test_idx])[-1].argmax(1) == y[test_idx]).float().mean()
    functional.reset_net(net)
print(f"test accuracy = {acc:.4f}")
# %% spikingjelly/csnn.py
"""Convolutional network in multi-step mode, after the SpikingJelly tutorial on convolutional networks."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from spikingjelly.activation_based import functional, layer, neuron, surrogate

torch.manual_seed(2)
torch.set_num_threads(1)


class CSNN(nn.Module):
    def __init__(self, T: int, channels: int):
        super().__init__()
        self.T = T
        self.conv_fc = nn.Sequential(
            layer.Conv2d(1, channels, kernel_size=3, padding=1, bias=False),
            layer.BatchNorm2d(channels),
            neuron.IFNode(surrogate_function=surrogate.ATan()),
            layer.MaxPool2d(2, 2),
            layer.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False),
            layer.BatchNorm2d(channels),
            neuron.IFNode(surrogate_function=surrogate.ATan()),
            layer.MaxPool2d(2, 2),
            layer.Flatten(),
            layer.Linear(channels * 2 * 2, 64, bias=False),
            neuron.IFNode(surrogate_function=surrogate.ATan()),
            layer.Linear(64, 10, bias=False),
            neuron.IFNode(surrogate_function=surrogate.ATan()),
        )
        functional.set_step_mode(self, step_mode="m")

    def forward(self, x):
        x_seq = x.unsqueeze(0).repeat(self.T, 1, 1, 1, 1)  # [N, C, H, W] -> [T, N, C, H, W]
        return self.conv_fc(x_seq).mean(0)


images = torch.tensor(load_digits().images, dtype=torch.float32)[:, None] / 16
labels = torch.tensor(load_digits().target)
train_x, test_x = images[:1400], images[1400:]
train_y, test_y = labels[:1400], labels[1400:]

net = CSNN(T=4, channels=16)
optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
epochs = 7
lr_scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)

for epoch in range(epochs):
    net.train()
    for index in torch.randperm(len(train_x)).split(50):
        optimizer.zero_grad()
        y = net(train_x[index])
        loss = F.mse_loss(y, F.one_hot(train_y[index], 10).float())
        loss.backward()
        optimizer.step()
        functional.reset_net(net)
    lr_scheduler.step()

    net.eval()
    with torch.no_grad():
        test_acc = (net(test_x).argmax(1) == test_y).float().mean().item()
        functional.reset_net(net)
    print(f"epoch {epoch}: train loss {loss.item():.4f}, test acc {test_acc:.4f}")
print(f"final test accuracy: {test_acc:.4f}")
# %% spikingjelly/event_steps.py
"""Moving bars as events (two polarities); the loss of TET at every timestep."""
import math

import torch
from torch import nn
import torch.nn.functional as F
from spikingjelly.activation_based import functional, layer, neuron, surrogate

torch.manual_seed(0)
torch.set_num_threads(1)
T, size, classes = 6, 10, 8


def make(n, generator):
    """Bars that move in one of eight directions: [N, T, 2, H, W] of zeros and ones."""
    label = torch.randint(classes, (n,), generator=generator)
    angle = label * (2 * math.pi / classes)
    ys, xs = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    position = xs[None] * torch.cos(angle)[:, None, None] + ys[None] * torch.sin(angle)[:, None, None]
    centre = (size - 1) / 2 * (torch.cos(angle) + torch.sin(angle))
    start = centre - 4 + 2 * torch.rand(n, generator=generator)
    frames = []
    for t in range(T):
        d = position - (start + t * 1.3)[:, None, None]
        frames.append(torch.stack([((d > 0) & (d < 1.5)).float(), ((d <= 0) & (d > -1.5)).float()], 1))
    x = torch.stack(frames, 1)
    noise = torch.rand(x.shape, generator=generator)
    x = torch.where(noise < 0.08, 1 - x, x)
    return x, label


g = torch.Generator().manual_seed(1)
train_x, train_y = make(960, g)
test_x, test_y = make(320, g)

net = nn.Sequential(
    layer.Conv2d(2, 12, 3, stride=2, padding=1, bias=False),
    layer.BatchNorm2d(12),
    neuron.LIFNode(tau=2.0, surrogate_function=surrogate.Sigmoid(alpha=4.0), detach_reset=True),
    layer.Conv2d(12, 24, 3, padding=1, bias=False),
    layer.BatchNorm2d(24),
    neuron.LIFNode(tau=2.0, surrogate_function=surrogate.Sigmoid(alpha=4.0), detach_reset=True),
    layer.Flatten(),
    layer.Linear(24 * 25, classes),
)
functional.set_step_mode(net, "m")
optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=1e-2)


def tet_loss(logits, target):
    return sum(F.cross_entropy(step, target) for step in logits) / len(logits)


for epoch in range(5):
    net.train()
    for idx in torch.randperm(len(train_x)).split(32):
        functional.reset_net(net)
        frames = train_x[idx].transpose(0, 1)  # time first
        loss = tet_loss(net(frames), train_y[idx])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}: loss {loss:.3f}")

net.eval()
functional.reset_net(net)
with torch.inference_mode():
    logits = net(test_x.transpose(0, 1)).mean(0)
print(f"test accuracy {(logits.argmax(-1) == test_y).float().mean():.4f}")
# %% spikingjelly/lif_fc.py
"""One layer of LIF neurons on Poisson spikes, after the SpikingJelly tutorial on a fully connected network."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from spikingjelly.activation_based import encoding, functional, layer, neuron, surrogate


class SNN(nn.Module):
    def __init__(self, tau):
        super().__init__()
        self.layer = nn.Sequential(
            layer.Flatten(),
            layer.Linear(8 * 8, 10, bias=False),
            neuron.LIFNode(tau=tau, surrogate_function=surrogate.ATan()),
        )

    def forward(self, x: torch.Tensor):
        return self.layer(x)


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    T, tau, batch_size, epochs = 20, 2.0, 64, 10

    digits = load_digits()
    img_all = torch.from_numpy(digits.images).float().unsqueeze(1) / 16.0
    label_all = torch.from_numpy(digits.target)
    train_data_loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(img_all[:1437], label_all[:1437]), batch_size=batch_size, shuffle=True, drop_last=True)
    test_data_loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(img_all[1437:], label_all[1437:]), batch_size=batch_size)

    net = SNN(tau)
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-2)
    encoder = encoding.PoissonEncoder()

    for epoch in range(epochs):
        net.train()
        train_acc, train_samples = 0, 0
        for img, label in train_data_loader:
            optimizer.zero_grad()
            label_onehot = F.one_hot(label, 10).float()
            out_fr = 0.
            for t in range(T):
                out_fr += net(encoder(img))
            out_fr = out_fr / T
            loss = F.mse_loss(out_fr, label_onehot)
            loss.backward()
            optimizer.step()
            functional.reset_net(net)
            train_samples += label.numel()
            train_acc += (out_fr.argmax(1) == label).float().sum().item()
        print(f"epoch = {epoch}, train_loss = {loss.item():.4f}, train_acc = {train_acc / train_samples:.4f}")

    net.eval()
    test_acc = 0
    with torch.no_grad():
        for img, label in test_data_loader:
            out_fr = 0.
            for t in range(T):
                out_fr += net(encoder(img))
            test_acc += (out_fr.argmax(1) == label).float().sum().item()
            functional.reset_net(net)
    print(f"test_acc = {test_acc / 360:.4f}")


if __name__ == "__main__":
    main()
# %% spikingjelly/plif_voting.py
"""Deeper network with learned time constants, dropout and a voting layer."""
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from spikingjelly.activation_based import functional, layer, neuron, surrogate

torch.manual_seed(0)
torch.set_num_threads(1)
T = 4


def block(c_in, c_out, pool):
    modules = [
        layer.Conv2d(c_in, c_out, 3, padding=1, bias=False),
        layer.BatchNorm2d(c_out),
        neuron.ParametricLIFNode(init_tau=2.0, surrogate_function=surrogate.ATan(), detach_reset=True),
    ]
    if pool:
        modules.append(layer.MaxPool2d(2, 2))
    return modules


class PLIFNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(*block(1, 16, True), *block(16, 24, False), *block(24, 24, False), *block(24, 32, True))
        self.classifier = nn.Sequential(
            layer.Flatten(),
            layer.Dropout(0.5),
            layer.Linear(32 * 4, 100),
            neuron.ParametricLIFNode(init_tau=2.0, surrogate_function=surrogate.ATan(), detach_reset=True),
            layer.VotingLayer(10),
        )

    def forward(self, x):
        return self.classifier(self.features(x))


bunch = load_digits()
x_tr, x_te, y_tr, y_te = train_test_split(bunch.images, bunch.target, test_size=0.2, random_state=1)
mean, std = x_tr.mean(), x_tr.std()
to_tensor = lambda x: ((torch.tensor(x) - mean) / std).float().unsqueeze(1)
train_loader = DataLoader(TensorDataset(to_tensor(x_tr), torch.tensor(y_tr)), batch_size=48, shuffle=True, drop_last=True)
test_loader = DataLoader(TensorDataset(to_tensor(x_te), torch.tensor(y_te)), batch_size=120)

net = PLIFNet()
functional.set_step_mode(net, "m")
optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
for epoch in range(5):
    net.train()
    for x, y in train_loader:
        x = x.unsqueeze(0).repeat(T, 1, 1, 1, 1)
        out = net(x).mean(0)
        loss = F.cross_entropy(out, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        functional.reset_net(net)
    print(f"[{epoch}] {loss.item():.4f}")

net.eval()
correct = 0
with torch.no_grad():
    for x, y in test_loader:
        out = net(x.unsqueeze(0).repeat(T, 1, 1, 1, 1)).mean(0)
        correct += int((out.argmax(1) == y).sum())
        functional.reset_net(net)
print("accuracy on the test set:", correct / len(y_te))
# %% spikingjelly/sew.py
"""Small spiking residual network (spike-element-wise addition), averaged weights for the evaluation."""
import torch
import torch.nn as nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn
from sklearn.datasets import load_digits
from spikingjelly.activation_based import functional, layer, neuron, surrogate

torch.manual_seed(0)
torch.set_num_threads(1)


def conv_bn(c_in, c_out):
    return nn.Sequential(layer.Conv2d(c_in, c_out, 3, padding=1, bias=False), layer.BatchNorm2d(c_out))


def spike():
    return neuron.IFNode(surrogate_function=surrogate.ATan(), detach_reset=True)


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.conv1, self.sn1 = conv_bn(c, c), spike()
        self.conv2, self.sn2 = conv_bn(c, c), spike()

    def forward(self, x):
        return x + self.sn2(self.conv2(self.sn1(self.conv1(x))))


class SEWNet(nn.Module):
    def __init__(self, c=16, blocks=2, T=4):
        super().__init__()
        self.T = T
        self.stem, self.sn = conv_bn(1, c), spike()
        self.blocks = nn.Sequential(*[Block(c) for _ in range(blocks)])
        self.pool = layer.AdaptiveAvgPool2d((2, 2))
        self.head = layer.Linear(c * 4, 10)
        functional.set_step_mode(self, "m")

    def forward(self, x):
        x = self.stem(x.unsqueeze(0).expand(self.T, *x.shape))
        x = self.pool(self.blocks(self.sn(x)))
        return self.head(x.flatten(2)).mean(0)


data = load_digits()
X = torch.tensor(data.images / 16, dtype=torch.float).unsqueeze(1)
Y = torch.tensor(data.target)
train_set = torch.utils.data.TensorDataset(X[:1400], Y[:1400])
loader = torch.utils.data.DataLoader(train_set, batch_size=70, shuffle=True)

net = SEWNet()
ema = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4, nesterov=True)
warmup = torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=20)

for epoch in range(6):
    net.train()
    for img, label in loader:
        optimizer.zero_grad()
        loss = criterion(net(img), label)
        loss.backward()
        optimizer.step()
        warmup.step()
        functional.reset_net(net)
        ema.update_parameters(net)
    print("epoch", epoch, "loss", loss.item())

ema.eval()
with torch.no_grad():
    functional.reset_net(ema)
    accuracy = (ema(X[1400:]).argmax(1) == Y[1400:]).float().mean()
print("test accuracy", accuracy.item())
