import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfleet.errors import InvalidTask
from taskfleet.wire.taskfile import holds_task, read_line, read_tasks


@pytest.mark.parametrize(
    ("lines", "tasks"),
    [
        ([], []),
        (["sleep 1000"], [(1, "sleep 1000")]),
        (["", "  ", "# note", "  # note", "sleep 1"], [(5, "sleep 1")]),
        (["sleep 1\n", "\tsleep 2 \r\n"], [(1, "sleep 1"), (2, "sleep 2")]),
        (["draw # 5"], [(1, "draw # 5")]),
        ([' {"kind": "a", "params": [1]} \n'], [(1, {"kind": "a", "params": [1]})]),
        (["\ufeffsleep 1", "sleep 2"], [(1, "sleep 1"), (2, "sleep 2")]),
        (['\ufeff{"kind": "a"}'], [(1, {"kind": "a"})]),
        (["\ufeff# made on Windows", "sleep 1"], [(2, "sleep 1")]),
    ],
)
def test_a_task_file_has_one_task_a_line(lines, tasks):
    assert list(read_tasks(lines)) == tasks


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "line 3: malformed JSON"),
        ('{"kind": "a"} tail', "line 3: malformed JSON: Extra data"),
        ('{"kind": "a", "kind": "b"}', "line 3: the key 'kind' occurs twice"),
        ('{"kind": "a", "params": NaN}', "line 3: NaN is not JSON"),
        ('{"a":' * 100_000, "line 3: nested more than 64 levels deep"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_faulty_line_is_named_by_its_number(line, reason):
    tasks = read_tasks(["sleep 1", "# a comment", line, "sleep 2"])
    assert next(tasks) == (1, "sleep 1")
    with pytest.raises(InvalidTask, match=reason):
        next(tasks)


@given(st.lists(st.sampled_from(["sleep 1", "", " ", "#", "# sleep 1", '{"kind": "a"}'])))
def test_every_line_that_is_a_task_is_read_once_under_its_own_number(lines):
    numbers = [n for n, line in enumerate(lines, start=1) if line[:1] in ("s", "{")]
    assert [number for number, _ in read_tasks(lines)] == numbers


@given(
    st.text(st.sampled_from(" \t\x0b\x1c\x85\xa0\u2003\ufeff#{a!~\x7f\xfc"), max_size=5),
    st.sampled_from([1, 2]),
)
def test_whether_a_line_holds_a_task_is_told_without_reading_it(line, number):
    try:
        task = read_line(line, number)
    except InvalidTask:
        task = "a fault"
    assert holds_task(line.encode(), number) == (task is not None)
