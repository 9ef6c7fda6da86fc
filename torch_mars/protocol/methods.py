"""Methods: the paper's seven (MAPPO, MASPO, MARS and four ablations, which are flags of the same three lessons), three
with independent critics, three with memory, and a user's own.

What the commands around runs need to know of a method: how it is told from a run's settings, what it is trained with
when nobody has tuned it, what is searched when somebody does, and how it looks in every figure.

A method of one's own is a copied lesson. It needs nothing here: what is not said gets a look of its own and the space
that all methods share. To say more, call `register(Method(...))`, or write `METHOD = {"label": ..., "colour": ...,
"space": {...}}` into the lesson, as plain data, which goes with its runs.
"""

import contextlib
import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

from torch_mars import algos
from torch_mars.envs import modules
from torch_mars.envs.options import allowed
from torch_mars.run import looks
from torch_mars.run.cli import UsageError
from torch_mars.run.settings import TAKEN, is_about


@dataclass(frozen=True)
class Method:
    """One method.

    Attributes:
        name: in commands, files and folders.
        label: in figures and tables.
        algorithm: that its runs are of (`algos.algorithms`): the name of its lesson, or one of several.
        settings: those that make the algorithm this method.
        space: what tuning searches besides `SHARED_SPACE`, by setting of the lesson.
        paper_space: the same for `--space paper`, besides `PAPER_SPACE`; None: `space`.
        trials: of a study of the paper's size.
        colour: of Okabe and Ito's palette, which colour-blind readers can tell apart, where there is one left.
        dashes: lengths drawn and left out, in line widths, so that a print without colour can be read; () is solid.
        marker: of matplotlib.
        is_of: whether a run of the lesson with these settings is one of this method; of several the last one counts.
        source: how a lesson of the user's own was typed; None of those of the package.
    """

    name: str
    label: str
    algorithm: str
    settings: dict[str, Any] = field(default_factory=dict)
    space: dict[str, tuple[float, ...]] = field(default_factory=dict)
    paper_space: dict[str, tuple[float, ...]] | None = None
    trials: int = 40
    colour: str = "#000000"
    dashes: tuple[float, ...] = ()
    marker: str = "o"
    is_of: Callable[[Mapping[str, Any]], bool] = lambda settings: True
    source: str | None = None

    def untuned(self, preset: str = "ours") -> dict[str, Any]:
        """`settings` as they are trained with when nobody has tuned them; by the paper's preset with Mava's clip."""
        clips = ("clip_low", "clip_high", "additive_clip") if preset == "paper" else ()
        return {name: MAVA_CLIP if name in clips else value for name, value in self.settings.items()}

    @property
    def args(self) -> type:
        """The dataclass of its settings. UsageError as in `module`."""
        return algos.algorithms(self.module)[self.algorithm]

    @property
    def module(self) -> ModuleType:
        """The lesson. UsageError where it is one of the user's own that nobody typed or imported."""
        lesson = algos.lesson(self.source) if self.source else algos.known(self.algorithm)
        if lesson is None:  # named by a run, which may be somebody else's
            raise UsageError(f"lesson {self.algorithm!r} is none of the package; type the module that it is in")
        return lesson


MAVA_CLIP = 0.2
STRENGTHS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 0.9)  # the grid of all trust regions


def matched(strength: float) -> dict[str, float]:
    """The trust regions of one strength s in (0, 1): `clip` of MAPPO and MASPO, `expand` and `contract` of MARS.

    The force on a sample's log-ratio l is dJ/dl = |A| e^l (sign A - (e^l - 1) / e) in MASPO and, from a target l*,
    |A| sinh(l* - l) / sinh|l*| in MARS. At l = 0 both are A; their slopes there are

        MASPO:  A - |A| / e  =  |A| (+-1 - 1/e)       MARS with targets rho and 1/rho:  -|A| / tanh(ln rho)

    and averaged over the two signs, which is what a normalised advantage has, -|A| / e and -|A| / tanh(ln rho). So
    both pull back alike, to first order, where e = tanh(ln rho) = s, that is rho = exp(atanh s). MAPPO does not pull
    back inside its range, and none of this can be matched there: it gets the clip s, MASPO's range.

    Raises:
        ValueError: s is not between 0 and 1.
    """
    if not 0 < strength < 1:
        raise ValueError(f"strength is {strength!r}; it must be between 0 and 1")
    expand = math.exp(math.atanh(strength))
    return {"clip": strength, "expand": expand, "contract": 1 / expand}


def strength(expand: float) -> float:
    """The s of MARS with targets `expand` and 1 / `expand`, the inverse of `matched`: 1.5 is 0.385, 2 is 0.6."""
    return math.tanh(math.log(expand))


