"""The report as an HTML page: it holds the whole report, is well formed, needs nothing else, and escapes foreign names."""

import gc
import json
import re
import weakref
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pages
import pytest

from agl_ref import cli
from agl_ref.cli import check as check_command
from agl_ref.oracle import cases, compare, load_case
from agl_ref.oracle.cases.vectors import manifest
from agl_ref.oracle.equations import EQUATION_NAMES
from agl_ref.oracle.judge import neuron as neuron_module
from agl_ref.oracle.judge.neuron import Neuron, pair_of, unit_of
from agl_ref.oracle.judge.page import formulas, page
from agl_ref.oracle.problems import problem_of

VOID = {"meta", "link", "br", "img", "input"}
NASTY = "<script>alert('1')</script>&\".npz"


class Page(HTMLParser):
    """The text of a page, its elements and its ids; it fails where an element is not closed in its order."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.text, self.open, self.tags, self.attributes = "", [], [], []
        self.feed(html)
        self.close()
        assert self.open == []
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        self.open += [] if tag in VOID else [tag]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def reports():
    return pages.reports()


def test_each_kind_is_there(reports):
    verdicts = {name: report.verdict for name, report in reports.items()}
    assert verdicts == {"wrong_kernel": "FAIL", "right_kernel": "PASS", "network": "FAIL", "in_doubt": "AMBIGUOUS"}


@pytest.mark.parametrize("name", ["wrong_kernel", "right_kernel", "network", "in_doubt"])
def test_every_field_of_the_report_is_in_the_page(reports, name):
    report = reports[name]
    found, details = Page(report.to_html("the title")), report.details
    said = [
        report.id,
        report.dtype,
        report.verdict,
        "the title",
        *report.checked,
        *report.not_checked,
        *report.advice(),
    ]
    said += [*details["hidden"], details.get("cause"), *report.happened(), *report.text().split()]
    said += [f"{details['off'][array]} of {details['sizes'][array]}" for array in report.checked]
    said += ["must be equal" if np.isinf(worst) else f"{worst:.3g}" for worst in details["worst"].values()]
    for at in filter(None, (report.first_divergence, details.get("first_failure"))):
        said += [
            repr(at["expected"]),
            repr(at["received"]),
            at["expected_hex"],
            at["received_hex"],
            f"{at['error']:.4g}",
        ]
        said += [
            f"{at['allowed']:.4g}",
            "{} of {}".format(*at["explains"]),
            *re.findall(r"\b[A-Z]\d+\b", at["rule"])[:1],
        ]
    missing = [text for text in said if text and " ".join(text.split()) not in found.text]
    assert missing == [] and len(said) > 40
    assert sum(tag == "svg" for tag in found.tags) >= len(report.checked)


@pytest.mark.parametrize("op", sorted({entry["meta"]["op"] for entry in manifest()["cases"]}))
def test_every_op_has_a_page(op):
    case = load_case(cases(op)[0])
    theirs = {name: 1.01 * array + 1e-3 * (name != "s") for name, array in case.arrays.items()}
    report = compare(case, theirs, dtype="float32", guess=False)
    found = Page(report.to_html())
    assert report.verdict == "FAIL" and found.text.count("✗ FAIL") > 1


def test_the_page_needs_nothing_and_runs_nothing(reports):
    for html in (*(report.to_html() for report in reports.values()), page(list(reports.items()))):
        found = Page(html)
        assert not re.search(r"https?://|//[a-z]|url\(|/home|/tmp|@import", html)
        assert not {"script", "img", "iframe"} & set(found.tags) and "default-src 'none'" in html
        names = [name for name, _ in found.attributes]
        assert not [name for name in names if name.startswith("on") or name == "src"]
        ids = [value for name, value in found.attributes if name == "id"]
        links = [value[1:] for name, value in found.attributes if name == "href" and value != "data:,"]
        assert len(ids) == len(set(ids)) and set(links) <= set(ids) and links


def test_names_from_outside_are_text(reports):
    report = replace(reports["wrong_kernel"], id=NASTY, not_checked=[NASTY])
    report.details["cause"] = NASTY
    for html in (report.to_html(NASTY), page([(NASTY, report)] * 2)):
        found = Page(html)
        assert "script" not in found.tags and NASTY in found.text


def test_a_report_without_arrays_has_a_page(reports):
    found = Page(replace(reports["network"], judged={}).to_html())
    assert "FAIL" in found.text and "net-residual" in found.text


def test_the_factor_that_would_be_noticed_is_noticed():
    case = load_case("lif-realistic")
    arrays = problem_of(case).run(dtype=np.float64)
    report = compare(case, arrays, dtype="float32")
    html, seen = report.to_html(), set()
    for name in case.arrays:
        row = ElementTree.fromstring(re.search(f"<tr id[^>]*><th[^>]*>{name}</th>.*?</tr>", html).group())
        said = row.findall("td")[3].text
        seen.add(said == "any")
        assert (f" {name} 1 ± " in str(report)) == (said != "any")  # also on the terminal
        factor = 1e-9 if said == "any" else float(said.removeprefix("1 ± "))
        for times, verdict in ((0.8, "PASS"), (1.2, "FAIL"))[said == "any" :]:
            changed = {name: arrays[name] * (1 + times * factor)}
            assert compare(case, changed, dtype="float32", guess=False).verdict == verdict, (name, times)
    assert seen == {True, False}


def test_method_md_has_every_equation():
    assert set(EQUATION_NAMES) <= set(formulas()) and formulas()["B5"] == "dv_{t-1} = tau du_t"


# --- the equations of one neuron, filled in -------------------------------------------------------------------------------

ARITHMETIC = ("u", "v", "ds_total", "du", "dx", "dtau", "dv")


@pytest.mark.parametrize("op", ["lif", "plif"])
def test_the_numbers_in_the_equations_give_the_case(op, monkeypatch):
    exact = neuron_module.shown
    monkeypatch.setattr(neuron_module, "shown", lambda value: exact(value, 17))
    seen, fired, open_windows = set(), 0, 0
    for id in cases(op):
        case = load_case(id)
        pair = pair_of(case, {}, "u", (0, *np.unravel_index(0, case.arrays["u"].shape[1:])))
        forward, backward = pair.expected.lines()
        for line in forward + backward:
            seen.add((line.step, line.number, line.formula))
            if line.step in ARITHMETIC:
                assert eval(line.filled) == pytest.approx(line.value, rel=1e-12, abs=1e-15), (id, line)
            if line.step == "s":
                assert float(eval(line.filled)[0]) == line.value, (id, line)
                fired += int(line.value)
            if line.step == "h" and unit_of(case, "").surrogate == "rectangular":
                open_windows += line.value > 0
                filled = re.sub(r"\|(.*?)\|", r"abs(\1)", line.filled)
                if pair.expected.values["width"][line.t] > 0:
                    height, inside = map(eval, re.fullmatch(r"(.*) \* (\[.*)", filled).groups())
                    assert height * inside[0] == pytest.approx(line.value, rel=1e-6), (id, line)
                else:
                    assert line.value == 0, (id, line)
        place = (slice(None), *(0,) * (case.arrays["u"].ndim - 1))
        for key, name in (("u", "u"), ("s", "s"), ("v", "v"), ("du", "du"), ("dx", "grad_x")):
            lines = sorted((line for line in forward + backward if line.step == key), key=lambda line: line.t)
            assert [line.value for line in lines] == case.arrays[name][place].tolist(), (id, name)
    assert fired > 3 and open_windows > 3 and len(seen) > (20 if op == "lif" else 10)


def test_the_backward_pass_is_the_references_and_not_the_dumps():
    case = load_case("lif-grid")
    values = {name: case.arrays[name][:, 0, 2] for name in "usv"} | {"width": case.arrays["width"]}
    neuron = Neuron({**values, "x": case.inputs["x"][:, 0, 2], "ds": case.inputs["ds"][:, 0, 2]}, unit_of(case, ""))
    assert neuron.values["du"].tolist() == case.arrays["du"][:, 0, 2].tolist() and np.any(neuron.values["du"])


# --- the command ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def answers(tmp_path, monkeypatch):
    """A folder of answers to three cases, one of them wrong, one under another name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "answers" / "lif-on-threshold").mkdir(parents=True)
    for id, file in (("lif-grid", "lif-grid.npz"), ("net-linear", "mine.npz")):
        arrays = dict(problem_of(load_case(id)).run(dtype=np.float32))
        np.savez(tmp_path / "answers" / file, **arrays, **({"case": np.array(id)} if file == "mine.npz" else {}))
    arrays = problem_of(load_case("lif-on-threshold")).run(dtype=np.float32)
    np.save(tmp_path / "answers" / "lif-on-threshold" / "s.npy", 1 - arrays["s"])
    return tmp_path / "answers"


