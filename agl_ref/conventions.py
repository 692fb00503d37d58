"""Conventions: every place where implementations of a spiking layer differ, as one frozen value.

The default is MPD-AGL (Jiang et al., IJCAI 2025, doi 10.24963/ijcai.2025/464). Two implementations that
disagree usually differ in one field of this class, not in a bug.
"""

import sys
from dataclasses import dataclass, fields, replace

_CHOICES = {
    "spike_test": (">=", ">"),
    "reset": ("hard", "soft", "none", "soft late"),
    "reset_gradient": ("attached", "detached"),
    "window_edge": ("<", "<="),
    "surrogate_scale": ("1/kappa", "1", "1/(2 kappa)"),
    "width": ("adaptive", "first", "later", "fixed", "2 V_th", "geometric", "exact", "empirical"),
    "width_gradient": ("none", "flows"),
    "input_scale": ("1", "1 - tau"),
    "plif": ("tau", "1 - tau"),
    "norm_variance": ("biased", "unbiased"),
    "norm_scale": ("alpha V_th", "1"),
    "norm_shift": ("beta", "beta V_th"),
    "readout": ("mean", "sum", "last"),
    "axis_order": ("TN..C", "NTC..", "TNC.."),
}


OWN_WIDTHS = ("exact", "empirical")  # width rules that no other implementation has; the oracle leaves them out


@dataclass(frozen=True)
class Conventions:
    """One value for every convention; the first of each list is MPD-AGL's and the default.

    Attributes
    ----------
    spike_test : {">=", ">"}
        s_t = [u_t >= V_th] or [u_t > V_th].
    reset : {"hard", "soft", "none", "soft late"}
        v_t = u_t (1 - s_t), v_t = u_t - V_th s_t, or v_t = u_t. "soft late" subtracts one step later, after the leak:
        u_{t+1} = tau u_t + x_{t+1} - V_th s_t (snnTorch).
    reset_gradient : {"attached", "detached"}
        Whether the gradient also flows through the s_t of the reset.
    window_edge : {"<", "<="}
        Whether |u_t - V_th| = kappa_t / 2 is outside or inside the rectangular window.
    surrogate_scale : {"1/kappa", "1", "1/(2 kappa)"}
        The surrogate's height at the threshold: area 1, peak 1, or half of area 1.
    width : {"adaptive", "first", "later", "fixed", "2 V_th", "geometric", "exact", "empirical"}
        The rule for kappa_t, see `agl_ref.engine.width`. The last two are no one's convention but measures of the paper's
        approximation, and always constants for the gradient: width_gradient "flows" is refused with them.
    width_gradient : {"none", "flows"}
        Whether kappa_t is a constant for the gradient, or passes ds/dkappa = -(z / kappa) surrogate'(z) on to
        gamma and tau.
    input_scale : {"1", "1 - tau"}
        u_t = tau v_{t-1} + x_t, or u_t = tau v_{t-1} + (1 - tau) x_t.
    plif : {"tau", "1 - tau"}
        Which of the two the sigmoid of PLIF's learnable w gives.
    norm_variance : {"biased", "unbiased"}
        The batch variance that tdBN divides by in training.
    norm_scale : {"alpha V_th", "1"}
        tdBN's factor before gamma; "1" is plain batch norm.
    norm_shift : {"beta", "beta V_th"}
        What tdBN adds. With beta in units of V_th a network trains alike at every threshold, see METHOD.md.
    readout : {"mean", "sum", "last"}
        How the logits of T timesteps become one.
    axis_order : {"TN..C", "NTC..", "TNC.."}
        The layout of the other side's arrays. The engine itself is always "TN..C"; `agl_ref.interop` reads this.
    fixed_width : float
        kappa of the width rule "fixed", finite and not negative.

    Raises
    ------
    ValueError
        If a field holds none of its allowed values, or width_gradient is "flows" with a width that is a constant.
    """

    spike_test: str = ">="
    reset: str = "hard"
    reset_gradient: str = "attached"
    window_edge: str = "<"
    surrogate_scale: str = "1/kappa"
    width: str = "adaptive"
    width_gradient: str = "none"
    input_scale: str = "1"
    plif: str = "tau"
    norm_variance: str = "biased"
    norm_scale: str = "alpha V_th"
    norm_shift: str = "beta"
    readout: str = "mean"
    axis_order: str = "TN..C"
    fixed_width: float = 1.0

    def __post_init__(self):
        for name, allowed in _CHOICES.items():
            value = getattr(self, name)
            if not isinstance(value, str) or value not in allowed:
                raise ValueError(
                    f"Conventions.{name}: expected one of {', '.join(map(repr, allowed))}, received {value!r}; "
                    f"the default is {allowed[0]!r}"
                )
        if self.width_gradient == "flows" and self.width in ("exact", "empirical"):
            raise ValueError(
                f"Conventions.width_gradient: expected 'none' with width {self.width!r}, received 'flows'; that width is a "
                "constant for the gradient, 'adaptive' is one that flows"
            )
        width = self.fixed_width
        if isinstance(width, bool) or not isinstance(width, (int, float)) or not 0 <= width <= sys.float_info.max:
            raise ValueError(
                f"Conventions.fixed_width: expected a finite number >= 0, received {width!r}; the default is 1.0"
            )

    @staticmethod
    def choices():
        """The allowed values of every field with a closed list: {field: (values)}, the default first."""
        return dict(_CHOICES)

    @staticmethod
    def known_choices():
        """The choices that other implementations are known to make: without the width rules of this package alone."""
        return {name: tuple(v for v in allowed if v not in OWN_WIDTHS) for name, allowed in _CHOICES.items()}

    def differences(self, other):
        """The fields in which two conventions differ: {field: (own value, other's value)}."""
        if not isinstance(other, Conventions):
            raise TypeError(f"other: expected a Conventions, received {type(other).__name__}; use one of PRESETS")
        pairs = {f.name: (getattr(self, f.name), getattr(other, f.name)) for f in fields(self)}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


