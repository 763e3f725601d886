# A SequentialState of convolutions and leaky integrate-and-fire cells; the state is carried by hand.
import torch
import norse.torch as snn
from sklearn.datasets import load_digits

torch.manual_seed(99)
digits = load_digits()
images = torch.from_numpy(digits.images).float()[:, None] / 16
labels = torch.from_numpy(digits.target)
index = torch.randperm(len(labels))
tr, te = index[:1400], index[1400:]

p = snn.LIFBoxParameters(tau_mem_inv=torch.tensor(200.0), v_th=torch.tensor(0.25), alpha=torch.tensor(30.0))
net = snn.SequentialState(
    torch.nn.Conv2d(1, 16, 3, bias=False),
    snn.LIFBoxCell(p),
    torch.nn.Conv2d(16, 16, 3, stride=2, bias=False),
    snn.LIFBoxCell(p),
    torch.nn.Flatten(),
    torch.nn.Linear(64, 10),
    snn.LICell(),
)


def present(batch, steps=12):
    state = None
    trace = []
    for _ in range(steps):
        out, state = net(4 * batch, state)
        trace.append(out)
    return torch.stack(trace)


optimiser = torch.optim.NAdam(net.parameters(), lr=5e-3)
for epoch in range(4):
    for pick in tr[torch.randperm(len(tr))].chunk(25):
        loss = torch.nn.functional.cross_entropy(present(images[pick])[-1], labels[pick])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    print("epoch", epoch, "loss", float(loss.detach()))

with torch.no_grad():
    accuracy = (present(images[te])[-1].argmax(-1) == labels[te]).double().mean()
print("test accuracy", float(accuracy))
