"""Convolutional network as nn.Sequential with hidden states, for textures that drift in one of four directions."""
import snntorch as snn
import torch
import torch.nn as nn
from snntorch import surrogate, utils

torch.manual_seed(10)
SIZE, FRAMES, CLASSES = 12, 8, 4


def make_videos(count):
    """Random textures of 12x12 points, shifted by one point per frame: right, left, down, up. [frames, count, 1, 12, 12]"""
    start = (torch.rand(count, SIZE, SIZE) < 0.2).float()
    labels = torch.arange(count) % CLASSES
    shifts = [(0, 1), (0, -1), (1, 0), (-1, 0)]
    frames = []
    for t in range(FRAMES):
        moved = [torch.roll(s, (shifts[k][0] * t, shifts[k][1] * t), dims=(0, 1)) for s, k in zip(start, labels.tolist())]
        frames.append(torch.stack(moved))
    return torch.stack(frames).unsqueeze(2), labels


spike_grad = surrogate.fast_sigmoid(slope=5)
net = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1),
    snn.Leaky(beta=0.6, spike_grad=spike_grad, init_hidden=True, threshold=0.6),
    nn.Conv2d(16, 16, 3, padding=1),
    snn.Leaky(beta=0.6, spike_grad=spike_grad, init_hidden=True, threshold=0.6),
    nn.AvgPool2d(3),
    nn.Flatten(),
    nn.Linear(16 * 16, CLASSES),
    snn.Leaky(beta=0.9, spike_grad=spike_grad, init_hidden=True, output=True, reset_mechanism="none"),
)


def run(videos):
    utils.reset(net)
    potentials = []
    for frame in videos:
        _, mem = net(frame)
        potentials.append(mem)
    return torch.stack(potentials)


train_x, train_y = make_videos(640)
test_x, test_y = make_videos(200)
optimizer = torch.optim.AdamW(net.parameters(), lr=4e-3, weight_decay=1e-2)
loss_fn = nn.CrossEntropyLoss()
for epoch in range(8):
    total = 0.
    for rows in torch.randperm(len(train_y)).split(32):
        mem_rec = run(train_x[:, rows])
        loss = sum(loss_fn(mem, train_y[rows]) for mem in mem_rec[2:]) / (FRAMES - 2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(rows)
    print(f"epoch {epoch + 1}: {total / len(train_y):.4f}")
with torch.no_grad():
    mem_rec = run(test_x)
    print("test accuracy:", (mem_rec[-1].argmax(1) == test_y).float().mean().item())