MPD_AGL = Conventions()

_SNNTORCH = Conventions(spike_test=">", reset="soft late", reset_gradient="detached", width="fixed", axis_order="TNC..")

# Each preset states how the neuron of another framework relates to ours; its surrogate is chosen separately. What was
# measured against the frameworks themselves stands in agl_ref/oracle/FRAMEWORKS.md.
PRESETS = {
    "mpd-agl": MPD_AGL,
    # SpikingJelly 2.0. LIFNode(tau=a, decay_input=True, v_reset=0): u = v + (x - v) / a, so decay = 1 - 1/a and the input
    # is scaled.
    "spikingjelly": Conventions(input_scale="1 - tau", plif="1 - tau", width="fixed", axis_order="TNC.."),
    # The same with decay_input=False: u = v - v / a + x.
    "spikingjelly-no-decay-input": Conventions(plif="1 - tau", width="fixed", axis_order="TNC.."),
    # snnTorch 1.0. Leaky(beta): u_t = beta u_{t-1} + x_t - V_th s_{t-1}, the s of the reset detached.
    "snntorch": _SNNTORCH,
    # reset_mechanism="zero": u_t = beta (1 - s_{t-1}) u_{t-1} + x_t; "none" has no such factor.
    "snntorch-zero": replace(_SNNTORCH, reset="hard"),
    "snntorch-none": replace(_SNNTORCH, reset="none"),
    # reset_delay=False resets at once and lets the gradient through.
    "snntorch-no-delay": replace(_SNNTORCH, reset="soft", reset_gradient="attached"),
    "snntorch-zero-no-delay": replace(_SNNTORCH, reset="hard", reset_gradient="attached"),
    # Norse 1.1. LIFBoxCell(p, dt): u = v + dt tau_mem_inv (x - v), so decay = 1 - dt tau_mem_inv and the input is scaled.
    "norse": Conventions(spike_test=">", input_scale="1 - tau", width="fixed", axis_order="TNC.."),
}
