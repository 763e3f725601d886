"""Which arm pays? A spiking network estimates the reward of four actions from a context; potentials of neurons that never
fire are the estimates. Learning from logged actions, as in offline Q-learning with one step."""
import torch
import torch.nn as nn
from spikingjelly.activation_based import functional, layer, neuron, surrogate


class NonSpikingLIFNode(neuron.SimpleLIFNode):
    def single_step_forward(self, x: torch.Tensor):
        self.neuronal_charge(x)
        return self.v


class DQSN(nn.Module):
    def __init__(self, input_size, hidden_size, output_size, T=8):
        super().__init__()
        self.fc = nn.Sequential(
            layer.Linear(input_size, hidden_size),
            neuron.IFNode(surrogate_function=surrogate.ATan()),
            layer.Linear(hidden_size, hidden_size),
            neuron.IFNode(surrogate_function=surrogate.ATan()),
            layer.Linear(hidden_size, output_size),
            NonSpikingLIFNode(tau=2.0, decay_input=True),
        )
        self.T = T

    def forward(self, x):
        for t in range(self.T):
            self.fc(x)
        return self.fc[-1].v


def mean_reward(context):
    """Reward (N, 4) of each action: that of the quadrant of the context, less where the context is near 0."""
    left, up = context[:, 0] < 0, context[:, 1] > 0
    right_action = torch.stack([left & up, ~left & up, left & ~up, ~left & ~up], dim=1)
    strength = context[:, :2].abs().amin(1, keepdim=True).clamp(max=1)
    return right_action.float() * (0.5 + 0.5 * strength)


def main():
    torch.manual_seed(6)
    context = torch.randn(2000, 5)
    action = torch.randint(0, 4, (2000,))
    reward = mean_reward(context).gather(1, action.unsqueeze(1)).squeeze(1) + 0.1 * torch.randn(2000)

    policy_net = DQSN(5, 64, 4)
    optimizer = torch.optim.Adam(policy_net.parameters(), lr=4e-3)
    for epoch in range(12):
        for rows in torch.randperm(2000).split(64):
            q_values = policy_net(context[rows])
            state_action_values = q_values.gather(1, action[rows].unsqueeze(1)).squeeze(1)
            loss = nn.functional.smooth_l1_loss(state_action_values, reward[rows])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_value_(policy_net.parameters(), 1.0)
            optimizer.step()
            functional.reset_net(policy_net)
        print(f"episode {epoch} loss {loss.item():.4f}")

    fresh = torch.randn(1000, 5)
    with torch.no_grad():
        chosen = policy_net(fresh).argmax(1)
        functional.reset_net(policy_net)
    best = mean_reward(fresh).argmax(1)
    print(f"best action chosen: {(chosen == best).float().mean().item():.4f}")


if __name__ == "__main__":
    main()
