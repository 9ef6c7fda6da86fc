"""MAPPO on PaxMen in plain JAX: the network and the schedule of the lessons, as one jitted program per iteration.

    python benchmarks/jax_mappo.py [--num-envs 128] [--num-seeds 1] [--iterations 20] [--as-usual]

What `train_throughput.py` puts beside the lessons, written to be as fast as JAX allows: one program from the rollout's
first action to the update's last step, starts from a pool (`jax_paxmen.py`), the fastest of JAX's random number
generators, donated buffers, networks on flat rows, and on CPU in chunks that stay in a core's cache. A test holds its
update to the lesson's, weight by weight (`tests/test_benchmarks.py`). `--as-usual` is the same method as one would
write it first: agents as an axis, a start drawn for every environment in every step, JAX's own generator, whole
minibatches.

Axes: T steps, B environments, N agents, O observation, S global state.
"""

import argparse
import math
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax_paxmen import PaxMen, Pool, State

# The settings of the lessons on PaxMen: Args and yaml/paxmen.yaml.
HIDDEN_SIZE = 128
ROLLOUT_LENGTH = 128
EPOCHS, MINIBATCHES = 4, 4
GAMMA, GAE_LAMBDA = 0.99, 0.95
LEARNING_RATE, ADAM_EPS, ADAM_BETAS = 5e-4, 1e-8, (0.9, 0.999)
MAX_GRAD_NORM = 0.5
CLIP, VALUE_CLIP, VALUE_COEF, ENTROPY_COEF = 0.2, 0.2, 0.5, 0.01

CPU_CHUNK = 512  # environment steps of a minibatch that go through the networks together

ENV = PaxMen(5)
AS_USUAL = False


class Learner(NamedTuple):
    params: dict  # "actor" and "critic", each a list of (weight, bias)
    mean: dict  # Adam's running means of the gradient and of its square, shaped like params
    square: dict
    count: jax.Array  # Adam's steps
    env: State
    key: jax.Array


class Rollout(NamedTuple):
    obs: jax.Array  # [T, B, N, O]
    state: jax.Array  # [T, B, S]
    action: jax.Array  # [T, B, N]
    log_prob: jax.Array  # [T, B, N]
    reward: jax.Array  # [T, B]
    is_done: jax.Array  # [T, B]


# ---- networks ----


def layers(key, sizes, gain):
    gains = [2**0.5] * (len(sizes) - 2) + [gain]
    keys = jax.random.split(key, len(gains))
    return [
        (jax.nn.initializers.orthogonal(g)(k, (inputs, outputs)), jnp.zeros(outputs))
        for k, g, inputs, outputs in zip(keys, gains, sizes, sizes[1:])
    ]


def forward(network, x):
    for weight, bias in network[:-1]:
        x = jax.nn.relu(x @ weight + bias)
    weight, bias = network[-1]
    return x @ weight + bias


def log_probs(actor, obs):
    """[B, N, O] -> [B, N, A], with the agent's one-hot id in front of its observation."""
    count, agents, _ = obs.shape
    agent_id = jnp.broadcast_to(jnp.eye(agents), (count, agents, agents))
    rows = jnp.concatenate([agent_id, obs], -1)
    if not AS_USUAL:
        rows = rows.reshape(count * agents, -1)  # XLA differentiates flat rows far faster
    return jax.nn.log_softmax(forward(actor, rows)).reshape(count, agents, -1)


def value(critic, state):
    return forward(critic, state)[..., 0]


def chosen(log_prob, action):
    """The action's own, by comparison: XLA's gathers are slow on CPU."""
    return jnp.where(action[..., None] == jnp.arange(ENV.num_actions), log_prob, 0).sum(-1)


# ---- rollout, advantages, update ----


