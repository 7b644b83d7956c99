# SPDX-License-Identifier: Apache-2.0
"""The page of settings says what the code does."""

from dataclasses import fields

import settings_page
from e2train.train import RunConfig


def test_the_page_is_that_of_the_fields():
    assert settings_page.TARGET.read_text(encoding="utf-8") == settings_page.text(), (
        "run scripts/settings_page.py"
    )


def test_every_setting_is_explained():
    said = settings_page.comments()
    assert list(said) == [field.name for field in fields(RunConfig)]
    assert min(map(len, said.values())) > 10
