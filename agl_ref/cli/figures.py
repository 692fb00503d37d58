"""The command `agl-ref figures`: the tutorials' figures as files."""

import io
import json
import tempfile
from pathlib import Path

from agl_ref import files, validate
from agl_ref.course import figures
from agl_ref.course.figures.registry import style

from .shared import add_json_option


def add_options(parser):
    parser.description = "Write the tutorials' figures as PNG and SVG, for slides."
    parser.add_argument("folder", metavar="DIR", help="where to; made if it is not there")
    parser.add_argument("--only", metavar="NAME", action="append", help="this figure; may be given several times")
    parser.add_argument("--animation", choices=("gif", "mp4"), help="write the backward pass step by step, as a film, and no "
                        "figure; mp4 needs ffmpeg")  # fmt: skip
    add_json_option(parser, "the files as JSON")


def run(args):
    names = figures.names()
    for name in args.only or ():
        validate.one_of("--only", name, names)
    folder, paths = Path(args.folder), []
    if args.animation:
        paths.append(str(folder / f"backward_pass.{args.animation}"))
        with tempfile.TemporaryDirectory() as made:
            figures.bptt_by_hand.save_animation(film := Path(made, Path(paths[0]).name))
            files.write_atomically(folder / film.name, film.read_bytes())
    for name in args.only or (() if args.animation else names):
        drawn = getattr(figures, name)()
        with style():
            for suffix, options in (("png", {}), ("svg", {"metadata": {"Date": None}})):
                path = folder / f"{name}.{suffix}"
                drawn.savefig(content := io.BytesIO(), format=suffix, **options)
                files.write_atomically(path, content.getvalue())
                paths.append(str(path))
    print(json.dumps(paths) if args.json else "\n".join(paths))
    return 0
