"""The paper's seven methods: MAPPO, MASPO, MARS and four ablations, which are flags of the same three lessons.

What the commands around runs need to know of a method: how it is told from a run's settings, what it is trained with
when nobody has tuned it, what is searched when somebody does, and how it looks in every figure.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from torch_mars import algos
from torch_mars.envs.options import allowed
from torch_mars.run.cli import UsageError


@dataclass(frozen=True)
class Method:
    """One of the paper's methods.

    `settings` are those that make a lesson this method; `space` is what tuning searches besides `SHARED_SPACE`, by
    setting of the lesson. Colours are from Okabe and Ito's palette, which colour-blind readers can tell apart; each
    has a line style of its own, so that a print without colour can be read too.
    """

    name: str
    label: str
    lesson: str
    settings: dict[str, Any]
    space: dict[str, tuple[float, ...]]
    trials: int
    colour: str
    dashes: tuple[float, ...]  # lengths drawn and left out, in line widths; () is solid

    @property
    def module(self) -> ModuleType:
        """The lesson."""
        return algos.lesson(self.lesson)


# The Sable MAPPO/IPPO space (Mahjoub et al. 2025) as recalled; value_clip is its set of clips.
SHARED_SPACE: dict[str, tuple[float, ...]] = {
    "actor_lr": (1e-4, 2.5e-4, 5e-4),
    "critic_lr": (1e-4, 2.5e-4, 5e-4),
    "entropy_coef": (0.0, 1e-5, 1e-2),
    "value_clip": (0.05, 0.1, 0.2),
    "minibatches": (2, 4, 8),
    "epochs": (2, 4, 8),
}
WIDE_RATE = 1e-3  # what --wide adds to both learning rates
EPSILONS = (0.05, 0.1, 0.2, 0.3, 0.5)
# MARS slows down long before its target, so its targets reach further than MAPPO's clip.
EXPANDS = (1.05, 1.1, 1.2, 1.3, 1.5, 2.0)
CONTRACTS = tuple(1 / expand for expand in EXPANDS)
_TWO_EPSILONS = {"clip_low": EPSILONS, "clip_high": EPSILONS}
# MARS in the paper's ablation: targets 1 + e_high and 1 - e_low, so that it has the same space as its two neighbours.
ABLATION_SPACE = {"expand": tuple(1 + e for e in EPSILONS), "contract": tuple(1 - e for e in EPSILONS)}
# Untuned, the ablations get MARS's own targets, 1.5 and 1 / 1.5.
_TARGETS = {"clip_low": 1 / 3, "clip_high": 0.5}

MAIN = ("mappo", "maspo", "mars")
ABLATIONS = ("mappo_asymmetric", "maspo_asymmetric", "mars_multiplicative", "mars_additive")
METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("mappo", "MAPPO", "mappo", {}, {"clip": EPSILONS}, 40, "#D55E00", (5, 1.5)),
        Method("maspo", "MASPO", "maspo", {}, {"clip": EPSILONS}, 40, "#009E73", (1, 1.2)),
        Method("mars", "MARS", "mars", {}, {"expand": EXPANDS, "contract": CONTRACTS}, 80, "#0072B2", ()),
        Method(
            "mappo_asymmetric", "MAPPO, asymmetric", "mappo", _TARGETS, _TWO_EPSILONS, 80, "#E69F00", (5, 1.5, 1, 1.5)
        ),
        Method(
            "maspo_asymmetric", "MASPO, asymmetric", "maspo", _TARGETS, _TWO_EPSILONS, 80, "#333333", (1, 1.2, 1, 3)
        ),
        Method(
            "mars_multiplicative", "MARS, r* and 1/r*", "mars", {"contract": None}, {"expand": EXPANDS}, 40,
            "#56B4E9", (9, 2),
        ),
        Method(
            "mars_additive", "MARS, 1 + e and 1 - e", "mars", {"contract": None, "additive_clip": 0.5},
            {"additive_clip": EPSILONS}, 40, "#CC79A7", (9, 2, 2, 2),
        ),
    )
}  # fmt: skip


def named(name: str) -> Method:
    """A method by name. UsageError for an unknown one."""
    if name not in METHODS:
        raise UsageError(f"unknown method {name!r}; {allowed(name, METHODS)}")
    return METHODS[name]


def of_run(lesson: str, settings: Mapping[str, Any]) -> Method:
    """The method that a run of a lesson is of, from its settings.

    MARS without `contract` has the targets r* and 1/r*: it counts as MARS, unless the run is named after the ablation.
    """
    if lesson == "mars" and settings.get("additive_clip") is not None:
        return METHODS["mars_additive"]
    if lesson == "mars" and settings.get("contract") is None and settings.get("name") == "mars_multiplicative":
        return METHODS["mars_multiplicative"]
    if settings.get("clip_low") is not None:
        return METHODS[f"{lesson}_asymmetric"]
    return named(lesson)


def listed(text: str) -> list[Method]:
    """`mars,mappo,ablations` -> methods, each once; `all` and `ablations` are groups. UsageError for unknown names."""
    groups = {"all": (*MAIN, *ABLATIONS), "ablations": ABLATIONS}
    names = [name for item in text.split(",") for name in groups.get(item.strip(), (item.strip(),))]
    for name in names:
        if name not in METHODS:
            raise UsageError(f"--algos: unknown method {name!r}; {allowed(name, (*METHODS, *groups))}")
    return [METHODS[name] for name in dict.fromkeys(names)]
