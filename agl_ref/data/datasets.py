"""Data sets of images: the bundled subset, loaders, scaling, batch order.

Images are channels-last, labels are class numbers from 0. Nothing downloads, and no file is trusted: what is
truncated, of another format or out of range gets one line that names the file and what is wrong.
"""

import warnings
from pathlib import Path

import numpy as np

from agl_ref import validate

from . import formats, manifolds, spikes
from .dataset import Dataset
from .encoders import check_images
from .events import is_nmnist, load_nmnist

BUNDLED_FILE = Path(__file__).parent / "bundled" / "fashion_mnist_subset.npz"
BUNDLED_FINGERPRINT = "69bfd1e1fe7b4838a2342a18d916f2bae96abb073e100f5fe7d0b2b735b54bee"
FASHION_MNIST_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # where Debian's dataset-fashion-mnist puts it
FASHION_MNIST_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
# ERRATA: the constants of the official MPD-AGL runs (data_loader/loader.py), which many others share. The mean is that of
# all training pixels; the deviation is the mean of the images' own ones, that of all pixels is 0.2470, 0.2435, 0.2616
# (found in chenyaofo/image-classification-codebase, issue 5). `channel_statistics` computes the latter.
CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2023, 0.1994, 0.2010)
ACCEPTED = (
    "'bundled'; 'fashion-mnist'; 'randman'; a folder with the four IDX files of MNIST or Fashion-MNIST (plain or .gz); "
    "a folder with CIFAR-10's batches (binary or python version); a folder with N-MNIST's Train and Test; a folder "
    "with shd_train.h5 and shd_test.h5, or the same of ssc; SpikingJelly's events_np; an .npz with x and y"
)


def load(name_or_path):
    """The data set of that name, or in that file or folder, whose format is detected.

    Parameters
    ----------
    name_or_path : str or Path
        "bundled"; "fashion-mnist" (Debian's package dataset-fashion-mnist); "randman", also with options as in
        "randman:alpha=1,units=40"; or a path to a folder of IDX files, a folder of CIFAR-10 batches (either version),
        N-MNIST's folder, one with the files of SHD or SSC, SpikingJelly's events_np of DVS128 Gesture or CIFAR10-DVS, or an
        npz. For a path named like one of the names write "./bundled".

    Returns
    -------
    Dataset, or EventDataset for recordings and spikes

    Raises
    ------
    ValueError
        Nothing fits, or the file is damaged: one line that names it.
    """
    path = validate.path("data", name_or_path)
    if name_or_path == "bundled":
        return load_bundled()
    if name_or_path == "fashion-mnist":
        folder = find_fashion_mnist()
        if folder is None:
            raise ValueError(
                f"fashion-mnist: expected the IDX files in {FASHION_MNIST_FOLDER}, received none; "
                "install Debian's package dataset-fashion-mnist or give the path of a folder with them"
            )
        return load_idx(folder)
    if isinstance(name_or_path, str) and name_or_path.partition(":")[0] == "randman":
        return manifolds.named(name_or_path)
    if path.is_dir():
        if formats.find_idx(path):
            return load_idx(path)
        if formats.find_cifar10(path):
            return load_cifar10(path)
        if is_nmnist(path):
            return load_nmnist(path)
        if spikes.find_heidelberg(path):
            return spikes.load_heidelberg(path)
        if spikes.find_events_np(path):
            return spikes.load_events_np(path)
        nested = [folder for folder in (path / "raw", *sorted(path.glob("*MNIST/raw"))) if formats.find_idx(folder)]
        if len(nested) > 1:
            raise ValueError(
                f"{path}: expected one data set, received {', '.join(map(str, nested))}; give one of these"
            )
        if nested:  # below the root of torchvision.datasets
            return load_idx(nested[0])
    elif path.is_file() and path.suffix.lower() == ".npz":
        return load_npz(path)
    what = (
        "a folder without such files" if path.is_dir() else "another kind of file" if path.exists() else "no such path"
    )
    raise ValueError(f"{path}: expected one of: {ACCEPTED}; received {what}; give one of these")


