"""Requests about mail, the calendar and files: each template does what it asks for and returns it."""

from __future__ import annotations

from rolloom.envs.agents.company.planner import Planner, template
from rolloom.envs.agents.company.world import BOARDS, FOLDERS, KINDS, SOURCES, TOPICS

LATEST = "SELECT id, subject, sent FROM emails WHERE sender = ? AND folder != 'sent' ORDER BY sent DESC, id"
SENDERS = (
    "SELECT sender FROM emails WHERE folder != 'sent' GROUP BY sender HAVING count(*) >= ? ORDER BY sender"
)
HOURS = [f"{hour:02}:00" for hour in range(9, 17)]


def _newest(p: Planner, sender: str) -> tuple[str, int]:
    who = p.sender(sender)
    p.do("search_emails", f"find the emails of {who}", sender=sender)
    return who, p.rows(LATEST, sender)[0][0]


@template("email", 1)
def send_email(p: Planner) -> str:
    """Write to an employee."""
    to, subject, body = p.someone(), f"{p.pick(TOPICS)} {p.pick(KINDS)}", p.phrase()
    who = p.employee(to)
    p.do("send_email", f"write to {to}", to=to, subject=subject, body=body)
    return f'Send {who} an email with the subject "{subject}" and the text "{body}".'


@template("email", 1)
def delete_newest(p: Planner) -> str:
    """Delete the newest email of someone."""
    who, number = _newest(p, p.one(SENDERS, 1)[0])
    p.do("delete_email", f"the newest email of {who} is {number}", id=number)
    return p.pick(
        (f"Delete the newest email from {who}.", f"The latest email that {who} sent me can be deleted.")
    )


@template("email", 2)
def reply_newest(p: Planner) -> str:
    """Answer the newest email of someone."""
    body = p.phrase()
    who, number = _newest(p, p.one(SENDERS, 1)[0])
    p.do("reply_email", f"the newest email of {who} is {number}", id=number, body=body)
    return f'Reply to the newest email from {who}: "{body}".'


@template("email", 2)
def forward_about(p: Planner) -> str:
    """Pass an email on that is named by its subject."""
    query = "SELECT id, subject FROM emails WHERE folder != 'sent' GROUP BY subject HAVING count(*) = 1"
    number, subject = p.one(query + " ORDER BY id")
    to = p.someone()
    who = p.employee(to)
    p.read("search_emails", f"find the email about {subject}", text=subject)
    # A subject may be part of a longer one that came by reply or forward.
    p.need(len(p.rows("SELECT 1 FROM emails WHERE instr(subject, ?)", subject)) == 1)
    p.do("forward_email", f"the email about {subject} is {number}", id=number, to=to)
    return f'Forward the email with the subject "{subject}" to {who}.'


@template("email", 2)
def newest_reference(p: Planner) -> str:
    """Tell what the newest email of someone says."""
    who, number = _newest(p, p.one(SENDERS, 2)[0])
    body = p.do("read_email", f"the newest email of {who} is {number}", id=number)["body"]
    p.tell(body.partition("reference ")[2][:3])
    return f"What is the reference number in the newest email from {who}?"


@template("email", 3)
def file_unread(p: Planner) -> str:
    """Move all unread emails of someone."""
    sender = p.one(SENDERS, 3)[0]
    query = "SELECT id FROM emails WHERE sender = ? AND read = 0 AND folder = 'inbox' ORDER BY sent DESC"
    found = p.rows(query, sender)
    p.need(found)
    who = p.sender(sender)
    folder = p.pick(("archive", "spam"))
    p.read("search_emails", f"find the unread emails of {who}", sender=sender, folder="inbox", unread=True)
    for (number,) in found:
        p.do("update_email", f"email {number} of {who} is unread", id=number, folder=folder)
    return (
        f"Move all unread emails from {who} that are in the inbox to the {folder} folder; leave them unread."
    )


@template("email", 3)
def delete_older(p: Planner) -> str:
    """Delete what someone wrote before a day."""
    sender = p.one(SENDERS, 3)[0]
    mails = p.rows(LATEST, sender)
    day = p.pick([sent[:10] for _, _, sent in mails[1:]])
    old = [number for number, _, sent in mails if sent[:10] < day]
    p.need(old)
    who = p.sender(sender)
    p.read("search_emails", f"find the emails of {who}", sender=sender)
    for number in old:
        p.do("delete_email", f"email {number} is older than {day}", id=number)
    return f"Delete every email from {who} that came before {day} (that day's stay)."


@template("email", 4)
def answer_unless_archived(p: Planner) -> str:
    """Answer an email or delete it, as its folder has it."""
    sender, body = p.one(SENDERS, 1)[0], p.phrase()
    who, number = _newest(p, sender)
    folder = p.rows("SELECT folder FROM emails WHERE id = ?", number)[0][0]
    if folder == "inbox":
        p.do("reply_email", f"email {number} is in the inbox", id=number, body=body)
    else:
        p.do("update_email", f"email {number} is in {folder}", id=number, folder="inbox", read=False)
    return (
        f'If the newest email from {who} is in the inbox, reply "{body}"; otherwise move it to the inbox'
        " and mark it unread."
    )


