"""Data: the bundled images, readers of published formats, event recordings, encoders, augmentation."""

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
