"""MAPPO: multi-agent PPO, a trust region by clipping the ratio.

For every agent and step, with ratio r = pi_new(a|o) / pi_old(a|o) and advantage A, MAPPO maximises (Yu et al. 2022)

    J = min(r A, clip(r, 1 - e, 1 + e) A)

Within the range the gradient dJ/dr is A, at full strength. Where r has left it on the side that A pushes towards, the
gradient is 0: nothing pulls an action back that went too far, whatever carried it there.

The number to remember: an action lost four fifths of its probability (r = 0.2) although it was only slightly bad. The
pull that brings it back, dJ / dlog r at A = -1, is 0 in MAPPO (clipped), 0.12 in MASPO (e = 0.5) and 3.6 in MARS
(r* = 1/1.5); as r -> 0, MASPO's pull fades and MARS's grows without bound.

    python torch_mars/algos/mappo.py --env paxmen_5a --clip 0.2

Ablation: `--clip-low` and `--clip-high` give the two ends of the range widths of their own.

Axes: P seeds trained side by side, T steps of a rollout, B environments per seed, N agents, K = 1 for a team reward or
N for rewards per agent. Every weight has a leading P axis; seeds share nothing but the process.
"""

from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from torch_mars.envs import rng
from torch_mars.envs.core import BatchedEnv, State, TimeStep
from torch_mars.nn import inductor, optimizers, speed, world
from torch_mars.nn.diagnostics import of_episodes, of_minibatch, over_minibatches, weights_of
from torch_mars.nn.distributions import Categorical, Policy, TanhNormal
from torch_mars.nn.inputs import Inputs, Running, Unchanged
from torch_mars.nn.layers import Linear
from torch_mars.run import record, screen, settings
from torch_mars.run.cli import guarded
from torch_mars.run.settings import RunArgs

ALGORITHM = "mappo"


@dataclass
class Args(RunArgs):
    clip: float = 0.2
    """e: ratios may move within 1 - e and 1 + e"""
    clip_low: float | None = field(default=None, metadata={"replaces": "clip"})
    """asymmetric ablation, with --clip-high: the lower end is 1 - clip_low; replaces clip"""
    clip_high: float | None = field(default=None, metadata={"replaces": "clip"})
    """asymmetric ablation, with --clip-low: the upper end is 1 + clip_high; replaces clip"""

    # ---- the same in every lesson from here to the objective ----
    # ---- learning ----
    rollout_length: int = 128
    """steps of every environment between two updates"""
    epochs: int = 4
    """passes over a rollout; more learn more from it, lower when ratio_max or approx_kl run away"""
    minibatches: int = 4
    """minibatches per epoch, must divide rollout_length x num_envs; more are noisier steps: lower when returns jump"""
    actor_lr: float = 5e-4
    """learning rate of the actor's Adam; lower when returns rise and collapse again, raise when ratios stay near 1"""
    critic_lr: float = 5e-4
    """learning rate of the critic's Adam; lower when critic_loss jumps, raise when values lag behind the returns"""
    entropy_coef: float = 0.01
    """weight of the entropy bonus; lower when entropy stays high and returns flat, raise when it dies early"""
    value_coef: float = 0.5
    """weight of the value loss"""
    value_per_agent: bool = False
    """whether the critic values the state for each agent, where agents have rewards of their own, not once for all"""
    independent: bool = False
    """whether the critic sees an agent's own observation, as in IPPO, not the state of all"""
    value_clip: float = 0.2
    """how far a value may move in one update, in units of return; lower when values swing, raise for large returns"""
    gamma: float = 0.99
    """discount factor"""
    gae_lambda: float = 0.95
    """lambda of generalised advantage estimation"""
    adam_eps: float = 1e-5
    """epsilon of both Adams: weights with gradients much smaller than it hardly move"""
    max_grad_norm: float = 0.5
    """bound on the gradient norm, for actor and critic each"""
    hidden_size: int = 128
    """width of the two hidden layers of actor and critic"""
    critic_gain: float = 1.0
    """scale of the critic's first values; lower where raw units in the state make them large beside returns"""
    bootstrap_truncation: bool = False
    """whether a time limit is bootstrapped with the value of the last state, instead of counting as an end"""
    anneal_lr: bool = False
    """whether both learning rates fall, by the same amount every update, to 0 after total_steps"""
    normalise_obs: bool = False
    """whether networks see observations and states with mean 0 and deviation 1 over all that came before"""
    normalise_values: bool = False
    """whether the critic predicts returns with mean 0 and deviation 1; value_clip is then in units of that deviation"""
    shared_policy: bool = True
    """whether all agents act by the same weights; otherwise each has an actor of its own"""
    agent_id: bool = True
    """whether a one-hot id stands in front of what an agent sees"""
    ignore_inactive: bool = False
    """whether agents that are out of the game are left out of objective, entropy and diagnostics"""


