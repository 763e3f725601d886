# %% norse/fifth/cue_memory.py
"""A recurrent network of adaptive neurons remembers which of eight groups of inputs gave the cue, until it is asked."""
import torch
from norse.torch import LIFParameters, LSNNRecurrent, LI
from norse.torch.functional.lsnn import LSNNParameters
from torch import nn

DT = 0.001
GROUPS, PER_GROUP = 8, 5
CUE, DELAY, ANSWER = 12, 14, 10


def trials(n):
    """Spikes (time, n, inputs) and cues: the last eight inputs are noise and the question."""
    cue = torch.randint(0, GROUPS, (n,))
    rate = torch.full((CUE + DELAY + ANSWER, n, GROUPS * PER_GROUP + 8), 0.03)
    for group in range(GROUPS):
        rate[:CUE, cue == group, group * PER_GROUP:(group + 1) * PER_GROUP] = 0.25
    rate[CUE + DELAY:, :, -8:] = 0.3
    return torch.bernoulli(rate), cue


class Memory(nn.Module):
    def __init__(self, n_in, n_hidden, n_out):
        super().__init__()
        lif = LIFParameters(method="super", alpha=torch.tensor(30.0))
        self.recurrent = LSNNRecurrent(
            n_in, n_hidden,
            p=LSNNParameters(tau_mem_inv=1 / torch.tensor(0.02), tau_syn_inv=1 / torch.tensor(0.01),
                             tau_adapt_inv=1 / torch.tensor(0.05), beta=torch.tensor(0.4),
                             v_th=torch.tensor(0.5), method=lif.method, alpha=lif.alpha),
            dt=DT)
        self.out = nn.Linear(n_hidden, n_out)
        self.readout = LI(dt=DT)
        with torch.no_grad():
            self.recurrent.input_weights.normal_(0.0, 1.2)
            self.recurrent.recurrent_weights.normal_(0.0, 0.15)

    def forward(self, spikes):
        hidden, _ = self.recurrent(spikes)
        voltage, _ = self.readout(self.out(hidden))
        return voltage[CUE + DELAY:].mean(0)


torch.manual_seed(12)
model = Memory(GROUPS * PER_GROUP + 8, 64, GROUPS)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
loss_fn = nn.CrossEntropyLoss()
for iteration in range(120):
    spikes, cue = trials(48)
    loss = loss_fn(model(spikes), cue)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 2.0)
    optimizer.step()
    if iteration % 20 == 0:
        print("iteration", iteration, "loss", loss.item())

spikes, cue = trials(500)
with torch.no_grad():
    right = (model(spikes).argmax(1) == cue).float().mean().item()
print("answers right", right)
# %% norse/fifth/current_encoder_digits.py
# Digits as constant currents into encoding neurons, one hidden layer of LIF cells, a leaky integrator for each class
import torch
from norse.torch import ConstantCurrentLIFEncoder, LICell, LIFCell, LIFParameters
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset, random_split


class SNN(torch.nn.Module):
    def __init__(self, input_features, hidden_features, output_features, p=LIFParameters()):
        super().__init__()
        self.hidden_features = hidden_features
        self.fc_in = torch.nn.Linear(input_features, hidden_features, bias=False)
        self.cell = LIFCell(p=p)
        self.fc_out = torch.nn.Linear(hidden_features, output_features, bias=False)
        self.out = LICell()
        torch.nn.init.normal_(self.fc_in.weight, 0.3, 1.0)

    def forward(self, x):
        seq_length = x.shape[0]
        s1 = so = None
        voltages = []
        for ts in range(seq_length):
            z, s1 = self.cell(self.fc_in(x[ts]), s1)
            vo, so = self.out(self.fc_out(z), so)
            voltages.append(vo)
        return torch.stack(voltages)


def decode(x):
    x, _ = torch.max(x, 0)
    return torch.nn.functional.log_softmax(x, dim=1)


class Model(torch.nn.Module):
    def __init__(self, encoder, snn, decoder):
        super().__init__()
        self.encoder = encoder
        self.snn = snn
        self.decoder = decoder

    def forward(self, x):
        return self.decoder(self.snn(self.encoder(x)))


def train(model, loader, optimizer, clip=5.0):
    model.train()
    losses = []
    for data, target in loader:
        optimizer.zero_grad()
        output = model(data)
        loss = torch.nn.functional.nll_loss(output, target)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        losses.append(loss.item())
    return sum(losses) / len(losses)


def test(model, loader):
    model.eval()
    correct = 0
    with torch.no_grad():
        for data, target in loader:
            pred = model(data).argmax(dim=1, keepdim=True)
            correct += pred.eq(target.view_as(pred)).sum().item()
    return correct / len(loader.dataset)


T = 32
LR = 0.004
INPUT_FEATURES = 64
HIDDEN_FEATURES = 100
OUTPUT_FEATURES = 10
EPOCHS = 6

torch.manual_seed(4)
data, target = load_digits(return_X_y=True)
currents = torch.tensor(data / 16 * 2, dtype=torch.float32)
train_part, test_part = random_split(TensorDataset(currents, torch.tensor(target)), [1400, 397])
train_loader = DataLoader(train_part, batch_size=64, shuffle=True)
test_loader = DataLoader(test_part, batch_size=100)

model = Model(
    encoder=ConstantCurrentLIFEncoder(seq_length=T),
    snn=SNN(INPUT_FEATURES, HIDDEN_FEATURES, OUTPUT_FEATURES, p=LIFParameters(alpha=100, v_th=torch.tensor(0.5))),
    decoder=decode,
)
optimizer = torch.optim.Adam(model.parameters(), lr=LR)
for epoch in range(EPOCHS):
    print("epoch", epoch, "loss", train(model, train_loader, optimizer))
print("accuracy", test(model, test_loader))
