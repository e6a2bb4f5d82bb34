"""Rows in one spelling, compared as multisets.

Four readers (PostgreSQL, Frazil, PyIceberg, DuckDB) spell one value in different Python types;
`spell` gives equal values equal text and keeps apart what differs.
"""

import collections
import datetime
import decimal


def spell(value):
    """One value as text. NULL is `NULL`; text is quoted, so that it cannot look like another."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, decimal.Decimal)):
        return spell_number(decimal.Decimal(value))
    if isinstance(value, float):
        return spell_number(decimal.Decimal(repr(value))) if value == value else "NaN"
    if isinstance(value, datetime.datetime):
        if value.tzinfo is not None:
            value = value.astimezone(datetime.timezone.utc)
            return value.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return value.strftime("%Y-%m-%dT%H:%M:%S.%f")
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return "0x" + bytes(value).hex()
    return repr(str(value))


def spell_number(number):
    """A number without trailing zeros: 1.50, 1.5 and 1.500 are equal."""
    if not number.is_finite():
        return str(number)
    text = format(number, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def multiset(rows):
    """Rows as a multiset of tuples of text."""
    return collections.Counter(tuple(spell(v) for v in row) for row in rows)


def difference(expected, found, limit=3):
    """None if the multisets are equal, else a line that says what differs."""
    if expected == found:
        return None
    missing, extra = expected - found, found - expected
    return (
        f"expected {expected.total()} rows, found {found.total()}; "
        f"missing {missing.total()}: {shorten(missing, limit)}; "
        f"extra {extra.total()}: {shorten(extra, limit)}"
    )


def shorten(counter, limit):
    """The first rows, with long values cut."""

    def cut(text):
        return text if len(text) <= 48 else f"{text[:40]}…({len(text)})"

    rows = ["(" + ", ".join(cut(v) for v in row) + ")" for row in sorted(counter)[:limit]]
    return "[" + ", ".join(rows) + (", …]" if len(counter) > limit else "]")
