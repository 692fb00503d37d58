"""Augmentation of training images: a pure function of the images and a random generator."""

import numpy as np

from agl_ref import validate

from .encoders import check_images, generator

AUGMENTATIONS = ("none", "crop-flip")


def crop_flip(images, rng, padding=4):
    """Each image cut at a random place out of its zero-padded self, then mirrored left to right or not.

    The augmentation with which CIFAR-10 is usually trained (He et al., CVPR 2016, section 4.2), the official MPD-AGL runs
    included; those add AutoAugment's CIFAR-10 policy, which is not here. Zero is black: augment before standardising.

    Parameters
    ----------
    images : ndarray, (N, H, W, C), uint8, float32 or float64
    rng : numpy.random.Generator, or an integer >= 0 as seed
        Drawn from are `rng.integers(0, 2 * padding + 1, (2, N))`, the upper left corners of the cuts in the padded images
        (row, column; `padding` is the image unmoved), then `rng.integers(0, 2, N)`, 1 where to mirror.
    padding : int, >= 0
        Pixels on each side, and so the largest shift.

    Returns
    -------
    ndarray
        A new array of the images' shape and dtype.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or rank, no rng, or a negative padding.
    """
    check_images("images", images)
    padding, rng = validate.integer("padding", padding, low=0), generator(rng)
    N, H, W, _ = images.shape
    top, left = rng.integers(0, 2 * padding + 1, (2, N))
    mirror = rng.integers(0, 2, N).astype(bool)
    padded = np.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    cuts = np.lib.stride_tricks.sliding_window_view(padded, (H, W), axis=(1, 2))  # (N, 2p + 1, 2p + 1, C, H, W)
    out = np.ascontiguousarray(np.moveaxis(cuts[np.arange(N), top, left], 1, -1))
    out[mirror] = out[mirror, :, ::-1]
    return out
