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
import inspect
import math
import os
import re
import textwrap
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from torch_mars import envs
from torch_mars.envs.options import allowed, make_options
from torch_mars.run.cli import Parser, UsageError, check_device, parse_whole, resolve_device
from torch_mars.run.files import read_yaml, saved_settings

_PACKAGE = Path(__file__).parents[1]
_INSIDE = _PACKAGE / "yaml"  # in an installed wheel, beside which PyYAML's folder has the same name
YAML_DIRECTORY = _INSIDE if _INSIDE.is_dir() else _PACKAGE.parent / "yaml"  # in a checkout
PRESETS = ("ours", "paper")
_NEWER = ("critic_gain",)  # in our yaml files, but not in a user's lesson that was copied before there was this setting
_NOT_SETTINGS = ("resume", "config")  # they say where settings come from
ABOUT = ("lesson", "method")  # in a run's config.yaml besides its settings: what trained it, and how that is shown


@dataclass
class RunArgs:
    """What every lesson inherits: settings of keeping a run, none of which changes what is learned."""

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
    checkpoint_every: int = 10
    """updates between checkpoints"""
    # ---- evaluation ----
    eval_every: int | None = None
    """environment steps (per seed) between evaluations; left out: 122 evaluations in all"""
    eval_episodes: int = 32
    """episodes per evaluation; the final measurement of the best policy takes ten times as many"""
    eval_greedy: bool = False
    """whether evaluation takes the most likely action instead of sampling"""


# ---- reading ----


def parse(args_type: type, check_method: Callable[[Any], Any], algorithm: str, argv: Sequence[str] | None = None):
    """The resolved `Args` of a lesson, checked.

    Args:
        args_type: the lesson's dataclass.
        check_method: called with the result; raises UsageError where the method's own settings are out of range.
        algorithm: "mars", ...: which algorithm's section of the yaml file counts.
        argv: the command line without the program's name.

    Exits with code 2 and one sentence if anything is wrong.
    """
    parser = make_parser(args_type, algorithm)
    try:
        given = _given(parser, args_type, argv)
        if given.get("resume"):
            args = _resumed(args_type, saved_settings(given["resume"], algorithm), given)
            check(args)
            check_method(args)
        else:
            args = resolve(args_type, check_method, algorithm, given)
    except (UsageError, ValueError) as error:
        parser.error(str(error))
    return args


def resolve(args_type: type, check_method: Callable[[Any], Any], algorithm: str, given: dict[str, Any]) -> Any:
    """The `Args` of a new run for which `given` was asked, checked.

    Raises:
        UsageError: a setting cannot be read or is out of range.
    """
    args = _fresh(args_type, algorithm, given)
    check(args)
    check_method(args)
    return args