# ---- the objective: where the three lessons differ ----


def ratio_range(args: Args) -> tuple[float, float]:
    """The ends (1 - e, 1 + e) of the clipping range. UsageError if it is out of range."""
    if args.clip_low is None and args.clip_high is None:
        settings.require(args, "clip", 0 < args.clip < 1, "it must be between 0 and 1")
        return 1 - args.clip, 1 + args.clip
    settings.require(args, "clip_low", args.clip_low is not None, "--clip-high needs it: between 0 and 1")
    settings.require(args, "clip_high", args.clip_high is not None, "--clip-low needs it: greater than 0")
    settings.require(args, "clip_low", 0 < args.clip_low < 1, "it must be between 0 and 1")
    settings.require(args, "clip_high", 0 < args.clip_high < 1e6, "it must be greater than 0 (and below 1e6)")
    return 1 - args.clip_low, 1 + args.clip_high


def policy_objective(log_ratio: Tensor, advantage: Tensor, args: Args) -> Tensor:
    """J(r, A), elementwise, to be maximised."""
    low, high = ratio_range(args)
    ratio = bound(log_ratio).exp()
    unclipped, clipped = ratio * advantage, ratio.clamp(low, high) * advantage
    # the minimum; at a tie torch.minimum would halve the gradient, where clamp has none at its bounds (PyTorch 2.14)
    return torch.where(unclipped <= clipped, unclipped, clipped)


# ---- the same in every lesson from here to the end ----


def bound(log_ratio: Tensor, limit: float = 20.0) -> Tensor:
    """Saturate the value of |log_ratio| at `limit` and leave its gradient alone.

    Nothing overflows, yet outliers are still pulled back: an ordinary clamp would drop exactly their gradient.
    """
    return log_ratio.clamp(-limit, limit).detach() + (log_ratio - log_ratio.detach())


# ---- networks ----


class Network(nn.Module):
    """Two hidden layers: [P, ..., inputs] -> [P, ..., outputs]; for `agents`, [P, ..., N, inputs], N such networks."""

    def __init__(self, inputs: int, hidden: int, outputs: int, gain: float, generators: list, agents: int = 0):
        super().__init__()
        self.hidden_1 = Linear(inputs, hidden, 2**0.5, generators, agents, relu=True)
        self.hidden_2 = Linear(hidden, hidden, 2**0.5, generators, agents, relu=True)
        self.head = Linear(hidden, outputs, gain, generators, agents)

    def forward(self, x: Tensor) -> Tensor:
        return self.head.by_rows(lambda rows: self.head(self.hidden_2(self.hidden_1(rows))), x)


class Actor(Policy):
    """One policy for all agents, or one for each, told apart by a one-hot id in front of the observation."""

    NETWORK = Network

    def __init__(self, env: BatchedEnv, args: "Args", generators: list[torch.Generator]):
        N, P, agents = env.num_agents, len(generators), 0 if args.shared_policy else env.num_agents
        super().__init__(env.action_space, P, agents)
        self.inputs = Inputs(env.observation_size, N if args.agent_id else 0, args, P)
        self.network = self.NETWORK(self.inputs.size, args.hidden_size, self.outputs, 0.01, generators, agents)

    def forward(self, obs: Tensor, mask: Tensor | None) -> Categorical | TanhNormal:
        """obs [P, ..., N, O], mask [P, ..., N, A] or None."""
        return self.distribution(self.network(self.inputs(obs)), mask)


class Critic(Network):
    """Values of a state [P, ..., S], one or one for each agent; independent: of each agent's obs [P, ..., N, O]."""

    def __init__(self, env: BatchedEnv, args: "Args", generators: list[torch.Generator]):
        N, P = env.num_agents, len(generators)
        size, ids = (env.observation_size, N if args.agent_id else 0) if args.independent else (env.state_size, 0)
        values = N if args.value_per_agent and not args.independent else 1
        super().__init__(ids + size, args.hidden_size, values, args.critic_gain, generators)
        self.inputs, self.is_independent = Inputs(size, ids, args, P), args.independent
        self.returns = Running(P, 1) if args.normalise_values else Unchanged()  # from its units to those of returns

    def forward(self, seen: Tensor) -> Tensor:
        """[P, ..., 1 or N]"""
        values = super().forward(self.inputs(seen))
        return values.squeeze(-1) if self.is_independent else values


