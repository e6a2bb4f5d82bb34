"""The known differences, in exceptions.txt.

A section's heading is the reason, and each line of it an entry: the kinds of difference (judge.py),
the modes in which they occur (trial.py) or `all`, and what it is about:

    [not supported yet: there is no such function]
    refused   all            cotd(float8)            a signature
    refused   all            cotd(...)               a function with whatever types
    type      all            result uuid -> text     a type as the result, of whatever signature
    scale     all            result numeric          the same for what differs in its digits
"""

import collections
import os

from judge import KINDS
from trial import MODES

PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "exceptions.txt")
NEW = "not looked at yet"
HEAD = "# Known differences from PostgreSQL; exceptions.py tells the format.\n"


class Entry:
    """One kind of difference; a line of the file has one for each kind that it names."""

    def __init__(self, kind, modes, subject, reason):
        self.kind, self.subject, self.reason = kind, subject, reason
        self.modes = set(modes)
        self.seen = set()

    def covers(self, mode):
        return "all" in self.modes or mode in self.modes

    def modes_text(self):
        return "all" if "all" in self.modes else ",".join(m for m in MODES if m in self.modes)

    def __str__(self):
        return f"{self.kind} {self.modes_text()} {self.subject}"


class Exceptions:
    """The entries of the file; `known` says whether a finding is one of them."""

    def __init__(self, path=PATH):
        self.path = path
        self.entries = []
        if os.path.exists(path):
            with open(path) as file:
                self.read(file)
        self.by_subject = collections.defaultdict(list)
        for entry in self.entries:
            self.by_subject[entry.kind, entry.subject].append(entry)

    def read(self, file):
        reason = None
        for number, line in enumerate(file, 1):
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            if text.startswith("[") and text.endswith("]"):
                reason = text[1:-1]
                continue
            kinds, modes, subject = text.split(None, 2)
            kinds, modes = kinds.split(","), modes.split(",")
            if reason is None or not ({*kinds} <= {*KINDS} and {*modes} <= {*MODES, "all"}):
                raise ValueError(f"{self.path}:{number}: not an entry: {text}")
            self.entries += [Entry(kind, modes, subject, reason) for kind in kinds]

    def names(self, one):
        """Whether there is any entry about a signature."""
        return any(
            (kind, subject) in self.by_subject
            for kind in KINDS
            for subject in (one.label, f"{one.name}(...)")
        )

    def known(self, finding):
        """Notes every entry that covers the finding; False if none does."""
        subjects = [finding.label, f"{finding.name}(...)"]
        if finding.about:
            subjects.append(f"result {finding.about}")
        found = False
        for subject in subjects:
            for entry in self.by_subject[finding.kind, subject]:
                if entry.covers(finding.mode):
                    entry.seen.add(finding.mode)
                    found = True
        return found

    def gone(self, tried):
        """Entries that were tried and did not differ, each with the modes in which it did not."""
        labels = collections.defaultdict(set)
        for label, mode in tried:
            labels[label].add(mode)
            labels[f"{label.split('(')[0]}(...)"].add(mode)
        everything = set().union(*labels.values()) if labels else set()
        for entry in self.entries:
            result = entry.subject.startswith("result ")
            modes = everything if result else labels.get(entry.subject, set())
            if "all" in entry.modes:
                if modes and not entry.seen:
                    yield entry, {"all"}
            elif modes := modes & entry.modes - entry.seen:
                yield entry, modes

    def learn(self, findings, tried):
        """Takes in what is new and leaves out what is gone."""
        for entry, modes in list(self.gone(tried)):
            entry.modes -= modes
        self.entries = [entry for entry in self.entries if entry.modes]
        new = collections.defaultdict(set)
        for finding in findings:
            new[finding.kind, finding.label].add(finding.mode)
        labels = collections.defaultdict(set)
        for label, mode in tried:
            labels[label].add(mode)
        exact = {(entry.kind, entry.subject): entry for entry in self.entries}
        for (kind, label), modes in new.items():
            entry = exact.get((kind, label))
            if entry is None:
                entry = Entry(kind, (), label, NEW)
                self.entries.append(entry)
            entry.modes |= modes
            if entry.modes >= labels[label]:
                entry.modes = {"all"}
        self.write()

    def write(self):
        sections = collections.defaultdict(lambda: collections.defaultdict(set))
        for entry in self.entries:
            sections[entry.reason][entry.subject, entry.modes_text()].add(entry.kind)
        with open(self.path, "w") as file:
            file.write(HEAD)
            for reason, lines in sections.items():
                file.write(f"\n[{reason}]\n")
                for (subject, modes), kinds in sorted(lines.items()):
                    words = ",".join(kind for kind in KINDS if kind in kinds)
                    file.write(f"{words:<9} {modes:<14} {subject}\n")
