"""The desk as a web application: its routers, what guards them, and what is opened and closed with it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from workflows.review.case_import import import_run
from workflows.review.database import open_engine
from workflows.review.desk import Desk, Settings
from workflows.review.doors import Doors
from workflows.review.errors import answer_errors
from workflows.review.migrate import migrate

STATIC = Path(__file__).parent / "static"
ROUTERS = ("auth_api", "case_api", "pixel_api", "page")


def create_app(settings: Settings) -> FastAPI:
    """The desk of a run. Its database is made or brought up to date, and the run's new slides become cases."""
    engine = open_engine(settings.database_url)
    migrate(engine)
    import_run(engine, settings.run)
    desk = Desk(settings.run, engine, settings, Doors(engine, settings))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        if desk.shelf is not None:
            desk.shelf.close()
        engine.dispose()

    app = FastAPI(title="histograde review", openapi_url="/api/openapi.json", docs_url=None, redoc_url=None,
                  lifespan=lifespan)  # fmt: skip
    app.state.desk = desk
    answer_errors(app)
    for name in ROUTERS:
        if find_spec(f"workflows.review.{name}") is not None:
            app.include_router(import_module(f"workflows.review.{name}").router)
    app.mount("/static", StaticFiles(directory=STATIC))
    return app
