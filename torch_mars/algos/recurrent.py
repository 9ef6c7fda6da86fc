"""Policies that remember: MAPPO, MASPO or MARS with a gated recurrent unit in actor and critic.

An agent that sees 5 x 5 cells does not know what it saw before; its policy should be one of the action-observation
history, as in the paper's section on methods. Here a GRU between the two layers of actor and critic carries what is
remembered, h, from step to step:

    h_t = GRU(relu(W1 x_t), h_{t-1}),    logits_t = W2 h_t,    h = 0 where an episode begins

What changes, and nothing else: h is kept between rollouts and at the start of each stretch of `--sequence-length` steps;
a minibatch is whole stretches of whole environments, through which gradients flow back to the stretch's start; its h
there stays as it was when the rollout was collected. The objectives are those of the three lessons.

    python torch_mars/algos/recurrent.py --method mars --env paxmen_5a

Axes: P seeds, T steps of a rollout, B environments per seed, N agents, K = 1 or N rewards, as in mars.py; a rollout is
C stretches of L steps, and a minibatch S sequences.
"""

import argparse
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from torch_mars import envs
from torch_mars.algos import mappo, mars, maspo
from torch_mars.algos.mars import compute_gae, normalise, value_loss, with_ids
from torch_mars.envs import pool, rng
from torch_mars.envs.core import BatchedEnv, State
from torch_mars.nn import inductor, optimizers, speed
from torch_mars.nn.diagnostics import of_episodes, of_minibatch, over_minibatches
from torch_mars.nn.distributions import Categorical, TanhNormal
from torch_mars.nn.layers import Linear
from torch_mars.nn.recurrence import GRU
from torch_mars.run import record, screen, settings
from torch_mars.run.cli import guarded

ALGORITHM = "recurrent"
METHODS = {"mappo": mappo, "maspo": maspo, "mars": mars}


@dataclass
class Memory:
    method: str = "mars"
    """whose objective: mappo, maspo or mars"""
    sequence_length: int = 16
    """steps through which gradients flow back, must divide rollout_length; longer teaches longer memories, slower"""


@dataclass
class MappoArgs(Memory, mappo.Args):
    """The settings of MAPPO, and of memory."""


@dataclass
class MaspoArgs(Memory, maspo.Args):
    """The settings of MASPO, and of memory."""


@dataclass
class Args(Memory, mars.Args):
    """The settings of MARS, and of memory."""


ARGS = {"mappo": MappoArgs, "maspo": MaspoArgs, "mars": Args}


def ratio_range(args) -> tuple[float, float]:
    """That of the method. UsageError if a setting is out of range."""
    L, sequences = args.sequence_length, args.rollout_length // args.sequence_length * args.num_envs
    settings.require(args, "sequence_length", args.rollout_length % L == 0, "it must divide --rollout-length")
    settings.require(args, "minibatches", sequences % args.minibatches == 0, f"it must divide {sequences} sequences")
    return METHODS[args.method].ratio_range(args)


def policy_objective(log_ratio: Tensor, advantage: Tensor, args) -> Tensor:
    """J(r, A) of the method."""
    return METHODS[args.method].policy_objective(log_ratio, advantage, args)


# ---- networks ----


