import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent

import pytest

from runner.fences import Block
from runner.keys import key
from runner.pool import ENVIRONMENT, run_blocks

pytestmark = pytest.mark.xdist_group("blocks")

HOOKS = Path(__file__).parents[3] / "docs" / "hooks"

PLOT = """
import matplotlib.pyplot as plt

fig, ax = plt.subplots()
ax.plot([1, 2])
"""


# What a block gives


def test_a_block_gives_what_it_prints(run):
    [result] = run("print('卷积', 3)\nprint('x', end='')\n")
    assert (result.stdout, result.figures, result.error) == (
        "卷积 3\nx",
        (),
        "",
    )


def test_a_block_gives_each_figure_that_is_open_in_order(run):
    [result] = run(
        """
        import matplotlib.pyplot as plt

        for name in ("one", "two", "three"):
            fig, ax = plt.subplots()
            ax.set_title(name)
            if name == "two":
                plt.close(fig)
        print("drawn")
        """
    )
    assert result.error == ""
    assert result.stdout == "drawn\n"
    assert [re.search('aria-label="(.*?)"', f)[1] for f in result.figures] == (
        ["one", "three"]
    )


def test_a_block_without_output_gives_nothing(run, entries):
    [result] = run("x = 1\n")
    assert (result.stdout, result.figures, result.error) == ("", (), "")
    assert entries() == 1


def test_no_blocks_need_no_process(run):
    assert run() == []


def test_a_block_is_the_main_module(run):
    [result] = run(
        """
        import pickle, sys
        from dataclasses import dataclass

        @dataclass
        class Point:
            x: int

        assert __name__ == "__main__"
        assert sys.modules["__main__"].Point is Point
        assert pickle.loads(pickle.dumps(Point(3))) == Point(3)
        print(sorted(name for name in globals() if name[0] != "_"))
        """
    )
    assert result.error == ""
    assert result.stdout == "['Point', 'dataclass', 'pickle', 'sys']\n"


def test_annotations_are_evaluated_as_python_does(run):
    evaluated, failed, kept = run(
        "def f(x: 1 + 1): ...\nprint(f.__annotations__)\n",
        "class A:\n    x: Missing\n",
        "from __future__ import annotations\n"
        "def f(x: Missing): ...\nprint(f.__annotations__)\n",
    )
    assert evaluated.stdout == "{'x': 2}\n"
    assert "NameError: name 'Missing'" in failed.error
    assert kept.stdout == "{'x': 'Missing'}\n"


def test_what_a_block_leaves_behind_is_not_in_another(run):
    blocks = [
        """
        import builtins, os, warnings
        import matplotlib, numpy as np, torch

        leaked = builtins.leaked = np.leaked = 1
        os.environ["LEAKED"] = "1"
        os.makedirs("leaked"), os.chdir("leaked")
        matplotlib.rcParams["font.size"] = 3
        torch.set_default_dtype(torch.float64)
        torch.manual_seed(3)
        np.set_printoptions(precision=1)
        warnings.simplefilter("ignore")
        matplotlib.pyplot.figure().suptitle("leaked")
        """,
        """
        import builtins, os, warnings
        import matplotlib.pyplot as plt, numpy as np, torch

        assert "leaked" not in globals()
        assert not hasattr(builtins, "leaked") and not hasattr(np, "leaked")
        assert "LEAKED" not in os.environ
        assert os.listdir() == []
        assert plt.rcParams["font.size"] == 10
        assert torch.get_default_dtype() == torch.float32
        assert np.get_printoptions()["precision"] == 8
        assert plt.get_fignums() == []
        print(torch.initial_seed())
        """,
    ]
    first, second = run(*blocks, processes=1)
    assert first.error == second.error == ""
    assert second.stdout != "3\n"
    assert second.figures == ()


def test_torch_computes_in_one_thread_in_each_block(run):
    [result] = run("import torch\nprint(torch.get_num_threads())\n")
    assert result.stdout == "1\n"


