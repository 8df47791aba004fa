"""The settings of the functions."""

from __future__ import annotations

import pytest

from tests.fakes.functions import SETTINGS, Functions


def test_a_function_that_lacks_a_setting_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SETTINGS, "TABLE", "")
    with pytest.raises(RuntimeError, match=r"environment variable TABLE is not set; template\.yaml sets it"):
        Functions().module("baker")
