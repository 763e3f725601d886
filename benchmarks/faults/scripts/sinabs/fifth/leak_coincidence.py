"""Direction of a sound: spikes at two ears, of which one comes some steps later. LIF layers with synapses, leaky readout."""
import sinabs.activation as sina
import sinabs.layers as sl
import torch
from torch import nn

FIBRES, STEPS, CLASSES = 12, 50, 3


def sounds(n, seed):
    """Spikes (n, STEPS, 2 * FIBRES); class k: the right ear is 6 - 6 k steps late."""
    g = torch.Generator().manual_seed(seed)
    label = torch.randint(0, CLASSES, (n,), generator=g)
    left = torch.zeros(n, STEPS, FIBRES)
    clicks = torch.randint(8, 36, (n, 4), generator=g)
    for i in range(n):
        left[i, clicks[i]] = 1.0
    delay = 6 - 6 * label
    right = torch.stack([torch.roll(left[i], int(delay[i]), dims=0) for i in range(n)])
    both = torch.cat([left, right], dim=2)
    keep = (torch.rand(both.shape, generator=g) < 0.8).float()
    noise = (torch.rand(both.shape, generator=g) < 0.01).float()
    return (both * keep + noise).clamp(max=1), label


class Localiser(nn.Module):
    def __init__(self, hidden=64, tau_mem=6.0, tau_syn=4.0):
        super().__init__()
        options = {"norm_input": False, "spike_fn": sina.SingleSpike, "surrogate_grad_fn": sina.SingleExponential(grad_width=0.6)}
        self.net = nn.Sequential(
            nn.Linear(2 * FIBRES, hidden), sl.LIF(tau_mem=tau_mem, tau_syn=tau_syn, **options),
            nn.Linear(hidden, hidden), sl.LIF(tau_mem=tau_mem, **options),
            nn.Linear(hidden, CLASSES), sl.ExpLeak(tau_mem=20.0, norm_input=True),
        )
        with torch.no_grad():
            self.net[0].weight.mul_(4)  # clicks are rare
            self.net[2].weight.mul_(3)

    def forward(self, spikes):
        for layer in self.net:
            if isinstance(layer, sl.StatefulLayer):
                layer.reset_states()
        return self.net(spikes).mean(1)


if __name__ == "__main__":
    torch.manual_seed(5)
    x, y = sounds(800, seed=1)
    test_x, test_y = sounds(300, seed=2)
    model = Localiser()
    optimizer = torch.optim.RAdam(model.parameters(), lr=4e-3)
    for epoch in range(10):
        total = 0.0
        for rows in torch.randperm(len(y)).split(40):
            loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        print(f"epoch {epoch} loss {total / 20:.3f}")
    with torch.no_grad():
        print("test", (model(test_x).argmax(1) == test_y).float().mean().item())
