"""Conventions: defaults, refusals, presets, and the page about other frameworks."""

import dataclasses
import re
from pathlib import Path

import pytest

import agl_ref as agl

PAGE = (Path(__file__).parent.parent / "agl_ref" / "oracle" / "FRAMEWORKS.md").read_text(encoding="utf-8")


def test_the_default_is_mpd_agl_and_the_first_of_each_list():
    for field, allowed in agl.Conventions.choices().items():
        assert getattr(agl.MPD_AGL, field) == allowed[0]
    assert agl.MPD_AGL.fixed_width == 1.0


def test_every_row_of_the_table_has_a_field():
    assert len(agl.Conventions.choices()) == 14


@pytest.mark.parametrize("field", sorted(agl.Conventions.choices()))
def test_an_unknown_value_is_refused_with_the_allowed_ones(field):
    with pytest.raises(ValueError, match=f"Conventions.{field}: expected one of .* received 'nonsense'"):
        agl.Conventions(**{field: "nonsense"})


@pytest.mark.parametrize("width", [-1.0, float("nan"), float("inf"), "1", None, True])
def test_a_fixed_width_that_is_no_width_is_refused(width):
    with pytest.raises(ValueError, match="fixed_width: expected a finite number >= 0"):
        agl.Conventions(fixed_width=width)


def test_conventions_are_frozen_and_compare_by_value():
    with pytest.raises(dataclasses.FrozenInstanceError):
        agl.MPD_AGL.reset = "soft"
    assert agl.Conventions() == agl.MPD_AGL


def test_differences_name_the_fields():
    assert agl.MPD_AGL.differences(agl.Conventions(reset="soft")) == {"reset": ("hard", "soft")}
    assert agl.PRESETS["spikingjelly"].input_scale == "1 - tau"


def test_the_choices_that_the_search_leaves_out_are_allowed_all_the_same():
    known, allowed = agl.Conventions.known_choices(), agl.Conventions.choices()
    left_out = {(field, value) for field in allowed for value in set(allowed[field]) - set(known[field])}
    assert left_out == {("width", "exact"), ("width", "empirical")}


def test_the_page_about_frameworks_names_every_preset_and_no_other():
    rows = [
        line.split("|")[2] for line in PAGE.splitlines() if re.match(r"\| (SpikingJelly|snnTorch|Norse|\.\.\.) ", line)
    ]
    named = {name for cell in rows for name in re.findall(r"`([a-z-]+)`", cell)} & set(agl.PRESETS)
    assert named == set(agl.PRESETS) - {"mpd-agl"}


def test_the_code_of_the_page_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    exec(compile(code, "FRAMEWORKS.md", "exec"), {})
    assert int(capsys.readouterr().out.split()[0]) > 0
