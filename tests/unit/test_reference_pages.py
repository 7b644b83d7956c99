# SPDX-License-Identifier: Apache-2.0
"""The pages of settings and of a run's files say what the code does."""

from dataclasses import fields

import pytest
import reference_pages
from e2train.train import RunConfig, Summary
from e2train.train.loop import Row


@pytest.mark.parametrize("page", reference_pages.PAGES)
def test_pages_are_those_of_the_records(page):
    written = (reference_pages.DOCS / page).read_text(encoding="utf-8")
    assert written == reference_pages.PAGES[page](), "run scripts/reference_pages.py"


@pytest.mark.parametrize("record", [RunConfig, Row, Summary])
def test_every_field_is_explained(record):
    said = reference_pages.comments(record)
    assert list(said) == [field.name for field in fields(record)]
    assert all(said.values())