def test_of_a_folder_one_dump_is_held_at_a_time(answers, monkeypatch, capsys):
    load, held = check_command.load_dump, []

    def watched(path):
        gc.collect()
        assert not [reference for reference in held if reference() is not None]
        dump = load(path)
        held.extend(weakref.ref(array) for array in dump.values())
        return dump

    monkeypatch.setattr(check_command, "load_dump", watched)
    assert cli.main(["check", "answers"]) == 1 and "3 dumps: " in capsys.readouterr().out


def test_a_folder_of_answers_is_judged_at_once(answers, capsys):
    assert cli.main(["check", "answers", "--html", "report.html", "--junit", "report.xml"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "3 dumps: 2 PASS, 1 FAIL" and lines[1].startswith("FAIL       lif-on-threshold  s[")
    found = Page((answers.parent / "report.html").read_text(encoding="utf-8"))
    assert "3 dumps: 2 PASS, 1 FAIL" in found.text and "mine.npz" in found.text and "net-linear" in found.text
    assert len(ElementTree.parse("report.xml").getroot().findall("testsuite")) == 3
    assert cli.main(["check", "answers", "--json"]) == 1
    data = json.loads(capsys.readouterr().out)
    assert data["verdict"] == "FAIL" and data["reports"]["mine.npz"]["verdict"] == "PASS"


def test_a_broken_dump_among_others_is_named(answers, capsys):
    (answers / "net-conv.safetensors").write_bytes(b"\xff" * 40)
    assert cli.main(["check", "answers"]) == 3
    error = capsys.readouterr().err
    assert "answers/net-conv.safetensors: " in error and error.count("\n") == 1
    assert cli.main(["check", "answers", "--case", "net-linear"]) == 3
    assert "leave --case out" in capsys.readouterr().err


def test_a_dump_named_after_its_case_needs_no_option(answers, capsys):
    assert cli.main(["check", "answers/lif-grid.npz", "--html", "report.html"]) == 0
    assert capsys.readouterr().out.startswith("PASS  lif-grid, judged in float32")
    assert "lif-grid.npz" in Page((answers.parent / "report.html").read_text(encoding="utf-8")).text
    (answers / "lif-grid.npz").rename(answers / "other.npz")
    assert cli.main(["check", "answers/other.npz"]) == 3
    assert "--case" in capsys.readouterr().err
    (answers.parent / "empty").mkdir()
    assert cli.main(["check", "empty"]) == 3 and "named after its case" in capsys.readouterr().err


def test_no_page_of_an_earlier_check_is_left(answers, capsys):
    assert cli.main(["check", "answers/lif-grid.npz", "--html", "report.html"]) == 0
    assert (answers.parent / "report.html").exists()
    assert cli.main(["check", "none.npz", "--case", "lif-grid", "--html", "report.html"]) == 3
    assert not (answers.parent / "report.html").exists()
