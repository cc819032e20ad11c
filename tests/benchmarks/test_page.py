"""docs/benchmarks.md and the README say what the newest stored run says."""

import re
from pathlib import Path

import pytest
from yardstick import page, results
from yardstick.contenders import CONTENDERS
from yardstick.measurements import MEASUREMENTS

RENEW = "scripts/bench --render"
NEWEST = results.newest()


def test_the_page_is_what_was_measured():
    assert page.PAGE.read_text() == page.render(NEWEST), RENEW


def test_the_ratios_in_the_readme_are_what_was_measured():
    readme = page.README.read_text()
    assert readme.count(page.BEGIN) == readme.count(page.END) == 1
    assert readme == page.readme(NEWEST, readme), RENEW


def test_everything_was_measured_of_everybody():
    assert set(NEWEST["measurements"]) == set(MEASUREMENTS)
    assert set(NEWEST["versions"]) == set(CONTENDERS)


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#]+)\)", page.PAGE.read_text()))
def test_what_the_page_links_exists(link):
    assert (page.PAGE.parent / link).exists()


@pytest.mark.parametrize("file", sorted(results.FOLDER.glob("**/*.json")), ids=lambda file: file.name)
def test_a_stored_run_names_no_path_of_a_machine(file):
    assert not re.search(r"(?<![\w.])/(?:tmp|root|home|work|usr|var)/", file.read_text())


def test_renewing_keeps_the_rest_of_the_readme():
    renewed = page.readme(NEWEST, f"before\n{page.BEGIN}\nold\n{page.END}\nafter\n")
    assert renewed.startswith(f"before\n{page.BEGIN}\nMeasured ")
    assert renewed.endswith(f"|\n{page.END}\nafter\n")
    assert "old" not in renewed


def test_a_heading_of_the_goals_is_one_of_theirs():
    """Else its text explains nothing."""
    keys = {one.key for one in page.verdicts(NEWEST["measurements"])}
    assert set(re.findall(r"^### (.+)$", page.text("goals"), re.MULTILINE)) <= keys


def test_the_programs_of_the_yardstick_are_there():
    assert {file.name for file in Path(page.__file__).parent.glob("*.c")} == {"relay.c", "openloop.c"}
