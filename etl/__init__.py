"""The ETL: a command line that extracts, validates and loads; it writes, the web app reads."""