def load_bundled():
    """The bundled subset of Fashion-MNIST: 5,000 training and 1,000 test images, 28 x 28, classes balanced.

    The first 500 and 100 images of each class in the official training and test file, in their order there;
    cut by `python -m agl_ref.data.bundled.make_subset`. Accuracies on it are not comparable with those on the
    full data set.

    Source: Xiao, Rasul, Vollgraf, "Fashion-MNIST", arXiv 1708.07747; MIT, see
    agl_ref/data/bundled/LICENSE-fashion-mnist.txt.
    """
    arrays, num_classes = formats.read_npz(BUNDLED_FILE)
    dataset = Dataset("fashion-mnist-subset", *arrays, num_classes, FASHION_MNIST_CLASSES)
    if dataset.fingerprint() != BUNDLED_FINGERPRINT:
        raise ValueError(f"{BUNDLED_FILE}: expected the bundled subset, received other images; reinstall agl_ref")
    return dataset


def find_fashion_mnist():
    """The folder of Debian's package dataset-fashion-mnist if its four files are there, else None."""
    return FASHION_MNIST_FOLDER if len(formats.find_idx(FASHION_MNIST_FOLDER)) == 4 else None


def load_idx(folder, num_classes=10):
    """MNIST or alike: a folder with {train,t10k}-{images-idx3,labels-idx1}-ubyte, plain or gzip.

    The class names are Fashion-MNIST's if the folder's name has "fashion" in it, else None. Raises ValueError
    naming the file: missing, truncated, trailing bytes, wrong magic number, sizes that disagree, labels >=
    num_classes.
    """
    folder, num_classes = validate.path("folder", folder), validate.integer("num_classes", num_classes, low=2)
    arrays = formats.read_idx_folder(folder, num_classes)
    place = folder.resolve()
    name = place.parent.name if place.name == "raw" else place.name  # torchvision's FashionMNIST/raw
    fashion = "fashion" in name.lower() and num_classes == len(FASHION_MNIST_CLASSES)
    names = FASHION_MNIST_CLASSES if fashion else None
    return formats.checked(folder, Dataset, name, *arrays, num_classes, names)


def load_cifar10(folder):
    """CIFAR-10 from a folder (or its parent) with the six batches of the binary or the python version.

    The python version's files are pickles; they are read without executing them. All six files must hold the
    same number of images, as the official ones do. Raises ValueError naming the file. Images (N, 32, 32, 3),
    red, green, blue. Source: Krizhevsky, "Learning multiple layers of features from tiny images", 2009.
    """
    return Dataset("cifar-10", *formats.read_cifar10_folder(validate.path("folder", folder)), 10, CIFAR10_CLASSES)


def load_npz(path, num_classes=None):
    """An npz with x and y; or x, y, x_test and y_test; or x_train, y_train, x_test and y_test.

    Images are (N, H, W) or (N, H, W, C), uint8 (or float32 or float64, kept as they are), labels integers
    (N,). With x and y alone every sixth sample of each class becomes the test set. num_classes defaults to the
    largest training label + 1. Arrays of objects are refused (`allow_pickle` is never on). Raises ValueError
    naming the file; warns of classes without a training or a test image, such as class 0 of labels from 1.
    """
    path = validate.path("path", path)
    if num_classes is not None:
        validate.integer("num_classes", num_classes, low=2)
    arrays, num_classes = formats.read_npz(path, num_classes)
    return _with_every_class(path, formats.checked(path, Dataset, path.stem, *arrays, num_classes))


def _with_every_class(path, dataset):
    """The data set, with a warning that names the classes that have no training or no test image."""
    missing = {
        part: np.setdiff1d(np.arange(dataset.num_classes), y).tolist()
        for part, y in (("training", dataset.y_train), ("test", dataset.y_test))
    }
    found = [f"no {part} image of class {_listed(labels)}" for part, labels in missing.items() if labels]
    if found:
        first = int(min(dataset.y_train.min(), dataset.y_test.min()))
        fix = f"the labels start at {first}: subtract that" if first else "add some, or give x_test and y_test"
        warnings.warn(f"{path}: expected images of all {dataset.num_classes} classes, received {' and '.join(found)}; {fix}",
                      stacklevel=3)  # fmt: skip
    return dataset


