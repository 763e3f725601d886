"""Convolutional network as nn.Sequential with hidden states in the neurons; gratings of four orientations and two widths."""
import snntorch as snn
import snntorch.functional as SF
import torch
import torch.nn as nn
from snntorch import surrogate, utils

SIZE = 16
N_STEPS = 8


def gratings(n, generator):
    """Noisy images (n, 1, SIZE, SIZE) and classes 0 to 7."""
    label = torch.randint(0, 8, (n,), generator=generator)
    angle = (label % 4) * torch.pi / 4 + 0.12 * torch.randn(n, generator=generator)
    frequency = torch.where(label < 4, 0.7, 1.5)
    phase = 6.283 * torch.rand(n, generator=generator)
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    along = torch.cos(angle).view(-1, 1, 1) * x + torch.sin(angle).view(-1, 1, 1) * y
    image = 0.5 + 0.5 * torch.sin(frequency.view(-1, 1, 1) * along + phase.view(-1, 1, 1))
    image = image + 0.25 * torch.randn(n, SIZE, SIZE, generator=generator)
    return image.clamp(0, 1).unsqueeze(1), label


def forward_pass(net, x, num_steps):
    utils.reset(net)
    spk_rec, mem_rec = [], []
    for _ in range(num_steps):
        spk, mem = net(x)
        spk_rec.append(spk)
        mem_rec.append(mem)
    return torch.stack(spk_rec), torch.stack(mem_rec)


def train_epoch(net, optimizer, loss_fn, images, labels):
    net.train()
    for rows in torch.randperm(len(labels)).split(50):
        spk_rec, mem_rec = forward_pass(net, images[rows], N_STEPS)
        loss = loss_fn(spk_rec, labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


def main():
    torch.manual_seed(11)
    generator = torch.Generator().manual_seed(5)
    train_x, train_y = gratings(1000, generator)
    test_x, test_y = gratings(400, generator)

    spike_grad = surrogate.atan(alpha=2.0)
    beta = 0.8
    net = nn.Sequential(
        nn.Conv2d(1, 8, 5, padding=2),
        nn.MaxPool2d(2),
        snn.Leaky(beta=beta, spike_grad=spike_grad, init_hidden=True),
        nn.Conv2d(8, 16, 5, padding=2),
        nn.MaxPool2d(2),
        snn.Leaky(beta=beta, spike_grad=spike_grad, init_hidden=True),
        nn.Flatten(),
        nn.Linear(16 * 4 * 4, 8),
        snn.Leaky(beta=beta, spike_grad=spike_grad, init_hidden=True, output=True),
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    loss_fn = SF.ce_rate_loss()
    for epoch in range(5):
        loss = train_epoch(net, optimizer, loss_fn, train_x, train_y)
        print("epoch", epoch, "loss", round(loss, 3))

    net.eval()
    with torch.no_grad():
        spk_rec, _ = forward_pass(net, test_x, N_STEPS)
    print("test accuracy", SF.accuracy_rate(spk_rec, test_y))


if __name__ == "__main__":
    main()
