"""Threads that do something for the first time at once."""

import subprocess
import sys
from pathlib import Path

MEET_EACH_KIND_AT_ONCE = """
import sys, threading
import msgspec
import zfs_sync

def kinds(of=msgspec.Struct):
    for kind in of.__subclasses__():
        yield kind
        yield from kinds(kind)

def meet(kind, together):
    together.wait()
    try:
        msgspec.convert(dict.fromkeys(kind.__struct_encode_fields__, ""), kind)
    except msgspec.ValidationError:
        pass

sys.setswitchinterval(1e-6)
for kind in kinds():
    together = threading.Barrier(8)
    threads = [threading.Thread(target=meet, args=(kind, together)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
print(len(list(kinds())))
"""


def test_kinds_of_documents_that_threads_meet_at_once_end_no_process() -> None:
    """After a start, the first requests may come all together."""
    argv, root = [sys.executable, "-c", MEET_EACH_KIND_AT_ONCE], Path(__file__).parent.parent
    done = subprocess.run(argv, cwd=root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > 60
