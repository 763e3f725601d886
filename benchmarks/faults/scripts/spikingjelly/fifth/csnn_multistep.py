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
