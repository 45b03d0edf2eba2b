"""Counts the words in Python's own library, with whatever kind of worker suits."""

import re
import sysconfig
from collections import Counter
from pathlib import Path

import manyhands as mh


def words(path: Path) -> Counter[str]:
    return Counter(re.findall(r"[a-z]+", path.read_text(errors="replace").lower()))


library = Path(sysconfig.get_path("stdlib"))
files = [*library.glob("*.py"), *library.glob("*/*.py")]
total: Counter[str] = Counter()
for each in mh.map(words, files, progress="counting"):
    total.update(each)

print(f"{total.total():,} words in {len(files)} files")
print("most frequent:", ", ".join(word for word, _ in total.most_common(8)))
print("auto chose", mh.last_choice())
