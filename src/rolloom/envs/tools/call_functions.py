"""The functions that `tools/function_call-v0` puts on offer: twelve families of four or more."""

from __future__ import annotations

from rolloom.envs.tools.call_kinds import (
    CITIES,
    STREETS,
    Function,
    Parameter,
    choice,
    clock,
    code,
    date,
    email,
    flag,
    integer,
    may,
    minutes,
    need,
    number,
    one_of,
    period,
    person,
    record,
    several,
)

CITY = one_of(CITIES)
PERSON = person()
CURRENCY = choice({"EUR": "euros", "USD": "US dollars", "GBP": "pounds sterling", "JPY": "Japanese yen"})
UNITS = choice({"metric": "metric units", "imperial": "imperial units"})
PRIORITY = choice({"low": "low", "normal": "normal", "high": "high", "urgent": "the very highest"})
ROOM = one_of(("kitchen", "bedroom", "bathroom", "hallway", "office", "living room", "garage", "cellar"))
TOPIC = one_of(
    (
        *("budget review", "hiring plan", "product launch", "team lunch", "site visit", "security audit"),
        *("sales call", "design workshop", "quarterly report", "safety training"),
    )
)
DISH = one_of(
    ("lentil soup", "mushroom risotto", "fish curry", "apple pie", "bean stew", "tomato salad", "ramen")
)
RESTAURANT = one_of(
    ("The Copper Pot", "Casa Verde", "Blue Heron", "Old Mill", "Saffron House", "Lantern Bistro")
)
SONG = one_of(("Blue River", "Night Train", "Paper Moons", "Golden Hour", "Cold Harbour", "Seven Bridges"))
BAND = one_of(("The Lanterns", "Velvet Foxes", "Northern Line", "Paper Kites", "Static Bloom"))
NOTE = one_of(
    (
        *("running late", "meeting moved to room 4", "please call me back", "the parcel has arrived"),
        *("invoice attached", "see you at the station", "the door code has changed"),
    )
)
GOODS = one_of(
    ("desk lamp", "steel kettle", "rain coat", "yoga mat", "travel mug", "wool scarf", "hand drill")
)
STOCK = one_of(("ACME", "NORD", "HELI", "QNTA", "BRVO", "ZETA", "LUMN"))
TAG = one_of(("finance", "travel", "legal", "draft", "archive", "family", "research", "tax"))
FOLDER = one_of(("Reports", "Invoices", "Photos", "Contracts", "Recipes", "Backups", "Slides"))
SERVER = one_of(("web-01", "web-02", "db-01", "cache-03", "queue-02", "build-07"))
LANGUAGE = choice({"de": "German", "fr": "French", "ja": "Japanese", "pt": "Portuguese", "sw": "Swahili"})
SYMPTOM = one_of(("headache", "sore throat", "back pain", "skin rash", "dizziness", "knee pain"))
DRUG = one_of(("ibuprofen", "amoxicillin", "cetirizine", "metformin", "omeprazole"))

ADDRESS = record("{house} {street} in {city}", house=integer(1, 240), street=one_of(STREETS), city=CITY)
PASSENGER = record("{name} (age {age})", name=PERSON, age=integer(18, 90))
LINE = record("{quantity} of article {article}", article=code("A", 5), quantity=integer(2, 40))
PERIOD = period()
RANGE = record("between {low} and {high}", low=integer(5, 90, 5), high=integer(100, 400, 10))


def family(name: str, *rows: tuple[str, str, str, tuple[Parameter, ...]]) -> tuple[Function, ...]:
    """Return the functions of one family, from rows of name, description, order and parameters."""
    return tuple(Function(*row, family=name) for row in rows)


