"""The days of Debian's cron (3.0pl1), transcribed from its entry.c and cron.c: an oracle that shares nothing with us.

The names are those of the C code. Only what decides about days is here: minute and hour are not looked at.
"""

from dataclasses import dataclass, field

DOM_STAR, DOW_STAR = 0x04, 0x08
FIRST_DOM, LAST_DOM = 1, 31
FIRST_DOW, LAST_DOW = 0, 7
DOW_NAMES = ["sun", "mon", "tue", "wed", "thu", "fri", "sat", "sun"]


@dataclass
class Entry:
    flags: int = 0
    dom: set[int] = field(default_factory=set)
    dow: set[int] = field(default_factory=set)


def load_entry(line):
    _, _, day, _, weekday = line.split()
    e = Entry()
    # if (ch == '*') e->flags |= DOM_STAR;
    if day[0] == "*":
        e.flags |= DOM_STAR
    get_list(e.dom, FIRST_DOM, LAST_DOM, [], day)
    if weekday[0] == "*":
        e.flags |= DOW_STAR
    get_list(e.dow, FIRST_DOW, LAST_DOW, DOW_NAMES, weekday)
    # make sundays equivalent
    if 0 in e.dow or 7 in e.dow:
        e.dow |= {0, 7}
    return e


def get_list(bits, low, high, names, text):
    for element in text.split(","):
        get_range(bits, low, high, names, element)


def get_range(bits, low, high, names, text):
    body, _, step = text.partition("/")
    if body == "*":
        num1, num2 = low, high
    else:
        first, dash, last = body.partition("-")
        num1 = get_number(first, low, names)
        if not dash:
            assert not step, "Debian's cron takes a step after a range or a star only"
            bits.add(num1)
            return
        num2 = get_number(last, low, names)
    assert low <= num1 <= num2 <= high
    # for (i = num1; i <= num2; i += num3)
    bits.update(range(num1, num2 + 1, int(step or 1)))


def get_number(text, low, names):
    return names.index(text.lower()) + low if text.lower() in names else int(text)


def find_jobs(e, day):
    """Whether the entry is due on that day. `dow` is tm_wday: 0 is Sunday."""
    dom, dow = day.day, day.isoweekday() % 7
    if e.flags & DOM_STAR or e.flags & DOW_STAR:
        return dow in e.dow and dom in e.dom
    return dow in e.dow or dom in e.dom
