"""What decides the bits of a training run: its configuration, and the network that it describes."""

import dataclasses
import hashlib
import json
import math

import numpy as np

from agl_ref import data, files, validate
from agl_ref.conventions import Conventions
from agl_ref.engine import models
from agl_ref.engine.loss import LOSSES, Loss
from agl_ref.engine.surrogate import code_of

from .memory import blocks_of

NETWORKS = ("conv_snn", "vgg_snn", "sew_resnet19", "fc_snn")
POOLED = ("conv_snn", "vgg_snn")  # networks with a choice of pools
OPTIMISERS = ("sgd", "adam")
SCHEDULES = ("cosine", "constant")
WIDTHS, NORM_SHIFTS = (Conventions.choices()[field] for field in ("width", "norm_shift"))
NORMALISATIONS = ("data", "cifar10")
MAX_BYTES = 100_000  # of config.json
LATER = {  # options that older runs do not name, and what they had
    "norm_shift": "beta",
    "gamma": 1.0,
    "resize": None,
    "class_weights": None,
    "label_smoothing": 0.0,
    "tet_lam": 1e-3,
    "pool": "average",
}


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Everything that decides the bits of a run; written to config.json.

    `width` (a rule), `fixed_width` (kappa for "fixed") and `norm_shift` are those of `Conventions`; every tdBN's scale starts
    at `gamma`. `channels` are those of the network's layers (None: the network's own). `augment` acts on training images
    alone. `normalise`, for images encoded "direct": with the training images' own statistics ("data") or the official runs'
    constants ("cifar10"). `binning` makes T frames of event recordings, by equal time or count, after `resize`, (H, W), has
    brought them to a smaller sensor (`Recordings.resized`). `class_weights`, `label_smoothing` and `tet_lam` are those of
    `Loss`; the weights "balanced" are n / (K n_k), for n_k of the n training images in class k. `pool`, of conv_snn and
    vgg_snn, is one of `models.POOLS`.

    Raises ValueError or TypeError for values out of range.
    """

    data: str = "bundled"
    network: str = "conv_snn"
    channels: tuple | None = None
    neuron: str = "lif"
    decay: float = 0.2
    v_th: float = 0.5
    width: str = "adaptive"
    fixed_width: float = 1.0
    norm_shift: str = "beta"
    gamma: float = 1.0
    surrogate: str = "rectangular"
    T: int = 4
    encoding: str = "direct"
    augment: str = "none"
    normalise: str = "data"
    binning: str = "time"
    resize: tuple | None = None
    epochs: int = 5
    batch: int = 50
    optimiser: str = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: str = "cosine"
    loss: str = "ce"
    class_weights: tuple | str | None = None
    label_smoothing: float = 0.0
    tet_lam: float = 1e-3
    pool: str = "average"
    seed: int = 0
    dtype: str = "float32"

    def __post_init__(self):
        for name, allowed in (
            ("network", NETWORKS),
            ("neuron", models.NEURONS),
            ("width", WIDTHS),
            ("norm_shift", NORM_SHIFTS),
            ("encoding", data.ENCODINGS),
            ("augment", data.AUGMENTATIONS),
            ("normalise", NORMALISATIONS),
            ("binning", data.BINNINGS),
            ("optimiser", OPTIMISERS),
            ("schedule", SCHEDULES),
            ("loss", LOSSES),
            ("dtype", ("float32", "float64")),
            ("pool", models.POOLS),
        ):
            validate.one_of(name, getattr(self, name), allowed)
        if self.network not in POOLED and self.pool != "average":
            raise ValueError(
                f"pool: expected 'average' with {self.network}, received {self.pool!r}; use one of {', '.join(POOLED)}"
            )
        plain = {name: validate.integer(name, getattr(self, name)) for name in ("T", "epochs", "batch")}
        plain["seed"] = validate.integer("seed", self.seed, low=0, high=None)
        for name, low, open_low in (
            ("fixed_width", 0, False), ("v_th", 0, True), ("gamma", 0, True), ("lr", 0, True), ("weight_decay", 0, False)
        ):  # fmt: skip
            plain[name] = validate.number(
                name, getattr(self, name), low=low, low_open=open_low, dtype=np.dtype(self.dtype)
            )
        dtype = np.dtype(self.dtype)
        plain["momentum"] = validate.number("momentum", self.momentum, low=0, high=1, high_open=True, dtype=dtype)
        plain["decay"] = validate.decay(self.decay, dtype=dtype)
        if self.neuron == "plif":
            validate.number("decay", self.decay, low=0, low_open=True, high=1, high_open=True, dtype=dtype)
        if isinstance(self.class_weights, str):
            validate.one_of("class_weights", self.class_weights, ("balanced",))
        else:
            plain["class_weights"] = Loss(class_weights=self.class_weights).class_weights
        plain["label_smoothing"] = validate.number(
            "label_smoothing", self.label_smoothing, low=0, high=1, high_open=True
        )
        plain["tet_lam"] = validate.number("tet_lam", self.tet_lam, low=0, high=1)
        if self.resize is not None:
            sides = validate.sequence("resize", self.resize, 2)
            plain["resize"] = tuple(validate.integer("resize", side) for side in sides)
        code_of(self.surrogate)
        validate.instance("data", self.data, str, "pass a name or a path as text")
        if self.channels is not None:
            plain["channels"] = tuple(
                validate.integer("channels", c) for c in validate.sequence("channels", self.channels)
            )
            if not self.channels:
                raise ValueError(
                    "channels: expected at least one number, received none; leave it out for the network's own"
                )
        for name, value in plain.items():  # Python's own numbers: JSON has no NumPy ones
            object.__setattr__(self, name, value)

    @property
    def conventions(self):
        return Conventions(width=self.width, fixed_width=self.fixed_width, norm_shift=self.norm_shift)

    def to_json(self):
        return json.dumps(dataclasses.asdict(self), indent=1)

    def to_file(self):
        """The text of config.json: `to_json` with a checksum, which `from_json` compares if it is there."""
        values = dataclasses.asdict(self)
        return json.dumps({**values, "sha256": checksum(values)}, indent=1)

    @classmethod
    def from_file(cls, path):
        """`from_json` of a run's config.json."""
        return cls.from_json(files.read_text(path, MAX_BYTES), str(path))

    @classmethod
    def from_json(cls, text, name="config.json"):
        try:
            values = json.loads(validate.instance("text", text, str, "read the file first"))
            said = values.pop("sha256", None) if isinstance(values, dict) else None
            known = {field.name for field in dataclasses.fields(cls)}
            if not isinstance(values, dict) or set(values | LATER) != known:
                raise ValueError(f"expected exactly the fields {', '.join(sorted(known))}")
            if said not in (None, checksum(values)):
                raise ValueError("a checksum of other values; start a new run for other options")
            return cls(**{**LATER, **values})
        except (ValueError, TypeError, RecursionError) as error:
            raise ValueError(
                f"{name}: expected a configuration written by agl_ref, received one with: {error}"
            ) from None


