"""From a lesson's `Args` to the settings of a run: defaults < `yaml/<family>.yaml` < `--config` < command line.

`--preset paper` puts `yaml/preset_paper.yaml` in the place of the family's file: what the paper fixes, and Mava's
defaults where the paper is silent.

A lesson's dataclass, with the `RunArgs` that it inherits, is the single list of settings: the string under each field
is its help text, and a comment `# ---- heading ----` above some of them begins a group of `--help`. Nothing here knows
what a setting means, except for the ranges of those that all lessons share (`check`).

A user's own environment brings its settings in `<module>.yaml` beside its module. Its module is imported for what
stands on the command line, never for what a file says.
"""

import argparse
import ast
import dataclasses
import functools
import inspect
import math
import os
import re
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch_mars import envs
from torch_mars.envs.options import allowed, make_options
from torch_mars.run import ranks, trackers
from torch_mars.run.cli import (
    LARGEST_SEED,
    Parser,
    UsageError,
    add_list_tasks,
    check_device,
    expanded,
    resolve_device,
    short,
    shown,
)
from torch_mars.run.finding import run_folder, saved_settings
from torch_mars.run.values import as_kind, flag_of, kinds_of
from torch_mars.run.yamls import read_yaml

_PACKAGE = Path(__file__).parents[1]
_INSIDE = _PACKAGE / "yaml"  # in an installed wheel, beside which PyYAML's folder has the same name
YAML_DIRECTORY = _INSIDE if _INSIDE.is_dir() else _PACKAGE.parent / "yaml"  # in a checkout
PRESETS = ("ours", "paper")
PRECISIONS = ("highest", "high", "medium")
_NEWER = ("critic_gain",)  # in our yaml files, but not in a user's lesson that was copied before there was this setting
_PARENTS = ("mappo", "maspo", "mars")  # whose settings a user's lesson may have: PARENT = "mars"
# lessons, algorithms and methods of the package: a user's lesson of such a name would be taken for them in every figure
TAKEN = {
    *("mappo", "maspo", "mars", "recurrent", "mappo_rnn", "maspo_rnn", "mars_rnn", "ippo", "ispo", "imars"),
    *("mappo_asymmetric", "maspo_asymmetric", "mars_multiplicative", "mars_additive"),
}
NOT_SETTINGS = ("resume", "config")  # they say where settings come from
_OF_A_RUN = ("env", "seed", "num_seeds", "num_envs", "rollout_length", "total_steps")  # what every config.yaml says
# whole numbers -> the most that they may be: more is a slip, for which no machine has the memory or the time
_MOST = {
    "total_steps": 10**15,
    "num_envs": 2**24,
    "num_seeds": 10_000,
    "rollout_length": 10**6,
    "epochs": 10_000,
    "minibatches": 2**31,
    "hidden_size": 2**16,
    "eval_every": 10**15,
    "eval_episodes": 10**6,
    "checkpoint_every": 10**15,
    "keep_every": 10**15,
    "film_every": 10**15,
}
_MOST_STEPS = 2**31  # of an update, over all seeds
_LONGEST_NAME = 200  # bytes: a folder's name may have 255, and begins with the time
# in a run's config.yaml besides its settings: what trained it, what of several that is, and how it is shown
ABOUT = ("lesson", "algorithm", "look")


