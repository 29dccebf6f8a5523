"""The two roles beside the owner of the tables: one runs the ETL, one serves the API. Made from the addresses they will log in with."""

from __future__ import annotations

from typing import Literal

from psycopg import conninfo

from shared.db import Connection, Refused, one_line
from shared.errors import SchemaError, SettingsError
from sql import queries

Part = Literal["etl", "api"]
RIGHTS = {"etl": "ensure_etl_rights", "api": "ensure_api_rights"}


def ensure_role(conn: Connection, part: Part, dsn: str) -> str:
    """Make the role that `dsn` logs in as, or bring it up to date, and return its name. Safe to repeat.

    The server is told a verifier of the password, so that no log of its statements holds the password.
    Raises SettingsError when the address names no role, SchemaError when the owner may not do it.
    """
    parts = conninfo.conninfo_to_dict(dsn)
    role, password = str(parts.get("user") or ""), str(parts.get("password") or "")
    if not role:
        raise SettingsError([f"the address for the {part} role names no user: write postgresql://user:password@host/name"])
    verifier = conn.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode() if password else ""
    try:
        with conn.transaction():
            conn.execute(queries["mark_role"], {"role": role, "verifier": verifier})
            conn.execute(queries["ensure_role"])
            conn.execute(queries[RIGHTS[part]])
    except Refused as error:
        raise SchemaError(f"the role {role} cannot be set up: {one_line(error)}: run it as the owner, who may create roles") from error
    return role