# What tuning searches for every method alike; what the task is trained with untuned is added to it (`tune`).
SHARED_SPACE: dict[str, tuple[float, ...]] = {
    "actor_lr": (1e-4, 2.5e-4, 5e-4, 1e-3, 2e-3),
    "critic_lr": (1e-4, 2.5e-4, 5e-4, 1e-3, 2e-3),
    "entropy_coef": (0.0, 1e-5, 1e-3, 1e-2),
    "value_clip": (0.05, 0.1, 0.2, 10.0),
    "minibatches": (2, 4, 8),
    "epochs": (2, 4, 8),
}
# --space paper. The Sable MAPPO/IPPO space (Mahjoub et al. 2025) as recalled; value_clip is its set of clips.
PAPER_SPACE: dict[str, tuple[float, ...]] = {
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
_MATCHED_CLIP = {"clip": STRENGTHS}
_MATCHED_CLIPS = {"clip_low": STRENGTHS, "clip_high": STRENGTHS}
_MATCHED_EXPAND = {"expand": tuple(matched(s)["expand"] for s in STRENGTHS)}
_MATCHED_TARGETS = {**_MATCHED_EXPAND, "contract": tuple(matched(s)["contract"] for s in STRENGTHS)}


def ablation_space(epsilons: tuple[float, ...]) -> dict[str, tuple[float, ...]]:
    """Of MARS in the paper's ablation: targets 1 + e_high and 1 - e_low, the same space as its two neighbours have."""
    return {"expand": tuple(1 + e for e in epsilons), "contract": tuple(1 - e for e in epsilons)}


def untuned_in_ablation(preset: str) -> dict[str, float]:
    """Of MARS in that space: the range of its asymmetric neighbours, when nobody has tuned them."""
    neighbour = METHODS["maspo_asymmetric"].untuned(preset)
    return {"expand": 1 + neighbour["clip_high"], "contract": 1 - neighbour["clip_low"]}


# Untuned, the asymmetric ablations get the targets that MARS has without a settings file, 1.5 and 1 / 1.5.
_TARGETS = {"clip_low": 1 / 3, "clip_high": 0.5}

TRUST_REGION = ("clip", "clip_low", "clip_high", "expand", "contract", "additive_clip")  # settings that make one
MAIN = ("mappo", "maspo", "mars")
ABLATIONS = ("mappo_asymmetric", "maspo_asymmetric", "mars_multiplicative", "mars_additive")


def _has(setting: str) -> Callable[[Mapping[str, Any]], bool]:
    return lambda settings: settings.get(setting) is not None


def _is_named_multiplicative(settings: Mapping[str, Any]) -> bool:
    """MARS without `contract` has the targets r* and 1/r*: it is MARS, unless the run is named after the ablation."""
    return settings.get("contract") is None and settings.get("name") == "mars_multiplicative"


def _is_independent(settings: Mapping[str, Any]) -> bool:
    return bool(settings.get("independent"))


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            name="mappo", label="MAPPO", algorithm="mappo",
            space=_MATCHED_CLIP, paper_space={"clip": EPSILONS}, trials=40,
            colour="#D55E00", dashes=(5, 1.5), marker="o",
        ),
        Method(
            name="maspo", label="MASPO", algorithm="maspo",
            space=_MATCHED_CLIP, paper_space={"clip": EPSILONS}, trials=40,
            colour="#009E73", dashes=(1, 1.2), marker="s",
        ),
        Method(
            name="mars", label="MARS", algorithm="mars",
            space=_MATCHED_TARGETS, paper_space={"expand": EXPANDS, "contract": CONTRACTS}, trials=80,
            colour="#0072B2", dashes=(), marker="h",
        ),
        Method(
            name="mappo_asymmetric", label="MAPPO, asymmetric", algorithm="mappo",
            settings=_TARGETS, is_of=_has("clip_low"),
            space=_MATCHED_CLIPS, paper_space=_TWO_EPSILONS, trials=80,
            colour="#E69F00", dashes=(5, 1.5, 1, 1.5), marker="^",
        ),
        Method(
            name="maspo_asymmetric", label="MASPO, asymmetric", algorithm="maspo",
            settings=_TARGETS, is_of=_has("clip_low"),
            space=_MATCHED_CLIPS, paper_space=_TWO_EPSILONS, trials=80,
            colour="#333333", dashes=(1, 1.2, 1, 3), marker="D",
        ),
        Method(
            name="mars_multiplicative", label="MARS, r* and 1/r*", algorithm="mars",
            settings={"contract": None}, is_of=_is_named_multiplicative,
            space=_MATCHED_EXPAND, paper_space={"expand": EXPANDS}, trials=40,
            colour="#56B4E9", dashes=(9, 2), marker="v",
        ),
        Method(
            name="mars_additive", label="MARS, 1 + e and 1 - e", algorithm="mars",
            settings={"contract": None, "additive_clip": 0.5}, is_of=_has("additive_clip"),
            space={"additive_clip": STRENGTHS}, paper_space={"additive_clip": EPSILONS}, trials=40,
            colour="#CC79A7", dashes=(9, 2, 2, 2), marker="p",
        ),
    )
}  # fmt: skip
# IPPO and its relatives, none of the paper's.
INDEPENDENT: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            name="ippo", label="IPPO", algorithm="mappo", settings={"independent": True}, is_of=_is_independent,
            space=_MATCHED_CLIP, paper_space={"clip": EPSILONS}, trials=40,
            colour="#8B4513", dashes=(3, 1.2), marker="P",
        ),
        Method(
            name="ispo", label="ISPO", algorithm="maspo", settings={"independent": True}, is_of=_is_independent,
            space=_MATCHED_CLIP, paper_space={"clip": EPSILONS}, trials=40,
            colour="#6B8E23", dashes=(1, 0.8), marker="X",
        ),
        Method(
            name="imars", label="IMARS", algorithm="mars", settings={"independent": True}, is_of=_is_independent,
            space=_MATCHED_TARGETS, paper_space={"expand": EXPANDS, "contract": CONTRACTS}, trials=80,
            colour="#6A3D9A", dashes=(12, 1.5), marker="*",
        ),
    )
}  # fmt: skip