@dataclass
class RunArgs:
    """What every lesson inherits: the task, and how a run of it is kept and measured."""

    # ---- task and length ----
    env: str = "paxmen_5a"
    """task, one of torch_mars.envs.tasks(), or my_module:MyEnvironment of your own"""
    env_options: dict = dataclasses.field(default_factory=dict)
    """options of the environment that differ from the task's, e.g. '{max_steps: 50}'"""
    total_steps: int = 4_000_000
    """environment steps per seed; 40e6, 40M and 500k are numbers too"""
    num_envs: int = 64
    """environments per seed"""
    num_seeds: int = 1
    """seeds trained side by side in this process: seed, seed + 1, ..."""
    seed: int = 0
    """first seed"""
    cuda_graphs: bool = True
    """whether a GPU replays each iteration as one CUDA graph: the same numbers, several times faster"""
    matmul_precision: str = "highest"
    """of float32 products: highest; high: TF32 on a GPU; medium: also bfloat16, where a processor has it"""
    compile: bool = False
    """whether losses, and on a GPU the steps of environments and policy, are compiled first: faster after a while"""
    # ---- the run ----
    device: str = "auto"
    """cpu, cuda, cuda:0, ...; auto: cuda where there is one"""
    name: str = "run"
    """ends the name of the run's folder"""
    run_dir: str = "runs"
    """folder of all runs"""
    preset: str = "ours"
    """ours: the settings in yaml/ of the task's environment; paper: what the paper fixes, else Mava's defaults"""
    config: str | None = None
    """yaml file with settings, such as the config.yaml of another run"""
    resume: str | None = None
    """folder or checkpoint of a run to go on with"""
    start_from: str | None = None
    """a run, policy.pt, checkpoint.pt or task with an installed team, whose weights a new run begins with; its
    optimisers are new, and its critic is unless a checkpoint.pt brings one"""
    checkpoint_every: int | None = None
    """updates between checkpoints; left out: those of a minute"""
    track: str = "tensorboard"
    """where curves are shown besides TensorBoard: wandb, mlflow, or both as wandb,mlflow"""
    keep_every: int | None = None
    """environment steps (per seed) between policies kept in the run's folder; left out: the best one only"""
    film_every: int | None = None
    """environment steps (per seed) between films of the first seed's policy, in the run's folder and in trackers"""
    # ---- evaluation ----
    eval_every: int | None = None
    """environment steps (per seed) between evaluations; left out: 122 evaluations in all"""
    eval_episodes: int = 32
    """episodes per evaluation; the final measurement of the best policy takes ten times as many"""
    eval_greedy: bool = False
    """whether evaluation takes the most likely action instead of sampling"""


def is_about(name: Any, value: Any) -> bool:
    """Whether an entry of a run's config.yaml is no setting. The look was once called `method`, a mapping like it."""
    return name in ABOUT or (name == "method" and isinstance(value, Mapping))


# ---- reading ----


def chosen(name: str, kinds: Mapping[str, type], program: str, argv: Sequence[str] | None = None) -> str:
    """The setting that decides which others there are, as --method of `recurrent` does.

    Of the command line, else of the run of --resume, else of the file of --config, else the first.

    Args:
        kinds: what it may be -> the dataclass of all settings.
        program: the lesson's name, for messages.
        argv: the command line without the program's name.

    Exits with code 2 and one sentence if it is something else, or settings were given that are another's.
    """
    argv = sys.argv[1:] if argv is None else argv
    parser = Parser(prog=program, add_help=False, allow_abbrev=False)
    for flag in (name, *NOT_SETTINGS):
        parser.add_argument(flag_of(flag))
    typed = vars(parser.parse_known_args(argv)[0])
    saved = _said_in(typed)
    found = typed[name] or saved.get(name) or next(iter(kinds))
    try:
        if not isinstance(found, str) or found not in kinds:
            where = flag_of(name) if typed[name] else f"{name} in {short(typed['resume'] or typed['config'])}"
            raise UsageError(f"{where} is {shown(found)}; {allowed(str(found), list(kinds))}")
        if typed["resume"] and found != saved.get(name, found):
            raise UsageError(_cannot_change(name, saved[name], found))
        in_file = {} if typed["resume"] else {setting: f"{setting} in {short(typed['config'])}" for setting in saved}
        flags = [word.split("=")[0] for word in argv if word.startswith("--")]
        in_words = {flag.removeprefix("--").removeprefix("no-").replace("-", "_"): flag for flag in flags}
        _refuse_others({**in_file, **in_words}, name, found, kinds)
    except UsageError as error:
        parser.error(str(error))
    return found


def _said_in(typed: dict[str, Any]) -> dict[str, Any]:
    """What the files say that --resume or --config name; nothing where one cannot be read, which is told later."""
    try:
        path = expanded(typed["resume"] or typed["config"] or "")
        content = read_yaml(run_folder(path) / "config.yaml" if typed["resume"] else path) if path else {}
    except UsageError:
        return {}
    return {str(name).replace("-", "_"): value for name, value in content.items() if not is_about(name, value)}


def _refuse_others(given: dict[str, str], name: str, found: str, kinds: Mapping[str, type]) -> None:
    """UsageError if something was given, a setting and how to call it, that is only one with another choice."""
    for setting, words in given.items():
        owners = [other for other, kind in kinds.items() if setting in kinds_of(kind)]
        if owners and found not in owners:
            raise UsageError(f"{words} is a setting of {flag_of(name)} {' or '.join(owners)}, not of {found}")


