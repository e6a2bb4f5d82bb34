"""The operands: for each type values at its edges and some random ones, as text that it reads.

The first value of a pool is an ordinary one. `None` is NULL.
"""

import datetime
import re

# Type -> values. Names are PostgreSQL's short ones, as they stand in signatures.
EDGES = {
    "bool": ["t", "f", None],
    "int2": ["7", "0", "1", "-1", "2", "-7", "100", "32767", "-32768", None],
    "int4": [
        "42", "0", "1", "-1", "2", "3", "-7", "10", "1000", "2147483647", "-2147483648", None,
    ],
    "int8": [
        "12", "0", "1", "-1", "2", "-7", "100", "3000000000", "9223372036854775807",
        "-9223372036854775808", "9007199254740993", None,
    ],
    "numeric": [
        "12.5", "0", "1", "-1", "0.5", "-0.5", "1.5", "2.5", "-2.5", "0.1", "1.10", "100", "0.00",
        "12345.6789", "-0.001", "10000000000", "9223372036854775808", "99999999999999999999.5",
        "123456789012345678901234567890.123456789", "0.00000000000000000001", "NaN", "Infinity",
        "-Infinity", None,
    ],
    "float4": [
        "1.5", "0", "-0", "1", "-1", "0.5", "2.5", "-2.5", "0.1", "16777217", "3.4028235e38",
        "1e-45", "1e10", "123456.79", "NaN", "Infinity", "-Infinity", None,
    ],
    "float8": [
        "1.5", "0", "-0", "1", "-1", "0.5", "2.5", "-2.5", "0.1", "0.30000000000000004", "1e15",
        "1e16", "1e-5", "123456.789", "9007199254740993", "1.7976931348623157e308", "5e-324",
        "1e-310", "NaN", "Infinity", "-Infinity", None,
    ],
    "text": [
        "abc", "", "a", "ABC", "aBc dEf", "  padded  ", "ß", "äöü", "ÄÖÜ", "e\u0301", "日本語",
        "😀", "%", "_", "a%b", "a_c", "\\", "a\\b", "it's", '"q"', "123", "-1.5", "2024-02-29",
        "true", "NULL", "a,b,,c", "tab\tline\nend", "z" * 300, "ǅ", "İi", "ﬃ", "a\u00a0b", None,
    ],
    "varchar": ["abc", "", "ABC", " x ", "äöü", "日本語", "😀", "a%b", "123", "z" * 300, None],
    "bytea": [
        "\\xdeadbeef", "\\x", "\\x00", "\\x00ff", "\\x616263", "\\xc3a4", "\\x20616220",
        "\\x" + "5a" * 300, None,
    ],
    "date": [
        "2024-05-17", "2024-02-29", "2000-02-29", "1900-02-28", "1970-01-01", "1969-12-31",
        "2024-03-31", "2024-12-30", "2021-01-03", "0001-01-01", "9999-12-31", "0044-03-15 BC",
        "1582-10-15", "infinity", "-infinity", "5874897-12-31", "4713-01-01 BC", "294277-01-01",
        None,
    ],
    "time": [
        "12:34:56", "00:00:00", "23:59:59.999999", "24:00:00", "02:30:00", "12:34:56.789",
        "00:00:00.000001", None,
    ],
    "timestamp": [
        "2024-05-17 12:34:56", "2024-02-29 23:59:59.999999", "2000-01-01 00:00:00",
        "1970-01-01 00:00:00", "1969-12-31 23:59:59.5", "2024-03-31 02:30:00",
        "2024-10-27 02:30:00", "2024-03-10 02:30:00", "0001-01-01 00:00:00",
        "9999-12-31 23:59:59", "0044-03-15 12:00:00 BC", "1677-09-21 00:12:43",
        "2262-04-12 00:00:00", "infinity", "-infinity", "294276-12-31 23:59:59.999999",
        "2024-12-30 00:00:00.123456", None,
    ],
    "timestamptz": [
        "2024-05-17 12:34:56+02", "2024-02-29 23:59:59.999999+00", "2000-01-01 00:00:00+00",
        "1970-01-01 00:00:00+00", "1969-12-31 23:59:59.5+00", "2024-03-31 01:00:00+00",
        "2024-10-27 00:30:00+00", "2024-03-10 07:30:00+00", "0001-01-01 00:00:00+00",
        "9999-12-31 23:59:59+00", "0044-03-15 12:00:00+00 BC", "1677-09-21 00:12:43+00",
        "2262-04-12 00:00:00+00", "infinity", "-infinity", "294276-12-31 23:59:59.999999+00",
        "2024-01-01 00:00:00.123456-11:30", None,
    ],
    "interval": [
        "1 day", "00:00:00", "1 mon", "-1 day", "1 year 2 mons 3 days 04:05:06.789", "30 days",
        "24:00:00", "1 mon -30 days", "-00:00:00.000001", "1000 years", "23:59:59.999999",
        "-1 mons +2 days -03:00:00", "13 mons", "1000000:00:00", "178000000 years", None,
    ],
    "uuid": [
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A12", None,
    ],
    "jsonb": [
        '{"a": 1, "b": [1, 2, {"c": null}]}', "{}", "[]", "null", "1", "1.10", '"a"', "true",
        '{"b":1,"a":2,"a":3}', '[1, "x", null, true]', '{"a": {"b": {"c": "deep"}}}', '"äö\\u00fc"',
        "12345678901234567890.5", '["a", "b"]', None,
    ],
    "int4[]": ["{1,2,3}", "{}", "{1}", "{NULL,1}", "{3,2,1,2}", "{{1,2},{3,4}}", "{NULL}", None],
    "text[]": [
        "{a,b}", "{}", "{abc}", '{"a b",NULL,"",x}', '{"NULL","q\\"q","c,d"}', "{{a,b},{c,d}}",
        "{b,1}", None,
    ],
}
TYPES = tuple(EDGES)
ARRAYS = {"int4[]": "int4", "text[]": "text"}
NUMBERS = ("int2", "int4", "int8", "numeric", "float4", "float8")
OIDS = {
    "bool": 16, "bytea": 17, "int8": 20, "int2": 21, "int4": 23, "text": 25, "float4": 700,
    "float8": 701, "int4[]": 1007, "text[]": 1009, "varchar": 1043, "date": 1082, "time": 1083,
    "timestamp": 1114, "timestamptz": 1184, "interval": 1186, "numeric": 1700, "uuid": 2950,
    "jsonb": 3802,
}
TYPE_OF_OID = {oid: name for name, oid in OIDS.items()} | {
    114: "json", 1000: "bool[]", 1001: "bytea[]", 1005: "int2[]", 1016: "int8[]", 1021: "float4[]",
    1022: "float8[]", 1182: "date[]", 1115: "timestamp[]", 1185: "timestamptz[]", 1231: "numeric[]",
    1183: "time[]", 1187: "interval[]", 2951: "uuid[]", 3807: "jsonb[]", 1015: "varchar[]",
    1042: "bpchar", 19: "name", 26: "oid", 705: "unknown", 2249: "record", 2287: "record[]",
}

