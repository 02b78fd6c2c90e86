"""Is a wheel built for the ABI it should be, typed, and with nothing in it that is not ours?"""

import re
import sys
import zipfile
from pathlib import Path

MODULE = r"sluicegate/_native\.(abi3|cpython-314t-[\w-]+)\.so"
OURS = re.compile(
    rf"sluicegate/([\w/]+\.pyi?|py\.typed)|{MODULE}"
    r"|sluicegate-[^/]+\.dist-info/(METADATA|WHEEL|RECORD|licenses/LICENSE-\w+|sboms/[^/]+\.json)"
)
NEEDED = {"sluicegate/__init__.py", "sluicegate/__main__.py", "sluicegate/_native.pyi", "sluicegate/py.typed"}

tag, wheel = sys.argv[1], Path(sys.argv[2])
names = set(zipfile.ZipFile(wheel).namelist())
if f"-{tag}-" not in wheel.name:
    sys.exit(f"{wheel.name}: not built for {tag}")
if foreign := sorted(name for name in names if not OURS.fullmatch(name) or "/test" in name):
    sys.exit(f"{wheel.name}: what is {foreign}?")
if missing := sorted(NEEDED - names):
    sys.exit(f"{wheel.name}: lacks {missing}")
if sum(bool(re.fullmatch(MODULE, name)) for name in names) != 1:
    sys.exit(f"{wheel.name}: wants one native module")
print(f"{wheel.name}: {len(names)} files, {wheel.stat().st_size // 1024} KiB")