def _with_memory(method: Method, colour: str, dashes: tuple[float, ...], marker: str) -> Method:
    """The method with a recurrent policy. A run with settings of an ablation, or an independent critic, is one, too."""
    return replace(
        method, name=f"{method.name}_rnn", label=f"{method.label}, GRU", algorithm=f"{method.algorithm}_rnn",
        settings={"method": method.algorithm}, space={**method.space, **_STRETCHES}, colour=colour, dashes=dashes,
        marker=marker,
    )  # fmt: skip


_STRETCHES = {"sequence_length": (8, 16)}  # they divide the rollouts of all tasks and budgets
RECURRENT: dict[str, Method] = {
    method.name: method
    for method in (
        _with_memory(METHODS["mappo"], "#660000", (6, 3), "<"),
        _with_memory(METHODS["maspo"], "#44CC44", (2, 1, 2, 4), ">"),
        _with_memory(METHODS["mars"], "#2200CC", (14, 1.5, 3, 1.5), "d"),
    )
}
# None of the paper's: they join METHODS when somebody asks for them, or has runs of them.
JOINING: dict[str, Method] = {**INDEPENDENT, **RECURRENT}
# colour, dashes and marker of those who bring none, taken in turn
_COLOURS = ("#882255", "#44AA99", "#999933", "#6699CC", "#AA4466", "#117733", "#DDCC77", "#332288")
_DASHES = ((3, 1), (7, 1, 1, 1), (2, 2), (5, 1, 1, 1, 1, 1), (1, 2))
_MARKERS = ("P", "X", "*", "d", "<", ">", "8", "H")
_turn = itertools.count()


# ---- a user's own ----


def register(method: Method) -> None:
    """Add a method, or put it in place of the one of its name: to all figures, tables and commands of this process.

    Raises:
        UsageError: it has the name of one of the package's.
    """
    if method.name in TAKEN and method is not JOINING.get(method.name):
        raise UsageError(f"method {method.name!r} is one of the package's; give yours another name")
    METHODS[method.name] = method


def guests() -> list[str]:
    """The methods that are none of the paper's, in the order in which they came."""
    return [name for name in METHODS if name not in (*MAIN, *ABLATIONS)]


def guest(
    algorithm: str, look: Mapping[str, Any] | None = None, source: str | None = None, searched: Mapping[str, Any] = {}
) -> Method:
    """The method of an algorithm that nobody registered, from then on registered: with what METHOD of its lesson says.

    Args:
        searched: `space`, `paper_space` and `trials` of its parent, where METHOD does not say them.

    Raises:
        UsageError: METHOD says something that it may not.
    """
    if algorithm in METHODS and (source is None or METHODS[algorithm].source == source):
        return METHODS[algorithm]
    if algorithm in JOINING and source is None:
        return named(algorithm)
    turn = next(_turn)
    said = looks.checked(algorithm, look or {})
    method = Method(
        **{
            "name": algorithm,
            "label": algorithm,
            "algorithm": algorithm,
            "colour": _COLOURS[turn % len(_COLOURS)],
            "dashes": _DASHES[turn % len(_DASHES)],
            "marker": _MARKERS[turn % len(_MARKERS)],
            "source": source,
            **searched,
            **said,
        }
    )
    register(method)
    return method


# ---- from names to methods ----


def names() -> list[str]:
    """All that can be typed, but for modules."""
    return list(dict.fromkeys((*METHODS, *JOINING)))


