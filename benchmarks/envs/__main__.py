"""`python -m benchmarks.envs [--json PATH] [--quick]`, or `--hostile [PATH]`: the hostile corpus's table."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.envs import measure
from benchmarks.harness import main


def hostile(path: Path | None) -> int:
    """Play the hostile corpus; print what does not hold and the count, write the table; return the status."""
    from benchmarks.envs.hostile import attempts, play, summary, table

    verdicts = []
    for attempt in attempts():
        verdict = play(attempt)
        verdicts.append(verdict)
        if verdict.wrong:
            print(
                f"{attempt.number} {attempt.title}, {attempt.env_id}: {'; '.join(verdict.wrong)}", flush=True
            )
    text = f"{table(verdicts)}\n\n{summary(verdicts)}\n"
    if path is None:
        print(text)
    else:
        path.write_text(text)
        print(summary(verdicts))
    return int(any(verdict.wrong for verdict in verdicts))


if __name__ == "__main__":
    if "--hostile" in sys.argv:
        after = sys.argv[sys.argv.index("--hostile") + 1 :]
        sys.exit(hostile(Path(after[0]) if after else None))
    sys.exit(main("envs", measure))
