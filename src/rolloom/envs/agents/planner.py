"""Works out what a right solution of a workplace problem does; the final state is held against it.

A step of a plan is `{"tool", "args", "goal", "fact", "slip"}`: the call, what it is for, what an earlier
result says that leads to it ("" for none), and a wrong reading of that result ("" for none).
"""

from __future__ import annotations

from typing import Any

from rolloom.envs.agents.office import FIRST_HOUR, LAST_HOUR, Tables

Step = dict[str, Any]
ORDER_COLUMNS = ("id", "customer", "item", "price", "paid", "status")
BOSS = "boss@work"
DEAR = 80

POLICIES = (
    "nothing is shipped to rome: cancel such an order instead",
    "never ship an unpaid order: email its customer instead: pay",
    "never cancel a shipped order: email its customer instead: sorry",
    f"before you cancel an order dearer than {DEAR}, email {BOSS}: cancel ID",
    "no event starts before 11 or at 13",
    "a customer with an event on a day gets no other on it: email the customer instead: later",
    f"at the end email {BOSS} the number of orders you cancelled: cancelled N",
)
NO_ROME, UNPAID, SHIPPED, TELL_BOSS, HOURS, ONE_EVENT, REPORT = range(len(POLICIES))


class _Planner:
    """Walks through the jobs, keeping the state that the steps so far have led to."""

    def __init__(self, tables: Tables, policies: list[int]) -> None:
        self.policies = policies
        self.customers = {row[0]: row for row in tables["customers"]}
        self.orders: list[dict[str, Any]] = [
            dict(zip(ORDER_COLUMNS, row, strict=True)) for row in tables["orders"]
        ]
        self.events = {(day, hour): customer for day, hour, customer in tables["events"]}
        self.steps: list[Step] = []
        self.found: set[str] = set()
        self.cancelled = 0
        self.solvable = True

    def add(self, tool: str, goal: str, fact: str = "", slip: str = "", /, **args: Any) -> None:
        self.steps.append({"tool": tool, "args": args, "goal": goal, "fact": fact, "slip": slip})

    def read(self, tool: str, goal: str, **args: Any) -> None:
        """Add a step that only reads, unless the same one has been taken."""
        if not any(step["tool"] == tool and step["args"] == args for step in self.steps):
            self.add(tool, goal, **args)

    def find(self, text: str, goal: str) -> None:
        """Add a look-up of customers by the start of their name or by their city."""
        self.read("find_customers", goal, text=text)
        self.found |= {
            name for name, city, _ in self.customers.values() if name.startswith(text) or city == text
        }

    def know(self, customer: str, known_as: str = "") -> None:
        """Make sure that the customer's row has been read."""
        if customer not in self.found:
            self.find(known_as or customer, f"find {known_as or customer}")

    def email(self, customer: str, text: str, known_as: str = "") -> None:
        address = self.customers[customer][2]
        self.know(customer, known_as)
        fact = f"the email of {customer} is {address}"
        self.add("send_email", f"email {customer}: {text}", fact, to=address, text=text)

    def act(self, job: dict[str, Any], customer: str) -> None:
        """Cancel or ship the orders that a job selects, as the policies have it."""
        self.read("find_orders", f"find the orders of {customer}", customer=customer)
        own = [order for order in self.orders if order["customer"] == customer]
        for order in _select(own, job["select"]):
            action = job["action"]
            if action == "ship" and NO_ROME in self.policies:
                self.know(customer)
                if self.customers[customer][1] == "rome":
                    action = "cancel"
            if action == "ship" and UNPAID in self.policies and order["paid"] == "unpaid":
                self.email(customer, "pay")
            elif action == "cancel" and SHIPPED in self.policies and order["status"] == "shipped":
                self.email(customer, "sorry")
            else:
                self.finish(order, action, job["select"], own)

    def finish(self, order: dict[str, Any], action: str, select: str, own: list[dict[str, Any]]) -> None:
        number = order["id"]
        name = "the " + (f"{select} order" if select in ("cheapest", "dearest") else order["item"])
        others = [other["id"] for other in own if other is not order]
        slip = f"{name} is order {others[0]}" if others else ""
        if action == "cancel" and TELL_BOSS in self.policies and order["price"] > DEAR:
            told, cost = f"cancel {number}", f"order {number} costs {order['price']}"
            self.add("send_email", f"email the boss: {told}", cost, to=BOSS, text=told)
        fact = f"{name} is order {number}"
        self.add(f"{action}_order", f"{action} order {number}", fact, slip, order=number)
        if action == "cancel" and order["status"] != "cancelled":
            self.cancelled += 1
        order["status"] = "cancelled" if action == "cancel" else "shipped"

    def free_hour(self, day: str) -> int | None:
        self.read("list_events", f"list the events of {day}", day=day)
        for hour in range(FIRST_HOUR, LAST_HOUR + 1):
            if (day, hour) not in self.events and not (HOURS in self.policies and (hour < 11 or hour == 13)):
                return hour
        return None

    def book(self, customer: str, day: str) -> bool:
        """Add an event at the first free hour; return False when a policy turned it into an email."""
        hour = self.free_hour(day)
        busy = any(when[0] == day and who == customer for when, who in self.events.items())
        if ONE_EVENT in self.policies and busy:
            self.email(customer, "later")
            return False
        if hour is None:
            self.solvable = False
            return False
        self.events[day, hour] = customer
        fact = f"the first free hour of {day} is {hour}"
        slip = f"the first free hour of {day} is {hour + 1}"
        self.add("add_event", f"add {customer} at {hour}", fact, slip, day=day, hour=hour, customer=customer)
        return True

    def move(self, day: str, to: str) -> None:
        """Move the first event of a day to the first free hour of another."""
        self.read("list_events", f"list the events of {day}", day=day)
        hours = sorted(hour for when, hour in self.events if when == day)
        if not hours:
            self.solvable = False
            return
        customer = self.events[day, hours[0]]
        if self.book(customer, to):
            del self.events[day, hours[0]]
            fact = f"the first event of {day} is {customer} at {hours[0]}"
            self.add("remove_event", f"remove {hours[0]} on {day}", fact, day=day, hour=hours[0])


def _select(orders: list[dict[str, Any]], select: str) -> list[dict[str, Any]]:
    if select in ("all paid", "all unpaid"):
        return [order for order in orders if order["paid"] == select.split()[1]]
    if select in ("cheapest", "dearest"):
        by_price = sorted(orders, key=lambda order: order["price"])
        return by_price[:1] if select == "cheapest" else by_price[-1:]
    return [order for order in orders if order["item"] == select]


def plan(tables: Tables, jobs: list[dict[str, Any]], policies: list[int]) -> list[Step] | None:
    """Return the steps of a right solution, or None when a job cannot be done."""
    planner = _Planner(tables, policies)
    for job in jobs:
        customer = job["customer"]
        if job["kind"] == "order":
            planner.act(job, customer)
        elif job["kind"] == "city":
            planner.find(job["city"], f"find the customers of {job['city']}")
            for name, city, _ in planner.customers.values():
                if city == job["city"]:
                    planner.act(job, name)
        elif job["kind"] == "email":
            planner.email(customer, job["text"], customer.split()[0])
        elif job["kind"] == "meet":
            planner.know(customer, customer.split()[0])
            planner.book(customer, job["day"])
        else:
            planner.move(job["day"], job["to"])
    if REPORT in policies:
        text = f"cancelled {planner.cancelled}"
        planner.add("send_email", f"email the boss: {text}", to=BOSS, text=text)
    return planner.steps if planner.solvable else None
