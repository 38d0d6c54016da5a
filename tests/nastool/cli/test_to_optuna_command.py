import pytest

optuna = pytest.importorskip("optuna")


@pytest.fixture(autouse=True)
def verbosity():
    before = optuna.logging.get_verbosity()
    yield
    optuna.logging.set_verbosity(before)


def test_a_stored_study_becomes_one_of_optunas(search, nastool):
    assert search("--study", "mine", "--max", "params=1M", budget="40").exit_code == 0
    result = nastool("to-optuna", "mine")
    assert result.exit_code == 0, result.output
    assert "Wrote 40 trials of study mine to sqlite:///optuna.db" in result.stderr
    assert "optuna-dashboard sqlite:///optuna.db" in result.stderr
    study = optuna.load_study(study_name="mine", storage="sqlite:///optuna.db")
    assert len(study.trials) == 40
    assert study.user_attrs["strategy"] == "evolution"
    assert study.user_attrs["constraints"] == ["params<=1M"]
    assert "PROXY" in study.user_attrs["provenance of loss"]
    assert all(trial.values[1] <= 1_000_000 for trial in study.best_trials)
    assert nastool("to-optuna", "mine").exit_code == 0
    assert len(optuna.load_study(study_name="mine", storage="sqlite:///optuna.db").trials) == 40


@pytest.mark.parametrize(("arguments", "message"), [
    (("nothing",), "nothing"),
    (("mine", "--to", "nosuch://place"), "a storage of Optuna must be"),
    (("mine", "--to", "sqlite:///nastool.db"), "must be a database of its own"),
    (("mine", "--to", "/dev/null"), "no regular file"),
    (("mine", "--to", "."), "no regular file"),
    (("mine", "--name", ""), "--name"),
])  # fmt: skip
def test_bad_input_is_one_line(search, nastool, arguments, message):
    search("--study", "mine", budget="20")
    result = nastool("to-optuna", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_the_front_or_the_last_evaluations_are_written(search, nastool):
    assert search("--study", "mine", budget="40").exit_code == 0
    result = nastool("to-optuna", "mine", "--last", "7", "--name", "last")
    assert "Wrote 7 trials of study last" in result.stderr
    result = nastool("to-optuna", "mine", "--front", "--name", "front")
    assert result.exit_code == 0, result.stderr
    study = optuna.load_study(study_name="front", storage="sqlite:///optuna.db")
    assert len(study.best_trials) == len(study.trials) < 40
    result = nastool("to-optuna", "mine", "--front", "--last", "7")
    assert result.exit_code == 2
    assert "got both" in result.stderr
    # What is kept under a name stays what it is.
    result = nastool("to-optuna", "mine", "--name", "last")
    assert result.exit_code == 2
    assert "take another name" in result.stderr


def test_a_password_of_the_target_is_not_shown(search, nastool):
    search("--study", "mine", budget="20")
    for target in ("postgresql://nas:s3cretPW@127.0.0.1:1/x", "mysql://nas:s3cretPW@h/x"):
        result = nastool("to-optuna", "mine", "--to", target)
        assert result.exit_code == 2
        assert "s3cretPW" not in result.output + result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
