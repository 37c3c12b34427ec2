import json
import signal
import subprocess
import sys
import time

import pytest

from runner.store import write_whole

VALUE = {"stdout": "卷积 ∑ 🎓\n", "figures": ["<svg/>"], "error": ""}


def test_what_was_put_is_got(store):
    store.put("a", VALUE)
    assert store.get("a") == VALUE


@pytest.mark.parametrize(
    "value",
    [
        [],
        {},
        "",
        0,
        [[{"text": "x"}]],
        "a\r\nb\rc\u2028d\x00\x85",
        "𝑥" * 9,
        "\\",
    ],
)
def test_any_json_comes_back_as_it_was(store, value):
    store.put("a", value)
    assert store.get("a") == value


def test_what_was_never_put_is_absent(store):
    assert store.get("a") is None


def test_keys_do_not_meet(store):
    store.put("a", 1)
    store.put("b", 2)
    assert (store.get("a"), store.get("b")) == (1, 2)


def test_a_new_value_replaces_the_old_one(store):
    store.put("a", 1)
    path = store.put("a", 2)
    assert store.get("a") == 2
    assert list(store.folder.iterdir()) == [path]


def test_chinese_is_legible_in_the_file(store):
    assert "卷积".encode() in store.put("a", VALUE).read_bytes()


def test_an_entry_cut_anywhere_counts_as_absent(store):
    path = store.put("a", VALUE)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert store.get("a") is None, length
    path.write_bytes(whole)
    assert store.get("a") == VALUE


def test_an_entry_with_any_byte_changed_counts_as_absent(store):
    path = store.put("a", VALUE)
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert store.get("a") is None, at


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        json.dumps(VALUE),
        "null",
        "\n",
        "0" * 64 + "\n" + json.dumps(VALUE),
        json.dumps({"checksum": "x", "value": VALUE}),
    ],
)
def test_an_entry_of_others_counts_as_absent(store, write, text):
    write(store.folder / "a.json", text)
    assert store.get("a") is None


def test_bytes_that_are_no_text_count_as_absent(store, write):
    write(store.folder / "a.json", "").write_bytes(b"\xff\xfe\x00\x80" * 40)
    assert store.get("a") is None


def test_a_folder_in_place_of_an_entry_counts_as_absent(store):
    (store.folder / "a.json").mkdir(parents=True)
    assert store.get("a") is None


@pytest.mark.parametrize("value", [{1, 2}, "\udc80"])
def test_what_cannot_be_written_leaves_the_old_entry_and_no_trace(store, value):
    path = store.put("a", VALUE)
    with pytest.raises((TypeError, UnicodeEncodeError)):
        store.put("a", value)
    assert store.get("a") == VALUE
    assert list(store.folder.iterdir()) == [path]


def test_a_text_that_cannot_be_encoded_leaves_no_part(tmp_path):
    with pytest.raises(UnicodeEncodeError):
        write_whole(tmp_path / "a.txt", "x\udc80")
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_written_with_the_line_ends_given(tmp_path):
    path = write_whole(tmp_path / "new" / "a.txt", "一\r\n二\n")
    assert path.read_bytes() == "一\r\n二\n".encode()


WRITER = """
import itertools, sys
from pathlib import Path
from runner.store import Store

store = Store(Path(sys.argv[1]))
for n in itertools.count():
    store.put(f"k{n % 20}", {"n": n, "text": "卷积" * 20_000})
    if n == 20:
        print("ready", flush=True)
"""


@pytest.fixture
def writer(store, hooks_environment):
    """Start processes that write twenty large entries over and over."""
    started = []

    def start():
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(store.folder)],
            env=hooks_environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def is_whole(value):
    return value is not None and value["text"] == "卷积" * 20_000


def test_a_writer_that_is_killed_leaves_whole_entries_only(store, writer):
    for delay in (0.0, 0.003, 0.011):
        process = writer()
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        for number in range(20):
            assert is_whole(store.get(f"k{number}"))


def test_readers_beside_two_writers_see_whole_entries_only(store, writer):
    writers = [writer(), writer()]
    seen = set()
    for _ in range(15):
        for number in range(20):
            value = store.get(f"k{number}")
            assert is_whole(value)
            seen.add(value["n"])
    assert len(seen) > 20  # they wrote as we read
    assert [process.poll() for process in writers] == [None, None]