def collect(learner: Learner, pool: Pool) -> tuple[Learner, Rollout]:
    key, noise_key, pick_key = jax.random.split(learner.key, 3)
    num_envs = len(learner.env.layout)
    noise = jax.random.uniform(noise_key, (ROLLOUT_LENGTH, num_envs, ENV.num_agents, 1))
    picks = jax.random.randint(pick_key, (ROLLOUT_LENGTH, num_envs), 0, num_envs if AS_USUAL else len(pool.layout))
    start_keys = jax.random.split(pick_key, ROLLOUT_LENGTH)

    def step(env, drawn):
        noise, pick, start_key = drawn
        starts = ENV.pool(start_key, num_envs) if AS_USUAL else pool
        obs, state = ENV.perceive(env)
        log_prob = log_probs(learner.params["actor"], obs)
        cumulative = jnp.cumsum(jnp.exp(log_prob), -1)
        action = (cumulative <= noise * cumulative[..., -1:]).sum(-1)
        env, reward, is_done = ENV.step(env, action, starts, pick)
        return env, Rollout(obs, state, action, chosen(log_prob, action), reward, is_done)

    env, rollout = jax.lax.scan(step, learner.env, (noise, picks, start_keys))
    return learner._replace(env=env, key=key), rollout


def advantages(learner: Learner, rollout: Rollout) -> tuple[jax.Array, jax.Array]:
    """Advantages and values at collection, [T, B] each."""
    state = jnp.concatenate([rollout.state, ENV.perceive(learner.env)[1][None]])
    old_value = value(learner.params["critic"], state)
    goes_on = 1.0 - rollout.is_done
    delta = rollout.reward + GAMMA * old_value[1:] * goes_on - old_value[:-1]

    def backwards(following, now):
        delta, goes_on = now
        following = delta + GAMMA * GAE_LAMBDA * goes_on * following
        return following, following

    advantage = jax.lax.scan(backwards, jnp.zeros_like(delta[0]), (delta, goes_on), reverse=True)[1]
    return advantage, old_value[:-1]


def loss(params, batch):
    """Of some environment steps, as the mean over them."""
    obs, state, action, old_log_prob, target, old_value, normalised = batch
    log_prob = log_probs(params["actor"], obs)
    ratio = jnp.exp(chosen(log_prob, action) - old_log_prob)
    normalised = normalised[:, None]
    objective = jnp.minimum(ratio * normalised, jnp.clip(ratio, 1 - CLIP, 1 + CLIP) * normalised).mean()
    entropy = -(jnp.exp(log_prob) * log_prob).sum(-1).mean()
    new_value = value(params["critic"], state)
    clipped = old_value + jnp.clip(new_value - old_value, -VALUE_CLIP, VALUE_CLIP)
    errors = 0.5 * jnp.maximum((new_value - target) ** 2, (clipped - target) ** 2)
    return -objective - ENTROPY_COEF * entropy + VALUE_COEF * errors.mean()


def clip_norm(gradients):
    """Of one network."""
    norm = jnp.sqrt(sum((g**2).sum() for g in jax.tree.leaves(gradients)))
    return jax.tree.map(lambda g: g * jnp.minimum(1.0, MAX_GRAD_NORM / norm), gradients)


def adam(learner: Learner, gradients) -> Learner:
    fast, slow = ADAM_BETAS
    count = learner.count + 1
    mean = jax.tree.map(lambda m, g: fast * m + (1 - fast) * g, learner.mean, gradients)
    square = jax.tree.map(lambda s, g: slow * s + (1 - slow) * g**2, learner.square, gradients)
    rate, correction = LEARNING_RATE / (1 - fast**count), 1 - slow**count
    params = jax.tree.map(
        lambda p, m, s: p - rate * m / (jnp.sqrt(s / correction) + ADAM_EPS), learner.params, mean, square
    )
    return learner._replace(params=params, mean=mean, square=square, count=count)


def gradient(params, batch):
    """Of the loss of a minibatch. On CPU as the mean over chunks whose activations stay in a core's cache."""
    rows = len(batch[0])
    chunk = math.gcd(rows, CPU_CHUNK) if jax.default_backend() == "cpu" and not AS_USUAL else rows
    chunks = jax.tree.map(lambda x: x.reshape(rows // chunk, chunk, *x.shape[1:]), batch)

    def add(total, chunk):
        return jax.tree.map(jnp.add, total, jax.grad(loss)(params, chunk)), None

    total = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, params), chunks)[0]
    return jax.tree.map(lambda g: g * (chunk / rows), total)


