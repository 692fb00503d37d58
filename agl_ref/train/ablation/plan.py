"""The paper's claim put to the test: many training runs that differ in the rule for kappa, in one other axis, or in the seed.

A plan is a dict of experiments {name: Experiment}; its runs are `TrainConfig` values, each trained once however many
experiments share it.
"""

import dataclasses
import hashlib
import json
import shlex
from collections.abc import Mapping, Set

from agl_ref import validate
from agl_ref.train.config import LATER, WIDTHS, TrainConfig

FIXED_WIDTHS = (0.5, 1.0, 2.5, 5.0, 10.0)
RULES = ("adaptive", "geometric", "exact", "empirical")
TRAINABLE = (*FIXED_WIDTHS[:3], *RULES)  # 5 and 10 hardly train a deep network: headline and depth show it
BASELINE = "adaptive"  # every other width is compared with it, seed by seed
SHIFTED = "adaptive + beta V_th"  # the same with norm_shift "beta V_th"
KEPT = ("coverage", "firing_rate", "gradient_norm", "nonzero_gradient", "width", "std", "std_theorem1", "std_exact")

# Eight convolutions of 4, 8, 16, 16, 32, 32, 32, 32 channels: the paper's VGGSNN, narrow; its runs' momentum and batch.
DEEP = {"network": "vgg_snn", "channels": (4, 8, 16, 32), "neuron": "plif", "T": 2, "batch": 100}
SHALLOW = {**DEEP, "network": "conv_snn", "channels": (16, 32, 64)}
FULL = {"data": "fashion-mnist", "epochs": 4}
SUBSET = {"data": "bundled", "epochs": 8, "batch": 50}
SHORT = {**SUBSET, "epochs": 4}


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Arms {name: settings of TrainConfig}, each trained with all `widths` and with seeds 0 .. seeds - 1.

    `axis` is the name of the number that the arms differ in, where they are points on an axis.
    """

    question: str
    arms: dict
    widths: tuple = (*FIXED_WIDTHS, *RULES)
    seeds: int = 3
    axis: str | None = None

    def __post_init__(self):
        validate.instance("question", self.question, str)
        validate.mapping("arms", self.arms, Mapping)
        for width in validate.sequence("widths", self.widths):
            width_settings(width, 1)
        validate.integer("seeds", self.seeds)
        validate.instance("axis", self.axis, (str, type(None)))

    def runs(self):
        """(arm, width, TrainConfig) of every run, seed by seed, so that an unfinished plan is balanced."""
        for seed in range(self.seeds):
            for arm, settings in self.arms.items():
                T = settings.get("T", TrainConfig.T)
                for width in self.widths:
                    yield arm, width, TrainConfig(**settings, **width_settings(width, T), seed=seed)


def width_settings(width, T):
    """TrainConfig's fields for a rule's name or for a number, the fixed kappa.

    Up to T = 2 the geometric sum has no term beyond the adaptive rule's: the same run, which is not trained twice.
    """
    validate.integer("T", T)
    if isinstance(width, str) and width == "geometric" and T <= 2:
        width = "adaptive"
    if isinstance(width, str) and width == SHIFTED:
        return {"width": "adaptive", "norm_shift": "beta V_th"}
    if isinstance(width, str):
        return {"width": validate.one_of("width", width, WIDTHS)}
    return {"width": "fixed", "fixed_width": validate.number("width", width, low=0)}


def _subset(**changes):
    return {**DEEP, **SUBSET, **changes}


def _threshold(layers, network):
    thresholds = (("1/8", 1 / 8), ("1/2", 1 / 2), ("2", 2.0), ("8", 8.0))
    return Experiment(
        f"Which width trains {layers} layers at every threshold?",
        {text: {**network, **SHORT, "v_th": v_th} for text, v_th in thresholds},
        widths=(1.0, "2 V_th", BASELINE, SHIFTED),
        seeds=5,
        axis="V_th",
    )


EXPERIMENTS = {
    "headline": Experiment(
        "Does a width that follows the potential's spread train a deep narrow network better than any fixed one?",
        {"deep": {**DEEP, **FULL}},
        seeds=5,
    ),
    "depth": Experiment("Is depth what decides?", {"deep": _subset(), "shallow": {**SHALLOW, **SUBSET}}),
    "neuron": Experiment(
        "Does a learned leak matter?", {"plif": _subset(), "lif": _subset(neuron="lif")}, widths=TRAINABLE
    ),
    "timesteps": Experiment("Do more timesteps matter?", {"T=2": _subset(), "T=4": _subset(T=4)}, widths=TRAINABLE),
    "surrogate": Experiment(
        "Does the surrogate's shape matter?",
        {name: _subset(surrogate=name) for name in ("rectangular", "triangular", "sigmoid", "arctan", "gaussian")},
        widths=(1.0, 2.5, BASELINE),
    ),
    "threshold": _threshold("three", SHALLOW),
    "threshold-deep": _threshold("eight", DEEP),
    "gamma": Experiment(
        "Which width trains eight layers wherever gamma starts?",
        {text: {**DEEP, **SHORT, "gamma": g} for text, g in (("1/2", 1 / 2), ("1", 1.0), ("2", 2.0), ("4", 4.0))},
        widths=(1.0, BASELINE),
        seeds=5,
        axis="starting gamma",
    ),
}


def key_of(config):
    """What a run is known by: its configuration as JSON, keys sorted."""
    validate.instance("config", config, TrainConfig)
    return json.dumps(dataclasses.asdict(config), sort_keys=True)


def digest_of(config):
    """The name of a run's own folder, which no option that was added later changes."""
    values = {name: value for name, value in dataclasses.asdict(config).items() if (name, value) not in LATER.items()}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def command_of(config):
    """The command that repeats this run alone, in a folder of its own."""
    validate.instance("config", config, TrainConfig)
    words, defaults = [], TrainConfig()
    for field in dataclasses.fields(TrainConfig):
        value = getattr(config, field.name)
        if field.name == "width":
            words.append(f"--width {config.fixed_width:g}" if value == "fixed" else f"--width {shlex.quote(value)}")
        elif field.name != "fixed_width" and value != getattr(defaults, field.name):
            text = ",".join(map(str, value)) if field.name == "channels" else str(value)
            words.append(f"--{field.name.replace('_', '-')} {shlex.quote(text)}")
    return " ".join(["agl-ref train", *words, f"--out runs/{digest_of(config)}"])


def pending(experiments, done):
    """{key: TrainConfig} of the runs that `experiments` need and `done` lacks: by seed, then in the order of the plan."""
    found, done = {}, validate.instance("done", done, (Mapping, Set), "pass results by their keys")
    for experiment in validate.mapping("experiments", experiments, Experiment).values():
        for _, _, config in experiment.runs():
            found.setdefault(key_of(config), config)
    left = sorted(((key, config) for key, config in found.items() if key not in done), key=lambda item: item[1].seed)
    return dict(left)
