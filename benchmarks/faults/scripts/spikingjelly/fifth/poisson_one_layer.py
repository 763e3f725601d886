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
