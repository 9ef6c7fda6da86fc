"""Tests use small tensors: one thread is fastest, and fair to whatever else runs on the machine."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch  # noqa: E402 - after the number of threads is set

torch.set_num_threads(1)
