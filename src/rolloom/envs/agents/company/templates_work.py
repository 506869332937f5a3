"""Requests about customers, orders, tasks, and ones that cross from one to another."""

from __future__ import annotations

from rolloom.envs.agents.company.planner import Planner, template
from rolloom.envs.agents.company.world import (
    BOARDS,
    COMPANIES,
    FIRST,
    ITEMS,
    LAST,
    PRODUCTS,
    STAGES,
    TASK_STATES,
)

ANY_TASK = "SELECT id, title, owner, status FROM tasks WHERE id < 10000 ORDER BY id"
OPEN_OF = "SELECT id, title FROM tasks WHERE owner = ? AND status != 'done' ORDER BY due, id"


def _any_customer(p: Planner) -> int:
    return p.one("SELECT id FROM customers WHERE id < 10000 ORDER BY id")[0]


@template("crm", 1)
def set_stage(p: Planner) -> str:
    """Change a customer's stage."""
    number = _any_customer(p)
    before = p.rows("SELECT stage FROM customers WHERE id = ?", number)[0][0]
    stage = p.pick([name for name in STAGES if name != before])
    who = p.customer(number)
    p.do("update_customer", f"it is customer {number}", id=number, stage=stage)
    return p.pick((f"Set {who} to the stage {stage}.", f"Change the stage of {who} to {stage}."))


@template("crm", 1)
def add_customer(p: Planner) -> str:
    """Add a customer."""
    name, company, product = f"{p.pick(FIRST)} {p.pick(LAST)}", p.pick(COMPANIES), p.pick(PRODUCTS)
    p.need(not p.rows("SELECT 1 FROM customers WHERE name = ?", name))
    email, owner = f"{name.split()[0].lower()}@{company.lower()}.example", p.someone()
    who = p.employee(owner)
    p.do(
        *("add_customer", "add the customer"),
        **{"name": name, "company": company, "email": email, "product": product, "owner": owner},
    )
    return f"Add the customer {name} of {company} ({email}), interested in {product}, owned by {who}."


@template("crm", 2)
def same_owner(p: Planner) -> str:
    """Give a customer to the owner of another."""
    one, other = _any_customer(p), _any_customer(p)
    owners = [p.rows("SELECT owner FROM customers WHERE id = ?", number)[0][0] for number in (one, other)]
    p.need(owners[0] != owners[1])
    first, second = p.customer(one), p.customer(other)
    p.do("update_customer", f"{second} is owned by {owners[1]}", id=one, owner=owners[1])
    return f"Give {first} to the one who owns {second}."


@template("crm", 3)
def hand_over(p: Planner) -> str:
    """Reassign all customers of someone in a stage."""
    query = "SELECT owner, stage FROM customers GROUP BY owner, stage HAVING count(*) BETWEEN 1 AND 6"
    owner, stage = p.one(query + " ORDER BY owner, stage")
    to = p.someone(besides=owner)
    old, new = p.employee(owner), p.employee(to)
    p.read("search_customers", f"find the {stage} customers of {old}", stage=stage, owner=owner)
    for (number,) in p.rows("SELECT id FROM customers WHERE owner = ? AND stage = ?", owner, stage):
        p.do("update_customer", f"customer {number} is in stage {stage}", id=number, owner=to)
    return f"{new} takes over all customers of {old} that are in the stage {stage}."


@template("crm", 3)
def drop_lost(p: Planner) -> str:
    """Delete lost customers of a product."""
    query = (
        "SELECT product FROM customers WHERE stage = 'lost' GROUP BY product HAVING count(*) BETWEEN 1 AND 6"
    )
    product = p.one(query + " ORDER BY product")[0]
    p.read("search_customers", f"find the lost customers of {product}", stage="lost", product=product)
    for (number,) in p.rows("SELECT id FROM customers WHERE stage = 'lost' AND product = ?", product):
        p.do("delete_customer", f"customer {number} is lost", id=number)
    return f"Delete every customer for {product} whose stage is lost."


@template("crm", 4)
def make_sure_of_owner(p: Planner) -> str:
    """Set a customer's owner unless it is right already, and tell the customer's id."""
    number = _any_customer(p)
    before = p.rows("SELECT owner FROM customers WHERE id = ?", number)[0][0]
    owner = before if p.chance.random() < 0.5 else p.someone()
    who, name = p.customer(number), p.employee(owner)
    if owner != before:
        p.do("update_customer", f"{who} is owned by {before}", id=number, owner=owner)
    p.tell(number)
    return f"Make sure that {who} is owned by {name}, and tell me the id of that customer."


