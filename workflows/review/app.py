"""The desk as a web application: its routers, what guards them, and what is opened and closed with it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI

from workflows.review import auth_api, case_api, export_api, login_page, page, pixel_api, static_files
from workflows.review.arrivals import Arrivals
from workflows.review.body_limit import BodyLimit
from workflows.review.case_import import import_run
from workflows.review.database import open_engine
from workflows.review.desk import Desk, Settings
from workflows.review.doors import Doors
from workflows.review.errors import answer_errors
from workflows.review.guard import Guard
from workflows.review.migrate import migrate
from workflows.review.openapi import describe
from workflows.review.quick_tiles import QuickTiles
from workflows.review.request_log import RequestLog

ROUTERS = (
    auth_api.router,
    case_api.router,
    pixel_api.router,
    export_api.router,
    page.router,
    login_page.router,
    static_files.router,
)


def create_app(settings: Settings) -> FastAPI:
    """The desk of a run. Its database is made or brought up to date, and the run's new slides become cases."""
    engine = open_engine(settings.database_url)
    migrate(engine)
    import_run(engine, settings.run)
    arrivals = Arrivals(engine, settings.run)
    desk = Desk(settings.run, engine, settings, Doors(engine, settings))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        if desk.shelf is not None:
            desk.shelf.close()
        arrivals.close()
        engine.dispose()

    app = FastAPI(
        title="histograde review", version=version("histograde"), openapi_url="/api/openapi.json", docs_url=None,
        redoc_url=None, lifespan=lifespan,
    )  # fmt: skip
    app.state.desk = desk
    app.state.arrivals = arrivals
    answer_errors(app)
    describe(app)
    for router in ROUTERS:
        app.include_router(router)
    for layer in (QuickTiles, BodyLimit, RequestLog):
        app.add_middleware(layer)
    app.add_middleware(Guard, settings=settings)  # added last, so the first that a request meets
    return app
