"""The pages of claims: what they say, in both languages, of planted verdicts, strangers' names and damaged files."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from claim_builders import C01, C01_UNCLEAR, plant, plant_hostile, write_class

from cnnbench import registry
from cnnbench.claims.classroom import format_class, gather_class, render_class
from cnnbench.claims.evidence import draw_evidence
from cnnbench.claims.page import render_claim, write_index
from cnnbench.claims.records import read_verdict, read_verdicts, write_verdict
from cnnbench.claims.statement import choose_claims, list_claims
from cnnbench.claims.wording import Wording
from cnnbench.cli.choices import find_config_dir
from cnnbench.report.documents import LANGUAGES
from cnnbench.storage.csv_tables import read_csv

FOLDER = find_config_dir() / "claim"
# Frequent in English, and no words of Portuguese.
ENGLISH = re.compile(
    r"\b(the|of|and|with|without|at|is|are|from|by|to|than|not|and?|layers?|channels|units|seeds?|twice|half|few|"
    r"many|best|plain|rate|norm|batch|group|shuffled|average|split|whole|times|points|verdict|claim|evidence)\b"
)
NAMES = re.compile('(?i)"[^"]*"|(group|batch|average|max) (norm|pooling)')  # titles, and terms that stay English


class _Text(HTMLParser):
    """The text that a reader of a page sees, without code; and the tags that hold others open."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.scripts = 0
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.scripts += tag == "script" or any(name.startswith("on") for name, _ in attributes)
        self.text += [value for name, value in attributes if name == "aria-label" and value]
        if tag not in ("meta", "path", "use", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        if tag not in ("meta", "path", "use", "br"):
            assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "code", "pre"} & {*self.open}:
            self.text.append(data)


def read_page(page: str) -> str:
    """The text of a page that is well formed and holds no program."""
    parsed = _Text(page)
    assert parsed.open == []
    assert parsed.scripts == 0
    assert "window.pwned=1</script>" not in page
    return " ".join(" ".join(parsed.text).split())


def find_english(text: str) -> set[str]:
    return {found[0] for found in ENGLISH.finditer(NAMES.sub("", text))}


def test_a_page_says_what_was_asked_found_and_predicted():
    page = render_claim(plant("C01", C01, "no"), Wording("en"))
    assert "<code>model=lenet5</code>" in page
    assert "<pre>cnnbench claim run C01 --scale quick --data digits</pre>" in page
    text = read_page(page)
    for words in (
        "How much more accurate is LeNet-5",
        "Supported The statement holds here",
        "You predicted no. The prediction did not hold.",
        "test accuracy LeNet-5 − perceptron",
        "at least 0.5 percentage points",
        "Half a point is 50 of 10,000 digits",
        "almost three times the multiplications",
        "../runs/0",
    ):
        assert words in text, words


def test_an_open_verdict_says_what_would_decide_it():
    record = plant("C01", C01_UNCLEAR, "yes")
    assert record.verdict == "inconclusive"
    text = read_page(render_claim(record, Wording("en")))
    assert "Whether it holds is open." in text
    assert re.search(r"About \d+ seeds would decide it", text)


def test_only_runs_are_linked():
    page = render_claim(plant("C01", C01), Wording("en"))
    assert set(re.findall('href="([^#"]+)"', page)) == {"../../index.html", "../runs/0/"}


def test_portuguese_pages_hold_no_english(tmp_path):
    wording = Wording("pt")
    records = [plant("C01", C01, "yes"), plant("C01", C01_UNCLEAR)]
    for record in records:
        text = read_page(render_claim(record, wording))
        assert find_english(text) == set(), text
        assert "ao menos 0,5 pontos percentuais" in text
    write_verdict(tmp_path / "digits-quick/C01", records[0])
    claims = choose_claims(FOLDER, ["C01", "C03"])
    write_index(tmp_path, read_verdicts(tmp_path, []), claims, wording)
    text = read_page((tmp_path / "index.html").read_text())
    assert find_english(text) == set(), text
    assert "C03: Os parâmetros de um perceptron" in text
    classroom = gather_class(read_verdicts(tmp_path, []))
    assert find_english(read_page(render_class(classroom, wording))) == set()


