"""Training that can be trusted: loop, metrics, checkpoints, resume.

The order of the data depends on (seed, epoch) alone, augmentation and random encodings on (seed, epoch, batch), so a run
that was stopped anywhere goes on from its checkpoint and ends with the same bits as one that never was.
"""

import contextlib
import dataclasses
import json
import signal
import threading
import time
import warnings
import weakref
from pathlib import Path

import numpy as np
from tqdm import tqdm

from agl_ref import __version__, data, files, validate
from agl_ref.engine import optim
from agl_ref.engine.loss import of_network as loss_of_network
from agl_ref.engine.loss import reduce_logits

from . import diagnostics, memory
from .checkpoint import CheckpointError, difference, read_checkpoint, write_checkpoint
from .config import LATER, TrainConfig, build_network, loss_of, require_batches, require_fitting
from .lock import hold

CHECKPOINT_SECONDS = 30.0
MAX_DESCRIPTION = 1 << 26  # bytes of a checkpoint beside the network's arrays: its metrics grow with the epochs
DIAGNOSE_EVERY = 20  # batches; the first of an epoch is measured, then each twentieth


class Interrupted(KeyboardInterrupt):
    """Training was stopped by the user after its state was saved."""


class Trainer:
    """One training run in one folder.

    Parameters
    ----------
    config : TrainConfig
    folder : path
        Gets config.json, metrics.jsonl, checkpoints/last.npz and figures/. Must not hold a run already, unless resumed.
    dataset : data.Dataset or data.EventDataset, optional
        Instead of the one that `config.data` names.
    start : {"new", "resume", "read"}
        Begin a run in this folder; go on from its checkpoint (from the start if it was killed before the first one);
        or only read it, for `load_checkpoint` and `evaluate`. No other process may train in the folder until `fit` ends
        or the trainer is no longer used.

    Raises
    ------
    ValueError
        If the folder holds a run already, holds none and is to be resumed, or another process trains in it.
    CheckpointError
        For a checkpoint of another architecture, dtype, configuration or data set, or a corrupt one.
    """

    def __init__(self, config, folder, dataset=None, start="new"):
        validate.one_of("start", start, ("new", "resume", "read"))
        self.config, self.folder = validate.instance("config", config, TrainConfig), validate.path("folder", folder)
        self.dataset = data.load(config.data) if dataset is None else dataset
        require_fitting(config, self.dataset)
        if config.resize is not None:
            self.dataset = self.dataset.resized(config.resize)
        self.loss = loss_of(config, self.dataset)
        memory.require_weights(config)
        self.net = build_network(config, self.dataset)
        memory.require(config, self.net, self.dataset, training=start != "read")
        if start != "read":
            require_batches(config, self.net, self.dataset)
        params = self.net.parameters()
        if config.optimiser == "sgd":
            self.optimiser = optim.SGD(params, config.lr, config.momentum, config.weight_decay)
        else:
            self.optimiser = optim.Adam(params, config.lr, weight_decay=config.weight_decay)
        self.mean, self.std = data.CIFAR10_MEAN, data.CIFAR10_STD
        if config.normalise == "data":
            events = isinstance(self.dataset, data.EventDataset)  # counts, which are taken as they are
            self.mean, self.std = (None, None) if events else data.channel_statistics(self.dataset.x_train)
            self.std = None if events else np.where(self.std > 0, self.std, 1.0)  # of a constant channel
        self.epoch, self.batch, self.loss_sum, self.correct = 0, 0, 0.0, 0
        self.diagnostics = diagnostics.Running()
        self._rows = None if start == "read" else []  # of metrics.jsonl; each checkpoint holds them too
        self._saved_at = time.monotonic()
        self._lock = None
        if start != "read":
            self._hold()
            with contextlib.ExitStack() as refused:
                refused.callback(self._lock.close)
                self._begin(start)
                refused.pop_all()

    def _hold(self):
        self._lock = hold(self.folder)
        weakref.finalize(self, self._lock.close)

    def _begin(self, start):
        if start == "resume":
            path = self.folder / "checkpoints" / "last.npz"
            if path.exists():
                self.load_checkpoint(path)
            self._write_metrics()
        elif (self.folder / "config.json").exists():
            raise ValueError(
                f"{self.folder}: expected a folder without a run, received one with config.json; resume it with "
                f"agl-ref train --resume {self.folder}, or choose another --out"
            )
        else:
            self._write_config()

    # --- data ---

    def encode(self, images, rng):
        """Images (N, H, W, C) or recordings of the data set to the network's input (T, N, H, W, C)."""
        if isinstance(images, data.Recordings):
            return images.frames(self.config.T, self.config.binning, self.net.dtype)
        if self.config.encoding == "direct":
            x = data.standardise(images, self.mean, self.std, self.net.dtype)
        else:
            x = data.to_float(images, self.net.dtype)
        return data.encode(x, self.config.T, self.config.encoding, rng)

    def augment(self, images, batch):
        """Training images of this batch of the current epoch, augmented; the same for the same seed, epoch and batch."""
        if self.config.augment == "none":
            return images
        return data.crop_flip(images, np.random.default_rng([self.config.seed, self.epoch, batch, 3]))

    # --- training ---

    def fit(self, progress=True):
        """Train to the last epoch. Ctrl-C finishes the step, saves, and raises Interrupted."""
        validate.boolean("progress", progress)
        if self._lock is None:
            raise ValueError(
                "start: expected 'new' or 'resume' of a run that is to be trained, received 'read'; open it anew"
            )
        if self._lock.closed:  # by an earlier call
            self._hold()
        stop = _StopOnSignal()
        with stop, self._lock:
            while self.epoch < self.config.epochs:
                self._epoch(stop, progress)
        return self

    def _epoch(self, stop, progress):
        config = self.config
        batches = data.batches(len(self.dataset.x_train), config.batch, config.seed, self.epoch)
        total = config.epochs * len(batches)
        started, skipped = time.monotonic(), self.batch
        label = f"{config.width} epoch {self.epoch + 1}/{config.epochs}"
        with tqdm(total=len(batches), initial=self.batch, desc=label, disable=not progress, leave=False) as bar:
            while self.batch < len(batches):
                index = batches[self.batch]
                rng = np.random.default_rng([config.seed, self.epoch, self.batch, 1])
                if config.schedule == "cosine":
                    step = self.epoch * len(batches) + self.batch
                    self.optimiser.lr = optim.cosine(config.lr, step, total)
                images = self.augment(self.dataset.x_train[index], self.batch)
                self.step(images, self.dataset.y_train[index], rng)
                self.batch += 1
                bar.update()
                bar.set_postfix(loss=f"{self.loss_sum / sum(map(len, batches[: self.batch])):.3f}", refresh=False)
                if stop.asked:
                    self.save()
                    raise Interrupted(
                        f"stopped in epoch {self.epoch + 1} after batch {self.batch} of {len(batches)}; state saved, "
                        f"go on with: agl-ref train --resume {self.folder}"
                    )
                if time.monotonic() - self._saved_at > CHECKPOINT_SECONDS:
                    self.save()
        n = len(self.dataset.x_train)
        row = {"epoch": self.epoch + 1, "train_loss": self.loss_sum / n, "train_accuracy": self.correct / n}
        row.update(self.evaluate())
        row["diagnostics"] = self.diagnostics.mean()
        row["seconds"] = round(time.monotonic() - started, 3)
        row["resumed_at_batch"] = skipped
        if not np.isfinite(self.loss_sum):
            raise diagnostics.NonFiniteError(
                f"training loss: expected finite numbers, received {self.loss_sum} as their sum"
            )
        self._rows.append(row)
        self.epoch, self.batch, self.loss_sum, self.correct = self.epoch + 1, 0, 0.0, 0
        self.diagnostics = diagnostics.Running()
        self.save()
        self._write_metrics()

    def step(self, images, labels, rng):
        """One optimiser step on one batch. Raises FloatingPointError before a parameter is changed.

        Every twentieth batch of an epoch, from its first, is also measured (`diagnostics.Observer`), which changes
        no bit of the run.
        """
        observe = diagnostics.Observer() if self.batch % DIAGNOSE_EVERY == 0 else None
        x = self.encode(images, rng)
        result = self.net.loss_and_grads(x, labels, self.loss, keep_trace=False, observe=observe)
        diagnostics.require_finite(result)
        if observe is not None:
            self.diagnostics.add(observe.layers(self.net))
        self.optimiser.step(result.grads)
        self.net.update_running_statistics(result.trace)
        self.loss_sum += result.loss * len(labels)
        self.correct += int((reduce_logits(result.logits).argmax(axis=1) == labels).sum())
        return result

    def evaluate(self, batch=memory.EVALUATED):
        """Accuracy, loss and the layers' statistics on the test images, with running statistics.

        Returns {"test_accuracy", "test_loss", "layers": {name: {statistic: list of T}}}. Raises FloatingPointError if a
        parameter, a statistic or the loss is not finite.
        """
        validate.integer("batch", batch)
        for name, array in {**self.net.parameters(), **self.net.running_statistics()}.items():
            if not np.isfinite(array).all():
                raise diagnostics.NonFiniteError(f"{name}: {validate.first_not_finite(array)}; take another checkpoint")
        x, y = self.dataset.x_test, self.dataset.y_test
        correct, loss, layers = 0, 0.0, diagnostics.Running()
        for start in range(0, len(x), batch):
            labels = y[start : start + batch]
            images = self.encode(x[start : start + batch], np.random.default_rng([self.config.seed, start, 2]))
            observe = diagnostics.Observer()
            logits = self.net.predict(images, observe)
            loss += loss_of_network(logits, labels, self.loss, self.net.conventions)[0] * len(labels)
            correct += int((reduce_logits(logits).argmax(axis=1) == labels).sum())
            layers.add(observe.layers(self.net), len(labels) / len(x))
        if not np.isfinite(loss):
            raise diagnostics.NonFiniteError(
                f"test loss: expected a finite number, received {loss}; lower the learning rate"
            )
        found = {"test_accuracy": correct / len(x), "test_loss": loss / len(x)}
        return {**found, "layers": diagnostics.as_json(layers.state["sums"])}

    def trace(self, images=memory.TRACED):
        """The Trace of the first test images with running statistics, for figures."""
        validate.integer("images", images)
        rng = np.random.default_rng([self.config.seed, 0, 2])
        return self.net.forward(self.encode(self.dataset.x_test[:images], rng), training=False)

    def metrics(self):
        """The rows of metrics.jsonl so far, by the run's checkpoint."""
        if self._rows is None:
            path = self.folder / "checkpoints" / "last.npz"
            self._rows = read_checkpoint(path)[0]["rows"] if path.exists() else []
        return list(self._rows)

    # --- checkpoints ---

    def _identity(self):
        """What a checkpoint must share with this run."""
        config = dataclasses.asdict(self.config)
        del config["data"]  # the same data may lie elsewhere; its fingerprint counts
        return {
            "architecture": {name: list(p.shape) for name, p in self.net.parameters().items()},
            "dtype": self.config.dtype,
            "data set": self.dataset.fingerprint(),
            "configuration": config,
        }

    def _arrays(self):
        groups = {
            "parameter": self.net.parameters(),
            "statistic": self.net.running_statistics(),
            "optimiser": self.optimiser.state,
        }
        return {f"{group}.{name}": array for group, named in groups.items() for name, array in named.items()}

    def save(self):
        """Write checkpoints/last.npz; a crash leaves the old one or the new one, whole."""
        meta = {
            "agl_ref": __version__,
            "identity": self._identity(),
            "epoch": self.epoch,
            "batch": self.batch,
            "loss_sum": self.loss_sum,
            "correct": self.correct,
            "optimiser_steps": self.optimiser.steps,
            "diagnostics": self.diagnostics.state,
            "rows": self.metrics(),
        }
        if not (self.folder / "config.json").exists():  # somebody deleted the folder: what is trained is not lost
            self._write_config()
        write_checkpoint(self.folder / "checkpoints" / "last.npz", meta, self._arrays())
        self._saved_at = time.monotonic()

    def _write_config(self):
        files.write_atomically(self.folder / "config.json", self.config.to_file().encode())

    def _write_metrics(self):
        text = "".join(json.dumps(row, allow_nan=False) + "\n" for row in self._rows)
        files.write_atomically(self.folder / "metrics.jsonl", text.encode())

    def load_checkpoint(self, path):
        """Take over parameters, statistics, optimiser state and position from a checkpoint.

        Raises CheckpointError, before anything is changed, for one that does not fit this run or cannot be read.
        """
        own = self._arrays()
        meta, arrays = read_checkpoint(path, sum(array.nbytes for array in own.values()) + MAX_DESCRIPTION)
        for what, mine in self._identity().items():
            theirs = meta["identity"][what]
            if what == "configuration":
                theirs = {**LATER, **theirs}
            if theirs != json.loads(json.dumps(mine)):
                raise CheckpointError(f"{path}: {difference(what, mine, theirs)}")
        if {k: (a.shape, a.dtype) for k, a in own.items()} != {k: (a.shape, a.dtype) for k, a in arrays.items()}:
            raise CheckpointError(f"{path}: expected the arrays of this network, received others; it is corrupt")
        if meta.get("agl_ref") != __version__:
            warnings.warn(
                f"{path} is of agl_ref {meta.get('agl_ref')}, this is {__version__}: the bits may differ from those of a run "
                "with one version",
                stacklevel=2,
            )
        for name, array in own.items():
            array[...] = arrays[name]
        self.epoch, self.batch = meta["epoch"], meta["batch"]
        self.loss_sum, self.correct = meta["loss_sum"], meta["correct"]
        self.optimiser.steps = meta["optimiser_steps"]
        self.diagnostics = diagnostics.Running(meta["diagnostics"])
        self._rows = meta["rows"]


