"""What differs between two answers, in one word.

    crash      the connection was lost, or the statement did not end
    value      another value
    accepted   a value where PostgreSQL has an error
    refused    an error where PostgreSQL has a value
    digits     a number that is close, with fewer or other last digits
    scale      an equal number, written with other zeros behind the point
    type       an equal value of another type
    sqlstate   both are errors, of other SQLSTATEs
"""

import decimal
import struct
from typing import NamedTuple

from systems import CRASH
from values import TYPE_OF_OID

# By harm.
KINDS = ("crash", "value", "accepted", "refused", "digits", "scale", "type", "sqlstate")
NUMERIC = 1700
FLOATS = (700, 701)
CLOSE = {700: 1e-6, 701: 1e-12}
# SQLSTATEs that a statement has whatever its values are.
BY_TYPES = ("42", "0A")
# Cases of a signature that must fail, in modes other than plain.
ERRORS_MAX = 2
DECIMALS = decimal.Context(prec=2000)
SHOWN = 160


class Outcome(NamedTuple):
    """One value and its type, or an error."""

    value: bytes | None = None
    oid: int = 0
    sqlstate: str = ""
    message: str = ""
    binary: bool = False

    @property
    def failed(self):
        return bool(self.sqlstate)

    def shown(self):
        if self.sqlstate == CRASH:
            return f"connection lost: {self.message[:SHOWN]}"
        if self.sqlstate:
            return f"ERROR {self.sqlstate}: {self.message[:SHOWN]}"
        kind = TYPE_OF_OID.get(self.oid, f"oid {self.oid}")
        text = self.text()
        if text is None:
            return f"NULL ({kind})"
        if len(text) > SHOWN:
            text = f"{text[:SHOWN]}… ({len(text)} characters)"
        return f"{text!r} ({kind})" if "\n" in text or not text.strip() else f"{text} ({kind})"

    def text(self):
        if self.value is None:
            return None
        return spelled(self.value, self.oid) if self.binary else self.value.decode(errors="replace")


def outcome(answer, row=0, column=0, binary=False):
    """One value of an answer; an answer without such a row is no value at all."""
    if answer.failed:
        return Outcome(sqlstate=answer.sqlstate, message=answer.message)
    if row >= len(answer.rows):
        return Outcome(b"no row", 0)
    return Outcome(answer.rows[row][column], answer.oids[column], binary=binary)


def differences(expected, found, view=False):
    """The words for what differs, each with what it is about: a type, or nothing."""
    if found.sqlstate == CRASH:
        return [(CRASH, "")]
    if expected.failed:
        if not found.failed:
            return [("accepted", "")]
        # A view's failure has an SQLSTATE of its own.
        same = found.sqlstate == expected.sqlstate or (view and found.sqlstate == "55000")
        return [] if same else [("sqlstate", f"{expected.sqlstate} -> {found.sqlstate}")]
    if found.failed:
        return [("refused", found.sqlstate)]
    about = []
    if expected.oid != found.oid:
        names = [TYPE_OF_OID.get(one.oid, f"oid {one.oid}") for one in (expected, found)]
        about.append(("type", " -> ".join(names)))
    if expected.value != found.value and not (about and expected.binary):
        word = of_values(expected, found)
        about.append((word, TYPE_OF_OID.get(expected.oid, "") if word != "value" else ""))
    return about


def of_values(expected, found):
    if expected.value is None or found.value is None or expected.oid not in (NUMERIC, *FLOATS):
        return "value"
    left, right = number(expected.text()), number(found.text())
    if left is None or right is None:
        return "value"
    if left == right:
        return "value" if left.is_signed() != right.is_signed() else "scale"
    if expected.oid == NUMERIC:
        places = max(-right.as_tuple().exponent, 0)
        step = decimal.Decimal(1).scaleb(-places)
        near = places > 2 and abs(left - right) <= step
        near = near or abs(left - right) <= abs(left) * decimal.Decimal("1e-12")
    else:
        near = abs(left - right) <= abs(left) * decimal.Decimal(CLOSE[expected.oid])
    return "digits" if near else "value"


def number(text):
    try:
        found = DECIMALS.create_decimal(text)
    except (decimal.InvalidOperation, ValueError):
        return None
    return found if found.is_finite() else None


def spelled(value, oid):
    """The text of a binary value, as far as it is a number, text or boolean; else its bytes."""
    formats = {21: ">h", 23: ">i", 20: ">q", 700: ">f", 701: ">d"}
    if oid in formats and len(value) == struct.calcsize(formats[oid]):
        return repr(struct.unpack(formats[oid], value)[0])
    if oid == NUMERIC and len(value) >= 8:
        return numeric_text(value)
    if oid == 16:
        return "t" if value == b"\1" else "f"
    if oid in (25, 1043):
        return value.decode(errors="replace")
    return "0x" + value.hex()


def numeric_text(value):
    """PostgreSQL's binary numeric: digits to the base of 10,000, the first one's weight, scale."""
    count, weight, sign, scale = struct.unpack(">HhHH", value[:8])
    if sign & 0xC000 == 0xC000:
        return {0xC000: "NaN", 0xD000: "Infinity", 0xF000: "-Infinity"}.get(sign, "NaN?")
    digits = struct.unpack(f">{count}H", value[8 : 8 + 2 * count])
    total = sum(decimal.Decimal(d).scaleb(4 * (weight - i)) for i, d in enumerate(digits))
    with decimal.localcontext(DECIMALS):
        text = format(decimal.Decimal(total).quantize(decimal.Decimal(1).scaleb(-scale)), "f")
    return f"-{text}" if sign == 0x4000 else text
