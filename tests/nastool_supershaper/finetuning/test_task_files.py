"""Tasks and their examples: published ones, local files, and what is refused."""

import gzip
import json

import pytest

from nastool.errors import InvalidInputError
from nastool_supershaper.finetuning.data import Answer, load_task, read_rows
from nastool_supershaper.finetuning.tasks import Hub, Kind, published_tasks, read_task_file


def read(path):
    return read_task_file(path, published_tasks())


def test_published_tasks_are_those_of_the_paper():
    tasks = published_tasks()
    glue = ["mnli", "qqp", "qnli", "cola", "sst2", "stsb", "rte", "mrpc"]
    assert list(tasks) == [*glue, "squad"]
    assert tasks["cola"].metrics == ("matthews",)
    assert tasks["stsb"].metrics == ("spearman",)
    assert tasks["mnli"].source.dev == "validation_matched"
    assert [name for name in tasks if tasks[name].start_from == "mnli"] == ["stsb", "rte", "mrpc"]
    assert tasks["squad"].settings.learning_rate == 1e-5
    assert tasks["squad"].settings.max_length == 512
    assert len(tasks["cola"].choices()) == 8
    assert len(tasks["squad"].choices()) == 12
    assert tasks["sst2"].choices() == [tasks["sst2"].settings]


def test_examples_of_every_kind(task_file):
    tasks = read(task_file)
    mood = load_task(tasks["mood"])
    assert mood.labels == ("bad", "good")
    assert (len(mood.train), len(mood.dev)) == (64, 32)
    assert all(isinstance(e.texts[0], str) and e.label in (0, 1) for e in mood.train)
    assert {e.label for e in load_task(tasks["grade"]).dev} == {0.5, 1.5}
    for example in load_task(tasks["answers"]).dev:
        (answer,) = example.label
        assert example.texts[1][answer.start :].startswith(answer.text)


def test_samples_repeat_and_keep_the_order(task_file):
    mood = read(task_file)["mood"]
    whole, one, two = load_task(mood), load_task(mood, 10, 5), load_task(mood, 10, 5)
    assert one == two
    assert (len(one.train), len(one.dev)) == (10, 5)
    rest = iter(whole.train)
    assert all(example in rest for example in one.train)
    assert one.fingerprint != whole.fingerprint


def test_hub_form_and_squad_form_hold_the_same_answers(tmp_path):
    squad = {"text": ["blue"], "answer_start": [7]}
    rows = [{"question": "which", "context": "it was blue", "answers": squad}]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    (tmp_path / "t.toml").write_text("[squad]\ntrain = 'a.json'\ndev = 'a.json'\n")
    (example,) = load_task(read(tmp_path / "t.toml")["squad"]).dev
    assert example.label == (Answer("blue", 7),)


def test_tsv_keeps_quotation_marks_and_csv_reads_them(tmp_path):
    with gzip.open(tmp_path / "a.tsv.gz", "wt") as file:
        file.write('sentence\tlabel\n"so" he said\t1\nno" end\t0\n')
    (tmp_path / "a.csv").write_text('sentence,label\n"so, he said",1\nno,0\n')
    for name, expected in (("a.tsv.gz", '"so" he said'), ("a.csv", "so, he said")):
        table = f"[x]\nkind = 'sentence'\ntrain = '{name}'\ndev = '{name}'\n"
        (tmp_path / "t.toml").write_text(table)
        assert load_task(read(tmp_path / "t.toml")["x"]).train[0].texts == (expected,)


def test_a_byte_order_mark_is_no_text(tmp_path):
    (tmp_path / "a.csv").write_text("sentence,label\na,1\nb,0\n", encoding="utf-8-sig")
    (tmp_path / "t.toml").write_text("[x]\nkind = 'sentence'\ntrain = 'a.csv'\ndev = 'a.csv'\n")
    assert len(load_task(read(tmp_path / "t.toml")["x"]).train) == 2


def test_a_published_task_can_take_hyperparameters_alone(tmp_path):
    (tmp_path / "t.toml").write_text("[cola]\nweight_decay = 0.1\n")
    task, usual = read(tmp_path / "t.toml")["cola"], published_tasks()["cola"]
    assert (task.source, task.metrics) == (usual.source, usual.metrics)
    assert task.settings.weight_decay == 0.1