@template("calendar", 1)
def book(p: Planner) -> str:
    """Add an event."""
    title, person, day, start = p.title(), p.someone(), p.coming_day(), p.pick(HOURS)
    minutes = p.pick((30, 45, 60, 90))
    who, when = p.employee(person), p.day(day)
    p.do("create_event", f"add it {when}", title=title, person=person, day=day, start=start, minutes=minutes)
    return f'Book "{title}" with {who} {when} at {start} for {minutes} minutes.'


@template("calendar", 2)
def cancel_on(p: Planner) -> str:
    """Delete someone's only event of a day."""
    query = "SELECT id, person, day FROM events GROUP BY person, day HAVING count(*) = 1 ORDER BY id"
    number, person, day = p.one(query)
    who, when = p.employee(person), p.day(day)
    p.do("search_events", f"find the event with {who} {when}", person=person, day=day)
    p.do("delete_event", f"it is event {number}", id=number)
    return p.pick((f"Cancel my meeting with {who} {when}.", f"I cannot meet {who} {when}: delete it."))


@template("calendar", 2)
def first_to_other_day(p: Planner) -> str:
    """Move the first event of a day to another day."""
    person, day = p.one("SELECT DISTINCT person, day FROM events ORDER BY person, day")
    to = p.coming_day()
    p.need(to != day)
    number = p.rows("SELECT id FROM events WHERE person = ? AND day = ? ORDER BY start", person, day)[0][0]
    who, when = p.employee(person), p.day(day)
    p.do("search_events", f"find the events with {who} {when}", person=person, day=day)
    p.do("update_event", f"the first one is {number}", id=number, day=to)
    return f"Move my first event with {who} {when} to {to}, at the same time."


@template("calendar", 3)
def clear_day(p: Planner) -> str:
    """Delete all events of a day."""
    day = p.one("SELECT day FROM events GROUP BY day HAVING count(*) BETWEEN 2 AND 8 ORDER BY day")[0]
    when = p.day(day)
    p.read("search_events", f"find the events {when}", day=day)
    for (number,) in p.rows("SELECT id FROM events WHERE day = ? ORDER BY start", day):
        p.do("delete_event", f"event {number} is {when}", id=number)
    return f"I am ill {when}: delete all events of that day."


@template("calendar", 3)
def shorten(p: Planner) -> str:
    """Shorten all long events with someone."""
    query = "SELECT person FROM events WHERE minutes = 60 GROUP BY person HAVING count(*) BETWEEN 2 AND 6"
    person = p.one(query + " ORDER BY person")[0]
    who = p.employee(person)
    p.read("search_events", f"find the events with {who}", person=person)
    for (number,) in p.rows("SELECT id FROM events WHERE person = ? AND minutes = 60 ORDER BY day", person):
        p.do("update_event", f"event {number} takes an hour", id=number, minutes=30)
    return f"Every event with {who} that takes an hour shall take 30 minutes instead."


@template("calendar", 4)
def first_free(p: Planner) -> str:
    """Book the first hour at which someone is free, or write to them when there is none."""
    person, day = p.one("SELECT DISTINCT person, day FROM events ORDER BY person, day")
    taken = [row[0] for row in p.rows("SELECT start FROM events WHERE person = ? AND day = ?", person, day)]
    first = p.pick(taken)
    begin = HOURS.index(first)
    last = p.pick(HOURS[begin : begin + 3])
    title, text = p.title(), p.phrase()
    who, when = p.employee(person), p.day(day)
    p.do("search_events", f"find the events with {who} {when}", person=person, day=day)
    free = [hour for hour in HOURS[begin : HOURS.index(last) + 1] if hour not in taken]
    if free:
        why = f"{free[0]} is the first full hour without an event"
        p.do("create_event", why, title=title, person=person, day=day, start=free[0], minutes=60)
    else:
        p.do("send_email", "every one of these hours is taken", to=person, subject=title, body=text)
    hours = f"at {first}" if last == first else f"at the first full hour from {first} to {last}"
    return (
        f'Book "{title}" with {who} {when} for 60 minutes {hours} at which no event with them starts; if'
        f' there is none, send them an email instead with the subject "{title}" and the text "{text}".'
    )


@template("calendar", 4)
def make_sure_of_start(p: Planner) -> str:
    """Set an event's start unless it is right already, and tell its id."""
    query = "SELECT id, person, day, start FROM events GROUP BY person, day HAVING count(*) = 1 ORDER BY id"
    number, person, day, start = p.one(query)
    wanted = start if p.chance.random() < 0.5 else p.pick(HOURS)
    who, when = p.employee(person), p.day(day)
    p.do("search_events", f"find the event with {who} {when}", person=person, day=day)
    if wanted != start:
        p.do("update_event", f"event {number} starts at {start}, not at {wanted}", id=number, start=wanted)
    p.tell(number)
    return f"Make sure that my event with {who} {when} starts at {wanted}, and tell me the id of that event."