ONE_ORDER = (
    "SELECT id, customer, item, status, quantity FROM orders WHERE id < 10000 AND customer < 10000"
    " GROUP BY customer, item HAVING count(*) = 1 ORDER BY id"
)
"""Orders that customer and item name without doubt."""


def _orders_of(p: Planner, customer: int) -> str:
    p.need(p.rows("SELECT 1 FROM customers WHERE id = ?", customer))
    who = p.customer(customer)
    p.read("search_orders", f"find the orders of {who}", customer=customer)
    return who


@template("crm", 2)
def change_quantity(p: Planner) -> str:
    """Change how many pieces an order is for."""
    number, customer, item, _, before = p.one(ONE_ORDER)
    quantity = p.pick([n for n in range(1, 20) if n != before])
    who = _orders_of(p, customer)
    p.do("update_order", f"the {item} is order {number}", id=number, quantity=quantity)
    return f"The {item} order of {who} shall be for {quantity} pieces."


@template("crm", 2)
def place_order(p: Planner) -> str:
    """Place an order."""
    number, item = _any_customer(p), p.pick(ITEMS)
    quantity, price = p.chance.randrange(1, 20), p.chance.randrange(20, 400)
    who = p.customer(number)
    why = f"{who} has id {number}"
    p.do("create_order", why, customer=number, item=item, quantity=quantity, price=price)
    return f"Place an order for {who}: {quantity} times {item} at {price} each."


@template("crm", 3)
def cancel_pending(p: Planner) -> str:
    """Cancel all pending orders of a customer."""
    query = "SELECT customer FROM orders WHERE status = 'pending' AND customer < 10000 GROUP BY customer"
    customer = p.one(query + " HAVING count(*) BETWEEN 1 AND 6 ORDER BY customer")[0]
    who = _orders_of(p, customer)
    query = "SELECT id FROM orders WHERE customer = ? AND status = 'pending' ORDER BY id"
    for (number,) in p.rows(query, customer):
        p.do("update_order", f"order {number} is pending", id=number, status="cancelled")
    return f"Cancel all pending orders of {who}."


@template("crm", 3)
def order_value(p: Planner) -> str:
    """Tell what a customer's orders of a status are worth."""
    customer, status = p.one("SELECT DISTINCT customer, status FROM orders ORDER BY customer, status")
    who = _orders_of(p, customer)
    query = "SELECT sum(quantity * price) FROM orders WHERE customer = ? AND status = ?"
    p.tell(p.rows(query, customer, status)[0][0])
    return f"What are all {status} orders of {who} worth together (quantity times price)? Number only."


@template("crm", 4)
def cancel_or_write(p: Planner) -> str:
    """Cancel an order if it can still be, else write to the customer."""
    number, customer, item, status, _ = p.one(ONE_ORDER)
    who, text = _orders_of(p, customer), p.phrase()
    if status == "pending":
        p.do("update_order", f"the {item} is order {number} and pending", id=number, status="cancelled")
    else:
        to = p.rows("SELECT email FROM customers WHERE id = ?", customer)[0][0]
        p.do("send_email", f"order {number} is {status}", to=to, subject=f"your {item}", body=text)
    return (
        f"If the {item} order of {who} is still pending, cancel it; otherwise send the customer an email"
        f' with the subject "your {item}" and the text "{text}".'
    )


@template("crm", 4)
def make_sure_shipped(p: Planner) -> str:
    """Ship an order unless that was done, and tell its id."""
    number, customer, item, status, _ = p.one(ONE_ORDER)
    p.need(status in ("pending", "shipped"))
    who = _orders_of(p, customer)
    if status == "pending":
        p.do("update_order", f"order {number} is still pending", id=number, status="shipped")
    p.tell(number)
    return f"Make sure that the {item} order of {who} is marked shipped, and tell me the id of that order."


@template("tasks", 1)
def create_task(p: Planner) -> str:
    """Add a task."""
    title, board, due, owner = f"prepare the {p.title()}", p.pick(BOARDS), p.coming_day(), p.someone()
    who = p.employee(owner)
    p.do("create_task", f"{who} is {owner}", title=title, owner=owner, board=board, due=due)
    return f'Create the task "{title}" for {who} on the {board} board, due {due}.'


@template("tasks", 1)
def set_status(p: Planner) -> str:
    """Change a task's status."""
    number, title, _, before = p.one(ANY_TASK)
    status = p.pick([name for name in TASK_STATES if name != before])
    p.do("search_tasks", "find the task", text=title)
    p.do("update_task", f"it is task {number}", id=number, status=status)
    return f'Set the task "{title}" to {status}.'


