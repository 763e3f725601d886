"""Small spiking residual network (spike-element-wise addition), averaged weights for the evaluation."""
import torch
import torch.nn as nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn
from sklearn.datasets import load_digits
from spikingjelly.activation_based import functional, layer, neuron, surrogate

torch.manual_seed(0)
torch.set_num_threads(1)


def conv_bn(c_in, c_out):
    return nn.Sequential(layer.Conv2d(c_in, c_out, 3, padding=1, bias=False), layer.BatchNorm2d(c_out))


def spike():
    return neuron.IFNode(surrogate_function=surrogate.ATan(), detach_reset=True)


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.conv1, self.sn1 = conv_bn(c, c), spike()
        self.conv2, self.sn2 = conv_bn(c, c), spike()

    def forward(self, x):
        return x + self.sn2(self.conv2(self.sn1(self.conv1(x))))


class SEWNet(nn.Module):
    def __init__(self, c=16, blocks=2, T=4):
        super().__init__()
        self.T = T
        self.stem, self.sn = conv_bn(1, c), spike()
        self.blocks = nn.Sequential(*[Block(c) for _ in range(blocks)])
        self.pool = layer.AdaptiveAvgPool2d((2, 2))
        self.head = layer.Linear(c * 4, 10)
        functional.set_step_mode(self, "m")

    def forward(self, x):
        x = self.stem(x.unsqueeze(0).expand(self.T, *x.shape))
        x = self.pool(self.blocks(self.sn(x)))
        return self.head(x.flatten(2)).mean(0)


data = load_digits()
X = torch.tensor(data.images / 16, dtype=torch.float).unsqueeze(1)
Y = torch.tensor(data.target)
train_set = torch.utils.data.TensorDataset(X[:1400], Y[:1400])
loader = torch.utils.data.DataLoader(train_set, batch_size=70, shuffle=True)

net = SEWNet()
ema = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4, nesterov=True)
warmup = torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=20)

for epoch in range(6):
    net.train()
    for img, label in loader:
        optimizer.zero_grad()
        loss = criterion(net(img), label)
        loss.backward()
        optimizer.step()
        warmup.step()
        functional.reset_net(net)
        ema.update_parameters(net)
    print("epoch", epoch, "loss", loss.item())

ema.eval()
with torch.no_grad():
    functional.reset_net(ema)
    accuracy = (ema(X[1400:]).argmax(1) == Y[1400:]).float().mean()
print("test accuracy", accuracy.item())
