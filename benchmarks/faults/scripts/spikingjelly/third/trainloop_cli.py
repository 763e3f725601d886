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