@pytest.mark.parametrize("name", list_claims(FOLDER))
def test_every_claim_names_its_groups_and_units_in_portuguese(name):
    (claim,) = choose_claims(FOLDER, [name])
    wording = Wording("pt", claim.portuguese)
    units = wording.texts["units"]
    texts = [wording.choose(text) for text in (claim.statement, claim.question, claim.nuance, claim.equal)]
    texts += [wording.name(group) for group in (*claim.groups, *claim.sets)]
    for contrast in claim.contrasts:
        texts += [wording.choose(contrast.reason), wording.name(units.get(contrast.unit, contrast.unit))]
    assert {text: found for text in texts if (found := find_english(text))} == {}


def test_both_languages_have_the_same_texts_and_name_every_measure():
    def list_keys(part) -> list:
        return [[key, list_keys(value)] for key, value in part.items()] if isinstance(part, dict) else []

    texts = {language: dict(Wording(language).texts) for language in LANGUAGES}
    for language in LANGUAGES:
        texts[language].pop("units")  # English units are what the files say
        assert {*registry.list_names("measure")} <= {*texts[language]["measures"]}
    assert list_keys(texts["en"]) == list_keys(texts["pt"])


def test_strangers_names_and_numbers_are_shown_and_do_nothing(tmp_path):
    record = plant_hostile("C01", C01)
    for language in LANGUAGES:
        text = read_page(render_claim(record, Wording(language)))
        assert "\\u202eevil" in text
        assert "\u202e" not in text
    write_verdict(tmp_path / "x-quick/C01", record)
    write_index(tmp_path, read_verdicts(tmp_path, []), [], Wording("en"))
    assert "<script>window.pwned=1" in read_page((tmp_path / "index.html").read_text())
    assert "<script>" in read_page(render_class(gather_class(read_verdicts(tmp_path, [])), Wording("en")))


def test_the_picture_has_every_group_seed_effect_and_threshold():
    record = plant("C01", C01)
    _, tips = draw_evidence(record, Wording("en"))
    dots = [len(texts) for gid, texts in tips.items() if not gid.endswith("m")]
    assert dots == [record.seeds] * 2 + [record.seeds] + [1, 1], "two groups and their effect by seed; two counts"
    assert len([gid for gid in tips if gid.endswith("m")]) == len(record.contrasts)
    assert "LeNet-5 − perceptron" in tips["e00m"][0]


def test_a_class_is_compared_whatever_each_student_handed_in(tmp_path):
    folders = write_class(tmp_path)
    problems: list[str] = []
    verdicts = [pair for folder in folders for pair in read_verdicts(folder, problems)]
    assert len(problems) == 1
    assert "dan/C01/verdict.json is damaged" in problems[0]
    classroom = gather_class(verdicts, problems)
    assert [*classroom.students] == ["ana", "bia <script>", "eve"]
    text = read_page(render_class(classroom, Wording("en")))
    assert "3 students · 1 claim" in text
    assert "2 1 0 2 1 0 1 of 3 eve: refuted" in text, (
        "yes, no, none; supported, refuted, inconclusive; held; who differs"
    )
    assert "is damaged" not in text, "what could not be read is a message of the program"
    path = tmp_path / "class.csv"
    path.write_text(format_class(classroom))
    rows = [(row["student"], row["prediction"], row["verdict"], row["held"]) for row in read_csv(path)]
    assert rows == [
        ("ana", "yes", "supported", "True"),
        ("bia <script>", "no", "supported", "False"),
        ("eve", "yes", "refuted", "False"),
    ]