@template("tasks", 2)
def reassign(p: Planner) -> str:
    """Give a task to someone else."""
    number, title, before, _ = p.one(ANY_TASK)
    owner = p.someone(besides=before)
    p.do("search_tasks", "find the task", text=title)
    who = p.employee(owner)
    p.do("update_task", f"it is task {number}", id=number, owner=owner)
    return f'{who} takes over the task "{title}".'


@template("tasks", 3)
def overdue_to_backlog(p: Planner) -> str:
    """Put someone's overdue tasks back."""
    now = p.company.today.isoformat()
    query = (
        "SELECT owner FROM tasks WHERE status IN ('in progress', 'in review') AND due < ?"
        " GROUP BY owner HAVING count(*) BETWEEN 1 AND 8 ORDER BY owner"
    )
    owner = p.one(query, now)[0]
    who = p.employee(owner)
    p.read("search_tasks", f"find the overdue tasks of {who}", owner=owner, due_before=now)
    query = (
        "SELECT id, status FROM tasks WHERE owner = ? AND status IN ('in progress', 'in review') AND due < ?"
    )
    for number, status in p.rows(query + " ORDER BY due, id", owner, now):
        p.do("update_task", f"task {number} is {status}", id=number, status="backlog")
    return (
        f"Move the tasks of {who} that were due before today and are in progress or in review to the backlog."
    )


@template("tasks", 3)
def delete_done(p: Planner) -> str:
    """Delete the done tasks of a board."""
    query = "SELECT board FROM tasks WHERE status = 'done' GROUP BY board"
    board = p.one(query + " HAVING count(*) BETWEEN 1 AND 8 ORDER BY board")[0]
    p.read("search_tasks", f"find the done tasks of {board}", board=board, status="done")
    for (number,) in p.rows("SELECT id FROM tasks WHERE board = ? AND status = 'done'", board):
        p.do("delete_task", f"task {number} is done", id=number)
    return f"Delete all tasks on the {board} board that are done."


@template("tasks", 4)
def to_the_least_busy(p: Planner) -> str:
    """Give a task to the one of two with fewer open tasks."""
    number, title, before, _ = p.one(ANY_TASK)
    owners = [
        row[0] for row in p.rows("SELECT DISTINCT owner FROM tasks WHERE owner != ? ORDER BY owner", before)
    ]
    p.need(len(owners) >= 2)
    one, other = p.chance.sample(owners, 2)
    first, second = p.employee(one), p.employee(other)
    p.do("search_tasks", "find the task", text=title)
    counts = []
    for owner, who in ((one, first), (other, second)):
        p.read("search_tasks", f"count the open tasks of {who}", owner=owner)
        counts.append(len(p.rows(OPEN_OF, owner)))
    chosen = other if counts[1] < counts[0] else one
    why = f"{first} has {counts[0]} open tasks, {second} {counts[1]}"
    p.do("update_task", why, id=number, owner=chosen)
    return (
        f'Give the task "{title}" to {first} or {second}, whoever has fewer tasks that are not done'
        f" ({first} when they have as many)."
    )


@template("tasks", 4)
def extend_or_finish(p: Planner) -> str:
    """Move a task's due date unless it is done; tell its id."""
    number, title, _, status = p.one(ANY_TASK)
    due = p.coming_day()
    p.do("search_tasks", "find the task", text=title)
    if status != "done":
        p.do("update_task", f"task {number} is {status}", id=number, due=due)
    p.tell(number)
    return (
        f'If the task "{title}" is not done yet, change its due date to {due}; if it is done, change nothing.'
        " Tell me the id of the task in any case."
    )


@template("cross", 3)
def cancel_and_write(p: Planner) -> str:
    """Delete the events with someone on a day and write to them."""
    person, day = p.one("SELECT DISTINCT person, day FROM events ORDER BY person, day")
    who, when, text = p.employee(person), p.day(day), p.phrase()
    p.do("search_events", f"find the events with {who} {when}", person=person, day=day)
    for (number,) in p.rows("SELECT id FROM events WHERE person = ? AND day = ?", person, day):
        p.do("delete_event", f"event {number} is {when}", id=number)
    p.do("send_email", f"{who} has to know", to=person, subject="cancelled", body=text)
    return (
        f'Delete all my events with {who} {when}, and send them an email: subject "cancelled", text "{text}".'
    )


@template("cross", 3)
def write_to_owner_of_task(p: Planner) -> str:
    """Write to whoever owns a task, with its status."""
    number, title, owner, status = p.one(ANY_TASK)
    text = p.phrase()
    p.do("search_tasks", "find the task", text=title)
    why = f"task {number} belongs to {owner} and is {status}"
    p.do("send_email", why, to=owner, subject=status, body=text)
    return f'Send the owner of the task "{title}" an email with its status as subject and the text "{text}".'


