"""The cheat sheet: equations as in METHOD.md, symptoms as the mistakes have them, a PDF of the page beside it."""

import hashlib
import html
import re
from pathlib import Path

import numpy as np
import pytest

import agl_ref
from agl_ref.course.exercises.neuron import bptt, lif

FOLDER = Path(__file__).resolve().parents[2] / "tutorials" / "cheat_sheet"
if not FOLDER.is_dir():
    pytest.skip("the tutorials are not installed", allow_module_level=True)
PAGE = (FOLDER / "index.html").read_text(encoding="utf-8")
ROWS = dict(re.findall(r"<tr><th>(.*?)</th><td>(.*?)</td></tr>", PAGE))


def letters(text):
    """The text without tags, spaces and the colon after a surrogate's name."""
    return re.sub(r"\s|(?<=[a-z]): ", "", html.unescape(re.sub("<.*?>", "", text)))


def test_the_equations_are_those_of_the_method():
    method = (Path(agl_ref.__file__).parent / "METHOD.md").read_text(encoding="utf-8")
    equations = {number: line for line, number in re.findall(r"(?m)^    (.*?)\(([A-Z]\d+)\)$", method)}
    shown = {name: text for name, text in ROWS.items() if re.fullmatch(r"[A-Z]\d+", name)}
    assert len(shown) == 43
    assert {name: letters(text) for name, text in shown.items()} == {name: letters(equations[name]) for name in shown}


def test_the_pdf_is_this_page():
    digest = hashlib.sha256(PAGE.encode()).hexdigest()[:12]
    pdf = (FOLDER / "cheat_sheet.pdf").read_bytes()
    assert digest.encode() in pdf, "node tests/site/print.js"
    assert b"file:" not in pdf


MISTAKES = {  # row: parts of the loop that are other ones
    "the reset is detached": {"through": lambda u, s: 0 * u},
    "v_t for u_t in the reset's path": {"through": lambda u, s: u * (1 - s)},
    "1 - s_t is missing": {"keep": lambda s: 1.0},
    "tau is missing": {"leak": 1.0},
    "the window reaches kappa": {"half": 1.0},
    "1 / kappa is missing": {"height": 1.0},
    "kappa_1 at all timesteps": {"widths": lambda width: width[:1].repeat(len(width))},
    "u_{t-1} for v_{t-1} in dtau": {"leaked": lambda u, s: np.concatenate([np.zeros_like(u[:1]), u[:-1]])},
}


def test_the_symptoms_are_those_of_the_mistakes():
    rng = np.random.default_rng(0)
    width, decay, v_th = np.array([0.5, 0.75, 0.75, 0.75]), 0.4, 0.5
    x, ds = rng.normal(0.3, 0.4, (4, 500)), rng.normal(size=(4, 500))
    u, s = lif(x, decay, v_th)
    right, ddecay = bptt(ds, u, s, decay, v_th, width)
    fired, inside = s == 1, np.abs(u - v_th) < width[:, None] / 2
    assert set(MISTAKES) <= set(map(html.unescape, ROWS))
    for row, parts in MISTAKES.items():
        du, other = bptt(ds, u, s, decay, v_th, width, **parts)
        wrong, symptom = du != right, html.unescape(ROWS[html.escape(row, quote=False)])
        first = wrong & (np.cumsum(wrong[::-1], axis=0)[::-1] == 1)  # going back in time
        assert wrong[-1].any() == ("wrong at t = T" in symptom or "At t = T" in symptom), row
        assert wrong.any() == ("right everywhere" not in symptom) and (other != ddecay or row == "tau is missing"), row
        if "inside the window" in symptom:
            assert inside[first].all()
        if "wherever the neuron was silent" in symptom or "one where the neuron fired" in symptom:
            assert fired[first].all()
    extra = bptt(ds, u, s, decay, v_th, width, half=1.0)[0][-1] != right[-1]
    z = np.abs(u[-1] - v_th)
    assert (extra == ((width[-1] / 2 <= z) & (z < width[-1]))).all()
    taller = bptt(ds, u, s, decay, v_th, width, height=1.0)[0][-1]
    np.testing.assert_allclose(taller, right[-1] * width[-1], rtol=1e-15)
    arrives = right[-1] != 0
    open_ = ~fired[-2] | inside[-2]  # where what arrives goes on
    late = bptt(ds, u, s, decay, v_th, width, leak=1.0)[0][-2] != right[-2]
    assert (late <= arrives).all() and late[arrives & open_].mean() > 0.99
