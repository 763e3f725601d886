import numpy as np
import torch
from torch import nn
import snntorch as snn
from sklearn import datasets, model_selection, preprocessing

RNG = 17
torch.manual_seed(RNG)
np.random.seed(RNG)

X, y = datasets.load_digits(return_X_y=True)
X = preprocessing.MinMaxScaler().fit_transform(X).reshape(-1, 8, 8).astype("float32")
Xtr, Xte, ytr, yte = model_selection.train_test_split(X, y, train_size=1350, random_state=RNG)


class RowReader(nn.Module):
    """Reads an image row by row with two spiking LSTM layers."""

    def __init__(self, width, classes):
        super(RowReader, self).__init__()
        self.first = snn.SLSTM(8, width, threshold=0.2)
        self.second = snn.SLSTM(width, width, threshold=0.2)
        self.head = nn.Linear(width, classes)

    def forward(self, images):
        syn_a, mem_a = self.first.init_slstm()
        syn_b, mem_b = self.second.init_slstm()
        for row in images.unbind(dim=1):
            spk_a, syn_a, mem_a = self.first(row, syn_a, mem_a)
            spk_b, syn_b, mem_b = self.second(spk_a, syn_b, mem_b)
        return self.head(mem_b)


reader = RowReader(64, 10)
optimizer = torch.optim.RMSprop(reader.parameters(), lr=3e-3)
criterion = nn.NLLLoss()
log_softmax = nn.LogSoftmax(dim=1)

n = len(ytr)
for epoch in range(10):
    order = np.random.permutation(n)
    running = 0.0
    for i in range(0, n, 45):
        pick = order[i : i + 45]
        xb, yb = torch.from_numpy(Xtr[pick]), torch.from_numpy(ytr[pick])
        optimizer.zero_grad()
        logp = log_softmax(reader(xb))
        loss = criterion(logp, yb)
        loss.backward()
        optimizer.step()
        running += loss.item() * len(pick)
    print(f"[{epoch:02d}] {running / n:.4f}")

reader.eval()
with torch.no_grad():
    pred = reader(torch.from_numpy(Xte)).argmax(dim=1).numpy()
print("accuracy = %.4f" % (pred == yte).mean())
