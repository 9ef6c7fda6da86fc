"""Teams without a training: fresh networks whose answers are far from each other, saved as a run leaves them."""

import torch

import torch_mars.envs as envs
from torch_mars import algos
from torch_mars.run import files


def fresh_actor(algorithm, task, seeds=1, env_options=(), **settings):
    """The lesson's Actor; what follows from observations, ids and memory is not small beside its biases."""
    lesson, env = algos.known(algorithm), envs.make(task, **dict(env_options))
    args = lesson.Args(hidden_size=8, **settings)
    actor = lesson.Actor(env, args, [torch.Generator().manual_seed(p) for p in range(seeds)])
    draw = torch.Generator().manual_seed(9)
    for name, weight in actor.state_dict().items():
        if name.endswith(("bias", "mean", "log_std")):
            weight.normal_(std=0.5, generator=draw)
        elif name.endswith("variance"):
            weight.exponential_(generator=draw)
        elif name == "network.head.weight":
            weight.mul_(100)
    return actor


def save_team(path, algorithm, task, seeds=1, env_options=(), **settings):
    """`path`, a policy.pt of training seeds 7, 8, ..."""
    actor = fresh_actor(algorithm, task, seeds, env_options, **settings)
    saved = {"env": task, "env_options": dict(env_options), "seed": 7, "hidden_size": 8, **settings}
    content = {"algorithm": algorithm, "task": task, "settings": saved, "actor": dict(actor.state_dict())}
    files.save_checkpoint(path, {**content, "returns": torch.zeros(seeds)})
    return path
