"""What every environment's pictures are held to."""

import numpy as np


def check(pictures):
    """uint8 [H, W, 3] with more than a handful of colours; different situations look different."""
    for picture in pictures:
        assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 10
    assert not np.array_equal(pictures[0], pictures[1])