SHORT_NUMBERS = ["2", "0", "1", "-1", "3", "5", "10", None]
FIELDS = (
    "year month day hour minute second century decade millennium quarter week dow isodow doy epoch"
    " julian isoyear milliseconds microseconds timezone timezone_hour timezone_minute"
).split()
ZONES = [
    "Europe/Berlin", "UTC", "America/New_York", "Asia/Kolkata", "+05:30", "EST", "utc", "CET",
    "Europe/Nowhere", "Pacific/Apia", None,
]
PATTERNS = [
    "b", "", "a.c", "^a", "c$", "[a-c]+", "(b)(c)?", "\\d+", "\\w", "x*", "(", "a|b", "\\s", "^.*$",
    "(?i)ABC", "\\mabc\\M", "[[:alpha:]]", "a{2}", None,
]
FLAGS = ["g", "i", "gi", "", "n", "x", "c", "q", "z", None]
DATE_FORMATS = [
    "YYYY-MM-DD HH24:MI:SS", "YYYY-MM-DD", "DD Mon YYYY", "Day, DD Month", "FMMonth FMDD",
    "HH12 AM",
    "Q", "IYYY-IW-ID", "DDD", "J", "MS US", "TZ", "YY", "\"on\" Dy", "YYYY-MM-DDTHH24", "WW",
    "CC", "",
    "SSSS", "FF3", "DDth", "month MONTH", "YYYY BC", None,
]
NUMBER_FORMATS = [
    "999D99", "999", "FM999.00", "0000", "9,999,999", "S999", "999PR", "RN", "9.99EEEE", "MI999",
    "L999", "000.000", "FM9990.0999", "99V9", "", "999th", "%d", None,
]
NUMBER_TEXTS = [
    "12", "0", "-1", " 7 ", "1.5", "2147483648", "-2147483649", "32768", "9223372036854775808",
    "1e3", "", "abc", "NaN", "Infinity", "-inf", "0x10", "1_000", "+5", ".5", "5.", "1e400", "--1",
    "1 2", "-0", "１２", None,
]
INTERVAL_TEXTS = [
    "1 day", "1 month 2 days", "P1Y2M3DT4H5M6S", "1:30", "-1 week", "@ 1 hour ago", "1.5 months",
    "3 days ago", "1 fortnight", "", "1-2", "04:05:06.7", "infinity", "1 d 2 h", "yesterday", None,
]
DATE_TEXTS = [
    "2024-05-17", "2024-02-30", "2023-02-29", "20240517", "May 17, 2024", "17 May 2024",
    "5/17/2024",
    "2024-05-17T12:34:56Z", "2024-05-17 12:34:56.7+02", "infinity", "-infinity", "epoch", "", "abc",
    "2024-137", "J2460448", "0044-03-15 BC", "2024-05-17 24:00:00", "2024-05-17 25:00", "12:34",
    "2024-05-17 12:34:56 Europe/Berlin", "99999-01-01", "2024-05", None,
]

