import io

import pytest
from rich.console import Console

from mtl.compare.run_progress import RunProgress, duration


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_narrow_terminal_shortens_the_names_and_not_the_counts_and_times(width: int) -> None:
    progress = RunProgress("runs of the comparison, 2 at a time", 24)
    progress.show(3, {"one model per task, seed 0, reviews, model.lr 5.8e-05": None})  # type: ignore[dict-item]
    screen = Console(width=width, file=io.StringIO(), force_terminal=False)
    screen.print(progress._progress.get_renderable())
    whole, run = screen.file.getvalue().splitlines()[:2]  # type: ignore[attr-defined]
    assert whole.startswith("runs of") and " 3/24 0:00:00 -:--:--" in whole
    assert run.startswith("  one model per task") and "0:00:00" in run


def test_the_time_left_covers_the_runs_that_follow(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([0.0, 0.0, 60.0])
    monkeypatch.setattr("mtl.compare.run_progress.time.monotonic", lambda: next(clock))
    progress = RunProgress("trials", 4, following=10)
    progress.show(0, {})
    progress.line(2, "single, seed 0", failed=False)
    # Two runs took 60 s, and two trials and ten runs are left.
    assert capsys.readouterr().out == "2/4 single, seed 0; about 6 min left\n"


def test_durations_have_the_unit_that_suits_their_size() -> None:
    assert [duration(s) for s in (89, 90, 5399, 5400)] == ["89 s", "2 min", "90 min", "1.5 h"]
