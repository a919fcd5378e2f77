"""What this process has used of the machine so far, its children included."""

import resource
import sys

_WHO = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)


def cpu_seconds() -> float:
    """Seconds of user and system time, of all threads, and of the children that have ended."""
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, _WHO))


def peak_rss_gib() -> float:
    """The most memory that this process had at a time, or one of its children, in GiB: getrusage's ru_maxrss."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB on Linux
    return max(resource.getrusage(who).ru_maxrss for who in _WHO) * unit / 2**30
