"""Run an implementation of this folder on the golden cases of the ops it offers, and have the oracle judge each.

    python tutorials/gpu/verdicts.py --impl numba|triton|torch|jax|all [--dtype float32] [--device cpu|cuda] [--out DIR] ...

On a GPU it also takes a VGGSNN training step (vgg_step.py) and the time of the kernels against the memory (bandwidth.py).
Exit codes: 0 every verdict is PASS, 1 something failed, 2 only AMBIGUOUS besides PASS, 3 bad arguments.
"""

import argparse
import csv
import datetime
import json
import platform
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from adapters import DTYPES, MODULES, adapter_of

from agl_ref import __version__
from agl_ref.conventions import Conventions
from agl_ref.oracle import cases, compare, load_case
from agl_ref.oracle.judge.dump import as_numpy
from agl_ref.oracle.mutants.variants import variant
from agl_ref.oracle.problems import problem_of

OPS = ("lif", "plif", "surrogate", "width", "tdbn", "network")
OFFERED = {"reset": ("hard", "soft"), "reset_gradient": ("attached", "detached"), "width": ("adaptive", "fixed")}
COLUMNS = ("case", "op", "tier", "verdict", "where", "worst", "off", "checked", "not_checked", "seconds")


def offers(case):
    """Whether the kernels have the case's conventions: MPD-AGL's, and both resets, attached or not."""
    if case.meta.get("surrogate", "rectangular") != "rectangular":
        return False
    default = Conventions()
    differing = Conventions(**case.conventions).differences(default)
    if case.meta["op"] == "width":
        return not differing
    return all(value in OFFERED.get(name, ()) for name, (value, _) in differing.items() if name != "fixed_width")


def options_of(conventions):
    return {"soft": conventions.reset == "soft", "detach": conventions.reset_gradient == "detached"}


# --- one op ---------------------------------------------------------------------------------------------------------


def run_neuron(adapter, case, a, meta, conventions):
    """lif and plif; x_second is the input of another forward pass before the backward pass."""
    T = len(a["x"])
    width, gamma = a.get("width"), a.get("gamma")
    if conventions.width == "fixed":
        width = np.full(T, conventions.fixed_width)
    elif width is None and gamma is None:
        width = np.ones(T)
    options = {"v_th": meta["v_th"], "learned": "w" in a, "alpha": meta.get("alpha", 1.0), **options_of(conventions)}
    leak = a["w"] if "w" in a else np.array(meta["decay"])
    if width is not None:
        gamma = None
    values, backward = adapter.block(a["x"], leak, gamma=gamma, width=width, **options)
    if "x_second" in a:
        adapter.block(a["x_second"], leak, gamma=gamma, width=width, **options)
    grads = backward(a["ds"])
    if width is not None:
        del values["width"]  # it was given: nothing was computed
    leak_name = "grad_w" if "w" in a else "grad_decay"
    return {**values, "du": grads["du"], "grad_x": grads["z"], leak_name: grads["leak"]}


def run_surrogate(adapter, case, a, meta, conventions):
    """With tau = 0 nothing is carried, u = z, and a gradient of 1 comes out as the surrogate itself."""
    _, backward = adapter.block(a["u"], np.array(0.0), width=a["width"], v_th=meta["v_th"])
    return {"y": backward(np.ones_like(a["u"]))["du"]}


def run_width(adapter, case, a, meta, conventions):
    z = np.zeros((meta["T"], 1, len(a["gamma"])))
    alpha = meta.get("alpha", 1.0)
    values, _ = adapter.block(z, np.array(meta["decay"]), gamma=a["gamma"], v_th=meta["v_th"], alpha=alpha)
    return {"width": values["width"]}


def run_tdbn(adapter, case, a, meta, conventions):
    """The norm of the fused block: tau = 0, and a window so wide that every gradient passes, times 1/kappa."""
    kappa = 2.0**20
    running = (a["running_mean"], a["running_var"]) if "running_mean" in a else None
    options = {"v_th": meta["v_th"], "alpha": meta["alpha"], "eps": meta["eps"], "running": running}
    width = np.full(len(a["x"]), kappa)
    values, backward = adapter.block(a["x"], np.array(0.0), a["gamma"], a["beta"], width, **options)
    grads = backward(a["dy"] * kappa)
    return {"y": values["u"], "grad_x": grads["z"], "grad_gamma": grads["gamma"], "grad_beta": grads["beta"]}


# --- networks -------------------------------------------------------------------------------------------------------


