"""Policies that remember: MAPPO, MASPO or MARS with a gated recurrent unit in actor and critic.

An agent that sees 5 x 5 cells does not know what it saw before; its policy should be one of the action-observation
history, as in the paper's section on methods. Here a GRU between the two layers of actor and critic carries what is
remembered, h, from step to step:

    h_t = GRU(relu(W1 x_t), h_{t-1}),    logits_t = W2 h_t,    h = 0 where an episode begins

What changes, and nothing else: h is kept between rollouts, and at the start of each stretch of `--sequence-length`
steps; a minibatch is whole stretches of whole environments, through which gradients flow back to the stretch's start;
its h there stays as it was when the rollout was collected. The objectives are those of the three lessons.

    python torch_mars/algos/recurrent.py --method mars --env paxmen_5a

Axes: P seeds, T steps of a rollout, B environments per seed, N agents, K = 1 or N rewards, as in mars.py; a rollout is
C stretches of L steps, and a minibatch S sequences.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from torch_mars.algos import mappo, mars, maspo
from torch_mars.algos.mars import compute_gae, normalise, value_loss
from torch_mars.envs import pool, rng
from torch_mars.envs.core import BatchedEnv, State, TimeStep
from torch_mars.nn import inductor, optimizers, speed, world
from torch_mars.nn.diagnostics import of_episodes, of_minibatch, over_minibatches, weights_of
from torch_mars.nn.distributions import Categorical, TanhNormal
from torch_mars.nn.inputs import Inputs, Running, Unchanged
from torch_mars.nn.layers import Linear
from torch_mars.nn.recurrence import GRU, forgotten
from torch_mars.run import record, screen, settings
from torch_mars.run.cli import guarded

ALGORITHM = "recurrent"
METHODS = {"mappo": mappo, "maspo": maspo, "mars": mars}


@dataclass
class Memory:
    method: str = "mars"
    """whose objective: mars (the default), maspo or mappo; to see the settings of another: --method mappo --help"""
    sequence_length: int = 16
    """steps through which gradients flow back, must divide rollout_length; longer teaches longer memories, slower"""


@dataclass
class MappoArgs(Memory, mappo.Args):
    """The settings of MAPPO, and of memory."""

    method: str = "mappo"


@dataclass
class MaspoArgs(Memory, maspo.Args):
    """The settings of MASPO, and of memory."""

    method: str = "maspo"


@dataclass
class Args(Memory, mars.Args):
    """The settings of MARS, and of memory."""


ARGS = {"mars": Args, "maspo": MaspoArgs, "mappo": MappoArgs}  # the first one counts where nobody says
ALGORITHMS = {f"{method}_rnn": args for method, args in ARGS.items()}  # what runs say that they are of


def ratio_range(args) -> tuple[float, float]:
    """That of the method. UsageError if a setting is out of range."""
    is_whole = type(args) is ARGS.get(args.method)
    settings.require(args, "method", is_whole, f"it must be {type(args).method}, whose settings the others are")
    settings.require_divisor(args, "sequence_length", args.rollout_length, f"--rollout-length {args.rollout_length}")
    sequences = args.rollout_length // args.sequence_length * args.num_envs
    settings.require_divisor(args, "minibatches", sequences, f"the {sequences} sequences of a rollout")
    return METHODS[args.method].ratio_range(args)


def policy_objective(log_ratio: Tensor, advantage: Tensor, args) -> Tensor:
    """J(r, A) of the method."""
    return METHODS[args.method].policy_objective(log_ratio, advantage, args)


# ---- networks ----


class Network(nn.Module):
    """A layer, memory, a layer: sequences [P, S, L, ..., inputs] -> [P, S, L, ..., outputs]."""

    def __init__(self, inputs: int, hidden: int, outputs: int, gain: float, generators: list, agents: int = 0):
        super().__init__()
        self.hidden_1 = Linear(inputs, hidden, 2**0.5, generators, agents, relu=True)
        self.gru = GRU(hidden, hidden, generators, agents)
        self.head = Linear(hidden, outputs, gain, generators, agents)

    def remember(self, x: Tensor, memory: Tensor, is_start: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What is remembered after every step [P, S, L, ..., H], and after the last, from what was before the first."""
        return self.gru(self.hidden_1.by_rows(self.hidden_1, x), memory, is_start)

    def answer(self, remembered: Tensor) -> Tensor:
        return self.head.by_rows(self.head, remembered)