class Network(nn.Module):
    """A layer, memory, a layer: sequences [P, S, L, ..., inputs] -> [P, S, L, ..., outputs]."""

    def __init__(self, inputs: int, hidden: int, outputs: int, gain: float, generators: list[torch.Generator]):
        super().__init__()
        self.hidden_1 = Linear(inputs, hidden, 2**0.5, generators, relu=True)
        self.gru = GRU(hidden, hidden, generators)
        self.head = Linear(hidden, outputs, gain, generators)

    def remember(self, x: Tensor, memory: Tensor, is_start: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What is remembered after every step [P, S, L, ..., H], and after the last, from what was before the first."""
        hidden = self.hidden_1(x.flatten(1, -2)).view(*x.shape[:-1], -1)
        return self.gru(hidden, memory, is_start)

    def answer(self, remembered: Tensor) -> Tensor:
        return self.head(remembered.flatten(1, -2)).view(*remembered.shape[:-1], -1)


class Actor(mars.Actor):
    """One policy for all agents; each has a memory of its own, [P, S, N, H]."""

    def __init__(self, env: BatchedEnv, hidden: int, generators: list[torch.Generator]):
        super().__init__(env, hidden, generators)
        self.hidden_size, outputs = hidden, self.network.head.weight.shape[1]
        self.network = Network(env.num_agents + env.observation_size, hidden, outputs, 0.01, generators)

    def nothing(self, *shape: int) -> Tensor:
        """The memory at the start of an episode."""
        return torch.zeros(*shape, self.hidden_size, dtype=torch.float32, device=self.network.head.weight.device)

    def forward(
        self, obs: Tensor, mask: Tensor | None, memory: Tensor, is_start: Tensor | None = None
    ) -> tuple[Categorical | TanhNormal, Tensor]:
        """obs [P, S, L, N, N + O], mask [P, S, L, N, A] or None, memory [P, S, N, H]; the policy and the memory then."""
        remembered, memory = self.network.remember(obs, memory, is_start)
        output = self.network.answer(remembered)
        if self.is_discrete:
            return Categorical(output, mask), memory
        return TanhNormal(output, self.log_std.view(-1, *[1] * (output.dim() - 2), output.shape[-1])), memory


class Critic(Network):
    """Values of states [P, S, L, S'], one or one for each agent; independent: of each agent's obs [P, S, L, N, O]."""

    def __init__(self, args: Args, env: BatchedEnv, generators: list[torch.Generator]):
        self.is_independent = args.independent
        inputs = env.num_agents + env.observation_size if args.independent else env.state_size
        values = env.num_agents if args.value_per_agent and not args.independent else 1
        super().__init__(inputs, args.hidden_size, values, args.critic_gain, generators)

    def remember(self, seen: Tensor, memory: Tensor, is_start: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return super().remember(with_ids(seen) if self.is_independent else seen, memory, is_start)

    def answer(self, remembered: Tensor) -> Tensor:
        """[P, S, L, 1 or N]"""
        values = super().answer(remembered)
        return values.squeeze(-1) if self.is_independent else values


class Learner:
    """What training changes: networks, optimisers, and the keys of the policy's random numbers [P]."""

    def __init__(self, args: Args, env: BatchedEnv, seeds: list[int]):
        generators = [torch.Generator().manual_seed(rng.signed(rng.derive(s, "networks"))) for s in seeds]
        self.actor = Actor(env, args.hidden_size, generators).to(env.device)
        self.critic = Critic(args, env, generators).to(env.device)
        self.actor_optimizer = optimizers.Adam(self.actor.parameters(), args.actor_lr, args.adam_eps)
        self.critic_optimizer = optimizers.Adam(self.critic.parameters(), args.critic_lr, args.adam_eps)
        self.key = rng.keys([rng.derive(s, "policy") for s in seeds], len(seeds), env.device)
        self.act = inductor.compiled_on_gpu(act, args, "the policy")

    PARTS, state_dict, load_state_dict = mars.Learner.PARTS, mars.Learner.state_dict, mars.Learner.load_state_dict


# ---- rollout ----


class Rollout(mars.Rollout):
    """T steps of all environments, and what was remembered at the start of each stretch; the last is of the next one."""

    def __init__(self, args: Args, env: BatchedEnv, actor: Actor):
        super().__init__(args, env, actor)
        P, B, N, C = args.num_seeds, args.num_envs, env.num_agents, args.rollout_length // args.sequence_length
        self.actor_memory = actor.nothing(P, C + 1, B, N)
        self.critic_memory = actor.nothing(P, C + 1, B, *([N] if args.independent else []))
        self.is_start = torch.zeros(P, args.rollout_length + 1, B, dtype=torch.bool, device=env.device)

    def state_dict(self) -> dict:
        """What is remembered between two rollouts."""
        return {"actor": self.actor_memory[:, -1].clone(), "critic": self.critic_memory[:, -1].clone()}

    def load_state_dict(self, content: dict) -> None:
        self.actor_memory[:, -1], self.critic_memory[:, -1] = content["actor"], content["critic"]


def act(
    obs: Tensor, mask: Tensor | None, noise: Tensor, memory: Tensor, actor: Actor
) -> tuple[Tensor, Tensor, Tensor]:
    """Sampled actions and their log-probabilities [P, B, N], for what is seen [P, B, N, O]; the memory then."""
    policy, memory = actor(with_ids(obs)[:, :, None], None if mask is None else mask[:, :, None], memory)
    action = policy.sample(noise[:, :, None])
    return action.squeeze(2), policy.log_prob(action).squeeze(2), memory


def collect(rollout: Rollout, env: BatchedEnv, learner: Learner) -> None:
    """Fill the rollout with T steps of the environments from where they are."""
    noise, learner.key = learner.actor.noise(learner.key, *rollout.log_prob.shape[1:])
    speed.in_shares(partial(collect_share, learner), env, noise, rollout)


@torch.no_grad()
def collect_share(learner: Learner, env: BatchedEnv, noise: Tensor, rollout: Rollout) -> None:
    """The same for some of the environments, given the policy's random numbers."""
    memory = rollout.actor_memory[:, -1]
    length = rollout.log_prob.shape[1] // (rollout.actor_memory.shape[1] - 1)

    def remembering(obs: Tensor, mask: Tensor | None, noise: Tensor, actor: Actor) -> tuple[Tensor, Tensor]:
        nonlocal memory
        t = step["t"]
        if t:
            memory = memory * (~rollout.is_done[:, t - 1, :, None, None]).to(memory.dtype)
        if t % length == 0:
            rollout.actor_memory[:, t // length] = memory
        action, log_prob, memory = learner.act(obs, mask, noise, memory, actor)
        step["t"] += 1
        return action, log_prob

    step = {"t": 0}
    raise NotImplementedError(remembering)
