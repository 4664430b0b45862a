"""What every table is made of: where they are collected, and types that both databases have."""

from __future__ import annotations

from sqlalchemy import BigInteger, Integer, MetaData, Text

metadata = MetaData()

Serial = BigInteger().with_variant(Integer, "sqlite")
"""SQLite numbers rows by itself only in a column that is declared INTEGER."""

Ascii = Text().with_variant(Text(collation="C"), "postgresql")
"""Compared byte by byte, whatever the database's collation: ranges of ids rely on it."""