def checksum(values):
    """SHA-256, hexadecimal, of values as JSON."""
    return hashlib.sha256(json.dumps(values, indent=1).encode()).hexdigest()


def build_network(config, dataset):
    """The network that `config` describes, for this data set's images and classes."""
    validate.instance("config", config, TrainConfig)
    validate.instance("dataset", dataset, data.Dataset, "use agl_ref.data.load")
    height, width, channels = dataset.image_shape
    if height != width == channels:  # (N, C, H, W) was taken for (N, H, W, C)
        raise ValueError(
            f"data {dataset.name}: expected images (N, H, W, C), received {height}x{width} pixels with {channels} channels; "
            "their channels seem to stand first: x.transpose(0, 2, 3, 1)"
        )
    channels = 2 if config.encoding == "events" else channels
    sizes = {} if config.channels is None else {"channels": config.channels}
    if config.network in POOLED:
        sizes["pool"] = config.pool
    net = getattr(models, config.network)(
        in_channels=channels,
        image_size=(height, width),
        num_classes=dataset.num_classes,
        neuron=config.neuron,
        decay=config.decay,
        v_th=config.v_th,
        conventions=config.conventions,
        surrogate=config.surrogate,
        dtype=np.dtype(config.dtype),
        seed=config.seed,
        **sizes,
    )
    for name, value in net.parameters().items():
        if name.endswith(".gamma"):
            value *= config.gamma
    return net


def loss_of(config, dataset):
    """The `Loss` that `config` describes, for this data set's classes. Raises ValueError."""
    weights = config.class_weights
    if weights == "balanced":
        counts = np.bincount(dataset.y_train, minlength=dataset.num_classes)
        if not counts.all():
            raise ValueError(
                f"class_weights: expected training images of every class for 'balanced', received none of class "
                f"{int(np.argmin(counts))}; give the weights as numbers"
            )
        weights = (counts.sum() / (len(counts) * counts)).tolist()
    loss = Loss(config.loss, weights, config.label_smoothing, config.tet_lam)
    loss.require_classes(dataset.num_classes)
    return loss


def require_batches(config, net, dataset):
    """Refuse a batch in which a tdBN has one value per channel, whose variance does not exist. Raises ValueError."""
    batch = min(len(dataset.x_train) % config.batch or config.batch, len(dataset.x_train))
    for block, shape in blocks_of(net.layers, net.input_shape):
        if block.norm is not None and config.T * batch * math.prod(block.output_shape(shape)[:-1]) < 2:
            raise ValueError(
                f"batch: expected at least 2 values per channel in {block.name}, received 1: with --batch {config.batch} the "
                f"last of {len(dataset.x_train)} images is alone, and T is 1; use another --batch, or --T 2"
            )


def require_fitting(config, dataset):
    """Refuse options of `config` that mean nothing for this data set. Raises ValueError or TypeError."""
    validate.instance("config", config, TrainConfig)
    validate.instance("dataset", dataset, data.Dataset, "use agl_ref.data.load")
    if isinstance(dataset, data.EventDataset):
        for name, only in (("encoding", "direct"), ("augment", "none"), ("normalise", "data")):
            if getattr(config, name) != only:
                raise ValueError(
                    f"{name}: expected {only!r} with event recordings, received {getattr(config, name)!r}; leave it out"
                )
        (H, W), (h, w) = dataset.x_train.sensor, config.resize or (1, 1)
        if h > H or w > W:
            raise ValueError(f"resize: expected at most the sensor's {H},{W}, received {h},{w}; leave it out")
    elif config.resize is not None:
        raise ValueError(f"resize: expected none with images, received {config.resize}; leave it out")
    elif config.normalise == "cifar10" and (config.encoding != "direct" or dataset.image_shape[2] != 3):
        raise ValueError(
            "normalise: expected 'data' unless images of three channels are encoded direct, received 'cifar10' with "
            f"{dataset.image_shape[2]} channels encoded {config.encoding}; leave it out"
        )
