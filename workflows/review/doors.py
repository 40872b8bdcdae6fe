"""How somebody comes to the desk: by a session's cookie, by a script's token, or by a door that stands open."""

from fastapi import Request
from sqlalchemy import Engine

from workflows.review.desk import Reader, Settings
from workflows.review.errors import DeskError
from workflows.review.users import open_door_reader


class Doors:
    """Says of each request who asks."""

    def __init__(self, engine: Engine, settings: Settings):
        self.engine = engine
        self.settings = settings
        self._anybody = open_door_reader(engine, settings.reader_name) if settings.no_auth else None

    async def reader_of(self, request: Request) -> Reader:
        """The reader of a request, or 401 or 403."""
        if self._anybody is not None:
            return self._anybody
        raise DeskError(401, "sign in first")
