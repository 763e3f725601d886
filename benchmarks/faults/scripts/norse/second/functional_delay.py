"""Which of two channels had the first pulse? Functional interface with weights of our own, delayed answer."""
import torch
from norse.torch.functional.lif import LIFFeedForwardState, LIFParameters, lif_feed_forward_step
from norse.torch.functional.leaky_integrator import LIParameters, LIState, li_feed_forward_step

g = torch.manual_seed(41)
T, HIDDEN, BATCH = 25, 7, 64


def trials(n):
    x = torch.zeros(T, n, 6)
    who = torch.randint(0, 3, (n,), generator=g)
    for i in range(n):
        first = int(torch.randint(1, 6, (1,), generator=g))
        gap = int(torch.randint(3, 8, (1,), generator=g))
        rest = [c for c in range(3) if c != who[i]]
        x[first : first + 3, i, who[i]] = 1
        for c in rest:
            x[first + gap : first + gap + 3, i, c] = 1
    x[..., 3:] = 0.3 * torch.rand(T, n, 3, generator=g)
    return x, who


w_in = torch.nn.Parameter(torch.randn(HIDDEN, 6, generator=g) * 0.5)
w_rec = torch.nn.Parameter(torch.randn(HIDDEN, HIDDEN, generator=g) * 0.05)
w_out = torch.nn.Parameter(torch.randn(3, HIDDEN, generator=g) * 0.2)
lif = LIFParameters(tau_syn_inv=torch.tensor(200.0), tau_mem_inv=torch.tensor(100.0), v_th=torch.tensor(0.3), method="super", alpha=torch.tensor(20.0))
li = LIParameters(tau_syn_inv=torch.tensor(200.0), tau_mem_inv=torch.tensor(30.0))


def forward(x):
    n = x.shape[1]
    s = LIFFeedForwardState(v=torch.zeros(n, HIDDEN), i=torch.zeros(n, HIDDEN))
    o = LIState(v=torch.zeros(n, 3), i=torch.zeros(n, 3))
    z = torch.zeros(n, HIDDEN)
    for frame in x:
        z, s = lif_feed_forward_step(frame @ w_in.T + z @ w_rec.T, s, p=lif, dt=0.002)
        v, o = li_feed_forward_step(z @ w_out.T, o, p=li, dt=0.002)
    return v


params = [w_in, w_rec, w_out]
optimiser = torch.optim.Adam(params, lr=1e-2)
x_train, y_train = trials(768)
x_test, y_test = trials(256)
for epoch in range(8):
    for pick in torch.randperm(768, generator=g).split(BATCH):
        loss = torch.nn.functional.cross_entropy(forward(x_train[:, pick]), y_train[pick])
        for w in params:
            w.grad = None
        loss.backward()
        optimiser.step()
    print("epoch", epoch + 1, "loss", round(loss.item(), 3))
with torch.no_grad():
    print("accuracy", (forward(x_test).argmax(1) == y_test).float().mean().item())