# What a name stands for in HINTS.
POOLS = {
    "field": [*FIELDS, "DAY", "days", "nothing", None],
    "zone": ZONES,
    "pattern": PATTERNS,
    "flags": FLAGS,
    "replacement": ["X", "", "\\1", "[\\&]", "\\2\\1", "$1", None],
    "date format": DATE_FORMATS,
    "number format": NUMBER_FORMATS,
    "number text": NUMBER_TEXTS,
    "date text": DATE_TEXTS,
    "interval text": INTERVAL_TEXTS,
    "time text": [
        "12:34:56", "12:34", "24:00", "25:00", "12:34:56.1234567", "01:02 PM", "T10:11", "",
        "now x",
        "123456", "12:34:60", "2024-05-17 12:34", None,
    ],
    "bool text": [
        "true", "t", "f", "yes", "no", "on", "off", "1", "0", "TRUE", " true ", "tr", "y", "2", "",
        "nope", None,
    ],
    "uuid text": [
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "A0EEBC999C0B4EF8BB6D6BB9BD380A11",
        "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}", "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11", "abc",
        "", None,
    ],
    "json text": [
        '{"b": 1, "a": [1,2]}', "[]", " 1 ", '"x"', "{", "", "nul", '{"a":1,"a":2}', "1e2", "'x'",
        None,
    ],
    "bytea text": [
        "\\xdead", "abc", "\\x0g", "\\x1", "a\\001b", "a\\\\b", "\\xDE AD", "", "a\\9", None,
    ],
    "int array text": [
        "{1,2}", "{}", "{1,NULL}", "1,2", "{a}", "{{1},{2}}", "{1,2", "", " { 3 } ", None,
    ],
    "text array text": ["{a,b}", "{}", '{"a,b",c}', "a", "{{a},{b}}", '{"x}', "{NULL,null}", None],
    "times": SHORT_NUMBERS,
    "length": ["3", "0", "1", "-1", "2", "5", "10", "20", None],
    "place": ["2", "1", "0", "-1", "3", "10", "100", "2147483647", "-2147483648", None],
    "scale": ["2", "0", "1", "-1", "-3", "5", "10", "20", None],
    "scale of 8 bytes": ["2", "0", "1", "-1", "10", None],
    "coding": ["hex", "base64", "escape", "HEX", "nothing", None],
    "coded": ["616263", "YWJj", "abc\\000", "6", "zz", "Y W J j", "YWJ=", "", "\\\\x41", None],
    "encoding": ["UTF8", "LATIN1", "utf-8", "SQL_ASCII", "nothing", None],
    "format": [
        "%s|", "%L", "%I", "%%", "%1$s %1$s", "%5s|", "%-5s|", "x", "%", "%2$s", "%s %s", None,
    ],
    "separator": [",", "", "a", "b", ", ", None],
    "characters": [" ", "a", "abc", "", "xyz", "%", "ä", None],
    "path": ["{a}", "{b,0}", "{b,2,c}", "{}", "{0}", "{-1}", "{a,b,c}", "{x}", "{NULL}", None],
    "key": ["a", "b", "", "x", "0", "A", None],
    "year": ["2024", "1", "-44", "0", "9999", "10000000", None],
    "month": ["2", "1", "12", "13", "0", None],
    "day": ["28", "29", "1", "31", "0", None],
    "hour": ["12", "0", "23", "24", "25", "-1", None],
    "minute": ["30", "0", "59", "60", None],
    "second": ["15.5", "0", "59.999999", "60", "61", "-1", None],
    "escape": ["!", "\\", "", "%", "ab", "a", None],
    "like": [
        "a%", "%", "", "_b_", "%b%", "a\\%b", "\\", "%c", "ABC", "a", "___", "ä%", "日__", "%%",
        None,
    ],
    "like bytes": ["\\x6125", "\\x25", "\\x", "\\x5f", "\\x616263", None],
    "similar": ["a%", "(a|b)%", "[a-c]+", "abc", "", "_b_", "a{1}%", "(", "%!_%", None],
    "small integer": ["3", "0", "1", "-1", "5", "12", "20", "33", "170", None],
    "exponent": ["2", "0", "1", "-1", "0.5", "3", "-2", "10", "NaN", "Infinity", None],
    "code": ["97", "0", "-1", "228", "26085", "128512", "55296", "1114112", "2147483647", None],
    "buckets": ["5", "1", "0", "-1", "2147483647", None],
    "dimensions": ["{2}", "{}", "{1,2}", "{0}", "{-1}", "{NULL}", None],
    "dimension": ["1", "2", "0", "-1", None],
    "null treatment": [
        "use_json_null", "raise_exception", "delete_key", "return_target", "x", None,
    ],
    "names": ["abc", "Abc", "select", 'a"b', "", "a.b", '"A"."b"', "1a", "ä", None],
    "escaped": ["d\\0061t\\+000061", "\\u0061", "\\U0001F600", "\\", "\\zz", "plain", "\\\\", None],
    "degree": ["30", "0", "45", "60", "90", "180", "-90", "360", "1e10", "NaN", "Infinity", None],
    "unit": ["0.5", "0", "1", "-1", "-0.5", "2", "NaN", "Infinity", "1e-30", None],
}