def test_a_block_imports_the_snippets_of_its_project(run, project, write):
    write(project / "snippets" / "core.py", "name = 'here'\n")
    [result] = run(
        "from snippets.core import name\nimport snippets\n"
        "print(name, snippets.__file__)\n"
    )
    assert result.stdout == f"here {project}/snippets/__init__.py\n"


def test_what_a_block_writes_to_disk_is_gone(run, project):
    before = sorted(project.rglob("*"))
    here = Path.cwd()
    listing = sorted(here.iterdir())
    [result] = run(
        """
        import os
        from pathlib import Path

        assert os.listdir() == []
        Path("a.txt").write_text("x")
        Path("folder").mkdir()
        Path("folder/b.txt").write_text("x")
        print(Path.cwd())
        """
    )
    assert result.error == ""
    assert not Path(result.stdout.strip()).exists()
    assert sorted(project.rglob("*")) == before
    assert (Path.cwd(), sorted(here.iterdir())) == (here, listing)


def test_a_block_may_remove_or_lock_the_folder_it_runs_in(run):
    results = run(
        "import os\nos.rmdir(os.getcwd())\nprint('removed')\n",
        "import os\nos.mkdir('a')\nos.chmod('.', 0)\nprint('locked')\n",
    )
    assert [r.error for r in results] == ["", ""]
    assert [r.stdout for r in results] == ["removed\n", "locked\n"]


def test_all_that_a_page_can_carry_arrives_whole(run):
    [result] = run("for n in range(2_000):\n    print('x' * 99)\n")
    assert result.error == ""
    assert result.stdout == ("x" * 99 + "\n") * 2_000


