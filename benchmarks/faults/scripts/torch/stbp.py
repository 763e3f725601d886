"""Spatio-temporal backpropagation with a rectangular window, neurons written out."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits

thresh = 0.5
lens = 0.5
decay = 0.2
time_window = 6
batch_size = 50
learning_rate = 2e-3


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
        return grad_input * temp.float()


act_fun = ActFun.apply


def mem_update(ops, x, mem, spike):
    mem = mem * decay * (1. - spike) + ops(x)
    spike = act_fun(mem)
    return mem, spike


class SCNN(nn.Module):
    def __init__(self):
        super(SCNN, self).__init__()
        self.conv1 = nn.Conv2d(1, 16, kernel_size=3, stride=1, padding=1)
        self.conv2 = nn.Conv2d(16, 16, kernel_size=3, stride=1, padding=1)
        self.fc1 = nn.Linear(16 * 2 * 2, 64)
        self.fc2 = nn.Linear(64, 10)

    def forward(self, input):
        n = input.size(0)
        c1_mem = c1_spike = torch.zeros(n, 16, 8, 8)
        c2_mem = c2_spike = torch.zeros(n, 16, 4, 4)
        h1_mem = h1_spike = h1_sumspike = torch.zeros(n, 64)
        h2_mem = h2_spike = h2_sumspike = torch.zeros(n, 10)
        for step in range(time_window):
            x = input > torch.rand(input.size())  # prob. firing
            c1_mem, c1_spike = mem_update(self.conv1, x.float(), c1_mem, c1_spike)
            x = F.avg_pool2d(c1_spike, 2)
            c2_mem, c2_spike = mem_update(self.conv2, x, c2_mem, c2_spike)
            x = F.avg_pool2d(c2_spike, 2)
            x = x.view(n, -1)
            h1_mem, h1_spike = mem_update(self.fc1, x, h1_mem, h1_spike)
            h1_sumspike = h1_sumspike + h1_spike
            h2_mem, h2_spike = mem_update(self.fc2, h1_spike, h2_mem, h2_spike)
            h2_sumspike = h2_sumspike + h2_spike
        return h2_sumspike / time_window


torch.manual_seed(0)
torch.set_num_threads(1)
raw = load_digits()
images = torch.tensor(raw.images).float().unsqueeze(1) / 16.
labels = torch.tensor(raw.target).long()
snn = SCNN()
criterion = nn.MSELoss()
optimizer = torch.optim.Adam(snn.parameters(), lr=learning_rate)

for epoch in range(12):
    running_loss = 0
    perm = torch.randperm(1400)
    for i in range(1400 // batch_size):
        idx = perm[i * batch_size:(i + 1) * batch_size]
        snn.zero_grad()
        outputs = snn(images[idx])
        labels_ = torch.zeros(batch_size, 10).scatter_(1, labels[idx].view(-1, 1), 1)
        loss = criterion(outputs, labels_)
        running_loss += loss.item()
        loss.backward()
        optimizer.step()
    print('Epoch [%d], Loss: %.5f' % (epoch + 1, running_loss / 28))

with torch.no_grad():
    outputs = snn(images[1400:])
    _, predicted = outputs.max(1)
    acc = 100. * float(predicted.eq(labels[1400:]).sum().item()) / 397
print('Test Accuracy of the model on the test images: %.3f' % (acc / 100))
