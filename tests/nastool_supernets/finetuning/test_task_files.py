"""Tasks and their examples: published ones, local files, and what is refused."""

import gzip
import json

import pytest

from nastool.errors import InvalidInputError
from nastool_supernets.finetuning.data import (
    Answer,
    Example,
    TaskData,
    load_task,
    read_rows,
    to_examples,
)
from nastool_supernets.finetuning.encoding import encode
from nastool_supernets.finetuning.tasks import (
    Files,
    Hub,
    Kind,
    Task,
    published_tasks,
    read_task_file,
)


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
        ("sentence", "a.tsv", "sentence\tlabel\na\n", "line 2: expected 2 cells, got 1"),
        ("sentence", "a.tsv", "sentence\tlabel\na\t1\n", "must hold two classes"),
        (
            "sentence",
            "a.tsv",
            "sentence\tlabel\na\t1\nb\tc\t0\n",
            "line 3: expected 2 cells, got 3",
        ),
        ("sentence", "a.tsv", "sentence\tlabel\n", "two classes"),
        ("sentence", "a.txt", "a", "expected a file in .tsv"),
        (
            "sentence",
            "a.jsonl",
            '{"sentence": 3, "label": 1}\n{"sentence": "", "label": 0}',
            "text",
        ),
        ("sentence", "a.json", "{}", "record 1: expected a column 'label'"),
        ("sentence", "a.jsonl", "[1]", "expected an object in every row"),
        ("sentence", "a.json", "[", "no JSON"),
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


QUESTIONS = Task("q", Kind.QUESTION_ANSWERING, Files((), ()))
SKY = "The sky is so blue, and blue is the sea."


def question(text, start, context=SKY):
    answers = [{"text": text, "answer_start": start}]
    return {"question": "which?", "context": context, "answers": answers}


@pytest.mark.parametrize(
    ("text", "start", "place"),
    [
        ("blue", 14, 14),
        ("blue", 24, 24),
        ("blue", 4, 14),
        ("blue", 15, 14),
        ("blue", 19, 14),
        ("blue", 20, 24),
        ("blue", 25, 24),
        ("blue", 900, 24),
        ("blue", -1, 14),
        ("The", 3, 0),
        ("sea.", 40, 36),
    ],
)
def test_answers_move_to_the_nearest_place_where_they_stand(text, start, place, caplog):
    (found,) = to_examples(QUESTIONS, [question(text, start)])
    assert found.label == (Answer(text, place),)
    assert SKY.startswith(text, place)
    said = [record.getMessage() for record in caplog.records]
    assert ["1 answer of 1 rows" in line for line in said] == [True] * (start != place)


@pytest.mark.parametrize(
    ("text", "start"), [("green", 4), ("blue and more", 15), ("Blue", 14), ("", 3)]
)
def test_answers_that_stand_nowhere_are_refused_by_place(text, start):
    with pytest.raises(InvalidInputError, match="example 2: expected answers that lie"):
        to_examples(QUESTIONS, [question("blue", 14), question(text, start)])


def test_moved_answers_are_counted_in_one_line_that_names_the_first(tmp_path, caplog):
    squad = {"paragraphs": [{"context": SKY, "qas": []}]}
    for start in (14, 13, 12, 24):
        squad["paragraphs"][0]["qas"].append(question("blue", start))
    (tmp_path / "a.json").write_text(json.dumps({"data": [squad]}))
    (tmp_path / "t.toml").write_text("[squad]\ntrain = 'a.json'\ndev = 'a.json'\n")
    load_task(read(tmp_path / "t.toml")["squad"])
    train, dev = (record.getMessage() for record in caplog.records)
    assert train == dev
    assert train == (
        "task squad: 2 answers of 4 rows did not stand where answer_start says, and moved to the "
        "nearest place in the context (first: a.json, record 1, paragraph 1, question 2)"
    )


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.tsv", "sentence \t label\r\nTEXT\t1\r\n"),
        ("a.CSV", ' "sentence", label\rTEXT, 1\r'),
        ("a.jsonl", '{"sentence": "TEXT", "label": 1}\n'),
        ("A.JSON", '[{"sentence": "TEXT", "label": "1"}]'),
        ("a.json", '{"sentence": "TEXT", "label": 1}\n{"sentence": "TEXT", "label": 1}\n'),
    ],
)
def test_files_however_they_were_written(tmp_path, name, content, encoding, packed):
    text = "grün\u2028 " * 30_000 + "end"
    path = tmp_path / (f"{name}.GZ" if packed else name)
    data = content.replace("TEXT", text).encode(encoding)
    path.write_bytes(gzip.compress(data) if packed else data)
    rows = read_rows(path)
    assert {row["sentence"] for row in rows} == {text}
    assert {str(row["label"]) for row in rows} == {"1"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.jsonl",
            '{"sentence": "a", "label": 1}\n' * 6 + "{bad\n",
            r"a\.jsonl, line 7: expected",
        ),
        ("a.jsonl", '{"sentence": "a", "label": 1}\n\n[1]\n', r"a\.jsonl, line 3: expected an obj"),
        ("a.tsv", "sentence\tlabel\na\t1\n\t1\nb\t\n", r"a\.tsv, line 4: 'label' must be a class"),
        ("a.jsonl", '{"sentence": "a", "label": NaN}', r"line 1: 'label' must be a class, got nan"),
        ("a.jsonl", '{"sentence": "a", "label": null}', r"line 1: expected a column 'label'"),
        ("a.jsonl", '{"sentence": null, "label": 1}', r"line 1: expected a column 'sentence'"),
        ("a.jsonl", '{"sentence": 5, "label": 1}', r"line 1: column 'sentence' must hold text"),
        ("a.csv.zst", "x", r"expected a file in \.tsv.*got a\.csv\.zst"),
    ],
)
def test_errors_in_files_say_where(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    task = Task("t", Kind.SENTENCE, Files((), ()))
    with pytest.raises(InvalidInputError, match=message):
        to_examples(task, read_rows(tmp_path / name), ("1",))


def test_half_a_character_becomes_a_whole_one():
    rows = [{"sentence": "half \ud83d of it", "label": "1"}]
    (found,) = to_examples(Task("t", Kind.SENTENCE, Files((), ())), rows, ("1",))
    assert found.texts == ("half \ufffd of it",)


def test_a_task_file_may_begin_with_a_byte_order_mark(tmp_path):
    (tmp_path / "t.toml").write_text("[cola]\nepochs = 3\n", encoding="utf-8-sig")
    assert read(tmp_path / "t.toml")["cola"].settings.epochs == 3


@pytest.mark.parametrize(("segments", "expected"), [(1, set()), (2, {0, 1}), (3, {0, 1})])
@pytest.mark.parametrize("kind", [Kind.PAIR, Kind.QUESTION_ANSWERING])
def test_pairs_have_the_segments_that_a_model_tells_apart(tokenizer, kind, segments, expected):
    pair = ("a lovely film", "a dull book . " * 4)
    label = (Answer("dull", 2),) if kind is Kind.QUESTION_ANSWERING else 0
    data = TaskData((Example(pair, label),), (Example(pair, label),), ("0", "1"), ("0", "1"))
    encoded = encode(Task("t", kind, Files((), ())), data, tokenizer, 32, segments)
    for rows in (encoded.train, encoded.dev):
        assert {segment for row in rows for segment in row.get("token_type_ids", ())} == expected
