"""Counts the words in Python's own library, with whatever kind of worker suits."""

import re
import sysconfig
from collections import Counter
from pathlib import Path

import manyhands as mh


def words(path: Path) -> Counter[str]:
    return Counter(re.findall(r"[a-z]+", path.read_text(errors="replace").lower()))


files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
total: Counter[str] = sum(mh.map(words, files, progress="counting"), Counter())

print(f"{total.total():,} words in {len(files)} files")
print("most frequent:", ", ".join(word for word, _ in total.most_common(8)))
print("auto chose", mh.last_choice())
