"""yaml files."""

from pathlib import Path
from typing import Any

import yaml

from torch_mars.run.cli import UsageError


def read_yaml(path: Path) -> dict[str, Any]:
    """A mapping from a yaml file; UsageError if it cannot be read or is no mapping."""
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid yaml: {' '.join(str(error).split())}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError(f"{path} must hold settings as `name: value`, not a {type(content).__name__}")
    return content