# (function or operator, argument) -> the pool from which it is drawn.
HINTS = {
    ("date_trunc", 0): "field", ("date_part", 0): "field", ("date_trunc", 2): "zone",
    ("timezone", 0): "zone", ("make_timestamptz", 6): "zone",
    ("~", 1): "pattern", ("~*", 1): "pattern", ("!~", 1): "pattern", ("!~*", 1): "pattern",
    ("to_date", 0): "date text", ("to_date", 1): "date format", ("to_timestamp", 0): "date text",
    ("to_timestamp", 1): "date format", ("to_number", 0): "number text",
    ("to_number", 1): "number format", ("repeat", 1): "times", ("lpad", 1): "length",
    ("rpad", 1): "length", ("left", 1): "place", ("right", 1): "place", ("substr", 1): "place",
    ("substr", 2): "length", ("substring", 1): "place", ("substring", 2): "length",
    ("overlay", 2): "place", ("overlay", 3): "length", ("round", 1): "scale", ("trunc", 1): "scale",
    ("encode", 1): "coding", ("decode", 0): "coded", ("decode", 1): "coding",
    ("convert_to", 1): "encoding", ("convert_from", 1): "encoding", ("length of", 1): "encoding",
    ("format", 0): "format", ("concat_ws", 0): "separator", ("split_part", 1): "separator",
    ("split_part", 2): "place", ("string_to_array", 1): "separator",
    ("string_to_array", 2): "key", ("array_to_string", 1): "separator",
    ("array_to_string", 2): "key", ("btrim", 1): "characters", ("ltrim", 1): "characters",
    ("rtrim", 1): "characters", ("translate", 1): "characters", ("translate", 2): "characters",
    ("strpos", 1): "characters", ("replace", 1): "characters", ("starts_with", 1): "characters",
    ("^@", 1): "characters", ("position", 1): "characters", ("#>", 1): "path", ("#>>", 1): "path",
    ("#-", 1): "path", ("->", 1): "key", ("->>", 1): "key", ("?", 1): "key", ("?|", 1): "path",
    ("?&", 1): "path", ("jsonb_set", 1): "path", ("jsonb_set_lax", 1): "path",
    ("jsonb_set_lax", 4): "null treatment", ("jsonb_insert", 1): "path",
    ("jsonb_extract_path", 1): "key", ("jsonb_extract_path", 2): "key",
    ("jsonb_extract_path_text", 1): "key", ("jsonb_extract_path_text", 2): "key",
    ("make_date", 0): "year", ("make_date", 1): "month", ("make_date", 2): "day",
    ("make_timestamp", 0): "year", ("make_timestamp", 1): "month", ("make_timestamp", 2): "day",
    ("make_timestamp", 3): "hour", ("make_timestamp", 4): "minute",
    ("make_timestamp", 5): "second", ("make_timestamptz", 0): "year",
    ("make_timestamptz", 1): "month", ("make_timestamptz", 2): "day",
    ("make_timestamptz", 3): "hour", ("make_timestamptz", 4): "minute",
    ("make_timestamptz", 5): "second", ("make_time", 0): "hour", ("make_time", 1): "minute",
    ("make_time", 2): "second", ("LIKE", 1): "like", ("NOT LIKE", 1): "like",
    ("ILIKE", 1): "like", ("NOT ILIKE", 1): "like", ("LIKE ESCAPE", 1): "like",
    ("LIKE ESCAPE", 2): "escape", ("SIMILAR TO", 1): "similar", ("factorial", 0): "small integer",
    ("power", 1): "exponent", ("pow", 1): "exponent", ("^", 1): "exponent", ("chr", 0): "code",
    ("width_bucket", 3): "buckets", ("array_fill", 1): "dimensions",
    ("array_fill", 2): "dimensions", ("array_length", 1): "dimension",
    ("array_lower", 1): "dimension", ("array_upper", 1): "dimension",
    ("trim_array", 1): "dimension", ("quote_ident", 0): "names", ("parse_ident", 0): "names",
    ("unistr", 0): "escaped", ("AT TIME ZONE", 1): "zone", ("set_byte", 1): "dimension",
    ("get_byte", 1): "dimension", ("get_bit", 1): "scale of 8 bytes",
    ("set_bit", 1): "scale of 8 bytes", ("set_bit", 2): "dimension",
    ("set_byte", 2): "place", ("TRIM", 1): "characters",
    **{(f"{name}d", 0): "degree" for name in ("sin", "cos", "tan", "cot")},
    **{(name, 0): "unit" for name in ("asin", "acos", "asind", "acosd", "atanh", "acosh")},
}
REGEXP = {
    "regexp_match": ("pattern", "flags"),
    "regexp_like": ("pattern", "flags"),
    "regexp_split_to_array": ("pattern", "flags"),
    "regexp_count": ("pattern", "place", "flags"),
    "regexp_instr": ("pattern", "place", "times", "dimension", "flags", "dimension"),
    "regexp_substr": ("pattern", "place", "times", "flags", "dimension"),
}
for _name, _pools in REGEXP.items():
    HINTS |= {(_name, index + 1): pool for index, pool in enumerate(_pools)}