def _listed(labels):
    """Ten of them at most."""
    more = f" and {len(labels) - 10} more" if len(labels) > 10 else ""
    return ", ".join(map(str, labels[:10])) + more


# ---- scaling -----------------------------------------------------------------------------------------------


def to_float(x, dtype):
    """Pixels 0..255 as floats in [0, 1]: x / 255, rounded once to `dtype`.

    x : (N, H, W, C), uint8; or float32 or float64, which come back unscaled in `dtype`. dtype : float32 or
    float64.
    """
    x, dtype = check_images("x", x), validate.float_dtype(dtype)
    if x.dtype != np.uint8:
        return x.astype(dtype)
    return (np.arange(256) / 255).astype(dtype)[x]


def channel_statistics(x):
    """Mean and (population) standard deviation of each channel of `to_float(x)`, two float64 arrays (C,).

    Give it the training images alone. For uint8 the sums are integers, so no order of summation matters.
    """
    x = check_images("x", x)
    if x.dtype != np.uint8:
        return x.mean(axis=(0, 1, 2), dtype=np.float64), x.std(axis=(0, 1, 2), dtype=np.float64)
    values, count = np.arange(256), x[..., 0].size
    mean, std = np.empty(x.shape[3]), np.empty(x.shape[3])
    for c in range(x.shape[3]):
        histogram = np.bincount(x[..., c].ravel(), minlength=256)
        first, second = int(histogram @ values), int(histogram @ values**2)
        mean[c] = first / (255 * count)
        std[c] = np.sqrt((count * second - first**2) / (255 * count) ** 2)
    return mean, std


def standardise(x, mean, std, dtype):
    """(to_float(x) - mean) / std per channel, computed in float64 and rounded once to `dtype`.

    x : (N, H, W, C), uint8, float32 or float64. mean, std : (C,) from `channel_statistics` of the training
    images. Raises ValueError where std is not positive (a constant channel) or a length is not C.
    """
    x, dtype = check_images("x", x), validate.float_dtype(dtype)
    mean, std = (_per_channel(name, value, x.shape[3]) for name, value in (("mean", mean), ("std", std)))
    if std.min() <= 0:
        raise ValueError(f"std: expected positive numbers, received {std.min()}; use 1 for a constant channel")
    if x.dtype != np.uint8:
        return ((x - mean) / std).astype(dtype)
    table = ((np.arange(256)[:, np.newaxis] / 255 - mean) / std).astype(dtype)  # (256, C)
    return table[x, np.arange(x.shape[3])]


def _per_channel(name, value, channels):
    """A list, tuple or array of one number for each channel, as float64."""
    if not isinstance(value, np.ndarray):
        value = np.array([validate.number(name, number) for number in validate.sequence(name, value)])
    validate.same_shape(name, validate.float_array(name, value), (channels,), "the channels of x")
    return value.astype(np.float64)


# ---- batches -----------------------------------------------------------------------------------------------


def batches(n, batch_size, seed, epoch):
    """Index arrays that cover 0..n-1 once in random order; the last may be shorter.

    The order depends on (seed, epoch) alone: it is `np.random.default_rng([seed, epoch]).permutation(n)`, cut
    into pieces of batch_size. A resumed run therefore sees the same batches. n, batch_size >= 1; seed, epoch
    >= 0.
    """
    n, batch_size = validate.integer("n", n), validate.integer("batch_size", batch_size)
    seed, epoch = validate.integer("seed", seed, low=0, high=None), validate.integer("epoch", epoch, low=0)
    order = np.random.default_rng([seed, epoch]).permutation(n)
    return [order[start : start + batch_size] for start in range(0, n, batch_size)]
