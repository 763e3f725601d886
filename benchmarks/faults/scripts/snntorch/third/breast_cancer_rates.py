# Breast cancer as Poisson-like spike trains; two populations of output neurons.
import snntorch as snn
import torch
import torch.nn as nn
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import MinMaxScaler
from snntorch import spikegen
from snntorch import functional as SF

STEPS, GROUP = 20, 15
torch.manual_seed(40)


class Tumours(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc_in = nn.Linear(30, 64)
        self.lif_in = snn.Leaky(beta=0.8)
        self.fc_out = nn.Linear(64, 2 * GROUP)
        self.lif_out = snn.Leaky(beta=0.8)

    def forward(self, spikes):
        m_in, m_out = self.lif_in.init_leaky(), self.lif_out.init_leaky()
        record = []
        for step in range(spikes.size(0)):
            s, m_in = self.lif_in(self.fc_in(spikes[step]), m_in)
            s, m_out = self.lif_out(self.fc_out(s), m_out)
            record.append(s)
        return torch.stack(record)


def encode(x):
    return spikegen.rate(torch.tensor(x, dtype=torch.float32), num_steps=STEPS)


def load():
    x, y = load_breast_cancer(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=170, stratify=y, random_state=3)
    scaler = MinMaxScaler()
    x_train = scaler.fit_transform(x_train)
    x_test = scaler.transform(x_test).clip(0, 1)
    return x_train, x_test, torch.tensor(y_train), torch.tensor(y_test)


def main():
    x_train, x_test, y_train, y_test = load()
    net = Tumours()
    loss_fn = SF.ce_count_loss(population_code=True, num_classes=2)
    optimizer = torch.optim.NAdam(net.parameters(), lr=4e-3)
    for epoch in range(25):
        for rows in torch.randperm(len(y_train)).split(40):
            loss = loss_fn(net(encode(x_train[rows])), y_train[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if epoch % 5 == 4:
            print("epoch", epoch + 1, "loss", loss.item())
    with torch.no_grad():
        spikes = net(encode(x_test)).sum(0)
    votes = spikes.unflatten(1, (2, GROUP)).sum(2)
    print("balanced accuracy", balanced_accuracy_score(y_test, votes.argmax(1)))


main()
