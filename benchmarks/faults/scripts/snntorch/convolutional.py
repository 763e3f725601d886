"""Convolutional network with hidden states inside the neurons, after the snnTorch tutorial on convolutional networks."""
import torch
import torch.nn as nn
import snntorch as snn
from snntorch import surrogate, utils
from snntorch import functional as SF
from sklearn.datasets import load_digits

torch.manual_seed(1)
torch.set_num_threads(1)

digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float).unsqueeze(1) / 16
labels = torch.tensor(digits.target)
order = torch.randperm(len(images))
images, labels = images[order], labels[order]
train_images, train_labels = images[:1400], labels[:1400]
test_images, test_labels = images[1400:], labels[1400:]

spike_grad = surrogate.fast_sigmoid(slope=25)
beta = 0.5
num_steps = 8
batch_size = 50

net = nn.Sequential(
    nn.Conv2d(1, 12, 3, padding=1),
    nn.MaxPool2d(2),
    snn.Leaky(beta=beta, threshold=0.5, spike_grad=spike_grad, init_hidden=True),
    nn.Conv2d(12, 32, 3, padding=1),
    nn.MaxPool2d(2),
    snn.Leaky(beta=beta, threshold=0.5, spike_grad=spike_grad, init_hidden=True),
    nn.Flatten(),
    nn.Linear(32 * 2 * 2, 10),
    snn.Leaky(beta=beta, threshold=0.5, spike_grad=spike_grad, init_hidden=True, output=True),
)


def forward_pass(net, num_steps, data):
    mem_rec = []
    spk_rec = []
    utils.reset(net)
    for step in range(num_steps):
        spk_out, mem_out = net(data)
        spk_rec.append(spk_out)
        mem_rec.append(mem_out)
    return torch.stack(spk_rec), torch.stack(mem_rec)


def accuracy(images, labels):
    net.eval()
    with torch.no_grad():
        spk_rec, _ = forward_pass(net, num_steps, images)
    return SF.accuracy_rate(spk_rec, labels)


loss_fn = SF.ce_rate_loss()
optimizer = torch.optim.Adam(net.parameters(), lr=1e-2, betas=(0.9, 0.999))

for epoch in range(7):
    net.train()
    shuffled = torch.randperm(len(train_images))
    for i in range(0, len(train_images), batch_size):
        batch = shuffled[i:i + batch_size]
        spk_rec, mem_rec = forward_pass(net, num_steps, train_images[batch])
        loss = loss_fn(spk_rec, train_labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print("epoch", epoch, "loss", round(loss.item(), 3))

print("test accuracy", round(float(accuracy(test_images, test_labels)), 4))
