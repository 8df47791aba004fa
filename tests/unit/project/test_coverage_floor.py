"""The floor under the coverage by branch that `make test` measures."""

from __future__ import annotations

import re
import tomllib

from tests.builders import ROOT

with (ROOT / "pyproject.toml").open("rb") as _file:
    COVERAGE = tomllib.load(_file)["tool"]["coverage"]


def test_coverage_counts_branches_of_the_package_and_the_functions() -> None:
    assert COVERAGE["run"]["branch"] is True
    assert set(COVERAGE["run"]["source"]) == {"functions", "layers/headgate/python/headgate"}
    assert not [folder for folder in COVERAGE["run"]["source"] if not (ROOT / folder).is_dir()]


def test_coverage_floor_holds_in_make_test() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")

    assert COVERAGE["report"]["fail_under"] > 0
    assert re.search(r"^test: COVERAGE := 1$", makefile, re.MULTILINE)
    assert re.search(r"^test: test-unit ", makefile, re.MULTILINE)
    assert "$(if $(COVERAGE),--cov)" in makefile
