# A spiking student learns from the soft targets of a trained teacher (no labels for the student).
import torch
from torch import nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax
from sklearn.datasets import load_digits

torch.manual_seed(12)
TEMPERATURE, STEPS = 2.0, 8
data, target = load_digits(return_X_y=True)
data = torch.from_numpy(data).float() / 16
target = torch.from_numpy(target)
shuffled = torch.randperm(len(target))
train, test = shuffled[:1300], shuffled[1300:]


def make_teacher():
    return nn.Sequential(nn.Linear(64, 200), nn.ReLU(), nn.Dropout(0.2), nn.Linear(200, 10))


class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v):
        ctx.save_for_backward(v)
        return v.gt(0).type_as(v)

    @staticmethod
    def backward(ctx, grad):
        (v,) = ctx.saved_tensors
        return grad / (1 + 3 * v.abs()) ** 2


class Student(nn.Module):
    def __init__(self, hidden=80):
        super().__init__()
        self.first, self.second, self.out = nn.Linear(64, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, 10)

    def forward(self, x):
        v = w = o = 0
        drive = 2 * self.first(x)
        for _ in range(STEPS):
            v = 0.8 * v + drive
            s = Spike.apply(v - 1)
            v = v * (1 - s.detach())
            w = 0.8 * w + self.second(s)
            r = Spike.apply(w - 1)
            w = w * (1 - r.detach())
            o = o + self.out(r)
        return o / STEPS


def batches(rows, size=50):
    return rows[torch.randperm(len(rows))].split(size)


teacher = make_teacher()
teacher_opt = torch.optim.Adam(teacher.parameters(), lr=3e-3)
for _ in range(8):
    for rows in batches(train):
        teacher_opt.zero_grad()
        cross_entropy(teacher(data[rows]), target[rows]).backward()
        teacher_opt.step()
teacher.eval()
print("teacher", (teacher(data[test]).argmax(1) == target[test]).float().mean().item())

student = Student()
student_opt = torch.optim.Adam(student.parameters(), lr=3e-3)
for epoch in range(7):
    for rows in batches(train):
        with torch.no_grad():
            soft = softmax(teacher(data[rows]) / TEMPERATURE, dim=1)
        logits = student(data[rows])
        loss = kl_div(log_softmax(logits / TEMPERATURE, dim=1), soft, reduction="batchmean") * TEMPERATURE**2
        student_opt.zero_grad()
        loss.backward()
        student_opt.step()
    print("epoch", epoch, "distillation loss", loss.item())

with torch.no_grad():
    print("student", (student(data[test]).argmax(1) == target[test]).float().mean().item())
