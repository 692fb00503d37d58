"""The command where something around it is wrong: closed streams, locale, variables, folders, memory, a full disk."""

import io
import json
import os
import stat
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from test_cli import images, one_line, small, trained, trained_once  # noqa: F401  fixtures, but for two

from agl_ref import cli, files, oracle
from agl_ref.cli.shared import BAD_INPUT, FAILED
from agl_ref.cli.streams import kept_going
from agl_ref.train import memory, plots


@pytest.fixture
def dumps(tmp_path):
    """The folder of a right dump and a wrong one of the case lif-grid."""
    u = oracle.load_case("lif-grid").arrays["u"]
    np.savez(tmp_path / "right.npz", u=u)
    np.savez(tmp_path / "wrong.npz", u=u + 1)
    return tmp_path


def shell(folder, argv, redirection="", **environment):
    """(exit code, stdout, stderr) of the command with a shell's redirection of its streams."""
    words = " ".join(f"'{word}'" for word in [sys.executable, "-m", "agl_ref", *argv])
    text = f"{words} {redirection}; echo ${{PIPESTATUS[0]}} >&3"
    done = subprocess.run(["bash", "-c", f"exec 3>code; {text}"], capture_output=True, cwd=folder,
                          env={**os.environ, "NUMBA_DISABLE_JIT": "0", **environment})  # fmt: skip
    return int((folder / "code").read_text()), done.stdout.decode(), done.stderr.decode()


# --- streams ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dump, code, redirection", [
    *[("wrong.npz", FAILED, each) for each in (">&-", "<&- >&- 2>&-", "2>&1 | true", "2>/dev/full")],
    ("right.npz", 0, "| true"), ("none.npz", BAD_INPUT, "2>&-"),
    *[pytest.param("wrong.npz", FAILED, each, marks=pytest.mark.slow) for each in ("2>&-", "| true")],
    *[pytest.param("none.npz", BAD_INPUT, each, marks=pytest.mark.slow) for each in ("2>&1 | true", "2>/dev/full")],
])  # fmt: skip
def test_the_exit_code_is_that_of_the_work_whoever_reads(dumps, redirection, dump, code):
    found, _, err = shell(dumps, ["check", dump, "--case", "lif-grid"], redirection)
    assert found == code and "Traceback" not in err and "Exception ignored" not in err


@pytest.mark.slow
@pytest.mark.parametrize("redirection", ["2>&1 | true", ">/dev/full 2>/dev/full"])
def test_no_closed_or_full_stream_loses_a_training(images, tmp_path, redirection):  # noqa: F811
    run, argv = tmp_path / "run", small(images, "--epochs", "1", "--out", "run")
    assert shell(tmp_path, argv, redirection)[0] == (BAD_INPUT if redirection.startswith(">/") else 0)
    assert (run / "checkpoints" / "last.npz").exists() and (run / "figures" / "coverage.png").exists()


@pytest.mark.parametrize("argv", [["check", "right.npz", "--case", "lif-grid", "--junit", "out.xml"], ["--help"]])
def test_output_for_a_full_disk_is_an_error_once_the_work_is_done(dumps, argv):
    code, _, err = shell(dumps, argv, ">/dev/full")
    assert code == BAD_INPUT and (dumps / "out.xml").exists() == ("check" in argv)
    assert err == "agl-ref: standard output: expected a place that can be written, received: No space left on device\n"


def test_what_a_locale_cannot_write_is_written_in_ascii(monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", out)
    with kept_going():
        print("5 ± 1 \udcc3")
    assert sys.stdout is out and out.buffer.getvalue() == b"5 \\xb1 1 \\udcc3\n"


# --- names and variables --------------------------------------------------------------------------------------------------


def test_a_run_folder_of_any_name_is_trained_in_any_locale(images, tmp_path):  # noqa: F811
    name = "é$^^$"
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "MPLBACKEND": "none of all"}
    argv = small(images, "--epochs", "1", "--out", name, "--json")
    code, out, err = shell(tmp_path, argv, **locale)
    assert (code, err) == (0, "")
    assert json.loads(out)["epoch"] == 1 and (tmp_path / name / "figures" / "run.png").exists()


@pytest.mark.parametrize("threads", ["0", "-1", "abc", "1.5"])
def test_an_impossible_number_of_threads_is_one_line(threads, monkeypatch, capsys):
    monkeypatch.setenv("NUMBA_NUM_THREADS", threads)
    assert cli.main(["vectors", "list"]) == BAD_INPUT
    assert f"NUMBA_NUM_THREADS: expected a number of threads from 1, received '{threads}'" in one_line(capsys)


def test_a_deleted_current_folder_is_one_line(tmp_path):
    text = f"mkdir gone && cd gone && rmdir ../gone && {sys.executable} -m agl_ref vectors list"
    done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == BAD_INPUT and done.stderr.count("\n") == 1
    assert "the current folder: expected one that exists" in done.stderr


