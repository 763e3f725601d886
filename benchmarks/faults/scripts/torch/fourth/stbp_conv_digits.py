# STBP (spatio-temporal backpropagation) on 8x8 digits: conv - pool - conv - fc, rectangular surrogate
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

torch.manual_seed(0)
np.random.seed(0)

thresh = 0.3    # neuronal threshold
lens = 0.5      # half width of the window
decay = 0.2     # decay constant
batch_size = 64
num_epochs = 8
time_window = 6
num_classes = 10


class ActFun(torch.autograd.Function):
    @staticmethod
    def forward(ctx, input):
        ctx.save_for_backward(input)
        return input.gt(thresh).float()

    @staticmethod
    def backward(ctx, grad_output):
        input, = ctx.saved_tensors
        grad_input = grad_output.clone()
        temp = abs(input - thresh) < lens
        return grad_input * temp.float() / (2 * lens)


act_fun = ActFun.apply


def mem_update(ops, x, mem, spike):
    mem = mem * decay * (1. - spike) + ops(x)
    spike = act_fun(mem)
    return mem, spike


class SCNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 12, 3, padding=1)
        self.conv2 = nn.Conv2d(12, 24, 3, padding=1)
        self.fc1 = nn.Linear(24 * 2 * 2, 64)
        self.fc2 = nn.Linear(64, num_classes)

    def forward(self, input):
        n = input.size(0)
        c1_mem = c1_spike = torch.zeros(n, 12, 8, 8)
        c2_mem = c2_spike = torch.zeros(n, 24, 4, 4)
        h1_mem = h1_spike = torch.zeros(n, 64)
        h2_mem = h2_spike = h2_sumspike = torch.zeros(n, num_classes)
        for step in range(time_window):
            x = (input > torch.rand(input.size())).float()
            c1_mem, c1_spike = mem_update(self.conv1, x, c1_mem, c1_spike)
            x = F.avg_pool2d(c1_spike, 2)
            c2_mem, c2_spike = mem_update(self.conv2, x, c2_mem, c2_spike)
            x = F.avg_pool2d(c2_spike, 2).view(n, -1)
            h1_mem, h1_spike = mem_update(self.fc1, x, h1_mem, h1_spike)
            h2_mem, h2_spike = mem_update(self.fc2, h1_spike, h2_mem, h2_spike)
            h2_sumspike = h2_sumspike + h2_spike
        outputs = h2_sumspike / time_window
        return outputs


images, targets = load_digits(return_X_y=True)
images = images.reshape(-1, 1, 8, 8).astype("float32") / 16
train_x, test_x, train_y, test_y = train_test_split(images, targets, test_size=0.25, random_state=1, stratify=targets)
train_set = torch.utils.data.TensorDataset(torch.tensor(train_x), torch.tensor(train_y))
test_set = torch.utils.data.TensorDataset(torch.tensor(test_x), torch.tensor(test_y))
train_loader = torch.utils.data.DataLoader(train_set, batch_size=batch_size, shuffle=True)
test_loader = torch.utils.data.DataLoader(test_set, batch_size=batch_size, shuffle=False)

snn = SCNN()
criterion = nn.MSELoss()
optimizer = torch.optim.Adam(snn.parameters(), lr=3e-3)

for epoch in range(num_epochs):
    running_loss = 0
    for i, (images, labels) in enumerate(train_loader):
        snn.zero_grad()
        outputs = snn(images)
        labels_ = F.one_hot(labels, num_classes).float()
        loss = criterion(outputs, labels_)
        running_loss += loss.item()
        loss.backward()
        optimizer.step()
    correct = total = 0
    with torch.no_grad():
        for inputs, labels in test_loader:
            predicted = snn(inputs).argmax(1)
            total += labels.size(0)
            correct += (predicted == labels).sum().item()
    print("Epoch %d, loss %.4f, test accuracy %.3f" % (epoch + 1, running_loss / len(train_loader), correct / total))
