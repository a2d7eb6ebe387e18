"""The pages: their examples run, their lengths and lines hold, and what they name exists."""

import argparse
import re
import shutil
import tomllib
from collections import defaultdict
from pathlib import Path

import jax
import pytest

from tcm_jax import cli, pillow_plugin
from tcm_jax.cli.parser import make_parser

ROOT = Path(__file__).parents[1]
WORDS = {
    "README.md": 700,
    "docs/usage.md": 1200,
    "docs/research.md": 700,
    "docs/architecture.md": 1200,
    "docs/format.md": 1900,
    "docs/range_coder.md": 600,
    "docs/residual.md": 1200,
    "docs/repeats.md": 1200,
    "docs/effort.md": 700,
    "docs/onnx.md": 700,
    "docs/training.md": 1000,
    "docs/evaluation.md": 1000,
    "docs/performance.md": 700,
    "docs/portability.md": 400,
    "docs/scale.md": 700,
    "docs/hostile.md": 400,
    "docs/viewer.md": 700,
    "docs/models/tiny/README.md": 500,
    "docs/models/visual/README.md": 720,
}
NOTES = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs" / "experiments").glob("*.md"))
PAGES = [*WORDS, "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md"]
CHANGELOG_LINES = 40  # a version
FORBIDDEN = ("by hand", "as before", "until commit", "an hour later", "was asked", "the issue", "/root/")
PHOTOGRAPH = "coffee.png"  # of scikit-image; README and usage.md compress it
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
FIGURE = re.compile(r"(?<![\w.,])(?:\d+\.\d+|\d{1,3}(?:,\d{3})+)(?![\w.]*\w)")
# The paper's arXiv number, the λ of its tables, and figures that two measurements happen to have.
SHARED_FIGURES = {"2303.14978", "0.0067", "12.3", "92.6"}


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def prose(page: str) -> str:
    """The page without its code blocks."""
    return FENCE.sub("", text(page))


def python_blocks(page: str) -> list[str]:
    return [code for language, code in FENCE.findall(text(page)) if language == "python"]


def sessions(page: str) -> list[tuple[str, str]]:
    """(command, what it prints) of every block that shows both."""
    blocks = "".join(code for language, code in FENCE.findall(text(page)) if code.startswith("$ "))
    return [(part.partition("\n")[0], part.partition("\n")[2]) for part in blocks.split("$ ") if part]


def without_seconds(output: str) -> str:
    return re.sub(r"\d+\.\d s$", "N s", output, flags=re.MULTILINE)


