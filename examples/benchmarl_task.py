"""Every task of `torch_mars` as a BenchMARL task: `MarsTask("paxmen_4a")` goes where BenchMARL takes a `TaskClass`.

    Experiment(task=MarsTask("smax_2s3z"), algorithm_config=MappoConfig.get_from_yaml(), ...)

Copy this file and `torchrl_env.py` into your project; they need `torch_mars` and `benchmarl` (1.5.2 was tried).
"""

from collections.abc import Callable
from typing import Any

from benchmarl.environments.common import TaskClass
from tensordict import TensorDictBase
from torchrl.data import Composite
from torchrl.envs import ActionMask, EnvBase, Transform
from torchrl_env import MarsEnv

import torch_mars.envs as envs


class MarsTask(TaskClass):
    """A task of `torch_mars`, whose B environments BenchMARL steps as one batch.

    Args:
        task: a name from `envs.tasks()`, a class of one's own, or `my_module:Gather`.
        config: options of the environment, e.g. `{"max_steps": 50}`.
    """

    def __init__(self, task: Any, config: dict[str, Any] | None = None):
        super().__init__(envs.folder_name(envs.find(task).name), config)
        self.task = task
        self.is_continuous = bool(envs.make(task, **self.config).action_space.shape)

    def get_env_fun(self, num_envs: int, continuous_actions: bool, seed: int | None, device: Any) -> Callable:
        return lambda: MarsEnv(self.task, num_envs, device, seed or 0, **self.config)

    def supports_continuous_actions(self) -> bool:
        return self.is_continuous

    def supports_discrete_actions(self) -> bool:
        return not self.is_continuous

    def max_steps(self, env: EnvBase) -> int:
        return env.rules.max_steps

    def has_render(self, env: EnvBase) -> bool:
        return False

    def group_map(self, env: EnvBase) -> dict[str, list[str]]:
        return env.group_map

    def observation_spec(self, env: EnvBase) -> Composite:
        return self._of_agents(env, "observation")

    def action_mask_spec(self, env: EnvBase) -> Composite | None:
        return self._of_agents(env, "action_mask")

    def _of_agents(self, env: EnvBase, name: str) -> Composite | None:
        agents = env.full_observation_spec_unbatched["agents"]
        if name not in agents.keys():
            return None
        return Composite(agents=Composite({name: agents[name].clone()}, shape=agents.shape))

    def state_spec(self, env: EnvBase) -> Composite:
        return Composite(state=env.full_observation_spec_unbatched["state"].clone())

    def get_env_transforms(self, env: EnvBase) -> list[Transform]:
        """Actions drawn at random are allowed ones."""
        keys = ("agents", "action"), ("agents", "action_mask")
        return [ActionMask(*keys)] if self.action_mask_spec(env) is not None else []

    def info_spec(self, env: EnvBase) -> None:
        return None

    def action_spec(self, env: EnvBase) -> Composite:
        return env.full_action_spec_unbatched

    @staticmethod
    def log_info(batch: TensorDictBase) -> dict[str, float]:
        """Means over the episodes that ended."""
        done = batch["next", "done"]
        means = batch["next", "info"].apply(lambda metric: metric[done].mean(), batch_size=[])
        return {f"collection/info/{name}": mean.item() for name, mean in means.items()} if done.any() else {}

    @staticmethod
    def env_name() -> str:
        return "torch_mars"
