"""Expressions of two operators or functions, one over the other.

Both are signatures of which no difference is known, so that what differs here is new: a type or a
scale that is passed on wrongly, a rewriting by the optimizer.
"""

import collections

from signatures import NESTED, Signature
from values import TYPE_OF_OID, TYPES


def results(oracle, groups):
    """Signature -> the type of its result, by the first case that PostgreSQL takes."""
    found = {}
    for cases in groups:
        for case in cases:
            answer = oracle.ask(f"SELECT {case.sql()}")
            if not answer.failed:
                found[case.signature] = TYPE_OF_OID.get(answer.oids[0])
                break
    return found


def compose(outer, place, inner):
    """`outer` with `inner` in one of its places."""
    width = len(inner.kinds)
    inside = inner.expression([f"{{{place + index}}}" for index in range(width)])
    operands = [f"{{{index}}}" for index in range(place)] + [inside]
    operands += [f"{{{index + width - 1}}}" for index in range(place + 1, len(outer.kinds))]
    label = f"{outer.label} over {inner.label}"
    if len(outer.kinds) > 1:
        label += f" as operand {place + 1}"
    kinds = outer.kinds[:place] + inner.kinds + outer.kinds[place + 1 :]
    pools = outer.pools[:place] + inner.pools + outer.pools[place + 1 :]
    return Signature(NESTED, label, outer.expression(operands), kinds, pools)


def draw_nested(types, count, r):
    """Compositions some of them twice; names are drawn first, each as likely."""
    inner = collections.defaultdict(lambda: collections.defaultdict(list))
    outer = collections.defaultdict(list)
    for one, kind in types.items():
        if kind in TYPES:
            inner[kind][one.name].append(one)
        outer[one.name].append(one)
    for _ in range(count):
        above = r.choice(outer[r.choice(list(outer))])
        places = [
            place for place, kind in enumerate(above.kinds)
            if above.pools[place] is None and kind in inner
        ]  # fmt: skip
        if places:
            place = r.choice(places)
            names = inner[above.kinds[place]]
            below = r.choice(names[r.choice(list(names))])
            yield above, place, below
