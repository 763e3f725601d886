import argparse
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset
from sklearn.datasets import load_digits
from spikingjelly.activation_based import neuron, encoding, functional, surrogate, layer


class SNN(nn.Module):
    def __init__(self, tau):
        super().__init__()
        self.layer = nn.Sequential(
            layer.Flatten(),
            layer.Linear(64, 120),
            neuron.LIFNode(tau=tau, decay_input=False, surrogate_function=surrogate.ATan()),
            layer.Linear(120, 10, bias=False),
            neuron.LIFNode(tau=tau, decay_input=False, surrogate_function=surrogate.ATan()),
        )

    def forward(self, x: torch.Tensor):
        return self.layer(x)


def main():
    parser = argparse.ArgumentParser(description='LIF digits, latency code')
    parser.add_argument('-T', default=10, type=int, help='simulating time-steps')
    parser.add_argument('-b', default=64, type=int, help='batch size')
    parser.add_argument('-epochs', default=9, type=int)
    parser.add_argument('-lr', default=5e-3, type=float)
    parser.add_argument('-tau', default=2.0, type=float, help='parameter tau of LIF neuron')
    args = parser.parse_args()

    torch.manual_seed(2020)
    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x, dtype=torch.float).view(-1, 1, 8, 8) / 16, torch.tensor(y)
    idx = torch.randperm(len(y))
    train_loader = DataLoader(TensorDataset(x[idx[:1472]], y[idx[:1472]]), batch_size=args.b, shuffle=True, drop_last=True)
    test_loader = DataLoader(TensorDataset(x[idx[1472:1792]], y[idx[1472:1792]]), batch_size=args.b, shuffle=False)

    net = SNN(tau=args.tau)
    optimizer = torch.optim.Adam(net.parameters(), lr=args.lr)
    encoder = encoding.LatencyEncoder(args.T)

    for epoch in range(args.epochs):
        net.train()
        train_loss, train_acc, train_samples = 0, 0, 0
        for img, label in train_loader:
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
            encoder.reset()
        print(f'epoch = {epoch}, train_loss = {train_loss / train_samples:.4f}, train_acc = {train_acc / train_samples:.4f}')

    net.eval()
    test_acc, test_samples = 0, 0
    with torch.no_grad():
        for img, label in test_loader:
            out_fr = 0.
            for t in range(args.T):
                encoded_img = encoder(img)
                out_fr += net(encoded_img)
            test_samples += label.numel()
            test_acc += (out_fr.argmax(1) == label).float().sum().item()
            functional.reset_net(net)
            encoder.reset()
    print(f'test_acc = {test_acc / test_samples:.4f}')


if __name__ == '__main__':
    main()
