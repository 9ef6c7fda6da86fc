"""Packaging. `yaml/` lies beside the package in a checkout and travels inside it, as `torch_mars/yaml/`, in a wheel."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+?)"', (ROOT / "torch_mars/__init__.py").read_text())[1]

DOCS = ["mkdocs>=1.6,<2", "mkdocs-material>=9.6,<10", "mkdocstrings[python]>=1,<2", "latex2mathml>=3.78,<4"]
EXPORT = ["onnx>=1.19", "onnxscript>=0.5.4", "onnxruntime>=1.23"]
CLUSTER = ["submitit>=1.5,<2", "psycopg2-binary>=2.9,<3"]
NOTEBOOK = ["ipykernel>=6.29", "matplotlib>=3.8", "nbclient>=0.10", "nbformat>=5.10"]

EXTRAS = {
    "test": [
        "pytest>=8",
        "hypothesis>=6.100",
        "pytest-timeout>=2.3",
        "pytest-xdist>=3.6",
        "pygame>=2.6",
        "matplotlib>=3.8",
        "optuna>=4",
        "scipy>=1.13",
        "jsonschema>=4",
        "imageio-ffmpeg>=0.5",
        *CLUSTER,
        *DOCS,
        *EXPORT,
    ],
    "docs": DOCS,
    "interop": ["stable-baselines3>=2.9", "sb3-contrib>=2.9"],
    "render": ["pygame>=2.6"],
    "video": ["imageio-ffmpeg>=0.5"],
    "plots": ["matplotlib>=3.8"],
    "tune": ["optuna>=4", "matplotlib>=3.8"],
    "cluster": CLUSTER,
    "track": ["wandb>=0.31", "mlflow>=3"],
    "export": EXPORT,
    "notebook": NOTEBOOK,
    "parity": ["jaxmarl==0.2.0", "jumanji==1.1.2"],
}
FOR_USERS = ("test", "render", "video", "plots", "tune", "cluster", "track", "export", "notebook")
EXTRAS["all"] = sorted({requirement for name in FOR_USERS for requirement in EXTRAS[name]})

setup(
    name="torch_mars",
    version=VERSION,
    description="MAPPO, MASPO and MARS on batched multi-agent environments, in PyTorch",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license_expression="MIT",
    license_files=["LICENSE"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Education",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    keywords="multi-agent reinforcement-learning policy-gradient trust-region mappo pytorch",
    python_requires=">=3.11",
    packages=[*find_packages(include=["torch_mars", "torch_mars.*"]), "torch_mars.yaml"],
    package_dir={"torch_mars.yaml": "yaml"},
    package_data={"torch_mars": ["py.typed", "teams/*.pt"], "torch_mars.yaml": ["*.yaml"]},
    install_requires=[
        "torch>=2.9",
        "numpy>=2.0",
        "gymnasium>=1.1",  # AutoresetMode
        "pettingzoo>=1.25",
        "numba>=0.61",
        "tensorboard>=2.18",
        "pyyaml>=6.0",
        "pillow>=10.1",  # pictures of environments
        "tqdm>=4.66",  # progress bar
        "filelock>=3.21",  # one writer to a run; PyTorch needs it, too
    ],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["torch-mars = torch_mars.__main__:run"]},
)
