# %% spikingjelly/fifth/csnn_multistep.py
"""A convolutional spiking network in multi-step mode: the first convolution turns an image into currents."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from spikingjelly.activation_based import functional, layer, neuron, surrogate


class CSNN(nn.Module):
    def __init__(self, T: int, channels: int):
        super().__init__()
        self.T = T
        self.conv_fc = nn.Sequential(
            layer.Conv2d(1, channels, kernel_size=3, padding=1, bias=False),
            layer.BatchNorm2d(channels),
            neuron.IFNode(surrogate_function=surrogate.ATan()),
            layer.MaxPool2d(2, 2),  # 4 * 4

            layer.Conv2d(channels, channels * 2, kernel_size=3, padding=1, bias=False),
            layer.BatchNorm2d(channels * 2),
            neuron.IFNode(surrogate_function=surrogate.ATan()),
            layer.MaxPool2d(2, 2),  # 2 * 2

            layer.Flatten(),
            layer.Linear(channels * 2 * 2 * 2, 64, bias=False),
            neuron.IFNode(surrogate_function=surrogate.ATan()),
            layer.Linear(64, 10, bias=False),
            neuron.IFNode(surrogate_function=surrogate.ATan()),
        )
        functional.set_step_mode(self, step_mode="m")

    def forward(self, x: torch.Tensor):
        x_seq = x.unsqueeze(0).repeat(self.T, 1, 1, 1, 1)  # [N, C, H, W] -> [T, N, C, H, W]
        return self.conv_fc(x_seq).mean(0)


def evaluate(net, images, labels, batch_size=90):
    net.eval()
    correct = 0
    with torch.no_grad():
        for img, label in zip(images.split(batch_size), labels.split(batch_size)):
            correct += (net(img).argmax(1) == label).sum().item()
            functional.reset_net(net)
    return correct / len(labels)


torch.manual_seed(2024)
bunch = load_digits()
images = torch.tensor(bunch.images / 16, dtype=torch.float32).unsqueeze(1)
labels = torch.tensor(bunch.target)
train_x, test_x, train_y, test_y = train_test_split(images, labels, test_size=360, random_state=1, stratify=labels)

net = CSNN(T=4, channels=12)
optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
lr_scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=6)
for epoch in range(6):
    net.train()
    order = torch.randperm(len(train_y))
    for rows in order.split(64):
        out_fr = net(train_x[rows])
        loss = nn.functional.mse_loss(out_fr, nn.functional.one_hot(train_y[rows], 10).float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        functional.reset_net(net)
    lr_scheduler.step()
    print(epoch, f"loss {loss.item():.4f}")
print("accuracy", evaluate(net, test_x, test_y))
# %% spikingjelly/fifth/plif_gestures.py
"""Gestures before an event camera (made here): a blob moves left, right, up, down, in a circle or back and forth.
Parametric LIF neurons, dropout, and a vote of ten neurons for each class."""
import math
import random

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch.utils.data import DataLoader, Dataset

GESTURES = ("left", "right", "up", "down", "circle", "wave")


class Gestures(Dataset):
    """Frames [T, 2, 12, 12] with numbers of events; channel 1 where it grows brighter."""

    def __init__(self, size, T, seed):
        rng = np.random.RandomState(seed)
        self.samples = []
        for i in range(size):
            label = i % len(GESTURES)
            self.samples.append((self.record(GESTURES[label], T, rng), label))

    @staticmethod
    def record(gesture, T, rng):
        t = np.linspace(-1, 1, T + 1) * 3.5
        zeros, phase = np.zeros_like(t), rng.uniform(0, 2 * math.pi)
        path = {
            "left": (-t, zeros), "right": (t, zeros), "up": (zeros, -t), "down": (zeros, t),
            "circle": (3 * np.cos(t * 0.9 + phase), 3 * np.sin(t * 0.9 + phase)),
            "wave": (3 * np.sin(t * 1.8 + phase), zeros),
        }[gesture]
        x0, y0 = 5.5 + rng.uniform(-1, 1, 2)
        ys, xs = np.mgrid[0:12, 0:12]
        brightness = [np.exp(-((xs - x0 - x) ** 2 + (ys - y0 - y) ** 2) / 3) for x, y in zip(*path)]
        change = 8 * np.diff(np.stack(brightness), axis=0)
        events = np.stack([rng.poisson(np.maximum(-change, 0)), rng.poisson(np.maximum(change, 0))], axis=1)
        return torch.from_numpy(events).float()

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]


class GestureNet(nn.Module):
    def __init__(self, channels=16, classes=len(GESTURES)):
        super().__init__()
        def plif():
            return neuron.ParametricLIFNode(init_tau=2.0, surrogate_function=surrogate.ATan(), detach_reset=True)

        self.features = nn.Sequential(
            layer.Conv2d(2, channels, 3, padding=1, bias=False), layer.BatchNorm2d(channels), plif(), layer.MaxPool2d(2),
            layer.Conv2d(channels, channels, 3, padding=1, bias=False), layer.BatchNorm2d(channels), plif(), layer.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(
            layer.Flatten(), layer.Dropout(0.3),
            layer.Linear(channels * 9, 10 * classes), plif(),
            layer.VotingLayer(10),
        )

    def forward(self, x):
        return self.classifier(self.features(x))


def main():
    random.seed(0)
    torch.manual_seed(0)
    T = 8
    train_loader = DataLoader(Gestures(420, T, seed=10), batch_size=30, shuffle=True, drop_last=True)
    test_loader = DataLoader(Gestures(180, T, seed=11), batch_size=30)
    net = GestureNet()
    functional.set_step_mode(net, "m")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.2, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=9)
    for epoch in range(9):
        net.train()
        for frame, label in train_loader:
            frame = frame.transpose(0, 1)  # [N, T, C, H, W] -> [T, N, C, H, W]
            out_fr = net(frame).mean(0)
            loss = F.mse_loss(out_fr, F.one_hot(label, len(GESTURES)).float())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            functional.reset_net(net)
        scheduler.step()
        print(epoch, round(loss.item(), 4))

    net.eval()
    hits = 0
    with torch.no_grad():
        for frame, label in test_loader:
            hits += (net(frame.transpose(0, 1)).mean(0).argmax(1) == label).sum().item()
            functional.reset_net(net)
    print("test_acc", hits / 180)


if __name__ == "__main__":
    main()
# %% spikingjelly/fifth/poisson_one_layer.py
"""Poisson-coded digits, linear layers and LIF neurons in single-step mode, firing rates against one-hot labels."""
import argparse
import sys

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.utils.data as data
from sklearn.datasets import load_digits
from spikingjelly.activation_based import encoding, functional, layer, neuron, surrogate


class SNN(nn.Module):
    def __init__(self, tau):
        super().__init__()
        self.layer = nn.Sequential(
            layer.Flatten(),
            layer.Linear(64, 100, bias=False),
            neuron.LIFNode(tau=tau, surrogate_function=surrogate.ATan()),
            layer.Linear(100, 10, bias=False),
            neuron.LIFNode(tau=tau, surrogate_function=surrogate.ATan()),
        )

    def forward(self, x: torch.Tensor):
        return self.layer(x)


def digits_loaders(batch_size, seed):
    bunch = load_digits()
    rng = np.random.RandomState(seed)
    idx = rng.permutation(len(bunch.target))
    img = torch.from_numpy(bunch.images[idx] / bunch.images.max()).float()
    label = torch.from_numpy(bunch.target[idx])
    train = data.TensorDataset(img[:1350], label[:1350])
    test = data.TensorDataset(img[1350:], label[1350:])
    return (data.DataLoader(train, batch_size, shuffle=True, drop_last=True),
            data.DataLoader(test, batch_size, shuffle=False, drop_last=False))


def run(args):
    torch.manual_seed(args.seed)
    net = SNN(tau=args.tau)
    train_data_loader, test_data_loader = digits_loaders(args.b, args.seed)
    if args.opt == "sgd":
        optimizer = torch.optim.SGD(net.parameters(), lr=args.lr, momentum=args.momentum)
    else:
        optimizer = torch.optim.Adam(net.parameters(), lr=args.lr)
    encoder = encoding.PoissonEncoder()

    for epoch in range(args.epochs):
        net.train()
        train_loss = train_acc = train_samples = 0
        for img, label in train_data_loader:
            optimizer.zero_grad()
            label_onehot = F.one_hot(label, 10).float()
            out_fr = 0.
            for t in range(args.T):
                encoded_img = encoder(img)
                out_fr += net(encoded_img)
            out_fr = out_fr / args.T
            loss = F.mse_loss(out_fr, label_onehot)
            loss.backward()
            optimizer.step()
            train_samples += label.numel()
            train_loss += loss.item() * label.numel()
            train_acc += (out_fr.argmax(1) == label).float().sum().item()
            functional.reset_net(net)
        print(f"epoch = {epoch}, train_loss = {train_loss / train_samples:.4f}, train_acc = {train_acc / train_samples:.4f}")

    net.eval()
    test_acc = test_samples = 0
    with torch.no_grad():
        for img, label in test_data_loader:
            out_fr = 0.
            for t in range(args.T):
                out_fr += net(encoder(img))
            test_samples += label.numel()
            test_acc += (out_fr.argmax(1) == label).float().sum().item()
            functional.reset_net(net)
    return test_acc / test_samples


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="LIF digits training")
    parser.add_argument("-T", default=16, type=int, help="simulating time-steps")
    parser.add_argument("-epochs", default=10, type=int)
    parser.add_argument("-b", default=50, type=int, help="batch size")
    parser.add_argument("-opt", type=str, choices=["sgd", "adam"], default="adam")
    parser.add_argument("-momentum", default=0.9, type=float)
    parser.add_argument("-lr", default=5e-3, type=float, help="learning rate")
    parser.add_argument("-tau", default=2.0, type=float)
    parser.add_argument("-seed", default=0, type=int)
    print("test_acc =", round(run(parser.parse_args(sys.argv[1:])), 4))
# %% spikingjelly/fifth/voltage_readout.py
"""Which arm pays? A spiking network estimates the reward of four actions from a context; potentials of neurons that never
fire are the estimates. Learning from logged actions, as in offline Q-learning with one step."""
import torch
import torch.nn as nn
from spikingjelly.activation_based import functional, layer, neuron, surrogate


class NonSpikingLIFNode(neuron.SimpleLIFNode):
    def single_step_forward(self, x: torch.Tensor):
        self.neuronal_charge(x)
        return self.v


class DQSN(nn.Module):
    def __init__(self, input_size, hidden_size, output_size, T=8):
        super().__init__()
        self.fc = nn.Sequential(
            layer.Linear(input_size, hidden_size),
            neuron.IFNode(surrogate_function=surrogate.ATan()),
            layer.Linear(hidden_size, hidden_size),
            neuron.IFNode(surrogate_function=surrogate.ATan()),
            layer.Linear(hidden_size, output_size),
            NonSpikingLIFNode(tau=2.0, decay_input=True),
        )
        self.T = T

    def forward(self, x):
        for t in range(self.T):
            self.fc(x)
        return self.fc[-1].v


def mean_reward(context):
    """Reward (N, 4) of each action: that of the quadrant of the context, less where the context is near 0."""
    left, up = context[:, 0] < 0, context[:, 1] > 0
    right_action = torch.stack([left & up, ~left & up, left & ~up, ~left & ~up], dim=1)
    strength = context[:, :2].abs().amin(1, keepdim=True).clamp(max=1)
    return right_action.float() * (0.5 + 0.5 * strength)


def main():
    torch.manual_seed(6)
    context = torch.randn(2000, 5)
    action = torch.randint(0, 4, (2000,))
    reward = mean_reward(context).gather(1, action.unsqueeze(1)).squeeze(1) + 0.1 * torch.randn(2000)

    policy_net = DQSN(5, 64, 4)
    optimizer = torch.optim.Adam(policy_net.parameters(), lr=4e-3)
    for epoch in range(12):
        for rows in torch.randperm(2000).split(64):
            q_values = policy_net(context[rows])
            state_action_values = q_values.gather(1, action[rows].unsqueeze(1)).squeeze(1)
            loss = nn.functional.smooth_l1_loss(state_action_values, reward[rows])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_value_(policy_net.parameters(), 1.0)
            optimizer.step()
            functional.reset_net(policy_net)
        print(f"episode {epoch} loss {loss.item():.4f}")

    fresh = torch.randn(1000, 5)
    with torch.no_grad():
        chosen = policy_net(fresh).argmax(1)
        functional.reset_net(policy_net)
    best = mean_reward(fresh).argmax(1)
    print(f"best action chosen: {(chosen == best).float().mean().item():.4f}")


if __name__ == "__main__":
    main()
