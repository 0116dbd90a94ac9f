"""durations: seconds in, words for people out: how long something takes, and when it ends."""

from __future__ import annotations

import time

DAY_S = 86_400


def in_words(seconds: float) -> str:
    """Return a duration as hours and minutes, or minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def briefly(seconds: float) -> str:
    """Return a duration in one unit as long as that is enough."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else in_words(seconds)


def about(seconds: float) -> str:
    """Return a duration that is an estimate, with no more digits than it deserves."""
    if seconds < 90:
        return f"about {max(1, round(seconds / 5)) * 5} s"
    if seconds < 90 * 60:
        return f"about {round(seconds / 60)} min"
    if seconds < 2 * DAY_S:
        return f"about {seconds / 3600:.1f} h"
    return f"about {seconds / DAY_S:.1f} days"


def clock_after(seconds: float, now_s: float | None = None) -> str:
    """Return the local time so many seconds from now, as 14:20, with the day where it is another one."""
    now = time.localtime(now_s)
    then = time.localtime(time.mktime(now) + seconds)
    same_day = (then.tm_year, then.tm_yday) == (now.tm_year, now.tm_yday)
    return time.strftime("%H:%M" if same_day else "%H:%M on %Y-%m-%d", then)
