"""REINFORCE with a spiking policy: an agent on a 5x5 field walks to a goal that it sees at the beginning of each episode."""
import torch
from torch import nn
from torch.distributions import Categorical

torch.manual_seed(3)
SIDE, MOVES, BATCH = 5, 8, 64
DIRECTIONS = torch.tensor([[0, 1], [0, -1], [1, 0], [-1, 0]])


class Field:
    """Episodes side by side. The reward is 1 when the goal is reached and -0.05 per move before."""

    def __init__(self, n):
        self.place = torch.randint(0, SIDE, (n, 2))
        self.goal = torch.randint(0, SIDE, (n, 2))
        self.done = (self.place == self.goal).all(1)

    def observe(self):
        eye = torch.eye(SIDE)
        return torch.cat([eye[self.place].flatten(1), eye[self.goal].flatten(1)], 1)

    def move(self, action):
        active = ~self.done
        self.place = torch.where(active[:, None], (self.place + DIRECTIONS[action]).clamp(0, SIDE - 1), self.place)
        arrived = (self.place == self.goal).all(1) & active
        self.done = self.done | arrived
        return (arrived.float() - 0.05 * (active & ~arrived).float()), active.float()


class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v):
        ctx.save_for_backward(v)
        return (v >= 0).float()

    @staticmethod
    def backward(ctx, grad):
        (v,) = ctx.saved_tensors
        return grad * torch.clamp(1 - v.abs(), min=0)


class Policy(nn.Module):
    def __init__(self, steps=5, hidden=64):
        super().__init__()
        self.steps = steps
        self.enter = nn.Linear(4 * SIDE, hidden)
        self.middle = nn.Linear(hidden, hidden)
        self.leave = nn.Linear(hidden, 4)

    def forward(self, seen):
        current = 2 * self.enter(seen)
        v1 = v2 = torch.zeros_like(current)
        logits = 0
        for _ in range(self.steps):
            v1 = 0.8 * v1 + current
            s1 = Spike.apply(v1 - 1)
            v1 = v1 - s1
            v2 = 0.8 * v2 + 2 * self.middle(s1)
            s2 = Spike.apply(v2 - 1)
            v2 = v2 - s2
            logits = logits + self.leave(s2)
        return logits / self.steps


def returns_of(rewards, gamma=0.9):
    """Discounted sum of what follows each move, [moves, episodes]."""
    later, found = torch.zeros(rewards[0].shape), []
    for reward in reversed(rewards):
        later = reward + gamma * later
        found.insert(0, later)
    return torch.stack(found)


policy = Policy()
optimizer = torch.optim.Adam(policy.parameters(), lr=3e-3)
for update in range(400):
    field = Field(BATCH)
    log_probs, rewards, masks = [], [], []
    for _ in range(MOVES):
        choice = Categorical(logits=policy(field.observe()))
        action = choice.sample()
        reward, active = field.move(action)
        log_probs.append(choice.log_prob(action))
        rewards.append(reward)
        masks.append(active)
    mask = torch.stack(masks)
    returns = returns_of(rewards)
    baseline = (returns * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp(min=1)
    advantage = returns - baseline
    loss = -(torch.stack(log_probs) * advantage * mask).sum() / mask.sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if update % 50 == 0:
        print(f"update {update}: arrived {field.done.float().mean():.3f}")

with torch.no_grad():
    field = Field(1000)
    for _ in range(MOVES):
        field.move(policy(field.observe()).argmax(1))
print("arrived", field.done.float().mean().item())
