"""A ReLU network is trained, its weights are taken over by spiking neurons, and tuned for two epochs."""
import torch
from sklearn.datasets import load_digits
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn

torch.manual_seed(7)
T = 16
data, labels = load_digits(return_X_y=True)
data, labels = torch.tensor(data, dtype=torch.float32) / 16, torch.tensor(labels)
order = torch.randperm(1797)
fit, held = order[:1300], order[1300:]


def stack(activation):
    return nn.Sequential(layer.Linear(64, 96), activation(), layer.Linear(96, 64), activation(), layer.Linear(64, 10))


def epochs(model, optimizer, number, forward):
    for _ in range(number):
        for rows in fit[torch.randperm(1300)].split(50):
            loss = nn.functional.cross_entropy(forward(model, data[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def spiking_forward(model, x):
    functional.reset_net(model)
    return model(x.expand(T, -1, -1)).mean(0)


ann = stack(nn.ReLU)
epochs(ann, torch.optim.Adam(ann.parameters(), 2e-3), 8, lambda m, x: m(x))
print("ANN", (ann(data[held]).argmax(1) == labels[held]).float().mean().item())
snn = stack(lambda: neuron.IFNode(v_reset=None, surrogate_function=surrogate.ATan()))
functional.set_step_mode(snn, "m")
snn.load_state_dict(ann.state_dict())
epochs(snn, torch.optim.SGD(snn.parameters(), lr=0.01), 2, spiking_forward)
with torch.no_grad():
    print("SNN", (spiking_forward(snn, data[held]).argmax(1) == labels[held]).float().mean().item())
