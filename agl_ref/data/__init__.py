"""Data sets, and what turns them into the input of a network.

dataset.py, datasets.py, formats.py, unpickle.py   images: checked arrays, the loaders, files of MNIST and CIFAR-10
events.py, spikes.py        recordings of event cameras, files of spikes
encoders.py, augmentation.py, manifolds.py   images over time, augmented images, a task made of spike times
bundled/                    the images that come with the package
"""

from agl_ref.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "augmentation": ("AUGMENTATIONS", "crop_flip"),
        "dataset": ("Dataset", "first_of_each_class"),
        "datasets": (
            "ACCEPTED", "BUNDLED_FILE", "BUNDLED_FINGERPRINT", "CIFAR10_CLASSES", "CIFAR10_MEAN", "CIFAR10_STD",
            "FASHION_MNIST_CLASSES", "FASHION_MNIST_FOLDER", "batches", "channel_statistics",
            "find_fashion_mnist", "load", "load_bundled", "load_cifar10", "load_idx", "load_npz",
            "standardise", "to_float",
        ),
        "encoders": ("ENCODINGS", "encode", "simulated_events"),
        "manifolds": ("randman",),
        "spikes": ("load_events_np", "load_heidelberg"),
        "events": (
            "BINNINGS", "EventDataset", "Recordings", "event_frames", "from_tonic", "load_nmnist", "read_nmnist",
        ),
    },
)  # fmt: skip