def make_parser(args_type: type, algorithm: str) -> Parser:
    """One flag per field of `args_type`; flags that are not given leave no trace in the result."""
    lesson = inspect.getmodule(args_type).__doc__ or algorithm
    parser = Parser(
        prog=algorithm, description=lesson.splitlines()[0], allow_abbrev=False, argument_default=argparse.SUPPRESS
    )
    fields, kinds = {field.name: field for field in dataclasses.fields(args_type)}, _kinds(args_type)
    for heading, docs in field_docs(args_type).items():
        group = parser.add_argument_group(heading)
        for name, text in docs.items():
            flag, default = "--" + name.replace("_", "-"), _default(fields[name])
            text = text.replace("%", "%%")
            if default not in (None, {}, ""):
                text += f" (default {default})"
            if kinds[name] is bool:
                group.add_argument(flag, action=argparse.BooleanOptionalAction, help=text)
            else:
                metavar = {int: "N", float: "X", str: "TEXT", dict: "YAML"}[kinds[name]]
                group.add_argument(flag, help=text, metavar=metavar)
    return parser


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
    """
    task = envs.known(task)
    path = task.settings_file if task.own else YAML_DIRECTORY / f"{task.family}.yaml"
    if not (path and path.exists()):
        return {}
    content = read_yaml(path)
    _known(content, ("family", "tasks", "algorithms"), f"section of {path.name}")
    tasks, algorithms = content.get("tasks") or {}, content.get("algorithms") or {}
    _known(tasks, task.siblings, f"task in {path.name}")
    task_settings = dict(tasks.get(task.name.rpartition(":")[2]) or {})
    task_algorithms = task_settings.pop("algorithms", None) or {}
    settings = {}
    newer = () if task.own else set(_NEWER) - _kinds(args_type).keys()
    for section in (content.get("family"), task_settings, algorithms.get(algorithm), task_algorithms.get(algorithm)):
        section = {name: value for name, value in (section or {}).items() if name not in newer}
        settings |= convert(args_type, section, path.name)
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
    for section in (*content.values(), algorithms.get(algorithm, {})):
        merged |= section
    return convert(args_type, {name: value for name, value in merged.items() if name in _kinds(args_type)}, path.name)


def convert(args_type: type, settings: dict[str, Any], source: str) -> dict[str, Any]:
    """Settings by name with values of the right type; UsageError for an unknown name or an unreadable value."""
    kinds = {name: kind for name, kind in _kinds(args_type).items() if name not in _NOT_SETTINGS}
    settings = {str(name).replace("-", "_"): value for name, value in settings.items() if name not in ABOUT}
    _known(settings, kinds, f"setting in {source}")
    may_be_none = {field.name for field in dataclasses.fields(args_type) if field.default is None}
    return {
        name: None if value is None and name in may_be_none else _value(kinds[name], name, value)
        for name, value in settings.items()
    }


def _given(parser: Parser, args_type: type, argv: Sequence[str] | None) -> dict[str, Any]:
    kinds = _kinds(args_type)
    given = {name: _value(kinds[name], name, value) for name, value in vars(parser.parse_args(argv)).items()}
    if "env" in given:
        given["env"] = typed_task(given["env"]).name
    return given


def typed_task(text: str, flag: str = "--env") -> envs.Task:
    """The task that somebody typed; its module is imported, if it is one of their own."""
    try:
        return envs.find(text)
    except ValueError as error:
        raise UsageError(f"{flag}: {error}") from None


def _fresh(args_type: type, algorithm: str, given: dict[str, Any]) -> Any:
    own = convert(args_type, read_yaml(Path(given["config"])), given["config"]) if given.get("config") else {}
    task = {**own, **given}.get("env", args_type.env)
    preset = {**own, **given}.get("preset", args_type.preset)
    if preset not in PRESETS:
        raise UsageError(f"--preset is {preset!r}; {allowed(preset, PRESETS)}")
    try:
        base = family_settings(args_type, task, algorithm)
        if preset != "ours":
            base = preset_settings(args_type, preset, algorithm)
        settings = {**base, **own, **given}
    except ValueError as error:
        raise UsageError(f"--env: {error}") from None
    args = args_type(**settings)
    args.device = resolve_device(args.device)
    if args.eval_every is None:
        args.eval_every = max(1, args.total_steps // 122)  # as often as the protocol's 122 evaluations
    return args


# when a run is resumed
CHANGEABLE = ("total_steps", "eval_every", "eval_episodes", "device", "cuda_graphs", "checkpoint_every")


def _resumed(args_type: type, saved: dict[str, Any], given: dict[str, Any]) -> Any:
    """The settings of a saved run, with what may change and was given."""
    if given.get("config"):
        raise UsageError("--config cannot be used with --resume, which takes the settings of the run")
    settings = convert(args_type, saved, "the resumed run")
    settings["env"] = task_of_run(settings["env"], given.pop("env", None))
    if "device" in given:
        given = {**given, "device": resolve_device(given["device"])}
    for name, value in given.items():
        if name not in (*CHANGEABLE, "resume") and value != settings.get(name):
            raise UsageError(_cannot_change(name, settings.get(name), value))
    return args_type(**{**settings, **given})


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
        raise UsageError(f"the run is of task {saved!r}, not of {typed!r}")
    return typed


def _cannot_change(name: str, saved: Any, wanted: Any) -> str:
    flags = ", ".join("--" + n.replace("_", "-") for n in CHANGEABLE)
    flag = "--" + name.replace("_", "-")
    return f"{flag} is {saved!r} in the resumed run and cannot become {wanted!r}; only {flags} can change"


# ---- checking ----


def check(args: Any) -> None:
    """Ranges of the settings that all lessons share.

    Raises:
        UsageError: names the flag, its value and what is allowed.
    """
    at_least_one = "num_envs num_seeds rollout_length epochs minibatches hidden_size eval_every eval_episodes"
    for name in f"total_steps {at_least_one} checkpoint_every".split():
        require(args, name, getattr(args, name) >= 1, "it must be 1 or more")
    for name in ("actor_lr", "critic_lr", "adam_eps", "value_clip", "max_grad_norm"):
        require(args, name, 0 < getattr(args, name) < math.inf, "it must be greater than 0")
    for name in ("entropy_coef", "value_coef"):
        require(args, name, 0 <= getattr(args, name) < math.inf, "it must be 0 or more")
    gain = getattr(args, "critic_gain", 1.0)
    if not 0 <= gain < math.inf:
        raise UsageError(f"--critic-gain is {gain!r}; it must be 0 or more")
    for name in ("gamma", "gae_lambda"):
        require(args, name, 0 <= getattr(args, name) <= 1, "it must be between 0 and 1")
    require(args, "seed", 0 <= args.seed < 2**63, "it must be 0 or more (and below 2^63)")

    require(args, "name", not set(args.name) & {"/", os.sep, "\0"}, "it is part of a folder's name: no slashes")

    steps = args.rollout_length * args.num_envs
    if steps % args.minibatches:
        divisors = [n for n in range(1, steps + 1) if steps % n == 0]
        nearest = sorted(divisors, key=lambda n: abs(n - args.minibatches))[:2]
        raise UsageError(
            f"--minibatches is {args.minibatches}, which does not divide the {steps} environment steps of a rollout "
            f"(--rollout-length x --num-envs); the nearest that do are {' and '.join(map(str, sorted(nearest)))}"
        )
    require(args, "total_steps", args.total_steps >= steps, f"one update alone takes {steps} steps")
    check_device(args.device)
    try:
        task = envs.known(args.env)
    except ValueError as error:
        raise UsageError(f"--env: {error}") from None
    try:
        make_options(task.environment.Options, {**task.options, **args.env_options})
    except (ValueError, TypeError) as error:
        raise UsageError(f"--env-options: {error}") from None
    if args.value_per_agent:  # options may decide who is paid: only an environment knows
        is_paid_alike = envs.make(task, **args.env_options).has_shared_reward
        require(args, "value_per_agent", not is_paid_alike, f"{args.env} pays all agents alike")


def require(args: Any, name: str, holds: bool, allowed_values: str) -> None:
    """UsageError that names the flag, its value and what is allowed, unless `holds`."""
    if not holds:
        raise UsageError(f"--{name.replace('_', '-')} is {getattr(args, name)!r}; {allowed_values}")


# ---- helpers ----


def _kinds(args_type: type) -> dict[str, type]:
    """Field name -> int, float, bool, str or dict."""
    kinds = {}
    for name, hint in typing.get_type_hints(args_type).items():
        options = [kind for kind in typing.get_args(hint) if kind is not type(None)]
        kinds[name] = options[0] if type(None) in typing.get_args(hint) else typing.get_origin(hint) or hint
    return kinds


def _default(field: dataclasses.Field) -> Any:
    return field.default if field.default is not dataclasses.MISSING else field.default_factory()


def _value(kind: type, name: str, value: Any) -> Any:
    """A value from a command line (always text) or a yaml file as the kind that a field wants."""
    flag = "--" + name.replace("_", "-")
    try:
        if kind in (int, float) and (value is None or isinstance(value, (bool, list, dict))):
            raise ValueError(f"{value!r} is not a number")
        if kind is int:
            return parse_whole(str(value))
        if kind is float:
            return _number(value)
        if kind is dict:
            value = yaml.safe_load(value) if isinstance(value, str) else value
        if kind is str and value is not None and not isinstance(value, (dict, list)):
            return str(value)
    except (ValueError, yaml.YAMLError) as error:
        raise UsageError(f"{flag}: {error}") from None
    if not isinstance(value, kind):
        wanted = {bool: "true or false", dict: "a mapping like '{max_steps: 50}'"}.get(kind, f"of type {kind.__name__}")
        raise UsageError(f"{flag} is {value!r}; it must be {wanted}")
    return value


def _number(value: Any) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if math.isnan(number):
        raise ValueError(f"{value!r} is not a number")
    return number


def _known(names: Any, known: Any, what: str) -> None:
    for name in names:
        if name not in known:
            raise UsageError(f"unknown {what}: {name!r}; {allowed(name, known)}")
