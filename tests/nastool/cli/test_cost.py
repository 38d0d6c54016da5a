import pytest

from nastool.cli.cost import count_of, duration, settled_seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "less than a second"), (1, "1.0 s"), (40, "40 s"), (60, "1.0 min"), (150, "2.5 min"),
     (9_000, "2.5 h"), (36_000, "10 h"), (400_000, "4.6 d")],
)  # fmt: skip
def test_times_are_told_in_two_digits(seconds, text):
    assert duration(seconds) == text


def test_counts_are_told_in_three():
    assert [count_of(n) for n in (12, 20_480, 81_920_000, 2.6e9)] == [
        "12",
        "20.5k",
        "81.9M",
        "2.6G",
    ]


def test_what_happens_once_a_process_is_not_taken_for_what_a_run_takes(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])

    def taking(*seconds):
        left = iter(seconds)

        def run():
            clock[0] += next(left)

        return settled_seconds(*[run] * len(seconds))

    assert taking(4.5, 0.3) == pytest.approx(0.3)  # the first one imports
    assert taking(60.0, 59.0) == 60.0  # whoever takes so long is not run again
    assert taking(2.0) == 2.0
    assert taking() == 0.0


ARGUMENTS = ("compare", "--space", "toy", "--objective", "loss", "--objective", "params",
             "--strategy", "random", "--strategy", "local", "--seeds", "3")  # fmt: skip


def test_a_comparison_says_what_it_will_do_and_stops_where_that_is_wanted(nastool, tmp_path):
    pytest.importorskip("scipy")
    done = nastool(*ARGUMENTS, "--budget", "500", "--dry-run")
    assert done.exit_code == 0
    assert done.stdout == ""
    assert "Comparing 2 strategies over 3 seeds: 3,000 evaluations" in done.stderr
    assert "about" in done.stderr
    assert list(tmp_path.iterdir()) == []
    done = nastool(*ARGUMENTS, "--budget", "20")
    assert "Comparing 2 strategies over 3 seeds: 120 evaluations" in done.stderr