class Learner:
    """What training changes: networks, optimisers, and the keys of the policy's random numbers [P]."""

    def __init__(self, args: Args, env: BatchedEnv, seeds: list[int]):
        generators = [torch.Generator().manual_seed(rng.signed(rng.derive(s, "networks"))) for s in seeds]
        self.actor = Actor(env, args, generators).to(env.device)
        self.critic = Critic(env, args, generators).to(env.device)
        self.actor_optimizer = optimizers.Adam(self.actor.parameters(), args.actor_lr, args.adam_eps)
        self.critic_optimizer = optimizers.Adam(self.critic.parameters(), args.critic_lr, args.adam_eps)
        self.key = rng.keys([rng.derive(s, "policy") for s in seeds], len(seeds), env.device)
        self.act = inductor.compiled_on_gpu(act, args, "the policy")

    PARTS = ("actor", "critic", "actor_optimizer", "critic_optimizer")

    def state_dict(self) -> dict:
        return {**{part: getattr(self, part).state_dict() for part in self.PARTS}, "key": self.key}

    def load_state_dict(self, content: dict) -> None:
        self.key = content["key"].to(self.key.device)
        for part in self.PARTS:
            getattr(self, part).load_state_dict(content[part])

    def anneal(self, remaining: float) -> None:
        """Learning rates are this share of what they were at first."""
        self.actor_optimizer.anneal(remaining)
        self.critic_optimizer.anneal(remaining)


# ---- rollout ----


class Rollout:
    """T steps of all environments, in memory that is used again for every rollout."""

    def __init__(self, args: Args, env: BatchedEnv, actor: Actor):
        P, T, N = args.num_seeds, args.rollout_length, env.num_agents
        B = env.num_envs // P  # of several ranks, those of this one
        K = 1 if env.has_shared_reward else N

        def zeros(*shape, dtype=torch.float32):
            return torch.zeros(shape, dtype=dtype, device=env.device)

        self.obs = zeros(P, T + 1, B, N, env.observation_size)
        self.state_is_obs = args.independent or env.state_is_obs  # then `state` is a view of what agents see
        if self.state_is_obs:
            self.state = self.obs if args.independent else self.obs.flatten(3)
        else:
            self.state = zeros(P, T + 1, B, env.state_size)
        ts = env.observe()
        self.mask = None if ts.action_mask is None else zeros(P, T, B, *ts.action_mask.shape[1:], dtype=torch.bool)
        can_be_out = ts.is_active is not None
        reason = f"all agents of {args.env} always act"
        settings.require(args, "ignore_inactive", can_be_out or not args.ignore_inactive, reason)
        self.is_active = zeros(P, T, B, N, dtype=torch.bool) if args.ignore_inactive else None
        self.action = zeros(P, T, B, N, *actor.action_shape, dtype=torch.int64 if actor.is_discrete else torch.float32)
        self.log_prob = zeros(P, T, B, N)
        self.reward = zeros(P, T, B, K)
        self.is_done = zeros(P, T, B, dtype=torch.bool)
        self.is_truncated = zeros(P, T, B, dtype=torch.bool)  # by the time limit only
        self.final_state = zeros(P, T, B, *self.state.shape[3:]) if args.bootstrap_truncation else None
        self.info = {name: zeros(P, T, B) for name in ("episode_return", "episode_length", *env.metrics)}


def act(obs: Tensor, mask: Tensor | None, noise: Tensor, actor: Actor) -> tuple[Tensor, Tensor]:
    """Sampled actions and their log-probabilities [P, B, N], for what is seen [P, B, N, O]."""
    policy = actor(obs, mask)
    action = policy.sample(noise)
    return action, policy.log_prob(action)


def collect(rollout: Rollout, env: BatchedEnv, learner: Learner) -> None:
    """Fill the rollout with T steps of the environments from where they are."""
    noise, learner.key = learner.actor.noise(learner.key, *rollout.log_prob.shape[1:], axis=1)
    speed.in_shares(partial(collect_share, learner), env, noise, rollout)