def parse(args_type: type, check_method: Callable[[Any], Any], algorithm: str, argv: Sequence[str] | None = None):
    """The resolved `Args` of a lesson, checked.

    Args:
        args_type: the lesson's dataclass.
        check_method: called with the result; raises UsageError where the method's own settings are out of range.
        algorithm: "mars", ...: which algorithm's section of the yaml file counts.
        argv: the command line without the program's name.

    Exits with code 2 and one sentence if anything is wrong.
    """
    parser = make_parser(args_type, algorithm, _here(args_type, algorithm, argv))
    try:
        if algorithm in TAKEN and not _is_of_package(args_type):
            raise UsageError(f"ALGORITHM is {algorithm!r}, which the package has; give yours another name")
        given = _given(parser, args_type, argv)
        given = _restarted(args_type, algorithm, given)
        if given.get("resume"):
            args = _resumed(args_type, saved_settings(given["resume"], algorithm), given)
            check(args)
            check_method(args)
        else:
            args = resolve(args_type, check_method, algorithm, given)
    except (UsageError, ValueError) as error:
        parser.error(str(error))
    return args


def _is_of_package(args_type: type) -> bool:
    """Whether the lesson is the package's, or its file in a checkout beside the package that is installed."""
    file = getattr(inspect.getmodule(args_type), "__file__", None)
    return file is not None and Path(file).resolve().parts[-3:-1] == ("torch_mars", "algos")


def resolve(args_type: type, check_method: Callable[[Any], Any], algorithm: str, given: dict[str, Any]) -> Any:
    """The `Args` of a new run for which `given` was asked, checked.

    Raises:
        UsageError: a setting cannot be read or is out of range.
    """
    args = _fresh(args_type, algorithm, given)
    check(args)
    check_method(args)
    return args


def _here(args_type: type, algorithm: str, argv: Sequence[str] | None) -> Any:
    """Where help is asked for: the Args of a run on that task, with that preset and file, and no other flag; else None.

    None, too, where there is no such run: help says what there could be.
    """
    argv = sys.argv[1:] if argv is None else argv
    if not {"-h", "--help"} & {*argv}:
        return None
    parser = Parser(add_help=False, allow_abbrev=False)
    for name in ("env", "preset", "config"):
        parser.add_argument(flag_of(name), nargs="?")
    typed = {name: text for name, text in vars(parser.parse_known_args(argv)[0]).items() if text is not None}
    try:
        if "env" in typed:
            typed["env"] = typed_task(typed["env"]).name
        return _fresh(args_type, algorithm, typed)
    except (UsageError, ValueError):
        return None


def make_parser(args_type: type, algorithm: str, here: Any = None) -> Parser:
    """One flag per field of `args_type`; flags that are not given leave no trace in the result.

    Args:
        here: Args whose values help shows beside the lesson's defaults.
    """
    lesson = inspect.getmodule(args_type)
    program, text = getattr(lesson, "ALGORITHM", algorithm), lesson.__doc__ or algorithm
    parser = Parser(
        prog=program,
        description=text.splitlines()[0],
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
        epilog=_about_defaults(here),
    )
    fields, kinds = {field.name: field for field in dataclasses.fields(args_type)}, kinds_of(args_type)
    for heading, docs in field_docs(args_type).items():
        group = parser.add_argument_group(heading)
        for name, text in docs.items():
            flag, default = flag_of(name), _default(fields[name])
            text = text.replace("%", "%%")
            said = [] if default in (None, {}, "") or "(the default)" in text else [f"default {default}"]
            if here is not None and name != "env" and (value := getattr(here, name)) not in (default, ""):
                said.append(f"here {value}")
            text += f" ({', '.join(said)})" if said else ""
            if kinds[name] is bool:
                group.add_argument(flag, action=argparse.BooleanOptionalAction, help=text)
            else:
                metavar = {int: "N", float: "X", str: "TEXT", dict: "YAML"}[kinds[name]]
                group.add_argument(flag, help=text, metavar=metavar)
    add_list_tasks(parser)
    return parser


