"""A classification task's training and test images, checked once."""

import hashlib
from dataclasses import dataclass, replace

import numpy as np

from agl_ref import validate

from .encoders import check_images


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training and test images of one classification task.

    Attributes
    ----------
    name : str
    x_train, x_test : ndarray, (N, H, W, C), uint8
        Pixels 0..255, channels last. (`load_npz` also admits float32 and float64, which are kept as they
        are.)
    y_train, y_test : ndarray, (N,), int64
        Class numbers 0..num_classes-1.
    num_classes : int
    class_names : tuple of str, or None

    The arrays are read-only views. Raises ValueError or TypeError where shapes, dtypes or labels disagree.
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    num_classes: int
    class_names: tuple | None = None

    def __post_init__(self):
        validate.instance("name", self.name, str)
        validate.integer("num_classes", self.num_classes, low=2)
        if self.class_names is not None:
            validate.sequence("class_names", self.class_names, self.num_classes, str)
        for part in ("train", "test"):
            x = self._checked("x_" + part, getattr(self, "x_" + part))
            y = validate.labels(getattr(self, "y_" + part), len(x), self.num_classes)
            y.flags.writeable = False
            object.__setattr__(self, "x_" + part, x)
            object.__setattr__(self, "y_" + part, y)
        self._require_alike()

    @staticmethod
    def _checked(name, x):
        x = check_images(name, x).view()
        x.flags.writeable = False
        return x

    def _require_alike(self):
        if self.x_train.shape[1:] != self.x_test.shape[1:] or self.x_train.dtype != self.x_test.dtype:
            raise ValueError(
                f"x_test: expected {self.x_train.dtype} images of shape {self.image_shape} like x_train, "
                f"received {self.x_test.dtype} of shape {self.x_test.shape[1:]}; use one shape and dtype"
            )

    @property
    def image_shape(self):
        """(H, W, C)."""
        return self.x_train.shape[1:]

    def fingerprint(self):
        """SHA-256 (hex) of the four arrays' names, dtypes, shapes and bytes (little-endian)."""
        digest = hashlib.sha256()
        for key in ("x_train", "y_train", "x_test", "y_test"):
            array = getattr(self, key)
            array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
            digest.update(f"{key} {array.dtype.str} {array.shape}\n".encode())
            digest.update(array.data)
        return digest.hexdigest()

    def subset(self, n_train, n_test):
        """The first images of each class in file order, as many of each class as possible, order kept.

        Where n is not a multiple of num_classes, the first n % num_classes classes give one image more.
        Raises ValueError where a class has too few images.
        """
        train = first_of_each_class(self.y_train, n_train, self.num_classes)
        test = first_of_each_class(self.y_test, n_test, self.num_classes)
        parts = {"x_train": self.x_train[train], "y_train": self.y_train[train]}
        parts |= {"x_test": self.x_test[test], "y_test": self.y_test[test]}
        return replace(self, name=f"{self.name}[{n_train}+{n_test}]", **parts)


def first_of_each_class(y, n, num_classes):
    """Ascending indices of n labels: the first ceil or floor(n / num_classes) of each class in `y`."""
    n, num_classes = validate.integer("n", n), validate.integer("num_classes", num_classes)
    y = validate.labels(y, np.size(y), num_classes)
    chosen = []
    for label in range(num_classes):
        wanted = n // num_classes + (label < n % num_classes)
        found = np.flatnonzero(y == label)[:wanted]
        if len(found) < wanted:
            raise ValueError(f"n: expected {wanted} images of class {label}, received {len(found)}; ask for fewer")
        chosen.append(found)
    return np.sort(np.concatenate(chosen))
