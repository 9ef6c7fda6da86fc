"""B environments of a task as one TorchRL environment: tensors stay on their device, nothing is stepped one by one.

    env = MarsEnv("smax_2s3z", num_envs=64, device="cuda")
    rollout = env.rollout(100, break_when_any_done=False)  # batch size [64, 100]

Copy this file into your project; it needs `torch_mars` and `torchrl` (0.11 to 0.14 were tried).
"""

from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torchrl.data import Binary, Bounded, Categorical, Composite, TensorSpec, Unbounded
from torchrl.envs import EnvBase

import torch_mars.envs as envs


class MarsEnv(EnvBase):
    """B environments of a task, whose agents are the one group "agents".

    | key | shape | |
    |---|---|---|
    | `("agents", "observation")` | float32 [B, N, O] | |
    | `("agents", "action")` | int64 [B, N] or float32 [B, N, d] | |
    | `("agents", "action_mask")` | bool [B, N, A] | True = allowed; only where actions can be forbidden |
    | `("agents", "reward")` | float32 [B, N, 1] | |
    | `"state"` | float32 [B, S] | what a central critic sees |
    | `"done"`, `"terminated"`, `"truncated"` | bool [B, 1] | |
    | `("info", name)` | float32 [B, 1] | `episode_return`, `episode_length`, metrics; valid where an episode ended |

    An environment whose episode ended has started the next one by itself, with which TorchRL's reset of those that are
    done is answered; in `"next"` stands what the last step led to.

    Args:
        task: a name from `envs.tasks()`, a class of one's own, or `my_module:Gather`.
        num_envs: B.
        device: where the tensors live.
        seed: of the first episodes.
        overrides: options of the environment, e.g. `max_steps=50`.
    """

    def __init__(self, task: Any, num_envs: int, device: Any = "cpu", seed: int = 0, **overrides: Any):
        rules = envs.make(task, num_envs, device, seed, **overrides)
        super().__init__(device=rules.device, batch_size=[num_envs])
        self.rules = rules
        self.group_map = {"agents": list(rules.agents)}
        self._metrics = ["episode_return", "episode_length", *rules.metrics]
        self._next_seed = seed
        self._time_step = rules.reset(seed)
        self._make_specs()

    def _make_specs(self) -> None:
        rules, team = self.rules, (self.num_envs, self.rules.num_agents)
        agents = {"observation": self._unbounded(*team, rules.observation_size)}
        if self._time_step.action_mask is not None:
            masks = (*team, int(rules.action_space.n))
            agents["action_mask"] = Binary(shape=masks, dtype=torch.bool, device=self.device)
        self.observation_spec = self._composite(
            agents=Composite(agents, shape=team, device=self.device),
            state=self._unbounded(self.num_envs, rules.state_size),
            info=self._composite(**{name: self._unbounded(self.num_envs, 1) for name in self._metrics}),
        )
        self.action_spec = self._of_agents("action", self._actions(team))
        self.reward_spec = self._of_agents("reward", self._unbounded(*team, 1))
        flag = Categorical(2, shape=(self.num_envs, 1), dtype=torch.bool, device=self.device)
        self.done_spec = self._composite(done=flag, terminated=flag.clone(), truncated=flag.clone())

    @property
    def num_envs(self) -> int:
        return self.batch_size[0]

    def to(self, device: Any) -> "MarsEnv":
        """Itself. A batch of environments stays where it was made.

        Raises:
            ValueError: another device.
        """
        if torch.empty(0, device=device).device != self._time_step.obs.device:
            raise ValueError(f"environments made on {self.device} stay there; make them with device={str(device)!r}")
        return self

    def _composite(self, **specs: TensorSpec) -> Composite:
        return Composite(specs, shape=self.batch_size, device=self.device)

    def _of_agents(self, name: str, spec: TensorSpec) -> Composite:
        return self._composite(agents=Composite({name: spec}, shape=spec.shape[:2], device=self.device))

    def _unbounded(self, *shape: int) -> Unbounded:
        return Unbounded(shape=shape, dtype=torch.float32, device=self.device)

    def _actions(self, team: tuple[int, int]) -> TensorSpec:
        space = self.rules.action_space
        if not space.shape:
            return Categorical(int(space.n), shape=team, dtype=torch.int64, device=self.device)
        low, high = (torch.from_numpy(bound).expand(*team, -1).clone() for bound in (space.low, space.high))
        return Bounded(low, high, shape=low.shape, dtype=torch.float32, device=self.device)

    def _set_seed(self, seed: int | None) -> None:
        """The next reset of all starts with it."""
        self._next_seed = seed

    def _reset(self, tensordict: TensorDictBase | None = None, **kwargs: Any) -> TensorDict:
        asked = None if tensordict is None else tensordict.get("_reset", None)
        if asked is None:
            self._time_step, self._next_seed = self.rules.reset(self._next_seed), None
        else:
            self._restart(asked.reshape(self.num_envs) & ~(self._time_step.terminated | self._time_step.truncated))
        ts = self._time_step
        return self._seen(ts.obs, ts.state, ts.action_mask, {})

    def _restart(self, rows: torch.Tensor) -> None:
        """Start anew in the environments `rows` (bool [B]) though their episodes did not end."""
        if not rows.any():
            return
        order = [rows.nonzero().squeeze(1), (~rows).nonzero().squeeze(1)]
        shares = [self.rules.share(part) for part in order]
        shares[0].reset()
        self.rules.join(shares, order)
        self._time_step = self.rules.observe()

    def _step(self, tensordict: TensorDictBase) -> TensorDict:
        ts = self._time_step = self.rules.step(tensordict["agents", "action"])
        seen = self._seen(ts.final_obs, ts.final_state, ts.action_mask, ts.info)
        seen["agents", "reward"] = ts.reward[..., None]
        seen["terminated"], seen["truncated"] = ts.terminated[:, None], ts.truncated[:, None]
        seen["done"] = (ts.terminated | ts.truncated)[:, None]
        return seen

    def _seen(self, obs: torch.Tensor, state: torch.Tensor, mask: torch.Tensor | None, info: dict) -> TensorDict:
        agents = TensorDict({"observation": obs}, obs.shape[:2], self.device)
        if mask is not None:
            agents["action_mask"] = mask
            self.full_action_spec["agents", "action"].update_mask(mask)  # for random actions
        nothing = torch.zeros(self.num_envs, device=self.device)
        metrics = {name: info.get(name, nothing).float()[:, None] for name in self._metrics}
        info = TensorDict(metrics, self.batch_size, self.device)
        return TensorDict({"agents": agents, "state": state, "info": info}, self.batch_size, self.device)