def _about_defaults(here: Any) -> str:
    """For the end of help."""
    if here is None:
        return "yaml/<environment>.yaml has other defaults for its tasks; a run's config.yaml says what was used."
    return (
        f'"here" is what {here.env} has by yaml/, --preset and --config (--env TASK --help: another task); a run\'s '
        "config.yaml says what was used."
    )


@functools.cache  # reading the source of a class takes long
def _default(field: dataclasses.Field) -> Any:
    return field.default if field.default is not dataclasses.MISSING else field.default_factory()


def field_docs(args_type: type) -> dict[str, dict[str, str]]:
    """Heading -> field name -> the string written under the field; the lesson's own first, then what it inherits."""
    groups: dict[str, dict[str, str]] = {}
    for part in args_type.__mro__:
        if not dataclasses.is_dataclass(part):
            continue
        source = textwrap.dedent(inspect.getsource(part))
        lines, heading = source.splitlines(), "the method"
        body, read = ast.parse(source).body[0].body, 0
        for field, below in zip(body, body[1:]):
            if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
                for line in lines[read : field.lineno]:
                    if found := re.fullmatch(r"\s*# ---- (.+?) ----", line):
                        heading = found[1]
                read = field.lineno
                docs = groups.setdefault(heading, {})
                docs[field.target.id] = " ".join(ast.literal_eval(below.value).split())
    return groups


def family_settings(args_type: type, task: str, algorithm: str) -> dict[str, Any]:
    """What `yaml/<family>.yaml` says for a task and an algorithm; of a user's own task, `<module>.yaml`.

    The file has three optional sections, later ones winning: `family` (settings for all), `tasks` (task -> settings)
    and `algorithms` (algorithm -> settings); a task may have an `algorithms` section of its own, which wins over all.
    Where `args_type` inherits the Args of another lesson, or its lesson says `PARENT = "mars"`, that one's sections
    count, too, but for settings that `args_type` lacks: those of `mars` for mars_rnn.
    """
    task = envs.known(task)
    path = task.settings_file if task.own else YAML_DIRECTORY / f"{task.family}.yaml"
    if not (path and path.exists()):
        return {}
    content = read_yaml(path)
    _known(content, ("family", "tasks", "algorithms"), f"section of {path.name}")

    def section(within: dict[str, Any], name: str) -> dict[str, Any]:
        found = within.get(name) or {}
        if not isinstance(found, dict):
            raise UsageError(f"{path.name}: {name} is {shown(found)}; it must hold settings as `name: value`")
        return dict(found)

    def of_algorithm(within: dict[str, Any], name: str) -> dict[str, Any]:
        found = section(within, name)
        return {k: v for k, v in found.items() if name == algorithm or str(k).replace("-", "_") in kinds_of(args_type)}

    tasks, algorithms = section(content, "tasks"), section(content, "algorithms")
    _known(tasks, task.siblings, f"task in {path.name}")
    task_settings = section(tasks, task.name.rpartition(":")[2])
    task_algorithms = section(task_settings, "algorithms")
    task_settings.pop("algorithms", None)
    newer = () if task.own else set(_NEWER) - kinds_of(args_type).keys()
    settings = {}
    names = _with_inherited(args_type, algorithm)
    for part in (
        section(content, "family"),
        task_settings,
        *(of_algorithm(algorithms, name) for name in names),
        *(of_algorithm(task_algorithms, name) for name in names),
    ):
        part = {name: value for name, value in part.items() if name not in newer}
        settings |= convert(args_type, part, path.name)
    return settings


def preset_settings(args_type: type, preset: str, algorithm: str) -> dict[str, Any]:
    """What `yaml/preset_<preset>.yaml` says for an algorithm, whatever the task.

    The file has sections by source (`paper`, `mava`, ...) and `algorithms` (algorithm -> settings). Settings that a
    user's own lesson does not have are left out.
    """
    path = YAML_DIRECTORY / f"preset_{preset}.yaml"
    content = read_yaml(path)
    algorithms = content.pop("algorithms")
    merged: dict[str, Any] = {}
    for section in (*content.values(), *(algorithms.get(name, {}) for name in _with_inherited(args_type, algorithm))):
        merged |= section
    return convert(args_type, {name: value for name, value in merged.items() if name in kinds_of(args_type)}, path.name)


