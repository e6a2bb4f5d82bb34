"""What is tried: operators, casts and functions of PostgreSQL's catalogs, and SQL's own syntax.

A signature is an operator or function with the types of its operands. Polymorphic types are filled
in: arrays by int4[] and text[], an element by that of its array, else by every type.
"""

import dataclasses
import itertools
import re

from values import ARRAYS, FIELDS, NUMBERS, TYPES, hint

OPERATORS = """
SELECT o.oprname, l.typname, r.typname FROM pg_operator o
  LEFT JOIN pg_type l ON l.oid = o.oprleft JOIN pg_type r ON r.oid = o.oprright
  WHERE o.oprresult <> 0 AND o.oprnamespace = 'pg_catalog'::regnamespace ORDER BY 1, 2, 3
"""
CASTS = """
SELECT s.typname, t.typname FROM pg_cast c JOIN pg_type s ON s.oid = c.castsource
  JOIN pg_type t ON t.oid = c.casttarget WHERE s.oid <> t.oid ORDER BY 1, 2
"""
# Functions that a user calls: not those behind operators, casts, aggregates and indexes, and not
# a second name of the same code.
FUNCTIONS = """
SELECT p.proname, p.pronargdefaults, p.provariadic <> 0, r.typname,
    array(SELECT t.typname FROM unnest(p.proargtypes) WITH ORDINALITY a(oid, n)
          JOIN pg_type t ON t.oid = a.oid ORDER BY a.n)
  FROM pg_proc p JOIN pg_type r ON r.oid = p.prorettype
  WHERE p.prokind = 'f' AND NOT p.proretset AND p.provolatile <> 'v' AND p.pronargs > 0
    AND p.pronamespace = 'pg_catalog'::regnamespace
    AND (obj_description(p.oid, 'pg_proc') NOT LIKE 'implementation of%' OR proname = 'starts_with')
    AND NOT EXISTS (SELECT FROM pg_cast WHERE castfunc = p.oid)
    AND NOT EXISTS (SELECT FROM pg_amproc WHERE amproc = p.oid)
    AND NOT EXISTS (SELECT FROM pg_aggregate WHERE p.oid IN (aggtransfn, aggfinalfn, aggcombinefn,
        aggserialfn, aggdeserialfn, aggmtransfn, aggminvtransfn, aggmfinalfn))
    AND NOT (p.proname = p.prosrc AND EXISTS (SELECT FROM pg_proc q WHERE q.prosrc = p.prosrc
        AND q.proname <> p.proname AND q.proargtypes = p.proargtypes))
  ORDER BY 1, p.pronargs, p.proargtypes::text
"""

# About the server, its objects or its clock; of use in PostgreSQL alone; keywords when called.
NOT_CALLED = re.compile(
    r"^(pg_|has_|to_reg|current_|row_security|xml|.*send$|.*_subdiff$|(int|numeric)\w*_?(inc|sum)$"
    r"|like$|notlike$|like_escape$|similar_\w*escape$|extract$|normalize$|is_normalized$|to_ascii$"
    r"|timestamp$|timestamptz$|jsonb_populate|.*typmodout$|binary_upgrade|.*_eq$|.*_ne$)"
)
RESULTS = {*TYPES, "_int2", "_int8", "_int4", "_text", "anyelement", "anyarray", "anycompatible",
           "anycompatiblearray", "bool", "name"}  # fmt: skip
SPELLINGS = {
    "~~": "LIKE", "!~~": "NOT LIKE", "~~*": "ILIKE", "!~~*": "NOT ILIKE",
}
CALLS = {
    ("position", 2): "position({1} IN {0})",
    ("overlay", 3): "overlay({0} PLACING {1} FROM {2})",
    ("overlay", 4): "overlay({0} PLACING {1} FROM {2} FOR {3})",
    ("overlaps", 4): "(({0}, {1}) OVERLAPS ({2}, {3}))",
}
# Names of the signatures that are a value alone, and a constant without the name of its type.
VALUE = "value of"
CONSTANT = "constant of"
# The name of those that are put together of two.
NESTED = "nested"
ARITHMETIC = ("+", "-", "*", "/", "%", "=", "<>", "<", "<=", ">", ">=")
ORDERED = ("int4", "int8", "numeric", "float8", "text", "date", "timestamp", "timestamptz",
           "interval", "uuid", "bool", "time", "bytea", "varchar", "int2", "float4")  # fmt: skip
