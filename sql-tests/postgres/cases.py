"""The cases of a run: which signatures, and with which operands. They follow from the seed."""

import random

from aggregates import Sets, aggregate_signatures, draw_sets
from nested import compose, draw_nested, results
from signatures import CONSTANT, VALUE, all_signatures, signature
from trial import Case
from values import TYPES, Values, is_bare

# Signatures of a chunk: the columns of one statement.
CHUNK = 48
# A tenth of all expressions is nested, some of each form; most that are drawn are known to differ.
NESTED_SHARE = 10
NESTED_CASES = 4
NESTED_DRAWN = 20


def draw(one, count, values, seed):
    """Different cases of a signature; the first has ordinary operands."""
    r = random.Random(f"{seed}/{one.label}/{one.kinds}")
    pools = [values.pool(kind, pool) for kind, pool in zip(one.kinds, one.pools)]
    possible = 1
    for pool in pools:
        possible *= len(pool)
    drawn = {tuple(pool[0] for pool in pools): None}
    for _ in range(count * 20):
        if len(drawn) >= min(count, possible):
            break
        # Of many operands most are ordinary, else nearly all cases would fail.
        usual = 0.5 if len(pools) > 2 else 0
        drawn[tuple(p[0] if r.random() < usual else r.choice(p) for p in pools)] = None
    return [Case(one, index, operands, r.random() < 0.5) for index, operands in enumerate(drawn)]


def draw_all(arguments, oracle, connection, exceptions):
    """Chunks of the cases of each signature; those that --only names have the same cases."""
    seed, only = arguments.seed, arguments.only
    values = Values(random.Random(f"{seed}/values"))
    signatures, refused = all_signatures(connection)
    aggregates = aggregate_signatures(connection)
    labels = [*signatures, *refused, *aggregates]
    nested = arguments.count // NESTED_SHARE
    each, more = divmod(arguments.count - nested, len(labels))
    counts = {label: each + (index < more) for index, label in enumerate(labels)}
    plain = [draw(one, counts[label], values, seed) for label, one in signatures.items()]
    groups = [*of_values(values), *plain]
    groups += draw_over_clean(plain, oracle, exceptions, nested // NESTED_CASES, values, seed)
    for label, ones in refused.items():
        some = random.Random(f"{seed}/{label}").sample(ones, min(counts[label], len(ones)))
        groups += [draw(one, 1, values, seed) for one in some]

    def wanted(one):
        return only in (None, one.name, one.label)

    groups = [group for group in groups if group and wanted(group[0].signature)]
    groups.sort(key=lambda group: group[0].signature.label)
    chunks = [groups[start : start + CHUNK] for start in range(0, len(groups), CHUNK)]
    chosen = [one for one in aggregates.values() if wanted(one)]
    return [*chunks, *draw_sets(chosen, each, values, seed)]


def of_values(values):
    """The values themselves, with the name of their type and without."""
    for kind in TYPES:
        texts = values.pool(kind, None)
        one = signature(VALUE, f"{VALUE} {kind}", "{0}", (kind,), (None,))
        yield [Case(one, index, (text,), False) for index, text in enumerate(texts)]
        bare = [text for text in texts if text is not None and is_bare(kind, text)]
        one = signature(CONSTANT, f"{CONSTANT} {kind}", "{0}", (kind,), (None,))
        yield [Case(one, index, (text,), True) for index, text in enumerate(bare)]


def draw_over_clean(groups, oracle, exceptions, count, values, seed):
    """Nested expressions of signatures of which no difference is known.

    All are drawn from; so an entry of exceptions.txt that goes leaves those drawn before it.
    """
    types = results(oracle, groups)
    known = {one for one in types if exceptions.names(one)}
    r = random.Random(f"{seed}/nested")
    found = {}
    for above, place, below in draw_nested(types, count * NESTED_DRAWN, r):
        if above not in known and below not in known and len(found) < count:
            one = compose(above, place, below)
            found[one.label] = one
    return [draw(one, NESTED_CASES, values, seed) for one in found.values()]


def size(chunk):
    """Signatures and expressions of a chunk."""
    if isinstance(chunk, Sets):
        return len(chunk.signatures), len(chunk.signatures) * len(chunk.sets)
    return len(chunk), sum(map(len, chunk))