def on_kernels(adapter):
    """A change of the reference: its blocks run norm and neurons on the kernels; synapses, pools and loss are its own."""

    def change(module):
        right_forward, right_backward = module.block_forward, module.block_backward

        def block_forward(net, block, x, values):
            if block["kind"] == "readout":
                return right_forward(net, block, x, values)
            name, a = block["name"], net.params
            geometry = block["stride"], block["padding"]
            z, synapse = module.conv2d_forward(x, a[f"{name}.weight"], a.get(f"{name}.bias"), *geometry)
            options = {"v_th": block["v_th"], "learned": block["neuron"] == "plif", **options_of(net.conventions)}
            leak = a[f"{name}.w"] if options["learned"] else np.array(block["decay"])
            if block["norm"]:
                options |= {"gamma": a[f"{name}.gamma"], "beta": a[f"{name}.beta"], **block["norm"]}
                if net.running is not None:
                    options["running"] = net.running[name]
            else:
                options["width"] = np.ones(len(z))
            computed, backward = adapter.block(z, leak, **options)
            for key in ("width", "u", "s")[0 if block["norm"] else 1 :]:
                values[f"{name}.{key}"] = as_numpy(key, computed[key])[0]
            return as_numpy("s", computed["s"])[0], (synapse, backward)

        def block_backward(block, ds, cache, values):
            if block["kind"] == "readout":
                return right_backward(block, ds, cache, values)
            name, (synapse, backward) = block["name"], cache
            values[f"{name}.ds"] = ds
            grads = {key: as_numpy(key, value)[0] for key, value in backward(ds).items()}
            if "du" in grads:
                values[f"{name}.du"] = grads["du"]
            keys = ["leak"] * (block["neuron"] == "plif") + ["gamma", "beta"] * bool(block["norm"])
            for key in keys:
                if key in grads:
                    values[f"grad_{name}.{'w' if key == 'leak' else key}"] = grads[key]
            d, values[f"grad_{name}.weight"], dbias = module.conv2d_backward(grads["z"], synapse)
            if dbias is not None:
                values[f"grad_{name}.bias"] = dbias
            return d

        module.block_forward, module.block_backward = block_forward, block_backward

    return change


def run_network(adapter, case, a, meta, conventions, dtype):
    return problem_of(case).run(variant(functions=on_kernels(adapter)), conventions, dtype)


# --- verdicts -------------------------------------------------------------------------------------------------------


def arrays_of(adapter, case, dtype):
    """{name: array} of what the implementation computes on the case."""
    meta, conventions = case.meta, Conventions(**case.conventions)
    if meta["op"] == "network":
        return run_network(adapter, case, case.inputs, meta, conventions, dtype)
    run = {"surrogate": run_surrogate, "width": run_width, "tdbn": run_tdbn}.get(meta["op"], run_neuron)
    return run(adapter, case, case.inputs, meta, conventions)


def place(name, index):
    return f"{name}[{', '.join(map(str, index))}]" if len(index) else name


def judge(case, arrays, dtype):
    """(verdict, where, report or None): the oracle's; where is the first failure, or a spike that contradicts its u."""
    try:
        report = compare(case, arrays, dtype=dtype, settle=False)
    except ValueError as error:
        return "INVALID", str(error), None
    first = report.details.get("first_failure") or report.first_divergence
    where = place(first["name"], first["index"]) if first else ""
    against_itself = report.details.get("contradiction")
    if against_itself and not report.details.get("first_failure"):
        where = f"{place(against_itself['name'], against_itself['index'])} contradicts the u beside it"
    return report.verdict, where, report


def verdict_of(adapter, case, dtype):
    """One row of the table, and the report."""
    begun = time.perf_counter()
    arrays = arrays_of(adapter, case, dtype)
    seconds = time.perf_counter() - begun
    verdict, where, report = judge(case, arrays, dtype)
    worst = max((w for w in report.details["worst"].values() if np.isfinite(w)), default=0.0) if report else np.nan
    row = {
        "case": case.id,
        "op": case.meta["op"],
        "tier": case.meta["tier"],
        "verdict": verdict,
        "where": where,
        "worst": round(worst, 3),
        "off": sum(report.details["off"].values()) if report else "",
        "checked": len(report.checked) if report else "",
        "not_checked": " ".join(report.not_checked) if report else "",
        "seconds": round(seconds, 3),
    }
    return row, report


def chosen_cases(dtype, wanted):
    """(cases that are offered, ids that are not) in this dtype; `wanted` are ids or ops."""
    known = [id for op in OPS for id in cases(op=op, dtype=dtype)]
    strange = sorted(set(wanted) - set(known) - set(OPS))
    if strange:
        raise ValueError(
            f"--cases: expected ids of `agl-ref vectors list` that {dtype} can be judged on, or among {', '.join(OPS)}, "
            f"received {', '.join(strange)}; correct them"
        )
    loaded = [load_case(id) for id in known]
    picked = [case for case in loaded if not wanted or case.id in wanted or case.meta["op"] in wanted]
    return [case for case in picked if offers(case)], [case.id for case in picked if not offers(case)]


