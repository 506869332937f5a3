"""`rolloom envs new NAME`: a package with one environment, registered by entry point, and a passing test."""

from __future__ import annotations

import re
from pathlib import Path

from rolloom.envs.errors import EnvRegistrationError
from rolloom.rollout.env_templates import ENVIRONMENTS, INIT, PYPROJECT, README, TEST


def main(name: str, kind: str, into: Path) -> int:
    """Write the package and say what to do next.

    Args:
        name: distribution name, e.g. `my-envs`; the import name has underscores.
        kind: math, code, tools or agent: what the example does.
        into: directory to make it in.

    Raises:
        EnvRegistrationError: not a name for a package, or there is something in its place.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*", name):
        raise EnvRegistrationError(
            f"envs new: NAME: expected lower-case letters, digits and dashes, e.g. my-envs, got {name!r}"
        )
    package, root = name.replace("-", "_"), into / name
    if root.exists():
        raise EnvRegistrationError(f"envs new: {root} exists already; expected a name that is free")
    function, text = ENVIRONMENTS[kind]
    words = {"NAME": name, "PACKAGE": package, "ID": f"{package}/{function}-v0", "FUNCTION": function}
    files = {
        root / "pyproject.toml": PYPROJECT,
        root / "README.md": README,
        root / "src" / package / "__init__.py": INIT,
        root / "src" / package / f"{function}.py": text,
        root / "tests" / f"test_{package}.py": TEST,
    }
    for path, template in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        for word, value in words.items():
            template = template.replace(f"@{word}@", value)
        path.write_text(template)
    print(f"wrote {root}: {words['ID']} in {root / 'src' / package / f'{function}.py'}\n")
    print(f"  pip install -e {root} && pytest {root}")
    print(f"  rolloom envs check {words['ID']}")
    print(f"  rolloom train quickstart envs.0.id={words['ID']}")
    return 0