def hint(name, index, kinds):
    """The pool of an argument of a function over `kinds`, or None for that of its type."""
    kind = kinds[index]
    if name == "to_char" and index == 1:
        return "date format" if kinds[0].startswith(("time", "interval")) else "number format"
    if name == "regexp_replace" and index > 0:
        if kind == "int4":
            return "times" if index == 4 else "place"
        return ("pattern", "replacement")[index - 1] if index < 3 else "flags"
    if name == "substring" and kind == "text" and index > 0:
        return "pattern" if index == 1 else "escape"
    if name in ("->", "->>") and kind == "int4":
        return "scale"
    if kind == "bytea" and name.endswith("LIKE") and index == 1:
        return "like bytes"
    if kind == "interval" or (kind, name) == ("bytea", "overlay"):
        return None
    found = HINTS.get((name, index))
    if found and not fits(found, kind):
        return None
    return found


def fits(pool, kind):
    """Whether the type reads what is in a pool: numbers may be drawn for numbers alone."""
    ordinary = POOLS[pool][0]
    if kind in ("text", "varchar"):
        return True
    if kind in ("int2", "int4", "int8"):
        return ordinary.lstrip("-").isdigit() and all(
            v is None or (v.lstrip("-").isdigit() and (kind != "int2" or abs(int(v)) < 32768))
            for v in POOLS[pool]
        )
    if kind in ("numeric", "float4", "float8"):
        return ordinary.lstrip("-").replace(".", "").isdigit()
    return kind.endswith("[]") and ordinary.startswith("{")


