import importlib.util
import json

import pytest

from nastool.errors import NastoolError, in_one_line, naming
from nastool.space import Gene


def run(path, text):
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_innermost_line_of_somebodys_own_file_is_said(tmp_path):
    helper = "def half(value):\n    return value['x']\n"
    module = run(tmp_path / "mine.py", f"{helper}\n\ndef call(value):\n    return half(value)\n")
    with pytest.raises(NastoolError) as caught, naming("objective mine"):
        module.call({})
    assert str(caught.value) == "objective mine failed: KeyError: 'x' (mine.py:2)"


def test_a_library_that_raises_is_said_by_the_line_that_called_it(tmp_path):
    with pytest.raises(json.JSONDecodeError) as caught:
        run(tmp_path / "mine.py", "import json\n\njson.loads('{')\n")
    assert in_one_line(caught.value).endswith("(mine.py:3)")


def test_what_comes_from_nobodys_file_has_no_line():
    assert in_one_line(ValueError("two\nlines")) == "ValueError: two lines"
    with pytest.raises(SyntaxError) as caught:
        exec("f(", {})
    # Its own last frame is this test.
    assert in_one_line(caught.value.with_traceback(None)).startswith("SyntaxError")
    with pytest.raises(ValueError, match="choice") as ours:
        Gene("a", ())
    inner = ours.value.__traceback__.tb_next
    assert "(" not in in_one_line(ValueError("no").with_traceback(inner))