@template("cross", 3)
def meet_the_owner(p: Planner) -> str:
    """Book a meeting with the owner of a customer."""
    customer, title, day = _any_customer(p), p.title(), p.coming_day()
    owner = p.rows("SELECT owner FROM customers WHERE id = ?", customer)[0][0]
    who, when = p.customer(customer), p.day(day)
    p.do(
        *("create_event", f"{who} is owned by {owner}"),
        **{"title": title, "person": owner, "day": day, "start": "11:00", "minutes": 45},
    )
    return f'Book "{title}" {when} at 11:00 for 45 minutes with the colleague who owns {who}.'


@template("cross", 4)
def manager_report(p: Planner) -> str:
    """Tell a team's manager how many tasks of someone in the team are open."""
    owner = p.one("SELECT DISTINCT owner FROM tasks ORDER BY owner")[0]
    team = p.rows("SELECT team FROM employees WHERE email = ?", owner)[0][0]
    manager = p.rows("SELECT email FROM employees WHERE team = ? AND manager = 1", team)[0][0]
    who = p.employee(owner)
    p.read("search_tasks", f"find the tasks of {who}", owner=owner)
    count = len(p.rows(OPEN_OF, owner))
    p.read("find_employees", f"find the manager of {team}", team=team)
    why = f"{count} tasks of {who} are not done, and {manager} manages {team}"
    p.do("send_email", why, to=manager, subject="open tasks", body=f"{count} open tasks")
    return (
        f"Count the tasks of {who} that are not done, and tell the manager of their team (themselves, if it"
        ' is they) by email: subject "open tasks", text "N open tasks" with the number for N.'
    )


@template("cross", 4)
def best_customer(p: Planner) -> str:
    """Win the customer with the dearest order of an item, and ship it."""
    query = "SELECT item FROM orders WHERE customer < 10000 GROUP BY item HAVING count(*) BETWEEN 2 AND 20"
    item = p.one(query + " ORDER BY item")[0]
    query = (
        "SELECT customer, quantity * price AS worth, id FROM orders WHERE item = ? ORDER BY worth DESC, id"
    )
    found = p.rows(query, item)
    p.need(found[0][1] > found[1][1] and p.rows("SELECT 1 FROM customers WHERE id = ?", found[0][0]))
    before = (
        *p.rows("SELECT stage FROM customers WHERE id = ?", found[0][0]),
        *p.rows("SELECT status FROM orders WHERE id = ?", found[0][2]),
    )
    p.need(before != (("won",), ("shipped",)))
    p.read("search_orders", f"find the {item} orders", item=item)
    why = f"order {found[0][2]} is worth most: {found[0][1]}"
    p.do("update_customer", why, id=found[0][0], stage="won")
    p.do("update_order", f"it is order {found[0][2]}", id=found[0][2], status="shipped")
    return (
        f"Among all {item} orders, take the one that is worth most (quantity times price): mark it shipped"
        " and set its customer to the stage won."
    )


@template("cross", 4)
def follow_up(p: Planner) -> str:
    """Make a task of the newest email of a customer, unless its reference is even."""
    query = (
        "SELECT DISTINCT customers.id, customers.email, customers.owner FROM customers JOIN emails"
        " ON emails.sender = customers.email ORDER BY customers.id"
    )
    customer, address, owner = p.one(query)
    query = "SELECT id FROM emails WHERE sender = ? AND folder != 'sent' ORDER BY sent DESC, id"
    who, mail, due = p.customer(customer), p.rows(query, address), p.coming_day()
    p.need(mail)
    p.do("search_emails", f"find the emails of {who}", sender=address)
    body = p.do("read_email", f"the newest is {mail[0][0]}", id=mail[0][0])["body"]
    code = int(body.partition("reference ")[2][:3])
    if code % 2:
        title = f"follow up on {code}"
        p.do("create_task", f"{code} is odd", title=title, owner=owner, board="marketing", due=due)
    else:
        p.need(p.rows("SELECT 1 FROM emails WHERE id = ? AND (folder != 'archive' OR NOT read)", mail[0][0]))
        p.do("update_email", f"{code} is even", id=mail[0][0], folder="archive", read=True)
    return (
        f"Read the newest email from {who}. If its reference number is odd, create the task"
        f' "follow up on N" (the number for N) for the colleague who owns that customer on the marketing'
        f" board, due {due}; otherwise move the email to the archive and mark it read."
    )