POLYMORPHIC = ("anyarray", "anyelement", "anycompatible", "anycompatiblearray", "anynonarray",
               "anycompatiblenonarray")  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Signature:
    """`template` has {0}, {1} … for the operands; `pools` says from where each is drawn."""

    name: str
    label: str
    template: str
    kinds: tuple
    pools: tuple

    def expression(self, operands):
        return self.template.format(*operands)


def signature(name, label, template, kinds, pools=None):
    kinds = tuple(kinds)
    if pools is None:
        pools = tuple(hint(name, index, kinds) for index in range(len(kinds)))
    return Signature(name, label, template, kinds, tuple(pools))


def call(name, kinds):
    arguments = ", ".join(f"{{{index}}}" for index in range(len(kinds)))
    template = CALLS.get((name, len(kinds)), f"{name}({arguments})")
    return signature(name, f"{name}({', '.join(kinds)})", template, kinds)


def infix(operator, left, right):
    name = SPELLINGS.get(operator, operator)
    return signature(name, f"{left} {name} {right}", f"({{0}} {name} {{1}})", (left, right))


def short(typname):
    """A type by its name in signatures: `_int4` is `int4[]`."""
    return f"{typname[1:]}[]" if typname.startswith("_") else typname


def instances(kinds):
    """The combinations of types that a list with polymorphic ones stands for."""
    if any(kind in ("anyarray", "anycompatiblearray") for kind in kinds) or "int4[]" in kinds:
        choices = list(ARRAYS.items())
    elif any(kind in POLYMORPHIC for kind in kinds):
        choices = [(None, kind) for kind in TYPES if kind not in ARRAYS]
        if "anynonarray" not in kinds:
            choices += [(None, kind) for kind in ARRAYS]
    else:
        choices = [(None, None)]
    for array, element in choices:
        yield tuple(
            array if kind in ("anyarray", "anycompatiblearray")
            else element if kind in POLYMORPHIC
            else kind
            for kind in kinds
        )  # fmt: skip


def operators(connection):
    found = []
    for operator, left, right in connection.execute(OPERATORS).fetchall():
        kinds = [short(kind) for kind in (left, right) if kind]
        if not all(kind in TYPES or kind in POLYMORPHIC for kind in kinds) or operator == "@@":
            continue
        for types in instances(kinds):
            if len(types) == 1:
                found.append(
                    signature(operator, f"{operator} {types[0]}", f"({operator} {{0}})", types)
                )
            else:
                found.append(infix(operator, *types))
    known = {(one.name, one.kinds) for one in found}
    for operator in ARITHMETIC:
        for pair in itertools.product(NUMBERS, NUMBERS):
            if (operator, pair) not in known:
                found.append(infix(operator, *pair))
    for one in list(found):
        if one.kinds == ("text", "text"):
            found.append(infix(one.name, "varchar", "text"))
    return found


def casts(connection):
    pairs = {tuple(map(short, row)) for row in connection.execute(CASTS).fetchall()}
    pairs |= {(kind, text) for kind in TYPES for text in ("text", "varchar")}
    pairs |= {("text", kind) for kind in TYPES} | {("varchar", "int4"), ("varchar", "date")}
    pairs |= {("int4[]", "text[]"), ("text[]", "int4[]")}
    pools = {
        "bool": "bool text", "date": "date text", "timestamp": "date text", "uuid": "uuid text",
        "timestamptz": "date text", "interval": "interval text", "time": "time text",
        "jsonb": "json text", "bytea": "bytea text", "int4[]": "int array text",
        "text[]": "text array text", **dict.fromkeys(NUMBERS, "number text"),
    }  # fmt: skip
    found = []
    for source, target in sorted(pairs):
        if source in TYPES and target in TYPES and source != target:
            pool = pools.get(target) if source in ("text", "varchar") else None
            label = f"{source}::{target}"
            found.append(signature("cast", label, f"({{0}})::{target}", (source,), (pool,)))
    limited = {
        "numeric(10,2)": (*NUMBERS, "text"), "numeric(5,0)": ("numeric", "float8"),
        "numeric(3,3)": ("numeric",), "varchar(3)": ("text", "varchar", "int4", "date"),
        "char(5)": ("text",), "timestamp(0)": ("timestamp", "timestamptz", "text"),
        "timestamp(3)": ("timestamp",), "timestamptz(0)": ("timestamptz",), "time(0)": ("time",),
        "interval(0)": ("interval",), "interval day to minute": ("interval",),
    }  # fmt: skip
    for target, sources in limited.items():
        for source in sources:
            base = target.split("(")[0]
            pool = pools.get(base) if source == "text" else None
            label = f"{source}::{target}"
            found.append(signature("cast", label, f"({{0}})::{target}", (source,), (pool,)))
    return found


