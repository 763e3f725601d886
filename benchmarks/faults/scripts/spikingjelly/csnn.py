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