def anchors(page: str) -> set[str]:
    """The anchors that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def options(parser: argparse.ArgumentParser) -> set[str]:
    """The option strings of a parser and of its commands, without -h."""
    found = {option for action in parser._actions for option in action.option_strings}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found = found.union(*map(options, action.choices.values()))
    return found - {"-h"}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder of its own, with the photograph of the examples in it."""
    data = Path(pytest.importorskip("skimage").__file__).parent / "data"
    shutil.copy(data / PHOTOGRAPH, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_blocks(page: str) -> None:
    names: dict[str, object] = {"__name__": page}
    for code in python_blocks(page):
        with jax.numpy_dtype_promotion("standard"):  # as readers have it
            exec(compile(code, page, "exec"), names)


@pytest.mark.parametrize("page", ["README.md", "docs/usage.md"])
def test_python_examples_run(here, page):
    assert python_blocks(page)
    run_blocks(page)


@pytest.mark.slow
@pytest.mark.parametrize("page", ["docs/research.md", "docs/effort.md"])
def test_longer_examples_run(here, page):
    run_blocks(page)


def test_commands_print_what_readme_shows(here, capsys):
    shown = sessions("README.md")
    assert [command.split()[1] for command, _ in shown] == ["compress", "decompress", "info"]
    for command, output in shown:
        assert cli.main(command.split()[1:]) == 0
        assert without_seconds(capsys.readouterr().out) == without_seconds(output)


@pytest.mark.slow
def test_evaluate_prints_what_readme_shows(here, capsys, monkeypatch):
    """All columns but the seconds; and evaluation.md's BD-rates of the files that it wrote."""
    monkeypatch.setenv("COLUMNS", "120")
    assert cli.main(["evaluate", "--codecs", "jpeg"]) == 0

    def rates(output: str) -> list[list[str]]:
        lines = re.findall(r"^tcm_tiny_visual +quality .*", output, re.MULTILINE)
        return [line.split()[:-2] for line in lines]

    assert len(rates(text("README.md"))) == 6
    assert rates(capsys.readouterr().out) == rates(text("README.md"))
    run_blocks("docs/evaluation.md")
    assert re.fullmatch(r"\{'jpeg': -\d\d\.\d+\}\n", capsys.readouterr().out)


@pytest.mark.parametrize("page", WORDS)
def test_pages_keep_their_length(page):
    assert len(text(page).split()) <= WORDS[page]


def test_every_page_has_a_length():
    pages = {str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")}
    assert pages - set(NOTES) <= set(WORDS)


def test_versions_of_the_changelog_are_short():
    _, *versions = re.split(r"^## ", text("CHANGELOG.md"), flags=re.MULTILINE)
    assert versions and all(re.match(r"\[.+\]", version) for version in versions)
    assert all(len(version.splitlines()) <= CHANGELOG_LINES for version in versions)


@pytest.mark.parametrize("page", [*PAGES, *NOTES])
def test_lines_of_prose_are_short(page):
    long = [line for line in prose(page).splitlines() if len(line) > 120 and not line.startswith("|")]
    assert not long


@pytest.mark.parametrize("page", [*PAGES, *NOTES])
def test_no_diary(page):
    plain = re.sub(r"\s+", " ", text(page)).lower()
    assert [phrase for phrase in FORBIDDEN if phrase in plain] == []


@pytest.mark.parametrize("page", [*PAGES, *NOTES])
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        linked = (ROOT / page).parent / path if path else ROOT / page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(str(linked.resolve().relative_to(ROOT))), target


def test_every_benchmark_is_in_the_list():
    programs = {path.name for path in ROOT.glob("benchmarks/*.py") if "__main__" in path.read_text(encoding="utf-8")}
    assert programs <= set(re.findall(r"\w+\.py", text("benchmarks/README.md")))


def test_every_note_is_in_the_list():
    listed = re.findall(r"\]\((\d[^)]*)\)", text("docs/experiments/README.md"))
    assert sorted(listed) == sorted(path.removeprefix("docs/experiments/") for path in NOTES if "README" not in path)


@pytest.mark.parametrize("page", PAGES)
def test_files_that_pages_name_exist(page):
    """Paths below the checkout, in code or in prose; notes name what was there at their date."""
    tops = "|".join(
        re.escape(path.name)
        for path in ROOT.iterdir()
        if path.is_dir() and path.name not in ("runs", "results", "build", "dist")
    )
    paths = set(re.findall(rf"(?<![\w/.$])(?:{tops})/[\w./-]*\w", text(page)))
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_files_that_the_architecture_names_exist():
    rows = re.findall(r"^\| `(\w+)/` \| .*? \| (.*) \|$", text("docs/architecture.md"), re.MULTILINE)
    assert {folder for folder, _ in rows} == {path.parent.name for path in ROOT.glob("tcm_jax/*/__init__.py")}
    for folder, files in rows:
        for name in CODE.findall(files):
            if "." in name or name.endswith("/"):
                assert (ROOT / "tcm_jax" / folder / name).exists(), name


def test_modules_that_the_architecture_names_exist():
    modules = {path.name for folder in (ROOT, ROOT / "tcm_jax") for path in folder.rglob("*.py")}
    assert set(re.findall(r"`(?:[\w/]+/)?(\w+\.py)`", text("docs/architecture.md"))) <= modules


@pytest.mark.parametrize("name", ["picture.py", "teacher.py", "slices.py", "latent_context.py", "byte_reader.py"])
def test_the_architecture_names_what_one_looks_for(name):
    assert f"`{name}`" in text("docs/architecture.md")


def test_pages_that_the_source_names_exist():
    sources = [
        *(ROOT / "tcm_jax").rglob("*.py"),
        *ROOT.glob("*.py"),
        *ROOT.glob("configs/*.py"),
        *ROOT.glob("tests/*.py"),
    ]
    for source in sources:
        for page in re.findall(r"docs/[\w/-]+\.md", source.read_text(encoding="utf-8")):
            assert (ROOT / page).exists(), f"{source}: {page}"


@pytest.mark.parametrize("page", PAGES)
def test_extras_that_pages_install_exist(page):
    extras = tomllib.loads(text("pyproject.toml"))["project"]["optional-dependencies"]
    assert set(re.findall(r"\"\.\[(\w+)\]\"", text(page))) <= set(extras)


def test_the_first_command_installs_what_it_runs():
    """CI runs it in an environment of its own."""
    extra, command = re.search(r'^pip install "\.\[(\w+)\]" && tcm (\w+)$', text("README.md"), re.MULTILINE).groups()
    assert f'pip install "$wheel[{extra}]"\n(cd "$work" && tcm {command} ' in text(".ci/run")


def test_usage_has_every_option_and_no_other():
    documented = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", text("docs/usage.md")))
    documented -= {"-m"}  # of pytest
    assert documented == options(make_parser(["completion"]))


def test_usage_has_every_option_of_saving():
    section = text("docs/usage.md").partition("## Pillow")[2].partition("## ")[0]
    documented = section.partition("`save` takes ")[2].partition(".")[0]
    assert tuple(CODE.findall(documented)) == pillow_plugin._OPTIONS
    assert all(f"`{option}`" in pillow_plugin.__doc__ for option in pillow_plugin._OPTIONS)


def test_a_figure_has_one_home():
    """Measured figures: three digits or more, with decimals or thousands."""
    homes = defaultdict(set)
    for page in PAGES:
        for figure in FIGURE.findall(text(page)):
            if len(re.sub(r"\D", "", figure).lstrip("0")) >= 3:
                homes[figure].add(page)
    twice = {figure: pages for figure, pages in homes.items() if len(pages) > 1 and figure not in SHARED_FIGURES}
    assert not twice