def open_run(folder, start="resume", data_path=None):
    """The Trainer of a run folder, at its last checkpoint. `data_path` if the data moved; ValueError if it is no run."""
    path = validate.path("folder", folder) / "config.json"
    if not path.is_file():
        raise ValueError(f"{folder}: expected a run folder with config.json, received none; see agl-ref train --out")
    config = TrainConfig.from_file(path)
    if data_path is not None:
        validate.path("data_path", data_path)
        config = dataclasses.replace(config, data=str(data_path))
    return Trainer(config, folder, start=start)


def remove_run(folder):
    """Remove what a run without figures wrote to its folder, and the folder if nothing else is in it."""
    folder = Path(folder)
    for name in ("config.json", "metrics.jsonl", "checkpoints/last.npz"):
        (folder / name).unlink(missing_ok=True)
        (folder / f"{name}.tmp").unlink(missing_ok=True)
    (folder / ".lock").unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # something else is in one of them, or it is not there
        (folder / "checkpoints").rmdir()
        folder.rmdir()


class _StopOnSignal:
    """While active, the first Ctrl-C sets `asked`; the second acts as always. Does nothing outside the main thread."""

    def __init__(self):
        self.asked = False
        self._active = threading.current_thread() is threading.main_thread()

    def _ask(self, signum, frame):
        self.asked = True
        signal.signal(signal.SIGINT, self._before)

    def __enter__(self):
        if self._active:
            self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *error):
        if self._active:
            signal.signal(signal.SIGINT, self._before)