class Actor(mars.Actor):
    """One policy for all agents, or one for each; each agent has a memory of its own, [P, S, N, H]."""

    NETWORK = Network

    def initial_memory(self, *shape: int) -> Tensor:
        """[*shape, H], the memory at the start of an episode."""
        weight = self.network.head.weight
        return weight.new_zeros(*shape, weight.shape[-1]).detach()

    def forward(
        self, obs: Tensor, mask: Tensor | None, memory: Tensor, is_start: Tensor | None = None
    ) -> tuple[Categorical | TanhNormal, Tensor]:
        """Policy and memory after obs [P, S, L, N, O], mask [P, S, L, N, A] or None, and memory [P, S, N, H]."""
        remembered, memory = self.network.remember(self.inputs(obs), memory, is_start)
        return self.distribution(self.network.answer(remembered), mask), memory


class Critic(Network):
    """Values of states [P, S, L, S'], one or one for each agent; independent: of each agent's obs [P, S, L, N, O]."""

    def __init__(self, env: BatchedEnv, args: Args, generators: list[torch.Generator]):
        N, P = env.num_agents, len(generators)
        size, ids = (env.observation_size, N if args.agent_id else 0) if args.independent else (env.state_size, 0)
        values = N if args.value_per_agent and not args.independent else 1
        super().__init__(ids + size, args.hidden_size, values, args.critic_gain, generators)
        self.inputs, self.is_independent = Inputs(size, ids, args, P), args.independent
        self.returns = Running(P, 1) if args.normalise_values else Unchanged()  # from its units to those of returns

    def remember(self, seen: Tensor, memory: Tensor, is_start: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return super().remember(self.inputs(seen), memory, is_start)

    def answer(self, remembered: Tensor) -> Tensor:
        """[P, S, L, 1 or N]"""
        values = super().answer(remembered)
        return values.squeeze(-1) if self.is_independent else values


class Learner(mars.Learner):
    """What training changes: networks, optimisers, and the keys of the policy's random numbers [P]."""

    def __init__(self, args: Args, env: BatchedEnv, seeds: list[int]):
        generators = [torch.Generator().manual_seed(rng.signed(rng.derive(s, "networks"))) for s in seeds]
        self.actor = Actor(env, args, generators).to(env.device)
        self.critic = Critic(env, args, generators).to(env.device)
        self.actor_optimizer = optimizers.Adam(self.actor.parameters(), args.actor_lr, args.adam_eps)
        self.critic_optimizer = optimizers.Adam(self.critic.parameters(), args.critic_lr, args.adam_eps)
        self.key = rng.keys([rng.derive(s, "policy") for s in seeds], len(seeds), env.device)
        self.act = inductor.compiled_on_gpu(act, args, "the policy")


# ---- rollout ----


class Rollout(mars.Rollout):
    """T steps of all environments, and what was remembered at the start of each stretch; the last is the next's."""

    def __init__(self, args: Args, env: BatchedEnv, actor: Actor):
        super().__init__(args, env, actor)
        P, T, B, N = self.log_prob.shape
        C = T // args.sequence_length
        self.actor_memory = actor.initial_memory(P, C + 1, B, N)
        self.critic_memory = actor.initial_memory(P, C + 1, B, *([N] if args.independent else []))
        self.is_start = torch.zeros(P, T + 1, B, dtype=torch.bool, device=env.device)

    def state_dict(self) -> dict:
        """What is remembered between two rollouts."""
        return {"actor": self.actor_memory[:, -1].clone(), "critic": self.critic_memory[:, -1].clone()}

    def load_state_dict(self, content: dict) -> None:
        self.actor_memory[:, -1], self.critic_memory[:, -1] = content["actor"], content["critic"]


def act(obs: Tensor, mask: Tensor | None, noise: Tensor, memory: Tensor, actor: Actor) -> tuple[Tensor, Tensor, Tensor]:
    """Sampled actions and their log-probabilities [P, B, N], for what is seen [P, B, N, O]; the memory then."""
    policy, memory = actor(obs[:, :, None], None if mask is None else mask[:, :, None], memory)
    action = policy.sample(noise[:, :, None])
    return action.squeeze(2), policy.log_prob(action).squeeze(2), memory


def collect(rollout: Rollout, env: BatchedEnv, learner: Learner) -> None:
    """Fill the rollout with T steps of the environments from where they are."""
    noise, learner.key = learner.actor.noise(learner.key, *rollout.log_prob.shape[1:], axis=1)
    speed.in_shares(partial(collect_share, learner), env, noise, rollout)


@torch.no_grad()
def collect_share(learner: Learner, env: BatchedEnv, noise: Tensor, rollout: Rollout) -> None:
    """The same for some of the environments, given the policy's random numbers."""
    P, T, B, N = rollout.log_prob.shape
    length, memory = T // (rollout.actor_memory.shape[1] - 1), rollout.actor_memory[:, -1].clone()

    def see(ts: TimeStep, t: int) -> None:
        rollout.obs[:, t] = ts.obs.view(P, B, N, -1)
        if not rollout.state_is_obs:
            rollout.state[:, t] = ts.state.view(P, B, -1)
        if t % length == 0:
            rollout.actor_memory[:, t // length] = memory

    ts = env.observe()
    for t in range(T):
        see(ts, t)
        mask = None if ts.action_mask is None else ts.action_mask.view(P, B, N, -1)
        if mask is not None:
            rollout.mask[:, t] = mask
        if rollout.is_active is not None:
            rollout.is_active[:, t] = ts.is_active.view(P, B, N)
        action, log_prob, memory = learner.act(rollout.obs[:, t], mask, noise[:, t], memory, learner.actor)
        rollout.action[:, t], rollout.log_prob[:, t] = action, log_prob
        ts = env.step(learner.actor.to_env(action))
        rollout.reward[:, t] = ts.reward[:, : rollout.reward.shape[-1]].view(P, B, -1)
        is_done = (ts.terminated | ts.truncated).view(P, B)
        rollout.is_done[:, t] = rollout.is_start[:, t + 1] = is_done
        rollout.is_truncated[:, t] = ts.truncated.view(P, B)
        memory = forgotten(memory, is_done)
        if rollout.final_state is not None:
            final = ts.final_obs if learner.critic.is_independent else ts.final_state
            rollout.final_state[:, t] = final.view(P, B, *final.shape[1:])
        for name, values in rollout.info.items():
            values[:, t] = ts.info[name].view(P, B)
    see(ts, T)


# ---- advantages ----


@torch.no_grad()
def values_of(critic: Critic, rollout: Rollout, part: slice) -> tuple[Tensor, Tensor | None]:
    """Of the environments `part`: values [P, T + 1, B, 1 or N] and those of `final_state`; memories are stored."""
    state, is_start = (x[:, :, part].transpose(1, 2) for x in (rollout.state, rollout.is_start))
    C = rollout.critic_memory.shape[1] - 1
    length, memory = rollout.log_prob.shape[1] // C, rollout.critic_memory[:, -1, part].clone()
    remembered = []
    for c in range(C):
        rollout.critic_memory[:, c, part] = memory
        steps = slice(c * length, (c + 1) * length)
        of_stretch, memory = critic.remember(state[:, :, steps], memory, is_start[:, :, steps])
        remembered.append(of_stretch)
        memory = forgotten(memory, is_start[:, :, steps.stop])
    rollout.critic_memory[:, C, part] = memory
    remembered.append(critic.remember(state[:, :, -1:], memory)[0])
    remembered = torch.cat(remembered, 2)
    value = critic.answer(remembered).transpose(1, 2)
    if rollout.final_state is None:
        return value, None
    # what follows a step is seen with what is remembered after it: one more step of each
    final, before = rollout.final_state[:, :, part].transpose(1, 2), remembered[:, :, :-1]
    after, _ = critic.remember(final.flatten(1, 2)[:, :, None], before.flatten(1, 2))
    return value, critic.answer(after).unflatten(1, before.shape[1:3]).squeeze(3).transpose(1, 2)


@torch.no_grad()
def advantages(rollout: Rollout, learner: Learner, args: Args) -> tuple[Tensor, Tensor, Tensor]:
    """Advantages [P, T, B, 1 or N]; the critic's answers at collection and its targets, alike, in its own units."""
    samples = rollout.state[0, :, 0].numel() // rollout.state.shape[-1]
    parts = speed.portions(rollout.state[:, 0], samples)
    found = pool.run([partial(values_of, learner.critic, rollout, part) for part in parts])
    answer, final = (None if x[0] is None else torch.cat(x, 2) for x in zip(*found))
    returns, reward = learner.critic.returns, rollout.reward
    value = returns.undo(answer)
    if final is not None:  # what the time limit cut off belongs to the last reward
        reward = reward + args.gamma * returns.undo(final) * rollout.is_truncated[..., None]
    advantage = compute_gae(reward, value, rollout.is_done[..., None], args.gamma, args.gae_lambda)
    target = advantage + value[:, :-1]
    returns.learn(target)
    return advantage, answer[:, :-1], returns(target)


# ---- update ----


def take(x: Tensor, sequences: Tensor, length: int) -> Tensor:
    """Sequences of a minibatch: [P, T or T + 1, B, ...] and their numbers [P, S] in C * B -> [P, S, L, ...]."""
    P, T, B = x.shape[:3]
    first = sequences // B * length * B + sequences % B + T * B * torch.arange(P, device=x.device)[:, None]
    rows = first[..., None] + B * torch.arange(length, device=x.device)
    return x.flatten(0, 2).index_select(0, rows.flatten()).view(*rows.shape, *x.shape[3:])


def losses(
    nudge: Tensor, sequences: Tensor, normalised: Tensor, weight: Tensor | None, noise: Tensor | None,
    experience: tuple[Rollout, Tensor, Tensor], learner: Learner, args: Args,
):  # fmt: skip
    """What sequences [P, S] add to the loss of a minibatch, and what is to be known of each of their steps."""
    rollout, value, target = experience
    P, T, B, N = rollout.log_prob.shape
    L = args.sequence_length

    def of(x: Tensor) -> Tensor:
        return take(x, sequences, L)

    actor_memory, critic_memory = (
        take(x, sequences, 1).squeeze(2) for x in (rollout.actor_memory, rollout.critic_memory)
    )
    mask, is_start = None if rollout.mask is None else of(rollout.mask), of(rollout.is_start)
    policy, _ = learner.actor(of(rollout.obs), mask, actor_memory, is_start)
    log_ratio = policy.log_prob(of(rollout.action)) - of(rollout.log_prob)
    log_ratio = log_ratio + nudge.view_as(log_ratio)  # zeros: their gradient is the objective's force on each sample
    objective = policy_objective(log_ratio, normalised.expand_as(log_ratio), args)
    entropy = policy.entropy(None if noise is None else noise.view(*log_ratio.shape, -1))
    objective, entropy = ((x if weight is None else x * weight).mean(3) for x in (objective, entropy))
    actor_loss = -objective - args.entropy_coef * entropy
    new_value = learner.critic.answer(learner.critic.remember(of(rollout.state), critic_memory, is_start)[0])
    critic_loss = args.value_coef * value_loss(new_value, of(value), of(target), args.value_clip).mean(3)
    loss = (actor_loss + critic_loss).sum() * (args.minibatches / (T * B))  # no weight is in both, no seed in another's
    seen = {"actor_loss": actor_loss, "critic_loss": critic_loss, "entropy": entropy, "log_ratio": log_ratio}
    return loss, {name: x.flatten(1, 2) for name, x in seen.items()}


def update(
    rollout: Rollout, advantage: Tensor, value: Tensor, target: Tensor, learner: Learner, args: Args
) -> dict[str, Tensor]:
    """`epochs` passes over the rollout in minibatches of whole sequences; diagnostics [P] by name."""
    P, T, B, N = rollout.log_prob.shape
    L, allowed = args.sequence_length, ratio_range(args)
    compiled = inductor.compiled(losses, args, "losses and gradients")
    loss = partial(compiled, experience=(rollout, value, target), learner=learner, args=args)
    parameters, noise, logged = [*learner.actor.parameters(), *learner.critic.parameters()], None, []
    for _ in range(args.epochs):
        order, learner.key = world.drawn(rng.permutation, learner.key, T // L * B)  # every rank has its own order
        for sequences in order.chunk(args.minibatches, 1):
            is_active = None if rollout.is_active is None else take(rollout.is_active, sequences, L).flatten(1, 2)
            weight = None if is_active is None else weights_of(is_active)
            normalised = normalise(take(advantage, sequences, L).flatten(1, 2), weight)
            normalised, weight = (x if x is None else x.unflatten(1, (-1, L)) for x in (normalised, weight))
            if not learner.actor.is_discrete:  # a Categorical's entropy is exact, a TanhNormal's estimated
                noise, learner.key = learner.actor.noise(learner.key, sequences.shape[1], L * N)
            seen = speed.differentiate(loss, (sequences, normalised, weight, noise), L * N, parameters)
            seen["force"] = seen["force"].view_as(seen["log_ratio"])
            norms = {
                "actor_grad_norm": learner.actor_optimizer.apply_gradients(args.max_grad_norm),
                "critic_grad_norm": learner.critic_optimizer.apply_gradients(args.max_grad_norm),
            }
            logged.append({**of_minibatch(seen, allowed, is_active), **norms})
    return over_minibatches({name: torch.stack([one[name] for one in logged]) for name in logged[0]})


Carry = tuple[State, Tensor]  # of the environments, and the keys of the policy's random numbers


def iteration(
    carry: Carry, env: BatchedEnv, rollout: Rollout, learner: Learner, args: Args
) -> tuple[Carry, dict[str, Tensor]]:
    """Rollout, advantages, update; the numbers to log [P]. What is not in `carry` is changed in place."""
    env.state, learner.key = carry
    collect(rollout, env, learner)
    diagnostics = update(rollout, *advantages(rollout, learner, args), learner, args)
    learner.actor.inputs.learn(rollout.obs[:, :-1])
    learner.critic.inputs.learn(rollout.state[:, :-1])
    return (env.state, learner.key), {**of_episodes(rollout.is_done, rollout.info), **diagnostics}


# ---- evaluation ----


@torch.no_grad()
def evaluate(env: BatchedEnv, actor: Actor, seeds: list[int], args: Args) -> dict[str, list[list[float]]]:
    """One new episode in each of the P * E environments; for each metric, P lists of E numbers."""
    P, N, names = args.num_seeds, env.num_agents, ("episode_return", *env.metrics)

    def step(carry: tuple) -> tuple:
        env.state, obs, mask, key, memory, is_over, result = carry
        obs = obs.view(P, -1, 1, N, env.observation_size)
        policy, memory = actor(obs, None if mask is None else mask.view(P, -1, 1, N, mask.shape[-1]), memory)
        noise, key = actor.noise(key, obs.shape[1], 1, N)
        action = policy.mode() if args.eval_greedy else policy.sample(noise)
        ts = env.step(actor.to_env(action.squeeze(2)))
        is_end, found = ts.terminated | ts.truncated, torch.stack([ts.info[name].float() for name in names])
        result = torch.where(is_end & ~is_over, found, result)
        return env.state, ts.obs, ts.action_mask, key, memory, is_over | is_end, result

    ts, key = env.reset(seed=seeds), rng.keys([rng.derive(s, "actions") for s in seeds], P, env.device)
    result = torch.zeros(len(names), env.num_envs, dtype=torch.float32, device=env.device)
    memory = actor.initial_memory(P, env.num_envs // P, N)
    carry = env.state, ts.obs, ts.action_mask, key, memory, torch.zeros_like(ts.terminated), result
    *_, result = speed.repeat(step, carry, env.max_steps, lambda carry: carry[5], args.cuda_graphs)
    return {name: values.view(P, -1).tolist() for name, values in zip(names, result)}


# ---- main ----


def main(argv: list[str] | None = None) -> int:
    algorithm = f"{settings.chosen('method', ARGS, ALGORITHM, argv)}_rnn"
    args = settings.parse(ALGORITHMS[algorithm], ratio_range, algorithm, argv)
    steps = args.rollout_length * args.num_envs
    with world.World(args, algorithm) as ranks, record.Run(args, algorithm, steps, ranks) as run:
        return train(args, run)


def train(args: Args, run: record.Run) -> int:
    """A run from its beginning, or from where it was saved, to its end; the exit code."""
    speed.prepare(args.device, args.matmul_precision)
    env, eval_env = run.environments(args.num_envs), run.environments(args.eval_episodes)
    inductor.compile_steps(env, args)
    learner = Learner(args, env, run.seeds)
    run.start_from(actor=learner.actor, critic=learner.critic)
    best = record.BestWeights(learner.actor)
    env.reset()
    rollout = Rollout(args, env, learner.actor)
    parts = {"learner": learner, "env": run.whole(env), "best": best, "memory": run.whole(rollout, axis=1)}
    run.restore(**parts)
    screen.announce(run, env, ratio_range(args), {"actor": learner.actor, "critic": learner.critic})
    good = record.GoodWeights(learner.actor, learner.critic)

    iterate = partial(iteration, env=env, rollout=rollout, learner=learner, args=args)
    if args.cuda_graphs and env.device.type == "cuda":
        iterate = speed.CudaGraph(iterate, run.say)
    for number in run.updates():
        if args.anneal_lr:
            learner.anneal(1 - (number - 1) / run.last_update)
        (env.state, learner.key), numbers = iterate((env.state, learner.key))
        run.log_update(number, numbers)
        good.keep(run.is_good)
        if run.should_evaluate(number):
            seeds = run.seeds_for("evaluation", number)
            episodes = run.of_all_ranks(evaluate(eval_env, learner.actor, seeds, args))
            best.consider(learner.actor, episodes["episode_return"])
            run.log_evaluation(number, episodes)
        run.keep(number, learner.actor, evaluate)
        if run.should_save(number):
            run.save(number, {name: part.state_dict() for name, part in parts.items()})

    if not run.is_stopping:  # the absolute metric: each seed's best policy, measured again over more episodes
        learner.actor.load_state_dict(best.weights)
        env, seeds = run.environments(10 * args.eval_episodes), run.seeds_for("absolute metric")
        run.log_absolute(run.of_all_ranks(evaluate(env, learner.actor, seeds, args)))
        run.save_policy({"actor": best.weights, "returns": best.returns})
    screen.summarise(run)
    return 130 if run.is_stopping else 0


if __name__ == "__main__":
    guarded(main, ALGORITHM)
