"""Exam questions by seed: their answers by loops of this file's own."""

import re

from agl_ref import cli
from agl_ref.course.exam import exam


def numbers(text, label):
    found = re.search(rf"{re.escape(label)} \(?([-\d., ]*\d)\)?", text)
    return [float(number) for number in found.group(1).split(", ")]


def neuron(x, ds, attached=True, above=False):
    u, s, v = [], [], [0.0]
    for xt in x:
        u.append(0.5 * v[-1] + xt)
        s.append(float(u[-1] > 0.5 or (u[-1] == 0.5 and not above)))
        v.append(u[-1] * (1 - s[-1]))
    du, dv, dtau = [0.0] * len(x), 0.0, 0.0
    for t in reversed(range(len(x))):
        du[t] = dv * (1 - s[t]) + (ds[t] - (u[t] * dv if attached else 0)) * (abs(u[t] - 0.5) < 0.5)
        dtau += du[t] * v[t]
        dv = 0.5 * du[t]
    return u, s, v[1:], du, dtau


def test_the_answers_are_right_for_every_seed():
    texts = {exam(seed, answers=True) for seed in range(25)}
    assert len(texts) == 25
    for text in texts:
        one, two, three, four = (
            re.search(rf"(?ms)^\*\*{k}\.\*\* (.*?)(?=^\*\*{k + 1}|\Z)", text).group(1) for k in (1, 2, 3, 4)
        )
        x = numbers(one, "x =")
        u, s, v = neuron(x, [0, 0, 0])[:3]
        assert (numbers(one, "> u ="), numbers(one, ", s ="), numbers(one, "v =")) == (u, s, v)
        under = one.partition("Under >:")[2]
        assert (numbers(under, "u ="), numbers(under, "s =")) == neuron(x, [0, 0, 0], above=True)[:2]
        x, ds = numbers(two, "x ="), numbers(two, "ds =")
        _, _, _, du, dtau = neuron(x, ds)
        assert numbers(two, ". du =") == du and numbers(two, "dtau =") == [dtau]
        assert numbers(two, "detached du =") == neuron(x, ds, attached=False)[3] != du
        gamma, (v_th,), (T,) = numbers(three, "gamma ="), numbers(three, "V_th ="), numbers(three, "T =")
        for label, mean in (("kappa =", sum(gamma) / 4), ("with magnitudes", sum(map(abs, gamma)) / 4)):
            assert numbers(three, label) == [2 * mean * v_th * (1.25 if t else 1) for t in range(int(T))]
        (m,), (p,), (g,) = numbers(four, "momentum"), numbers(four, "parameter"), numbers(four, "gradient")
        after = re.search(r"parameter ([\d.-]+), then ([\d.-]+)\.", four)
        assert [round(float(a), 9) for a in after.groups()] == [round(p - 0.1 * g, 9), round(p - 0.1 * g * (2 + m), 9)]


def test_the_command_prints_questions_and_only_on_request_answers(capsys):
    assert cli.main(["course", "exam", "group A"]) == 0
    questions = capsys.readouterr().out
    assert questions.startswith("# Exam group A: 16 points\n") and ">" not in questions.replace("u > V_th", "")
    assert cli.main(["course", "exam", "group A", "--answers"]) == 0
    answers = capsys.readouterr().out
    assert answers.count("Points: ") == 4 and all(line in answers for line in questions.splitlines())
    parts = [
        sum(map(int, re.findall(r" (\d)[,.](?: |$)", line))) for line in answers.splitlines() if "Points: " in line
    ]
    assert parts == [int(n) for n in re.findall(r"\((\d) points\)", questions)] and sum(parts) == 16
