"""Times of the desk: UTC, to the microsecond, as ISO text that sorts as the times do."""

from datetime import UTC, datetime, timedelta


def utc_now() -> str:
    """The time now: `2026-11-21T09:15:00.000000Z`."""
    return iso(datetime.now(UTC))


def utc_in(seconds: float) -> str:
    """The time some seconds from now, or before now if negative."""
    return iso(datetime.now(UTC) + timedelta(seconds=seconds))


def iso(moment: datetime) -> str:
    """A moment as the desk writes it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
