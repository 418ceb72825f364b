//! Postgres, original files, and the private cluster: the only folder that knows SQL.
