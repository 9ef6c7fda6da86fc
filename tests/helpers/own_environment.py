"""Virtual environments for packages whose pins clash with ours: nightly tests run such packages in one of their own."""

import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[2]


def python_with(folder: Path, *requirements: str) -> Path:
    """The Python of a new virtual environment with `requirements`, and with all that is installed here behind them.

    Of a package that is in both, its own version counts. So nothing large (torch) is downloaded twice.

    Args:
        folder: of the environment, such as a `tmp_path`.
        requirements: as pip takes them.
    """
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    inside = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    here = sysconfig.get_path("purelib")
    (inside / "behind.pth").write_text(f"{ROOT}\nimport site; site.addsitedir({here!r})\n")
    python = folder / "bin" / "python"
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", *requirements], check=True)
    return python
