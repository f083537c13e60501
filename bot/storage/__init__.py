"""The only SQL of the house: SQLite by default, PostgreSQL by URL."""