def test_students_with_folders_of_the_same_name_are_told_apart(tmp_path):
    for name in ("a/work", "b/work"):
        write_verdict(tmp_path / name / "C01", plant("C01", C01))
    assert [*gather_class(read_verdicts(tmp_path, [])).students] == ["a/work", "b/work"]


def test_verdicts_that_cannot_be_read_are_named_and_left_out(tmp_path):
    import os

    good = plant("C01", C01)
    for name in ("a", "fifo", "huge", "folder", "link", "text", "value"):
        (tmp_path / name).mkdir()
    write_verdict(tmp_path / "a", good)
    os.mkfifo(tmp_path / "fifo/verdict.json")
    (tmp_path / "huge/verdict.json").write_bytes(b" " * (4 * 2**20 + 1))
    (tmp_path / "folder/verdict.json").mkdir()
    (tmp_path / "link/verdict.json").symlink_to(tmp_path / "a/verdict.json")
    (tmp_path / "text/verdict.json").write_text("[1]")
    (tmp_path / "value/verdict.json").write_text(good.model_dump_json().replace('"supported"', '"proven"'))
    problems: list[str] = []
    assert [path.parent.name for path, _ in read_verdicts(tmp_path, problems)] == ["a"]
    named = " ".join(problems)
    assert all(f"{name}/verdict.json" in named for name in ("huge", "text", "value")), named
    assert read_verdict(tmp_path / "a/verdict.json") == good


def test_a_report_shows_the_rest_and_says_what_is_left_out(cnnbench, tmp_path):
    write_class(tmp_path / "class")
    (tmp_path / "class/notes.txt").write_text("not a student")
    (tmp_path / "class/empty").mkdir()
    names = sorted(str(path.relative_to(tmp_path)) for path in (tmp_path / "class").iterdir())
    ended = cnnbench("claim", "report", *names, "--out", "out", "--language", "pt")
    assert ended.returncode == 0, ended.stderr
    for words in ("notes.txt is not a folder", "empty holds no verdict.json", "dan/C01/verdict.json is damaged"):
        assert words in ended.stderr
    assert ended.stdout.splitlines()[-1] == "out/class.html"
    assert "refutada" in ended.stdout
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"class.html", "class.csv", "claims.csv"}
    alone = cnnbench("claim", "report", "class/empty")
    assert (alone.returncode, "holds no verdict.json" in alone.stderr) == (2, True)
    elsewhere = cnnbench("claim", "report", *names, "--out", "class")
    assert (elsewhere.returncode, "holds other files" in elsewhere.stderr) == (2, True)


def test_a_damaged_verdict_of_another_claim_stops_no_run(cnnbench, tmp_path):
    damaged = tmp_path / "outputs/claims/mnist-quick/C99/verdict.json"
    damaged.parent.mkdir(parents=True)
    damaged.write_text("{")
    (tmp_path / "outputs/claims/mnist-quick/claims.csv").write_bytes(b"\x00\xff")
    (tmp_path / "outputs/claims/work.json").write_text('{"x": [')
    ended = cnnbench("claim", "run", "C10", "--language", "pt")
    assert ended.returncode == 0, ended.stderr
    assert "C99/verdict.json is damaged" in ended.stderr
    page = Path(ended.stdout.splitlines()[-1])
    assert page == Path("outputs/claims/mnist-quick/C10/claim.html")
    assert 'lang="pt"' in (tmp_path / page).read_text()
    index = (tmp_path / "outputs/claims/index.html").read_text()
    assert "mnist-quick/C10/claim.html" in index
    assert "C99/verdict.json is damaged" in index
    assert {row["claim"] for row in read_csv(tmp_path / "outputs/claims/mnist-quick/claims.csv")} == {"C10"}
    listed = cnnbench("claim", "list", "--language", "pt")
    assert "sustentada (mnist, quick)" in listed.stdout
    assert "C99/verdict.json is damaged" in listed.stderr
