"""Run every benchmark, or those that are named: `python bench/run.py site`."""

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main() -> int:
    parts = sorted(p.stem for p in HERE.glob("*.py") if p.name != "run.py")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"any of {', '.join(parts)}")
    chosen = parser.parse_args().parts or parts
    if unknown := set(chosen) - set(parts):
        parser.error(
            f"no benchmark {', '.join(sorted(unknown))}; there are {parts}"
        )
    failed = []
    for part in chosen:
        print(f"\n== {part} ==\n", flush=True)
        if subprocess.run(
            [sys.executable, str(HERE / f"{part}.py")]
        ).returncode:
            failed.append(part)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
