"""Is the wheel what it should be: for every CPython from 3.11 on, typed, and nothing in it that is not ours?"""

import re
import sys
import zipfile
from pathlib import Path

OURS = re.compile(
    r"sluicegate/(\w+\.pyi?|py\.typed|_native\.abi3\.so)"
    r"|sluicegate-[^/]+\.dist-info/(METADATA|WHEEL|RECORD|licenses/LICENSE-\w+|sboms/[^/]+\.json)"
)
NEEDED = {"sluicegate/__init__.py", "sluicegate/_native.pyi", "sluicegate/_native.abi3.so", "sluicegate/py.typed"}

[wheel] = map(Path, sys.argv[1:])
names = set(zipfile.ZipFile(wheel).namelist())
if "-cp311-abi3-" not in wheel.name:
    sys.exit(f"{wheel.name}: not built for the stable ABI of CPython 3.11")
if foreign := sorted(name for name in names if not OURS.fullmatch(name)):
    sys.exit(f"{wheel.name}: what is {foreign}?")
if missing := sorted(NEEDED - names):
    sys.exit(f"{wheel.name}: lacks {missing}")
print(f"{wheel.name}: {len(names)} files, {wheel.stat().st_size // 1024} KiB")