def functions(connection):
    found = []
    for name, defaults, variadic, result, kinds in connection.execute(FUNCTIONS).fetchall():
        kinds = [short(kind) for kind in kinds]
        wanted = all(kind in TYPES or kind in POLYMORPHIC or kind == "any" for kind in kinds)
        if not wanted or result not in RESULTS or NOT_CALLED.match(name):
            continue
        if (name, kinds) in (("age", ["timestamp"]), ("age", ["timestamptz"])):
            continue  # of today
        if variadic:
            lists = variadic_lists(kinds)
        else:
            counts = range(max(len(kinds) - defaults, 1), len(kinds) + 1)
            lists = [kinds[:count] for count in counts]
        for one in lists:
            found += [call(name, types) for types in instances(one)]
    known = {(one.name, one.kinds) for one in found}
    for one in list(found):
        if one.kinds in (("float8",), ("numeric",)):
            found += [call(one.name, (kind,)) for kind in ("int4", "float4", "int8", "numeric")]
        if one.kinds == ("text",):
            found.append(call(one.name, ("varchar",)))
        if one.kinds in (("numeric", "int4"), ("numeric", "numeric"), ("float8", "float8")):
            found += [call(one.name, (kind, "int4")) for kind in ("int4", "float8", "int8")]
    unique = {}
    for one in found:
        if (one.name, one.kinds) in known or one.label not in unique:
            unique[one.label] = one
    return list(unique.values())


def variadic_lists(kinds):
    """Lists of arguments for a function whose last one repeats."""
    first, last = kinds[:-1], kinds[-1]
    if last != "any":
        element = last.removesuffix("[]")
        return [[*first, element], [*first, element, element]]
    lists = [[*first, kind] for kind in TYPES]
    return [*lists, [*first, "text", "text", "text"], [*first, "text", "int4"]]


