"""What `cnnbench report` writes and prints: figures that agree with the study, names that do no harm."""

import csv
import errno
import os
import re
import shutil
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_builders import write_run

from cnnbench.report.csv_rows import list_groups, list_runs
from cnnbench.report.documents import find_terms, render_markdown
from cnnbench.report.latex import escape_latex, format_latex
from cnnbench.report.reading import read_study
from cnnbench.report.tables import tabulate_comparisons, tabulate_groups
from cnnbench.report.writing import FileInTheWay, write_report
from cnnbench.storage.plain_data import write_yaml

HOSTILE = '=cmd|"/c calc"<script>alert(1)</script>\x1b[31m\n&%$#_{}~^\\'


@pytest.fixture
def sweep(tmp_path):
    for number in range(12):
        model = ("mlp", "lenet5")[number // 6]
        right = 900 + number + 40 * (number // 6)
        write_run(tmp_path / f"sweep/{number}", number % 6, right, model__name=model)
    write_run(tmp_path / "sweep/12", 6, state="failed", message="OSError: no space", model__name="mlp")
    write_yaml(tmp_path / "sweep/sweep.yaml", {"jobs": [[]] * 13})
    return tmp_path / "sweep"


def read_csv(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_files_hold_the_figures_of_the_study(sweep, tmp_path):
    study = write_report([sweep], tmp_path / "out", target=0.9, latex=True)
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {
        "results.csv",
        "groups.csv",
        "report.md",
        "report.tex",
    }
    runs = read_csv(tmp_path / "out/results.csv")
    assert [float(row["test/accuracy"]) for row in runs[:12]] == [
        run.summary["test/accuracy"] for run in study.runs[:12]
    ]
    assert [row["model"] for row in runs] == ["mlp"] * 6 + ["lenet5"] * 6 + ["mlp"]
    assert (runs[12]["state"], runs[12]["counted"], runs[12]["message"]) == ("failed", "False", "OSError: no space")
    mlp, lenet5 = read_csv(tmp_path / "out/groups.csv")
    estimate = study.groups[1].estimate_of("accuracy")
    assert [float(lenet5[f"accuracy_{part}"]) for part in ("mean", "std", "low", "high")] == [
        estimate.mean,
        estimate.std,
        estimate.low,
        estimate.high,
    ]
    assert (mlp["against"], lenet5["against"], lenet5["verdict"]) == ("", "model=mlp", "better")
    assert float(lenet5["p_holm"]) == study.comparisons[0].p_holm
    assert (lenet5["target_reached_by"], lenet5["epochs_to_target_median"]) == ("6", "3.0")
    text = (tmp_path / "out/report.md").read_text()
    assert "| model=lenet5 | 6 | 94.85 ± 0.19 | [94.65, 95.05] |" in text
    assert "better (p = 0.031, n = 6)" in text
    details = text[text.index("## More metrics") :].split("\n")[2:]
    assert details[0].startswith("| group | n | balanced accuracy % | balanced accuracy [95 %] | Cohen's kappa |")
    assert len(details[: details.index("")]) == 4, "a row for each group"
    assert "1 of 13 runs failed and is not counted" in text
    assert "13 runs, of which 12 count, in 2 groups. Tested on 1000 images of digits." in text
    assert f"cnnbench report {sweep} --out {tmp_path / 'out'} --target 0.9 --latex" in text


def test_a_report_is_made_where_there_is_neither_torch_nor_hydra(sweep, tmp_path):
    code = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "hydra"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
from cnnbench.cli import main
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code, "report", str(sweep), "--out", "here/there"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "here/there"
    assert "better (p = 0.031, n = 6)" in done.stdout
    assert (tmp_path / "here/there/report.md").is_file()


def run_main(monkeypatch, *arguments):
    from cnnbench.cli import main

    monkeypatch.setattr(sys, "argv", ["cnnbench", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


def test_a_sweeps_report_goes_into_the_sweep_and_others_into_report(sweep, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_main(monkeypatch, "report", "sweep") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "sweep"
    assert (sweep / "report.md").is_file()
    assert run_main(monkeypatch, "report", "sweep", "sweep/0") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "report"
    assert (tmp_path / "report/groups.csv").is_file()
    before = [row["run"] for row in read_csv(sweep / "results.csv")]
    assert run_main(monkeypatch, "report", "sweep") == 0, "a report in the sweep is not in the way of the next"
    shutil.copytree(sweep, tmp_path / "copy")
    assert run_main(monkeypatch, "report", "copy") == 0, "nor is that of the sweep of which this one is a copy"
    assert [row["run"] for row in read_csv(sweep / "results.csv")] == before


def test_the_words_that_occur_are_explained_and_no_others(sweep, tmp_path):
    write_report([sweep], tmp_path / "out")
    text, html = ((tmp_path / "out" / name).read_text() for name in ("report.md", "report.html"))
    said = text.partition("## Words")[2]
    for word in ("sign-flip test", "Holm’s correction", "McNemar’s test", "MACs", "field", "p"):
        assert f"- **{word}**: " in said, word
    assert "nats" not in text
    assert "<dt>sign-flip test</dt><dd>If two groups were equal" in html
    assert [word for word, _ in find_terms("training loss, nats")] == ["nats"]
    assert "<dt>Hedges’ g</dt>" not in html
    assert "d_z" not in text, "nothing varies"
    write_run(tmp_path / "one", 0)
    text = render_markdown(read_study([tmp_path / "one"]), "command", "now")
    assert "McNemar" not in text
    assert "- **MACs**: " in text


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_report_replaces_none_but_an_earlier_one_of_the_same_runs(sweep, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for number in range(2):
        write_run(tmp_path / f"other/{number}", number)
    assert run_main(monkeypatch, "report", "sweep/0", "sweep/1", "--latex") == 0
    assert "replaces" not in capsys.readouterr().out
    first = contents(tmp_path / "report")
    assert run_main(monkeypatch, "report", "other") == 2
    assert "report holds a report of other runs, such as " in (said := capsys.readouterr().err)
    assert "--out" in said
    assert contents(tmp_path / "report") == first
    assert run_main(monkeypatch, "report", "sweep/1", "sweep/0", "sweep/2") == 0, "it has these runs, and one more"
    assert "held an earlier report of these runs, which this one replaces" in " ".join(capsys.readouterr().out.split())
    second = contents(tmp_path / "report")
    assert "report.tex" not in second, "tables of another report do not stay beside it"
    assert run_main(monkeypatch, "report", "sweep/0") == 2, "the earlier report has more runs"
    (tmp_path / "sweep").rename(tmp_path / "moved")
    assert run_main(monkeypatch, "report", "moved/0", "moved/1", "moved/2") == 0
    for name in second:
        (tmp_path / "report" / name).write_text("mine")
        assert run_main(monkeypatch, "report", "moved/0", "moved/1", "moved/2") == 2, name
        assert f"report/{name}" in capsys.readouterr().err
        assert (tmp_path / "report" / name).read_text() == "mine"
        (tmp_path / "report" / name).write_bytes(second[name])


def test_the_only_report_of_runs_that_are_gone_is_not_replaced_by_one_of_others(tmp_path):
    for number in range(2):
        write_run(tmp_path / f"old/{number}", number, 900)
    write_report([tmp_path / "old"], tmp_path / "out")
    (tmp_path / "old").rename(tmp_path / "moved")
    write_report([tmp_path / "moved"], tmp_path / "out")
    shutil.rmtree(tmp_path / "moved")
    for number in range(2):
        write_run(tmp_path / f"new/{number}", number + 1, 950)
    before = contents(tmp_path / "out")
    with pytest.raises(FileInTheWay, match="holds a report of other runs") as refused:
        write_report([tmp_path / "new"], tmp_path / "out")
    assert refused.value.path == tmp_path / "out"
    assert contents(tmp_path / "out") == before


def test_the_files_of_a_report_are_all_new_or_all_old(sweep, tmp_path, monkeypatch):
    out = tmp_path / "out"
    write_report([sweep], out)
    before = contents(out)
    write_run(sweep / "13", 7, model__name="mlp")

    real, left = os.fsync, [2]

    def full(descriptor):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match=r"No space left.*--out"):
            write_report([sweep], out)
    assert contents(out) == before
    write_report([sweep], out)
    assert all(contents(out)[name] != before[name] for name in before)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "'nowhere' is not a folder"),
        (["empty"], "'empty' holds no run"),
        (["sweep", "--baseline", "model=vgg"], "must be one of 'model=mlp', 'model=lenet5'"),
        (["sweep", "--target", "98"], "must be an accuracy above 0 and up to 1"),
        (["sweep", "--delta", "0"], "--delta 0: must be a difference in points above 0 and below 100, such as 0.1"),
        (["sweep", "--delta", "nan"], "--delta nan: must be a difference in points"),
        (["sweep", "other"], "different test sets"),
        (["sweep", "--out", "sweep/sweep.yaml"], "(File exists): name another folder by --out DIR"),
        ([], "Missing argument 'DIR"),
    ],
    ids=str,
)
def test_a_wrong_command_ends_with_2_and_writes_nothing(arguments, words, sweep, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    write_run(tmp_path / "other", 0, test_set="b" * 64)
    before = sorted(tmp_path.rglob("*"))
    assert run_main(monkeypatch, "report", *arguments) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.out == ""
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sweep", "--difference", "0"], "--difference 0: must be a difference in points above 0 and below 100"),
        (["sweep"], "Missing option '--difference'"),
        (["nowhere", "--difference", "0.2"], "'nowhere' is not a folder"),
        (
            ["sweep/0", "--difference", "0.2"],
            "no group has two seeds with an accuracy: run more, such as sweep.seeds=5",
        ),
        (["sweep", "other", "--difference", "0.2"], "different test sets"),
        (["alike", "--difference", "0.2"], "all seeds have the same accuracy"),
    ],
    ids=str,
)
def test_a_wrong_plan_ends_with_2(arguments, words, sweep, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "other", 0, test_set="b" * 64)
    for seed in range(2):
        write_run(tmp_path / "alike" / str(seed), seed)
    assert run_main(monkeypatch, "plan", *arguments) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.out == ""


def test_hostile_names_do_nothing(tmp_path, capsys):
    from cnnbench.cli.report import show_study

    for seed in range(2):
        write_run(tmp_path / f"a{seed}", seed, optimizer__name=HOSTILE)
        write_run(tmp_path / f"b{seed}", seed, optimizer__name="[link](https://x.org)")
    write_run(tmp_path / "c", 0, state="failed", message=HOSTILE)
    study = write_report([tmp_path], tmp_path / "out", latex=True)
    text = (tmp_path / "out/report.md").read_text()
    assert "<script>" not in text
    assert "\x1b" not in text
    assert "[link](" not in text
    table = [line for line in text.splitlines() if line.startswith("| optimizer")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table[:2]}) == 1
    assert all(not row["optimizer"].startswith("=") for row in read_csv(tmp_path / "out/results.csv"))
    tex = (tmp_path / "out/report.tex").read_text()
    assert r"{optimizer==cmd\textbar{}\char34{}/c calc" in tex
    show_study(study)
    assert "\x1b[31m" not in capsys.readouterr().out


@given(st.text(max_size=40))
def test_every_special_character_of_latex_is_escaped(text):
    rest = escape_latex(text)
    for command in (
        r"\textbackslash{}",
        r"\textasciitilde{}",
        r"\textasciicircum{}",
        r"\textless{}",
        r"\textgreater{}",
    ):
        rest = rest.replace(command, "")
    for command in (r"\textbar{}", r"\char34{}", r"$\pm$", r"$\times$", r"$-$", "-{}"):
        rest = rest.replace(command, "")
    assert not re.search(r"(?<!\\)[&%$#_{}~^<>|\"]|\\(?![&%$#_{}])", rest)
    assert rest.isprintable()


def test_latex_has_minus_signs_and_no_dashes_by_chance():
    assert escape_latex("-0.15 [-0.36, +0.05]") == "$-$0.15 [$-$0.36, +0.05]"
    assert escape_latex("n-1 --out a---b") == "n-1 -{}-out a-{}-{}-b"


def test_latex_has_as_many_cells_in_each_row_as_columns(sweep):
    for body in re.findall(r"\\begin\{tabular\}\{(.*?)\}\n(.*?)\\end", format_latex(read_study([sweep])), re.DOTALL):
        rows = [line for line in body[1].splitlines() if line.endswith("\\\\")]
        assert len(rows) >= 2
        assert {line.count(" & ") + 1 for line in rows} == {len(body[0])}


def test_columns_without_a_figure_are_left_out(tmp_path):
    write_run(tmp_path / "0", 0)
    header = [column.heading for column in tabulate_groups(read_study([tmp_path])).adapt_to("text").columns]
    assert "accuracy [95 %]" not in header, "one seed has no interval"
    assert not {"loss", "published F1", "epochs to 0 %"} & set(header)


def test_a_study_of_no_finished_run_has_empty_tables(tmp_path):
    write_run(tmp_path / "0", 0, state="running")
    study = read_study([tmp_path])
    table = tabulate_groups(study).adapt_to("text")
    assert ([column.heading for column in table.columns], table.rows) == (["group"], [])
    assert (tabulate_comparisons(study).rows, list_groups(study)) == ([], [])
    assert list_runs(study)[0]["state"] == "running"
    assert "1 run, of which 0 count, in 0 groups." in render_markdown(study, "command", "now")