def update(learner: Learner, rollout: Rollout, advantage, old_value) -> Learner:
    rows = advantage.size
    kept = (rollout.obs, rollout.state, rollout.action, rollout.log_prob, advantage + old_value, old_value, advantage)
    kept = jax.tree.map(lambda x: x.reshape(rows, *x.shape[2:]), kept)

    def minibatch(learner, row):
        *batch, advantage = jax.tree.map(lambda x: x[row], kept)
        normalised = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        gradients = gradient(learner.params, (*batch, normalised))
        return adam(learner, {name: clip_norm(g) for name, g in gradients.items()}), None

    key, order_key = jax.random.split(learner.key)
    if AS_USUAL:
        orders = jax.vmap(lambda key: jax.random.permutation(key, rows))(jax.random.split(order_key, EPOCHS))
    else:
        orders = jnp.argsort(jax.random.bits(order_key, (EPOCHS, rows)))  # jax.random.permutation would sort twice
    return jax.lax.scan(minibatch, learner._replace(key=key), orders.reshape(EPOCHS * MINIBATCHES, -1))[0]


def iterate(learner: Learner, pool: Pool) -> tuple[Learner, jax.Array]:
    """One iteration; the learner and the mean reward of a step."""
    learner, rollout = collect(learner, pool)
    advantage, old_value = advantages(learner, rollout)
    return update(learner, rollout, advantage, old_value), rollout.reward.mean()


# ---- running it ----


def new_learner(key, pool: Pool, num_envs: int) -> Learner:
    key, actor_key, critic_key, pick_key = jax.random.split(key, 4)
    obs, state = jax.eval_shape(lambda p: ENV.perceive(ENV.start(p, jnp.zeros(1, jnp.int32))), pool)
    inputs, hidden = ENV.num_agents + obs.shape[-1], (HIDDEN_SIZE, HIDDEN_SIZE)
    params = {
        "actor": layers(actor_key, (inputs, *hidden, ENV.num_actions), 0.01),
        "critic": layers(critic_key, (state.shape[-1], *hidden, 1), 1.0),
    }
    mean, square = (jax.tree.map(jnp.zeros_like, params) for _ in range(2))
    env = ENV.start(pool, jax.random.randint(pick_key, (num_envs,), 0, len(pool.layout)))
    return Learner(params, mean, square, jnp.zeros((), jnp.int32), env, key)


def training(num_envs: int, num_seeds: int):
    """A function that trains one iteration and returns its mean reward per step [P]; compiled in its first call."""
    key = jax.random.key(0, impl=None if AS_USUAL else "unsafe_rbg")
    pool = ENV.pool(jax.random.fold_in(key, 1))
    keys = jax.random.split(key, num_seeds)
    learners = [new_learner(k, pool, num_envs) for k in keys]
    if num_seeds == 1:
        learner, program = learners[0], iterate
    else:
        learner, program = jax.tree.map(lambda *x: jnp.stack(x), *learners), jax.vmap(iterate, in_axes=(0, None))
    program = jax.jit(program, donate_argnums=0)

    def run():
        nonlocal learner
        learner, reward = program(learner, pool)
        jax.block_until_ready((learner, reward))
        return reward

    run()
    return run


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-envs", type=int, default=128)
    parser.add_argument("--num-seeds", type=int, default=1)
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--as-usual", action="store_true", help="not tuned")
    options = parser.parse_args()
    global AS_USUAL
    AS_USUAL = options.as_usual
    run = training(options.num_envs, options.num_seeds)
    for number in range(1, options.iterations + 1):
        start = time.perf_counter()
        reward = run()
        rate = options.num_seeds * options.num_envs * ROLLOUT_LENGTH / (time.perf_counter() - start)
        if number % 10 == 0:
            returns = ENV.max_steps * reward.mean()
            print(f"iteration {number:5} {rate:12,.0f} env steps/s, mean return about {returns:7.1f}", flush=True)


if __name__ == "__main__":
    main()
