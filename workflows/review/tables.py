"""The tables of the desk's database. Times are UTC, as ISO text that sorts."""

from sqlalchemy import MetaData

metadata = MetaData()
