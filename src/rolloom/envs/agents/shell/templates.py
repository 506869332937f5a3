"""Jobs for the shell: files, a request, what must be there afterwards, and commands that get there.

What must be there is worked out here in Python; the commands are what the gold agent runs. The two are
written apart, so that a mistake in one shows.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from typing import Any

from rolloom.envs.agents.shell.jobs import LEVELS, TEMPLATES, WORDS, Draw, Job, csv_text, job

__all__ = ["TEMPLATES"]


def _log_text(lines: list[tuple[str, str, str, int]]) -> str:
    return "".join(f"{time} {level} {service} code={number}\n" for time, level, service, number in lines)


def _keep(files: dict[str, str], **changed: str) -> dict[str, str]:
    return {**files, **changed}


@job(1)
def total_bytes(d: Draw) -> Job:
    """Tell the size of all files of a kind."""
    files = d.tree((".log", ".txt", ".cfg"))
    total = sum(len(text) for path, text in files.items() if path.endswith(".log"))
    commands = ["find . -type f -name '*.log' -exec cat {} + | wc -c"]
    request = "How many bytes do all files that end in .log have together, those in subfolders included?"
    return Job(files, files, request, commands, "their sizes have to be added up", str(total))


@job(1)
def find_code(d: Draw) -> Job:
    """Tell which file has a code in it."""
    files = d.tree((".txt", ".md"))
    path, code = d.chance.choice(sorted(files)), f"token-{d.chance.randrange(10**6):06}"
    files[path] += f"the {code} stands here\n"
    decoy = d.chance.choice(sorted(set(files) - {path}))
    files[decoy] += f"not the {code[:-1]} that is meant\n"
    request = f"Which file contains {code}? Answer with its path below the folder."
    return Job(files, files, request, [f"grep -rl {code} ."], f"search for {code}", path)


@job(1)
def extract_lines(d: Draw) -> Job:
    """Copy the lines of a level to a file."""
    lines, level = d.log(), d.chance.choice(LEVELS)
    files = {"app.log": _log_text(lines), "other.txt": d.text()}
    kept = _log_text([line for line in lines if line[1] == level])
    if not kept:
        return extract_lines(d)
    out = d.name(".txt").replace(" ", "-")
    request = f"Write all lines of app.log with the level {level} to {out}, in their order."
    commands = [f"grep ' {level} ' app.log > {out}"]
    return Job(files, _keep(files, **{out: kept}), request, commands, f"{level} lines are wanted")


@job(1)
def delete_kind(d: Draw) -> Job:
    """Delete all files of a kind."""
    files, ending = d.tree((".tmp", ".txt", ".bak")), d.chance.choice((".tmp", ".bak"))
    after = {path: text for path, text in files.items() if not path.endswith(ending)}
    commands = [f"find . -type f -name '*{ending}' -delete"]
    request = f"Delete every file that ends in {ending}, in subfolders too, and nothing else."
    return Job(files, after, request, commands, f"the {ending} files have to go")


@job(1)
def rename_kind(d: Draw) -> Job:
    """Change the ending of all files of a kind."""
    files, new = d.tree((".txt", ".csv")), d.chance.choice((".md", ".text", ".old"))
    after = {path[:-4] + new if path.endswith(".txt") else path: text for path, text in files.items()}
    script = f'for f; do mv "$f" "${{f%.txt}}{new}"; done'
    commands = [f"find . -type f -name '*.txt' -exec sh -c '{script}' sh {{}} +"]
    request = f"Rename every file that ends in .txt so that it ends in {new}, where it is; subfolders too."
    return Job(files, after, request, commands, f".txt has to become {new}")


@job(1)
def count_words(d: Draw) -> Job:
    """Tell how often a word stands in a file."""
    text, word = d.text(d.chance.randrange(20, 20 + d.size * 10)), d.chance.choice(WORDS)
    files = {"words.txt": text, "more.txt": d.text()}
    count = text.split().count(word)
    number = len(text.splitlines())
    request = f"How often does the word {word} stand in words.txt, and how many lines has it? Answer as A/B."
    commands = [f'echo "$(grep -ow {word} words.txt | wc -l)/$(wc -l < words.txt)"']
    return Job(files, files, request, commands, f"count {word}", f"{count}/{number}")


@job(2)
def sort_into_folders(d: Draw) -> Job:
    """Move files into folders by their ending."""
    files = {
        d.name(ending): d.text() for ending in (".png", ".csv", ".txt") for _ in range(max(2, d.size // 4))
    }
    after = {f"{path.rpartition('.')[2]}/{path}": text for path, text in files.items()}
    commands = ['for f in *.*; do mkdir -p "${f##*.}"; mv "$f" "${f##*.}/"; done']
    request = "Move every file into a folder named after its ending: x.png to png/x.png, and so on."
    return Job(files, after, request, commands, "every ending gets a folder")


@job(2)
def set_option(d: Draw) -> Job:
    """Change a value in a configuration file."""
    keys = d.chance.sample(WORDS, 6)
    values = {key: d.chance.randrange(10, 1000) for key in keys}
    key, new = keys[2], d.chance.randrange(1000, 9999)
    # A key that the wanted one is a part of must stay as it is.
    values[f"{key}_max"] = d.chance.randrange(10, 1000)

    def render(values: dict[str, int]) -> str:
        return "# settings\n" + "".join(f"{name} = {value}\n" for name, value in values.items())

    files = {"server.conf": render(values), "server.conf.sample": render(values)}
    after = _keep(files, **{"server.conf": render({**values, key: new})})
    request = f"In server.conf set {key} to {new}; leave all else as it is."
    return Job(
        files, after, request, [f"sed -i 's/^{key} = .*/{key} = {new}/' server.conf"], f"{key} is one line"
    )


@job(2)
def replace_word(d: Draw) -> Job:
    """Replace a word in all files of a kind."""
    files = d.tree((".txt", ".md"))
    old, new = d.chance.choice(WORDS), f"{d.chance.choice(WORDS)}{d.chance.randrange(10, 99)}"
    if not any(old in text for path, text in files.items() if path.endswith(".txt")):
        return replace_word(d)
    after = {p: text.replace(old, new) if p.endswith(".txt") else text for p, text in files.items()}
    commands = [f"find . -name '*.txt' -exec sed -i 's/{old}/{new}/g' {{}} +"]
    request = f"Replace the word {old} by {new} in every .txt file, subfolders included; other files stay."
    return Job(files, after, request, commands, f"only .txt files with {old} change")


@job(2)
def unique_sorted(d: Draw) -> Job:
    """Merge lists into one sorted list without repeats."""
    names = [d.name(".list") for _ in range(3)]
    files = {name: "".join(f"{w}\n" for w in d.chance.choices(WORDS, k=d.size)) for name in names}
    merged = "".join(
        f"{word}\n" for word in sorted({word for text in files.values() for word in text.split()})
    )
    request = (
        "Merge all .list files into all.txt: every line once, sorted alphabetically. Keep the .list files."
    )
    return Job(
        files, _keep(files, **{"all.txt": merged}), request, ["sort -u *.list > all.txt"], "merge and sort"
    )


@job(2)
def sum_column(d: Draw) -> Job:
    """Tell the sum of a column over rows of a city."""
    rows = d.table()
    city = rows[0]["city"]
    total = sum(row["amount"] for row in rows if row["city"] == city)
    files = {"sales.csv": csv_text(rows)}
    commands = [f"awk -F, '$3 == \"{city}\" {{ s += $4 }} END {{ print s }}' sales.csv"]
    request = f"What is the sum of the column amount in sales.csv over the rows whose city is {city}?"
    return Job(files, files, request, commands, f"add up the rows of {city}", str(total))


@job(2)
def busiest(d: Draw) -> Job:
    """Tell which service logged most, and how often."""
    lines = d.log()
    counts = Counter(line[2] for line in lines).most_common()
    if counts[0][1] == counts[1][1]:
        return busiest(d)
    files = {"logs/app.log": _log_text(lines)}
    commands = ["cut -d' ' -f3 logs/app.log | sort | uniq -c | sort -rn | head -n 1"]
    request = (
        "Which service (third word) has the most lines in logs/app.log, and how many? Answer as NAME/COUNT."
    )
    return Job(files, files, request, commands, "count lines by service", f"{counts[0][0]}/{counts[0][1]}")


@job(3)
def csv_to_json(d: Draw) -> Job:
    """Turn the large rows of a table into JSON."""
    rows, limit = d.table(), d.chance.randrange(150, 350)
    kept = [row for row in rows if row["amount"] >= limit]
    files = {"sales.csv": csv_text(rows)}
    program = (
        "import csv, json; rows = list(csv.DictReader(open('sales.csv'))); json.dump([{'id': int(r['id']),"
        f" 'item': r['item'], 'amount': int(r['amount'])}} for r in rows if int(r['amount']) >= {limit}],"
        " open('large.json', 'w'))"
    )
    out = [{name: row[name] for name in ("id", "item", "amount")} for row in kept]
    request = (
        f"Write large.json: a JSON array of the rows of sales.csv whose amount is at least {limit}, in their"
        " order, each an object with id, item and amount (id and amount as numbers)."
    )
    after = _keep(files, **{"large.json": json.dumps(out)})
    return Job(files, after, request, [f'python3 -c "{program}"'], f"rows from {limit} on become objects")


@job(3)
def totals(d: Draw) -> Job:
    """Add a table up by a column."""
    rows, by = d.table(), d.chance.choice(("item", "city"))
    sums: Counter[str] = Counter()
    for row in rows:
        sums[row[by]] += row["amount"]
    files = {"sales.csv": csv_text(rows)}
    out = csv_text([{by: name, "total": total} for name, total in sorted(sums.items())])
    column = 2 if by == "item" else 3
    commands = [
        f'(echo {by},total; awk -F, \'NR > 1 {{ s[${column}] += $4 }} END {{ for (k in s) print k "," s[k]'
        " }' sales.csv | sort) > totals.csv"
    ]
    request = (
        f"Write totals.csv with the columns {by},total: the sum of amount for every {by}, sorted by {by}."
    )
    return Job(files, _keep(files, **{"totals.csv": out}), request, commands, f"group by {by}")


@job(3)
def join_tables(d: Draw) -> Job:
    """Join two tables."""
    rows = d.table()
    people = [{"id": row["id"], "customer": f"{d.chance.choice(WORDS)}"} for row in rows]
    d.chance.shuffle(people)
    files = {"sales.csv": csv_text(rows), "people.csv": csv_text(people)}
    names = {row["id"]: row["customer"] for row in people}
    out = csv_text([{"id": r["id"], "customer": names[r["id"]], "amount": r["amount"]} for r in rows])
    program = (
        "import csv; p = {r['id']: r['customer'] for r in csv.DictReader(open('people.csv'))};"
        " o = open('joined.csv', 'w'); print('id,customer,amount', file=o); [print(r['id'], p[r['id']],"
        " r['amount'], sep=',', file=o) for r in csv.DictReader(open('sales.csv'))]"
    )
    request = "Join both tables by id: write joined.csv (id,customer,amount) in the order of sales.csv."
    return Job(files, _keep(files, **{"joined.csv": out}), request, [f'python3 -c "{program}"'], "join by id")


@job(3)
def mend_json(d: Draw) -> Job:
    """Mend a broken JSON file and change a value."""
    value: dict[str, Any] = {word: d.chance.randrange(1000) for word in d.chance.sample(WORDS, 5)}
    key = d.chance.choice(sorted(value))
    new = d.chance.randrange(1000, 9999)
    text = json.dumps({"name": d.chance.choice(WORDS), "options": value}, indent=2)
    broken = text.replace("\n  }\n}", ",\n  },\n}")
    after = json.loads(text)
    after["options"][key] = new
    program = (
        "import json, re; t = open('config.json').read(); v = json.loads(re.sub(r',(\\s*})', r'\\1', t));"
        f" v['options']['{key}'] = {new}; json.dump(v, open('config.json', 'w'), indent=2)"
    )
    request = (
        "config.json is no valid JSON because of commas too many. Make it valid, with all its values, and set"
        f" {key} (in options) to {new}."
    )
    files = {"config.json": broken, "readme.txt": d.text()}
    done = _keep(files, **{"config.json": json.dumps(after)})
    return Job(files, done, request, [f'python3 -c "{program}"'], "the last commas of objects are wrong")


@job(3)
def drop_copies(d: Draw) -> Job:
    """Delete files whose content another file has."""
    texts = [d.text(3) for _ in range(max(3, d.size // 3))]
    files = {d.name(".dat"): texts[i % len(texts)] for i in range(max(6, d.size))}
    first: dict[str, str] = {}
    for name in sorted(files):
        first.setdefault(files[name], name)
    after = {name: text for text, name in first.items()}
    commands = [
        'LC_ALL=C; for f in *.dat; do h=$(sha256sum < "$f"); case "$seen" in *"$h"*) rm "$f";;'
        ' *) seen="$seen $h";; esac; done'
    ]
    request = "Some files have the same content. Of each such set keep the one whose name sorts first."
    return Job(files, after, request, commands, "equal files have equal checksums")


@job(4)
def manifest(d: Draw) -> Job:
    """Write a list of checksums."""
    files = d.tree((".bin", ".txt"))
    lines = [f"{hashlib.sha256(text.encode()).hexdigest()}  {path}\n" for path, text in sorted(files.items())]
    commands = [
        'python3 -c "import hashlib, os;'
        " p = sorted(os.path.join(a, f)[2:] for a, _, fs in os.walk('.')"
        " for f in fs); s = ''.join(hashlib.sha256(open(x, 'rb').read()).hexdigest() + '  ' + x + chr(10)"
        " for x in p);"
        " open('MANIFEST', 'w').write(s)\""
    ]
    request = (
        "Write MANIFEST: for every other file below the folder a line `SHA256  PATH` (two spaces, the path"
        " without ./), sorted by path (by bytes)."
    )
    return Job(files, _keep(files, MANIFEST="".join(lines)), request, commands, "hash every file")


@job(4)
def by_title(d: Draw) -> Job:
    """Rename files after their first line."""
    names = [d.name(".txt") for _ in range(max(4, d.size // 2))]
    titles = d.chance.sample([f"{a} {b}" for a in WORDS[:12] for b in WORDS[12:]], len(names))
    files = {name: f"Title: {title.title()}\n{d.text()}" for name, title in zip(names, titles, strict=True)}
    after = {f"{title.replace(' ', '_')}.txt": files[name] for name, title in zip(names, titles, strict=True)}
    commands = [
        'for f in *.txt; do t=$(head -n 1 "$f" | cut -c8- | tr \'A-Z \' \'a-z_\'); mv "$f" "new-$t.txt";'
        ' done; for f in new-*; do mv "$f" "${f#new-}"; done'
    ]
    request = (
        "The first line of every .txt file is its title (`Title: Red Fox`). Rename each file after it, in"
        " lower case with underscores: red_fox.txt."
    )
    return Job(files, after, request, commands, "the title stands in the first line")


@job(4)
def by_date(d: Draw) -> Job:
    """Move files into folders by the date in their name."""
    files = {}
    for _ in range(max(5, d.size)):
        year, month, day = (
            d.chance.randrange(2022, 2026),
            d.chance.randrange(1, 13),
            d.chance.randrange(1, 29),
        )
        files[f"{year}-{month:02}-{day:02}-{d.name('.txt')}"] = d.text()
    after = {f"{path[:4]}/{path[5:7]}/{path[11:]}": text for path, text in files.items()}
    commands = [
        'for f in *.txt; do y=$(echo "$f" | cut -c1-4); m=$(echo "$f" | cut -c6-7); mkdir -p "$y/$m";'
        ' mv "$f" "$y/$m/$(echo "$f" | cut -c12-)"; done'
    ]
    request = "Files are named YYYY-MM-DD-NAME. Move each to YYYY/MM/NAME."
    return Job(files, after, request, commands, "year and month become folders")


@job(4)
def rotate(d: Draw) -> Job:
    """Rotate logs."""
    count = d.chance.randrange(3, 6)
    files = {"app.log": d.text()} | {f"app.log.{i}": d.text() for i in range(1, count + 1)}
    after = {"app.log": "", "app.log.1": files["app.log"]}
    after |= {f"app.log.{i + 1}": files[f"app.log.{i}"] for i in range(1, count)}
    moves = "; ".join(f"mv app.log.{i} app.log.{i + 1}" for i in range(count - 1, 0, -1))
    commands = [f"rm app.log.{count}; {moves}; mv app.log app.log.1; : > app.log"]
    request = (
        f"Rotate the logs: app.log.{count} is dropped, every app.log.N becomes app.log.N+1, app.log becomes"
        " app.log.1, and a new empty app.log is made."
    )
    return Job(files, after, request, commands, "the oldest goes first")


PROGRAMS = (
    (
        "the sum of all numbers on its first argument, a file with one number a line",
        "awk '{ s += $1 } END { print s + 0 }'",
        sum,
    ),
    ("the largest number in its first argument, a file with one number a line", "sort -n", max),
    ("the smallest number in its first argument, a file with one number a line", "sort -rn", min),
    (
        "how many different numbers are in its first argument, a file with one number a line",
        "sort -u",
        lambda numbers: len(set(numbers)),
    ),
)


@job(4)
def write_script(d: Draw) -> Job:
    """Write a script that hidden runs are made of."""
    which = d.chance.randrange(len(PROGRAMS))
    told, command, function = PROGRAMS[which]
    factor, low = d.chance.randrange(2, 50), d.chance.randrange(-50, 50)
    tail = ("", " | tail -n 1", " | tail -n 1", " | wc -l")[which]
    name = d.name(".sh").replace(" ", "-")
    cases = []
    for size in (3, 7, 25):
        numbers = [d.chance.randrange(-100, 1000) for _ in range(size)] + [low, low]
        text = "".join(f"{number}\n" for number in numbers)
        cases.append([{"my data.txt": text}, ["my data.txt"], str(function(numbers) * factor + low)])
    body = f'echo $(( $({command} "$1"{tail}) * {factor} + {low} ))'
    example = "".join(f"{d.chance.randrange(100)}\n" for _ in range(4))
    files = {"example.txt": example}
    request = (
        f"Write a shell script {name} (run as `sh {name} FILE`) that prints {told}, times {factor}"
        f" plus {low}."
        " File names may have spaces. example.txt is such a file."
    )
    commands = [f"cat > {name} <<'END'\n{body}\nEND", f"sh {name} example.txt"]
    return Job(
        files, files, request, commands, "the script is one line", script={"path": name, "cases": cases}
    )