def _with_inherited(args_type: type, algorithm: str) -> list[str]:
    """Whose sections of a yaml file count: of the lessons whose Args it inherits, of their PARENTs, then its own."""
    modules = [sys.modules.get(part.__module__) for part in reversed(args_type.__mro__)]
    lessons = {}
    for module in modules:
        parent = getattr(module, "PARENT", algorithm)
        if parent != algorithm and parent not in _PARENTS:
            raise UsageError(f"PARENT of {algorithm} is {parent!r}; {allowed(str(parent), _PARENTS)}")
        lessons |= dict.fromkeys((parent, getattr(module, "ALGORITHM", algorithm)))
    return [*(name for name in lessons if name != algorithm), algorithm]


def convert(args_type: type, settings: dict[str, Any], source: str) -> dict[str, Any]:
    """Settings by name with values of the right type; UsageError for an unknown name or an unreadable value."""
    kinds = {name: kind for name, kind in kinds_of(args_type).items() if name not in NOT_SETTINGS}
    named = {}
    for name, value in settings.items():
        if is_about(name, value) and kinds.get(name) is not dict:
            continue
        name = str(name).replace("-", "_")
        if name in named:
            raise UsageError(f"{short(source)}: {name!r} is there twice, once with - and once with _")
        named[name] = value
    _known(named, kinds, f"setting in {short(source)}")
    may_be_none = {field.name for field in dataclasses.fields(args_type) if field.default is None}
    may_be_empty = {field.name for field in dataclasses.fields(args_type) if field.default == ""}
    return {
        name: value if (value is None and name in may_be_none) or (value == "" and name in may_be_empty)
        else as_kind(kinds[name], name, value)
        for name, value in named.items()
    }  # fmt: skip


def _known(names: Any, known: Any, what: str) -> None:
    for name in names:
        if name not in known:
            raise UsageError(f"unknown {what}: {shown(name)}; {allowed(name, known)}")


def refuse_settings(settings: dict[str, Any], names: Sequence[str]) -> None:
    """UsageError if a settings file says what is for the command line to say."""
    for name in names:
        if name in settings:
            raise UsageError(f"--config: {name} is {shown(settings[name])}, but it is for the command line to say")


def _given(parser: Parser, args_type: type, argv: Sequence[str] | None) -> dict[str, Any]:
    kinds = kinds_of(args_type)
    given = {name: as_kind(kinds[name], name, value) for name, value in vars(parser.parse_args(argv)).items()}
    if "env" in given:
        given["env"] = typed_task(given["env"]).name
    return given


def typed_task(text: str, flag: str = "--env", others: Sequence[str] = ()) -> envs.Task:
    """The task that somebody typed; its module is imported, if it is one of their own.

    Args:
        others: names that the flag takes besides.

    Raises:
        UsageError: there is none of that name.
    """
    try:
        return envs.find(text)
    except (ValueError, OSError, RuntimeError) as error:  # a path that is too long, a home folder that is not there
        reason = error.strerror if isinstance(error, OSError) else error
        reason = envs.unknown(text, others) if others and ":" not in text else reason
        raise UsageError(f"{flag}: {reason}") from None


def _fresh(args_type: type, algorithm: str, given: dict[str, Any]) -> Any:
    content = read_yaml(given["config"]) if given.get("config") else {}
    own = convert(args_type, content, given["config"]) if content else {}
    task = {**own, **given}.get("env", args_type.env)
    preset = {**own, **given}.get("preset", args_type.preset)
    if preset not in PRESETS:
        raise UsageError(f"--preset is {shown(preset)}; {allowed(preset, PRESETS)}")
    try:
        base = family_settings(args_type, task, algorithm)
        if preset != "ours":
            base = preset_settings(args_type, preset, algorithm)
        settings = {**base, **own, **given}
    except ValueError as error:
        raise UsageError(f"--env: {error}") from None
    _check_replaced(args_type, given, settings)
    if not all(name in own for name in _OF_A_RUN):  # the config.yaml of a run also says what had no effect
        _check_replaced(args_type, own, own)
    return _completed(args_type(**settings))