def random_values(kind, random):
    """Values of a type beside its edges; the same for every signature of a run."""
    r = random
    if kind in ("int2", "int4", "int8"):
        bits = {"int2": 15, "int4": 31, "int8": 63}[kind]
        return [str(r.randint(-(2**b), 2**b - 1)) for b in (4, 7, bits - 8, bits)]
    if kind == "numeric":
        return [f"{r.randint(-10**w, 10**w)}.{r.randint(0, 10**s):0{s}d}" for w, s in
                ((1, 1), (3, 2), (6, 4), (12, 6))]
    if kind in ("float4", "float8"):
        digits = "{:.7g}" if kind == "float4" else "{!r}"
        return [digits.format(r.uniform(-1, 1) * 10**p) for p in (-3, 0, 3, 12)]
    if kind in ("text", "varchar"):
        letters = "abcABC xyz019_-äß日,"
        return ["".join(r.choices(letters, k=n)) for n in (3, 6, 12, 40)]
    if kind == "bytea":
        return ["\\x" + r.randbytes(n).hex() for n in (1, 4, 9)]
    if kind == "uuid":
        text = r.randbytes(16).hex()
        return [f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"]
    start = datetime.datetime(1950, 1, 1)
    moments = [start + datetime.timedelta(seconds=r.randint(0, 3_000_000_000)) for _ in range(4)]
    micros = f".{r.randint(1, 999999):06d}"
    if kind == "date":
        return [m.strftime("%Y-%m-%d") for m in moments]
    if kind == "time":
        return [m.strftime("%H:%M:%S") + micros for m in moments]
    if kind == "timestamp":
        return [m.strftime("%Y-%m-%d %H:%M:%S") + micros for m in moments]
    if kind == "timestamptz":
        return [m.strftime("%Y-%m-%d %H:%M:%S") + micros + "+00" for m in moments]
    if kind == "interval":
        return [
            f"{r.randint(-20, 20)} mons {r.randint(-40, 40)} days {r.randint(-90, 90)}:30:{sec:02d}"
            for sec in (0, r.randint(1, 59))
        ]
    if kind == "int4[]":
        return ["{" + ",".join(str(r.randint(-5, 5)) for _ in range(n)) + "}" for n in (2, 5)]
    if kind == "text[]":
        return ["{" + ",".join(r.choices("abcxy", k=n)) + "}" for n in (2, 5)]
    if kind == "jsonb":
        return [f'{{"a": {r.randint(-9, 9)}, "k": "{r.choice("xyz")}"}}']
    return []


class Values:
    """The pools of one run: edges, and random values that follow from the seed."""

    def __init__(self, random):
        self.random_ones = {kind: random_values(kind, random) for kind in TYPES}

    def pool(self, kind, hinted):
        return POOLS[hinted] if hinted else EDGES[kind] + self.random_ones[kind]


def quoted(text):
    return "'" + text.replace("'", "''") + "'"


def literal(kind, text, bare=False):
    """A constant of the type, as SQL. `bare` leaves the type's name out where none is needed."""
    if text is None:
        return f"NULL::{kind}"
    if kind == "bool" and text in ("t", "f"):
        return "true" if text == "t" else "false"
    if bare and is_bare(kind, text):
        if kind in ARRAYS:
            return f"{constructor(text, kind == 'text[]')}::{kind}"
        return f"({text})" if text.startswith("-") else text
    return f"{quoted(text)}::{kind}"


def constructor(text, quote):
    """`{1,{2}}` as ARRAY[1, ARRAY[2]]; quoted elements are those of texts."""
    pieces = re.findall(r'"(?:\\.|[^"])*"|[{},]|[^{},]+', text)
    out = []
    for piece in pieces:
        if piece == "{":
            out.append("ARRAY[")
        elif piece in ("}", ","):
            out.append({"}": "]", ",": ", "}[piece])
        elif piece == "NULL":
            out.append("NULL")
        else:
            plain = re.sub(r"\\(.)", r"\1", piece[1:-1]) if piece[0] == '"' else piece
            out.append(quoted(plain) if quote else plain)
    return "".join(out)


def is_bare(kind, text):
    """Whether there is a constant of the type beside the quoted text: digits, or ARRAY[…]."""
    if kind in ARRAYS:
        return True
    digits = text.removeprefix("-")
    if kind == "int4":
        return digits.isdigit() and abs(int(text)) < 2**31
    if kind == "int8":
        return digits.isdigit() and 2**31 < abs(int(text)) < 2**63
    return kind == "numeric" and digits.count(".") == 1 and digits.replace(".", "").isdigit()


def untyped(text):
    """A constant whose type the server has to find."""
    return "NULL" if text is None else quoted(text)