def syntax():
    """What SQL has no function for. `T` is each type of the list in turn."""
    forms = [
        ("IS NULL", "({0} IS NULL)", "T", TYPES),
        ("IS NOT NULL", "({0} IS NOT NULL)", "T", TYPES),
        ("IS DISTINCT FROM", "({0} IS DISTINCT FROM {1})", "TT", TYPES),
        ("COALESCE", "COALESCE({0}, {1})", "TT", TYPES),
        ("NULLIF", "NULLIF({0}, {1})", "TT", TYPES),
        ("GREATEST", "GREATEST({0}, {1})", "TT", TYPES),
        ("LEAST", "LEAST({0}, {1}, {2})", "TTT", TYPES),
        ("BETWEEN", "({0} BETWEEN {1} AND {2})", "TTT", ORDERED),
        ("NOT BETWEEN", "({0} NOT BETWEEN {1} AND {2})", "TTT", ("int4", "numeric", "text")),
        ("BETWEEN SYMMETRIC", "({0} BETWEEN SYMMETRIC {1} AND {2})", "TTT", ("int4", "date")),
        ("IN", "({0} IN ({1}, {2}))", "TTT", ORDERED),
        ("NOT IN", "({0} NOT IN ({1}, {2}))", "TTT", ORDERED),
        ("CASE", "CASE WHEN {0} < {1} THEN {0} ELSE {1} END", "TT", ORDERED),
        ("CASE value", "CASE {0} WHEN {1} THEN 1 WHEN {2} THEN 2 ELSE 3 END", "TTT", ORDERED),
        ("row =", "(({0}, {1}) = ({1}, {0}))", "TT", ORDERED),
        ("row <", "(({0}, {1}) < ({1}, {0}))", "TT", ("int4", "text", "numeric", "float8")),
        ("ARRAY", "ARRAY[{0}, {1}]", "TT", ("int4", "text", "int8", "float8", "bool", "numeric")),
        ("IS TRUE", "({0} IS TRUE)", "T", ("bool",)),
        ("IS NOT TRUE", "({0} IS NOT TRUE)", "T", ("bool",)),
        ("IS FALSE", "({0} IS FALSE)", "T", ("bool",)),
        ("IS NOT FALSE", "({0} IS NOT FALSE)", "T", ("bool",)),
        ("IS UNKNOWN", "({0} IS UNKNOWN)", "T", ("bool",)),
        ("IS NOT UNKNOWN", "({0} IS NOT UNKNOWN)", "T", ("bool",)),
        ("NOT", "(NOT {0})", "T", ("bool",)),
        ("AND", "({0} AND {1})", "TT", ("bool",)),
        ("OR", "({0} OR {1})", "TT", ("bool",)),
        ("CASE condition", "CASE WHEN {0} THEN 'y' ELSE 'n' END", "T", ("bool",)),
        ("CAST", "CAST({0} AS numeric(12,3))", "T", ("int4", "float8", "numeric")),
        ("LIKE ESCAPE", "({0} LIKE {1} ESCAPE {2})", "TTT", ("text",)),
        ("SIMILAR TO", "({0} SIMILAR TO {1})", "TT", ("text",)),
        ("TRIM", "trim({0})", "T", ("text", "varchar")),
        ("TRIM", "trim(BOTH {1} FROM {0})", "TT", ("text",)),
        ("TRIM", "trim(LEADING {1} FROM {0})", "TT", ("text",)),
        ("TRIM", "trim(TRAILING {1} FROM {0})", "TT", ("text",)),
        ("substring", "substring({0} FROM {1} FOR {2})", "T44", ("text",)),
        ("substring", "substring({0} FROM {1})", "T4", ("text",)),
        ("substring", "substring({0} FROM {1})", "TT", ("text",)),
        ("AT TIME ZONE", "({0} AT TIME ZONE {1})", "Tt", ("timestamp", "timestamptz")),
        ("IS NORMALIZED", "({0} IS NORMALIZED)", "T", ("text",)),
        ("normalize", "normalize({0})", "T", ("text",)),
        ("normalize", "normalize({0}, NFKC)", "T", ("text",)),
        ("subscript", "({0})[{1}]", "T4", ARRAYS),
        ("slice", "({0})[{1}:{2}]", "T44", ARRAYS),
        ("ANY", "({1} = ANY({0}))", "Te", ARRAYS),
        ("ALL", "({1} <> ALL({0}))", "Te", ARRAYS),
        ("field", "(({0}, {1}) IS NULL)", "TT", ("int4",)),
        ("COLLATE", '({0} < {1} COLLATE "C")', "TT", ("text",)),
    ]
    found = []
    for name, template, shape, kinds in forms:
        for kind in kinds:
            letters = {"T": kind, "4": "int4", "t": "text", "e": ARRAYS.get(kind)}
            types = tuple(letters[letter] for letter in shape)
            label = template.replace("{", "").replace("}", "") + f" of {', '.join(types)}"
            pools = None
            if name in ("subscript", "slice"):
                pools = (None, "dimension", "dimension")[: len(types)]
            elif name == "substring" and types == ("text", "text"):
                pools = (None, "pattern")
            elif name not in ("LIKE ESCAPE", "SIMILAR TO", "TRIM", "substring", "AT TIME ZONE"):
                pools = (None,) * len(types)
            found.append(signature(name, label, template, types, pools))
    for name in ("COALESCE", "GREATEST", "="):
        for left, right in itertools.combinations(NUMBERS, 2):
            if name != "=":
                label = f"{name}({left}, {right})"
                found.append(signature(name, label, f"{name}({{0}}, {{1}})", (left, right)))
    for kind in ("timestamp", "timestamptz", "date", "time", "interval"):
        for field in FIELDS:
            label = f"extract({field} FROM {kind})"
            found.append(signature("extract", label, f"extract({field} FROM {{0}})", (kind,)))
    return found


def wrong_types():
    """Operators and functions over types that have none: PostgreSQL refuses them."""
    pairs = [
        (left, right)
        for left, right in itertools.permutations(TYPES, 2)
        if not {left, right} <= {"text", "varchar"} and not {left, right} <= set(NUMBERS)
    ]
    found = []
    for operator in ("=", "<", "+", "-", "*", "/", "||", "LIKE", "AND"):
        for left, right in pairs:
            label = f"{operator} over types that have no such operator"
            template = f"({{0}} {operator} {{1}})"
            found.append(Signature(operator, label, template, (left, right), (None, None)))
    for name in ("lower", "length", "abs", "sqrt", "round", "trim", "reverse", "ascii", "md5"):
        for kind in TYPES:
            label = f"{name}() of types that have no such function"
            found.append(Signature(name, label, f"{name}({{0}})", (kind,), (None,)))
    return found


def all_signatures(connection):
    """Those that PostgreSQL takes, by label; and lists of those that it must refuse, by label."""
    found = {}
    for one in (*operators(connection), *casts(connection), *functions(connection), *syntax()):
        found.setdefault(one.label, one)
    taken = {(one.name, one.kinds) for one in found.values()}
    refused = {}
    for one in wrong_types():
        if (one.name, one.kinds) not in taken:
            refused.setdefault(one.label, []).append(one)
    return found, refused