# --- memory ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options, words", [
    (["--T", "100000000"], "layers' values at 100000000 timesteps of 8 images; lower T, batch or channels"),
    (["--T", "100000000", "--batch", "1"], "timesteps of 6 test images; lower T or channels"),
    (["--channels", "1000000,1000000"], "weights; lower channels"),
    (["--channels", "1,1,1000000", "--network", "sew_resnet19"], "weights; lower channels"),
    (["--channels", "1000000000"], "weights; lower channels"),
    (["--lr", str(10**400)], None), (["--width", str(10**400)], None),
])  # fmt: skip
def test_what_no_machine_has_memory_for_is_refused(images, tmp_path, capsys, monkeypatch, options, words):  # noqa: F811
    monkeypatch.setattr(memory, "machine", lambda: 2**35)
    assert cli.main(small(images, "--out", str(tmp_path / "run"), *options)) == BAD_INPUT
    line = one_line(capsys)
    if words is not None:
        assert "memory: expected a run that fits in the 32.0 GiB of this machine, received" in line and words in line
    assert not (tmp_path / "run").exists()


def test_memory_that_runs_out_all_the_same_is_one_line(images, tmp_path, capsys, monkeypatch):  # noqa: F811
    monkeypatch.setattr(memory, "require", lambda *args, **kw: np.empty(2**57))
    assert cli.main(small(images, "--out", str(tmp_path / "run"))) == BAD_INPUT
    assert "memory: expected enough" in one_line(capsys)


# --- a full disk ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def full(monkeypatch):
    """A function after whose call no bytes reach a disk any more."""

    def fail(file):
        if stat.S_ISREG(os.fstat(file).st_mode):
            raise OSError(28, "No space left on device")

    return lambda: monkeypatch.setattr(os, "fsync", fail)


def test_a_full_disk_is_named_and_destroys_no_figure(trained, capsys, full):  # noqa: F811
    run = trained
    before = {path: path.read_bytes() for path in run.rglob("*.*") if path.is_file()}
    assert len(before) == 10
    full()
    assert cli.main(["train", "--resume", str(run)]) == BAD_INPUT
    assert f"{run}/metrics.jsonl: expected a place that can be read and written, received: No space" in one_line(capsys)
    with pytest.raises(OSError) as info:
        plots.save(plots.Figure(), run / "figures" / "run.png")
    assert info.value.filename == str(run / "figures" / "run.png")
    assert before == {path: path.read_bytes() for path in run.rglob("*.*") if path.is_file()}


def test_no_junit_file_of_an_earlier_check_is_left(dumps, capsys, full):
    junit = dumps / "out.xml"
    argv = ["--case", "lif-grid", "--junit", str(junit)]
    assert cli.main(["check", str(dumps / "right.npz"), *argv]) == 0 and junit.exists()
    assert cli.main(["check", str(dumps / "none.npz"), *argv]) == BAD_INPUT and not junit.exists()
    assert cli.main(["check", str(dumps / "right.npz"), *argv]) == 0
    capsys.readouterr()
    full()
    assert cli.main(["check", str(dumps / "right.npz"), *argv]) == BAD_INPUT and not junit.exists()
    assert f"{junit}: expected" in one_line(capsys)


def test_what_is_no_file_is_written_to_and_links_stay(tmp_path):
    target, link = tmp_path / "file", tmp_path / "link"
    link.symlink_to(target)
    files.write_atomically(link, b"new")
    assert link.is_symlink() and target.read_bytes() == b"new"
    files.write_atomically("/dev/null", b"new")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


# --- pipes ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [
    lambda d: (["train", "--data", "a.npz"], "a.npz"),
    lambda d: (["train", "--data", "idx"], "idx/train-images-idx3-ubyte"),
    lambda d: (["train", "--data", "cifar"], "cifar/data_batch_1"),
    lambda d: (["train", "--resume", "run"], "run/config.json"),
    lambda d: (["eval", "run"], "run/config.json"),
    lambda d: (["demo", "--out", "demo"], "demo/fixed-2/config.json"),
    lambda d: (["ablation", "--out", "abl", "--list"], "abl/results.jsonl"),
    lambda d: (["ablation", "--out", "abl"], "abl/.lock"),
    lambda d: (["check", "a.npz", "--case", "lif-grid"], "a.npz"),
    lambda d: (["check", "a.safetensors", "--case", "lif-grid"], "a.safetensors"),
    lambda d: (["check", "dump", "--case", "lif-grid"], "dump/u.npy"),
], ids=lambda make: " ".join(make(None)[0][:2]))  # fmt: skip
def test_a_pipe_instead_of_a_file_hangs_nothing(make, tmp_path, monkeypatch, capsys):
    argv, name = make(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(tmp_path / name)
    assert cli.main(argv) == BAD_INPUT
    one_line(capsys)


def test_a_pipe_among_the_submissions_is_a_row_with_a_note(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("a.ipynb")
    assert cli.main(["course", "report", "a.ipynb"]) == 0
    assert 'a,0,0,"a.ipynb: expected a file, received a pipe or a device' in capsys.readouterr().out


def test_sixty_thousand_members_are_refused_before_they_are_parsed(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x", b"PK\1\2" * 60_000)
    monkeypatch.setattr(zipfile, "ZipFile", None)
    with pytest.raises(ValueError, match="at most 10000 arrays, received 60001; cut it smaller"):
        files.read_npz(path)