def named(name: str) -> Method:
    """A method by name. UsageError for an unknown one."""
    if name in JOINING and name not in METHODS:
        register(JOINING[name])
    if name not in METHODS:
        raise UsageError(f"unknown method {name!r}; {allowed(name, names())}")
    return METHODS[name]


def typed(text: str, flag: str = "--algo") -> Method:
    """The method that somebody typed: by name, or as the module of a lesson of their own, which is imported.

    Raises:
        UsageError: there is no such method, and no such module, or the module is no lesson.
    """
    if text in names():
        return named(text)
    try:
        lesson = algos.lesson(text)
    except ValueError as error:
        unknown = f"unknown method {text!r}; {allowed(text, names())}"
        raise UsageError(f"{flag}: {error if modules.is_path(text) or '.' in text else unknown}") from None
    if lesson.ALGORITHM not in (several := algos.algorithms(lesson)):
        hint = "name one of them" if set(several) <= set(names()) else "only `torch-mars train` takes such a lesson"
        raise UsageError(f"{flag}: {text} is a lesson of several methods, {', '.join(several)}; {hint}")
    own = [method for method in METHODS.values() if method.algorithm == lesson.ALGORITHM]
    look = getattr(lesson, "METHOD", None)
    return own[-1] if own else guest(lesson.ALGORITHM, look, text, _searched_of_parent(lesson, look))


def _searched_of_parent(lesson: ModuleType, look: Any) -> dict[str, Any]:
    """What is tuned of a lesson with `PARENT = "mars"` and no space of its own: as that method, else it were unfair."""
    parent = METHODS.get(getattr(lesson, "PARENT", None))
    if parent is None or (isinstance(look, Mapping) and "space" in look):
        return {}
    settings = {field.name for field in dataclasses.fields(lesson.Args)}
    spaces = {"space": parent.space, "paper_space": parent.paper_space}
    return {
        **{kind: {name: of for name, of in space.items() if name in settings} for kind, space in spaces.items()},
        "trials": parent.trials,
    }


def of_run(algorithm: str, settings: Mapping[str, Any]) -> Method:
    """The method that a run of an algorithm is of, asked of the methods; an algorithm that none has is a guest.

    Raises:
        UsageError: a lesson of a user's own has the name of a method of the package.
    """
    known = {**JOINING, **METHODS}  # by name: as they are now
    found = [n for n in names() if known[n].algorithm == algorithm and known[n].is_of(settings)]
    if not found and algorithm in TAKEN:
        raise UsageError(f"there are runs of a lesson named {algorithm!r}, which is a method of the package; rename it")
    return named(found[-1]) if found else guest(algorithm, _look_in(settings))


def _look_in(settings: Mapping[str, Any]) -> Any:
    """What the METHOD of a guest's lesson said; in runs of versions before, under `method`."""
    older = settings.get("method")
    return settings.get("look", older if is_about("method", older) else None)


def has_inverse_targets(settings: Mapping[str, Any]) -> bool:
    """Whether a run of MARS has the targets r* and 1/r*, as without `contract`: nobody tuned the second."""
    if settings.get("additive_clip") is not None:
        return False
    contract, expand = settings.get("contract"), settings.get("expand")
    return contract is None or (expand is not None and math.isclose(contract * expand, 1, rel_tol=1e-6))


INVERSE_LABEL = "MARS, 1/r*"  # what MARS is called where it has one target only, as its multiplicative ablation
INVERSE_LABELS = {"mars": INVERSE_LABEL, "mars_rnn": f"{INVERSE_LABEL}, GRU"}


@contextlib.contextmanager
def labelled(labels: Mapping[str, str]) -> Iterator[None]:
    """Within the block, methods by these labels in all figures and tables."""
    before = dict(METHODS)
    METHODS.update({name: replace(METHODS[name], label=label) for name, label in labels.items() if name in METHODS})
    try:
        yield
    finally:
        METHODS.clear()
        METHODS.update(before)


def ordered(names: Iterable[str]) -> list[str]:
    """Names of methods in the order in which tables and figures have them."""
    names = set(names)
    return [name for name in METHODS if name in names]


def listed(text: str) -> list[Method]:
    """`mars,mappo,ablations` -> methods, each once; `all` (the paper's seven), `ablations`, `independent` and
    `recurrent` are groups, modules are lessons of one's own.

    Raises:
        UsageError: an unknown name.
    """
    groups = {"all": (*MAIN, *ABLATIONS), "ablations": ABLATIONS, "independent": INDEPENDENT, "recurrent": RECURRENT}
    asked = [name for item in text.split(",") for name in groups.get(item.strip(), (item.strip(),))]
    return [typed(name, "--algos") for name in dict.fromkeys(asked)]
