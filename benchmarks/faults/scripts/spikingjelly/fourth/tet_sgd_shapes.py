"""Temporal efficient training (TET): the loss is a mean over the steps. Outlines of shapes, a small VGG, multi-step mode."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from spikingjelly.activation_based import functional, layer, neuron, surrogate

torch.manual_seed(1000)
T, SIDE, CLASSES = 4, 12, 4


def draw(n):
    """Images [n, 1, 12, 12] of a square, a cross, a diagonal cross, a disc; somewhere, with noise."""
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    label = torch.randint(0, CLASSES, (n,))
    images = torch.zeros(n, 1, SIDE, SIDE)
    for i in range(n):
        cx, cy = torch.randint(4, 8, (2,)).tolist()
        dx, dy = (x - cx).abs(), (y - cy).abs()
        far = torch.maximum(dx, dy)
        kinds = [far == 3, ((dx == 0) | (dy == 0)) & (far <= 3), (dx == dy) & (far <= 3), dx ** 2 + dy ** 2 <= 6]
        images[i, 0] = kinds[label[i]].float()
    return images + 0.2 * torch.randn_like(images), label


def block(c_in, c_out):
    return [
        layer.Conv2d(c_in, c_out, kernel_size=3, padding=1, bias=False),
        layer.BatchNorm2d(c_out),
        neuron.LIFNode(tau=2.0, surrogate_function=surrogate.ATan(), detach_reset=True),
    ]


class VGG(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.features = nn.Sequential(
            *block(1, width), *block(width, width), layer.MaxPool2d(2, 2),
            *block(width, 2 * width), *block(2 * width, 2 * width), layer.MaxPool2d(2, 2),
        )
        self.classifier = nn.Sequential(layer.Flatten(), layer.Linear(2 * width * 9, CLASSES))

    def forward(self, x):
        x = x.unsqueeze(0).repeat(T, 1, 1, 1, 1)
        return self.classifier(self.features(x))


def tet_loss(outputs, labels, means=1.0, lamb=0.05):
    """Cross entropy of each step, and a pull of all outputs to `means`."""
    es = sum(F.cross_entropy(outputs[t], labels) for t in range(len(outputs))) / len(outputs)
    mmd = F.mse_loss(outputs, torch.full_like(outputs, means))
    return (1 - lamb) * es + lamb * mmd


net = VGG()
functional.set_step_mode(net, "m")
train_x, train_y = draw(640)
test_x, test_y = draw(240)
optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
EPOCHS = 5
lr_scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS)
for epoch in range(EPOCHS):
    net.train()
    for index in torch.randperm(len(train_y)).split(32):
        outputs = net(train_x[index])
        loss = tet_loss(outputs, train_y[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        functional.reset_net(net)
    lr_scheduler.step()
    net.eval()
    hits = 0
    with torch.no_grad():
        for index in torch.arange(len(test_y)).split(60):
            hits += (net(test_x[index]).mean(0).argmax(1) == test_y[index]).sum().item()
            functional.reset_net(net)
    print(f"epoch={epoch}, loss={loss.item():.4f}, test_acc={hits / len(test_y):.4f}")