def about(adapter, args):
    """Device, versions and date: what a result is worth nothing without."""
    device, versions = adapter.about()
    return {
        "impl": args.impl,
        "dtype": args.dtype,
        "device": device,
        "host": f"{platform.system()} {platform.machine()}",
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "versions": {"agl_ref": __version__, "python": platform.python_version(), "numpy": np.__version__, **versions},
    }


def print_table(rows):
    print(f"{'case':<28} {'op':<10} {'tier':>4} {'verdict':<10} {'worst':>7}  where")
    for row in rows:
        print(
            f"{row['case']:<28} {row['op']:<10} {row['tier']:>4} {row['verdict']:<10} {row['worst']:>7}  {row['where']}"
        )


def write(folder, head, rows, more):
    """verdicts-IMPL-DTYPE-DEVICE-DATE.csv and .json, to be put into tutorials/results/."""
    folder.mkdir(parents=True, exist_ok=True)
    device = "".join(c if c.isalnum() else "-" for c in head["device"]).strip("-").lower()
    stem = f"verdicts-{head['impl']}-{head['dtype']}-{device}-{head['date'][:10]}"
    with (folder / f"{stem}.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        table.writerows(rows)
    document = json.dumps({**head, "verdicts": rows, **more}, indent=1, default=str)
    (folder / f"{stem}.json").write_text(document + "\n", encoding="utf-8")
    return folder / stem


def exit_code(verdicts):
    return 1 if set(verdicts) & {"FAIL", "INVALID"} else 2 if "AMBIGUOUS" in verdicts else 0


def run_all(args, argv):
    """`--impl all`, `--dtype all`, a process for each: the simulators' variables are read at import. The worst exit code."""
    codes = []
    for impl in MODULES if args.impl == "all" else (args.impl,):
        for dtype in DTYPES[impl] if args.dtype == "all" else (args.dtype,):
            if dtype in DTYPES[impl]:
                command = [sys.executable, __file__, *argv, "--impl", impl, "--dtype", dtype]  # the last of two counts
                codes.append(subprocess.run(command).returncode)
    return max((code if code in (0, 2, 3) else 1 for code in codes), key=(0, 2, 1, 3).index)


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--impl", required=True, choices=(*MODULES, "all"))
    parser.add_argument("--dtype", default="float32", help="float32, float64, bfloat16, all (%(default)s)")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="cpu: the simulators (%(default)s)")
    parser.add_argument("--cases", nargs="+", default=(), metavar="ID|OP", help="golden cases, or whole ops")
    parser.add_argument("--reports", action="store_true", help="print the oracle's report for all that do not pass")
    parser.add_argument("--vgg", action="store_true", help="a VGGSNN training step too (always on cuda)")
    parser.add_argument("--time", action="store_true", help="kernel times against the memory too (always on cuda)")
    parser.add_argument("--small", action="store_true", help="few values in --vgg and --time: to try the command")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write the table as CSV and JSON there")
    args = parser.parse_args(argv)
    offered = DTYPES["torch" if args.impl == "all" else args.impl]
    if args.dtype not in (*offered, "all"):
        raise ValueError(
            f"--dtype: expected one of {', '.join(offered)} or all, received {args.dtype!r}; {args.impl} has those"
        )
    return args


def main(argv=None):
    try:
        args = parse(argv)
        if "all" in (args.impl, args.dtype):
            return run_all(args, sys.argv[1:] if argv is None else argv)
        picked, left = chosen_cases(args.dtype, args.cases)
        adapter = adapter_of(args.impl, args.dtype, args.device)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 3
    rows, more = [], {"not_offered": left}
    for case in picked:
        row, report = verdict_of(adapter, case, args.dtype)
        rows.append(row)
        if args.reports and row["verdict"] != "PASS" and report:
            print(report, end="\n\n")
    head = about(adapter, args)
    print(f"{args.impl} in {args.dtype} on {head['device']}")
    print_table(rows)
    print(f"not offered: {', '.join(left) or 'none'}")
    verdicts = [row["verdict"] for row in rows]
    on_gpu = args.device == "cuda"
    if args.impl in ("torch", "triton") and args.dtype != "bfloat16" and (args.vgg or on_gpu):
        from vgg_step import vgg_report

        more["vgg"] = vgg_report(adapter, args.dtype, args.small)
        verdicts += more["vgg"]["verdicts"]
    if args.time or on_gpu:
        from bandwidth import measure

        more["time"] = measure(adapter, args.small)
    if args.out:
        print(f"written: {write(args.out, head, rows, more)}.csv and .json")
    return exit_code(verdicts)


if __name__ == "__main__":
    sys.exit(main())