def test_a_published_task_can_bring_its_own_files(tmp_path):
    (tmp_path / "a.tsv").write_text("sentence1\tsentence2\tlabel\na\tb\t0\nc\td\t1\n")
    (tmp_path / "t.toml").write_text("[rte]\ntrain = 'a.tsv'\ndev = 'a.tsv'\nepochs = 3\n")
    task = read(tmp_path / "t.toml")["rte"]
    assert (task.kind, task.start_from, task.published) == (Kind.PAIR, "mnli", True)
    assert (task.settings.epochs, task.settings.batch_size) == (3, 32)
    assert load_task(task).labels == ("0", "1")


def test_a_published_task_that_says_its_kind_stays_published(tmp_path):
    (tmp_path / "a.tsv").write_text("sentence\tlabel\na\t0\nb\t1\n")
    text = "[cola]\nkind = 'KIND'\ntexts = ['sentence']\ntrain = 'a.tsv'\ndev = 'a.tsv'\n"
    (tmp_path / "t.toml").write_text(text.replace("KIND", "sentence"))
    task = read(tmp_path / "t.toml")["cola"]
    assert (task.published, task.metrics) == (True, ("matthews",))
    (tmp_path / "t.toml").write_text(text.replace("KIND", "regression"))
    task = read(tmp_path / "t.toml")["cola"]
    assert (task.published, task.metrics) == (False, ("spearman",))


def test_a_published_task_from_another_place_keeps_its_splits(tmp_path):
    (tmp_path / "t.toml").write_text("[mnli]\ndataset = 'mine/glue'\n")
    source = read(tmp_path / "t.toml")["mnli"].source
    assert source == Hub("mine/glue", "mnli", dev="validation_matched")


FILES = "train = 'a.tsv'\ndev = 'a.tsv'\n"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", "must hold a table a task"),
        ("[x", "not valid TOML"),
        ("x = 1", "expected a table, got 1"),
        ("[x]\n" + FILES, "kind must be one of sentence, pair"),
        ("[x]\nkind = 'poem'\n" + FILES, "got 'poem'"),
        ("[x]\nkind = 'sentence'\ntrain = 'a.tsv'", 'expected dev = "FILE"'),
        ("[x]\nkind = 'sentence'\ntrain = 'b.tsv'\ndev = 'a.tsv'", "no such file"),
        ("[x]\nkind = 'sentence'\ncolour = 1\n" + FILES, "unknown key 'colour'"),
        ("[x]\nkind = 'sentence'\nepochs = 1.5\n" + FILES, "epochs must be a whole number"),
        ("[x]\nkind = 'sentence'\nepochs = 0\n" + FILES, "epochs must be at least 1"),
        (
            "[x]\nkind = 'sentence'\ngroup_by_length = 1\n" + FILES,
            "group_by_length must be true or false, got 1",
        ),
        ("[x]\nkind = 'pair'\ntexts = ['a']\n" + FILES, "pair needs 2 columns of text, got a"),
        ("[x]\nkind = 'sentence'\nmetrics = ['bleu']\n" + FILES, "got bleu"),
    ],
)
def test_broken_task_files_are_one_line(tmp_path, table, message):
    (tmp_path / "a.tsv").write_text("sentence\tlabel\na\t1\nb\t0\n")
    (tmp_path / "t.toml").write_text(table)
    with pytest.raises(InvalidInputError) as caught:
        read(tmp_path / "t.toml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "name", "content", "message"),
    [
        ("sentence", "a.tsv", "text\tlabel\na\t1\nb\t0\n", "expected a column 'sentence'"),
        ("sentence", "a.tsv", "sentence\tlabel\na\n", "expected a column 'label'"),
        ("sentence", "a.tsv", "sentence\tlabel\na\t1\n", "must hold two classes"),
        ("sentence", "a.tsv", "sentence\tlabel\na\t1\nb\tc\t0\n", "line 3: expected 2 columns"),
        ("sentence", "a.tsv", "sentence\tlabel\n", "two classes"),
        ("sentence", "a.txt", "a", "expected a file in .tsv"),
        (
            "sentence",
            "a.jsonl",
            '{"sentence": 3, "label": 1}\n{"sentence": "", "label": 0}',
            "text",
        ),
        ("sentence", "a.json", "{}", "expected a list of objects, or SQuAD's"),
        ("sentence", "a.jsonl", "[1]", "expected an object in every row"),
        ("sentence", "a.json", "[", "cannot read"),
        ("sentence", "a.tsv.gz", "no gzip", "cannot read"),
        ("regression", "a.csv", "sentence1,sentence2,label\na,b,high\n", "must be a number"),
        (
            "question-answering",
            "a.json",
            '[{"question": "q", "context": "c", "answers": []}]',
            "answers that lie in the context",
        ),
    ],
)
def test_broken_data_are_one_line(tmp_path, kind, name, content, message):
    (tmp_path / name).write_text(content)
    table = f"[x]\nkind = '{kind}'\ntrain = '{name}'\ndev = '{name}'\n"
    (tmp_path / "t.toml").write_text(table)
    with pytest.raises(InvalidInputError) as caught:
        load_task(read(tmp_path / "t.toml")["x"])
    assert message in str(caught.value)
    assert str(caught.value).startswith("task x: ")
    assert "\n" not in str(caught.value)


