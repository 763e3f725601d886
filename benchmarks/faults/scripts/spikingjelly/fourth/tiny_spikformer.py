"""Spikformer, tiny: self attention without softmax over tokens of spikes. Which of two marks comes first in a row of symbols?"""
import argparse

import torch
import torch.nn as nn
from spikingjelly.activation_based import functional, neuron, surrogate

LENGTH, SYMBOLS = 10, 8


def sentences(n, seed):
    """Tokens [n, 10]; of the marks 0 and 1 each is there once. Class 0: 0 comes first, 1: 1 comes first."""
    g = torch.Generator().manual_seed(seed)
    tokens = torch.randint(2, SYMBOLS, (n, LENGTH), generator=g)
    places = torch.rand(n, LENGTH, generator=g).argsort(1)[:, :2]
    rows = torch.arange(n)
    tokens[rows, places[:, 0]] = 0
    tokens[rows, places[:, 1]] = 1
    return tokens, (places[:, 0] > places[:, 1]).long()


def lif(v_threshold=1.0):
    return neuron.LIFNode(tau=2.0, v_threshold=v_threshold, detach_reset=True, step_mode="m",
                          surrogate_function=surrogate.ATan())


class LinearBN(nn.Module):
    """Linear layer and batch normalisation over [T, N, L, D]."""

    def __init__(self, d_in, d_out):
        super().__init__()
        self.linear = nn.Linear(d_in, d_out)
        self.bn = nn.BatchNorm1d(d_out)

    def forward(self, x):
        shape = x.shape[:-1]
        return self.bn(self.linear(x.flatten(0, -2))).view(*shape, -1)


class SSA(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads, self.scale = heads, 0.25
        self.q, self.k, self.v = (nn.Sequential(LinearBN(dim, dim), lif()) for _ in range(3))
        self.attn_lif = lif(0.5)
        self.proj = nn.Sequential(LinearBN(dim, dim), lif())

    def split(self, x):
        T, N, L, D = x.shape
        return x.view(T, N, L, self.heads, D // self.heads).transpose(2, 3)

    def forward(self, x):
        q, k, v = self.split(self.q(x)), self.split(self.k(x)), self.split(self.v(x))
        attention = (q @ k.transpose(-2, -1)) * self.scale
        mixed = (attention @ v).transpose(2, 3).flatten(-2)
        return self.proj(self.attn_lif(mixed))


class Encoder(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.attention = SSA(dim, heads)
        self.mlp = nn.Sequential(LinearBN(dim, 2 * dim), lif(), LinearBN(2 * dim, dim), lif())

    def forward(self, x):
        x = x + self.attention(x)
        return x + self.mlp(x)


class Spikformer(nn.Module):
    def __init__(self, dim=48, heads=4, depth=2, T=4):
        super().__init__()
        self.T = T
        self.embed = nn.Embedding(SYMBOLS, dim)
        self.position = nn.Parameter(torch.randn(LENGTH, dim))
        self.stem = nn.Sequential(LinearBN(dim, dim), lif())
        self.encoders = nn.Sequential(*[Encoder(dim, heads) for _ in range(depth)])
        self.head = nn.Linear(dim, 2)

    def forward(self, tokens):
        x = self.embed(tokens) + self.position
        x = x.unsqueeze(0).expand(self.T, -1, -1, -1)
        x = self.encoders(self.stem(x))
        x = x.mean(2)
        return self.head(x.mean(0))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch", type=int, default=50)
    args = parser.parse_args()
    torch.manual_seed(6)
    (x, y), (x_test, y_test) = sentences(1000, 0), sentences(400, 1)
    net = Spikformer()
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.01)
    for epoch in range(args.epochs):
        net.train()
        for rows in torch.randperm(len(y)).split(args.batch):
            loss = nn.functional.cross_entropy(net(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            functional.reset_net(net)
        print(epoch, loss.item())
    net.eval()
    with torch.no_grad():
        hits = (net(x_test).argmax(1) == y_test).float().mean().item()
    print("accuracy", hits)


if __name__ == "__main__":
    main()