FUNCTIONS: tuple[Function, ...] = (
    *family(
        "weather",
        ("get_current_weather", "Current weather of a city.", "Tell me the weather right now", (
            need("city", CITY, "name of the city", " in {}"),
            may("metric", "units", UNITS, "system of units", ", in {}"),
        )),
        ("get_forecast", "Daily forecast for the coming days.", "Get the forecast", (
            need("city", CITY, "name of the city", " for {}"),
            need("days", integer(2, 14), "number of days ahead", " over the next {} days"),
            may("metric", "units", UNITS, "system of units", ", in {}"),
            may(False, "hourly", flag(), "hour by hour instead of day by day", ", hour by hour{}"),
        )),
        ("get_weather_history", "Weather measured on a past day.", "Look up the recorded weather", (
            need("city", CITY, "name of the city", " of {}"),
            need("date", date(), "day, YYYY-MM-DD", " on {}"),
        )),
        ("set_weather_alert", "Send an alert when a wind speed is exceeded.", "Set up a storm alert", (
            need("city", CITY, "name of the city", " for {}"),
            need("wind_kmh", integer(40, 160, 5), "wind speed in km/h", " at winds above {} km/h"),
            may(None, "email", email(), "who is told", ", sent to {}"),
        )),
    ),
    *family(
        "travel",
        ("search_flights", "Find flights between two cities.", "Find flights", (
            need("origin", CITY, "city of departure", " from {}"),
            need("destination", CITY, "city of arrival", " to {}"),
            need("date", date(), "day of departure, YYYY-MM-DD", " on {}"),
            may("economy", "cabin", choice({"economy": "economy", "business": "business class",
                "first": "first class"}), "cabin class", ", cabin {}"),
            may(1, "adults", integer(2, 6), "number of travellers", ", for {} adults"),
            may(False, "direct_only", flag(), "no stops", ", without stops{}"),
        )),
        ("book_flight", "Book seats on a flight that is known by its number.", "Book flight", (
            need("flight", code("RL", 3), "flight number", " {}"),
            need("passengers", several(PASSENGER, 1, 3), "who flies, in any order", " for {}"),
            may(0, "bags", integer(1, 5), "checked bags", " with {} checked bags"),
        )),
        ("book_hotel", "Book a hotel room.", "Book a hotel room", (
            need("city", CITY, "name of the city", " in {}"),
            need("check_in", date(), "first night, YYYY-MM-DD", ", checking in on {}"),
            need("nights", integer(2, 12), "number of nights", " for {} nights"),
            may(1, "guests", integer(2, 5), "number of guests", " for {} guests"),
            may(False, "breakfast", flag(), "with breakfast", ", breakfast included{}"),
        )),
        ("rent_car", "Rent a car for a number of days.", "Rent a car", (
            need("city", CITY, "where it is picked up", " in {}"),
            need("date", date(), "first day, YYYY-MM-DD", " from {}"),
            need("days", integer(2, 21), "number of days", " for {} days"),
            may("compact", "size", choice({"compact": "small", "family": "family-sized",
                "van": "a van"}), "class of the car", ", size {}"),
        )),
        ("cancel_booking", "Cancel a flight, hotel or car booking.", "Cancel booking", (
            need("booking", code("BK", 5), "booking number", " {}"),
            may(False, "refund", flag(), "ask for the money back", " and ask for a refund{}"),
        )),
    ),
    *family(
        "food",
        ("book_table", "Reserve a table at a restaurant.", "Reserve a table", (
            need("restaurant", RESTAURANT, "name of the restaurant", " at {}"),
            need("people", integer(2, 12), "number of guests", " for {} people"),
            need("date", date(), "day, YYYY-MM-DD", " on {}"),
            need("time", clock(), "HH:MM, 24 hours", " at {}"),
            may(None, "note", one_of(("window seat", "high chair", "quiet corner", "birthday")),
                "wish", ", with the note '{}'"),
        )),
        ("order_food", "Order dishes for delivery.", "Order", (
            need("dishes", several(DISH, 1, 3), "names of the dishes, in any order", " {}"),
            need("address", ADDRESS, "where to deliver", " to be delivered to {}"),
            may(0, "tip_percent", integer(5, 25, 5), "tip in percent", " with a tip of {} percent"),
        )),
        ("find_recipe", "Find a recipe for a dish.", "Find a recipe", (
            need("dish", DISH, "name of the dish", " for {}"),
            may(4, "servings", integer(2, 12), "number of servings", " that serves {}"),
            may(None, "max_minutes", minutes(), "longest time in minutes", ", ready within {}"),
            may(None, "without", several(one_of(("nuts", "milk", "eggs", "gluten", "garlic")), 1, 3),
                "ingredients to avoid, in any order", ", without {}"),
        )),
        ("rate_restaurant", "Leave a rating for a restaurant.", "Rate", (
            need("restaurant", RESTAURANT, "name of the restaurant", " {}"),
            need("stars", integer(1, 5), "1 to 5", " with {} stars"),
            may(None, "comment", one_of(("slow service", "lovely food", "too loud", "great value")),
                "comment", " and the comment '{}'"),
        )),
    ),
    *family(
        "home",
        ("set_temperature", "Set the heating of a room.", "Set the temperature", (
            need("room", ROOM, "name of the room", " in the {}"),
            need("celsius", number(15, 26, 1), "degrees Celsius", " to {} degrees"),
            may(None, "until", clock(), "HH:MM, 24 hours", " until {}"),
        )),
        ("set_lights", "Switch or dim the lights of a room.", "Set the lights", (
            need("room", ROOM, "name of the room", " in the {}"),
            need("brightness", integer(5, 100, 5), "percent", " to {} percent brightness"),
            may("white", "colour", choice({"white": "white", "warm": "a warm tone", "red": "red",
                "blue": "blue"}), "colour", ", colour {}"),
        )),
        ("lock_door", "Lock or unlock a door.", "Change the lock", (
            need("door", one_of(("front door", "back door", "garage door", "cellar door")),
                "which door", " of the {}"),
            need("state", choice({"locked": "shut tight", "unlocked": "open for anyone"}),
                "state wanted", " so that it is {}"),
        )),
        ("start_vacuum", "Let the robot clean rooms.", "Let the robot vacuum clean", (
            need("rooms", several(ROOM, 1, 4), "names of the rooms, in any order", " the {}"),
            may("normal", "power", choice({"quiet": "quietly", "normal": "normally",
                "max": "at full power"}), "suction", ", power {}"),
        )),
        ("set_alarm", "Set an alarm clock.", "Set an alarm", (
            need("time", clock(), "HH:MM, 24 hours", " for {}"),
            may(None, "label", one_of(("gym", "school run", "medicine", "early flight")),
                "name of the alarm", " called '{}'"),
            may(None, "days", several(choice({"mon": "Monday", "tue": "Tuesday", "wed": "Wednesday",
                "thu": "Thursday", "fri": "Friday", "sat": "Saturday", "sun": "Sunday"}), 1, 4),
                "repeat on these days, in any order", ", every {}"),
        )),
    ),
    *family(
        "money",
        ("transfer_money", "Send money from an account to a person.", "Transfer", (
            need("amount", number(5, 900), "how much", " {}"),
            need("currency", CURRENCY, "currency", " {}"),
            need("recipient", PERSON, "who gets it", " to {}"),
            may("checking", "account", choice({"checking": "my everyday account",
                "savings": "my savings", "joint": "our joint account"}), "from where", " from {}"),
            may(None, "reference", code("INV"), "payment reference", " with reference {}"),
        )),
        ("convert_currency", "Convert an amount at today's rate.", "Convert", (
            need("amount", number(5, 5_000), "how much", " {}"),
            need("source", CURRENCY, "currency of the amount", " {}"),
            need("target", CURRENCY, "currency wanted", " into {}"),
        )),
        ("get_stock_price", "Price of a share.", "Get the share price", (
            need("symbol", STOCK, "ticker symbol", " of {}"),
            may(None, "date", date(), "YYYY-MM-DD; today if left out", " on {}"),
        )),
        ("buy_stock", "Buy shares.", "Buy", (
            need("quantity", integer(2, 400), "number of shares", " {} shares"),
            need("symbol", STOCK, "ticker symbol", " of {}"),
            may(None, "limit_price", number(5, 300), "highest price a share",
                " at no more than {} each"),
        )),
        ("pay_invoice", "Pay an invoice.", "Pay invoice", (
            need("invoice", code("INV"), "invoice number", " {}"),
            may(None, "date", date(), "when, YYYY-MM-DD; today if left out", " on {}"),
        )),
    ),
    *family(
        "calendar",
        ("create_event", "Put an event into the calendar.", "Schedule an event", (
            need("title", TOPIC, "title", " called '{}'"),
            need("date", date(), "day, YYYY-MM-DD", " on {}"),
            need("start", clock(), "HH:MM, 24 hours", " at {}"),
            may(60, "minutes", minutes(), "length in minutes", ", lasting {}"),
            may(None, "guests", several(email(), 1, 3), "addresses, in any order", ", inviting {}"),
            may(None, "place", ROOM, "where", ", in the {}"),
        )),
        ("move_event", "Move an event to another time.", "Move event", (
            need("event", code("EV"), "event number", " {}"),
            need("date", date(), "new day, YYYY-MM-DD", " to {}"),
            may(None, "start", clock(), "new time, HH:MM", " at {}"),
        )),
        ("delete_event", "Delete an event.", "Delete event", (
            need("event", code("EV"), "event number", " {}"),
            may(False, "notify", flag(), "tell the guests", " and tell the guests{}"),
        )),
        ("find_free_time", "Find a gap that suits all.", "Find a free slot", (
            need("people", several(PERSON, 2, 4), "names, in any order", " for {}"),
            need("minutes", minutes(), "length in minutes", " of {}"),
            may(None, "period", PERIOD, "days to look at, YYYY-MM-DD", " {}"),
        )),
        ("set_reminder", "Remind me of something.", "Remind me", (
            need("text", NOTE, "what of", " with the text '{}'"),
            need("date", date(), "day, YYYY-MM-DD", " on {}"),
            may("09:00", "time", clock(), "HH:MM, 24 hours", " at {}"),
        )),
    ),
    *family(
        "messages",
        ("send_email", "Send an e-mail.", "Send an e-mail", (
            need("to", email(), "address", " to {}"),
            need("subject", TOPIC, "subject", " with the subject '{}'"),
            need("body", NOTE, "text", " and the text '{}'"),
            may(None, "cc", several(email(), 1, 2), "copies, in any order", ", with copies to {}"),
            may("normal", "priority", PRIORITY, "priority", ", priority {}"),
        )),
        ("send_sms", "Send a text message to a person.", "Text", (
            need("person", PERSON, "who", " {}"),
            need("text", NOTE, "text", " '{}'"),
        )),
        ("post_message", "Post to a chat channel.", "Post", (
            need("text", NOTE, "text", " '{}'"),
            need("channel", one_of(("#general", "#random", "#support", "#releases")), "channel", " in {}"),
            may(False, "pin", flag(), "keep it on top", " and pin it{}"),
        )),
        ("translate_text", "Translate a text.", "Translate", (
            need("text", NOTE, "text", " '{}'"),
            need("language", LANGUAGE, "language code", " into {}"),
            may(False, "formal", flag(), "polite form", ", in the polite form{}"),
        )),
    ),
    *family(
        "music",
        ("play_song", "Play a song.", "Play the song", (
            need("title", SONG, "title", " '{}'"),
            may(None, "artist", BAND, "who plays it", " by {}"),
            may(None, "room", ROOM, "where", " in the {}"),
        )),
        ("create_playlist", "Make a playlist.", "Create a playlist", (
            need("name", one_of(("Morning", "Road trip", "Focus", "Workout")), "name", " named '{}'"),
            need("songs", several(SONG, 2, 4), "titles, in any order", " with the songs {}"),
            may(False, "public", flag(), "all can see it", " that everybody can see{}"),
        )),
        ("set_volume", "Set the loudness.", "Set the volume", (
            need("percent", integer(5, 100, 5), "0 to 100", " to {} percent"),
            may(None, "room", ROOM, "where", " in the {}"),
        )),
        ("find_concerts", "Find concerts of an artist.", "Find concerts", (
            need("artist", BAND, "artist", " of {}"),
            need("city", CITY, "city", " in {}"),
            may(50, "radius_km", integer(10, 200, 10), "how far around, in km", " and {} km around"),
            may(None, "period", PERIOD, "days, YYYY-MM-DD", ", {}"),
        )),
    ),
    *family(
        "shop",
        ("search_products", "Search a shop.", "Search the shop", (
            need("query", GOODS, "what for", " for a {}"),
            may(None, "price", RANGE, "lowest and highest price", " that costs {}"),
            may("relevance", "sort", choice({"relevance": "best match first", "price_up":
                "cheapest first", "price_down": "dearest first", "rating": "best rated first"}),
                "order of the results", ", sorted {}"),
        )),
        ("place_order", "Order articles by number.", "Order", (
            need("lines", several(LINE, 1, 3), "articles, in any order", " {}"),
            need("ship_to", ADDRESS, "address", ", shipped to {}"),
            may("standard", "speed", choice({"standard": "standard", "express": "as fast as possible",
                "pickup": "for pickup"}), "kind of delivery", ", delivery {}"),
        )),
        ("track_parcel", "Where a parcel is.", "Track parcel", (
            need("parcel", code("PK", 6), "parcel number", " {}"),
        )),
        ("return_article", "Send an article back.", "Return article", (
            need("article", code("A", 5), "article number", " {}"),
            need("order", code("OR", 5), "order number", " from order {}"),
            need("reason", choice({"damaged": "it arrived broken", "wrong_size": "it does not fit",
                "late": "it came too late", "other": "of another reason"}), "reason", " because {}"),
        )),
        ("apply_coupon", "Use a coupon on an order.", "Apply coupon", (
            need("coupon", code("SAVE", 3), "coupon", " {}"),
            need("order", code("OR", 5), "order number", " to order {}"),
        )),
    ),
    *family(
        "health",
        ("book_doctor", "Make an appointment with a doctor.", "Book a doctor's appointment", (
            need("patient", PERSON, "who", " for {}"),
            need("date", date(), "day, YYYY-MM-DD", " on {}"),
            need("symptoms", several(SYMPTOM, 1, 3), "complaints, in any order", " about {}"),
            may(False, "video", flag(), "over video", ", by video call{}"),
        )),
        ("refill_prescription", "Order a medicine again.", "Refill the prescription", (
            need("medicine", DRUG, "name", " for {}"),
            need("patient", PERSON, "who for", " of {}"),
            may(30, "tablets", integer(20, 120, 10), "how many", " with {} tablets"),
        )),
        ("log_workout", "Note a workout.", "Log a workout", (
            need("sport", choice({"run": "running", "swim": "swimming", "row": "rowing",
                "bike": "cycling"}), "sport", " of {}"),
            need("minutes", minutes(), "length in minutes", " for {}"),
            may(None, "km", number(1, 60, 1), "distance in km", " over {} km"),
        )),
        ("log_weight", "Note a body weight.", "Log a weight", (
            need("kg", number(45, 120, 1), "weight in kg", " of {} kg"),
            may(None, "date", date(), "day, YYYY-MM-DD; today if left out", " on {}"),
        )),
    ),
    *family(
        "files",
        ("create_folder", "Make a folder.", "Create a folder", (
            need("name", FOLDER, "name", " named {}"),
            may(None, "parent", FOLDER, "inside which", " inside {}"),
        )),
        ("share_file", "Give someone access to a file.", "Share file", (
            need("file", code("DOC", 5), "file number", " {}"),
            need("person", email(), "address", " with {}"),
            may("view", "role", choice({"view": "to look at", "comment": "to comment on",
                "edit": "to change"}), "rights", ", role {}"),
            may(None, "expires", date(), "last day, YYYY-MM-DD", ", until {}"),
        )),
        ("tag_file", "Set the tags of a file.", "Tag file", (
            need("file", code("DOC", 5), "file number", " {}"),
            need("tags", several(TAG, 1, 4), "tags, in any order", " with {}"),
        )),
        ("search_files", "Search the files.", "Search my files", (
            need("text", TOPIC, "words", " for '{}'"),
            may(None, "folder", FOLDER, "where", " in {}"),
            may(None, "changed", PERIOD, "days of the last change, YYYY-MM-DD", ", changed {}"),
            may(10, "limit", integer(15, 90, 5), "most results", ", at most {} results"),
        )),
    ),
    *family(
        "servers",
        ("restart_server", "Restart a server.", "Restart", (
            need("server", SERVER, "name", " {}"),
            may(False, "force", flag(), "do not wait for running jobs", " without waiting for jobs{}"),
            may(None, "at", clock(), "HH:MM, 24 hours; now if left out", " at {}"),
        )),
        ("scale_service", "Set the number of copies of a service.", "Scale the service", (
            need("service", one_of(("checkout", "search", "login", "billing", "images")), "name", " {}"),
            need("replicas", integer(2, 40), "copies", " to {} replicas"),
            may(None, "limits", record("{cpu} CPUs and {memory_gb} GB each", cpu=integer(1, 16),
                memory_gb=integer(1, 64)), "resources of a copy", " with {}"),
        )),
        ("get_metrics", "Read a metric of servers.", "Show the metric", (
            need("metric", choice({"cpu": "processor load", "memory": "memory in use",
                "disk": "disk space in use", "latency": "response time"}), "metric", " {}"),
            need("servers", several(SERVER, 1, 3), "names, in any order", " of {}"),
            may(60, "minutes", minutes(), "how far back", " over the last {}"),
        )),
        ("open_incident", "Report an outage.", "Open an incident", (
            need("server", SERVER, "name", " for {}"),
            need("severity", integer(1, 5), "1 (worst) to 5", " with severity {}"),
            may(None, "assignee", PERSON, "who deals with it", ", assigned to {}"),
        )),
        ("rotate_logs", "Archive the logs of a server.", "Archive the logs", (
            need("server", SERVER, "name", " of {}"),
            need("keep_days", integer(5, 90, 5), "days that stay", ", keeping {} days"),
        )),
    ),
)  # fmt: skip
