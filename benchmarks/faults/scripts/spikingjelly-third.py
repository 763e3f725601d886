# %% spikingjelly/third/ann_transfer.py
"""A ReLU network is trained, its weights are taken over by spiking neurons, and tuned for two epochs."""
import torch
from sklearn.datasets import load_digits
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn

torch.manual_seed(7)
T = 16
data, labels = load_digits(return_X_y=True)
data, labels = torch.tensor(data, dtype=torch.float32) / 16, torch.tensor(labels)
order = torch.randperm(1797)
fit, held = order[:1300], order[1300:]


def stack(activation):
    return nn.Sequential(layer.Linear(64, 96), activation(), layer.Linear(96, 64), activation(), layer.Linear(64, 10))


def epochs(model, optimizer, number, forward):
    for _ in range(number):
        for rows in fit[torch.randperm(1300)].split(50):
            loss = nn.functional.cross_entropy(forward(model, data[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def spiking_forward(model, x):
    functional.reset_net(model)
    return model(x.expand(T, -1, -1)).mean(0)


ann = stack(nn.ReLU)
epochs(ann, torch.optim.Adam(ann.parameters(), 2e-3), 8, lambda m, x: m(x))
print("ANN", (ann(data[held]).argmax(1) == labels[held]).float().mean().item())
snn = stack(lambda: neuron.IFNode(v_reset=None, surrogate_function=surrogate.ATan()))
functional.set_step_mode(snn, "m")
snn.load_state_dict(ann.state_dict())
epochs(snn, torch.optim.SGD(snn.parameters(), lr=0.01), 2, spiking_forward)
with torch.no_grad():
    print("SNN", (spiking_forward(snn, data[held]).argmax(1) == labels[held]).float().mean().item())
# %% spikingjelly/third/denoise_autoencoder.py
"""A spiking autoencoder takes the noise out of digits; R^2 of the pixels."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from spikingjelly.activation_based import functional, layer, neuron, surrogate

torch.manual_seed(61)
T = 8


def spiking(v_threshold=1.0):
    return neuron.IFNode(v_threshold=v_threshold, surrogate_function=surrogate.ATan(alpha=2.0), detach_reset=True)


class Denoiser(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(layer.Linear(64, 128), spiking(), layer.Linear(128, 80), spiking(0.5))
        self.decoder = nn.Sequential(layer.Linear(80, 128), spiking())
        self.pixels = nn.Linear(128, 64)
        functional.set_step_mode(self, 'm')

    def forward(self, x):
        seq = x.unsqueeze(0).repeat(T, 1, 1)
        return self.pixels(self.decoder(self.encoder(2 * seq)).mean(0))


def corrupt(x, std=0.15):
    return x + std * torch.randn_like(x)


x = torch.tensor(load_digits().data, dtype=torch.float32) / 16
x = x[torch.randperm(len(x))]
train, test = x[:1400], x[1400:]
net = Denoiser()
optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
lr_scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=14)
for epoch in range(14):
    net.train()
    for clean in train[torch.randperm(len(train))].split(50):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(net(corrupt(clean)), clean)
        loss.backward()
        optimizer.step()
        functional.reset_net(net)
    lr_scheduler.step()
    print(f'epoch={epoch}, loss={loss.item():.4f}')
net.eval()
with torch.no_grad():
    restored = net(corrupt(test))
    left = (restored - test).square().sum() / (test - test.mean(0)).square().sum()
print('R2', 1 - left.item())
# %% spikingjelly/third/plif_patterns.py
"""Spike patterns in time, all with the same number of spikes per input: only time tells them apart."""
import torch
import torch.nn as nn
from spikingjelly.activation_based import functional, layer, neuron, surrogate

torch.manual_seed(101)
T, INPUTS, CLASSES = 24, 20, 4
TIMES = torch.stack([torch.randperm(INPUTS) for _ in range(CLASSES)])


def patterns(n):
    y = torch.randint(0, CLASSES, (n,))
    t = TIMES[y] + torch.randint(0, T - INPUTS + 1, (n, 1))
    x = torch.zeros(T, n, INPUTS)
    x.scatter_(0, t.unsqueeze(0), 1.)
    return x * (torch.rand(n, INPUTS) < 0.9), y


class PLIFNet(nn.Module):
    def __init__(self, hidden=64):
        super().__init__()
        plif = dict(init_tau=4.0, decay_input=False, v_threshold=0.5, detach_reset=True, surrogate_function=surrogate.Sigmoid(alpha=4.))
        self.fc = nn.Sequential(
            layer.Linear(INPUTS, hidden),
            neuron.ParametricLIFNode(**plif),
            layer.Linear(hidden, hidden),
            neuron.ParametricLIFNode(**plif),
        )
        self.head = layer.Linear(hidden, CLASSES)
        functional.set_step_mode(self, step_mode='m')

    def forward(self, x_seq):
        return self.head(self.fc(x_seq).mean(0))


net = PLIFNet()
optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
for it in range(200):
    x, y = patterns(40)
    y_hat = net(x)
    loss = nn.functional.cross_entropy(y_hat, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    functional.reset_net(net)
    if it % 40 == 0:
        print(it, 'loss', loss.item(), 'acc', (y_hat.argmax(1) == y).float().mean().item())
with torch.no_grad():
    functional.reset_net(net)
    x, y = patterns(400)
    print('accuracy', (net(x).argmax(1) == y).float().mean().item())
# %% spikingjelly/third/residual_multistep.py
# A small spike-element-wise residual network, multi-step, with data loaders and augmentation.
import numpy as np
import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch.utils.data import DataLoader, Dataset


class Digits(Dataset):
    def __init__(self, rows, train):
        digits = load_digits()
        self.images = digits.images[rows].astype(np.float32) / 8
        self.labels = digits.target[rows]
        self.train = train

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        image = self.images[index]
        if self.train:
            image = np.roll(image, np.random.randint(-1, 2), axis=1)
        return torch.from_numpy(image.copy()).unsqueeze(0), int(self.labels[index])


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.body = nn.Sequential(
            layer.Conv2d(channels, channels, 3, padding=1, bias=False),
            layer.BatchNorm2d(channels),
            neuron.LIFNode(tau=2.0, surrogate_function=surrogate.ATan(), detach_reset=True),
        )

    def forward(self, x):
        return self.body(x) + x


class ResNet(nn.Module):
    def __init__(self, channels=12, T=4, drop=0.1):
        super().__init__()
        self.T = T
        self.stem = nn.Sequential(layer.Conv2d(1, channels, 3, padding=1, bias=False), layer.BatchNorm2d(channels))
        self.sn = neuron.LIFNode(tau=2.0, surrogate_function=surrogate.ATan(), detach_reset=True)
        self.block1, self.block2 = Block(channels), Block(channels)
        self.pool = layer.AvgPool2d(2)
        self.flatten, self.dropout = layer.Flatten(), layer.Dropout(drop)
        self.fc = layer.Linear(channels * 16, 10)
        functional.set_step_mode(self, 'm')

    def forward(self, x):
        x = x.repeat(self.T, 1, 1, 1, 1)
        x = self.sn(self.stem(x))
        x = self.pool(self.block2(self.block1(x)))
        return self.fc(self.dropout(self.flatten(x))).mean(0)


def train_one_epoch(net, loader, optimizer):
    net.train()
    for image, label in loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(image), label)
        loss.backward()
        optimizer.step()
        functional.reset_net(net)
    return loss.item()


def test(net, loader):
    net.eval()
    hits = total = 0
    with torch.no_grad():
        for image, label in loader:
            hits += (net(image).argmax(1) == label).sum().item()
            total += label.numel()
            functional.reset_net(net)
    return hits / total


if __name__ == '__main__':
    torch.manual_seed(2023)
    np.random.seed(2023)
    rows = np.random.permutation(1797)
    train_loader = DataLoader(Digits(rows[:1300], True), batch_size=32, shuffle=True, drop_last=True)
    test_loader = DataLoader(Digits(rows[1300:], False), batch_size=128)
    net = ResNet()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3)
    for epoch in range(3):
        print('epoch', epoch, 'loss', train_one_epoch(net, train_loader, optimizer))
        scheduler.step()
    print('accuracy', test(net, test_loader))
# %% spikingjelly/third/trainloop_cli.py
import argparse
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from spikingjelly.activation_based import encoding, functional, layer, neuron, surrogate
from tqdm import tqdm


def get_args(argv=None):
    parser = argparse.ArgumentParser(description='Spiking perceptron on digits, Poisson coded')
    parser.add_argument('-T', default=12, type=int)
    parser.add_argument('-b', default=50, type=int, help='batch size')
    parser.add_argument('-epochs', default=6, type=int)
    parser.add_argument('-lr', default=4e-3, type=float)
    parser.add_argument('-opt', default='adamw', choices=['sgd', 'adamw'])
    parser.add_argument('-hidden', default=128, type=int)
    parser.add_argument('-gain', default=1.0, type=float)
    return parser.parse_args(argv)


class SNN(nn.Module):
    def __init__(self, hidden, gain):
        super().__init__()
        self.layer = nn.Sequential(
            layer.Flatten(),
            layer.Linear(64, hidden),
            neuron.LIFNode(tau=2.0, decay_input=False, surrogate_function=surrogate.ATan()),
            layer.Linear(hidden, 50, bias=False),
            neuron.LIFNode(tau=2.0, decay_input=False, surrogate_function=surrogate.ATan()),
            layer.VotingLayer(5),
        )
        for m in self.modules():
            if isinstance(m, nn.Linear):
                nn.init.kaiming_uniform_(m.weight, nonlinearity='linear')
                m.weight.data.mul_(gain)

    def forward(self, x):
        return self.layer(x)


def make_optimizer(args, net):
    if args.opt == 'sgd':
        return torch.optim.SGD(net.parameters(), lr=args.lr, momentum=0.9)
    return torch.optim.AdamW(net.parameters(), lr=args.lr)


def presented(net, encoder, img, T):
    out_fr = 0.
    for t in range(T):
        out_fr = out_fr + net(encoder(img))
    return out_fr / T


def main():
    args = get_args()
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(digits.target)
    order = torch.randperm(1797)
    train, test = order[:1400], order[1400:]
    net = SNN(args.hidden, args.gain)
    encoder = encoding.PoissonEncoder()
    optimizer = make_optimizer(args, net)
    for epoch in range(args.epochs):
        start_time = time.time()
        net.train()
        train_acc = 0
        for rows in tqdm(train[torch.randperm(1400)].split(args.b), file=sys.stderr, leave=False):
            optimizer.zero_grad()
            label_onehot = F.one_hot(labels[rows], 10).float()
            out_fr = presented(net, encoder, images[rows], args.T)
            loss = F.mse_loss(out_fr, label_onehot)
            loss.backward()
            optimizer.step()
            train_acc += (out_fr.argmax(1) == labels[rows]).float().sum().item()
            functional.reset_net(net)
        print(f'epoch ={epoch}, train_acc ={train_acc / 1400: .4f}, seconds ={time.time() - start_time: .1f}')
    net.eval()
    with torch.no_grad():
        out_fr = presented(net, encoder, images[test], args.T)
    print('test_acc =', (out_fr.argmax(1) == labels[test]).float().mean().item())


if __name__ == '__main__':
    main()
# %% spikingjelly/third/weighted_imbalance.py
# Few samples of digits 5 to 9 in training: classes are weighted; the score is the balanced accuracy.
import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from sklearn.metrics import balanced_accuracy_score
from spikingjelly.activation_based import functional, neuron, surrogate

torch.manual_seed(55)
features, label = load_digits(return_X_y=True)
features = torch.tensor(features, dtype=torch.float32) / 16
label = torch.tensor(label)
shuffled = torch.randperm(len(label))
test = shuffled[1300:]
rare = label >= 5
train = torch.cat([shuffled[:1300][~rare[shuffled[:1300]]], shuffled[:1300][rare[shuffled[:1300]]][:120]])
count = torch.bincount(label[train], minlength=10).float()
class_weight = count.sum() / (10 * count)

net = nn.Sequential(
    nn.Linear(64, 100),
    neuron.LIFNode(tau=2., decay_input=False, surrogate_function=surrogate.ATan()),
    nn.Linear(100, 100),
    neuron.LIFNode(tau=2., decay_input=False, surrogate_function=surrogate.ATan()),
    nn.Linear(100, 10),
)
criterion = nn.CrossEntropyLoss(weight=class_weight)
optimizer = torch.optim.Adam(net.parameters(), 2e-3)


def predict(x, T=6):
    functional.reset_net(net)
    return torch.stack([net(x) for _ in range(T)]).mean(0)


for epoch in range(12):
    for rows in train[torch.randperm(len(train))].split(40):
        loss = criterion(predict(features[rows]), label[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print('epoch %d loss %.4f' % (epoch, loss.item()))
with torch.no_grad():
    guess = predict(features[test]).argmax(1)
print('balanced accuracy %.4f' % balanced_accuracy_score(label[test], guess))