def test_classes_that_only_dev_has_are_refused(tmp_path):
    (tmp_path / "a.tsv").write_text("sentence\tlabel\na\tx\nb\ty\n")
    (tmp_path / "b.tsv").write_text("sentence\tlabel\na\tz\n")
    (tmp_path / "t.toml").write_text("[x]\nkind='sentence'\ntrain='a.tsv'\ndev='b.tsv'\n")
    with pytest.raises(InvalidInputError, match=r"must be one of the classes \(x, y\), got 'z'"):
        load_task(read(tmp_path / "t.toml")["x"])


class TestHub:
    """Folders in the form of the hub's data sets, which number their classes and name them."""

    @pytest.fixture
    def folder(self, tmp_path, monkeypatch):
        datasets = pytest.importorskip("datasets")
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))

        def write(named=True, **splits):
            label = datasets.ClassLabel(names=["negative", "positive"])
            kinds = {"sentence": datasets.Value("string"), "idx": datasets.Value("int32")}
            kinds["label"] = label if named else datasets.Value("int64")
            folder = tmp_path / ("named" if named else "numbered")
            lines = ["---", "configs:", "- config_name: sst2", "  data_files:"]
            for split, labels in splits.items():
                content = {
                    "sentence": [f"a film {i}" for i in range(len(labels))],
                    "idx": list(range(len(labels))),
                    "label": labels,
                }
                rows = datasets.Dataset.from_dict(content, features=datasets.Features(kinds))
                folder.mkdir(exist_ok=True)
                rows.to_parquet(str(folder / f"{split}.parquet"))
                lines += [f"  - split: {split}", f"    path: {split}.parquet"]
            (folder / "README.md").write_text("\n".join([*lines, "---", ""]))
            return published_tasks(glue=str(folder))["sst2"]

        return write

    def test_classes_have_their_names_and_change_no_key(self, folder):
        splits = {"train": [1, 0, 1], "validation": [0, 1]}
        named = load_task(folder(**splits))
        numbered = load_task(folder(named=False, **splits))
        assert named.names == ("negative", "positive")
        assert numbered.names == named.labels == numbered.labels == ("0", "1")
        assert [example.label for example in named.train] == [1, 0, 1]
        assert named.fingerprint == numbered.fingerprint

    def test_examples_without_a_class_are_left_out(self, folder):
        data = load_task(folder(train=[1, -1, 0, -1], validation=[-1, 1]))
        assert [(e.texts[0], e.label) for e in data.train] == [("a film 0", 1), ("a film 2", 0)]
        assert [e.texts[0] for e in data.dev] == ["a film 1"]
        # Numbers without names may mean anything.
        kept = load_task(folder(named=False, train=[1, -1, 0], validation=[-1]))
        assert kept.labels == ("-1", "0", "1")

    def test_a_split_whose_classes_are_withheld_is_refused(self, folder):
        with pytest.raises(InvalidInputError) as caught:
            load_task(folder(train=[1, 0], validation=[-1, -1]))
        message = "task sst2: validation must have classes, but they are withheld (-1)"
        assert str(caught.value) == message


def test_a_damaged_archive_is_one_line(tmp_path):
    content = bytearray(gzip.compress(b"sentence\tlabel\n" + b"a\t1\nb\t0\n" * 100))
    content[12:30] = bytes(18)
    (tmp_path / "a.tsv.gz").write_bytes(content)
    with pytest.raises(InvalidInputError, match=r"cannot read .*a\.tsv\.gz"):
        read_rows(tmp_path / "a.tsv.gz")