@template("files", 1)
def share(p: Planner) -> str:
    """Share a file."""
    number, name = p.one("SELECT id, name FROM files ORDER BY id")
    person = p.someone()
    who = p.employee(person)
    p.do("search_files", f"find {name}", text=name)
    p.do("share_file", f"{name} is file {number}", id=number, person=person)
    return f"Share the file {name} with {who}."


@template("files", 2)
def move_all_of(p: Planner) -> str:
    """Move what someone owns in a folder."""
    query = "SELECT owner, folder FROM files GROUP BY owner, folder HAVING count(*) BETWEEN 1 AND 6"
    owner, folder = p.one(query + " ORDER BY owner, folder")
    to = p.pick([other for other in FOLDERS if other != folder])
    who = p.employee(owner)
    p.read("search_files", f"find the files of {who} there", folder=folder, owner=owner)
    for number, name in p.rows("SELECT id, name FROM files WHERE owner = ? AND folder = ?", owner, folder):
        p.do("move_file", f"{name} is file {number}", id=number, folder=to)
    return f"Move all files that {who} owns in the {folder} folder to the {to} folder."


@template("files", 3)
def delete_large(p: Planner) -> str:
    """Delete the large files of a folder."""
    folder, limit = p.pick(FOLDERS), p.pick((2500, 3000, 3500, 4000))
    found = p.rows("SELECT id, kb FROM files WHERE folder = ? AND kb > ? ORDER BY name", folder, limit)
    p.need(1 <= len(found) <= 8)
    p.read("search_files", f"find the files in {folder}", folder=folder)
    for number, size in found:
        p.do("delete_file", f"file {number} has {size} kB", id=number)
    return f"Delete every file in the {folder} folder that is larger than {limit} kB."


@template("files", 4)
def share_or_move(p: Planner) -> str:
    """Share a file with someone, or move it first to where shared files belong."""
    number, name, folder = p.one("SELECT id, name, folder FROM files ORDER BY id")
    kept = folder if p.chance.random() < 0.5 else p.pick(FOLDERS)
    person = p.someone()
    who = p.employee(person)
    p.do("search_files", f"find {name}", text=name)
    if folder == kept:
        p.do("share_file", f"{name} is in {kept}", id=number, person=person)
    else:
        p.do("move_file", f"{name} is in {folder}", id=number, folder=kept)
    return (
        f"If the file {name} is in the {kept} folder, share it with {who};"
        f" otherwise move it to the {kept} folder and do not share it."
    )


def _span(p: Planner) -> tuple[str, str]:
    days = [row[0] for row in p.rows("SELECT DISTINCT day FROM visits ORDER BY day")]
    first = p.chance.randrange(len(days) - 3)
    return days[first], days[p.chance.randrange(first + 1, len(days))]


@template("files", 2)
def visits_of(p: Planner) -> str:
    """Tell the visits of a source."""
    (first, last), source = _span(p), p.pick(SOURCES)
    found = p.do("count_visits", f"count the visitors from {source}", first=first, last=last, source=source)
    p.tell(found[source])
    return f"How many visitors came by {source} from {first} to {last}?"


@template("files", 3)
def plot_most(p: Planner) -> str:
    """Plot the source that brought the most, or the fewest, visitors."""
    first, last = _span(p)
    found = p.do("count_visits", "compare the sources", first=first, last=last)
    most = p.chance.random() < 0.5
    best = (max if most else min)(found, key=lambda name: (found[name], name))
    word = "most" if most else "fewest"
    p.do("create_plot", f"{best} brought the {word} visitors", source=best, first=first, last=last)
    return (
        f"Make a plot for the source that brought the {word} visitors from {first} to {last}, of these days."
    )


@template("files", 4)
def task_or_plot(p: Planner) -> str:
    """Plot a source, or make a task when it brought less than another."""
    (first, last), source = _span(p), p.pick(SOURCES)
    other = p.pick([name for name in SOURCES if name != source])
    owner, board, due = p.someone(), p.pick(BOARDS), p.coming_day()
    title = f"look into {source} visitors"
    who = p.employee(owner)
    found = p.do("count_visits", f"compare {source} and {other}", first=first, last=last)
    told = f"{source} brought {found[source]}, {other} {found[other]}"
    if found[source] < found[other]:
        p.do("create_task", told, title=title, owner=owner, board=board, due=due)
    else:
        p.do("create_plot", told, source=source, first=first, last=last)
    return (
        f'If {source} brought fewer visitors than {other} from {first} to {last}, create the task "{title}"'
        f" for {who} on the {board} board, due {due}; otherwise make a plot of {source} over these days."
    )
