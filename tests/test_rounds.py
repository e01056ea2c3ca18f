"""What rounds cost in quality, as scripts/rounds.py measures it, on a few claims of SciFact."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("typer")
pytest.importorskip("starlette")
pytest.importorskip("onnxruntime")
pytest.importorskip("ir_measures")

SCRIPT = Path(__file__).parents[1] / "scripts" / "rounds.py"


def test_rounds_are_as_good_as_one_request() -> None:
    # Five claims have 100 candidates, as many as one request takes. Few tokens, to be done in a fraction of the time.
    command = [sys.executable, str(SCRIPT), "--claims", "5", "--max-tokens", "48"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=110)
    assert (run.stderr, run.returncode) == ("", 0)
    [(before, after)] = re.findall(r"^minilm-48 +(0\.\d{4}) +(0\.\d{4}) ", run.stdout, re.MULTILINE)
    assert float(before) > 0.5
    assert float(after) == pytest.approx(float(before), abs=0.01)
