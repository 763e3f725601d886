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
