"""What several commands share: exit codes, options, and how the evaluation of a run is printed."""

import json

FAILED, BAD_INPUT, STOPPED = 1, 3, 130


def width_option(text):
    """ "adaptive" or another rule, or a number for a fixed kappa."""
    try:
        return {"width": "fixed", "fixed_width": float(text)}
    except ValueError:
        return {"width": text}


def add_json_option(parser, what="the result as JSON"):
    """Add --json."""
    parser.add_argument("--json", action="store_true", help=f"print {what}")


def add_dump_options(parser, unnamed=""):
    """Add a dump, the case that was run for it (which may be left out if `unnamed` says what then), and its dtype."""
    parser.add_argument("dump", metavar="DUMP", help="a folder of NAME.npy, an .npz or a .safetensors file")
    parser.add_argument("--case", required=not unnamed, metavar="ID", help="the case that was run; agl-ref vectors list "
                        f"names them{unnamed}")  # fmt: skip
    parser.add_argument("--dtype", help="what the implementation computes in: float32, float64, bfloat16, tf32 or float16 "
                        "(default: the dtype of the arrays)")  # fmt: skip


def table(runs):
    """Text table of runs {label: evaluation}: accuracy, then coverage and firing rate per layer and timestep."""
    label_width = max(8, *(len(label) for label in runs))
    lines = [f"{'width':<{label_width}}  test accuracy"]
    lines += [f"{label:<{label_width}}  {100 * run['test_accuracy']:.1f} %" for label, run in runs.items()]
    layers = next(iter(runs.values()))["layers"]
    for key, title in (("coverage", "window coverage (%)"), ("firing_rate", "firing rate (%)")):
        T = len(next(iter(layers.values()))[key])
        lines += ["", f"{title:<24}" + "".join(f"{f't = {t + 1}':>8}" for t in range(T))]
        for layer in layers:
            for label, run in runs.items():
                values = "".join(f"{100 * value:8.1f}" for value in run["layers"][layer][key])
                lines.append(f"{f'{layer}  {label}':<24}{values}")
    return "\n".join(lines)


def operations_table(layers):
    """Text table of `diagnostics.synaptic_operations`, with the sum over the layers."""
    total = {key: sum(layer[key] for layer in layers.values()) for key in ("ac", "mac", "dense", "joules")}
    lines = [f"{'operations per image':<24}{'AC':>14}{'MAC':>14}{'of dense':>14}{'nJ':>12}"]
    for name, counts in {**layers, "all": total}.items():
        lines.append(
            f"{name:<24}{counts['ac']:14,.0f}{counts['mac']:14,.0f}{counts['dense']:14,.0f}{1e9 * counts['joules']:12,.1f}"
        )
    return "\n".join(lines)


def print_evaluation(trainer, evaluation, as_json):
    """Print the evaluation of a run, as JSON or as a table."""
    if as_json:
        print(json.dumps({"run": str(trainer.folder), "epoch": trainer.epoch, **evaluation}))
    else:
        print(table({trainer.config.width: evaluation}))
        if "operations" in evaluation:
            print(f"\n{operations_table(evaluation['operations'])}")
        print(f"\nRun: {trainer.folder}, {trainer.epoch} epoch{'s' * (trainer.epoch != 1)}")
