"""An ANN is turned into a spiking network and trained as such."""
import numpy as np
import sinabs
import torch
from sinabs.from_torch import from_model
from sklearn.datasets import make_classification
from torch import nn

torch.manual_seed(70)
np.random.seed(70)

x, y = make_classification(1600, 20, n_informative=10, n_redundant=4, n_classes=4, n_clusters_per_class=1, class_sep=1.6, random_state=70)
x = torch.tensor((x - x.mean(0)) / x.std(0), dtype=torch.float32)
y = torch.tensor(y)

ann = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))
STEPS, BATCH = 10, 40
snn = from_model(ann, input_shape=(20,), batch_size=BATCH, add_spiking_output=False).spiking_model
optim = torch.optim.Adam(snn.parameters(), lr=2e-3)


def logits(batch):
    sinabs.reset_states(snn)
    repeated = batch.repeat_interleave(STEPS, 0)
    return snn(repeated).view(len(batch), STEPS, -1).mean(1)


for epoch in range(6):
    for pick in torch.randperm(1200).split(BATCH):
        loss = nn.functional.cross_entropy(logits(x[pick]), y[pick])
        optim.zero_grad()
        loss.backward()
        optim.step()
    print("loss", loss.item())

with torch.no_grad():
    right = torch.cat([logits(part).argmax(1) for part in x[1200:].split(BATCH)]) == y[1200:]
print("accuracy", right.float().mean().item())
