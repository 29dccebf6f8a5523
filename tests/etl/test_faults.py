"""The cheap ones of the faults that `python -m tests.trials.faults` runs in full."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trials.faultlist import Fault, all_faults
from tests.trials.faults import run_fault


@pytest.mark.parametrize("fault", [fault for fault in all_faults() if fault.quick], ids=lambda fault: f"{fault.id}-{fault.label}")
def test_what_an_upstream_does_wrong_ends_in_one_line_and_in_nothing_half_stored(dsn: str, tmp_path: Path, fault: Fault) -> None:
    _, wrong = run_fault(dsn, tmp_path, fault)
    assert wrong == []