@torch.no_grad()
def collect_share(learner: Learner, env: BatchedEnv, noise: Tensor, rollout: Rollout) -> None:
    """The same for some of the environments, given the policy's random numbers."""
    P, T, B, N = rollout.log_prob.shape

    def see(ts: TimeStep, t: int) -> None:
        rollout.obs[:, t] = ts.obs.view(P, B, N, -1)
        if not rollout.state_is_obs:
            rollout.state[:, t] = ts.state.view(P, B, -1)

    ts = env.observe()
    for t in range(T):
        see(ts, t)
        mask = None if ts.action_mask is None else ts.action_mask.view(P, B, N, -1)
        if mask is not None:
            rollout.mask[:, t] = mask
        if rollout.is_active is not None:
            rollout.is_active[:, t] = ts.is_active.view(P, B, N)
        action, log_prob = learner.act(rollout.obs[:, t], mask, noise[:, t], learner.actor)
        rollout.action[:, t], rollout.log_prob[:, t] = action, log_prob
        ts = env.step(learner.actor.to_env(action))
        rollout.reward[:, t] = ts.reward[:, : rollout.reward.shape[-1]].view(P, B, -1)
        rollout.is_done[:, t] = (ts.terminated | ts.truncated).view(P, B)
        rollout.is_truncated[:, t] = ts.truncated.view(P, B)
        if rollout.final_state is not None:
            final = ts.final_obs if learner.critic.is_independent else ts.final_state
            rollout.final_state[:, t] = final.view(P, B, *final.shape[1:])
        for name, values in rollout.info.items():
            values[:, t] = ts.info[name].view(P, B)
    see(ts, T)


# ---- advantages ----


def compute_gae(reward: Tensor, value: Tensor, is_done: Tensor, gamma: float, gae_lambda: float) -> Tensor:
    """Generalised advantage estimates [P, T, ...].

    Args:
        reward: [P, T, ...]. value: [P, T + 1, ...], the last one of the state after the rollout.
        is_done: bool [P, T, ...], nothing is carried over such a step.
    """
    goes_on = (~is_done).to(reward.dtype)
    delta = reward + gamma * value[:, 1:] * goes_on - value[:, :-1]
    decay = gamma * gae_lambda * goes_on
    advantage = torch.empty_like(delta)
    following = torch.zeros_like(delta[:, 0])
    for t in reversed(range(delta.shape[1])):
        following = torch.addcmul(delta[:, t], decay[:, t], following, out=advantage[:, t])
    return advantage


@torch.no_grad()
def advantages(rollout: Rollout, learner: Learner, args: Args) -> tuple[Tensor, Tensor, Tensor]:
    """Advantages [P, T, B, 1 or N]; the critic's answers at collection and its targets, alike, in its own units."""
    returns, answer = learner.critic.returns, speed.in_portions(learner.critic, rollout.state)
    value, reward = returns.undo(answer), rollout.reward
    if args.bootstrap_truncation:  # what the time limit cut off belongs to the last reward
        final_value = returns.undo(speed.in_portions(learner.critic, rollout.final_state))
        reward = reward + args.gamma * final_value * rollout.is_truncated[..., None]
    advantage = compute_gae(reward, value, rollout.is_done[..., None], args.gamma, args.gae_lambda)
    target = advantage + value[:, :-1]
    returns.learn(target)
    return advantage, answer[:, :-1], returns(target)


def normalise(advantage: Tensor, weight: Tensor | None = None) -> Tensor:
    """Zero mean and unit (population) deviation over a minibatch [P, rows, K], for each seed by itself.

    The minibatch is that of all ranks. `weight` counts where agents have advantages of their own: those that act.
    """
    weight = 1.0 if weight is None or advantage.shape[2] == 1 else weight
    mean = world.mean_((advantage * weight).mean((1, 2), keepdim=True))
    variance = world.mean_(((advantage - mean).square() * weight).mean((1, 2), keepdim=True))
    return (advantage - mean) / (variance.sqrt() + 1e-8)


# ---- update ----


def value_loss(value: Tensor, old_value: Tensor, target: Tensor, clip: float) -> Tensor:
    """0.5 max((V - target)^2, (V_clipped - target)^2), elementwise."""
    clipped = old_value + (value - old_value).clamp(-clip, clip)
    return 0.5 * torch.maximum((value - target).square(), (clipped - target).square())


def take(x: Tensor, rows: Tensor) -> Tensor:
    """[P, T or T + 1, B, ...] -> those environment steps whose numbers, over all seeds, are `rows`: [P, rows, ...]."""
    return x.flatten(0, 2).index_select(0, rows.flatten()).view(*rows.shape, *x.shape[3:])