def _check_replaced(args_type: type, asked: dict[str, Any], settings: dict[str, Any]) -> None:
    """UsageError if something was asked for that has no effect, as another setting takes its place.

    A lesson says so in a field: `metadata={"replaces": "clip"}`.
    """
    for field in dataclasses.fields(args_type):
        replaced = field.metadata.get("replaces")
        if settings.get(field.name) is not None and asked.get(replaced) is not None:
            raise UsageError(
                f"{flag_of(replaced)} is {shown(asked[replaced])}, which has no effect beside {flag_of(field.name)}, "
                f"{shown(settings[field.name])}: that takes its place; leave one of them out"
            )


def device_for(task: str, name: str) -> str:
    """What `--device` means for a task. UsageError where it cannot be: foreign environments run on the CPU."""
    if not envs.known(task).is_foreign:
        return resolve_device(name)
    if name != "auto" and not name.startswith("cpu"):
        raise UsageError(f"--device is {shown(name)}, but {task} runs on the CPU: leave it out, or say cpu")
    return "cpu" if name == "auto" else name


def _completed(args: Any) -> Any:
    """Settings with what follows from others and from the machine."""
    args.device = device_for(args.env, args.device)
    if args.eval_every is None:
        args.eval_every = max(1, args.total_steps // 122)  # as often as the protocol's 122 evaluations
    return args


# when a run is resumed
CHANGEABLE = (
    *("total_steps", "eval_every", "eval_episodes", "checkpoint_every", "track", "keep_every", "film_every"),
    *("device", "cuda_graphs", "matmul_precision", "compile"),
)
ROUNDED = ("device", "matmul_precision", "compile")  # after a change of one, numbers are rounded in another way


def _restarted(args_type: type, algorithm: str, given: dict[str, Any]) -> dict[str, Any]:
    """What was given; where torchrun has started its processes again, with the run that the first ones began."""
    if given.get("resume"):
        return given
    said = {**_said_in({"resume": None, "config": given.get("config")}), **given}
    folder = ranks.restarted(said.get("run_dir", args_type.run_dir), said.get("env", args_type.env), algorithm)
    if folder is None:
        return given
    return {name: value for name, value in given.items() if name in CHANGEABLE} | {"resume": str(folder)}


def _resumed(args_type: type, saved: dict[str, Any], given: dict[str, Any]) -> Any:
    """The settings of a saved run, with what may change and was given."""
    if given.get("config"):
        raise UsageError("--config cannot be used with --resume, which takes the settings of the run")
    settings = convert(args_type, saved, "the resumed run")
    missing = [name for name in _OF_A_RUN if name not in settings]
    if missing:
        raise UsageError(f"--resume: config.yaml of {short(given['resume'])} is not of a run: it lacks {missing[0]}")
    settings["env"] = task_of_run(settings["env"], given.pop("env", None))
    if "device" in given:
        given = {**given, "device": device_for(settings["env"], given["device"])}
    for name, value in given.items():
        if name not in (*CHANGEABLE, "resume") and value != settings.get(name):
            raise UsageError(_cannot_change(name, settings.get(name), value))
    return _completed(args_type(**{**settings, **given}))


def task_of_run(saved: str, typed: str | None) -> str:
    """The name of a saved run's task, which may be of a user's own: then it has been imported, or was typed again.

    Raises:
        UsageError: it is unknown, or another than the typed one.
    """
    if typed is None:
        try:
            return envs.known(saved).name
        except ValueError as error:
            raise UsageError(f"the run is of a task that cannot be made: {error}") from None
    if not envs.is_same(envs.known(typed), saved):
        raise UsageError(f"the run is of task {shown(saved)}, not of {shown(typed)}")
    return typed


def _cannot_change(name: str, saved: Any, wanted: Any) -> str:
    flag, flags = flag_of(name), ", ".join(map(flag_of, CHANGEABLE))
    return f"{flag} is {shown(saved)} in the resumed run and cannot become {shown(wanted)}; only {flags} can change"


# ---- checking ----


def check(args: Any) -> None:
    """Ranges of the settings that all lessons share.

    Raises:
        UsageError: names the flag, its value and what is allowed.
    """
    for name, most in _MOST.items():
        if getattr(args, name) is None:  # left out, as `checkpoint_every` may be
            continue
        require(args, name, getattr(args, name) >= 1, "it must be 1 or more")
        require(args, name, getattr(args, name) <= most, f"it must be {most} or less")
    for name in ("actor_lr", "critic_lr", "adam_eps", "value_clip", "max_grad_norm"):
        require(args, name, 0 < getattr(args, name) < math.inf, "it must be greater than 0, and finite")
    for name in ("entropy_coef", "value_coef"):
        require(args, name, 0 <= getattr(args, name) < math.inf, "it must be 0 or more, and finite")
    gain = getattr(args, "critic_gain", 1.0)
    if not 0 <= gain < math.inf:
        raise UsageError(f"--critic-gain is {gain!r}; it must be 0 or more, and finite")
    precision = getattr(args, "matmul_precision", "highest")
    if precision not in PRECISIONS:
        raise UsageError(f"--matmul-precision is {shown(precision)}; {allowed(precision, PRECISIONS)}")
    for name in ("gamma", "gae_lambda"):
        require(args, name, 0 <= getattr(args, name) <= 1, "it must be between 0 and 1")
    require(args, "seed", 0 <= args.seed <= LARGEST_SEED, "it must be 0 or more (and below 2^63)")
    last = args.seed + args.num_seeds - 1
    require(args, "num_seeds", last <= LARGEST_SEED, f"the last seed would be {last}; it must be below 2^63")
    _check_name(args)
    _check_steps(args)
    check_device(args.device)
    trackers.chosen(args.track)
    try:
        task = envs.known(args.env)
    except ValueError as error:
        raise UsageError(f"--env: {error}") from None
    device_for(args.env, args.device)
    flag = "--env-options" if args.env_options or not task.is_foreign else "--env"
    try:
        make_options(task.environment.Options, {**task.options, **args.env_options})
        if args.value_per_agent:  # options may decide who is paid: only an environment knows
            is_paid_alike = envs.make(task, **args.env_options).has_shared_reward
            require(args, "value_per_agent", not is_paid_alike, f"{args.env} pays all agents alike")
    except (ValueError, TypeError) as error:
        raise UsageError(f"{flag}: {error}") from None


def _check_name(args: Any) -> None:
    """The end of a folder's name: whatever a file system or a terminal would take amiss is refused."""
    name = args.name
    require(args, "name", not set(name) & {"/", "\\", os.sep}, "it is part of a folder's name: no slashes")
    require(args, "name", name not in (".", "..") and name.isprintable(), "it must be a name that can be printed")
    require(args, "name", name == name.strip() and not name.endswith("."), "it may not end in a blank or a dot")
    is_short = len(name.encode()) <= _LONGEST_NAME
    require(args, "name", is_short, f"it must have {_LONGEST_NAME} bytes or less, as part of a folder's name")


def _check_steps(args: Any) -> None:
    """Those of a rollout: not too many, shared equally by the minibatches, not more than there are to be in all."""
    steps = args.rollout_length * args.num_envs
    if steps * args.num_seeds > _MOST_STEPS:
        raise UsageError(
            f"--rollout-length {args.rollout_length} x --num-envs {args.num_envs} x --num-seeds {args.num_seeds} are "
            f"{steps * args.num_seeds} environment steps of an update; it must be {_MOST_STEPS} or less"
        )
    whole = f"the {steps} environment steps of a rollout (--rollout-length x --num-envs)"
    require_divisor(args, "minibatches", steps, whole)
    require(args, "total_steps", args.total_steps >= steps, f"one update alone takes {steps} steps")


def require_divisor(args: Any, name: str, number: int, what: str) -> None:
    """UsageError that names the nearest values unless the setting divides a number, which is `what`."""
    value = getattr(args, name)
    require(args, name, value >= 1, "it must be 1 or more")
    if number % value:
        nearest = sorted(sorted(_divisors(number), key=lambda n: abs(n - value))[:2])
        near = f"the nearest that do are {' and '.join(map(str, nearest))}"
        raise UsageError(f"{flag_of(name)} is {value}, which does not divide {what}; {near}")


def _divisors(number: int) -> list[int]:
    """All of them, found up to the root: the others are their counterparts."""
    small = [n for n in range(1, math.isqrt(number) + 1) if number % n == 0]
    return sorted({*small, *(number // n for n in small)})


def require(args: Any, name: str, holds: bool, allowed_values: str) -> None:
    """UsageError that names the flag, its value and what is allowed, unless `holds`."""
    if not holds:
        raise UsageError(f"{flag_of(name)} is {shown(getattr(args, name))}; {allowed_values}")