def test_libraries_are_loaded_once_before_the_blocks_start(project, tmp_path):
    """Those that a snippet imports too, and none that no block needs.

    In a process of its own: one that has run blocks keeps its template.
    """
    package = project / "snippets"
    package.mkdir(exist_ok=True)
    (package / "heavy.py").write_text("import torch.utils.flop_counter\n")
    script = """
        import sys
        from pathlib import Path

        from runner.fences import Block
        from runner.pool import run_blocks
        from runner.store import Store

        names = ["torch.utils.flop_counter", "sklearn.datasets"]
        source = (
            f"import sys\\nprint([m for m in {names} if m in sys.modules])\\n"
            "if len(sys.argv) > 99:\\n    import snippets.heavy\\n"
        )
        root, store = map(Path, sys.argv[1:])
        block = Block("a.md", 1, source)
        results = run_blocks([block], root=root, store=Store(store))
        print(results[source].stdout or results[source].error)
    """
    found = subprocess.run(
        [sys.executable, "-c", dedent(script), project, tmp_path / "store"],
        env=os.environ | {"PYTHONPATH": str(HOOKS)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == "['torch.utils.flop_counter']"


def test_a_block_may_show_its_figures_as_a_reader_does(
    tmp_path, hooks_environment
):
    code = dedent(
        """
        import sys
        from runner.worker import execute
        source = "import matplotlib.pyplot as plt\\n" \\
            "plt.plot([1])\\nplt.title('shown')\\nplt.show()\\n"
        result = execute(source, "a.md", 1)
        print(result.error, len(result.figures))
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=hooks_environment | {"DISPLAY": ":99"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == " 1\n"


@pytest.mark.parametrize(
    ("source", "printed"),
    [
        ("import sys\nprint('a')\nsys.stdout.close()\n", "a\n"),
        (
            "import os, sys\nprint('a')\nsys.stdout = open(os.devnull, 'w')\n"
            "print('b')\nsys.stdout.close()\n",
            "a\n",
        ),
        ("import sys\nprint('a')\nsys.stdout = None\nprint('b')\n", "a\n"),
        ("import sys\nprint('a')\ndel sys.stdout\n", "a\n"),
        ("import sys\nsys.stdout.buffer.write('卷积'.encode())\n", "卷积"),
        ("import sys\nprint(sys.stdout.encoding, sys.stdout.isatty())\n",
         "utf-8 False\n"),
    ],
)  # fmt: skip
def test_stdout_may_be_treated_as_in_any_program(run, source, printed):
    [result] = run(source)
    assert (result.stdout, result.error) == (printed, "")


def test_sets_are_printed_in_the_same_order_by_every_build(run):
    code = "print({str(n) for n in range(30)})\n"
    [result] = run(code)
    expected = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == expected.stdout


# What runs and what does not


def counter(path, n=0):
    return f"with open({str(path)!r}, 'a') as f: f.write('x')  # {n}\n"


def counted(path):
    return len(path.read_text()) if path.exists() else 0


def test_equal_blocks_run_once(run, tmp_path):
    ran = tmp_path / "ran"
    sources = [counter(ran, n) + "print(1)\n" for n in range(4)]
    results = run(*sources)
    assert counted(ran) == 1
    assert [r.stdout for r in results] == ["1\n"] * 4


def test_only_what_is_not_stored_runs(run, tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    first = run(counter(a))
    both = run(counter(a), counter(b))
    again = run(counter(b), counter(a))
    assert (counted(a), counted(b)) == (1, 1)
    assert first[0] == both[0] == again[1]


def test_an_edited_snippet_runs_its_users_again_and_no_others(
    run, tmp_path, project, write
):
    write(project / "snippets" / "a.py", "x = 1\n")
    uses, other = tmp_path / "uses", tmp_path / "other"
    sources = [
        counter(uses) + "from snippets.a import x\nprint(x)\n",
        counter(other),
    ]
    assert run(*sources)[0].stdout == "1\n"
    write(project / "snippets" / "a.py", "x = 22\n")
    assert run(*sources)[0].stdout == "22\n"
    assert (counted(uses), counted(other)) == (2, 1)


def test_a_damaged_entry_is_run_again(run, tmp_path, store):
    ran = tmp_path / "ran"
    [before] = run(counter(ran) + "print('卷积')\n")
    [entry] = store.folder.iterdir()
    for damage in (b"", entry.read_bytes()[:-1], b"{}"):
        entry.write_bytes(damage)
        [after] = run(counter(ran) + "print('卷积')\n")
        assert after == before
    assert counted(ran) == 4


def test_a_failed_block_runs_again(run, tmp_path, entries):
    ran = tmp_path / "ran"
    for _ in range(2):
        [result] = run(counter(ran) + "raise ValueError\n")
        assert result.error
    assert counted(ran) == 2
    assert entries() == 0


def test_a_result_is_not_stored_when_a_snippet_changed_as_it_ran(
    run, project, write, entries
):
    path = write(project / "snippets" / "a.py", "x = 1\n")
    source = f"""
        from pathlib import Path

        Path({str(path)!r}).write_text("x = 2\\n")
        from snippets.a import x

        print(x)
        """
    assert run(source)[0].stdout == "2\n"
    assert entries() == 0
    assert run(source)[0].stdout == "2\n"
    assert entries() == 1


def test_progress_counts_what_is_run(run):
    run("print(1)\n")
    told = []
    run(
        "print(1)\n", "print(2)\n", "print(3)\n", "print( 3 )\n",
        progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert told == [(0, 2), (1, 2), (2, 2)]


def test_blocks_run_side_by_side(run, tmp_path):
    meet = """
        import time
        from pathlib import Path

        Path({mine!r}).touch()
        while not Path({other!r}).exists():
            time.sleep(0.01)
        """
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    results = run(
        meet.format(mine=a, other=b), meet.format(mine=b, other=a), processes=2
    )
    assert [r.error for r in results] == ["", ""]


@pytest.mark.parametrize("processes", [1, 2])
def test_no_more_blocks_run_at_once_than_allowed(run, processes):
    source = """
        import time
        print(time.monotonic())
        time.sleep(0.1)
        print(time.monotonic())
        n = {}
        """
    results = run(*map(source.format, range(4)), processes=processes)
    spans = [tuple(map(float, result.stdout.split())) for result in results]
    for moment, _ in spans:
        assert sum(a <= moment < b for a, b in spans) <= processes


def test_the_process_of_the_build_is_left_as_it_was(run):
    before = dict(os.environ), list(sys.path), Path.cwd()
    names = set(sys.modules)
    run("import os\nos.environ['X'] = '1'\n", "1 / 0\n")
    assert (dict(os.environ), list(sys.path), Path.cwd()) == before
    assert not {n for n in set(sys.modules) - names if n.startswith("snip")}


def test_variables_of_the_caller_are_put_back(run, monkeypatch):
    for name in ENVIRONMENT:
        monkeypatch.setenv(name, "from before")
    run("x = 1\n")
    assert {name: os.environ[name] for name in ENVIRONMENT} == (
        dict.fromkeys(ENVIRONMENT, "from before")
    )


# How a block fails


@pytest.fixture
def fail(run, entries):
    """Run a block that fails and return its error."""

    def fail(source, **settings):
        [result] = run(source, **settings)
        assert result.error
        assert result.figures == ()
        assert entries() == 0
        return result.error

    return fail


def test_an_exception_is_shown_with_the_pages_line_and_no_other_frames(fail):
    error = fail(
        """
        def half(x):
            return x / 0

        half(3)
        """,
        page="docs/zh/networks/lenet.md",
        line=41,
    )
    assert error == dedent(
        """\
        Traceback (most recent call last):
          File "docs/zh/networks/lenet.md", line 44, in <module>
            half(3)
          File "docs/zh/networks/lenet.md", line 42, in half
            return x / 0
                   ~~^~~
        ZeroDivisionError: division by zero"""
    )


def test_frames_of_snippets_are_shown_and_those_of_libraries_are_not(
    fail, project, write
):
    write(
        project / "snippets" / "core.py",
        "import numpy as np\n\ndef f():\n    np.concatenate(1)\n"
        "    np.fft.fft([])\n",
    )
    error = fail(
        "from snippets.core import f\nimport json\n"
        "try:\n    json.loads('{')\nexcept ValueError:\n    f()\n"
    )
    files = re.findall(r'File "(.*?)"', error)
    assert files == [
        "docs/en/a.md",
        "docs/en/a.md",
        str(project / "snippets" / "core.py"),
    ]
    assert "JSONDecodeError" in error
    assert "During handling of the above exception" in error


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("assert 1 + 1 == 3, 'sums'\n", "AssertionError: sums"),
        ("exit(3)\n", "SystemExit: 3"),
        ("import sys\nsys.exit(0)\n", "SystemExit: 0"),
        ("import sys\nsys.exit()\n", "SystemExit"),
        ("raise SystemExit('stop')\n", "SystemExit: stop"),
        ("raise KeyboardInterrupt\n", "KeyboardInterrupt"),
        ("raise GeneratorExit\n", "GeneratorExit"),
        ("raise BaseException('base')\n", "BaseException: base"),
        ("import os\nos.chdir('..')\n1 / 0\n", "ZeroDivisionError"),
        ("input()\n", "EOFError"),
        ("f = lambda: f()\nf()\n", "RecursionError"),
        ("print('\\udc80')\n", "UnicodeEncodeError"),
        ("import snippets.missing\n", "ModuleNotFoundError"),
        ("import snippets.bad\n", "SyntaxError"),
        ("import warnings\nwarnings.warn('careful')\n", "UserWarning: careful"),
        ("import numpy as np\nnp.log(np.zeros(1))\n", "RuntimeWarning: divide"),
        ("x = '\\d'\n", "invalid escape sequence"),
        ("import warnings\nwarnings.warn('old', DeprecationWarning)\n",
         "DeprecationWarning: old"),
    ],
)  # fmt: skip
def test_whatever_is_raised_is_reported_with_its_line(
    fail, project, write, source, told
):
    write(project / "snippets" / "bad.py", "def f(:\n")
    error = fail(source, line=7)
    last = 6 + source.count("\n")
    lines = {int(n) for n in re.findall(r'"docs/en/a.md", line (\d+)', error)}
    assert told in error
    assert last in lines or 6 + 1 in lines
    assert "runner" not in error


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (
            "def __str__(self): raise ValueError",
            "Odd: <exception str() failed>",
        ),
        ("def __str__(self): return 3", "Odd: <exception str() failed>"),
        (
            "def __str__(self): raise SystemExit",
            "Odd: <exception str() failed>",
        ),
        ("def __reduce__(self): raise ValueError", "Odd"),
        ("__module__ = None", "Odd"),
    ],
)
def test_an_exception_that_cannot_be_shown_or_sent_is_reported(
    fail, body, told
):
    error = fail(f"class Odd(Exception):\n    {body}\n\nraise Odd\n")
    assert told in error
    assert 'File "docs/en/a.md", line 10, in <module>' in error


def test_a_chain_of_exceptions_that_bites_its_tail_is_reported(fail):
    error = fail(
        """
        a, b = ValueError("first"), ValueError("second")
        a.__cause__, b.__cause__ = b, a
        raise a
        """
    )
    assert "first" in error
    assert "second" in error


def test_a_syntax_error_is_shown_with_the_pages_line(fail):
    error = fail("x = 1\ny = (2\n", line=30)
    assert 'File "docs/en/a.md", line 31' in error
    assert "y = (2" in error
    assert "SyntaxError: '(' was never closed" in error
    assert "worker" not in error


def test_two_blocks_with_syntax_errors_are_told_apart(run):
    first, second = run("a = (\n", "b = [\n")
    assert "line 7" in first.error
    assert "line 107" in second.error


def test_a_block_that_prints_more_than_a_page_can_carry_fails(fail):
    error = fail("print('x' * 200_000)\n")
    assert error == "the block printed 200,001 bytes; 200,000 at most"


def test_a_block_that_draws_more_than_a_page_can_carry_fails(fail):
    source = (
        "import matplotlib.pyplot as plt\nimport numpy as np\n"
        "plt.plot(np.random.default_rng(0).random(200_000), ',')\n"
        "plt.suptitle('t')\n"
    )
    assert re.fullmatch(
        r"the block drew [\d,]+ bytes; 2,000,000 at most", fail(source)
    )


def test_a_figure_without_title_fails(fail):
    assert "a figure has no title" in fail(PLOT)


@pytest.mark.parametrize("title", ["$卷积 x$", "卷积 $x$"])
def test_chinese_beside_mathtext_fails_as_no_font_here_can_draw_it(fail, title):
    assert "does not have a glyph" in fail(PLOT + f"ax.set_title({title!r})\n")


def test_a_warning_that_matplotlib_only_logs_fails(fail):
    error = fail(
        "import matplotlib.pyplot as plt\n"
        "fig, ax = plt.subplots()\nax.set_title('a', family='No Such Font')\n"
        "import logging\nlogging.getLogger('matplotlib.x').warning('lost')\n"
    )
    assert "UserWarning: lost" in error


def test_what_was_printed_before_the_failure_is_kept(run):
    [result] = run("print('so far')\n1 / 0\n")
    assert result.stdout == "so far\n"
    assert result.error


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("import os\nos._exit(0)\n", 0),
        ("import os\nos._exit(3)\n", 3),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n", -9),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n", -15),
        ("import ctypes\nctypes.string_at(0)\n", -11),
    ],
)
def test_a_block_that_kills_its_process_is_reported(fail, source, code):
    assert fail(source) == f"the block killed its process (exit {code})"


def test_a_block_that_closes_every_file_is_reported(fail):
    assert "killed its process" in fail("import os\nos.closerange(3, 256)\n")


def test_blocks_that_never_end_fail_while_others_finish(run, entries):
    started = time.monotonic()
    results = run(
        "while True: pass\n",
        "import time\ntime.sleep(600)\n",
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "try:\n    time.sleep(600)\nfinally:\n    time.sleep(600)\n",
        "import threading, time\nprint('here')\n"
        "threading.Thread(target=time.sleep, args=(600,)).start()\n",
        "import os, time\nos.closerange(3, 256)\ntime.sleep(600)\n",
        "print('fine')\n",
        "print('fine, too')\n",
        seconds=4,
        processes=6,
    )
    assert time.monotonic() - started < 30
    assert [r.error for r in results[:4]] == (
        ["the block ran longer than 4 seconds"] * 4
    )
    assert results[4].error
    assert [r.stdout for r in results[5:]] == ["fine\n", "fine, too\n"]
    assert [r.error for r in results[5:]] == ["", ""]
    assert entries() == 2


def test_a_daemon_thread_that_never_ends_does_not_matter(run):
    [result] = run(
        "import threading, time\nprint('here')\n"
        "threading.Thread(target=time.sleep, args=[600], daemon=True).start()\n"
    )
    assert (result.stdout, result.error) == ("here\n", "")


def test_a_thread_that_ends_is_waited_for(run, tmp_path):
    [result] = run(
        f"""
        import threading, time

        def late():
            time.sleep(0.5)
            open({str(tmp_path / "late")!r}, "w").close()

        threading.Thread(target=late).start()
        """
    )
    assert result.error == ""
    assert (tmp_path / "late").exists()


def test_when_progress_fails_no_process_is_left(run, is_running, tmp_path):
    def progress(done, total):
        if done:
            raise RuntimeError("stop")

    pid = tmp_path / "pid"
    with pytest.raises(RuntimeError, match="stop"):
        run(
            "import os, time\n"
            f"open({str(pid)!r}, 'w').write(str(os.getpid()))\n"
            "time.sleep(600)\n",
            f"import os, time\nwhile not os.path.exists({str(pid)!r}):\n"
            "    time.sleep(0.01)\ntime.sleep(0.1)\n",
            processes=2,
            progress=progress,
        )
    assert not is_running(int(pid.read_text()))


# When the build itself is killed

BUILD = """
import sys
from pathlib import Path
from runner.fences import Block
from runner.pool import run_blocks
from runner.store import Store

if __name__ == "__main__":
    results = run_blocks(
        [Block("a.md", line, source) for source, line in {blocks!r}],
        root=Path({root!r}),
        store=Store(Path(sys.argv[1])),
        processes=2,
    )
    for result in results.values():
        print(result.stdout + result.error, end="")
"""


def test_a_build_killed_half_way_leaves_a_good_store_and_no_process(
    project, store, entries, is_running, until, hooks_environment, tmp_path
):
    ran, gate = tmp_path / "ran", tmp_path / "gate"
    sources = [
        f"open({str(ran)!r}, 'a').write('{n} ')\nprint({n}, '卷积' * 9999)\n"
        for n in range(8)
    ]
    sources[5] = (
        f"import os\nopen({str(ran)!r}, 'a').write(f'p{{os.getpid()}} ')\n"
        f"while not os.path.exists({str(gate)!r}): pass\nprint(5)\n"
    )
    blocks = [(source, 1 + 10 * n) for n, source in enumerate(sources)]
    code = BUILD.format(blocks=blocks, root=str(project))
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(store.folder)], env=hooks_environment
    )
    until(lambda: ran.exists() and "p" in ran.read_text())
    until(lambda: entries() >= 5)
    process.send_signal(signal.SIGKILL)
    process.wait()
    pid = int(re.search(r"p(\d+)", ran.read_text())[1])
    try:
        until(lambda: not is_running(pid), seconds=10)
    finally:
        gate.touch()

    stored = [
        str(n)
        for n, source in enumerate(sources)
        if store.get(key(source, project)) is not None
    ]
    assert len(stored) >= 5
    for path in store.folder.glob("*.json"):
        assert store.get(path.stem)["error"] == ""
    results = run_blocks(
        [Block("a.md", line, source) for source, line in blocks],
        root=project,
        store=store,
    )
    assert [results[s].stdout.split()[0] for s in sources] == list("01234567")
    assert entries() == 8
    # What was stored ran once; what was under way when the build was killed
    # may have got as far as to say so, and ran again.
    words = ran.read_text().split()
    assert [words.count(n) for n in stored] == [1] * len(stored)