def losses(
    nudge: Tensor, rows: Tensor, normalised: Tensor, weight: Tensor | None, noise: Tensor | None,
    experience: tuple[Rollout, Tensor, Tensor], learner: Learner, args: Args,
):  # fmt: skip
    """What environment steps `rows` [P, rows] add to the loss of a minibatch, and what is to be known of each.

    `nudge` [P, rows, N] is 0; as it is added to log r, its gradient is the objective's force on each sample.
    """
    rollout, value, target = experience
    P, T, B, N = rollout.log_prob.shape
    rows_seen = rows + B * torch.arange(P, device=rows.device)[:, None]  # of what is seen there are T + 1 steps
    mask = None if rollout.mask is None else take(rollout.mask, rows)
    policy = learner.actor(take(rollout.obs, rows_seen), mask)
    log_ratio = policy.log_prob(take(rollout.action, rows)) - take(rollout.log_prob, rows)
    log_ratio = log_ratio + nudge
    objective = policy_objective(log_ratio, normalised.expand_as(log_ratio), args)
    entropy = policy.entropy(noise)
    objective, entropy = ((x if weight is None else x * weight).mean(2) for x in (objective, entropy))
    actor_loss = -objective - args.entropy_coef * entropy
    new_value = learner.critic(take(rollout.state, rows_seen))
    errors = value_loss(new_value, take(value, rows), take(target, rows), args.value_clip)
    critic_loss = args.value_coef * errors.mean(2)  # one value for all meets the targets of each: it learns their mean
    loss = (actor_loss + critic_loss).sum() * (args.minibatches / (T * B))  # no weight is in both, no seed in another's
    return loss, {"actor_loss": actor_loss, "critic_loss": critic_loss, "entropy": entropy, "log_ratio": log_ratio}


def update(
    rollout: Rollout, advantage: Tensor, value: Tensor, target: Tensor, learner: Learner, args: Args
) -> dict[str, Tensor]:
    """`epochs` passes over the rollout in minibatches of whole environment steps; diagnostics [P] by name."""
    P, T, B, N = rollout.log_prob.shape
    first = T * B * torch.arange(P, device=advantage.device)[:, None]  # row of each seed
    compiled = inductor.compiled(losses, args, "losses and gradients")
    loss = partial(compiled, experience=(rollout, value, target), learner=learner, args=args)
    parameters, noise, logged = [*learner.actor.parameters(), *learner.critic.parameters()], None, []
    for _ in range(args.epochs):
        order, learner.key = world.drawn(rng.permutation, learner.key, T * B)  # every rank has an order of its own
        for rows in (first + order).chunk(args.minibatches, 1):
            is_active = None if rollout.is_active is None else take(rollout.is_active, rows)
            weight = None if is_active is None else weights_of(is_active)
            normalised = normalise(take(advantage, rows), weight)
            if not learner.actor.is_discrete:  # a Categorical's entropy is exact, a TanhNormal's estimated
                noise, learner.key = learner.actor.noise(learner.key, rows.shape[1], N)
            seen = speed.differentiate(loss, (rows, normalised, weight, noise), N, parameters)
            norms = {
                "actor_grad_norm": learner.actor_optimizer.apply_gradients(args.max_grad_norm),
                "critic_grad_norm": learner.critic_optimizer.apply_gradients(args.max_grad_norm),
            }
            logged.append({**of_minibatch(seen, ratio_range(args), is_active), **norms})
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
        env.state, obs, mask, key, is_over, result = carry
        obs = obs.view(P, -1, N, env.observation_size)
        policy = actor(obs, None if mask is None else mask.view(P, -1, N, mask.shape[-1]))
        noise, key = actor.noise(key, obs.shape[1], N)
        ts = env.step(actor.to_env(policy.mode() if args.eval_greedy else policy.sample(noise)))
        is_end, found = ts.terminated | ts.truncated, torch.stack([ts.info[name].float() for name in names])
        result = torch.where(is_end & ~is_over, found, result)
        return env.state, ts.obs, ts.action_mask, key, is_over | is_end, result

    ts, key = env.reset(seed=seeds), rng.keys([rng.derive(s, "actions") for s in seeds], P, env.device)
    result = torch.zeros(len(names), env.num_envs, dtype=torch.float32, device=env.device)
    carry = env.state, ts.obs, ts.action_mask, key, torch.zeros_like(ts.terminated), result
    *_, result = speed.repeat(step, carry, env.max_steps, lambda carry: carry[4], args.cuda_graphs)
    return {name: values.view(P, -1).tolist() for name, values in zip(names, result)}


# ---- main ----


def main(argv: list[str] | None = None) -> int:
    args = settings.parse(Args, ratio_range, ALGORITHM, argv)
    steps = args.rollout_length * args.num_envs
    with world.World(args, ALGORITHM) as ranks, record.Run(args, ALGORITHM, steps, ranks) as run:
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
    parts = {"learner": learner, "env": run.whole(env), "best": best}
    run.restore(**parts)
    screen.announce(run, env, ratio_range(args), {"actor": learner.actor, "critic": learner.critic})
    good = record.GoodWeights(learner.actor, learner.critic)
    rollout = Rollout(args, env, learner.actor)

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
